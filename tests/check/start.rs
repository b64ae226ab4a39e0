//! The start: a fresh table, an adopted one, none at all.

use std::time::Duration;

use evervip::base::{Family, Name};
use evervip::check::{Event, Limits};
use evervip::model::service::Forward;
use evervip::model::{Lvs, ServiceKey};
use evervip::plan::ipvs::{Destination, Op, Settings};
use evervip::status::check::Kernel;

use super::bench::{
    Answer, Bench, command, destination, key, lvs, pair, pair_with, real, service, sorry,
};

fn nat(weight: u32) -> Destination {
    Destination { forward: Forward::Nat, weight, upper_threshold: 0, lower_threshold: 0 }
}

/// Adds a service to the kernel as an earlier process left it.
fn put(bench: &mut Bench, service: u8, servers: &[(u8, u32)]) {
    let service = key(service);
    let settings = Settings {
        scheduler: Name::from("rr"),
        flags: 0x02, // the kernel's own flag
        timeout: 0,
        netmask: u32::MAX,
        engine: None,
    };
    bench.kernel.apply(&Op::AddService { service, settings });
    for (n, weight) in servers {
        let (destination, settings) = (destination(*n), nat(*weight));
        bench.kernel.apply(&Op::AddDestination { service, destination, settings });
    }
}

#[test]
fn a_fresh_start_puts_everything_in_and_says_that_the_quorum_is_there() {
    let mut bench = Bench::new();
    bench.reload(&pair_with(|service| service.quorum_up = command("/bin/up")));
    bench.expect(&[
        "read",
        "+service 10.0.0.1:80 rr",
        "+10.0.0.71:80*1",
        "+10.0.0.72:80*1",
        "VS [10.0.0.1]:tcp:80 UP | /bin/up",
    ]);
    bench.log.expect(&[
        "Activating healthchecker for service [10.0.0.71]:tcp:80 for VS [10.0.0.1]:tcp:80",
        "Activating healthchecker for service [10.0.0.72]:tcp:80 for VS [10.0.0.1]:tcp:80",
        "Gained quorum 1+0=1 <= 2 for VS [10.0.0.1]:tcp:80",
    ]);
}

#[test]
fn init_notifies_tells_of_servers_put_in_at_the_start() {
    for (told, lines) in
        [(true, vec!["RS [10.0.0.71]:tcp:80 [10.0.0.1]:tcp:80 UP | /bin/alive"]), (false, vec![])]
    {
        let mut config = pair_with(|s| s.servers[0].notify_up = command("/bin/alive"));
        config.init_notifies = told;
        let mut bench = Bench::new();
        bench.reload(&config);
        let notices: Vec<_> =
            bench.took().into_iter().filter(|line| line.contains("/bin")).collect();
        assert_eq!(notices, lines);
    }
}

#[test]
fn without_quorum_at_the_start_only_a_sorry_server_is_news() {
    let change = |service: &mut evervip::model::Service| {
        service.quorum = 5;
        service.quorum_down = command("/bin/down");
    };
    let mut bench = Bench::new();
    bench.reload(&pair_with(change));
    assert!(!bench.took().iter().any(|line| line.contains("/bin/down")));
    let mut bench = Bench::new();
    bench.reload(&pair_with(|service| {
        change(service);
        service.sorry_server = sorry(9);
    }));
    assert!(bench.took().contains(&"VS [10.0.0.1]:tcp:80 DOWN | /bin/down".to_owned()));
    assert_eq!(bench.pool(), "9*1");
    let line = "Starting with quorum down 5-0=5 > 2 for VS [10.0.0.1]:tcp:80".to_owned();
    assert!(bench.log.take().contains(&line));
}

#[test]
fn what_is_right_already_is_not_touched() {
    let mut bench = Bench::new();
    put(&mut bench, 1, &[(71, 1), (72, 1)]);
    bench.reload(&pair());
    bench.seconds(60);
    bench.expect(&["read"]);
    let view = bench.engine.view(bench.now);
    assert!(view.services[0].up && view.services[0].servers.iter().all(|server| server.up));
}

