//! The supervisor's view of one role: its process, its channel and its health.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;

use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::pace::Pace;
use super::pidfile::PidFile;
use super::table::{self, FIRST_PATIENCE, row};
use super::{ARGUMENT, Setup};
use crate::ipc::{FromRole, Peer, RoleName, SendError, ToRole, frame, peer::Heard};
use crate::status::daemon;
use crate::sys::channel::Channel;
use crate::sys::clock;
use crate::sys::process::{Exit, Process};
use crate::sys::spawn;

/// A role that ran this long is restarted at once.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// Messages that a role may send in a time window; each kibibyte of a message counts as one more. A healthy role sends
/// far fewer; the excess of a runaway one waits, so that everything else is processed.
const TALK: i64 = 256;
/// The length of that window.
const WINDOW: Duration = Duration::from_millis(100);

/// If a silent role is noticed this much after its limit, this process itself was delayed, and the role gets more
/// time.
const STALLED: Duration = Duration::from_millis(50);

/// Processor time, in ticks of 10 ms, that a silent role may use beyond its limit if it works and only gets too little of
/// the processor.
const EXTRA: u64 = 1_000;
/// What the VRRP process may use in all to stop: it holds addresses that another host takes over meanwhile.
const EXTRA_OF_VRRP: u64 = 200;

/// How long a process that has undone everything may take to end.
const EXIT_PATIENCE: Duration = Duration::from_secs(10);

/// Restart delay of a role that was ended by a signal.
const MOMENT: Duration = Duration::from_millis(300);

/// A role of which at most one process runs.
pub struct Child {
    pub role: RoleName,
    /// Whether it should run.
    pub wanted: bool,
    running: Option<Running>,
    /// Consecutive processes that ended after a short run.
    failures: u32,
    /// When it is restarted.
    restart_at: Option<Instant>,
    /// Its last process ended without undoing its changes.
    astray: bool,
    /// Processes started so far.
    starts: u32,
    pid_file: Option<PidFile>,
    /// The longest value it may send in one piece, in octets.
    longest: usize,
    /// A socket that each of its processes gets instead of a pid file.
    socket: Option<OwnedFd>,
    /// The longest time between its heartbeats.
    patience: Duration,
}

struct Running {
    process: Process,
    peer: Peer<ToRole, FromRole>,
    since: Instant,
    /// When it is considered silent for too long, unless a heartbeat arrives first.
    silent_at: Instant,
    /// How long it may take until its first heartbeat, if nothing else explains its silence.
    first: Duration,
    /// Whether there was a heartbeat at all.
    seen: bool,
    /// Its progress until the first heartbeat.
    beginning: Pace,
    /// Its progress with a new configuration.
    preparing: Pace,
    /// Its progress since its time to send a heartbeat was over, or since it was told to stop.
    overtime: Option<Pace>,
    /// It was told to stop.
    stopping: bool,
    /// Since then, if it sends heartbeats to its end: when its silence is checked, and its progress since the last one.
    ending: Option<(Instant, Pace)>,
    /// It has shut down in good order.
    done: bool,
    /// Messages that it may still send in this window; negative if it has sent more.
    talk: i64,
    /// When the next window begins.
    more_at: Instant,
}

impl Running {
    /// Whether it works although its time is over, and has used less than this, in ticks of 10 ms.
    fn works_on(&mut self, most: u64) -> bool {
        let effort = self.process.effort();
        self.overtime.get_or_insert_with(|| Pace::since(effort)).goes_on_below(most, effort)
    }

    /// It is told to stop, or is heard after that.
    fn heard_while_it_ends(&mut self) {
        let at = Instant::now() + table::STOP_PATIENCE;
        self.ending = Some((at, Pace::since(self.process.effort())));
    }

    /// When its silence has to be checked.
    fn silent_at(&self) -> Instant {
        match &self.ending {
            Some((at, _)) if !self.done => (*at).min(self.silent_at),
            _ => self.silent_at,
        }
    }

    /// Waits while it is over the limit.
    async fn pause(&mut self) {
        let now = Instant::now();
        if now >= self.more_at {
            // Silence does not increase the limit.
            self.talk = (self.talk + TALK).min(TALK);
            self.more_at = now + WINDOW;
        }
        while self.talk <= 0 {
            sleep_until(self.more_at).await;
            self.talk += TALK;
            self.more_at = Instant::now() + WINDOW;
        }
    }
}

