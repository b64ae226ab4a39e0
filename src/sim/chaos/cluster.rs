//! Clusters: the configurations of the hosts of a story.

use core::net::IpAddr;
use core::time::Duration;

use super::{FILE, INTERFACES, OWN_ADDRESS, SCRIPT, one_of};
use crate::base::rng::Rng;
use crate::base::{Family, Prefix, Secret};
use crate::model::extras::{GarpExtra, Hmac, HmacKey, HmacMode, SecretBytes, Unicast, UnicastPeer};
use crate::model::route::Route;
use crate::model::sample::{self, failover, nat};
use crate::model::tracker::{TrackFile, Tracked};
use crate::model::vrrp::{Authentication, InitialState, Preempt, Priority, Version};
use crate::model::{Instance, Script, ServiceKey, TrackedInterface, TrackedScript, Vrrp, Weight};
use crate::plan::ipvs::{Destination, DestinationKey, Destinations, Entry, Settings, Table};
use crate::sim::kernel::home;

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
                instance.authentication = Authentication::None;
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
        // An owner together with routers that are not owners.
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
        // Different intervals: the master's counts.
        10 => {
            let mut config = failover(priority);
            for instance in &mut config.instances {
                instance.version = Version::V3;
                instance.authentication = Authentication::None;
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

/// How hosts send adverts to one another.
#[derive(Clone, Copy, Debug)]
struct ByUnicast {
    ttl: Option<u8>,
    /// Adverts of routers that are not peers are refused.
    check_source: bool,
    /// The source address is configured.
    named: bool,
}

/// Settings common to the hosts of a cluster, besides its kind.
#[derive(Clone, Debug)]
pub(super) struct Traits {
    down_timer_adverts: u8,
    repeat: u32,
    delay: Duration,
    lower_prio_no_advert: bool,
    higher_prio_send_advert: bool,
    skip_check_adv_addr: bool,
    owner_ignore_adverts: bool,
    v3_checksum_as_v2: bool,
    notify: bool,
    excluded: bool,
    static_address: bool,
    script: Option<(Script, Weight)>,
    link: Option<Weight>,
    /// Adverts are sent by unicast.
    unicast: Option<ByUnicast>,
    /// Adverts have an authentication trailer.
    hmac: bool,
    /// Adverts have an authentication header.
    ah: bool,
    /// Packets to virtual addresses are dropped.
    closed: bool,
    /// Policy rules of instances and of the host.
    rules: bool,
    /// Routes of instances and of the host.
    routes: bool,
    /// The weight of a tracked file, and `reverse`.
    file: Option<(i16, bool)>,
    /// `garp_lower_prio_repeat`, `garp_lower_prio_delay`
    lower: (u32, Duration),
    /// `garp_extra_if`: the time between two announcements on further interfaces.
    extra: Option<Duration>,
}

impl Traits {
    /// From two streams of numbers: the second one has been added later, so that the stories stay as they were.
    pub fn draw(rng: &mut Rng, later: &mut Rng) -> Self {
        let weight = |rng: &mut Rng| {
            let reverse = rng.chance(20);
            match rng.below(4) {
                0 => Weight::FAULT,
                1 => Weight::new(-60, reverse),
                2 => Weight::new(-20, reverse),
                _ => Weight::new(30, reverse),
            }
        };
        let few = |rng: &mut Rng| u32::try_from(1 + rng.below(3)).unwrap_or(1);
        let script = rng.chance(40).then(|| {
            let mut script = sample::script(SCRIPT, few(rng), few(rng));
            script.interval = Duration::from_millis(500 * (1 + rng.below(4)));
            script.init_fail = rng.chance(20);
            (script, weight(rng))
        });
        Self {
            down_timer_adverts: if rng.chance(50) {
                3
            } else {
                u8::try_from(2 + rng.below(4)).unwrap_or(3)
            },
            repeat: few(rng),
            delay: Duration::from_secs(rng.below(6)),
            lower_prio_no_advert: rng.chance(10),
            higher_prio_send_advert: rng.chance(20),
            skip_check_adv_addr: rng.chance(15),
            owner_ignore_adverts: rng.chance(30),
            v3_checksum_as_v2: rng.chance(30),
            notify: rng.chance(50),
            excluded: rng.chance(20),
            static_address: rng.chance(20),
            script,
            link: rng.chance(25).then(|| weight(rng)),
            unicast: rng.chance(25).then(|| ByUnicast {
                ttl: rng.chance(50).then_some(64),
                check_source: rng.chance(50),
                named: rng.chance(50),
            }),
            hmac: rng.chance(20),
            ah: rng.chance(20),
            closed: rng.chance(25),
            rules: rng.chance(25),
            routes: rng.chance(35),
            file: rng.chance(25).then(|| {
                let weights = [0, 1, 2, -1, -3, 100];
                (one_of(rng, &weights).copied().unwrap_or(1), rng.chance(20))
            }),
            lower: {
                let delay = if later.chance(30) { 0 } else { 2 + later.below(4) };
                (u32::try_from(later.below(4)).unwrap_or(1), Duration::from_secs(delay))
            },
            extra: later.chance(30).then(|| Duration::from_secs(1 + later.below(4))),
        }
    }

    /// Adds an authentication header to the adverts of a host, if it is configured and they are of version 2.
    pub fn apply_ah(&self, config: &mut Vrrp) {
        let old = |i: &&mut Instance| (i.version, i.family) == (Version::V2, Family::V4);
        for instance in config.instances.iter_mut().filter(|_| self.ah && !self.hmac).filter(old) {
            instance.authentication = Authentication::None;
            instance.extras.get_or_insert_default().ah_key = Some(Secret::new(*b"secret12"));
        }
    }

    /// Gives the adverts of a host a trailer, if chosen. Each host may sign with a different key.
    pub fn apply_hmac(&self, config: &mut Vrrp, host: u64) {
        for instance in config.instances.iter_mut().filter(|_| self.hmac) {
            instance.authentication = Authentication::None;
            let key = |id: u8| HmacKey { id, key: SecretBytes::new(vec![id; 32]) };
            let hmac = Hmac {
                keys: vec![key(1), key(2)],
                active: if host == 1 { 2 } else { 1 },
                window: Duration::from_secs(10),
                monotonic: false,
                mode: HmacMode::Enforce,
            };
            instance.extras.get_or_insert_default().hmac = Some(hmac);
        }
    }

    /// Makes a host, one of `hosts`, send its adverts to the others instead of a group, if chosen.
    pub fn apply_unicast(&self, config: &mut Vrrp, host: u64, hosts: u64) {
        let Some(ByUnicast { ttl, check_source, named }) = self.unicast else { return };
        for instance in &mut config.instances {
            let number = |host: u64| u8::try_from(host + 1).unwrap_or(u8::MAX);
            let segment = if instance.interface.as_str() == INTERFACES[0] { 2 } else { 3 };
            let (min_ttl, max_ttl) = ttl.map_or((255, 255), |ttl| (ttl, ttl));
            let peer = |other| {
                let address = home(segment, number(other), instance.family);
                UnicastPeer { address, min_ttl, max_ttl }
            };
            let peers = (0..hosts).filter(|other| *other != host).map(peer).collect();
            // An owner considers a virtual address that it finds as its interface's own, and might send from it.
            if named || instance.priority == Priority::OWNER {
                instance.source = Some(home(segment, number(host), instance.family));
            }
            let unicast = Unicast { peers, ttl, check_source, ..Unicast::default() };
            instance.extras.get_or_insert_default().unicast = Some(unicast);
        }
    }

    /// Applies these settings to one host.
    pub fn apply(&self, config: &mut Vrrp) {
        let other = interface(INTERFACES[1]);
        for (n, instance) in (0u8..).zip(&mut config.instances) {
            instance.down_timer_adverts = self.down_timer_adverts;
            instance.garp.repeat = self.repeat;
            instance.garp.delay = self.delay;
            (instance.garp.lower_prio_repeat, instance.garp.lower_prio_delay) = self.lower;
            if let Some(period) = self.extra {
                let extra = GarpExtra { all: true, period };
                instance.extras.get_or_insert_default().garp_extra = Some(extra);
            }
            instance.lower_prio_no_advert = self.lower_prio_no_advert;
            instance.higher_prio_send_advert = self.higher_prio_send_advert;
            instance.skip_check_adv_addr = self.skip_check_adv_addr;
            instance.owner_ignore_adverts = self.owner_ignore_adverts;
            instance.v3_checksum_as_v2 = self.v3_checksum_as_v2;
            if self.notify {
                instance.notify.master = Some(sample::command("/master"));
                instance.notify.backup = Some(sample::command("/backup"));
                instance.notify.fault = Some(sample::command("/fault"));
                instance.notify.stop = Some(sample::command("/stop"));
                instance.notify.master_rx_lower_pri = Some(sample::command("/lower"));
            }
            if self.closed && instance.priority != Priority::OWNER {
                instance.extras.get_or_insert_default().accept = Some(false);
            }
            if self.rules {
                let rules =
                    [0, 1].map(|m| sample::rule(Family::V4, 100 + 10 * u32::from(n) + m, 43));
                instance.extras.get_or_insert_default().rules.extend(rules);
            }
            if self.routes {
                let routes = routes_of(instance, n);
                instance.extras.get_or_insert_default().routes.extend(routes);
            }
            if let Some((weight, reverse)) = self.file {
                let file = Tracked { name: FILE.into(), weight, reverse };
                instance.extras.get_or_insert_default().track_files.push(file);
            }
            if self.excluded || self.extra.is_some() {
                let address = sample::address(&format!("10.0.9.{}/32", n + 50), &other);
                instance.excluded.push(address);
            }
            if let Some(weight) = self.link.filter(|_| instance.interface != other) {
                instance
                    .track_interfaces
                    .push(TrackedInterface { interface: other.clone(), weight });
            }
            if let Some((script, weight)) = self.script.as_ref()
                && instance.track_scripts.is_empty()
            {
                instance
                    .track_scripts
                    .push(TrackedScript { script: script.name.clone(), weight: *weight });
            }
        }
        if self.rules {
            config.static_rules.push(sample::rule(Family::V4, 90, 42));
        }
        if self.routes {
            let route = sample::route(network("10.29.0.0/16"), None, Some(other.clone()));
            config.static_routes.push(route);
        }
        if let Some((weight, _)) = self.file {
            config.track_files.push(TrackFile {
                name: FILE.into(),
                path: b"/load".as_slice().into(),
                weight,
                reverse: false,
                init: None,
            });
        }
        if let Some((script, _)) = &self.script {
            config.scripts = vec![script.clone()];
        }
        if self.static_address {
            config.static_addresses.push(sample::address("10.0.8.1/24", &other));
        }
    }
}

/// The routes of instance number `n`: one by its interface whose source is its first address, and one by a gateway.
fn routes_of(instance: &Instance, n: u8) -> [Route; 2] {
    let (by_link, by_gateway, gateway) = match instance.family {
        Family::V4 => (format!("10.2{n}.0.0/16"), format!("10.3{n}.0.0/16"), "10.0.2.1"),
        Family::V6 => (format!("2001:db8:2{n}::/48"), format!("2001:db8:3{n}::/48"), "fe80::1"),
    };
    let link = Some(instance.interface.clone());
    let source = instance.addresses.first().map(|a| a.prefix.address);
    let by_link = Route {
        // The kernel drops an IPv4 route with its source.
        source: source.filter(IpAddr::is_ipv4),
        ..sample::route(network(&by_link), None, link.clone())
    };
    [by_link, sample::route(network(&by_gateway), gateway.parse().ok(), link)]
}

fn network(text: &str) -> Prefix {
    sample::address(text, &interface(INTERFACES[0])).prefix
}

/// A service of another program.
pub(super) fn foreign() -> Table {
    let key = ServiceKey::Mark { mark: 99, family: Family::V4 };
    let server = sample::real_server([10, 9, 9, 9].into(), 0);
    let service = sample::service(key, vec![server.clone()]);
    let mut destinations = Destinations::default();
    destinations.insert(DestinationKey::of(&server), Destination::of(&server, 7));
    let entry = Entry { settings: Settings::of(&service), destinations };
    Table { services: [(key, entry)].into(), ..Table::default() }
}
