//! Scheduling, memory and limits of this process.

use std::io;

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Puts the calling thread into the real-time class SCHED_RR with `priority` from 1 to 99. Programs that it
/// starts do not inherit this.
///
/// # Errors
/// `EPERM` without the capability SYS_NICE.
pub fn real_time(priority: u8) -> io::Result<()> {
    set_policy(libc::SCHED_RR, priority)
}

/// Puts the calling thread back into the normal class.
///
/// # Errors
/// Those of `sched_setscheduler(2)`.
pub fn normal() -> io::Result<()> {
    set_policy(libc::SCHED_OTHER, 0)
}

fn set_policy(policy: libc::c_int, priority: u8) -> io::Result<()> {
    // SAFETY: plain numbers, for which zero bits are valid.
    let mut param: libc::sched_param = unsafe { core::mem::zeroed() };
    param.sched_priority = priority.into();
    // SAFETY: the pointer is to a live value; 0 means the calling thread.
    let answer = unsafe {
        libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const param)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the nice value, -20 to 19, of the calling thread; threads started later inherit it.
///
/// # Errors
/// `EACCES` if it is lowered without the capability SYS_NICE.
pub fn nice(value: i8) -> io::Result<()> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value.into()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps all current and future memory of this process from being swapped out. Pages are locked once they are used.
///
/// # Errors
/// `EPERM`, `ENOMEM` beyond `RLIMIT_MEMLOCK` without the capability IPC_LOCK.
pub fn lock_memory() -> io::Result<()> {
    let all = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
    // On use only: without this each thread's whole stack becomes resident.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT as _);
    match mlockall(all | on_fault) {
        Err(Errno::EINVAL) => Ok(mlockall(all)?),
        other => Ok(other?),
    }
}

/// Microseconds of processor time that a real-time thread may use without waiting: at the limit the kernel kills the
/// process, so that a runaway thread does not block the machine.
///
/// # Errors
/// Those of `setrlimit(2)`.
pub fn limit_real_time(micros: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_RTTIME, micros, micros)?)
}

/// Sets the timer slack of the calling thread, in nanoseconds (50,000 by default).
pub fn timer_slack(nanos: u32) {
    // Only a hint; nothing depends on it.
    let _ = nix::sys::prctl::set_timerslack(nanos.into());
}

/// Raises the descriptor limit of this process to at least `wanted`, or as far as permitted.
pub fn descriptors(wanted: u64) {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted
    {
        // Beyond the hard limit only with SYS_RESOURCE.
        if wanted <= hard || setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_err() {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
        }
    }
}

/// Lets a crash write a core file of any size.
///
/// # Errors
/// `EPERM` if the hard limit is lower and the capability SYS_RESOURCE is missing.
pub fn core_files() -> io::Result<()> {
    let all = libc::RLIM_INFINITY;
    Ok(setrlimit(Resource::RLIMIT_CORE, all, all)?)
}

/// The largest block that the allocator may take from its pools, in octets.
#[cfg(target_env = "gnu")]
const MOST_UNMAPPED: libc::c_int = 32 << 20;

/// Makes the allocator return memory and keep few pools. Called first, while there is one thread.
pub fn thrifty_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only sets parameters of the allocator. Two arenas: the real-time thread has one of its own.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 10);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
    }
}

/// Makes the allocator keep up to `octets` of freed memory for reuse: when a configuration is read, getting memory from
/// the kernel costs more than using it. Called first, while there is one thread.
pub fn keep_memory(octets: u32) {
    #[cfg(target_env = "gnu")]
    {
        let octets = libc::c_int::try_from(octets).unwrap_or(libc::c_int::MAX);
        // SAFETY: only sets parameters of the allocator, which refuses invalid ones.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, octets);
            libc::mallopt(libc::M_MMAP_THRESHOLD, octets.min(MOST_UNMAPPED));
            libc::mallopt(libc::M_TOP_PAD, 1 << 20);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = octets;
}

/// Returns unused memory of the allocator to the kernel.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}
