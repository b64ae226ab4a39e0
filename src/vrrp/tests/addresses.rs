//! Addresses that come and go.

use super::*;
use crate::model::address::{AddressFlags, Lifetime};
use crate::plan::{AddressAttributes, Attributes, Settings};

fn removed(text: &str, own: bool) -> Event<'static> {
    Event::Object(Change::address(ETH, prefix(text), false, own))
}

#[test]
fn a_removed_address_is_put_back_at_once_but_not_in_a_fight() {
    let mut host = Host::master();
    for _ in 0..5 {
        host.look();
        host.event(removed("10.0.2.100/24", false));
        assert_eq!(host.ops(), ["+10.0.2.100/24"]);
        assert_eq!(host.frames(), [([10, 0, 2, 100].into(), 5)]);
    }
    // After the sixth removal in a row it is deliberate: no busy loop.
    host.look();
    host.event(removed("10.0.2.100/24", false));
    assert_eq!(host.ops(), Vec::<String>::new());
    host.pass(200 * MS);
    assert_eq!(host.ops(), ["+10.0.2.100/24"]);
    assert_eq!(host.counters().objects_restored, 6);
}

#[test]
fn a_secondary_address_that_the_kernel_drops_with_its_primary_is_put_back() {
    let mut config = failover(200);
    let interface = config.instances[0].interface.clone();
    for vip in ["10.9.0.1/24", "10.9.0.2/24"] {
        config.instances[0].excluded.push(sample::address(vip, &interface));
    }
    let mut host = Host::new(config.clone());
    host.pass(10 * SECOND);
    host.look();
    config.instances[0].excluded.remove(0);
    host.event(Event::Reload(Arc::new(config)));
    assert_eq!(host.ops(), ["-10.9.0.1/24"]);
    host.look();
    // One of these two was requested.
    host.obedient = false;
    host.event(removed("10.9.0.1/24", true));
    host.event(removed("10.9.0.2/24", true));
    assert_eq!(host.ops(), ["+10.9.0.2/24"]);
    let shown = &host.engine.view(host.now).instances[0];
    assert_eq!((shown.objects_wanted, shown.objects_present), (2, 1));
    assert_eq!(shown.counters.objects_restored, 0);
}

#[test]
fn a_removal_by_another_program_counts_as_one_though_ours_is_not_reported_yet() {
    let mut host = Host::master();
    host.hear(PEER, 250);
    host.pass(8 * SECOND);
    assert_eq!(
        (host.state(), host.ops()),
        (State::Master, vec!["-10.0.2.100/24".into(), "+10.0.2.100/24".into()])
    );
    host.look();
    host.event(removed("10.0.2.100/24", false));
    assert_eq!(host.ops(), ["+10.0.2.100/24"]);
    assert_eq!(host.counters().objects_restored, 1);
}

#[test]
fn an_address_whose_removal_is_reported_late_is_announced_only_if_it_was_gone() {
    for (outcome, announced) in
        [(Outcome::Already, 0), (Outcome::Done, 5), (Outcome::Refused(16), 0)]
    {
        let mut host = Host::master();
        host.hear(PEER, 250);
        assert_eq!(host.ops(), ["-10.0.2.100/24"]);
        host.pass(8 * SECOND);
        assert_eq!(host.state(), State::Master);
        host.look();
        // The report of the removal above, or of another one: only the kernel knows.
        host.obedient = false;
        host.event(removed("10.0.2.100/24", true));
        assert_eq!(host.ops(), ["+10.0.2.100/24"]);
        let (token, _) = host.apply();
        host.event(Event::Applied { token, item: 0, outcome });
        assert_eq!(host.frames().iter().map(|(_, count)| count).sum::<u32>(), announced);
    }
}