#[test]
fn a_server_that_is_not_in_the_table_stays_out_until_its_first_check() {
    let mut bench = Bench::new();
    put(&mut bench, 1, &[(71, 1)]);
    let config = pair_with(|service| {
        service.servers[1].notify_down = command("/bin/dead");
        service.servers[1].notify_up = command("/bin/alive");
    });
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.reload(&config);
    bench.expect(&["read"]);
    // It does not wait for the whole warm-up of 10 s.
    bench.seconds(2);
    bench.expect(&["RS [10.0.0.72]:tcp:80 [10.0.0.1]:tcp:80 DOWN | /bin/dead"]);
    bench.answer("10.0.0.72:80", Answer::Good);
    bench.seconds(10);
    bench.expect(&["+10.0.0.72:80*1", "RS [10.0.0.72]:tcp:80 [10.0.0.1]:tcp:80 UP | /bin/alive"]);
}

#[test]
fn a_server_in_the_table_stays_in_and_its_first_failure_decides() {
    let mut bench = Bench::new();
    put(&mut bench, 1, &[(71, 1), (72, 1)]);
    bench.answer("10.0.0.72:80", Answer::Refuses);
    // Even alpha does not remove a server in service.
    bench.reload(&pair_with(|service| {
        for server in &mut service.servers {
            server.checkers[0].alpha = true;
            server.checkers[0].retry = 5;
        }
    }));
    bench.expect(&["read"]);
    bench.seconds(11);
    bench.expect(&["-10.0.0.72:80"]);
}

#[test]
fn differences_are_mended_and_nothing_else() {
    let mut bench = Bench::new();
    put(&mut bench, 1, &[(71, 5), (72, 1), (73, 1)]);
    put(&mut bench, 2, &[(80, 1)]);
    bench.reload(&lvs(vec![
        pair_with(|service| service.scheduler = Name::from("wlc")).services.remove(0),
        service(3, vec![real(81)]).into(),
    ]));
    bench.expect(&[
        "read",
        "=service 10.0.0.1:80 wlc",
        "=10.0.0.71:80*1",
        "-10.0.0.73:80",
        "+service 10.0.0.3:80 rr",
        "+10.0.0.81:80*1",
    ]);
    assert!(bench.kernel.services.contains_key(&key(2)), "another's service stays");
}

#[test]
fn services_we_made_before_go_those_of_others_stay() {
    let mut bench = Bench::new();
    put(&mut bench, 1, &[(71, 1), (72, 1)]);
    put(&mut bench, 2, &[(80, 1)]);
    put(&mut bench, 3, &[(80, 1), (81, 1)]);
    bench.event(Event::Owned(vec![key(1), key(3), key(4)]));
    bench.reload(&pair());
    bench.expect(&["read", "-10.0.0.80:80", "-10.0.0.81:80", "-service 10.0.0.3:80"]);
    assert_eq!(bench.kernel.services.keys().copied().collect::<Vec<_>>(), [key(1), key(2)]);
    // The next start only knows the remaining services.
    assert_eq!(bench.owned, [key(1)]);
}

#[test]
fn inhibited_servers_are_dead_in_the_table_by_their_weight() {
    let mut bench = Bench::new();
    put(&mut bench, 1, &[(71, 0), (72, 0)]);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.reload(&pair_with(|service| service.servers[0].inhibit_on_failure = true));
    // .72 was drained by hand: it is in, with the configured weight.
    bench.expect(&["read", "=10.0.0.72:80*1"]);
    bench.seconds(10);
    bench.expect(&[]);
    bench.answer("10.0.0.71:80", Answer::Good);
    bench.seconds(15);
    bench.expect(&["=10.0.0.71:80*1"]);
    // A sorry server in service stays in service.
    let mut bench = Bench::new();
    put(&mut bench, 1, &[(71, 1), (72, 1)]);
    bench.reload(&pair_with(|service| service.servers[0].inhibit_on_failure = true));
    bench.seconds(15);
    bench.expect(&["read"]);
}

