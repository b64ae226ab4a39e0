//! Servers go up and down, quorums are gained and lost, sorry servers are used.

use evervip::model::service::Forward;

use super::bench::{Answer, Bench, command, lvs, pair_with, real, service, sorry, tcp};

/// Four servers of weight 1, .71 to .74, checked once a second after the start.
fn four(quorum: u32, hysteresis: u32) -> evervip::model::Lvs {
    let mut service = service(1, (71..75).map(real).collect());
    service.quorum = quorum;
    service.hysteresis = hysteresis;
    service.quorum_up = command("/bin/up");
    service.quorum_down = command("/bin/down");
    lvs(vec![service])
}

/// Makes this many of the four good and waits until that is known.
fn good(bench: &mut Bench, count: u8) {
    for n in 71..75 {
        let answer = if n < 71 + count { Answer::Good } else { Answer::Refuses };
        bench.answer(&format!("10.0.0.{n}:80"), answer);
    }
    bench.seconds(15);
}

fn is_up(bench: &Bench) -> bool {
    bench.engine.view(bench.now).services[0].up
}

#[test]
fn the_quorum_is_lost_below_it_and_gained_at_it() {
    let mut bench = Bench::settled(&four(2, 0));
    for (count, up) in [(2, true), (1, false), (2, true), (0, false), (1, false), (3, true)] {
        good(&mut bench, count);
        assert_eq!(is_up(&bench), up, "{count} servers");
    }
    bench.forget();
    good(&mut bench, 1);
    let log = bench.log.take();
    assert!(log.contains(&"Lost quorum 2-0=2 > 1 for VS [10.0.0.1]:tcp:80".to_owned()), "{log:#?}");
    good(&mut bench, 2);
    let log = bench.log.take();
    assert!(
        log.contains(&"Gained quorum 2+0=2 <= 2 for VS [10.0.0.1]:tcp:80".to_owned()),
        "{log:#?}"
    );
}

#[test]
fn hysteresis_is_a_dead_band_on_both_sides() {
    let mut bench = Bench::settled(&four(2, 1));
    for (count, up) in [
        (4, true),
        (2, true),
        (1, true),  // 2 - 1 still keeps it
        (0, false), // no server is never enough
        (1, false),
        (2, false), // 2 + 1 is required to regain it
        (3, true),
    ] {
        good(&mut bench, count);
        assert_eq!(is_up(&bench), up, "{count} servers");
    }
}

#[test]
fn a_quorum_is_told_once_after_the_servers_that_made_it() {
    let mut config = four(2, 0);
    for server in &mut config.services[0].servers {
        server.notify_down = command("/bin/dead");
        server.notify_up = command("/bin/alive");
    }
    let mut bench = Bench::settled(&config);
    good(&mut bench, 1);
    let notices: Vec<String> =
        bench.took().into_iter().filter(|line| line.contains("/bin")).collect();
    assert_eq!(notices.len(), 4, "{notices:#?}");
    assert_eq!(notices.iter().filter(|line| line.contains("/bin/dead")).count(), 3);
    // The third loss makes no second one.
    assert_eq!(
        notices.iter().position(|line| line == "VS [10.0.0.1]:tcp:80 DOWN | /bin/down"),
        Some(notices.len() - 1)
    );
    good(&mut bench, 3);
    let notices: Vec<String> =
        bench.took().into_iter().filter(|line| line.contains("/bin")).collect();
    assert_eq!(
        notices.iter().filter(|line| **line == "VS [10.0.0.1]:tcp:80 UP | /bin/up").count(),
        1
    );
}

#[test]
fn weights_count_and_weight_zero_counts_nothing() {
    let mut config = four(3, 0);
    config.services[0].servers[0].weight = 3;
    config.services[0].servers[1].weight = 0;
    let mut bench = Bench::settled(&config);
    good(&mut bench, 1);
    assert!(is_up(&bench), "one server of weight 3");
    assert_eq!(bench.pool(), "71*3");
    good(&mut bench, 2);
    assert_eq!(bench.pool(), "71*3 72*0", "a server of weight 0 that is good has its entry");
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    assert!(!is_up(&bench), "72 with weight 0 is no quorum");
}

/// In keepalived this becomes a quorum that can never be gained, without the sorry server.
#[test]
fn with_all_weights_zero_the_sorry_server_serves() {
    let mut config = four(0, 0);
    config.services[0].sorry_server = sorry(9);
    for server in &mut config.services[0].servers {
        server.weight = 0;
    }
    let mut bench = Bench::settled(&config);
    assert_eq!(bench.pool(), "9*1");
    good(&mut bench, 0);
    good(&mut bench, 4);
    assert_eq!(bench.pool(), "9*1");
}

