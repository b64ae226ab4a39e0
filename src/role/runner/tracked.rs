//! Tracked files and processes, which other roles may not be permitted to see. Separate threads observe them, so that a
//! file system that hangs delays nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use tokio::sync::mpsc::UnboundedSender;

use crate::base::Name;
use crate::drive::{file, process};
use crate::ipc::{FromRunner, RoleName};
use crate::kernel::connector::Queue;
use crate::model::tracker::{TrackFile, TrackProcess};
use crate::status::ProcessReport;

/// Largest number of values in one message.
const AT_ONCE: usize = 32;

/// The roles that get the numbers in files, and those that get reports about processes.
const TOLD_OF_FILES: &[RoleName] = &[RoleName::Vrrp, RoleName::Checker];
const TOLD_OF_PROCESSES: &[RoleName] = &[RoleName::Vrrp];

/// Something was observed.
pub(super) enum Found {
    Files(file::Found),
    Processes(process::Found),
}

/// The known values, and those not yet sent to each role.
pub(super) struct Tracked {
    follower: Option<file::Follower>,
    watch: Option<process::Watch>,
    /// The socket on which the kernel reports process events.
    connector: Option<OwnedFd>,
    found: UnboundedSender<Found>,
    files: Told<i32>,
    processes: Told<ProcessReport>,
}

/// Values by name.
struct Told<V> {
    values: BTreeMap<Name, V>,
    untold: BTreeMap<RoleName, BTreeSet<Name>>,
}

impl Tracked {
    /// No tracked files or processes yet. Values are sent to `found` and come back through [`Self::found`].
    pub fn new(found: UnboundedSender<Found>, connector: Option<OwnedFd>) -> Self {
        Self {
            follower: None,
            watch: None,
            connector,
            found,
            files: Told::new(TOLD_OF_FILES),
            processes: Told::new(TOLD_OF_PROCESSES),
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

    /// Sets the processes to track from now on.
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

    /// A new process of this role was started, which has to be sent all values.
    pub fn tell_all(&mut self, role: RoleName) {
        self.files.tell_all(role);
        self.processes.tell_all(role);
    }

    /// Whether a role has not been sent all values.
    pub fn is_behind(&self, role: RoleName) -> bool {
        self.files.is_behind(role) || self.processes.is_behind(role)
    }

    /// Sends a role the values not yet sent. `say` returns false if there is no room: then the rest is sent later.
    pub fn tell(&mut self, role: RoleName, mut say: impl FnMut(&FromRunner) -> bool) {
        self.files.tell(role, |values| say(&FromRunner::Files(values)));
        self.processes.tell(role, |values| {
            let reports = values.into_iter().map(|(_, report)| report).collect();
            say(&FromRunner::Processes(reports))
        });
    }
}

impl<V: Clone> Told<V> {
    fn new(roles: &[RoleName]) -> Self {
        let untold = roles.iter().map(|role| (*role, BTreeSet::new())).collect();
        Self { values: BTreeMap::new(), untold }
    }

    fn take(&mut self, all: bool, values: impl IntoIterator<Item = (Name, V)>) {
        if all {
            self.values.clear();
        }
        for (name, value) in values {
            for untold in self.untold.values_mut() {
                untold.insert(name.clone());
            }
            self.values.insert(name, value);
        }
    }

    fn tell_all(&mut self, role: RoleName) {
        if let Some(untold) = self.untold.get_mut(&role) {
            *untold = self.values.keys().cloned().collect();
        }
    }

    fn is_behind(&self, role: RoleName) -> bool {
        self.untold.get(&role).is_some_and(|untold| !untold.is_empty())
    }

    fn tell(&mut self, role: RoleName, mut say: impl FnMut(Vec<(Name, V)>) -> bool) {
        let Some(untold) = self.untold.get_mut(&role) else { return };
        untold.retain(|name| self.values.contains_key(name));
        while !untold.is_empty() {
            let some: Vec<Name> = untold.iter().take(AT_ONCE).cloned().collect();
            let values = some.iter().filter_map(|n| Some((n.clone(), self.values.get(n)?.clone())));
            if !say(values.collect()) {
                return;
            }
            some.iter().for_each(|name| {
                untold.remove(name);
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
            tracked.tell(RoleName::Vrrp, |message| {
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
        tracked.tell_all(RoleName::Vrrp);
        assert_eq!(told(&mut tracked, true), ["a 3", "b 2"]);
        // Each role has its own set of values to send.
        let mut others = 0;
        tracked.tell(RoleName::Checker, |_| {
            others += 1;
            true
        });
        assert_eq!(others, 1);
        // A reload without one of them.
        tracked.found(some(true, &[("b", 2)]));
        tracked.tell_all(RoleName::Vrrp);
        assert_eq!(told(&mut tracked, true), ["b 2"]);
        let many: Vec<String> = (0..100).map(|n| format!("f{n}")).collect();
        let list: Vec<(&str, i32)> = many.iter().map(|n| (n.as_str(), 0)).collect();
        tracked.found(some(true, &list));
        assert_eq!(told(&mut tracked, true).len(), 100);
    }
}
