//! Tracked processes: a thread that observes processes starting, changing and ending, and reports how many run.
//!
//! The kernel reports them through its connector. Where the connector is not available, in a container or a network
//! namespace, all processes are scanned periodically. They are also scanned after the kernel has lost events, and now
//! and then in any case: when it is short of memory it loses events without a report.

use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;

use crate::base::Instant;
use crate::kernel::connector::{Connector, Event, Queue};
use crate::model::tracker::TrackProcess;
use crate::status::ProcessReport;
use crate::sys::clock;
use crate::sys::poll::{self, Wake};
use crate::track::process::{Pid, Processes, Seen};

/// Time from one scan of all processes to the next without events of the kernel.
const BLIND: Duration = Duration::from_secs(1);
/// The same with events of the kernel.
const AGAIN: Duration = Duration::from_secs(60);
/// Scans take at most this fraction (1/50) of the time, so the time until the next one depends on their duration.
const SHARE: u32 = 50;
/// Upper bound of that time without events of the kernel.
const LONGEST: Duration = Duration::from_secs(5);
/// Delay from lost events to a scan, because more events may be lost shortly after.
const RECOVERY: Duration = Duration::from_millis(100);
/// Events that are processed before their results are reported.
const BATCH: usize = 512;
/// Shortest time between reports of numbers of processes that do not change whether enough run.
const NUMBERS: Duration = Duration::from_secs(1);
/// Octets of a `stat` file that are read: more than its first three fields take.
const STAT: u64 = 256;

/// The values found: all of them, or only the changed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The values of all tracked processes.
    pub all: bool,
    pub reports: Vec<ProcessReport>,
}

/// The handle of the thread. Dropping it ends the thread.
pub struct Watch {
    orders: Option<mpsc::Sender<Order>>,
    wake: Arc<Wake>,
}

struct Order {
    kinds: Vec<TrackProcess>,
    queue: Queue,
}

/// The receiver of the values; returns false when it no longer exists.
type Tell = Box<dyn FnMut(Found) -> bool + Send>;

impl Watch {
    /// Starts the thread, which tracks nothing yet. `connector`: a socket of [`crate::kernel::connector`], if it
    /// could be opened.
    ///
    /// # Errors
    /// When the limit of descriptors or threads is reached.
    pub fn start(connector: Option<OwnedFd>, tell: Tell) -> io::Result<Self> {
        let wake = Arc::new(Wake::new()?);
        let (orders, receiver) = mpsc::channel();
        let called = Arc::clone(&wake);
        let watcher = Watcher::new(PathBuf::from("/proc"), connector.map(Connector::new));
        thread::Builder::new()
            .name("track-procs".into())
            .spawn(move || watcher.run(&receiver, &called, tell))?;
        Ok(Self { orders: Some(orders), wake })
    }

    /// Sets the processes to track from now on. All values are reported as soon as they are known.
    pub fn follow(&self, kinds: Vec<TrackProcess>, queue: Queue) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(Order { kinds, queue });
            self.wake.call();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.orders = None;
        self.wake.call();
    }
}

struct Watcher {
    root: PathBuf,
    processes: Processes,
    connector: Option<Connector>,
    /// Events of the kernel, if it sends them.
    told: bool,
    /// The lack of events has been logged.
    complained: bool,
    /// When the next scan of all processes is due.
    again: Instant,
    /// When numbers may be reported again.
    numbers: Instant,
}

impl Watcher {
    fn new(root: PathBuf, connector: Option<Connector>) -> Self {
        Self {
            root,
            processes: Processes::default(),
            connector,
            told: false,
            complained: false,
            again: Instant::ZERO,
            numbers: Instant::ZERO,
        }
    }

