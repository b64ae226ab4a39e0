//! Renamed interfaces, and interfaces' own addresses.

use super::*;

/// The nat scenario: `enp0s8` is ETH, `enp0s9` is OTHER; master on both.
fn both() -> (Host, Vrrp) {
    let config = sample::nat(200);
    let mut host = Host::new(config.clone());
    host.pass(8 * SECOND);
    assert_eq!(states(&host), [State::Master; 2]);
    host.look();
    (host, config)
}

fn states(host: &Host) -> [State; 2] {
    let view = host.engine.view(host.now);
    [0, 1].map(|n| view.instances[n].state)
}

fn named(index: IfIndex, name: &str) -> Event<'static> {
    Event::Link(link(index, name, true))
}

/// Addresses removed, with the index of their interface.
fn removals(host: &Host) -> BTreeSet<(IfIndex, Prefix)> {
    let ops = host.seen.iter().filter_map(|a| match a {
        Action::Apply { ops, .. } => Some(ops.clone()),
        _ => None,
    });
    let removed = ops.flatten().filter(|op| matches!(op.verb, Verb::Delete { .. }));
    let place = |op: Op| {
        let address = op.object.address()?;
        Some((op.number(&address.interface)?, address.prefix))
    };
    removed.filter_map(place).collect()
}

#[test]
fn a_renamed_interface_keeps_role_and_address_until_it_is_gone() {
    let mut host = Host::master();
    host.event(named(ETH, "lan7"));
    host.pass(3 * SECOND);
    assert_eq!(
        (host.state(), host.ops(), host.priorities()),
        (State::Master, vec![], vec![200; 3])
    );
    // Its carrier still counts, and the old name does not refer to another interface with that
    // name.
    host.event(named(IfIndex(30), "enp0s8"));
    host.event(Event::Link(link(ETH, "lan7", false)));
    assert_eq!((host.state(), host.priorities()), (State::Fault, vec![0]));
    assert_eq!(removals(&host), [(ETH, prefix("10.0.2.100/24"))].into());
    host.event(named(ETH, "lan7"));
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    // It is deleted: the name refers to the interface that has it.
    host.look();
    host.event(Event::LinkGone(ETH));
    let own = prefix("10.0.2.71/24");
    host.event(Event::Object(Change::address(IfIndex(30), own, true, false)));
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    let sent = host.seen.iter().rev().find_map(|a| match a {
        Action::SendAdvert { interface, .. } => Some(*interface),
        _ => None,
    });
    assert_eq!(sent, Some(IfIndex(30)));
}

#[test]
fn interfaces_that_swap_their_names_keep_their_addresses() {
    let events = [named(ETH, "x"), named(OTHER, "enp0s8"), named(ETH, "enp0s9")];
    let (mut host, config) = both();
    for event in events {
        host.event(event);
    }
    host.pass(3 * SECOND);
    assert_eq!((states(&host), host.ops()), ([State::Master; 2], vec![]));
    host.event(Event::Stop { keep_addresses: false });
    let want: BTreeSet<_> = config
        .instances
        .iter()
        .zip([ETH, OTHER])
        .flat_map(|(i, index)| i.addresses.iter().map(move |a| (index, a.prefix)))
        .collect();
    assert_eq!(removals(&host), want);
    // The same when the events were lost.
    let (mut host, _) = both();
    let mut kernel = host.kernel();
    for (link, _) in kernel.links.iter_mut().zip(0..) {
        link.name = if link.index == ETH { "enp0s9" } else { "enp0s8" }.parse().unwrap();
    }
    let addresses = want.iter().map(|(index, prefix)| Sight::address(*index, *prefix));
    kernel.objects.extend(addresses);
    host.event(Event::Kernel(kernel));
    host.pass(3 * SECOND);
    assert_eq!((states(&host), host.ops()), ([State::Master; 2], vec![]));
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(removals(&host), want);
}

#[test]
fn the_interface_of_a_single_address_may_be_renamed() {
    let mut config = failover(200);
    let other: IfName = "enp0s9".parse().unwrap();
    config.instances[0].excluded.push(sample::address("10.0.3.100/24", &other));
    let mut host = Host::new(config);
    host.pass(8 * SECOND);
    host.look();
    host.event(named(OTHER, "lan7"));
    host.pass(SECOND);
    assert_eq!((host.state(), host.ops()), (State::Master, vec![]));
    host.event(Event::Stop { keep_addresses: false });
    assert!(removals(&host).contains(&(OTHER, prefix("10.0.3.100/24"))));
}

#[test]
fn a_file_with_the_new_name_is_the_same_router() {
    let mut host = Host::master();
    host.event(named(ETH, "lan7"));
    let mut config = failover(200);
    let name: IfName = "lan7".parse().unwrap();
    config.instances[0].interface = name.clone();
    config.instances[0].addresses[0].interface = name;
    host.event(Event::Reload(Arc::new(config)));
    host.pass(3 * SECOND);
    assert_eq!(
        (host.state(), host.ops(), host.priorities()),
        (State::Master, vec![], vec![200; 3])
    );
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(removals(&host), [(ETH, prefix("10.0.2.100/24"))].into());
}

