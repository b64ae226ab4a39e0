//! Tracked files and processes, which the VRRP process may not be permitted to see. Separate threads observe them, so that a
//! file system that hangs delays nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use tokio::sync::mpsc::UnboundedSender;

use crate::base::Name;
use crate::drive::{file, process};
use crate::ipc::FromRunner;
use crate::kernel::connector::Queue;
use crate::model::tracker::{TrackFile, TrackProcess};
use crate::status::ProcessReport;

/// Largest number of values in one message.
const AT_ONCE: usize = 32;

/// Something was observed.
pub(super) enum Found {
    Files(file::Found),
    Processes(process::Found),
}

/// The known values, and those not yet sent to the VRRP process.
pub(super) struct Tracked {
    follower: Option<file::Follower>,
    watch: Option<process::Watch>,
    /// Where the kernel tells of processes.
    connector: Option<OwnedFd>,
    found: UnboundedSender<Found>,
    files: Told<i32>,
    processes: Told<ProcessReport>,
}

/// Values by name.
struct Told<V> {
    values: BTreeMap<Name, V>,
    untold: BTreeSet<Name>,
}

impl Tracked {
    /// Nothing yet. Values are sent to `found` and come back through [`Self::found`].
    pub fn new(found: UnboundedSender<Found>, connector: Option<OwnedFd>) -> Self {
        Self {
            follower: None,
            watch: None,
            connector,
            found,
            files: Told::default(),
            processes: Told::default(),
        }
    }

    /// From now on these files are tracked. `init`: first write the values of `init_file`.
    pub fn follow(&mut self, files: Vec<TrackFile>, init: bool) {
        if self.follower.is_none() && !files.is_empty() {
            let found = self.found.clone();
            let tell = Box::new(move |new| found.send(Found::Files(new)).is_ok());
            match file::Follower::start(tell) {
                Ok(follower) => self.follower = Some(follower),
                Err(e) => tracing::error!("cannot watch tracked files: {e}"),
            }
        }
        if let Some(follower) = &self.follower {
            follower.follow(files, init);
        }
    }

    /// From now on these processes are tracked.
    pub fn watch(&mut self, processes: Vec<TrackProcess>, queue: Queue) {
        if self.watch.is_none() && !processes.is_empty() {
            let found = self.found.clone();
            let tell = Box::new(move |new| found.send(Found::Processes(new)).is_ok());
            match process::Watch::start(self.connector.take(), tell) {
                Ok(watch) => self.watch = Some(watch),
                Err(e) => tracing::error!("tracked processes cannot be looked for: {e}"),
            }
        }
        if let Some(watch) = &self.watch {
            watch.follow(processes, queue);
        }
    }

    /// Values were observed.
    pub fn found(&mut self, found: Found) {
        match found {
            Found::Files(found) => self.files.take(found.all, found.values),
            Found::Processes(found) => {
                let reports = found.reports.into_iter().map(|report| (report.name.clone(), report));
                self.processes.take(found.all, reports);
            }
        }
    }

    /// There is a new VRRP process.
    pub fn tell_all(&mut self) {
        self.files.tell_all();
        self.processes.tell_all();
    }

    /// Sends the values not yet sent. `say` returns false if there is no room: then the rest is sent later.
    pub fn tell(&mut self, mut say: impl FnMut(&FromRunner) -> bool) {
        self.files.tell(|values| say(&FromRunner::Files(values)));
        self.processes.tell(|values| {
            let reports = values.into_iter().map(|(_, report)| report).collect();
            say(&FromRunner::Processes(reports))
        });
    }
}

impl<V> Default for Told<V> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), untold: BTreeSet::new() }
    }
}

impl<V: Clone> Told<V> {
    fn take(&mut self, all: bool, values: impl IntoIterator<Item = (Name, V)>) {
        if all {
            self.values.clear();
        }
        for (name, value) in values {
            self.untold.insert(name.clone());
            self.values.insert(name, value);
        }
    }

    fn tell_all(&mut self) {
        self.untold = self.values.keys().cloned().collect();
    }

    fn tell(&mut self, mut say: impl FnMut(Vec<(Name, V)>) -> bool) {
        self.untold.retain(|name| self.values.contains_key(name));
        while !self.untold.is_empty() {
            let some: Vec<Name> = self.untold.iter().take(AT_ONCE).cloned().collect();
            let values = some.iter().filter_map(|n| Some((n.clone(), self.values.get(n)?.clone())));
            if !say(values.collect()) {
                return;
            }
            some.iter().for_each(|name| {
                self.untold.remove(name);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_told_once_and_the_newest_when_there_was_no_room() {
        let (found, _finds) = tokio::sync::mpsc::unbounded_channel();
        let mut tracked = Tracked::new(found, None);
        let some = |all, list: &[(&str, i32)]| {
            let values = list.iter().map(|(n, v)| (Name::from(*n), *v)).collect();
            Found::Files(file::Found { all, values })
        };
        let told = |tracked: &mut Tracked, room: bool| {
            let mut all = Vec::new();
            tracked.tell(|message| {
                if let (true, FromRunner::Files(values)) = (room, message) {
                    all.extend(values.iter().map(|(n, v)| format!("{n} {v}")));
                }
                room
            });
            all
        };
        tracked.found(some(true, &[("a", 1), ("b", 2)]));
        assert_eq!(told(&mut tracked, false), [""; 0]);
        tracked.found(some(false, &[("a", 3)]));
        assert_eq!(told(&mut tracked, true), ["a 3", "b 2"]);
        assert_eq!(told(&mut tracked, true), [""; 0]);
        tracked.tell_all();
        assert_eq!(told(&mut tracked, true), ["a 3", "b 2"]);
        // A reload without one of them.
        tracked.found(some(true, &[("b", 2)]));
        tracked.tell_all();
        assert_eq!(told(&mut tracked, true), ["b 2"]);
        let many: Vec<String> = (0..100).map(|n| format!("f{n}")).collect();
        let list: Vec<(&str, i32)> = many.iter().map(|n| (n.as_str(), 0)).collect();
        tracked.found(some(true, &list));
        assert_eq!(told(&mut tracked, true).len(), 100);
    }
}
