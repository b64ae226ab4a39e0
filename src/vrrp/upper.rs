//! Interfaces that are created for instances (`use_vmac`, `use_ipvlan`) and their settings: claims, and what their
//! absence means.

use super::Engine;
use super::event::InstanceId;
use super::instance::Instance;
use super::object::Claimant;
use crate::base::{Family, IfName};
use crate::model::{self, LinkKind, VirtualLink};
use crate::plan::filter::Filter;
use crate::plan::{Identity, LinkObject, Object, ObjectId, Setting, SettingObject, Settings};

/// EEXIST, EBUSY, EADDRINUSE, EOPNOTSUPP
const EXISTS: i32 = 17;
const BUSY: i32 = 16;
const IN_USE: i32 = 98;
const NOT_SUPPORTED: i32 = 95;

/// The settings of the parent of a macvlan for IPv4.
const OF_PARENT: [(Setting, u32); 3] =
    [(Setting::ArpIgnore, 1), (Setting::ArpFilter, 1), (Setting::ArpAnnounce, 2)];

impl Engine {
    /// Claims the interfaces of an instance, and the objects that exist as long as they do.
    pub(super) fn claim_links(
        &mut self,
        all: &model::Vrrp,
        config: &model::Instance,
        id: InstanceId,
    ) {
        let claimant = Claimant::Link(id);
        for link in config.links() {
            if let Some(filter) = Filter::of_link(&all.filters, link) {
                self.objects.claim(Object::Filter(Box::new(filter)), claimant);
            }
            let of_parent =
                matches!(link.kind, LinkKind::Macvlan { .. }) && link.family == Family::V4;
            if of_parent {
                for (setting, _) in OF_PARENT {
                    self.look_for_original(&link.parent, setting);
                }
            }
            let object = LinkObject {
                link: link.clone(),
                mark: all.mark.clone(),
                originals: if of_parent {
                    self.originals_of(&link.parent)
                } else {
                    Settings::default()
                },
                differs: false,
            };
            self.objects.claim(Object::Link(Box::new(object)), claimant);
            // Without this the parent answers for the virtual addresses with its own hardware address, or sends ARP
            // requests on their behalf: packets from them leave by the parent, which has their subnet.
            if of_parent {
                for (setting, value) in OF_PARENT {
                    self.claim_setting(&link.parent, setting, value, id);
                }
            }
        }
        let Some(extras) = config.extras.as_deref() else { return };
        for address in &extras.link_addresses {
            self.objects.claim(Object::Address(address.clone()), claimant);
        }
        if extras.promote_secondaries {
            self.claim_setting(&config.interface, Setting::PromoteSecondaries, 1, id);
        }
    }

    /// The interfaces of an instance have other names in its new configuration: they stay the same interfaces, with their
    /// addresses.
    pub(super) fn rename_links(&mut self, id: InstanceId, new: &model::Instance) {
        let Some(old) = self.instance(id).map(|i| &i.config) else { return };
        let mut pairs: Vec<(VirtualLink, IfName)> = Vec::new();
        for from in old.links() {
            let stays = new.links().any(|to| to.name == from.name);
            let like = |to: &&VirtualLink| {
                (&to.parent, to.kind.word(), to.family)
                    == (&from.parent, from.kind.word(), from.family)
                    && old.links().all(|other| other.name != to.name)
                    && pairs.iter().all(|(_, taken)| *taken != to.name)
            };
            if !stays && let Some(to) = new.links().find(like) {
                pairs.push((from.clone(), to.name.clone()));
            }
        }
        for (VirtualLink { parent, name: from, .. }, to) in pairs {
            let Some(index) = self.link_index(&from) else { continue };
            if self.link_names.contains_key(&to) || !self.objects.rename_link(&parent, &from, &to) {
                continue;
            }
            tracing::info!("renaming interface {from} to {to}");
            self.link_names.remove(&from);
            self.link_names.insert(to.clone(), index);
            let aliases = self.aliases.entry(index).or_default();
            aliases.retain(|alias| *alias != from);
            // Until the kernel reports it.
            aliases.push(to.clone());
            self.then_place(&from, None);
            self.then_place(&to, Some(index));
        }
    }

