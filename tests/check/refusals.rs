//! A kernel that refuses, and other programs that change the table.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use evervip::base::Name;
use evervip::check::{Event, Limits};
use evervip::model::Lvs;
use evervip::plan::ipvs::{Op, Settings};
use evervip::status::check::Kernel;

use super::bench::{
    Answer, Bench, command, destination, key, lvs, pair, pair_with, real, service, sorry,
};

/// Times, in whole seconds from now, of the next actions.
fn moments(bench: &mut Bench, count: usize) -> Vec<u64> {
    let start = bench.now;
    let mut moments = Vec::new();
    bench.took();
    while moments.len() < count {
        let due = bench.engine.deadline().unwrap();
        bench.run(due.since(bench.now));
        if !bench.took().is_empty() {
            moments.push(due.since(start).as_secs());
        }
    }
    moments
}

#[test]
fn a_refused_server_does_not_count_and_is_tried_again() {
    let refused = Rc::new(Cell::new(true));
    let switch = Rc::clone(&refused);
    let mut bench = Bench::new();
    bench.refuse = Box::new(move |op| {
        let is_add =
            matches!(op, Op::AddDestination { destination: d, .. } if *d == destination(72));
        (is_add && switch.get()).then_some(22)
    });
    let config = pair_with(|service| {
        service.quorum = 2;
        service.quorum_up = command("/bin/up");
        service.servers[1].notify_up = command("/bin/alive");
    });
    bench.reload(&config);
    bench.expect(&[
        "read",
        "+service 10.0.0.1:80 rr",
        "+10.0.0.71:80*1",
        "+10.0.0.72:80*1 -> Refused(22)",
    ]);
    bench.log.expect(&[
        "Activating healthchecker for service [10.0.0.71]:tcp:80 for VS [10.0.0.1]:tcp:80",
        "Activating healthchecker for service [10.0.0.72]:tcp:80 for VS [10.0.0.1]:tcp:80",
        "IPVS cmd IP_VS_SO_SET_ADDDEST(1159) error: Invalid operation.  Possibly wrong module \
         version, address not unicast, ...(22) (10.0.0.1:tcp:80 -> 10.0.0.72:80)",
    ]);
    let view = bench.engine.view(bench.now);
    assert!(!view.services[0].up);
    assert_eq!(
        (view.services[0].servers[1].up, view.services[0].servers[1].refused),
        (false, Some(22))
    );
    // 1, 2, 4 .. 60 s between attempts, one line for all.
    assert_eq!(moments(&mut bench, 8), [1, 3, 7, 15, 31, 63, 123, 183]);
    assert!(!bench.log.take().iter().any(|line| line.contains("IPVS cmd")));
    refused.set(false);
    bench.seconds(60);
    bench.expect(&["+10.0.0.72:80*1", "VS [10.0.0.1]:tcp:80 UP | /bin/up"]);
    assert_eq!(bench.engine.view(bench.now).services[0].servers[1].refused, None);
    assert_eq!(bench.engine.view(bench.now).services[0].weight, 2);
}

#[test]
fn a_refused_server_that_dies_is_left_alone_and_counts_when_it_comes_back() {
    let mut bench = Bench::settled(&pair());
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(15);
    bench.refuse = Box::new(|op| matches!(op, Op::AddDestination { .. }).then_some(12));
    bench.answer("10.0.0.72:80", Answer::Good);
    bench.seconds(15);
    assert_eq!(bench.pool(), "71*1");
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(200);
    bench.took();
    bench.seconds(200);
    bench.expect(&[]);
    bench.refuse = Box::new(|_| None);
    bench.answer("10.0.0.72:80", Answer::Good);
    bench.seconds(15);
    bench.expect(&["+10.0.0.72:80*1"]);
}

