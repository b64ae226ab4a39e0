//! Small stocks of objects, so that two sets drawn from them have much in common.

use std::collections::{BTreeMap, BTreeSet};

use super::LINKS;
use crate::base::rng::Rng;
use crate::base::{Family, IfName, Mac, Prefix};
use crate::model::address::Lifetime;
use crate::model::route::{MetricKind, RouteMetric, Rule};
use crate::model::{Address, FilterSettings, LinkKind, Route, VirtualLink, sample};
use crate::plan::filter::{Filter, FilterTable};
use crate::plan::sync::{SyncDaemon, SyncRole};
use crate::plan::{Identity, LinkObject, Object, Phase, Setting, SettingObject, Settings};

pub(super) fn name(link: &str) -> IfName {
    link.parse().unwrap()
}

pub(super) fn prefix(text: &str) -> Prefix {
    sample::address(text, &name("eth0")).prefix
}

pub(super) fn pick<T: Clone>(rng: &mut Rng, all: &[T]) -> T {
    let count = u64::try_from(all.len()).unwrap();
    all[usize::try_from(rng.below(count)).unwrap()].clone()
}

/// An address from a small stock.
pub(super) fn some_address(rng: &mut Rng) -> Address {
    let text = match rng.below(7) {
        0..3 => format!("10.5.0.{}/24", 1 + rng.below(4)),
        3 => format!("10.5.0.{}/32", 1 + rng.below(2)),
        4 => format!("10.6.0.{}/16", 1 + rng.below(2)),
        _ => format!("2001:db8::{}/64", 1 + rng.below(3)),
    };
    let link = name(pick(rng, &LINKS));
    with_other_attributes(rng, sample::address(&text, &link))
}

pub(super) fn with_other_attributes(rng: &mut Rng, mut address: Address) -> Address {
    address.flags.no_prefix_route = rng.chance(20);
    match address.prefix.family() {
        // If none is wanted, any other is left unchanged: some always have one, some never.
        Family::V4 if address.prefix.address.to_string().ends_with(['1', '3']) => {
            address.label = Some(if rng.chance(20) { "vip:2".into() } else { "vip:1".into() });
        }
        Family::V6 if rng.chance(20) => {
            address.preferred = Lifetime::For(core::time::Duration::ZERO)
        }
        Family::V4 | Family::V6 => {}
    }
    address
}

/// A route that can exist together with these addresses.
pub(super) fn some_route(rng: &mut Rng, addresses: &[Address]) -> Route {
    let number = rng.below(3);
    let (destination, gateway) = match rng.below(3) {
        0 => (format!("2001:db8:9:{number}::/64"), format!("2001:db8::f{}", rng.below(2))),
        _ => (format!("10.9.{number}.0/24"), format!("10.5.0.25{}", rng.below(2))),
    };
    let destination = prefix(&destination);
    let link = Some(name(pick(rng, &LINKS)));
    let gateway = rng.chance(70).then(|| gateway.parse().unwrap());
    let mut route = sample::route(destination, gateway, link);
    let sources: Vec<&Address> =
        addresses.iter().filter(|a| a.prefix.family() == route.family).collect();
    if !sources.is_empty() && rng.chance(60) {
        route.source = Some(pick(rng, &sources).prefix.address);
    }
    with_other_metrics(rng, route)
}

pub(super) fn with_other_metrics(rng: &mut Rng, mut route: Route) -> Route {
    let mtu = RouteMetric { kind: MetricKind::Mtu, value: 1300, locked: false };
    route.metrics = rng.chance(30).then_some(mtu).into_iter().collect();
    route
}

/// A rule from a small stock. It has no dependencies and no attributes that could change.
pub(super) fn some_rule(rng: &mut Rng) -> Rule {
    let family = if rng.chance(30) { Family::V6 } else { Family::V4 };
    let mut rule = sample::rule(family, u32::try_from(100 + rng.below(3)).unwrap(), 200);
    rule.input = rng.chance(40).then(|| name(pick(rng, &LINKS)));
    rule.invert = rng.chance(20);
    rule
}

