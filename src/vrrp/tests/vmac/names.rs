//! The interface of an instance by its name: renamed by another program or by the configuration, and taken over.

use super::*;

/// The kernel reports the interface of the instance with this name.
fn called(host: &mut Host, name: &str) {
    let name: IfName = name.parse().unwrap();
    host.event(Event::Link(Link { name: name.clone(), ..upper(true) }));
    let Event::Object(change) = told(ChangeKind::Present, |attributes| {
        attributes.name = name.clone();
        attributes.index = Some(UPPER);
    }) else {
        unreachable!()
    };
    let sight = Sight { identity: Identity::Link(ETH, name), ..change.sight };
    host.event(Event::Object(Change { sight, ..change }));
}

/// The operations on interfaces that are created, with the number of the interface if that is known.
fn on_links(host: &Host) -> Vec<(String, Option<IfIndex>)> {
    let mut all = Vec::new();
    for action in &host.seen {
        let Action::Apply { ops, .. } = action else { continue };
        for op in ops {
            if let crate::plan::Object::Link(object) = op.object.as_ref() {
                all.push((op.to_string(), op.number(&object.link.name)));
            }
        }
    }
    all
}

#[test]
fn one_that_another_program_renames_is_renamed_back_and_goes_with_the_daemon() {
    let mut host = master();
    called(&mut host, "vrrp.41");
    host.look();
    host.obedient = false;
    called(&mut host, "foo");
    assert_eq!(on_links(&host), [(format!("replace {MADE}"), Some(UPPER))]);
    let (token, _) = host.apply();
    // The name may belong to another interface by now.
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Refused(17) });
    assert_eq!((host.state(), host.faults()), (State::Master, Vec::<String>::new()));
    host.look();
    host.pass(SECOND);
    assert_eq!(host.priorities(), [200]);
    assert_eq!(on_links(&host), [(format!("replace {MADE}"), Some(UPPER))], "it is tried again");
    let (token, _) = host.apply();
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Refused(17) });
    host.look();
    host.obedient = true;
    host.event(Event::Stop { keep_addresses: false });
    let gone = ("delete macvlan foo on enp0s8".to_owned(), Some(UPPER));
    assert_eq!(on_links(&host), [gone]);
}

#[test]
fn one_that_is_always_renamed_serves_under_its_other_name() {
    let mut host = master();
    called(&mut host, "vrrp.41");
    for _ in 0..9 {
        called(&mut host, "foo");
    }
    assert_eq!((host.state(), host.faults()), (State::Master, Vec::<String>::new()));
    // It is gone under that name.
    host.look();
    host.event(Event::LinkGone(UPPER));
    let Event::Object(change) = told(ChangeKind::Gone, |attributes| {
        attributes.name = "foo".parse().unwrap();
        attributes.index = Some(UPPER);
    }) else {
        unreachable!()
    };
    let identity = Identity::Link(ETH, "foo".parse().unwrap());
    host.event(Event::Object(Change { sight: Sight { identity, ..change.sight }, ..change }));
    host.pass(SECOND);
    assert_eq!(on_links(&host), [(format!("add {MADE}"), None)]);
}

#[test]
fn one_whose_number_another_interface_has_by_now_is_created_again() {
    let mut host = master();
    called(&mut host, "vrrp.41");
    host.look();
    // Of another program, on another interface: nothing was heard of the end of ours.
    let Event::Object(change) = told(ChangeKind::Present, |attributes| {
        attributes.name = "foo".parse().unwrap();
        attributes.index = Some(UPPER);
    }) else {
        unreachable!()
    };
    let identity = Identity::Link(IfIndex(3), "foo".parse().unwrap());
    let sight = Sight { identity, links: vec![IfIndex(3)], ..change.sight };
    host.event(Event::Object(Change { sight, ..change }));
    host.event(Event::LinkGone(UPPER));
    host.pass(SECOND);
    assert_eq!(on_links(&host), [(format!("add {MADE}"), None)], "by its name only");
}

