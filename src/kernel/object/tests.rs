use core::time::Duration;

use super::*;
use crate::base::{Family, IfIndex, Prefix};
use crate::model::address::{Address, AddressFlags as Flags, Lifetime};
use crate::model::route::{self, MetricKind, Rule, RuleAction};
use crate::model::sample;
use crate::plan::route::objects;
use crate::plan::{Verb, Want};
use crate::sys::testing::{in_namespace, ip};

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

fn address(text: &str) -> Address {
    Address::new(prefix(text), "dummy0".parse().unwrap())
}

struct Bench {
    requests: Requests,
    interface: IfIndex,
}

impl Bench {
    fn new() -> Self {
        ip("link add dummy0 type veth peer name far");
        ip("link set far up");
        ip("link set dummy0 up");
        let interface = IfIndex(nix::net::if_::if_nametoindex("dummy0").unwrap());
        Self { requests: Requests::open().unwrap(), interface }
    }

    fn op(&self, verb: Verb, object: Object) -> Op {
        let links = vec![("dummy0".parse().unwrap(), self.interface)];
        Op { verb, object: object.into(), links }
    }

    fn carry_out(&mut self, verb: Verb, object: Object) -> Outcome {
        let op = self.op(verb, object);
        carry_out(&mut self.requests, &[op])[0]
    }

    fn add(&mut self, address: &Address) -> Outcome {
        self.carry_out(Verb::Add, Object::Address(address.clone()))
    }

    fn delete(&mut self, address: &Address) -> Outcome {
        let verb = Verb::Delete { keep_secondaries: false };
        self.carry_out(verb, Object::Address(address.clone()))
    }

    fn shown(&self) -> String {
        ip("-d address show dev dummy0")
    }
}

#[test]
fn an_address_comes_and_goes_and_is_not_doubled() {
    in_namespace("kernel::object::tests::an_address_comes_and_goes_and_is_not_doubled", || {
        let mut bench = Bench::new();
        let one = address("10.0.0.100/24");
        assert_eq!(bench.add(&one), Outcome::Done);
        assert_eq!(bench.add(&one), Outcome::Already);
        // As keepalived: no broadcast address unless configured.
        assert!(bench.shown().contains("inet 10.0.0.100/24 scope global"), "{}", bench.shown());
        // The same address with another prefix is a different object.
        assert_eq!(bench.add(&address("10.0.0.100/32")), Outcome::Done);
        assert_eq!(bench.delete(&one), Outcome::Done);
        assert!(bench.shown().contains("inet 10.0.0.100/32"), "{}", bench.shown());
        assert!(!bench.shown().contains("10.0.0.100/24"), "{}", bench.shown());
        assert_eq!(bench.delete(&one), Outcome::Already);
        ip("link delete dummy0");
        assert_eq!(bench.delete(&address("10.0.0.100/32")), Outcome::Already);
        assert_eq!(bench.add(&one), Outcome::Refused(libc::ENODEV));
    });
}

#[test]
fn attributes_arrive() {
    in_namespace("kernel::object::tests::attributes_arrive", || {
        let mut bench = Bench::new();
        let mut one = address("10.1.0.1/24");
        one.broadcast = Some("10.1.0.255".parse().unwrap());
        one.scope = 253;
        one.label = Some("dummy0:vip".into());
        one.flags.no_prefix_route = true;
        assert_eq!(bench.add(&one), Outcome::Done);
        let shown = bench.shown();
        assert!(
            shown.contains("inet 10.1.0.1/24 brd 10.1.0.255 scope link noprefixroute")
                && shown.contains("dummy0:vip"),
            "{shown}"
        );
        let mut two = address("10.2.0.1/32");
        two.peer = Some(prefix("10.2.0.2/30"));
        assert_eq!(bench.add(&two), Outcome::Done);
        assert!(bench.shown().contains("inet 10.2.0.1 peer 10.2.0.2/30"), "{}", bench.shown());
        assert_eq!(bench.delete(&two), Outcome::Done);
        assert!(!bench.shown().contains("10.2.0.1"), "{}", bench.shown());
    });
}