#[test]
fn a_server_that_cannot_be_removed_counts_no_more_and_is_tried_again() {
    let refused = Rc::new(Cell::new(true));
    let switch = Rc::clone(&refused);
    let mut bench = Bench::settled(&pair_with(|service| service.quorum = 2));
    bench.refuse = Box::new(move |op| {
        (matches!(op, Op::DeleteDestination { .. }) && switch.get()).then_some(16)
    });
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(12);
    let view = bench.engine.view(bench.now);
    assert!(!view.services[0].up, "a dead server does not count, whatever the kernel says");
    assert_eq!(bench.pool(), "71*1 72*1");
    refused.set(false);
    bench.seconds(60);
    assert_eq!(bench.pool(), "71*1");
}

#[test]
fn a_refused_service_has_no_servers_until_it_is_taken() {
    let refused = Rc::new(Cell::new(true));
    let switch = Rc::clone(&refused);
    let mut bench = Bench::new();
    bench.refuse =
        Box::new(move |op| (matches!(op, Op::AddService { .. }) && switch.get()).then_some(2));
    bench.reload(&pair_with(|service| service.scheduler = Name::from("nosuch")));
    let took = bench.took();
    assert_eq!(took[1], "+service 10.0.0.1:80 nosuch -> Refused(2)");
    let log = bench.log.take();
    let errors: Vec<_> = log.iter().filter(|line| line.contains("IPVS cmd")).collect();
    assert_eq!(
        errors,
        ["IPVS cmd IP_VS_SO_SET_ADD(1154) error: Scheduler or persistence engine not found(2) \
          (10.0.0.1:tcp:80)"],
        "its servers make no lines of their own"
    );
    let view = bench.engine.view(bench.now);
    assert_eq!(view.services[0].refused, Some(2));
    assert!(!view.services[0].up);
    bench.seconds(10);
    refused.set(false);
    bench.seconds(60);
    assert_eq!(bench.pool(), "71*1 72*1");
    let view = bench.engine.view(bench.now);
    assert!(view.services[0].up);
    assert_eq!(view.services[0].refused, None);
}

#[test]
fn a_dead_server_leaves_even_while_another_is_refused() {
    let mut bench = Bench::new();
    bench.refuse = Box::new(|op| {
        let is_add =
            matches!(op, Op::AddDestination { destination: d, .. } if *d == destination(72));
        is_add.then_some(22)
    });
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.reload(&pair_with(|service| service.servers.push(real(73))));
    bench.seconds(12);
    assert_eq!(bench.pool(), "73*1");
}

#[test]
fn a_refused_change_does_not_hinder_the_removal_of_the_same_server() {
    let mut bench = Bench::settled(&pair());
    bench.refuse = Box::new(|op| matches!(op, Op::SetDestination { .. }).then_some(22));
    bench.reload(&pair_with(|service| service.servers[0].weight = 9));
    bench.expect(&["=10.0.0.71:80*9 -> Refused(22)"]);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(12);
    let took = bench.took();
    assert_eq!(took.last().map(String::as_str), Some("-10.0.0.71:80"));
    assert_eq!(bench.pool(), "72*1");
}

/// Servers leave the pool only when the sorry server is in it; if the kernel refuses it, the few that are left are
/// better than nothing.
#[test]
fn servers_stay_when_the_sorry_server_is_refused() {
    let refused = Rc::new(Cell::new(true));
    let switch = Rc::clone(&refused);
    let config = pair_with(|service| {
        service.quorum = 2;
        service.sorry_server = sorry(9);
    });
    let mut bench = Bench::settled(&config);
    bench.refuse = Box::new(move |op| {
        let is_add =
            matches!(op, Op::AddDestination { destination: d, .. } if *d == destination(9));
        (is_add && switch.get()).then_some(22)
    });
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(30);
    assert_eq!(bench.pool(), "71*1");
    refused.set(false);
    bench.seconds(60);
    assert_eq!(bench.pool(), "9*1");
}

