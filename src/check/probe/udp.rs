//! `UDP_CHECK`: succeeds if a datagram is answered, or at least causes no ICMP error.
//!
//! Without `require_reply`, silence is a success: it shows that no ICMP error arrived in time. So an attempt at a
//! working but silent server lasts for the whole `connect_timeout`.

use super::datagram::Heard;
use super::{Failure, Verdict};
use crate::model::checker::{ReplyPattern, UdpCheck};

/// keepalived's datagram if the configuration has no `payload`.
const PAYLOAD: &[u8] = b"keepalived check - keepalived ch";

/// The datagram to be sent.
#[must_use]
pub fn question(check: &UdpCheck) -> &[u8] {
    check.payload.as_deref().unwrap_or(PAYLOAD)
}

/// Judges replies and errors.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'c> {
    check: &'c UdpCheck,
}

impl<'c> Udp<'c> {
    /// Starts an attempt.
    #[must_use]
    pub const fn new(check: &'c UdpCheck) -> Self {
        Self { check }
    }

    /// Processes an event; returns the verdict once there is one.
    #[must_use]
    pub fn step(self, heard: Heard<'_>) -> Option<Verdict> {
        let reply = match heard.datagram() {
            Ok(reply) => reply,
            Err(verdict) => return verdict,
        };
        let pattern = self.check.reply.as_ref().filter(|pattern| !pattern.octets.is_empty());
        Some(match pattern.and_then(|pattern| self.fault(pattern, reply)) {
            Some(fault) => Verdict::Failure(Failure::Answer(fault.into())),
            None => Verdict::SUCCESS,
        })
    }

    /// The fault of a reply, if it has one.
    fn fault(self, pattern: &ReplyPattern, reply: &[u8]) -> Option<String> {
        let (least, most) = (self.check.min_reply, self.check.max_reply);
        let length = reply.len();
        if length < usize::from(least) || length > usize::from(most) {
            return Some(format!("the reply has {length} bytes, not {least} to {most}"));
        }
        let pairs = pattern.octets.iter().zip(&pattern.mask);
        let at =
            reply.iter().zip(pairs).position(|(got, (want, mask))| (got ^ want) & mask != 0)?;
        let got = reply.get(at)?;
        Some(format!("byte {at} of the reply is {got:02x}"))
    }
}

/// The verdict for silence.
pub(super) const fn unanswered(check: &UdpCheck) -> Verdict {
    match check.reply {
        Some(_) => Verdict::Failure(Failure::Timeout),
        None => Verdict::SUCCESS,
    }
}

pub(super) fn success_line(server: &str) -> String {
    format!("UDP connection to {server} success.")
}

pub(super) fn failure_line(server: &str, failure: &Failure, retries: Option<u32>) -> String {
    match retries {
        None => format!("UDP_CHECK on service {server} failed ({failure})."),
        Some(n) => format!("UDP_CHECK on service {server} failed after {n} retries ({failure})."),
    }
}

pub(super) fn attempt_line(server: &str, failure: &Failure) -> String {
    match failure {
        Failure::Answer(_) => format!("UDP check to {server} reply data mismatch."),
        _ => format!("UDP connection to {server} failed."),
    }
}

pub(super) const fn mail_body(last: Option<&Verdict>) -> &'static str {
    match last {
        Some(Verdict::Success(_)) => "=> UDP CHECK succeed on service <=",
        _ => "=> UDP CHECK failed on service <=",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;
    use crate::model::sample;

    fn check(reply: Option<(&[u8], &[u8])>, min_reply: u16, max_reply: u16) -> UdpCheck {
        UdpCheck {
            connection: sample::connection(53),
            payload: None,
            reply: reply
                .map(|(octets, mask)| ReplyPattern { octets: octets.into(), mask: mask.into() }),
            min_reply,
            max_reply,
        }
    }

    fn said(check: &UdpCheck, reply: &[u8]) -> String {
        Udp::new(check).step(Heard::Datagram(reply)).unwrap().to_string()
    }

    #[test]
    fn the_datagram_is_keepaliveds_or_the_configured_one() {
        let mut check = check(None, 0, 255);
        assert_eq!(question(&check).len(), 32);
        check.payload = Some([1, 2, 3].into());
        assert_eq!(question(&check), [1, 2, 3]);
    }

    #[test]
    fn silence_is_good_unless_a_reply_is_required() {
        assert_eq!(unanswered(&check(None, 0, 255)), Verdict::SUCCESS);
        let any = check(Some((&[], &[])), 0, 255);
        assert_eq!(unanswered(&any), Verdict::Failure(Failure::Timeout));
        // Limits of length apply where the content is checked.
        assert_eq!(said(&any, &[0; 1000]), "success");
        assert_eq!(said(&any, &[]), "success");
        assert_eq!(said(&check(None, 7, 7), &[0; 1000]), "success");
    }

    #[test]
    fn a_reply_begins_as_it_must_and_has_a_length() {
        let check = check(Some((&[0x12, 0x30, 0x56], &[0xff, 0xf0, 0xff])), 2, 4);
        for good in [&[0x12, 0x3a, 0x56][..], &[0x12, 0x3f, 0x56, 0x99], &[0x12, 0x30]] {
            assert_eq!(said(&check, good), "success", "{good:?}");
        }
        assert_eq!(said(&check, &[0x12]), "the reply has 1 bytes, not 2 to 4");
        assert_eq!(said(&check, &[0x12, 0x30, 0x56, 1, 2]), "the reply has 5 bytes, not 2 to 4");
        assert_eq!(said(&check, &[0x12, 0x40, 0x56]), "byte 1 of the reply is 40");
        assert_eq!(said(&check, &[0x13, 0x40, 0x56]), "byte 0 of the reply is 13");
    }

    #[test]
    fn an_icmp_error_is_the_networks_answer_and_our_own_trouble_is_not() {
        let check = check(None, 0, 255);
        for errno in [111, 113, 101, 92, 13] {
            assert_eq!(
                Udp::new(&check).step(Heard::Broken(errno)),
                Some(Verdict::Failure(Failure::Connection(errno)))
            );
        }
        // The MTU of the path is smaller.
        assert_eq!(Udp::new(&check).step(Heard::Broken(90)), None);
        // EPERM: a local firewall rule; ECONNREFUSED: an error caused by the previous packet.
        for (errno, verdict) in [
            (1, Verdict::Untried { step: Step::Send, errno: 1 }),
            (111, Verdict::Failure(Failure::Connection(111))),
        ] {
            assert_eq!(Udp::new(&check).step(Heard::Unsent(errno)), Some(verdict));
        }
    }
}
