//! The check engine: which real servers are good, and what IPVS is to hold because of it, as a value.
//!
//! [`Engine::handle`] takes what happened and the time, and lists what is to be done. It has no clock, socket,
//! thread or file; equal inputs give equal outputs. Connecting to servers, writing the kernel's table and
//! running scripts is left to an interpreter of [`Action`]s: the driver of the daemon, or the simulator.
//!
//! | file | concern |
//! |---|---|
//! | `service` | the data of a service and of its servers |
//! | `schedule` | when a check is tried, how often, and what its results amount to |
//! | `server` | a server goes up or down |
//! | `weight` | how much of the traffic a server is to get |
//! | `quorum` | a service gains or loses its quorum; the sorry server |
//! | `wanted` | what the kernel is to hold, and what leads there |
//! | `write` | operations on their way to the kernel, and its answers |
//! | `refusal` | what the kernel refuses |
//! | `audit` | what other programs did to the table is found |
//! | `silence` | a kernel that does not answer |
//! | `report` | checks that wait for reports instead of trying something |
//! | `start` | reading and adopting the kernel's table |
//! | `reload` | from one configuration to the next |
//! | `stop` | leaving |
//! | `notify`, `text` | what scripts, people and logs are told |
//! | `view` | views for others |
//! | `probe` | conversations with servers, without sockets |
//!
//! Nothing is assumed to have worked: a server counts once the kernel has taken it, and what the kernel
//! refuses is tried again later and later. A service has one list of operations under way at most; what is
//! wanted by the time it is answered is then found by comparison, so the newest weight wins.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use slab::Slab;

use crate::base::{Instant, Name, TimerQueue, rng::Rng};
use crate::model::{self, Lvs, ServiceId, ServiceKey};
use crate::plan::ipvs::Table;
use crate::status::check::{Counters, ServiceSummary};

pub mod action;
mod audit;
pub mod event;
mod notify;
pub mod probe;
mod quorum;
mod refusal;
mod reload;
mod report;
mod schedule;
mod server;
mod service;
mod silence;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod text;
mod view;
mod wanted;
mod weight;
mod write;

pub use action::{Action, Actions};
use audit::Audit;
pub use event::Event;
pub use probe::{ProbeId, Verdict};
use schedule::Checker;
use service::Service;
use silence::Silence;

/// All services of one host.
#[derive(Debug)]
pub struct Engine {
    phase: Phase,
    config: Arc<Lvs>,
    /// What the kernel holds of our services, as far as it told us.
    known: Table,
    services: Slab<Service>,
    by_id: BTreeMap<ServiceId, u32>,
    /// Services by what the kernel finds them by: those of a group have several keys.
    by_front: BTreeMap<ServiceKey, u32>,
    /// Services of the configuration, in its order.
    order: Vec<u32>,
    checkers: Slab<Checker>,
    /// The next attempt of a check, or the end of the one under way.
    checks: TimerQueue,
    /// The next attempt at what the kernel refused, by service.
    retries: TimerQueue,
    /// The next attempt to read the table, or the end of the one under way.
    table_retry: Option<Instant>,
    table_backoff: u8,
    limits: Limits,
    rng: Rng,
    /// Attempts under way.
    running: usize,
    /// Checks that are due and wait for one of them to end.
    waiting: VecDeque<u32>,
    /// Services with operations under way.
    in_flight: usize,
    /// Services that wait for one of them to be answered.
    writes: VecDeque<u32>,
    /// Many services change at once: what comes meanwhile goes first.
    bulk: bool,
    /// What the kernel says of the services of the first configuration is not complete yet.
    beginning: bool,
    /// Services that the kernel refuses to make and that count as not served.
    unserved: BTreeSet<ServiceKey>,
    serial: u64,
    closing: probe::Closing,
    /// Services to be removed from the kernel that are not yet.
    leaving: BTreeSet<ServiceKey>,
    /// Looks for what other programs did to the table.
    audit: Audit,
    /// What the kernel has not answered yet.
    silence: Silence,
    /// Numbers in tracked files, as they were reported.
    files: BTreeMap<Name, i32>,
    /// From an earlier process.
    owned: BTreeSet<ServiceKey>,
    /// The list of ours that was told last named services that were about to go.
    owned_leaving: bool,
    /// Told to leave before the table was read.
    leaving_early: bool,
    resumed: bool,
    resume: BTreeMap<ServiceId, ServiceSummary>,
    changed: bool,
    counters: Counters,
    /// The service being worked on, to name the culprit if its step panics.
    current: Option<u32>,
    #[cfg(test)]
    panic_in: Option<ServiceKey>,
}

/// How much may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attempts, at least 1. Each takes a file descriptor.
    pub probes: usize,
    /// Services with unanswered operations, at least 1. More do not go faster; fewer let urgent ones through
    /// sooner.
    pub writes: usize,
    /// Services that are read one by one when the table is looked at; of more a list is asked for first.
    pub read: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { probes: 1000, writes: 256, read: 64 }
    }
}

#[derive(Clone, Debug)]
enum Phase {
    /// No configuration yet.
    Idle,
    /// The kernel's table is being read. `outdated`: for a configuration that is no longer the newest.
    Reading {
        asked: Arc<[ServiceKey]>,
        outdated: bool,
    },
    /// The kernel has no table for us: error number.
    Waiting {
        errno: i32,
    },
    /// The table is being emptied, as the configuration asks.
    Flushing {
        was: Table,
    },
    Running,
    /// Until the kernel has answered for everything.
    Stopping {
        flushing: bool,
    },
    Stopped,
}

/// What a step works with.
struct Moment<'a> {
    now: Instant,
    out: &'a mut Actions,
}

