//! Tracked files: a thread that watches them and reports the numbers in them.
//!
//! It watches the directories on the path of a file, from the root and through symbolic links, each only for the next
//! name of the path: so a directory may be created later, and any part of the path may be replaced. Every `AGAIN` all
//! files are read again: not every file system reports changes, and a mount causes no event.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;

use crate::base::{Instant, Name};
use crate::model::tracker::TrackFile;
use crate::sys::clock;
use crate::sys::inotify::{Changes, Directory};
use crate::sys::poll::{self, Wake};
use crate::track::number::{LONGEST, number};

/// Shortest time between two reads of a file, however often it changes. A file counts as empty if it is empty twice in
/// a row: a truncated file is usually written next.
const GAP: Duration = Duration::from_millis(50);
/// Time from one read of all files to the next.
const AGAIN: Duration = Duration::from_secs(5);
/// Time from one read of all files to the next if changes are not reported.
const BLIND: Duration = Duration::from_secs(1);
/// Largest number of symbolic links on the path of a file, as in the kernel.
const LINKS: usize = 40;

/// Numbers that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// These are all tracked files, else those whose number changed.
    pub all: bool,
    pub values: Vec<(Name, i32)>,
}

/// The thread, which ends when this is dropped.
pub struct Follower {
    orders: Option<mpsc::Sender<Order>>,
    wake: Arc<Wake>,
}

struct Order {
    files: Vec<TrackFile>,
    init: bool,
}

/// Receives the numbers; returns false to end the thread.
type Tell = Box<dyn FnMut(Found) -> bool + Send>;

impl Follower {
    /// Starts it, without a file.
    ///
    /// # Errors
    /// If there is no descriptor or thread left.
    pub fn start(tell: Tell) -> io::Result<Self> {
        let wake = Arc::new(Wake::new()?);
        let (orders, receiver) = mpsc::channel();
        let called = Arc::clone(&wake);
        thread::Builder::new()
            .name("track-files".into())
            .spawn(move || Watcher::new().run(&receiver, &called, tell))?;
        Ok(Self { orders: Some(orders), wake })
    }

    /// Tracks these files from now on; their numbers are reported as soon as they are read. `init`: first write the
    /// values of `init_file`.
    pub fn follow(&self, files: Vec<TrackFile>, init: bool) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(Order { files, init });
            self.wake.call();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.orders = None;
        self.wake.call();
    }
}

struct Followed {
    name: Name,
    path: PathBuf,
    value: i32,
    /// It was empty at the last read, but not before.
    emptied: bool,
    /// The last problem with it, so that it is logged once.
    trouble: Option<String>,
}

#[derive(Default)]
struct Watcher {
    changes: Option<Changes>,
    files: Vec<Followed>,
    /// The names that matter in each directory, and to which files.
    watched: BTreeMap<Directory, BTreeMap<OsString, BTreeSet<usize>>>,
    /// Files to read, and those of them whose path may have changed.
    changed: BTreeSet<usize>,
    moved: BTreeSet<usize>,
    /// When this may be done, and when all are read again.
    next: Instant,
    again: Instant,
}

impl Watcher {
    fn new() -> Self {
        let changes = Changes::open()
            .inspect_err(|e| {
                tracing::warn!(
                    "changes of tracked files are not reported ({e}), reading them every second"
                );
            })
            .ok();
        Self { changes, ..Self::default() }
    }