/// `ip address change`: there is no fight about lifetimes and flags.
#[test]
fn what_another_program_changes_about_an_address_is_left_alone() {
    let mut host = Host::master();
    let attributes = AddressAttributes {
        preferred: Lifetime::For(10 * SECOND),
        valid: Lifetime::For(20 * SECOND),
        ..Default::default()
    };
    let mut change = Change::address(ETH, prefix("10.0.2.100/24"), true, false);
    change.sight.attributes = Some(Box::new(Attributes::Address(attributes)));
    host.event(Event::Object(change));
    host.pass(5 * SECOND);
    assert_eq!((host.ops(), host.state()), (vec![], State::Master));
    assert_eq!(host.counters().objects_restored, 0);
}

#[test]
fn an_address_that_is_not_to_be_tracked_stays_away() {
    let mut config = failover(200);
    config.instances[0].addresses[0].no_track = true;
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    host.look();
    host.event(removed("10.0.2.100/24", false));
    assert_eq!(host.ops(), Vec::<String>::new());
}

#[test]
fn a_virtual_address_that_somebody_adds_to_a_backup_goes() {
    let mut host = Host::backup();
    let event = Event::Object(Change::address(ETH, prefix("10.0.2.100/24"), true, false));
    host.event(event);
    assert_eq!(host.ops(), ["-10.0.2.100/24"]);
}

/// How long a router without any address leaves them to others each time, in seconds, with this error of the kernel.
fn hold_downs(errno: i32, times: usize) -> Vec<u64> {
    let mut host = Host::new(failover(200));
    host.obedient = false;
    let mut all = Vec::new();
    while all.len() < times {
        while host.state() != State::Master {
            host.pass(100 * MS);
        }
        while host.state() == State::Master {
            if host.ops().is_empty() {
                host.pass(10 * MS);
                continue;
            }
            let (token, _) = host.apply();
            host.look();
            host.event(Event::Applied { token, item: 0, outcome: Outcome::Refused(errno) });
        }
        host.look();
        let begin = host.now;
        while host.state() == State::Fault {
            host.pass(100 * MS);
        }
        all.push(host.now.since(begin).as_secs());
    }
    all
}

#[test]
fn a_router_that_cannot_have_its_addresses_leaves_them_to_others_ever_longer() {
    assert_eq!(hold_downs(105, 9), [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    // Without the privilege there is no hope.
    assert_eq!(hold_downs(1, 2), [3600, 3600]);
}

#[test]
fn a_refused_address_is_tried_again_ever_more_seldom() {
    let mut host = Host::new(failover(200));
    host.obedient = false;
    host.pass(3_219 * MS);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let (token, _) = host.apply();
        host.event(Event::Applied { token, item: 0, outcome: Outcome::Refused(16) });
        assert_eq!(host.engine.view(host.now).instances[0].objects_missing.len(), 1);
        host.look();
        let asked = host.now;
        while host.ops().is_empty() {
            host.pass(10 * MS);
        }
        pauses.push(host.now.since(asked).as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600]);
    assert_eq!(host.state(), State::Master);
    let (token, _) = host.apply();
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Done });
    assert_eq!(host.engine.view(host.now).instances[0].objects_present, 1);
}

#[test]
fn a_flapping_link_piles_nothing_up() {
    let mut host = Host::master();
    host.obedient = false;
    for _ in 0..50 {
        host.event(Event::Link(link(ETH, "enp0s8", false)));
        host.event(Event::Link(link(ETH, "enp0s8", true)));
        host.pass(4 * SECOND);
    }
    // One operation is under way, and nothing else was requested.
    assert_eq!(host.ops(), ["-10.0.2.100/24"]);
    let (token, _) = host.apply();
    host.look();
    // The answer arrives when the address is wanted again.
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Done });
    assert_eq!(host.ops(), ["+10.0.2.100/24"]);
}

#[test]
fn answers_that_nobody_waits_for_are_survived() {
    let mut host = Host::master();
    for (token, item) in [(Token(0), 0), (Token(1), 9), (Token(u64::MAX), u32::MAX)] {
        for outcome in [Outcome::Done, Outcome::Already, Outcome::Refused(1)] {
            host.event(Event::Applied { token, item, outcome });
        }
    }
    assert_eq!(host.ops(), Vec::<String>::new());
    assert_eq!(host.state(), State::Master);
}

