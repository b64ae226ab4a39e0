//! Instances with thousands of addresses, which come, go and are announced.

use super::*;

#[test]
fn thousands_of_addresses_come_and_go_in_slices() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(five_thousand())));
    host.event(Event::Kernel(host.kernel()));
    host.pass(MS);
    host.look();
    host.now = host.engine.deadline().unwrap();
    let cost = host.cost(Event::Timer);
    assert_eq!((host.state(), cost.order.len()), (State::Master, 5000));
    cost.assert_small(2);
    // Scripts are notified when all are added, not after the first slice.
    let last = host.seen.iter().rposition(|a| matches!(a, Action::Apply { .. }));
    let told = host.seen.iter().position(|a| matches!(a, Action::Notify(_)));
    assert!(told > last && last.is_some(), "{told:?} {last:?}");
    // All are compared again and nothing is requested.
    let cost = host.cost(Event::Reload(Arc::new(five_thousand())));
    assert!(cost.order.is_empty());
    let cost = host.cost(Event::Link(link(ETH, "enp0s8", false)));
    cost.assert_small(2);
    assert_eq!((host.state(), cost.order), (State::Fault, vec![false; 5000]));
}

#[test]
fn thousands_of_addresses_on_a_link_that_comes_up_are_announced_in_slices() {
    let mut config = five_thousand();
    for address in &mut config.instances[0].excluded {
        address.interface = "enp0s9".parse().unwrap();
    }
    let mut host = Host::new(config);
    host.pass(5 * SECOND);
    assert_eq!(host.state(), State::Master);
    host.cost(Event::Link(link(OTHER, "enp0s9", false))).assert_small(1);
    host.pass(SECOND / 2);
    host.look();
    host.cost(Event::Link(link(OTHER, "enp0s9", true))).assert_small(2);
    let end = host.now + 100 * MS;
    while let Some(at) = host.engine.deadline().filter(|at| *at < end) {
        host.now = host.now.max(at);
        host.cost(Event::Timer).assert_small(1);
    }
    assert!(host.frames().len() >= 4999, "{}", host.frames().len());
}

#[test]
fn thousands_of_addresses_are_announced_again_in_slices() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(five_thousand())));
    host.event(Event::Kernel(host.kernel()));
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    host.look();
    // The second set of announcements.
    timers_are_cheap(&mut host, 10 * SECOND);
    assert!(host.frames().len() >= 5000, "{}", host.frames().len());
}

#[test]
fn a_reload_of_thousands_adds_in_slices_before_it_removes() {
    let mut config = five_each(200);
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config.clone())));
    host.event(Event::Kernel(snapshot(LINKS)));
    host.pass(10 * SECOND);
    assert_eq!(host.in_state(State::Master), 1000);
    host.look();
    for address in config.instances.iter_mut().flat_map(|i| &mut i.addresses).step_by(2) {
        if let IpAddr::V4(a) = &mut address.prefix.address {
            *a = Ipv4Addr::from(u32::from(*a) | 0x8000);
        }
    }
    let cost = host.cost(Event::Reload(Arc::new(config)));
    cost.assert_small(2);
    // What is the same before and after is not touched.
    let (added, removed) = cost.order.split_at(2500);
    assert!(added.iter().all(|adds| *adds) && removed.iter().all(|adds| !*adds));
    assert_eq!(removed.len(), 2500);
}

#[test]
fn a_stop_of_thousands_says_all_farewells_in_slices_and_then_removes() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(five_each(200))));
    host.event(Event::Kernel(snapshot(LINKS)));
    host.pass(10 * SECOND);
    host.look();
    let cost = host.cost(Event::Stop { keep_addresses: false });
    cost.assert_small(2);
    assert_eq!(cost.order, vec![false; 5000]);
    let is_advert = |a: &Action| matches!(a, Action::SendAdvert { .. });
    assert_eq!(host.seen.iter().filter(|a| is_advert(a)).count(), 1000);
    let last = host.seen.iter().rposition(is_advert);
    let removal = host.seen.iter().position(|a| matches!(a, Action::Apply { .. }));
    assert!(last < removal, "{last:?} {removal:?}");
    let done = host.seen.iter().filter(|a| **a == Action::Done).count();
    assert_eq!((done, host.seen.last()), (1, Some(&Action::Done)));
}

#[test]
fn a_refusal_does_not_look_at_all_addresses() {
    let mut host = Host::off();
    host.obedient = false;
    host.event(Event::Reload(Arc::new(five_thousand())));
    host.event(Event::Kernel(host.kernel()));
    host.now = host.engine.deadline().unwrap();
    host.engine.instances.visits.set(0);
    let mut refusals = 0;
    while host.state() == State::Master || refusals == 0 {
        host.look();
        host.event(Event::Timer);
        for action in host.look() {
            let Action::Apply { token, ops } = action else { continue };
            for item in 0..u32::try_from(ops.len()).unwrap() {
                refusals += 1;
                let outcome = Outcome::Refused(22);
                host.event(Event::Applied { token, item, outcome });
            }
        }
        host.now = host.now.max(host.engine.deadline().unwrap());
    }
    // Each address is tried several times before all are given up.
    assert!(refusals >= 6 * 5000, "{refusals}");
    let visits = host.engine.instances.visits.get();
    assert!(visits < 60 * refusals, "{visits} for {refusals}");
}

#[test]
fn a_configuration_that_comes_after_the_view_is_taken_in_slices() {
    let mut host = Host::off();
    host.event(Event::Kernel(snapshot(LINKS)));
    let cost = host.cost(Event::Reload(Arc::new(five_each(200))));
    cost.assert_small(2);
    assert_eq!(host.in_state(State::Backup), 1000);
    // All of them move, with everything they have, and then they go.
    host.pass(10 * SECOND);
    let mut elsewhere = five_each(200);
    for instance in &mut elsewhere.instances {
        let vrid = instance.vrid.get();
        instance.vrid = Vrid::new(if vrid == MEMBERS { 1 } else { vrid + 1 }).unwrap();
        instance.advert_int = 2 * SECOND;
    }
    let cost = host.cost(Event::Reload(Arc::new(elsewhere)));
    cost.assert_small(2);
    let cost = host.cost(Event::Reload(Arc::default()));
    cost.assert_small(2);
}
