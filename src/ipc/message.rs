//! The messages, by pair of roles.

use core::time::Duration;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::catalogue::{Announced, Catalogue, Chosen};
use crate::model::tracker::{TrackFile, TrackProcess};
use crate::model::{self, Global, Lvs};
use crate::status::cause::Histories;
use crate::status::peer::Peers;
use crate::status::{Ask, MailText, RunEnd, TrackReport, check, daemon, vrrp};

/// A role of the daemon, each a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RoleName {
    /// Reads the configuration and ends.
    Config,
    /// Virtual routers.
    Vrrp,
    /// Programs and mails.
    Runner,
    /// Virtual servers and health checks.
    Checker,
    /// The control socket.
    Api,
}

impl RoleName {
    /// Its name in messages and arguments.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Vrrp => "vrrp",
            Self::Runner => "runner",
            Self::Checker => "checker",
            Self::Api => "api",
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Config, Self::Vrrp, Self::Runner, Self::Checker, Self::Api]
            .into_iter()
            .find(|role| role.word() == word)
    }
}

impl core::fmt::Display for RoleName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.word())
    }
}

/// From the supervisor to a role that keeps running. A role starts with `Prepare` and `Apply`; a reload is the same
/// pair again. `api` gets no configuration. Roles work on these values directly: messages are declared only once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToRole {
    /// Decode the part of the configuration that comes as descriptor (sealed memory, one of [`VrrpPart`],
    /// [`CheckerPart`], [`RunnerPart`]) and answer with `Ready` or `Refused`. Change nothing yet.
    Prepare {
        /// Number of the configuration.
        generation: u32,
    },
    /// For `checker`, before a `Prepare`: a [`super::Difference`] to its part of the configuration `base` comes as
    /// descriptor. If that is the one in force, the part that follows need not be decoded.
    Change { generation: u32, base: u32 },
    /// Apply what was prepared; answer with `Applied`.
    Apply { generation: u32 },
    /// Forget what was prepared.
    Abandon { generation: u32 },
    /// A channel to another role comes as descriptor. It replaces the last one.
    Connect(RoleName),
    /// Before the first `Prepare`: what the previous process of this role reported.
    Resume(Memory),
    /// For `vrrp`: whether the kernel's IPVS can be written, as `checker` found.
    Ipvs { works: bool },
    /// For `checker`: the states of BFD sessions that `vrrp` observes, all of those that have changed since they were
    /// configured.
    Observed(Vec<TrackReport>),
    /// Stop in good order, answer with `Done` and exit.
    Stop {
        /// Leave the kernel's objects as they are (`--dont-release-vrrp`, `--dont-release-ipvs`).
        keep: bool,
    },
    /// Write files, or log counters, as keepalived does at a signal. Roles that have nothing to show ignore it.
    Dump(Asked),
    /// For `api`: the answer to its request.
    Answer(Answer),
}

impl ToRole {
    /// Its name in the log, without contents.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Prepare { .. } => "Prepare",
            Self::Change { .. } => "Change",
            Self::Apply { .. } => "Apply",
            Self::Abandon { .. } => "Abandon",
            Self::Connect(_) => "Connect",
            Self::Resume(Memory::Vrrp(_)) => "Resume (vrrp)",
            Self::Resume(Memory::Checker(_)) => "Resume (checker)",
            Self::Ipvs { .. } => "Ipvs",
            Self::Observed(_) => "Observed",
            Self::Stop { .. } => "Stop",
            Self::Dump(_) => "Dump",
            Self::Answer(_) => "Answer",
        }
    }
}

/// From a role to the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromRole {
    /// A heartbeat of the thread that matters.
    Alive,
    /// The part of the configuration is decoded.
    Ready { generation: u32 },
    /// It cannot be applied.
    Refused { generation: u32, reason: String },
    /// It has been applied, or this has begun.
    Applied { generation: u32 },
    /// State for its next process.
    Remember(Memory),
    /// From `checker`: whether the kernel's IPVS can be written; sent when it changes.
    Ipvs { works: bool },
    /// From `vrrp`: the states of BFD sessions for `checker`, all of those that have changed since they were configured;
    /// sent when one of them changes.
    Observed(Vec<TrackReport>),
    /// The channel of the last `Connect` to this role cannot be used, or has ended although the other process may still
    /// run: another one is needed.
    Unconnected {
        other: RoleName,
        /// The number of channels to it that this process was given so far: one may be on its way.
        given: u32,
    },
    /// From `api`: a request to the supervisor.
    Ask(Question),
    /// The content of a file that was asked for comes as descriptor (sealed memory). The supervisor writes it, because a
    /// role may create no files.
    Dump(DumpFile),
    /// This role received the signal that requests a reload.
    ReloadWanted,
    /// Everything is undone; the process exits next.
    Done,
}

