//! All instances of the engine, found by number, name, interface, or the key of an advert.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};

use slab::Slab;

use super::event::InstanceId;
use super::instance::Instance;
use crate::base::{Family, IfIndex, IfName, Name};
use crate::model::vrrp::{Priority, Vrid};

/// The key that an advert gives for its instance: receiving interface, virtual router id and destination. Its order
/// makes the instances of one id on one interface adjacent.
pub(super) type Key = (IfIndex, Vrid, IpAddr);

/// All instances.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slab: Slab<Instance>,
    by_name: BTreeMap<Name, InstanceId>,
    /// Several only if unicast instances with different peers share an address.
    by_key: BTreeMap<Key, Vec<InstanceId>>,
    /// Instances by the names of their own interfaces (with `use_vmac` there are two), whether they exist or not.
    by_interface: BTreeMap<IfName, Vec<InstanceId>>,
    /// Instances by the source address that they wait for when it is not on this host.
    by_source: BTreeMap<IpAddr, Vec<InstanceId>>,
    /// Instances by the device of the VRF that they are in.
    by_vrf: BTreeMap<IfName, Vec<InstanceId>>,
    /// Interfaces of instances that own their addresses.
    owners: BTreeSet<IfName>,
    /// The numbers of all instances.
    numbers: BTreeSet<InstanceId>,
    /// Number of visits to instances: the cost of a step, independent of the machine.
    #[cfg(test)]
    pub visits: core::cell::Cell<u64>,
    /// Number of their objects that were shown.
    #[cfg(test)]
    pub viewed: core::cell::Cell<u64>,
}

impl Registry {
    #[cfg(test)]
    fn visit(&self, count: usize) {
        self.visits.set(self.visits.get() + count as u64);
    }

    pub fn get(&self, id: InstanceId) -> Option<&Instance> {
        #[cfg(test)]
        self.visit(1);
        self.slab.get(id.0 as usize)
    }

    pub fn get_mut(&mut self, id: InstanceId) -> Option<&mut Instance> {
        #[cfg(test)]
        self.visit(1);
        self.slab.get_mut(id.0 as usize)
    }

    /// All instances in the order of their numbers.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = &Instance> {
        self.visit(self.slab.len());
        self.slab.iter().map(|(_, instance)| instance)
    }

    /// Counts objects of instances that a view shows.
    #[cfg_attr(not(test), allow(clippy::unused_self, reason = "only tests count"))]
    pub fn view(&self, _count: usize) {
        #[cfg(test)]
        self.viewed.set(self.viewed.get() + _count as u64);
    }

    /// All instances in the order of their numbers, without the first ones.
    pub fn iter_from(&self, skip: usize) -> impl Iterator<Item = &Instance> {
        self.numbers.iter().skip(skip).filter_map(|id| self.get(*id))
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// The numbers of all instances.
    pub fn ids(&self) -> Vec<InstanceId> {
        self.numbers.iter().copied().collect()
    }

    /// Adds the instance that `make` returns for a new number.
    pub fn add(&mut self, make: impl FnOnce(InstanceId) -> Instance) -> InstanceId {
        let id = InstanceId(u32::try_from(self.slab.vacant_key()).unwrap_or(u32::MAX));
        self.slab.insert(make(id));
        self.numbers.insert(id);
        id
    }

    /// Removes an instance; its name and interface stay indexed until [`Registry::begin_index`].
    pub fn remove(&mut self, id: InstanceId) {
        self.slab.try_remove(id.0 as usize);
        self.numbers.remove(&id);
    }

    pub fn named(&self, name: &str) -> Option<InstanceId> {
        self.by_name.get(name).copied()
    }

    /// Clears the index by name and interface.
    pub fn begin_index(&mut self) {
        self.by_name.clear();
        self.by_interface.clear();
        self.by_source.clear();
        self.by_vrf.clear();
        self.owners.clear();
    }

    /// Adds an instance to the index by name and interface.
    pub fn index(&mut self, id: InstanceId) {
        let Some(instance) = self.slab.get(id.0 as usize) else { return };
        self.by_name.insert(instance.config.name.clone(), id);
        if let Some(source) = instance.config.source.filter(|_| instance.config.needs_source()) {
            self.by_source.entry(source).or_default().push(id);
        }
        if let Some(vrf) = instance.config.vrf() {
            self.by_vrf.entry(vrf.clone()).or_default().push(id);
        }
        let upper = instance.config.own_link().map(|link| &link.name);
        for name in core::iter::once(&instance.config.interface).chain(upper) {
            if instance.config.priority == Priority::OWNER {
                self.owners.insert(name.clone());
            }
            match self.by_interface.get_mut(name) {
                Some(list) => list.push(id),
                None => {
                    self.by_interface.insert(name.clone(), vec![id]);
                }
            }
        }
    }

    /// The instances of which one interface has this name.
    pub fn on_interface(&self, name: &IfName) -> Vec<InstanceId> {
        self.by_interface.get(name).cloned().unwrap_or_default()
    }

    /// Whether one interface of an instance has this name.
    pub fn has_any(&self, name: &IfName) -> bool {
        #[cfg(test)]
        self.visit(1);
        self.by_interface.contains_key(name)
    }

    /// The names of the interfaces of all instances, each once.
    pub fn interfaces(&self) -> impl Iterator<Item = &IfName> {
        self.by_interface.keys()
    }

    /// The instances in the VRF of this device.
    pub fn in_vrf(&self, vrf: &IfName) -> Vec<InstanceId> {
        self.by_vrf.get(vrf).cloned().unwrap_or_default()
    }

    /// Whether an instance of which one interface has this name owns its addresses.
    pub fn has_owner(&self, name: &IfName) -> bool {
        self.owners.contains(name)
    }

    /// The instances that need this source address on the host.
    pub fn with_source(&self, source: IpAddr) -> Vec<InstanceId> {
        self.by_source.get(&source).cloned().unwrap_or_default()
    }

    /// The instances that receive such adverts; the most recent one first.
    pub fn addressees(&self, key: &Key) -> impl Iterator<Item = InstanceId> {
        self.by_key.get(key).into_iter().flatten().rev().copied()
    }

    /// An instance of this family and virtual router id on this interface, whatever destination it listens to.
    pub fn neighbour(&self, interface: IfIndex, vrid: Vrid, family: Family) -> Option<InstanceId> {
        let (low, high) = match family {
            Family::V4 => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::BROADCAST)),
            Family::V6 => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(u128::MAX.into())),
        };
        let range = (interface, vrid, low)..=(interface, vrid, high);
        self.by_key.range(range).flat_map(|(_, ids)| ids).next().copied()
    }

    /// Adverts with this key go to this instance from now on.
    pub fn listen(&mut self, key: Key, id: InstanceId) {
        self.by_key.entry(key).or_default().push(id);
    }

    /// Adverts with this key no longer go to this instance.
    pub fn unlisten(&mut self, key: &Key, id: InstanceId) {
        if let Some(ids) = self.by_key.get_mut(key) {
            ids.retain(|one| *one != id);
            if ids.is_empty() {
                self.by_key.remove(key);
            }
        }
    }
}
