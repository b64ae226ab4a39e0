//! Network namespaces: those that have a name, and those of this process's own with the user namespace in which an
//! ordinary user may make them.

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

/// A network namespace. It ends when nobody is in it and this is dropped.
#[derive(Debug)]
pub struct NetNs(OwnedFd);

impl NetNs {
    /// Makes a new one; the calling thread stays where it is.
    ///
    /// # Errors
    /// `EPERM` without the right to (see [`become_root`]), `ENOSPC` when the system's limit is reached.
    pub fn create() -> io::Result<Self> {
        let before = Self::current()?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        let made = Self::current();
        setns(&before, CloneFlags::CLONE_NEWNET)?;
        made
    }

    /// That of the calling thread.
    ///
    /// # Errors
    /// Those of opening a file of /proc.
    pub fn current() -> io::Result<Self> {
        Ok(Self(File::open("/proc/thread-self/ns/net")?.into()))
    }

    /// The one of this name, as `ip netns` makes them.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn named(name: &str) -> io::Result<Self> {
        // Where iproute2 keeps them, and where older systems do.
        let open = |folder: &str| File::open(std::path::Path::new(folder).join(name));
        Ok(Self(open("/run/netns").or_else(|_| open("/var/run/netns"))?.into()))
    }

    /// Moves the calling thread, which is to be the only one of its process, into the namespace for good: what the
    /// process opens and starts from now on belongs there.
    ///
    /// # Errors
    /// `EINVAL` for a file that is no namespace, `EPERM` without the capability SYS_ADMIN.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(self, CloneFlags::CLONE_NEWNET)?)
    }

    /// Runs `job` in the namespace: sockets it opens and processes it starts belong there.
    ///
    /// # Errors
    /// Those of `setns(2)`. When the way back fails the thread stays inside.
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
/// `EPERM`, `ENOSPC` or `EACCES` where the system does not let ordinary users do this.
pub fn become_root() -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(());
    }
    // Without the second one there would be no way back from a namespace to the first, which belongs to others.
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Makes a process that is started by the calling thread end with that thread: the kernel kills it then.
pub fn end_with_us(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure only makes system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have ended before it was asked for.
            if getppid() == parent {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        });
    }
}

/// Gives this process and its children a /run of their own, empty and gone with the last of them. The process must
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
