//! Starting processes: roles of this daemon, and users' programs.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, getpid, pipe2, setpgid};

use super::channel::Channel;
use super::process::Process;

/// The descriptor on which a role finds its channel to the supervisor.
pub const CONTROL_FD: RawFd = 3;

/// Environment variables that users' programs must not inherit: those that change their execution, and those meant only
/// for the daemon.
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

/// Largest number of words of a command, and of environment variables.
const MOST_WORDS: usize = 4096;

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
/// the signal `end` when the calling thread ends.
///
/// # Errors
/// Those of `fork(2)` and `execve(2)`.
pub fn role(title: &str, arguments: &[&str], control: Channel, end: Signal) -> io::Result<Process> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(title).args(arguments).stdin(Stdio::null());
    for name in NOT_INHERITED.iter().skip(3) {
        command.env_remove(name);
    }
    let (parent, fd) = (getpid(), control.as_fd().as_raw_fd());
    // SAFETY: the closure only makes system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            follow(parent, end)?;
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

/// Replaces this process by this very program with the arguments given, and `control` as its descriptor 3. Returns the
/// reason if that failed.
pub fn become_role(title: &str, arguments: &[&str], control: Channel) -> io::Error {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(title).args(arguments);
    default_signals();
    keep_descriptors();
    let fd = control.into_fd().into_raw_fd();
    // SAFETY: no pointers. The former descriptor 3 is not needed any more, whoever owned it: nothing of this process
    // continues except the new program.
    let placed = unsafe {
        if fd == CONTROL_FD {
            libc::fcntl(fd, libc::F_SETFD, 0)
        } else {
            libc::dup2(fd, CONTROL_FD)
        }
    };
    match check(placed) {
        Ok(()) => command.exec(),
        Err(e) => e,
    }
}

/// A started user's program. The start does not wait for `execve(2)`, which may hang as long as a file system does.
pub struct Program {
    /// The process: it hangs in `execve`, is the program, or has ended because there is no such program.
    pub process: Process,
    /// Reports why the program could not be executed, as an error number.
    failure: OwnedFd,
}

impl Program {
    /// Why the program was not executed, once the process has ended.
    #[must_use]
    pub fn failure(&self) -> Option<i32> {
        let mut number = [0; 4];
        let mut pipe = File::from(self.failure.try_clone().ok()?);
        pipe.read_exact(&mut number).ok()?;
        Some(i32::from_ne_bytes(number))
    }
}

/// Starts a user's program: as `account`, in a process group of its own, with input and output connected to /dev/null
/// and a cleaned environment. It gets SIGTERM when the calling thread ends. `through_shell` passes its words to the
/// shell as one line; a file that is not a program (`ENOEXEC`) is passed to the shell in any case.
///
/// # Errors
/// Those of `fork(2)` and `pipe(2)`. Later errors, for example `ENOENT` of `execve(2)`, are reported by
/// [`Program::failure`].
pub fn program(
    words: &[Box<[u8]>],
    through_shell: bool,
    account: Option<Account<'_>>,
) -> io::Result<Program> {
    let image = Image::new(words, through_shell)?;
    let account = account.map(|a| (a.uid, a.gid, a.groups.to_vec()));
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (failure, tell) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let parent = getpid();
    // A signal that arrives before the child has reset this process's handlers would be handled as one to this process.
    let mut mask = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut mask))?;
    // SAFETY: the child only makes system calls, allocates nothing, takes no lock and ends by `_exit`.
    let forked = unsafe { nix::unistd::fork() };
    if matches!(forked, Ok(ForkResult::Child)) {
        let number = image.enter(parent, account.as_ref(), null.as_raw_fd());
        let octets = number.to_ne_bytes();
        // SAFETY: the buffer has the given length; `_exit` runs nothing of this process.
        unsafe {
            libc::write(tell.as_raw_fd(), octets.as_ptr().cast(), octets.len());
            libc::_exit(127);
        }
    }
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None);
    let Ok(ForkResult::Parent { child }) = forked else {
        return Err(forked.err().unwrap_or(nix::errno::Errno::EIO).into());
    };
    // Both processes do this: whichever is first, a signal to the group reaches the child from now on.
    let _ = setpgid(child, child);
    match Process::hold(child) {
        Ok(process) => Ok(Program { process, failure }),
        Err(e) => {
            // Without a descriptor it would be impossible to wait for it.
            let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
            Err(e)
        }
    }
}

/// The arguments of `execve(2)`, prepared before the fork, after which nothing may be allocated.
struct Image {
    /// Candidate paths of the program; the first existing one counts.
    paths: Vec<CString>,
    words: Vec<CString>,
    shell: Vec<CString>,
    environment: Vec<CString>,
    direct: bool,
}

