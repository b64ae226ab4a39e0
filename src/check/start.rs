//! Reading and adopting the kernel's table.
//!
//! The table at the start is evidence: an existing service was served by an earlier process. Its servers that are in
//! the table stay, the others stay out until the first result of their checks, so that correct entries do not flap and
//! no dead server returns for a moment. A missing service begins as configured: servers are added, unless `alpha` keeps
//! them out. The first failure removes a server, as at every start, unless only this role was restarted: then the
//! previous process found the servers in the table good a moment ago, and each gets its retries.
//!
//! Services are ours if the configuration names them, or if an earlier process of this daemon recorded that it made
//! them ([`Event::Owned`]); the latter are removed if they are no longer configured. The rest of the table is foreign.
//!
//! [`Event::Owned`]: super::Event::Owned

use std::collections::BTreeSet;
use std::sync::Arc;

use super::id::{CheckerPosition, Index, ServerPosition, ServicePosition, ServiceSlot};
use super::probe::{Errno, Kind, Share, Verdict};
use super::refusal::{LONGEST_RETRY, backoff};
use super::schedule::Beginning;
use super::service::{Checkers, Dirty, Server, Service, Sorry, Standing, Why};
use super::weight::contribution;
use super::{Action, CheckerSlot, Engine, Moment, Phase, Timer};
use crate::model::unique::{keys_are_unique, make_unique};
use crate::model::{self, Lvs, RealServer, ServiceId, ServiceKey};
use crate::plan::ipvs::{Destination, DestinationKey, Entry, Op, Table};
use crate::plan::{Outcome, Token};

/// The token of [`Op::Flush`]; services have larger ones.
pub(super) const FLUSH: Token = Token(0);
/// `ETIMEDOUT`
pub(super) const TIMED_OUT: i32 = 110;

/// How a service begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// With the process: the first result of a check decides.
    Start,
    /// With a reload.
    Reload,
}

impl Engine {
    /// The newest configuration.
    pub(super) fn reload(&mut self, moment: &mut Moment<'_>, config: Arc<Lvs>) {
        let config = unique(config);
        self.forget_reports(&config);
        match &mut self.phase {
            Phase::Idle => {
                self.config = config;
                self.begin_when_told(moment);
            }
            Phase::Reading { outdated, .. } => {
                *outdated = true;
                self.config = config;
            }
            Phase::Waiting { .. } | Phase::Flushing { .. } => self.config = config,
            Phase::Running => self.change(moment, config),
            Phase::Stopping { .. } | Phase::Stopped => {}
        }
    }

    /// Requests what the kernel holds of our services.
    pub(super) fn read_table(&mut self, moment: &mut Moment<'_>) {
        let keys = self.config.services.iter().flat_map(|service| service.keys()).copied();
        let asked: BTreeSet<ServiceKey> = keys.chain(self.owned.iter().copied()).collect();
        let asked: Arc<[ServiceKey]> = asked.into_iter().collect();
        self.phase = Phase::Reading { asked: Arc::clone(&asked), outdated: false };
        self.timers.set(Timer::Table, moment.now + super::silence::LONGEST);
        moment.out.push(Action::Read { services: asked });
    }

    /// What the kernel holds.
    pub(super) fn table(
        &mut self,
        moment: &mut Moment<'_>,
        services: &Arc<[ServiceKey]>,
        result: Result<Table, i32>,
    ) {
        let result = result.map(normalised);
        if matches!(&self.phase, Phase::Reading { asked, .. } if asked == services) {
            self.timers.clear(Timer::Table);
        }
        match &self.phase {
            Phase::Reading { asked, .. } if asked == services && self.leaving_early => {
                // Without a table there is nothing to remove.
                self.leave_unbegun(moment, result.unwrap_or_default());
            }
            Phase::Reading { asked, outdated } if asked == services => match result {
                Err(errno) => self.unavailable(moment, errno),
                Ok(_) if *outdated => self.read_table(moment),
                Ok(table) => self.adopt(moment, table),
            },
            Phase::Running | Phase::Stopping { .. } => self.read(moment, services, result),
            _ => {}
        }
    }

