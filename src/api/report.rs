//! The report of the state as JSON, built from the views of the processes. Pure. Its schema, `docs/status.schema.json`,
//! is generated from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SCHEMA;
use super::rounds::Party;
use crate::base::{Instant, WallTime};
use crate::status::cause::Histories;
use crate::status::peer::Peers;
use crate::status::{check, daemon, vrrp};

/// The part of one process.
#[derive(Debug)]
pub enum Part<T> {
    /// There is no such process.
    Absent,
    /// It did not answer, for this reason.
    Unknown(String),
    /// Its view.
    Known(Box<T>),
}

/// The parts of all processes.
#[derive(Debug)]
pub struct Parts {
    /// The supervisor.
    pub daemon: Part<daemon::Daemon>,
    /// The role `vrrp`.
    pub vrrp: Part<vrrp::Vrrp>,
    /// The role `checker`.
    pub checker: Part<check::Check>,
    /// The role `vrrp` about the routers that it hears.
    pub peers: Part<Peers>,
    /// The role `vrrp` about why its instances are in their states.
    pub causes: Part<Histories>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            daemon: Part::Absent,
            vrrp: Part::Absent,
            checker: Part::Absent,
            peers: Part::Absent,
            causes: Part::Absent,
        }
    }
}

impl Parts {
    /// Notes that a party does not run or, with a reason, did not answer.
    pub fn absent(&mut self, party: Party, reason: Option<&str>) {
        fn settle<T>(part: &mut Part<T>, reason: Option<&str>) {
            *part = reason.map_or(Part::Absent, |reason| Part::Unknown(reason.into()));
        }
        match party {
            Party::Supervisor => settle(&mut self.daemon, reason),
            Party::Vrrp => {
                settle(&mut self.vrrp, reason);
                settle(&mut self.peers, reason);
                settle(&mut self.causes, reason);
            }
            Party::Checker => settle(&mut self.checker, reason),
        }
    }

    /// Whether the configuration needs this process, as far as the supervisor has answered.
    #[must_use]
    pub fn wants(&self, role: &str) -> bool {
        match &self.daemon {
            Part::Known(daemon) => daemon.processes.iter().any(|p| p.role == role && p.wanted),
            _ => false,
        }
    }
}

/// The state of the daemon. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this form; it increases when a field is removed or changes its meaning.
    pub schema: u32,
    /// When the report was made.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// The daemon as a whole.
    pub daemon: Answer<Daemon>,
    /// Virtual routers; null if the configuration has none.
    pub vrrp: Option<Answer<Vrrp>>,
    /// Virtual servers; null if the configuration has none.
    pub checker: Option<Answer<Checker>>,
}

/// The answer of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "{T}Answer")]
pub enum Answer<T> {
    /// No answer in time.
    Unknown {
        /// The reason, for example `vrrp did not answer in 1 s`.
        unknown: String,
    },
    /// Its view.
    Known(T),
}

impl<T> Answer<T> {
    /// The answer, if there is one.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(known) => Some(known),
            Self::Unknown { .. } => None,
        }
    }
}

/// Whether a process that is wanted has answered.
pub fn is_known<T>(answer: Option<&Answer<T>>) -> bool {
    answer.is_none_or(|answer| answer.known().is_some())
}

/// The daemon as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Daemon {
    /// Version of the program.
    pub version: String,
    /// Process id of the supervisor, the one to send signals to.
    pub pid: u32,
    /// When it started.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// The configuration in force; null while the first one is being read.
    pub configuration: Option<Configuration>,
    /// Whether a reload is under way.
    pub reloading: bool,
    /// Reloads that have ended since the daemon started.
    #[serde(default)]
    pub reloads: u32,
    /// How the last reload ended; null if there was none.
    pub last_reload: Option<Reload>,
    /// The processes of the daemon, except the supervisor.
    pub processes: Vec<Process>,
}

