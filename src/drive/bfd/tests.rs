use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::sys::testing::{in_namespace, ip};

/// One end of a session over the loopback interface.
struct End {
    sessions: Sessions,
    said: Receiver<Said>,
}

impl End {
    fn new(again: bool) -> Self {
        let (tell, said) = channel();
        let sessions = Sessions::start(again, Box::new(move |one| tell.send(one).is_ok())).unwrap();
        Self { sessions, said }
    }

    /// Waits for this report about its session.
    fn becomes(&self, up: bool) {
        let limit = Duration::from_secs(20);
        while !matches!(self.said.recv_timeout(limit).unwrap(), Said::Report(r) if r.up == up) {}
    }
}

fn session(own: &str, neighbor: &str, multihop: bool) -> Bfd {
    Bfd {
        name: own.into(),
        neighbor: neighbor.parse().unwrap(),
        source: Some(own.parse().unwrap()),
        min_rx: Duration::from_millis(20),
        min_tx: Duration::from_millis(20),
        idle_tx: Duration::from_secs(1),
        multiplier: 5,
        passive: false,
        ttl: 255,
        least_ttl: 255,
        multihop,
        for_vrrp: true,
        for_checker: false,
    }
}

/// Both ends are sessions of one thread, because only one thread can open the ports.
#[test]
fn two_sessions_come_up_over_real_sockets_and_go_down_with_the_link() {
    in_namespace(
        "drive::bfd::tests::two_sessions_come_up_over_real_sockets_and_go_down_with_the_link",
        || {
            ip("link set lo up");
            ip("addr add 10.0.0.1/32 dev lo");
            ip("addr add 10.0.0.2/32 dev lo");
            for multihop in [false, true] {
                let end = End::new(false);
                end.sessions.have(vec![
                    session("10.0.0.1", "10.0.0.2", multihop),
                    session("10.0.0.2", "10.0.0.1", multihop),
                ]);
                end.becomes(true);
                end.becomes(true);
                ip("addr del 10.0.0.2/32 dev lo");
                end.becomes(false);
                ip("addr add 10.0.0.2/32 dev lo");
                end.becomes(true);
                // One of them ends, and informs the other.
                end.sessions.have(vec![session("10.0.0.1", "10.0.0.2", multihop)]);
                end.becomes(false);
                end.sessions.stop();
                let limit = Duration::from_secs(20);
                while !matches!(end.said.recv_timeout(limit).unwrap(), Said::Stopped) {}
            }
        },
    );
}

#[test]
fn a_port_that_is_taken_is_tried_again() {
    in_namespace("drive::bfd::tests::a_port_that_is_taken_is_tried_again", || {
        ip("link set lo up");
        let taken = Listener::open(Family::V6, 3784).unwrap();
        let end = End::new(false);
        end.sessions.have(vec![session("::1", "::1", false)]);
        end.becomes(false);
        drop(taken);
        // A session with itself, which receives its own packets.
        end.becomes(true);
    });
}
