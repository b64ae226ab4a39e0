//! Log lines that other routers cause: a few for each reason, then a count; changes of state are always logged.

use super::*;
use crate::model::extras::{Hmac, HmacKey, HmacMode, SecretBytes, Unicast, UnicastPeer};
use crate::wire::{ah, hmac};

/// Changes the configuration of the instance that hears an advert.
type Change = fn(&mut model::Instance);

const OWN: [u8; 4] = [10, 0, 2, 71];
const GROUP: [u8; 4] = [224, 0, 0, 18];
const STRANGER: [u8; 4] = [10, 0, 2, 99];
const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
/// Adverts for each reason.
const MANY: usize = 1000;
/// Time of day in tests, in seconds.
const NOW: u64 = 1_800_000_000;

/// A line of the log: whether other routers caused it, and its text without the name of the instance.
type Line = (bool, String);

/// The lines that these steps cause.
fn logged(host: &mut Host, steps: impl FnOnce(&mut Host)) -> Vec<Line> {
    host.all_logged();
    steps(host);
    let without_name = |text: String| text.replace("VRRP_Instance(VRRP1) ", "");
    host.all_logged()
        .into_iter()
        .map(|line| (line.target == crate::status::PEER, without_name(line.text)))
        .collect()
}

impl Host {
    /// Receives a packet many times within 10 s, and lets two minutes pass in which nothing else happens.
    fn flood(&mut self, mut packet: impl FnMut(usize) -> Vec<u8>) -> Vec<Line> {
        let lines = logged(self, |host| {
            for n in 0..MANY {
                let packet = packet(n);
                let (header, _) = ip::decode(&packet).unwrap();
                let (source, destination) = (header.source.into(), header.destination.into());
                let rx = Rx { interface: ETH, source, destination, hop_limit: 0 };
                host.event(Event::Advert { rx, packet: &packet });
                host.now = host.now + 10 * MS;
            }
            host.pass(120 * SECOND);
        });
        lines.into_iter().filter(|(caused, _)| *caused).collect()
    }
}

/// Asserts that all lines were caused by other routers, that there are this many that begin so, and that the last one
/// counts the others.
fn limited(lines: &[Line], begin: &str, lines_each: usize, words: &str, total: usize) {
    let of: Vec<_> = lines.iter().filter(|(_, text)| text.starts_with(begin)).collect();
    assert_eq!(of.len(), lines_each, "{begin}: {lines:#?}");
    let count = total - lines_each;
    let summary = format!("{count} more in the last minute were not logged: {words}");
    let summaries = lines.iter().filter(|(_, text)| *text == summary).count();
    assert_eq!(summaries, 1, "{summary}: {lines:#?}");
}

/// The backup of the failover scenario, changed.
fn changed(priority: u8, change: impl FnOnce(&mut model::Instance)) -> Host {
    let mut config = failover(priority);
    change(&mut config.instances[0]);
    let mut host = Host::new(config);
    host.event(Event::TimeOfDay(WallTime { secs: NOW, nanos: 0 }));
    host
}

fn master(change: impl FnOnce(&mut model::Instance)) -> Host {
    let mut host = changed(200, change);
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    host
}

fn keyed(instance: &mut model::Instance) {
    instance.authentication = Authentication::None;
    instance.extras.get_or_insert_default().ah_key = Some(crate::base::Secret::new(*b"secret12"));
}

/// An advert with an IP authentication header.
fn with_ah(number: u32, key: &[u8; 8]) -> Vec<u8> {
    let plain = advert(PEER, |c| c.auth = Some(wire::Auth { kind: 2, data: [0; 8] }));
    let pdu = &plain[ip::HEADER..];
    let header = ah::encode(Ipv4Addr::from(PEER).to_bits(), number);
    let length = u16::try_from(header.len() + pdu.len()).unwrap();
    let mut packet = ip::encode(1, length, PEER.into(), GROUP.into(), 255, ah::PROTOCOL).to_vec();
    packet.extend(header);
    packet.extend(pdu);
    ah::seal(&mut packet, key, false);
    packet
}

