//! Groups whose members or settings change in a reload.

use super::*;

/// Masters, in one group named `VRRP1`, and a third instance outside of it.
fn three() -> (Host, Vrrp) {
    let mut config = sample::nat(200);
    config.instances.push(sample::instance("third", "enp0s8", 93, 200, &["10.0.2.3/24"]));
    let mut host = Host::new(config.clone());
    host.pass(8 * SECOND);
    assert_eq!(states(&host), [State::Master; 3]);
    host.look();
    (host, config)
}

fn states(host: &Host) -> [State; 3] {
    let view = host.engine.view(host.now);
    [0, 1, 2].map(|n| view.instances[n].state)
}

fn group_state(host: &Host) -> State {
    host.engine.view(host.now).groups[0].state
}

fn reload(host: &mut Host, config: &Vrrp) {
    host.look();
    host.event(Event::Reload(Arc::new(config.clone())));
}

/// Takes the second link, that of `internal`, down or up.
fn set_link(host: &mut Host, up: bool) {
    host.event(Event::Link(link(OTHER, "enp0s9", up)));
}

#[test]
fn an_instance_that_joins_a_group_shares_its_faults() {
    let (mut host, mut config) = three();
    config.groups[0].members.push("third".into());
    reload(&mut host, &config);
    assert_eq!((states(&host), host.announced()), ([State::Master; 3], vec![]));
    set_link(&mut host, false);
    assert_eq!(states(&host), [State::Fault; 3]);
    assert_eq!(host.announced().last().unwrap(), "GROUP \"VRRP1\" FAULT 0");
    set_link(&mut host, true);
    assert_eq!(states(&host), [State::Backup; 3]);
}

#[test]
fn a_fault_comes_to_the_group_with_the_member_that_has_it() {
    let (mut host, mut config) = three();
    config.groups.clear();
    reload(&mut host, &config);
    set_link(&mut host, false);
    assert_eq!(states(&host), [State::Master, State::Fault, State::Master]);
    config.groups.push(sample::group("VRRP1", &["internal", "third"]));
    reload(&mut host, &config);
    assert_eq!(states(&host), [State::Master, State::Fault, State::Fault]);
    assert_eq!(host.priorities(), [0]);
    assert_eq!(group_state(&host), State::Fault);
}

#[test]
fn an_instance_that_leaves_a_group_recovers_alone() {
    let (mut host, mut config) = three();
    set_link(&mut host, false);
    assert_eq!(states(&host), [State::Fault, State::Fault, State::Master]);
    config.groups[0].members.pop();
    reload(&mut host, &config);
    assert_eq!(states(&host), [State::Backup, State::Fault, State::Master]);
    host.pass(4 * SECOND);
    assert_eq!(states(&host), [State::Master, State::Fault, State::Master]);
    assert_eq!(group_state(&host), State::Master);
    set_link(&mut host, true);
    assert_eq!(states(&host)[1], State::Backup);
}

#[test]
fn a_member_that_is_removed_takes_its_fault_along() {
    let (mut host, mut config) = three();
    set_link(&mut host, false);
    config.instances.remove(1);
    config.groups[0].members.pop();
    reload(&mut host, &config);
    let view = host.engine.view(host.now);
    assert_eq!(view.instances[0].state, State::Backup);
    host.pass(4 * SECOND);
    assert_eq!(group_state(&host), State::Master);
}

#[test]
fn a_member_changes_its_group() {
    let (mut host, mut config) = three();
    config.groups =
        vec![sample::group("VRRP1", &["external"]), sample::group("other", &["internal", "third"])];
    reload(&mut host, &config);
    assert_eq!((states(&host), host.announced()), ([State::Master; 3], vec![]));
    set_link(&mut host, false);
    assert_eq!(states(&host), [State::Master, State::Fault, State::Fault]);
    assert_eq!(group_state(&host), State::Master);
}

#[test]
fn groups_in_another_order_stay_themselves() {
    let (mut host, mut config) = three();
    config.groups.push(sample::group("other", &["third"]));
    reload(&mut host, &config);
    config.groups.reverse();
    reload(&mut host, &config);
    assert_eq!((states(&host), host.announced()), ([State::Master; 3], vec![]));
    set_link(&mut host, false);
    assert_eq!(states(&host), [State::Fault, State::Fault, State::Master]);
    let announced = host.announced();
    assert_eq!(announced.iter().filter(|n| n.starts_with("GROUP")).count(), 1, "{announced:?}");
}