#[test]
fn static_addresses_are_there_in_every_state() {
    let mut config = failover(100);
    let interface = config.instances[0].interface.clone();
    config.static_addresses.push(sample::address("10.7.0.1/32", &interface));
    let mut host = Host::new(config);
    assert_eq!(host.ops(), ["+10.7.0.1/32"]);
    host.look();
    host.event(removed("10.7.0.1/32", false));
    assert_eq!(host.ops(), ["+10.7.0.1/32"]);
    host.look();
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(host.ops(), ["-10.7.0.1/32"]);
}

#[test]
fn after_an_overrun_the_whole_view_is_compared() {
    let mut host = Host::master();
    // The address disappeared while the kernel dropped events, and so did the second link.
    let mut kernel = host.kernel();
    kernel.links.pop();
    host.event(Event::Kernel(kernel));
    assert_eq!(host.ops(), ["+10.0.2.100/24"]);
    assert_eq!(host.state(), State::Master);
    host.look();
    host.event(Event::Kernel(Snapshot::default()));
    assert_eq!(host.state(), State::Fault);
}

#[test]
fn retained_addresses_stay_until_a_master_is_heard() {
    let start = || {
        let mut host = Host::off();
        host.event(Event::Reload(Arc::new(failover(200))));
        let mut kernel = host.kernel();
        kernel.objects.push(Sight::address(ETH, prefix("10.0.2.100/24")));
        host.event(Event::Kernel(kernel));
        assert_eq!(host.ops(), Vec::<String>::new());
        host
    };
    // No other router: it continues after one interval and the skew, and no operation is needed.
    let mut host = start();
    host.pass(1_219 * MS);
    assert_eq!(host.state(), State::Master);
    assert_eq!(host.ops(), Vec::<String>::new());
    assert_eq!(host.frames(), [([10, 0, 2, 100].into(), 5)]);
    // Another router is master.
    let mut host = start();
    host.hear(PEER, 100);
    assert_eq!((host.state(), host.ops()), (State::Backup, vec!["-10.0.2.100/24".to_owned()]));
    // Unable to take part.
    let mut host = start();
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    assert_eq!((host.state(), host.ops()), (State::Fault, vec!["-10.0.2.100/24".to_owned()]));
}

/// Objects left by an earlier process have that process's attributes, possibly from an older configuration.
#[test]
fn a_master_corrects_what_it_adopts_and_nobody_else_does() {
    let start = |attributes: AddressAttributes, priority: u8| {
        let mut config = failover(priority);
        config.instances[0].addresses[0].label = Some("enp0s8:vip".into());
        let mut host = Host::off();
        host.event(Event::Reload(Arc::new(config)));
        let mut kernel = host.kernel();
        let attributes = Some(Box::new(Attributes::Address(attributes)));
        let sight = Sight::address(ETH, prefix("10.0.2.100/24"));
        kernel.objects.push(Sight { attributes, ..sight });
        host.event(Event::Kernel(kernel));
        assert_eq!(host.ops(), Vec::<String>::new());
        host
    };
    let label = |label: &str| AddressAttributes { label: Some(label.into()), ..Default::default() };
    let right = label("enp0s8:vip");
    let until = AddressAttributes { valid: Lifetime::For(1000 * SECOND), ..right.clone() };
    let flags = AddressFlags { no_prefix_route: true, ..Default::default() };
    for (found, corrected) in [
        (right.clone(), false),
        (label("enp0s8:old"), true),
        (AddressAttributes { scope: 253, ..right.clone() }, true),
        (AddressAttributes { broadcast: Some([10, 0, 2, 255].into()), ..right.clone() }, true),
        (AddressAttributes { peer: Some([10, 0, 2, 7].into()), ..right.clone() }, true),
        (AddressAttributes { flags, ..right.clone() }, true),
        (until, true),
    ] {
        let mut host = start(found.clone(), 200);
        host.pass(10 * SECOND);
        assert_eq!(host.state(), State::Master);
        let want: &[&str] = if corrected { &["=10.0.2.100/24"] } else { &[] };
        assert_eq!(host.ops(), want, "{found:?}");
        // A backup leaves it unchanged until it removes it.
        let mut host = start(found, 100);
        host.hear(PEER, 200);
        assert_eq!(host.ops(), ["-10.0.2.100/24"]);
    }
}

