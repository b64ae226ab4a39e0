//! Stacked interfaces, and settings, in the simulated kernel.

use super::kernel::{BUSY, EXISTS, Kernel};
use crate::base::{IfIndex, IfName, Mac, Prefix};
use crate::model::{LinkKind, VirtualLink};
use crate::plan::{
    Attributes, Change, ChangeKind, Identity, LinkAttributes, LinkObject, Outcome, Setting,
    SettingObject, Sight, Verb,
};

/// An interface on another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stacked {
    pub parent: IfIndex,
    pub attributes: LinkAttributes,
}

/// Changes of interfaces caused by an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// One was created or changed.
    Link(IfIndex),
    /// One was removed, with its addresses.
    Gone(IfIndex, Vec<Prefix>, Change),
}

impl Kernel {
    pub(super) fn change_link(
        &mut self,
        verb: &Verb,
        object: &LinkObject,
        parent: IfIndex,
        own: Option<IfIndex>,
    ) -> Outcome {
        let LinkObject { link, .. } = object;
        let there = match own {
            Some(own) => self.link_at(own).map(|l| l.index),
            None => self.link(&link.name).map(|l| l.index),
        };
        let stacked = there.and_then(|index| self.stacked.get(&index).cloned());
        match (verb, there, stacked) {
            (Verb::Delete { .. }, Some(index), Some(stacked)) if stacked.parent == parent => {
                let change = self.link_change(index, true);
                let addresses = self.remove_link(index);
                self.news.extend(change.map(|change| News::Gone(index, addresses, change)));
                Outcome::Done
            }
            (Verb::Delete { .. }, ..) => Outcome::Already,
            (_, Some(index), Some(stacked)) if stacked.parent == parent => {
                let renamed = self.link_at(index).is_some_and(|l| l.name != link.name);
                if !renamed && stacked.attributes.fits(object) {
                    return Outcome::Already;
                }
                if renamed && !self.rename_link(index, &link.name) {
                    return Outcome::Refused(EXISTS);
                }
                self.set_link(index, object)
            }
            (_, Some(_), _) => Outcome::Refused(EXISTS),
            (_, None, _) => {
                let mac = self.mac_for(link, parent);
                if self.stacked.iter().any(|(index, other)| {
                    other.parent == parent && self.link_at(*index).is_some_and(|l| l.mac == mac)
                }) && matches!(link.kind, LinkKind::Macvlan { .. })
                {
                    return Outcome::Refused(BUSY);
                }
                let word = link.kind.word();
                if self.stacked.values().any(|s| s.parent == parent && s.attributes.word() != word)
                {
                    return Outcome::Refused(BUSY);
                }
                let index = self.make_link(&link.name, mac);
                if let Some(segment) = self.segment_of(parent).cloned() {
                    self.plug(index, segment);
                }
                let attributes = LinkAttributes::of(object);
                self.stacked.insert(index, Stacked { parent, attributes });
                self.set_link(index, object)
            }
        }
    }

    fn mac_for(&self, link: &VirtualLink, parent: IfIndex) -> Mac {
        match link.kind {
            LinkKind::Macvlan { mac } => mac,
            LinkKind::Ipvlan { .. } => self.link_at(parent).map(|l| l.mac).unwrap_or_default(),
        }
    }

    fn set_link(&mut self, index: IfIndex, object: &LinkObject) -> Outcome {
        let Some(stacked) = self.stacked.get_mut(&index) else { return Outcome::Already };
        stacked.attributes = LinkAttributes::of(object);
        let parent = stacked.parent;
        let up = self.link_at(parent).is_some_and(|parent| parent.up);
        let mac = self.mac_for(&object.link, parent);
        for link in self.links.iter_mut().filter(|link| link.index == index) {
            (link.mac, link.up) = (mac, up);
        }
        self.news.push(News::Link(index));
        Outcome::Done
    }

    /// Stacked interfaces go up and down with their parent.
    pub(super) fn follow_parent(&mut self, parent: IfIndex, up: bool) {
        let on: Vec<IfIndex> = self.on_parent(parent);
        for link in self.links.iter_mut().filter(|link| on.contains(&link.index)) {
            link.up = up;
            self.news.push(News::Link(link.index));
        }
    }

