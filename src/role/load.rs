//! The supervisor's side of reading a configuration: starts the config process, waits for its verdict, and makes sure
//! that it ends.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Setup, child};
use crate::ipc::{FromConfig, LoadReport, LoadRequest, Peer, Remark, RoleName};
use crate::sys::process::Exit;

/// How long reading may take. Most of it would be waiting for name servers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Minimum time it gets when another reload waits: it may hang on a dead file server, and the other one reads newer
/// files.
const HURRY: Duration = Duration::from_secs(5);
/// How long the process may take to end after its verdict.
const LAST: Duration = Duration::from_secs(2);
/// How long it may take to end when it is killed.
const KILLED: Duration = Duration::from_millis(500);

/// Largest number of lines about a configuration that the supervisor logs, well below the queue size of the log. The
/// config process logs the others.
pub const MOST_REMARKS: usize = 1000;

/// The longest verdict, in octets: decoded it takes many times that size.
pub const LONGEST_VERDICT: usize = 512 << 10;

/// The result of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    pub report: Box<LoadReport>,
    /// The parts for the roles, if it can be used.
    pub parts: Option<Parts>,
    remarks: Vec<Remark>,
}

impl Loaded {
    /// Logs what there is to say about it.
    pub fn tell(&self) {
        for Remark { is_error, text } in self.remarks.iter().take(MOST_REMARKS) {
            if *is_error {
                tracing::error!("{text}");
            } else {
                tracing::warn!("{text}");
            }
        }
    }
}

/// Sealed memory with the part of each role.
#[derive(Debug)]
pub struct Parts {
    vrrp: OwnedFd,
    checker: OwnedFd,
    runner: OwnedFd,
}

impl Parts {
    /// The part of a role.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn of(&self, role: RoleName) -> io::Result<OwnedFd> {
        match role {
            RoleName::Vrrp | RoleName::Config | RoleName::Api => &self.vrrp,
            RoleName::Checker => &self.checker,
            RoleName::Runner => &self.runner,
        }
        .try_clone()
    }
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The process cannot be started.
    #[error("the process that reads the configuration cannot be started: {0}")]
    Start(#[from] io::Error),
    /// It ended without a verdict.
    #[error("the process that reads the configuration {0}")]
    Ended(Exit),
    /// It took too long.
    #[error("the process that reads the configuration took longer than {PATIENCE:?}")]
    TooLong,
    /// It took long and another reload was waiting.
    #[error("reading the configuration took longer than {HURRY:?}, and another reload waits")]
    GaveUp,
}

/// Reads the configuration in a process of its own. `hurry` reports that another reload waits.
///
/// # Errors
/// If that process gives no verdict.
pub async fn load(
    mut setup: Setup,
    request: LoadRequest,
    hurry: oneshot::Receiver<()>,
) -> Result<Loaded, LoadError> {
    let begun = Instant::now();
    setup.writes = request.check.clone();
    let (process, channel) = child::spawn(RoleName::Config, &setup, None)?;
    let mut peer: Peer<LoadRequest, FromConfig> = Peer::new(channel)?;
    peer.limit(LONGEST_VERDICT);
    let answer = match peer.post(&request, Vec::new()) {
        Ok(()) => tokio::select! {
            biased;
            answer = timeout(PATIENCE, peer.next()) => answer.map_err(|_| LoadError::TooLong),
            () = hurried(hurry, begun + HURRY) => Err(LoadError::GaveUp),
        },
        Err(_) => Ok(None),
    };
    drop(peer);
    let exit = match &answer {
        // It gets the time to write its log, but no more.
        Ok(_) => timeout(LAST, process.ended()).await.ok().and_then(Result::ok),
        Err(_) => None,
    };
    let exit = match exit {
        Some(exit) => exit,
        None => {
            process.signal(Signal::SIGKILL);
            match timeout(KILLED, process.ended()).await {
                Ok(exit) => exit?,
                Err(_) => {
                    // It hangs in the kernel, for example on a dead file server: other configurations can be read
                    // meanwhile.
                    let pid = process.pid();
                    tracing::warn!("config process {pid} failed to terminate after kill");
                    tokio::spawn(async move {
                        let _ = process.ended().await;
                    });
                    Exit::Signal(Signal::SIGKILL as i32)
                }
            }
        }
    };
    match answer {
        Ok(Some((FromConfig::Loaded(report, remarks), fds))) => {
            let mut fds = fds.into_iter();
            let parts = match (fds.next(), fds.next(), fds.next()) {
                (Some(vrrp), Some(checker), Some(runner)) => Some(Parts { vrrp, checker, runner }),
                _ => None,
            };
            Ok(Loaded { report, parts, remarks })
        }
        Ok(None) => Err(LoadError::Ended(exit)),
        Err(e) => Err(e),
    }
}

/// Waits until another reload is waiting, and until this time.
async fn hurried(hurry: oneshot::Receiver<()>, until: Instant) {
    if hurry.await.is_err() {
        core::future::pending::<()>().await;
    }
    sleep_until(until).await;
}
