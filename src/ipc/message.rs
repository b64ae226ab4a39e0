//! The messages, by pair of roles.

use core::time::Duration;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::catalogue::{Announced, Catalogue, Chosen};
use crate::base::Name;
use crate::model::tracker::TrackFile;
use crate::model::{self, Global, Lvs};
use crate::status::{MailText, RunEnd, check, daemon, vrrp};

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

/// From the supervisor to a role that runs on. A role starts with `Prepare` and `Apply`; a reload is the same
/// pair again. `api` gets no configuration. Roles work on these very values: they are not declared a second time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToRole {
    /// Decode the part of the configuration that comes as descriptor (sealed memory, one of [`VrrpPart`],
    /// [`CheckerPart`], [`RunnerPart`]) and answer with `Ready` or `Refused`. Change nothing yet.
    Prepare {
        /// Number of the configuration.
        generation: u32,
    },
    /// Carry out what was prepared; answer with `Applied`.
    Apply { generation: u32 },
    /// Forget what was prepared.
    Abandon { generation: u32 },
    /// A channel to another role comes as descriptor. It replaces the last one.
    Connect(RoleName),
    /// Before the first `Prepare`: what the last process of this role told.
    Resume(Memory),
    /// For `vrrp`: whether the kernel's IPVS can be written, as `checker` found.
    Ipvs { works: bool },
    /// Leave in good order, answer with `Done` and end.
    Stop {
        /// Leave what is in the kernel as it is (`--dont-release-vrrp`, `--dont-release-ipvs`).
        keep: bool,
    },
    /// Log what was counted.
    Count,
    /// For `api`: the answer to its question.
    Answer(Answer),
}

/// From a role to the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromRole {
    /// The thread that matters took another turn.
    Alive,
    /// Decoded what was to be prepared.
    Ready { generation: u32 },
    /// Cannot carry it out.
    Refused { generation: u32, reason: String },
    /// Carried it out, or began to.
    Applied { generation: u32 },
    /// What its next process should know.
    Remember(Memory),
    /// From `checker`: whether the kernel's IPVS can be written; when that is news.
    Ipvs { works: bool },
    /// The channel of the last `Connect` to this role cannot be used: another one is needed.
    Unconnected(RoleName),
    /// From `api`: a question to the supervisor.
    Ask(Question),
    /// Somebody sent this role a signal that asks for a reload.
    ReloadWanted,
    /// Everything is undone; the process ends next.
    Done,
}

/// What the supervisor keeps of a role for its next process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Memory {
    /// Of `vrrp`.
    Vrrp(vrrp::Summary),
    /// Of `checker`: a [`check::Summary`] as [`Self::of_checker`] makes it. The supervisor looks at none of it.
    Checker(Box<[u8]>),
}

impl Memory {
    /// What `checker` remembers.
    #[must_use]
    pub fn of_checker(summary: &check::Summary) -> Self {
        // Plain structures can always be encoded.
        Self::Checker(postcard::to_stdvec(summary).unwrap_or_default().into())
    }
}

/// From `api` to whoever knows: the supervisor, `vrrp`, `checker`. Several may be under way at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Comes back with the answer; never used twice by one process.
    pub id: u64,
    pub ask: Ask,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// A full view of the state.
    State,
}

/// To `api`. There is none to a question that the asked process has no room for: who asks has a deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// That of the question.
    pub id: u64,
    /// What was asked for.
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
}

/// What `vrrp` carries out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VrrpPart {
    /// What belongs to the daemon as a whole.
    pub global: Global,
    /// Virtual routers and what they track.
    pub vrrp: model::Vrrp,
}

/// What `checker` carries out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckerPart {
    /// What belongs to the daemon as a whole.
    pub global: Global,
    /// Virtual servers.
    pub lvs: Lvs,
}

/// What `runner` carries out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunnerPart {
    /// What belongs to the daemon as a whole.
    pub global: Global,
    /// Programs that `vrrp` can ask for.
    pub vrrp: Catalogue,
    /// Programs that `checker` can ask for.
    pub checker: Catalogue,
    /// Files whose numbers `vrrp` is told.
    pub files: Vec<TrackFile>,
}