#[test]
fn the_sorry_server_stays_until_the_kernel_has_a_server_again() {
    let config = pair_with(|service| service.sorry_server = sorry(9));
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(30);
    assert_eq!(bench.pool(), "9*1");
    bench.forget();
    bench.refuse = Box::new(|op| {
        let is_add =
            matches!(op, Op::AddDestination { destination: d, .. } if *d != destination(9));
        is_add.then_some(22)
    });
    bench.answer("10.0.0.71:80", Answer::Good);
    bench.seconds(300);
    assert_eq!(bench.pool(), "9*1");
    assert!(!bench.took().iter().any(|line| line.starts_with("-")), "it never left");
    bench.refuse = Box::new(|_| None);
    bench.seconds(60);
    assert_eq!(bench.pool(), "71*1");
}

/// The sorry server's entry that could not be removed serves like a new one.
#[test]
fn a_sorry_server_that_could_not_leave_serves_again() {
    let config = pair_with(|service| service.sorry_server = sorry(9));
    let mut bench = Bench::settled(&config);
    let good = |bench: &mut Bench, answer| {
        bench.answer("10.0.0.71:80", answer);
        bench.answer("10.0.0.72:80", answer);
        bench.seconds(15);
    };
    good(&mut bench, Answer::Refuses);
    bench.refuse = Box::new(|op| matches!(op, Op::DeleteDestination { .. }).then_some(16));
    good(&mut bench, Answer::Good);
    assert_eq!(bench.pool(), "9*1 71*1 72*1");
    good(&mut bench, Answer::Refuses);
    bench.refuse = Box::new(|_| None);
    bench.seconds(61);
    assert_eq!(bench.pool(), "9*1");
    assert!(!bench.log.take().iter().any(|line| line.contains("defect")));
}

/// A server that the kernel refuses when the quorum is back must not make the quorum flap.
#[test]
fn a_refusal_at_the_return_of_the_quorum_is_told_once() {
    let config = pair_with(|service| {
        service.quorum = 2;
        service.sorry_server = sorry(9);
        service.quorum_up = command("/bin/up");
        service.quorum_down = command("/bin/down");
    });
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(30);
    assert_eq!(bench.pool(), "9*1");
    bench.forget();
    let refused = Rc::new(Cell::new(true));
    let switch = Rc::clone(&refused);
    bench.refuse = Box::new(move |op| {
        let is_add =
            matches!(op, Op::AddDestination { destination: d, .. } if *d == destination(72));
        (is_add && switch.get()).then_some(22)
    });
    for answer in [Answer::Good, Answer::Refuses, Answer::Good, Answer::Refuses, Answer::Good] {
        bench.answer("10.0.0.72:80", answer);
        bench.seconds(120);
    }
    assert_eq!(bench.pool(), "9*1");
    let told: Vec<_> = bench.took().into_iter().filter(|line| line.contains("/bin/")).collect();
    assert!(told.len() <= 2, "{told:#?}");
    // While it is refused, attempts to add it have weight 0, so that it gets no connections beside the sorry server.
    refused.set(false);
    bench.seconds(61);
    let took = bench.took();
    assert_eq!(took[0], "+10.0.0.72:80*0", "{took:#?}");
    assert_eq!(bench.pool(), "71*1 72*1");
}

#[test]
fn a_server_another_program_removed_is_put_back_when_it_is_touched() {
    let mut bench = Bench::settled(&pair_with(|service| {
        service.servers[0].inhibit_on_failure = true;
    }));
    bench.kernel.apply(&Op::DeleteDestination { service: key(1), destination: destination(71) });
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    bench.expect(&["=10.0.0.71:80*0 -> Refused(2)", "read", "+10.0.0.71:80*0"]);
    let log = bench.log.take();
    assert!(log.iter().any(|line| line.contains("changed by another program")), "{log:#?}");
}