#[test]
fn what_a_group_tracks_can_change() {
    let (mut host, mut config) = three();
    let interface: IfName = "dummy0".parse().unwrap();
    config.groups[0]
        .track_interfaces
        .push(model::TrackedInterface { interface, weight: Weight::FAULT });
    reload(&mut host, &config);
    assert_eq!(states(&host), [State::Fault, State::Fault, State::Master]);
    // With a weight it lowers the priority of each member that has no weight of its own.
    config.groups[0].track_interfaces[0].weight = Weight::new(-50, false);
    reload(&mut host, &config);
    host.pass(4 * SECOND);
    let view = host.engine.view(host.now);
    let priorities: Vec<u8> = view.instances.iter().map(|i| i.effective_priority).collect();
    assert_eq!(priorities, [150, 150, 200]);
    // The interface appears.
    host.event(Event::Link(link(IfIndex(9), "dummy0", true)));
    assert_eq!(host.engine.priority("external"), Some(200));
    config.groups[0].track_interfaces.clear();
    host.event(Event::LinkGone(IfIndex(9)));
    assert_eq!(host.engine.priority("external"), Some(150));
    reload(&mut host, &config);
    assert_eq!(host.engine.priority("external"), Some(200));
}

#[test]
fn what_a_group_announces_can_change() {
    let (mut host, mut config) = three();
    config.groups[0].notify.any = None;
    config.groups[0].notify.fault = Some(sample::command("/group-fault"));
    reload(&mut host, &config);
    set_link(&mut host, false);
    let notices = host.notices();
    let of_group: Vec<_> = notices.iter().filter(|n| n.line.starts_with("GROUP")).collect();
    assert_eq!(of_group.len(), 1);
    assert_eq!(of_group[0].commands, [sample::command("/group-fault")]);
}

#[test]
fn a_renamed_group_is_a_new_one_in_the_state_of_its_members() {
    let (mut host, mut config) = three();
    config.groups[0].name = "new".into();
    reload(&mut host, &config);
    assert_eq!((group_state(&host), host.announced()), (State::Master, vec![]));
}

#[test]
fn the_will_of_a_member_survives_a_reload() {
    // `internal` hears a master as good as itself, `external` hears no master and waits for
    // `internal`.
    let config = sample::nat(200);
    let mut host = Host::new(config.clone());
    let addresses = [IpAddr::from([10, 0, 3, 100])];
    let packet = advert_of([10, 0, 3, 72], &addresses, |c| (c.vrid, c.priority) = (92, 200));
    let (source, destination) = ([10, 0, 3, 72].into(), [224, 0, 0, 18].into());
    let rx = Rx { interface: OTHER, source, destination, hop_limit: 0 };
    for _ in 0..4 {
        host.event(Event::Advert { rx, packet: &packet });
        host.pass(SECOND);
    }
    reload(&mut host, &config);
    // When that master leaves, the last member that heard one decides for both.
    let leaving = advert_of([10, 0, 3, 72], &addresses, |c| (c.vrid, c.priority) = (92, 0));
    host.event(Event::Advert { rx, packet: &leaving });
    host.pass(300 * MS);
    let view = host.engine.view(host.now);
    assert_eq!([0, 1].map(|n| view.instances[n].state), [State::Master; 2]);
}

#[test]
fn a_member_that_hears_a_router_with_other_addresses_does_not_let_its_group_take_over() {
    let mut host = Host::new(sample::nat(200));
    let of_external = [IpAddr::from([10, 0, 2, 1])];
    let as_good = advert_of(PEER, &of_external, |c| (c.vrid, c.priority) = (91, 200));
    // `internal` hears no master and waits for `external`, which hears one.
    for _ in 0..4 {
        host.receive(PEER, &as_good);
        host.pass(SECOND);
    }
    // Then there is one for `internal` as well, with an additional address, and `external` hears
    // none.
    let addresses = [[10, 0, 3, 100], [10, 0, 3, 7]].map(IpAddr::from);
    let other = advert_of([10, 0, 3, 72], &addresses, |c| (c.vrid, c.priority) = (92, 200));
    let (source, destination) = ([10, 0, 3, 72].into(), [224, 0, 0, 18].into());
    let rx = Rx { interface: OTHER, source, destination, hop_limit: 0 };
    for _ in 0..6 {
        host.event(Event::Advert { rx, packet: &other });
        host.pass(SECOND);
    }
    assert_eq!(states_of_two(&host), [State::Backup; 2]);
    host.pass(4 * SECOND);
    assert_eq!(states_of_two(&host), [State::Master; 2]);
}

