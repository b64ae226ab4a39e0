//! This process, and others by descriptor.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, killpg, pthread_sigmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{ForkResult, Pid};

use super::aio::Async;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl core::fmt::Display for Exit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal(number) => write!(f, "ended by signal {number}"),
        }
    }
}

/// Children that this process waits for, by process id.
static HELD: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<i32>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps ended children that this process does not wait for: processes whose parent ended are adopted by the first
/// process of a container, which this one may be. Returns their number. To be called again soon, because a child that
/// is waited for may hide others.
pub fn reap_orphans() -> usize {
    let mut count = 0;
    loop {
        // Only peeks: the status of a child that is waited for must stay.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let Some(pid) = waitid(Id::All, flags).ok().and_then(|status| status.pid()) else {
            return count;
        };
        if held().contains(&pid.as_raw()) {
            return count;
        }
        if waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).is_err() {
            return count;
        }
        count += 1;
    }
}

/// The work of a process so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Processor time that it and its threads have used, in the kernel's ticks of 10 ms.
    pub ticks: u64,
    /// One of its threads is running or runnable: if none runs, it lacks only a processor.
    pub runnable: bool,
}

/// A child of this process, held by a descriptor, so that its process id cannot be reused. Dropping this neither ends
/// nor reaps it.
pub struct Process {
    pid: Pid,
    fd: Async<OwnedFd>,
}

impl Process {
    /// Opens the child `pid`, which this process has not waited for.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(super) fn hold(pid: Pid) -> io::Result<Self> {
        let fd = descriptor_of_process(pid.as_raw())?;
        let process = Self { pid, fd: Async::read_only(fd)? };
        held().insert(pid.as_raw());
        Ok(process)
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends it a signal. Has no effect if it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = send_signal(self.fd.as_fd(), signal, 0);
    }

    /// Sends a signal to the process group it leads, even if it has ended and others of its group have not. Call this
    /// only before [`Self::ended`] has returned: until then its process id is not reused.
    pub fn signal_group(&self, signal: Signal) {
        let _ = killpg(self.pid, signal);
    }

    /// Its work so far according to the kernel; none if it has been reaped.
    #[must_use]
    pub fn effort(&self) -> Option<Effort> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The name, which comes before this parenthesis, may contain any character.
        let words: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = |at: usize| words.get(at)?.parse::<u64>().ok();
        Some(Effort { ticks: ticks(11)? + ticks(12)?, runnable: self.is_runnable() })
    }

    /// Whether one of its threads runs or waits for a processor.
    fn is_runnable(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten();
        threads.flatten().any(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('R'))
        })
    }

    /// Waits until it has ended without reaping it: it stays a zombie and keeps its process id.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub async fn ending(&self) -> io::Result<()> {
        self.fd.read(has_ended).await
    }

    /// A descriptor of it for another process, which can wait for its end with [`Stranger`].
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.fd.inner().try_clone()
    }

    /// Waits until it has ended and reaps it.
    ///
    /// # Errors
    /// `ECHILD` if it has been reaped before.
    pub async fn ended(&self) -> io::Result<Exit> {
        self.fd.read(reap).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        held().remove(&self.pid.as_raw());
    }
}

/// A process that is not a child of this one, held by a descriptor received from its parent.
pub struct Stranger(Async<OwnedFd>);

impl Stranger {
    /// Takes its descriptor.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`, also for a descriptor of another kind.
    pub fn hold(fd: OwnedFd) -> io::Result<Self> {
        Async::read_only(fd).map(Self)
    }

    /// The same for a user's program that another process of this daemon started. A forged descriptor is refused: such
    /// a program leads its own process group in the daemon's session, and is not a process of the daemon.
    ///
    /// # Errors
    /// `EPERM` for another process.
    pub fn program(fd: OwnedFd) -> io::Result<Self> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        match pid.map(Pid::from_raw) {
            // The process has ended.
            Some(pid) if pid.as_raw() < 0 => {}
            // This is not a process, or one that this process cannot see.
            None => return Err(Errno::EINVAL.into()),
            Some(pid) if pid.as_raw() == 0 => return Err(Errno::EPERM.into()),
            Some(pid) => {
                let own = [nix::unistd::getpid(), nix::unistd::getppid()].contains(&pid);
                let here = nix::unistd::getsid(Some(pid)) == nix::unistd::getsid(None);
                let leads = nix::unistd::getpgid(Some(pid)) == Ok(pid);
                if own || !here || !leads {
                    return Err(Errno::EPERM.into());
                }
            }
        }
        Self::hold(fd)
    }

    /// Waits until it has ended.
    pub async fn ending(&self) {
        let _ = self.0.read(has_ended).await;
    }

    /// Sends a signal to the process group it leads; before Linux 6.9 only to itself.
    pub fn signal_group(&self, signal: Signal) {
        if send_signal(self.0.as_fd(), signal, PIDFD_SIGNAL_PROCESS_GROUP) == Err(Errno::EINVAL) {
            let _ = send_signal(self.0.as_fd(), signal, 0);
        }
    }
}

/// Signals the group that the process leads, not just the process.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 4;