fn signed(instance: &mut model::Instance) {
    (instance.version, instance.authentication) = (Version::V3, Authentication::None);
    instance.v3_checksum_as_v2 = true;
    let key = HmacKey { id: 1, key: SecretBytes::new(KEY.to_vec()) };
    instance.extras.get_or_insert_default().hmac = Some(Hmac {
        keys: vec![key],
        active: 1,
        window: 30 * SECOND,
        monotonic: false,
        mode: HmacMode::Enforce,
    });
}

/// A version 3 advert with a trailer whose clock is ahead by so many seconds.
fn with_trailer(priority: u8, id: u8, key: &[u8], ahead: i64, count: u32) -> Vec<u8> {
    let mut packet = advert(PEER, |c| {
        (c.version, c.auth, c.priority) = (3, None, priority);
    });
    let mut payload = packet.split_off(ip::HEADER);
    wire::checksum_again(&mut payload, None);
    let seconds = NOW.wrapping_add_signed(ahead);
    let sequence = (seconds << 32) | u64::from(count);
    payload.extend(hmac::sign(id, key, sequence, PEER.into(), &payload));
    super::packet(PEER, &payload)
}

fn unicast(instance: &mut model::Instance) {
    let peer = UnicastPeer { address: PEER.into(), min_ttl: 0, max_ttl: 255 };
    let unicast = Unicast { peers: vec![peer], check_source: true, ..Unicast::default() };
    instance.extras.get_or_insert_default().unicast = Some(unicast);
}

