//! When checks are tried, and the effect of their results.

use std::time::Duration;

use evervip::base::Instant;
use evervip::check::probe::Verdict;
use evervip::check::{Action, Actions, Engine, Event, Limits};
use evervip::model::Lvs;

use super::bench::{Answer, Bench, lvs, pair, pair_with, real, service};

/// The pair with .71's check changed.
fn with_check(change: impl Fn(&mut evervip::model::Checker)) -> Lvs {
    pair_with(|service| change(&mut service.servers[0].checkers[0]))
}

/// Times, in seconds after `start`, at which .71 is tried.
fn attempts(bench: &mut Bench, start: Instant, time: Duration) -> Vec<f64> {
    bench.trace_probes = true;
    let end = bench.now + time;
    let mut moments = Vec::new();
    while let Some(due) = bench.engine.deadline().filter(|due| *due <= end) {
        bench.forget();
        bench.run(due.since(bench.now));
        let tried = bench.took().iter().filter(|line| *line == "try 10.0.0.71:80").count();
        moments.extend(vec![due.since(start).as_secs_f64(); tried]);
    }
    bench.run(end.since(bench.now));
    moments
}

#[test]
fn the_first_attempt_comes_after_a_second_and_a_part_of_the_warmup() {
    let mut parts = Vec::new();
    for seed in 0..50 {
        let mut bench = Bench::with(seed, Limits::default());
        let start = bench.now;
        bench.reload(&with_check(|check| check.warmup = Duration::from_secs(10)));
        let first = attempts(&mut bench, start, Duration::from_secs(11))[0];
        assert!((1.0..=11.0).contains(&first), "{first}");
        parts.push(first);
    }
    parts.sort_by(f64::total_cmp);
    assert!(parts[0] < 3.0 && parts[49] > 9.0, "the warm-up spreads attempts: {parts:?}");
    let mut bench = Bench::new();
    let start = bench.now;
    bench.reload(&with_check(|check| check.warmup = Duration::ZERO));
    assert_eq!(attempts(&mut bench, start, Duration::from_secs(5)), [1.0]);
}

#[test]
fn attempts_keep_their_phase_however_long_a_server_takes() {
    let mut bench = Bench::new();
    let start = bench.now;
    bench.reload(&with_check(|check| check.warmup = Duration::ZERO));
    assert_eq!(attempts(&mut bench, start, Duration::from_secs(30)), [1.0, 11.0, 21.0]);
    // Each silence lasts the 5 s of the limit, and one repetition follows while the check is up.
    bench.answer("10.0.0.71:80", Answer::Silent);
    assert_eq!(
        attempts(&mut bench, start, Duration::from_secs(40)),
        [31.0, 37.0, 51.0, 61.0],
        "31 fails at 36, its repetition at 42; then the server is down and is tried every 10 s"
    );
}

#[test]
fn an_attempt_longer_than_the_interval_skips_to_the_next_point() {
    let mut bench = Bench::new();
    let start = bench.now;
    bench.answer("10.0.0.71:80", Answer::Silent);
    bench.reload(&with_check(|check| {
        check.warmup = Duration::ZERO;
        check.delay_loop = Duration::from_secs(2);
    }));
    assert_eq!(attempts(&mut bench, start, Duration::from_secs(18)), [1.0, 7.0, 13.0]);
}

#[test]
fn the_very_first_attempt_decides_without_retries() {
    let mut bench = Bench::new();
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.reload(&with_check(|check| {
        check.warmup = Duration::ZERO;
        check.retry = 3;
    }));
    bench.expect(&["read", "+service 10.0.0.1:80 rr", "+10.0.0.71:80*1", "+10.0.0.72:80*1"]);
    bench.log.take();
    bench.seconds(1);
    bench.expect(&["-10.0.0.71:80"]);
    bench.log.expect(&[
        "TCP_CHECK on service [10.0.0.71]:tcp:80 failed.",
        "Removing service [10.0.0.71]:tcp:80 from VS [10.0.0.1]:tcp:80",
    ]);
}

#[test]
fn a_server_that_is_up_goes_down_after_its_retries() {
    let config = with_check(|check| {
        check.retry = 2;
        check.delay_before_retry = Duration::from_secs(3);
    });
    let mut bench = Bench::settled(&config);
    bench.trace_probes = true;
    bench.answer("10.0.0.71:80", Answer::Refuses);
    while !bench.trace.contains(&"try 10.0.0.71:80".to_owned()) {
        bench.run(Duration::from_millis(100));
    }
    bench.trace.clear();
    bench.run(Duration::from_millis(2800));
    assert!(!bench.trace.contains(&"try 10.0.0.71:80".to_owned()), "not before 3 s");
    bench.run(Duration::from_millis(300));
    assert_eq!(bench.pool(), "71*1 72*1", "one retry is left");
    bench.log.take();
    bench.run(Duration::from_millis(3000));
    assert_eq!(bench.pool(), "72*1");
    bench.log.expect(&[
        "TCP_CHECK on service [10.0.0.71]:tcp:80 failed after 2 retries.",
        "Removing service [10.0.0.71]:tcp:80 from VS [10.0.0.1]:tcp:80",
    ]);
}