    /// Takes over interfaces that have the hardware address of a wanted one, but another name.
    pub(super) fn adopt_links(&mut self) {
        for (entry, name) in self.objects.adopt_links() {
            if let Some(entry) = self.objects.entry(entry) {
                tracing::info!(
                    "interface {name} has the hardware address of {}, renaming it",
                    entry.object
                );
            }
        }
    }

    fn claim_setting(&mut self, interface: &IfName, setting: Setting, value: u32, id: InstanceId) {
        let before = self.look_for_original(interface, setting);
        let object = SettingObject { interface: interface.clone(), setting, value, before };
        self.objects.claim(Object::Setting(Box::new(object)), Claimant::Link(id));
    }

    /// The value of a setting before it is changed, or was.
    fn look_for_original(&mut self, interface: &IfName, setting: Setting) -> Option<u32> {
        // A setting that was released has its original value.
        if self.objects.find(&Identity::Setting(interface.clone(), setting)).is_none() {
            self.originals.remove(&(interface.clone(), setting));
        }
        self.original(interface, setting)
    }

    /// The known original values of an interface's settings.
    fn originals_of(&self, interface: &IfName) -> Settings {
        let known = |(setting, _)| self.originals.get(&(interface.clone(), setting)).copied();
        let [ignore, filter, announce] = OF_PARENT.map(known);
        Settings([ignore, filter, announce, None])
    }

    /// Lets those of these entries that are interfaces on this one carry the original values of its settings.
    pub(super) fn record_originals(&mut self, interface: &IfName, entries: &[ObjectId]) {
        let originals = self.originals_of(interface);
        for id in entries {
            let Some(entry) = self.objects.entry(*id) else { continue };
            let (object, claimant) = (entry.object.clone(), entry.claimants.first().copied());
            if let (Object::Link(old), Some(claimant)) = (object.as_ref(), claimant)
                && matches!(old.link.kind, LinkKind::Macvlan { .. })
                && old.link.family == Family::V4
            {
                let new = LinkObject { originals, ..(**old).clone() };
                self.objects.claim(Object::Link(Box::new(new)), claimant);
            }
        }
    }

    /// Settings that an earlier run changed and could not restore: its interfaces carry the original values.
    pub(super) fn recall_settings(&mut self) {
        for (parent, recorded) in self.objects.recorded(&self.config.mark) {
            let Some(link) = self.links.get(&parent) else { continue };
            let (interface, now) = (link.name.clone(), link.settings);
            for (setting, value) in OF_PARENT {
                // Another value is that of somebody else since then.
                let ours = now.of(setting) == Some(value);
                let Some(before) = recorded.of(setting).filter(|_| ours) else { continue };
                self.originals.insert((interface.clone(), setting), before);
                let identity = Identity::Setting(interface.clone(), setting);
                let entry = self.objects.find(&identity).and_then(|id| self.objects.entry(id));
                let claimant = entry.and_then(|entry| entry.claimants.first().copied());
                let interface = interface.clone();
                let object = SettingObject { interface, setting, value, before: Some(before) };
                match claimant {
                    Some(claimant) => {
                        self.objects.claim(Object::Setting(Box::new(object)), claimant);
                    }
                    None if before != value => self.objects.take_setting(object),
                    None => {}
                }
            }
            let entries = self.objects.on_interface(&interface);
            self.record_originals(&interface, &entries);
        }
    }

    /// The value of a setting before it was changed.
    fn original(&mut self, interface: &IfName, setting: Setting) -> Option<u32> {
        let key = (interface.clone(), setting);
        if let Some(known) = self.originals.get(&key) {
            return Some(*known);
        }
        let mut told = self.resume.settings.iter();
        let value = match told.find(|(name, which, _)| name == interface && *which == setting) {
            // The previous process of this role changed it.
            Some((.., before)) => *before,
            None => {
                let index = self.link_index(interface)?;
                self.links.get(&index)?.settings.of(setting)?
            }
        };
        self.originals.insert(key, value);
        Some(value)
    }