fn to_us(from: [u8; 4], change: impl FnOnce(&mut wire::Content<'_>)) -> Vec<u8> {
    let mut packet = advert(from, change);
    let payload = packet.split_off(ip::HEADER);
    let length = u16::try_from(payload.len()).unwrap();
    let mut packet = ip::encode(1, length, from.into(), OWN.into(), 255, ip::VRRP).to_vec();
    packet.extend(payload);
    packet
}

#[test]
fn each_reason_to_refuse_an_advert_is_one_line_and_a_count() {
    let with = |at: usize, to: u8| {
        let mut packet = advert(PEER, |_| {});
        packet[at] = to;
        packet
    };
    let kind = |kind| advert(PEER, |c| c.auth = Some(wire::Auth { kind, data: *b"1066\0\0\0\0" }));
    let two = [IpAddr::from([10, 0, 2, 100]), IpAddr::from([10, 0, 2, 101])];
    let mut short = advert(PEER, |_| {});
    short.truncate(short.len() - 4);
    short[3] -= 4;
    let wrong = wire::Auth { kind: 1, data: *b"1067\0\0\0\0" };
    let mut malformed = with_trailer(200, 1, KEY, 0, 1);
    let at = malformed.len() - hmac::TRAILER;
    malformed[at] ^= 0xff;
    let (none, owner): (Change, Change) = (|_| {}, |i| i.owner_ignore_adverts = true);
    let cases: [(&str, Change, u8, Vec<u8>); 19] = [
        ("wrong destination address", none, 200, with(19, 19)),
        ("wrong TTL", none, 200, with(8, 254)),
        ("wrong version", none, 200, with(20, 0x41)),
        ("wrong type", none, 200, with(20, 0x22)),
        ("wrong length", none, 200, short),
        ("wrong checksum", none, 200, with(26, 0)),
        ("unknown authentication", none, 200, kind(9)),
        ("other authentication", none, 200, kind(0)),
        ("wrong password", none, 200, advert(PEER, |c| c.auth = Some(wrong))),
        ("wrong password", keyed, 200, with_ah(7, b"secret13")),
        ("wrong interval", none, 200, advert(PEER, |c| c.interval = 2 * SECOND)),
        ("own addresses", owner, 255, advert(PEER, |_| {})),
        ("wrong address count", none, 250, advert_of(PEER, &two, |c| c.priority = 1)),
        ("not a peer", unicast, 200, to_us(STRANGER, |_| {})),
        ("missing trailer", signed, 200, {
            let packet = with_trailer(200, 1, KEY, 0, 1);
            let end = packet.len() - hmac::TRAILER;
            super::packet(PEER, &packet[ip::HEADER..end])
        }),
        ("malformed trailer", signed, 200, malformed),
        ("unknown key", signed, 200, with_trailer(200, 2, KEY, 0, 1)),
        ("wrong HMAC", signed, 200, with_trailer(200, 1, b"another", 0, 1)),
        ("stale trailer", signed, 200, with_trailer(200, 1, KEY, -1000, 1)),
    ];
    for (words, change, priority, packet) in cases {
        let mut host = changed(priority, change);
        host.pass(10 * SECOND);
        let lines = host.flood(|_| packet.clone());
        limited(&lines, "dropped an advert from", 1, words, MANY);
        assert_eq!(lines.len(), 2, "{words}: {lines:#?}");
    }
    // The first one counts, and the others repeat it.
    let mut host = changed(250, signed);
    host.pass(10 * SECOND);
    let replayed = with_trailer(100, 1, KEY, 0, 1);
    let lines = host.flood(|_| replayed.clone());
    limited(&lines, "dropped an advert from", 1, "replayed trailer", MANY - 1);
}

#[test]
fn what_a_valid_advert_is_about_is_a_few_lines_and_a_count() {
    // A master hears a lower priority, its own, and a farewell.
    let lines = master(|_| {}).flood(|_| advert(PEER, |c| c.priority = 100));
    limited(&lines, "Received advert from", 5, "lower priority, answered", MANY);
    let lines = master(|_| {}).flood(|_| advert(OWN, |_| {}));
    limited(&lines, "WARNING - equal priority", 5, "our own priority and address", MANY);
    let lines = master(|_| {}).flood(|_| advert(PEER, |c| c.priority = 0));
    limited(&lines, "Master received priority 0", 5, "priority 0", MANY);
    // Other addresses than ours, of the same number.
    let other = [IpAddr::from([10, 0, 2, 200])];
    let lines = master(|_| {}).flood(|_| advert_of(PEER, &other, |c| c.priority = 100));
    limited(&lines, "the addresses in the adverts of", 1, "other addresses than ours", MANY);
    // A backup that knows its master hears a lower priority, and a farewell each time after a better one.
    let mut host = Host::backup();
    let packet = |n: usize| match n % 2 {
        0 => advert(PEER, |_| {}),
        _ => advert(STRANGER, |c| c.priority = 50),
    };
    let lines = host.flood(packet);
    limited(&lines, "received lower priority", 1, "lower priority, discarded", MANY / 2);
    let lines = Host::backup().flood(|n| advert(PEER, |c| c.priority = [200, 0][n % 2]));
    limited(&lines, "Backup received priority 0", 5, "priority 0", MANY / 2);
    // Two masters, in turn.
    let lines = Host::backup().flood(|n| advert([PEER, STRANGER][n % 2], |_| {}));
    // One line said which master it found first.
    limited(&lines, "master changed from", 4, "another master", MANY - 1);
    // A delay that begins and ends.
    let mut host = changed(150, |i| i.preempt = Preempt::After(100 * SECOND));
    let lines = host.flood(|n| advert(PEER, |c| c.priority = [200, 100][n % 2]));
    limited(&lines, "st", 5, "preempt delay", MANY - 1);
}

#[test]
fn what_a_senders_clock_and_checksum_are_about_is_a_line_and_a_count() {
    let mut host = changed(250, signed);
    host.pass(10 * SECOND);
    let mut count = 0;
    let lines = host.flood(|_| {
        count += 1;
        with_trailer(100, 1, KEY, 38, count)
    });
    limited(&lines, "the clock of", 1, "another time of day", MANY);
    let three = |covered: [u8; 4]| {
        let mut packet = to_us(PEER, |c| (c.version, c.auth, c.priority) = (3, None, 200));
        let pseudo = Some((PEER.into(), covered.into()));
        wire::checksum_again(&mut packet[ip::HEADER..], pseudo);
        packet
    };
    let mut host = changed(100, |i| {
        (i.version, i.authentication) = (Version::V3, Authentication::None);
        unicast(i);
    });
    let lines = host.flood(|n| three([GROUP, OWN][n % 2]));
    limited(&lines, "10.0.2.72 uses the", 1, "another form of checksum", MANY);
}

#[test]
fn adverts_that_cannot_be_sent_are_a_line_and_a_count() {
    let mut host = Host::master();
    let lines = logged(&mut host, |host| {
        for _ in 0..MANY {
            let (instance, destination) = (InstanceId(0), GROUP.into());
            host.event(Event::Unsent { instance, destination, errno: 101 });
        }
        host.pass(120 * SECOND);
    });
    limited(&lines, "send advert error", 1, "advert not sent", MANY);
}

#[test]
fn unknown_virtual_router_ids_are_some_lines_and_a_count() {
    let mut config = failover(200);
    config.log_unknown_vrids = true;
    let mut host = Host::new(config);
    let before = host.now;
    let lines = host.flood(|_| advert(PEER, |c| c.vrid = 42));
    assert!(host.now > before + 120 * SECOND);
    // A burst of 20, and one every 3 s in 10 s.
    limited(&lines, "Unknown VRID(42) received on interface(enp0s8)", 23, "unknown VRID", MANY);
    assert_eq!(lines.len(), 24, "{lines:#?}");
}

#[test]
fn changes_of_state_are_never_among_the_lines_that_may_be_left_out() {
    let mut host = Host::master();
    let rounds = 100;
    let lines = logged(&mut host, |host| {
        for _ in 0..rounds {
            for _ in 0..20 {
                host.hear(PEER, 100);
                host.hear(PEER, 0);
            }
            host.hear(PEER, 250);
            assert_eq!(host.state(), State::Backup);
            host.hear(PEER, 0);
            host.pass(SECOND);
            assert_eq!(host.state(), State::Master);
        }
    });
    let of = |caused: bool, begin: &str| {
        lines.iter().filter(|(c, text)| *c == caused && text.starts_with(begin)).count()
    };
    for begin in [
        "Master received advert from 10.0.2.72 with higher priority 250",
        "Entering BACKUP STATE",
        "Entering MASTER STATE",
        "setting VIPs",
        "removing VIPs",
        "Receive advertisement timeout",
    ] {
        assert_eq!((of(false, begin), of(true, begin)), (rounds, 0), "{begin}");
    }
    let caused = lines.iter().filter(|(caused, _)| *caused).count();
    assert!(caused < 60, "{caused} lines caused by other routers");
}

/// The tests above, one of which must notice that a place logs every line.
const TESTS: [fn(); 5] = [
    each_reason_to_refuse_an_advert_is_one_line_and_a_count,
    what_a_valid_advert_is_about_is_a_few_lines_and_a_count,
    what_a_senders_clock_and_checksum_are_about_is_a_line_and_a_count,
    adverts_that_cannot_be_sent_are_a_line_and_a_count,
    unknown_virtual_router_ids_are_some_lines_and_a_count,
];

#[test]
fn each_place_that_logs_for_others_is_limited() {
    use crate::vrrp::limit::sites::{ASKED, REMOVED};
    TESTS.iter().for_each(|test| test());
    let asked = ASKED.take();
    let sources = [
        include_str!("../advert.rs"),
        include_str!("../send.rs"),
        include_str!("../transition.rs"),
    ];
    let written: usize = sources.iter().map(|text| text.matches("self.admits").count()).sum();
    assert_eq!(asked.len(), written, "asked in these tests: {asked:#?}");
    for site in asked {
        REMOVED.set(Some(site));
        let noticed = TESTS.iter().any(|test| catch_unwind(test).is_err());
        REMOVED.set(None);
        assert!(noticed, "no test notices that {site:?} is not limited");
    }
}
