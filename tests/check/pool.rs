//! One pool of real servers: behind the entries of a group, with weights set by checks, with servers that share a
//! kernel entry, and in a table that other programs change.

use std::time::Duration;

use evervip::base::Name;
use evervip::check::Event;
use evervip::check::probe::misc::Misc;
use evervip::check::probe::{Failure, Share, Verdict};
use evervip::model::checker::{CheckerKind, MiscCheck};
use evervip::model::service::{Forward, GroupEntry, ServiceExtras, ServiceGroup};
use evervip::model::{Checker, Lvs, RealServer, Service, ServiceKey};
use evervip::plan::ipvs::{Op, Settings};
use evervip::status::RunEnd;

use super::bench::{
    Answer, Bench, at, command, destination, key, lvs, pair, pair_with, real, service, sorry, tcp,
};

/// A group of services on these addresses, and optionally a mark.
fn group(addresses: &[u8], mark: Option<u32>, servers: Vec<RealServer>) -> Service {
    let address = |n: &u8| GroupEntry::Addresses { first: at(*n), last: at(*n), port: 80 };
    let mut keys: Vec<ServiceKey> = addresses.iter().map(|n| key(*n)).collect();
    let mut entries: Vec<GroupEntry> = addresses.iter().map(address).collect();
    if let Some(mark) = mark {
        entries.push(GroupEntry::Mark { mark, family: None });
        keys.push(ServiceKey::Mark { mark, family: evervip::base::Family::V4 });
    }
    let group = ServiceGroup { name: Name::from("G"), index: 0, entries, keys };
    let mut service = service(addresses[0], servers);
    service.extras = Some(Box::new(ServiceExtras { group: Some(group), ..Default::default() }));
    service
}

/// A check by a program; the timeout of 71 s identifies that of 10.0.0.71.
fn misc(n: u8, dynamic: bool) -> Checker {
    let check = MiscCheck {
        command: command("/bin/check").unwrap(),
        timeout: Duration::from_secs(u64::from(n)),
        dynamic,
    };
    Checker { kind: CheckerKind::Misc(Box::new(check)), retry: 0, ..tcp(n) }
}

fn with_program(n: u8, dynamic: bool) -> RealServer {
    RealServer { checkers: vec![misc(n, dynamic)], weight: 3, ..real(n) }
}

/// A service with two servers, the first of which a program checks.
fn checked(dynamic: bool) -> Lvs {
    lvs(vec![service(1, vec![with_program(71, dynamic), real(72)])])
}

/// A bench that waits for the program that checks 10.0.0.71, one of two servers.
fn waiting(config: &Lvs) -> Bench {
    let mut bench = Bench::new();
    bench.answer("10.0.0.71:80", Answer::Silent);
    bench.reload(config);
    bench.seconds(12);
    bench.forget();
    bench
}

/// Ends the program that checks 10.0.0.71, which the bench does not answer.
fn end(bench: &mut Bench, end: RunEnd) {
    bench.end_probe("10.0.0.71:80", Misc { dynamic: true }.step(end));
}

#[test]
fn the_first_success_of_a_program_is_mailed_and_that_of_a_connection_is_not() {
    let alert = |server| RealServer { smtp_alert: true, ..server };
    for no_checker_emails in [false, true] {
        let mut bench = Bench::new();
        let servers = vec![alert(with_program(71, false)), alert(real(72))];
        bench.answer("10.0.0.71:80", Answer::Silent);
        bench.reload(&Lvs { no_checker_emails, ..lvs(vec![service(1, servers)]) });
        bench.seconds(12);
        end(&mut bench, RunEnd::Exit(0));
        bench.seconds(1);
        let mails: Vec<_> = bench.took().into_iter().filter(|l| l.contains("mail")).collect();
        let subject = "Realserver [10.0.0.71]:tcp:80 of virtual server [10.0.0.1]:tcp:80 - UP";
        let told = matches!(mails.as_slice(), [mail] if mail.contains(subject));
        assert_eq!((told, mails.is_empty()), (!no_checker_emails, no_checker_emails), "{mails:#?}");
    }
}