#[test]
fn a_sorry_server_in_service_goes_on() {
    let mut bench = Bench::new();
    put(&mut bench, 1, &[(9, 1)]);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.answer("10.0.0.72:80", Answer::Refuses);
    let config = pair_with(|service| service.sorry_server = sorry(9));
    bench.reload(&config);
    bench.seconds(30);
    bench.expect(&["read"]);
    bench.answer("10.0.0.72:80", Answer::Good);
    bench.seconds(11);
    bench.expect(&["+10.0.0.72:80*1", "-10.0.0.9:80"]);
}

#[test]
fn a_quorum_within_its_dead_band_survives_a_restart() {
    let config = pair_with(|service| {
        service.quorum = 2;
        service.hysteresis = 1;
        service.servers[1].weight = 2;
        service.sorry_server = sorry(9);
    });
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(15);
    assert_eq!(bench.pool(), "71*1");
    bench.crash(2);
    bench.reload(&config);
    bench.seconds(60);
    bench.expect(&["read"]);
    let log = bench.log.take();
    let line = "Starting with quorum up 2-1=1 <= 1 for VS [10.0.0.1]:tcp:80".to_owned();
    assert!(log.contains(&line), "{log:#?}");
}

#[test]
fn a_restarted_role_tells_nothing_twice_and_a_restarted_daemon_tells_all() {
    let config = pair_with(|service| {
        service.quorum_up = command("/bin/up");
        service.servers[1].notify_down = command("/bin/dead");
        service.servers[1].notify_up = command("/bin/alive");
    });
    for role_only in [true, false] {
        let mut bench = Bench::settled(&config);
        bench.answer("10.0.0.72:80", Answer::Refuses);
        bench.seconds(15);
        let summary = bench.crash(2);
        if role_only {
            bench.event(Event::Resume(summary));
        }
        bench.reload(&config);
        bench.seconds(60);
        let told = [
            "VS [10.0.0.1]:tcp:80 UP | /bin/up",
            "RS [10.0.0.72]:tcp:80 [10.0.0.1]:tcp:80 DOWN | /bin/dead",
        ];
        let want = if role_only { &told[..0] } else { &told[..] };
        assert_eq!(bench.took()[1..], *want, "role only: {role_only}");
        bench.answer("10.0.0.72:80", Answer::Good);
        bench.seconds(15);
        bench.expect(&[
            "+10.0.0.72:80*1",
            "RS [10.0.0.72]:tcp:80 [10.0.0.1]:tcp:80 UP | /bin/alive",
        ]);
    }
}

#[test]
fn a_dead_server_does_not_return_for_a_moment_when_the_role_restarts() {
    let mut bench = Bench::settled(&pair());
    bench.answer("10.0.0.72:80", Answer::Silent);
    bench.seconds(30);
    assert_eq!(bench.pool(), "71*1");
    bench.crash(2);
    bench.reload(&pair());
    bench.seconds(60);
    bench.expect(&["read"]);
}

/// After a restart of the daemon the first result decides; if only the role died, its servers were good a moment ago.
#[test]
fn one_failure_after_a_restart_of_the_role_alone_takes_no_server_out() {
    for role_only in [true, false] {
        let mut bench = Bench::settled(&pair());
        let summary = bench.crash(2);
        if role_only {
            bench.event(Event::Resume(summary));
        }
        bench.reload(&pair());
        bench.answer("10.0.0.72:80", Answer::Refuses);
        while bench.engine.view(bench.now).counters.failed == 0 {
            bench.seconds(1);
        }
        bench.answer("10.0.0.72:80", Answer::Good);
        bench.seconds(60);
        let want: &[&str] =
            if role_only { &["read"] } else { &["read", "-10.0.0.72:80", "+10.0.0.72:80*1"] };
        let mut took = bench.took();
        took.retain(|line| !line.starts_with("VS") && !line.starts_with("RS"));
        assert_eq!(took, want, "role only: {role_only}");
    }
}

