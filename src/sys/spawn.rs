//! Starting processes: roles of this daemon, and programs of users.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid};

use super::channel::Channel;
use super::process::Process;

/// The descriptor on which a role finds its channel to the supervisor.
pub const CONTROL_FD: RawFd = 3;

/// What programs of users must not inherit: what changes how they are executed, and what is meant for the daemon
/// alone.
const NOT_INHERITED: [&str; 10] = [
    "IFS",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "JOURNAL_STREAM",
];

/// The account that runs a program.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: &'a [u32],
}

/// Starts this very program again with the arguments given, and `control` as its descriptor 3. The child gets
/// SIGTERM when the calling thread ends.
///
/// # Errors
/// Those of `fork(2)` and `execve(2)`.
pub fn role(title: &str, arguments: &[&str], control: Channel) -> io::Result<Process> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(title).args(arguments).stdin(Stdio::null());
    for name in NOT_INHERITED.iter().skip(3) {
        command.env_remove(name);
    }
    let (parent, fd) = (getpid(), control.as_fd().as_raw_fd());
    // SAFETY: the closure only makes system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            follow(parent)?;
            default_signals();
            keep_descriptors();
            if fd == CONTROL_FD {
                check(libc::fcntl(fd, libc::F_SETFD, 0))
            } else {
                check(libc::dup2(fd, CONTROL_FD))
            }
        });
    }
    start(command)
}

/// Starts a program of a user: as `account`, in a process group of its own, input and output going nowhere, the
/// environment cleaned. It gets SIGTERM when the calling thread ends.
///
/// # Errors
/// Those of `fork(2)`, `setgroups(2)`, `setresuid(2)` and `execve(2)`: `ENOENT`, `EACCES`, `ENOEXEC` for a file
/// that is no program.
pub fn program(words: &[Box<[u8]>], account: Option<Account<'_>>) -> io::Result<Process> {
    let Some((path, arguments)) = words.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut command = Command::new(OsStr::from_bytes(path));
    command
        .args(arguments.iter().map(|word| OsStr::from_bytes(word)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    let parent = getpid();
    let account = account.map(|a| (a.uid, a.gid, a.groups.to_vec()));
    // SAFETY: the closure only makes system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            default_signals();
            keep_descriptors();
            check(libc::setpgid(0, 0))?;
            if let Some((uid, gid, groups)) = &account {
                // Without these rights, being that user already is good enough.
                if libc::geteuid() == 0 {
                    check(libc::setgroups(groups.len(), groups.as_ptr()))?;
                }
                check(libc::setresgid(*gid, *gid, *gid))?;
                check(libc::setresuid(*uid, *uid, *uid))?;
            }
            // After the change of user, which clears it.
            follow(parent)
        });
    }
    start(command)
}

/// The words of a command as one line that a shell takes apart into the same words. A first word that starts
/// with `<` is a redirection and stays as it is.
#[must_use]
pub fn shell_line(words: &[Box<[u8]>]) -> OsString {
    let mut line = Vec::new();
    for (i, word) in words.iter().enumerate() {
        if i > 0 {
            line.push(b' ');
        }
        if i == 0 && word.starts_with(b"<") {
            line.extend_from_slice(word);
            continue;
        }
        line.push(b'\'');
        for octet in word.iter() {
            if *octet == b'\'' {
                line.extend_from_slice(b"'\\''");
            } else {
                line.push(*octet);
            }
        }
        line.push(b'\'');
    }
    OsStr::from_bytes(&line).to_os_string()
}

fn start(mut command: Command) -> io::Result<Process> {
    let child = command.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    match Process::hold(pid) {
        Ok(process) => Ok(process),
        Err(e) => {
            // Without a descriptor nobody could ever wait for it.
            let mut child = child;
            let _ = child.kill();
            let _ = child.wait();
            Err(e)
        }
    }
}

