//! The supervisor: starts the roles, monitors them, passes configurations on, and stops them.
//!
//! A configuration comes into force in three steps. A separate process reads it and gives a verdict. Every role decodes
//! its part and reports that it is ready. Only then are they told to apply it. A failure before that leaves the running
//! configuration in force. The start works in the same way, without a previous configuration.

mod dump;
mod files;
pub mod first;
mod place;
mod reload;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod view;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant as Time;

use super::child::{Child, Ended, Happened};
use super::control::{asked, asking, at};
use super::load::{LoadError, Loaded, Parts, Reader};
use super::pidfile::PidFile;
use super::socket::ControlSocket;
use super::systemd::Manager;
use super::table::{self, TICK};
use super::{Setup, confine, load};
use crate::base::Instant;
use crate::cli::args::Options;
use crate::cli::exit::Exit;
use crate::ipc::{Asked, FromRole, LoadReport, Memory, Needs, RoleName, ToRole};
use crate::status::vrrp::Summary;
use crate::status::{TrackReport, daemon};
use crate::sys::clock;
use crate::sys::process::{self, Exit as End};
use dump::Dumps;
pub use files::PidFiles;
use files::{has_services, services_file};
pub use first::First;
pub use place::{DIRECTORY, Place};
use reload::Reload;
pub use start::log_settings;
use start::{CHANNELS, setup};

/// Roles in the order in which they are sent a new configuration: the runner, which executes requests, before the roles
/// that send them.
const ROLES: [RoleName; 3] = [RoleName::Runner, RoleName::Vrrp, RoleName::Checker];

/// The user of roles that are confined.
fn user() -> Option<(u32, u32)> {
    match confine::separate_user() {
        Ok(user) => Some(user),
        Err(why) => {
            tracing::info!(
                "{why}: its processes keep their user, without the capabilities they do not need"
            );
            None
        }
    }
}

/// Runs the daemon until it is told to stop. `started` is called once it runs.
#[must_use]
pub fn run(options: Options, first: First, pid_files: PidFiles, started: impl FnOnce()) -> Exit {
    let paths = first.place.pid_files(&options);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.and_then(|runtime| {
        runtime.block_on(async {
            Ok(Supervisor::new(options, &first.place, pid_files)?.serve(first, started).await)
        })
    });
    result.unwrap_or_else(|e| {
        tracing::error!("cannot start: {e}");
        for file in paths.iter().filter_map(|path| PidFile::lock(path).ok()) {
            file.remove();
        }
        Exit::Internal
    })
}

struct Supervisor {
    options: Options,
    place: Place,
    pid_file: PidFile,
    setup: Setup,
    /// Where the checker records its virtual servers for a later process.
    services: Option<PathBuf>,
    socket: Option<ControlSocket>,
    dumps: Dumps,
    /// When it started.
    since: Instant,
    children: [Child; 4],
    manager: Manager,
    signals: Signals,
    /// When `pass_on` is due, which combines the work that many events request.
    due: Option<Time>,
    reload: Reload,
    /// The process that will read the next configuration, if one waits.
    reader: Option<Reader>,
    /// Whether such a process should be started.
    reader_due: bool,
    /// Another reload is requested after the current one.
    again: bool,
    /// A process was killed during this reload, which went on with its next one.
    spared: bool,
    /// The last read was abandoned because another one waited: the next one gets its full time.
    gave_up: bool,
    /// The start failed.
    failed: Option<Ending>,
    generation: u32,
    /// Number of the last request to read the configuration, from 1: the first reading has none.
    requests: u32,
    /// The configuration in force.
    current: Option<InForce>,
    /// The last summary of `vrrp`, valid as of its last heartbeat.
    summary: Option<Summary>,
    /// It comes from the current process of `vrrp`, not an earlier one.
    summary_is_own: bool,
    /// The last summary of `checker`, for its next process.
    checks: Option<Box<[u8]>>,
    /// A role received the reload signal.
    reload_due: bool,
    /// The newest state has not been sent to the service manager.
    status_due: bool,
    /// `vrrp` must be told whether IPVS works.
    ipvs_due: bool,
    /// The states of BFD sessions for `checker`, as `vrrp` last reported them.
    observed: Vec<TrackReport>,
    /// They are to be passed on.
    observed_due: bool,
    /// It has been told at least once.
    ipvs_told: bool,
    /// Pairs of roles without a channel that both can use.
    unconnected: BTreeSet<(RoleName, RoleName)>,
    /// How many channels the running process of the first role was given to the second.
    given: BTreeMap<(RoleName, RoleName), u32>,
    /// Unexpected refusals of roles.
    strange: u64,
    /// Whether `checker` can write the kernel's IPVS.
    ipvs: Option<bool>,
    /// Reloads that have ended.
    reloads: u32,
    /// How the last reload ended.
    last_reload: Option<daemon::Reload>,
}

