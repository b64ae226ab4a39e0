//! Hosts on a virtual clock.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::director::{Answer, Balance, Director};
use super::kernel::Kernel;
use super::net::Net;
use super::oracle::Oracle;
use crate::base::rng::Rng;
use crate::base::{IfIndex, IfName, Instant, Prefix};
use crate::model::Vrrp;
use crate::plan::{Change, Op, Outcome, Token};
use crate::status::Notice;
use crate::status::vrrp::{State, Summary};
use crate::vrrp::{Action, Actions, Engine, Event, InstanceId, Link, RunEnd, RunId, Rx};

/// Number of a host, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// How long a simulated script runs.
const SCRIPT_TIME: Duration = Duration::from_millis(5);
/// How long the kernel takes to join a group.
pub(super) const JOIN_TIME: Duration = Duration::from_micros(10);
/// Lines of the trace that are kept.
const TRACE: usize = 400;

/// Everything there is.
#[derive(Debug)]
pub struct World {
    now: Instant,
    sequence: u64,
    queue: BTreeMap<(Instant, u8, u64), What>,
    pub(super) nodes: Vec<Node>,
    /// How real servers answer, and since when; those not named accept connections.
    pub(super) servers: BTreeMap<std::net::SocketAddr, (Answer, Instant)>,
    /// The network; changing it counts as a disturbance only through the methods of the world.
    pub(super) net: Net,
    pub(super) rng: Rng,
    pub(super) oracle: Oracle,
    trace: VecDeque<String>,
    digest: u64,
    actions: Actions,
}

/// One host.
#[derive(Debug)]
pub(super) struct Node {
    pub engine: Option<Engine>,
    /// Counts starts: what was under way for an earlier engine is lost.
    pub incarnation: u64,
    pub kernel: Kernel,
    pub director: Director,
    kernel_free_at: Instant,
    pub config: Arc<Vrrp>,
    pub stalled_until: Option<Instant>,
    /// Since when the process, or the one before it, gave no sign of life.
    pub stalled_since: Option<Instant>,
    pub inbox: Vec<What>,
    pub wake: Option<Instant>,
    /// Operations that the kernel has not answered.
    pub in_flight: u32,
    /// Kernel events on their way.
    pub events: u32,
    /// How scripts end, by the path of the program; good if not named.
    pub scripts: BTreeMap<Box<[u8]>, RunEnd>,
    pub runner_alive: bool,
    pub summary: Summary,
    /// What scripts and mail recipients were told.
    pub notices: Vec<(Instant, Notice)>,
    pub finished: bool,
    /// Addresses that were there when the daemon started: it may leave them until it knows better.
    pub leftovers: BTreeSet<(IfIndex, Prefix)>,
    /// Addresses that were added for the daemon and are there still.
    pub ours: BTreeSet<(IfIndex, Prefix)>,
    /// Addresses that an owner found when it started and takes for those of the interface, even if an earlier daemon
    /// has left them: nothing tells one from the other.
    pub taken: BTreeSet<Prefix>,
    /// Links that were called so when the daemon came to know them, and are not any more.
    pub former: BTreeMap<IfName, IfIndex>,
}

impl Node {
    /// The link that a name of the configuration means: the one that had it, until that is gone, or else the one that
    /// has it.
    pub fn link_named(&self, name: &IfName) -> Option<&Link> {
        match self.former.get(name) {
            Some(index) => self.kernel.link_at(*index),
            None => self.kernel.link(name),
        }
    }
}

/// What will happen.
#[derive(Clone, Debug)]
pub(super) enum What {
    Packet {
        node: NodeId,
        rx: Rx,
        octets: Arc<[u8]>,
    },
    Link {
        node: NodeId,
        /// As it was when the kernel told of it.
        link: Link,
    },
    LinkGone {
        node: NodeId,
        index: IfIndex,
    },
    Object {
        node: NodeId,
        change: Change,
    },
    Operation {
        node: NodeId,
        incarnation: u64,
        token: Token,
        item: u32,
        op: Op,
    },
    Answer {
        node: NodeId,
        incarnation: u64,
        token: Token,
        item: u32,
        outcome: Outcome,
    },
    Join {
        node: NodeId,
        incarnation: u64,
        interface: IfIndex,
        group: IpAddr,
    },
    Joined {
        node: NodeId,
        incarnation: u64,
        interface: IfIndex,
        group: IpAddr,
        outcome: Outcome,
    },
    Ran {
        node: NodeId,
        incarnation: u64,
        run: RunId,
        end: RunEnd,
    },
    RunnerReady {
        node: NodeId,
    },
    Reload {
        node: NodeId,
        config: Arc<Vrrp>,
    },
    Stop {
        node: NodeId,
    },
    Balance {
        node: NodeId,
        what: Balance,
    },
    Awake {
        node: NodeId,
    },
    Timer {
        node: NodeId,
    },
}

