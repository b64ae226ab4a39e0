//! What the kernel tells of links, and which instances depend on them.

use std::collections::BTreeSet;

use super::event::{InstanceId, Link, Snapshot};
use super::{Cx, Engine, Phase};
use crate::base::{IfIndex, IfName};

impl Engine {
    pub(super) fn kernel(&mut self, cx: &mut Cx<'_>, snapshot: Snapshot) {
        let there: BTreeSet<IfIndex> = snapshot.links.iter().map(|link| link.index).collect();
        let gone: Vec<IfIndex> =
            self.links.keys().copied().filter(|index| !there.contains(index)).collect();
        // The objects first: what a link event leads to depends on them.
        self.objects.forget_all();
        for sight in snapshot.objects {
            self.objects.saw(sight);
        }
        for index in gone {
            self.link_gone(cx, index);
        }
        for link in snapshot.links {
            self.link(cx, link);
        }
        if let Phase::Waiting { configured, .. } = self.phase {
            self.phase = Phase::Waiting { configured, seen: true };
            self.start(cx);
        } else {
            self.reconsider_sources(cx, self.instances.ids());
            let ids = self.objects.ids();
            self.settle(cx, &ids);
        }
    }

    pub(super) fn link(&mut self, cx: &mut Cx<'_>, link: Link) {
        let (index, name) = (link.index, link.name.clone());
        let before = self.links.insert(index, link);
        if let Some(before) = &before
            && before.name != name
        {
            if self.link_names.get(&before.name) == Some(&index) {
                self.link_names.remove(&before.name);
            }
            self.rebind(cx, &before.name.clone(), None);
        }
        if before.as_ref().is_none_or(|b| b.name != name) {
            // An interface that is deleted and made again keeps its name but not its number.
            if let Some(old) =
                self.link_names.insert(name.clone(), index).filter(|old| *old != index)
            {
                self.links.remove(&old);
                let affected = self.objects.forget_link(old);
                self.settle(cx, &affected);
            }
            self.rebind(cx, &name, Some(index));
        } else if before != self.links.get(&index).cloned() {
            self.interface_changed(cx, &name);
            let entries = self.objects.link_changed(&name);
            self.settle(cx, &entries);
        }
    }

    pub(super) fn link_gone(&mut self, cx: &mut Cx<'_>, index: IfIndex) {
        let affected = self.objects.forget_link(index);
        self.memberships.retain(|(interface, _), _| *interface != index);
        if let Some(link) = self.links.remove(&index)
            && self.link_names.get(&link.name) == Some(&index)
        {
            self.link_names.remove(&link.name);
            self.rebind(cx, &link.name, None);
        }
        self.settle(cx, &affected);
    }

    /// An interface of this name has another number now, or none.
    pub(super) fn rebind(&mut self, cx: &mut Cx<'_>, name: &IfName, index: Option<IfIndex>) {
        let entries = self.objects.set_link(name, index);
        for id in self.instances.on_interface(name) {
            self.bind(cx, id, index);
        }
        self.interface_changed(cx, name);
        if self.running() {
            self.settle(cx, &entries);
        }
    }

    /// Ties an instance to an interface number.
    pub(super) fn bind(&mut self, cx: &mut Cx<'_>, id: InstanceId, index: Option<IfIndex>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let (family, vrid) = (instance.config.family, instance.config.vrid);
        let before = core::mem::replace(&mut instance.link, index);
        if before == index {
            return;
        }
        let group = instance.config.destination;
        if let Some(old) = before {
            self.instances.unlisten(&(old, family, vrid), id);
            self.leave(cx, old, group);
        }
        if let Some(new) = index {
            self.instances.listen((new, family, vrid), id);
            self.join(cx, new, group);
        }
        self.choose_source(id);
    }
}
