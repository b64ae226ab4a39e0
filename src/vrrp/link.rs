//! What the kernel tells of links, and which instances depend on them.

use std::collections::BTreeSet;

use super::event::{InstanceId, Link, Snapshot};
use super::{Action, Engine, Moment, Phase};
use crate::base::{IfIndex, IfName};

impl Engine {
    pub(super) fn kernel(&mut self, moment: &mut Moment<'_>, snapshot: Snapshot) {
        let there: BTreeSet<IfIndex> = snapshot.links.iter().map(|link| link.index).collect();
        let gone: Vec<IfIndex> =
            self.links.keys().copied().filter(|index| !there.contains(index)).collect();
        // The objects first: what a link event leads to depends on them.
        self.objects.forget_all();
        for sight in snapshot.objects {
            self.objects.saw(sight);
        }
        for index in gone {
            self.link_gone(moment, index);
        }
        // Names before anything else: two interfaces may have swapped theirs.
        for link in &snapshot.links {
            self.rename(moment, link.index, &link.name);
        }
        for link in snapshot.links {
            self.link(moment, link);
        }
        if let Phase::Waiting { configured, .. } = self.phase {
            self.phase = Phase::Waiting { configured, seen: true };
            self.start(moment);
        } else {
            self.objects.drop_strays();
            self.reconsider_sources(moment, self.instances.ids());
            let ids = self.objects.ids();
            self.settle(moment, &ids);
        }
    }

    pub(super) fn link(&mut self, moment: &mut Moment<'_>, link: Link) {
        let (index, name) = (link.index, link.name.clone());
        self.rename(moment, index, &name);
        let before = self.links.insert(index, link);
        match self.link_names.get(&name).copied() {
            None => {
                self.link_names.insert(name.clone(), index);
                self.rebind(moment, &name, Some(index));
            }
            // An interface that is deleted and made again keeps its name but not its number.
            Some(old) if old != index && self.links.get(&old).is_none_or(|l| l.name == name) => {
                self.links.remove(&old);
                let affected = self.objects.forget_link(old);
                self.settle(moment, &affected);
                self.link_names.insert(name.clone(), index);
                self.rebind(moment, &name, Some(index));
                for alias in self.aliases.remove(&old).unwrap_or_default() {
                    self.resolve(moment, &alias);
                }
            }
            // The name goes on to mean another one, see `rename`.
            Some(_) => {}
        }
        if before.is_none() || before == self.links.get(&index).cloned() {
            return;
        }
        for name in self.names_of(index) {
            self.interface_changed(moment, &name);
            let entries = self.objects.link_changed(&name);
            self.settle(moment, &entries);
            if before.as_ref().is_some_and(|link| !link.up) && self.is_up(&name) {
                self.announce_again(moment, &entries);
            }
        }
    }

    /// An interface may have another name now. What the configuration calls by the old one has addresses, adverts and
    /// neighbours there, so the old name goes on to mean this interface until it is gone, and the new one nothing else.
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
                "interface {old} is called {name} now: what the configuration says of {old} goes on \
                 there until that interface is gone"
            );
            self.aliases.entry(index).or_default().push(old);
            // The next process of this role has to know.
            moment.out.push(Action::Report);
        } else {
            self.link_names.remove(&old);
            self.rebind(moment, &old, None);
        }
    }

    /// Whether the configuration names an interface.
    fn names(&self, name: &IfName) -> bool {
        let tracker = crate::track::Subject::Interface(name.clone());
        !self.instances.on_interface(name).is_empty()
            || !self.objects.on_interface(name).is_empty()
            || self.trackers.find(&tracker).is_some()
    }

    /// The names that mean an interface: its own, unless that goes on to mean another one, and former ones.
    pub(super) fn names_of(&self, index: IfIndex) -> Vec<IfName> {
        let own = self.links.get(&index).map(|link| link.name.clone());
        let own = own.filter(|name| self.link_names.get(name) == Some(&index));
        own.into_iter().chain(self.aliases.get(&index).into_iter().flatten().cloned()).collect()
    }

    /// Former names of interfaces, for the next process of this role.
    pub(super) fn renamed(&self) -> Vec<(IfName, IfIndex)> {
        let all = self.aliases.iter();
        all.flat_map(|(index, names)| names.iter().map(|name| (name.clone(), *index))).collect()
    }

    /// What the last process of this role called by former names goes on to be called so.
    pub(super) fn resume_names(
        &mut self,
        moment: &mut Moment<'_>,
        renamed: Vec<(IfName, IfIndex)>,
    ) {
        for (name, index) in renamed {
            let known = self.links.get(&index).is_some_and(|link| link.name != name);
            if known && self.names(&name) {
                self.link_names.insert(name.clone(), index);
                self.aliases.entry(index).or_default().push(name.clone());
                self.rebind(moment, &name, Some(index));
            }
        }
    }

    /// Former names that a new configuration does not use any more mean what they say again.
    pub(super) fn forget_names(&mut self, moment: &mut Moment<'_>) {
        for (name, index) in self.renamed() {
            if !self.names(&name) {
                if let Some(aliases) = self.aliases.get_mut(&index) {
                    aliases.retain(|alias| *alias != name);
                }
                self.resolve(moment, &name);
            }
        }
    }

    /// Binds a name to the interface that has it.
    fn resolve(&mut self, moment: &mut Moment<'_>, name: &IfName) {
        let found = self.links.values().find(|link| link.name == *name).map(|link| link.index);
        match found {
            Some(index) => self.link_names.insert(name.clone(), index),
            None => self.link_names.remove(name),
        };
        self.rebind(moment, name, found);
    }

    pub(super) fn link_gone(&mut self, moment: &mut Moment<'_>, index: IfIndex) {
        let affected = self.objects.forget_link(index);
        self.memberships.retain(|(interface, _), _| *interface != index);
        let aliases = self.aliases.remove(&index).unwrap_or_default();
        if let Some(link) = self.links.remove(&index)
            && self.link_names.get(&link.name) == Some(&index)
        {
            self.link_names.remove(&link.name);
            self.rebind(moment, &link.name, None);
        }
        for alias in aliases {
            self.resolve(moment, &alias);
        }
        self.settle(moment, &affected);
    }

    /// An interface of this name has another number now, or none.
    pub(super) fn rebind(
        &mut self,
        moment: &mut Moment<'_>,
        name: &IfName,
        index: Option<IfIndex>,
    ) {
        let entries = self.objects.set_link(name, index);
        for id in self.instances.on_interface(name) {
            self.bind(moment, id, index);
        }
        self.interface_changed(moment, name);
        if self.running() {
            self.settle(moment, &entries);
        }
    }

    /// Ties an instance to an interface number.
    pub(super) fn bind(&mut self, moment: &mut Moment<'_>, id: InstanceId, index: Option<IfIndex>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if core::mem::replace(&mut instance.link, index) != index {
            self.choose_source(moment, id);
        }
    }
}
