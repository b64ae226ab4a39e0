//! The control socket: created by the supervisor before it gives up its privileges, served by one process after the
//! other.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::sys::account;

/// Its default path, used with the default pid file.
pub const DEFAULT: &str = "/run/evervip/control.sock";
/// The group that may connect, and the user of the serving process, if they exist.
pub const ACCOUNT: &str = "evervip";
/// Its mode: root and the group may connect.
const MODE: u32 = 0o660;
/// Connections that may wait while there is no process to accept them.
const WAITING: i32 = 64;

/// A listening socket. Only [`Self::remove`] removes it.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    socket: OwnedFd,
}

impl ControlSocket {
    /// Creates it. A stale socket of a crashed daemon is replaced.
    ///
    /// # Errors
    /// `AddrInUse` if another process serves it, `AlreadyExists` if the path is not a socket, those of `bind(2)`.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = own_folder(path)
            && !folder.exists()
        {
            fs::DirBuilder::new().mode(0o755).create(folder)?;
            fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        }
        if let Ok(there) = fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            match UnixStream::connect(path) {
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
                _ => return Err(io::ErrorKind::AddrInUse.into()),
            }
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // Connecting is impossible before it listens, so the mode is in effect in time.
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        if let Some(group) = account::group(ACCOUNT)
            && let Err(e) = std::os::unix::fs::chown(path, None, Some(group))
        {
            tracing::debug!("group of {}: {e}", path.display());
        }
        socket.listen(WAITING)?;
        Ok(Self { path: path.into(), socket: socket.into() })
    }

    /// A descriptor for the serving process.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Removes it, and its directory if that is our own and empty.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = own_folder(&self.path) {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The socket of a daemon with this pid file: the default name for keepalived's default name, else the pid file's
/// with the extension `sock`, so that several daemons do not share one.
#[must_use]
pub fn path_for(pid_file: Option<&Path>) -> PathBuf {
    match pid_file {
        Some(path)
            if !matches!(
                path.to_str(),
                Some("/run/keepalived.pid" | "/var/run/keepalived.pid")
            ) =>
        {
            path.with_extension("sock")
        }
        _ => DEFAULT.into(),
    }
}

/// The default control socket of a daemon whose name has this suffix.
#[must_use]
pub fn path_of(suffix: &str) -> PathBuf {
    Path::new(DEFAULT).with_file_name(format!("control{suffix}.sock"))
}

/// The directory of a socket, if the daemon makes and removes it.
fn own_folder(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| Some(*folder) == Path::new(DEFAULT).parent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_is_served_is_left_and_a_stale_one_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        UnixStream::connect(&path).unwrap();
        let second = ControlSocket::bind(&path).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let third = ControlSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        third.remove();
        assert!(!path.exists());
        fs::write(&path, "x").unwrap();
        let fourth = ControlSocket::bind(&path).unwrap_err();
        assert_eq!(fourth.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn each_daemon_has_a_name_of_its_own() {
        for default in [None, Some("/run/keepalived.pid"), Some("/var/run/keepalived.pid")] {
            assert_eq!(path_for(default.map(Path::new)), Path::new(DEFAULT));
        }
        assert_eq!(path_for(Some(Path::new("/run/b.pid"))), Path::new("/run/b.sock"));
    }
}