    /// An interface appeared: its settings are recorded before they are changed.
    pub(super) fn note_originals(&mut self, interface: &IfName) {
        let mut changes = false;
        for setting in Setting::ALL {
            let identity = Identity::Setting(interface.clone(), setting);
            let entry = self.objects.find(&identity).and_then(|id| self.objects.entry(id));
            let Some(entry) = entry else { continue };
            changes = true;
            let (object, claimant) = (entry.object.clone(), entry.claimants.first().copied());
            let before = self.original(interface, setting);
            if let (Object::Setting(old), Some(claimant)) = (object.as_ref(), claimant) {
                let new = SettingObject { before, ..(**old).clone() };
                self.objects.claim(Object::Setting(Box::new(new)), claimant);
            }
        }
        // Only parents of virtual MACs have such settings: nothing else on an interface is looked at.
        if changes {
            self.then_record(interface);
        }
    }

    /// The original values of settings, for the next process of this role.
    pub(super) fn settings_before(&self) -> impl ExactSizeIterator<Item = (IfName, Setting, u32)> {
        let all = self.originals.iter();
        all.map(|((name, setting), value)| (name.clone(), *setting, *value))
    }

    /// An interface is gone, and its settings with it.
    pub(super) fn forget_originals(&mut self, interface: &IfName) {
        self.originals.retain(|(name, _), _| name != interface);
    }

    fn entry_of(&self, link: &VirtualLink) -> Option<ObjectId> {
        self.objects.find(&Identity::Link(link.parent.clone(), link.name.clone()))
    }

    /// Why the interface of an instance cannot be made: an error number, 0 if another program keeps undoing it.
    pub(super) fn refused_upper(&self, instance: &Instance) -> Option<i32> {
        let entry = self.entry_of(instance.config.own_link()?)?;
        // Another name does no harm while it is known which interface it is.
        if instance.upper.is_some() && self.objects.is_misnamed(entry) {
            return None;
        }
        self.objects.entry(entry)?.refused.map(|refused| refused.errno)
    }

    /// Whether the interface of an instance is still being created. If its parent is down, it is down as well and not
    /// awaited.
    pub(super) fn awaits_upper(&self, instance: &Instance) -> bool {
        if instance.config.own_link().is_none() {
            return false;
        }
        let up = |index| self.links.get(&index).is_some_and(|link| link.up);
        match (instance.link.map(up), instance.upper.map(up)) {
            (_, None) | (Some(true), Some(false)) => true,
            (_, Some(_)) => false,
        }
    }

    pub(super) fn refusal_of_upper(&self, instance: &Instance) -> String {
        let Some(link) = instance.config.own_link() else { return String::new() };
        let (name, parent, kind) = (&link.name, &link.parent, link.kind.word());
        match self.refused_upper(instance) {
            Some(EXISTS) => {
                format!("interface {name} exists but is not of type {kind} on {parent}")
            }
            Some(BUSY | IN_USE) => {
                format!("another interface on {parent} has the hardware address of {name}")
            }
            Some(NOT_SUPPORTED) => {
                format!("the kernel does not support {kind}, which {name} needs")
            }
            Some(0) => format!("another program keeps changing or removing interface {name}"),
            errno => {
                let errno = errno.unwrap_or_default();
                format!("cannot create {kind} {name} on {parent}: error {errno}")
            }
        }
    }

    /// The instances that an interface was claimed for. Settings of a parent have as many claimants as it has
    /// interfaces, and no fault depends on them.
    pub(super) fn users_of_link(&self, entry: ObjectId) -> Vec<InstanceId> {
        let entry = self.objects.entry(entry);
        let entry = entry.filter(|e| matches!(*e.object, Object::Link(_)));
        let claimants = entry.map(|e| e.claimants.as_slice());
        let of = |claimant: &Claimant| match claimant {
            Claimant::Link(id) => Some(*id),
            Claimant::Instance(_) | Claimant::Standby(_) | Claimant::Host => None,
        };
        claimants.unwrap_or_default().iter().filter_map(of).collect()
    }
}
