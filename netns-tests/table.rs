//! The IPVS connection with a real kernel: written entries are read back and shown by `ipvsadm`, and the kernel's
//! answers match those of the planner's model.

use std::net::IpAddr;
use std::time::Instant;

use evervip::base::rng::Rng;
use evervip::base::{Family, Name};
use evervip::kernel::ipvs::Ipvs;
use evervip::model::ServiceKey;
use evervip::model::service::{Forward, Protocol, Tunnel, TunnelChecksum};
use evervip::plan::Outcome;
use evervip::plan::ipvs::{
    Destination, DestinationKey, Destinations, Entry, Op, PERSISTENT, Settings, Table, plan,
};

use crate::lab::{Lab, Res, ipvs};
use crate::{cases, check};

cases![Ipvs:
    every_attribute_is_read_back_and_shown,
    the_kernel_answers_as_the_model_does,
    a_large_table_travels_packed,
];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn service(protocol: Protocol, endpoint: &str) -> ServiceKey {
    ServiceKey::Address { protocol, endpoint: endpoint.parse().expect("an endpoint") }
}

fn settings(scheduler: &str, family: Family) -> Settings {
    Settings { scheduler: Name::from(scheduler), flags: 0, timeout: 0, netmask: 0, engine: None }
        .normalised(family)
}

fn key(text: &str, port: u16) -> DestinationKey {
    DestinationKey { address: address(text), port }
}

fn destination(forward: Forward, weight: u32) -> Destination {
    Destination { forward, weight, upper_threshold: 0, lower_threshold: 0 }
}

