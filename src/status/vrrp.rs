//! Views of the VRRP engine.

use core::net::IpAddr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{IfIndex, IfName, Instant, Name, Prefix};
use crate::model::link::Setting;
use crate::model::vrrp::Vrid;

/// States of an instance and of a group, by keepalived's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// Not started yet, or waiting for the first result of a script.
    Init,
    /// Listening to a master, or waiting for its silence to last long enough.
    Backup,
    /// Holding the addresses.
    Master,
    /// Not able to take part.
    Fault,
}

impl State {
    /// `INIT`, `BACKUP`, `MASTER` or `FAULT`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Backup => "BACKUP",
            Self::Master => "MASTER",
            Self::Fault => "FAULT",
        }
    }
}

impl core::fmt::Display for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.word())
    }
}

/// The state of the VRRP role that the supervisor stores, so that a restarted role continues where the previous one
/// stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Time of the view.
    pub at: Instant,
    pub instances: Vec<InstanceSummary>,
    pub groups: Vec<GroupSummary>,
    /// What is known about scripts, files, processes and sessions, so that the next process need not wait for it.
    pub trackers: Vec<Tracker>,
    /// Configured names and the interface that each refers to: it may have a different name, now or when the next
    /// process looks it up.
    pub interfaces: Vec<(IfName, IfIndex)>,
    /// Original values of changed interface settings.
    pub settings: Vec<(IfName, Setting, u32)>,
    /// What `net.ipv4.igmp_link_local_mcast_reports` was before it was changed.
    pub reports: Option<u32>,
}

impl Summary {
    /// Joins this part of a summary with the next one; the time is that of the first part.
    #[must_use]
    pub fn joined(mut self, next: Self) -> Self {
        let Self { at: _, instances, groups, trackers, interfaces, settings, reports } = next;
        let mut instances = instances.into_iter();
        if let Some(begun) = self.instances.last_mut()
            && instances.as_slice().first().is_some_and(|one| one.name == begun.name)
            && let Some(rest) = instances.next()
        {
            begun.own.extend(rest.own);
        }
        self.instances.extend(instances);
        self.groups.extend(groups);
        self.trackers.extend(trackers);
        self.interfaces.extend(interfaces);
        self.settings.extend(settings);
        self.reports = self.reports.or(reports);
        self
    }
}

/// One instance in a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSummary {
    pub name: Name,
    pub state: State,
    /// The state it announced last, so that it is not announced twice.
    pub announced: Option<State>,
    /// Virtual addresses that are the interface's own, not to be removed.
    pub own: Vec<Prefix>,
    pub ah: AhSummary,
    /// The sequence of the last HMAC trailer heard from each sender, and when it was heard.
    pub heard: Vec<(IpAddr, u64, Instant)>,
}

/// AH sequence numbers of an instance in a [`Summary`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AhSummary {
    /// The last one, sent or heard.
    pub last: u32,
    /// The highest one that earlier processes may have used.
    pub used: u32,
    /// The time of the report.
    pub at: Instant,
}

/// One group in a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSummary {
    pub name: Name,
    /// The state it announced last, so that it is not announced twice.
    pub announced: Option<State>,
}

/// A full view of the VRRP engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vrrp {
    /// Version of this form; it increases when a field is removed or changes its meaning.
    pub schema: u32,
    /// Time of the view.
    pub at: Instant,
    /// The instances, in the order of the configuration.
    pub instances: Vec<Instance>,
    pub groups: Vec<Group>,
    /// What is tracked by name: scripts, files, processes, BFD sessions.
    pub trackers: Vec<Tracker>,
    /// Adverts received for a VRID that no instance has.
    pub unknown_vrid: u64,
    /// Packets of IP protocol 112 that belong to no instance.
    pub malformed: u64,
}

impl Vrrp {
    /// Joins this part of a view with the next one; counters are those of the next one. An instance at the end of this
    /// part and the beginning of the next one is one, with the kernel objects of both.
    #[must_use]
    pub fn joined(mut self, next: Self) -> Self {
        let Self { schema, at, instances, groups, trackers, unknown_vrid, malformed } = next;
        (self.schema, self.at) = (schema, at);
        let mut instances = instances.into_iter();
        if let Some(begun) = self.instances.last_mut()
            && instances.as_slice().first().is_some_and(|one| one.name == begun.name)
            && let Some(rest) = instances.next()
        {
            begun.objects_present += rest.objects_present;
            begun.objects_missing.extend(rest.objects_missing);
            begun.addresses_held.extend(rest.addresses_held);
        }
        self.instances.extend(instances);
        self.groups.extend(groups);
        self.trackers.extend(trackers);
        (self.unknown_vrid, self.malformed) = (unknown_vrid, malformed);
        self
    }
}

/// View of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub name: Name,
    pub interface: IfName,
    pub vrid: Vrid,
    pub state: State,
    /// When it entered the state.
    pub since: Instant,
    /// Configured priority.
    pub priority: u8,
    pub effective_priority: u8,
    /// The master it hears.
    pub master: Option<IpAddr>,
    /// The priority of that master's adverts.
    pub master_priority: Option<u8>,
    /// The interval of that master's adverts; its own if it hears none.
    pub master_interval: Duration,
    /// Why it is in FAULT, in words; empty otherwise.
    pub faults: Vec<String>,
    /// Number of addresses, routes and other objects that it adds to the kernel as master.
    pub objects_wanted: usize,
    /// Number of them that exist now.
    pub objects_present: usize,
    /// Objects that the kernel refuses or that wait for something.
    pub objects_missing: Vec<MissingObject>,
    /// Its addresses that exist now on their interfaces.
    pub addresses_held: Vec<Prefix>,
    pub counters: Counters,
}