/// What happened to a role.
#[derive(Debug)]
pub enum Happened {
    /// It sent a message, with a descriptor perhaps.
    Said(FromRole, Option<OwnedFd>),
    /// Its process ended. Its messages were processed before.
    Ended(Ended),
    RestartDue,
}

/// Why a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    AsTold,
    /// Another process sent it a signal to end, and it shut down in good order.
    BySignal,
    Failed(Exit),
}

impl Child {
    /// A role without a process.
    pub const fn new(role: RoleName) -> Self {
        Self {
            role,
            wanted: false,
            running: None,
            failures: 0,
            restart_at: None,
            astray: false,
            starts: 0,
            pid_file: None,
            longest: 0,
            socket: None,
            patience: row(role).patience,
        }
    }

    /// Sets the longest time between its heartbeats from now on.
    pub const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Limits the value it may send in several packets, in octets.
    pub fn limit(&mut self, longest: usize) {
        self.longest = longest;
        if let Some(running) = &mut self.running {
            running.peer.limit(longest);
        }
    }

    pub fn set_pid_file(&mut self, file: Option<PidFile>) {
        if let Some(old) = core::mem::replace(&mut self.pid_file, file) {
            old.remove();
        }
    }

    /// Sets the socket that its processes serve, one after the other.
    pub fn set_socket(&mut self, socket: OwnedFd) {
        self.socket = Some(socket);
    }

    /// Whether it has a pid file.
    pub const fn has_pid_file(&self) -> bool {
        self.pid_file.is_some()
    }

    /// Whether the role was started before.
    pub const fn was_started(&self) -> bool {
        self.starts > 0
    }