/// A configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Configuration {
    /// The file, or the pattern for several.
    pub file: String,
    /// Number of the configuration since the daemon started, from 1.
    pub generation: u32,
    /// When it was read.
    #[schemars(extend("format" = "date-time"))]
    pub read: String,
    /// Number of its errors for which something is left out.
    pub left_out: usize,
    /// The first error, or else the first warning; null if there is none.
    pub first_problem: Option<String>,
}

/// The end of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reload {
    /// When it ended.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Why the previous configuration stayed in force; null if the new one came into force.
    pub refused: Option<String>,
}

/// A process of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// `vrrp`, `checker`, `runner` or `api`.
    pub role: String,
    /// Whether the configuration needs it.
    pub wanted: bool,
    /// Its process id; null if it does not run.
    pub pid: Option<i32>,
    /// When it started; null if it does not run.
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// Number of starts of this kind of process.
    pub starts: u32,
}

/// Virtual routers and what they depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vrrp {
    /// The instances, in the order of the configuration.
    pub instances: Vec<Instance>,
    /// The sync groups.
    pub groups: Vec<Group>,
    /// What instances and groups track.
    pub trackers: Vec<Tracker>,
    /// Adverts received for a VRID that no instance has.
    pub unknown_vrid: u64,
    /// Packets of IP protocol 112 that belong to no instance.
    pub malformed: u64,
}

/// A state of an instance or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Not started yet, or waiting for the first result of a script.
    Init,
    /// Listening to a master, or waiting for the master-down timer.
    Backup,
    /// Holding the addresses.
    Master,
    /// Not able to take part.
    Fault,
}

impl From<vrrp::State> for State {
    fn from(state: vrrp::State) -> Self {
        match state {
            vrrp::State::Init => Self::Init,
            vrrp::State::Backup => Self::Backup,
            vrrp::State::Master => Self::Master,
            vrrp::State::Fault => Self::Fault,
        }
    }
}

/// A virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Its virtual router id.
    pub vrid: u8,
    /// Its state.
    pub state: State,
    /// When it entered the state.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// The configured priority.
    pub priority: u8,
    /// The effective priority: trackers may change it.
    pub effective_priority: u8,
    /// Address of the current master; null if it is the master itself or hears none.
    pub master: Option<String>,
    /// Why it is in FAULT; empty otherwise.
    pub faults: Vec<String>,
    /// Number of addresses, routes and other objects that it adds to the kernel as master.
    pub objects_wanted: usize,
    /// Number of them that exist now.
    pub objects_held: usize,
    /// Objects that the kernel refuses or that wait for something.
    pub objects_missing: Vec<Missing>,
    /// Its counters since the process started, by name.
    pub counters: BTreeMap<String, u64>,
}

/// An address, route or other object that is not in the kernel as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// `address 10.0.0.100/24 on eth0`, for example.
    pub object: String,
    /// The kernel's answer, or what is waited for.
    pub reason: String,
}

/// A sync group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
}

/// A tracked object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tracker {
    /// `script`, `file`, `process` or `bfd`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it is good; null before its first result, and of a file.
    pub good: Option<bool>,
    /// The number in a file, or of the processes that run; null where there is none.
    pub value: Option<i64>,
}

