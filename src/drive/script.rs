//! Users' programs: run one, and terminate it in time, whatever it does.

use core::time::Duration;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::model::{Command, User};
use crate::status::RunEnd;
use crate::sys::process::{Exit, Stranger};
use crate::sys::spawn::{self, Account, Program};

/// From SIGTERM to SIGKILL, for tracking scripts.
const GRACE: Duration = Duration::from_secs(2);
/// The same for programs that are not needed any more, as in keepalived.
pub const STOP_GRACE: Duration = Duration::from_secs(1);
/// How long a process may hang in the kernel after SIGKILL before it is abandoned.
const LAST: Duration = Duration::from_secs(2);

/// A running program. Dropping this leaves it running.
pub struct Running {
    program: Program,
    name: String,
}

impl Running {
    /// Starts `command`, without waiting until it is loaded: that may take as long as a file server is dead.
    ///
    /// # Errors
    /// The reason if no process can be created. A missing program is reported at the end.
    pub fn start(command: &Command) -> io::Result<Self> {
        let account = command.user.as_ref().map(account);
        let program = spawn::program(&command.words, command.through_shell, account)?;
        tracing::trace!("running {} as process {}", command.display(), program.process.pid());
        Ok(Self { program, name: command.display() })
    }

    /// Waits until it ends. After `limit` it is terminated as by [`Self::stop`].
    pub async fn end(self, limit: Option<Duration>, grace: Duration) -> RunEnd {
        let in_time = match limit {
            Some(limit) => timeout(limit, self.ending()).await.is_ok(),
            None => {
                self.ending().await;
                true
            }
        };
        if in_time {
            return self.outcome().await;
        }
        self.stop(grace).await;
        RunEnd::TimedOut
    }

    /// How it ended.
    async fn outcome(&self) -> RunEnd {
        let end = self.program.process.ended().await;
        if let Some(number) = self.program.failure() {
            return RunEnd::NotStarted(number);
        }
        match end {
            Ok(Exit::Code(code)) => RunEnd::Exit(code),
            Ok(Exit::Signal(number)) => RunEnd::Signal(number),
            Err(e) => RunEnd::NotStarted(e.raw_os_error().unwrap_or(libc::ECHILD)),
        }
    }

    /// Terminates it: SIGTERM to its process group, SIGKILL after `grace`. Only in the latter case the processes that
    /// it left behind are killed as well. Returns the task that still waits for it if it cannot be killed.
    pub async fn stop(self, grace: Duration) -> Option<JoinHandle<()>> {
        let process = &self.program.process;
        if !grace.is_zero() {
            process.signal_group(Signal::SIGTERM);
            let _ = timeout(grace, process.ending()).await;
        }
        // Kills the rest of its group. It has not been reaped, so the group is still its own.
        process.signal_group(Signal::SIGKILL);
        if timeout(LAST, process.ending()).await.is_ok() {
            let _ = process.ended().await;
            return None;
        }
        tracing::warn!("{} (process {}) failed to terminate after kill", self.name, process.pid());
        // It hangs in the kernel, for example on a dead file server. Only the reaper waits for it.
        Some(tokio::spawn(async move {
            let _ = self.program.process.ended().await;
        }))
    }

    /// Waits until it has ended; nothing is done about it. May be dropped and called again.
    pub async fn ending(&self) {
        let _ = self.program.process.ending().await;
    }

    /// A descriptor of its process, for whoever waits for it after this process has gone; none when there is none to be
    /// had.
    #[must_use]
    pub fn share(&self) -> Option<OwnedFd> {
        self.program.process.share().ok()
    }

    /// The command line, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Terminates a program that another process started, as [`Running::stop`].
pub async fn stop_stranger(process: &Stranger, grace: Duration) {
    if !grace.is_zero() {
        process.signal_group(Signal::SIGTERM);
        let _ = timeout(grace, process.ending()).await;
    }
    process.signal_group(Signal::SIGKILL);
    if timeout(LAST, process.ending()).await.is_err() {
        tracing::warn!("a program of the previous runner failed to terminate after kill");
    }
}

/// Programs whose status matters.
#[derive(Clone, Default)]
pub struct Checks {
    /// Programs that hang in the kernel and cannot be killed. Another process of the same program would hang as well.
    hanging: Arc<Mutex<BTreeSet<String>>>,
}

impl Checks {
    /// Runs a program for at most `limit`. If `stopped` comes first, it is terminated within somewhat more than a
    /// second, and the result is meaningless.
    pub async fn run(
        &self,
        command: &Command,
        limit: Duration,
        stopped: impl Future<Output = ()>,
    ) -> RunEnd {
        let name = command.display();
        if self.hanging().contains(&name) {
            tracing::debug!("not running {name}: its last process hangs and cannot be killed");
            return RunEnd::TimedOut;
        }
        let running = match Running::start(command) {
            Ok(running) => running,
            Err(e) => {
                // Each run fails in the same way: the engine logs it when the condition of the script changes.
                tracing::trace!("cannot run {name}: {e}");
                return RunEnd::NotStarted(e.raw_os_error().unwrap_or(libc::EIO));
            }
        };
        let grace = tokio::select! {
            biased;
            () = running.ending() => return running.outcome().await,
            () = tokio::time::sleep(limit) => GRACE,
            () = stopped => STOP_GRACE,
        };
        if let Some(hangs) = running.stop(grace).await {
            self.hanging().insert(name.clone());
            let all = self.clone();
            tokio::spawn(async move {
                let _ = hangs.await;
                all.hanging().remove(&name);
            });
        }
        RunEnd::TimedOut
    }

    fn hanging(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn account(user: &User) -> Account<'_> {
    Account { uid: user.uid, gid: user.gid, groups: &user.groups }
}

#[cfg(test)]
mod tests;