#[test]
fn a_success_between_failures_starts_the_count_again() {
    let config = with_check(|check| check.retry = 1);
    let mut bench = Bench::settled(&config);
    for _ in 0..3 {
        bench.answer("10.0.0.71:80", Answer::Refuses);
        // Past one failure, before its repetition.
        while bench.engine.view(bench.now).services[0].servers[0].checks[0].failed_attempts == 0 {
            bench.run(Duration::from_millis(50));
        }
        bench.answer("10.0.0.71:80", Answer::Good);
        bench.seconds(2);
    }
    assert_eq!(bench.pool(), "71*1 72*1");
    assert_eq!(bench.took(), Vec::<String>::new());
}

#[test]
fn without_retries_one_failure_is_enough() {
    let config = with_check(|check| check.retry = 0);
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(11);
    bench.expect(&["-10.0.0.71:80"]);
    bench.log.expect(&[
        "TCP_CHECK on service [10.0.0.71]:tcp:80 failed.",
        "Removing service [10.0.0.71]:tcp:80 from VS [10.0.0.1]:tcp:80",
    ]);
}

#[test]
fn the_first_success_brings_a_server_back() {
    let mut bench = Bench::settled(&with_check(|_| {}));
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    bench.forget();
    bench.seconds(100);
    bench.expect(&[]);
    bench.log.expect(&[]);
    bench.answer("10.0.0.71:80", Answer::Good);
    bench.seconds(10);
    bench.expect(&["+10.0.0.71:80*1"]);
    bench.log.expect(&[
        "TCP connection to [10.0.0.71]:tcp:80 success.",
        "Adding service [10.0.0.71]:tcp:80 to VS [10.0.0.1]:tcp:80",
    ]);
}

#[test]
fn silence_is_a_failure_when_the_limit_is_reached() {
    let config = with_check(|check| {
        check.retry = 0;
        check.log_all_failures = true;
    });
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.71:80", Answer::Silent);
    while bench.open.is_empty() {
        bench.run(Duration::from_millis(10));
    }
    bench.run(Duration::from_millis(4900));
    bench.expect(&[]);
    bench.run(Duration::from_millis(200));
    assert!(bench.open.is_empty(), "the attempt is cancelled");
    bench.expect(&["-10.0.0.71:80"]);
    bench.log.expect(&[
        "TCP connection to [10.0.0.71]:tcp:80 timeout.",
        "TCP_CHECK on service [10.0.0.71]:tcp:80 failed.",
        "Removing service [10.0.0.71]:tcp:80 from VS [10.0.0.1]:tcp:80",
    ]);
}

#[test]
fn log_all_failures_names_attempts_that_do_not_decide() {
    for (all, lines) in
        [(true, vec!["TCP connection to [10.0.0.71]:tcp:80 failed."]), (false, vec![])]
    {
        let mut bench = Bench::settled(&with_check(|check| check.log_all_failures = all));
        bench.answer("10.0.0.71:80", Answer::Refuses);
        while bench.engine.view(bench.now).services[0].servers[0].checks[0].failed_attempts == 0 {
            bench.run(Duration::from_millis(50));
        }
        bench.log.expect(&lines);
    }
}

#[test]
fn what_could_not_be_tried_says_nothing_about_the_server() {
    let mut bench = Bench::settled(&with_check(|check| check.retry = 0));
    bench.answer("10.0.0.71:80", Answer::Untried);
    bench.seconds(100);
    bench.expect(&[]);
    bench.log.expect(&["TCP_CHECK on service [10.0.0.71]:tcp:80: not tried: cannot bind to the \
                        source address: Cannot assign requested address. Rescheduling"]);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(10);
    bench.expect(&["-10.0.0.71:80"]);
    bench.answer("10.0.0.71:80", Answer::Untried);
    bench.seconds(100);
    bench.expect(&[]);
}