/// Virtual servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checker {
    /// Whether the kernel's table of virtual servers can be used: `reading`, `ready` or `unavailable`.
    pub ipvs: String,
    /// Why it is unavailable; null otherwise.
    pub ipvs_error: Option<String>,
    /// The services, in the order of the configuration.
    pub services: Vec<Service>,
    /// Counters since the process started, by name.
    pub counters: BTreeMap<String, u64>,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// For example `[10.0.0.1]:tcp:80` or `FWM 123`.
    pub name: String,
    /// Whether its quorum is reached.
    pub up: bool,
    /// When this began.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Weight of the servers in service.
    pub weight: u64,
    /// Weight at which it is up.
    pub quorum: u32,
    /// Whether the sorry server is in service.
    pub sorry: bool,
    /// Whether its checks wait for its address to be on this host (`ha_suspend`).
    #[serde(default)]
    pub suspended: bool,
    /// Why the kernel refuses it; null if it does not.
    pub refused: Option<String>,
    /// Its real servers, in the order of the configuration.
    pub servers: Vec<Server>,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    /// Address and port.
    pub address: String,
    /// Whether it is in service.
    pub up: bool,
    /// When this began.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Its weight while it is in service.
    pub weight: u32,
    /// Its weight in the kernel's table; null if it has no entry.
    pub kernel_weight: Option<u32>,
    /// Why the kernel refuses it; null if it does not.
    pub refused: Option<String>,
    /// Its checks.
    pub checks: Vec<Check>,
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Its keyword, as in `TCP_CHECK`.
    pub kind: String,
    /// Whether it finds the server good.
    pub up: bool,
    /// How its last attempt ended; null before the first.
    pub last_result: Option<String>,
    /// Consecutive failed attempts that have not taken the server down yet.
    pub failed_attempts: u32,
}

/// The clocks of one moment.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Since the machine started.
    pub now: Instant,
    /// Of the day.
    pub wall: WallTime,
}

impl Clocks {
    /// A time of the machine's clock, as RFC 3339.
    #[must_use]
    pub fn time(&self, at: Instant) -> String {
        self.wall.before(self.now.since(at)).to_string()
    }
}

/// Builds the report.
#[must_use]
pub fn report(parts: &Parts, clocks: Clocks) -> Report {
    let daemon = match &parts.daemon {
        Part::Known(view) => Answer::Known(clocks.daemon(view)),
        Part::Unknown(why) => Answer::Unknown { unknown: why.clone() },
        Part::Absent => Answer::Unknown { unknown: "the supervisor is gone".into() },
    };
    Report {
        schema: SCHEMA,
        at: clocks.wall.to_string(),
        daemon,
        vrrp: answer(&parts.vrrp, "vrrp", parts.wants("vrrp"), |view| clocks.vrrp(view)),
        checker: answer(&parts.checker, "checker", parts.wants("checker"), |view| {
            clocks.checker(view)
        }),
    }
}

/// The answer of a process; none if there is no such process and the configuration needs none.
pub(super) fn answer<T, U>(
    part: &Part<T>,
    role: &str,
    wanted: bool,
    known: impl FnOnce(&T) -> U,
) -> Option<Answer<U>> {
    match part {
        Part::Known(view) => Some(Answer::Known(known(view))),
        Part::Unknown(why) => Some(Answer::Unknown { unknown: why.clone() }),
        Part::Absent if wanted => {
            Some(Answer::Unknown { unknown: format!("the {role} process does not run now") })
        }
        Part::Absent => None,
    }
}

impl Clocks {
    fn daemon(&self, view: &daemon::Daemon) -> Daemon {
        let configuration = view.configuration.as_ref().map(|c| Configuration {
            file: c.file.clone(),
            generation: c.generation,
            read: self.time(c.read),
            left_out: c.left_out,
            first_problem: c.first_problem.clone(),
        });
        let last_reload = view.last_reload.as_ref();
        Daemon {
            version: view.version.clone(),
            pid: view.pid,
            since: self.time(view.since),
            configuration,
            reloading: view.reloading,
            reloads: view.reloads,
            last_reload: last_reload
                .map(|r| Reload { at: self.time(r.at), refused: r.refused.clone() }),
            processes: view
                .processes
                .iter()
                .map(|p| Process {
                    role: p.role.clone(),
                    wanted: p.wanted,
                    pid: p.pid,
                    since: p.since.map(|since| self.time(since)),
                    starts: p.starts,
                })
                .collect(),
        }
    }

    fn vrrp(&self, view: &vrrp::Vrrp) -> Vrrp {
        Vrrp {
            instances: view.instances.iter().map(|i| self.instance(i)).collect(),
            groups: view
                .groups
                .iter()
                .map(|g| Group { name: g.name.to_string(), state: g.state.into() })
                .collect(),
            trackers: view
                .trackers
                .iter()
                .map(|t| Tracker {
                    kind: t.kind.word().into(),
                    name: t.name.to_string(),
                    good: t.good,
                    value: t.value,
                })
                .collect(),
            unknown_vrid: view.unknown_vrid,
            malformed: view.malformed,
        }
    }