#[test]
fn ipv6_answers_at_once_unless_checks_are_wanted() {
    in_namespace("kernel::object::tests::ipv6_answers_at_once_unless_checks_are_wanted", || {
        let mut bench = Bench::new();
        let mut one = address("2001:db8::100/128");
        one.preferred = Lifetime::For(Duration::ZERO);
        assert_eq!(bench.add(&one), Outcome::Done);
        assert_eq!(bench.add(&one), Outcome::Already);
        let shown = bench.shown();
        let line = shown.lines().find(|l| l.contains("2001:db8::100")).unwrap();
        assert!(line.contains("nodad") && line.contains("deprecated"), "{line}");
        assert!(!line.contains("tentative"), "{line}");
        assert!(shown.contains("preferred_lft 0sec"), "{shown}");
        let mut two = address("2001:db8::200/64");
        two.flags = Flags { dad: true, home: true, ..Flags::default() };
        assert_eq!(bench.add(&two), Outcome::Done);
        let shown = bench.shown();
        let line = shown.lines().find(|l| l.contains("2001:db8::200")).unwrap();
        assert!(line.contains("tentative") && line.contains("home"), "{line}");
        assert_eq!(bench.delete(&one), Outcome::Done);
        assert_eq!(bench.delete(&two), Outcome::Done);
        assert_eq!(bench.delete(&two), Outcome::Already);
    });
}

#[test]
fn of_200_requests_the_57th_fails_and_only_that_one_is_reported() {
    in_namespace(
        "kernel::object::tests::of_200_requests_the_57th_fails_and_only_that_one_is_reported",
        || {
            let mut bench = Bench::new();
            let ops: Vec<Op> = (0..200)
                .map(|n| {
                    let object = Object::Address(address(&format!("10.1.{n}.1/32")));
                    let mut op = bench.op(Verb::Add, object);
                    if n == 56 {
                        op.links[0].1 = IfIndex(9_999);
                    }
                    op
                })
                .collect();
            let sent = bench.requests.datagrams();
            let outcomes = carry_out(&mut bench.requests, &ops);
            assert_eq!(bench.requests.datagrams() - sent, 2, "they are packed");
            for (n, outcome) in outcomes.iter().enumerate() {
                let want = if n == 56 { Outcome::Refused(libc::ENODEV) } else { Outcome::Done };
                assert_eq!(*outcome, want, "number {}", n + 1);
            }
            assert_eq!(bench.shown().matches("inet 10.1.").count(), 199);
            let outcomes = carry_out(&mut bench.requests, &ops);
            assert_eq!(outcomes.iter().filter(|o| **o == Outcome::Already).count(), 199);
        },
    );
}

#[test]
fn the_first_address_of_a_subnet_goes_without_the_others() {
    in_namespace(
        "kernel::object::tests::the_first_address_of_a_subnet_goes_without_the_others",
        || {
            let mut bench = Bench::new();
            ip("link set lo up");
            for text in ["10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24"] {
                assert_eq!(bench.add(&address(text)), Outcome::Done);
            }
            ip("route add 10.9.0.0/16 via 10.0.0.77 src 10.0.0.2");
            let keep = Verb::Delete { keep_secondaries: true };
            let first = Object::Address(address("10.0.0.1/24"));
            assert_eq!(bench.carry_out(keep.clone(), first.clone()), Outcome::Done);
            assert!(!bench.shown().contains("10.0.0.1/24"), "{}", bench.shown());
            assert!(bench.shown().contains("10.0.0.2/24"), "{}", bench.shown());
            assert!(bench.shown().contains("10.0.0.3/24"), "{}", bench.shown());
            assert!(ip("route show").contains("10.9.0.0/16"), "what depends on them stays too");
            assert_eq!(bench.carry_out(keep, first), Outcome::Already);
            // The setting is as before: without `keep_secondaries`, the kernel removes the others.
            assert_eq!(bench.delete(&address("10.0.0.2/24")), Outcome::Done);
            assert!(!bench.shown().contains("10.0.0.3/24"), "{}", bench.shown());
        },
    );
}