    fn run(mut self, orders: &mpsc::Receiver<Order>, wake: &Wake, mut tell: Tell) {
        loop {
            wake.clear();
            let mut newest = None;
            loop {
                match orders.try_recv() {
                    Ok(order) => newest = Some(order),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            let found = match newest {
                Some(order) => Some(self.begin(order, clock::now())),
                None => self.turn(clock::now()),
            };
            if found.is_some_and(|found| !tell(found)) {
                return;
            }
            let events = self.connector.as_ref().filter(|_| self.told).map(AsFd::as_fd);
            let pause = self.pause(clock::now());
            poll::wait(events.into_iter().chain([wake.as_fd()]), pause);
        }
    }

    /// Time until the next work, unless an event arrives earlier.
    fn pause(&self, now: Instant) -> Duration {
        if self.processes.is_empty() {
            return Duration::from_secs(3600);
        }
        let numbers = self.processes.counts_differ().then_some(self.numbers);
        let due = [self.processes.deadline(), numbers].into_iter().flatten().min();
        due.map_or(self.again, |due| due.min(self.again)).since(now)
    }

    /// Sets the processes to track.
    fn begin(&mut self, order: Order, now: Instant) -> Found {
        self.processes.follow(order.kinds);
        if self.processes.is_empty() {
            self.told = false;
            if let Some(connector) = &mut self.connector {
                connector.ignore();
            }
            return Found { all: true, reports: Vec::new() };
        }
        let listening = match &mut self.connector {
            Some(connector) => connector.listen(order.queue),
            None => Err(io::Error::other("no socket")),
        };
        self.told = listening.is_ok();
        if let Err(e) = listening
            && !core::mem::replace(&mut self.complained, true)
        {
            tracing::info!(
                "process events are not available here ({e}); tracked processes are checked every second"
            );
        }
        self.look_at_all(now);
        Found { all: true, reports: self.reports(now, true) }
    }

    /// Processes events, and scans if a scan is due.
    fn turn(&mut self, now: Instant) -> Option<Found> {
        if self.told {
            self.take(now);
        }
        if now >= self.again && !self.processes.is_empty() {
            self.look_at_all(now);
        }
        self.processes.pass(now);
        let reports = self.reports(now, now >= self.numbers);
        (!reports.is_empty()).then_some(Found { all: false, reports })
    }

    fn reports(&mut self, now: Instant, numbers: bool) -> Vec<ProcessReport> {
        let reports = self.processes.news(numbers);
        if numbers && !reports.is_empty() {
            self.numbers = now + NUMBERS;
        }
        reports
    }

    /// Processes events of the kernel.
    fn take(&mut self, now: Instant) {
        let length = self.processes.line();
        for _ in 0..BATCH {
            let Some(event) = self.connector.as_mut().and_then(Connector::event) else { break };
            match event {
                Event::Forked { parent, child } => self.processes.forked(now, parent, child),
                Event::Became(pid) => {
                    let seen = look(&self.root, pid, length);
                    self.processes.became(now, pid, seen.as_ref());
                }
                Event::Ended(pid) => self.processes.ended(now, pid),
                Event::Lost => {
                    tracing::debug!("events of processes were lost, all are looked at");
                    if let Some(connector) = &mut self.connector {
                        connector.grow();
                    }
                    self.again = self.again.min(now + RECOVERY);
                }
            }
        }
    }

    fn look_at_all(&mut self, now: Instant) {
        let length = self.processes.line();
        let all: Vec<(Pid, Seen)> = match fs::read_dir(&self.root) {
            Ok(entries) => entries
                .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
                .filter_map(|pid| Some((pid, look(&self.root, pid, length)?)))
                .collect(),
            Err(e) => {
                tracing::error!("{}: {e}", self.root.display());
                Vec::new()
            }
        };
        self.processes.replace(now, all);
        // On a busy machine a scan takes long although it uses little processor time.
        let took = clock::now().since(now) * SHARE;
        self.again = now + if self.told { AGAIN } else { took.clamp(BLIND, LONGEST) };
    }
}

/// The properties of a process; none if it has ended. `length`: the number of octets of its command line that matter.
fn look(root: &Path, pid: Pid, length: usize) -> Option<Seen> {
    let of = root.join(pid.to_string());
    let stat = read(&of.join("stat"), STAT)?;
    let name = name(&stat)?.to_vec();
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    let line = if length == 0 { Vec::new() } else { read(&of.join("cmdline"), length)? };
    Some(Seen { name, line })
}

/// The name of a process according to its `stat` file; none for a zombie.
fn name(stat: &[u8]) -> Option<&[u8]> {
    let begin = stat.iter().position(|c| *c == b'(')?;
    let end = stat.iter().rposition(|c| *c == b')')?;
    let ended = matches!(stat.get(end + 1..)?, [b' ', b'Z' | b'X', ..]);
    if ended { None } else { stat.get(begin + 1..end) }
}

fn read(path: &Path, length: u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(length).read_to_end(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests;