/// What keepalived's signals ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// SIGUSR1: write the whole state.
    Data,
    /// SIGUSR2: write the counters.
    Stats,
    /// SIGRTMAX-1: write the counters, then set them to zero.
    StatsClear,
    /// SIGRTMIN+2: write the state of the instances as JSON.
    Json,
}

/// A file that keepalived writes when it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DumpFile {
    /// `keepalived.json`
    Json,
    /// `keepalived.stats`
    Stats,
}

impl DumpFile {
    /// The process that writes it.
    #[must_use]
    pub const fn writer(self) -> RoleName {
        match self {
            Self::Json | Self::Stats => RoleName::Vrrp,
        }
    }
}

/// The state of a role that the supervisor stores for its next process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Memory {
    /// Of `vrrp`.
    Vrrp(vrrp::Summary),
    /// Of `checker`: a [`check::Summary`] as [`Self::of_checker`] makes it. The supervisor does not decode it.
    Checker(Box<[u8]>),
}

impl Memory {
    /// The state of `checker`.
    #[must_use]
    pub fn of_checker(summary: &check::Summary) -> Self {
        // Plain structures can always be encoded.
        Self::Checker(postcard::to_stdvec(summary).unwrap_or_default().into())
    }
}

/// From `api` to the supervisor, `vrrp` or `checker`. Several may be pending at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Repeated in the answer; never used twice by one process.
    pub id: u64,
    pub ask: Ask,
}

/// To `api`. A request for which the process has no room is not answered: the requester has a deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The id of the request.
    pub id: u64,
    /// The requested state.
    pub told: Told,
}

/// The state of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// From the supervisor.
    Daemon(Box<daemon::Daemon>),
    /// From `vrrp`.
    Vrrp(Box<vrrp::Vrrp>),
    /// From `checker`.
    Checker(Box<check::Check>),
    /// From `vrrp`: the routers that it hears.
    Peers(Box<Peers>),
    /// From `vrrp`: why the instances are in their states.
    Causes(Box<Histories>),
}

/// The part of `vrrp`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VrrpPart {
    /// Settings of the daemon as a whole.
    pub global: Global,
    /// Virtual routers and what they track.
    pub vrrp: model::Vrrp,
}

/// The part of `checker`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckerPart {
    /// Settings of the daemon as a whole.
    pub global: Global,
    /// Virtual servers.
    pub lvs: Lvs,
}

/// The part of `runner`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunnerPart {
    /// Settings of the daemon as a whole.
    pub global: Global,
    /// Programs that `vrrp` can request.
    pub vrrp: Catalogue,
    /// Programs that `checker` can request.
    pub checker: Catalogue,
    /// Files whose numbers are reported to `vrrp` and `checker`.
    pub files: Vec<TrackFile>,
    /// Tracked processes: `vrrp` gets reports whether they run.
    pub processes: Vec<TrackProcess>,
}

/// From the supervisor to `config`: read this, and answer with [`FromConfig`] unless it is ahead of time. The process
/// may get another request; it ends when there will be none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadRequest {
    /// The file, or a pattern for several, as octets.
    pub path: Box<[u8]>,
    /// `--config-id`
    pub id: Option<String>,
    /// `--all-config`: every check of included files is on.
    pub all_checks: bool,
    /// Log the parsed configuration (`--dump-conf`).
    pub dump: bool,
    /// Memory, in octets, that reading the configuration in force took; 0 at the start.
    pub memory: u32,
    /// Ahead of time: the results are kept for the next request.
    pub ahead: bool,
    /// Its number, which the report repeats.
    pub number: u32,
    /// The known errors of the configuration in force, as numbers; none at the start.
    pub known: Option<BTreeSet<u64>>,
    /// `reload_check_config` of the configuration in force: the file for the messages of a test. Any of them refuses a
    /// reload.
    pub check: Option<Box<[u8]>>,
}