#[test]
fn an_address_gets_other_attributes_and_its_neighbours_stay() {
    in_namespace(
        "kernel::object::tests::an_address_gets_other_attributes_and_its_neighbours_stay",
        || {
            let mut bench = Bench::new();
            let old = address("10.0.0.1/24");
            assert_eq!(bench.add(&old), Outcome::Done);
            assert_eq!(bench.add(&address("10.0.0.2/24")), Outcome::Done);
            let mut new = old.clone();
            new.label = Some("dummy0:vip".into());
            let before = std::sync::Arc::new(Object::Address(old));
            let verb = Verb::Replace { before, in_place: false };
            assert_eq!(bench.carry_out(verb, Object::Address(new)), Outcome::Done);
            assert!(bench.shown().contains("dummy0:vip"), "{}", bench.shown());
            assert!(bench.shown().contains("10.0.0.2/24"), "{}", bench.shown());
            // Flags and lifetimes of IPv6 change in place.
            let old = address("2001:db8::1/64");
            assert_eq!(bench.add(&old), Outcome::Done);
            let new = Address { preferred: Lifetime::For(Duration::ZERO), ..old.clone() };
            let before = std::sync::Arc::new(Object::Address(old));
            let verb = Verb::Replace { before, in_place: true };
            assert_eq!(bench.carry_out(verb, Object::Address(new)), Outcome::Done);
            assert!(bench.shown().contains("preferred_lft 0sec"), "{}", bench.shown());
        },
    );
}

/// The kernel reports every object of ours with the requested attributes: otherwise it would be corrected forever.
#[test]
fn attributes_are_told_as_they_were_asked_for() {
    in_namespace("kernel::object::tests::attributes_are_told_as_they_were_asked_for", || {
        let mut bench = Bench::new();
        let mut all = Vec::new();
        let mut labelled = address("10.1.0.1/24");
        labelled.broadcast = Some("10.1.0.255".parse().unwrap());
        labelled.scope = 253;
        labelled.label = Some("dummy0:vip".into());
        labelled.flags.no_prefix_route = true;
        all.push(labelled);
        let mut far = address("10.2.0.1/32");
        far.peer = Some(prefix("10.2.0.2/30"));
        all.push(far);
        all.extend([address("10.3.0.2/24"), address("2001:db8::1/64"), address("fe80::9/64")]);
        let mut flags = address("2001:db8::2/128");
        flags.flags = Flags { home: true, no_prefix_route: true, ..Flags::default() };
        flags.preferred = Lifetime::For(Duration::ZERO);
        all.push(flags);
        let mut routes = Vec::new();
        let to = |destination: &str, via: &str| {
            let dev = Some("dummy0".parse().unwrap());
            sample::route(prefix(destination), Some(via.parse().unwrap()), dev)
        };
        let metric = |kind, value, locked| route::RouteMetric { kind, value, locked };
        let mut one = to("10.7.0.0/16", "10.3.0.9");
        one.source = Some("10.3.0.2".parse().unwrap());
        one.metrics = vec![
            metric(MetricKind::AdvMss, 1000, false),
            metric(MetricKind::Mtu, 1300, true),
            metric(MetricKind::Rtt, 80, false),
        ];
        one.realms = Some(0x0003_0004);
        one.metric = Some(7);
        routes.push(one);
        let mut onlink = to("10.8.0.0/16", "10.99.0.9");
        onlink.onlink = true;
        routes.push(onlink);
        let mut two = to("10.9.0.0/16", "10.3.0.9");
        let hop = |via: &str, weight| route::NextHop {
            gateway: Some(via.parse().unwrap()),
            interface: two.interface.clone(),
            weight,
            onlink: false,
            encap: None,
            realms: None,
        };
        two.nexthops = vec![hop("10.3.0.7", 1), hop("10.3.0.8", 256)];
        (two.gateway, two.interface) = (None, None);
        routes.push(two);
        let mut nowhere = to("10.10.0.0/16", "10.3.0.9");
        nowhere.kind = 6;
        (nowhere.gateway, nowhere.interface) = (None, None);
        routes.push(nowhere);
        let mut six = to("2001:db8:7::/48", "2001:db8::9");
        six.source = Some("2001:db8::1".parse().unwrap());
        six.preference = Some(1);
        six.metrics = vec![metric(MetricKind::Mtu, 1300, false)];
        routes.push(six);
        routes.push(to("2001:db8:8::/48", "2001:db8::9"));
        for route in &mut routes {
            route.protocol = PROTOCOL_MARK;
        }
        let all = all.into_iter().map(Object::Address);
        let rules = rules().into_iter().map(|rule| Object::Rule(Box::new(rule)));
        let all: Vec<Object> = all.chain(routes.iter().flat_map(objects)).chain(rules).collect();
        for object in &all {
            assert_eq!(bench.carry_out(Verb::Add, object.clone()), Outcome::Done, "{object}");
        }
        let mut seen = Vec::new();
        assert!(list(&mut bench.requests, Watch { routes: true, rules: true }, &mut seen).unwrap());
        let mut table = crate::plan::Table::default();
        table.set_link(&"dummy0".parse().unwrap(), Some(bench.interface));
        let ids: Vec<_> = all.iter().map(|object| table.claim(object.clone(), 0)).collect();
        seen.into_iter().for_each(|sight| table.saw(sight));
        for id in &ids {
            let object = table.entry(*id).unwrap().object.to_string();
            assert!(table.is_present(*id), "{object}");
            let request = table.request(&[*id], crate::base::Instant::ZERO, |_| Want::Yes);
            assert!(request.is_none(), "{object}: {request:?}\n{}", bench.shown());
        }
    });
}