/// A stopped process or a stalled machine must not consider its servers dead.
#[test]
fn a_limit_noticed_late_is_tried_again_first() {
    let mut bench = Bench::settled(&with_check(|check| check.retry = 0));
    bench.answer("10.0.0.71:80", Answer::Silent);
    while bench.open.is_empty() {
        bench.run(Duration::from_millis(10));
    }
    // Nothing runs for a minute; then the timer is processed. The server answers now.
    bench.now = bench.now + Duration::from_secs(60);
    bench.answer("10.0.0.71:80", Answer::Good);
    bench.event(Event::Timer);
    bench.seconds(30);
    bench.expect(&[]);
    assert_eq!(bench.pool(), "71*1 72*1");
    assert!(bench.engine.view(bench.now).counters.repeated >= 1);
    // A server that is really dead is still detected: the second consecutive late timeout counts.
    bench.answer("10.0.0.71:80", Answer::Silent);
    while bench.open.is_empty() {
        bench.run(Duration::from_millis(10));
    }
    for _ in 0..2 {
        bench.now = bench.now + Duration::from_secs(60);
        bench.event(Event::Timer);
    }
    assert_eq!(bench.pool(), "72*1");
}

/// Up to 200 ms are the lateness of any busy machine; more is a stall.
#[test]
fn a_stall_is_more_than_a_fifth_of_a_second() {
    for (late, pool, repeated) in [(0, "72*1", 0), (200, "72*1", 0), (201, "71*1 72*1", 1)] {
        let mut bench = Bench::settled(&with_check(|check| check.retry = 0));
        let before = bench.engine.view(bench.now).counters.repeated;
        bench.answer("10.0.0.71:80", Answer::Silent);
        while bench.open.is_empty() {
            bench.run(Duration::from_millis(10));
        }
        // The attempt that just began has the latest time limit of all timers that are near.
        let limit = bench.engine.view(bench.now).services[0].servers[0].checks[0].due.unwrap();
        bench.now = limit + Duration::from_millis(late);
        bench.event(Event::Timer);
        assert_eq!(bench.pool(), pool, "{late} ms");
        let counters = bench.engine.view(bench.now).counters;
        assert_eq!(counters.repeated - before, repeated, "{late} ms");
        // One that is repeated and silent again counts, in time or late.
        bench.seconds(5);
        assert_eq!(bench.pool(), "72*1", "{late} ms");
    }
}

#[test]
fn a_late_answer_to_an_attempt_given_up_says_nothing() {
    let mut bench = Bench::settled(&with_check(|check| check.retry = 0));
    bench.answer("10.0.0.71:80", Answer::Silent);
    while bench.open.is_empty() {
        bench.run(Duration::from_millis(10));
    }
    let probe = *bench.open.keys().next().unwrap();
    bench.seconds(5);
    assert_eq!(bench.pool(), "72*1");
    bench.event(Event::Probed { probe, verdict: Verdict::SUCCESS });
    assert_eq!(bench.pool(), "72*1");
    // An answer in time counts, and the timer of its attempt is gone.
    while bench.open.is_empty() {
        bench.run(Duration::from_millis(10));
    }
    bench.end_probe("10.0.0.71:80", Verdict::SUCCESS);
    assert_eq!(bench.pool(), "71*1 72*1");
}

#[test]
fn no_more_attempts_than_the_limit_run_at_once_and_none_is_forgotten() {
    let servers: Vec<_> = (10..60).map(real).collect();
    let mut config = lvs(vec![service(1, servers)]);
    for server in &mut config.services[0].servers {
        server.checkers[0].warmup = Duration::ZERO;
    }
    let mut bench = Bench::with(1, Limits { probes: 7, writes: 4, ..Limits::default() });
    for n in 10..60 {
        bench.answer(&format!("10.0.0.{n}:80"), Answer::Silent);
    }
    bench.reload(&config);
    bench.seconds(1);
    assert_eq!(bench.open.len(), 7);
    let view = bench.engine.view(bench.now);
    assert_eq!((view.probes_running, view.probes_waiting), (7, 43));
    // Each batch of 7 takes 5 s: the 50 are done after 40 s.
    bench.seconds(40);
    assert_eq!(bench.most_open, 7);
    assert_eq!(bench.pool(), "", "all were tried and found dead");
}

#[test]
fn connections_end_by_reset_only_when_the_configuration_says_so() {
    use evervip::check::probe::Closing;
    let closing = |count: u8, close_by_reset: bool| {
        let servers: Vec<_> = (0..count)
            .map(|n| {
                let mut server = real(n);
                server.checkers[0].delay_loop = Duration::from_secs(1);
                server
            })
            .collect();
        let mut engine = Engine::new(1, Limits::default());
        let mut out = Actions::new();
        let now = Instant::from_nanos(0);
        let config = Lvs { close_by_reset, ..lvs(vec![service(1, servers)]) };
        engine.handle(now, Event::Reload(std::sync::Arc::new(config)), &mut out);
        let Some(Action::Read { services }) = out.drain().next() else { panic!("no reading") };
        let result = Ok(evervip::plan::ipvs::Table::default());
        engine.handle(now, Event::Table { services, result }, &mut out);
        out.clear();
        let due = engine.deadline().unwrap();
        engine.handle(due, Event::Timer, &mut out);
        out.drain()
            .find_map(|action| match action {
                Action::StartProbe { closing, .. } => Some(closing),
                _ => None,
            })
            .expect("an attempt")
    };
    assert_eq!(closing(1, false), Closing::Orderly);
    assert_eq!(closing(250, false), Closing::Orderly);
    assert_eq!(closing(1, true), Closing::Reset);
}

