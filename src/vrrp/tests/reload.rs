//! From one configuration to the next.

use super::*;

/// A master of two instances on one link.
fn two() -> (Host, Vrrp) {
    let mut config = failover(200);
    config.instances.push(sample::instance("VRRP2", "enp0s8", 42, 200, &["10.0.2.110/24"]));
    let mut host = Host::new(config.clone());
    host.pass(20 * SECOND);
    host.look();
    (host, config)
}

/// Reloads and returns the actions, without reports.
fn reload(host: &mut Host, config: &Vrrp) -> Vec<Action> {
    host.event(Event::Reload(Arc::new(config.clone())));
    host.seen.clone().into_iter().filter(|a| *a != Action::Report).collect()
}

fn masters(host: &Host) -> BTreeSet<String> {
    let view = host.engine.view(host.now);
    let masters = view.instances.iter().filter(|i| i.state == State::Master);
    masters.map(|i| i.name.to_string()).collect()
}

#[test]
fn what_is_the_same_is_not_touched() {
    let (mut host, config) = two();
    let deadline = host.engine.deadline();
    assert_eq!(reload(&mut host, &config), []);
    assert_eq!(host.engine.deadline(), deadline);
    let mut other = config.clone();
    other.instances.reverse();
    assert_eq!(reload(&mut host, &other), []);
    for instance in &mut other.instances {
        instance.name = format!("new {}", instance.name).into();
    }
    assert_eq!(reload(&mut host, &other), []);
    assert_eq!(masters(&host).len(), 2);
    assert_eq!(host.engine.deadline(), deadline);
}

#[test]
fn an_address_that_moves_between_masters_is_no_operation() {
    let (mut host, mut config) = two();
    let moved = config.instances[0].addresses[0].clone();
    config.instances[0].addresses[0] = config.instances[1].addresses[0].clone();
    config.instances[1].addresses[0] = moved;
    assert_eq!(reload(&mut host, &config), []);
    // Swapped virtual router ids come to the same.
    let vrid = config.instances[0].vrid;
    config.instances[0].vrid = config.instances[1].vrid;
    config.instances[1].vrid = vrid;
    assert_eq!(reload(&mut host, &config), []);
    assert_eq!(masters(&host).len(), 2);
}

#[test]
fn differences_are_applied_as_differences() {
    let (mut host, mut config) = two();
    let interface = config.instances[0].interface.clone();
    config.instances[0].excluded.push(sample::address("10.0.2.101/24", &interface));
    reload(&mut host, &config);
    assert_eq!(host.ops(), ["+10.0.2.101/24"]);
    assert_eq!(host.frames(), [([10, 0, 2, 101].into(), 5)]);
    host.look();
    config.instances[0].excluded.clear();
    reload(&mut host, &config);
    assert_eq!(host.ops(), ["-10.0.2.101/24"]);
    // A different attribute of an existing address: it has to be removed and added again.
    host.look();
    config.instances[0].addresses[0].label = Some("enp0s8:v".into());
    reload(&mut host, &config);
    assert_eq!(host.ops(), ["=10.0.2.100/24"]);
    host.look();
    assert_eq!(reload(&mut host, &config), []);
    assert_eq!(masters(&host).len(), 2);
}

#[test]
fn additions_come_before_removals() {
    let (mut host, mut config) = two();
    config.instances[0].addresses[0].prefix = prefix("10.0.2.105/24");
    reload(&mut host, &config);
    assert_eq!(host.ops(), ["+10.0.2.105/24", "-10.0.2.100/24"]);
}

#[test]
fn an_instance_that_is_removed_says_goodbye() {
    let (mut host, config) = two();
    let mut fewer = config.clone();
    fewer.instances.remove(1);
    reload(&mut host, &fewer);
    assert_eq!(host.priorities(), [0]);
    assert_eq!(host.ops(), ["-10.0.2.110/24"]);
    assert_eq!(host.announced(), ["INSTANCE \"VRRP2\" FAULT 200"]);
    // If it is configured again, it starts as a new instance.
    host.look();
    reload(&mut host, &config);
    assert_eq!(host.announced(), ["INSTANCE \"VRRP2\" BACKUP 200"]);
    host.pass(4 * SECOND);
    assert_eq!(masters(&host).len(), 2);
    let mut quiet = config.clone();
    quiet.instances[1].notify_deleted = true;
    reload(&mut host, &quiet);
    host.look();
    reload(&mut host, &fewer);
    assert_eq!(host.announced(), ["INSTANCE \"VRRP2\" DELETED 200"]);
}

