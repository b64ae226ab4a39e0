use core::time::Duration;

use super::*;
use crate::base::{IfIndex, Prefix};
use crate::model::address::{Address, AddressFlags as Flags, Lifetime};
use crate::plan::Verb;
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
        // As keepalived: no broadcast address unless asked for.
        assert!(bench.shown().contains("inet 10.0.0.100/24 scope global"), "{}", bench.shown());
        // The same address with another prefix is another one.
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
            // The setting is as it was: without being told so, the kernel drops the rest.
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
