//! Destinations of log lines: syslog or the journal, standard error, a file.
//!
//! `tracing` events become records in a queue; one thread of each process writes them. So a pipe, a disk or a syslog
//! daemon that blocks only stalls that thread. When the queue is full records are dropped and counted. The real-time
//! thread has a queue of its own without locks.
//!
//! Fields `instance`, `vrid`, `state` and `service` become separate fields in the journal; the text contains them
//! already. Other fields are appended to the text.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "part of the shell: clocks, files, a thread"
)]

mod file;
#[doc(hidden)]
pub mod fuzz;
mod journald;
mod record;
mod ring;
mod syslog;
#[cfg(test)]
mod tests;
mod writer;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

use record::Record;
use ring::Shared;
pub use syslog::Facility;

/// The settings of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The name before each line in syslog, for example `evervip_vrrp`.
    pub identity: String,
    /// The suffix of names that distinguishes the daemon from others on the machine.
    pub suffix: String,
    /// Log to syslog, or to the journal if it exists (off: `--no-syslog`).
    pub syslog: bool,
    /// The facility in syslog.
    pub facility: Facility,
    /// Log to standard error as well (`--log-console` with `--dont-fork`).
    pub console: bool,
    /// Log to this file as well (`--log-file`).
    pub file: Option<PathBuf>,
    /// Level of detail: 0 events, 1 details (`--log-detail`), 2 more details.
    pub detail: u8,
}

impl Settings {
    /// The settings for a role of the daemon: its name is added to the identity and to the name of the file.
    #[must_use]
    pub fn for_role(&self, role: &str) -> Self {
        self.named(&format!("_{role}{}", self.suffix))
    }

    /// The settings for the daemon itself.
    #[must_use]
    pub fn for_daemon(&self) -> Self {
        self.named(&self.suffix)
    }

    fn named(&self, added: &str) -> Self {
        let file = self.file.as_ref().map(|path| {
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
            let mut name = format!("{}{added}", stem.unwrap_or_default());
            if let Some(extension) = path.extension() {
                name.push('.');
                name.push_str(&extension.to_string_lossy());
            }
            path.with_file_name(name)
        });
        let identity = format!("{}{added}", self.identity);
        Self { identity, suffix: String::new(), file, ..self.clone() }
    }

    fn level(&self) -> LevelFilter {
        match self.detail {
            0 => LevelFilter::INFO,
            1 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }
}

/// The log of this process.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    shared: Arc<Shared>,
    /// The queue of the real-time thread, until that takes it.
    real_time: Mutex<Option<ring::Input>>,
}

/// Starts logging in this process; once.
///
/// # Errors
/// If the thread cannot be started, the file cannot be opened, or the log is started already.
pub fn start(settings: &Settings) -> io::Result<()> {
    Ready::open(settings)?.start()
}

/// A log whose destinations are open: to be started after the process has given up the privileges needed to open them,
/// so that the writing thread does not keep them.
pub struct Ready {
    writer: writer::Writer,
    level: LevelFilter,
}

impl Ready {
    /// Opens the destinations.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        Ok(Self { writer: writer::Writer::new(settings)?, level: settings.level() })
    }

    /// Starts logging in this process; once.
    ///
    /// # Errors
    /// If the thread cannot be started, or the log is started already.
    pub fn start(self) -> io::Result<()> {
        launch(self)
    }
}

fn launch(Ready { writer, level }: Ready) -> io::Result<()> {
    let (shared, collector, real_time, outputs) = ring::make(level)?;
    let thread = std::thread::Builder::new().name("log".into()).stack_size(64 << 10);
    let for_writer = Arc::clone(&shared);
    LOG.set(Log { shared, real_time: Mutex::new(Some(real_time)) })
        .map_err(|_| io::ErrorKind::AlreadyExists)?;
    thread.spawn(move || writer.run(&for_writer, outputs))?;
    tracing::subscriber::set_global_default(collector).map_err(|_| io::ErrorKind::AlreadyExists)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no words");
        tracing::error!("defect at {place}: {text}; please report it");
    }));
    Ok(())
}

/// Gives the calling thread a queue of its own, for the real-time thread: writing a record takes no lock then, and
/// wakes no thread until [`nudge`] is called.
pub fn enter_real_time() {
    if let Some(log) = LOG.get() {
        let input = log.real_time.lock().unwrap_or_else(PoisonError::into_inner).take();
        ring::own(input);
    }
}

/// Wakes the writing thread for the records that the calling thread has put into its own queue.
pub fn nudge() {
    if ring::take_quiet()
        && let Some(log) = LOG.get()
    {
        log.shared.wake.call();
    }
}

/// Waits until everything logged so far is written, for at most `limit`.
pub fn flush(limit: Duration) {
    if let Some(log) = LOG.get() {
        let (done, wait) = mpsc::sync_channel(1);
        log.shared.ask_flush(done);
        let _ = wait.recv_timeout(limit);
    }
}

/// Reopens the log file, for `logrotate`.
pub fn reopen() {
    if let Some(log) = LOG.get() {
        log.shared.reopen.store(true, Ordering::Relaxed);
        log.shared.wake.call();
    }
}

/// Counts of records that were dropped.
#[derive(Debug, Default)]
struct Lost {
    total: AtomicU64,
    told: AtomicBool,
}
