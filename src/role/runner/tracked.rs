//! What the VRRP process tracks but may not look at itself: files of any owner. A thread of their own looks at them, so that a
//! file system that hangs holds up nothing else.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc::UnboundedSender;

use crate::base::Name;
use crate::drive::file::Follower;
pub(super) use crate::drive::file::Found;
use crate::ipc::FromRunner;
use crate::model::tracker::TrackFile;

/// Values in one message.
const AT_ONCE: usize = 32;

/// What is known of it, and what of that the VRRP process has not been told.
pub(super) struct Tracked {
    follower: Option<Follower>,
    found: UnboundedSender<Found>,
    values: BTreeMap<Name, i32>,
    untold: BTreeSet<Name>,
}

impl Tracked {
    /// Nothing. What is found goes to `found`, to come back by [`Self::found`].
    pub fn new(found: UnboundedSender<Found>) -> Self {
        Self { follower: None, found, values: BTreeMap::new(), untold: BTreeSet::new() }
    }

    /// From now on these files are tracked. `init`: what `init_file` says is written first.
    pub fn follow(&mut self, files: Vec<TrackFile>, init: bool) {
        if self.follower.is_none() && !files.is_empty() {
            let found = self.found.clone();
            match Follower::start(Box::new(move |new| found.send(new).is_ok())) {
                Ok(follower) => self.follower = Some(follower),
                Err(e) => tracing::error!("tracked files cannot be looked at: {e}"),
            }
        }
        if let Some(follower) = &self.follower {
            follower.follow(files, init);
        }
    }

    /// Something was read.
    pub fn found(&mut self, found: Found) {
        if found.all {
            self.values.clear();
        }
        self.untold.extend(found.values.iter().map(|(name, _)| name.clone()));
        self.values.extend(found.values);
    }

    /// There is a new VRRP process.
    pub fn tell_all(&mut self) {
        self.untold = self.values.keys().cloned().collect();
    }

    /// Whether there was no room for something.
    pub fn is_behind(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Says what has not been told. `say` is false when there is no room: then the rest is for later.
    pub fn tell(&mut self, mut say: impl FnMut(&FromRunner) -> bool) {
        self.untold.retain(|name| self.values.contains_key(name));
        while !self.untold.is_empty() {
            let some: Vec<Name> = self.untold.iter().take(AT_ONCE).cloned().collect();
            let values = some.iter().filter_map(|n| Some((n.clone(), *self.values.get(n)?)));
            if !say(&FromRunner::Files(values.collect())) {
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
        let mut tracked = Tracked::new(found);
        let some = |all, list: &[(&str, i32)]| Found {
            all,
            values: list.iter().map(|(n, v)| (Name::from(*n), *v)).collect(),
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
