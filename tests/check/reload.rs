//! From one configuration to the next.

use std::time::Duration;

use evervip::base::Name;
use evervip::model::Lvs;
use evervip::model::service::Forward;
use evervip::plan::ipvs::Op;

use super::bench::{Answer, Bench, command, key, lvs, pair, pair_with, real, service, sorry, tcp};

#[test]
fn an_equal_configuration_does_nothing_and_keeps_the_phase_of_checks() {
    let mut bench = Bench::settled(&pair());
    let due = |bench: &Bench| {
        let view = bench.engine.view(bench.now);
        view.services[0].servers.iter().map(|server| server.checks[0].due).collect::<Vec<_>>()
    };
    let before = due(&bench);
    bench.reload(&pair());
    assert_eq!(due(&bench), before);
    bench.expect(&[]);
    bench.log.expect(&[]);
}

#[test]
fn what_stays_is_not_touched_by_what_changes_beside_it() {
    let mut config = pair();
    config.services.push(service(2, vec![real(80), real(81)]).into());
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.answer("10.0.0.80:80", Answer::Silent);
    while bench.open.is_empty() {
        bench.run(Duration::from_millis(50));
    }
    let view = bench.engine.view(bench.now);
    bench.forget();
    // A different order, a new service in between, a new server, a different weight.
    config.services.reverse();
    config.services.insert(1, service(3, vec![real(90)]).into());
    config.services[2].servers.reverse();
    config.services[2].servers.push(real(73));
    config.services[0].servers[1].weight = 4;
    bench.reload(&config);
    bench.expect(&[
        "=10.0.0.81:80*4",
        "+service 10.0.0.3:80 rr",
        "+10.0.0.90:80*1",
        "+10.0.0.73:80*1",
    ]);
    let after = bench.engine.view(bench.now);
    let find = |view: &evervip::status::check::Check, vs: u8, rs: u8| {
        let service = view.services.iter().find(|service| service.key == key(vs)).unwrap().clone();
        let address = super::bench::at(rs);
        service.servers.into_iter().find(|server| server.address == address).unwrap()
    };
    for (vs, rs) in [(1, 71), (1, 72), (2, 80)] {
        assert_eq!(find(&view, vs, rs), find(&after, vs, rs));
    }
    // An attempt under way continues and its result still counts.
    assert_eq!(bench.open.len(), 1);
    bench.seconds(30);
    assert!(!find(&bench.engine.view(bench.now), 2, 80).up);
}

#[test]
fn a_weight_is_one_change_and_counts_at_once() {
    let mut bench = Bench::settled(&pair_with(|service| service.quorum = 2));
    bench.reload(&pair_with(|service| {
        service.quorum = 4;
        service.servers[0].weight = 3;
    }));
    bench.expect(&["=10.0.0.71:80*3"]);
    bench.log.expect(&["Changing weight from 1 to 3 for active service [10.0.0.71]:tcp:80 of VS \
                        [10.0.0.1]:tcp:80"]);
    assert_eq!(bench.engine.view(bench.now).services[0].weight, 4);
    // For a dead server it only changes the configuration.
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    bench.forget();
    bench.reload(&pair_with(|service| service.servers[0].weight = 2));
    assert!(!bench.took().iter().any(|line| line.contains("71")));
    assert!(bench.log.take()[0].contains("from 3 to 2 for inactive service"));
}

#[test]
fn forwarding_limits_and_settings_are_one_change_each() {
    let mut bench = Bench::settled(&pair());
    bench.reload(&pair_with(|service| service.servers[0].forward = Forward::Dr));
    bench.expect(&["=10.0.0.71:80*1 dr"]);
    bench.reload(&pair_with(|service| {
        service.servers[0].forward = Forward::Dr;
        service.servers[0].upper_threshold = 50;
    }));
    bench.expect(&["=10.0.0.71:80*1 dr limit 50"]);
    bench.reload(&pair_with(|service| {
        service.servers[0].forward = Forward::Dr;
        service.servers[0].upper_threshold = 50;
        service.scheduler = Name::from("wlc");
    }));
    bench.expect(&["=service 10.0.0.1:80 wlc"]);
}

/// keepalived adds the dead server to the pool permanently.
#[test]
fn a_dead_server_whose_forwarding_changes_stays_dead() {
    let mut bench = Bench::settled(&pair());
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    bench.forget();
    bench.reload(&pair_with(|service| service.servers[0].forward = Forward::Dr));
    bench.seconds(30);
    bench.expect(&[]);
}