/// A table with everything that can be configured, and its lines in `ipvsadm`.
fn everything() -> (Table, Vec<&'static str>) {
    let mut table = Table::default();
    let mut add = |key, settings, servers: &[(DestinationKey, Destination)]| {
        let destinations: Destinations = servers.iter().copied().collect();
        table.services.insert(key, Entry { settings, destinations });
    };
    let tunnel = |tunnel, weight| destination(Forward::Tun(tunnel), weight);
    let limits = Destination {
        forward: Forward::Nat,
        weight: 2_147_483_647,
        upper_threshold: 100,
        lower_threshold: 50,
    };
    add(
        service(Protocol::Tcp, "10.0.0.1:80"),
        Settings {
            flags: PERSISTENT,
            timeout: 7200,
            netmask: 0xffff_ff00,
            ..settings("rr", Family::V4)
        },
        &[(key("10.0.0.71", 8080), limits), (key("10.0.0.72", 80), destination(Forward::Nat, 0))],
    );
    // A server on this very host, by direct routing.
    add(
        service(Protocol::Tcp, "10.0.0.2:443"),
        Settings { flags: 0x08 | 0x10, ..settings("sh", Family::V4) },
        &[
            (key("10.0.0.71", 443), destination(Forward::Dr, 3)),
            (key("127.0.0.1", 443), destination(Forward::Dr, 1)),
        ],
    );
    add(
        service(Protocol::Udp, "10.0.0.3:53"),
        Settings { flags: 0x04, ..settings("wlc", Family::V4) },
        &[
            (key("10.0.0.71", 53), tunnel(Tunnel::Ipip, 1)),
            (
                key("10.0.0.72", 53),
                tunnel(Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Remote }, 2),
            ),
            (key("10.0.0.73", 53), tunnel(Tunnel::Gre { checksum: TunnelChecksum::Checksum }, 3)),
            (key("fd00::71", 53), tunnel(Tunnel::Ipip, 4)),
        ],
    );
    add(
        service(Protocol::Udp, "10.0.0.3:5060"),
        Settings {
            flags: PERSISTENT,
            timeout: 360,
            engine: Some(Name::from("sip")),
            ..settings("rr", Family::V4)
        },
        &[],
    );
    add(
        service(Protocol::Sctp, "10.0.0.4:9"),
        settings("lc", Family::V4),
        &[(key("10.0.0.71", 9), destination(Forward::Nat, 1))],
    );
    add(
        service(Protocol::Tcp, "10.0.0.5:0"),
        Settings { flags: PERSISTENT, timeout: 360, ..settings("mh", Family::V4) },
        &[(key("10.0.0.71", 0), destination(Forward::Dr, 1))],
    );
    add(
        service(Protocol::Tcp, "[fd00::1]:80"),
        Settings { flags: PERSISTENT, timeout: 60, netmask: 64, ..settings("wrr", Family::V6) },
        &[(key("fd00::71", 80), destination(Forward::Nat, 1))],
    );
    add(
        ServiceKey::Mark { mark: 123, family: Family::V4 },
        Settings { flags: PERSISTENT, timeout: 7200, ..settings("rr", Family::V4) },
        &[(key("10.0.0.71", 0), destination(Forward::Dr, 1))],
    );
    add(
        ServiceKey::Mark { mark: 123, family: Family::V6 },
        settings("sed", Family::V6),
        &[(key("fd00::71", 0), destination(Forward::Dr, 1))],
    );
    let lines = vec![
        "-A -t 10.0.0.1:80 -s rr -p 7200 -M 255.255.255.0",
        "-a -t 10.0.0.1:80 -r 10.0.0.71:8080 -m -w 2147483647",
        "-a -t 10.0.0.1:80 -r 10.0.0.72:80 -m -w 0",
        "-A -t 10.0.0.2:443 -s sh -b sh-fallback,sh-port",
        "-a -t 10.0.0.2:443 -r 10.0.0.71:443 -g -w 3",
        "-a -t 10.0.0.2:443 -r 127.0.0.1:443 -g -w 1",
        "-A -u 10.0.0.3:53 -s wlc -o",
        "-a -u 10.0.0.3:53 -r 10.0.0.71:53 -i -w 1 --tun-type ipip",
        "-a -u 10.0.0.3:53 -r 10.0.0.72:53 -i -w 2 --tun-type gue --tun-port 6080 --tun-remcsum",
        "-a -u 10.0.0.3:53 -r 10.0.0.73:53 -i -w 3 --tun-type gre --tun-csum",
        "-a -u 10.0.0.3:53 -r [fd00::71]:53 -i -w 4 --tun-type ipip",
        "-A -u 10.0.0.3:5060 -s rr -p 360 --pe sip",
        "-A --sctp-service 10.0.0.4:9 -s lc",
        "-a --sctp-service 10.0.0.4:9 -r 10.0.0.71:9 -m -w 1",
        "-A -t 10.0.0.5:0 -s mh -p 360",
        "-a -t 10.0.0.5:0 -r 10.0.0.71:0 -g -w 1",
        "-A -t [fd00::1]:80 -s wrr -p 60 -M 64",
        "-a -t [fd00::1]:80 -r [fd00::71]:80 -m -w 1",
        "-A -f 123 -s rr -p 7200",
        "-a -f 123 -r 10.0.0.71:0 -g -w 1",
        "-A -f 123 -6 -s sed",
        "-a -f 123 -6 -r [fd00::71]:0 -g -w 1",
    ];
    (table, lines)
}