#[test]
fn a_table_of_others_alone_is_no_business_of_ours() {
    let mut bench = Bench::new();
    put(&mut bench, 2, &[(80, 1)]);
    bench.reload(&Lvs::default());
    bench.seconds(60);
    bench.stop(false);
    bench.expect(&["read", "done"]);
    assert!(bench.kernel.services.contains_key(&key(2)));
}

#[test]
fn flush_empties_the_table_at_the_start_of_the_daemon_and_only_then() {
    let mut config = pair();
    config.flush = true;
    let mut bench = Bench::new();
    put(&mut bench, 1, &[(71, 1)]);
    put(&mut bench, 2, &[(80, 1)]);
    bench.reload(&config);
    bench.expect(&[
        "read",
        "flush",
        "+service 10.0.0.1:80 rr",
        "+10.0.0.71:80*1",
        "+10.0.0.72:80*1",
    ]);
    put(&mut bench, 2, &[(80, 1)]);
    config.services[0].servers[0].weight = 2;
    bench.reload(&config);
    bench.expect(&["=10.0.0.71:80*2"]);
    let summary = bench.crash(2);
    bench.event(Event::Resume(summary));
    bench.reload(&config);
    bench.expect(&["read"]);
    assert!(bench.kernel.services.contains_key(&key(2)));
}

#[test]
fn a_flush_that_is_refused_leaves_a_table_to_adopt() {
    let mut config = pair();
    config.flush = true;
    let mut bench = Bench::new();
    put(&mut bench, 1, &[(71, 1)]);
    bench.refuse = Box::new(|op| (*op == Op::Flush).then_some(1));
    bench.reload(&config);
    bench.expect(&["read", "flush -> Refused(1)"]);
    bench.log.expect(&[
        "IPVS cmd IP_VS_SO_SET_FLUSH(1157) error: Permission denied (you must be root)(1)",
        "Starting with quorum up 1-0=1 <= 1 for VS [10.0.0.1]:tcp:80",
        "Activating healthchecker for service [10.0.0.71]:tcp:80 for VS [10.0.0.1]:tcp:80",
        "Activating healthchecker for service [10.0.0.72]:tcp:80 for VS [10.0.0.1]:tcp:80",
    ]);
}

#[test]
fn without_permission_it_says_what_it_lacks() {
    let mut bench = Bench::new();
    bench.broken = Some(1);
    bench.reload(&pair());
    bench.seconds(50);
    bench.log.expect(&[
        "IPVS: Can't initialize ipvs: Operation not permitted",
        "no virtual server is in service until this process has the permission to change IPVS (CAP_NET_ADMIN); trying again",
    ]);
}

#[test]
fn without_ipvs_it_waits_and_says_so_each_minute() {
    let mut bench = Bench::new();
    bench.broken = Some(2);
    bench.reload(&pair());
    bench.log.expect(&[
        "IPVS: Can't initialize ipvs: No such file or directory",
        "no virtual server is in service until the kernel has IPVS (module ip_vs); trying again",
    ]);
    assert_eq!(bench.engine.view(bench.now).kernel, Kernel::Unavailable(2));
    let start = bench.now;
    let mut moments = Vec::new();
    bench.took();
    while moments.len() < 9 {
        let due = bench.engine.deadline().unwrap();
        bench.run(due.since(bench.now));
        moments.push(due.since(start).as_secs());
        bench.expect(&["read"]);
    }
    assert_eq!(moments, [1, 3, 7, 15, 31, 63, 123, 183, 243]);
    let line = "IPVS: Can't initialize ipvs: No such file or directory";
    let advice =
        "no virtual server is in service until the kernel has IPVS (module ip_vs); trying again";
    bench.log.expect(&[line, advice].repeat(4));
    // A reload meanwhile counts.
    bench.reload(&lvs(vec![service(2, vec![real(80)])]));
    bench.broken = None;
    bench.seconds(60);
    bench.expect(&["read", "+service 10.0.0.2:80 rr", "+10.0.0.80:80*1"]);
    assert_eq!(bench.engine.view(bench.now).kernel, Kernel::Ready);
    // Without a table a stop is immediate.
    let mut bench = Bench::new();
    bench.broken = Some(2);
    bench.reload(&pair());
    bench.stop(false);
    assert!(bench.done);
    assert_eq!(bench.engine.deadline(), None);
}

