//! Routes that come and go with an instance.

use super::*;
use crate::model::Route;
use crate::model::extras::InstanceExtras;
use crate::model::route::RouteMode;
use crate::plan::route::{Hop, RouteIdentity, Slot};
use crate::plan::{ChangeKind, Identity, VrfRole};
use crate::status::vrrp::{Missing, MissingObject};

fn route(destination: &str, via: [u8; 4]) -> Route {
    sample::route(prefix(destination), Some(via.into()), Some("enp0s8".parse().unwrap()))
}

/// The failover scenario with two routes, one of which depends on the virtual address.
fn config(priority: u8) -> Vrrp {
    let mut config = failover(priority);
    let mut with_source = route("10.9.0.0/16", [10, 0, 2, 1]);
    with_source.source = Some([10, 0, 2, 100].into());
    let routes = vec![with_source, route("0.0.0.0/0", [10, 0, 2, 2])];
    config.instances[0].extras =
        Some(Box::new(InstanceExtras { routes, ..InstanceExtras::default() }));
    config
}

fn routes(config: &mut Vrrp) -> &mut Vec<Route> {
    &mut config.instances[0].extras.as_mut().unwrap().routes
}

const WITH_SOURCE: &str = "route 10.9.0.0/16 via 10.0.2.1 dev enp0s8";
const DEFAULT: &str = "route default via 10.0.2.2 dev enp0s8";

fn master() -> Host {
    let mut host = Host::new(config(200));
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    host
}

fn sight(destination: &str, via: [u8; 4]) -> Sight {
    let slot = Slot::new(prefix(destination), None, 254, 0, 0);
    let path = vec![Hop::Gateway(via.into(), None)];
    let identity = Identity::Route(Box::new(RouteIdentity { slot, vrf: None, path }));
    Sight { identity, links: vec![ETH], attributes: None }
}

fn change(kind: ChangeKind, destination: &str, via: [u8; 4]) -> Event<'static> {
    Event::Object(Change { sight: sight(destination, via), kind, own: false })
}

#[test]
fn routes_come_after_the_addresses_and_go_before_them() {
    let mut host = master();
    let plus = |text: &str| format!("+{text}");
    let minus = |text: &str| format!("-{text}");
    assert_eq!(host.ops(), [plus("10.0.2.100/24"), plus(WITH_SOURCE), plus(DEFAULT)]);
    let view = &host.engine.view(host.now).instances[0];
    assert_eq!((view.objects_wanted, view.objects_present), (3, 3));
    host.look();
    host.hear(PEER, 250);
    assert_eq!(host.state(), State::Backup);
    assert_eq!(host.ops(), [minus(WITH_SOURCE), minus(DEFAULT), minus("10.0.2.100/24")]);
}

#[test]
fn a_route_that_another_program_removes_or_replaces_is_put_back() {
    let mut host = master();
    for kind in [ChangeKind::Gone, ChangeKind::Replaces] {
        host.look();
        let other = if kind == ChangeKind::Gone { [10, 0, 2, 2] } else { [10, 0, 2, 9] };
        host.event(change(kind, "0.0.0.0/0", other));
        assert_eq!(host.ops(), [format!("+{DEFAULT}")], "{kind:?}");
    }
    assert_eq!(host.counters().objects_restored, 2);
    // No endless fight with another program.
    for _ in 0..5 {
        host.event(change(ChangeKind::Gone, "0.0.0.0/0", [10, 0, 2, 2]));
    }
    host.look();
    host.event(change(ChangeKind::Gone, "0.0.0.0/0", [10, 0, 2, 2]));
    assert_eq!(host.ops(), Vec::<String>::new());
    host.pass(SECOND);
    assert_eq!(host.ops(), [format!("+{DEFAULT}")]);
}

#[test]
fn a_reload_touches_only_the_routes_that_change() {
    let mut host = master();
    let mut new = config(200);
    let reload = |host: &mut Host, new: &Vrrp| {
        host.look();
        host.event(Event::Reload(Arc::new(new.clone())));
        host.ops()
    };
    assert_eq!(reload(&mut host, &new), Vec::<String>::new());
    // These settings do not show in the kernel.
    routes(&mut new)[1].no_track = true;
    routes(&mut new)[1].mode = RouteMode::Append;
    new.instances[0].addresses[0].no_track = true;
    assert_eq!(reload(&mut host, &new), Vec::<String>::new());
    // A different gateway is a different route: the new one is added before the old one is removed.
    routes(&mut new)[1].gateway = Some([10, 0, 2, 3].into());
    let third = "route default via 10.0.2.3 dev enp0s8";
    assert_eq!(reload(&mut host, &new), [format!("+{third}"), format!("-{DEFAULT}")]);
    // A different attribute changes the existing route.
    routes(&mut new)[1].scope = 253;
    assert_eq!(reload(&mut host, &new), [format!("={third}")]);
    routes(&mut new).remove(0);
    assert_eq!(reload(&mut host, &new), [format!("-{WITH_SOURCE}")]);
    assert_eq!(reload(&mut host, &new), Vec::<String>::new());
}

