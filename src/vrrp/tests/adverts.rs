//! Elections, and adverts that are not what they seem.

use super::*;

/// What is wrong, the packet, and the counter of this reason.
type Bad = (&'static str, Vec<u8>, fn(&Counters) -> u64);

/// Everything that can be wrong with an advert.
fn bad_adverts(priority: u8) -> Vec<Bad> {
    let good = || advert(PEER, |c| c.priority = priority);
    let with = |at: usize, to: u8| {
        let mut packet = good();
        packet[at] = to;
        packet
    };
    let two = [IpAddr::from([10, 0, 2, 100]), IpAddr::from([10, 0, 2, 101])];
    let more = advert_of(PEER, &two, |c| c.priority = priority);
    let mut short = good();
    short.truncate(short.len() - 4);
    short[3] -= 4;
    let mut long = good();
    long.extend([0; 4]);
    long[3] += 4;
    vec![
        ("TTL", with(8, 254), |c| c.bad_ttl),
        ("version", with(20, 0x41), |c| c.bad_version),
        ("version 3", advert(PEER, |c| (c.version, c.priority) = (3, priority)), |c| c.bad_version),
        ("type", with(20, 0x22), |c| c.bad_type),
        ("checksum", with(26, 0), |c| c.bad_checksum),
        ("too short", short, |c| c.bad_length),
        ("too long", long, |c| c.bad_length),
        ("count", with(23, 2), |c| c.bad_length),
        ("another count", more, |c| c.bad_address_count),
        ("destination", with(19, 19), |c| c.bad_destination),
        ("interval", advert(PEER, |c| (c.interval, c.priority) = (2 * SECOND, priority)), |c| {
            c.bad_interval
        }),
        ("no authentication", advert(PEER, |c| (c.auth, c.priority) = (None, priority)), |c| {
            c.auth_mismatch
        }),
        (
            "authentication type",
            advert(PEER, |c| {
                c.auth = Some(wire::Auth { kind: 9, data: *b"1066\0\0\0\0" });
                c.priority = priority;
            }),
            |c| c.bad_auth_type,
        ),
        (
            "password",
            advert(PEER, |c| {
                c.auth = Some(wire::Auth { kind: 1, data: *b"1067\0\0\0\0" });
                c.priority = priority;
            }),
            |c| c.auth_failure,
        ),
    ]
}

#[test]
fn bad_adverts_are_counted_by_reason_and_move_nothing() {
    for priority in [0, 255] {
        for (what, packet, counter) in bad_adverts(priority) {
            let mut host = Host::master();
            host.receive(PEER, &packet);
            assert_eq!(counter(&host.counters()), 1, "{what}");
            assert_eq!(host.counters().adverts_received, 0, "{what}");
            host.pass(900 * MS);
            assert_eq!(host.state(), State::Master, "{what}");
            assert_eq!(host.ops(), Vec::<String>::new(), "{what}");
        }
    }
}

#[test]
fn bad_adverts_do_not_keep_a_backup_waiting() {
    for (what, packet, counter) in bad_adverts(200) {
        // Another number of addresses is the one thing that real masters differ in for a while.
        if what == "another count" {
            continue;
        }
        let mut host = Host::backup();
        for _ in 0..35 {
            host.pass(100 * MS);
            host.receive(PEER, &packet);
        }
        assert_eq!(counter(&host.counters()), 35, "{what}");
        host.pass(110 * MS);
        assert_eq!(host.state(), State::Master, "{what}");
    }
}

#[test]
fn packets_for_nobody_are_counted_and_ignored() {
    let mut host = Host::master();
    host.receive(PEER, &advert(PEER, |c| (c.vrid, c.priority) = (42, 255)));
    host.receive(PEER, &advert(PEER, |c| (c.vrid, c.priority) = (0, 255)));
    assert_eq!(host.engine.view(host.now).unknown_vrid, 2);
    for length in 0..20 {
        host.receive(PEER, &advert(PEER, |_| {})[..length]);
    }
    assert_eq!(host.engine.view(host.now).malformed, 20);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn a_master_with_other_addresses_is_lived_with_but_not_for_ever() {
    let two = [IpAddr::from([10, 0, 2, 100]), IpAddr::from([10, 0, 2, 101])];
    let other = |priority| advert_of(PEER, &two, |c| c.priority = priority);
    // A backup whose master got one more address first continues to follow it.
    let mut host = Host::backup();
    for _ in 0..10 {
        host.pass(SECOND);
        host.receive(PEER, &other(200));
    }
    assert_eq!(host.state(), State::Backup);
    // A master gives way to a better one after ten intervals, not to a handful of packets.
    let mut host = Host::master();
    for _ in 0..9 {
        host.receive(PEER, &other(250));
        host.pass(SECOND);
    }
    assert_eq!(host.state(), State::Master);
    host.receive(PEER, &other(250));
    assert_eq!(host.state(), State::Backup);
    // A flood is not a master, nor is a lower one better.
    for (pause, priority) in [(MS, 250), (SECOND, 150)] {
        let mut host = Host::master();
        for _ in 0..100 {
            host.receive(PEER, &other(priority));
            host.pass(pause);
        }
        assert_eq!(host.state(), State::Master);
    }
}

#[test]
fn a_master_answers_and_yields_as_the_standard_says() {
    // Priority 0: an advert is sent at once.
    let mut host = Host::master();
    host.hear(PEER, 0);
    assert_eq!(host.priorities(), [200]);
    // Lower: the same, and the segment is corrected, at once and again.
    host.look();
    host.hear(PEER, 100);
    assert_eq!(host.priorities(), [200]);
    assert_eq!(host.frames(), [([10, 0, 2, 100].into(), 5)]);
    host.look();
    host.pass(5 * SECOND);
    assert_eq!(host.frames(), [([10, 0, 2, 100].into(), 5)]);
    // Equal priority: the higher address wins.
    host.hear([10, 0, 2, 70], 200);
    assert_eq!(host.state(), State::Master);
    host.look();
    host.hear(PEER, 200);
    assert_eq!(host.state(), State::Backup);
    assert_eq!(host.ops(), ["-10.0.2.100/24"]);
    assert_eq!(host.priorities(), Vec::<u8>::new());
    // Our own address: an echo of our advert.
    let mut host = Host::master();
    host.hear([10, 0, 2, 71], 200);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn a_master_may_be_told_to_keep_quiet_or_to_speak_last() {
    let mut config = failover(200);
    config.instances[0].lower_prio_no_advert = true;
    config.instances[0].higher_prio_send_advert = true;
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    host.look();
    // However often: a farewell is answered nevertheless.
    for _ in 0..5 {
        host.hear(PEER, 100);
    }
    assert_eq!(host.priorities(), Vec::<u8>::new());
    host.hear(PEER, 0);
    assert_eq!(host.priorities(), [200]);
    for priority in [0, 0, 0, 100] {
        host.hear(PEER, priority);
    }
    assert_eq!(host.priorities(), [200, 200]);
    host.pass(100 * MS);
    assert_eq!(host.priorities(), [200]);
    host.hear(PEER, 250);
    assert_eq!(host.priorities(), [200]);
    assert_eq!(host.state(), State::Backup);
}

#[test]
fn a_master_that_leaves_to_one_with_other_addresses_speaks_last_too() {
    let mut config = failover(200);
    config.instances[0].higher_prio_send_advert = true;
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    let addresses = [100, 101].map(|last| IpAddr::from([10, 0, 2, last]));
    let packet = advert_of(PEER, &addresses, |c| c.priority = 250);
    for _ in 0..9 {
        host.pass(SECOND);
        host.receive(PEER, &packet);
        assert_eq!(host.state(), State::Master);
    }
    host.pass(SECOND - MS);
    host.look();
    host.receive(PEER, &packet);
    assert_eq!(host.state(), State::Backup);
    assert_eq!(host.priorities(), [200]);
}

#[test]
fn a_backup_waits_for_three_intervals_and_the_skew() {
    let mut host = Host::backup();
    host.pass(3_609 * MS);
    assert_eq!(host.state(), State::Backup);
    host.pass(MS);
    assert_eq!(host.state(), State::Master);
    // The advert comes first, before any request to the kernel.
    let first = host.seen.iter().position(|a| matches!(a, Action::SendAdvert { .. }));
    let apply = host.seen.iter().position(|a| matches!(a, Action::Apply { .. }));
    assert!(first.unwrap() < apply.unwrap());
    // Priority 0 leaves only the skew.
    let mut host = Host::backup();
    host.hear(PEER, 0);
    host.pass(609 * MS);
    assert_eq!(host.state(), State::Backup);
    host.pass(MS);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn farewells_do_not_put_off_a_takeover() {
    let mut host = Host::backup();
    for _ in 0..60 {
        host.hear(PEER, 0);
        host.pass(10 * MS);
    }
    assert_eq!(host.state(), State::Backup);
    host.pass(10 * MS);
    assert_eq!(host.state(), State::Master);
    // Nor when the master-down timer is about to expire.
    let mut host = Host::backup();
    host.pass(3_600 * MS);
    host.hear(PEER, 0);
    host.pass(10 * MS);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn adverts_keep_their_phase() {
    let mut host = Host::backup();
    host.pass(3_610 * MS);
    let start = host.now;
    host.look();
    // Handled late, the next one is still due when it was due.
    let due = host.engine.deadline().unwrap();
    host.now = due + 300 * MS;
    host.event(Event::Timer);
    assert_eq!(host.engine.deadline(), Some(due + SECOND));
    // After a long stall one advert goes out, not all that were missed.
    host.now = due + 10 * SECOND;
    host.look();
    host.event(Event::Timer);
    assert_eq!(host.priorities(), [100]);
    assert!(host.now.since(start) > 10 * SECOND);
}

#[test]
fn adverts_that_the_socket_refuses_are_counted_beside_those_sent() {
    let mut host = Host::master();
    let instance = InstanceId(0);
    let sent = host.counters().adverts_sent;
    for _ in 0..2 {
        let destination = IpAddr::from([224, 0, 0, 18]);
        host.event(Event::Unsent { instance, destination, errno: 100 });
    }
    assert_eq!((host.counters().adverts_unsent, host.counters().adverts_sent), (2, sent));
    assert_eq!(host.state(), State::Master);
}

#[test]
fn a_better_backup_preempts_unless_told_otherwise() {
    let lower = |preempt| {
        let mut config = failover(200);
        config.instances[0].preempt = preempt;
        let mut host = Host::new(config);
        for _ in 0..40 {
            host.pass(500 * MS);
            if host.state() == State::Master {
                return Some(host.now.since(Instant::from_nanos(5_000_000_000)));
            }
            host.hear(PEER, 100);
        }
        None
    };
    assert_eq!(lower(Preempt::After(Duration::ZERO)), Some(3_500 * MS));
    assert_eq!(lower(Preempt::Never), None);
    let delayed = lower(Preempt::After(5 * SECOND)).unwrap();
    assert!(delayed > 8 * SECOND && delayed < 9 * SECOND, "{delayed:?}");
    // A master that is at least as good ends the delay.
    let mut config = failover(200);
    config.instances[0].preempt = Preempt::After(5 * SECOND);
    let mut host = Host::new(config);
    host.hear(PEER, 100);
    host.pass(3 * SECOND);
    host.hear([10, 0, 2, 73], 250);
    host.pass(3 * SECOND);
    host.hear(PEER, 100);
    assert_eq!(host.engine.deadline().unwrap().since(host.now), Duration::from_micros(3_218_750));
}

#[test]
fn version_3_learns_the_interval_of_its_master() {
    let mut config = failover(100);
    config.instances[0].version = Version::V3;
    config.instances[0].authentication = Authentication::None;
    let mut host = Host::new(config);
    let interval = 200 * MS;
    let packet = advert(PEER, |c| (c.version, c.auth, c.interval) = (3, None, interval));
    host.receive(PEER, &packet);
    assert_eq!(host.counters().adverts_received, 1);
    // 3 * 0.2 s and 156/256 * 0.2 s
    assert_eq!(host.engine.deadline().unwrap().since(host.now), Duration::from_micros(721_875));
    // A checksum without the pseudo header is wrong unless it is configured so.
    let mut payload = packet[20..].to_vec();
    payload[6..8].copy_from_slice(&[0, 0]);
    let sum = crate::wire::checksum::Sum::new().octets(&payload).finish();
    payload[6..8].copy_from_slice(&sum.to_be_bytes());
    host.receive(PEER, &super::packet(PEER, &payload));
    assert_eq!(host.counters().bad_checksum, 1);
    let mut config = failover(100);
    config.instances[0].version = Version::V3;
    config.instances[0].authentication = Authentication::None;
    config.instances[0].v3_checksum_as_v2 = true;
    let mut host = Host::new(config);
    host.receive(PEER, &super::packet(PEER, &payload));
    host.receive(PEER, &packet);
    assert_eq!(host.counters().adverts_received, 2);
}

#[test]
fn the_owner_does_not_wait() {
    let mut config = failover(255);
    config.instances[0].state = model::vrrp::InitialState::Master;
    config.instances[0].owner_ignore_adverts = true;
    let mut host = Host::new(config.clone());
    assert_eq!(host.state(), State::Master);
    host.hear([10, 0, 2, 99], 255);
    assert_eq!((host.state(), host.counters().ignored_as_owner), (State::Master, 1));
    // Below 255 even `state MASTER` starts as backup.
    config.instances[0].priority = Priority::new(254).unwrap();
    assert_eq!(Host::new(config).state(), State::Backup);
}

#[test]
fn nobody_becomes_master_during_the_startup_delay() {
    let mut config = failover(200);
    config.startup_delay = 10 * SECOND;
    let mut host = Host::new(config);
    host.pass(13_218 * MS);
    assert_eq!(host.state(), State::Backup);
    host.pass(MS);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn ipv6_adverts_come_from_the_link_local_address() {
    let vips = ["fe80::100/64", "2001:db8::100/64"];
    let config = Vrrp {
        instances: vec![sample::instance("V6", "enp0s8", 61, 100, &vips)],
        ..Vrrp::default()
    };
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config)));
    let mut kernel = host.kernel();
    kernel.objects.push(Sight::address(ETH, prefix("2001:db8::71/64")));
    kernel.objects.push(Sight::address(ETH, prefix("fe80::71/64")));
    host.event(Event::Kernel(kernel));
    host.pass(10 * SECOND);
    let sent = host.seen.iter().find_map(|a| match a {
        Action::SendAdvert { source, destination, .. } => Some((*source, *destination)),
        _ => None,
    });
    let (source, destination) = sent.unwrap();
    assert_eq!(source, "fe80::71".parse::<IpAddr>().unwrap());
    assert_eq!(destination, "ff02::12".parse::<IpAddr>().unwrap());
    assert!(wire::checksum_holds(&host.packets[0], Some((source, destination))));
    assert_eq!(host.frames().len(), 2 * 2);
}

#[test]
fn due_adverts_leave_while_silence_is_still_to_be_judged() {
    let mut config = failover(200);
    let mut other = sample::instance("OTHER", "enp0s9", 42, 100, &["10.0.3.100/24"]);
    other.advert_int = SECOND;
    config.instances.push(other);
    let mut host = Host::new(config);
    host.pass(3_219 * MS);
    assert_eq!(host.state(), State::Master);
    assert_eq!(host.engine.state("OTHER"), Some(State::Backup));
    host.look();
    // Both timers are due: an advert, and master down.
    host.now = host.now + 5 * SECOND;
    assert!(host.engine.advert_deadline().unwrap() <= host.now);
    assert!(host.engine.other_deadline().unwrap() <= host.now);
    host.event(Event::Adverts);
    assert_eq!(host.priorities(), [200]);
    assert_eq!(host.engine.state("OTHER"), Some(State::Backup));
    assert!(host.engine.advert_deadline().unwrap() > host.now);
    host.event(Event::Timer);
    assert_eq!(host.engine.state("OTHER"), Some(State::Master));
}

#[test]
fn the_deadlines_are_those_of_the_next_advert_and_of_the_judgement_of_silence() {
    // Three intervals and the skew after the advert of the master; the driver reads all packets before that.
    let mut host = Host::backup();
    let due = Some(host.now + 3_609_375 * Duration::from_micros(1));
    let engine = &mut host.engine;
    assert_eq!((engine.silence_deadline(), engine.advert_deadline()), (due, None));
    assert_eq!((engine.other_deadline(), engine.deadline()), (due, due));
    let mut host = Host::master();
    host.event(Event::Adverts);
    let engine = &mut host.engine;
    let next = engine.advert_deadline();
    assert!(next.is_some_and(|at| at > host.now && at <= host.now + SECOND));
    assert_eq!((engine.silence_deadline(), engine.deadline()), (None, next));
}

#[test]
fn addresses_in_another_order_are_the_same_addresses() {
    for (skip, heard, different) in [
        (false, [102, 100, 101], 0),
        (false, [100, 101, 103], 2),
        // Only those of a router that is not the master yet are compared.
        (true, [100, 101, 103], 1),
    ] {
        let vips = ["10.0.2.100/24", "10.0.2.101/24", "10.0.2.102/24"];
        let mut config = failover(100);
        config.instances[0] = sample::instance("VRRP1", "enp0s8", 41, 100, &vips);
        config.instances[0].skip_check_adv_addr = skip;
        let mut host = Host::new(config);
        let heard = heard.map(|last| IpAddr::from([10, 0, 2, last]));
        for _ in 0..2 {
            host.receive(PEER, &advert_of(PEER, &heard, |_| ()));
        }
        assert_eq!(host.counters().adverts_received, 2);
        assert_eq!(host.counters().address_list_mismatch, different, "{heard:?}");
    }
}