/// A configuration of the failover scenario whose instance and address are on these interfaces.
fn on(interface: &str, address: &str) -> Event<'static> {
    let mut config = failover(200);
    config.instances[0].interface = interface.parse().unwrap();
    config.instances[0].addresses[0].interface = address.parse().unwrap();
    Event::Reload(Arc::new(config))
}

#[test]
fn a_name_that_no_configuration_used_for_a_while_refers_to_the_interface_that_has_it() {
    let mut host = Host::master();
    host.event(named(ETH, "lan7"));
    host.event(on("lan7", "lan7"));
    host.event(named(IfIndex(30), "enp0s8"));
    let own = prefix("10.0.2.71/24");
    host.event(Event::Object(Change::address(IfIndex(30), own, true, false)));
    host.look();
    host.event(on("enp0s8", "enp0s8"));
    host.pass(8 * SECOND);
    assert_eq!(removals(&host), [(ETH, prefix("10.0.2.100/24"))].into());
    let sent = host.seen.iter().rev().find_map(|a| match a {
        Action::SendAdvert { interface, .. } => Some(*interface),
        _ => None,
    });
    assert_eq!((host.state(), sent), (State::Master, Some(IfIndex(30))));
}

#[test]
fn of_two_former_names_the_one_that_is_still_configured_counts() {
    let mut host = Host::master();
    host.event(named(ETH, "lan7"));
    host.event(on("enp0s8", "lan7"));
    host.event(named(ETH, "x"));
    host.look();
    // The next reload forgets the name that none has used meanwhile.
    for _ in 0..2 {
        host.event(on("lan7", "lan7"));
        host.pass(2 * SECOND);
        assert_eq!((host.state(), host.ops()), (State::Master, vec![]));
    }
    host.event(Event::Link(link(ETH, "x", false)));
    assert_eq!(host.state(), State::Fault);
}

#[test]
fn a_replaced_process_knows_what_was_renamed() {
    let mut host = Host::master();
    // The process may end before it reports the renaming, or the interface may be renamed while
    // there is no process.
    let before = host.engine.summary(host.now);
    host.event(named(ETH, "lan7"));
    assert!(host.look().contains(&Action::Report));
    let after = host.engine.summary(host.now);
    for summary in [before, after] {
        let mut next = Host::off();
        next.now = host.now + SECOND;
        next.engine = Engine::new(next.now);
        next.event(Event::Resume(summary));
        next.event(Event::Reload(Arc::new(failover(200))));
        let mut kernel = next.kernel();
        kernel.links[0].name = "lan7".parse().unwrap();
        kernel.objects.push(Sight::address(ETH, prefix("10.0.2.100/24")));
        next.event(Event::Kernel(kernel));
        next.pass(2 * SECOND);
        assert_eq!((next.state(), next.ops()), (State::Master, vec![]));
        next.event(Event::Link(link(ETH, "lan7", false)));
        assert_eq!(next.state(), State::Fault);
        next.event(named(ETH, "lan7"));
        next.pass(4 * SECOND);
        next.look();
        next.event(Event::Stop { keep_addresses: false });
        assert_eq!(removals(&next), [(ETH, prefix("10.0.2.100/24"))].into());
    }
}

#[test]
fn an_interface_that_was_recreated_between_two_processes_is_found_by_its_name() {
    let summary = Host::master().engine.summary(Instant::from_nanos(20_000_000_000));
    let mut next = Host::off();
    next.now = Instant::from_nanos(20_000_000_000);
    next.engine = Engine::new(next.now);
    next.event(Event::Resume(summary));
    next.event(Event::Reload(Arc::new(failover(200))));
    let mut kernel = next.kernel();
    kernel.links[0].index = IfIndex(30);
    kernel.objects[0] = Sight::address(IfIndex(30), prefix("10.0.2.71/24"));
    next.event(Event::Kernel(kernel));
    next.pass(5 * SECOND);
    assert_eq!((next.state(), next.ops()), (State::Master, vec!["+10.0.2.100/24".to_owned()]));
}

