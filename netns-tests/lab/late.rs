//! The lateness of this machine: threads that only sleep, one for each processor, measure by how much each sleep was
//! too long. The upper bound on a time that a test measures is what the protocol allows plus the lateness of a bare
//! timer meanwhile.

use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::LIMIT;
use super::node::{command, launch};
use super::timeline::Wall;

/// How long the threads sleep each time.
const SLEEP: Duration = Duration::from_millis(5);
/// How long an idle machine takes to start a process that does nothing, and to see its end.
const START: Duration = Duration::from_millis(3);
/// Smallest lateness that counts, in milliseconds.
const WORTH: f64 = 1.0;

struct Seen {
    /// When a sleep should have ended, and when it did, in order of the latter.
    late: Vec<(Wall, Wall)>,
    /// When each thread woke last.
    woken: Vec<Wall>,
}

impl Seen {
    /// The late ones that ended at this moment or after it. A run has many, and those who measure wait for this.
    fn since(&self, from: Wall) -> &[(Wall, Wall)] {
        let begin = self.late.partition_point(|(_, woken)| *woken < from);
        self.late.get(begin..).unwrap_or_default()
    }
}

static SEEN: Mutex<Seen> = Mutex::new(Seen { late: Vec::new(), woken: Vec::new() });
static WOKEN: Condvar = Condvar::new();

/// Begins to measure, once for the whole program.
pub fn watch() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let own = Pid::from_raw(0);
        let allowed = sched_getaffinity(own).unwrap_or_default();
        for processor in (0..CpuSet::count()).filter(|at| allowed.is_set(*at).unwrap_or(false)) {
            let mut seen = seen();
            let place = seen.woken.len();
            seen.woken.push(Wall::now());
            thread::spawn(move || {
                let mut only = CpuSet::new();
                // A thread that cannot be bound to its processor measures the one it runs on.
                let _ = only.set(processor).and_then(|()| sched_setaffinity(own, &only));
                sleep_on(place);
            });
        }
    });
}

fn sleep_on(place: usize) {
    let length = SLEEP.as_nanos() as i64;
    loop {
        let due = Wall(Wall::now().0 + length);
        thread::sleep(SLEEP);
        let mut seen = seen();
        let now = Wall::now();
        if now.millis_since(due) > WORTH {
            seen.late.push((due, now));
        }
        if let Some(woken) = seen.woken.get_mut(place) {
            *woken = now;
        }
        drop(seen);
        WOKEN.notify_all();
    }
}

/// The largest lateness of a bare timer between two moments, in milliseconds.
pub fn between(from: Wall, to: Wall) -> f64 {
    // One that still sleeps may be the latest of all.
    let asleep = |seen: &mut Seen| seen.woken.iter().any(|woken| *woken <= to);
    let (seen, _) =
        WOKEN.wait_timeout_while(seen(), LIMIT, asleep).unwrap_or_else(PoisonError::into_inner);
    let meanwhile = seen.since(from).iter().filter(|(due, _)| *due <= to);
    meanwhile.map(|(due, woken)| woken.millis_since(*due)).fold(0.0, f64::max)
}

/// The total time that a runnable thread had to wait since then: the mean over the processors.
pub fn since(from: Wall) -> Duration {
    let seen = seen();
    let later = seen.since(from).iter();
    let total: f64 = later.map(|(due, woken)| woken.millis_since((*due).max(from))).sum();
    Duration::from_secs_f64(total.max(0.0) / 1e3 / seen.woken.len().max(1) as f64)
}

/// How much longer than on an idle machine it takes now to start a process and to see its end: the middle one of three
/// attempts. A bare timer says little about a machine whose processors are shared by many, or belong to a guest.
pub fn slowness() -> f64 {
    let mut times = [0.0; 3].map(|_: f64| {
        let begun = Instant::now();
        let _ = launch(&mut command(["true"])).and_then(|mut child| child.wait());
        begun.elapsed().as_secs_f64()
    });
    times.sort_by(f64::total_cmp);
    (times[1] / START.as_secs_f64()).max(1.0)
}

/// The upper bound, in milliseconds, for an event between the two moments.
pub fn bound(millis: f64, from: Wall, to: Wall) -> f64 {
    millis + between(from, to)
}

fn seen() -> MutexGuard<'static, Seen> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}
