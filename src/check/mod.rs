//! The check engine, as a value: which real servers are good, and what IPVS should contain as a result.
//!
//! [`Engine::handle`] takes what happened and the time, and lists what is to be done. It has no clock, socket, thread
//! or file; equal inputs give equal outputs. Connecting to servers, writing the kernel's table and running scripts are
//! left to an interpreter of [`Action`]s: the driver of the daemon, or the simulator.
//!
//! | file | concern |
//! |---|---|
//! | `service`, `id` | the data of a service and of its servers; the numbers by which they are found |
//! | `timers` | timers by name |
//! | `schedule` | when and how often a check is tried, and the effect of its results |
//! | `server` | a server goes up or down |
//! | `weight` | the share of the traffic that a server gets |
//! | `quorum` | a service gains or loses its quorum; the sorry server |
//! | `wanted` | what the kernel should contain, and the operations that lead there |
//! | `write` | operations on their way to the kernel, and its answers |
//! | `refusal` | operations that the kernel refuses |
//! | `audit` | detection of changes by other programs |
//! | `silence` | a kernel that does not answer |
//! | `presence` | checks that run only while the host has an address |
//! | `report` | checks that wait for reports instead of making attempts |
//! | `start` | reading and adopting the kernel's table |
//! | `reload` | from one configuration to the next |
//! | `stop` | leaving |
//! | `notify`, `text` | notices to scripts and people, log texts |
//! | `view` | views for readers, the summary for the next process |
//! | `probe` | conversations with servers, without sockets |
//!
//! No operation is assumed to succeed: a server counts once the kernel has accepted it, and refused operations are
//! retried at increasing intervals. A service has at most one list of operations under way; after its answer the
//! service is compared again with what is wanted by then, so the newest weight wins.
#![forbid(unsafe_code)]

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::base::{Instant, Name, rng::Rng};
use crate::model::{self, Lvs, ServiceId, ServiceKey};
use crate::plan::ipvs::Table;
use crate::status::check::{Counters, ServiceSummary};

pub mod action;
mod audit;
pub mod event;
mod id;
mod notify;
mod presence;
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
mod timers;
mod view;
mod wanted;
mod weight;
mod write;

pub use action::{Action, Actions};
use audit::Audit;
pub use event::Event;
pub use id::CheckerSlot;
use id::{Index, Rows, ServiceSlot};
pub use probe::{ProbeId, Verdict};
use schedule::Checker;
use service::Service;
use silence::Silence;
use timers::{Timer, Timers};

/// All services of one host.
#[derive(Debug)]
pub struct Engine {
    phase: Phase,
    config: Arc<Lvs>,
    /// The known state of our services in the kernel.
    known: Table,
    services: Rows<ServiceSlot, Service>,
    by_id: BTreeMap<ServiceId, ServiceSlot>,
    /// Services by the kernel's keys: those of a group have several.
    by_front: BTreeMap<ServiceKey, ServiceSlot>,
    /// Services of the configuration, in its order.
    order: Vec<ServiceSlot>,
    checkers: Rows<CheckerSlot, Checker>,
    timers: Timers,
    table_backoff: u8,
    limits: Limits,
    rng: Rng,
    /// Attempts under way.
    running: usize,
    /// Checks that are due and wait for an attempt to end.
    waiting: VecDeque<CheckerSlot>,
    /// Services with operations under way.
    in_flight: usize,
    /// Services that wait for one of these to be answered.
    writes: VecDeque<ServiceSlot>,
    /// Many services change at once: changes that arrive meanwhile go first.
    bulk: bool,
    /// The kernel's answers about the services of the first configuration are not complete yet.
    beginning: bool,
    /// Services that the kernel refuses to create and that count as not served.
    unserved: BTreeSet<ServiceKey>,
    serial: u64,
    closing: probe::Closing,
    /// Services still to be removed from the kernel.
    leaving: BTreeSet<ServiceKey>,
    /// Detects changes that other programs make to the table.
    audit: Audit,
    /// Unanswered requests to the kernel.
    silence: Silence,
    /// The reported numbers of tracked files.
    files: BTreeMap<Name, i32>,
    /// The reported states of BFD sessions that have changed at least once.
    sessions: BTreeMap<Name, bool>,
    /// The addresses of this host as far as `ha_suspend` needs them; none if they are not known.
    addresses: Option<BTreeSet<IpAddr>>,
    /// Services whose checks are suspended.
    suspended: BTreeSet<ServiceSlot>,
    /// From an earlier process.
    owned: BTreeSet<ServiceKey>,
    /// The last stored list of our services included some that were about to be removed.
    owned_leaving: bool,
    /// Stopped before the table was read.
    leaving_early: bool,
    resumed: bool,
    resume: BTreeMap<ServiceId, ServiceSummary>,
    changed: bool,
    counters: Counters,
    /// The service being processed, for the log if its step panics.
    current: Option<ServiceSlot>,
    #[cfg(test)]
    panic_in: Option<ServiceKey>,
}