/// From `config` to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromConfig {
    /// The verdict, and remarks for the supervisor to log: the service manager may no longer be able to attribute lines
    /// of a process that has ended. If the configuration can be used, three descriptors are sent with it: sealed memory
    /// with a [`VrrpPart`], a [`CheckerPart`] and a [`RunnerPart`]; a fourth one with a [`super::Difference`] may follow.
    Loaded(Box<LoadReport>, Vec<Remark>),
}

/// A line about a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// An error, or else a warning.
    pub is_error: bool,
    /// The line.
    pub text: String,
}

/// The result of reading a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Whether the daemon can run with it at all.
    pub usable: bool,
    /// Number of problems for which a reload is refused; at the start, for which another file would be.
    pub errors: u32,
    /// The first of them, as one line.
    pub first_error: Option<String>,
    /// The errors, identified by their meaning, as numbers.
    pub mistakes: BTreeSet<u64>,
    /// Number of configured virtual servers, including those that are left out.
    pub services_asked: u32,
    /// Number of configured virtual routers, including those that are left out.
    pub asked: u32,
    /// Number of usable virtual routers.
    pub instances: u32,
    /// Largest number of senders whose sequence numbers these remember.
    pub senders: u32,
    /// What the names of tracked objects take in a summary, in octets.
    pub tracked: u32,
    /// The shortest interval between adverts of these.
    pub advert_interval: Option<Duration>,
    /// The exit status of a configuration test.
    pub exit_status: u8,
    /// The first thing that stops a start, or else the first error, or else the first warning, as one line.
    pub first: Option<String>,
    /// Settings of the daemon as a whole.
    pub global: Global,
    /// Which roles it needs.
    pub needs: Needs,
    /// Memory, in octets, that reading it took.
    pub memory: u32,
    /// Number of the request.
    pub number: u32,
    /// Number of the request whose part of `checker` the fourth descriptor, if there is one, refers to.
    pub base: Option<u32>,
}

/// Which roles a configuration needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// There are instances, static addresses or the like, or BFD sessions.
    pub vrrp: bool,
    /// There are virtual servers.
    pub checker: bool,
    /// An instance or a group runs programs, sends mail or tracks files.
    pub vrrp_runner: bool,
    /// A virtual server runs programs or sends mail.
    pub checker_runner: bool,
}

/// From a role to `runner`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRunner {
    /// Run a program whose status matters; answered with `Ran`. Several run side by side.
    Run {
        /// Repeated in the answer.
        run: u64,
        /// Number of the configuration that contains it.
        generation: u32,
        /// Its number in the catalogue.
        program: u32,
        /// Its time limit.
        timeout: Duration,
    },
    /// Terminate the program of a `Run` whose result is not needed any more. It is answered nevertheless.
    End { run: u64 },
    /// Deliver a part of a notice; answered with `Delivered`. A descriptor sent with it is a process that the previous
    /// runner started for it: no other program of this subject runs beside it.
    Notice {
        /// Repeated in the answer; never used twice by one process.
        id: u64,
        /// What to deliver.
        deliver: Deliver,
    },
}

/// A part of a `status::Notice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deliver {
    /// Run programs one after the other; those of one subject in the order of arrival.
    Programs {
        /// Number of the configuration that contains them.
        generation: u32,
        /// The subject of the notice, as the number of any program with this subject.
        about: u32,
        state: Announced,
        programs: Vec<Chosen>,
        /// Time limit of each.
        limit: Option<Duration>,
    },
    /// Send a mail.
    Mail(MailText),
    /// Write a line, given without newline, to the FIFOs for the role's lines.
    Line(Box<str>),
}

/// From `runner` to a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRunner {
    /// A `Run` ended.
    Ran { run: u64, end: RunEnd },
    /// A program of a `Notice` runs; its process is sent as descriptor. It must not be run again.
    Began {
        id: u64,
        /// Its position in the list.
        command: u32,
    },
    /// A `Notice` is finished, successfully or not.
    Delivered { id: u64 },
    /// What was observed of tracked files and processes. Sent for each when a configuration comes into force and when
    /// the channel is created, and whenever it changes.
    Reports(Vec<TrackReport>),
}