/// In the child: ends with the thread that started it.
fn follow(parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    // It may have ended before the line above.
    if nix::unistd::getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// In the child: no signal is ignored or blocked because somebody up the line did so.
fn default_signals() {
    super::process::unblock_signals();
    // The kernel's form of `struct sigaction`, all zero: the default disposition, no flags, an empty mask.
    let default = [0_u64; 8];
    for number in 1..=64 {
        // Not by the C library: it refuses the two signals of its own, which may be ignored like any other.
        // SAFETY: default dispositions involve no code of ours; the buffer is longer than the structure on every
        // architecture. Refused for KILL and STOP.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                libc::c_long::from(number),
                default.as_ptr(),
                core::ptr::null_mut::<u64>(),
                8_usize,
            )
        };
    }
}

/// In the child: nothing but the standard descriptors passes to the program, whatever this process inherited.
fn keep_descriptors() {
    // SAFETY: no pointers; only marks descriptors to be closed by execve. Kernels before 5.11 refuse: then those
    // of this daemon are closed all the same, and only strangers' remain.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::Exit;

    fn words(list: &[&str]) -> Vec<Box<[u8]>> {
        list.iter().map(|w| w.as_bytes().into()).collect()
    }

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_program_gets_its_words_and_its_status_comes_back() {
        run(async {
            let p = program(&words(&["/bin/sh", "-c", "exit $1", "x", "7"]), None).unwrap();
            assert_eq!(p.ended().await.unwrap(), Exit::Code(7));
            let p = program(&words(&["/bin/sh", "-c", "kill -9 $$"]), None).unwrap();
            assert_eq!(p.ended().await.unwrap(), Exit::Signal(9));
        });
    }

    #[test]
    fn what_is_no_program_is_refused_with_its_reason() {
        run(async {
            let refused = |path: &str| program(&words(&[path]), None).err().unwrap();
            assert_eq!(refused("/nonexistent/x").raw_os_error(), Some(libc::ENOENT));
            assert_eq!(refused("/etc/passwd").raw_os_error(), Some(libc::EACCES));
        });
    }

    #[test]
    fn a_program_leads_a_group_of_its_own() {
        run(async {
            // Its child has the same group, so both end by one signal.
            let p = program(
                &words(&["/bin/sh", "-c", "sleep 100 & test $(ps -o pgid= -p $$) = $$ && wait"]),
                None,
            )
            .unwrap();
            p.signal_group(Signal::SIGKILL);
            assert_eq!(p.ended().await.unwrap(), Exit::Signal(9));
        });
    }

    #[test]
    fn nothing_is_left_blocked_ignored_or_open() {
        crate::sys::process::block_signals();
        // SAFETY: no handler involved. The signal has no meaning in this process.
        unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
        let stranger = std::fs::File::open("/").unwrap();
        nix::fcntl::fcntl(&stranger, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .unwrap();
        let number = stranger.as_raw_fd();
        run(async move {
            let text = format!(
                "grep -q '^SigBlk:.*0000000000000000' /proc/self/status || exit 1
                 grep -q '^SigIgn:.*0000000000000000' /proc/self/status || exit 2
                 test ! -e /proc/self/fd/{number} || exit 3"
            );
            let p = program(&words(&["/bin/sh", "-c", &text]), None).unwrap();
            assert_eq!(p.ended().await.unwrap(), Exit::Code(0));
        });
    }

    #[test]
    fn a_shell_takes_the_line_apart_again() {
        run(async {
            let odd = ["a b", "it's", "", "$HOME", "\\"];
            let mut line = words(&["/usr/bin/test"]);
            line.extend(words(&["it's", "=", "it's"]));
            let line = shell_line(&line);
            let p = program(
                &[b"/bin/sh".as_slice().into(), b"-c".as_slice().into(), line.as_bytes().into()],
                None,
            )
            .unwrap();
            assert_eq!(p.ended().await.unwrap(), Exit::Code(0));
            assert_eq!(shell_line(&words(&odd)), OsStr::new("'a b' 'it'\\''s' '' '$HOME' '\\'"));
            assert_eq!(shell_line(&words(&["</tmp/x"])), OsStr::new("</tmp/x"));
        });
    }
}
