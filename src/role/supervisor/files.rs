//! The files of the first process: pid files, the control socket, the checker's record of virtual servers. Their
//! content is left to [`super::super::pidfile`], `socket` and the checker.

use core::time::Duration;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::place::Place;
use crate::cli::args::Options;
use crate::role::pidfile::{self, PidFile, PidFileError};
use crate::role::socket::ControlSocket;

/// The paths that some versions of keepalived use.
const KEEPALIVED: &str = "/run/keepalived/keepalived.pid";
/// How long processes of a killed daemon may take to end.
const LEFTOVERS: Duration = Duration::from_secs(5);
/// Pid files, locked before the daemon goes to the background, and the control socket, created with them.
pub struct PidFiles {
    pub(super) supervisor: PidFile,
    pub(super) vrrp: Option<PidFile>,
    pub(super) checker: Option<PidFile>,
    /// None if it cannot be created: the daemon works without it.
    pub(super) socket: Option<ControlSocket>,
    /// The socket on which the kernel reports process events. It reports them only in the first network namespace, so
    /// this is opened before another one is entered.
    pub processes: Option<OwnedFd>,
}

impl PidFiles {
    /// Opens and locks all of them.
    ///
    /// # Errors
    /// `Taken` if another daemon runs.
    pub fn lock(options: &Options, place: &Place) -> Result<Self, PidFileError> {
        let [main, vrrp, checker] = place.pid_files(options);
        if options.pid_files.supervisor.is_none() && place.is_default() {
            let theirs = Path::new(KEEPALIVED);
            if let Some(pid) = pidfile::keepalived_at(theirs) {
                return Err(PidFileError::Keepalived { path: theirs.into(), pid });
            }
        }
        let supervisor = PidFile::lock(&main)?;
        let mut this =
            Self { supervisor, vrrp: None, checker: None, socket: None, processes: None };
        // No daemon runs: a process that still holds these is about to end.
        let mut others = || {
            this.vrrp = Some(PidFile::lock_from_orphan(&vrrp, LEFTOVERS)?);
            this.checker = Some(PidFile::lock_from_orphan(&checker, LEFTOVERS)?);
            Ok(())
        };
        match others() {
            Ok(()) => Ok(this),
            Err(e) => {
                this.remove();
                Err(e)
            }
        }
    }

    /// Removes all of them: the daemon does not start.
    pub fn remove(self) {
        let Self { supervisor, vrrp, checker, socket, processes: _ } = self;
        for file in [vrrp, checker].into_iter().flatten() {
            file.remove();
        }
        if let Some(socket) = socket {
            socket.remove();
        }
        supervisor.remove();
    }

    /// Creates the control socket. To be called before the necessary privileges are given up.
    ///
    /// # Errors
    /// Those of [`ControlSocket::bind`], with the path. The daemon can do without one.
    pub fn open_socket(&mut self, options: &Options, place: &Place) -> Result<(), String> {
        let path = place.socket(options);
        match ControlSocket::bind(&path) {
            Ok(socket) => {
                self.socket = Some(socket);
                Ok(())
            }
            Err(e) => Err(format!("no control socket at {}: {e}", path.display())),
        }
    }
}

/// The checker's record of virtual servers, beside its pid file. A name that is not UTF-8 has none.
pub(super) fn services_file(options: &Options, place: &Place) -> Option<PathBuf> {
    let [_, _, checker] = place.pid_files(options);
    let path = checker.with_extension("services");
    path.to_str().is_some().then_some(path)
}

/// Whether a daemon that crashed has left virtual servers in the kernel.
pub(super) fn has_services(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() > 0)
}

/// Removes the record if it is empty.
pub(super) fn drop_services(path: &Path) {
    if path.symlink_metadata().is_ok_and(|file| file.is_file() && file.len() == 0) {
        let _ = std::fs::remove_file(path);
    }
}