impl Image {
    fn new(words: &[Box<[u8]>], through_shell: bool) -> io::Result<Self> {
        let first = words.first().ok_or(io::ErrorKind::InvalidInput)?;
        let text = |octets: &[u8]| CString::new(octets).map_err(io::Error::from);
        let paths = if first.contains(&b'/') {
            vec![text(first)?]
        } else {
            let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
            std::env::split_paths(&path)
                .map(|folder| text(folder.join(OsStr::from_bytes(first)).as_os_str().as_bytes()))
                .collect::<io::Result<_>>()?
        };
        let line = shell_line(words);
        let environment = std::env::vars_os()
            .filter(|(name, _)| !NOT_INHERITED.iter().any(|n| name == n))
            .map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                CString::new(name.into_vec()).map_err(io::Error::from)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            paths,
            words: words.iter().map(|word| text(word)).collect::<io::Result<_>>()?,
            shell: vec![c"/bin/sh".into(), c"-c".into(), text(line.as_bytes())?],
            environment,
            direct: !through_shell,
        })
    }

    /// In the child: executes the program. Returns the error number if that fails.
    fn enter(&self, parent: Pid, account: Option<&(u32, u32, Vec<u32>)>, null: RawFd) -> i32 {
        let prepared = (|| {
            default_signals();
            keep_descriptors();
            for standard in 0..=2 {
                // SAFETY: no pointers.
                check(unsafe { libc::dup2(null, standard) })?;
            }
            // SAFETY: no pointers except the list of groups, which has the given length.
            unsafe {
                check(libc::setpgid(0, 0))?;
                if let Some((uid, gid, groups)) = account {
                    // Without these privileges it suffices to be that user already; a user namespace that lacks them
                    // denies them to its root, too (user_namespaces(7)).
                    if libc::geteuid() == 0
                        && let Err(e) = check(libc::setgroups(groups.len(), groups.as_ptr()))
                        && (e.raw_os_error() != Some(libc::EPERM)
                            || (libc::getuid(), libc::getgid()) != (*uid, *gid))
                    {
                        return Err(e);
                    }
                    check(libc::setresgid(*gid, *gid, *gid))?;
                    check(libc::setresuid(*uid, *uid, *uid))?;
                }
            }
            // After the change of user, which clears it.
            follow(parent, Signal::SIGTERM)
        })();
        if let Err(e) = prepared {
            return e.raw_os_error().unwrap_or(libc::EIO);
        }
        let mut number = libc::ENOENT;
        if self.direct {
            for path in &self.paths {
                number = self.execute(path, &self.words);
                if !matches!(number, libc::ENOENT | libc::ENOTDIR) {
                    break;
                }
            }
            if number != libc::ENOEXEC {
                return number;
            }
        }
        self.execute(c"/bin/sh", &self.shell)
    }

    fn execute(&self, path: &core::ffi::CStr, words: &[CString]) -> i32 {
        let mut arguments = [core::ptr::null(); MOST_WORDS + 1];
        let mut environment = [core::ptr::null(); MOST_WORDS + 1];
        for (list, texts) in [(&mut arguments, words), (&mut environment, &self.environment)] {
            if texts.len() > MOST_WORDS {
                return libc::E2BIG;
            }
            for (slot, text) in list.iter_mut().zip(texts) {
                *slot = text.as_ptr();
            }
        }
        // SAFETY: both lists end with a null pointer, and the texts outlive the call.
        unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
    }
}

/// The words of a command as one line that a shell splits into the same words. A first word that starts with `<` is a
/// redirection and is not quoted.
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
            // Without a descriptor it would be impossible to wait for it.
            let mut child = child;
            let _ = child.kill();
            let _ = child.wait();
            Err(e)
        }
    }
}

/// In the child: gets the signal `end` when the thread that started it ends.
fn follow(parent: Pid, end: Signal) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(end)?;
    // It may have ended before the line above.
    if nix::unistd::getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// In the child: resets signals that an ancestor ignored or blocked.
