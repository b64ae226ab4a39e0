//! Scheduling, memory and limits of this process.

use std::io;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

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

/// Sets the nice value, -20 to 19, of all threads of this process; threads started later inherit it.
///
/// # Errors
/// `EACCES` if it is lowered without the capability SYS_NICE.
pub fn nice(value: i8) -> io::Result<()> {
    threads().into_iter().try_for_each(|thread| nice_of(thread, value).or_else(ended_or))
}

/// Sets the nice value, -20 to 19, of the calling thread alone.
///
/// # Errors
/// As [`nice`].
pub fn nice_here(value: i8) -> io::Result<()> {
    nice_of(0, value)
}

fn nice_of(thread: i32, value: i8) -> io::Result<()> {
    // SAFETY: no pointers.
    let answer =
        unsafe { libc::setpriority(libc::PRIO_PROCESS, thread.cast_unsigned(), value.into()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The nice value of the calling thread.
#[must_use]
pub fn own_nice() -> i8 {
    // SAFETY: no pointers. -1 is also a valid result; no error is possible for the calling thread.
    let value = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    i8::try_from(value).unwrap_or(0)
}

/// The numbers of the processors that the calling thread may run on.
///
/// # Errors
/// Those of `sched_getaffinity(2)`, such as `EINVAL` on a machine with more processors than the mask has bits.
pub fn processors() -> io::Result<Vec<u32>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let is_in = |number: &usize| set.is_set(*number).unwrap_or(false);
    Ok((0..CpuSet::count()).filter(is_in).filter_map(|number| u32::try_from(number).ok()).collect())
}

/// Restricts all threads of this process to these processors; threads started later inherit the restriction.
///
/// # Errors
/// `EINVAL` if none of these processors exists.
pub fn run_on(processors: &[u32]) -> io::Result<()> {
    let set = set_of(processors)?;
    threads().into_iter().try_for_each(|thread| {
        sched_setaffinity(Pid::from_raw(thread), &set).or_else(|e| ended_or(e.into()))
    })
}

/// Restricts the calling thread alone to these processors.
///
/// # Errors
/// As [`run_on`].
pub fn run_here_on(processors: &[u32]) -> io::Result<()> {
    Ok(sched_setaffinity(Pid::from_raw(0), &set_of(processors)?)?)
}

fn set_of(processors: &[u32]) -> io::Result<CpuSet> {
    let mut set = CpuSet::new();
    for number in processors {
        set.set(usize::try_from(*number).unwrap_or(usize::MAX))?;
    }
    Ok(set)
}

/// Threads of this process, the first one first, because threads that it starts meanwhile inherit its settings.
fn threads() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut all: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    // Without /proc only the calling thread is known.
    if all.is_empty() { vec![0] } else { all }
}

/// Ignores the error about a thread that has ended meanwhile.
fn ended_or(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
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

/// Permits the kernel to swap out memory of this process again.
///
/// # Errors
/// Those of `munlockall(2)`.
pub fn unlock_memory() -> io::Result<()> {
    Ok(munlockall()?)
}

/// Microseconds of processor time that a real-time thread may use without waiting: at the limit the kernel kills the
/// process (SIGXCPU), so that a runaway thread does not block the machine. The hard limit is left unchanged, so that
/// a later configuration can raise the limit.
///
/// # Errors
/// `EINVAL` beyond the hard limit.
pub fn limit_real_time(micros: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_RTTIME)?;
    Ok(setrlimit(Resource::RLIMIT_RTTIME, micros.min(hard), hard)?)
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

/// Octets that the allocator requests from the kernel beyond its need, when it keeps memory.
#[cfg(target_env = "gnu")]
const TOP_PAD: libc::c_int = 1 << 20;

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
            libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = octets;
}

/// Makes the kernel provide memory for the allocator at once, at most 256 MiB, so that `octets` are used or free. Only
/// after [`keep_memory`]; otherwise the memory is returned at once.
pub fn prefault(octets: u32) {
    #[cfg(target_env = "gnu")]
    // The allocator adds its pad to the requested size.
    populate(octets.saturating_sub(used_memory()).saturating_sub(TOP_PAD.unsigned_abs()));
    #[cfg(not(target_env = "gnu"))]
    let _ = octets;
}

/// Makes the kernel provide `octets` of memory for the allocator at once, at most 256 MiB. That costs a fraction of the
/// page faults that would provide each page at its first use. Only after [`keep_memory`]; otherwise the memory is
/// returned at once. No effect on kernels before 5.14.
pub fn populate(octets: u32) {
    #[cfg(target_env = "gnu")]
    {
        const PIECE: usize = 16 << 20;
        const PAGE: usize = 4096;
        const MOST: usize = 256 << 20;
        let mut left = usize::try_from(octets).unwrap_or(MOST).min(MOST);
        let mut pieces = Vec::new();
        while left >= PAGE {
            let size = left.min(PIECE);
            left -= size;
            // SAFETY: a plain call; its result is checked before use.
            let piece = unsafe { libc::malloc(size) };
            if piece.is_null() {
                break;
            }
            pieces.push(piece);
            let skipped = piece.align_offset(PAGE);
            let length = size.saturating_sub(skipped) & !(PAGE - 1);
            // SAFETY: the range lies within the allocation, which has no contents yet.
            unsafe { libc::madvise(piece.byte_add(skipped), length, POPULATE_WRITE) };
        }
        for piece in pieces {
            // SAFETY: it came from malloc and is freed once.
            unsafe { libc::free(piece) };
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = octets;
}

/// `MADV_POPULATE_WRITE`
#[cfg(target_env = "gnu")]
const POPULATE_WRITE: libc::c_int = 23;

/// Octets of memory that the pools of the allocator hold; 0 if that is unknown.
#[must_use]
pub fn taken_memory() -> u32 {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: only reads statistics of the allocator. `mallinfo2` is missing in the C libraries of older systems.
        let info = unsafe { libc::mallinfo() };
        u32::try_from(info.arena).unwrap_or(0)
    }
    #[cfg(not(target_env = "gnu"))]
    0
}

/// Octets of memory from the pools of the allocator that are in use.
#[cfg(target_env = "gnu")]
fn used_memory() -> u32 {
    // SAFETY: only reads statistics of the allocator.
    let info = unsafe { libc::mallinfo() };
    u32::try_from(info.uordblks).unwrap_or(0)
}

/// Returns unused memory of the allocator to the kernel.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_of_a_process_run_where_they_are_told_to() {
        let before = processors().unwrap();
        let (started, wait) = std::sync::mpsc::channel();
        let (go_on, end) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            started.send(()).unwrap();
            end.recv().unwrap();
            processors().unwrap()
        });
        wait.recv().unwrap();
        let last = *before.last().unwrap();
        run_on(&[last]).unwrap();
        go_on.send(()).unwrap();
        assert_eq!((other.join().unwrap(), processors().unwrap()), (vec![last], vec![last]));
        run_on(&before).unwrap();
        assert_eq!(processors().unwrap(), before);
        assert!(run_on(&[1023]).is_err());
    }
}