    fn run(&mut self, orders: &mpsc::Receiver<Order>, wake: &Wake, mut tell: Tell) {
        loop {
            wake.clear();
            let mut newest = None;
            loop {
                match orders.try_recv() {
                    Ok(order) => {
                        let init = order.init || newest.is_some_and(|o: Order| o.init);
                        newest = Some(Order { init, ..order });
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            let found = match newest {
                Some(order) => Some(self.begin(order)),
                None => self.turn(clock::now()),
            };
            if found.is_some_and(|found| !tell(found)) {
                return;
            }
            let changes = self.changes.as_ref().map(AsFd::as_fd);
            poll::wait(changes.into_iter().chain([wake.as_fd()]), self.pause(clock::now()));
        }
    }

    /// Time until there is something to do.
    fn pause(&self, now: Instant) -> Duration {
        if self.files.is_empty() {
            return Duration::from_secs(3600);
        }
        let due = if self.changed.is_empty() { self.again } else { self.again.min(self.next) };
        due.since(now)
    }

    /// Replaces the tracked files.
    fn begin(&mut self, order: Order) -> Found {
        if order.init {
            order.files.iter().for_each(initialise);
        }
        let mut before: BTreeMap<PathBuf, Followed> =
            self.files.drain(..).map(|file| (file.path.clone(), file)).collect();
        self.files = order
            .files
            .into_iter()
            .map(|file| {
                let path = PathBuf::from(OsStr::from_bytes(&file.path));
                let path = std::path::absolute(&path).unwrap_or(path);
                let (value, trouble) =
                    before.remove(&path).map_or((0, None), |f| (f.value, f.trouble));
                Followed { name: file.name, path, value, emptied: true, trouble }
            })
            .collect();
        self.look_at_all(clock::now());
        let values = self.files.iter().map(|file| (file.name.clone(), file.value)).collect();
        Found { all: true, values }
    }

    /// Processes events, and reads the files that are due.
    fn turn(&mut self, now: Instant) -> Option<Found> {
        self.note();
        let values = if now >= self.again {
            self.look_at_all(now)
        } else if now >= self.next && !self.changed.is_empty() {
            for index in core::mem::take(&mut self.moved) {
                self.lead_to(index);
            }
            let changed = core::mem::take(&mut self.changed);
            self.look(now, changed)
        } else {
            return None;
        };
        (!values.is_empty()).then_some(Found { all: false, values })
    }

    /// Notes which files changed.
    fn note(&mut self) {
        let happened = self.changes.as_ref().map(Changes::take).unwrap_or_default();
        for change in happened {
            let Some(names) = self.watched.get(&change.directory) else { continue };
            let concerned: Vec<usize> = match &change.name {
                Some(name) => names.get(name).into_iter().flatten().copied().collect(),
                None => names.values().flatten().copied().collect(),
            };
            if !change.content {
                self.moved.extend(&concerned);
            }
            self.changed.extend(concerned);
        }
    }

    fn look_at_all(&mut self, now: Instant) -> Vec<(Name, i32)> {
        let before = core::mem::take(&mut self.watched);
        for index in 0..self.files.len() {
            self.lead_to(index);
        }
        if let Some(changes) = &self.changes {
            let gone = before.into_keys().filter(|directory| !self.watched.contains_key(directory));
            gone.for_each(|directory| changes.forget(directory));
        }
        self.again = now + if self.changes.is_some() { AGAIN } else { BLIND };
        self.moved.clear();
        self.changed.clear();
        self.look(now, (0..self.files.len()).collect())
    }

    /// Watches the path of a file.
    fn lead_to(&mut self, index: usize) {
        let (Some(changes), Some(file)) = (&self.changes, self.files.get(index)) else { return };
        let mut way = way(&file.path);
        // Changes of the path before it is watched are not reported.
        for _ in 0..4 {
            for (directory, name, last) in &way {
                let Ok(one) = changes.watch(directory, *last) else { continue };
                let names = self.watched.entry(one).or_default();
                names.entry(name.clone()).or_default().insert(index);
            }
            let now = self::way(&file.path);
            if now == way {
                break;
            }
            way = now;
        }
    }

    /// Reads files; returns those whose number changed.
    fn look(&mut self, now: Instant, which: BTreeSet<usize>) -> Vec<(Name, i32)> {
        self.next = now + GAP;
        let mut values = Vec::new();
        for index in which {
            let Some(file) = self.files.get_mut(index) else { continue };
            let before = file.value;
            if file.read() {
                self.changed.insert(index);
            }
            if file.value != before {
                values.push((file.name.clone(), file.value));
            }
        }
        values
    }
}

impl Followed {
    /// Reads the number. True if it must be read once more.
    fn read(&mut self) -> bool {
        let emptied = core::mem::take(&mut self.emptied);
        let (value, trouble) = match read(&self.path) {
            Ok(text) if text.is_empty() && !emptied && self.value != 0 => {
                self.emptied = true;
                return true;
            }
            Ok(text) => match number(&text) {
                Ok(value) => (value, None),
                Err(_) => (self.value, Some("the number in it is too large, ignored".to_owned())),
            },
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                (0, None)
            }
            Err(e) => (0, Some(format!("{e}, it counts as 0"))),
        };
        self.value = value;
        if let Some(text) = &trouble
            && self.trouble != trouble
        {
            tracing::warn!("track_file {}: {}: {text}", self.name, self.path.display());
        }
        self.trouble = trouble;
        false
    }
}

/// The beginning of a file.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO or a device without a peer must not block.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    regular(&file)?;
    let mut text = Vec::new();
    file.take(LONGEST as u64).read_to_end(&mut text)?;
    Ok(text)
}

fn regular(file: &fs::File) -> io::Result<()> {
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("not a regular file")) }
}

/// Writes the value of `init_file`.
fn initialise(file: &TrackFile) {
    let Some(init) = file.init else { return };
    let path = Path::new(OsStr::from_bytes(&file.path));
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).mode(0o644);
    if init.overwrite {
        options.create(true).truncate(false);
    } else {
        options.create_new(true);
    }
    let written = options.open(path).and_then(|mut open| {
        regular(&open)?;
        open.set_len(0)?;
        writeln!(open, "{}", init.value)
    });
    match written {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists || init.overwrite => {
            tracing::warn!("track_file {}: cannot write {}: {e}", file.name, path.display());
        }
        _ => {}
    }
}

/// The path of a file: directories with the next name in each, and whether it is the last one. It ends at a missing
/// part.
fn way(path: &Path) -> Vec<(PathBuf, OsString, bool)> {
    let parts = |path: &Path| -> Vec<OsString> {
        let parts =
            path.components().filter(|c| !matches!(c, Component::RootDir | Component::CurDir));
        parts.map(|c| c.as_os_str().to_owned()).collect()
    };
    let mut way = Vec::new();
    let mut at = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = parts(path).into();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        way.push((at.clone(), name, rest.is_empty()));
        match fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > LINKS {
                    break;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                parts(&target).into_iter().rev().for_each(|part| rest.push_front(part));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(_) => at = next,
        }
    }
    way
}

#[cfg(test)]
mod tests;