/// An object that is not in the kernel as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingObject {
    /// Its description: `address 10.0.0.100/24 on eth0`.
    pub object: String,
    pub reason: Missing,
}

/// Why an object is not in the kernel as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// The kernel refuses it.
    Refused {
        /// Its error number; 0 when another program keeps removing the object.
        errno: i32,
        /// Number of consecutive attempts.
        attempts: u32,
        /// When the next one is made.
        retry_at: Instant,
    },
    /// An interface does not exist.
    NoInterface(IfName),
    /// An interface is not the device of a VRF.
    NoVrf(IfName),
    /// A virtual address that it depends on does not exist.
    NoAddress(IpAddr),
    /// The table of packet filters that it belongs to does not exist.
    NoTable {
        /// Its name.
        table: String,
        /// The error number with which the kernel refuses it; 0 if it was not requested yet.
        errno: i32,
    },
}

/// View of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub name: Name,
    pub state: State,
}

/// What is tracked by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TrackerKind {
    /// A `vrrp_script`.
    Script,
    /// A `track_file`.
    File,
    /// A `vrrp_track_process`.
    Process,
    /// A `bfd_instance`.
    Bfd,
}

impl TrackerKind {
    /// All kinds, in the order of views. A kind without a successor does not compile.
    pub fn all() -> impl Iterator<Item = Self> {
        core::iter::successors(Some(Self::Script), |kind| match kind {
            Self::Script => Some(Self::File),
            Self::File => Some(Self::Process),
            Self::Process => Some(Self::Bfd),
            Self::Bfd => None,
        })
    }

    /// `script`, `file`, `process` or `bfd`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::File => "file",
            Self::Process => "process",
            Self::Bfd => "bfd",
        }
    }
}

/// View of one thing that is tracked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracker {
    pub kind: TrackerKind,
    pub name: Name,
    /// Whether it is good; none before its first result, and of a file.
    pub good: Option<bool>,
    /// The number in a file, or of processes that run.
    pub value: Option<i64>,
}

/// Counters of one instance since the role started. RFC 6527 and keepalived name the same things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Valid adverts.
    pub adverts_received: u64,
    pub adverts_sent: u64,
    /// Adverts that the socket refused.
    pub adverts_unsent: u64,
    /// Times it became master.
    pub became_master: u64,
    /// Times it left master.
    pub released_master: u64,
    /// Valid adverts of priority 0.
    pub priority_zero_received: u64,
    /// Adverts of priority 0 sent.
    pub priority_zero_sent: u64,
    /// Addresses, routes and other objects restored because another program had removed them.
    pub objects_restored: u64,
    /// Refused: TTL or hop limit not 255.
    pub bad_ttl: u64,
    /// Refused: another version.
    pub bad_version: u64,
    /// Refused: not an advert.
    pub bad_type: u64,
    /// Refused: checksum.
    pub bad_checksum: u64,
    /// Refused: shorter or longer than its header says.
    pub bad_length: u64,
    /// Refused: authentication type unknown.
    pub bad_auth_type: u64,
    /// Refused: authentication type differs from ours.
    pub auth_mismatch: u64,
    /// Refused: wrong password.
    pub auth_failure: u64,
    /// Refused: number of addresses differs from ours.
    pub bad_address_count: u64,
    /// Accepted, but the list of addresses differs from ours.
    pub address_list_mismatch: u64,
    /// Refused: interval differs from ours (version 2).
    pub bad_interval: u64,
    /// Refused: wrong destination address.
    pub bad_destination: u64,
    /// Ignored: we own the addresses and are configured to ignore others.
    pub ignored_as_owner: u64,
    /// Refused: unicast from a router that is not a peer.
    pub not_a_peer: u64,
    /// Refused: no authentication trailer.
    pub auth_missing: u64,
    /// Refused: authentication trailer of an unknown form.
    pub auth_malformed: u64,
    /// Refused: authentication trailer with an unknown key.
    pub auth_unknown_key: u64,
    /// Refused: wrong HMAC in the authentication trailer.
    pub auth_invalid_hmac: u64,
    /// Refused: authentication trailer outside the time window.
    pub auth_stale: u64,
    /// Refused: replayed authentication trailer.
    pub auth_replay: u64,
}

impl Counters {
    /// Packets that were dropped, by reason.
    #[must_use]
    pub const fn dropped(&self) -> [(&'static str, u64); 19] {
        [
            ("wrong TTL", self.bad_ttl),
            ("wrong version", self.bad_version),
            ("wrong type", self.bad_type),
            ("wrong checksum", self.bad_checksum),
            ("wrong length", self.bad_length),
            ("unknown authentication", self.bad_auth_type),
            ("other authentication", self.auth_mismatch),
            ("wrong password", self.auth_failure),
            ("wrong address count", self.bad_address_count),
            ("wrong interval", self.bad_interval),
            ("wrong destination", self.bad_destination),
            ("own addresses", self.ignored_as_owner),
            ("not a peer", self.not_a_peer),
            ("missing trailer", self.auth_missing),
            ("malformed trailer", self.auth_malformed),
            ("unknown key", self.auth_unknown_key),
            ("wrong HMAC", self.auth_invalid_hmac),
            ("stale trailer", self.auth_stale),
            ("replayed trailer", self.auth_replay),
        ]
    }
}
