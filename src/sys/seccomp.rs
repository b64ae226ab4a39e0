//! A system call filter, for processes that process data of other processes.
//!
//! A call that is not on the list is refused, but does not kill the process: the C library may be updated while the
//! daemon runs, and an additional call must not end it. `EPERM` for known calls, so that the reason is clear; `ENOSYS`
//! for calls newer than this list and for `clone3`, whose arguments a filter cannot inspect: C libraries have a
//! fallback for those, but only use it with this error.

use std::io;

use libc::c_int;

/// The system calls that a process may use, besides those that any process needs: memory, threads, time, its own
/// signals, reading files, using its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Address families of sockets that it may create.
    pub families: &'static [c_int],
    /// It may listen for connections.
    pub listens: bool,
    /// It may open existing files for writing.
    pub writes: bool,
    /// It may change its scheduling, and lock memory.
    pub schedules: bool,
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// There is no list for this architecture.
    #[error("no list of system calls for this architecture")]
    Processor,
    /// The filter could not be built.
    #[error("building the system call filter: {0}")]
    Made(String),
    /// The kernel refused it.
    #[error("the kernel refuses the system call filter: {0}")]
    Refused(io::Error),
}

/// Applies the filter to the calling thread and everything that it starts later. It requires no_new_privs.
///
/// # Errors
/// If this architecture or kernel is not supported.
pub fn install(calls: &Calls) -> Result<(), SeccompError> {
    imp::install(calls)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
mod imp {
    use super::{Calls, SeccompError};

    pub fn install(_: &Calls) -> Result<(), SeccompError> {
        Err(SeccompError::Processor)
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod imp {
    use std::collections::BTreeMap;
    use std::io;

    use libc::{c_int, c_long};
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch, apply_filter, sock_filter,
    };

    use super::{Calls, SeccompError};

    /// System calls that any process needs.
    const ANY: &[c_long] = &[
        // Memory.
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_membarrier,
        libc::SYS_memfd_create,
        libc::SYS_mincore,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_munmap,
        // Threads, and exit.
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_futex,
        libc::SYS_get_robust_list,
        libc::SYS_rseq,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_yield,
        libc::SYS_set_robust_list,
        libc::SYS_set_tid_address,
        // Time.
        libc::SYS_clock_getres,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_gettimeofday,
        libc::SYS_nanosleep,
        libc::SYS_timerfd_create,
        libc::SYS_timerfd_gettime,
        libc::SYS_timerfd_settime,
        // Received signals.
        libc::SYS_restart_syscall,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigpending,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_sigaltstack,
        libc::SYS_signalfd4,
        // Itself and the machine.
        libc::SYS_capget,
        libc::SYS_getcwd,
        libc::SYS_getegid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getgroups,
        libc::SYS_getpid,
        libc::SYS_getppid,
        libc::SYS_getpriority,
        libc::SYS_getrandom,
        libc::SYS_getrusage,
        libc::SYS_gettid,
        libc::SYS_getuid,
        libc::SYS_sched_getparam,
        libc::SYS_sched_getscheduler,
        // To confine itself further, as is done here right after this filter.
        libc::SYS_seccomp,
        libc::SYS_sysinfo,
        libc::SYS_times,
        libc::SYS_umask,
        libc::SYS_uname,
        // Files, read only: opening has a rule of its own.
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_fstat,
        libc::SYS_fstatfs,
        libc::SYS_getdents64,
        libc::SYS_newfstatat,
        libc::SYS_readlinkat,
        libc::SYS_statfs,
        libc::SYS_statx,
        // Open descriptors.
        libc::SYS_close,
        libc::SYS_close_range,
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_eventfd2,
        libc::SYS_fcntl,
        libc::SYS_fdatasync,
        libc::SYS_fsync,
        libc::SYS_ftruncate,
        libc::SYS_inotify_add_watch,
        libc::SYS_inotify_init1,
        libc::SYS_inotify_rm_watch,
        libc::SYS_lseek,
        libc::SYS_pipe2,
        libc::SYS_ppoll,
        libc::SYS_pread64,
        libc::SYS_preadv,
        libc::SYS_pselect6,
        libc::SYS_pwrite64,
        libc::SYS_pwritev,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        // Sockets: creating them has a rule of its own.
        libc::SYS_bind,
        libc::SYS_connect,
        libc::SYS_getpeername,
        libc::SYS_getsockname,
        libc::SYS_getsockopt,
        libc::SYS_recvfrom,
        libc::SYS_recvmmsg,
        libc::SYS_recvmsg,
        libc::SYS_sendmmsg,
        libc::SYS_sendmsg,
        libc::SYS_sendto,
        libc::SYS_setsockopt,
        libc::SYS_shutdown,
    ];

    /// Variants of the above that only older architectures have.
    #[cfg(target_arch = "x86_64")]
    const OLDER: &[c_long] = &[
        libc::SYS_access,
        libc::SYS_dup2,
        libc::SYS_epoll_wait,
        libc::SYS_getrlimit,
        libc::SYS_lstat,
        libc::SYS_poll,
        libc::SYS_readlink,
        libc::SYS_select,
        libc::SYS_stat,
        libc::SYS_time,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    const OLDER: &[c_long] = &[];

    const LISTENS: &[c_long] = &[libc::SYS_accept4, libc::SYS_listen];

    const SCHEDULES: &[c_long] = &[
        libc::SYS_mlock,
        libc::SYS_mlock2,
        libc::SYS_mlockall,
        libc::SYS_munlock,
        libc::SYS_munlockall,
        libc::SYS_sched_get_priority_max,
        libc::SYS_sched_get_priority_min,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
        libc::SYS_setpriority,
    ];

    /// The uses of `prctl(2)`: names of threads and memory, timers, the parent-death signal, queries, and what a
    /// further filter requires.
    const PROCESS_CONTROLS: [c_int; 8] = [
        libc::PR_SET_NO_NEW_PRIVS,
        libc::PR_SET_NAME,
        libc::PR_GET_NAME,
        libc::PR_SET_TIMERSLACK,
        libc::PR_GET_TIMERSLACK,
        libc::PR_SET_PDEATHSIG,
        libc::PR_CAPBSET_READ,
        libc::PR_SET_VMA,
    ];

    /// The uses of `ioctl(2)`: modes of descriptors, terminal queries, names and indices of interfaces.
    const DEVICE_CONTROLS: [u64; 8] = [
        libc::FIONBIO,
        libc::FIOCLEX,
        libc::FIONREAD,
        libc::TCGETS,
        libc::TIOCGWINSZ,
        libc::SIOCGIFNAME,
        libc::SIOCGIFINDEX,
        libc::SIOCGIFFLAGS,
    ];

    /// The first system call number that is newer than this list; common to all architectures.
    const UNKNOWN: u32 = 463;

    pub fn install(calls: &Calls) -> Result<(), SeccompError> {
        let list = list(calls).map_err(|e| SeccompError::Made(e.to_string()))?;
        // Of two refusals the kernel uses the error of the last filter.
        for filter in [list, newer()] {
            apply_filter(&filter).map_err(|e| match e {
                seccompiler::Error::Prctl(e) | seccompiler::Error::Seccomp(e) => {
                    SeccompError::Refused(e)
                }
                other => SeccompError::Refused(io::Error::other(other)),
            })?;
        }
        Ok(())
    }

    fn list(calls: &Calls) -> Result<BpfProgram, seccompiler::BackendError> {
        let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
        let mut free = |numbers: &[c_long]| {
            rules.extend(numbers.iter().map(|number| (*number, Vec::new())));
        };
        free(ANY);
        free(OLDER);
        if calls.listens {
            free(LISTENS);
        }
        if calls.schedules {
            free(SCHEDULES);
        }
        let when = |argument: u8, how: SeccompCmpOp, value: u64| {
            SeccompRule::new(vec![SeccompCondition::new(
                argument,
                SeccompCmpArgLen::Dword,
                how,
                value,
            )?])
        };
        let is = |argument: u8, value: c_int| {
            when(argument, SeccompCmpOp::Eq, value.cast_unsigned().into())
        };
        let families: Vec<SeccompRule> =
            calls.families.iter().map(|family| is(0, *family)).collect::<Result<_, _>>()?;
        rules.insert(libc::SYS_socket, families);
        rules.insert(libc::SYS_socketpair, vec![is(0, libc::AF_UNIX)?]);
        let reading = c_int::cast_unsigned(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC).into();
        let reads = |argument| when(argument, SeccompCmpOp::MaskedEq(reading), 0);
        let writing = c_int::cast_unsigned(libc::O_WRONLY).into();
        let writes = |argument| when(argument, SeccompCmpOp::MaskedEq(reading), writing);
        let opens = |argument| {
            let mut all = vec![reads(argument)?];
            if calls.writes {
                all.push(writes(argument)?);
            }
            Ok::<_, seccompiler::BackendError>(all)
        };
        rules.insert(libc::SYS_openat, opens(2)?);
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_open, opens(1)?);
        // A thread, not a process.
        let thread = libc::CLONE_THREAD.cast_unsigned().into();
        rules.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
        let own = nix::unistd::getpid().as_raw();
        for signal in [libc::SYS_kill, libc::SYS_tgkill] {
            rules.insert(signal, vec![is(0, own)?]);
        }
        let limits = vec![is(0, 0)?, is(0, own)?];
        rules.insert(libc::SYS_prlimit64, limits);
        let controls =
            PROCESS_CONTROLS.iter().map(|what| is(0, *what)).collect::<Result<_, _>>()?;
        rules.insert(libc::SYS_prctl, controls);
        let controls = DEVICE_CONTROLS.iter().map(|what| when(1, SeccompCmpOp::Eq, *what));
        rules.insert(libc::SYS_ioctl, controls.collect::<Result<_, _>>()?);
        let errno = c_int::cast_unsigned(libc::EPERM);
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(rules, SeccompAction::Errno(errno), SeccompAction::Allow, arch)?
            .try_into()
    }

    /// `ENOSYS` for `clone3` and for numbers newer than the list.
    fn newer() -> BpfProgram {
        let absent = libc::SECCOMP_RET_ERRNO | c_int::cast_unsigned(libc::ENOSYS);
        let step = |code: u32, jt: u8, jf: u8, k: u32| sock_filter {
            code: u16::try_from(code).unwrap_or(0),
            jt,
            jf,
            k,
        };
        let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(UNKNOWN);
        vec![
            // The number of the call is the first field of `struct seccomp_data`.
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 2, 0, UNKNOWN),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, clone3),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, absent),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use nix::errno::Errno;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

    use super::*;

    const CALLS: Calls = Calls {
        families: &[libc::AF_UNIX, libc::AF_INET],
        listens: false,
        writes: false,
        schedules: false,
    };

    /// Runs `what` under the filter, in a thread of its own: it only applies to that thread.
    fn confined<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(|| {
            crate::sys::process::no_new_privileges().unwrap();
            install(&CALLS).unwrap();
            what()
        })
        .join()
        .unwrap()
    }

    fn call(number: libc::c_long) -> Errno {
        // SAFETY: none of those used here reads or writes memory with these arguments.
        Errno::result(unsafe { libc::syscall(number, 0, 0, 0, 0) }).unwrap_err()
    }

    #[test]
    fn what_is_needed_works_and_the_rest_is_refused() {
        confined(|| {
            assert!(std::fs::read_to_string("/etc/passwd").is_ok());
            UdpSocket::bind("127.0.0.1:0").unwrap();
            // Threads are created through `clone`.
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
            let denied = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
            };
            denied(std::fs::write("/tmp/evervip-not-written", "x"));
            denied(std::process::Command::new("/bin/true").status().map(drop));
            denied(std::fs::File::options().append(true).open("/dev/null").map(drop));
            let inet6 =
                socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
            assert_eq!(inet6.unwrap_err(), Errno::EPERM);
            for number in [libc::SYS_execve, libc::SYS_ptrace, libc::SYS_mount, libc::SYS_unshare] {
                assert_eq!(call(number), Errno::EPERM);
            }
            // Another process.
            let parent = nix::unistd::getppid();
            assert_eq!(nix::sys::signal::kill(parent, None), Err(Errno::EPERM));
            for newer in [libc::SYS_clone3, 463, 2000] {
                assert_eq!(call(newer), Errno::ENOSYS);
            }
        });
    }
}
