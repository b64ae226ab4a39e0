//! The load-balancing half of a host: the check engine, the kernel's IPVS table, and the checked servers.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::world::{NodeId, What, World};
use crate::base::Instant;
use crate::check::probe::{Failure, ProbeId, Verdict};
use crate::check::{Action, Actions, Engine, Event, Limits};
use crate::model::{Lvs, ServiceKey};
use crate::plan::ipvs::{DestinationKey, Op, Table};
use crate::plan::listing::Listing;
use crate::plan::{Outcome, Token};
use crate::status::check::Summary;

/// How long the kernel takes for one change of its table.
const OP_TIME: Duration = Duration::from_micros(10);
/// How long a server takes to answer.
const ANSWER_TIME: Duration = Duration::from_millis(2);
/// ECONNREFUSED
const REFUSED: i32 = 111;
/// A server that has been good for this long must not be removed from a table, and one that has been dead for this long
/// must not be in one: longer than a round of checks with its retries.
const KNOWN: Duration = Duration::from_secs(30);

/// How a real server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It accepts connections.
    Accepts,
    /// It refuses them.
    Refuses,
    /// It does not answer.
    Silent,
}

/// The load-balancing half of a host.
#[derive(Debug, Default)]
pub(super) struct Director {
    pub engine: Option<Engine>,
    incarnation: u64,
    pub config: Arc<Lvs>,
    pub table: Table,
    /// Percentage of operations that the kernel refuses.
    pub refusals: u64,
    /// The services that the engine recorded as its own.
    pub owned: BTreeSet<ServiceKey>,
    summary: Summary,
    wake: Option<Instant>,
    /// Until when the thread that talks to the kernel is busy: it processes one request after the other.
    busy: Instant,
    open: BTreeSet<ProbeId>,
    pub in_flight: u32,
    /// It was told to stop.
    stopping: bool,
    /// Services of other programs: they must stay as they are.
    pub foreign: Table,
}

/// An event of a director.
#[derive(Clone, Debug)]
pub(super) enum Balance {
    Timer,
    Event(u64, Event),
    Operation { incarnation: u64, token: Token, item: u32, op: Op },
    Read { incarnation: u64, services: Arc<[ServiceKey]> },
    List(u64),
}