/// A master whose address is replaced by a reload, which the kernel refuses after it has removed the old one; `told`: its
/// event arrives before the answer.
fn refused_replacement(told: bool) -> Host {
    let mut host = Host::master();
    host.obedient = false;
    let mut config = failover(200);
    config.instances[0].addresses[0].scope = 253;
    host.event(Event::Reload(Arc::new(config)));
    let (token, _) = host.apply();
    assert_eq!(host.ops(), ["=10.0.2.100/24"]);
    let answer = || Event::Applied { token, item: 0, outcome: Outcome::Refused(22) };
    if told {
        host.event(removed("10.0.2.100/24", true));
        host.event(answer());
    } else {
        host.event(answer());
        host.event(removed("10.0.2.100/24", true));
    }
    host.look();
    host
}

#[test]
fn a_refused_replacement_is_an_addition_and_waits_whatever_its_own_attempts_change() {
    for told in [true, false] {
        let mut host = refused_replacement(told);
        let begin = host.now;
        // Each attempt sets `promote_secondaries` and resets it.
        for promote in [1, 0, 1, 0] {
            let settings = Settings([None, None, None, Some(promote)]);
            host.event(Event::Link(Link { settings, ..link(ETH, "enp0s8", true) }));
        }
        assert_eq!(host.ops(), Vec::<String>::new(), "told: {told}");
        while host.ops().is_empty() {
            host.pass(MS);
        }
        assert_eq!(host.now.since(begin).as_millis(), 100, "told: {told}");
        assert_eq!(host.ops(), ["+10.0.2.100/24"], "the old one is gone; told: {told}");
        let (token, _) = host.apply();
        host.event(Event::Applied { token, item: 0, outcome: Outcome::Refused(22) });
        host.look();
        host.event(Event::Reload(Arc::new(failover(200))));
        assert_eq!(host.ops(), ["+10.0.2.100/24"], "what is asked for now was not refused");
    }
}

#[test]
fn stopping_says_goodbye_removes_and_ends() {
    let mut host = Host::master();
    host.obedient = false;
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(host.priorities(), [0]);
    assert_eq!(host.ops(), ["-10.0.2.100/24"]);
    assert!(!host.seen.contains(&Action::Done));
    let (token, _) = host.apply();
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Done });
    assert_eq!(host.seen.last(), Some(&Action::Done));
    // Told to keep the addresses, it sends no farewell and removes nothing.
    let mut host = Host::master();
    host.event(Event::Stop { keep_addresses: true });
    assert_eq!((host.priorities(), host.ops()), (vec![], vec![]));
    assert_eq!(host.seen.last(), Some(&Action::Done));
    // Stopped before it started.
    let mut host = Host::off();
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(host.seen, [Action::Done]);
}

/// Three virtual addresses, one of which is on the interface before anything starts.
fn one_of_three(mut config: Vrrp) -> Host {
    let vips = ["10.0.2.100/24", "10.0.2.101/24", "10.0.2.102/24"];
    config.instances[0] = sample::instance("VRRP1", "enp0s8", 41, 100, &vips);
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config)));
    let mut kernel = host.kernel();
    kernel.objects.push(Sight::address(ETH, prefix("10.0.2.101/24")));
    host.event(Event::Kernel(kernel));
    host
}

fn hear_three(host: &mut Host, priority: u8) {
    let addresses = [100, 101, 102].map(|last| IpAddr::from([10, 0, 2, last]));
    let packet = advert_of(PEER, &addresses, |c| c.priority = priority);
    host.receive(PEER, &packet);
}

