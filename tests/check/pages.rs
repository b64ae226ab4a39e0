//! `HTTP_GET`: a check that has several pages.

use std::time::Duration;

use evervip::check::probe::{Closing, Request};
use evervip::model::checker::{CheckerKind, HttpCheck, HttpProtocol, Source, Url};
use evervip::model::{Checker, Lvs};

use super::bench::{Answer, Bench, pair_with, tcp};

fn url(path: &str) -> Url {
    Url {
        path: path.into(),
        digest: None,
        status: vec![(200, 299)],
        virtualhost: None,
        pattern: None,
        tls_compliant: None,
    }
}

/// A check of pages every 10 s, with one retry after 1 s.
fn check(paths: &[&str], fast_recovery: bool) -> Checker {
    let plain = tcp(71);
    let CheckerKind::Tcp(connection) = plain.kind else { panic!("another kind") };
    let http = HttpCheck {
        connection,
        tls: false,
        protocol: HttpProtocol::V1_0,
        sni: false,
        sni_name: None,
        fast_recovery,
        tls_compliant: false,
        virtualhost: None,
        urls: paths.iter().map(|path| url(path)).collect(),
    };
    Checker {
        kind: CheckerKind::Http(Box::new(http)),
        delay_loop: Duration::from_secs(10),
        retry: 1,
        delay_before_retry: Duration::from_secs(1),
        warmup: Duration::ZERO,
        ..plain
    }
}

fn pages(paths: &[&str], fast_recovery: bool) -> Lvs {
    pair_with(|service| {
        service.servers[0].checkers = vec![check(paths, fast_recovery)];
        service.servers[1].checkers.clear();
    })
}

/// A bench that has started with a configuration, and records its attempts.
fn begun(config: &Lvs) -> Bench {
    let mut bench = Bench::new();
    bench.trace_probes = true;
    bench.reload(config);
    bench
}

/// The attempts within this many seconds, with the second of each.
fn attempts(bench: &mut Bench, seconds: u64) -> String {
    let mut all = Vec::new();
    for second in 1..=seconds {
        bench.took();
        bench.seconds(1);
        let took = bench.took();
        let paths = took.iter().filter_map(|line| line.strip_prefix("try 10.0.0.71:80 "));
        all.extend(paths.map(|path| format!("{second}{path}")));
    }
    all.join(" ")
}

#[test]
fn pages_are_fetched_one_after_the_other_with_a_pause() {
    let mut bench = begun(&pages(&["/a", "/b", "/c"], false));
    assert_eq!(attempts(&mut bench, 45), "1/a 11/b 21/c 31/a 41/b");
    assert_eq!(bench.pool(), "71*1 72*1");
}

#[test]
fn a_bad_page_is_tried_alone_and_all_are_tried_before_the_server_returns() {
    let mut bench = begun(&pages(&["/a", "/b", "/c"], false));
    assert_eq!(attempts(&mut bench, 35), "1/a 11/b 21/c 31/a");
    bench.bad_pages.insert("/b".into());
    // At 41 it fails, and a second later it has failed often enough.
    assert_eq!(attempts(&mut bench, 6), "6/b");
    assert_eq!(bench.pool(), "71*1 72*1");
    assert_eq!(attempts(&mut bench, 1), "1/b");
    assert_eq!(bench.pool(), "72*1");
    let view = bench.engine.view(bench.now);
    assert_eq!(view.services[0].servers[0].checks[0].last, "status 503 from url(/b)");
    let said = |bench: &mut Bench, line: &str| {
        let lines = bench.log.take();
        assert!(lines.iter().any(|said| said.ends_with(line)), "{line}: {lines:#?}");
    };
    let why = "(status 503 from url(/b)).";
    let line = format!("HTTP_CHECK on service [10.0.0.71]:tcp:80 failed after 1 retries {why}");
    said(&mut bench, &line);
    assert_eq!(attempts(&mut bench, 20), "9/b 19/b");
    bench.bad_pages.clear();
    assert_eq!(attempts(&mut bench, 35), "9/b 19/a 29/b");
    assert_eq!(bench.pool(), "72*1");
    assert_eq!(attempts(&mut bench, 5), "4/c");
    assert_eq!(bench.pool(), "71*1 72*1");
    let lines = bench.log.take().join("\n");
    assert!(lines.contains("HTTP status code success to [10.0.0.71]:tcp:80 url(/b)"), "{lines}");
    assert!(lines.contains("Remote Web server [10.0.0.71]:tcp:80 succeed on service."), "{lines}");
}