#[test]
fn a_group_is_many_services_with_one_pool_and_one_set_of_checks() {
    let mut bench = Bench::new();
    let dr = RealServer { forward: Forward::Dr, ..real(72) };
    bench.reload(&lvs(vec![group(&[1, 2], Some(7), vec![real(71), dr])]));
    bench.expect(&[
        "read",
        "+service 10.0.0.1:80 rr",
        "+10.0.0.71:80*1",
        "+10.0.0.72:80*1 dr",
        "+service 10.0.0.2:80 rr",
        "+10.0.0.71:80*1",
        "+10.0.0.72:80*1 dr",
        "+service fwm7 rr",
        "+10.0.0.71:80*1",
        // A mark has no port, and only NAT has one.
        "+10.0.0.72:0*1 dr",
    ]);
    bench.trace_probes = true;
    bench.seconds(11);
    let mut tried = bench.took();
    tried.sort();
    assert_eq!(tried, ["try 10.0.0.71:80", "try 10.0.0.72:80"], "one check each");
    bench.trace_probes = false;
    bench.log.take();
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(15);
    bench.expect(&["-10.0.0.72:80", "-10.0.0.72:80", "-10.0.0.72:0"]);
    let log = bench.log.take();
    let line = "Removing service [10.0.0.72]:tcp:80 from VS [G]:0";
    assert!(log.contains(&line.to_owned()), "{log:#?}");
    bench.stop(false);
    assert!(bench.kernel.services.is_empty() && bench.owned.is_empty());
}

#[test]
fn a_smaller_group_that_comes_back_before_its_removal_leaves_nothing_behind() {
    let mut bench = Bench::settled(&lvs(vec![group(&[1, 2, 3], None, vec![real(71)])]));
    bench.refuse = Box::new(|op| matches!(op, Op::DeleteService { .. }).then_some(16));
    bench.reload(&Lvs::default());
    bench.seconds(1);
    assert_eq!(bench.kernel.services.len(), 3, "the kernel refuses their removal");
    bench.refuse = Box::new(|_| None);
    bench.reload(&lvs(vec![group(&[2], None, vec![real(71)])]));
    bench.seconds(90);
    assert_eq!(bench.kernel.services.keys().copied().collect::<Vec<_>>(), [key(2)]);
    bench.stop(false);
    assert!(bench.kernel.services.is_empty() && bench.owned.is_empty());
}

#[test]
fn the_sorry_server_of_a_group_serves_all_its_entries() {
    let mut config = lvs(vec![group(&[1, 2], None, vec![real(71)])]);
    config.services[0].sorry_server = sorry(9);
    let mut bench = Bench::settled(&config);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    bench.expect(&["-10.0.0.71:80", "-10.0.0.71:80", "+10.0.0.9:80*1", "+10.0.0.9:80*1"]);
    bench.answer("10.0.0.71:80", Answer::Good);
    bench.seconds(15);
    bench.expect(&["+10.0.0.71:80*1", "+10.0.0.71:80*1", "-10.0.0.9:80", "-10.0.0.9:80"]);
}

#[test]
fn entries_come_and_go_and_the_rest_is_not_touched() {
    let of = |entries: &[u8]| lvs(vec![group(entries, None, vec![real(71), real(72)])]);
    let mut bench = Bench::settled(&of(&[1, 2]));
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(15);
    bench.forget();
    bench.reload(&of(&[2, 3]));
    // A server that is dead stays so in a new entry.
    bench.expect(&[
        "+service 10.0.0.3:80 rr",
        "+10.0.0.71:80*1",
        "-10.0.0.71:80",
        "-service 10.0.0.1:80",
    ]);
    bench.log.expect(&[
        "VS [[10.0.0.1]:tcp:80] in group G no longer exists",
        "VS [[10.0.0.3]:tcp:80] added into group G",
    ]);
    assert_eq!(bench.owned, [key(2), key(3)]);
    bench.seconds(60);
    bench.expect(&[]);
}

#[test]
fn an_entry_that_becomes_a_service_of_its_own_is_not_touched() {
    let of_group = |entries: &[u8]| group(entries, None, vec![real(71)]);
    let mut bench = Bench::settled(&lvs(vec![of_group(&[1, 2])]));
    bench.reload(&lvs(vec![of_group(&[2]), service(1, vec![real(71)])]));
    let took = bench.took();
    assert!(took.iter().all(|line| line == "read"), "{took:?}");
    bench.seconds(60);
    bench.expect(&[]);
    // And back to a group with both entries.
    bench.reload(&lvs(vec![of_group(&[1, 2])]));
    let took = bench.took();
    assert!(took.iter().all(|line| line == "read"), "{took:?}");
    assert_eq!(bench.owned, [key(1), key(2)]);
}