#[test]
fn an_instance_that_returns_at_once_waits_like_a_new_one() {
    let (mut host, config) = two();
    let mut without = config.clone();
    let gone = without.instances.pop().unwrap();
    host.obedient = false;
    let removed = reload(&mut host, &without);
    assert!(!removed.is_empty());
    // The address is still there: the kernel has not answered yet.
    reload(&mut host, &config);
    host.obedient = true;
    // One whose address stays would wait for one interval only.
    host.pass(2 * SECOND);
    assert!(!masters(&host).contains(gone.name.as_str()));
    host.pass(2 * SECOND);
    assert!(masters(&host).contains(gone.name.as_str()));
}

#[test]
fn an_instance_that_moves_says_farewell_where_it_was_and_elects_where_it_comes() {
    type Change = fn(&mut model::Instance);
    let changes: [Change; 3] = [
        |i| i.vrid = Vrid::new(77).unwrap(),
        |i| i.interface = "enp0s9".parse().unwrap(),
        |i| (i.version, i.authentication) = (Version::V3, Authentication::None),
    ];
    for change in changes {
        let (mut host, mut config) = two();
        change(&mut config.instances[0]);
        let actions = reload(&mut host, &config);
        let sent = actions.iter().filter_map(|a| match a {
            Action::SendAdvert { interface, .. } => Some(*interface),
            _ => None,
        });
        // With the old interface, VRID and version.
        assert_eq!(sent.collect::<Vec<_>>(), [ETH]);
        let packets: Vec<_> = host.packets.iter().map(|p| p[ip::HEADER..][..3].to_vec()).collect();
        assert_eq!(packets, [[0x21, 41, 0]]);
        assert_eq!(host.ops(), ["-10.0.2.100/24"]);
        assert_eq!(masters(&host), ["VRRP2".to_owned()].into());
        assert_eq!(host.announced(), ["INSTANCE \"VRRP1\" BACKUP 200"]);
        // No other router: it becomes master after the whole master-down time, not before.
        host.look();
        host.pass(3 * SECOND);
        assert_eq!(masters(&host).len(), 1);
        host.pass(SECOND);
        assert_eq!((masters(&host).len(), host.ops()), (2, vec!["+10.0.2.100/24".to_owned()]));
    }
}

#[test]
fn an_instance_that_changes_its_family_says_farewell_in_the_old_one() {
    let (mut host, mut config) = two();
    let local = prefix("fe80::71/64");
    host.event(Event::Object(Change::address(ETH, local, true, false)));
    let instance = &mut config.instances[0];
    (instance.family, instance.version) = (Family::V6, Version::V3);
    instance.authentication = Authentication::None;
    instance.destination = "ff02::12".parse().unwrap();
    let interface = instance.interface.clone();
    instance.addresses = vec![sample::address("fe80::100/64", &interface)];
    reload(&mut host, &config);
    // Of version 2, VRID 41, priority 0, with an IPv4 header.
    let packets: Vec<_> = host.packets.iter().map(|p| p[ip::HEADER..][..3].to_vec()).collect();
    assert_eq!(packets, [[0x21, 41, 0]]);
    assert_eq!(host.ops(), ["-10.0.2.100/24"]);
    host.look();
    host.pass(3 * SECOND);
    assert_eq!((masters(&host), host.ops()), (["VRRP2".to_owned()].into(), vec![]));
    host.pass(SECOND);
    assert_eq!((masters(&host).len(), host.ops()), (2, vec!["+fe80::100/64".to_owned()]));
}

#[test]
fn a_living_master_is_followed_where_an_instance_comes() {
    let (mut host, mut config) = two();
    config.instances[0].vrid = Vrid::new(77).unwrap();
    reload(&mut host, &config);
    for _ in 0..5 {
        host.receive(PEER, &advert(PEER, |c| (c.vrid, c.priority) = (77, 250)));
        host.pass(SECOND);
    }
    assert_eq!(masters(&host), ["VRRP2".to_owned()].into());
    assert_eq!(host.frames(), []);
}

