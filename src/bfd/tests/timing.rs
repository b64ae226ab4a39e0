//! Intervals, jitter, detection times and polls (RFC 5880 6.5, 6.8.2 to 6.8.4, 6.8.7).

use super::*;

#[test]
fn a_session_that_is_not_up_sends_once_a_second() {
    let mut link = Link::new([session(1, 2), session(2, 1)]);
    link.up = false;
    link.way.clear();
    link.pass(60 * SECOND);
    let gaps = link.gaps(0);
    assert!(gaps.len() >= 60 && gaps.iter().all(|gap| *gap >= 750 * MS && *gap <= SECOND));
    assert!(link.sent.iter().all(|s| s.packet.min_tx == 1_000_000 && !s.packet.poll));
    // A longer configured interval is used, a shorter one is not.
    for (idle, least, most) in [(3 * SECOND, 2250 * MS, 3 * SECOND), (MS, 750 * MS, SECOND)] {
        let mut link = Link::new([Bfd { idle_tx: idle, ..session(1, 2) }, session(2, 1)]);
        link.up = false;
        link.way.clear();
        link.pass(30 * SECOND);
        assert!(link.gaps(0).iter().all(|gap| *gap >= least && *gap <= most), "{idle:?}");
    }
}

#[test]
fn the_slower_of_what_one_sends_and_the_other_takes_is_used_with_jitter() {
    // The first sends every 20 ms and the other receives one per 80 ms; in the other direction 30 and 10 ms.
    let first = Bfd { min_tx: 20 * MS, min_rx: 10 * MS, ..session(1, 2) };
    let other = Bfd { min_tx: 30 * MS, min_rx: 80 * MS, multiplier: 1, ..session(2, 1) };
    let mut link = Link::established([first, other]);
    link.pass(60 * SECOND);
    for (end, base, least, most) in [(0, 80, 750, 1000), (1, 30, 750, 900)] {
        let gaps = link.gaps(end);
        let parts: Vec<u128> = gaps.iter().map(|gap| gap.as_micros() / base).collect();
        assert!(parts.iter().all(|p| (least..=most).contains(p)), "{end} {parts:?}");
        // All of that range is used.
        let (min, max) = (parts.iter().min().unwrap(), parts.iter().max().unwrap());
        assert!(*min < least + 10 && *max > most - 10, "{min} {max}");
    }
    assert_eq!(link.states(), [State::Up, State::Up]);
}

#[test]
fn the_detection_time_is_the_others_multiplier_times_the_agreed_interval() {
    // The first receives every 40 ms (it would accept 20), multiplier four; the other every 100 ms, multiplier two.
    let first = Bfd { min_tx: 30 * MS, min_rx: 20 * MS, multiplier: 2, ..session(1, 2) };
    let other = Bfd { min_tx: 40 * MS, min_rx: 100 * MS, multiplier: 4, ..session(2, 1) };
    let mut link = Link::established([first, other]);
    link.pass(SECOND);
    let last = [1, 0].map(|by| link.sent.iter().rfind(|s| s.by == by).unwrap().at);
    link.up = false;
    link.forget();
    link.pass(SECOND);
    for (end, detection) in [(0, 160 * MS), (1, 200 * MS)] {
        let (at, _, up) = link.told[end][0];
        assert_eq!((at.since(last[end]), up), (detection, false), "{end}");
    }
}

