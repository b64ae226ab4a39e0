//! Seeds that cannot be written by hand: packets, events, messages. They are generated here and stored in `fuzz/seeds`,
//! where fuzzers find them; after an intended change run with `EVERVIP_BLESS=1`.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use evervip::base::rng::Rng;
use evervip::base::{Family, IfIndex, Instant, Name, Prefix};
use evervip::ipc::message::{
    CheckerPart, Deliver, FromRole, FromRunner, LoadRequest, RunnerPart, ToRole, ToRunner, VrrpPart,
};
use evervip::ipc::{Announced, Catalogue, Change, Chosen, Difference};
use evervip::kernel::ipvs::message;
use evervip::model::service::Forward;
use evervip::model::{Lvs, ServiceKey, sample};
use evervip::plan::ipvs::{Destination, DestinationKey, Op, Settings};
use evervip::status::vrrp::State;
use evervip::status::{MailText, RunEnd, check as check_status, vrrp as vrrp_status};
use evervip::wire::{ip, vrrp};
use serde::Serialize;

use super::root;

type Seed = (&'static str, &'static str, Vec<u8>);

#[test]
fn seeds_that_are_made_are_up_to_date() {
    let all: Vec<Seed> = [
        adverts(),
        events(),
        messages(),
        links(),
        services(),
        wild(),
        summaries(),
        trees(),
        sessions(),
    ]
    .into_iter()
    .flatten()
    .collect();
    for (target, name, octets) in all {
        let path = root().join("fuzz/seeds").join(target).join(name);
        if std::env::var_os("EVERVIP_BLESS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &octets).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap_or_default(), octets, "{}", path.display());
    }
}

/// A packet of a version and family, with an IP header over IPv4.
fn packet(version: u8, family: Family, auth: Option<vrrp::Auth>, options: &[u8]) -> Vec<u8> {
    let (source, destination, vip) = match family {
        Family::V4 => (
            IpAddr::from([10, 0, 2, 66]),
            IpAddr::from([224, 0, 0, 18]),
            IpAddr::from([10, 0, 2, 100]),
        ),
        Family::V6 => (
            IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 66]),
            IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 0x12]),
            IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0x100]),
        ),
    };
    let mut payload = Vec::new();
    vrrp::encode(
        &vrrp::Content {
            version,
            vrid: 41,
            priority: 200,
            interval: Duration::from_secs(1),
            auth,
            addresses: &[vip],
            family,
            pseudo: (version == 3).then_some((source, destination)),
        },
        &mut payload,
    );
    let (IpAddr::V4(from), IpAddr::V4(to)) = (source, destination) else { return payload };
    let length = u16::try_from(payload.len() + options.len()).unwrap();
    let mut packet = ip::encode(1, length, from, to, 255, ip::VRRP).to_vec();
    packet[0] += u8::try_from(options.len() / 4).unwrap();
    packet.extend(options);
    packet.extend(payload);
    packet
}

fn adverts() -> Vec<Seed> {
    let pass = Some(vrrp::Auth { kind: 1, data: *b"1066\0\0\0\0" });
    // Kind of instance, hop limit, number of addresses, source.
    let seed = |kind: u8, packet: Vec<u8>| [&[kind, 255, 0, 66], packet.as_slice()].concat();
    let router_alert = [0x94, 4, 0, 0];
    let mut fragment = packet(2, Family::V4, None, &[]);
    fragment[6] = 0x20;
    vec![
        ("advert", "v2", seed(0, packet(2, Family::V4, None, &[]))),
        ("advert", "v2-pass", seed(4, packet(2, Family::V4, pass, &[]))),
        ("advert", "v3", seed(2, packet(3, Family::V4, None, &[]))),
        ("advert", "v3-ipv6", seed(1, packet(3, Family::V6, None, &[]))),
        ("advert", "owner", seed(24, packet(2, Family::V4, None, &[]))),
        ("advert", "ip-options", seed(0, packet(2, Family::V4, None, &router_alert))),
        ("advert", "fragment", seed(0, fragment)),
    ]
}

