//! Interfaces with a virtual MAC: they are created first, send adverts and announcements, and their absence is a fault.

use super::*;
use crate::plan::{ChangeKind, Identity, LinkAttributes, LinkObject, Setting, Settings, VrfRole};

mod names;

const UPPER: IfIndex = IfIndex(9);
const MAC: Mac = Mac([0, 0, 0x5e, 0, 1, 41]);
const MADE: &str = "macvlan vrrp.41 on enp0s8";
const IGNORE: &str = "arp_ignore 1 of enp0s8";
const FILTER: &str = "arp_filter 1 of enp0s8";
const ANNOUNCE: &str = "arp_announce 2 of enp0s8";

fn config(priority: u8) -> Vrrp {
    let mut config = failover(priority);
    sample::vmac(&mut config.instances[0]);
    config
}

fn upper(up: bool) -> Link {
    Link { mac: MAC, ..link(UPPER, "vrrp.41", up) }
}

fn own_link(config: &Vrrp) -> model::VirtualLink {
    config.instances[0].own_link().unwrap().clone()
}

fn object(config: &Vrrp) -> LinkObject {
    LinkObject {
        link: own_link(config),
        mark: config.mark.clone(),
        originals: Settings::default(),
        differs: false,
    }
}

fn told(kind: ChangeKind, change: impl FnOnce(&mut LinkAttributes)) -> Event<'static> {
    let mut attributes = LinkAttributes::of(&object(&config(100)));
    change(&mut attributes);
    let attributes = Some(Box::new(crate::plan::Attributes::Link(attributes)));
    let identity = Identity::Link(ETH, "vrrp.41".parse().unwrap());
    let sight = Sight { identity, links: vec![ETH], attributes };
    Event::Object(Change { sight, kind, own: false })
}

fn master() -> Host {
    let mut host = Host::new(config(200));
    host.event(Event::Link(upper(true)));
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    host
}

#[test]
fn it_is_made_first_and_everything_leaves_by_it() {
    let mut host = Host::new(config(200));
    let plus = |text: &str| format!("+{text}");
    assert_eq!(host.ops(), [plus(MADE), plus(IGNORE), plus(FILTER), plus(ANNOUNCE)]);
    assert_eq!(host.state(), State::Init, "it waits, and nothing is wrong");
    assert_eq!(host.announced(), Vec::<String>::new());
    host.event(Event::Link(upper(false)));
    assert_eq!(host.state(), State::Init);
    host.event(Event::Link(upper(true)));
    assert_eq!(host.state(), State::Backup);
    let group = "224.0.0.18".parse().unwrap();
    assert!(host.seen.contains(&Action::Join { interface: ETH, group }));
    assert!(host.seen.contains(&Action::Overhear { interface: UPPER, group }));
    assert!(!host.seen.contains(&Action::Join { interface: UPPER, group }), "a report would leave");
    host.look();
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    assert_eq!(host.ops(), ["+10.0.2.100/24"]);
    let mut adverts = 0;
    for action in &host.seen {
        match action {
            Action::SendAdvert { interface, source, .. } => {
                adverts += 1;
                assert_eq!((*interface, *source), (UPPER, [10, 0, 2, 71].into()));
            }
            Action::SendGarp { interface, mac, .. } => assert_eq!((*interface, *mac), (UPPER, MAC)),
            Action::Apply { ops, .. } => assert_eq!(ops[0].as_address().unwrap().0, UPPER),
            _ => {}
        }
    }
    assert!(adverts > 5);
    assert!(!host.frames().is_empty());
}

/// The kernel reports memberships as soon as an interface is created.
#[test]
fn with_ipv6_its_filter_is_made_before_it() {
    let mut config = config(200);
    config.instances[0].extras.as_mut().unwrap().own_link.as_mut().unwrap().carries_v6 = true;
    let tables = filter::tables(&config);
    assert_eq!(tables.len(), 1);
    assert!(tables[0].vmacs && tables[0].family == Family::V6);
    let host = Host::new(config);
    let table = "+nftables table ip6 keepalived";
    let made = [table, "+filter of virtual MAC interface vrrp.41", &format!("+{MADE}")];
    assert_eq!(host.ops()[..3], made);
}

