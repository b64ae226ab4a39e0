//! From one configuration to the next.

use core::pin::Pin;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::place::Place;
use super::{
    End, Ended, Ending, Exit, InForce, LoadError, LoadReport, Loaded, PREPARE_LIMIT, Parts, ROLES,
    Reader, RoleName, Supervisor, ToRole, Turn, exit_of, first, load, table,
};
use crate::cli::args::Options;
use crate::ipc::LoadRequest;
use crate::log;
use crate::role::pidfile::PidFile;
use crate::role::standing;
use crate::role::systemd::one_line;
use crate::sys::{clock, process};

/// The longest summary of a VRRP process without instances, in octets,
const SUMMARY: usize = 64 << 10;
/// what each instance adds,
const SUMMARY_OF_ONE: usize = 192;
/// and each sender whose sequence it remembers; and [`LoadReport::tracked`].
const SUMMARY_OF_SENDER: usize = 48;
/// The longest summary of a process for checks.
const CHECKS: usize = 4 << 20;

/// If reading the configuration takes this much memory, in octets, a process that has read it waits for the next read.
const LARGE: u32 = 4 << 20;

/// The progress of a new configuration.
pub(super) enum Reload {
    /// No reload is under way.
    Idle,
    /// It is being read; the sender reports that another reload waits.
    Loading(Pin<Box<dyn Future<Output = Result<Loaded, LoadError>>>>, Option<oneshot::Sender<()>>),
    /// The roles decode it.
    Preparing {
        candidate: Box<InForce>,
        waiting: BTreeSet<RoleName>,
        /// Roles that were started for it.
        new: BTreeSet<RoleName>,
        until: Instant,
    },
    /// The roles apply it. There is no way back.
    Applying { waiting: BTreeSet<RoleName>, first: bool, until: Instant },
}

impl Reload {
    /// The next event of the reload itself.
    pub async fn next(&mut self) -> Turn {
        match self {
            Self::Idle => core::future::pending().await,
            Self::Loading(load, _) => Turn::Loaded(load.await),
            Self::Preparing { until, .. } | Self::Applying { until, .. } => {
                sleep_until(*until).await;
                Turn::Deadline
            }
        }
    }
}

impl Supervisor {
    /// A reload is requested. One is done at a time; during it, one more is remembered.
    pub(super) fn want_reload(&mut self) {
        if matches!(self.reload, Reload::Idle) {
            tracing::info!("Reloading");
            log::reopen();
            self.manager.reloading();
            self.begin_reload();
        } else if !core::mem::replace(&mut self.again, true) {
            tracing::info!("another reload follows the one in progress");
            if let Reload::Loading(_, hurry) = &mut self.reload
                && let Some(hurry) = hurry.take_if(|_| !self.gave_up)
            {
                let _ = hurry.send(());
            }
        }
    }

    /// Begins to read the configuration.
    pub(super) fn begin_reload(&mut self) {
        self.requests = self.requests.wrapping_add(1);
        self.spared = false;
        let request = LoadRequest {
            number: self.requests,
            ..load_request(&self.options, self.current.as_ref().map(|c| &*c.report))
        };
        let (hurry, hurried) = oneshot::channel();
        let load = load::load(self.setup.clone(), request, hurried, self.reader.take());
        self.reload = Reload::Loading(Box::pin(load), Some(hurry));
    }