#[test]
fn a_refused_entry_keeps_no_other_from_serving() {
    let mut bench = Bench::new();
    bench.refuse = Box::new(|op| (op.service() == Some(key(1))).then_some(22));
    bench.reload(&lvs(vec![group(&[1, 2], None, vec![real(71)])]));
    bench.seconds(20);
    let view = bench.engine.view(bench.now).services.remove(0);
    assert!(view.up && view.servers[0].up && view.refused == Some(22), "{view:?}");
    assert_eq!(bench.pool(), "71*1");
    bench.refuse = Box::new(|_| None);
    bench.seconds(70);
    assert_eq!(bench.kernel.services.len(), 2);
    assert_eq!(bench.pool(), "71*1");
}

#[test]
fn a_program_takes_a_server_out_and_in() {
    let mut bench = waiting(&checked(false));
    bench.end_probe("10.0.0.71:80", Misc { dynamic: false }.step(RunEnd::Exit(2)));
    bench.expect(&["-10.0.0.71:80"]);
    let subject = "[10.0.0.71]:tcp:80 VS [10.0.0.1]:tcp:80";
    let line = format!(
        "Misc check for [{subject}] by [/bin/check] failed with retry disabled (exited with status 2)."
    );
    bench.log.expect(&[&line, "Removing service [10.0.0.71]:tcp:80 from VS [10.0.0.1]:tcp:80"]);
    bench.seconds(12);
    bench.end_probe("10.0.0.71:80", Misc { dynamic: false }.step(RunEnd::Exit(0)));
    bench.expect(&["+10.0.0.71:80*3"]);
    let line = format!("Misc check for [{subject}] by [/bin/check] succeeded.");
    bench.log.expect(&[&line, "Adding service [10.0.0.71]:tcp:80 to VS [10.0.0.1]:tcp:80"]);
}

#[test]
fn a_program_that_cannot_run_or_is_not_answered_for_says_nothing() {
    let mut bench = waiting(&checked(false));
    bench.end_probe("10.0.0.71:80", Misc { dynamic: false }.step(RunEnd::NotStarted(2)));
    bench.log.expect(&[
        "MISC_CHECK on service [10.0.0.71]:tcp:80: not tried: cannot run the program: No such file or directory. \
         Rescheduling",
    ]);
    // Its time limit is 71 s, and the runner has some more to terminate it.
    bench.seconds(10 + 71 + 10);
    bench.expect(&[]);
    let check = &bench.engine.view(bench.now).services[0].servers[0].checks[0];
    assert!(check.up && check.last.contains("timed out"), "{check:?}");
    // The next run is another one, whose answer counts.
    bench.seconds(30);
    bench.end_probe("10.0.0.71:80", Misc { dynamic: false }.step(RunEnd::Exit(2)));
    bench.expect(&["-10.0.0.71:80"]);
}

#[test]
fn the_status_of_a_program_is_a_weight() {
    let config = checked(true);
    let mut bench = waiting(&config);
    end(&mut bench, RunEnd::Exit(2 + 7));
    bench.expect(&["=10.0.0.71:80*7"]);
    let view = bench.engine.view(bench.now).services.remove(0);
    assert_eq!((view.weight, view.servers[0].weight), (8, 7));
    let log = bench.log.take();
    let line =
        "Changing weight from 3 to 7 for active service [10.0.0.71]:tcp:80 of VS [10.0.0.1]:tcp:80";
    assert!(log.contains(&line.to_owned()), "{log:#?}");
    // The same result again is not announced.
    bench.seconds(12);
    end(&mut bench, RunEnd::Exit(2 + 7));
    bench.expect(&[]);
    // It survives a reload that changes the configured weight, and a new process.
    let mut changed = config.clone();
    changed.services[0].servers[0].weight = 5;
    bench.reload(&changed);
    bench.expect(&[]);
    bench.crash(3);
    bench.reload(&changed);
    bench.seconds(12);
    bench.expect(&["read"]);
    // Status 0: the configured one.
    end(&mut bench, RunEnd::Exit(0));
    bench.expect(&["=10.0.0.71:80*5"]);
    bench.seconds(12);
    end(&mut bench, RunEnd::Exit(2 + 9));
    bench.expect(&["=10.0.0.71:80*9"]);
    // A failure ends it, by its status or by its time.
    bench.seconds(12);
    end(&mut bench, RunEnd::TimedOut);
    bench.expect(&["-10.0.0.71:80"]);
    bench.seconds(12);
    end(&mut bench, RunEnd::Exit(0));
    bench.expect(&["+10.0.0.71:80*5"]);
}

