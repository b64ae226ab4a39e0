//! Clusters: what the hosts of a story are configured to do.

use core::time::Duration;

use super::{OWN_ADDRESS, SCRIPT};
use crate::model::sample::{self, failover, nat};
use crate::model::vrrp::{InitialState, Preempt, Priority, Version};
use crate::model::{ServiceKey, Vrrp};
use crate::plan::ipvs::{Destination, DestinationKey, Destinations, Entry, Settings, Table};

/// The configuration of host number `host` in a cluster of this kind; the first host is the best.
pub(super) fn configuration(kind: u64, host: u64) -> Vrrp {
    let priority = u8::try_from(200 - 50 * host).unwrap_or(1);
    match kind {
        0 | 8 => failover(priority),
        // Equal priorities: the address decides.
        1 => failover(100),
        2 | 3 => nat(priority),
        4 => {
            let mut config = failover(priority);
            for instance in &mut config.instances {
                instance.version = Version::V3;
                instance.authentication = crate::model::vrrp::Authentication::None;
                instance.advert_int = Duration::from_millis(100);
                instance.garp.interval = Duration::from_millis(2);
            }
            config
        }
        5 => {
            let mut config = nat(priority);
            config.scripts.push(sample::script(SCRIPT, 2, 2));
            for instance in &mut config.instances {
                sample::track(instance, SCRIPT, 0);
            }
            config
        }
        6 => {
            let mut config = failover(priority);
            let vips = ["10.0.2.100/24", "10.0.2.101/24", "10.0.2.102/32"];
            config.instances.clear();
            let mut instance = sample::instance("VRRP1", "enp0s8", 41, priority, &vips);
            instance.excluded = vec![sample::address("10.0.3.7/32", &interface("enp0s9"))];
            instance.preempt = Preempt::Never;
            config.scripts.push(sample::script(SCRIPT, 1, 2));
            sample::track(&mut instance, SCRIPT, -60);
            config.instances.push(instance);
            let other = sample::instance("VRRP2", "enp0s8", 42, 250 - priority, &["10.0.2.110/24"]);
            config.instances.push(other);
            config
        }
        // An owner beside routers that are none.
        9 => {
            let mut config = failover(if host == 0 { 255 } else { priority });
            for instance in config.instances.iter_mut().filter(|i| i.priority == Priority::OWNER) {
                instance.state = InitialState::Master;
            }
            config
        }
        // The first host owns the address.
        11 => {
            let mut config = failover(if host == 0 { 255 } else { priority });
            for instance in &mut config.instances {
                let address = sample::address(OWN_ADDRESS, &instance.interface.clone());
                instance.addresses = vec![address];
                if host == 0 {
                    instance.state = InitialState::Master;
                }
            }
            config
        }
        // Each its own interval: the master's counts.
        10 => {
            let mut config = failover(priority);
            for instance in &mut config.instances {
                instance.version = Version::V3;
                instance.authentication = crate::model::vrrp::Authentication::None;
                instance.advert_int = Duration::from_millis(200 * (1 + host));
            }
            config
        }
        _ => {
            let vips = ["fe80::100/64", "2001:db8::100/64"];
            let mut instance = sample::instance("VRRP6", "enp0s8", 61, priority, &vips);
            instance.preempt = Preempt::After(Duration::from_secs(2));
            Vrrp { instances: vec![instance], ..Vrrp::default() }
        }
    }
}

pub(super) fn interface(name: &str) -> crate::base::IfName {
    sample::instance("", name, 1, 1, &[]).interface
}

/// A service that another program made.
pub(super) fn foreign() -> Table {
    let key = ServiceKey::Mark { mark: 99, family: crate::base::Family::V4 };
    let server = sample::real_server([10, 9, 9, 9].into(), 0);
    let service = sample::service(key, vec![server.clone()]);
    let mut destinations = Destinations::default();
    destinations.insert(DestinationKey::of(&server), Destination::of(&server, 7));
    let entry = Entry { settings: Settings::of(&service), destinations };
    Table { services: [(key, entry)].into() }
}