#[test]
fn one_page_that_is_good_again_is_enough() {
    let mut bench = begun(&pages(&["/a"], false));
    bench.bad_pages.insert("/a".into());
    // Nothing is known yet: the first attempt decides.
    assert_eq!(attempts(&mut bench, 5), "1/a");
    assert_eq!(bench.pool(), "72*1");
    bench.bad_pages.clear();
    assert_eq!(attempts(&mut bench, 10), "6/a");
    assert_eq!(bench.pool(), "71*1 72*1");
}

#[test]
fn fast_recovery_makes_no_pause_until_all_pages_are_good() {
    let mut bench = begun(&pages(&["/a", "/b", "/c"], true));
    assert_eq!(attempts(&mut bench, 25), "1/a 1/b 1/c 11/a 21/b");
    bench.bad_pages.insert("/c".into());
    assert_eq!(attempts(&mut bench, 20), "6/c 7/c 16/c");
    assert_eq!(bench.pool(), "72*1");
    bench.bad_pages.clear();
    bench.bad_pages.insert("/b".into());
    // The bad one is good, and another one is bad meanwhile.
    assert_eq!(attempts(&mut bench, 10), "6/c 6/a 6/b");
    bench.bad_pages.clear();
    assert_eq!(attempts(&mut bench, 10), "6/b 6/a 6/b 6/c");
    assert_eq!(bench.pool(), "71*1 72*1");
    assert_eq!(attempts(&mut bench, 20), "6/a 16/b");
}

#[test]
fn a_check_that_is_down_waits_for_delay_before_retry_at_least() {
    let mut config = pages(&["/a"], false);
    config.services[0].servers[0].checkers[0].delay_before_retry = Duration::from_secs(25);
    let mut bench = begun(&config);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    assert_eq!(attempts(&mut bench, 55), "1/a 26/a 51/a");
}

#[test]
fn a_silent_server_costs_its_own_check_only() {
    let mut bench = begun(&pages(&["/a"], false));
    bench.answer("10.0.0.71:80", Answer::Silent);
    // Twelve times connect_timeout, whatever it sends meanwhile.
    bench.seconds(200);
    assert_eq!(bench.pool(), "72*1");
    assert!(bench.most_open == 1, "{} at once", bench.most_open);
}

#[test]
fn from_a_fixed_port_the_connection_ends_by_reset() {
    let mut config = pages(&["/a"], false);
    let CheckerKind::Http(http) = &mut config.services[0].servers[0].checkers[0].kind else {
        panic!("another kind")
    };
    http.connection.from = Some(Source { address: [10, 0, 0, 2].into(), port: 4711 });
    let mut bench = Bench::new();
    bench.answer("10.0.0.71:80", Answer::Silent);
    bench.reload(&config);
    bench.seconds(1);
    assert!(matches!(bench.open.values().next(), Some(Request::Http(_))));
    assert_eq!(bench.closings, [Closing::Reset]);
}

#[test]
fn mails_about_pages_say_what_became_of_the_request() {
    let mut config = pages(&["/"], false);
    for service in &mut config.services {
        let mut new = (**service).clone();
        new.servers[0].smtp_alert = true;
        *service = new.into();
    }
    let mut bench = begun(&config);
    bench.seconds(1);
    for (answer, body) in [
        (Answer::Refuses, "=> CHECK failed on service : HTTP/SSL request failed <="),
        (Answer::Good, "=> CHECK succeed on service <="),
    ] {
        bench.forget();
        bench.answer("10.0.0.71:80", answer);
        bench.seconds(30);
        let took = bench.took();
        let mailed = |line: &&String| line.ends_with(&format!(" / {body}"));
        assert_eq!(took.iter().filter(mailed).count(), 1, "{took:#?}");
    }
}