    /// The configuration was read.
    pub(super) fn loaded(&mut self, mut result: Result<Loaded, LoadError>) -> Option<Ending> {
        self.reload = Reload::Idle;
        let first = self.current.is_none();
        self.gave_up = matches!(&result, Err(LoadError::GaveUp));
        if let Ok(loaded) = &mut result {
            loaded.tell();
            self.keep_reader(loaded);
        }
        let (report, parts) = match result {
            // There is no running configuration that could stay in force.
            Err(e @ LoadError::GaveUp) if first => {
                tracing::warn!("{e}");
                self.again = false;
                self.begin_reload();
                return None;
            }
            Ok(Loaded { report, parts: Some(parts), .. }) if report.usable => (report, parts),
            Ok(Loaded { report, .. }) => {
                let why = report.first.unwrap_or_else(|| "no usable configuration".into());
                if first {
                    // The reason is among the lines above.
                    tracing::error!("cannot start: the configuration cannot be used");
                    self.manager.status(&format!("the configuration cannot be used: {why}"));
                    self.manager.errno(libc::EINVAL.cast_unsigned());
                    return Some(Ending { exit: first_exit(report.exit_status) });
                }
                self.refuse(&why);
                return None;
            }
            Err(e) => {
                if first {
                    tracing::error!("{e}");
                    self.manager.errno(1);
                    return Some(Ending { exit: Exit::Internal });
                }
                self.refuse(&e.to_string());
                return None;
            }
        };
        match &self.current {
            None => {
                if let Some(why) = unusable_start(&report, self.options.all) {
                    tracing::error!("{why}");
                    self.manager.status(&why);
                    self.manager.errno(libc::EINVAL.cast_unsigned());
                    return Some(Ending { exit: Exit::Config });
                }
            }
            Some(current) => {
                let elsewhere = self.elsewhere(&report);
                let worse = || worse(&current.report, &report, self.options.allow_empty);
                if let Some(why) = elsewhere.or_else(worse) {
                    self.refuse(&why);
                    return None;
                }
            }
        }
        self.prepare(report, parts);
        None
    }

    /// Why a configuration needs a restart of the daemon, if it does.
    fn elsewhere(&self, new: &LoadReport) -> Option<String> {
        match Place::of(&self.options, &new.global.settings) {
            Ok(place) => self
                .place
                .difference(&place)
                .map(|what| format!("{what} cannot be changed while the daemon runs")),
            Err(why) => Some(why),
        }
    }

    /// Lets every role decode its part.
    pub(super) fn prepare(&mut self, report: Box<LoadReport>, mut parts: Parts) {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        self.limit(&report);
        let (mut waiting, mut new) = (BTreeSet::new(), BTreeSet::new());
        for (role, wanted) in self.wanted(report.needs) {
            let Some(child) = self.child(role) else {
                continue;
            };
            // One that was told to stop takes no configuration any more.
            let (serves, stops) = (child.serves(), child.is_stopping());
            let is_needed_now = child.wanted;
            if wanted || serves {
                waiting.insert(role);
            }
            if !wanted || serves {
                continue;
            }
            if stops {
                // The next one is started when it has ended.
                child.owes_an_answer();
                new.insert(role);
                continue;
            }
            if is_needed_now {
                // Its restart was due anyway; it has to stay if this configuration does not come into force.
                self.start_again(role);
            } else {
                new.insert(role);
                self.want_pid_file(role);
                self.start(role);
            }
        }
        let current = self.current.as_ref();
        let current = current.filter(|current| report.base == Some(current.report.number));
        let base = current.map(|current| current.generation);
        if let (Some(difference), Some(base)) = (parts.take_change(), base)
            && waiting.contains(&RoleName::Checker)
            && !new.contains(&RoleName::Checker)
            && let Some(checker) = self.child(RoleName::Checker)
        {
            checker.tell(&ToRole::Change { generation, base }, vec![difference]);
        }
        for role in &waiting {
            match parts.of(*role) {
                Ok(part) => {
                    if let Some(child) = self.child(*role).filter(|child| child.serves()) {
                        child.tell(&ToRole::Prepare { generation }, vec![part]);
                        child.owes_an_answer();
                    }
                }
                Err(e) => tracing::error!("cannot pass the configuration to {role}: {e}"),
            }
        }
        let candidate = Box::new(InForce { generation, read: clock::now(), report, parts });
        let until = Instant::now() + PREPARE_LIMIT;
        self.reload = Reload::Preparing { candidate, waiting, new, until };
        self.apply_if_ready();
    }

    /// Limits the size of values that roles may send, based on their current and future virtual routers: a summary
    /// contains each of them. Decoding takes several times the memory.
    fn limit(&mut self, new: &LoadReport) {
        let size = |report: &LoadReport| {
            let of = |count: u32, size: usize| size.saturating_mul(count as usize);
            of(report.instances, SUMMARY_OF_ONE)
                .saturating_add(of(report.senders, SUMMARY_OF_SENDER))
                .saturating_add(report.tracked as usize)
        };
        let summary = size(new).max(self.current.as_ref().map_or(0, |c| size(&c.report)));
        for child in &mut self.children {
            child.limit(match child.role {
                RoleName::Vrrp => SUMMARY.saturating_add(summary),
                // It is not decoded.
                RoleName::Checker => CHECKS,
                RoleName::Runner | RoleName::Config | RoleName::Api => 0,
            });
        }
    }