#[test]
fn a_renamed_instance_keeps_its_role_and_tells_nobody() {
    let (mut host, mut config) = two();
    let due = host.engine.deadline();
    config.instances[0].name = "new".into();
    assert_eq!(reload(&mut host, &config), []);
    assert_eq!((masters(&host).len(), host.engine.deadline()), (2, due));
}

#[test]
fn another_interface_is_listened_to_before_the_old_one_is_left() {
    let (mut host, mut config) = two();
    config.instances.remove(1);
    reload(&mut host, &config);
    host.look();
    let interface: IfName = "enp0s9".parse().unwrap();
    config.instances[0].interface = interface.clone();
    config.instances[0].addresses[0].interface = interface;
    let actions = reload(&mut host, &config);
    let group = "224.0.0.18".parse().unwrap();
    let place = |action: Action| actions.iter().position(|a| *a == action).unwrap();
    let joined = place(Action::Join { interface: OTHER, group });
    assert!(joined < place(Action::Leave { interface: ETH, group }));
    assert_eq!(host.ops(), ["-10.0.2.100/24"]);
    host.look();
    host.pass(4 * SECOND);
    assert_eq!((masters(&host).len(), host.ops()), (1, vec!["+10.0.2.100/24".to_owned()]));
}

#[test]
fn a_backup_keeps_the_interval_of_its_master_when_its_own_changes() {
    let mut config = failover(100);
    config.instances[0].version = Version::V3;
    config.instances[0].authentication = Authentication::None;
    let mut host = Host::new(config.clone());
    let heard = |host: &mut Host, priority: u8| {
        let packet = advert(PEER, |c| {
            (c.version, c.priority, c.auth) = (3, priority, None);
            c.interval = 200 * MS;
        });
        host.receive(PEER, &packet);
    };
    heard(&mut host, 200);
    config.instances[0].advert_int = 4 * SECOND;
    reload(&mut host, &config);
    heard(&mut host, 0);
    // (256 - 100) / 256 of its interval.
    host.pass(122 * MS);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn an_interval_changes_in_phase() {
    let (mut host, mut config) = two();
    let due = host.engine.deadline().unwrap();
    for instance in &mut config.instances {
        instance.advert_int = 3 * SECOND;
    }
    reload(&mut host, &config);
    assert_eq!(host.engine.deadline(), Some(due + 2 * SECOND));
}

#[test]
fn a_new_script_does_not_disturb_and_an_old_one_keeps_its_condition() {
    let (mut host, mut config) = two();
    config.scripts.push(sample::script("chk", 1, 1));
    sample::track(&mut config.instances[0], "chk", 0);
    reload(&mut host, &config);
    assert_eq!(masters(&host).len(), 2);
    let run = host.seen.iter().find_map(|a| match a {
        Action::RunScript { run, .. } => Some(*run),
        _ => None,
    });
    host.event(Event::Ran { run: run.unwrap(), end: RunEnd::Exit(1) });
    assert_eq!(masters(&host).len(), 1);
    config.scripts[0].rise = 5;
    reload(&mut host, &config);
    assert_eq!(masters(&host).len(), 1);
    // Not tracked any more: the fault is gone, and a running script is ended.
    host.pass(SECOND);
    let running = host.seen.iter().rev().find_map(|a| match a {
        Action::RunScript { run, .. } => Some(*run),
        _ => None,
    });
    config.instances[0].track_scripts.clear();
    config.scripts.clear();
    let actions = reload(&mut host, &config);
    assert_ne!(running, run);
    assert!(actions.contains(&Action::EndScript(running.unwrap())), "{actions:?}");
    host.pass(4 * SECOND);
    assert_eq!(masters(&host).len(), 2);
}

#[test]
fn a_script_with_another_command_is_another_script() {
    let (mut host, mut config) = two();
    let started = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::RunScript { run, .. } => Some(*run),
            _ => None,
        })
    };
    config.scripts.push(sample::script("chk", 1, 1));
    sample::track(&mut config.instances[0], "chk", 0);
    let run = started(&reload(&mut host, &config));
    host.event(Event::Ran { run: run.unwrap(), end: RunEnd::Exit(1) });
    assert_eq!(masters(&host).len(), 1);
    // A script with other settings keeps its schedule and its result.
    host.look();
    config.scripts[0].fall = 3;
    assert_eq!(started(&reload(&mut host, &config)), None);
    // The failure was of another program: this one runs at once.
    host.look();
    config.scripts[0].command = sample::command("/bin/other");
    let run = started(&reload(&mut host, &config));
    host.event(Event::Ran { run: run.unwrap(), end: RunEnd::Exit(0) });
    host.pass(4 * SECOND);
    assert_eq!(masters(&host).len(), 2);
}

