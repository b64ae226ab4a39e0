//! The supervisor's view of one role: its process, its channel and its health.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::pidfile::PidFile;
use super::table::{self, FIRST_PATIENCE, Row};
use super::{ARGUMENT, Setup};
use crate::ipc::{FromRole, Peer, RoleName, SendError, ToRole, frame, peer::Heard};
use crate::status::daemon;
use crate::sys::channel::Channel;
use crate::sys::clock;
use crate::sys::process::{Exit, Process};
use crate::sys::spawn;

/// A role that ran this long is restarted at once.
const GOOD_RUN: core::time::Duration = core::time::Duration::from_secs(60);

/// Messages that a role may send in a time window; each kibibyte of a message counts as one more. A healthy role sends
/// far fewer; the excess of a runaway one waits, so that everything else is processed.
const TALK: i64 = 256;
/// The length of that window.
const WINDOW: core::time::Duration = core::time::Duration::from_millis(100);

/// Restart delay of a role that was ended by a signal.
const MOMENT: core::time::Duration = core::time::Duration::from_millis(300);

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
}

struct Running {
    process: Process,
    peer: Peer<ToRole, FromRole>,
    since: Instant,
    /// Checks since the last heartbeat.
    missed: u32,
    /// Whether there was a heartbeat at all.
    seen: bool,
    /// It was told to stop.
    stopping: bool,
    /// It has shut down in good order.
    done: bool,
    /// Messages that it may still send in this window; negative if it has sent more.
    talk: i64,
    /// When the next window begins.
    more_at: Instant,
}

impl Running {
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
    /// It sent a message.
    Said(FromRole),
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
        }
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
    fn take_up(&mut self, started: io::Result<(Process, Channel)>) -> io::Result<()> {
        match started.and_then(connected) {
            Ok((process, peer)) => {
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
                    missed: 0,
                    seen: false,
                    stopping: false,
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

    /// Sends it a message. If it does not accept it, it counts as hung and is killed.
    pub fn tell(&mut self, message: &ToRole, fds: Vec<OwnedFd>) {
        let Some(running) = &mut self.running else {
            return;
        };
        running.stopping |= matches!(message, ToRole::Stop { .. });
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
                Heard::Message(message, _) => {
                    let kibibytes = i64::try_from(peer.length() / 1024).unwrap_or(i64::MAX / 2);
                    *talk = (*talk - 1 - kibibytes).max(-8 * TALK);
                    running.missed = 0;
                    running.seen = true;
                    running.done |= message == FromRole::Done;
                    return Happened::Said(message);
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
        if ended != Ended::Failed(exit) || running.since.elapsed() >= GOOD_RUN {
            self.failures = 0;
        }
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
        let delay = table::row(self.role).delays.after(self.failures);
        self.restart_at = Some(Instant::now() + delay);
    }

    /// Cancels its restart.
    pub fn forget_restart(&mut self) {
        self.restart_at = None;
    }

    /// Checks it, once per `period`: kills it if it has been silent for too long. Counts checks and not time, so that a
    /// stall of this process itself is not blamed on the role.
    pub fn look(&mut self, period: core::time::Duration) {
        let Some(running) = &mut self.running else {
            return;
        };
        let Row { patience, .. } = table::row(self.role);
        let first = FIRST_PATIENCE.as_micros() / period.as_micros().max(1);
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        let patience = if running.seen { patience } else { patience.max(first) };
        if running.talk <= 0 {
            // It is over the limit, so its messages are not being read.
            return;
        }
        running.missed += 1;
        if running.missed > patience && !running.stopping {
            tracing::error!(
                "{} process {} does not respond, killing it",
                self.role,
                running.process.pid()
            );
            self.kill();
        }
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

    pub fn kill(&mut self) {
        if let Some(running) = &mut self.running {
            running.missed = 0;
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

/// Starts the process of a role and sends it its setup, with a descriptor.
pub fn spawn(
    role: RoleName,
    setup: &impl Serialize,
    fd: Option<OwnedFd>,
) -> io::Result<(Process, Channel)> {
    let (near, far) = Channel::pair()?;
    let title = format!("evervipd: {role}");
    let process = spawn::role(&title, &[&format!("{ARGUMENT}{role}")], far)?;
    let message = frame::encode(setup, fd.into_iter().collect()).map_err(io::Error::other)?;
    // The channel is empty: there is room.
    frame::send(&near, &message).map_err(io::Error::other)?;
    Ok((process, near))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::sys::testing;

    #[test]
    fn a_process_that_cannot_be_talked_to_is_ended_and_started_again() {
        testing::run(async {
            let mut child = Child::new(RoleName::Vrrp);
            for attempt in 1..=3 {
                // A descriptor that epoll refuses, as it refuses any if the kernel has no memory.
                let file = tempfile::tempfile().unwrap();
                let process = idle();
                let pid = process.pid();
                let refused = child.take_up(Ok((process, Channel::from_fd(file.into()))));
                assert!(refused.is_err(), "attempt {attempt}");
                assert!(!child.is_running());
                // Its restart is due without a request.
                let next = tokio::time::timeout(PATIENCE, child.next()).await;
                assert!(matches!(next, Ok(Happened::RestartDue)), "attempt {attempt}: {next:?}");
                // The process is gone, and not a zombie.
                let gone = async {
                    while File::open(format!("/proc/{pid}/stat")).is_ok() {
                        tokio::time::sleep(core::time::Duration::from_millis(5)).await;
                    }
                };
                assert!(tokio::time::timeout(PATIENCE, gone).await.is_ok(), "{pid} is still there");
            }
            let (near, _far) = Channel::pair().unwrap();
            child.take_up(Ok((idle(), near))).unwrap();
            assert!(child.is_running());
            child.kill();
            assert!(matches!(child.next().await, Happened::Ended(Ended::Failed(_))));
        });
    }

    const PATIENCE: core::time::Duration = core::time::Duration::from_secs(30);

    /// A process that waits to be killed.
    fn idle() -> Process {
        let words: [&[u8]; 2] = [b"/bin/sleep", b"60"];
        spawn::program(&words.map(Box::from), false, None).unwrap().process
    }
}