fn every_attribute_is_read_back_and_shown(lab: &mut Lab) -> Res {
    let node = lab.node("director")?;
    // A foreign entry, which must not be touched.
    node.must(["ipvsadm", "-A", "-t", "10.9.9.9:9", "-s", "rr"])?;
    let (table, lines) = everything();
    let wanted = table.clone();
    let (outcomes, read) = node.run(move || {
        let mut ipvs = Ipvs::new();
        let ops = plan(&Table::default(), &wanted);
        let outcomes: Vec<_> = ops.iter().cloned().zip(ipvs.apply(&ops)).collect();
        let keys: Vec<_> = wanted.services.keys().copied().collect();
        let one = ipvs.read(&keys[..1]);
        let all = ipvs.read(&keys);
        (outcomes, one.and_then(|one| Ok((one, all?))))
    })?;
    for (op, outcome) in outcomes {
        check!(outcome == Outcome::Done, "{op:?}: {outcome:?}");
    }
    let (one, all) = read?;
    check!(all == table, "read {all:#?}\nwanted {table:#?}");
    check!(one.services.first_key_value() == table.services.first_key_value(), "{one:#?}");
    check!(one.services.len() == 1, "{one:#?}");
    let shown = ipvs::table(&node)?;
    for line in &lines {
        check!(shown.iter().any(|shown| shown == line), "no line {line:?} in {shown:#?}");
    }
    check!(shown.len() == lines.len() + 1, "{shown:#?}");

    let limits = node.must(["ipvsadm", "-Ln", "--thresholds"])?;
    let line = limits.lines().find(|line| line.contains("10.0.0.71:8080")).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    check!(words.get(2..4) == Some(&["100", "50"]), "{limits}");

    // Everything changes in place, nothing is recreated, and then everything is removed.
    let mut changed = table.clone();
    for entry in changed.services.values_mut() {
        entry.settings.scheduler = Name::from("wlc");
        let servers: Vec<_> = entry.destinations.iter().map(|(key, d)| (key, *d)).collect();
        for (key, mut settings) in servers {
            settings.weight = 7;
            settings.upper_threshold = 90;
            entry.destinations.insert(key, settings);
        }
    }
    let (from, to) = (table, changed.clone());
    let (ops, outcomes, read, gone) = node.run(move || {
        let mut ipvs = Ipvs::new();
        let ops = plan(&from, &to);
        let outcomes = ipvs.apply(&ops);
        let keys: Vec<_> = to.services.keys().copied().collect();
        let read = ipvs.read(&keys);
        let gone = ipvs.apply(&plan(&to, &Table::default()));
        (ops, outcomes, read, gone)
    })?;
    let in_place = |op: &Op| matches!(op, Op::SetService { .. } | Op::SetDestination { .. });
    check!(ops.iter().all(in_place), "{ops:#?}");
    check!(outcomes.iter().all(|outcome| *outcome == Outcome::Done), "{outcomes:?}");
    let read = read?;
    check!(read == changed, "read {read:#?}\nwanted {changed:#?}");
    check!(gone.iter().all(|outcome| *outcome == Outcome::Done), "{gone:?}");
    let left = ipvs::table(&node)?;
    check!(left == ["-A -t 10.9.9.9:9 -s rr"], "{left:?}");
    Ok(())
}