#[test]
fn what_is_retained_is_kept_and_never_completed() {
    let mut host = one_of_three(failover(100));
    host.pass(500 * MS);
    assert_eq!((host.state(), host.ops()), (State::Backup, vec![]));
    // Another program removes it: it is not restored either.
    let taken = prefix("10.0.2.101/24");
    host.event(Event::Object(Change::address(ETH, taken, false, false)));
    assert_eq!(host.ops(), [""; 0]);
    host.event(Event::Object(Change::address(ETH, taken, true, false)));
    hear_three(&mut host, 200);
    assert_eq!(host.ops(), ["-10.0.2.101/24"]);
    // Without a master it stays, and becoming master completes the others.
    let mut host = one_of_three(failover(100));
    host.pass(2 * SECOND);
    assert_eq!(host.state(), State::Master);
    assert_eq!(host.ops(), ["+10.0.2.100/24", "+10.0.2.102/24"]);
}

#[test]
fn adverts_are_heard_during_the_startup_delay() {
    let mut config = failover(100);
    config.startup_delay = 10 * SECOND;
    let mut host = one_of_three(config);
    host.pass(SECOND);
    hear_three(&mut host, 200);
    assert_eq!((host.state(), host.ops()), (State::Backup, vec!["-10.0.2.101/24".to_owned()]));
    // The master goes on until after the delay: no takeover before it has been silent for long enough.
    for _ in 0..12 {
        host.pass(SECOND);
        hear_three(&mut host, 200);
    }
    host.pass(3 * SECOND);
    assert_eq!(host.state(), State::Backup);
    host.pass(SECOND);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn nobody_becomes_master_during_the_startup_delay_even_if_its_master_leaves() {
    let mut config = failover(100);
    config.startup_delay = 10 * SECOND;
    let mut host = Host::new(config);
    host.pass(SECOND);
    host.hear(PEER, 0);
    host.pass(9 * SECOND + 3 * SECOND);
    assert_eq!(host.state(), State::Backup);
    host.pass(SECOND);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn an_instance_that_a_reload_adds_keeps_what_is_there_and_adds_nothing() {
    let mut config = failover(100);
    config.instances[0] = sample::instance("other", "enp0s9", 7, 100, &["10.0.3.7/24"]);
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config.clone())));
    let mut kernel = host.kernel();
    kernel.objects.push(Sight::address(ETH, prefix("10.0.2.101/24")));
    host.event(Event::Kernel(kernel));
    host.pass(5 * SECOND);
    host.look();
    let vips = ["10.0.2.100/24", "10.0.2.101/24"];
    config.instances.push(sample::instance("VRRP1", "enp0s8", 41, 100, &vips));
    host.event(Event::Reload(Arc::new(config)));
    host.pass(500 * MS);
    assert_eq!(host.ops(), [""; 0]);
    let addresses = [100, 101].map(|last| IpAddr::from([10, 0, 2, last]));
    host.receive(PEER, &advert_of(PEER, &addresses, |_| {}));
    assert_eq!(host.ops(), ["-10.0.2.101/24"]);
}

#[test]
fn a_refused_addition_does_not_put_off_the_removal() {
    let mut host = Host::new(failover(200));
    host.obedient = false;
    host.pass(4 * SECOND);
    let (token, ops) = host.apply();
    assert_eq!(ops.len(), 1);
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Refused(16) });
    // Another program added it before the next attempt was due.
    host.event(Event::Object(Change::address(ETH, prefix("10.0.2.100/24"), true, false)));
    host.look();
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(host.ops(), ["-10.0.2.100/24"]);
    assert!(!host.look().contains(&Action::Done), "before the kernel has answered");
}

#[test]
fn an_address_that_others_remove_while_its_removal_is_refused_is_added_again() {
    let mut host = Host::master();
    let token = host.leave_and_return();
    host.event(removed("10.0.2.100/24", false));
    host.look();
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Refused(16) });
    while host.ops().is_empty() {
        host.pass(MS);
        assert!(host.now.since(Instant::ZERO) < 3600 * SECOND, "it is not added");
    }
    assert_eq!(host.ops(), ["+10.0.2.100/24"]);
}