/// Limits on concurrent work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent attempts, at least 1. Each takes a file descriptor.
    pub probes: usize,
    /// Services with unanswered operations, at least 1. More do not go faster; fewer let urgent ones through
    /// sooner.
    pub writes: usize,
    /// Largest number of services that are read one by one when the table is compared; with more a list is read first.
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

/// The context of a step.
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
            services: Rows::new(),
            by_id: BTreeMap::new(),
            by_front: BTreeMap::new(),
            order: Vec::new(),
            checkers: Rows::new(),
            timers: Timers::default(),
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
            sessions: BTreeMap::new(),
            addresses: None,
            suspended: BTreeSet::new(),
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

    /// Processes one event and appends the resulting actions to `out`. `now` must not go back.
    ///
    /// A panic in here, which would be a defect, only takes the service out of use whose step panicked: its entries
    /// stay in the kernel unchanged.
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
        let due = [self.timers.earliest(), self.audit.due(), self.silence.due()];
        due.into_iter().flatten().min()
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
            Event::Report(report) => self.observed(moment, report),
            Event::Present(addresses) => self.present(moment, addresses),
            Event::Probed { probe, verdict } => self.probed(moment, probe, verdict),
            Event::Stop { keep_entries } => self.stop(moment, keep_entries),
        }
        self.finish(moment);
    }

    fn timer(&mut self, moment: &mut Moment<'_>) {
        // Refusals first: a burst of checks may follow and use up the slots for writes.
        while let Some(timer) = self.timers.pop(moment.now) {
            match (timer, &self.phase) {
                (Timer::Retry(slot), _) => self.retry(moment, slot),
                (Timer::Table, Phase::Reading { .. }) => self.unanswered(moment),
                (Timer::Table, _) => self.read_table(moment),
                // Last, see below.
                (Timer::Check(_), _) => {}
            }
        }
        if self.audit.due().is_some_and(|at| at <= moment.now) {
            self.audit_due(moment);
        }
        if self.silence.due().is_some_and(|at| at <= moment.now) {
            self.silent();
        }
        while let Some((slot, due)) = self.timers.pop_check(moment.now) {
            self.check_due(moment, slot, due);
        }
    }

    fn service(&self, slot: ServiceSlot) -> Option<&Service> {
        self.services.get(slot)
    }

    fn service_mut(&mut self, slot: ServiceSlot) -> Option<&mut Service> {
        self.services.get_mut(slot)
    }

    /// The configuration of a service; none for one that only has to be removed from the kernel.
    fn config_of<'c>(&self, config: &'c Lvs, slot: ServiceSlot) -> Option<&'c model::Service> {
        let position = self.service(slot)?.position?;
        config.services.get(position.index()).map(|service| &**service)
    }

    /// Begins a step of a service.
    fn enter(&mut self, slot: ServiceSlot) {
        self.current = Some(slot);
        #[cfg(test)]
        if self.panic_in.is_some_and(|key| self.by_front.get(&key) == Some(&slot)) {
            self.panic_in = None;
            panic!("provoked by a test");
        }
    }

    fn quarantine(&mut self, moment: &mut Moment<'_>) {
        let slot = self.current.take();
        let Some(service) = slot.and_then(|slot| self.services.get_mut(slot)) else {
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
        let checkers: Vec<CheckerSlot> =
            service.servers.iter().flat_map(|s| s.checkers.as_slice()).copied().collect();
        for checker in checkers {
            self.drop_attempt(moment, checker);
            self.timers.clear(Timer::Check(checker));
        }
        if let Some(slot) = slot {
            self.timers.clear(Timer::Retry(slot));
        }
    }
}

/// A position as it is stored.
fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
