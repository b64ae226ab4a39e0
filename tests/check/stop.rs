//! Stopping.

use evervip::check::Action;
use evervip::plan::ipvs::Op;

use super::bench::{Answer, Bench, command, key, lvs, pair, pair_with, real, service, sorry};

#[test]
fn everything_of_ours_goes_in_order_and_nothing_else() {
    let mut config = pair_with(|service| {
        service.sorry_server = sorry(9);
        if let Some(sorry) = &mut service.sorry_server {
            sorry.inhibit = true;
        }
        service.servers.reverse();
        service.servers[0].inhibit_on_failure = true;
    });
    config.services.push(service(2, vec![real(80)]).into());
    let mut bench = Bench::new();
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.reload(&config);
    bench.seconds(60);
    bench.kernel.services.insert(key(5), bench.kernel.services[&key(2)].clone());
    bench.forget();
    bench.stop(false);
    bench.expect(&[
        "-10.0.0.9:80",
        "-10.0.0.72:80",
        "-10.0.0.71:80",
        "-service 10.0.0.1:80",
        "-10.0.0.80:80",
        "-service 10.0.0.2:80",
        "done",
    ]);
    bench.log.expect(&[
        "Shutting down (inhibited) service [10.0.0.72]:tcp:80 from VS [10.0.0.1]:tcp:80",
        "Shutting down service [10.0.0.71]:tcp:80 from VS [10.0.0.1]:tcp:80",
        "Shutting down service [10.0.0.80]:tcp:80 from VS [10.0.0.2]:tcp:80",
    ]);
    assert_eq!(bench.kernel.services.keys().copied().collect::<Vec<_>>(), [key(5)]);
    assert!(bench.owned.is_empty(), "nothing is left for a later process to remove");
    assert_eq!(bench.engine.deadline(), None);
}

#[test]
fn told_to_keep_entries_it_keeps_them_and_their_record() {
    let mut bench = Bench::settled(&pair());
    bench.stop(true);
    bench.expect(&["done"]);
    assert_eq!(bench.pool(), "71*1 72*1");
    assert_eq!(bench.owned, [key(1)]);
}

#[test]
fn attempts_under_way_are_given_up() {
    let mut bench = Bench::settled(&pair());
    bench.answer("10.0.0.71:80", Answer::Silent);
    bench.seconds(12);
    assert_eq!(bench.open.len(), 1);
    bench.stop(false);
    assert!(bench.open.is_empty() && bench.done);
}

#[test]
fn omega_tells_of_the_end_and_without_it_nobody_hears() {
    for omega in [true, false] {
        let config = pair_with(|service| {
            service.omega = omega;
            service.smtp_alert = true;
            service.quorum_down = command("/bin/down");
            for server in &mut service.servers {
                server.notify_down = command("/bin/dead");
                server.smtp_alert = true;
            }
        });
        let mut bench = Bench::settled(&config);
        bench.answer("10.0.0.72:80", Answer::Refuses);
        bench.seconds(15);
        bench.forget();
        bench.stop(false);
        let told: Vec<_> = bench.took().into_iter().filter(|line| line.contains(" DOWN")).collect();
        let lines = [
            "RS [10.0.0.71]:tcp:80 [10.0.0.1]:tcp:80 DOWN | /bin/dead | mail: Realserver \
             [10.0.0.71]:tcp:80 of virtual server [10.0.0.1]:tcp:80 - DOWN / => Shutting down <=",
            "VS [10.0.0.1]:tcp:80 DOWN | /bin/down | mail: Virtualserver [10.0.0.1]:tcp:80 - DOWN \
             / => Shutting down <=",
        ];
        assert_eq!(told, if omega { &lines[..] } else { &[] });
    }
}

#[test]
fn flush_on_stop_is_one_operation() {
    let mut config = pair();
    config.flush_on_stop = true;
    let mut bench = Bench::settled(&config);
    bench.stop(false);
    bench.expect(&["flush", "done"]);
}

#[test]
fn flush_on_stop_of_services_leaves_their_servers_to_the_kernel() {
    let mut config = pair();
    config.flush_services_only = true;
    config.services.push(service(2, vec![real(80)]).into());
    let mut bench = Bench::settled(&config);
    bench.stop(false);
    bench.expect(&["-service 10.0.0.1:80", "-service 10.0.0.2:80", "done"]);
}

#[test]
fn refusals_do_not_keep_it_from_leaving() {
    let mut bench = Bench::settled(&pair());
    bench.refuse = Box::new(|_| Some(1));
    bench.stop(false);
    bench.expect(&[
        "-10.0.0.71:80 -> Refused(1)",
        "-10.0.0.72:80 -> Refused(1)",
        "-service 10.0.0.1:80 -> Refused(1)",
        "done",
    ]);
}