/// A configuration in force.
struct InForce {
    generation: u32,
    /// When it was read.
    read: Instant,
    report: Box<LoadReport>,
    parts: Parts,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    asking: [Signal; 4],
    /// A child ended.
    child: Signal,
}

/// An event of the supervisor.
enum Turn {
    Child(RoleName, Happened),
    Loaded(Result<Loaded, LoadError>),
    Deadline,
    Reload,
    Stop(&'static str),
    Asked(Asked),
    /// A child ended, possibly an orphan that this process adopted.
    Orphans,
    /// The process that waited for the next configuration has ended.
    ReaderEnded,
    /// `pass_on` is due.
    Look,
    /// The silence of a role has exceeded its limit.
    Watch,
    /// A heartbeat to the service manager is due.
    Manager,
}

/// How the daemon should end.
struct Ending {
    exit: Exit,
}

impl Supervisor {
    fn new(options: Options, place: &Place, mut pid_files: PidFiles) -> io::Result<Self> {
        let setup = setup(&options, place, user());
        let services = services_file(&options, place);
        let [runner, vrrp, checker] = ROLES;
        let mut children = [runner, vrrp, checker, RoleName::Api].map(Child::new);
        for child in &mut children {
            match child.role {
                RoleName::Vrrp => child.set_pid_file(pid_files.vrrp.take()),
                RoleName::Checker => child.set_pid_file(pid_files.checker.take()),
                RoleName::Api => {
                    if let Some(socket) = &pid_files.socket {
                        child.set_socket(socket.share()?);
                        child.wanted = true;
                    }
                }
                RoleName::Runner => {
                    if let Some(socket) = pid_files.processes.take() {
                        child.set_socket(socket);
                    }
                }
                RoleName::Config => {}
            }
        }
        let checker = options.checker;
        Ok(Self {
            options,
            place: place.clone(),
            pid_file: pid_files.supervisor,
            socket: pid_files.socket,
            dumps: Dumps::default(),
            since: clock::now(),
            setup,
            services,
            children,
            manager: Manager::find(),
            signals: Signals {
                hangup: signal(SignalKind::hangup())?,
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                asking: asking()?,
                child: signal(SignalKind::child())?,
            },
            due: None,
            reload: Reload::Idle,
            reader: None,
            reader_due: false,
            again: false,
            spared: false,
            gave_up: false,
            failed: None,
            generation: 0,
            requests: 0,
            current: None,
            summary: None,
            summary_is_own: false,
            checks: None,
            reload_due: false,
            status_due: false,
            ipvs_due: false,
            observed: Vec::new(),
            observed_due: false,
            ipvs_told: false,
            unconnected: BTreeSet::new(),
            given: BTreeMap::new(),
            strange: 0,
            // Without that role no virtual servers are configured here.
            ipvs: (!checker).then_some(true),
            reloads: 0,
            last_reload: None,
        })
    }

