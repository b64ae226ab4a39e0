//! Link events of the kernel, and which instances depend on them.

use std::collections::BTreeSet;

use super::consequence::What;
use super::event::{InstanceId, Link, Snapshot};
use super::job::{Job, Progress};
use super::{Action, Engine, Moment, Phase};
use crate::base::{IfIndex, IfName};
use crate::plan::{Sight, VrfRole};
use crate::track::Subject;

/// A snapshot of the whole kernel that is being processed.
#[derive(Debug)]
pub(super) struct Sighting {
    stage: Stage,
    objects: std::vec::IntoIter<Sight>,
    links: Vec<Link>,
    /// Number of links that this stage has processed.
    next: usize,
    /// Links that have disappeared.
    gone: Vec<IfIndex>,
    /// Instances whose source is to be chosen again, and those for which it changed.
    ids: Vec<InstanceId>,
    changed: Vec<InstanceId>,
}

/// Objects come first: the effect of a link event depends on them. Names come before other properties of links: two
/// interfaces may have swapped theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Forget,
    Objects,
    Gone,
    Names,
    Links,
    Sources,
}

impl Engine {
    /// Processes a snapshot of the kernel.
    pub(super) fn kernel(&mut self, moment: &mut Moment<'_>, snapshot: Snapshot) {
        let mut objects = snapshot.objects;
        objects.extend(self.objects.observed_of(snapshot.unread));
        let sighting = Sighting {
            stage: Stage::Forget,
            objects: objects.into_iter(),
            links: snapshot.links,
            next: 0,
            gone: Vec::new(),
            ids: Vec::new(),
            changed: Vec::new(),
        };
        self.begin(moment, Job::Sighting(Box::new(sighting)));
    }

    /// Continues with a snapshot of the kernel by one slice.
    pub(super) fn look_on(&mut self, moment: &mut Moment<'_>, s: &mut Sighting) -> Progress {
        while self.has_room() {
            // The consequences of one link come before the next link.
            if self.work_on(moment) {
                continue;
            }
            self.spend(1);
            let position = s.next;
            s.next += 1;
            let following = match s.stage {
                Stage::Forget if self.objects.forget_some() => continue,
                Stage::Forget => Stage::Objects,
                Stage::Objects => match s.objects.next() {
                    Some(sight) => {
                        self.objects.saw(sight);
                        continue;
                    }
                    None => {
                        s.gone = self.links_beside(&s.links);
                        Stage::Gone
                    }
                },
                Stage::Gone => match s.gone.pop() {
                    Some(index) => {
                        self.link_gone(moment, index);
                        continue;
                    }
                    None => Stage::Names,
                },
                Stage::Names => match s.links.get(position) {
                    Some(link) => {
                        self.rename(moment, link.index, &link.name);
                        self.work(moment);
                        continue;
                    }
                    None => Stage::Links,
                },
                Stage::Links => match s.links.get(position) {
                    Some(link) => {
                        self.link(moment, link.clone());
                        continue;
                    }
                    None => {
                        if let Phase::Waiting { configured, .. } = self.phase {
                            self.phase = Phase::Waiting { configured, seen: true };
                            return self.start();
                        }
                        s.ids = self.instances.ids();
                        Stage::Sources
                    }
                },
                Stage::Sources => match s.ids.get(position).copied() {
                    Some(id) => {
                        if self.choose_source(moment, id) {
                            s.changed.push(id);
                        }
                        continue;
                    }
                    None if !s.changed.is_empty() => {
                        self.reconsider_all(moment, core::mem::take(&mut s.changed));
                        continue;
                    }
                    None => {
                        self.objects.drop_strays();
                        let ids = self.objects.ids();
                        self.settle(moment, &ids);
                        return Progress::Complete;
                    }
                },
            };
            (s.stage, s.next) = (following, 0);
        }
        Progress::Sliced
    }

    /// Known links that are not among these; the next one to remove is the last.
    fn links_beside(&self, links: &[Link]) -> Vec<IfIndex> {
        let there: BTreeSet<IfIndex> = links.iter().map(|link| link.index).collect();
        self.links.keys().rev().copied().filter(|index| !there.contains(index)).collect()
    }

    /// A link appeared or changed.
    pub(super) fn link(&mut self, moment: &mut Moment<'_>, mut link: Link) {
        self.delay_change(moment, &mut link);
        self.link_as_it_counts(moment, link);
    }

    pub(super) fn link_as_it_counts(&mut self, moment: &mut Moment<'_>, link: Link) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let (index, name) = (link.index, link.name.clone());
        self.rename(moment, index, &name);
        let vrf = link.vrf;
        let before = self.links.insert(index, link);
        self.objects.set_vrf(&name, vrf);
        match self.link_names.get(&name).copied() {
            None => {
                self.link_names.insert(name.clone(), index);
                self.rebind(&name, Some(index));
            }
            // An interface that is deleted and recreated keeps its name but not its index.
            Some(old) if old != index && self.links.get(&old).is_none_or(|l| l.name == name) => {
                self.links.remove(&old);
                self.then_forget(old);
                self.link_names.insert(name.clone(), index);
                self.rebind(&name, Some(index));
                for alias in self.aliases.remove(&old).unwrap_or_default() {
                    self.resolve(&alias);
                }
            }
            // The name still refers to another interface, see `rename`.
            Some(_) => {}
        }
        if before.is_none() && matches!(vrf, Some(VrfRole::Device { .. })) {
            self.vrf_changed(&name);
        }
        if before.is_some() && before != self.links.get(&index).cloned() {
            for name in self.names_of(index) {
                self.interface_changed(&name);
                let again = before.as_ref().is_some_and(|link| !link.up) && self.is_up(&name);
                self.then_compare(name, again);
            }
        }
        self.work(moment);
    }