/// A connection in TIME_WAIT would keep the next one from the same port.
#[test]
fn a_check_from_a_fixed_port_ends_its_connection_by_reset() {
    use evervip::check::probe::{Closing, Request};
    use evervip::model::CheckerKind;
    use evervip::model::checker::Source;
    for (port, closing) in [(0, Closing::Orderly), (4711, Closing::Reset)] {
        let config = with_check(|check| {
            let CheckerKind::Tcp(connection) = &mut check.kind else { panic!("another kind") };
            connection.from = Some(Source { address: [10, 0, 0, 2].into(), port });
            check.warmup = Duration::ZERO;
        });
        let mut bench = Bench::new();
        bench.answer("10.0.0.71:80", Answer::Silent);
        bench.reload(&config);
        bench.seconds(1);
        let Some(Request::Tcp(connection)) = bench.open.values().next() else {
            panic!("no attempt")
        };
        assert_eq!(connection.from.map(|from| from.port), Some(port));
        assert_eq!(bench.closings, [closing]);
    }
}

#[test]
fn a_check_that_becomes_another_kind_begins_anew_and_its_server_stays() {
    let config = with_check(|check| {
        check.kind = evervip::model::CheckerKind::Bfd("b".into());
    });
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(60);
    assert_eq!(bench.pool(), "71*1 72*1");
    bench.reload(&with_check(|_| {}));
    assert_eq!(bench.pool(), "71*1 72*1");
    bench.seconds(60);
    assert_eq!(bench.pool(), "72*1");
}

#[test]
fn alpha_holds_a_server_out_until_it_succeeds() {
    let config = with_check(|check| {
        check.alpha = true;
        check.warmup = Duration::ZERO;
    });
    let mut bench = Bench::new();
    bench.reload(&config);
    bench.expect(&["read", "+service 10.0.0.1:80 rr", "+10.0.0.72:80*1"]);
    bench.seconds(1);
    bench.expect(&["+10.0.0.71:80*1"]);
}

#[test]
fn equal_inputs_give_equal_outputs() {
    let run = || {
        let mut bench = Bench::with(7, Limits::default());
        bench.trace_probes = true;
        bench.reload(&with_check(|_| {}));
        bench.answer("10.0.0.72:80", Answer::Silent);
        bench.seconds(100);
        bench.took()
    };
    assert_eq!(run(), run());
    assert!(run().len() > 10);
}

#[test]
fn attempts_and_operations_are_counted_by_their_results() {
    let mut bench = Bench::new();
    bench.trace_probes = true;
    bench.reload(&pair());
    assert_eq!(bench.engine.view(bench.now).counters.operations, 3, "a service and its servers");
    for answer in [Answer::Good, Answer::Refuses, Answer::Untried] {
        for server in ["10.0.0.71:80", "10.0.0.72:80"] {
            bench.answer(server, answer);
        }
        let before = bench.engine.view(bench.now).counters;
        bench.forget();
        bench.seconds(30);
        let tried = bench.took().iter().filter(|line| line.starts_with("try ")).count();
        let tried = u64::try_from(tried).unwrap();
        assert!(tried > 2);
        let after = bench.engine.view(bench.now).counters;
        let results = [
            (Answer::Good, after.succeeded - before.succeeded),
            (Answer::Refuses, after.failed - before.failed),
            (Answer::Untried, after.untried - before.untried),
        ];
        assert_eq!(after.attempts - before.attempts, tried);
        for (result, count) in results {
            assert_eq!(count, if result == answer { tried } else { 0 }, "{result:?} of {answer:?}");
        }
        assert_eq!(after.repeated, 0);
    }
    bench.refuse = Box::new(|_| Some(1));
    bench.reload(&pair_with(|service| service.servers.push(real(73))));
    assert_eq!(bench.engine.view(bench.now).counters.refused, 1);
}

/// Only pages wait at least as long as a retry while their server is down.
#[test]
fn a_connection_to_a_server_that_is_down_is_tried_by_its_delay_loop() {
    let config = with_check(|check| {
        check.delay_loop = Duration::from_secs(2);
        check.delay_before_retry = Duration::from_secs(9);
        check.retry = 0;
    });
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(5);
    assert_eq!(bench.pool(), "72*1");
    let start = bench.now;
    let tried = attempts(&mut bench, start, Duration::from_secs(6));
    assert_eq!(tried.len(), 3, "{tried:?}");
}
