//! Sessions between two engines over a link that can fail, and single packets.

mod hostile;
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "only the texts are compared; bfd and vrrp use nothing of each other"
)]
#[path = "../../vrrp/tests/lines.rs"]
mod lines;
mod reload;
mod timing;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;

use super::*;
use crate::wire::bfd::{Diagnostic, LENGTH, micros};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// The session of the router `own` with `neighbor`: 50 ms both ways, three may be missed.
fn session(own: u8, neighbor: u8) -> Bfd {
    Bfd {
        name: format!("to-{neighbor}").as_str().into(),
        neighbor: ip(neighbor),
        source: Some(ip(own)),
        min_rx: 50 * MS,
        min_tx: 50 * MS,
        idle_tx: SECOND,
        multiplier: 3,
        passive: false,
        ttl: 255,
        least_ttl: 255,
        multihop: false,
        for_vrrp: true,
        for_checker: true,
    }
}

/// A packet as it was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    by: usize,
    packet: Packet,
}

/// Routers 1 and 2 and the link between them.
struct Link {
    now: Instant,
    ends: [Engine; 2],
    up: bool,
    /// Packets from this end are lost.
    mute: Option<usize>,
    /// Packets with this bit set are lost.
    loses_final: bool,
    way: VecDeque<(usize, [u8; LENGTH])>,
    sent: Vec<Sent>,
    told: [Vec<(Instant, String, bool)>; 2],
}

impl Link {
    fn new(sessions: [Bfd; 2]) -> Self {
        let now = Instant::ZERO + SECOND;
        let mut link = Self {
            now,
            ends: [7, 8].map(|seed| Engine::new(seed, now, Duration::ZERO)),
            up: true,
            mute: None,
            loses_final: false,
            way: VecDeque::new(),
            sent: Vec::new(),
            told: [Vec::new(), Vec::new()],
        };
        for (end, session) in sessions.into_iter().enumerate() {
            link.event(end, Event::Reload(vec![session]));
        }
        link
    }

    /// A session that is up and has been running for some time, with the records emptied.
    fn established(sessions: [Bfd; 2]) -> Self {
        let mut link = Self::new(sessions);
        link.pass(10 * SECOND);
        assert_eq!(link.states(), [State::Up, State::Up]);
        link.forget();
        link
    }

    fn forget(&mut self) {
        self.sent.clear();
        self.told = [Vec::new(), Vec::new()];
    }