#[test]
fn a_table_that_is_not_told_in_time_counts_as_missing() {
    let mut bench = Bench::new();
    bench.hold = true;
    bench.reload(&pair());
    bench.seconds(59);
    assert_eq!(bench.engine.serves(), None);
    bench.seconds(1);
    bench.log.expect(&[
        "IPVS: Can't initialize ipvs: Connection timed out",
        "no virtual server is in service until the kernel has IPVS (module ip_vs); trying again",
    ]);
    assert_eq!(bench.engine.serves(), Some(false));
    // The answer arrives in the end: the newest request counts, and is answered once.
    bench.seconds(2);
    bench.forget();
    bench.release();
    bench.expect(&[
        "read",
        "read",
        "+service 10.0.0.1:80 rr",
        "+10.0.0.71:80*1",
        "+10.0.0.72:80*1",
    ]);
    assert_eq!(bench.engine.serves(), Some(true));
    bench.seconds(60);
    bench.expect(&[]);
    // A stop does not wait indefinitely either.
    let mut bench = Bench::new();
    bench.hold = true;
    bench.event(Event::Owned(vec![key(1)]));
    bench.reload(&pair());
    bench.stop(false);
    assert!(!bench.done);
    bench.seconds(60);
    assert!(bench.done && bench.owned == [key(1)], "{:?}", bench.owned);
}

#[test]
fn a_reload_while_the_table_is_read_reads_again() {
    let mut bench = Bench::new();
    put(&mut bench, 2, &[(80, 1), (81, 1)]);
    bench.hold = true;
    bench.reload(&pair());
    bench.reload(&lvs(vec![service(2, vec![real(80)])]));
    bench.release();
    bench.expect(&["read", "read", "-10.0.0.81:80"]);
}

#[test]
fn services_by_mark_of_both_families() {
    let mut config = pair();
    for (mark, family) in [(123, Family::V4), (123, Family::V6)] {
        let mut service = config.services[0].clone();
        service.key = ServiceKey::Mark { mark, family };
        for server in &mut service.servers {
            server.port = 0;
        }
        config.services.push(service);
    }
    config.services.remove(0);
    let mut bench = Bench::new();
    bench.reload(&config);
    bench.expect(&[
        "read",
        "+service fwm123 rr",
        "+10.0.0.71:0*1",
        "+10.0.0.72:0*1",
        "+service fwm123 rr",
        "+10.0.0.71:0*1",
        "+10.0.0.72:0*1",
    ]);
    let log = bench.log.take();
    let line = "Gained quorum 1+0=1 <= 2 for VS FWM 123".to_owned();
    assert_eq!(log.iter().filter(|entry| **entry == line).count(), 2, "{log:#?}");
}

#[test]
fn thousands_of_services_write_a_few_at_a_time_and_urgent_ones_first() {
    let mut config = Lvs::default();
    for high in 0..2u8 {
        for low in 0..=255u8 {
            let mut service = service(1, vec![real(71)]);
            service.key = ServiceKey::Address {
                protocol: evervip::model::service::Protocol::Tcp,
                endpoint: ([10, 9, high, low], 80).into(),
            };
            service.servers[0].checkers[0].warmup = Duration::ZERO;
            config.services.push(service.into());
        }
    }
    let mut bench = Bench::with(1, Limits { probes: 2000, writes: 16, ..Limits::default() });
    bench.reload(&config);
    assert_eq!(bench.kernel.services.len(), 512);
    assert!(bench.engine.view(bench.now).services.iter().all(|service| service.up));
    let log = bench.log.take();
    assert_eq!(log.iter().filter(|line| line.starts_with("Activating")).count(), 512);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(1);
    assert!(bench.kernel.services.values().all(|entry| entry.destinations.is_empty()));
}