fn states_of_two(host: &Host) -> [State; 2] {
    let view = host.engine.view(host.now);
    [0, 1].map(|n| view.instances[n].state)
}

#[test]
fn a_group_of_masters_tells_nothing_when_a_member_joins_it_later() {
    let (mut host, mut config) = three();
    let fourth = sample::instance("fourth", "enp0s8", 94, 200, &["10.0.2.4/24"]);
    config.instances.push(fourth);
    config.groups[0].members.push("fourth".into());
    reload(&mut host, &config);
    assert_eq!(group_state(&host), State::Master);
    host.pass(4 * SECOND);
    assert_eq!(host.engine.state("fourth"), Some(State::Master));
    assert!(host.announced().iter().all(|n| !n.starts_with("GROUP")), "{:?}", host.announced());
}

#[test]
fn a_member_that_follows_its_group_names_the_priority_in_force() {
    let mut config = sample::nat(200);
    let (interface, weight) = ("enp0s9".parse().unwrap(), Weight::new(-60, false));
    config.instances[0].track_interfaces.push(model::TrackedInterface { interface, weight });
    let mut host = Host::new(config);
    host.pass(8 * SECOND);
    host.look();
    // The member that has the fault goes first, before the other one has evaluated its trackers.
    set_link(&mut host, false);
    let of_external = |line: &String| line.contains("external");
    assert_eq!(
        host.announced().into_iter().filter(of_external).collect::<Vec<_>>(),
        ["INSTANCE \"external\" FAULT 140"]
    );
}

#[test]
fn parts_of_a_summary_and_of_a_view_are_the_whole_and_the_last_one_says_so() {
    let (host, config) = three();
    let (engine, now) = (&host.engine, host.now);
    let (whole, shown) = (engine.summary(now), engine.view(now));
    let count = config.instances.len() + config.groups.len();
    assert_eq!((whole.instances.len(), whole.groups.len(), count), (3, 1, 4));
    assert!(!whole.interfaces.is_empty());
    for size in 1..=count + 1 {
        let (mut joined, mut next) = engine.summary_part(now, Position::default(), size);
        while let Some(begin) = next {
            let (part, then) = engine.summary_part(now, begin, size);
            (joined, next) = (joined.joined(part), then);
        }
        assert_eq!(joined, whole, "{size}");
        let (mut joined, mut next) = engine.part_of_view(now, Position::default(), size);
        while let Some(begin) = next {
            let (part, then) = engine.part_of_view(now, begin, size);
            (joined, next) = (joined.joined(part), then);
        }
        assert_eq!(joined, shown, "{size}");
    }
}

/// The new member starts when the one that runs has what it waits for.
#[test]
fn a_member_that_a_reload_adds_waits_for_the_script_of_one_that_runs_and_no_longer() {
    let all = |host: &Host| -> Vec<State> {
        host.engine.view(host.now).instances.iter().map(|i| i.state).collect()
    };
    for role in [State::Master, State::Backup] {
        let with = |script: bool| {
            let mut config = sample::nat(200);
            if script {
                sample::track(&mut config.instances[0], "check", 0);
                config.scripts.push(sample::script("check", 1, 1));
            }
            config
        };
        let mut before = with(false);
        let added = before.instances.remove(1);
        before.groups[0].members.retain(|member| *member != added.name);
        let mut host = Host::new(before);
        host.pass(if role == State::Master { 4 * SECOND } else { SECOND });
        assert_eq!(all(&host), [role]);
        reload(&mut host, &with(true));
        assert_eq!(all(&host), [role, State::Init], "{role}");
        host.end_run(RunEnd::Exit(0));
        assert_eq!(all(&host), [role, State::Backup], "{role}");
        host.pass(8 * SECOND);
        assert_eq!(all(&host), [State::Master; 2], "{role}");
        assert_eq!(group_state(&host), State::Master);
    }
}

#[test]
fn a_group_waits_until_the_health_of_every_member_is_known() {
    let mut config = sample::nat(200);
    config.instances.push(sample::instance("third", "enp0s8", 93, 200, &["10.0.2.3/24"]));
    sample::track(&mut config.instances[1], "check", 0);
    config.scripts.push(sample::script("check", 1, 1));
    let mut host = Host::new(config);
    host.pass(8 * SECOND);
    assert_eq!(states(&host), [State::Init, State::Init, State::Master]);
    assert_eq!(group_state(&host), State::Init);
    host.end_run(RunEnd::Exit(0));
    assert_eq!(group_state(&host), State::Backup);
    host.pass(8 * SECOND);
    assert_eq!(states(&host), [State::Master; 3]);
}
