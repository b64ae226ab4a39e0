//! Network namespaces, named ones and those created by this process, and the user namespace in which an ordinary user may
//! create them.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getegid, geteuid, getpid, getppid};

/// A network namespace. It ends when no process is in it and this is dropped.
#[derive(Debug)]
pub struct NetNs(OwnedFd);

impl NetNs {
    /// Creates one; the calling thread stays in its own.
    ///
    /// # Errors
    /// `EPERM` without permission (see [`become_root`]), `ENOSPC` if the system's limit is reached.
    pub fn create() -> io::Result<Self> {
        let before = Self::current()?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        let made = Self::current();
        setns(&before, CloneFlags::CLONE_NEWNET)?;
        made
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// Those of opening a file of /proc.
    pub fn current() -> io::Result<Self> {
        Ok(Self(File::open("/proc/thread-self/ns/net")?.into()))
    }

    /// Opens the namespace of this name, as created by `ip netns`.
    ///
    /// # Errors
    /// `NotFound` if there is no such namespace.
    pub fn named(name: &str) -> io::Result<Self> {
        // The directory of iproute2, and its place on older systems.
        let open = |folder: &str| File::open(std::path::Path::new(folder).join(name));
        Ok(Self(open("/run/netns").or_else(|_| open("/var/run/netns"))?.into()))
    }

    /// Moves the calling thread into the namespace for good. It must be the only thread of its process: everything
    /// that the process opens and starts afterwards belongs to the namespace.
    ///
    /// # Errors
    /// `EINVAL` for a file that is not a namespace, `EPERM` without the capability SYS_ADMIN.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(self, CloneFlags::CLONE_NEWNET)?)
    }

    /// Runs `job` in the namespace: sockets it opens and processes it starts belong to it.
    ///
    /// # Errors
    /// Those of `setns(2)`. If returning fails, the thread stays inside.
    pub fn inside<T>(&self, job: impl FnOnce() -> T) -> io::Result<T> {
        let before = Self::current()?;
        setns(self, CloneFlags::CLONE_NEWNET)?;
        let done = job();
        setns(&before, CloneFlags::CLONE_NEWNET)?;
        Ok(done)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for NetNs {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Enters a new user namespace in which this process is root, with a network namespace that belongs to it, unless
/// the process is root already. It must have one thread.
///
/// # Errors
/// `EPERM`, `ENOSPC` or `EACCES` if the system does not permit this to ordinary users.
pub fn become_root() -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(());
    }
    // Without the second one it would be impossible to return from a namespace to the original one, which belongs to
    // another user namespace.
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Makes the kernel kill a process started by the calling thread when that thread ends.
pub fn end_with_us(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure only makes system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have ended before this request.
            if getppid() == parent {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        });
    }
}

/// Gives this process and its children a private, empty /run, which disappears with the last of them. The process must
/// have one thread.
///
/// # Errors
/// Those of `unshare(2)` and `mount(2)`.
pub fn private_run() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), flags, Some("mode=755"))?;
    Ok(())
}