#[test]
fn a_table_another_program_emptied_is_restored_when_it_is_touched() {
    let mut bench = Bench::settled(&pair_with(|service| service.servers.push(real(73))));
    bench.answer("10.0.0.73:80", Answer::Refuses);
    bench.seconds(15);
    bench.forget();
    bench.kernel.apply(&Op::Flush);
    bench.answer("10.0.0.73:80", Answer::Good);
    bench.seconds(15);
    bench.expect(&[
        "+10.0.0.73:80*1 -> Refused(3)",
        "read",
        "+service 10.0.0.1:80 rr",
        "+10.0.0.71:80*1",
        "+10.0.0.72:80*1",
        "+10.0.0.73:80*1",
    ]);
    assert!(bench.engine.view(bench.now).services[0].up);
}

#[test]
fn a_service_that_is_there_when_it_is_to_be_made_is_adopted() {
    let mut bench = Bench::settled(&pair());
    let settings = Settings {
        scheduler: Name::from("wlc"),
        flags: 0,
        timeout: 0,
        netmask: u32::MAX,
        engine: None,
    };
    bench.kernel.apply(&Op::AddService { service: key(2), settings });
    bench.reload(&lvs(vec![pair().services.remove(0), service(2, vec![real(80)]).into()]));
    bench.expect(&[
        "+service 10.0.0.2:80 rr -> Already",
        "+10.0.0.80:80*1",
        "read",
        "=service 10.0.0.2:80 rr",
    ]);
    assert!(bench.engine.view(bench.now).services[1].up);
}

#[test]
fn a_kernel_that_contradicts_itself_is_asked_later_and_later() {
    let mut bench = Bench::settled(&pair());
    // The kernel claims that nothing exists and that everything exists already.
    bench.refuse = Box::new(|op| matches!(op, Op::SetDestination { .. }).then_some(2));
    bench.reload(&pair_with(|service| service.servers[0].weight = 9));
    let reads = |bench: &mut Bench| bench.took().iter().filter(|line| *line == "read").count();
    assert!(reads(&mut bench) <= 3);
    bench.run(Duration::from_secs(600));
    assert!(reads(&mut bench) <= 30, "the table is read too often");
    bench.refuse = Box::new(|_| None);
    bench.seconds(61);
    assert_eq!(bench.pool(), "71*9 72*1");
}

#[test]
fn the_newest_weight_wins_while_a_write_is_under_way() {
    let mut bench = Bench::settled(&pair());
    bench.hold = true;
    for weight in 2..50 {
        bench.reload(&pair_with(|service| service.servers[0].weight = weight));
    }
    assert_eq!(bench.held.len(), 1, "one list at a time");
    bench.release();
    bench.expect(&["=10.0.0.71:80*2", "=10.0.0.71:80*49"]);
}

#[test]
fn a_server_that_comes_and_goes_during_a_write_ends_as_it_is() {
    let mut bench = Bench::settled(&pair_with(|service| {
        service.servers[0].weight = 1;
        service.servers[1].checkers[0].retry = 0;
    }));
    bench.hold = true;
    bench.reload(&pair_with(|service| {
        service.servers[0].weight = 2;
        service.servers[1].checkers[0].retry = 0;
    }));
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(11);
    bench.answer("10.0.0.72:80", Answer::Good);
    bench.seconds(11);
    bench.release();
    bench.expect(&["=10.0.0.71:80*2"]);
    assert!(bench.engine.view(bench.now).services[0].servers[1].up);
    // Once more, ending dead: one removal, not two.
    bench.hold = true;
    bench.reload(&pair_with(|service| service.servers[1].checkers[0].retry = 0));
    for answer in [Answer::Refuses, Answer::Good, Answer::Refuses] {
        bench.answer("10.0.0.72:80", answer);
        bench.seconds(11);
    }
    bench.release();
    bench.expect(&["=10.0.0.71:80*1", "-10.0.0.72:80"]);
}