    async fn serve(mut self, mut first: First, started: impl FnOnce()) -> Exit {
        if let Err(e) = self.pid_file.write(std::process::id().cast_signed()) {
            tracing::warn!("{e}");
        }
        let mut started = Some(started);
        match first.take() {
            Some(result) => {
                self.reload = Reload::Loading(Box::pin(core::future::ready(result)), None);
            }
            None => {
                // The first reading has already written the dump, so it is not repeated.
                self.options.dump = false;
                self.begin_reload();
            }
        }
        let ending = loop {
            let turn = self.turn().await;
            if let Some(ending) = self.take(turn).or_else(|| self.failed.take()) {
                break ending;
            }
            if self.current.is_some()
                && matches!(self.reload, Reload::Idle)
                && let Some(started) = started.take()
            {
                started();
                // Not before: nothing should delay the first advert.
                self.start_api();
            }
        };
        self.stop(ending.exit).await
    }

    /// Waits for the next event. Nothing is lost when the future is dropped.
    async fn turn(&mut self) -> Turn {
        let silent = self.silent_at();
        let Self { children, signals, due, manager, reload, reader, options, .. } = self;
        let [a, b, c, d] = children;
        // Messages of roles come first: a received heartbeat counts before roles are checked.
        tokio::select! {
            biased;
            happened = a.next() => Turn::Child(a.role, happened),
            happened = b.next() => Turn::Child(b.role, happened),
            happened = c.next() => Turn::Child(c.role, happened),
            happened = d.next() => Turn::Child(d.role, happened),
            turn = reload.next() => turn,
            () = ended(reader.as_ref()) => Turn::ReaderEnded,
            _ = signals.terminate.recv() => Turn::Stop("SIGTERM"),
            _ = signals.interrupt.recv(), if !options.ignore_sigint => Turn::Stop("SIGINT"),
            _ = signals.hangup.recv() => Turn::Reload,
            what = asked(&mut signals.asking) => Turn::Asked(what),
            _ = signals.child.recv() => Turn::Orphans,
            () = at(*due) => Turn::Look,
            () = at(silent) => Turn::Watch,
            () = at(manager.due()) => Turn::Manager,
        }
    }

    /// When the silence of the first role exceeds its limit. During shutdown, which has one limit for all roles, this
    /// applies only to those that it tells to stop and that send heartbeats to their end.
    fn silent_at(&self) -> Option<Time> {
        let stopping = self.setup.undo;
        let watched = |child: &&Child| !stopping || table::row(child.role).beats_to_the_end;
        self.children.iter().filter(watched).filter_map(Child::silent_at).min()
    }

    /// Schedules a call of `pass_on` within [`TICK`].
    fn pass_on_soon(&mut self) {
        self.due.get_or_insert_with(|| Time::now() + TICK);
    }

    /// Processes an event; returns how the daemon should end, if it should.
    fn take(&mut self, turn: Turn) -> Option<Ending> {
        match turn {
            Turn::Child(role, Happened::Said(FromRole::Dump(file), content)) => {
                self.dump(role, file, content);
            }
            Turn::Child(role, Happened::Said(message, _)) => self.said(role, message),
            Turn::Child(role, Happened::Ended(ended)) => return self.ended(role, ended),
            Turn::Child(role, Happened::RestartDue) => self.start_again(role),
            Turn::Loaded(result) => return self.loaded(result),
            Turn::Deadline => self.deadline(),
            Turn::Reload => self.want_reload(),
            Turn::Stop(name) => {
                tracing::debug!("stopping because of {name}");
                return Some(Ending { exit: Exit::Ok });
            }
            Turn::Asked(Asked::Data) => {
                tracing::warn!("keepalived.data (signal DATA) is not supported by this version");
            }
            Turn::Asked(what) => {
                for child in &mut self.children {
                    child.tell(&ToRole::Dump(what), Vec::new());
                }
            }
            Turn::Orphans => {
                process::reap_orphans();
                // A child of the daemon itself may have come first, so orphans behind it are reaped later.
                self.pass_on_soon();
            }
            Turn::Look => {
                self.due = None;
                self.pass_on();
                process::reap_orphans();
            }
            Turn::Watch => self.watch(),
            Turn::ReaderEnded => self.reader = None,
            Turn::Manager => self.manager.look(),
        }
        None
    }

