//! All events of a test in one list: log lines, frames on the wire, kernel events, ends of processes. Tests wait for
//! events with a deadline and never sleep; if a test fails, the list is its report.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::frame::Frame;
use super::ipvs::Command;
use super::monitor::Change;
use super::{Res, Stop, late};

/// Nanoseconds of the time of day, the clock of the kernel's receive times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Wall(pub i64);

impl Wall {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Milliseconds from `earlier` to this, negative when it is the other way round.
    pub fn millis_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / 1e6
    }
}

#[derive(Clone, Debug)]
pub struct Event {
    /// Its time: the kernel's receive time of a frame, else the time of reading.
    pub at: Wall,
    /// The node of the event; for a frame, the node that sent it.
    pub node: Arc<str>,
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, Debug)]
pub enum What {
    /// A line that a process wrote.
    Log { source: Arc<str>, line: String },
    /// A frame that the switch received on a cable of the node.
    Frame(Frame),
    /// An rtnetlink event of the node's kernel.
    Kernel(Change),
    /// A command that changes the IPVS table.
    Ipvs(Command),
    /// A process that the test started has ended.
    Exit { source: Arc<str>, pid: u32, status: String, success: bool },
    /// A remark of the test itself.
    Note(String),
}

/// The list of one test; cheap to share between its threads.
pub struct Timeline {
    events: Mutex<Vec<Event>>,
    grew: Condvar,
    start: Wall,
}

/// A place in the list and its time: what comes after it is later. A frame that was received before, and read only now,
/// is not.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    place: usize,
    at: Wall,
}

impl Mark {
    /// The events after it, of those from `next` on.
    fn later<'a>(&self, events: &'a [Event], next: usize) -> impl Iterator<Item = &'a Event> {
        let at = self.at;
        let is_later =
            move |event: &&Event| !matches!(event.what, What::Frame(_)) || event.at >= at;
        events.iter().skip(next.max(self.place)).filter(is_later)
    }
}