#[test]
fn a_process_that_only_undoes_enters_no_state() {
    for (pause, farewells) in [(SECOND / 2, vec![0]), (10 * SECOND, vec![])] {
        let host = Host::master();
        let summary = host.engine.summary(host.now);
        let mut next = Host::off();
        next.now = host.now + pause;
        next.engine = Engine::new(next.now);
        next.event(Event::Undo);
        next.event(Event::Resume(summary));
        next.event(Event::Reload(Arc::new(failover(200))));
        let mut kernel = next.kernel();
        kernel.objects.push(Sight::address(ETH, prefix("10.0.2.100/24")));
        next.event(Event::Kernel(kernel));
        // Further renaming changes nothing.
        next.event(named(ETH, "lan7"));
        next.event(Event::Link(link(OTHER, "enp0s9", false)));
        assert_eq!((next.state(), next.ops()), (State::Init, vec![]));
        assert_eq!(next.priorities(), Vec::<u8>::new());
        next.look();
        next.event(Event::Stop { keep_addresses: false });
        assert_eq!(next.priorities(), farewells);
        assert_eq!(removals(&next), [(ETH, prefix("10.0.2.100/24"))].into());
        let states: Vec<String> = next.notices().iter().map(|n| n.state.to_string()).collect();
        assert_eq!(states, ["STOP"]);
    }
}

/// An owner with the address of its interface, and another one.
fn owner() -> Vrrp {
    let mut config = failover(255);
    config.instances[0].state = model::vrrp::InitialState::Master;
    let interface = config.instances[0].interface.clone();
    config.instances[0].addresses.push(sample::address("10.0.2.71/24", &interface));
    config
}

#[test]
fn an_owner_removes_what_it_added_though_another_program_reports_it_again() {
    let mut host = Host::new(owner());
    host.pass(4 * SECOND);
    assert_eq!((host.state(), host.ops()), (State::Master, vec!["+10.0.2.100/24".to_owned()]));
    host.look();
    host.event(Event::Object(Change::address(ETH, prefix("10.0.2.100/24"), true, false)));
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(removals(&host), [(ETH, prefix("10.0.2.100/24"))].into());
}

#[test]
fn an_owner_sends_from_the_address_of_its_interface_and_never_removes_it() {
    let mut host = Host::new(owner());
    host.pass(2 * SECOND);
    assert_eq!((host.state(), host.ops()), (State::Master, vec!["+10.0.2.100/24".to_owned()]));
    assert_eq!(host.packets[0][12..16], [10, 0, 2, 71]);
    let others = |host: &Host| removals(host) == [(ETH, prefix("10.0.2.100/24"))].into();
    // A fault; a reload without it; a removal of the instance; the end.
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    assert!(host.state() == State::Fault && others(&host));
    host.event(Event::Link(link(ETH, "enp0s8", true)));
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    let summary = host.engine.summary(host.now);
    let mut less = owner();
    less.instances[0].addresses.pop();
    for config in [less, Vrrp::default(), owner()] {
        host.event(Event::Reload(Arc::new(config)));
        host.pass(4 * SECOND);
    }
    host.event(Event::Stop { keep_addresses: false });
    assert!(others(&host), "{:?}", host.ops());
    // A replacing process distinguishes its own addresses from those of the interface.
    let mut next = Host::off();
    next.now = host.now;
    next.engine = Engine::new(next.now);
    next.event(Event::Resume(summary));
    next.event(Event::Reload(Arc::new(owner())));
    let mut kernel = next.kernel();
    kernel.objects.push(Sight::address(ETH, prefix("10.0.2.100/24")));
    next.event(Event::Kernel(kernel));
    next.pass(2 * SECOND);
    next.event(Event::Stop { keep_addresses: false });
    assert!(others(&next), "{:?}", next.ops());
}

/// Another program adds or removes the interface's own address.
fn own_address(there: bool) -> Event<'static> {
    Event::Object(Change::address(ETH, prefix("10.0.2.71/24"), there, false))
}

#[test]
fn an_address_of_the_owners_interface_that_comes_late_stays() {
    // At the start it is not there yet, as with DHCP.
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(owner())));
    let mut kernel = host.kernel();
    kernel.objects.remove(0);
    host.event(Event::Kernel(kernel));
    assert_eq!(host.state(), State::Fault);
    host.event(own_address(true));
    host.pass(4 * SECOND);
    assert_eq!((host.state(), host.ops()), (State::Master, vec!["+10.0.2.100/24".to_owned()]));
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(removals(&host), [(ETH, prefix("10.0.2.100/24"))].into());
}

#[test]
fn an_address_of_the_owners_interface_that_comes_back_to_another_process_stays() {
    // A reload may have changed its priority meanwhile.
    for priority in [255, 100] {
        let mut host = Host::new(owner());
        host.pass(2 * SECOND);
        let summary = host.engine.summary(host.now);
        let mut config = owner();
        config.instances[0].priority = Priority::new(priority).unwrap();
        let mut next = Host::off();
        next.now = host.now;
        next.engine = Engine::new(next.now);
        next.event(Event::Resume(summary));
        next.event(Event::Reload(Arc::new(config)));
        let mut kernel = next.kernel();
        kernel.objects.remove(0);
        next.event(Event::Kernel(kernel));
        assert_eq!((next.state(), removals(&next)), (State::Fault, BTreeSet::new()));
        next.event(own_address(true));
        next.event(Event::Stop { keep_addresses: false });
        assert_eq!(removals(&next), BTreeSet::new(), "{:?}", next.ops());
    }
}
