//! What servers answer checks that are not about pages.

use std::time::Duration;

use evervip::base::Family;
use evervip::check::probe::Verdict;
use evervip::check::probe::datagram::Heard;
use evervip::check::probe::dns::Dns;
use evervip::check::probe::http;
use evervip::check::probe::ping::{Ping, Socket};
use evervip::check::probe::smtp::{Next, Smtp};
use evervip::check::probe::udp::Udp;
use evervip::model::Connection;
use evervip::model::checker::{DnsCheck, ReplyPattern, SmtpCheck, UdpCheck};

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

/// An ICMP message of any form. It is good only if all that was sent is in it.
pub fn ping(data: &[u8]) {
    let Some((&kind, packet)) = data.split_first() else { return };
    let family = if kind & 1 == 0 { Family::V4 } else { Family::V6 };
    let socket = if kind & 2 == 0 { Socket::Datagram } else { Socket::Raw };
    // The largest that a seed can hold in full: its data is known.
    let ping = Ping::new(family, socket, 0);
    if let Some(verdict) = ping.step(Heard::Datagram(packet)) {
        short(&verdict);
        let asked = ping.question();
        let data = asked.get(8..).unwrap_or_default();
        // Octets behind the length in a header do not count.
        let is_there = packet.windows(data.len()).any(|part| part == data);
        assert!(is_there || verdict != Verdict::SUCCESS, "{packet:?}");
    }
}

/// The answer of a name server. What is not about the question says nothing.
pub fn dns(data: &[u8]) {
    let check = DnsCheck { connection: connection(), kind: 1, name: "a.b".into() };
    let dns = Dns::new(&check, 0x4142).expect("a name");
    if let Some(verdict) = dns.step(Heard::Datagram(data)) {
        short(&verdict);
        assert!(data.starts_with(b"AB"), "{data:?}");
        assert_eq!(verdict == Verdict::SUCCESS, data[3] & 0x0f == 0);
    }
}

/// What a mail server says: whether it is good does not depend on the parts in which it comes. Each part that ends a
/// reply is followed by the next one only after our word.
pub fn mailer(data: &[u8]) {
    let replies = data.get(..30_000).unwrap_or(data);
    let judge = |size: usize| -> Verdict {
        let mut smtp = Smtp::new(&SmtpCheck { connection: connection(), helo: Some("a".into()) });
        let mut said = 0;
        for reply in replies.split(|octet| *octet == 0) {
            for part in reply.chunks(size) {
                match smtp.step(http::Heard::Bytes(part)) {
                    Next::Wait => {}
                    Next::Say(words) => {
                        said += 1;
                        assert!(said <= 2 && words.ends_with(b"\r\n"));
                        break;
                    }
                    Next::Verdict(verdict) => return verdict,
                }
            }
        }
        match smtp.step(http::Heard::End) {
            Next::Verdict(verdict) => verdict,
            other => panic!("{other:?} at the end"),
        }
    };
    let whole = judge(replies.len().max(1));
    short(&whole);
    for size in [1, 7] {
        short(&judge(size));
    }
}