    /// The kernel has not answered in time: the reader may be blocked by a module that does not load.
    pub(super) fn unanswered(&mut self, moment: &mut Moment<'_>) {
        if self.leaving_early {
            // Services created by an earlier process stay recorded for the next one.
            self.phase = Phase::Stopping { flushing: false };
        } else {
            self.unavailable(moment, TIMED_OUT);
        }
    }

    /// Some services were read again: one that another program changed, or a part of all.
    fn read(&mut self, moment: &mut Moment<'_>, keys: &[ServiceKey], result: Result<Table, i32>) {
        let slot = keys.first().and_then(|key| self.by_front.get(key)).copied();
        let asked = slot.filter(|slot| self.service(*slot).is_some_and(|s| s.reading));
        // A part of the audit is requested while no service is read individually, and answered in order.
        if self.audit.is_answer(keys) {
            self.audited(moment, keys, result);
            return;
        }
        let Some(slot) = asked else {
            return;
        };
        self.enter(slot);
        let Some(service) = self.services.get_mut(slot) else {
            return;
        };
        service.reading = false;
        service.dirty = Dirty::All;
        match result {
            Ok(mut table) => {
                service.stale = false;
                for key in keys {
                    match table.services.remove(key) {
                        Some(entry) => self.known.services.insert(*key, entry),
                        None => self.known.services.remove(key),
                    };
                }
            }
            Err(errno) => {
                let id = &service.id;
                tracing::error!(service = %id, "cannot read VS {id}: {}", Errno(errno));
                self.try_later(moment, slot);
            }
        }
        self.settle(moment, slot);
    }

    /// The kernel has no table for us. Services wait for one; the rest of the daemon continues.
    fn unavailable(&mut self, moment: &mut Moment<'_>, errno: i32) {
        // At first, and then with each attempt that is a minute after the last one.
        if self.table_backoff == 0 || backoff(self.table_backoff) >= LONGEST_RETRY {
            tracing::error!("IPVS: Can't initialize ipvs: {}", Errno(errno));
            // EPERM or EACCES.
            let lack = if matches!(errno, 1 | 13) {
                "this process has the permission to change IPVS (CAP_NET_ADMIN)"
            } else {
                "the kernel has IPVS (module ip_vs)"
            };
            tracing::error!("no virtual server is in service until {lack}; trying again");
        }
        self.phase = Phase::Waiting { errno };
        self.timers.set(Timer::Table, moment.now + backoff(self.table_backoff));
        self.table_backoff = self.table_backoff.saturating_add(1);
    }

    fn adopt(&mut self, moment: &mut Moment<'_>, table: Table) {
        if self.table_backoff > 0 {
            tracing::info!("IPVS is available now");
            self.table_backoff = 0;
        }
        // A restarted role continues with the entries it added itself.
        if self.config.flush && !self.resumed {
            self.phase = Phase::Flushing { was: table };
            moment.out.push(Action::Apply { token: FLUSH, ops: [Op::Flush].into() });
        } else {
            self.begin(moment, table);
        }
    }

    /// The answer to [`Op::Flush`].
    pub(super) fn flushed(&mut self, moment: &mut Moment<'_>, outcome: Outcome) {
        if let Outcome::Refused(errno) = outcome {
            tracing::error!("{}", super::text::Refused { op: &Op::Flush, errno });
        }
        match core::mem::replace(&mut self.phase, Phase::Running) {
            Phase::Flushing { was } => {
                let table = if outcome == Outcome::Done { Table::default() } else { was };
                self.begin(moment, table);
            }
            Phase::Stopping { .. } => {
                if outcome == Outcome::Done {
                    self.owned.clear();
                }
                self.phase = Phase::Stopping { flushing: false };
            }
            phase => self.phase = phase,
        }
    }

    fn begin(&mut self, moment: &mut Moment<'_>, table: Table) {
        self.phase = Phase::Running;
        self.beginning = true;
        self.known = table;
        self.weigh_checks();
        let config = Arc::clone(&self.config);
        for (position, model) in config.services.iter().enumerate() {
            self.create(moment, ServicePosition::of(position), model, Origin::Start);
        }
        for key in core::mem::take(&mut self.owned) {
            if !self.by_front.contains_key(&key) && self.known.services.contains_key(&key) {
                self.insert_leaving(moment, key);
                tracing::info!(service = %key, "Removing Virtual Server {key}");
            }
        }
        self.resume.clear();
        self.own(moment, None);
        let begun: Vec<CheckerSlot> = self.checkers.numbers().collect();
        let leaving: Vec<ServiceSlot> =
            self.leaving.iter().filter_map(|key| self.by_front.get(key).copied()).collect();
        let services: Vec<ServiceSlot> = self.order.iter().copied().chain(leaving).collect();
        self.settle_all(moment, &services);
        self.say_beginning(&begun);
        self.suspend_anew(moment);
        self.audit_later(moment);
    }

