//! Adverts captured from keepalived 2.4.3 (tests/data/adverts-2.4.3.tsv): each is accepted by a router with the same
//! configuration at that time, none with a changed octet is, and our own adverts are identical.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use evervip::base::{Family, IfIndex, Instant, Mac, Prefix, WallTime};
use evervip::config::{MemoryFiles, Options, StaticHost, load};
use evervip::model::{LinkKind, Vrrp};
use evervip::plan::{Object, Outcome, Sight};
use evervip::status::vrrp::Counters;
use evervip::vrrp::{Action, Actions, Engine, Event, Link, Rx, Snapshot};

const ETH: IfIndex = IfIndex(2);
/// The interface with the virtual MAC.
const UPPER: IfIndex = IfIndex(3);
const CAPTURES: &str = include_str!("data/adverts-2.4.3.tsv");

struct Capture {
    name: &'static str,
    options: String,
    /// When it was captured.
    at: WallTime,
    family: Family,
    /// IPv4: from the IP header on; IPv6: after it.
    packet: Vec<u8>,
    source: IpAddr,
    destination: IpAddr,
    tos: u8,
    hops: u8,
}

fn captures() -> Vec<Capture> {
    let rows = CAPTURES.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    rows.map(|row| capture(&row)).collect()
}

fn capture(row: &[&'static str]) -> Capture {
    let &[name, options, at, frame] = row else { panic!("{row:?}") };
    let frame: Vec<u8> = (0..frame.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&frame[i..i + 2], 16).unwrap())
        .collect();
    let (seconds, micros) = at.split_once('.').unwrap();
    let at =
        WallTime { secs: seconds.parse().unwrap(), nanos: micros.parse::<u32>().unwrap() * 1000 };
    let options = options
        .replace(';', "\n")
        .replace("{ ", "{\n")
        .replace(" }", "\n}")
        .replace(" fd00", "\nfd00")
        .replace(" 10.0.0.101", "\n10.0.0.101");
    let ip = &frame[14..];
    let octets = |at: usize| <[u8; 4]>::try_from(&ip[at..at + 4]).unwrap();
    let long = |at: usize| <[u8; 16]>::try_from(&ip[at..at + 16]).unwrap();
    if frame[12..14] == [8, 0] {
        let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let (source, destination) = (octets(12).into(), octets(16).into());
        let packet = ip[..length].to_vec();
        let (tos, hops, family) = (ip[1], ip[8], Family::V4);
        Capture { name, options, at, family, packet, source, destination, tos, hops }
    } else {
        let (source, destination) = (long(8).into(), long(24).into());
        let (tos, hops, family) = (ip[0] << 4 | ip[1] >> 4, ip[7], Family::V6);
        let packet = ip[40..].to_vec();
        Capture { name, options, at, family, packet, source, destination, tos, hops }
    }
}

fn config(capture: &Capture, priority: u8, options: &str) -> Vrrp {
    let text = format!(
        "vrrp_instance V {{\ninterface eth0\nvirtual_router_id 51\npriority {priority}\n{options}\n}}\n"
    );
    let host = StaticHost::default().with_all_interfaces();
    let files = MemoryFiles::single("a.conf", text.as_bytes());
    let loaded = load(&files, &host, &Options::new("a.conf", &host));
    assert_eq!(loaded.model.vrrp.instances.len(), 1, "{}: {text}", capture.name);
    loaded.model.vrrp
}

/// An engine on a host with this address, and its clock.
struct Router {
    engine: Engine,
    now: Instant,
    sent: Vec<(u8, Vec<u8>)>,
    config: Vrrp,
    own: IpAddr,
    /// An interface with the virtual MAC was requested.
    made: bool,
}

fn link(index: IfIndex, name: &str, mac: Mac) -> Link {
    Link {
        index,
        name: name.parse().unwrap(),
        up: true,
        arp: true,
        mac,
        mtu: 1500,
        settings: evervip::plan::Settings::default(),
        vrf: None,
    }
}