/// Random operations, many of them refused, in packets: each answer is that of the model, and so is the table.
fn the_kernel_answers_as_the_model_does(lab: &mut Lab) -> Res {
    let node = lab.node("director")?;
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut some = |bound| u8::try_from(rng.below(bound)).expect("a small number");
        let services: Vec<ServiceKey> = (0..4u8)
            .map(|n| match n {
                0 => ServiceKey::Mark { mark: 7, family: Family::V4 },
                _ => service(Protocol::Tcp, &format!("10.0.0.{n}:80")),
            })
            .collect();
        let ops: Vec<Op> = (0..350)
            .map(|_| {
                let service = services[usize::from(some(4))];
                let destination = key(&format!("10.0.1.{}", 1 + some(4)), 80);
                let server = Destination {
                    forward: if some(2) == 0 { Forward::Nat } else { Forward::Dr },
                    weight: some(3).into(),
                    upper_threshold: some(2).into(),
                    lower_threshold: 0,
                };
                let scheduler = if some(2) == 0 { "rr" } else { "wlc" };
                let settings = settings(scheduler, Family::V4);
                match some(16) {
                    0 => Op::AddService { service, settings },
                    1 => Op::AddService { service, settings },
                    2 => Op::SetService { service, settings },
                    3 => Op::DeleteService { service },
                    4..9 => Op::AddDestination { service, destination, settings: server },
                    9..13 => Op::SetDestination { service, destination, settings: server },
                    _ => Op::DeleteDestination { service, destination },
                }
            })
            .chain(std::iter::once(Op::Flush).filter(|_| seed % 2 == 0))
            .collect();
        let asked = ops.clone();
        let (outcomes, table) = node.run(move || {
            let mut ipvs = Ipvs::new();
            ipvs.apply(&[Op::Flush]);
            let outcomes = ipvs.apply(&asked);
            (outcomes, ipvs.read(&services))
        })?;
        let mut model = Table::default();
        for (position, (op, outcome)) in ops.iter().zip(&outcomes).enumerate() {
            let wanted = model.apply(op);
            check!(*outcome == wanted, "seed {seed}, {position}: {op:?}: {outcome:?}, {wanted:?}");
        }
        let table = table?;
        check!(table == model, "seed {seed}: read {table:#?}\nmodel {model:#?}");
        let refused = outcomes.iter().filter(|outcome| **outcome != Outcome::Done).count();
        check!(refused > 50, "seed {seed}: only {refused} refusals");
    }
    // Errors that only a kernel gives.
    let unknown = node.run(|| {
        let service = ServiceKey::Mark { mark: 9, family: Family::V4 };
        let settings = settings("nosuch", Family::V4);
        Ipvs::new().apply(&[Op::AddService { service, settings }])
    })?;
    check!(unknown == [Outcome::Refused(2)], "{unknown:?}");
    Ok(())
}

fn a_large_table_travels_packed(lab: &mut Lab) -> Res {
    const SERVICES: u16 = 2000;
    let node = lab.node("director")?;
    let mut table = Table::default();
    for n in 0..SERVICES {
        let [high, low] = n.to_be_bytes();
        let destinations = (1..5u8)
            .map(|n| (key(&format!("10.2.0.{n}"), 80), destination(Forward::Nat, n.into())))
            .collect();
        let entry = Entry { settings: settings("rr", Family::V4), destinations };
        table.services.insert(service(Protocol::Tcp, &format!("10.1.{high}.{low}:80")), entry);
    }
    let wanted = table.clone();
    let (outcomes, read, parts, times, sent) = node.run(move || {
        let mut ipvs = Ipvs::new();
        let ops = plan(&Table::default(), &wanted);
        let begin = Instant::now();
        let outcomes = ipvs.apply(&ops);
        let mut sent = vec![ipvs.sent()];
        let written = begin.elapsed();
        let keys: Vec<_> = wanted.services.keys().copied().collect();
        let read = ipvs.read(&keys);
        sent.push(ipvs.sent());
        let all = begin.elapsed();
        // In parts, as in an audit.
        let parts: Result<Vec<Table>, _> = keys.chunks(64).map(|keys| ipvs.read(keys)).collect();
        sent.push(ipvs.sent());
        (outcomes, read, parts, [written, all - written, begin.elapsed() - all], sent)
    })?;
    lab.note(format!("{} operations, reading, in parts: {times:?}", outcomes.len()));
    check!(outcomes.len() == 5 * usize::from(SERVICES), "{}", outcomes.len());
    check!(outcomes.iter().all(|outcome| *outcome == Outcome::Done), "something was refused");
    check!(read? == table, "the table read differs from the one written");
    let mut joined = Table::default();
    joined.services.extend(parts?.into_iter().flat_map(|part| part.services));
    check!(joined == table, "the table read in parts differs from the one written");
    // A hundred operations in a datagram, after the request for the family.
    check!(sent[0] == 1 + outcomes.len().div_ceil(100) as u64, "{sent:?}");
    // A list costs a request for each service, and one or two datagrams for the list; parts cost at most one more each.
    let [list, parts] = [sent[1] - sent[0], sent[2] - sent[1]];
    let services = u64::from(SERVICES);
    check!(list >= services && parts <= services + services.div_ceil(64), "{sent:?}");
    Ok(())
}