#[test]
fn a_dead_server_goes_before_a_reload_that_is_under_way() {
    let services = |weight: u32| {
        lvs((1..6)
            .map(|n| {
                let mut service = service(n, vec![real(10 * n), real(10 * n + 1)]);
                service.servers[0].weight = weight;
                service.servers[1].checkers[0].retry = 0;
                service
            })
            .collect())
    };
    let mut bench = Bench::with(1, Limits { probes: 9, writes: 1, ..Limits::default() });
    bench.reload(&services(1));
    bench.seconds(60);
    bench.forget();
    bench.hold = true;
    bench.reload(&services(2));
    bench.answer("10.0.0.41:80", Answer::Refuses);
    bench.seconds(11);
    bench.release();
    bench.expect(&[
        "=10.0.0.10:80*2",
        "=10.0.0.40:80*2",
        "-10.0.0.41:80",
        "=10.0.0.20:80*2",
        "=10.0.0.30:80*2",
        "=10.0.0.50:80*2",
    ]);
}

#[test]
fn a_service_that_is_refused_at_the_start_is_not_served() {
    let mut bench = Bench::new();
    bench.refuse = Box::new(|op| (op.service() == Some(key(2))).then_some(2));
    bench.hold = true;
    assert_eq!(bench.engine.serves(), None);
    let services = vec![service(1, vec![real(71)]), service(2, vec![real(72)])];
    let audit_interval = Some(Duration::from_secs(30));
    bench.reload(&Lvs { audit_interval, ..lvs(services) });
    // Not before the kernel has answered for each.
    assert_eq!(bench.engine.serves(), None);
    bench.release();
    assert_eq!(bench.engine.serves(), Some(false));
    bench.refuse = Box::new(|_| None);
    bench.seconds(70);
    assert_eq!(bench.engine.serves(), Some(true));
    // A service that was served once counts from then on.
    let gone = bench.kernel.services.remove(&key(2));
    assert!(gone.is_some());
    bench.refuse = Box::new(|op| (op.service() == Some(key(2))).then_some(2));
    bench.seconds(70);
    assert_eq!(bench.engine.serves(), Some(false));
    bench.reload(&lvs(vec![service(1, vec![real(71)])]));
    assert_eq!(bench.engine.serves(), Some(true));
}

#[test]
fn whether_all_is_served_is_unknown_until_the_kernel_has_answered_for_each_service() {
    for refused in [None, Some(key(2))] {
        let mut bench = Bench::new();
        bench.refuse =
            Box::new(move |op| (op.service().is_some() && op.service() == refused).then_some(2));
        bench.hold_writes = true;
        bench.reload(&lvs(vec![service(1, vec![real(71)]), service(2, vec![real(72)])]));
        assert_eq!(bench.engine.view(bench.now).kernel, Kernel::Ready);
        assert_eq!(bench.engine.serves(), None);
        bench.release();
        assert_eq!(bench.engine.serves(), Some(refused.is_none()));
    }
}

#[test]
fn a_service_that_a_reload_adds_and_the_kernel_refuses_takes_nothing_from_the_others() {
    let mut bench = Bench::settled(&lvs(vec![service(1, vec![real(71)])]));
    bench.refuse = Box::new(|op| (op.service() == Some(key(2))).then_some(2));
    let both = lvs(vec![service(1, vec![real(71)]), service(2, vec![real(72)])]);
    bench.reload(&both);
    bench.seconds(5);
    let view = bench.engine.view(bench.now);
    assert_eq!(view.services[1].refused, Some(2));
    assert_eq!(bench.engine.serves(), Some(true));
    // The next process of the role has the same view.
    let summary = bench.crash(2);
    bench.event(Event::Resume(summary));
    bench.reload(&both);
    bench.seconds(5);
    assert_eq!(bench.engine.serves(), Some(true));
    // A refused server does not count either: the others serve.
    let mut bench = Bench::new();
    bench.refuse = Box::new(|op| matches!(op, Op::AddDestination { .. }).then_some(22));
    bench.reload(&both);
    assert_eq!(bench.engine.serves(), Some(true));
}