    /// Adds a service that only has to be removed from the kernel.
    pub(super) fn insert_leaving(&mut self, moment: &Moment<'_>, key: ServiceKey) -> ServiceSlot {
        let id = ServiceId::Single(key);
        let mut service = Service::new(id.clone(), None, &[key], moment.now);
        service.leaving = true;
        let slot = self.services.insert(service);
        self.by_id.insert(id, slot);
        self.by_front.insert(key, slot);
        self.leaving.insert(key);
        slot
    }

    /// Settles many services: changes that arrive meanwhile precede those that have to wait.
    pub(super) fn settle_all(&mut self, moment: &mut Moment<'_>, slots: &[ServiceSlot]) {
        self.bulk = true;
        for slot in slots {
            self.enter(*slot);
            self.settle(moment, *slot);
        }
        self.bulk = false;
    }

    /// Reports which services are ours, including those about to be removed, unless that list is unchanged: it is
    /// written to a file, and a reload should cost what it changes.
    pub(super) fn own(&mut self, moment: &mut Moment<'_>, before: Option<&Lvs>) {
        fn keys(config: &Lvs) -> impl Iterator<Item = ServiceKey> {
            config.services.iter().flat_map(|service| service.keys()).copied()
        }
        let is_leaving = !self.leaving.is_empty();
        let was_leaving = core::mem::replace(&mut self.owned_leaving, is_leaving);
        if !is_leaving
            && !was_leaving
            && before.is_some_and(|before| keys(before).eq(keys(&self.config)))
        {
            return;
        }
        let all: BTreeSet<ServiceKey> =
            keys(&self.config).chain(self.leaving.iter().copied()).collect();
        moment.out.push(Action::Own(all.into_iter().collect()));
    }

    /// Creates a configured service.
    pub(super) fn create(
        &mut self,
        moment: &Moment<'_>,
        position: ServicePosition,
        model: &model::Service,
        origin: Origin,
    ) -> ServiceSlot {
        let (id, keys) = (model.id(), model.keys());
        let service = Service::new(id.clone(), Some(position), keys, moment.now);
        let slot = self.services.insert(service);
        self.current = Some(slot);
        let resume = self.resume.remove(&id);
        self.by_id.insert(id, slot);
        for key in keys {
            self.by_front.insert(*key, slot);
        }
        self.order.push(slot);
        let held_at = |key: &ServiceKey| Some((*key, self.known.services.get(key)?.clone()));
        let entries: Vec<(ServiceKey, Entry)> = match origin {
            Origin::Start => keys.iter().filter_map(held_at).collect(),
            Origin::Reload => Vec::new(),
        };
        let mut servers = Vec::with_capacity(model.servers.len());
        let mut rising = Vec::new();
        for (position, real) in model.servers.iter().enumerate() {
            let position = ServerPosition::of(position);
            let weight =
                entries.iter().filter_map(|(key, entry)| weight_in(key, entry, real)).max();
            let held = (!entries.is_empty()).then_some(weight);
            let mut server = self.new_server(moment, slot, position, real, origin, held);
            if server.failed == 0 {
                server.standing = Standing::Rising(Why::Start);
                rising.push(position);
            }
            let address = (real.address, real.port).into();
            if resume.as_ref().is_some_and(|resume| resume.down.contains(&address)) {
                server.announced = Some(false);
            }
            servers.push(server);
        }
        let served = entries.iter().any(|(key, entry)| serves_sorry(key, entry, model));
        // A service that a reload adds is no reason to stop serving the earlier ones.
        let first = origin == Origin::Start && !self.resumed;
        let known = &self.known.services;
        if let Some(service) = self.services.get_mut(slot) {
            for front in &mut service.fronts {
                front.counts = first || known.contains_key(&front.key);
            }
            service.index(model);
            if served {
                service.sorry = if rising.is_empty() { Sorry::In } else { Sorry::Leaving };
            } else if !entries.is_empty() {
                // As far as the kernel shows, it was up within its hysteresis: only a loss has to be announced.
                service.up = !rising.is_empty();
            }
            service.servers = servers;
            service.rising = rising;
            service.announced = resume.and_then(|resume| resume.announced);
        }
        slot
    }