fn events() -> Vec<Seed> {
    // Kind, time, interface, number, then the arguments of the kind.
    let start = [14, 0, 0, 0, 6, 0, 0, 1, 11, 0, 0, 0, 10, 0, 0, 0];
    let timers: Vec<u8> = (0..20).flat_map(|_| [3, 255, 0, 0]).collect();
    let answers: Vec<u8> = (0..4).flat_map(|_| [10, 1, 0, 0]).collect();
    let advert = [0, 10, 0, 201, 60, 0];
    let reload = [14, 1, 0, 36, 6, 1, 0, 1, 14, 1, 0, 3, 12, 1, 0, 0];
    let stop = [15, 0, 0, 255];
    let lead = |first: &[u8]| [first, &timers, &answers, &timers].concat();
    let checks: Vec<u8> =
        [&[1, 1, 7][..], &[4, 1, 0, 9, 5, 0, 1], &[0, 50, 0, 8, 1, 0, 6, 1, 0]].concat().repeat(6);
    vec![
        ("vrrp_events", "master", lead(&start)),
        ("vrrp_events", "advert", [lead(&start), advert.to_vec()].concat()),
        ("vrrp_events", "reload", [lead(&start), reload.to_vec(), timers.clone()].concat()),
        ("vrrp_events", "stop", [lead(&start), stop.to_vec()].concat()),
        ("check_events", "checks", checks.clone()),
        ("check_events", "stop", [checks, vec![11, 0, 255, 6, 0, 0, 0, 1, 0]].concat()),
    ]
}

fn messages() -> Vec<Seed> {
    fn seed<T: Serialize>(kind: u8, value: &T) -> Vec<u8> {
        postcard::to_extend(value, vec![kind, 0]).unwrap()
    }
    let change = Some(Change { state: Announced::Master, priority: 100 });
    let programs = Deliver::Programs {
        generation: 7,
        about: 1,
        state: Announced::Master,
        programs: vec![Chosen { entry: 1, change: None }, Chosen { entry: 2, change }],
        limit: None,
    };
    let runner = RunnerPart {
        vrrp: Catalogue::of_vrrp(&sample::nat(100)),
        checker: Catalogue::of_checker(&sample::balanced()),
        ..RunnerPart::default()
    };
    let run = ToRunner::Run { run: 1, generation: 7, program: 0, timeout: Duration::from_secs(1) };
    let mail =
        Deliver::Mail(MailText { subject: "VI".into(), body: "MASTER".into(), urgent: true });
    let request = LoadRequest {
        memory: 0,
        path: b"/etc/k.conf".as_slice().into(),
        id: Some("node1".into()),
        all_checks: false,
        dump: false,
        ahead: false,
        number: 7,
        known: Some([0x0123_4567_89ab_cdef_u64].into()),
        check: Some(b"/tmp/check.log".as_slice().into()),
    };
    let vrrp = VrrpPart { vrrp: sample::nat(100), ..VrrpPart::default() };
    let checker = CheckerPart { lvs: sample::balanced(), ..CheckerPart::default() };
    vec![
        ("ipc", "to-role", seed(0, &ToRole::Prepare { generation: 7 })),
        ("ipc", "from-role", seed(1, &FromRole::Refused { generation: 7, reason: "no".into() })),
        ("ipc", "run", seed(2, &run)),
        ("ipc", "programs", seed(2, &ToRunner::Notice { id: 1, deliver: programs })),
        ("ipc", "mail", seed(2, &ToRunner::Notice { id: 2, deliver: mail })),
        ("ipc", "ran", seed(3, &FromRunner::Ran { run: 1, end: RunEnd::Exit(0) })),
        ("ipc", "request", seed(4, &request)),
        ("ipc", "vrrp-part", seed(6, &vrrp)),
        ("ipc", "checker-part", seed(7, &checker)),
        ("ipc", "runner-part", seed(8, &runner)),
        ("ipc", "difference", differences(3, 3)),
        ("ipc", "difference-to-another", differences(7, 2)),
    ]
}

