//! The roles of the daemon, each a process: what runs where, and which process starts which.
//!
//! A role is this program started again by the supervisor, which passes it one channel and its [`Setup`]. It gives up
//! the privileges it does not need, starts its log and its runtime, and then follows the orders of its [`Control`].
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "part of the shell: processes, clocks, files"
)]

mod api;
mod checker;
mod child;
mod config;
pub mod confine;
mod control;
mod load;
mod notices;
mod pace;
mod peers;
mod pidfile;
mod runner;
pub mod socket;
mod standing;
pub mod supervisor;
mod systemd;
pub mod table;
mod vrrp;

/// Parsers of data that other programs may have written, for fuzzers.
#[doc(hidden)]
pub mod fuzz {
    pub use super::checker::record::{services, text};
    pub use super::pidfile::number;
}

use core::time::Duration;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::cli::exit::Exit;
use crate::ipc::{RoleName, frame};
use crate::log;
use crate::sys::channel::Channel;
use crate::sys::{process, sched, spawn};

pub use control::Control;

/// The argument by which a process knows that it is a role, before the role's name.
pub const ARGUMENT: &str = "--role=";

/// The first message to a role. The descriptor of its pid file, if it has one, is sent with it: its lock lasts as long
/// as the role. `api` gets the control socket, `runner` one for process events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Where to log.
    pub log: log::Settings,
    /// On SIGTERM, or when the supervisor ends: leave the kernel as it is.
    pub keep: bool,
    /// The daemon stops: the role is only started to undo the changes of its last process.
    pub undo: bool,
    /// It is not the first process of its role.
    pub again: bool,
    pub ignore_sigint: bool,
    /// Log added and removed addresses.
    pub watch_addresses: bool,
    /// `--no_bfd`: no BFD sessions are started.
    pub no_bfd: bool,
    /// User and group of roles that are confined; none: they keep those of the supervisor.
    pub user: Option<(u32, u32)>,
    /// A crash should leave a core file.
    pub core_files: bool,
    /// `--umask`, which overrides the umask in the configuration.
    pub umask: Option<u32>,
    /// The mark of interfaces that this daemon creates; empty: none.
    pub mark: Box<str>,
    /// A file that the role writes, which may belong to root: it is opened before the rights for it are given up.
    pub writes: Option<Box<[u8]>>,
}

/// What a role starts with.
pub struct Start {
    pub setup: Setup,
    /// The channel to the supervisor.
    pub control: Channel,
    /// The descriptor sent with the setup: its pid file, which keeps the lock, or for some roles a socket.
    fd: Option<OwnedFd>,
    /// The file that it writes.
    file: Option<File>,
    /// User and group of this process before it changed them.
    user: (u32, u32),
}

/// Runs the role of this name in this process, from start to end.
#[must_use]
pub fn main(name: &str) -> ExitCode {
    sched::thrifty_allocator();
    process::unblock_signals();
    let (Some(role), Ok(control)) =
        (RoleName::from_word(name), Channel::inherited(spawn::CONTROL_FD))
    else {
        crate::cli::print::say(format_args!("evervipd: {ARGUMENT} is for the daemon's own use"));
        return Exit::Fatal.into();
    };
    let row = table::row(role);
    if row.keeps_memory > 0 {
        sched::keep_memory(row.keeps_memory);
    }
    process::set_name(row.title);
    // Again: the kernel cleared it if this process gained capabilities that the supervisor has given up.
    if let Err(e) = process::follow_parent(child::end_signal(role)) {
        tracing::debug!("no signal at the end of the supervisor: {e}");
    }
    let Some(start) = begin(role, control) else {
        return Exit::Internal.into();
    };
    let exit = match role {
        RoleName::Config => config::run(start),
        RoleName::Vrrp => serve(start, vrrp::run),
        RoleName::Runner => serve(start, runner::run),
        RoleName::Checker => serve(start, checker::run),
        RoleName::Api => serve(start, api::run),
    };
    log::flush(Duration::from_secs(1));
    exit.into()
}

/// Waits for the setup and applies it.
fn begin(role: RoleName, control: Channel) -> Option<Start> {
    let mut buffer = vec![0; frame::BUFFER];
    // The supervisor sends it right after the start, unless it is gone.
    control.wait(Duration::from_secs(10)).ok().filter(|ready| *ready)?;
    let (setup, fds) = frame::receive::<Setup>(&control, &mut buffer).ok()??;
    let row = table::row(role);
    let user = process::own_user();
    // Messages about a configuration are logged under the daemon's own name.
    let own =
        if role == RoleName::Config { setup.log.for_daemon() } else { setup.log.for_role(row.log) };
    let log = log::Ready::open(&own).ok()?;
    let file = setup.writes.as_deref().map(written).transpose();
    let confined = confine::enter(&row, &setup);
    // Not before: the thread of the log would keep the privileges that this one gives up.
    log.start().ok()?;
    let remarks = match confined {
        Ok(remarks) => remarks,
        Err(e) => {
            tracing::error!("cannot drop privileges: {e}");
            return None;
        }
    };
    remarks.tell(role);
    let file = file.unwrap_or_else(|(path, e)| {
        tracing::warn!("cannot write {path}: {e}");
        None
    });
    Some(Start { setup, control, fd: fds.into_iter().next(), file, user })
}

/// Opens a file that the role will write, without changing it yet.
fn written(path: &[u8]) -> Result<File, (String, std::io::Error)> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(OsStr::from_bytes(path))
        .map_err(|e| (String::from_utf8_lossy(path).into_owned(), e))
}

/// Runs a role on a runtime of this thread.
fn serve<F: Future<Output = Exit>>(start: Start, role: impl FnOnce(Control) -> F) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Only for name lookups.
        .max_blocking_threads(2)
        .thread_stack_size(256 << 10)
        .build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(async {
                match Control::new(start) {
                    Ok(control) => role(control).await,
                    Err(e) => {
                        tracing::error!("lost the connection to the supervisor: {e}");
                        Exit::Internal
                    }
                }
            });
            // A name server that does not answer must not delay the end.
            runtime.shutdown_background();
            exit
        }
        Err(e) => {
            tracing::error!("cannot start a runtime: {e}");
            Exit::Internal
        }
    }
}