/// The kernel changes the first route of a slot, whichever is meant.
#[test]
fn a_route_is_changed_in_place_if_it_is_the_only_one_of_its_slot() {
    for others in [0, 1, 2] {
        let mut config = config(200);
        for last in 0..others {
            routes(&mut config).push(route("0.0.0.0/0", [10, 0, 2, 3 + last]));
        }
        let mut host = Host::new(config.clone());
        host.pass(10 * SECOND);
        host.look();
        routes(&mut config)[1].scope = 253;
        host.event(Event::Reload(Arc::new(config)));
        assert_eq!(host.ops(), [format!("={DEFAULT}")]);
        let verb = &host.apply().1[0].verb;
        let in_place = matches!(verb, Verb::Replace { in_place: true, .. });
        assert_eq!(in_place, others == 0, "{others} others: {verb:?}");
    }
}

#[test]
fn the_kernel_drops_a_route_with_its_source_and_it_comes_back_with_it() {
    let mut host = master();
    host.look();
    host.event(Event::Object(Change::address(ETH, prefix("10.0.2.100/24"), false, false)));
    assert_eq!(host.ops(), ["+10.0.2.100/24", &format!("+{WITH_SOURCE}")]);
    // While the kernel refuses the address, the route waits for it.
    host.obedient = false;
    host.look();
    host.event(Event::Object(Change::address(ETH, prefix("10.0.2.100/24"), false, false)));
    let (token, _) = host.apply();
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Refused(16) });
    host.event(Event::Applied { token, item: 1, outcome: Outcome::Refused(22) });
    let missing = host.engine.view(host.now).instances[0].objects_missing.clone();
    let words: Vec<&str> = missing.iter().map(|m| m.object.as_str()).collect();
    assert_eq!(words, ["address 10.0.2.100/24 on enp0s8", WITH_SOURCE]);
    let refused = |m: &MissingObject| matches!(m.reason, Missing::Refused { attempts: 1, .. });
    assert!(missing.iter().all(refused), "{missing:?}");
    host.obedient = true;
    host.look();
    host.pass(SECOND);
    assert_eq!(host.ops(), ["+10.0.2.100/24", &format!("+{WITH_SOURCE}")]);
    assert!(host.engine.view(host.now).instances[0].objects_missing.is_empty());
}

/// A master whose interface went down: the kernel may have dropped its two routes, and refuses them with this error.
fn with_routes_in_doubt(errno: i32) -> Host {
    let mut config = config(200);
    config.instances[0].dont_track_primary = true;
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    host.look();
    host.obedient = false;
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    let (token, ops) = host.apply();
    assert_eq!(ops.len(), 2, "both routes are in doubt");
    for item in 0..2 {
        host.event(Event::Applied { token, item, outcome: Outcome::Refused(errno) });
    }
    host
}

#[test]
fn what_the_kernel_may_have_dropped_with_a_link_is_asked_for_again() {
    let mut host = with_routes_in_doubt(100);
    // Up again: at once, not when the next attempt is due.
    host.look();
    host.event(Event::Link(link(ETH, "enp0s8", true)));
    assert_eq!(host.ops(), [format!("+{WITH_SOURCE}"), format!("+{DEFAULT}")]);
}

#[test]
fn a_route_in_doubt_that_is_refused_is_removed_at_the_end_all_the_same() {
    // The kernel checks whether a gateway is reachable before whether the route exists.
    let mut host = with_routes_in_doubt(101);
    let missing = host.engine.view(host.now).instances[0].objects_missing.len();
    assert_eq!(missing, 2, "the status names them");
    host.look();
    host.event(Event::Stop { keep_addresses: false });
    let routes = [DEFAULT, WITH_SOURCE].map(|route| format!("-{route}"));
    assert!(routes.iter().all(|route| host.ops().contains(route)), "{:?}", host.ops());
}