#[test]
fn by_the_parent_leave_adverts_alone_where_that_is_asked_for() {
    let mut config = config(200);
    config.instances[0].extras.as_mut().unwrap().vmac_xmit_base = true;
    let mut host = Host::new(config);
    host.event(Event::Link(upper(true)));
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    for action in &host.seen {
        match action {
            Action::SendAdvert { interface, .. } => assert_eq!(*interface, ETH),
            Action::SendGarp { interface, .. } => assert_eq!(*interface, UPPER),
            _ => {}
        }
    }
    assert!(!host.frames().is_empty());
}

#[test]
fn adverts_are_heard_on_both_interfaces() {
    for interface in [ETH, UPPER] {
        let mut host = Host::new(config(100));
        host.event(Event::Link(upper(true)));
        let packet = advert(PEER, |content| content.priority = 200);
        let (source, destination) = (PEER.into(), [224, 0, 0, 18].into());
        let rx = Rx { interface, source, destination, hop_limit: 0 };
        for _ in 0..5 {
            host.event(Event::Advert { rx, packet: &packet });
            host.pass(3 * SECOND);
        }
        assert_eq!(host.state(), State::Backup, "{interface:?}");
        assert_eq!(host.counters().adverts_received, 5);
    }
}

/// An interface that the host has at the start, created by a daemon with this mark.
fn left_behind(parent: IfIndex, name: &str, mark: &str) -> Sight {
    let link = LinkObject { mark: mark.into(), ..object(&config(100)) };
    let found = LinkAttributes { name: name.parse().unwrap(), ..LinkAttributes::of(&link) };
    let attributes = crate::plan::Attributes::Link(found);
    let identity = Identity::Link(parent, name.parse().unwrap());
    Sight { identity, links: vec![parent], attributes: Some(Box::new(attributes)) }
}

#[test]
fn an_interface_of_an_earlier_run_that_nothing_names_goes() {
    let start = |mark: &str, config: Vrrp| {
        let mut host = Host::off();
        host.event(Event::Reload(Arc::new(Vrrp { mark: mark.into(), ..config })));
        let mut kernel = host.kernel();
        for (parent, name, mark) in [
            (ETH, "vrrp.41", "ours"),
            (ETH, "vrrp.42", "ours"),
            (ETH, "vrrp.43", "another"),
            (ETH, "vrrp.44", ""),
            (OTHER, "vrrp.45", "ours"),
        ] {
            kernel.objects.push(left_behind(parent, name, mark));
        }
        host.event(Event::Kernel(kernel));
        host.ops().into_iter().filter(|op| op.contains("macvlan")).collect::<Vec<_>>()
    };
    let gone = ["-macvlan vrrp.42 on enp0s8", "-macvlan vrrp.45 on enp0s9"];
    assert_eq!(start("ours", config(100)), gone);
    let all = [&["-macvlan vrrp.41 on enp0s8"], &gone[..]].concat();
    assert_eq!(start("ours", failover(100)), all);
    // Without a mark of its own it knows none.
    assert_eq!(start("", failover(100)), [""; 0]);
}

/// If this process and all others are killed, the next ones find them there.
#[test]
fn it_carries_the_settings_that_its_parent_had_before() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config(100))));
    let mut kernel = host.kernel();
    for link in kernel.links.iter_mut().filter(|link| link.index == ETH) {
        link.settings = Settings([Some(0), Some(1), Some(0), Some(0)]);
    }
    host.event(Event::Kernel(kernel));
    let made = host.seen.iter().find_map(|action| match action {
        Action::Apply { ops, .. } => ops.iter().find_map(|op| match op.object.as_ref() {
            crate::plan::Object::Link(made) => Some(made.originals),
            _ => None,
        }),
        _ => None,
    });
    assert_eq!(made, Some(Settings([Some(0), Some(1), Some(0), None])));
}

