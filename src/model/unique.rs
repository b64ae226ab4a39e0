//! Each kernel service belongs to one virtual server: what becomes of virtual servers that have a key in common.

use core::fmt;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::service::{Service, ServiceId, ServiceKey};
use super::shared::Shared;
use crate::base::Name;

/// A virtual server that has a key of an earlier one, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// IPVS has each service once, so its real servers joined the earlier one, whose settings are used.
    Joined { key: ServiceKey },
    /// It was left out, because the earlier one is a group.
    InGroup { key: ServiceKey, group: Name },
    /// It is a group: the entries that an earlier virtual server has were left out, and with the last one the virtual
    /// server.
    Taken {
        id: ServiceId,
        /// The first of these entries.
        first: ServiceKey,
        gone: usize,
        before: usize,
    },
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined { key } => write!(
                f,
                "virtual server {key} is already defined, its real servers are added to the first definition"
            ),
            Self::InGroup { key, group } => {
                write!(f, "virtual server {key} is already in group {group}, it is left out")
            }
            Self::Taken { id, first, gone, before } => write!(
                f,
                "virtual server {id}: {first} belongs to an earlier virtual server, {gone} of {before} are left out"
            ),
        }
    }
}

/// Whether no two virtual servers have a key in common.
#[must_use]
pub fn keys_are_unique(services: &[Shared<Service>]) -> bool {
    let mut seen = BTreeSet::new();
    services.iter().flat_map(|service| service.keys()).all(|key| seen.insert(*key))
}

/// Gives each key to the first virtual server that has it. Returns what was done, with the position of the later virtual
/// server in `services` as it was.
pub fn make_unique(services: &mut Vec<Shared<Service>>) -> Vec<(usize, Overlap)> {
    if keys_are_unique(services) {
        return Vec::new();
    }
    let mut overlaps = Vec::new();
    // The position of the service that has a key.
    let mut holders: BTreeMap<ServiceKey, usize> = BTreeMap::new();
    let mut unique: Vec<Shared<Service>> = Vec::with_capacity(services.len());
    for (at, mut service) in core::mem::take(services).into_iter().enumerate() {
        let place = unique.len();
        if service.group().is_some() {
            overlaps.extend(leave_taken(&mut service, &holders).map(|overlap| (at, overlap)));
            if !service.keys().is_empty() {
                holders.extend(service.keys().iter().map(|key| (*key, place)));
                unique.push(service);
            }
            continue;
        }
        let key = service.key;
        let Some(first) = holders.get(&key).and_then(|place| unique.get_mut(*place)) else {
            holders.insert(key, place);
            unique.push(service);
            continue;
        };
        if let Some(group) = first.group() {
            overlaps.push((at, Overlap::InGroup { key, group: group.name.clone() }));
            continue;
        }
        let known: BTreeSet<(IpAddr, u16)> =
            first.servers.iter().map(|s| (s.address, s.port)).collect();
        service.servers.retain(|s| !known.contains(&(s.address, s.port)));
        first.servers.append(&mut service.servers);
        overlaps.push((at, Overlap::Joined { key }));
    }
    *services = unique;
    overlaps
}

/// Removes the entries of a group that an earlier service has.
fn leave_taken(service: &mut Service, holders: &BTreeMap<ServiceKey, usize>) -> Option<Overlap> {
    let id = service.id();
    let group = service.extras.as_mut()?.group.as_mut()?;
    let first = group.keys.iter().copied().find(|key| holders.contains_key(key))?;
    let before = group.keys.len();
    group.keys.retain(|key| !holders.contains_key(key));
    let gone = before - group.keys.len();
    if let Some(key) = group.keys.first() {
        service.key = *key;
    }
    Some(Overlap::Taken { id, first, gone, before })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use crate::model::service::{Protocol, ServiceExtras, ServiceGroup};

    fn key(n: u8) -> ServiceKey {
        ServiceKey::Address { protocol: Protocol::Tcp, endpoint: ([10, 0, 0, n], 80).into() }
    }

    fn single(n: u8, servers: &[u8]) -> Shared<Service> {
        let server = |n: &u8| sample::real_server([10, 0, 1, *n].into(), 80);
        sample::service(key(n), servers.iter().map(server).collect()).into()
    }

    fn group(name: &str, keys: &[u8]) -> Shared<Service> {
        let keys: Vec<ServiceKey> = keys.iter().map(|n| key(*n)).collect();
        let group = ServiceGroup { name: name.into(), index: 0, entries: Vec::new(), keys };
        let mut service = single(0, &[9]);
        service.key = group.keys[0];
        service.extras = Some(Box::new(ServiceExtras { group: Some(group), ..Default::default() }));
        service
    }

    /// Keys and last octets of the servers of each service.
    fn shape(services: &[Shared<Service>]) -> Vec<(Vec<ServiceKey>, Vec<u8>)> {
        let last = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let servers = |s: &Service| s.servers.iter().map(|r| last(r.address)).collect();
        services.iter().map(|s| (s.keys().to_vec(), servers(s))).collect()
    }

    #[test]
    fn services_without_a_common_key_stay_as_they_are() {
        let mut services = vec![single(1, &[1]), group("g", &[2, 3]), single(4, &[1])];
        let before = services.clone();
        assert!(make_unique(&mut services).is_empty());
        assert_eq!(services, before);
    }

    #[test]
    fn a_service_joins_an_earlier_one_with_its_key() {
        let mut services = vec![single(1, &[1, 2]), single(2, &[5]), single(1, &[2, 3])];
        assert!(!keys_are_unique(&services));
        assert_eq!(make_unique(&mut services), [(2, Overlap::Joined { key: key(1) })]);
        assert_eq!(shape(&services), [(vec![key(1)], vec![1, 2, 3]), (vec![key(2)], vec![5])]);
        assert!(keys_are_unique(&services));
    }

    #[test]
    fn a_group_loses_what_an_earlier_service_has_and_keeps_what_it_had_first() {
        let mut services =
            vec![single(1, &[1]), group("g", &[1, 2, 3]), group("h", &[2, 3]), single(3, &[1])];
        let overlaps = make_unique(&mut services);
        let (g, h) = (group("g", &[1]).id(), group("h", &[1]).id());
        assert_eq!(
            overlaps,
            [
                (1, Overlap::Taken { id: g, first: key(1), gone: 1, before: 3 }),
                (2, Overlap::Taken { id: h, first: key(2), gone: 2, before: 2 }),
                (3, Overlap::InGroup { key: key(3), group: "g".into() }),
            ]
        );
        assert_eq!(shape(&services), [(vec![key(1)], vec![1]), (vec![key(2), key(3)], vec![9])]);
        assert_eq!(services[1].key, key(2), "the first of those left");
    }
}