#[test]
fn it_waits_for_what_is_under_way() {
    let mut bench = Bench::settled(&pair());
    bench.hold = true;
    bench.reload(&pair_with(|service| service.servers.push(real(73))));
    bench.stop(false);
    assert!(!bench.done);
    bench.release();
    bench.expect(&[
        "+10.0.0.73:80*1",
        "-10.0.0.71:80",
        "-10.0.0.72:80",
        "-10.0.0.73:80",
        "-service 10.0.0.1:80",
        "done",
    ]);
    assert!(bench.kernel.services.is_empty());
}

#[test]
fn nothing_happens_after_the_end() {
    let mut bench = Bench::settled(&pair());
    bench.stop(false);
    bench.took();
    bench.stop(false);
    bench.reload(&lvs(vec![service(2, vec![real(80)])]));
    bench.seconds(60);
    bench.expect(&[]);
}

/// The process before this one died, and the daemon is told to stop before the table was read.
#[test]
fn told_to_leave_at_once_it_removes_what_an_earlier_process_made() {
    let mut bench = Bench::settled(&pair());
    let theirs = service(9, vec![real(90)]);
    bench.kernel.services.extend(
        [theirs]
            .map(|service| (service.key, bench.kernel.services.values().next().unwrap().clone())),
    );
    bench.crash(2);
    bench.hold = true;
    bench.reload(&pair());
    bench.stop(false);
    assert!(!bench.done, "the table is not known yet");
    bench.release();
    bench.expect(&["read", "-10.0.0.71:80", "-10.0.0.72:80", "-service 10.0.0.1:80", "done"]);
    bench.log.expect(&["Removing Virtual Server [10.0.0.1]:tcp:80"]);
    assert_eq!(bench.kernel.services.len(), 1, "foreign objects stay");
    assert!(bench.owned.is_empty());
}

#[test]
fn told_to_leave_at_once_without_ipvs_it_leaves() {
    let mut bench = Bench::settled(&pair());
    bench.crash(2);
    bench.hold = true;
    bench.broken = Some(2);
    bench.reload(&pair());
    bench.stop(false);
    bench.release();
    bench.expect(&["read", "done"]);
}

#[test]
fn told_to_leave_at_once_it_empties_the_table_if_configured() {
    let mut config = pair();
    config.flush_on_stop = true;
    let mut bench = Bench::settled(&config);
    bench.crash(2);
    bench.hold = true;
    bench.reload(&config);
    bench.stop(false);
    bench.release();
    bench.expect(&["read", "flush", "done"]);
    assert!(bench.kernel.services.is_empty() && bench.owned.is_empty());
}

/// Each kind of operation that can be under way when the daemon is told to stop.
#[test]
fn what_the_kernel_refuses_during_a_stop_does_not_keep_it_from_leaving() {
    type Change = fn(&mut evervip::model::Service);
    let changes: [Change; 5] = [
        |service| service.servers.push(real(73)),
        |service| service.servers.truncate(1),
        |service| service.servers[0].weight = 7,
        |service| service.scheduler = "wrr".into(),
        |service| service.sorry_server = sorry(9),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut bench = Bench::settled(&pair());
        bench.hold = true;
        bench.reload(&pair_with(change));
        // The kernel refuses exactly what is under way.
        let refused: Vec<Op> = bench
            .held
            .iter()
            .filter_map(|action| match action {
                Action::Apply { ops, .. } => Some(ops.to_vec()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(refused.is_empty(), number == 4, "{number}: a sorry server is not needed yet");
        bench.refuse = Box::new(move |op| refused.contains(op).then_some(12));
        bench.stop(false);
        bench.release();
        assert!(bench.done, "{number}");
        assert!(bench.kernel.services.is_empty() && bench.owned.is_empty(), "{number}");
    }
}

#[test]
fn told_to_leave_while_it_waits_for_ipvs_it_leaves() {
    let mut bench = Bench::new();
    bench.broken = Some(2);
    bench.reload(&pair());
    bench.forget();
    bench.stop(false);
    bench.expect(&["done"]);
    assert_eq!(bench.engine.deadline(), None);
}

#[test]
fn with_flushed_services_only_the_quorum_is_told() {
    let mut config = pair_with(|service| {
        service.omega = true;
        service.quorum_down = command("/bin/down");
        for server in &mut service.servers {
            server.notify_down = command("/bin/dead");
        }
    });
    config.flush_services_only = true;
    let mut bench = Bench::settled(&config);
    bench.stop(false);
    bench.expect(&["VS [10.0.0.1]:tcp:80 DOWN | /bin/down", "-service 10.0.0.1:80", "done"]);
    bench.log.expect(&[]);
}

/// `omega` is a setting of one service: its neighbour says nothing.
#[test]
fn a_flush_tells_of_the_quorums_of_services_with_omega() {
    let mut config = pair_with(|service| {
        service.omega = true;
        service.quorum_down = command("/bin/down");
    });
    config.services.push(service(2, vec![real(80)]).into());
    config.services[1].quorum_down = command("/bin/other");
    config.flush_on_stop = true;
    let mut bench = Bench::settled(&config);
    bench.stop(false);
    bench.expect(&["VS [10.0.0.1]:tcp:80 DOWN | /bin/down", "flush", "done"]);
}