/// The difference from a part with as many services to one with another order and a new service, as sent to a process
/// that has `known` services.
fn differences(before: usize, known: u8) -> Vec<u8> {
    let service = || sample::balanced().services.swap_remove(0);
    let old: Vec<_> = (0..before).map(|_| service()).collect();
    let mut services = old.clone();
    services.rotate_left(1);
    services.push(service());
    let new = CheckerPart { lvs: Lvs { services, ..Lvs::default() }, ..CheckerPart::default() };
    let difference = postcard::to_allocvec(&Difference::between(&old, &new)).unwrap();
    [&[9, known][..], &difference].concat()
}

/// Messages of a runaway process: a kind, a number of descriptors, a length, octets.
fn wild() -> Vec<Seed> {
    let alive = postcard::to_allocvec(&FromRole::Alive).unwrap();
    let one = |kind: u8, fds: u8, body: &[u8]| {
        [&[kind, fds, u8::try_from(body.len()).unwrap()], body].concat()
    };
    let kinds = |fds: u8| (0..12).flat_map(|kind| one(kind, fds, &alive)).collect::<Vec<u8>>();
    vec![
        ("channel", "without-descriptors", kinds(0)),
        ("channel", "with-descriptors", kinds(7)),
        ("channel", "with-too-many", [kinds(8), kinds(9), kinds(39)].concat()),
    ]
}

/// One octet for the engine, then a summary.
fn summaries() -> Vec<Seed> {
    let instance = |name: &str, state, announced| vrrp_status::InstanceSummary {
        name: Name::from(name),
        state,
        announced,
        own: vec![Prefix::new([10, 0, 0, 71].into(), 24).unwrap()],
        ah: vrrp_status::AhSummary { last: 7, used: 9, at: Instant::from_nanos(1_000_000_000_000) },
        heard: vec![([10, 0, 0, 72].into(), 7 << 32, Instant::from_nanos(999_000_000_000))],
    };
    let group =
        |name: &str, announced| vrrp_status::GroupSummary { name: Name::from(name), announced };
    let config = sample::failover(200);
    let name = config.instances[0].name.as_str();
    let at = Instant::from_nanos(1_000_000_000_000);
    let master = vrrp_status::Summary {
        at,
        instances: vec![instance(name, State::Master, Some(State::Master))],
        groups: vec![group("VRRP1", Some(State::Master))],
        trackers: Vec::new(),
        interfaces: vec![("enp0s8".parse().unwrap(), IfIndex(2))],
        settings: Vec::new(),
        reports: None,
    };
    let twice = vrrp_status::Summary {
        at: Instant::from_nanos(u64::MAX),
        instances: vec![
            instance(name, State::Fault, None),
            instance(name, State::Master, Some(State::Backup)),
            instance("", State::Init, Some(State::Fault)),
        ],
        groups: vec![group("", None), group("VRRP1", Some(State::Init))],
        trackers: Vec::new(),
        interfaces: vec![("enp0s8".parse().unwrap(), IfIndex(0)); 2],
        settings: Vec::new(),
        reports: Some(1),
    };
    let lvs = sample::balanced();
    let down = |key| check_status::ServiceSummary {
        id: evervip::model::ServiceId::Single(key),
        announced: Some(false),
        down: vec!["10.0.0.1:80".parse().unwrap(), "[::]:0".parse().unwrap()],
    };
    let mark = ServiceKey::Mark { mark: 0, family: Family::V6 };
    let servers = check_status::Summary {
        services: vec![down(lvs.services[0].key), down(mark), down(lvs.services[0].key)],
    };
    vec![
        ("resume", "master", postcard::to_extend(&master, vec![0]).unwrap()),
        ("resume", "twice", postcard::to_extend(&twice, vec![0]).unwrap()),
        ("resume", "servers", postcard::to_extend(&servers, vec![1]).unwrap()),
    ]
}

/// Trees of files and the path of a script: random ones, the same in every run.
fn trees() -> Vec<Seed> {
    // A directory `/a`, a program `/a/b`, then the path `/a/b`.
    let plain = [0, 2, 0, 0, 0, 0, 0, 0, 1, 1, 4, 0, 0, 0, 1, 0, 0, 0, 1];
    let random = |seed: u64| {
        let mut rng = Rng::new(seed);
        (0..400).map(|_| rng.next_u64() as u8).collect::<Vec<u8>>()
    };
    vec![
        ("scripts", "plain", plain.to_vec()),
        ("scripts", "random-1", random(1)),
        ("scripts", "random-2", random(2)),
        ("scripts", "random-3", random(3)),
    ]
}