fn default_signals() {
    // The kernel's form of `struct sigaction`, all zero: the default disposition, no flags, an empty mask.
    let default = [0_u64; 8];
    for number in 1..=64 {
        // Not through the C library: it refuses its own two signals, which may be ignored like any other. SAFETY:
        // default dispositions involve no code of ours; the buffer is longer than the structure on every architecture.
        // Refused for KILL and STOP.
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
    // Last: no handler of the parent process may run here.
    super::process::unblock_signals();
}

/// In the child: only the standard descriptors are passed to the program, whatever this process inherited.
fn keep_descriptors() {
    // SAFETY: no pointers; only marks descriptors to be closed by execve. Kernels before 5.11 refuse: then those of
    // this daemon are closed nevertheless, and only inherited ones remain.
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

    fn started(list: &[&str]) -> Program {
        program(&words(list), false, None).unwrap()
    }

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_program_gets_its_words_and_its_status_comes_back() {
        run(async {
            let p = started(&["/bin/sh", "-c", "exit $1", "x", "7"]);
            assert_eq!(p.process.ended().await.unwrap(), Exit::Code(7));
            assert_eq!(p.failure(), None);
            let p = started(&["/bin/sh", "-c", "kill -9 $$"]);
            assert_eq!(p.process.ended().await.unwrap(), Exit::Signal(9));
            // Found as a shell would.
            let p = started(&["sh", "-c", "exit 8"]);
            assert_eq!(p.process.ended().await.unwrap(), Exit::Code(8));
        });
    }

    #[test]
    fn the_root_of_a_user_namespace_runs_programs_as_itself_and_as_nobody_else() {
        let name = "sys::spawn::tests::the_root_of_a_user_namespace_runs_programs_as_itself_and_as_nobody_else";
        crate::sys::testing::in_namespace(name, || {
            run(async {
                for (uid, groups, failure) in [(0, &[0_u32][..], None), (1, &[], Some(libc::EPERM))]
                {
                    let account = Account { uid, gid: uid, groups };
                    let p = program(&words(&["/bin/true"]), false, Some(account)).unwrap();
                    p.process.ended().await.unwrap();
                    assert_eq!(p.failure(), failure, "{uid}");
                }
            });
        });
    }

    #[test]
    fn what_is_no_program_is_refused_with_its_reason() {
        run(async {
            for (path, number) in [
                ("/nonexistent/x", libc::ENOENT),
                ("no-such-program-anywhere", libc::ENOENT),
                ("/etc/passwd", libc::EACCES),
            ] {
                let p = started(&[path]);
                p.process.ended().await.unwrap();
                assert_eq!(p.failure(), Some(number), "{path}");
            }
        });
    }

    #[test]
    fn nobody_waits_for_a_file_system_that_hangs() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let script = folder.path().join("script");
            std::fs::write(&script, "#!/bin/sh\nexit 9\n").unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&script, mode).unwrap();
            let held = crate::sys::testing::hold_up(&script);
            let path = script.to_str().unwrap();
            let mut hanging = started(&[path]);
            // Others run meanwhile, and it can be terminated.
            let p = started(&["/bin/sh", "-c", "exit 7"]);
            assert_eq!(p.process.ended().await.unwrap(), Exit::Code(7));
            hanging.process.signal_group(Signal::SIGKILL);
            assert_eq!(hanging.process.ended().await.unwrap(), Exit::Signal(9));
            hanging = started(&[path]);
            drop(held);
            assert_eq!(hanging.process.ended().await.unwrap(), Exit::Code(9));
        });
    }

    #[test]
    fn a_program_leads_a_group_of_its_own() {
        run(async {
            // Its child has the same group, so one signal ends both.
            let p =
                started(&["/bin/sh", "-c", "sleep 100 & test $(ps -o pgid= -p $$) = $$ && wait"]);
            p.process.signal_group(Signal::SIGKILL);
            assert_eq!(p.process.ended().await.unwrap(), Exit::Signal(9));
        });
    }

    #[test]
    fn nothing_is_left_blocked_ignored_or_open() {
        crate::sys::process::block_signals();
        // SAFETY: no handler involved. The signal has no meaning in this process.
        unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
        let stranger = File::open("/").unwrap();
        nix::fcntl::fcntl(&stranger, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .unwrap();
        let number = stranger.as_raw_fd();
        run(async move {
            let text = format!(
                "grep -q '^SigBlk:.*0000000000000000' /proc/self/status || exit 1
                 grep -q '^SigIgn:.*0000000000000000' /proc/self/status || exit 2
                 test ! -e /proc/self/fd/{number} || exit 3"
            );
            let p = started(&["/bin/sh", "-c", &text]);
            assert_eq!(p.process.ended().await.unwrap(), Exit::Code(0));
        });
    }

    #[test]
    fn a_shell_takes_the_line_apart_again() {
        run(async {
            let odd = ["a b", "it's", "", "$HOME", "\\"];
            let mut line = words(&["/usr/bin/test"]);
            line.extend(words(&["it's", "=", "it's"]));
            let p = program(&line, true, None).unwrap();
            assert_eq!(p.process.ended().await.unwrap(), Exit::Code(0));
            assert_eq!(shell_line(&words(&odd)), OsStr::new("'a b' 'it'\\''s' '' '$HOME' '\\'"));
            assert_eq!(shell_line(&words(&["</tmp/x"])), OsStr::new("</tmp/x"));
        });
    }
}