#[test]
fn a_poll_tells_of_the_interval_of_a_session_that_came_up() {
    let mut link = Link::new([session(1, 2), session(2, 1)]);
    link.loses_final = true;
    link.pass(5 * SECOND);
    // Each poll is answered at once.
    let polls = link.sent.iter().filter(|s| s.by == 0 && s.packet.poll).count();
    let answers: Vec<&Sent> = link.sent.iter().filter(|s| s.by == 1 && s.packet.r#final).collect();
    assert!(polls > 10, "{polls}");
    assert_eq!(answers.len(), polls);
    link.loses_final = false;
    link.pass(SECOND);
    link.forget();
    link.pass(SECOND);
    assert!(link.sent.iter().all(|s| !s.packet.poll && !s.packet.r#final));
    assert!(link.sent.iter().all(|s| s.packet.min_tx == 50_000 && s.packet.min_rx == 50_000));
}

#[test]
fn a_longer_interval_is_used_when_the_other_end_knows() {
    let mut link = Link::established([session(1, 2), session(2, 1)]);
    link.loses_final = true;
    let slower = Bfd { min_tx: 400 * MS, ..session(1, 2) };
    link.event(0, Event::Reload(vec![slower]));
    link.pass(2 * SECOND);
    let gaps = link.gaps(0);
    assert!(gaps.iter().all(|gap| *gap <= 50 * MS), "{gaps:?}");
    assert!(link.sent.iter().filter(|s| s.by == 0).all(|s| s.packet.min_tx == 400_000));
    link.loses_final = false;
    link.pass(100 * MS);
    link.forget();
    link.pass(10 * SECOND);
    assert!(link.gaps(0).iter().all(|gap| *gap >= 300 * MS && *gap <= 400 * MS));
    assert_eq!((link.states(), link.told(1)), ([State::Up, State::Up], vec![]));
}

#[test]
fn a_shorter_interval_is_used_at_once() {
    let slow = Bfd { min_tx: 2 * SECOND, ..session(1, 2) };
    let mut link = Link::established([slow, Bfd { multiplier: 50, ..session(2, 1) }]);
    link.event(0, Event::Reload(vec![session(1, 2)]));
    let begun = link.now;
    link.pass(SECOND);
    let first: Vec<Instant> =
        link.sent.iter().filter(|s| s.by == 0).map(|s| s.at).take(3).collect();
    assert!(first.iter().all(|at| at.since(begun) <= 110 * MS), "{first:?}");
    // The same if the remote system accepts more frequent packets.
    let mut link = Link::established([session(1, 2), Bfd { min_rx: 2 * SECOND, ..session(2, 1) }]);
    link.pass(3 * SECOND);
    link.forget();
    link.event(1, Event::Reload(vec![session(2, 1)]));
    let begun = link.now;
    link.pass(SECOND);
    let first = link.sent.iter().filter(|s| s.by == 0 && !s.packet.r#final).nth(1).unwrap().at;
    assert!(first.since(begun) <= 110 * MS, "{:?}", first.since(begun));
}

#[test]
fn less_patience_counts_when_the_other_end_sends_faster() {
    // It accepts packets every 500 ms, then every 50 ms.
    let patient = Bfd { min_rx: 500 * MS, ..session(1, 2) };
    let mut link = Link::established([patient, session(2, 1)]);
    link.pass(3 * SECOND);
    link.loses_final = true;
    link.up = false;
    link.event(0, Event::Reload(vec![session(1, 2)]));
    // No packet and no acknowledgement arrives: the old detection time remains in force.
    link.pass(900 * MS);
    assert_eq!(link.states()[0], State::Up);
    link.pass(700 * MS);
    assert_eq!(link.states()[0], State::Down);
}

#[test]
fn one_that_asks_for_no_packets_gets_none_but_answers() {
    for (min_rx, demand) in [(0, false), (50_000, true)] {
        let mut link = Link::established([session(1, 2), session(2, 1)]);
        let [a, b] = [0, 1].map(|by| {
            link.event(by, Event::Timer);
            link.ends[by].sessions.values().next().unwrap().own
        });
        let rx = Rx { source: ip(2), destination: ip(1), ttl: 255, multihop: false };
        let mut packet = Packet {
            state: State::Up,
            multiplier: 255,
            own: b,
            yours: a,
            min_tx: micros(SECOND),
            min_rx,
            demand,
            ..Packet::default()
        };
        link.up = false;
        link.event(0, Event::Packet { rx, octets: &packet.encode() });
        link.forget();
        for _ in 0..100 {
            link.now = link.now + 10 * MS;
            link.event(0, Event::Timer);
        }
        assert!(link.sent.is_empty(), "{min_rx} {demand}");
        packet.poll = true;
        link.event(0, Event::Packet { rx, octets: &packet.encode() });
        assert!(matches!(link.sent.as_slice(), [one] if one.packet.r#final));
    }
}
