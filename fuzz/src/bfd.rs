//! BFD packets of a stranger who knows the session: they may end it, but not delay or crash anything.

use std::net::IpAddr;
use std::time::Duration;

use evervip::base::Instant;
use evervip::bfd::{Action, Engine, Event, Rx};
use evervip::model::extras::Bfd;
use evervip::wire::bfd::{LENGTH, decode};

use super::input::Input;

/// Octets of one step: time, TTL and selection of the number of the session, then the packet.
pub fn packets(data: &[u8]) {
    let mut now = Instant::ZERO;
    let mut engine = Engine::new(7, now, Duration::ZERO);
    let mut out = Vec::new();
    engine.handle(now, Event::Reload(vec![session()]), &mut out);
    let own = out.iter().find_map(|action| match action {
        Action::Send { packet, .. } => decode(packet).ok().map(|packet| packet.own),
        _ => None,
    });
    let own = own.expect("a new session sends").to_be_bytes();
    let mut input = Input(data);
    while let Some(wait) = input.next() {
        let until = now + Duration::from_millis(u64::from(wait) * 4);
        // It sends every 7.5 ms at most, and has a detection time.
        let mut rounds = 0;
        while let Some(due) = engine.deadline().filter(|due| *due <= until) {
            assert!(due >= now, "a deadline in the past");
            now = due;
            engine.handle(now, Event::Timer, &mut out);
            rounds += 1;
            assert!(rounds <= 400, "more timers than intervals");
        }
        now = until;
        let (ttl, named) = (input.octet(), input.octet() % 4 != 0);
        let mut octets = input.0.get(..LENGTH).unwrap_or(input.0).to_vec();
        input.0 = input.0.get(LENGTH..).unwrap_or_default();
        if let (true, Some(number)) = (named, octets.get_mut(8..12)) {
            number.copy_from_slice(&own);
        }
        if let Ok(packet) = decode(&octets) {
            assert_eq!(decode(&packet.encode()), Ok(packet));
        }
        let [source, destination] = [2, 1].map(|last| IpAddr::from([10, 0, 0, last]));
        let rx = Rx { source, destination, ttl: ttl | 0xf0, multihop: false };
        out.clear();
        engine.handle(now, Event::Packet { rx, octets: &octets }, &mut out);
        let sent = out.iter().filter(|action| matches!(action, Action::Send { .. })).count();
        assert!(sent <= 2, "{sent} packets for one");
    }
}

fn session() -> Bfd {
    let millis = Duration::from_millis;
    Bfd {
        name: "peer".into(),
        neighbor: [10, 0, 0, 2].into(),
        source: None,
        min_rx: millis(10),
        min_tx: millis(10),
        idle_tx: millis(1000),
        multiplier: 5,
        passive: false,
        ttl: 255,
        least_ttl: 250,
        multihop: false,
        for_vrrp: true,
        for_checker: true,
    }
}
