//! Pid files: the process ids of the daemon, and protection against a second daemon.
//!
//! A file is locked from before the daemon starts until its end. The lock belongs to the open file, so the daemon in
//! the background and the role of the file inherit it, and it ends with the last of them. keepalived locks the same
//! files in the same way: the two exclude each other.

use core::time::Duration;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};

use super::ARGUMENT;
use super::supervisor::DIRECTORY;
use crate::sys::process;

/// How long a killed process may take to end.
const KILLED: Duration = Duration::from_secs(2);

/// Why a pid file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another process has locked it.
    #[error("daemon is already running: {} is locked by process {holder}", path.display())]
    Taken {
        path: PathBuf,
        /// The content of the file.
        holder: String,
    },
    /// It names a keepalived that runs. Versions before 2.2.8 write these files without locking them.
    #[error("keepalived is already running: {} names process {pid}", path.display())]
    Keepalived { path: PathBuf, pid: u32 },
    /// It cannot be used.
    #[error("pid file {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A locked pid file. Only [`Self::remove`] removes it.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Opens and locks a file. Creates it if necessary, and its directory if that is one of our own.
    ///
    /// # Errors
    /// `Taken` if another process has locked it.
    pub fn lock(path: &Path) -> Result<Self, PidFileError> {
        let failed = |source| PidFileError::Io { path: path.into(), source };
        // The file may be removed between opening and locking: then this lock is worthless.
        for _ in 0..10 {
            let file = open(path).map_err(failed)?;
            // Every field is a plain number; those not named are zero.
            let lock = libc::flock {
                l_type: i16::try_from(libc::F_WRLCK).unwrap_or(1),
                l_whence: i16::try_from(libc::SEEK_SET).unwrap_or(0),
                l_start: 0,
                l_len: 0,
                l_pid: 0,
            };
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)) {
                Ok(_) => {}
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                    let holder = holder(&file);
                    return Err(PidFileError::Taken { path: path.into(), holder });
                }
                Err(e) => return Err(failed(e.into())),
            }
            // Before the file is changed, so that it stays as it is.
            if let Some(pid) = read(&file).filter(|pid| is_keepalived(*pid)) {
                return Err(PidFileError::Keepalived { path: path.into(), pid });
            }
            let this = Self { path: path.into(), file };
            if this.is_in_place() {
                return Ok(this);
            }
        }
        Err(failed(io::ErrorKind::Interrupted.into()))
    }

    /// As [`Self::lock`], but waits for another process to release it, for at most `limit`.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub fn lock_patiently(path: &Path, limit: Duration) -> Result<Self, PidFileError> {
        let end = std::time::Instant::now() + limit;
        loop {
            match Self::lock(path) {
                Err(PidFileError::Taken { .. } | PidFileError::Keepalived { .. })
                    if std::time::Instant::now() < end =>
                {
                    // There is no other way to wait for a lock of this kind with a time limit.
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    /// As [`Self::lock_patiently`]. A process of a dead daemon that still holds it then, because it is stopped or wedged,
    /// is killed: it would keep its addresses for ever, and nobody else could start.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub fn lock_from_orphan(path: &Path, limit: Duration) -> Result<Self, PidFileError> {
        match Self::lock_patiently(path, limit) {
            Err(taken @ PidFileError::Taken { .. }) => {
                let Some(pid) = File::open(path).ok().and_then(|file| read(&file)) else {
                    return Err(taken);
                };
                if !process::kill_stranger(pid, || is_orphan(pid)) {
                    return Err(taken);
                }
                tracing::warn!("killed process {pid} of a daemon that has ended: it did not end");
                Self::lock_patiently(path, KILLED)
            }
            other => other,
        }
    }

    /// Writes a process id. If the file was removed, it is created again.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub fn write(&mut self, pid: i32) -> Result<(), PidFileError> {
        if !self.is_in_place() {
            *self = Self::lock(&self.path)?;
        }
        let path = &self.path;
        let mut write = || {
            self.file.set_len(0)?;
            io::Seek::rewind(&mut self.file)?;
            self.file.write_all(format!("{pid}\n").as_bytes())
        };
        write().map_err(|source| PidFileError::Io { path: path.clone(), source })
    }

    /// A descriptor for a role, which also holds the lock.
    #[must_use]
    pub fn share(&self) -> Option<OwnedFd> {
        self.file.as_fd().try_clone_to_owned().ok()
    }

    /// Removes the file, and its directory if that is our own and empty.
    pub fn remove(self) {
        if self.is_in_place() {
            let _ = std::fs::remove_file(&self.path);
            for folder in own_folders(&self.path) {
                let _ = std::fs::remove_dir(folder);
            }
        }
    }

    /// Whether the file of that name is still this one.
    fn is_in_place(&self) -> bool {
        match (self.file.metadata(), std::fs::symlink_metadata(&self.path)) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    for folder in own_folders(path).into_iter().rev().filter(|folder| !folder.exists()) {
        std::fs::DirBuilder::new().mode(0o755).create(folder)?;
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755))?;
    }
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    // Whatever the umask is.
    let _ = file.set_permissions(PermissionsExt::from_mode(0o644));
    Ok(file)
}