#[test]
fn a_route_waits_for_its_source() {
    let mut config = config(200);
    let later = "later0".parse().unwrap();
    config.instances[0].excluded.push(sample::address("10.0.4.100/24", &later));
    routes(&mut config)[0].source = Some([10, 0, 4, 100].into());
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    assert_eq!(host.ops(), ["+10.0.2.100/24", &format!("+{DEFAULT}")]);
    host.look();
    host.event(Event::Link(link(IfIndex(7), "later0", true)));
    assert_eq!(host.ops(), ["+10.0.4.100/24", &format!("+{WITH_SOURCE}")]);
    // It is requested once.
    host.look();
    host.pass(20 * SECOND);
    assert_eq!(host.ops(), Vec::<String>::new());
}

#[test]
fn a_source_that_is_no_address_of_ours_is_not_waited_for() {
    let mut config = config(200);
    routes(&mut config)[0].source = Some([10, 0, 7, 7].into());
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    let want = ["10.0.2.100/24", WITH_SOURCE, DEFAULT].map(|text| format!("+{text}"));
    assert_eq!(host.ops(), want);
}

#[test]
fn a_route_does_not_return_while_its_source_is_being_removed() {
    let mut config = config(200);
    let with_source = routes(&mut config).remove(0);
    config.static_routes.push(with_source);
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    host.look();
    host.obedient = false;
    host.hear(PEER, 250);
    let (token, ops) = host.apply();
    assert!(ops.iter().any(|op| op.object.address().is_some()), "{ops:?}");
    // The kernel drops the route with the address, and its answer comes after that event.
    host.look();
    host.event(change(ChangeKind::Gone, "10.9.0.0/16", [10, 0, 2, 1]));
    assert_eq!(host.ops(), Vec::<String>::new());
    for item in 0..u32::try_from(ops.len()).unwrap() {
        host.event(Event::Applied { token, item, outcome: Outcome::Done });
    }
    assert_eq!(host.ops(), Vec::<String>::new());
    // An address of another program will do.
    host.event(Event::Object(Change::address(OTHER, prefix("10.0.2.100/24"), true, false)));
    assert_eq!(host.ops(), [format!("+{WITH_SOURCE}")]);
}

#[test]
fn a_route_waits_for_its_interface() {
    let mut config = config(200);
    let mut extra = route("10.8.0.0/16", [10, 7, 0, 1]);
    extra.interface = Some("later0".parse().unwrap());
    routes(&mut config).push(extra);
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    let missing = host.engine.view(host.now).instances[0].objects_missing.clone();
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].reason, Missing::NoInterface("later0".parse().unwrap()));
    host.look();
    host.event(Event::Link(link(IfIndex(7), "later0", true)));
    assert_eq!(host.ops(), ["+route 10.8.0.0/16 via 10.7.0.1 dev later0"]);
    // It disappears with the interface.
    host.look();
    host.event(Event::LinkGone(IfIndex(7)));
    assert_eq!(host.ops(), Vec::<String>::new());
}

const VRF: IfIndex = IfIndex(8);

/// The device of a VRF, or an interface in one.
fn with(vrf: Option<VrfRole>, link: Link) -> Event<'static> {
    Event::Link(Link { vrf, ..link })
}

#[test]
fn a_route_of_a_vrf_is_in_the_table_of_that_and_waits_for_it() {
    let mut config = config(200);
    let mut blue = route("0.0.0.0/0", [10, 0, 2, 9]);
    blue.vrf = Some("blue".parse().unwrap());
    routes(&mut config).push(blue);
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    let missing = |host: &Host| {
        let missing = host.engine.view(host.now).instances[0].objects_missing.clone();
        missing.into_iter().map(|m| m.reason).collect::<Vec<_>>()
    };
    let blue = || "blue".parse().unwrap();
    assert_eq!(host.state(), State::Master);
    assert_eq!(missing(&host), [Missing::NoInterface(blue())]);
    host.look();
    // Another interface of that name is of no use.
    host.event(with(None, link(VRF, "blue", true)));
    assert_eq!((host.ops(), missing(&host)), (vec![], vec![Missing::NoVrf(blue())]));
    for (number, table) in [(9, 10), (10, 11)] {
        host.event(Event::LinkGone(IfIndex(number - 1)));
        assert_eq!(missing(&host), [Missing::NoInterface(blue())]);
        host.look();
        let device = Some(VrfRole::Device { table });
        host.event(with(device, link(IfIndex(number), "blue", true)));
        let added = format!("+route default via 10.0.2.9 dev enp0s8 table {table}");
        assert_eq!((host.ops(), missing(&host)), (vec![added], vec![]));
    }
    host.look();
    host.hear(PEER, 250);
    let removed = "-route default via 10.0.2.9 dev enp0s8 table 11".to_owned();
    assert!(host.ops().contains(&removed), "{:?}", host.ops());
}

