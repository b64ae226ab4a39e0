use core::time::Duration;

use super::*;
use crate::base::Prefix;
use crate::model::address::AddressFlags as Flags;
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

    fn add(&mut self, address: &Address) -> Outcome {
        let op = Op::AddAddress { interface: self.interface, address: address.clone() };
        carry_out(&mut self.requests, &op)
    }

    fn delete(&mut self, address: &Address) -> Outcome {
        let op = Op::DeleteAddress { interface: self.interface, address: address.clone() };
        carry_out(&mut self.requests, &op)
    }

    fn shown(&self) -> String {
        ip("-d address show dev dummy0")
    }
}

#[test]
fn an_address_comes_and_goes_and_is_not_doubled() {
    in_namespace("kernel::route::tests::an_address_comes_and_goes_and_is_not_doubled", || {
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
    in_namespace("kernel::route::tests::attributes_arrive", || {
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
    in_namespace("kernel::route::tests::ipv6_answers_at_once_unless_checks_are_wanted", || {
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