fn send_signal(process: BorrowedFd<'_>, signal: Signal, flags: libc::c_uint) -> nix::Result<()> {
    // SAFETY: no live pointer; the descriptor is open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal as libc::c_int,
            core::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    Errno::result(result).map(drop)
}

fn has_ended(fd: &OwnedFd) -> io::Result<()> {
    let mut fds = [nix::poll::PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLIN)];
    match nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO) {
        Ok(0) | Err(Errno::EINTR) => Err(io::ErrorKind::WouldBlock.into()),
        Ok(_) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn reap(fd: &OwnedFd) -> io::Result<Exit> {
    match waitid(Id::PIDFd(fd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
        Ok(WaitStatus::Exited(_, code)) => Ok(Exit::Code(code)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Exit::Signal(signal as i32)),
        Ok(_) | Err(Errno::EINTR) => Err(io::ErrorKind::WouldBlock.into()),
        Err(e) => Err(e.into()),
    }
}

/// Sets the name of the calling thread for `ps` and `top`; at most 15 octets. That of the first thread is the
/// process's.
pub fn set_name(name: &CStr) {
    let _ = nix::sys::prctl::set_name(name);
}

/// Programs executed from now on cannot gain privileges.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// Blocks all signals on the calling thread.
pub fn block_signals() {
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
}

/// Unblocks all signals on the calling thread, including those blocked by the parent process.
pub fn unblock_signals() {
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// From now on this thread's process gets the signal `end` when the thread that started it ends.
///
/// # Errors
/// Those of `prctl(2)`.
pub fn follow_parent(end: Signal) -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(end)?)
}

/// Permanently becomes another user; to be called while there is one thread. Permitted capabilities stay permitted, but
/// none remains effective. The parent-death signal is requested again, because the kernel clears it here.
///
/// # Errors
/// `EPERM` without SETUID and SETGID, `ESRCH` if the parent has ended meanwhile.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    use nix::unistd::{Gid, Uid, getppid, setgroups, setresgid, setresuid};
    let parent = getppid();
    let end = nix::sys::prctl::get_pdeathsig()?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    nix::sys::prctl::set_keepcaps(true)?;
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    nix::sys::prctl::set_keepcaps(false)?;
    nix::sys::prctl::set_pdeathsig(end)?;
    if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

/// Prevents other processes of the same user from inspecting this one, and core files.
pub fn hide() {
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Kills a process that is not a child of this one, if `is_it` confirms that its process id is still its own. Whether
/// it was killed.
pub fn kill_stranger(pid: u32, is_it: impl FnOnce() -> bool) -> bool {
    let held = i32::try_from(pid).map_err(io::Error::other).and_then(descriptor_of_process);
    held.is_ok_and(|fd| is_it() && send_signal(fd.as_fd(), Signal::SIGKILL, 0).is_ok())
}

/// User id and group id of this process.
#[must_use]
pub fn own_user() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// A second handle on a descriptor of another process that may be inspected. For tests that play a compromised process.
///
/// # Errors
/// Those of `pidfd_open(2)` and `pidfd_getfd(2)`.
#[doc(hidden)]
pub fn descriptor_of(pid: i32, number: i32) -> io::Result<OwnedFd> {
    let process = descriptor_of_process(pid)?;
    // SAFETY: no pointers; the kernel answers with a new descriptor or -1.
    made(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// A descriptor of a process. For tests.
///
/// # Errors
/// Those of `pidfd_open(2)`.
#[doc(hidden)]
pub fn descriptor_of_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the kernel answers with a new descriptor or -1.
    made(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// A descriptor that the kernel has just made, or the error.
fn made(answer: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(answer).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just created for this process, nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes writing to a closed pipe end this process silently, as in filters.
pub fn end_at_broken_pipe() {
    // SAFETY: the default disposition runs no code of ours.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// Sets the umask.
pub fn umask(mask: u32) {
    let _ = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask & 0o777));
}

/// The process id of this process.
#[must_use]
pub fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The two sides of [`split`].
pub enum Split {
    /// The original process, with the id of the new one.
    Parent(i32),
    /// The new process.
    Child,
}

/// Forks; requires a single thread. The child continues where the parent was.
///
/// # Errors
/// `EBUSY` if there is another thread; those of `fork(2)`.
pub fn split() -> io::Result<Split> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    // SAFETY: there is one thread, so no lock is held by a thread that would not exist in the child.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Split::Parent(child.as_raw())),
        ForkResult::Child => Ok(Split::Child),
    }
}

/// Leaves the terminal: a new session, the root directory, standard descriptors to `/dev/null`.
///
/// # Errors
/// If `/dev/null` cannot be opened.
pub fn leave_terminal() -> io::Result<()> {
    // Fails only for a leader of a group, which the child of a fork is not.
    let _ = nix::unistd::setsid();
    nix::unistd::chdir("/")?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

/// Whether `fd`, a pipe or a terminal, becomes writable within `limit` milliseconds.
#[must_use]
pub fn writable_within(fd: impl AsFd, limit: u16) -> bool {
    let mut fds = [nix::poll::PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLOUT)];
    matches!(nix::poll::poll(&mut fds, limit), Ok(n) if n > 0)
}