#[test]
fn a_master_does_not_leave_because_its_script_got_another_command() {
    for init_fail in [false, true] {
        let (mut host, mut config) = two();
        config.scripts.push(sample::script("chk", 2, 3));
        sample::track(&mut config.instances[0], "chk", 0);
        sample::track(&mut config.instances[1], "chk", 20);
        reload(&mut host, &config);
        let end = |host: &mut Host, end: RunEnd| {
            let run = host.seen.iter().rev().find_map(|a| match a {
                Action::RunScript { run, .. } => Some(*run),
                _ => None,
            });
            host.event(Event::Ran { run: run.unwrap(), end });
        };
        end(&mut host, RunEnd::Exit(0));
        host.look();
        config.scripts[0].command = sample::command("/bin/other");
        config.scripts[0].init_fail = init_fail;
        let priorities = |host: &Host| {
            [0, 1].map(|n| host.engine.view(host.now).instances[n].effective_priority)
        };
        let before = priorities(&host);
        reload(&mut host, &config);
        assert_eq!((masters(&host).len(), priorities(&host)), (2, before), "{init_fail}");
        assert_eq!((host.ops(), host.announced()), (vec![], vec![]));
        // The first result of the new program alone decides.
        end(&mut host, RunEnd::Exit(1));
        assert_eq!(masters(&host).len(), 1);
        host.look();
        host.pass(SECOND);
        end(&mut host, RunEnd::Exit(0));
        assert_eq!(priorities(&host)[1], before[1] - 20);
    }
}

#[test]
fn a_member_that_joins_a_group_of_masters_becomes_one() {
    let mut config = sample::nat(200);
    let internal = config.instances.pop().unwrap();
    config.groups.clear();
    let mut host = Host::new(config.clone());
    host.pass(4 * SECOND);
    config.instances.push(internal);
    config.groups.push(sample::group("VRRP1", &["external", "internal"]));
    reload(&mut host, &config);
    host.pass(4 * SECOND);
    assert_eq!(masters(&host).len(), 2);
}

/// A backup with a worse master, three seconds into its delay of five; the reload, and when it is master after that.
fn reloaded_in_the_delay(change: impl FnOnce(&mut model::Instance)) -> Duration {
    let mut config = failover(200);
    config.instances[0].preempt = Preempt::After(5 * SECOND);
    let mut host = Host::new(config.clone());
    for _ in 0..7 {
        host.hear(PEER, 100);
        host.pass(500 * MS);
    }
    change(&mut config.instances[0]);
    reload(&mut host, &config);
    let from = host.now;
    while host.state() != State::Master {
        assert!(host.now.since(from) < 20 * SECOND);
        host.hear(PEER, 100);
        host.pass(500 * MS);
    }
    host.now.since(from)
}

#[test]
fn a_delay_before_preemption_outlives_a_reload_that_leaves_it_alone() {
    let unchanged = reloaded_in_the_delay(|_| ());
    assert!(unchanged < 6 * SECOND, "{unchanged:?}");
    assert_eq!(
        reloaded_in_the_delay(|instance| instance.priority = Priority::new(190).unwrap()),
        unchanged
    );
    let changed = reloaded_in_the_delay(|instance| instance.preempt = Preempt::After(6 * SECOND));
    assert!(changed > 6 * SECOND, "{changed:?}");
}

#[test]
fn a_backup_of_version_2_waits_by_a_new_interval_at_once() {
    let mut config = failover(100);
    let mut host = Host::new(config.clone());
    host.hear(PEER, 200);
    config.instances[0].advert_int = 2 * SECOND;
    reload(&mut host, &config);
    // Three intervals of two seconds, and the skew.
    host.pass(6_500 * MS);
    assert_eq!(host.state(), State::Backup);
    host.pass(SECOND);
    assert_eq!(host.state(), State::Master);
}
