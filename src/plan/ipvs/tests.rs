use core::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::model::service::{Persistence, Protocol, Tunnel, TunnelChecksum};

fn service(n: u8) -> ServiceKey {
    match n % 3 {
        0 => ServiceKey::Mark { mark: u32::from(n) + 1, family: Family::V4 },
        1 => ServiceKey::Mark { mark: u32::from(n) + 1, family: Family::V6 },
        _ => ServiceKey::Address {
            protocol: Protocol::Tcp,
            endpoint: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)), 80),
        },
    }
}

fn server(n: u8) -> DestinationKey {
    DestinationKey { address: IpAddr::V4(Ipv4Addr::new(10, 1, 0, n)), port: 80 }
}

fn destination(weight: u32) -> Destination {
    Destination { forward: Forward::Nat, weight, upper_threshold: 0, lower_threshold: 0 }
}

fn settings(scheduler: &str) -> Settings {
    Settings {
        scheduler: Name::from(scheduler),
        flags: 0,
        timeout: 0,
        netmask: u32::MAX,
        engine: None,
    }
}

fn forward() -> impl Strategy<Value = Forward> {
    prop_oneof![
        Just(Forward::Nat),
        Just(Forward::Dr),
        Just(Forward::Tun(Tunnel::Ipip)),
        Just(Forward::Tun(Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Remote })),
        Just(Forward::Tun(Tunnel::Gre { checksum: TunnelChecksum::Checksum })),
    ]
}

fn table() -> impl Strategy<Value = Table> {
    let destination = (forward(), 0u32..4, 0u32..2).prop_map(|(forward, weight, limit)| {
        Destination { forward, weight, upper_threshold: limit, lower_threshold: 0 }
    });
    let destinations = prop::collection::btree_map(0u8..6, destination, 0..6);
    let entry =
        (0usize..2, 0u32..2, destinations).prop_map(|(scheduler, persistent, destinations)| {
            Entry {
                settings: Settings {
                    flags: persistent,
                    timeout: persistent * 360,
                    ..settings(["rr", "wlc"][scheduler])
                },
                destinations: destinations.into_iter().map(|(n, d)| (server(n), d)).collect(),
            }
        });
    prop::collection::btree_map(0u8..8, entry, 0..6).prop_map(|services| Table {
        services: services.into_iter().map(|(n, entry)| (service(n), entry)).collect(),
        ..Table::default()
    })
}

/// The kernel accepts every operation, and no service that keeps a server is ever without one.
fn carry_out(from: &Table, to: &Table, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut table = from.clone();
    for op in ops {
        prop_assert_eq!(table.apply(op), Outcome::Done, "{:?}", op);
        for (key, entry) in &from.services {
            let Some(wanted) = to.services.get(key) else { continue };
            if !entry.destinations.is_empty() && !wanted.destinations.is_empty() {
                let now = table.services.get(key).expect("a service that stays is always there");
                prop_assert!(!now.destinations.is_empty(), "{key} is empty after {op:?}");
            }
        }
    }
    prop_assert_eq!(&table, to);
    Ok(())
}

proptest! {
    #[test]
    fn a_plan_leads_where_it_should(a in table(), b in table()) {
        carry_out(&a, &b, &plan(&a, &b))?;
    }

    #[test]
    fn what_is_equal_in_both_is_not_touched(a in table(), b in table()) {
        for op in plan(&a, &b) {
            let key = op.service().expect("a plan never empties the table");
            let (before, after) = (a.services.get(&key), b.services.get(&key));
            match op.destination() {
                None => prop_assert_ne!(before.map(|e| &e.settings), after.map(|e| &e.settings)),
                Some(d) => prop_assert_ne!(
                    before.and_then(|e| e.destinations.get(&d)),
                    after.and_then(|e| e.destinations.get(&d))
                ),
            }
        }
    }

    #[test]
    fn nothing_to_do_is_no_operation(a in table()) {
        prop_assert_eq!(plan(&a, &a), vec![]);
    }
}