impl World {
    /// An empty world whose every chance depends on `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            sequence: 0,
            queue: BTreeMap::new(),
            nodes: Vec::new(),
            servers: BTreeMap::new(),
            net: Net::default(),
            rng: Rng::new(seed),
            oracle: Oracle::default(),
            trace: VecDeque::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            actions: Actions::new(),
        }
    }

    /// Adds a host that is switched off, with an interface for each name.
    pub fn add(&mut self, interfaces: &[&str], config: Vrrp) -> NodeId {
        let names: Vec<IfName> = interfaces.iter().filter_map(|n| n.parse().ok()).collect();
        let host = u8::try_from(self.nodes.len() + 1).unwrap_or(u8::MAX);
        self.nodes.push(Node {
            engine: None,
            incarnation: 0,
            kernel: Kernel::new(host, &names),
            director: Director::default(),
            kernel_free_at: Instant::ZERO,
            config: Arc::new(config),
            stalled_until: None,
            stalled_since: None,
            inbox: Vec::new(),
            wake: None,
            in_flight: 0,
            events: 0,
            scripts: BTreeMap::new(),
            runner_alive: true,
            summary: Summary::default(),
            notices: Vec::new(),
            finished: false,
            leftovers: BTreeSet::new(),
            ours: BTreeSet::new(),
            taken: BTreeSet::new(),
            former: BTreeMap::new(),
        });
        NodeId(self.nodes.len() - 1)
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The hosts.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0)
    }

    /// The state of an instance; none while its host is off.
    #[must_use]
    pub fn state(&self, id: NodeId, instance: &str) -> Option<State> {
        self.node(id)?.engine.as_ref()?.state(instance)
    }

    /// The hosts on which an instance is master.
    #[must_use]
    pub fn masters(&self, instance: &str) -> Vec<NodeId> {
        self.nodes().filter(|id| self.state(*id, instance) == Some(State::Master)).collect()
    }

    /// Whether the kernel of a host has an address.
    #[must_use]
    pub fn has_address(&self, id: NodeId, address: &str) -> bool {
        self.node(id).is_some_and(|n| {
            n.kernel.addresses.iter().any(|(_, prefix)| prefix.to_string() == address)
        })
    }

    /// The configuration of a host.
    #[must_use]
    pub fn config(&self, id: NodeId) -> Vrrp {
        self.node(id).map(|n| Vrrp::clone(&n.config)).unwrap_or_default()
    }

    /// The states and names announced by a host, `INSTANCE "VRRP1" MASTER 200` each.
    #[must_use]
    pub fn announced(&self, id: NodeId) -> Vec<String> {
        self.node(id)
            .map(|n| n.notices.iter().map(|(_, notice)| notice.fifo.to_string()).collect())
            .unwrap_or_default()
    }

    /// The engine of a host, to look at its counters.
    #[must_use]
    pub fn engine(&self, id: NodeId) -> Option<&Engine> {
        self.node(id)?.engine.as_ref()
    }

    /// The number that two runs have in common exactly if all their actions were the same.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// What happened last, adverts left out.
    #[must_use]
    pub fn trace(&self) -> String {
        let mut all = String::new();
        for line in &self.trace {
            all.push_str(line);
            all.push('\n');
        }
        all
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((&key, _)) = self.queue.first_key_value() {
            if key.0 > end {
                break;
            }
            let Some(what) = self.queue.remove(&key) else { break };
            self.now = key.0;
            self.happen(what);
        }
        self.now = end;
        for id in self.nodes() {
            self.oracle.touched(id);
            self.check(id);
        }
    }

    /// Lets time pass until `done` holds, at most `limit`. Says whether it does.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            let Some((&key, _)) = self.queue.first_key_value() else { break };
            if key.0 > end {
                break;
            }
            let Some(what) = self.queue.remove(&key) else { break };
            self.now = key.0;
            self.happen(what);
        }
        self.now = end;
        done(self)
    }

    /// Ranks order what happens at the same moment: packets come before timers, as a driver hands them over.
    pub(super) fn push(&mut self, at: Instant, rank: u8, what: What) {
        self.sequence += 1;
        self.queue.insert((at, rank, self.sequence), what);
    }

    fn happen(&mut self, what: What) {
        let id = what.node();
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        if let What::Awake { .. } = what {
            if node.stalled_until.is_some_and(|until| until <= self.now) {
                self.wake_up(id);
            }
            return;
        }
        // The kernel works on while the process is stalled.
        if let What::Operation { incarnation, token, item, op, .. } = what {
            let (outcome, gone) = node.kernel.change(&op, &mut self.rng);
            if let Some((link, _)) = op.as_address() {
                for prefix in &gone {
                    self.tell_address(id, link, *prefix, false, true);
                }
            }
            self.tell_routes(id);
            self.note(id, &format!("kernel: {op} {outcome:?}"));
            self.judge_change(id, &op, outcome, &gone);
            let answer = What::Answer { node: id, incarnation, token, item, outcome };
            self.push(self.now, 1, answer);
            return;
        }
        if let What::Join { incarnation, interface, group, .. } = what {
            if node.incarnation == incarnation && node.engine.is_some() {
                let outcome = if node.kernel.refuses_joins {
                    Outcome::Refused(super::kernel::NO_BUFFERS)
                } else if node.kernel.join(interface, group) {
                    Outcome::Done
                } else {
                    Outcome::Refused(super::kernel::NO_DEVICE)
                };
                let what = What::Joined { node: id, incarnation, interface, group, outcome };
                self.push(self.now, 1, what);
            }
            return;
        }
        if let What::Packet { rx, .. } = &what
            && !node.kernel.receives(rx.interface, rx.destination)
        {
            return;
        }
        if let What::Balance { what: Balance::Operation { incarnation, token, item, op }, .. } =
            what
        {
            self.change_table(id, incarnation, token, item, &op);
            return;
        }
        if node.stalled_until.is_some() {
            node.inbox.push(what);
            return;
        }
        self.deliver(what);
        self.check(id);
    }

    fn wake_up(&mut self, id: NodeId) {
        self.note(id, "goes on");
        self.disturb();
        self.oracle.woke(id, self.now);
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        node.stalled_until = None;
        node.stalled_since = None;
        // Packets first, then the rest in order: a stalled driver hears what it missed before its timers.
        let (packets, rest): (Vec<What>, Vec<What>) =
            core::mem::take(&mut node.inbox).into_iter().partition(|w| match w {
                What::Packet { .. } => true,
                What::Balance { what, .. } => !matches!(what, Balance::Timer),
                _ => false,
            });
        self.oracle.forgive_gap(id);
        for what in packets.into_iter().chain(rest) {
            self.deliver(what);
        }
        self.check(id);
    }

    pub(super) fn deliver(&mut self, what: What) {
        let id = what.node();
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let incarnation = node.incarnation;
        if !matches!(what, What::Packet { .. } | What::Timer { .. } | What::Ran { .. }) {
            self.oracle.touched(id);
        }
        match what {
            What::Balance { what, .. } => self.balance_happens(id, what),
            What::Packet { rx, octets, .. } => {
                self.judge_delivery(id, &rx, &octets);
                self.handle(id, Event::Advert { rx, packet: &octets });
            }
            What::Link { link, .. } => {
                node.events = node.events.saturating_sub(1);
                self.handle(id, Event::Link(link));
            }
            What::LinkGone { index, .. } => {
                node.events = node.events.saturating_sub(1);
                self.handle(id, Event::LinkGone(index));
            }
            What::RunnerReady { .. } => self.handle(id, Event::RunnerReady),
            What::Reload { config, .. } => {
                let old = core::mem::replace(&mut node.config, Arc::clone(&config));
                if node.engine.is_some() {
                    self.oracle.begin_reload(id, self.now, &old, &config);
                    self.handle(id, Event::Reload(Arc::clone(&config)));
                    self.oracle.end_reload(id, &config);
                }
            }
            What::Stop { .. } => self.handle(id, Event::Stop { keep_addresses: false }),
            What::Object { change, .. } => {
                node.events = node.events.saturating_sub(1);
                self.handle(id, Event::Object(change));
            }
            What::Answer { incarnation: of, token, item, outcome, .. } if of == incarnation => {
                node.in_flight = node.in_flight.saturating_sub(1);
                self.handle(id, Event::Applied { token, item, outcome });
            }
            What::Joined { incarnation: of, interface, group, outcome, .. }
                if of == incarnation =>
            {
                self.handle(id, Event::Joined { interface, group, outcome });
            }
            What::Ran { incarnation: of, run, end, .. }
                if of == incarnation && node.runner_alive =>
            {
                self.handle(id, Event::Ran { run, end });
            }
            What::Timer { .. } if node.wake == Some(self.now) => {
                node.wake = None;
                self.handle(id, Event::Timer);
            }
            // A timer that came due while the process was stalled.
            What::Timer { .. } if node.wake.is_some_and(|at| at < self.now) => {
                node.wake = None;
                self.handle(id, Event::Timer);
            }
            _ => {}
        }
    }

    /// One step of an engine.
    pub(super) fn handle(&mut self, id: NodeId, event: Event<'_>) {
        let Some(engine) = self.nodes.get_mut(id.0).and_then(|n| n.engine.as_mut()) else { return };
        let mut out = core::mem::take(&mut self.actions);
        out.clear();
        engine.handle(self.now, event, &mut out);
        self.interpret(id, &out);
        self.actions = out;
        self.judge_step(id);
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        if node.finished {
            node.engine = None;
            node.in_flight = 0;
            node.kernel.leave_all();
            self.judge_end(id);
            self.oracle.forget(id);
            return;
        }
        let due = node.engine.as_mut().and_then(Engine::deadline);
        if due != node.wake {
            node.wake = due;
            if let Some(at) = due {
                self.push(at.max(self.now), 2, What::Timer { node: id });
                if at < self.now
                    && let Some(node) = self.nodes.get_mut(id.0)
                {
                    node.wake = Some(self.now);
                }
            }
        }
    }

    fn interpret(&mut self, id: NodeId, out: &Actions) {
        for action in out.list() {
            if !matches!(
                action,
                Action::SendAdvert { .. } | Action::Report | Action::RunScript { .. }
            ) {
                self.note(id, &summarise(action));
            }
            match action {
                Action::SendAdvert { packet, .. } => {
                    let octets: Arc<[u8]> = out.bytes(packet).into();
                    self.transmit(id, action, &octets);
                }
                Action::SendGarp { interface, mac, address, count } => {
                    self.judge_announcement(id, *interface, *mac, *address, *count);
                }
                Action::Apply { token, ops } => self.ask_kernel(id, *token, ops),
                Action::Join { interface, group } => {
                    let Some(incarnation) = self.nodes.get(id.0).map(|n| n.incarnation) else {
                        continue;
                    };
                    let (interface, group) = (*interface, *group);
                    let what = What::Join { node: id, incarnation, interface, group };
                    self.push(self.now + JOIN_TIME, 1, what);
                }
                // Packets of both kinds arrive where the group was joined.
                Action::HearAh => {}
                Action::Leave { interface, group } => {
                    if let Some(node) = self.nodes.get_mut(id.0) {
                        node.kernel.leave(*interface, *group);
                    }
                }
                Action::RunScript { run, command, .. } => {
                    let Some(node) = self.nodes.get(id.0) else { continue };
                    let end = command.words.first().and_then(|path| node.scripts.get(path));
                    let end = end.copied().unwrap_or(RunEnd::Exit(0));
                    let what =
                        What::Ran { node: id, incarnation: node.incarnation, run: *run, end };
                    self.push(self.now + SCRIPT_TIME, 1, what);
                }
                // Simulated scripts end by themselves.
                Action::EndScript(_) => {}
                Action::Notify(notice) => {
                    let now = self.now;
                    self.judge_notice(id, &notice.fifo);
                    if let Some(node) = self.nodes.get_mut(id.0) {
                        node.notices.push((now, notice.clone()));
                    }
                }
                Action::Report => {
                    let now = self.now;
                    if let Some(node) = self.nodes.get_mut(id.0)
                        && let Some(engine) = &node.engine
                    {
                        node.summary = engine.summary(now);
                    }
                }
                Action::Done => {
                    if let Some(node) = self.nodes.get_mut(id.0) {
                        node.finished = true;
                    }
                }
            }
        }
    }

    fn ask_kernel(&mut self, id: NodeId, token: Token, ops: &[Op]) {
        self.judge_request(id, ops);
        for (item, op) in (0u32..).zip(ops) {
            let Some(node) = self.nodes.get_mut(id.0) else { return };
            let start = node.kernel_free_at.max(self.now);
            node.kernel_free_at = start + node.kernel.latency;
            node.in_flight += 1;
            let (at, incarnation) = (node.kernel_free_at, node.incarnation);
            let what = What::Operation { node: id, incarnation, token, item, op: op.clone() };
            self.push(at, 1, what);
        }
    }

    fn transmit(&mut self, id: NodeId, advert: &Action, octets: &Arc<[u8]>) {
        let Action::SendAdvert { instance, interface, source, destination, hop_limit, .. } =
            *advert
        else {
            return;
        };
        let link = self.nodes.get(id.0).and_then(|n| n.kernel.link_at(interface));
        let segment = link
            .filter(|l| l.up)
            .and_then(|l| self.nodes.get(id.0)?.kernel.segment_of(l.index).cloned());
        let Some(segment) = segment else {
            self.oracle.forgive_gap(id);
            self.handle_unsent(id, instance, destination);
            return;
        };
        self.mix(octets);
        self.judge_advert(id, interface, source, destination, octets);
        for other in self.nodes().filter(|other| *other != id) {
            let deliveries = self.net.deliveries(&segment, id, other, &mut self.rng);
            let Some(node) = self.nodes.get(other.0) else { continue };
            let Some(there) = node.kernel.on_segment(&segment).filter(|l| l.up) else { continue };
            let rx = Rx { interface: there.index, source, destination, hop_limit };
            for delay in deliveries {
                let octets = Arc::clone(octets);
                let what = What::Packet { node: other, rx, octets };
                self.push(self.now + delay, 0, what);
            }
        }
    }

    /// The refusal of a send is known at once; the engine hears of it as its next event.
    fn handle_unsent(&mut self, id: NodeId, instance: InstanceId, destination: IpAddr) {
        let now = self.now;
        if let Some(engine) = self.nodes.get_mut(id.0).and_then(|n| n.engine.as_mut()) {
            let mut out = Actions::new();
            engine.handle(now, Event::Unsent { instance, destination, errno: 100 }, &mut out);
        }
    }

    /// The kernel tells of a change of addresses.
    pub(super) fn tell_address(
        &mut self,
        id: NodeId,
        link: IfIndex,
        prefix: Prefix,
        present: bool,
        own: bool,
    ) {
        if !own {
            self.oracle.muddle(id);
            if !present {
                self.oracle.tugged(id, link, prefix, self.now);
            }
        }
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        if !present {
            node.ours.remove(&(link, prefix));
        }
        node.events += 1;
        let delay = if own { Duration::ZERO } else { JOIN_TIME };
        let change = Change::address(link, prefix, present, own);
        self.push(self.now + delay, 1, What::Object { node: id, change });
    }

    /// The kernel tells of changes of routes.
    pub(super) fn tell_routes(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        for change in node.kernel.take_events() {
            if let Some(node) = self.nodes.get_mut(id.0) {
                node.events += 1;
            }
            let delay = if change.own { Duration::ZERO } else { JOIN_TIME };
            self.push(self.now + delay, 1, What::Object { node: id, change });
        }
    }

    /// The kernel tells of a link.
    pub(super) fn tell_link(&mut self, id: NodeId, index: IfIndex) {
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let Some(link) = node.kernel.link_at(index).cloned() else { return };
        node.events += 1;
        self.push(self.now + JOIN_TIME, 1, What::Link { node: id, link });
    }

    pub(super) fn disturb(&mut self) {
        self.oracle.disturbed(self.now);
    }

    pub(super) fn all_troubled(&mut self) {
        for id in self.nodes() {
            self.trouble(id);
        }
    }

    pub(super) fn trouble(&mut self, id: NodeId) {
        self.disturb();
        self.oracle.troubled(id, self.now);
    }

    pub(super) fn note(&mut self, id: NodeId, text: &str) {
        self.oracle.touched(id);
        let line = format!("{} node {} {text}", self.now, id.0 + 1);
        self.mix(line.as_bytes());
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    /// FNV-1a.
    fn mix(&mut self, octets: &[u8]) {
        for octet in octets {
            self.digest = (self.digest ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl What {
    const fn node(&self) -> NodeId {
        match self {
            Self::Packet { node, .. }
            | Self::Link { node, .. }
            | Self::LinkGone { node, .. }
            | Self::Join { node, .. }
            | Self::RunnerReady { node }
            | Self::Reload { node, .. }
            | Self::Stop { node }
            | Self::Object { node, .. }
            | Self::Operation { node, .. }
            | Self::Answer { node, .. }
            | Self::Joined { node, .. }
            | Self::Ran { node, .. }
            | Self::Balance { node, .. }
            | Self::Awake { node }
            | Self::Timer { node } => *node,
        }
    }
}

fn summarise(action: &Action) -> String {
    match action {
        Action::Apply { ops, .. } => {
            let ops: Vec<String> = ops.iter().map(ToString::to_string).collect();
            format!("asks: {}", ops.join(", "))
        }
        Action::Notify(notice) => format!("announces {}", notice.fifo),
        Action::SendGarp { interface, address, count, .. } => {
            format!("announces {address} on {interface:?}, {count} frames")
        }
        other => format!("{other:?}"),
    }
}
