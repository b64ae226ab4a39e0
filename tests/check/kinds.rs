//! Kinds of checks: what their results and their silence do to the pool, and what is logged and mailed.

use std::time::Duration;

use evervip::check::probe::Verdict;
use evervip::model::checker::{CheckerKind, Connection, ReplyPattern, UdpCheck};
use evervip::model::{Checker, Lvs};

use super::bench::{Answer, Bench, pair_with, tcp};

const FIRST: &str = "10.0.0.71:80";

/// A check every 10 s with one retry after 1 s.
fn every(kind: CheckerKind) -> Checker {
    Checker {
        kind,
        delay_loop: Duration::from_secs(10),
        retry: 1,
        delay_before_retry: Duration::from_secs(1),
        warmup: Duration::ZERO,
        ..tcp(71)
    }
}

/// To the first server, with a limit of 5 s.
fn connection() -> Connection {
    let CheckerKind::Tcp(connection) = tcp(71).kind else { panic!("another kind") };
    connection
}

fn checked_by(kind: CheckerKind) -> Lvs {
    pair_with(|service| {
        service.servers[0].checkers = vec![every(kind)];
        service.servers[0].smtp_alert = true;
        service.servers[1].checkers.clear();
    })
}

fn begun(kind: CheckerKind, answer: Answer) -> Bench {
    let mut bench = Bench::new();
    bench.answer(FIRST, answer);
    bench.reload(&checked_by(kind));
    bench.forget();
    bench
}

/// What was logged that ends like this.
fn says(bench: &mut Bench, line: &str) {
    let lines = bench.log.take();
    assert!(lines.iter().any(|said| said.ends_with(line)), "{line}: {lines:#?}");
}

fn mails(bench: &mut Bench, body: &str) {
    let took = bench.took();
    assert!(took.iter().any(|line| line.ends_with(&format!(" / {body}"))), "{body}: {took:#?}");
}

fn udp(reply: bool) -> CheckerKind {
    CheckerKind::Udp(Box::new(UdpCheck {
        connection: connection(),
        payload: None,
        reply: reply.then(ReplyPattern::default),
        min_reply: 0,
        max_reply: 255,
    }))
}

#[test]
fn silence_is_good_for_udp_unless_a_reply_is_required() {
    let mut bench = begun(udp(false), Answer::Silent);
    bench.seconds(5);
    assert_eq!(bench.open.len(), 1);
    bench.seconds(1);
    assert!(bench.open.is_empty());
    assert_eq!(bench.pool(), "71*1 72*1");
    says(&mut bench, "UDP connection to [10.0.0.71]:tcp:80 success.");
    // It refuses: the first failure and one retry.
    bench.answer(FIRST, Answer::Refuses);
    bench.seconds(5);
    assert_eq!(bench.pool(), "71*1 72*1");
    bench.seconds(1);
    assert_eq!(bench.pool(), "72*1");
    mails(&mut bench, "=> UDP CHECK failed on service <=");
    let why = "failed after 1 retries (Connection refused).";
    says(&mut bench, &format!("UDP_CHECK on service [10.0.0.71]:tcp:80 {why}"));
    bench.answer(FIRST, Answer::Silent);
    bench.seconds(14);
    assert_eq!(bench.pool(), "71*1 72*1");
    mails(&mut bench, "=> UDP CHECK succeed on service <=");

    let mut bench = begun(udp(true), Answer::Silent);
    bench.seconds(6);
    assert_eq!(bench.pool(), "72*1");
    says(&mut bench, "UDP_CHECK on service [10.0.0.71]:tcp:80 failed (timeout).");
}

#[test]
fn another_payload_is_the_same_udp_check() {
    let mut bench = begun(udp(true), Answer::Good);
    bench.seconds(2);
    let mut other = checked_by(udp(true));
    let CheckerKind::Udp(check) = &mut other.services[0].servers[0].checkers[0].kind else {
        panic!("another kind")
    };
    check.payload = Some([1].into());
    bench.forget();
    bench.reload(&other);
    assert!(!bench.log.take().iter().any(|line| line.contains("Activating")));
    let view = bench.engine.view(bench.now);
    let last = &view.services[0].servers[0].checks[0].last;
    assert_eq!(*last, Verdict::SUCCESS.to_string());
}