/// The directories of a file that the daemon creates and removes, innermost first.
fn own_folders(path: &Path) -> Vec<&Path> {
    let all: Vec<&Path> = path.ancestors().skip(1).take(2).collect();
    match all.iter().position(|folder| *folder == Path::new(DIRECTORY)) {
        Some(last) => all.into_iter().take(last + 1).collect(),
        None => Vec::new(),
    }
}

fn holder(file: &File) -> String {
    read(file).map_or_else(|| "unknown".into(), |pid| pid.to_string())
}

/// The process id in a file.
fn read(mut file: &File) -> Option<u32> {
    let mut text = Vec::new();
    let _ = io::Seek::rewind(&mut file);
    let _ = file.take(20).read_to_end(&mut text);
    number(&text)
}

/// The process id of a running keepalived, if this file names one.
#[must_use]
pub fn keepalived_at(path: &Path) -> Option<u32> {
    read(&File::open(path).ok()?).filter(|pid| is_keepalived(*pid))
}

/// Whether this process is a role whose supervisor has ended: the first process has adopted it.
fn is_orphan(pid: u32) -> bool {
    let read = |pid: u32, name: &str| std::fs::read(format!("/proc/{pid}/{name}"));
    let is_role = |pid| {
        let line = read(pid, "cmdline").unwrap_or_default();
        line.split(|octet| *octet == 0).any(|word| word.starts_with(ARGUMENT.as_bytes()))
    };
    let parent = read(pid, "stat").ok().and_then(|stat| {
        // After the name in parentheses, which may contain anything, and the state.
        let end = stat.iter().rposition(|octet| *octet == b')')?;
        let rest = String::from_utf8_lossy(stat.get(end + 1..)?).into_owned();
        rest.split_whitespace().nth(1)?.parse::<u32>().ok()
    });
    // In a container the first process may be a daemon of our own.
    let same = |other| {
        let exe = |pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        exe(pid).is_some() && exe(pid) == exe(other)
    };
    is_role(pid) && matches!(parent, Some(0 | 1)) && !parent.is_some_and(same)
}

/// Whether this process is a keepalived, and not a different one that got the id of a crashed keepalived.
fn is_keepalived(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| name.trim_end().starts_with("keepalived"))
}

/// The process id in a pid file. Other programs also write these files: only a number may get into a message.
#[doc(hidden)]
#[must_use]
pub fn number(text: &[u8]) -> Option<u32> {
    core::str::from_utf8(text).ok()?.trim().parse().ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_and_told_who_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let mut first = PidFile::lock(&path).unwrap();
        first.write(4711).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4711\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        let error = PidFile::lock(&path).unwrap_err().to_string();
        assert!(error.starts_with("daemon is already running: "), "{error}");
        assert!(error.ends_with("is locked by process 4711"), "{error}");
        // A shorter number leaves nothing of the longer one.
        first.write(5).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "5\n");
        // The lock lives as long as any copy.
        let copy = first.share();
        first.remove();
        assert!(!path.exists());
        drop(copy);
        PidFile::lock(&path).unwrap();
    }

    #[test]
    fn a_keepalived_that_runs_is_left_alone_and_so_is_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        // Only its name is checked.
        let program = folder.path().join("keepalived");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut other = std::process::Command::new(&program).arg("60").spawn().unwrap();
        std::fs::write(&path, format!("{}\n", other.id())).unwrap();
        // Starting it is over a moment before it has its name.
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while !is_keepalived(other.id()) && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        let refused = PidFile::lock(&path).unwrap_err().to_string();
        let named = keepalived_at(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(refused.starts_with("keepalived is already running: "), "{refused}");
        assert_eq!((named, text), (Some(other.id()), format!("{}\n", other.id())));
        // Its stale file does not matter.
        PidFile::lock(&path).unwrap();
        // Any other program does not count.
        std::fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        PidFile::lock(&path).unwrap();
    }

    #[test]
    fn only_a_number_is_a_process() {
        assert_eq!(number(b" 4711\n"), Some(4711));
        for bad in [&b""[..], b"0", b"-1", b"47 11", b"\x1b[31m7", b"\xff", b"99999999999"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_a_crash_left_behind_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        std::fs::write(&path, "1\n").unwrap();
        PidFile::lock(&path).unwrap();
    }

    #[test]
    fn a_removed_file_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let mut file = PidFile::lock(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write(7).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7\n");
        assert!(PidFile::lock(&path).is_err());
    }

    #[test]
    fn who_is_about_to_leave_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let first = PidFile::lock(&path).unwrap();
        assert!(PidFile::lock_patiently(&path, Duration::from_millis(50)).is_err());
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(first);
        });
        PidFile::lock_patiently(&path, Duration::from_secs(10)).unwrap();
        leaving.join().unwrap();
    }

    #[test]
    fn only_directories_of_daemons_are_made() {
        let of = |path: &'static str| own_folders(Path::new(path));
        assert!(of("/run/keepalived.pid").is_empty());
        assert!(of("/var/lib/keepalived/x/a.pid").is_empty());
        assert_eq!(of("/run/keepalived/a.pid"), [Path::new("/run/keepalived")]);
        let both = [Path::new("/run/keepalived/blue"), Path::new("/run/keepalived")];
        assert_eq!(of("/run/keepalived/blue/a.pid"), both);
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("pid"), folder.path().join("other"));
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(matches!(PidFile::lock(&path), Err(PidFileError::Io { .. })));
        assert!(!other.exists());
    }
}