#[test]
fn a_weight_of_zero_can_cost_the_quorum() {
    let mut config = lvs(vec![service(1, vec![with_program(71, true)])]);
    config.services[0].sorry_server = sorry(9);
    let mut bench = Bench::new();
    bench.answer("10.0.0.71:80", Answer::Silent);
    bench.reload(&config);
    bench.seconds(12);
    end(&mut bench, RunEnd::Exit(2));
    assert_eq!(bench.pool(), "9*1");
    let view = bench.engine.view(bench.now).services.remove(0);
    assert!(!view.up && view.servers[0].up, "{view:?}");
    bench.seconds(12);
    end(&mut bench, RunEnd::Exit(3));
    assert_eq!(bench.pool(), "71*1");
}

#[test]
fn a_verdict_can_carry_words() {
    let mut bench = Bench::settled(&pair());
    bench.answer("10.0.0.71:80", Answer::Silent);
    bench.seconds(12);
    let text = "status 503".into();
    bench.end_probe("10.0.0.71:80", Verdict::Failure(Failure::Answer(text)));
    let last =
        |bench: &Bench| bench.engine.view(bench.now).services[0].servers[0].checks[0].last.clone();
    assert_eq!(last(&bench), "status 503");
    bench.seconds(2);
    bench.end_probe("10.0.0.71:80", Verdict::Success(Share::Instead(4)));
    assert_eq!(last(&bench), "success, weight 4");
    assert_eq!(bench.pool(), "71*4 72*1");
}

/// Two servers that share a kernel entry because of DR: one entry, with the weight of the first good one.
#[test]
fn servers_that_share_an_entry_are_in_while_one_is_good() {
    let twin = |weight: u32, check: u8| RealServer {
        forward: Forward::Dr,
        weight,
        checkers: vec![tcp(check)],
        ..real(71)
    };
    let config = pair_with(|service| {
        service.servers = vec![twin(3, 81), twin(5, 82), real(72)];
    });
    let mut bench = Bench::new();
    bench.reload(&config);
    bench.expect(&["read", "+service 10.0.0.1:80 rr", "+10.0.0.71:80*3 dr", "+10.0.0.72:80*1"]);
    bench.seconds(20);
    bench.forget();
    let weight = |bench: &Bench| bench.engine.view(bench.now).services[0].weight;
    assert_eq!(weight(&bench), 4, "the quorum counts what the kernel has");
    bench.answer("10.0.0.81:80", Answer::Refuses);
    bench.seconds(15);
    bench.expect(&["=10.0.0.71:80*5 dr"]);
    assert_eq!(weight(&bench), 6);
    bench.answer("10.0.0.82:80", Answer::Refuses);
    bench.seconds(15);
    bench.expect(&["-10.0.0.71:80"]);
    assert_eq!(weight(&bench), 1);
    bench.answer("10.0.0.82:80", Answer::Good);
    bench.seconds(15);
    bench.expect(&["+10.0.0.71:80*5 dr"]);
    // Their states stay separate over a reload.
    let mut changed = config.clone();
    changed.services[0].scheduler = Name::from("wrr");
    bench.reload(&changed);
    bench.expect(&["=service 10.0.0.1:80 wrr"]);
    let view = bench.engine.view(bench.now).services.remove(0);
    let up: Vec<bool> = view.servers.iter().map(|server| server.up).collect();
    assert_eq!(up, [false, true, true]);
    bench.stop(false);
    assert!(bench.kernel.services.is_empty());
}

/// Another program removed the entry that two servers share, and the kernel refuses to restore it: neither counts until
/// it accepts.
#[test]
fn servers_that_share_a_refused_entry_do_not_count() {
    let twin =
        |check: u8| RealServer { forward: Forward::Dr, checkers: vec![tcp(check)], ..real(71) };
    let mut config = audited();
    config.services[0].servers = vec![twin(81), twin(82), real(72)];
    config.services[0].quorum = 2;
    let mut bench = Bench::settled(&config);
    let up = |bench: &Bench| {
        let view = bench.engine.view(bench.now).services.remove(0);
        (view.up, view.servers.iter().map(|server| server.up).collect::<Vec<bool>>())
    };
    assert_eq!(up(&bench), (true, vec![true; 3]));
    bench.refuse = Box::new(|op| matches!(op, Op::AddDestination { .. }).then_some(12));
    bench.kernel.apply(&Op::DeleteDestination { service: key(1), destination: destination(71) });
    bench.seconds(31);
    assert_eq!(up(&bench), (false, vec![false, false, true]));
    bench.refuse = Box::new(|_| None);
    bench.seconds(61);
    assert_eq!(up(&bench), (true, vec![true; 3]));
}

/// The pair, compared with the kernel every 30 s.
fn audited() -> Lvs {
    Lvs { audit_interval: Some(Duration::from_secs(30)), ..pair() }
}

