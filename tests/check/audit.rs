//! Large tables are compared by the kernel's list of them, and a kernel that does not answer is noticed.

use std::time::Duration;

use evervip::model::service::{Forward, Tunnel};
use evervip::model::{Lvs, RealServer};
use evervip::plan::ipvs::{Destination, DestinationKey, Op};
use evervip::status::check::Kernel;

use super::bench::{Answer, Bench, destination, key, lvs, pair, pair_with, real, service};

/// More services than are read one by one.
fn many() -> Lvs {
    let services = (1..=100).map(|n| service(n, vec![real(101), real(102)])).collect();
    Lvs { audit_interval: Some(Duration::from_secs(30)), ..lvs(services) }
}

/// The configuration without checks.
fn quiet(mut config: Lvs) -> Lvs {
    for server in config.services.iter_mut().flat_map(|service| &mut service.servers) {
        server.checkers.clear();
    }
    config
}

#[test]
fn a_reload_costs_what_it_changes_and_one_list() {
    let config = quiet(many());
    let mut bench = Bench::settled(&config);
    bench.reload(&config);
    bench.expect(&["list"]);
    // Changes go first.
    let mut changed = config.clone();
    changed.services[76].servers[1].weight = 2;
    bench.hold = true;
    bench.reload(&changed);
    bench.release();
    bench.expect(&["=10.0.0.102:80*2", "list"]);
    assert_eq!(bench.engine.view(bench.now).counters.restored, 0);
    let log = bench.log.take();
    assert!(!log.iter().any(|line| line.contains("another program")), "{log:?}");
}

#[test]
fn what_the_list_shows_otherwise_is_read_and_put_back() {
    let config = quiet(many());
    let meddling: [(Op, &str); 3] = [
        (
            Op::DeleteDestination { service: key(50), destination: destination(101) },
            "+10.0.0.101:80*1",
        ),
        (
            Op::SetDestination {
                service: key(50),
                destination: destination(101),
                settings: Destination::of(&real(101), 9),
            },
            "=10.0.0.101:80*1",
        ),
        (
            Op::AddDestination {
                service: key(50),
                destination: destination(99),
                settings: Destination::of(&real(99), 1),
            },
            "-10.0.0.99:80",
        ),
    ];
    for (op, wanted) in meddling {
        let mut bench = Bench::settled(&config);
        bench.kernel.apply(&op);
        bench.seconds(31);
        bench.expect(&["list", "read", wanted]);
        assert_eq!(bench.engine.view(bench.now).counters.restored, 1);
        bench.kernel.apply(&op);
        bench.reload(&config);
        bench.expect(&["list", "read", wanted]);
    }
    // All of them, in parts.
    let mut bench = Bench::settled(&config);
    bench.kernel.apply(&Op::Flush);
    bench.seconds(31);
    let took = bench.took();
    assert_eq!(took.iter().filter(|line| *line == "read").count(), 2);
    assert_eq!(took.iter().filter(|line| line.starts_with('+')).count(), 300);
    assert_eq!(bench.kernel.services.len(), 100);
}

/// A limit of connections is not in the list: services that have one are read each time, the others now and then.
#[test]
fn what_the_list_does_not_show_is_read_now_and_then() {
    let mut config = quiet(many());
    config.services[0].servers[0].upper_threshold = 5;
    let mut bench = Bench::settled(&config);
    let limited = |server: &RealServer, limit| Destination {
        upper_threshold: limit,
        ..Destination::of(server, 1)
    };
    let set = |n, limit| Op::SetDestination {
        service: key(n),
        destination: destination(101),
        settings: limited(&real(101), limit),
    };
    bench.kernel.apply(&set(1, 9));
    bench.reload(&config);
    bench.expect(&["list", "read", "=10.0.0.101:80*1 limit 5"]);
    bench.kernel.apply(&set(2, 9));
    bench.seconds(10 * 30 + 1);
    let took = bench.took();
    assert!(took.contains(&"=10.0.0.101:80*1".to_owned()), "{took:?}");
    assert_eq!(took.iter().filter(|line| *line == "list").count(), 9);
}

