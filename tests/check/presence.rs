//! `ha_suspend`: checks that run only while the host has the address of their service.

use core::net::IpAddr;
use core::time::Duration;

use evervip::check::Event;
use evervip::model::{Checker, Lvs};

use super::bench::{Answer, Bench, at, pair_with, tcp};

const FIRST: &str = "10.0.0.71:80";

/// A service of 10.0.0.1 whose first server is checked.
fn suspendable() -> Lvs {
    pair_with(|service| {
        service.servers[0].checkers = vec![Checker { warmup: Duration::ZERO, ..tcp(71) }];
        service.servers[1].checkers.clear();
        service.extras.get_or_insert_default().ha_suspend = true;
    })
}

fn present(bench: &mut Bench, addresses: &[IpAddr]) {
    bench.event(Event::Present(Some(addresses.iter().copied().collect())));
}

fn is_suspended(bench: &Bench) -> bool {
    bench.engine.view(bench.now).services[0].suspended
}

#[test]
fn without_the_address_nothing_is_attempted_and_everything_stays() {
    let mut bench = Bench::new();
    bench.answer(FIRST, Answer::Refuses);
    present(&mut bench, &[]);
    bench.reload(&suspendable());
    let line = "Deactivating healthchecker for service [10.0.0.71]:tcp:80 for VS [10.0.0.1]:tcp:80";
    assert!(bench.log.take().iter().any(|said| said.ends_with(line)));
    bench.seconds(300);
    assert_eq!(bench.pool(), "71*1 72*1");
    assert_eq!(bench.engine.view(bench.now).counters.attempts, 0);
    assert!(is_suspended(&bench));
    // Another address of the host is not enough.
    present(&mut bench, &[at(2)]);
    bench.seconds(300);
    assert_eq!(bench.engine.view(bench.now).counters.attempts, 0);
    // The address comes: within a second the server is tried, and found bad.
    present(&mut bench, &[at(1), at(2)]);
    assert!(!is_suspended(&bench));
    let line = "Activating healthchecker for service [10.0.0.71]:tcp:80 for VS [10.0.0.1]:tcp:80";
    assert!(bench.log.take().iter().any(|said| said.ends_with(line)));
    bench.seconds(1);
    assert_eq!(bench.pool(), "72*1");
    // It goes: the server that has come back in the meantime stays out.
    present(&mut bench, &[at(2)]);
    let line = "Suspending healthchecker for service [10.0.0.71]:tcp:80 for VS [10.0.0.1]:tcp:80";
    assert!(bench.log.take().iter().any(|said| said.ends_with(line)));
    bench.answer(FIRST, Answer::Good);
    bench.seconds(300);
    assert_eq!(bench.pool(), "72*1");
    present(&mut bench, &[at(1)]);
    bench.seconds(1);
    assert_eq!(bench.pool(), "71*1 72*1");
    // And its checks go on regularly.
    let before = bench.engine.view(bench.now).counters.attempts;
    bench.seconds(60);
    assert!(bench.engine.view(bench.now).counters.attempts > before + 3);
}

#[test]
fn an_attempt_under_way_is_abandoned_with_the_address() {
    let mut bench = Bench::new();
    bench.answer(FIRST, Answer::Silent);
    present(&mut bench, &[at(1)]);
    bench.reload(&suspendable());
    bench.seconds(2);
    assert_eq!(bench.open.len(), 1);
    present(&mut bench, &[]);
    assert!(bench.open.is_empty());
    bench.seconds(60);
    assert_eq!(bench.pool(), "71*1 72*1");
}

#[test]
fn a_reload_suspends_and_continues() {
    let mut bench = Bench::new();
    bench.answer(FIRST, Answer::Good);
    let mut config = suspendable();
    config.services[0].extras = None;
    present(&mut bench, &[]);
    bench.reload(&config);
    bench.seconds(60);
    let attempts = |bench: &Bench| bench.engine.view(bench.now).counters.attempts;
    assert!(attempts(&bench) > 3);
    bench.reload(&suspendable());
    let before = attempts(&bench);
    bench.seconds(60);
    assert_eq!(attempts(&bench), before);
    // What the host has cannot be learned any more: it is safer to check.
    bench.event(Event::Present(None));
    bench.seconds(60);
    assert!(attempts(&bench) > before + 3);
    present(&mut bench, &[]);
    let before = attempts(&bench);
    bench.seconds(60);
    assert_eq!(attempts(&bench), before);
    bench.reload(&config);
    bench.seconds(60);
    assert!(attempts(&bench) > before + 3);
}