#[test]
fn what_others_do_to_the_table_is_put_back() {
    let mut config = audited();
    config.services.push(service(2, vec![real(81)]).into());
    let meddling: [(&[Op], &[&str]); 5] = [
        (
            &[Op::Flush],
            &[
                "+service 10.0.0.1:80 rr",
                "+10.0.0.71:80*1",
                "+10.0.0.72:80*1",
                "+service 10.0.0.2:80 rr",
                "+10.0.0.81:80*1",
            ],
        ),
        (
            &[Op::DeleteDestination { service: key(1), destination: destination(72) }],
            &["+10.0.0.72:80*1"],
        ),
        (
            &[Op::SetDestination {
                service: key(1),
                destination: destination(71),
                settings: evervip::plan::ipvs::Destination::of(&real(71), 9),
            }],
            &["=10.0.0.71:80*1"],
        ),
        (
            &[Op::SetService {
                service: key(2),
                settings: Settings {
                    scheduler: Name::from("lc"),
                    ..Settings::of(&service(2, vec![]))
                },
            }],
            &["=service 10.0.0.2:80 rr"],
        ),
        (
            &[Op::AddDestination {
                service: key(2),
                destination: destination(99),
                settings: evervip::plan::ipvs::Destination::of(&real(99), 1),
            }],
            &["-10.0.0.99:80"],
        ),
    ];
    for (ops, wanted) in meddling {
        let mut bench = Bench::settled(&config);
        for op in ops {
            bench.kernel.apply(op);
        }
        bench.seconds(31);
        let mut took = bench.took();
        took.retain(|line| line != "read");
        assert_eq!(took, wanted);
        let restored = bench.engine.view(bench.now).counters.restored;
        assert_eq!(restored, if ops == [Op::Flush] { 2 } else { 1 });
        let log = bench.log.take();
        assert!(log.iter().any(|line| line.starts_with("another program ")), "{log:?}");
        // At the next reload it is found at once.
        for op in ops {
            bench.kernel.apply(op);
        }
        bench.reload(&config);
        let mut took = bench.took();
        took.retain(|line| line != "read");
        assert_eq!(took, wanted);
    }
}

#[test]
fn a_look_at_a_large_table_costs_one_list_and_changes_nothing() {
    let services = (1..=200).map(|n| service(n, vec![real(71)]).into()).collect();
    let mut bench = Bench::settled(&Lvs { services, ..audited() });
    bench.seconds(30);
    bench.expect(&["list"]);
    bench.log.expect(&[]);
    // Never, if so configured.
    let mut config = audited();
    config.audit_interval = None;
    let mut bench = Bench::settled(&config);
    bench.kernel.apply(&Op::Flush);
    bench.reload(&config);
    bench.seconds(100);
    bench.expect(&[]);
}

#[test]
fn a_change_under_way_is_not_taken_for_the_hand_of_another() {
    let mut bench = Bench::settled(&audited());
    bench.hold = true;
    bench.answer("10.0.0.71:80", Answer::Refuses);
    // The removal is sent, the table is requested, then a server returns.
    bench.seconds(31);
    bench.answer("10.0.0.71:80", Answer::Good);
    bench.seconds(20);
    bench.release();
    bench.seconds(31);
    assert_eq!(bench.pool(), "71*1 72*1");
    assert_eq!(bench.engine.view(bench.now).counters.restored, 0);
    let log = bench.log.take();
    assert!(!log.iter().any(|line| line.contains("another program")), "{log:?}");
}

#[test]
fn a_removal_of_what_is_gone_is_a_sign() {
    let mut config = audited();
    config.audit_interval = Some(Duration::from_secs(3600));
    let mut bench = Bench::settled(&config);
    bench.kernel.apply(&Op::Flush);
    bench.answer("10.0.0.71:80", Answer::Refuses);
    bench.seconds(15);
    assert_eq!(bench.pool(), "72*1");
}

#[test]
fn what_the_kernel_does_not_let_go_at_a_stop_is_remembered() {
    let mut bench = Bench::settled(&pair());
    bench.refuse = Box::new(|op| matches!(op, Op::DeleteService { .. }).then_some(16));
    bench.stop(false);
    assert!(bench.done);
    assert_eq!(bench.owned, [key(1)], "the next process knows that it is ours");
    bench.refuse = Box::new(|_| None);
    bench.crash(2);
    bench.event(Event::Reload(std::sync::Arc::new(lvs(vec![service(2, vec![real(71)])]))));
    assert_eq!(bench.kernel.services.keys().copied().collect::<Vec<_>>(), [key(2)]);
    assert_eq!(bench.owned, [key(2)]);
}