/// A run that was killed has left an interface, which tells the settings of its parent before it changed them.
#[test]
fn settings_that_an_earlier_run_could_not_restore_are_restored() {
    let start = |config: Vrrp, now: [u32; 3]| {
        let mut host = Host::off();
        host.event(Event::Reload(Arc::new(Vrrp { mark: "ours".into(), ..config })));
        let mut kernel = host.kernel();
        let mut left = left_behind(ETH, "vrrp.41", "ours");
        if let Some(crate::plan::Attributes::Link(found)) = left.attributes.as_deref_mut() {
            found.originals = Settings([Some(0), Some(1), Some(0), None]);
        }
        kernel.objects.push(left);
        let [ignore, filter, announce] = now.map(Some);
        for link in kernel.links.iter_mut().filter(|link| link.index == ETH) {
            link.settings = Settings([ignore, filter, announce, Some(0)]);
        }
        host.event(Event::Kernel(kernel));
        host
    };
    let restored = |host: &mut Host| -> Vec<(Setting, Option<u32>)> {
        let all = host.seen.iter().filter_map(|action| match action {
            Action::Apply { ops, .. } => Some(ops.clone()),
            _ => None,
        });
        let gone = all.flatten().filter(|op| matches!(op.verb, Verb::Delete { .. }));
        gone.filter_map(|op| match op.object.as_ref() {
            crate::plan::Object::Setting(object) => Some((object.setting, object.before)),
            _ => None,
        })
        .collect()
    };
    let all = [
        (Setting::ArpIgnore, Some(0)),
        (Setting::ArpFilter, Some(1)),
        (Setting::ArpAnnounce, Some(0)),
    ];
    // The interface is wanted: they are restored at the end.
    let mut host = start(config(100), [1, 1, 2]);
    assert_eq!(restored(&mut host), []);
    host.event(Event::Link(upper(true)));
    host.event(Event::Stop { keep_addresses: false });
    let mut found = restored(&mut host);
    found.sort();
    assert_eq!(found, all);
    // It is not wanted: at once, but for those that are as they were.
    let mut host = start(failover(100), [1, 1, 2]);
    let mut found = restored(&mut host);
    found.sort();
    assert_eq!(found, [all[0], all[2]]);
    // Another program has set one since then.
    let mut host = start(failover(100), [1, 1, 1]);
    assert_eq!(restored(&mut host), [all[0]]);
}

#[test]
fn what_the_kernel_refuses_is_a_fault_with_its_reason_and_tried_again() {
    for (errno, reason) in [
        (17, "interface vrrp.41 exists but is not of type macvlan on enp0s8"),
        (16, "another interface on enp0s8 has the hardware address of vrrp.41"),
        (95, "the kernel does not support macvlan, which vrrp.41 needs"),
        (1, "cannot create macvlan vrrp.41 on enp0s8: error 1"),
    ] {
        let mut host = Host::off();
        host.obedient = false;
        host.event(Event::Reload(Arc::new(config(200))));
        host.event(Event::Kernel(host.kernel()));
        let (token, ops) = host.apply();
        let item = ops.iter().position(|op| op.to_string() == format!("add {MADE}")).unwrap();
        let item = u32::try_from(item).unwrap();
        host.event(Event::Applied { token, item, outcome: Outcome::Refused(errno) });
        assert_eq!(host.state(), State::Fault);
        assert_eq!(host.faults(), [reason]);
        host.look();
        host.pass(SECOND);
        assert_eq!(host.ops(), [format!("+{MADE}")]);
        let (token, _) = host.apply();
        host.event(Event::Applied { token, item: 0, outcome: Outcome::Done });
        host.event(Event::Link(upper(true)));
        assert_eq!(host.state(), State::Backup);
    }
}