    fn instance(&self, view: &vrrp::Instance) -> Instance {
        Instance {
            name: view.name.to_string(),
            interface: view.interface.to_string(),
            vrid: view.vrid.get(),
            state: view.state.into(),
            since: self.time(view.since),
            priority: view.priority,
            effective_priority: view.effective_priority,
            master: view.master.map(|address| address.to_string()),
            faults: view.faults.clone(),
            objects_wanted: view.objects_wanted,
            objects_held: view.objects_present,
            objects_missing: view.objects_missing.iter().map(missing).collect(),
            counters: counters(&view.counters),
        }
    }

    fn checker(&self, view: &check::Check) -> Checker {
        let (ipvs, ipvs_error) = match view.kernel {
            check::Kernel::Unknown => ("reading", None),
            check::Kernel::Ready => ("ready", None),
            check::Kernel::Unavailable(errno) => ("unavailable", Some(error(errno))),
        };
        Checker {
            ipvs: ipvs.into(),
            ipvs_error,
            services: view.services.iter().map(|s| self.service(s)).collect(),
            counters: counters(&view.counters),
        }
    }

    fn service(&self, view: &check::Service) -> Service {
        Service {
            name: view.key.to_string(),
            up: view.up,
            since: self.time(view.since),
            weight: view.weight,
            quorum: view.quorum,
            sorry: view.sorry,
            suspended: view.suspended,
            refused: view.refused.map(error),
            servers: view.servers.iter().map(|s| self.server(s)).collect(),
        }
    }

    fn server(&self, view: &check::Server) -> Server {
        Server {
            address: core::net::SocketAddr::new(view.address, view.port).to_string(),
            up: view.up,
            since: self.time(view.since),
            weight: view.weight,
            kernel_weight: view.in_kernel,
            refused: view.refused.map(error),
            checks: view
                .checks
                .iter()
                .map(|c| Check {
                    kind: c.kind.clone(),
                    up: c.up,
                    last_result: (!c.last.is_empty()).then(|| c.last.clone()),
                    failed_attempts: c.failed_attempts,
                })
                .collect(),
        }
    }
}

/// A missing object, with the reason in words.
fn missing(view: &vrrp::MissingObject) -> Missing {
    let reason = match &view.reason {
        vrrp::Missing::Refused { errno: 0, .. } => "another program keeps removing it".into(),
        vrrp::Missing::Refused { errno, attempts, .. } => {
            format!("refused {attempts} times: {}", error(*errno))
        }
        vrrp::Missing::NoInterface(name) => format!("interface {name} does not exist"),
        vrrp::Missing::NoVrf(name) => format!("interface {name} is not a VRF"),
        vrrp::Missing::NoAddress(address) => format!("address {address} does not exist"),
        vrrp::Missing::NoTable { table, errno: 0 } => format!("{table} does not exist"),
        vrrp::Missing::NoTable { table, errno } => {
            format!("{table} is refused: {}", error(*errno))
        }
    };
    Missing { object: view.object.clone(), reason }
}

/// The system's words for an error number.
fn error(errno: i32) -> String {
    nix::errno::Errno::from_raw(errno).desc().into()
}

/// Counters by the names of their fields.
fn counters(counters: &impl Serialize) -> BTreeMap<String, u64> {
    // Plain structures of numbers always are such a map.
    serde_json::to_value(counters).and_then(serde_json::from_value).unwrap_or_default()
}

/// The JSON Schema of the report.
#[must_use]
pub fn schema() -> String {
    schema_of::<Report>("State of evervipd")
}

/// The JSON Schema of a report.
pub(super) fn schema_of<T: JsonSchema>(title: &str) -> String {
    let mut schema = schemars::schema_for!(T);
    schema.insert("title".into(), title.into());
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