    /// A role that did not run gets its pid file.
    pub(super) fn want_pid_file(&mut self, role: RoleName) {
        let [_, vrrp, checker] = self.place.pid_files(&self.options);
        let path = match role {
            RoleName::Vrrp => vrrp,
            RoleName::Checker => checker,
            RoleName::Runner | RoleName::Config | RoleName::Api => return,
        };
        if let Some(child) = self.child(role)
            && !child.has_pid_file()
        {
            match PidFile::lock(&path) {
                Ok(file) => child.set_pid_file(Some(file)),
                Err(e) => tracing::warn!("{e}"),
            }
        }
    }

    /// A role has decoded its part.
    pub(super) fn ready(&mut self, role: RoleName, ready: u32) {
        if let Reload::Preparing { candidate, waiting, .. } = &mut self.reload
            && candidate.generation == ready
        {
            tracing::debug!("{role} is ready for the new configuration");
            waiting.remove(&role);
            self.apply_if_ready();
        }
    }

    /// A role cannot apply its part.
    pub(super) fn refused(&mut self, role: RoleName, refused: u32, reason: &str) {
        if matches!(&self.reload, Reload::Preparing { candidate, waiting, .. }
            if candidate.generation == refused && waiting.contains(&role))
        {
            self.abandon(&format!("{role}: {}", one_line(reason)));
        } else {
            self.strange += 1;
            if self.strange.is_power_of_two() {
                let reason = one_line(reason);
                tracing::error!("{role} process: {reason} ({} so far)", self.strange);
            }
        }
    }

    /// The process of a role ended during a reload.
    pub(super) fn lost(&mut self, role: RoleName, ended: Ended) {
        match &mut self.reload {
            Reload::Preparing { waiting, .. } => {
                // The new configuration may be the reason: not if something else ended the process, unless that happens
                // again (the kernel ends one that takes all memory). At the start there is no other configuration, so
                // that goes on.
                let is_killed =
                    matches!(ended, Ended::BySignal | Ended::Failed(End::Signal(libc::SIGKILL)));
                let is_spared = is_killed && !core::mem::replace(&mut self.spared, true);
                if waiting.contains(&role) && self.current.is_some() && !is_spared {
                    self.abandon(&format!("the {role} process ended"));
                } else {
                    // Its next process has to decode the new configuration as well.
                    waiting.insert(role);
                }
            }
            Reload::Applying { waiting, .. } => {
                // It is restarted with the new one.
                waiting.remove(&role);
                self.finish_if_applied();
            }
            Reload::Idle | Reload::Loading(..) => {}
        }
    }

    /// Roles have exceeded their time. On a slow machine that neither ends the daemon nor refuses the configuration,
    /// as long as the roles make progress.
    pub(super) fn deadline(&mut self) {
        let first = self.current.is_none();
        match &mut self.reload {
            Reload::Preparing { waiting, until, .. } => {
                let who: Vec<&str> = waiting.iter().map(|role| role.word()).collect();
                let who = who.join(", ");
                let mut stuck = Vec::new();
                for child in self.children.iter_mut().filter(|c| waiting.contains(&c.role)) {
                    if !child.goes_on() {
                        stuck.push(child.role);
                    }
                }
                if stuck.is_empty() || first {
                    *until = Instant::now() + PREPARE_LIMIT;
                    tracing::warn!("still waiting for {who} to take the configuration");
                } else {
                    self.abandon(&format!("{who} did not answer in time"));
                    return;
                }
                for child in self.children.iter_mut().filter(|c| stuck.contains(&c.role)) {
                    tracing::error!("{} process does not respond, killing it", child.role);
                    // It is restarted with the configuration of the other roles.
                    child.kill();
                }
            }
            Reload::Applying { waiting, .. } => {
                let who: Vec<&str> = waiting.iter().map(|role| role.word()).collect();
                tracing::warn!("{} still applying the new configuration", who.join(", "));
                waiting.clear();
                self.finish_if_applied();
            }
            Reload::Idle | Reload::Loading(..) => {}
        }
    }

