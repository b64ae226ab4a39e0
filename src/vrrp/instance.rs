//! The data of one virtual router. What happens to it is in the other files of this folder; its state changes
//! in `transition` only.

use core::net::IpAddr;
use core::time::Duration;

use super::auth::Sequences;
use super::event::InstanceId;
use super::garp::Announcing;
use super::group::{GroupId, Tally};
use super::health::{Health, OwnFaults};
use super::limit::{Corrections, Lines};
use super::registry::Key;
use super::timing;
use crate::base::{IfIndex, Instant};
use crate::model;
use crate::model::vrrp::{Preempt, Version};
use crate::plan::ObjectId;
use crate::status::vrrp::{Counters, State};
use crate::track::{Reference, Standing};

/// Logs a line of an instance with the fields that the journal keeps, in the form users grep for.
macro_rules! say {
    ($level:ident, $instance:expr, $($text:tt)+) => {{
        let instance = &$instance;
        tracing::$level!(
            instance = %instance.config.name,
            vrid = instance.config.vrid.get(),
            state = instance.state().word(),
            "VRRP_Instance({}) {}", instance.config.name, format_args!($($text)+)
        );
    }};
}
pub(super) use say;

/// The same for lines that others on the segment cause: however many these are, no other line is lost.
macro_rules! peer {
    ($level:ident, $instance:expr, $($text:tt)+) => {{
        let instance = &$instance;
        tracing::$level!(
            target: crate::status::PEER,
            instance = %instance.config.name,
            vrid = instance.config.vrid.get(),
            state = instance.state().word(),
            "VRRP_Instance({}) {}", instance.config.name, format_args!($($text)+)
        );
    }};
}
pub(super) use peer;

/// One virtual router at work.
#[derive(Debug)]
pub(super) struct Instance {
    pub id: InstanceId,
    pub config: model::Instance,
    /// The advertised addresses, as they go into the packet.
    pub advertised: Vec<IpAddr>,
    /// The state, with its deadline. Set by [`Instance::set_machine`] and [`Instance::set_deadline`] alone.
    machine: Machine,
    /// When the machine entered its state.
    pub since: Instant,
    /// The interface as the kernel numbers it, while it exists.
    pub link: Option<IfIndex>,
    /// The interface that is made for it (`use_vmac`), while it exists.
    pub upper: Option<IfIndex>,
    /// That one is not there yet, or not up: it is being made.
    pub awaits_upper: bool,
    /// Source of the adverts, while there is one.
    pub source: Option<IpAddr>,
    /// What it hears now, see `Engine::listen`.
    pub listening: Option<Key>,
    /// What it hears besides on that interface, see `Instance::overhears`.
    pub overhearing: Option<Key>,
    /// For each unicast peer whether it uses the old form of the version 3 checksum.
    pub old_checksums: Vec<bool>,
    /// Interface and source of the last advert: a farewell may have to leave when they are cleared already.
    pub last_sent_from: Option<(IfIndex, IpAddr)>,
    pub group: Option<GroupId>,
    /// What the group counted of it last.
    pub counted: Tally,
    /// A member of a group whose silence lasted long enough, waiting for the other members.
    pub willing: bool,
    /// Priority in force.
    pub effective_priority: u8,
    /// Interval of the master as learned from its adverts (version 3), else our own.
    pub master_interval: Duration,
    /// The last router followed, and its priority.
    pub master: Option<(IpAddr, u8)>,
    /// Until when a master of lower priority is tolerated.
    pub preempt_at: Option<Instant>,
    /// Addresses that were on their interfaces before it took part stay there until a master is heard. What is
    /// not there is not added for that.
    pub retained: bool,
    /// A router that advertises another number of addresses.
    pub disagreement: Option<Disagreement>,
    /// What is tracked for this instance, for its group included.
    pub references: Vec<Reference>,
    /// What all of them come to.
    pub standing: Standing,
    /// What of its own keeps it from taking part.
    pub own_faults: OwnFaults,
    /// It waits to be looked at in a later slice.
    pub queued: bool,
    /// What it wants in the kernel while it is master: its virtual addresses, advertised ones first, then its routes.
    pub entries: Vec<ObjectId>,
    /// How many of them the kernel has not answered for.
    pub in_flight: u32,
    /// Position of an address that was not refused for good when that was asked last.
    pub witness: usize,
    pub announcing: Announcing,
    /// The last process of this role left it as master.
    pub was_master: bool,
    /// A state that is to be announced when the kernel has answered for all addresses.
    pub unannounced: Option<State>,
    /// What notify scripts heard last.
    pub announced: Option<State>,
    /// What mail recipients heard last.
    pub mailed: Option<State>,
    /// Identification of the last IPv4 packet.
    pub packet_id: u16,
    /// Sequence numbers of authenticated adverts.
    pub sequences: Sequences,
    /// Lines that others caused.
    pub lines: Lines,
    /// Answers to masters of lower priority.
    pub corrections: Corrections,
    /// The kernel refused every address: takes no part until then.
    pub held_down_until: Option<Instant>,
    /// A step of this instance panicked: it takes no part any more.
    pub quarantined: bool,
    pub counters: Counters,
}