#[test]
fn the_sorry_server_comes_before_the_servers_go_and_goes_after_they_came() {
    let mut config = four(2, 0);
    config.services[0].sorry_server = sorry(9);
    let mut bench = Bench::settled(&config);
    good(&mut bench, 2);
    bench.forget();
    good(&mut bench, 1);
    bench.expect(&[
        "-10.0.0.72:80",
        "VS [10.0.0.1]:tcp:80 DOWN | /bin/down",
        "+10.0.0.9:80*1",
        "-10.0.0.71:80",
    ]);
    bench.log.expect(&[
        "TCP_CHECK on service [10.0.0.72]:tcp:80 failed after 1 retries.",
        "Removing service [10.0.0.72]:tcp:80 from VS [10.0.0.1]:tcp:80",
        "Lost quorum 2-0=2 > 1 for VS [10.0.0.1]:tcp:80",
        "Adding sorry server [10.0.0.9]:tcp:80 to VS [10.0.0.1]:tcp:80",
        "Removing alive servers from the pool for VS [10.0.0.1]:tcp:80",
    ]);
    // While only the sorry server is in service, servers come and go without kernel operations.
    good(&mut bench, 0);
    bench.expect(&[]);
    good(&mut bench, 1);
    bench.expect(&[]);
    assert_eq!(bench.pool(), "9*1");
    bench.log.take();
    good(&mut bench, 2);
    bench.expect(&[
        "VS [10.0.0.1]:tcp:80 UP | /bin/up",
        "+10.0.0.71:80*1",
        "+10.0.0.72:80*1",
        "-10.0.0.9:80",
    ]);
    bench.log.expect(&[
        "TCP connection to [10.0.0.72]:tcp:80 success.",
        "Adding service [10.0.0.72]:tcp:80 to VS [10.0.0.1]:tcp:80",
        "Gained quorum 2+0=2 <= 2 for VS [10.0.0.1]:tcp:80",
        "Removing sorry server [10.0.0.9]:tcp:80 from VS [10.0.0.1]:tcp:80",
        "Adding alive servers to the pool for VS [10.0.0.1]:tcp:80",
    ]);
}

#[test]
fn a_sorry_server_with_inhibit_keeps_its_entry() {
    let mut config = four(1, 0);
    config.services[0].sorry_server = sorry(9);
    if let Some(sorry) = &mut config.services[0].sorry_server {
        sorry.inhibit = true;
    }
    let mut bench = Bench::settled(&config);
    assert_eq!(bench.pool(), "9*0 71*1 72*1 73*1 74*1");
    good(&mut bench, 0);
    assert_eq!(bench.pool(), "9*1");
    bench.forget();
    good(&mut bench, 1);
    assert_eq!(bench.pool(), "9*0 71*1");
    let took = bench.took();
    assert!(took.ends_with(&["+10.0.0.71:80*1".to_owned(), "=10.0.0.9:80*0".to_owned()]));
    let log = bench.log.take();
    assert!(
        log.contains(
            &"Disabling sorry server [10.0.0.9]:tcp:80 from VS [10.0.0.1]:tcp:80".to_owned()
        ),
        "{log:#?}"
    );
}

#[test]
fn a_sorry_server_that_is_a_server_too() {
    let mut config = four(2, 0);
    config.services[0].servers.truncate(2);
    config.services[0].servers[0].weight = 5;
    config.services[0].quorum = 6;
    config.services[0].sorry_server = sorry(71);
    let mut bench = Bench::settled(&config);
    assert_eq!(bench.pool(), "71*5 72*1");
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(15);
    assert_eq!(bench.pool(), "71*1", "as sorry server, weight 1");
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    assert_eq!(bench.pool(), "71*1", "a sorry server is not checked");
    bench.answer("10.0.0.71:80", Answer::Good);
    bench.answer("10.0.0.72:80", Answer::Good);
    bench.seconds(15);
    assert_eq!(bench.pool(), "71*5 72*1");
    bench.forget();
    bench.stop(false);
    bench.expect(&["-10.0.0.71:80", "-10.0.0.72:80", "-service 10.0.0.1:80", "done"]);
}

#[test]
fn inhibit_on_failure_changes_weights_instead_of_entries() {
    let config = pair_with(|service| service.servers[0].inhibit_on_failure = true);
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(15);
    assert_eq!(bench.pool(), "71*0");
    let log = bench.log.take();
    let line = "Disabling service [10.0.0.71]:tcp:80 of VS [10.0.0.1]:tcp:80".to_owned();
    assert!(log.contains(&line), "{log:#?}");
    bench.forget();
    bench.answer("10.0.0.71:80", Answer::Good);
    bench.seconds(15);
    bench.expect(&["=10.0.0.71:80*1"]);
    let log = bench.log.take();
    let line = "Enabling service [10.0.0.71]:tcp:80 of VS [10.0.0.1]:tcp:80".to_owned();
    assert!(log.contains(&line), "{log:#?}");
}

#[test]
fn inhibited_servers_keep_their_entry_beside_the_sorry_server() {
    let config = pair_with(|service| {
        service.sorry_server = sorry(9);
        service.quorum = 2;
        service.servers[0].inhibit_on_failure = true;
    });
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(15);
    assert_eq!(bench.pool(), "9*1 71*0");
    bench.answer("10.0.0.72:80", Answer::Good);
    bench.seconds(15);
    assert_eq!(bench.pool(), "71*1 72*1");
}