    /// If every role is ready, the new configuration comes into force.
    fn apply_if_ready(&mut self) {
        if !matches!(&self.reload, Reload::Preparing { waiting, .. } if waiting.is_empty()) {
            return;
        }
        let Reload::Preparing { candidate, .. } =
            core::mem::replace(&mut self.reload, Reload::Idle)
        else {
            return;
        };
        let generation = candidate.generation;
        let first = self.current.is_none();
        let wanted = self.wanted(candidate.report.needs);
        let patience = table::patience(candidate.report.advert_interval);
        if let Some(vrrp) = self.child(RoleName::Vrrp) {
            vrrp.set_patience(patience);
        }
        let settings = &candidate.report.global.settings;
        process::umask(first::umask(self.options.umask, settings));
        standing::set_name(settings.process_name.as_deref(), c"evervipd");
        self.current = Some(*candidate);
        let mut waiting = BTreeSet::new();
        // ROLES is the order to tell them in.
        for role in ROLES {
            let needed = wanted.iter().any(|(r, wanted)| *r == role && *wanted);
            if let Some(child) = self.child(role) {
                child.wanted = needed;
                if child.serves() {
                    child.tell(&ToRole::Apply { generation }, Vec::new());
                    waiting.insert(role);
                }
            }
        }
        self.reload = Reload::Applying { waiting, first, until: Instant::now() + PREPARE_LIMIT };
        self.finish_if_applied();
    }

    /// A role has applied it.
    pub(super) fn applied(&mut self, role: RoleName, applied: u32) {
        if let Reload::Applying { waiting, .. } = &mut self.reload
            && self.generation == applied
        {
            waiting.remove(&role);
            self.finish_if_applied();
        }
    }

    fn finish_if_applied(&mut self) {
        let Reload::Applying { waiting, first, .. } = &self.reload else {
            return;
        };
        if !waiting.is_empty() {
            return;
        }
        let first = *first;
        self.reload = Reload::Idle;
        for role in self.children.each_ref().map(|child| child.role) {
            if self.child(role).is_some_and(|child| !child.wanted) {
                // Its part is empty now: it undoes its changes.
                self.dismiss(role, false);
            }
        }
        if !first {
            self.note_reload(None);
        }
        if !self.children.iter().any(|c| c.wanted && ROLES.contains(&c.role)) {
            let report = self.current.as_ref().map(|current| &current.report);
            match report.and_then(|report| nothing_usable(report, self.options.all)) {
                Some(why) => tracing::error!("{why}"),
                None => tracing::warn!("the configuration requires no process, so none is running"),
            }
        }
        tracing::info!("{} complete", if first { "Startup" } else { "Reload" });
        self.manager.ready(&self.status_line());
        self.go_again();
    }

    /// The new configuration does not come into force.
    fn abandon(&mut self, why: &str) {
        let Reload::Preparing { candidate, new, .. } =
            core::mem::replace(&mut self.reload, Reload::Idle)
        else {
            return;
        };
        if self.current.is_none() {
            tracing::error!("cannot start: {why}");
            self.failed = Some(Ending { exit: Exit::Internal });
            return;
        }
        let generation = candidate.generation;
        for role in ROLES {
            if new.contains(&role) {
                self.dismiss(role, true);
            } else if let Some(child) = self.child(role).filter(|child| child.serves()) {
                child.tell(&ToRole::Abandon { generation }, Vec::new());
            }
        }
        self.refuse(why);
    }

    /// Reports why the old configuration stays in force.
    fn refuse(&mut self, why: &str) {
        self.reload = Reload::Idle;
        self.note_reload(Some(why));
        tracing::error!("reload refused, the running configuration stays in force: {why}");
        self.manager.ready(&format!("reload refused: {why}"));
        self.go_again();
    }

    fn go_again(&mut self) {
        if core::mem::take(&mut self.again) {
            self.want_reload();
        } else {
            // The reader is started after the roles have applied the configuration, so as not to delay them.
            self.reader_due = true;
            self.pass_on_soon();
        }
    }