    /// Whether an interface matches `wanted`.
    #[must_use]
    pub fn is_made(&self, index: IfIndex, parent: IfIndex, wanted: &LinkObject) -> bool {
        self.stacked
            .get(&index)
            .is_some_and(|found| found.parent == parent && found.attributes.fits(wanted))
    }

    /// Gives an interface another name. False if another one has it.
    pub fn rename_link(&mut self, index: IfIndex, name: &IfName) -> bool {
        if self.link(name).is_some() {
            return false;
        }
        for link in self.links.iter_mut().filter(|link| link.index == index) {
            link.name = name.clone();
        }
        self.news.push(News::Link(index));
        true
    }

    /// Another program takes an interface down and gives it another group.
    pub fn spoil(&mut self, index: IfIndex) {
        if let Some(stacked) = self.stacked.get_mut(&index) {
            (stacked.attributes.up, stacked.attributes.group) = (false, 99);
        }
        for link in self.links.iter_mut().filter(|link| link.index == index) {
            link.up = false;
        }
        self.news.push(News::Link(index));
    }

    /// The interfaces on another one.
    #[must_use]
    pub fn on_parent(&self, parent: IfIndex) -> Vec<IfIndex> {
        let all = self.stacked.iter().filter(|(_, stacked)| stacked.parent == parent);
        all.map(|(index, _)| *index).collect()
    }

    /// The interface that receives a frame from this hardware address on a segment: if the source is a macvlan's own
    /// address, the kernel delivers it only to that macvlan (`macvlan_handle_frame`).
    #[must_use]
    pub fn taker(&self, segment: &IfName, from: Mac) -> Option<&crate::plan::Link> {
        let own = self.links.iter().find(|link| {
            link.up
                && link.mac == from
                && self.stacked.contains_key(&link.index)
                && self.segment_of(link.index) == Some(segment)
        });
        own.or_else(|| self.on_segment(segment))
    }

    /// The stacked interfaces as the kernel reports them.
    pub(super) fn stacked_sights(&self) -> impl Iterator<Item = Sight> {
        self.stacked.keys().filter_map(|index| self.stacked_sight(*index))
    }

    fn stacked_sight(&self, index: IfIndex) -> Option<Sight> {
        let Stacked { parent, attributes } = self.stacked.get(&index)?;
        let name = self.link_at(index)?.name.clone();
        let attributes =
            LinkAttributes { name: name.clone(), index: Some(index), ..attributes.clone() };
        Some(Sight {
            identity: Identity::Link(*parent, name),
            links: vec![*parent],
            attributes: Some(Box::new(Attributes::Link(attributes))),
        })
    }

    /// The event for the removal of a stacked interface.
    #[must_use]
    pub fn link_change(&self, index: IfIndex, own: bool) -> Option<Change> {
        let sight = self.stacked_sight(index)?;
        Some(Change { sight, kind: ChangeKind::Gone, own })
    }

    pub(super) fn change_setting(
        &mut self,
        verb: &Verb,
        object: &SettingObject,
        link: IfIndex,
    ) -> Outcome {
        let value = match verb {
            Verb::Delete { .. } => object.before,
            Verb::Add | Verb::Replace { .. } => Some(object.value),
        };
        let Some(value) = value else { return Outcome::Already };
        let before = self.setting(link, object.setting);
        if before == value {
            return Outcome::Already;
        }
        self.settings.insert((link, object.setting), value);
        self.note_settings(link);
        Outcome::Done
    }

    #[must_use]
    pub fn setting(&self, link: IfIndex, setting: Setting) -> u32 {
        self.settings.get(&(link, setting)).copied().unwrap_or(0)
    }

    /// Updates the link with its settings.
    pub(super) fn note_settings(&mut self, index: IfIndex) {
        let values = Setting::ALL.map(|setting| Some(self.setting(index, setting)));
        for link in self.links.iter_mut().filter(|link| link.index == index) {
            link.settings.0 = values;
        }
    }

    /// The changes of interfaces since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        core::mem::take(&mut self.news)
    }
}