    /// Kills roles that are silent for too long.
    fn watch(&mut self) {
        // Applying a configuration may keep a role busy; that has a time limit of its own, and so has a shutdown. The
        // thread of vrrp that sends heartbeats is never busy for long, and a role that stops takes no configuration.
        let applying = matches!(self.reload, Reload::Preparing { .. } | Reload::Applying { .. });
        for child in &mut self.children {
            let busy = self.setup.undo || (applying && !child.is_stopping());
            child.watch(busy && child.role != RoleName::Vrrp);
        }
    }

    fn said(&mut self, role: RoleName, message: FromRole) {
        match message {
            FromRole::Alive => {
                // If it ends, the silence of its masters counts from here.
                if role == RoleName::Vrrp
                    && self.summary_is_own
                    && let Some(summary) = &mut self.summary
                {
                    summary.at = clock::now();
                }
            }
            FromRole::Ready { generation } => self.ready(role, generation),
            FromRole::Refused { generation, reason } => self.refused(role, generation, &reason),
            FromRole::Applied { generation } => self.applied(role, generation),
            // What a process reports while it ends is not the state that its next one finds.
            FromRole::Remember(_) | FromRole::Ipvs { .. } | FromRole::Observed(_)
                if self.child(role).is_some_and(|child| child.is_stopping()) => {}
            FromRole::Remember(memory) => match (role, memory) {
                (RoleName::Vrrp, Memory::Vrrp(summary)) => {
                    self.summary = Some(summary);
                    self.summary_is_own = true;
                    self.status_due = true;
                    self.pass_on_soon();
                }
                (RoleName::Checker, Memory::Checker(summary)) => self.checks = Some(summary),
                _ => self.refused(role, 0, "a summary of another role"),
            },
            FromRole::Ipvs { works } => {
                if role == RoleName::Checker && self.ipvs.replace(works) != Some(works) {
                    // With the next check, but the first report at once: instances wait for it.
                    if self.ipvs_told {
                        self.ipvs_due = true;
                    } else {
                        self.ipvs_told = true;
                        self.tell_ipvs();
                    }
                    self.status_due = true;
                    self.pass_on_soon();
                }
            }
            FromRole::Observed(reports) => {
                if role == RoleName::Vrrp {
                    self.observed = reports;
                    self.observed_due = true;
                    self.pass_on_soon();
                }
            }
            FromRole::Unconnected { other, given } => {
                let pair = (role.min(other), role.max(other));
                if !CHANNELS.contains(&pair) {
                    self.refused(role, 0, "asks for a channel that there is not");
                } else if given == self.given.get(&(role, other)).copied().unwrap_or_default() {
                    self.unconnected.insert(pair);
                    self.pass_on_soon();
                }
            }
            FromRole::Ask(question) => self.answer(role, question),
            FromRole::ReloadWanted => {
                self.reload_due = true;
                self.pass_on_soon();
            }
            // Its process ends next. A file comes with a descriptor and is no matter of this.
            FromRole::Done | FromRole::Dump(_) => {}
        }
    }

