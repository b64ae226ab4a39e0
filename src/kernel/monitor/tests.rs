use core::time::Duration;

use nix::sys::socket::getsockopt;

use super::*;
use crate::base::{IfName, Prefix};
use crate::kernel::object::carry_out;
use crate::model::Address;
use crate::plan::{ChangeKind, Object, Op, Outcome, Sight, Verb};
use crate::sys::testing::{in_namespace, ip, run};

/// The next changes, up to and including the first one that `done` accepts. Without attributes.
async fn until(monitor: &mut Monitor, done: impl Fn(&Change) -> bool) -> Vec<Change> {
    let mut all = Vec::new();
    while !all.iter().any(&done) {
        tokio::time::timeout(Duration::from_secs(10), monitor.next(&mut all))
            .await
            .expect("the change comes")
            .unwrap();
        for change in &mut all {
            if let Change::Object(change) = change {
                change.sight.attributes = None;
            }
        }
    }
    all
}

fn has(snapshot: &Snapshot, interface: IfIndex, text: &str) -> bool {
    let identity = Sight::address(interface, prefix(text)).identity;
    snapshot.objects.iter().any(|sight| sight.identity == identity)
}

/// A snapshot of tables that do not change meanwhile.
fn whole(monitor: &mut Monitor, requests: &mut Requests) -> Snapshot {
    let SnapshotResult { snapshot, again } = monitor.snapshot(requests).unwrap();
    assert!(!again, "the tables changed");
    snapshot.unwrap()
}

/// A table with these links and addresses (last octet of the first link's).
fn table(links: &[u32], addresses: &[u8]) -> Snapshot {
    let link = |index: &u32| Link {
        index: IfIndex(*index),
        name: format!("eth{index}").parse().unwrap(),
        up: true,
        arp: true,
        mac: Mac::default(),
        mtu: 1500,
        settings: plan::Settings::default(),
        vrf: None,
    };
    let address = |last: &u8| Sight::address(IfIndex(1), prefix(&format!("10.0.0.{last}/24")));
    Snapshot {
        links: links.iter().map(link).collect(),
        objects: addresses.iter().map(address).collect(),
        ..Snapshot::default()
    }
}