impl Router {
    fn new(config: Vrrp, own: IpAddr, time: WallTime) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let (engine, sent) = (Engine::new(now), Vec::new());
        let mut router = Self { engine, now, sent, config: config.clone(), own, made: false };
        router.event(Event::TimeOfDay(time));
        router.begin(config, own);
        router
    }

    fn begin(&mut self, config: Vrrp, own: IpAddr) {
        self.event(Event::Reload(Arc::new(config)));
        let length = if own.is_ipv4() { 24 } else { 64 };
        self.event(Event::Kernel(Snapshot {
            links: vec![link(ETH, "eth0", Mac([2, 0, 0, 0, 0, 1]))],
            objects: vec![Sight::address(ETH, Prefix::new(own, length).unwrap())],
            ..Snapshot::default()
        }));
    }

    fn event(&mut self, event: Event<'_>) {
        let mut out = Actions::new();
        self.engine.handle(self.now, event, &mut out);
        for action in out.list() {
            match action {
                Action::SendAdvert { packet, hop_limit, interface, .. } => {
                    assert_eq!(*interface, if self.made { UPPER } else { ETH });
                    self.sent.push((*hop_limit, out.bytes(packet).to_vec()));
                }
                Action::Apply { token, ops } => {
                    for (item, op) in (0u32..).zip(ops) {
                        self.event(Event::Applied { token: *token, item, outcome: Outcome::Done });
                        if let Object::Link(object) = op.object.as_ref()
                            && let LinkKind::Macvlan { mac } = object.link.kind
                        {
                            self.made = true;
                            self.event(Event::Link(link(UPPER, object.link.name.as_str(), mac)));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.deadline().filter(|at| *at <= end) {
            self.now = at;
            self.event(Event::Timer);
        }
        self.now = end;
    }

    fn hear(&mut self, capture: &Capture, packet: &[u8]) {
        let (mut source, mut destination) = (capture.source, capture.destination);
        if capture.family == Family::V4 {
            // As reported by the kernel, from the header.
            source = <[u8; 4]>::try_from(&packet[12..16]).unwrap().into();
            destination = <[u8; 4]>::try_from(&packet[16..20]).unwrap().into();
        }
        // The kernel delivers a frame from the virtual MAC to the interface that has it.
        let interface = if self.made { UPPER } else { ETH };
        let rx = Rx { interface, source, destination, hop_limit: capture.hops };
        self.event(Event::Advert { rx, packet });
    }

    fn counters(&self) -> Counters {
        self.engine.view(self.now).instances[0].counters
    }
}

/// A backup of the captured router.
fn peer(capture: &Capture) -> Router {
    let options =
        capture.options.replace("10.0.0.1\n", "10.0.0.9\n").replace("10.0.0.2\n", "10.0.0.1\n");
    let options = options.replace("10.0.0.9\n", "10.0.0.2\n");
    let own = match capture.family {
        Family::V4 => "10.0.0.2".parse().unwrap(),
        Family::V6 => "fe80::2".parse().unwrap(),
    };
    Router::new(config(capture, 100, &options), own, capture.at)
}

#[test]
fn captured_adverts_are_accepted_at_their_time() {
    for capture in captures() {
        let mut router = peer(&capture);
        router.hear(&capture, &capture.packet);
        let counters = router.counters();
        assert_eq!(counters.adverts_received, 1, "{}: {counters:?}", capture.name);
    }
}

#[test]
fn a_captured_advert_is_taken_once_and_in_time_where_it_carries_a_sequence() {
    let (mut again, mut late) = (Vec::new(), Vec::new());
    for capture in captures() {
        let mut router = peer(&capture);
        router.hear(&capture, &capture.packet);
        router.hear(&capture, &capture.packet);
        if router.counters().adverts_received == 1 {
            again.push(capture.name);
        }
        // The window is five seconds: longer than three default intervals of one second.
        let stale = [4, 7].map(|apart| {
            let mut router = peer(&capture);
            router.event(Event::TimeOfDay(WallTime { secs: capture.at.secs + apart, nanos: 0 }));
            router.hear(&capture, &capture.packet);
            router.counters().auth_stale
        });
        if stale == [0, 1] {
            late.push(capture.name);
        } else {
            assert_eq!(stale, [0, 0], "{}", capture.name);
        }
    }
    again.dedup();
    late.dedup();
    let timed = ["v2_hmac", "v3_hmac", "v3_ipv6_hmac", "v3_unicast_hmac"];
    assert_eq!(late, timed);
    let numbered = [&timed[..3], &["v3_hmac_monotonic", timed[3], "v2_ah"]].concat();
    assert_eq!(again, numbered);
}

#[test]
fn a_replaced_process_takes_no_advert_again() {
    let mut hmac = 0;
    for capture in captures().into_iter().filter(|capture| capture.name.contains("hmac")) {
        let mut router = peer(&capture);
        router.hear(&capture, &capture.packet);
        assert_eq!(router.counters().adverts_received, 1, "{}", capture.name);
        let summary = router.engine.summary(router.now);
        let mut next = peer(&capture);
        next.engine = Engine::new(next.now);
        next.event(Event::TimeOfDay(capture.at));
        next.event(Event::Resume(summary));
        next.begin(router.config.clone(), router.own);
        next.hear(&capture, &capture.packet);
        assert_eq!(next.counters().adverts_received, 0, "{}", capture.name);
        hmac += 1;
    }
    assert!(hmac >= 4, "{hmac} captures");
}

#[test]
fn no_changed_octet_is_accepted() {
    for capture in captures() {
        let v4 = capture.family == Family::V4;
        for at in 0..capture.packet.len() {
            for bits in [1, 0x80] {
                let mut packet = capture.packet.clone();
                packet[at] ^= bits;
                // Octets of the IPv4 header that may change: type of service, identification (except with AH), flags,
                // and the kernel's checksum. With unicast also the TTL.
                let unicast = capture.options.contains("unicast_peer");
                let ah = capture.name == "v2_ah";
                let free = v4
                    && (matches!(at, 1 | 6 | 7 | 10 | 11)
                        || (matches!(at, 4 | 5) && !ah)
                        || (at == 8 && unicast)
                        // Without authentication every multicast sender is accepted, and the checksum of version 2
                        // covers no address.
                        || (matches!(at, 12..16) && is_free_source(&capture)));
                if free {
                    continue;
                }
                let mut router = peer(&capture);
                router.hear(&capture, &packet);
                let counters = router.counters();
                assert_eq!(
                    counters.adverts_received, 0,
                    "{} octet {at}: {packet:02x?}",
                    capture.name
                );
            }
        }
    }
}

fn is_free_source(capture: &Capture) -> bool {
    matches!(capture.name, "v2_unicast" | "v3_checksum_as_v2")
}

#[test]
fn ours_are_the_same() {
    for capture in captures() {
        let number = match capture.family {
            Family::V4 => usize::from(u16::from_be_bytes([capture.packet[4], capture.packet[5]])),
            Family::V6 => 4,
        };
        // So that the clock shows the time of the trailer when the advert with this number is sent: 3 s and the skew
        // after the start, then each second.
        let time = trailer_time(&capture);
        let options = &capture.options;
        let start = WallTime { secs: 0, nanos: 0 };
        let mut router = Router::new(config(&capture, 200, options), capture.source, start);
        while router.sent.len() + 1 < number {
            router.pass(Duration::from_millis(1));
        }
        let due = router.engine.deadline().unwrap();
        router.pass(due.since(router.now).saturating_sub(Duration::from_nanos(1)));
        // Without a time of day AH numbers count from 1, as those of the captured router.
        if let Some(time) = time {
            router.event(Event::TimeOfDay(time.before(Duration::from_nanos(1))));
        }
        assert_eq!(router.sent.len() + 1, number, "{}", capture.name);
        router.pass(Duration::from_millis(1));
        let (hops, ours) = &router.sent[number - 1];
        assert_eq!(*hops, capture.hops, "{}", capture.name);
        let skip = if capture.family == Family::V4 {
            assert_eq!((ours[1], ours[8], ours[9]), (capture.tos, capture.hops, capture.packet[9]));
            20
        } else {
            0
        };
        assert_eq!(ours[skip..], capture.packet[skip..], "{}", capture.name);
    }
}

/// The time in the trailer of an advert, rounded up to the nanosecond.
fn trailer_time(capture: &Capture) -> Option<WallTime> {
    if !capture.name.contains("hmac") {
        return None;
    }
    let trailer = &capture.packet[capture.packet.len() - 28..];
    let seconds = u32::from_be_bytes(trailer[4..8].try_into().unwrap());
    let fraction = u64::from(u16::from_be_bytes([trailer[8], trailer[9]]));
    let nanos = u32::try_from((fraction * 1_000_000_000).div_ceil(65_536)).unwrap();
    Some(WallTime { secs: seconds.into(), nanos })
}