#[test]
fn additions_come_before_removals() {
    let entry = |n| Entry {
        settings: settings("rr"),
        destinations: [(server(n), destination(1))].into_iter().collect(),
    };
    let a = Table {
        services: [(service(2), entry(1)), (service(5), entry(1))].into(),
        ..Table::default()
    };
    let b = Table {
        services: [(service(2), entry(2)), (service(8), entry(2))].into(),
        ..Table::default()
    };
    assert_eq!(
        plan(&a, &b),
        [
            Op::AddDestination {
                service: service(2),
                destination: server(2),
                settings: destination(1)
            },
            Op::AddService { service: service(8), settings: settings("rr") },
            Op::AddDestination {
                service: service(8),
                destination: server(2),
                settings: destination(1)
            },
            Op::DeleteDestination { service: service(2), destination: server(1) },
            Op::DeleteService { service: service(5) },
        ]
    );
}

/// The answers are those of Linux 6.1: `EEXIST` and the deletion of something that does not exist
/// are "already", a service that is missing is `ESRCH`, a server to be changed that is missing is
/// `ENOENT`.
#[test]
fn answers_are_those_of_the_kernel() {
    let mut table = Table::default();
    let add = Op::AddService { service: service(2), settings: settings("rr") };
    let put = |weight| Op::AddDestination {
        service: service(2),
        destination: server(1),
        settings: destination(weight),
    };
    let set = Op::SetDestination {
        service: service(2),
        destination: server(1),
        settings: destination(7),
    };
    let take = Op::DeleteDestination { service: service(2), destination: server(1) };
    let delete = Op::DeleteService { service: service(2) };
    assert_eq!(table.apply(&put(1)), Outcome::Refused(ESRCH));
    assert_eq!(table.apply(&set), Outcome::Refused(ESRCH));
    assert_eq!(table.apply(&take), Outcome::Already);
    assert_eq!(table.apply(&delete), Outcome::Already);
    assert_eq!(
        table.apply(&Op::SetService { service: service(2), settings: settings("rr") }),
        Outcome::Refused(ESRCH)
    );
    assert_eq!(table.apply(&add), Outcome::Done);
    assert_eq!(table.apply(&add), Outcome::Already);
    assert_eq!(table.apply(&set), Outcome::Refused(ENOENT));
    assert_eq!(table.apply(&put(1)), Outcome::Done);
    assert_eq!(table.apply(&put(2)), Outcome::Already);
    assert_eq!(table.destination(&service(2), &server(1)), Some(&destination(1)));
    assert_eq!(table.apply(&set), Outcome::Done);
    assert_eq!(table.destination(&service(2), &server(1)), Some(&destination(7)));
    assert_eq!(table.apply(&delete), Outcome::Done);
    assert_eq!(table.apply(&add), Outcome::Done);
    assert_eq!(table.apply(&Op::Flush), Outcome::Done);
    assert_eq!(table, Table::default());
}

#[test]
fn settings_without_effect_do_not_differ() {
    let kernel = Settings { flags: 0x02 | 0x08, timeout: 0, netmask: 0, ..settings("sh") };
    let ours = Settings { flags: 0x08, ..settings("sh") };
    assert_eq!(kernel.normalised(Family::V4), ours);
    let persistent = Settings { flags: 0x03, timeout: 7200, ..settings("rr") };
    assert_eq!(
        persistent.normalised(Family::V4),
        Settings { flags: PERSISTENT, timeout: 7200, ..settings("rr") }
    );
}

#[test]
fn a_model_becomes_settings() {
    let mut model = Service {
        key: service(1),
        scheduler: Name::from("sh"),
        flags: 0x08 | 0x02,
        persistence: None,
        quorum: 1,
        hysteresis: 0,
        quorum_up: None,
        quorum_down: None,
        sorry_server: None,
        omega: false,
        smtp_alert: false,
        notify_fifo: false,
        servers: vec![],
        extras: None,
    };
    let plain = Settings { flags: 0x08, netmask: 128, ..settings("sh") };
    assert_eq!(Settings::of(&model), plain);
    assert_eq!(Settings::of(&model).normalised(Family::V6), plain);
    model.persistence =
        Some(Persistence { timeout: 360, granularity: 64, engine: Some(Name::from("sip")) });
    assert_eq!(
        Settings::of(&model),
        Settings {
            flags: 0x09,
            timeout: 360,
            netmask: 64,
            engine: Some(Name::from("sip")),
            ..settings("sh")
        }
    );
}