    /// Whether a process runs.
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether a process runs that was not told to stop: it takes configurations.
    pub fn serves(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.stopping)
    }

    /// Whether a process runs that was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.stopping)
    }

    /// Whether no process runs and the last one ended without undoing its changes.
    pub const fn is_astray(&self) -> bool {
        self.astray && self.running.is_none()
    }

    /// Starts it.
    ///
    /// # Errors
    /// If no process or descriptor is available; the start is retried later.
    pub fn start(&mut self, setup: &Setup) -> io::Result<()> {
        self.restart_at = None;
        let fd = match &self.socket {
            Some(socket) => socket.try_clone().ok(),
            None => self.pid_file.as_ref().and_then(PidFile::share),
        };
        self.take_up(spawn(self.role, setup, fd))
    }

    /// Takes charge of a started process, if it runs and its channel works.
    pub(super) fn take_up(&mut self, started: io::Result<(Process, Channel)>) -> io::Result<()> {
        match started.and_then(connected) {
            Ok((process, peer)) => {
                let first = if self.was_started() { self.next_patience() } else { FIRST_PATIENCE };
                self.starts = self.starts.saturating_add(1);
                if let Some(file) = &mut self.pid_file
                    && let Err(e) = file.write(process.pid())
                {
                    tracing::warn!("{e}");
                }
                tracing::info!("Starting {} process, pid={}", self.role, process.pid());
                self.running = Some(Running {
                    process,
                    peer,
                    since: Instant::now(),
                    silent_at: Instant::now() + first,
                    first,
                    seen: false,
                    beginning: Pace::default(),
                    preparing: Pace::default(),
                    overtime: None,
                    stopping: false,
                    ending: None,
                    done: false,
                    talk: TALK,
                    more_at: Instant::now() + WINDOW,
                });
                self.limit(self.longest);
                Ok(())
            }
            Err(e) => {
                self.retry_later();
                Err(e)
            }
        }
    }

    /// How long a process that replaces another one may take until its first heartbeat. That of vrrp finds addresses that
    /// another router takes over meanwhile; one that works or waits for a processor gets more time in any case.
    fn next_patience(&self) -> Duration {
        if self.role == RoleName::Vrrp { self.patience } else { FIRST_PATIENCE }
    }

    /// Sends it a message. If it does not accept it, it counts as hung and is killed.
    pub fn tell(&mut self, message: &ToRole, fds: Vec<OwnedFd>) {
        let Some(running) = &mut self.running else {
            return;
        };
        if matches!(message, ToRole::Stop { .. }) && !running.stopping {
            running.stopping = true;
            running.overtime = Some(Pace::since(running.process.effort()));
            if row(self.role).beats_to_the_end {
                running.heard_while_it_ends();
            }
        }
        match running.peer.post(message, fds) {
            Ok(()) | Err(SendError::Gone) => {}
            Err(e) => {
                tracing::error!("{} process: {e}, killing it", self.role);
                running.process.signal(Signal::SIGKILL);
            }
        }
    }

    /// Waits for its next event. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Happened {
        let Some(running) = &mut self.running else {
            match self.restart_at {
                Some(at) => sleep_until(at).await,
                None => core::future::pending().await,
            }
            self.restart_at = None;
            return Happened::RestartDue;
        };
        // First its messages, then its end. The end of the channel alone proves nothing: the process may have closed it
        // and still run.
        loop {
            running.pause().await;
            let Running { peer, process, talk, .. } = running;
            let heard = tokio::select! {
                biased;
                heard = peer.hear() => heard,
                () = ending(process) => Heard::End,
            };
            match heard {
                Heard::Message(message, fds) => {
                    let kibibytes = i64::try_from(peer.length() / 1024).unwrap_or(i64::MAX / 2);
                    *talk = (*talk - 1 - kibibytes).max(-8 * TALK);
                    running.silent_at = Instant::now() + self.patience;
                    if !running.stopping {
                        running.overtime = None;
                    }
                    running.seen = true;
                    if message == FromRole::Done {
                        running.done = true;
                        running.silent_at = Instant::now() + EXIT_PATIENCE;
                    }
                    if running.ending.is_some() {
                        running.heard_while_it_ends();
                    }
                    return Happened::Said(message, fds.into_iter().next());
                }
                Heard::Nonsense => *talk -= 1,
                Heard::End => break,
            }
        }
        let exit = running.process.ended().await.unwrap_or(Exit::Code(0));
        let ended = match (running.stopping, running.done) {
            (true, _) => Ended::AsTold,
            (false, true) => Ended::BySignal,
            (false, false) => Ended::Failed(exit),
        };
        let ran = running.since.elapsed();
        if ended != Ended::Failed(exit) || ran >= GOOD_RUN {
            self.failures = 0;
        }
        self.failures = row(self.role).delays.forgiven(self.failures, ran);
        self.astray = !running.done;
        self.running = None;
        match ended {
            Ended::AsTold => {}
            // If all processes of the daemon are being ended at once, this one will also be ended in a moment.
            Ended::BySignal => self.restart_at = Some(Instant::now() + MOMENT),
            Ended::Failed(_) => self.retry_later(),
        }
        Happened::Ended(ended)
    }

    fn retry_later(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let delay = row(self.role).delays.after(self.failures);
        self.restart_at = Some(Instant::now() + delay);
    }

    /// Cancels its restart.
    pub fn forget_restart(&mut self) {
        self.restart_at = None;
    }

    /// When the silence of its process exceeds the limit.
    pub fn silent_at(&self) -> Option<Instant> {
        self.running.as_ref().map(Running::silent_at)
    }

    /// Kills it if its silence exceeds the limit and nothing else explains it. `busy`: it may be applying a
    /// configuration, which delays its heartbeats.
    pub fn watch(&mut self, busy: bool) {
        let now = Instant::now();
        let due = |running: &&mut Running| running.silent_at() <= now;
        let Some(running) = self.running.as_mut().filter(due) else {
            return;
        };
        let effort = running.process.effort();
        if running.silent_at > now
            && let Some((at, pace)) = &mut running.ending
            && (now - *at > STALLED || pace.goes_on(effort))
        {
            // It works on its end, or this process itself was delayed. The usual limit applies as well.
            *at = now + table::STOP_PATIENCE;
        } else if busy || running.talk <= 0 {
            // It is over the limit of messages, so its heartbeats are not being read.
            running.silent_at = now + self.patience;
        } else if now.duration_since(running.silent_at) > STALLED {
            // This process itself was delayed, so the role need not be wedged.
            running.silent_at = now + self.patience / 4;
        } else if !running.seen && running.beginning.goes_on(effort) {
            running.silent_at = now + running.first;
        } else if self.role != RoleName::Vrrp && running.works_on(EXTRA) {
            running.silent_at = now + self.patience / 4;
        } else {
            tracing::error!(
                "{} process {} does not respond, killing it",
                self.role,
                running.process.pid()
            );
            self.kill();
        }
    }

    /// Whether it works although its time to stop is over, and may go on: it is slow, not wedged.
    pub fn works_on(&mut self) -> bool {
        let most = if self.role == RoleName::Vrrp { EXTRA_OF_VRRP } else { u64::MAX };
        self.running.as_mut().is_some_and(|running| running.works_on(most))
    }

    /// From now on it owes an answer: what it worked before does not count.
    pub fn owes_an_answer(&mut self) {
        if let Some(running) = &mut self.running {
            running.preparing = Pace::since(running.process.effort());
        }
    }

    /// Whether to continue waiting for its late answer: it is slow, not wedged.
    pub fn goes_on(&mut self) -> bool {
        self.running.as_mut().is_none_or(|r| r.preparing.goes_on(r.process.effort()))
    }

    /// Its state, for readers.
    pub fn view(&self) -> daemon::Process {
        let running = self.running.as_ref();
        daemon::Process {
            role: self.role.word().into(),
            wanted: self.wanted,
            pid: running.map(|r| r.process.pid()),
            since: running.map(|r| clock::now() - r.since.elapsed()),
            starts: self.starts,
        }
    }

    /// The work of its process so far.
    #[cfg(test)]
    pub(super) fn effort(&self) -> Option<crate::sys::process::Effort> {
        self.running.as_ref()?.process.effort()
    }

    /// Its time to send a heartbeat is over.
    #[cfg(test)]
    pub(super) fn is_overdue(&mut self) {
        if let Some(running) = &mut self.running {
            running.silent_at = Instant::now();
        }
    }

    #[cfg(test)]
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            running.process.signal(signal);
        }
    }

    pub fn kill(&mut self) {
        if let Some(running) = &mut self.running {
            running.silent_at = Instant::now() + self.patience;
            if let Some((at, _)) = &mut running.ending {
                *at = running.silent_at;
            }
            running.process.signal(Signal::SIGKILL);
        }
    }
}