    /// The device of a VRF came or went: notes that the instances in it are reconsidered.
    fn vrf_changed(&mut self, name: &IfName) {
        self.each(What::Refresh, self.instances.in_vrf(name));
        self.then_act();
    }

    /// An interface may have a new name. The addresses, adverts and neighbours of the configured (old) name are on this
    /// interface, so the old name still refers to it until it is deleted, and the new name refers to nothing else.
    fn rename(&mut self, moment: &mut Moment<'_>, index: IfIndex, name: &IfName) {
        let Some(link) = self.links.get_mut(&index).filter(|link| link.name != *name) else {
            return;
        };
        let old = core::mem::replace(&mut link.name, name.clone());
        if let Some(aliases) = self.aliases.get_mut(&index) {
            aliases.retain(|alias| alias != name);
        }
        if self.link_names.get(&old) != Some(&index) {
            return;
        }
        if self.names(&old) {
            tracing::warn!(
                "interface {old} is called {name} now: settings for {old} apply to it until that interface \
                 is gone"
            );
            self.aliases.entry(index).or_default().push(old);
            // The next process of this role needs this.
            moment.out.push(Action::Report);
        } else {
            self.link_names.remove(&old);
            self.rebind(&old, None);
        }
    }

    /// Whether the configuration names an interface.
    fn names(&self, name: &IfName) -> bool {
        let tracker = Subject::Interface(name.clone());
        self.instances.has_any(name)
            || self.objects.has_any(name)
            || self.trackers.find(&tracker).is_some()
    }

    /// The names of interfaces in the configuration, each once.
    pub(super) fn named(&self) -> impl Iterator<Item = &IfName> {
        let of_instances = self.instances.interfaces();
        let of_objects = self.objects.interfaces().filter(|name| !self.instances.has_any(name));
        let tracked = self.trackers.subjects().filter_map(|subject| match subject {
            Subject::Interface(name) => Some(name),
            _ => None,
        });
        let tracked =
            tracked.filter(|name| !self.instances.has_any(name) && !self.objects.has_any(name));
        of_instances.chain(of_objects).chain(tracked)
    }

    /// The names that refer to an interface: its own, unless that still refers to another one, and former ones.
    pub(super) fn names_of(&self, index: IfIndex) -> Vec<IfName> {
        let own = self.links.get(&index).map(|link| link.name.clone());
        let own = own.filter(|name| self.link_names.get(name) == Some(&index));
        own.into_iter().chain(self.aliases.get(&index).into_iter().flatten().cloned()).collect()
    }

    /// Former names of interfaces.
    fn renamed(&self) -> Vec<(IfName, IfIndex)> {
        let all = self.aliases.iter();
        all.flat_map(|(index, names)| names.iter().map(|name| (name.clone(), *index))).collect()
    }

    /// Makes names refer to the same interfaces as in the previous process of this role, even if these were renamed.
    pub(super) fn resume_names(&mut self, meant: Vec<(IfName, IfIndex)>) {
        for (name, index) in meant {
            let known = self.links.get(&index).is_some_and(|link| link.name != name);
            if known && self.names(&name) {
                self.link_names.insert(name.clone(), index);
                self.aliases.entry(index).or_default().push(name.clone());
                self.rebind(&name, Some(index));
            }
        }
    }

    /// Forgets former names that the configuration does not use.
    pub(super) fn forget_names(&mut self) {
        for (name, index) in self.renamed() {
            if !self.names(&name) {
                if let Some(aliases) = self.aliases.get_mut(&index) {
                    aliases.retain(|alias| *alias != name);
                }
                self.resolve(&name);
            }
        }
    }

    /// Binds a name to the interface that has it.
    fn resolve(&mut self, name: &IfName) {
        let found = self.links.values().find(|link| link.name == *name).map(|link| link.index);
        match found {
            Some(index) => self.link_names.insert(name.clone(), index),
            None => self.link_names.remove(name),
        };
        self.rebind(name, found);
    }

    pub(super) fn link_gone(&mut self, moment: &mut Moment<'_>, index: IfIndex) {
        self.forget_delay(index);
        self.then_forget(index);
        self.memberships.retain(|(interface, _), _| *interface != index);
        let aliases = self.aliases.remove(&index).unwrap_or_default();
        if let Some(link) = self.links.remove(&index) {
            if self.link_names.get(&link.name) == Some(&index) {
                self.link_names.remove(&link.name);
                self.rebind(&link.name, None);
            }
            if matches!(link.vrf, Some(VrfRole::Device { .. })) {
                self.vrf_changed(&link.name);
            }
        }
        for alias in aliases {
            self.resolve(&alias);
        }
        self.work(moment);
    }

    /// The interface of this name has a new index, or none: notes what follows.
    pub(super) fn rebind(&mut self, name: &IfName, index: Option<IfIndex>) {
        match index {
            Some(_) => self.note_originals(name),
            None => self.forget_originals(name),
        }
        self.then_place(name, index);
        self.each(What::Bind(name.clone(), index), self.instances.on_interface(name));
        self.interface_changed(name);
    }

    /// Binds an instance to the index of one of its interfaces.
    pub(super) fn bind(
        &mut self,
        moment: &mut Moment<'_>,
        id: InstanceId,
        name: &IfName,
        index: Option<IfIndex>,
    ) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let is_upper = instance.config.own_link().is_some_and(|link| link.name == *name);
        let slot = if is_upper { &mut instance.upper } else { &mut instance.link };
        if core::mem::replace(slot, index) != index {
            self.choose_source(moment, id);
        }
    }
}