#[test]
fn one_with_its_hardware_address_is_taken_over_at_the_start() {
    let start = |mark: &str, private: bool| {
        let mut host = Host::off();
        host.event(Event::Reload(Arc::new(Vrrp { mark: "ours".into(), ..config(100) })));
        let mut kernel = host.kernel();
        let name: IfName = "foo".parse().unwrap();
        kernel.links.push(Link { name: name.clone(), ..upper(true) });
        let mut sight = left_behind(ETH, "foo", mark);
        if let Some(crate::plan::Attributes::Link(found)) = sight.attributes.as_deref_mut() {
            (found.name, found.index) = (name, Some(UPPER));
            found.kind = crate::plan::link::FoundKind::Macvlan { mac: MAC, private };
        }
        kernel.objects.push(sight);
        host.event(Event::Kernel(kernel));
        let ops = on_links(&host);
        host.event(Event::Link(upper(true)));
        (ops, host.state())
    };
    let taken = (vec![(format!("replace {MADE}"), Some(UPPER))], State::Backup);
    assert_eq!(start("", true), taken);
    assert_eq!(start("ours", true), taken);
    // Of another daemon on this host, or not like ours at all.
    let created = vec![(format!("add {MADE}"), None)];
    assert_eq!(start("another", true).0, created);
    assert_eq!(start("", false).0, created);
}

/// The configuration with another interface for the instance.
fn with_link(change: impl FnOnce(&mut model::VirtualLink)) -> Vrrp {
    let mut config = config(200);
    let instance = &mut config.instances[0];
    let link = instance.extras.as_mut().unwrap().own_link.as_mut().unwrap();
    change(link);
    let name = link.name.clone();
    for address in &mut instance.addresses {
        address.interface = name.clone();
    }
    config
}

#[test]
fn another_name_in_the_configuration_is_given_to_the_same_interface() {
    for refused in [false, true] {
        let mut host = master();
        called(&mut host, "vrrp.41");
        host.look();
        host.obedient = false;
        let other = "macvlan vip0 on enp0s8";
        host.event(Event::Reload(Arc::new(with_link(|link| link.name = "vip0".parse().unwrap()))));
        assert_eq!(host.ops(), [format!("={other}")]);
        assert_eq!(on_links(&host), [(format!("replace {other}"), Some(UPPER))]);
        let (token, _) = host.apply();
        let outcome = if refused { Outcome::Refused(17) } else { Outcome::Done };
        host.event(Event::Applied { token, item: 0, outcome });
        host.obedient = true;
        if !refused {
            called(&mut host, "vip0");
        }
        host.pass(3 * SECOND);
        assert_eq!((host.state(), host.faults()), (State::Master, Vec::<String>::new()));
        assert_eq!(host.priorities(), [200; 3]);
        assert!(host.ops().iter().all(|op| *op == format!("={other}")), "{:?}", host.ops());
        host.look();
        host.event(Event::Stop { keep_addresses: false });
        assert!(host.ops().contains(&"-10.0.2.100/24".to_owned()), "{:?}", host.ops());
        assert_eq!(on_links(&host).len(), 1);
        assert_eq!(on_links(&host)[0].1, Some(UPPER));
    }
}

#[test]
fn one_of_another_kind_is_created_when_the_old_one_is_gone() {
    let mut host = master();
    called(&mut host, "vrrp.41");
    host.look();
    host.obedient = false;
    let new = with_link(|link| {
        link.name = "ipv.41".parse().unwrap();
        link.kind = model::LinkKind::Ipvlan { mode: model::link::IpvlanMode::Bridge };
    });
    host.event(Event::Reload(Arc::new(new)));
    let ops = host.ops();
    let place = |text: &str| ops.iter().position(|op| op == text);
    assert!(place("-10.0.2.100/24") < place(&format!("-{MADE}")), "{ops:?}");
    let created = "+ipvlan ipv.41 on enp0s8";
    assert!(place(&format!("-{MADE}")).is_some() && place(created).is_none(), "{ops:?}");
    let (token, ops) = host.apply();
    host.look();
    for item in 0..u32::try_from(ops.len()).unwrap() {
        host.event(Event::Applied { token, item, outcome: Outcome::Done });
    }
    assert_eq!(host.ops(), [created]);
    assert_eq!(host.state(), State::Master);
    // If it is refused, the farewell leaves by what is there.
    let (token, _) = host.apply();
    host.event(Event::LinkGone(UPPER));
    host.look();
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Refused(95) });
    host.pass(MS);
    assert_eq!(host.state(), State::Fault);
    assert_eq!(host.priorities(), [0]);
    let by = |a: &Action| matches!(a, Action::SendAdvert { interface, .. } if *interface == ETH);
    assert!(host.seen.iter().any(by));
}
