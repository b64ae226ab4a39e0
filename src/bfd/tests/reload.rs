//! Changes of the configuration.

use super::*;

#[test]
fn what_stays_the_same_is_not_touched() {
    let mut link = Link::established([session(1, 2), session(2, 1)]);
    assert!(link.event(0, Event::Reload(vec![session(1, 2)])).is_empty());
    // It is unaffected while other sessions are added and removed.
    let out = link.event(0, Event::Reload(vec![session(1, 9), session(1, 2)]));
    let [Action::Open { to, from, .. }, Action::Send { .. }, Action::Tell(report)] = &out[..]
    else {
        panic!("{out:?}");
    };
    assert_eq!((*to, *from, report.up), (ip(9), Some(ip(1)), false));
    link.way.clear();
    let out = link.event(0, Event::Reload(vec![session(1, 2)]));
    assert!(matches!(&out[..], [Action::Close { .. }]), "nobody is told that was not heard");
    link.pass(5 * SECOND);
    assert_eq!((link.states(), link.told(1)), ([State::Up, State::Up], vec![]));
}

#[test]
fn a_name_is_only_a_name() {
    let mut link = Link::established([session(1, 2), session(2, 1)]);
    let named = Bfd { name: "other".into(), ..session(1, 2) };
    let out = link.event(0, Event::Reload(vec![named.clone()]));
    let report =
        |up| Action::Tell(Report { name: "other".into(), up, for_vrrp: true, for_checker: true });
    assert_eq!(out, [report(true)]);
    // The same applies to a change of the trackers.
    let out = link.event(0, Event::Reload(vec![Bfd { for_vrrp: false, ..named }]));
    assert!(matches!(&out[..], [Action::Tell(Report { up: true, for_vrrp: false, .. })]));
    assert_eq!(link.states(), [State::Up, State::Up]);
}

#[test]
fn other_settings_are_agreed_upon_without_an_interruption() {
    let mut link = Link::established([session(1, 2), session(2, 1)]);
    for (min_tx, min_rx, multiplier) in
        [(10, 10, 2), (900, 700, 3), (50, 1000, 9), (1000, 50, 3), (50, 50, 3)]
    {
        let (min_tx, min_rx) = (min_tx * MS, min_rx * MS);
        for end in [0, 1] {
            let own = [session(1, 2), session(2, 1)][end].clone();
            link.event(end, Event::Reload(vec![Bfd { min_tx, min_rx, multiplier, ..own }]));
            // The second change happens during the poll for the first one.
            link.deliver();
        }
        link.pass(10 * SECOND);
        assert_eq!(link.states(), [State::Up, State::Up], "{min_tx:?} {min_rx:?}");
        let last = link.sent.last().unwrap().packet;
        let agreed = (micros(min_tx), micros(min_rx), multiplier, false);
        assert_eq!((last.min_tx, last.min_rx, last.multiplier, last.poll), agreed);
    }
    assert_eq!((link.told(0), link.told(1)), (vec![], vec![]));
}

#[test]
fn what_changes_while_it_is_told_is_told_again() {
    let mut link = Link::established([session(1, 2), session(2, 1)]);
    link.loses_final = true;
    link.event(0, Event::Reload(vec![Bfd { min_tx: 100 * MS, ..session(1, 2) }]));
    link.deliver();
    link.event(0, Event::Reload(vec![Bfd { min_tx: 200 * MS, ..session(1, 2) }]));
    link.loses_final = false;
    // The first answer may be to the first poll, so it does not end the sequence.
    let rx = Rx { source: ip(2), destination: ip(1), ttl: 255, multihop: false };
    let [a, b] = [0, 1].map(|by| link.ends[by].sessions.values().next().unwrap().own);
    let answer = Packet {
        state: State::Up,
        r#final: true,
        multiplier: 3,
        own: b,
        yours: a,
        min_tx: 50_000,
        min_rx: 50_000,
        ..Packet::default()
    };
    link.way.clear();
    link.event(0, Event::Packet { rx, octets: &answer.encode() });
    link.forget();
    link.up = false;
    link.pass(60 * MS);
    assert!(link.sent.iter().any(|s| s.by == 0 && s.packet.poll));
    link.event(0, Event::Packet { rx, octets: &answer.encode() });
    link.forget();
    link.pass(10 * MS);
    assert!(link.sent.iter().all(|s| s.by != 0 || !s.packet.poll));
}

#[test]
fn packets_go_to_the_session_that_they_name() {
    let now = Instant::ZERO + SECOND;
    let mut engine = Engine::new(1, now, Duration::ZERO);
    let mut out = Vec::new();
    let any = Bfd { name: "any".into(), source: None, ..session(1, 2) };
    let far = Bfd { name: "far".into(), multihop: true, least_ttl: 200, ..session(1, 2) };
    let all = vec![any, session(1, 2), far, Bfd { name: "six".into(), ..session(6, 2) }];
    engine.handle(now, Event::Reload(all), &mut out);
    let state = |engine: &Engine, name: &str| {
        engine.states().find(|(n, _)| n.as_str() == name).map(|(_, s)| s).unwrap()
    };
    let mut packet = Packet { state: State::Down, multiplier: 3, own: 77, ..Packet::default() };
    let near = Rx { source: ip(2), destination: ip(1), ttl: 255, multihop: false };
    let heard = |engine: &mut Engine, rx: Rx, packet: Packet| {
        let mut out = Vec::new();
        engine.handle(now, Event::Packet { rx, octets: &packet.encode() }, &mut out);
        !out.is_empty()
    };
    // The first packet is matched by addresses.
    for (rx, name) in [
        (near, "to-2"),
        (Rx { destination: ip(5), ..near }, "any"),
        (Rx { destination: ip(6), ..near }, "six"),
        (Rx { multihop: true, ttl: 200, ..near }, "far"),
    ] {
        assert_eq!(state(&engine, name), State::Down);
        assert!(heard(&mut engine, rx, packet), "{name}");
        assert_eq!(state(&engine, name), State::Init);
    }
    // Later ones are matched by discriminator regardless of the local address, but the neighbor must match.
    packet.yours = engine.sessions.values().find(|s| s.config.name.as_str() == "six").unwrap().own;
    packet.state = State::Init;
    assert!(!heard(&mut engine, Rx { source: ip(3), ..near }, packet));
    assert!(!heard(&mut engine, Rx { multihop: true, ..near }, packet));
    // A packet over too many hops, without a discriminator, or with an unknown one.
    assert!(!heard(&mut engine, Rx { ttl: 254, ..near }, packet));
    assert!(!heard(&mut engine, near, Packet { yours: 0, ..packet }));
    assert!(!heard(&mut engine, near, Packet { yours: packet.yours ^ 1, ..packet }));
    assert_eq!(state(&engine, "six"), State::Init);
    assert!(heard(&mut engine, near, packet));
    assert_eq!((state(&engine, "six"), state(&engine, "to-2")), (State::Up, State::Init));
    assert!(!heard(
        &mut engine,
        Rx { multihop: true, ttl: 199, ..near },
        Packet { yours: 0, state: State::Down, ..packet }
    ));
}