/// The state with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// Not started, or waiting for the first results of scripts.
    Init,
    /// Waiting for the silence of a master.
    Backup {
        /// When it has lasted long enough.
        master_down: Instant,
    },
    /// Sending adverts.
    Master {
        /// When the next one is due.
        next_advert: Instant,
    },
    /// Unable to take part.
    Fault,
}

/// A router whose adverts are valid but for the number of addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disagreement {
    pub source: IpAddr,
    pub last: Instant,
    /// Adverts in a row, each about one interval after the one before.
    pub streak: u32,
}

impl Instance {
    pub fn new(id: InstanceId, config: model::Instance, now: Instant) -> Self {
        let priority = config.priority.get();
        let master_interval = config.advert_int;
        let old_checksums = vec![false; config.unicast().map_or(0, |u| u.peers.len())];
        let advertised = config.addresses.iter().map(|a| a.prefix.address).collect();
        Self {
            id,
            config,
            advertised,
            machine: Machine::Init,
            since: now,
            link: None,
            upper: None,
            awaits_upper: false,
            source: None,
            listening: None,
            overhearing: None,
            old_checksums,
            last_sent_from: None,
            group: None,
            counted: Tally::default(),
            willing: false,
            effective_priority: priority,
            master_interval,
            master: None,
            preempt_at: None,
            retained: false,
            disagreement: None,
            references: Vec::new(),
            standing: Standing::default(),
            own_faults: OwnFaults::default(),
            queued: false,
            entries: Vec::new(),
            in_flight: 0,
            witness: 0,
            announcing: Announcing::default(),
            was_master: false,
            unannounced: None,
            announced: None,
            mailed: None,
            packet_id: 0,
            sequences: Sequences::default(),
            lines: Lines::default(),
            corrections: Corrections::default(),
            held_down_until: None,
            quarantined: false,
            counters: Counters::default(),
        }
    }

    pub const fn machine(&self) -> Machine {
        self.machine
    }

    /// Sets the state. For [`super::Engine::enter`], the one way from state to state.
    pub const fn set_machine(&mut self, machine: Machine) {
        self.machine = machine;
    }

    /// Sets when the timer of the protocol is due in the present state. False in a state without such a timer.
    pub const fn set_deadline(&mut self, at: Instant) -> bool {
        match &mut self.machine {
            Machine::Backup { master_down: due } | Machine::Master { next_advert: due } => {
                *due = at;
                true
            }
            Machine::Init | Machine::Fault => false,
        }
    }

    pub const fn state(&self) -> State {
        match self.machine {
            Machine::Init => State::Init,
            Machine::Backup { .. } => State::Backup,
            Machine::Master { .. } => State::Master,
            Machine::Fault => State::Fault,
        }
    }

    pub const fn is_master(&self) -> bool {
        matches!(self.machine, Machine::Master { .. })
    }

    /// Whether addresses of it may be on their interfaces.
    pub const fn holds_addresses(&self) -> bool {
        self.is_master() || self.retained
    }

    /// What it is to hear as it is now: what is sent to its group or, by unicast, to its source.
    pub fn hears(&self) -> Option<Key> {
        let destination = match self.config.unicast() {
            None => Some(self.config.destination),
            Some(_) => self.source,
        };
        let (link, destination) = self.link.zip(destination)?;
        Some((link, self.config.vrid, destination))
    }

    /// What it is to hear on the interface that is made for it. A frame whose source is the virtual MAC, as the adverts
    /// of another router that uses it are, is handed by the kernel to our interface of that address, and to no other.
    pub fn overhears(&self) -> Option<Key> {
        let group = self.config.unicast().is_none().then_some(self.config.destination);
        let (link, group) = self.upper.zip(group)?;
        Some((link, self.config.vrid, group))
    }

    /// The interface by which its adverts leave, while it exists.
    pub fn outlet(&self) -> Option<IfIndex> {
        if self.config.sends_by_own_link() { self.upper } else { self.link }
    }

    /// What it is able to do.
    pub fn health(&self) -> Health {
        if self.own_faults.any() || self.standing.faults > 0 {
            Health::Unfit
        } else if self.standing.unknown > 0 || self.awaits_upper {
            Health::Unknown
        } else {
            Health::Fit
        }
    }

    /// How long to wait for a silent master.
    pub fn master_down(&self) -> Duration {
        let c = &self.config;
        timing::master_down(
            c.version,
            c.down_timer_adverts,
            self.effective_priority,
            self.master_interval,
        )
    }

    pub fn skew(&self) -> Duration {
        timing::skew(self.config.version, self.effective_priority, self.master_interval)
    }

    /// Version 3 lets the master decide about the interval (RFC 9568 6.4.2).
    pub fn learn_interval(&mut self, interval: Duration) {
        if self.config.version == Version::V3
            && !interval.is_zero()
            && self.master_interval != interval
        {
            say!(
                debug,
                *self,
                "advertisement interval updated from {}ms to {}ms by master",
                self.master_interval.as_millis(),
                interval.as_millis()
            );
            self.master_interval = interval;
        }
    }

    /// Whether a master of lower priority is to be followed at `now`.
    pub fn tolerates_lower(&self, now: Instant) -> bool {
        match self.config.preempt {
            Preempt::Never => true,
            Preempt::After(_) => self.preempt_at.is_some_and(|at| now < at),
        }
    }
}