#[test]
fn additions_come_before_removals_over_all_services() {
    let mut config = lvs(vec![service(1, vec![real(71)]), service(2, vec![real(80)])]);
    let mut bench = Bench::settled(&config);
    config.services[0].servers = vec![real(72)];
    config.services[1] = service(3, vec![real(80)]).into();
    bench.reload(&config);
    bench.expect(&[
        "+10.0.0.72:80*1",
        "-10.0.0.71:80",
        "+service 10.0.0.3:80 rr",
        "+10.0.0.80:80*1",
        "-10.0.0.80:80",
        "-service 10.0.0.2:80",
    ]);
    bench.log.expect(&[
        "service [10.0.0.71]:tcp:80 no longer exist",
        "Removing service [10.0.0.71]:tcp:80 from VS [10.0.0.1]:tcp:80",
        "Removing Virtual Server [10.0.0.2]:tcp:80",
        "Removing service [10.0.0.80]:tcp:80 from VS [10.0.0.2]:tcp:80",
        "Activating healthchecker for service [10.0.0.72]:tcp:80 for VS [10.0.0.1]:tcp:80",
        "Activating healthchecker for service [10.0.0.80]:tcp:80 for VS [10.0.0.3]:tcp:80",
        "Gained quorum 1+0=1 <= 1 for VS [10.0.0.3]:tcp:80",
    ]);
}

/// keepalived announces a lost quorum here that was not lost.
#[test]
fn replacing_servers_does_not_lose_the_quorum() {
    let change = |service: &mut evervip::model::Service| {
        service.quorum = 2;
        service.quorum_up = command("/bin/up");
        service.quorum_down = command("/bin/down");
        service.sorry_server = sorry(9);
    };
    let mut bench = Bench::settled(&pair_with(change));
    bench.reload(&pair_with(|service| {
        change(service);
        service.servers = vec![real(73), real(74)];
    }));
    bench.expect(&["+10.0.0.73:80*1", "+10.0.0.74:80*1", "-10.0.0.71:80", "-10.0.0.72:80"]);
}

#[test]
fn a_quorum_the_new_configuration_does_not_reach_is_lost_once() {
    let mut bench = Bench::settled(&pair());
    bench.reload(&pair_with(|service| {
        service.quorum = 3;
        service.quorum_down = command("/bin/down");
    }));
    bench.expect(&["VS [10.0.0.1]:tcp:80 DOWN | /bin/down"]);
    bench.log.expect(&["Starting with quorum down 3-0=3 > 2 for VS [10.0.0.1]:tcp:80"]);
    bench.seconds(30);
    bench.expect(&[]);
}

#[test]
fn what_is_gone_is_told() {
    let change = |service: &mut evervip::model::Service| {
        service.quorum_down = command("/bin/down");
        service.smtp_alert = true;
        for server in &mut service.servers {
            server.notify_down = command("/bin/dead");
            server.smtp_alert = true;
        }
    };
    let mut bench = Bench::settled(&pair_with(change));
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(15);
    bench.forget();
    bench.reload(&lvs(vec![service(2, vec![real(80)])]));
    bench.expect(&[
        "RS [10.0.0.71]:tcp:80 [10.0.0.1]:tcp:80 DOWN | /bin/dead | mail: Realserver \
         [10.0.0.71]:tcp:80 of virtual server [10.0.0.1]:tcp:80 - DOWN / => Removing <=",
        "VS [10.0.0.1]:tcp:80 DOWN | /bin/down | mail: Virtualserver [10.0.0.1]:tcp:80 - DOWN / \
         => Removing <=",
        "+service 10.0.0.2:80 rr",
        "+10.0.0.80:80*1",
        "-10.0.0.71:80",
        "-service 10.0.0.1:80",
    ]);
    assert_eq!(bench.owned, [key(2)]);
}

#[test]
fn a_new_server_gets_its_retries() {
    let mut bench = Bench::settled(&pair());
    bench.answer("10.0.0.73:80", Answer::Refuses);
    bench.reload(&pair_with(|service| {
        let mut server = real(73);
        server.checkers[0].warmup = Duration::ZERO;
        server.checkers[0].retry = 2;
        service.servers.push(server);
    }));
    bench.expect(&["+10.0.0.73:80*1"]);
    bench.run(Duration::from_millis(2900));
    bench.expect(&[]);
    bench.seconds(1);
    bench.expect(&["-10.0.0.73:80"]);
}

#[test]
fn a_new_server_with_alpha_waits_for_its_first_success() {
    let mut bench = Bench::settled(&pair());
    bench.reload(&pair_with(|service| {
        service.servers.push(real(73));
        service.servers[2].checkers[0].alpha = true;
    }));
    bench.expect(&[]);
    bench.seconds(12);
    bench.expect(&["+10.0.0.73:80*1"]);
}

#[test]
fn a_check_that_only_changes_its_times_keeps_its_state() {
    let mut bench = Bench::settled(&pair());
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    bench.forget();
    bench.reload(&pair_with(|service| {
        let check = &mut service.servers[0].checkers[0];
        check.delay_loop = Duration::from_secs(2);
        check.retry = 9;
        check.alpha = true;
    }));
    bench.expect(&[]);
    bench.answer("10.0.0.71:80", Answer::Good);
    // The shorter interval counts from now on, not after the old one has passed.
    bench.seconds(2);
    bench.expect(&["+10.0.0.71:80*1"]);
}