impl Timeline {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { events: Mutex::default(), grew: Condvar::new(), start: Wall::now() })
    }

    pub fn push(&self, at: Wall, node: &Arc<str>, what: What) {
        self.lock().push(Event { at, node: Arc::clone(node), what });
        self.grew.notify_all();
    }

    /// Notes what an observer has missed: how many it had no room for so far, and how many it knew of.
    pub fn lost(&self, what: &str, known: &mut u32, now: u32) {
        if now > *known {
            let text = format!("the laboratory lost {} {what}", now - *known);
            self.push(Wall::now(), &"test".into(), What::Note(text));
            *known = now;
        }
    }

    pub fn mark(&self) -> Mark {
        let events = self.lock();
        Mark { place: events.len(), at: Wall::now() }
    }

    pub fn beginning(&self) -> Mark {
        Mark { place: 0, at: Wall(0) }
    }

    /// Everything that `pick` chooses after `mark`, as known now.
    pub fn collect<T>(&self, mark: Mark, pick: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        mark.later(&self.lock(), 0).filter_map(pick).collect()
    }

    /// Waits until `pick` chooses an event after `mark`; `what` describes it in the failure after `limit`.
    pub fn wait<T>(
        &self,
        mark: Mark,
        limit: Duration,
        what: &str,
        mut pick: impl FnMut(&Event) -> Option<T>,
    ) -> Res<T> {
        let mut next = 0;
        self.until(limit, what, |events| {
            let found = mark.later(events, next).find_map(&mut pick);
            next = events.len();
            found
        })
    }

    /// Waits until `pick` has chosen `count` events after `mark`; yields all that it chose.
    pub fn wait_for<T>(
        &self,
        mark: Mark,
        limit: Duration,
        what: &str,
        count: usize,
        mut pick: impl FnMut(&Event) -> Option<T>,
    ) -> Res<Vec<T>> {
        let (mut next, mut found) = (0, Vec::new());
        self.until(limit, what, |events| {
            found.extend(mark.later(events, next).filter_map(&mut pick));
            next = events.len();
            (found.len() >= count).then(|| core::mem::take(&mut found))
        })
    }

    /// Calls `probe` now, after new events and at least every 50 ms, until it returns something: for state without kernel
    /// events, such as the IPVS table. It gets half of the time at most: one that reads this list keeps its writers
    /// waiting.
    pub fn poll<T>(
        &self,
        limit: Duration,
        what: &str,
        mut probe: impl FnMut() -> Res<Option<T>>,
    ) -> Res<T> {
        let mut patience = Patience::new(limit);
        loop {
            let begin = Instant::now();
            if let Some(found) = probe()? {
                return Ok(found);
            }
            let end = Instant::now();
            if patience.left().is_zero() && !patience.extend() {
                return Err(patience.over(what));
            }
            let left = patience.left();
            let tick = left.min(Duration::from_millis(50));
            let pause = (end - begin).min(tick);
            let mut events = self.lock();
            let known = events.len();
            loop {
                let waited = end.elapsed();
                if waited >= tick || (waited >= pause && events.len() > known) {
                    break;
                }
                let rest = if waited < pause { pause } else { tick } - waited;
                events =
                    self.grew.wait_timeout(events, rest).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// The whole list as text, in order of time.
    pub fn report(&self) -> String {
        let mut events = self.lock().clone();
        events.sort_by_key(|event| event.at);
        let mut text = String::new();
        for event in &events {
            let at = event.at.millis_since(self.start) / 1e3;
            text.push_str(&format!("{at:10.6} {:>9} {}\n", event.node, event.what));
        }
        text
    }

    fn until<T>(
        &self,
        limit: Duration,
        what: &str,
        mut look: impl FnMut(&[Event]) -> Option<T>,
    ) -> Res<T> {
        let mut patience = Patience::new(limit);
        let mut events = self.lock();
        loop {
            if let Some(found) = look(&events) {
                return Ok(found);
            }
            let left = patience.left();
            if left.is_zero() {
                drop(events);
                if !patience.extend() {
                    return Err(patience.over(what));
                }
                events = self.lock();
                continue;
            }
            events = self.grew.wait_timeout(events, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { source, line } => write!(f, "{source}: {line}"),
            Self::Frame(frame) => write!(f, "wire: {frame}"),
            Self::Kernel(change) => write!(f, "kernel: {change}"),
            Self::Ipvs(command) => write!(f, "IPVS: {command}"),
            Self::Exit { source, pid, status, .. } => write!(f, "{source}: pid {pid} {status}"),
            Self::Note(text) => write!(f, "---- {text}"),
        }
    }
}

/// How long to wait: a limit for an idle machine, extended by the lateness of this one meanwhile and, when that is over,
/// by its slowness.
pub struct Patience {
    begin: Instant,
    from: Wall,
    limit: Duration,
    slowness: f64,
}

impl Patience {
    /// A wait is never longer than this many times the limit.
    const MOST: u32 = 8;

    pub fn new(limit: Duration) -> Self {
        Self { begin: Instant::now(), from: Wall::now(), limit, slowness: 1.0 }
    }

    pub fn left(&self) -> Duration {
        let most = self.limit.saturating_mul(Self::MOST);
        let limit = self.limit.mul_f64(self.slowness) + late::since(self.from);
        limit.min(most).saturating_sub(self.begin.elapsed())
    }

    /// Whether there is more time left, because this machine is slower than was known.
    pub fn extend(&mut self) -> bool {
        let slowness = late::slowness().min(f64::from(Self::MOST));
        self.slowness = self.slowness.max(slowness);
        !self.left().is_zero()
    }

    fn over(&self, what: &str) -> Stop {
        let waited = self.begin.elapsed().as_secs_f64();
        Stop::Fail(format!("did not happen within {waited:.1} s: {what}"))
    }
}
