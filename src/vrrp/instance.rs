//! The data of one virtual router. Its behaviour is in the other files of this folder; its state is only changed in
//! `transition`.

use core::net::IpAddr;
use core::time::Duration;

use super::auth::Sequences;
use super::event::InstanceId;
use super::garp::Announcing;
use super::group::{GroupId, Tally};
use super::health::{Health, OwnFaults};
use super::history::History;
use super::limit::{Corrections, LogLimits};
use super::peer::Senders;
use super::registry::Key;
use super::timing;
use crate::base::{IfIndex, Instant};
use crate::model;
use crate::model::vrrp::{InitialState, Preempt, Priority, Version};
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

/// The same for lines that other routers on the segment cause: however many there are, no other line is lost.
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

/// A running virtual router.
#[derive(Debug)]
pub(super) struct Instance {
    pub id: InstanceId,
    pub config: model::Instance,
    /// The advertised addresses, as they go into the packet.
    pub advertised: Vec<IpAddr>,
    /// The state with its deadline. Only set by [`Instance::set_machine`] and [`Instance::set_deadline`].
    machine: Machine,
    /// When the machine entered its state.
    pub since: Instant,
    /// Index of the interface, while it exists.
    pub link: Option<IfIndex>,
    /// Index of the interface that is created for it (`use_vmac`), while it exists.
    pub upper: Option<IfIndex>,
    /// That interface is still being created or brought up.
    pub awaits_upper: bool,
    /// Source address of the adverts, while there is one.
    pub source: Option<IpAddr>,
    /// What it receives now, see `Engine::listen`.
    pub listening: Option<Key>,
    /// What it also receives on `upper`, see `Instance::overhears`.
    pub overhearing: Option<Key>,
    /// For each unicast peer whether it uses the old form of the version 3 checksum.
    pub old_checksums: Vec<bool>,
    /// Interface and source of the last advert: a farewell may have to be sent after they are cleared.
    pub last_sent_from: Option<(IfIndex, IpAddr)>,
    pub group: Option<GroupId>,
    /// Its contribution to the group's counters.
    pub counted: Tally,
    /// A member of a group whose master-down timer expired and that waits for the other members.
    pub willing: bool,
    pub effective_priority: u8,
    /// Interval of the master learned from its adverts (version 3), else our own.
    pub master_interval: Duration,
    /// The last router followed, and its priority.
    pub master: Option<(IpAddr, u8)>,
    /// Until when a master of lower priority is tolerated.
    pub preempt_at: Option<Instant>,
    /// Addresses that existed before it took part stay until a master is heard. Missing ones are not added.
    pub retained: bool,
    /// A router that advertises a different number of addresses.
    pub disagreement: Option<Disagreement>,
    /// What this instance tracks, including for its group.
    pub references: Vec<Reference>,
    /// The combined effect of all of them.
    pub standing: Standing,
    pub own_faults: OwnFaults,
    /// Octets of a received packet's queue that it requires.
    pub receive_buffer: u32,
    /// It is queued for a later slice.
    pub queued: bool,
    /// The objects it wants in the kernel while it is master: virtual addresses, advertised ones first, then routes.
    pub entries: Vec<ObjectId>,
    /// Number of them that the kernel has not yet answered.
    pub in_flight: u32,
    /// Position of an address that was not permanently refused at the last check.
    pub witness: usize,
    pub announcing: Announcing,
    /// It was master in the previous process of this role.
    pub was_master: bool,
    /// A state to announce when the kernel has answered for all addresses.
    pub unannounced: Option<State>,
    /// The state last announced to notify scripts.
    pub announced: Option<State>,
    /// The state last announced by mail.
    pub mailed: Option<State>,
    /// Identification field of the last IPv4 packet.
    pub packet_id: u16,
    /// Sequence numbers of authenticated adverts.
    pub sequences: Sequences,
    /// The routers that it has heard.
    pub senders: Senders,
    /// Why it changed its state.
    pub history: History,
    /// Log lines that other routers caused.
    pub log_limits: LogLimits,
    /// Answers to masters of lower priority.
    pub corrections: Corrections,
    /// The kernel refused every address: it does not take part until then.
    pub held_down_until: Option<Instant>,
    /// How often in a row that has happened.
    pub hold_downs: u8,
    /// A step of this instance panicked: it does not take part again.
    pub quarantined: bool,
    pub counters: Counters,
}

/// The state with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// Not started, or waiting for the first results of scripts.
    Init,
    /// Waiting until the master has been silent for long enough.
    Backup {
        /// When the master-down timer expires.
        master_down: Instant,
    },
    /// Sending adverts.
    Master {
        /// When the next advert is due.
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
    /// Consecutive adverts, each about one interval after the previous one.
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
            receive_buffer: 0,
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
            senders: Senders::default(),
            history: History::default(),
            log_limits: LogLimits::default(),
            corrections: Corrections::default(),
            held_down_until: None,
            hold_downs: 0,
            quarantined: false,
            counters: Counters::default(),
        }
    }

    pub const fn machine(&self) -> Machine {
        self.machine
    }

    /// Sets the state. Only for [`super::Engine::enter`].
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

    /// Whether it owns its addresses and does not wait for another master when it starts.
    pub fn owns_and_starts(&self) -> bool {
        self.config.priority == Priority::OWNER && self.config.state == InitialState::Master
    }

    /// Whether its addresses may be on their interfaces.
    pub const fn holds_addresses(&self) -> bool {
        self.is_master() || self.retained
    }

    /// What it should receive in its current state: packets to its group or, for unicast, to its source.
    pub fn hears(&self) -> Option<Key> {
        let destination = match self.config.unicast() {
            None => Some(self.config.destination),
            Some(_) => self.source,
        };
        let (link, destination) = self.link.zip(destination)?;
        Some((link, self.config.vrid, destination))
    }

    /// What it should receive on the interface that is created for it. The kernel delivers a frame whose source is the
    /// virtual MAC, such as an advert of another router that uses it, only to our interface with that address.
    pub fn overhears(&self) -> Option<Key> {
        let group = self.config.unicast().is_none().then_some(self.config.destination);
        let (link, group) = self.upper.zip(group)?;
        Some((link, self.config.vrid, group))
    }

    /// The interface that sends its adverts, while it exists.
    pub fn outlet(&self) -> Option<IfIndex> {
        if self.config.sends_by_own_link() { self.upper } else { self.link }
    }

    /// Whether it can take part.
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

    /// In version 3 the master determines the interval (RFC 9568 6.4.2).
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