/// A BFD session that comes up, is asked, and goes down.
fn sessions() -> Vec<Seed> {
    use evervip::wire::bfd::{Packet, State};
    let base =
        Packet { multiplier: 3, own: 77, min_tx: 10_000, min_rx: 10_000, ..Packet::default() };
    // Time, TTL, whether it names the session.
    let step = |named: u8, packet: Packet| [&[3, 255, named][..], &packet.encode()].concat();
    let up = [
        step(0, Packet { state: State::Down, ..base }),
        step(1, Packet { state: State::Init, ..base }),
        step(1, Packet { state: State::Up, poll: true, ..base }),
        step(1, Packet { state: State::Up, r#final: true, ..base }),
    ]
    .concat();
    let quiet = step(1, Packet { state: State::Up, demand: true, min_rx: 0, ..base });
    let down = step(1, Packet { state: State::AdminDown, ..base });
    vec![
        ("bfd", "up", up.clone()),
        ("bfd", "quiet", [up.clone(), quiet].concat()),
        ("bfd", "down", [up, down].concat()),
    ]
}

/// A netlink message of a kind; `port` is that of the request that caused it.
fn netlink(kind: u16, port: u32, body: &[u8]) -> Vec<u8> {
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend([0; 6]);
    message.extend(port.to_ne_bytes());
    message.extend(body);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = (4 + value.len() as u16).to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn links() -> Vec<Seed> {
    let mut link = vec![0, 0, 1, 0, 2, 0, 0, 0, 0x43, 0, 0, 0, 0, 0, 0, 0];
    link.extend(attribute(3, b"enp0s8\0"));
    link.extend(attribute(1, &[2, 0, 0, 0, 0, 7]));
    link.extend(attribute(4, &1500_u32.to_ne_bytes()));
    let mut address = vec![2, 24, 0x80, 0, 2, 0, 0, 0];
    address.extend(attribute(1, &[10, 0, 2, 100]));
    address.extend(attribute(2, &[10, 0, 2, 100]));
    address.extend(attribute(8, &0x80_u32.to_ne_bytes()));
    let mut six = vec![10, 64, 0, 0, 2, 0, 0, 0];
    six.extend(attribute(1, &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
    let mut refusal = (-95_i32).to_ne_bytes().to_vec();
    refusal.extend([0; 16]);
    refusal.extend(attribute(1, b"Unknown kind\0"));
    let datagram = |messages: &[Vec<u8>]| {
        let octets = messages.concat();
        [(octets.len() as u16).to_be_bytes().to_vec(), octets].concat()
    };
    let all = [
        datagram(&[netlink(16, 0, &link), netlink(20, 4711, &address)]),
        datagram(&[netlink(20, 0, &six), netlink(21, 4711, &address), netlink(17, 0, &link)]),
    ];
    vec![
        ("rtnetlink", "link-and-addresses", all.concat()),
        ("rtnetlink", "refusal", datagram(&[netlink(2, 0, &refusal)])),
    ]
}

fn services() -> Vec<Seed> {
    let lvs = sample::balanced();
    let (service, server) = (&lvs.services[0], &lvs.services[0].servers[0]);
    let mark = ServiceKey::Mark { mark: 123, family: Family::V6 };
    let made = |ops: &[Op]| {
        let mut buffer = Vec::new();
        for (number, op) in (1..).zip(ops) {
            message::encode(&mut buffer, 30, number, op, false);
        }
        buffer
    };
    let settings = || Settings::of(service);
    let destination = Destination { forward: Forward::Dr, ..Destination::of(server, 7) };
    let key = DestinationKey::of(server);
    vec![
        ("ipvs", "service", made(&[Op::AddService { service: service.key, settings: settings() }])),
        ("ipvs", "mark", made(&[Op::SetService { service: mark, settings: settings() }])),
        (
            "ipvs",
            "destinations",
            made(&[
                Op::AddDestination {
                    service: service.key,
                    destination: key,
                    settings: Destination::of(server, 1),
                },
                Op::SetDestination { service: mark, destination: key, settings: destination },
            ]),
        ),
    ]
}
