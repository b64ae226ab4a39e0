//! Kinds of checks: what their results and their silence do to the pool, and what is logged and mailed.

use std::time::Duration;

use evervip::check::Event;
use evervip::check::probe::Verdict;
use evervip::model::checker::{
    CheckerKind, Connection, DnsCheck, FileCheck, ReplyPattern, SmtpCheck, UdpCheck, Unusable,
};
use evervip::model::{Checker, Lvs};
use evervip::status::TrackReport;

use super::bench::{Answer, Bench, pair_with, real, sorry, tcp};

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

/// Not even an attempt is made, also after a reload that keeps the state of the check.
#[test]
fn a_check_that_cannot_judge_keeps_its_server_out() {
    let why = "'payload' of the configuration cannot be used";
    let mut unusable = checked_by(udp(true));
    let checker = &mut unusable.services[0].servers[0].checkers[0];
    let kind = Unusable { check: "UDP_CHECK".into(), reason: why.into() };
    checker.kind = CheckerKind::Unusable(Box::new(kind));
    (checker.alpha, checker.retry) = (true, 0);
    let mut bench = Bench::new();
    bench.answer(FIRST, Answer::Good);
    bench.reload(&unusable);
    for _ in 0..30 {
        bench.seconds(1);
        assert!(bench.open.is_empty());
        assert_eq!(bench.pool(), "72*1");
    }
    says(&mut bench, &format!("UDP_CHECK on service [10.0.0.71]:tcp:80 failed ({why})."));
    bench.reload(&checked_by(udp(true)));
    bench.seconds(12);
    assert_eq!(bench.pool(), "71*1 72*1");
    bench.reload(&unusable);
    bench.seconds(12);
    assert_eq!(bench.pool(), "72*1");
    assert!(bench.open.is_empty());
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

/// A server of this kind goes after the first failure of all, returns, and goes again after a retry; with these lines
/// and mails.
fn goes_and_returns(kind: CheckerKind, up: &str, down: [&str; 2], mail: [&str; 2]) {
    let mut bench = begun(kind, Answer::Silent);
    bench.seconds(30);
    assert_eq!(bench.pool(), "72*1");
    says(&mut bench, down[0]);
    mails(&mut bench, mail[1]);
    bench.answer(FIRST, Answer::Good);
    bench.seconds(20);
    assert_eq!(bench.pool(), "71*1 72*1");
    says(&mut bench, up);
    mails(&mut bench, mail[0]);
    bench.answer(FIRST, Answer::Refuses);
    bench.seconds(12);
    assert_eq!(bench.pool(), "72*1");
    says(&mut bench, down[1]);
}

#[test]
fn an_echo_a_name_and_a_greeting_are_waited_for() {
    goes_and_returns(
        CheckerKind::Ping(connection()),
        "ICMP connection to [10.0.0.71]:tcp:80 success.",
        [
            "ICMP CHECK on service [10.0.0.71]:tcp:80 failed (timeout).",
            "ICMP CHECK on service [10.0.0.71]:tcp:80 of [10.0.0.1]:tcp:80 failed after 1 retries (Connection refused).",
        ],
        ["=> ICMP CHECK succeed on service <=", "=> ICMP CHECK failed on service <="],
    );
    let dns = DnsCheck { connection: connection(), kind: 6, name: "".into() };
    goes_and_returns(
        CheckerKind::Dns(Box::new(dns)),
        "DNS_CHECK ([10.0.0.71]:tcp:80) success.",
        [
            "DNS_CHECK ([10.0.0.71]:tcp:80) read timeout from socket",
            "DNS_CHECK ([10.0.0.71]:tcp:80) failed to read socket; Connection refused after 1 retries",
        ],
        ["=> DNS_CHECK: succeed on service <=", "=> DNS_CHECK: failed on service <="],
    );
    let smtp = SmtpCheck { connection: connection(), helo: None };
    goes_and_returns(
        CheckerKind::Smtp(Box::new(smtp)),
        "Remote SMTP server [10.0.0.71]:tcp:80 succeed on service.",
        [
            "SMTP_CHECK Connection timeout to server [10.0.0.71]:80",
            "SMTP_CHECK Error connecting to server [10.0.0.71]:80 (Connection refused)",
        ],
        [
            "=> CHECK succeed on service <=",
            "=> CHECK failed on service : Connection timeout to server <=",
        ],
    );
}

fn file(weight: i32, reverse: bool) -> CheckerKind {
    CheckerKind::File(FileCheck { file: "f".into(), weight, reverse })
}

fn number(bench: &mut Bench, name: &str, value: i32) {
    bench.event(Event::Report(TrackReport::file(name.into(), value)));
}

#[test]
fn a_number_in_a_file_takes_a_server_down_and_nothing_begins_before_it_is_known() {
    let mut bench = Bench::new();
    let mut config = checked_by(file(0, false));
    // Retries of the server are not for files.
    config.services[0].servers[0].checkers[0].retry = 3;
    config.services[0].sorry_server = sorry(99);
    bench.reload(&config);
    number(&mut bench, "g", 5);
    assert!(bench.kernel.services.is_empty());
    number(&mut bench, "f", 1);
    assert_eq!(bench.pool(), "72*1");
    assert!(!bench.took().iter().any(|line| line.contains("+10.0.0.71")));
    bench.seconds(1);
    assert_eq!(bench.pool(), "72*1");
    number(&mut bench, "f", 0);
    assert_eq!(bench.pool(), "71*1 72*1");
    says(&mut bench, "Adding service [10.0.0.71]:tcp:80 to VS [10.0.0.1]:tcp:80");
    bench.took();
    number(&mut bench, "f", -1);
    assert_eq!(bench.pool(), "72*1");
    let why = "(the number in track_file f is -1)";
    says(&mut bench, &format!("([10.0.0.71]:tcp:80): tracked file f now FAULT state {why}"));
    let took = bench.took();
    assert!(!took.iter().any(|line| line.contains("mail")), "{took:?}");
    number(&mut bench, "f", 0);
    says(&mut bench, "([10.0.0.71]:tcp:80): tracked file f leaving FAULT state");
    number(&mut bench, "f", -1);
    // The same number, whatever it means, is asked for again by nobody.
    bench.seconds(100);
    assert_eq!(bench.pool(), "72*1");
    bench.reload(&checked_by(file(0, true)));
    bench.seconds(1);
    assert_eq!(bench.pool(), "71*1 72*1");
}

#[test]
fn a_number_in_a_file_adds_to_the_weight() {
    let mut bench = Bench::new();
    bench.reload(&checked_by(file(2, false)));
    number(&mut bench, "f", 3);
    assert_eq!(bench.pool(), "71*7 72*1");
    number(&mut bench, "f", -7);
    assert_eq!(bench.pool(), "71*0 72*1");
    number(&mut bench, "f", 10);
    assert_eq!(bench.pool(), "71*21 72*1");
    // Another factor.
    bench.reload(&checked_by(file(1, true)));
    bench.seconds(1);
    assert_eq!(bench.pool(), "71*0 72*1");
    number(&mut bench, "f", -10);
    assert_eq!(bench.pool(), "71*11 72*1");
    // A process that goes on where the last one ended.
    let summary = bench.crash(2);
    bench.event(Event::Resume(summary));
    bench.reload(&checked_by(file(1, true)));
    number(&mut bench, "f", -10);
    bench.seconds(1);
    assert_eq!(bench.pool(), "71*11 72*1");
    assert_eq!(bench.took().iter().filter(|line| line.contains("10.0.0.71")).count(), 0);
    // The check goes, and with it what it added.
    let mut config = checked_by(file(1, true));
    config.services[0].servers[0].checkers.clear();
    bench.reload(&config);
    assert_eq!(bench.pool(), "71*1 72*1");
}

#[test]
fn a_report_that_does_not_come_is_not_waited_for_without_end() {
    let mut bench = begun(file(0, false), Answer::Good);
    bench.seconds(1);
    assert!(bench.kernel.services.is_empty());
    bench.seconds(2);
    assert_eq!(bench.pool(), "71*1 72*1");
    let assumed = "no value of track_file f yet, 0 is assumed";
    bench.seconds(2);
    says(&mut bench, assumed);
    number(&mut bench, "f", 1);
    assert_eq!(bench.pool(), "72*1");
    bench.seconds(60);
    assert!(!bench.log.take().iter().any(|line| line.ends_with(assumed)), "it is known");
    // A server that a reload adds is held back until its number is known.
    let mut config = checked_by(file(0, false));
    let mut added = real(73);
    added.checkers =
        vec![every(CheckerKind::File(FileCheck { file: "g".into(), weight: 0, reverse: false }))];
    config.services[0].servers.push(added);
    bench.reload(&config);
    assert_eq!(bench.pool(), "72*1");
    number(&mut bench, "g", 0);
    assert_eq!(bench.pool(), "72*1 73*1");
    // A stop while reports are waited for.
    let mut bench = begun(file(0, false), Answer::Good);
    bench.stop(false);
    assert!(bench.done);
}

fn session(bench: &mut Bench, up: bool) {
    bench.event(Event::Report(TrackReport::bfd("b".into(), up)));
}

#[test]
fn a_bfd_session_takes_a_server_down_at_once_and_brings_it_back() {
    let mut bench = Bench::new();
    let mut config = checked_by(CheckerKind::Bfd("b".into()));
    // Neither retries nor periods are for sessions.
    config.services[0].servers[0].checkers[0].retry = 3;
    bench.reload(&config);
    // Before its first change a session says nothing: nobody waits for a neighbor without BFD.
    assert_eq!(bench.pool(), "71*1 72*1");
    bench.seconds(100);
    assert_eq!(bench.pool(), "71*1 72*1");
    bench.took();
    session(&mut bench, true);
    assert_eq!(bench.took().iter().filter(|line| line.contains("mail")).count(), 0);
    session(&mut bench, false);
    assert_eq!(bench.pool(), "72*1");
    says(&mut bench, "BFD check of [b] RS([10.0.0.71]:tcp:80) is DOWN");
    mails(&mut bench, "=> BFD CHECK b failed on service <=");
    let last =
        |bench: &Bench| bench.engine.view(bench.now).services[0].servers[0].checks[0].last.clone();
    assert_eq!(last(&bench), "BFD session b is down");
    // A reload changes nothing, neither does a new process that hears of the same state.
    bench.reload(&config);
    bench.seconds(5);
    assert_eq!(bench.pool(), "72*1");
    let summary = bench.crash(2);
    bench.event(Event::Resume(summary));
    session(&mut bench, false);
    bench.reload(&config);
    bench.seconds(5);
    assert_eq!(bench.pool(), "72*1");
    session(&mut bench, true);
    assert_eq!(bench.pool(), "71*1 72*1");
    says(&mut bench, "BFD check of [b] RS([10.0.0.71]:tcp:80) is UP");
    mails(&mut bench, "=> BFD CHECK b succeeded on service <=");
    // Others are not concerned.
    bench.event(Event::Report(TrackReport::bfd("c".into(), false)));
    assert_eq!(bench.pool(), "71*1 72*1");
}

#[test]
fn with_alpha_a_server_waits_for_its_session() {
    let mut bench = Bench::new();
    let mut config = checked_by(CheckerKind::Bfd("b".into()));
    config.services[0].servers[0].checkers[0].alpha = true;
    bench.reload(&config);
    bench.seconds(100);
    assert_eq!(bench.pool(), "72*1");
    session(&mut bench, true);
    assert_eq!(bench.pool(), "71*1 72*1");
    // A start finds that another process had taken the server out, and knows no session yet: that does not stay so.
    let mut config = checked_by(CheckerKind::Bfd("b".into()));
    bench.reload(&config);
    session(&mut bench, false);
    assert_eq!(bench.pool(), "72*1");
    bench.crash(2);
    config.services[0].servers[0].checkers[0].alpha = false;
    bench.reload(&config);
    bench.seconds(5);
    assert_eq!(bench.pool(), "71*1 72*1");
}