impl World {
    /// Gives a host virtual servers, before it is started.
    pub fn balance(&mut self, id: NodeId, config: Lvs) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.director.config = Arc::new(config);
        }
    }

    /// The virtual servers of a host.
    #[must_use]
    pub fn balanced(&self, id: NodeId) -> Lvs {
        self.node(id).map(|n| Lvs::clone(&n.director.config)).unwrap_or_default()
    }

    /// A service of another program in the table of a host.
    pub fn add_foreign_service(&mut self, id: NodeId, table: &Table) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.director.table.services.extend(table.services.clone());
            node.director.foreign.services.extend(table.services.clone());
        }
    }

    /// Changes how a real server answers.
    pub fn server(&mut self, server: SocketAddr, answer: Answer) {
        let now = self.now();
        self.note(NodeId(0), &format!("and all others see {server} change: {answer:?}"));
        self.disturb();
        self.servers.insert(server, (answer, now));
    }

    /// Changes how often the kernel of a host refuses to change its IPVS table.
    pub fn refuse_services(&mut self, id: NodeId, percent: u64) {
        self.note(id, &format!("refuses {percent} % of the changes of its table"));
        self.disturb();
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.director.refusals = percent;
        }
    }

    /// The weights of the servers of a service in the table of a host.
    #[must_use]
    pub fn pool(&self, id: NodeId, service: &ServiceKey) -> BTreeMap<DestinationKey, u32> {
        let entry = self.node(id).and_then(|n| n.director.table.services.get(service));
        entry
            .map(|e| e.destinations.iter().map(|(key, d)| (key, d.weight)).collect())
            .unwrap_or_default()
    }

    pub(super) fn start_director(&mut self, id: NodeId, resume: bool) {
        let seed = self.rng.next_u64();
        let Some(director) = self.director(id) else { return };
        if director.config.services.is_empty() && director.owned.is_empty() {
            return;
        }
        director.incarnation += 1;
        director.stopping = false;
        director.engine = Some(Engine::new(seed, Limits::default()));
        director.wake = None;
        let (config, summary) = (Arc::clone(&director.config), director.summary.clone());
        let owned = director.owned.iter().copied().collect();
        self.balance_step(id, Event::Owned(owned));
        if resume {
            self.balance_step(id, Event::Resume(summary));
        }
        self.balance_step(id, Event::Reload(config));
    }

    pub(super) fn crash_director(&mut self, id: NodeId) {
        if let Some(director) = self.director(id) {
            director.engine = None;
            director.open.clear();
            director.in_flight = 0;
        }
    }

    /// Kills the checker of a host and lets its supervisor start it again.
    pub fn replace_checker(&mut self, id: NodeId) {
        self.note(id, "gets a new checker");
        self.disturb();
        self.crash_director(id);
        self.start_director(id, true);
    }

    pub(super) fn stop_director(&mut self, id: NodeId) {
        if let Some(director) = self.director(id) {
            director.stopping = true;
        }
        self.balance_step(id, Event::Stop { keep_entries: false });
    }

    /// Gives the checker of a host other virtual servers while it runs.
    pub fn rebalance(&mut self, id: NodeId, config: Lvs) {
        self.note(id, "has other virtual servers");
        self.disturb();
        let config = Arc::new(config);
        if let Some(director) = self.director(id) {
            director.config = Arc::clone(&config);
        }
        self.balance_step(id, Event::Reload(config));
    }

    /// Processes an event of a director.
    pub(super) fn balance_happens(&mut self, id: NodeId, what: Balance) {
        let now = self.now();
        let Some(director) = self.nodes.get_mut(id.0).map(|n| &mut n.director) else { return };
        match what {
            Balance::Timer if director.wake.is_some_and(|at| at <= now) => {
                director.wake = None;
                self.balance_step(id, Event::Timer);
            }
            Balance::Event(incarnation, event) if incarnation == director.incarnation => {
                if let Event::Probed { probe, .. } = &event
                    && !director.open.remove(probe)
                {
                    return;
                }
                if let Event::Applied { .. } = event {
                    director.in_flight = director.in_flight.saturating_sub(1);
                }
                self.balance_step(id, event);
            }
            Balance::Read { incarnation, services } if incarnation == director.incarnation => {
                let mut table = director.table.clone();
                table.services.retain(|key, _| services.contains(key));
                let event = Event::Table { services, result: Ok(table) };
                let what = Balance::Event(incarnation, event);
                self.push(now, 1, What::Balance { node: id, what });
            }
            Balance::List(incarnation) if incarnation == director.incarnation => {
                let event = Event::Listed(Ok(Listing::of(&director.table)));
                let what = Balance::Event(incarnation, event);
                self.push(now, 1, What::Balance { node: id, what });
            }
            _ => {}
        }
    }

    /// The kernel carries out one operation, even while the process is stalled.
    pub(super) fn change_table(
        &mut self,
        id: NodeId,
        incarnation: u64,
        token: Token,
        item: u32,
        op: &Op,
    ) {
        let refused = self.director(id).map_or(0, |d| d.refusals);
        let outcome = if self.rng.chance(refused) {
            Outcome::Refused(super::kernel::BUSY)
        } else {
            self.director(id).map_or(Outcome::Refused(0), |d| d.table.apply(op))
        };
        self.note(id, &format!("kernel: {op:?} {outcome:?}"));
        self.judge_operation(id, op, outcome);
        let event = Event::Applied { token, item, outcome };
        self.push(
            self.now(),
            1,
            What::Balance { node: id, what: Balance::Event(incarnation, event) },
        );
    }

    fn director(&mut self, id: NodeId) -> Option<&mut Director> {
        self.nodes.get_mut(id.0).map(|n| &mut n.director)
    }

    /// One step of a check engine.
    fn balance_step(&mut self, id: NodeId, event: Event) {
        let now = self.now();
        let Some(engine) = self.director(id).and_then(|d| d.engine.as_mut()) else { return };
        let mut out = Actions::new();
        engine.handle(now, event, &mut out);
        for action in out.drain() {
            self.balance_action(id, action);
        }
        let Some(director) = self.director(id) else { return };
        let due = director.engine.as_mut().and_then(Engine::deadline);
        if due != director.wake {
            director.wake = due;
            if let Some(at) = due {
                self.push(at.max(now), 2, What::Balance { node: id, what: Balance::Timer });
            }
        }
    }

    fn balance_action(&mut self, id: NodeId, action: Action) {
        let now = self.now();
        let incarnation = self.director(id).map_or(0, |d| d.incarnation);
        let later = |event| What::Balance { node: id, what: Balance::Event(incarnation, event) };
        match action {
            Action::Read { services } => {
                let Some(director) = self.director(id) else { return };
                let at = director.busy.max(now) + OP_TIME;
                director.busy = at;
                let what = Balance::Read { incarnation, services };
                self.push(at, 1, What::Balance { node: id, what });
            }
            Action::List => {
                let Some(director) = self.director(id) else { return };
                let at = director.busy.max(now) + OP_TIME;
                director.busy = at;
                self.push(at, 1, What::Balance { node: id, what: Balance::List(incarnation) });
            }
            Action::Own(services) => {
                if let Some(director) = self.director(id) {
                    director.owned = services.iter().copied().collect();
                }
            }
            Action::Apply { token, ops } => {
                let mut at = self.director(id).map_or(now, |d| d.busy.max(now));
                for (item, op) in (0u32..).zip(ops.iter()) {
                    at = at + OP_TIME;
                    if let Some(director) = self.director(id) {
                        director.in_flight += 1;
                        director.busy = at;
                    }
                    let what = Balance::Operation { incarnation, token, item, op: op.clone() };
                    self.push(at, 1, What::Balance { node: id, what });
                }
            }
            Action::StartProbe { probe, request, .. } => {
                if let Some(director) = self.director(id) {
                    director.open.insert(probe);
                }
                // The simulation has servers, and no programs.
                let Some(connection) = request.connection() else {
                    return;
                };
                let verdict = match self.answer(connection.to) {
                    Answer::Accepts => Verdict::SUCCESS,
                    Answer::Refuses => Verdict::Failure(Failure::Connection(REFUSED)),
                    Answer::Silent => return,
                };
                self.push(now + ANSWER_TIME, 1, later(Event::Probed { probe, verdict }));
            }
            Action::CancelProbe { probe } => {
                if let Some(director) = self.director(id) {
                    director.open.remove(&probe);
                }
            }
            Action::Notify(notice) => {
                self.note(id, &format!("announces {}", notice.line));
                if let Some(node) = self.nodes.get_mut(id.0) {
                    node.notices.push((now, notice));
                }
            }
            Action::Report => {
                if let Some(director) = self.director(id)
                    && let Some(engine) = &director.engine
                {
                    director.summary = engine.summary();
                }
            }
            Action::Done => {
                if let Some(director) = self.director(id) {
                    director.engine = None;
                    director.in_flight = 0;
                }
                self.check_left_table(id);
            }
        }
    }

    fn answer(&self, server: SocketAddr) -> Answer {
        self.servers.get(&server).map_or(Answer::Accepts, |(answer, _)| *answer)
    }

    // ---- invariants ----

    /// Whether a server has answered like this for so long that every check must have noticed.
    fn known_as(&self, server: SocketAddr, good: bool) -> bool {
        match self.servers.get(&server) {
            None => good,
            Some((answer, since)) => {
                (*answer == Answer::Accepts) == good && self.now().since(*since) > KNOWN
            }
        }
    }

    /// A good server stays in the table, even during a restart and a reload.
    fn judge_operation(&mut self, id: NodeId, op: &Op, outcome: Outcome) {
        let Some(node) = self.node(id) else { return };
        let (Op::DeleteDestination { service, destination }, Outcome::Done) = (op, outcome) else {
            return;
        };
        let configured = node
            .director
            .config
            .services
            .iter()
            .find(|s| s.key == *service)
            .is_some_and(|s| s.servers.iter().any(|r| DestinationKey::of(r) == *destination));
        let stopping = node.director.stopping;
        let address = SocketAddr::new(destination.address, destination.port);
        if configured && !stopping && self.known_as(address, true) && self.is_awake(id) {
            self.violated(format!("node {} takes the good server {destination} out", id.0 + 1));
        }
    }

    fn is_awake(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|n| n.stalled_until.is_none())
    }

    /// A director that has stopped leaves none of its own entries and all foreign ones.
    fn check_left_table(&mut self, id: NodeId) {
        let Some(director) = self.director(id) else { return };
        if director.refusals == 0 && director.table != director.foreign {
            let text = format!("node {} leaves a table behind: {:?}", id.0 + 1, director.table);
            self.violated(text);
        }
    }

    /// The invariants of every step; once everything is settled, the table matches the state of the servers exactly.
    pub(super) fn check_director(&mut self, id: NodeId, settled: bool) {
        let Some(node) = self.node(id) else { return };
        let director = &node.director;
        if director.engine.is_none() || director.in_flight > 0 || director.refusals > 0 {
            return;
        }
        let mut found = Vec::new();
        for (key, entry) in &director.foreign.services {
            if director.table.services.get(key) != Some(entry) {
                found.push(format!("the service {key} of others was touched"));
            }
        }
        for key in director.table.services.keys() {
            if !director.owned.contains(key) && !director.foreign.services.contains_key(key) {
                found.push(format!("service {key} would be forgotten after a crash"));
            }
        }
        if settled {
            for service in &director.config.services {
                let pool = self.pool(id, &service.key);
                for server in &service.servers {
                    let address = SocketAddr::new(server.address, server.port);
                    let weight = pool.get(&DestinationKey::of(server)).copied();
                    let wanted = if self.answer(address) == Answer::Accepts {
                        Some(server.weight)
                    } else {
                        server.inhibit_on_failure.then_some(0)
                    };
                    if weight != wanted
                        && (self.known_as(address, true) || self.known_as(address, false))
                    {
                        found.push(format!("{address} has weight {weight:?} and not {wanted:?}"));
                    }
                }
            }
        }
        for text in found {
            self.violated(format!("node {}: {text}", id.0 + 1));
        }
    }
}