impl Engine {
    /// An engine without a configuration.
    #[must_use]
    pub fn new(seed: u64, limits: Limits) -> Self {
        Self {
            phase: Phase::Idle,
            config: Arc::default(),
            known: Table::default(),
            services: Slab::new(),
            by_id: BTreeMap::new(),
            by_front: BTreeMap::new(),
            order: Vec::new(),
            checkers: Slab::new(),
            checks: TimerQueue::new(),
            retries: TimerQueue::new(),
            table_retry: None,
            table_backoff: 0,
            limits: Limits { probes: limits.probes.max(1), writes: limits.writes.max(1), ..limits },
            rng: Rng::new(seed),
            running: 0,
            waiting: VecDeque::new(),
            in_flight: 0,
            writes: VecDeque::new(),
            bulk: false,
            beginning: false,
            unserved: BTreeSet::new(),
            serial: 0,
            closing: probe::Closing::Orderly,
            leaving: BTreeSet::new(),
            audit: Audit::default(),
            silence: Silence::default(),
            files: BTreeMap::new(),
            owned: BTreeSet::new(),
            owned_leaving: false,
            leaving_early: false,
            resumed: false,
            resume: BTreeMap::new(),
            changed: false,
            counters: Counters::default(),
            current: None,
            #[cfg(test)]
            panic_in: None,
        }
    }

    /// Takes one event and appends to `out` what is to be done about it. `now` must not go back.
    ///
    /// A panic in here, which would be a defect, ends the service it happened in and no other: that one is
    /// left in the kernel as it stands.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Actions) {
        self.current = None;
        self.silence.answered(now, &event);
        let before = out.len();
        if catch_unwind(AssertUnwindSafe(|| self.dispatch(&mut Moment { now, out }, event)))
            .is_err()
        {
            self.quarantine(&mut Moment { now, out });
        }
        self.silence.asked(now, out.iter().skip(before));
        if core::mem::take(&mut self.changed) {
            out.push(Action::Report);
        }
    }

    /// When [`Event::Timer`] is due next.
    pub fn deadline(&mut self) -> Option<Instant> {
        let table = [self.table_retry, self.audit.due(), self.silence.due()];
        let queues = [self.checks.earliest(), self.retries.earliest()];
        queues.into_iter().chain(table).flatten().min()
    }

    fn dispatch(&mut self, moment: &mut Moment<'_>, event: Event) {
        match event {
            Event::Timer => self.timer(moment),
            Event::Owned(services) => self.owned = services.into_iter().collect(),
            Event::Resume(summary) => {
                self.resumed = true;
                self.resume = summary.services.into_iter().map(|s| (s.id.clone(), s)).collect();
            }
            Event::Reload(config) => self.reload(moment, config),
            Event::Table { services, result } => self.table(moment, &services, result),
            Event::Listed(result) => self.listed(moment, result),
            Event::Applied { token, item, outcome } => self.applied(moment, token, item, outcome),
            Event::File { name, value } => self.report_of_file(moment, name, value),
            Event::Probed { probe, verdict } => self.probed(moment, probe, verdict),
            Event::Stop { keep_entries } => self.stop(moment, keep_entries),
        }
        self.finish(moment);
    }

    fn timer(&mut self, moment: &mut Moment<'_>) {
        // Refusals first: a burst of checks may follow that takes the places of writes.
        while let Some((slot, _)) = self.retries.pop(moment.now) {
            self.retry(moment, slot);
        }
        if self.table_retry.is_some_and(|at| at <= moment.now) {
            self.table_retry = None;
            match self.phase {
                Phase::Reading { .. } => self.unanswered(moment),
                _ => self.read_table(moment),
            }
        }
        if self.audit.due().is_some_and(|at| at <= moment.now) {
            self.audit_due(moment);
        }
        if self.silence.due().is_some_and(|at| at <= moment.now) {
            self.silent();
        }
        while let Some((slot, due)) = self.checks.pop(moment.now) {
            self.check_due(moment, slot, due);
        }
    }

    fn service(&self, slot: u32) -> Option<&Service> {
        self.services.get(slot as usize)
    }

    fn service_mut(&mut self, slot: u32) -> Option<&mut Service> {
        self.services.get_mut(slot as usize)
    }

    /// The configuration of a service; none for one that only has to leave the kernel.
    fn config_of<'c>(&self, config: &'c Lvs, slot: u32) -> Option<&'c model::Service> {
        config.services.get(self.service(slot)?.position? as usize)
    }

    /// Begins work on a service.
    fn enter(&mut self, slot: u32) {
        self.current = Some(slot);
        #[cfg(test)]
        if self.panic_in.is_some_and(|key| self.by_front.get(&key) == Some(&slot)) {
            self.panic_in = None;
            panic!("provoked by a test");
        }
    }

    fn quarantine(&mut self, moment: &mut Moment<'_>) {
        let slot = self.current.take();
        let Some(service) = slot.and_then(|slot| self.services.get_mut(slot as usize)) else {
            tracing::error!(
                "a step of the check engine failed; this is a defect, please report it"
            );
            return;
        };
        notify::say!(
            error,
            service.id,
            "VS {}: a step failed; this is a defect, please report it. Its servers stay as they are",
            service.id
        );
        service.quarantined = true;
        if service.flight.take().is_some() {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        let checkers: Vec<u32> =
            service.servers.iter().flat_map(|s| s.checkers.as_slice()).copied().collect();
        for checker in checkers {
            self.drop_attempt(moment, checker);
            self.checks.clear(checker);
        }
        if let Some(slot) = slot {
            self.retries.clear(slot);
        }
    }
}

/// A position as it is stored.
fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