    /// Whether a process should wait for the next configuration: if reading takes so much memory that it noticeably
    /// delays a reload. Not if that process keeps a file open that may be replaced meanwhile.
    fn wants_reader(&self, report: &LoadReport) -> bool {
        let is_tested = |report: &LoadReport| report.global.settings.reload_check.is_some();
        report.memory >= LARGE
            && self.setup.log.file.is_none()
            && !is_tested(report)
            && !self.current.as_ref().is_some_and(|current| is_tested(&current.report))
    }

    /// Keeps the process that read a configuration for the next one, which it reads faster, or lets it end.
    fn keep_reader(&mut self, loaded: &mut Loaded) {
        let Some(reader) = loaded.take_reader() else {
            return;
        };
        if self.wants_reader(&loaded.report) {
            self.reader = Some(reader);
        } else {
            reader.release();
        }
    }

    /// Starts a process for the next configuration if it should wait and does not: after the start of the daemon, and
    /// after a reload whose process did not answer. It reads the configuration at once.
    pub(super) fn start_reader(&mut self) {
        let current = self.current.as_ref().map(|current| &*current.report);
        let is_wanted = current.is_some_and(|report| self.wants_reader(report));
        if !is_wanted || !matches!(self.reload, Reload::Idle) || self.reader.is_some() {
            return;
        }
        let request = load_request(&self.options, current);
        let started = Reader::start(&self.setup).map_err(|e| e.to_string());
        let started = started.and_then(|mut reader| match reader.read_ahead(request) {
            Ok(()) => Ok(reader),
            Err(e) => Err(e.to_string()),
        });
        match started {
            Ok(reader) => self.reader = Some(reader),
            Err(e) => tracing::debug!("no process to read the next configuration yet: {e}"),
        }
    }
}

/// Why a configuration must not replace the one in force.
fn worse(current: &LoadReport, new: &LoadReport, allow_empty: bool) -> Option<String> {
    if let Some(why) = &new.first_error {
        let more =
            if new.errors > 1 { format!(" (and {} more)", new.errors - 1) } else { String::new() };
        return Some(format!("{why}{more}"));
    }
    let serves = |report: &LoadReport| report.needs.vrrp || report.needs.checker;
    let lost = if serves(current) && !serves(new) {
        "it has neither virtual routers nor virtual servers"
    } else if current.instances > 0 && new.instances == 0 {
        "it has no virtual router any more"
    } else {
        return None;
    };
    (!allow_empty).then(|| format!("{lost}; --allow-empty accepts that"))
}

/// What is wrong with a configuration of virtual routers or virtual servers of which none is usable, if there is
/// nothing else to do.
pub(super) fn nothing_usable(report: &LoadReport, all: bool) -> Option<String> {
    let nothing = !report.needs.vrrp && !report.needs.checker && !all;
    (nothing && report.asked + report.services_asked > 0).then(|| {
        let why = report.first.as_deref().unwrap_or_default();
        format!("nothing of the configuration can be used: {why}")
    })
}

/// Why the daemon does not start. keepalived's VRRP process ends the daemon if it has no usable virtual router; its
/// checker process stays, and waits for a better configuration.
fn unusable_start(report: &LoadReport, all: bool) -> Option<String> {
    nothing_usable(report, all).filter(|_| report.asked > 0)
}

/// The status to end with when the first configuration cannot be used, from the status of a test of it.
fn first_exit(status: u8) -> Exit {
    match i32::from(status) {
        // The main file is missing or not a configuration: the mildest class, the more severe one with `-e`.
        0 | 4 => Exit::NoConfig,
        code => exit_of(code),
    }
}

/// The request to read the configuration given by the options.
pub(super) fn load_request(options: &Options, current: Option<&LoadReport>) -> LoadRequest {
    LoadRequest {
        path: options.file.as_os_str().as_bytes().into(),
        id: options.config_id.clone(),
        all_checks: options.all_checks,
        dump: options.dump && current.is_none(),
        memory: current.map_or(0, |report| report.memory),
        known: current.map(|report| report.mistakes.clone()),
        ahead: false,
        number: 0,
        check: current.and_then(|report| report.global.settings.reload_check.clone()),
    }
}
