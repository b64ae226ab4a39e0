//! A compact list of the kernel's table: enough to tell which services differ from the known state.
//!
//! Reading the servers takes one request per service; a list of everything takes none, but contains less. So the list
//! consists of digests, which are compared with those of the known state; services that differ are then read.

use core::hash::{Hash, Hasher};
use std::collections::BTreeMap;
use std::hash::DefaultHasher;

use super::ipvs::{Destination, DestinationKey, Entry, Settings, Table};
use crate::model::ServiceKey;
use crate::model::service::{Forward, Tunnel};

/// The forwarding method of a server, as far as a list shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Address translation.
    Masquerade,
    /// Direct routing, or a server on this machine.
    Direct,
    /// A tunnel of any kind.
    Tunnel,
}

impl From<Forward> for Way {
    fn from(forward: Forward) -> Self {
        match forward {
            Forward::Nat => Self::Masquerade,
            Forward::Dr => Self::Direct,
            Forward::Tun(_) => Self::Tunnel,
        }
    }
}

/// All services of a host, each as a digest of its settings and of the keys, forwarding methods and weights of its
/// servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing(BTreeMap<ServiceKey, u64>);

impl Listing {
    /// The list of a table.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        Self(table.services.iter().map(|(key, entry)| (*key, digest(entry))).collect())
    }

    /// Adds a service without servers.
    pub fn service(&mut self, key: ServiceKey, settings: &Settings) {
        self.0.insert(key, digest_of(settings));
    }

    /// Adds a server. A server of a service that is not in the list is ignored: the service is read individually then.
    pub fn destination(
        &mut self,
        service: &ServiceKey,
        key: &DestinationKey,
        way: Way,
        weight: u32,
    ) {
        if let Some(digest) = self.0.get_mut(service) {
            *digest = digest.wrapping_add(digest_of(&(key, way, weight)));
        }
    }

    /// Whether the list agrees with the known state of a service, or shows that it does not exist. A service with
    /// settings that a list does not contain never agrees.
    #[must_use]
    pub fn shows(&self, key: &ServiceKey, known: Option<&Entry>) -> bool {
        // Lists do not contain the family of a mark.
        let is_told = matches!(key, ServiceKey::Address { .. }) && known.is_none_or(is_told);
        is_told && self.0.get(key).copied() == known.map(digest)
    }
}

/// Whether a list contains everything about an entry.
fn is_told(entry: &Entry) -> bool {
    entry.destinations.iter().all(|(_, d)| {
        let Destination { forward, weight: _, upper_threshold, lower_threshold } = d;
        (*upper_threshold, *lower_threshold) == (0, 0)
            && matches!(forward, Forward::Nat | Forward::Dr | Forward::Tun(Tunnel::Ipip))
    })
}

fn digest(entry: &Entry) -> u64 {
    let server = |(key, d): (DestinationKey, &Destination)| {
        digest_of(&(&key, Way::from(d.forward), d.weight))
    };
    // A sum: the kernel lists them in an order of its own.
    entry.destinations.iter().map(server).fold(digest_of(&entry.settings), u64::wrapping_add)
}

fn digest_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Name;
    use crate::model::service::Protocol;

    fn key(n: u8) -> ServiceKey {
        ServiceKey::Address { protocol: Protocol::Tcp, endpoint: ([10, 0, 0, n], 80).into() }
    }

    fn settings() -> Settings {
        Settings {
            scheduler: Name::from("rr"),
            flags: 0,
            timeout: 0,
            netmask: u32::MAX,
            engine: None,
        }
    }

    fn server(n: u8) -> DestinationKey {
        DestinationKey { address: [10, 0, 1, n].into(), port: 80 }
    }

    fn entry() -> Entry {
        let plain = Destination {
            forward: Forward::Nat,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let destinations = [(server(1), plain), (server(2), Destination { weight: 7, ..plain })];
        Entry { settings: settings(), destinations: destinations.into_iter().collect() }
    }

    fn listed() -> Listing {
        let mut listing = Listing::default();
        listing.service(key(1), &settings());
        // In the kernel's order.
        listing.destination(&key(1), &server(2), Way::Masquerade, 7);
        listing.destination(&key(1), &server(1), Way::Masquerade, 1);
        listing.destination(&key(9), &server(1), Way::Masquerade, 1);
        listing
    }

    #[test]
    fn what_is_as_known_is_shown_so() {
        assert!(listed().shows(&key(1), Some(&entry())));
        assert!(listed().shows(&key(2), None));
        assert!(!listed().shows(&key(1), None));
        assert!(!listed().shows(&key(2), Some(&entry())));
        let table = Table { services: [(key(1), entry())].into(), ..Table::default() };
        assert_eq!(Listing::of(&table), listed());
    }

    #[test]
    fn every_difference_shows() {
        let changes: [fn(&mut Entry); 9] = [
            |e| e.settings.scheduler = Name::from("wrr"),
            |e| e.settings.flags = 1,
            |e| e.settings.timeout = 1,
            |e| e.settings.netmask = 1,
            |e| e.settings.engine = Some(Name::from("sip")),
            |e| assert!(e.destinations.remove(&server(2))),
            |e| e.destinations.insert(server(3), *e.destinations.get(&server(1)).unwrap()),
            |e| {
                let one = *e.destinations.get(&server(1)).unwrap();
                e.destinations.insert(server(1), Destination { weight: 2, ..one });
            },
            |e| {
                let one = *e.destinations.get(&server(1)).unwrap();
                e.destinations.insert(server(1), Destination { forward: Forward::Dr, ..one });
            },
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut entry = entry();
            change(&mut entry);
            assert!(!listed().shows(&key(1), Some(&entry)), "change {n}");
        }
    }

    /// Limits of connections, kinds of tunnels and the families of marks are not in the kernel's list.
    #[test]
    fn what_a_list_does_not_tell_is_read() {
        let mut limited = entry();
        let one = *limited.destinations.get(&server(1)).unwrap();
        limited.destinations.insert(server(1), Destination { upper_threshold: 9, ..one });
        let gre =
            Forward::Tun(Tunnel::Gre { checksum: crate::model::service::TunnelChecksum::None });
        let mut tunnel = entry();
        tunnel.destinations.insert(server(1), Destination { forward: gre, ..one });
        let mark = ServiceKey::Mark { mark: 1, family: crate::base::Family::V4 };
        for (key, entry) in [(key(1), limited), (key(1), tunnel), (mark, entry())] {
            let listing =
                Listing::of(&Table { services: [(key, entry.clone())].into(), ..Table::default() });
            assert!(!listing.shows(&key, Some(&entry)), "{key}");
        }
    }
}
