//! Programs of users: run one, end it in time, whatever it does.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::sys::signal::Signal;
use tokio::time::timeout;

use crate::model::{Command, User};
use crate::status::RunEnd;
use crate::sys::process::{Exit, Process};
use crate::sys::spawn::{self, Account};

/// From SIGTERM to SIGKILL, for tracking scripts.
const GRACE: Duration = Duration::from_secs(2);
/// How long a process that was sent SIGKILL may hang in the kernel before it is given up.
const LAST: Duration = Duration::from_secs(2);

/// A program that runs. Dropping this leaves it running.
pub struct Running {
    process: Process,
    name: String,
}

impl Running {
    /// Starts `command`.
    ///
    /// # Errors
    /// The reason why it cannot be started.
    pub fn start(command: &Command) -> io::Result<Self> {
        let account = command.user.as_ref().map(account);
        let shell = || {
            let line = spawn::shell_line(&command.words);
            let words: [&[u8]; 3] = [b"/bin/sh", b"-c", line.as_bytes()];
            spawn::program(&words.map(Box::from), account)
        };
        let process = if command.through_shell {
            shell()
        } else {
            match spawn::program(&command.words, account) {
                // A script without an interpreter line.
                Err(e) if e.raw_os_error() == Some(libc::ENOEXEC) => shell(),
                other => other,
            }
        }?;
        tracing::debug!("running {} as process {}", command.display(), process.pid());
        Ok(Self { process, name: command.display() })
    }

    /// Waits until it ends. After `limit` it is made to end: SIGTERM to its process group, SIGKILL after `grace`.
    /// What it started and left behind is ended as well in that case, and only then.
    pub async fn end(self, limit: Option<Duration>, grace: Duration) -> RunEnd {
        let in_time = match limit {
            Some(limit) => timeout(limit, self.process.ending()).await.is_ok(),
            None => {
                let _ = self.process.ending().await;
                true
            }
        };
        if in_time {
            return match self.process.ended().await {
                Ok(Exit::Code(code)) => RunEnd::Exit(code),
                Ok(Exit::Signal(number)) => RunEnd::Signal(number),
                Err(e) => RunEnd::NotStarted(e.raw_os_error().unwrap_or(libc::ECHILD)),
            };
        }
        self.kill(grace).await;
        RunEnd::TimedOut
    }

    /// Ends it and everything in its process group.
    async fn kill(self, grace: Duration) {
        if !grace.is_zero() {
            self.process.signal_group(Signal::SIGTERM);
            let _ = timeout(grace, self.process.ending()).await;
        }
        // Whoever of its group has not ended ends now. It has not been reaped, so the group is still its own.
        self.process.signal_group(Signal::SIGKILL);
        if timeout(LAST, self.process.ending()).await.is_ok() {
            let _ = self.process.ended().await;
            return;
        }
        tracing::warn!(
            "{} (process {}) failed to terminate after kill",
            self.name,
            self.process.pid()
        );
        // It hangs in the kernel, on a dead file server for example. Nobody waits for it but the reaper.
        tokio::spawn(async move {
            let _ = self.process.ended().await;
        });
    }

    /// Waits until it has ended; nothing is done about it. May be dropped and called again.
    pub async fn ending(&self) {
        let _ = self.process.ending().await;
    }

    /// A descriptor of its process, for whoever waits for it after this process has gone; none when there is none to be
    /// had.
    #[must_use]
    pub fn share(&self) -> Option<OwnedFd> {
        self.process.share().ok()
    }

    /// The command line, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Runs a program whose status matters, for at most `limit`.
pub async fn run(command: &Command, limit: Duration) -> RunEnd {
    match Running::start(command) {
        Ok(running) => running.end(Some(limit), GRACE).await,
        Err(e) => {
            // Each run fails the same way: the engine says so when the condition of the script changes.
            tracing::debug!("cannot run {}: {e}", command.display());
            RunEnd::NotStarted(e.raw_os_error().unwrap_or(libc::EIO))
        }
    }
}

fn account(user: &User) -> Account<'_> {
    Account { uid: user.uid, gid: user.gid, groups: &user.groups }
}

#[cfg(test)]
mod tests;
