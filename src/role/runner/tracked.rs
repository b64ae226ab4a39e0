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
use crate::status::TrackReport;
use crate::status::vrrp::TrackerKind;

/// Largest number of reports in one message.
const AT_ONCE: usize = 32;

/// The roles that get reports about objects of a kind.
const fn audience(kind: TrackerKind) -> &'static [RoleName] {
    match kind {
        TrackerKind::File => &[RoleName::Vrrp, RoleName::Checker],
        TrackerKind::Process => &[RoleName::Vrrp],
        // `vrrp` observes these itself.
        TrackerKind::Script | TrackerKind::Bfd => &[],
    }
}

/// Something was observed.
pub(super) struct Found {
    kind: TrackerKind,
    /// These are all objects of the kind, not only the changed ones.
    all: bool,
    reports: Vec<TrackReport>,
}

impl From<file::Found> for Found {
    fn from(file::Found { all, values }: file::Found) -> Self {
        let report = |(name, value)| TrackReport::file(name, value);
        let reports = values.into_iter().map(report).collect();
        Self { kind: TrackerKind::File, all, reports }
    }
}

impl From<process::Found> for Found {
    fn from(process::Found { all, reports }: process::Found) -> Self {
        let reports = reports.into_iter().map(TrackReport::from).collect();
        Self { kind: TrackerKind::Process, all, reports }
    }
}

/// A tracked object.
type Key = (TrackerKind, Name);

/// The known reports, and those not yet sent to each role.
pub(super) struct Tracked {
    follower: Option<file::Follower>,
    watch: Option<process::Watch>,
    /// The socket on which the kernel reports process events.
    connector: Option<OwnedFd>,
    found: UnboundedSender<Found>,
    reports: BTreeMap<Key, TrackReport>,
    untold: BTreeMap<RoleName, BTreeSet<Key>>,
}

impl Tracked {
    /// No tracked files or processes yet. Values are sent to `found` and come back through [`Self::found`].
    pub fn new(found: UnboundedSender<Found>, connector: Option<OwnedFd>) -> Self {
        Self {
            follower: None,
            watch: None,
            connector,
            found,
            reports: BTreeMap::new(),
            untold: BTreeMap::new(),
        }
    }

    /// From now on these files are tracked. `init`: first write the values of `init_file`.
    pub fn follow(&mut self, files: Vec<TrackFile>, init: bool) {
        if self.follower.is_none() && !files.is_empty() {
            let found = self.found.clone();
            let tell = Box::new(move |new: file::Found| found.send(Found::from(new)).is_ok());
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
            let tell = Box::new(move |new: process::Found| found.send(Found::from(new)).is_ok());
            match process::Watch::start(self.connector.take(), tell) {
                Ok(watch) => self.watch = Some(watch),
                Err(e) => tracing::error!("cannot find tracked processes: {e}"),
            }
        }
        if let Some(watch) = &self.watch {
            watch.follow(processes, queue);
        }
    }

    /// Objects were observed.
    pub fn found(&mut self, found: Found) {
        let Found { kind, all, reports } = found;
        if all {
            self.reports.retain(|(other, _), _| *other != kind);
        }
        for report in reports {
            let key = (report.kind, report.name.clone());
            for role in audience(kind) {
                self.untold.entry(*role).or_default().insert(key.clone());
            }
            self.reports.insert(key, report);
        }
    }

    /// A new process of this role was started, which has to be sent all reports.
    pub fn tell_all(&mut self, role: RoleName) {
        let concern = |(kind, _): &&Key| audience(*kind).contains(&role);
        let all = self.reports.keys().filter(concern).cloned().collect();
        self.untold.insert(role, all);
    }

    /// Whether a role has not been sent all reports.
    pub fn is_behind(&self, role: RoleName) -> bool {
        self.untold.get(&role).is_some_and(|untold| !untold.is_empty())
    }

    /// Sends a role the reports not yet sent. `say` returns false if there is no room: then the rest is sent later.
    pub fn tell(&mut self, role: RoleName, mut say: impl FnMut(&FromRunner) -> bool) {
        let Some(untold) = self.untold.get_mut(&role) else { return };
        untold.retain(|key| self.reports.contains_key(key));
        while !untold.is_empty() {
            let some: Vec<Key> = untold.iter().take(AT_ONCE).cloned().collect();
            let reports = some.iter().filter_map(|key| self.reports.get(key).cloned());
            if !say(&FromRunner::Reports(reports.collect())) {
                return;
            }
            for key in &some {
                untold.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ProcessReport, Reading};

    #[test]
    fn each_value_is_told_once_and_the_newest_when_there_was_no_room() {
        let (found, _finds) = tokio::sync::mpsc::unbounded_channel();
        let mut tracked = Tracked::new(found, None);
        let some = |all, list: &[(&str, i32)]| {
            let values = list.iter().map(|(n, v)| (Name::from(*n), *v)).collect();
            Found::from(file::Found { all, values })
        };
        let told = |tracked: &mut Tracked, room: bool| {
            let mut all = Vec::new();
            tracked.tell(RoleName::Vrrp, |message| {
                if let (true, FromRunner::Reports(reports)) = (room, message) {
                    all.extend(reports.iter().map(|r| match r.reading {
                        Reading::Number(number) => format!("{} {number}", r.name),
                        Reading::Condition { good, .. } => format!("{} {good}", r.name),
                    }));
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
        // Processes only concern `vrrp`, and a file of the same name is another object.
        let report = ProcessReport { name: "a".into(), runs: true, count: 1 };
        tracked.found(process::Found { all: true, reports: vec![report] }.into());
        assert!(!tracked.is_behind(RoleName::Checker));
        assert_eq!(told(&mut tracked, true), ["a true"]);
        tracked.tell_all(RoleName::Vrrp);
        assert_eq!(told(&mut tracked, true), ["a 3", "b 2", "a true"]);
        tracked.found(process::Found { all: true, reports: Vec::new() }.into());
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