/// Every selector and every action, in both families.
fn rules() -> Vec<Rule> {
    let v4 = || sample::rule(Family::V4, 0, 200);
    let table = |table| RuleAction::Table {
        table,
        realms: None,
        suppress_length: None,
        suppress_group: None,
    };
    let full = Rule {
        from: Some(prefix("10.1.0.0/16")),
        to: Some(prefix("10.2.3.4/32")),
        input: Some("dummy0".parse().unwrap()),
        // No interface has this name.
        output: Some("ppp7".parse().unwrap()),
        tos: Some(4),
        mark: Some((0x10, 0xff)),
        tunnel: Some(77),
        users: Some((0, 0)),
        ip_protocol: Some(6),
        source_ports: Some((1, 1023)),
        destination_ports: Some((80, 80)),
        action: RuleAction::Table {
            table: 1000,
            realms: Some(0x0003_0004),
            suppress_length: None,
            suppress_group: None,
        },
        ..v4()
    };
    let six = Rule {
        from: Some(prefix("2001:db8::/32")),
        invert: true,
        action: RuleAction::Table {
            table: 254,
            realms: None,
            suppress_length: Some(0),
            suppress_group: Some(3),
        },
        ..sample::rule(Family::V6, 0, 200)
    };
    let others = [
        RuleAction::MasterDevice,
        RuleAction::Goto(30_000),
        RuleAction::Nop,
        RuleAction::Blackhole,
        RuleAction::Unreachable,
        RuleAction::Prohibit,
        table(201),
    ];
    let others = others.into_iter().map(|action| Rule { action, ..v4() });
    let all = [full, six, v4(), Rule { mark: Some((0, 0)), tos: Some(0), ..v4() }];
    let all = all.into_iter().chain(others);
    (100..).zip(all).map(|(preference, rule)| Rule { preference, ..rule }).collect()
}

#[test]
fn a_rule_comes_and_goes_and_others_are_left_alone() {
    in_namespace("kernel::object::tests::a_rule_comes_and_goes_and_others_are_left_alone", || {
        let mut bench = Bench::new();
        ip("rule add from 10.1.0.0/16 table 300 pref 400");
        for rule in rules() {
            let object = Object::Rule(Box::new(rule));
            assert_eq!(bench.carry_out(Verb::Add, object.clone()), Outcome::Done, "{object}");
            assert_eq!(bench.carry_out(Verb::Add, object), Outcome::Already);
        }
        let shown = ip("rule show");
        for text in [
            "100:\tfrom 10.1.0.0/16 to 10.2.3.4 tos 0x04 fwmark 0x10/0xff iif dummy0 oif ppp7 [detached] \
             uidrange 0-0 ipproto tcp sport 1-1023 dport 80 tun_id 77 lookup 1000 realms 3/4 proto keepalived",
            "104:\tfrom all lookup [l3mdev-table] proto keepalived",
            "105:\tfrom all goto 30000 [unresolved] proto keepalived",
            "107:\tfrom all blackhole proto keepalived",
        ] {
            assert!(shown.contains(text), "{text}\n{shown}");
        }
        for rule in rules() {
            let object = Object::Rule(Box::new(rule));
            let delete = Verb::Delete { keep_secondaries: false };
            assert_eq!(bench.carry_out(delete.clone(), object.clone()), Outcome::Done, "{object}");
            assert_eq!(bench.carry_out(delete, object), Outcome::Already);
        }
        let left = ip("rule show");
        assert_eq!(left.lines().count(), 4, "{left}");
        assert!(left.contains("400:\tfrom 10.1.0.0/16 lookup 300"), "{left}");
    });
}