/// Addresses, routes and rules that are wanted together, all different. Some are taken from `like`.
pub(super) fn some_set(rng: &mut Rng, like: &[Object]) -> Vec<Object> {
    let mut objects: BTreeMap<Identity<IfName>, Object> = BTreeMap::new();
    let old = like.iter().filter_map(Object::address);
    for address in old.cloned().collect::<Vec<_>>() {
        if rng.chance(60) {
            let address =
                if rng.chance(20) { with_other_attributes(rng, address) } else { address };
            let object = Object::Address(address);
            objects.insert(object.identity(), object);
        }
    }
    for _ in 0..rng.below(6) {
        let object = Object::Address(some_address(rng));
        objects.entry(object.identity()).or_insert(object);
    }
    let addresses: Vec<Address> = objects.values().filter_map(Object::address).cloned().collect();
    let possible = |route: &Route| {
        route.source.is_none_or(|source| addresses.iter().any(|a| a.prefix.address == source))
    };
    for object in like {
        let possible = match object {
            Object::Address(_)
            | Object::Link(_)
            | Object::Setting(_)
            | Object::FilterTable(_)
            | Object::Filter(_)
            | Object::SyncDaemon(_) => false,
            Object::Route(route) => possible(route),
            Object::Rule(_) => true,
        };
        if possible && rng.chance(60) {
            objects.insert(object.identity(), object.clone());
        }
    }
    for _ in 0..rng.below(4) {
        let object = Object::Route(Box::new(some_route(rng, &addresses)));
        objects.entry(object.identity()).or_insert(object);
    }
    let mut taken: BTreeSet<IfName> = BTreeSet::new();
    let old = like.iter().filter(|o| o.phase() == Phase::Link);
    let old: Vec<Object> = old.filter(|_| rng.chance(60)).cloned().collect();
    let new = (0..rng.below(3)).map(|_| some_link(rng)).collect::<Vec<_>>();
    for object in old.into_iter().chain(new) {
        // A name belongs to one interface.
        let free = match &object {
            Object::Link(object) => taken.insert(object.link.name.clone()),
            _ => true,
        };
        if free {
            objects.insert(object.identity(), object);
        }
    }
    for _ in 0..rng.below(3) {
        let object = Object::Rule(Box::new(some_rule(rng)));
        objects.entry(object.identity()).or_insert(object);
    }
    if rng.chance(70) {
        for object in some_filters(rng, &addresses) {
            objects.insert(object.identity(), object);
        }
    }
    for role in [SyncRole::Master, SyncRole::Backup] {
        if rng.chance(30) {
            let id = u8::try_from(rng.below(3)).unwrap();
            let interface = name(pick(rng, &LINKS));
            let (max_length, port, ttl, group) = (None, None, None, None);
            let daemon = SyncDaemon { role, interface, id, max_length, port, ttl, group };
            let object = Object::SyncDaemon(Box::new(daemon));
            objects.insert(object.identity(), object);
        }
    }
    objects.into_values().collect()
}

/// The same, with packet filters and sync daemons of `like` as well, and sync daemons with options.
pub(super) fn some_set_alike(rng: &mut Rng, like: &[Object]) -> Vec<Object> {
    let mut objects: BTreeMap<Identity<IfName>, Object> =
        some_set(rng, like).into_iter().map(|object| (object.identity(), object)).collect();
    // Filters require their tables, and a table has one set of settings.
    let is_filter = |o: &Object| matches!(o, Object::FilterTable(_) | Object::Filter(_));
    let tables = like.iter().filter(|o| matches!(o, Object::FilterTable(_))).count();
    if tables > 0 && rng.chance(60) {
        let new: Vec<Object> = objects.values().filter(|o| is_filter(o)).cloned().collect();
        objects.retain(|_, object| !is_filter(object));
        for object in like.iter().filter(|o| is_filter(o)) {
            if matches!(object, Object::FilterTable(_)) || rng.chance(70) {
                objects.insert(object.identity(), object.clone());
            }
        }
        for object in new {
            if matches!(object, Object::Filter(_)) {
                objects.entry(object.identity()).or_insert(object);
            }
        }
    }
    for object in like {
        if matches!(object, Object::SyncDaemon(_)) && rng.chance(60) {
            objects.insert(object.identity(), object.clone());
        }
    }
    for object in objects.values_mut() {
        if let Object::SyncDaemon(daemon) = object
            && !like.iter().any(|old| matches!(old, Object::SyncDaemon(old) if old == daemon))
        {
            **daemon = with_other_options(rng, (**daemon).clone());
        }
    }
    objects.into_values().collect()
}

fn with_other_options(rng: &mut Rng, mut daemon: SyncDaemon) -> SyncDaemon {
    daemon.max_length = rng.chance(50).then(|| pick(rng, &[500, 1400]));
    daemon.port = rng.chance(50).then(|| pick(rng, &[8848, 8849]));
    daemon.ttl = rng.chance(50).then(|| pick(rng, &[1, 17]));
    daemon.group = rng.chance(50).then(|| pick(rng, &[[224, 0, 0, 81], [224, 0, 0, 82]]).into());
    daemon
}