#[test]
fn an_instance_of_a_vrf_is_in_fault_while_its_interface_is_not_in_it() {
    let mut config = failover(200);
    config.instances[0].extras = Some(Box::new(InstanceExtras {
        vrf: Some("blue".parse().unwrap()),
        ..InstanceExtras::default()
    }));
    let mut host = Host::new(config);
    assert_eq!(
        (host.state(), host.faults()),
        (State::Fault, vec!["VRF blue does not exist".into()])
    );
    let device = |name: &str| with(Some(VrfRole::Device { table: 10 }), link(VRF, name, true));
    host.event(device("blue"));
    assert_eq!(host.faults(), ["interface enp0s8 is not in VRF blue"]);
    let port = Some(VrfRole::Port { of: VRF });
    host.event(with(port, link(ETH, "enp0s8", true)));
    host.pass(10 * SECOND);
    assert_eq!((host.state(), host.faults()), (State::Master, vec![]));
    // It leaves the VRF, and comes back.
    host.event(with(None, link(ETH, "enp0s8", true)));
    assert_eq!(
        (host.state(), host.faults()),
        (State::Fault, vec!["interface enp0s8 is not in VRF blue".into()])
    );
    host.event(with(port, link(ETH, "enp0s8", true)));
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    // The VRF vanishes; the kernel tells of its device first.
    host.event(Event::LinkGone(VRF));
    assert_eq!(
        (host.state(), host.faults()),
        (State::Fault, vec!["VRF blue does not exist".into()])
    );
    // A snapshot may have the port before the device.
    host.event(device("blue"));
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn the_first_address_of_a_subnet_is_removed_without_the_others() {
    let mut config = config(200);
    let interface = config.instances[0].interface.clone();
    for vip in ["10.9.0.1/24", "10.9.0.2/24", "10.9.0.3/24"] {
        config.instances[0].excluded.push(sample::address(vip, &interface));
    }
    let mut host = Host::new(config.clone());
    host.pass(10 * SECOND);
    host.look();
    config.instances[0].excluded.drain(0..2);
    host.event(Event::Reload(Arc::new(config)));
    // The first one last, or the kernel would drop all of them.
    assert_eq!(host.ops(), ["-10.9.0.2/24", "-10.9.0.1/24"]);
    let (_, ops) = host.apply();
    let verbs: Vec<bool> =
        ops.iter().map(|op| matches!(op.verb, Verb::Delete { keep_secondaries: true })).collect();
    assert_eq!(verbs, [false, true]);
    // An older kernel removes the third nevertheless: it is restored, and no other program is
    // blamed.
    host.look();
    host.event(Event::Object(Change::address(ETH, prefix("10.9.0.3/24"), false, true)));
    assert_eq!(host.ops(), ["+10.9.0.3/24"]);
    assert_eq!(host.counters().objects_restored, 0);
}

#[test]
fn a_route_whose_source_could_not_be_removed_waits_for_it_no_longer() {
    let mut host = master();
    let token = host.leave_and_return();
    assert_eq!(host.apply().1.len(), 3, "two routes and the address");
    for (item, outcome) in [(0, Outcome::Done), (1, Outcome::Done)] {
        host.event(Event::Applied { token, item, outcome });
    }
    let missing = |host: &Host| !host.ops().contains(&format!("+{WITH_SOURCE}"));
    assert!(missing(&host), "its source is being removed: {:?}", host.ops());
    host.event(Event::Applied { token, item: 2, outcome: Outcome::Refused(16) });
    assert!(!missing(&host), "{:?}", host.ops());
}

#[test]
fn a_route_that_the_kernel_removed_while_its_removal_was_refused_is_added_again() {
    let mut host = master();
    host.obedient = false;
    host.look();
    // The kernel removes routes of a link that is down without an event.
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    host.event(Event::Link(link(ETH, "enp0s8", true)));
    while host.state() != State::Master {
        let asked: Vec<(Token, usize)> = (host.seen.iter())
            .filter_map(|action| match action {
                Action::Apply { token, ops } => Some((*token, ops.len())),
                _ => None,
            })
            .collect();
        host.look();
        for (token, count) in asked {
            for item in (0..).take(count) {
                host.event(Event::Applied { token, item, outcome: Outcome::Refused(16) });
            }
        }
        host.pass(10 * MS);
    }
    for route in [WITH_SOURCE, DEFAULT] {
        assert!(host.ops().contains(&format!("+{route}")), "{:?}", host.ops());
    }
}