/// keepalived puts the server in at once, because the check that failed is gone.
#[test]
fn a_dead_server_whose_check_changes_waits_for_the_new_check() {
    let mut bench = Bench::settled(&pair());
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.answer("10.0.0.171:80", Answer::Refuses);
    bench.seconds(15);
    bench.forget();
    let config = pair_with(|service| {
        service.servers[0].checkers = vec![tcp(171)];
        service.servers[0].notify_down = command("/bin/dead");
    });
    bench.reload(&config);
    bench.seconds(3);
    bench.expect(&[]);
    bench.answer("10.0.0.171:80", Answer::Good);
    bench.seconds(10);
    bench.expect(&["+10.0.0.71:80*1"]);
}

#[test]
fn a_dead_server_whose_failed_check_is_dropped_comes_back() {
    let change = |service: &mut evervip::model::Service| {
        service.servers[0].notify_up = command("/bin/alive");
        service.servers[0].checkers.push(tcp(171));
    };
    let mut bench = Bench::settled(&pair_with(change));
    bench.answer("10.0.0.171:80", Answer::Refuses);
    bench.seconds(15);
    bench.forget();
    bench.reload(&pair_with(|service| {
        change(service);
        service.servers[0].checkers.pop();
    }));
    bench.expect(&["+10.0.0.71:80*1", "RS [10.0.0.71]:tcp:80 [10.0.0.1]:tcp:80 UP | /bin/alive"]);
}

#[test]
fn a_check_more_on_a_good_server_does_not_take_it_out() {
    let mut bench = Bench::settled(&pair());
    bench.reload(&pair_with(|service| {
        let mut check = tcp(171);
        check.alpha = true;
        service.servers[0].checkers.push(check);
    }));
    bench.expect(&[]);
    bench.answer("10.0.0.171:80", Answer::Refuses);
    bench.seconds(30);
    bench.expect(&["-10.0.0.71:80"]);
}

#[test]
fn inhibit_switched_on_and_off_while_a_server_is_dead() {
    let mut bench = Bench::settled(&pair());
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    bench.forget();
    bench.reload(&pair_with(|service| service.servers[0].inhibit_on_failure = true));
    bench.expect(&["+10.0.0.71:80*0"]);
    bench.reload(&pair());
    bench.expect(&["-10.0.0.71:80"]);
}

#[test]
fn the_sorry_server_changes_while_it_serves() {
    let with = |n: Option<u8>| {
        pair_with(|service| {
            service.quorum = 2;
            service.sorry_server = n.and_then(sorry);
        })
    };
    let mut bench = Bench::settled(&with(Some(9)));
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(15);
    assert_eq!(bench.pool(), "9*1");
    bench.forget();
    bench.reload(&with(Some(8)));
    bench.expect(&["+10.0.0.8:80*1", "-10.0.0.9:80"]);
    bench.log.expect(&[
        "Adding sorry server [10.0.0.8]:tcp:80 to VS [10.0.0.1]:tcp:80",
        "Removing sorry server [10.0.0.9]:tcp:80 from VS [10.0.0.1]:tcp:80",
    ]);
    // No sorry server any more: the good servers serve, quorum or not.
    bench.reload(&with(None));
    bench.expect(&["+10.0.0.71:80*1", "-10.0.0.8:80"]);
    bench.forget();
    bench.reload(&with(Some(9)));
    bench.expect(&["+10.0.0.9:80*1", "-10.0.0.71:80"]);
    // A server that is not in service changes without kernel operations.
    bench.answer("10.0.0.72:80", Answer::Good);
    bench.seconds(15);
    bench.forget();
    bench.reload(&with(Some(8)));
    bench.expect(&[]);
}

#[test]
fn a_service_that_goes_and_returns_before_the_kernel_answered() {
    let mut bench = Bench::settled(&pair());
    bench.hold = true;
    bench.reload(&Lvs::default());
    bench.reload(&pair());
    bench.release();
    bench.expect(&[
        "-10.0.0.71:80",
        "-10.0.0.72:80",
        "-service 10.0.0.1:80",
        "read",
        "+service 10.0.0.1:80 rr",
        "+10.0.0.71:80*1",
        "+10.0.0.72:80*1",
    ]);
    bench.seconds(60);
    bench.expect(&[]);
    assert!(bench.engine.view(bench.now).services[0].up);
}

#[test]
fn a_service_that_could_not_be_removed_is_tried_again() {
    let mut bench = Bench::settled(&pair());
    bench.refuse = Box::new(|op| matches!(op, Op::DeleteService { .. }).then_some(16));
    bench.reload(&Lvs::default());
    bench.seconds(5);
    assert_eq!(bench.owned, [key(1)], "ours until it is gone indeed");
    bench.refuse = Box::new(|_| None);
    bench.seconds(60);
    assert!(bench.kernel.services.is_empty());
    assert!(bench.owned.is_empty());
}

#[test]
fn a_check_that_goes_takes_its_attempt_with_it() {
    let mut bench = Bench::settled(&pair());
    bench.answer("10.0.0.71:80", Answer::Silent);
    bench.seconds(11);
    assert_eq!(bench.open.len(), 1);
    bench.reload(&pair_with(|service| {
        service.servers.remove(0);
    }));
    assert!(bench.open.is_empty());
    assert_eq!(bench.engine.view(bench.now).probes_running, 0);
}
