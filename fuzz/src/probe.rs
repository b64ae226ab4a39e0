//! What servers answer checks that are not about pages.

use std::time::Duration;

use evervip::check::probe::Verdict;
use evervip::check::probe::datagram::Heard;
use evervip::check::probe::udp::Udp;
use evervip::model::Connection;
use evervip::model::checker::{ReplyPattern, UdpCheck};

fn connection() -> Connection {
    let timeout = Duration::from_secs(5);
    Connection { to: ([10, 0, 0, 1], 7).into(), from: None, interface: None, timeout, mark: 0 }
}

/// The reason stays a short line.
fn short(verdict: &Verdict) {
    let text = verdict.to_string();
    assert!(text.len() < 200 && !text.contains(char::is_control), "{text:?}");
}

/// A datagram of any form. The first octets say how long it may be, and what it must begin with.
pub fn udp(data: &[u8]) {
    let Some((&[min, max, length], rest)) = data.split_first_chunk() else { return };
    let (pattern, reply) = rest.split_at(rest.len().min(usize::from(length)));
    let check = UdpCheck {
        connection: connection(),
        payload: None,
        reply: Some(ReplyPattern {
            octets: pattern.into(),
            mask: pattern.iter().map(|octet| octet.rotate_left(3)).collect(),
        }),
        min_reply: min.into(),
        max_reply: max.into(),
    };
    let verdict = Udp::new(&check).step(Heard::Datagram(reply)).expect("a datagram decides");
    short(&verdict);
    let fits = (usize::from(min)..=usize::from(max)).contains(&reply.len());
    if !pattern.is_empty() && !fits {
        assert_ne!(verdict, Verdict::SUCCESS);
    }
}
