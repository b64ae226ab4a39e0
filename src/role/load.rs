//! The supervisor's side of reading a configuration: starts the config process, waits for its verdict, and makes sure
//! that it ends.

use core::fmt;
use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::pace::Pace;
use super::{Setup, child};
use crate::ipc::frame::SendError;
use crate::ipc::{FromConfig, LoadReport, LoadRequest, Peer, Remark, RoleName};
use crate::sys::process::{Exit, Process};

/// How long reading may take while the process uses no processor time. Most of it would be waiting for name servers.
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
    /// The process that read it.
    reader: Option<Reader>,
    remarks: Vec<Remark>,
}

impl Loaded {
    /// Takes the process that read it, which can read the next one faster. None at the start of the daemon.
    pub fn take_reader(&mut self) -> Option<Reader> {
        self.reader.take()
    }

    /// Logs the findings about the configuration.
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
    /// The part of `checker` as the difference to that of another configuration.
    change: Option<OwnedFd>,
}

impl Parts {
    /// Takes the part of `checker` as a difference, if there is one. It is of use once.
    pub const fn take_change(&mut self) -> Option<OwnedFd> {
        self.change.take()
    }

    #[cfg(test)]
    pub(super) const fn new(vrrp: OwnedFd, checker: OwnedFd, runner: OwnedFd) -> Self {
        Self { vrrp, checker, runner, change: None }
    }

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

/// A process that reads configurations.
pub struct Reader {
    process: Process,
    peer: Peer<LoadRequest, FromConfig>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.process.pid()).finish()
    }
}

impl Reader {
    /// Starts it.
    ///
    /// # Errors
    /// When the limit of processes or descriptors is reached.
    pub fn start(setup: &Setup) -> io::Result<Self> {
        let (process, channel) = child::spawn(RoleName::Config, setup, None)?;
        let mut peer = Peer::new(channel)?;
        peer.limit(LONGEST_VERDICT);
        Ok(Self { process, peer })
    }

    /// Waits until it has ended, and reaps it.
    pub async fn ended(&self) {
        let _ = self.process.ended().await;
    }

    /// Lets it read the configuration now, so that the request that follows only takes the time for what has changed
    /// by then. It does not answer.
    ///
    /// # Errors
    /// If it has ended.
    pub fn read_ahead(&mut self, request: LoadRequest) -> Result<(), SendError> {
        self.peer.post(&LoadRequest { ahead: true, ..request }, Vec::new())
    }

    /// Lets it end, which is not awaited because freeing its memory takes time.
    pub fn release(self) {
        let Self { process, peer } = self;
        // The end of the channel tells it to end.
        drop(peer);
        tokio::spawn(see_off(process, LAST));
    }

    /// Ends it at once.
    pub async fn dismiss(self) {
        let _ = see_off(self.process, Duration::ZERO).await;
    }
}

/// Reads the configuration in a process of its own: in `ready`, which has read an earlier one, or else in a new one.
/// `hurry` reports that another reload waits.
///
/// # Errors
/// If that process gives no verdict.
pub async fn load(
    mut setup: Setup,
    request: LoadRequest,
    mut hurry: oneshot::Receiver<()>,
    mut ready: Option<Reader>,
) -> Result<Loaded, LoadError> {
    let begun = Instant::now();
    setup.writes = request.check.clone();
    let is_reload = request.known.is_some();
    let (process, peer, answer) = loop {
        let was_ready = ready.is_some();
        let Reader { process, mut peer } = match ready.take() {
            Some(reader) => reader,
            None => Reader::start(&setup)?,
        };
        let answer = match peer.post(&request, Vec::new()) {
            Ok(()) => tokio::select! {
                biased;
                answer = answer(&mut peer, &process) => answer,
                () = hurried(&mut hurry, begun + HURRY) => Err(LoadError::GaveUp),
            },
            Err(_) => Ok(None),
        };
        if was_ready && matches!(answer, Ok(None)) {
            // The process was killed while it waited for its request, or cannot read this one.
            drop(peer);
            tokio::spawn(see_off(process, LAST));
            continue;
        }
        break (process, peer, answer);
    };
    match answer {
        Ok(Some((FromConfig::Loaded(report, remarks), fds))) => {
            let reader = if is_reload {
                Some(Reader { process, peer })
            } else {
                drop(peer);
                // The daemon may end next, so the process must have written its log.
                see_off(process, LAST).await?;
                None
            };
            let mut fds = fds.into_iter();
            let parts = match (fds.next(), fds.next(), fds.next()) {
                (Some(vrrp), Some(checker), Some(runner)) => {
                    Some(Parts { vrrp, checker, runner, change: fds.next() })
                }
                _ => None,
            };
            Ok(Loaded { report, parts, remarks, reader })
        }
        Ok(None) => Err(LoadError::Ended(see_off(process, LAST).await?)),
        Err(e) => {
            see_off(process, Duration::ZERO).await?;
            Err(e)
        }
    }
}

/// The answer of the process. The time limit is extended while the process is slow and not wedged.
async fn answer(
    peer: &mut Peer<LoadRequest, FromConfig>,
    process: &Process,
) -> Result<Option<(FromConfig, Vec<OwnedFd>)>, LoadError> {
    let mut pace = Pace::default();
    loop {
        match timeout(PATIENCE, peer.next()).await {
            Ok(answer) => return Ok(answer),
            Err(_) if pace.goes_on(process.effort()) => {
                tracing::warn!("the configuration is still being read");
            }
            Err(_) => return Err(LoadError::TooLong),
        }
    }
}

/// Waits for the end of the process, which may still write its log, and kills it if it takes too long.
async fn see_off(process: Process, patience: Duration) -> io::Result<Exit> {
    if let Ok(exit) = timeout(patience, process.ended()).await {
        return exit;
    }
    process.signal(Signal::SIGKILL);
    if let Ok(exit) = timeout(KILLED, process.ended()).await {
        return exit;
    }
    // It hangs in the kernel, for example on a dead file server: other configurations can be read meanwhile.
    let pid = process.pid();
    tracing::warn!("config process {pid} failed to terminate after kill");
    tokio::spawn(async move {
        let _ = process.ended().await;
    });
    Ok(Exit::Signal(Signal::SIGKILL as i32))
}

/// Waits until another reload is waiting, and until this time.
async fn hurried(hurry: &mut oneshot::Receiver<()>, until: Instant) {
    if hurry.await.is_err() {
        core::future::pending::<()>().await;
    }
    sleep_until(until).await;
}