    /// A server with its checks. `held`: the kernel had the service, with the server at this weight or without it.
    pub(super) fn new_server(
        &mut self,
        moment: &Moment<'_>,
        slot: ServiceSlot,
        position: ServerPosition,
        real: &RealServer,
        origin: Origin,
        held: Option<Option<u32>>,
    ) -> Server {
        let mut server = Server::new(moment.now);
        let mut slots = Vec::with_capacity(real.checkers.len());
        // An earlier result of a program applies until the next one.
        let mut weight = held.flatten().filter(|weight| *weight != real.weight);
        for (at, checker) in real.checkers.iter().enumerate() {
            let kind = Kind::of(&checker.kind);
            let report = self.reported(kind);
            // A session that is not established again yet says nothing, so what it once said does not stay for ever.
            let held = held.filter(|_| !matches!(kind, Kind::Bfd(_)));
            let up = match (held, &report) {
                (Some(held), _) => held.is_some(),
                (None, None) => !checker.alpha,
                // A reload does not wait for the first report.
                (None, Some(_)) if origin == Origin::Reload && !self.is_known(kind) => false,
                (None, Some(verdict)) => matches!(verdict, Verdict::Success(_)),
            };
            // The previous process found it good a moment ago: one lost packet is no reason to remove it.
            let known_good = self.resumed && held.is_some_and(|held| held.is_some());
            let beginning = Beginning {
                up,
                decisive: origin == Origin::Start && !known_good,
                early: held == Some(None),
            };
            server.failed += u32::from(!up);
            let place = (slot, position, CheckerPosition::of(at));
            let added = self.add_checker(moment, place, checker, beginning);
            slots.push(added);
            if let Some(Verdict::Success(share)) = report
                && let Some(checker) = self.checkers.get_mut(added)
            {
                checker.share = share;
                server.dynamic += contribution(share, real);
            }
            if kind.weighs()
                && let Some(weight) = weight.take()
                && let Some(checker) = self.checkers.get_mut(added)
            {
                checker.share = Share::Instead(weight);
                server.dynamic += contribution(checker.share, real);
            }
        }
        server.checkers = Checkers::from(slots);
        server
    }
}

/// A configuration in which each service of the kernel belongs to one virtual server. The configuration language gives no
/// other one, but two owners would undo each other's operations for ever, so a defect there must not lead to that.
fn unique(config: Arc<Lvs>) -> Arc<Lvs> {
    if keys_are_unique(&config.services) {
        return config;
    }
    let mut unique = Lvs::clone(&config);
    for (_, overlap) in make_unique(&mut unique.services) {
        tracing::error!(
            "{overlap}; this is a defect of the configuration reader, please report it"
        );
    }
    Arc::new(unique)
}

/// The weight of a server that the kernel has in service. With `inhibit_on_failure` a dead one has weight 0.
fn weight_in(key: &ServiceKey, entry: &Entry, real: &RealServer) -> Option<u32> {
    let weight = entry.destinations.get(&DestinationKey::at(real, key))?.weight;
    (weight > 0 || real.weight == 0 || !real.inhibit_on_failure).then_some(weight)
}

/// Whether the kernel has the sorry server in service.
fn serves_sorry(key: &ServiceKey, entry: &Entry, model: &model::Service) -> bool {
    model.sorry_server.is_some_and(|sorry| {
        let found = entry.destinations.get(&DestinationKey::sorry_at(&sorry, key));
        found.is_some_and(|d: &Destination| d.weight > 0)
    })
}

/// The table without values that have no effect, for comparison.
fn normalised(mut table: Table) -> Table {
    for (key, entry) in &mut table.services {
        entry.settings = entry.settings.clone().normalised(key.family());
    }
    table
}