    fn event(&mut self, end: usize, event: Event<'_>) -> Vec<Action> {
        let mut out = Vec::new();
        self.ends[end].handle(self.now, event, &mut out);
        for action in &out {
            match action {
                Action::Send { packet, .. } => {
                    let decoded = bfd::decode(packet).expect("what we send is sound");
                    assert!(!(decoded.poll && decoded.r#final));
                    self.sent.push(Sent { at: self.now, by: end, packet: decoded });
                    let lost = self.mute == Some(end) || (self.loses_final && decoded.r#final);
                    if self.up && !lost {
                        self.way.push_back((1 - end, *packet));
                    }
                }
                Action::Tell(report) => {
                    self.told[end].push((self.now, report.name.to_string(), report.up));
                }
                Action::Open { .. } | Action::Close { .. } => {}
            }
        }
        out
    }

    /// Delivers the packets in transit.
    fn deliver(&mut self) {
        while let Some((end, packet)) = self.way.pop_front() {
            let [own, other] = if end == 0 { [1, 2] } else { [2, 1] };
            let rx = Rx { source: ip(other), destination: ip(own), ttl: 255, multihop: false };
            self.event(end, Event::Packet { rx, octets: &packet });
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.deliver();
            let due = self.ends.iter().filter_map(Engine::deadline).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            assert!(due >= self.now, "a deadline in the past");
            self.now = due;
            for router in [0, 1] {
                if self.ends[router].deadline().is_some_and(|at| at <= due) {
                    self.event(router, Event::Timer);
                    let next = self.ends[router].deadline();
                    assert!(next.is_none_or(|at| at > due), "due again at once");
                }
            }
        }
        self.now = end;
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|end| self.ends[end].states().next().map_or(State::AdminDown, |(_, s)| s))
    }

    /// Times between periodic packets of an end.
    fn gaps(&self, by: usize) -> Vec<Duration> {
        let times: Vec<Instant> = self
            .sent
            .iter()
            .filter(|sent| sent.by == by && !sent.packet.r#final)
            .map(|sent| sent.at)
            .collect();
        times.windows(2).map(|two| two[1].since(two[0])).collect()
    }

    fn told(&self, end: usize) -> Vec<bool> {
        self.told[end].iter().map(|(_, _, up)| *up).collect()
    }
}

#[test]
fn two_that_hear_one_another_come_up_and_say_so() {
    let mut link = Link::new([session(1, 2), session(2, 1)]);
    assert_eq!((link.told(0), link.told(1)), (vec![false], vec![false]));
    link.pass(3 * SECOND);
    assert_eq!(link.states(), [State::Up, State::Up]);
    assert_eq!((link.told(0), link.told(1)), (vec![false, true], vec![false, true]));
    // The handshake has three steps; afterwards the packets contain both discriminators.
    let states: Vec<State> = link.sent.iter().map(|s| s.packet.state).collect();
    assert!(states.starts_with(&[State::Down]) && states.contains(&State::Init));
    let [a, b] = [0, 1].map(|by| link.sent.iter().rfind(|s| s.by == by).unwrap().packet);
    assert_eq!((a.own, a.yours), (b.yours, b.own));
    assert!(a.own != 0 && b.own != 0 && a.own != b.own);
    assert_eq!((a.demand, a.min_echo_rx, a.independent), (false, 0, false));
}

#[test]
fn one_that_hears_nothing_stays_down() {
    let mut link = Link::new([session(1, 2), session(2, 1)]);
    link.up = false;
    link.way.clear();
    link.pass(20 * SECOND);
    assert_eq!(link.states(), [State::Down, State::Down]);
    assert!(link.sent.iter().all(|s| s.packet.state == State::Down && s.packet.yours == 0));
}

#[test]
fn a_dead_link_is_found_by_both_and_a_new_life_too() {
    let mut link = Link::established([session(1, 2), session(2, 1)]);
    link.up = false;
    let cut = link.now;
    link.pass(SECOND);
    assert_eq!(link.states(), [State::Down, State::Down]);
    for end in [0, 1] {
        let (at, name, up) = link.told[end][0].clone();
        assert_eq!((name, up), (format!("to-{}", 2 - end), false));
        // Three times 50 ms since the last packet, which was sent up to 50 ms before.
        let after = at.since(cut);
        assert!(after > 100 * MS && after <= 150 * MS, "{after:?}");
        let last = link.sent.iter().rfind(|s| s.by == end).unwrap().packet;
        assert_eq!((last.diagnostic, last.yours), (Diagnostic::EXPIRED, 0));
    }
    link.up = true;
    link.pass(3 * SECOND);
    assert_eq!(link.states(), [State::Up, State::Up]);
    assert_eq!(link.told(0), [false, true]);
}

#[test]
fn a_link_that_fails_in_one_direction_is_down_for_both() {
    let mut link = Link::established([session(1, 2), session(2, 1)]);
    link.mute = Some(0);
    link.pass(SECOND);
    let [a, b] = link.states();
    assert_ne!(a, State::Up, "it hears that the other one hears nothing");
    assert_eq!(b, State::Down);
    assert_eq!((link.told(0), link.told(1)), (vec![false], vec![false]));
}

#[test]
fn one_that_stops_is_believed_at_once() {
    let mut link = Link::established([session(1, 2), session(2, 1)]);
    let out = link.event(0, Event::Stop);
    assert!(matches!(out.as_slice(), [Action::Send { .. }, Action::Close { .. }]), "{out:?}");
    let last = link.sent.last().unwrap().packet;
    assert_eq!(last.state, State::AdminDown);
    assert_eq!(last.diagnostic, Diagnostic::ADMINISTRATIVELY_DOWN);
    link.deliver();
    assert_eq!((link.states()[1], link.told(1)), (State::Down, vec![false]));
    assert_eq!(link.sent.last().unwrap().packet.diagnostic, Diagnostic::NEIGHBOR_DOWN);
    // It continues to send packets.
    link.pass(5 * SECOND);
    assert_eq!(link.told(1), [false]);
    link.event(0, Event::Reload(vec![session(1, 2)]));
    link.pass(3 * SECOND);
    assert_eq!(link.states(), [State::Up, State::Up]);
}

#[test]
fn a_process_that_begins_anew_is_found_out() {
    let mut link = Link::established([session(1, 2), session(2, 1)]);
    link.ends[0] = Engine::new(99, link.now, 5 * SECOND);
    link.event(0, Event::Reload(vec![session(1, 2)]));
    assert_eq!(link.told(0), Vec::<bool>::new(), "what was up before may be so again");
    link.pass(4 * SECOND);
    assert_eq!((link.told(0), link.told(1)), (vec![true], vec![false, true]));
    // It does not come up again, which is reported after the waiting time.
    link.forget();
    link.up = false;
    link.ends[0] = Engine::new(98, link.now, 5 * SECOND);
    link.event(0, Event::Reload(vec![session(1, 2)]));
    link.pass(4900 * MS);
    assert_eq!(link.told(0), Vec::<bool>::new());
    link.pass(200 * MS);
    assert_eq!(link.told(0), [false]);
}

#[test]
fn a_passive_end_says_nothing_before_it_has_heard() {
    let passive = Bfd { passive: true, ..session(2, 1) };
    let mut link = Link::new([session(1, 2), passive.clone()]);
    assert!(link.sent.iter().all(|sent| sent.by == 0));
    link.pass(3 * SECOND);
    assert_eq!(link.states(), [State::Up, State::Up]);
    // After the loss of the neighbor it stops sending again.
    link.up = false;
    link.pass(SECOND);
    link.forget();
    link.pass(5 * SECOND);
    assert!(link.sent.iter().all(|sent| sent.by == 0) && !link.sent.is_empty());
    let mut both = Link::new([Bfd { passive: true, ..session(1, 2) }, passive]);
    both.pass(20 * SECOND);
    assert!(both.sent.is_empty());
}

#[test]
fn equal_inputs_give_equal_outputs() {
    let run = || {
        let mut link = Link::new([session(1, 2), session(2, 1)]);
        link.pass(5 * SECOND);
        link.up = false;
        link.pass(SECOND);
        link.sent.iter().map(|s| (s.at, s.by, s.packet.encode())).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
