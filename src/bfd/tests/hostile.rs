//! Arbitrary events in arbitrary order.

use proptest::prelude::*;

use super::*;

proptest! {
    /// An attacker that knows addresses and discriminators sends packets while time passes: nothing panics, no packet
    /// causes more than two, no deadline is in the past after it was processed, and the session comes up afterwards.
    #[test]
    fn no_packet_does_more_than_it_may(
        steps in proptest::collection::vec(
            (0..6_u8, any::<[u8; 24]>(), 0..3_u8, 0..1_000_u64), 0..20
        )
    ) {
        let mut link = Link::new([session(1, 2), session(2, 1)]);
        for (what, mut octets, number, wait) in steps {
            let own = link.ends[0].sessions.values().next().map_or(0, |s| s.own);
            (octets[0], octets[3]) = (1 << 5 | octets[0] & 0x1f, 24);
            match number {
                0 => octets[8..12].copy_from_slice(&own.to_be_bytes()),
                1 => octets[8..12].copy_from_slice(&[0; 4]),
                _ => {}
            }
            if what > 2 {
                // The bits that would cause the packet to be discarded are cleared.
                octets[1] &= 0xf2;
                octets[1] &= if octets[1] & 0x20 != 0 { 0xef } else { 0xff };
                octets[2] |= 1;
            }
            let rx = Rx { source: ip(2), destination: ip(1), ttl: 255, multihop: false };
            let out = link.event(0, Event::Packet { rx, octets: &octets });
            let sends = out.iter().filter(|a| matches!(a, Action::Send { .. })).count();
            prop_assert!(sends <= 2, "{out:?}");
            link.pass(Duration::from_micros(wait * wait));
        }
        // The attacker may have set intervals and a multiplier that amount to hours: the next packet of the real
        // neighbor overrides them.
        link.pass(20 * SECOND);
        prop_assert_eq!(link.states(), [State::Up, State::Up]);
    }

    #[test]
    fn octets_of_any_form_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut link = Link::established([session(1, 2), session(2, 1)]);
        let rx = Rx { source: ip(2), destination: ip(1), ttl: 255, multihop: false };
        link.event(0, Event::Packet { rx, octets: &octets });
        link.pass(10 * SECOND);
        prop_assert_eq!(link.states(), [State::Up, State::Up]);
    }
}

#[test]
fn ignored_packets_are_counted_and_few_of_them_logged() {
    let mut link = Link::new([session(1, 2), session(2, 1)]);
    let rx = Rx { source: ip(9), destination: ip(1), ttl: 255, multihop: false };
    let flood = |link: &mut Link| {
        let ((), lines) = lines::during(|| {
            for _ in 0..1_000 {
                link.event(0, Event::Packet { rx, octets: &[0; 24] });
            }
        });
        let ignored = |line: &&lines::Line| line.text.contains("10.0.0.9 ignored: ");
        lines.iter().filter(ignored).map(|line| line.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(flood(&mut link).len(), 5);
    assert_eq!(link.ends[0].ignored(), 1_000);
    link.now = link.now + 60 * SECOND;
    let lines = flood(&mut link);
    assert!(lines.len() == 1 && lines[0].ends_with(" (995 more before it)"), "{lines:?}");
}