#[test]
fn it_comes_back_with_its_addresses_when_another_program_removes_it() {
    let mut host = master();
    host.look();
    host.event(Event::LinkGone(UPPER));
    host.event(told(ChangeKind::Gone, |_| ()));
    assert_eq!(host.ops(), [format!("+{MADE}")]);
    assert_eq!(host.state(), State::Master, "a short absence is not a fault");
    host.look();
    host.event(Event::Link(Link { index: IfIndex(10), ..upper(true) }));
    assert_eq!(host.ops(), ["+10.0.2.100/24"]);
    assert!(!host.frames().is_empty());
    assert_eq!(host.counters().objects_restored, 1);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn it_is_set_right_when_another_program_changes_it_but_not_for_ever() {
    let mut host = master();
    host.look();
    host.event(told(ChangeKind::Present, |_| ()));
    assert!(host.ops().is_empty(), "an event about nothing");
    for _ in 0..5 {
        host.look();
        host.event(told(ChangeKind::Present, |attributes| attributes.up = false));
        assert_eq!(host.ops(), [format!("={MADE}")]);
    }
    host.look();
    host.event(told(ChangeKind::Present, |attributes| attributes.up = false));
    assert_eq!(host.ops(), ["-10.0.2.100/24"]);
    let fault = "another program keeps changing or removing interface vrrp.41";
    host.pass(MS);
    assert_eq!(host.faults(), [fault]);
    host.look();
    host.pass(SECOND);
    assert_eq!(host.ops(), [format!("={MADE}")]);
    assert_eq!(host.state(), State::Backup);
}

/// Wherever the parent goes, and wherever another program puts the interface.
#[test]
fn it_is_in_the_vrf_of_its_parent() {
    let mut host = master();
    let parent = |vrf| Event::Link(Link { vrf, ..link(ETH, "enp0s8", true) });
    let port = Some(VrfRole::Port { of: IfIndex(30) });
    host.look();
    host.event(parent(port));
    assert_eq!(host.ops(), [format!("+{MADE}")]);
    host.look();
    host.event(told(ChangeKind::Present, |found| found.vrf = Some(IfIndex(30))));
    host.event(parent(port));
    assert_eq!(host.ops(), Vec::<String>::new(), "it is there");
    host.event(told(ChangeKind::Present, |found| found.vrf = None));
    assert_eq!(host.ops(), [format!("={MADE}")], "another program has moved it");
    host.look();
    host.event(told(ChangeKind::Present, |found| found.vrf = Some(IfIndex(30))));
    host.event(parent(None));
    assert_eq!(host.ops(), [format!("+{MADE}")]);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn a_report_of_our_own_change_is_not_the_act_of_another_program() {
    let mut host = master();
    host.look();
    // The steps in which the writer makes it or changes it: at first it is down.
    let Event::Object(change) = told(ChangeKind::Present, |a| a.up = false) else { unreachable!() };
    host.event(Event::Object(Change { own: true, ..change }));
    assert_eq!((host.ops(), host.state()), (vec![], State::Master));
    assert_eq!(host.counters().objects_restored, 0);
}

#[test]
fn what_a_process_has_left_is_kept_as_it_is() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config(200))));
    let mut snapshot = host.kernel();
    snapshot.links.push(upper(true));
    let Event::Object(change) = told(ChangeKind::Present, |_| ()) else { unreachable!() };
    snapshot.objects.push(change.sight);
    snapshot.objects.push(Sight::address(UPPER, prefix("10.0.2.100/24")));
    host.event(Event::Kernel(snapshot));
    assert_eq!(host.state(), State::Backup);
    let plus = |text: &str| format!("+{text}");
    assert_eq!(host.ops(), [plus(IGNORE), plus(FILTER), plus(ANNOUNCE)]);
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    assert!(host.ops().iter().all(|op| !op.starts_with('-') && !op.contains("vrrp.41")));
}

#[test]
fn it_goes_with_the_instance_and_settings_become_what_they_were() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config(200))));
    let mut snapshot = host.kernel();
    snapshot.links[0].settings = Settings([Some(2), Some(0), Some(1), Some(0)]);
    host.event(Event::Kernel(snapshot));
    host.event(Event::Link(upper(true)));
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    host.look();
    host.event(Event::Stop { keep_addresses: false });
    let minus = |text: &str| format!("-{text}");
    let ops = host.ops();
    assert_eq!(ops[0], "-10.0.2.100/24");
    for gone in [MADE, IGNORE, FILTER, ANNOUNCE] {
        assert!(ops.contains(&minus(gone)), "{ops:?}");
    }
    let restored: Vec<(Setting, Option<u32>)> = host
        .seen
        .iter()
        .filter_map(|action| match action {
            Action::Apply { ops, .. } => Some(ops.clone()),
            _ => None,
        })
        .flatten()
        .filter_map(|op| match op.object.as_ref() {
            crate::plan::Object::Setting(object) => Some((object.setting, object.before)),
            _ => None,
        })
        .collect();
    assert_eq!(restored.len(), 3);
    assert!(restored.contains(&(Setting::ArpIgnore, Some(2))), "{restored:?}");
    assert!(restored.contains(&(Setting::ArpFilter, Some(0))), "{restored:?}");
    assert!(restored.contains(&(Setting::ArpAnnounce, Some(1))), "{restored:?}");
}

#[test]
fn a_reload_that_takes_it_away_moves_the_addresses() {
    let mut host = master();
    host.look();
    host.event(Event::Reload(Arc::new(failover(200))));
    let ops = host.ops();
    let place = |op: &str| ops.iter().position(|other| other == op).unwrap();
    assert!(place("+10.0.2.100/24") < place("-10.0.2.100/24"), "{ops:?}");
    assert!(place("-10.0.2.100/24") < place(&format!("-{MADE}")), "{ops:?}");
    assert_eq!(host.state(), State::Master);
}