/// A stacked interface, a table of packet filters with an element, and a sync daemon of other programs.
pub(super) fn some_foreign(rng: &mut Rng) -> Vec<Object> {
    let mut all = Vec::new();
    if rng.chance(50) {
        let link = VirtualLink {
            name: name("other.1"),
            parent: name(pick(rng, &LINKS)),
            kind: LinkKind::Macvlan { mac: Mac([2, 0, 0, 9, 9, 9]) },
            group: Some(3),
            notify: false,
            family: Family::V4,
            carries_v6: false,
        };
        all.push(Object::Link(Box::new(LinkObject {
            link,
            mark: Box::default(),
            originals: Settings::default(),
            differs: false,
        })));
    }
    if rng.chance(50) {
        let settings = FilterSettings { table: "other".into(), ..FilterSettings::default() };
        let address = prefix("10.5.0.1/24").address;
        let filter = Filter::of_address(&settings, address, &name(LINKS[0]));
        let table = FilterTable { family: Family::V4, settings, vmacs: false };
        all.push(Object::FilterTable(Box::new(table)));
        all.push(Object::Filter(Box::new(filter)));
    }
    if rng.chance(50) {
        let (role, interface) = (pick(rng, &[SyncRole::Master, SyncRole::Backup]), name("eth9"));
        let (max_length, port, ttl, group) = (None, Some(9999), None, None);
        let daemon = SyncDaemon { role, interface, id: 99, max_length, port, ttl, group };
        all.push(Object::SyncDaemon(Box::new(daemon)));
    }
    all
}

/// The kind of an object.
pub(super) const fn kind(object: &Object) -> &'static str {
    match object {
        Object::Address(_) => "address",
        Object::Route(_) => "route",
        Object::Rule(_) => "rule",
        Object::Link(_) => "link",
        Object::Setting(_) => "setting",
        Object::FilterTable(_) => "filter table",
        Object::Filter(_) => "filter",
        Object::SyncDaemon(_) => "sync daemon",
    }
}

/// Filters of some of these addresses, and the tables that they need.
pub(super) fn some_filters(rng: &mut Rng, addresses: &[Address]) -> Vec<Object> {
    let (by_index, counters) = (rng.chance(50), rng.chance(30));
    let settings = FilterSettings { by_index, counters, ..FilterSettings::default() };
    let table = |family| {
        let table = FilterTable { family, settings: settings.clone(), vmacs: false };
        Object::FilterTable(Box::new(table))
    };
    let mut all: Vec<Object> = [Family::V4, Family::V6].map(table).into();
    for address in addresses.iter().filter(|_| rng.chance(60)) {
        let of = Filter::of_address(&settings, address.prefix.address, &address.interface);
        all.push(Object::Filter(Box::new(of)));
    }
    all
}

/// A stacked interface, or a setting.
pub(super) fn some_link(rng: &mut Rng) -> Object {
    let parent = name(pick(rng, &LINKS));
    if rng.chance(40) {
        let setting = pick(rng, &Setting::ALL);
        let object = SettingObject { interface: parent, setting, value: 1, before: Some(0) };
        return Object::Setting(Box::new(object));
    }
    let number = u8::try_from(1 + rng.below(2)).unwrap();
    let link = VirtualLink {
        name: name(&format!("vrrp.{number}")),
        parent,
        kind: LinkKind::Macvlan { mac: Mac([0, 0, 0x5e, 0, 1, number]) },
        group: rng.chance(20).then_some(7),
        notify: false,
        family: Family::V4,
        carries_v6: false,
    };
    Object::Link(Box::new(LinkObject {
        link,
        mark: Box::default(),
        originals: Settings::default(),
        differs: false,
    }))
}

/// The same object, possibly as another program or configuration would have created it.
pub(super) fn variant(rng: &mut Rng, object: &Object) -> Object {
    match object {
        Object::Address(address) => Object::Address(with_other_attributes(rng, address.clone())),
        Object::Route(route) => Object::Route(Box::new(with_other_metrics(rng, (**route).clone()))),
        Object::Link(object) => {
            let mut object = (**object).clone();
            object.link.group = rng.chance(50).then_some(9);
            Object::Link(Box::new(object))
        }
        Object::SyncDaemon(daemon) => {
            Object::SyncDaemon(Box::new(with_other_options(rng, (**daemon).clone())))
        }
        other => other.clone(),
    }
}