#[test]
fn an_inhibited_server_held_by_alpha_begins_with_weight_zero() {
    let config = pair_with(|service| {
        service.servers[0].inhibit_on_failure = true;
        service.servers[0].checkers[0].alpha = true;
        service.servers[1].checkers[0].alpha = true;
    });
    let mut bench = Bench::new();
    bench.reload(&config);
    assert_eq!(bench.pool(), "71*0");
    bench.seconds(15);
    assert_eq!(bench.pool(), "71*1 72*1");
}

#[test]
fn all_checks_of_a_server_must_be_good() {
    let config = pair_with(|service| {
        let mut other = tcp(171);
        other.delay_loop = std::time::Duration::from_secs(7);
        service.servers[0].checkers.push(other);
        service.servers[0].notify_down = command("/bin/dead");
        service.servers[0].notify_up = command("/bin/alive");
        service.servers[0].smtp_alert = true;
    });
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.171:80", Answer::Refuses);
    bench.seconds(15);
    let mail = |state: &str, body: &str| {
        format!(
            "mail: Realserver [10.0.0.71]:tcp:80 of virtual server [10.0.0.1]:tcp:80 - {state} / \
             => TCP CHECK {body} on service <="
        )
    };
    let down = "RS [10.0.0.71]:tcp:80 [10.0.0.1]:tcp:80 DOWN | /bin/dead | ";
    bench.expect(&[&format!("{down}{}", mail("DOWN", "failed")), "-10.0.0.71:80"]);
    // The second failure and the first recovery only mail: the server stays down.
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    bench.expect(&[&format!(" | {}", mail("DOWN", "failed"))]);
    bench.answer("10.0.0.171:80", Answer::Good);
    bench.seconds(15);
    bench.expect(&[&format!(" | {}", mail("DOWN", "succeed"))]);
    assert_eq!(bench.pool(), "72*1");
    bench.answer("10.0.0.71:80", Answer::Good);
    bench.seconds(15);
    let up = "RS [10.0.0.71]:tcp:80 [10.0.0.1]:tcp:80 UP | /bin/alive | ";
    bench.expect(&["+10.0.0.71:80*1", &format!("{up}{}", mail("UP", "succeed"))]);
}

#[test]
fn no_checker_emails_mails_changes_of_the_server_alone() {
    let mut config = pair_with(|service| {
        service.servers[0].checkers.push(tcp(171));
        service.servers[0].smtp_alert = true;
    });
    config.no_checker_emails = true;
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.answer("10.0.0.171:80", Answer::Refuses);
    bench.seconds(15);
    assert_eq!(bench.took().iter().filter(|line| line.contains("mail")).count(), 1);
    bench.answer("10.0.0.71:80", Answer::Good);
    bench.answer("10.0.0.171:80", Answer::Good);
    bench.seconds(15);
    assert_eq!(bench.took().iter().filter(|line| line.contains("mail")).count(), 1);
}

#[test]
fn mails_of_a_quorum_say_what_was_lost_and_gained() {
    let mut config = four(2, 1);
    config.services[0].smtp_alert = true;
    config.services[0].quorum_up = None;
    config.services[0].quorum_down = None;
    let mut bench = Bench::settled(&config);
    good(&mut bench, 0);
    let mails: Vec<_> = bench.took().into_iter().filter(|line| line.contains("mail")).collect();
    assert_eq!(
        mails,
        ["VS [10.0.0.1]:tcp:80 DOWN | mail: Virtualserver [10.0.0.1]:tcp:80 - DOWN / \
          => Lost quorum 2+1=1 <= 0 <="]
    );
    good(&mut bench, 4);
    let mails: Vec<_> = bench.took().into_iter().filter(|line| line.contains("mail")).collect();
    assert_eq!(
        mails,
        ["VS [10.0.0.1]:tcp:80 UP | mail: Virtualserver [10.0.0.1]:tcp:80 - UP / \
          => Gained quorum 2+1=3 <= 3 <="]
    );
}

#[test]
fn a_server_without_checks_is_always_in() {
    let config = pair_with(|service| service.servers[0].checkers.clear());
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(60);
    assert_eq!(bench.pool(), "71*1");
}

#[test]
fn forwarding_and_limits_reach_the_kernel() {
    let config = pair_with(|service| {
        service.servers[0].forward = Forward::Dr;
        service.servers[0].upper_threshold = 100;
        service.sorry_server = sorry(9);
        if let Some(sorry) = &mut service.sorry_server {
            sorry.forward = Forward::Dr;
        }
    });
    let mut bench = Bench::new();
    bench.reload(&config);
    bench.expect(&[
        "read",
        "+service 10.0.0.1:80 rr",
        "+10.0.0.71:80*1 dr limit 100",
        "+10.0.0.72:80*1",
    ]);
    good(&mut bench, 0);
    let took = bench.took();
    assert!(took.contains(&"+10.0.0.9:80*1 dr".to_owned()), "{took:#?}");
}