/// The channel to a started process. Without one the process is useless and killed.
fn connected(
    (process, channel): (Process, Channel),
) -> io::Result<(Process, Peer<ToRole, FromRole>)> {
    match Peer::new(channel) {
        Ok(peer) => Ok((process, peer)),
        Err(e) => {
            process.signal(Signal::SIGKILL);
            tokio::spawn(async move { process.ended().await });
            Err(e)
        }
    }
}

async fn ending(process: &Process) {
    let _ = process.ending().await;
}

/// Becomes the process of a role. Returns the reason if that failed.
pub fn become_role(role: RoleName, channel: Channel) -> io::Error {
    spawn::become_role(&format!("evervipd: {role}"), &[&format!("{ARGUMENT}{role}")], channel)
}

/// The parent-death signal of roles that go on for a while: none that anybody sends for another reason, so that it means
/// the end of the supervisor and no request to stop.
pub const ORPHANED: Signal = Signal::SIGPWR;

/// The signal that the process of a role gets when the supervisor ends. Some have nothing to put in order and must not
/// stay behind, even if they are stopped; the others undo their changes and run the last programs.
pub const fn end_signal(role: RoleName) -> Signal {
    match role {
        RoleName::Config | RoleName::Api => Signal::SIGKILL,
        RoleName::Vrrp | RoleName::Checker | RoleName::Runner => ORPHANED,
    }
}

/// Starts the process of a role and sends it its setup, with a descriptor.
pub fn spawn(
    role: RoleName,
    setup: &impl Serialize,
    fd: Option<OwnedFd>,
) -> io::Result<(Process, Channel)> {
    let (near, far) = Channel::pair()?;
    let message = frame::encode(setup, fd.into_iter().collect()).map_err(io::Error::other)?;
    // The channel is empty: there is room. A process that ends at once is noticed by its end.
    frame::send(&near, &message).map_err(io::Error::other)?;
    let title = format!("evervipd: {role}");
    let process = spawn::role(&title, &[&format!("{ARGUMENT}{role}")], far, end_signal(role))?;
    Ok((process, near))
}

#[cfg(test)]
mod tests;