    /// Does what roles have requested since the last check: once, however often they requested it.
    fn pass_on(&mut self) {
        if core::mem::take(&mut self.reload_due) {
            self.want_reload();
        }
        if core::mem::take(&mut self.ipvs_due) {
            self.tell_ipvs();
        }
        if core::mem::take(&mut self.observed_due)
            && let Some(checker) = self.children.iter_mut().find(|c| c.role == RoleName::Checker)
        {
            checker.tell(&ToRole::Observed(self.observed.clone()), Vec::new());
        }
        if core::mem::take(&mut self.status_due) {
            self.tell_status();
        }
        if core::mem::take(&mut self.reader_due) {
            self.start_reader();
        }
        for (first, second) in core::mem::take(&mut self.unconnected) {
            self.connect(first, second);
        }
    }

    fn tell_ipvs(&mut self) {
        if let Some(works) = self.ipvs
            && let Some(vrrp) = self.child(RoleName::Vrrp)
        {
            vrrp.tell(&ToRole::Ipvs { works }, Vec::new());
        }
    }

    /// The process of a role ended.
    fn ended(&mut self, role: RoleName, ended: Ended) -> Option<Ending> {
        match ended {
            Ended::AsTold => {
                tracing::debug!("{role} process ended");
                self.has_stopped(role);
                return None;
            }
            Ended::BySignal => tracing::info!("{role} process was ended by a signal"),
            Ended::Failed(exit) => tracing::error!("{role} process {exit}"),
        }
        if role == RoleName::Api {
            // No process depends on it, so its end has no consequences.
            return None;
        }
        self.lost(role, ended);
        if let Ended::Failed(End::Code(code)) = ended
            && Exit::is_permanent(code)
            && self.current.is_none()
        {
            // It would end the same way again.
            return Some(Ending { exit: exit_of(code) });
        }
        if !self.options.respawn {
            tracing::info!("{role} process is not started again (--dont-respawn), stopping");
            return Some(Ending { exit: Exit::Ok });
        }
        // While the daemon starts, it is not yet decided which roles stay.
        let needed = self.current.is_none() || matches!(self.reload, Reload::Preparing { .. });
        if let Some(child) = self.child(role)
            && !child.wanted
            && !needed
        {
            child.forget_restart();
        }
        None
    }

    /// Whether a role leaves the kernel as it is at its end.
    fn keeps(&self, role: RoleName) -> bool {
        match role {
            RoleName::Vrrp => self.options.keep_vrrp,
            RoleName::Checker => self.options.keep_ipvs,
            RoleName::Runner | RoleName::Config | RoleName::Api => false,
        }
    }

    fn child(&mut self, role: RoleName) -> Option<&mut Child> {
        self.children.iter_mut().find(|c| c.role == role)
    }

    /// Which roles must run for these needs.
    fn wanted(&self, needs: Needs) -> [(RoleName, bool); 3] {
        let all = self.options.all;
        let vrrp = self.options.vrrp && (needs.vrrp || all);
        // Virtual servers left by a crashed daemon are removed even if none are configured.
        let left = self.current.is_none() && self.services.as_deref().is_some_and(has_services);
        let checker = self.options.checker && (needs.checker || all || left);
        let needed = (vrrp && needs.vrrp_runner) || (checker && needs.checker_runner);
        // One that runs stays: scripts of what a reload removes run to their end.
        let runs = self.children.iter().any(|c| c.role == RoleName::Runner && c.wanted);
        let runner = needed || (runs && (vrrp || checker));
        [(RoleName::Runner, runner), (RoleName::Vrrp, vrrp), (RoleName::Checker, checker)]
    }
}

/// Waits for the end of a reader; for ever if there is none.
async fn ended(reader: Option<&Reader>) {
    match reader {
        Some(reader) => reader.ended().await,
        None => core::future::pending().await,
    }
}

fn exit_of(code: i32) -> Exit {
    match code {
        0 => Exit::Ok,
        2 => Exit::Config,
        4 => Exit::Permission,
        6 => Exit::NoConfig,
        70 => Exit::Internal,
        _ => Exit::Fatal,
    }
}

/// How long roles may take to decode and to apply a configuration, unless they are slow and not wedged.
const PREPARE_LIMIT: Duration = Duration::from_secs(30);