#[test]
fn a_table_that_changed_while_it_was_listed_is_not_believed() {
    run(async {
        let torn = |monitor: &mut Monitor, links: &[&[u32]]| {
            let mut left = links.iter();
            let taken = settled(|| Ok::<_, ()>((table(left.next().unwrap(), &[7]), false)));
            assert!(left.next().is_none(), "fewer attempts than there may be");
            monitor.result(taken.unwrap())
        };
        let mut monitor = Monitor::open(0).unwrap();
        // The first snapshot is combined from all attempts; but another one is requested.
        let first = torn(&mut monitor, &[&[1, 2], &[2, 3], &[1, 3], &[1, 2], &[2]]);
        assert!(first.again);
        assert_eq!(first.snapshot, Some(table(&[1, 2, 3], &[7])));
        // Later ones change nothing: link 3 is not gone because all of them missed it.
        let later = torn(&mut monitor, &[[1, 2].as_slice(); 5]);
        assert!(later.again);
        assert_eq!(later.snapshot, None);
        assert_eq!(monitor.name(IfIndex(3)), "eth3");
        // A consistent one counts, however late it comes.
        let mut attempts = 0;
        let taken = settled(|| {
            attempts += 1;
            Ok::<_, ()>((table(&[1, 2], &[]), attempts == 5))
        });
        let last = monitor.result(taken.unwrap());
        assert!(!last.again);
        assert_eq!(last.snapshot, Some(table(&[1, 2], &[])));
        // A refusal of the kernel is not an empty table.
        assert_eq!(settled(|| Err(())), Err(()));
    });
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

fn told(interface: IfIndex, text: &str, present: bool, own: bool) -> Change {
    Change::Object(plan::Change::address(interface, prefix(text), present, own))
}

fn op(verb: Verb, text: &str) -> Op {
    let name: IfName = "lo".parse().unwrap();
    let object = Object::Address(Address::new(prefix(text), name.clone())).into();
    Op { verb, object, links: vec![(name, index("lo"))] }
}

fn index(name: &str) -> IfIndex {
    IfIndex(nix::net::if_::if_nametoindex(name).unwrap())
}

#[test]
fn links_and_addresses_of_others_are_told() {
    in_namespace("kernel::monitor::tests::links_and_addresses_of_others_are_told", || {
        run(async {
            let mut requests = Requests::open().unwrap();
            let mut monitor = Monitor::open(requests.port()).unwrap();
            ip("link add veth0 address 02:00:00:00:00:07 mtu 1400 type veth peer name veth1");
            ip("link set veth1 up");
            ip("link set veth0 up");
            let all = until(
                &mut monitor,
                |c| matches!(c, Change::Link(l) if l.up && l.name.as_str() == "veth0"),
            )
            .await;
            let up = all.iter().find_map(|c| match c {
                Change::Link(l) if l.up && l.name.as_str() == "veth0" => Some(l.clone()),
                _ => None,
            });
            let want = Link {
                index: index("veth0"),
                name: "veth0".parse().unwrap(),
                up: true,
                arp: true,
                mac: Mac([2, 0, 0, 0, 0, 7]),
                mtu: 1400,
                settings: plan::Settings([Some(0); 4]),
                vrf: None,
            };
            assert_eq!(up, Some(want.clone()));

            ip("address add 10.0.0.1/24 dev veth0");
            let seen = |present| told(want.index, "10.0.0.1/24", present, false);
            until(&mut monitor, |c| *c == seen(true)).await;
            let snapshot = whole(&mut monitor, &mut requests);
            assert!(snapshot.links.contains(&want));
            assert!(has(&snapshot, want.index, "10.0.0.1/24"));

            ip("address delete 10.0.0.1/24 dev veth0");
            until(&mut monitor, |c| *c == seen(false)).await;
            // The peer's state determines this one's carrier.
            ip("link set veth1 down");
            until(&mut monitor, |c| matches!(c, Change::Link(l) if l.index == want.index && !l.up))
                .await;
            ip("link delete veth0");
            until(&mut monitor, |c| *c == Change::LinkGone(want.index)).await;
        });
    });
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    in_namespace("kernel::monitor::tests::a_port_that_leaves_its_bridge_is_not_gone", || {
        run(async {
            ip("link add br0 type bridge");
            ip("link add veth0 type veth peer name veth1");
            ip("link set veth0 master br0");
            let requests = Requests::open().unwrap();
            let mut monitor = Monitor::open(requests.port()).unwrap();
            let port = index("veth0");
            ip("link set veth0 nomaster");
            ip("link delete br0");
            let all = until(&mut monitor, |c| matches!(c, Change::LinkGone(_))).await;
            assert!(!all.contains(&Change::LinkGone(port)), "{all:?}");
        });
    });
}

#[test]
fn an_address_being_checked_is_told_when_it_can_be_used() {
    in_namespace(
        "kernel::monitor::tests::an_address_being_checked_is_told_when_it_can_be_used",
        || {
            run(async {
                ip("link add veth0 type veth peer name veth1");
                ip("link set veth0 up");
                ip("link set veth1 up");
                let mut requests = Requests::open().unwrap();
                let mut monitor = Monitor::open(requests.port()).unwrap();
                ip("address add 2001:db8::1/64 dev veth0");
                let wanted = (index("veth0"), "2001:db8::1/64");
                let snapshot = whole(&mut monitor, &mut requests);
                assert!(!has(&snapshot, wanted.0, wanted.1), "it is tentative for a second");
                let usable = told(index("veth0"), "2001:db8::1/64", true, false);
                until(&mut monitor, |c| *c == usable).await;
                assert!(has(&whole(&mut monitor, &mut requests), wanted.0, wanted.1));
            });
        },
    );
}

#[test]
fn removals_of_our_own_are_told_as_such_and_additions_not_at_all() {
    in_namespace(
        "kernel::monitor::tests::removals_of_our_own_are_told_as_such_and_additions_not_at_all",
        || {
            run(async {
                let mut requests = Requests::open().unwrap();
                let mut monitor = Monitor::open(requests.port()).unwrap();
                let interface = index("lo");
                let ops = ["10.0.0.1/24", "10.0.0.2/24"].map(|text| op(Verb::Add, text));
                assert_eq!(carry_out(&mut requests, &ops), [Outcome::Done; 2]);
                // Together with the first, the kernel removes the second, which was not requested.
                let ops = [op(Verb::Delete { keep_secondaries: false }, "10.0.0.1/24")];
                assert_eq!(carry_out(&mut requests, &ops), [Outcome::Done]);
                let gone = |text| told(interface, text, false, true);
                let all = until(&mut monitor, |c| *c == gone("10.0.0.1/24")).await;
                assert!(all.contains(&gone("10.0.0.2/24")), "{all:?}");
                let added =
                    |c: &Change| matches!(c, Change::Object(c) if c.kind == ChangeKind::Present);
                assert!(!all.iter().any(added), "{all:?}");
            });
        },
    );
}

#[test]
fn a_queue_that_overruns_is_noticed() {
    in_namespace("kernel::monitor::tests::a_queue_that_overruns_is_noticed", || {
        run(async {
            let mut requests = Requests::open().unwrap();
            let mut monitor = Monitor::open(requests.port()).unwrap();
            // The smallest size the kernel allows.
            setsockopt(monitor.socket.inner(), sockopt::RcvBuf, &1).unwrap();
            let ops: Vec<Op> =
                (1..=200_u8).map(|n| op(Verb::Add, &format!("10.0.{n}.1/24"))).collect();
            assert_eq!(carry_out(&mut requests, &ops), [Outcome::Done; 200]);
            until(&mut monitor, |c| *c == Change::Lost).await;
            let snapshot = whole(&mut monitor, &mut requests);
            assert!(has(&snapshot, index("lo"), "10.0.200.1/24"));
        });
    });
}

#[test]
fn routes_of_others_do_not_reach_the_queue() {
    in_namespace("kernel::monitor::tests::routes_of_others_do_not_reach_the_queue", || {
        run(async {
            let requests = Requests::open().unwrap();
            let mut monitor = Monitor::open(requests.port()).unwrap();
            ip("link set lo up");
            let mut buffer = vec![0; DATAGRAM];
            // Events of the device and of its addresses.
            while monitor.socket.inner().recv(&mut buffer.as_mut_slice(), 0).is_ok() {}
            assert!(monitor.watch(Watch { routes: true, rules: false }).unwrap());
            for n in 1..=9 {
                ip(&format!("route add 10.{n}.0.0/16 dev lo proto bird"));
                ip(&format!("route add 2001:db8:{n}::/48 dev lo proto bird"));
                ip(&format!("route del 10.{n}.0.0/16"));
            }
            ip("route add 10.0.0.0/16 dev lo proto 18");
            ip("route add 2001:db8::/48 dev lo proto 18");
            // A route that replaces another one may have replaced one of ours.
            ip("route replace 10.0.0.0/16 dev lo proto bird");
            ip("route del 2001:db8::/48");
            ip("link set lo down");
            let mut kinds = Vec::new();
            while let Ok(length) = monitor.socket.inner().recv(&mut buffer.as_mut_slice(), 0) {
                let all = messages(&buffer[..length]);
                kinds.extend(all.map(|message| (message.kind, message.body[5])));
            }
            kinds.retain(|(kind, _)| *kind != RTM_NEWLINK);
            let (new, gone) = (libc::RTM_NEWROUTE, libc::RTM_DELROUTE);
            assert_eq!(kinds[..4], [(new, 18), (new, 18), (new, 12), (gone, 18)], "{kinds:?}");
            let addresses = [libc::RTM_NEWADDR, libc::RTM_DELADDR];
            assert!(kinds[4..].iter().all(|(kind, _)| addresses.contains(kind)), "{kinds:?}");
        });
    });
}

#[test]
fn no_message_panics() {
    // Every truncation of a valid message.
    let mut body = vec![2, 24, 0, 0, 1, 0, 0, 0];
    body.extend([8, 0, 2, 0, 10, 0, 0, 1, 8, 0, 8, 0, 0x80, 0, 0, 0]);
    for kind in 0..30 {
        for length in 0..=body.len() {
            let body = &body[..length];
            let message = Message { kind, flags: 0, sequence: 0, port: 0, body };
            change(&message, 1, &mut BTreeMap::new(), &mut Vec::new());
        }
    }
}

#[test]
fn queues_are_of_the_size_asked_for_and_never_too_short() {
    in_namespace(
        "kernel::monitor::tests::queues_are_of_the_size_asked_for_and_never_too_short",
        || {
            run(async {
                let requests = Requests::open().unwrap();
                let monitor = Monitor::open(requests.port()).unwrap();
                let most: usize = std::fs::read_to_string("/proc/sys/net/core/rmem_max")
                    .unwrap()
                    .trim()
                    .parse()
                    .unwrap();
                let forced =
                    setsockopt(monitor.socket.inner(), sockopt::RcvBufForce, &QUEUE).is_ok();
                // The kernel doubles the requested size.
                let size = || getsockopt(monitor.socket.inner(), sockopt::RcvBuf).unwrap() / 2;
                let least = if forced { QUEUE } else { QUEUE.min(most) };
                for (wanted, force) in [(None, false), (Some(1), true), (Some(1), false)] {
                    monitor.resize(wanted, force);
                    assert_eq!(size(), least, "{wanted:?} {force}");
                }
                monitor.resize(Some(20 << 20), false);
                assert_eq!(size(), (20 << 20).min(most).max(least));
                monitor.resize(Some(20 << 20), true);
                assert_eq!(size(), if forced { 20 << 20 } else { (20 << 20).min(most) });
                monitor.resize(None, false);
                assert_eq!(size(), least);
            });
        },
    );
}
