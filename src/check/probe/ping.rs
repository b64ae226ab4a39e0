//! `PING_CHECK`: succeeds if the reply to this attempt's echo request arrives.
//!
//! The data of a request begins with an unpredictable number, because the kernel passes an ICMP socket the replies
//! with its identifier from any host.

use super::datagram::Heard;
use super::{Failure, Subject, Verdict};
use crate::base::Family;
use crate::wire::{icmp, ip};

/// Octets of data in a request.
const DATA: usize = 128;
const TEXT: &[u8] = b"keepalived check - ";

/// The kind of socket, which determines who sets the identifier of a request and whether an IP header precedes a
/// reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// An ICMP socket: the kernel sets the identifier.
    Datagram,
    /// A raw socket: it receives all ICMP messages, those of IPv4 with their IP header.
    Raw,
}

/// The conversation of one attempt.
#[derive(Clone, Debug)]
pub struct Ping {
    family: Family,
    socket: Socket,
    id: u16,
    sequence: u16,
    data: Vec<u8>,
}

impl Ping {
    /// Starts an attempt. `nonce` must be unpredictable.
    #[must_use]
    pub fn new(family: Family, socket: Socket, nonce: u64) -> Self {
        let [a, b, c, d, ..] = nonce.to_le_bytes();
        let text = TEXT.iter().copied().cycle();
        Self {
            family,
            socket,
            id: u16::from_le_bytes([a, b]),
            sequence: u16::from_le_bytes([c, d]),
            data: nonce.to_be_bytes().into_iter().chain(text).take(DATA).collect(),
        }
    }

    /// The request to send.
    #[must_use]
    pub fn question(&self) -> Vec<u8> {
        icmp::request(self.family, self.id, self.sequence, &self.data)
    }

    /// Processes an event; returns the verdict once there is one.
    #[must_use]
    pub fn step(&self, heard: Heard<'_>) -> Option<Verdict> {
        let packet = match heard.datagram() {
            Ok(packet) => packet,
            Err(verdict) => return verdict,
        };
        let message = match (self.socket, self.family) {
            (Socket::Raw, Family::V4) => ip::decode(packet).ok()?.1,
            _ => packet,
        };
        let reply = icmp::reply(self.family, message)?;
        let own = self.socket == Socket::Datagram || reply.id == self.id;
        (own && reply.sequence == self.sequence && reply.data == self.data)
            .then_some(Verdict::SUCCESS)
    }
}

pub(super) fn success_line(server: &str) -> String {
    format!("ICMP connection to {server} success.")
}

pub(super) fn failure_line(subject: &Subject, failure: &Failure, retries: Option<u32>) -> String {
    let Subject { server, service } = subject;
    match retries {
        None => format!("ICMP CHECK on service {server} failed ({failure})."),
        Some(n) => {
            format!(
                "ICMP CHECK on service {server} of {service} failed after {n} retries ({failure})."
            )
        }
    }
}

pub(super) fn attempt_line(subject: &Subject, failure: &Failure) -> String {
    let Subject { server, service } = subject;
    match failure {
        Failure::Timeout => format!("ICMP connection to address {server} timeout."),
        _ => format!("ICMP connection to {server} of {service} failed."),
    }
}

pub(super) const fn mail_body(last: Option<&Verdict>) -> &'static str {
    match last {
        Some(Verdict::Success(_)) => "=> ICMP CHECK succeed on service <=",
        _ => "=> ICMP CHECK failed on service <=",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reply to a request.
    fn echo(ping: &Ping) -> Vec<u8> {
        let mut reply = ping.question();
        reply[0] = if ping.family == Family::V4 { 0 } else { 129 };
        reply
    }

    /// The reply after an IPv4 header.
    fn wrapped(message: &[u8]) -> Vec<u8> {
        let length = u16::try_from(message.len() + 20).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 71, 10, 0, 0, 2]);
        packet.extend(message);
        packet
    }

    #[test]
    fn its_own_echo_is_good() {
        let nonce = 0x1122_3344_5566_7788;
        for (family, socket) in [
            (Family::V4, Socket::Datagram),
            (Family::V6, Socket::Datagram),
            (Family::V6, Socket::Raw),
            (Family::V4, Socket::Raw),
        ] {
            let ping = Ping::new(family, socket, nonce);
            let whole = |message: &[u8]| match (family, socket) {
                (Family::V4, Socket::Raw) => wrapped(message),
                _ => message.to_vec(),
            };
            let says = |message: &[u8]| ping.step(Heard::Datagram(&whole(message)));
            let reply = echo(&ping);
            assert_eq!(reply.len(), 8 + DATA);
            assert_eq!(says(&reply), Some(Verdict::SUCCESS), "{family:?} {socket:?}");
            // Ignored: requests, and the reply to another attempt.
            assert_eq!(says(&ping.question()), None);
            let other = Ping::new(family, socket, nonce ^ (1 << 63));
            assert_eq!(says(&echo(&other)), None);
            assert_eq!(says(&reply[..reply.len() - 1]), None);
            assert_eq!(says(&[]), None);
            // The kernel sets the identifier of an ICMP socket.
            let mut changed = reply.clone();
            changed[4] ^= 1;
            let wanted = (socket == Socket::Datagram).then_some(Verdict::SUCCESS);
            assert_eq!(says(&changed), wanted);
            assert_eq!(
                ping.step(Heard::Broken(113)),
                Some(Verdict::Failure(Failure::Connection(113)))
            );
        }
    }
}
