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
use crate::base::{IfIndex, IfName, Instant, Name, Prefix};
use crate::model::Vrrp;
use crate::plan::{Change, Op, Outcome, Token};
use crate::status::Notice;
use crate::status::vrrp::{State, Summary};
use crate::vrrp::{Actions, Engine, InstanceId, Link, RunEnd, RunId, Rx, Snapshot};

/// Number of a host, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// How long the kernel takes to join a group.
pub(super) const JOIN_TIME: Duration = Duration::from_micros(10);
/// Number of kept trace lines.
const TRACE: usize = 400;

/// The simulated world.
#[derive(Debug)]
pub struct World {
    pub(super) now: Instant,
    sequence: u64,
    queue: BTreeMap<(Instant, u8, u64), What>,
    pub(super) nodes: Vec<Node>,
    /// How real servers answer, and since when; others accept connections.
    pub(super) servers: BTreeMap<std::net::SocketAddr, (Answer, Instant)>,
    /// The network; changing it counts as a disturbance only through the methods of the world.
    pub(super) net: Net,
    pub(super) rng: Rng,
    pub(super) oracle: Oracle,
    trace: VecDeque<String>,
    digest: u64,
    pub(super) actions: Actions,
}

/// One host.
#[derive(Debug)]
pub(super) struct Node {
    pub engine: Option<Engine>,
    /// Number of starts: pending events for an earlier engine are lost.
    pub incarnation: u64,
    pub kernel: Kernel,
    pub director: Director,
    pub kernel_free_at: Instant,
    pub config: Arc<Vrrp>,
    pub stalled_until: Option<Instant>,
    /// Since when the process, or its predecessor, has sent no heartbeat.
    pub stalled_since: Option<Instant>,
    pub inbox: Vec<What>,
    pub wake: Option<Instant>,
    /// Unanswered operations of the kernel.
    pub in_flight: u32,
    /// Pending kernel events.
    pub events: u32,
    /// How scripts end, by the path of the program; success by default.
    pub scripts: BTreeMap<Box<[u8]>, RunEnd>,
    /// The numbers in tracked files, and those reported to the process.
    pub files: BTreeMap<Name, i32>,
    pub files_told: BTreeMap<Name, i32>,
    pub runner_alive: bool,
    /// Number of the runner, which changes with each new one, and of the one that the process has a channel to.
    pub runner: u64,
    pub runner_heard: u64,
    pub summary: Summary,
    /// To be done as soon as the process has finished its current job.
    pub report_due: bool,
    /// Its process has read the objects in the kernel.
    pub started: bool,
    /// How much of a job is done in one step, and how long a step takes.
    pub effort: Option<(usize, Duration)>,
    /// The notices to scripts and mail recipients.
    pub notices: Vec<(Instant, Notice)>,
    pub finished: bool,
    /// Addresses that existed when the daemon started: it may keep them until it hears a master.
    pub leftovers: BTreeSet<(IfIndex, Prefix)>,
    /// Addresses that were added for the daemon and still exist.
    pub ours: BTreeSet<(IfIndex, Prefix)>,
    /// Addresses that an owner found when it started and considers the interface's own, even if an earlier daemon left
    /// them: the two are indistinguishable.
    pub taken: BTreeSet<Prefix>,
    /// Links by the name that they had when the daemon first saw them, if they were renamed.
    pub former: BTreeMap<IfName, IfIndex>,
}

impl Node {
    /// Whether its daemon is doing a job that concerns everything, in slices.
    pub fn is_occupied(&self) -> bool {
        self.engine.as_ref().is_some_and(Engine::is_occupied)
    }

    /// The link that a configured name refers to: the one that had it first, until that is deleted, or else the one
    /// that has it now.
    pub fn link_named(&self, name: &IfName) -> Option<&Link> {
        match self.former.get(name) {
            Some(index) => self.kernel.link_at(*index),
            None => self.kernel.link(name),
        }
    }
}

/// A future event.
#[derive(Clone, Debug)]
pub(super) enum What {
    Packet {
        node: NodeId,
        rx: Rx,
        octets: Arc<[u8]>,
    },
    Link {
        node: NodeId,
        /// The link at the time of the event.
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
        /// The program.
        path: Box<[u8]>,
        end: RunEnd,
    },
    /// The runner reports the number of a tracked file.
    File {
        node: NodeId,
        name: Name,
    },
    RunnerReady {
        node: NodeId,
        runner: u64,
    },
    Reload {
        node: NodeId,
        config: Arc<Vrrp>,
    },
    Stop {
        node: NodeId,
    },
    /// The objects in the kernel, for a daemon that starts.
    Kernel {
        node: NodeId,
        snapshot: Snapshot,
    },
    /// An advert could not be sent.
    Unsent {
        node: NodeId,
        instance: InstanceId,
        destination: IpAddr,
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
    /// An empty world whose randomness depends only on `seed`.
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
            files: BTreeMap::new(),
            files_told: BTreeMap::new(),
            runner_alive: true,
            runner: 0,
            runner_heard: 0,
            summary: Summary::default(),
            report_due: false,
            started: false,
            effort: None,
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
            .map(|n| n.notices.iter().map(|(_, notice)| notice.line.to_string()).collect())
            .unwrap_or_default()
    }

    /// The engine of a host, to look at its counters.
    #[must_use]
    pub fn engine(&self, id: NodeId) -> Option<&Engine> {
        self.node(id)?.engine.as_ref()
    }

    /// A digest of all actions: equal for two runs if all their actions were the same.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// The last events, without adverts.
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

    /// Lets time pass until `done` holds, at most `limit`. Returns whether it does.
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

    /// Ranks order events of the same moment: packets come before timers, as in a driver.
    pub(super) fn push(&mut self, at: Instant, rank: u8, what: What) {
        self.sequence += 1;
        self.queue.insert((at, rank, self.sequence), what);
    }

    /// A group is left before it was joined.
    pub(super) fn cancel_join(&mut self, id: NodeId, link: IfIndex, left: IpAddr) {
        self.queue.retain(|_, what| match what {
            What::Join { node, interface, group, .. } => {
                (*node, *interface, *group) != (id, link, left)
            }
            _ => true,
        });
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
    pub(super) fn mix(&mut self, octets: &[u8]) {
        for octet in octets {
            self.digest = (self.digest ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl What {
    pub(super) const fn node(&self) -> NodeId {
        match self {
            Self::Packet { node, .. }
            | Self::Link { node, .. }
            | Self::LinkGone { node, .. }
            | Self::Join { node, .. }
            | Self::RunnerReady { node, .. }
            | Self::File { node, .. }
            | Self::Reload { node, .. }
            | Self::Stop { node }
            | Self::Kernel { node, .. }
            | Self::Unsent { node, .. }
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