/// Old kernels tell "local" of a server on this machine, however it was asked to be reached.
#[test]
fn a_server_on_this_machine_is_not_written_for_ever() {
    let tunnel = Forward::Tun(Tunnel::Ipip);
    let mut here = real(101);
    here.forward = tunnel;
    let config = Lvs {
        audit_interval: Some(Duration::from_secs(30)),
        ..lvs(vec![service(1, vec![here.clone(), real(102)])])
    };
    let config = quiet(config);
    let mut bench = Bench::settled(&config);
    bench.local = vec![DestinationKey::at(&here, &key(1))];
    bench.seconds(31);
    bench.expect(&["read"]);
    bench.reload(&config);
    bench.expect(&["read"]);
    // Anything else that others do to it is put back.
    let settings = Destination::of(&here, 7);
    let (service, destination) = (key(1), DestinationKey::at(&here, &key(1)));
    bench.kernel.apply(&Op::SetDestination { service, destination, settings });
    bench.seconds(31);
    bench.expect(&["read", "=10.0.0.101:80*1 tun"]);
    let known = bench.kernel.services[&service].destinations.get(&destination).unwrap();
    assert_eq!(known.forward, tunnel);
    // A server that is not there is not taken for one that is.
    bench.local.clear();
    let settings = Destination { forward: Forward::Dr, ..Destination::of(&here, 1) };
    bench.kernel.apply(&Op::SetDestination { service, destination, settings });
    bench.seconds(31);
    bench.expect(&["read", "=10.0.0.101:80*1 tun"]);
}

#[test]
fn without_a_list_all_services_are_read() {
    let config = quiet(many());
    let mut bench = Bench::settled(&config);
    bench.kernel.apply(&Op::DeleteService { service: key(100) });
    bench.no_list = true;
    bench.reload(&config);
    bench.expect(&[
        "list",
        "read",
        "read",
        "+service 10.0.0.100:80 rr",
        "+10.0.0.101:80*1",
        "+10.0.0.102:80*1",
    ]);
}

/// The writer of the table hangs in the kernel: configured services count as not served from now on.
#[test]
fn a_kernel_that_does_not_answer_is_noticed() {
    let mut bench = Bench::settled(&pair());
    assert_eq!(bench.engine.serves(), Some(true));
    bench.hold = true;
    bench.answer("10.0.0.72:80", Answer::Refuses);
    bench.seconds(15);
    assert_eq!(bench.held.len(), 1, "the removal is under way");
    bench.seconds(40);
    assert_eq!(bench.engine.serves(), Some(true), "it may take a while");
    bench.seconds(20);
    assert_eq!(bench.engine.serves(), Some(false));
    assert!(matches!(bench.engine.kernel(), Kernel::Unavailable(_)));
    let log = bench.log.take();
    let line = "IPVS: the kernel has not answered for 60 s (error 110)".to_owned();
    assert_eq!(log.iter().filter(|l| **l == line).count(), 1, "{log:#?}");
    bench.seconds(3600);
    bench.release();
    assert_eq!(bench.engine.serves(), Some(true));
    assert_eq!(bench.pool(), "71*1");
    bench.seconds(120);
    assert_eq!(bench.engine.serves(), Some(true), "what was answered is not waited for");
    assert!(bench.log.take().contains(&"IPVS: the kernel answers again".to_owned()));
}

#[test]
fn a_stop_does_not_wait_for_a_kernel_that_does_not_answer() {
    let mut bench = Bench::settled(&pair());
    bench.hold = true;
    bench.stop(false);
    bench.seconds(59);
    assert!(!bench.done);
    bench.seconds(2);
    assert!(bench.done);
    assert_eq!(bench.owned, [key(1)], "the next process knows that it is ours");
    // The same while the table is emptied at once.
    let mut config = pair_with(|_| {});
    config.flush_on_stop = true;
    let mut bench = Bench::settled(&config);
    bench.hold = true;
    bench.stop(false);
    bench.seconds(61);
    assert!(bench.done);
    assert_eq!(bench.owned, [key(1)]);
}