/// From the supervisor to `config`: read this, answer once with [`FromConfig`], end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadRequest {
    /// The file, or a pattern for several, as octets.
    pub path: Box<[u8]>,
    /// `--config-id`
    pub id: Option<String>,
    /// `--all-config`: every check of included files is on.
    pub all_checks: bool,
    /// Log the configuration as it is understood (`--dump-conf`).
    pub dump: bool,
    /// Octets of memory that reading the configuration in force took; 0 at the start.
    pub memory: u32,
    /// What the configuration in force is known to leave out; none at the start.
    pub known: Option<BTreeSet<String>>,
    /// `reload_check_config` of the configuration in force: the file for what a test reports. A reload is refused for
    /// any of it.
    pub check: Option<Box<[u8]>>,
}

/// From `config` to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromConfig {
    /// The verdict, and what there is to say about it, for the supervisor to log: the service manager may no longer know
    /// whose a line is of a process that has ended. With it, when the configuration can be carried out, come three descriptors: sealed memory
    /// with a [`VrrpPart`], a [`CheckerPart`] and a [`RunnerPart`].
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

/// What became of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Whether the daemon can run with it at all.
    pub usable: bool,
    /// Problems for which a reload is refused; of the start, those for which another file would be.
    pub errors: u32,
    /// The first of them, as one line.
    pub first_error: Option<String>,
    /// What is left out, by its meaning.
    pub mistakes: BTreeSet<String>,
    /// Virtual routers that the text asks for, with those that are left out.
    pub asked: u32,
    /// Virtual routers that are carried out.
    pub instances: u32,
    /// Senders whose sequence numbers these remember at most.
    pub senders: u32,
    /// The shortest interval between adverts of these.
    pub advert_interval: Option<Duration>,
    /// The status with which a configuration test would exit.
    pub exit_status: u8,
    /// The first thing that stops a start, or else the first error, or else the first warning, as one line.
    pub first: Option<String>,
    /// What belongs to the daemon as a whole.
    pub global: Global,
    /// Which roles it needs.
    pub needs: Needs,
    /// Octets of memory that reading it took.
    pub memory: u32,
}

/// Which roles a configuration needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// There are instances or static addresses.
    pub vrrp: bool,
    /// There are virtual servers.
    pub checker: bool,
    /// An instance or a group runs programs, sends mail or tracks what `runner` looks at.
    pub vrrp_runner: bool,
    /// A virtual server runs programs or sends mail.
    pub checker_runner: bool,
}

/// From a role to `runner`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRunner {
    /// Run a program whose status matters; answered with `Ran`. Several run side by side.
    Run {
        /// Comes back with the answer.
        run: u64,
        /// Number of the configuration that names it.
        generation: u32,
        /// Its place in the catalogue.
        program: u32,
        /// When to end it.
        timeout: Duration,
    },
    /// End the program of a `Run` that nobody waits for any more. Its answer comes all the same.
    End { run: u64 },
    /// Carry out a part of a notice; answered with `Delivered`. A descriptor that comes along is a process that the
    /// last runner started for it: nothing of this subject runs beside it.
    Notice {
        /// Comes back with the answer; never used twice by one process.
        id: u64,
        /// What to do.
        deliver: Deliver,
    },
}

/// A part of a `status::Notice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deliver {
    /// Run programs one after the other; those of one subject in the order they came.
    Programs {
        /// Number of the configuration that names them.
        generation: u32,
        /// What the notice is about, as the place of any program with this subject.
        about: u32,
        /// The state announced.
        state: Announced,
        programs: Vec<Chosen>,
        /// How long each may take.
        limit: Option<Duration>,
    },
    /// Send a mail.
    Mail(MailText),
    /// Write a line to the FIFOs that the role's lines go to; without its end.
    Line(Box<str>),
}

/// From `runner` to a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRunner {
    /// A `Run` ended.
    Ran { run: u64, end: RunEnd },
    /// A program of a `Notice` runs; its process comes as descriptor. It is not to be run again.
    Began {
        id: u64,
        /// Position in its list.
        command: u32,
    },
    /// A `Notice` is done with, well or not.
    Delivered { id: u64 },
    /// The numbers in `track_file`s. Told of each when a configuration comes into force and when the channel is made, and
    /// whenever it changes.
    Files(Vec<(Name, i32)>),
}
