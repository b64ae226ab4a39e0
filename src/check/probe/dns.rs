//! `DNS_CHECK`: succeeds if a question is answered without an error code. The contents of the answer do not matter,
//! and it may be empty.
//!
//! Datagrams other than the answer to this question (different ID or question, or not an answer) are ignored. The ID
//! is unpredictable, and the socket receives from the server only.

use super::datagram::Heard;
use super::{Failure, Verdict};
use crate::model::checker::DnsCheck;
use crate::wire::dns;

/// The conversation of one attempt.
#[derive(Clone, Debug)]
pub struct Dns {
    id: u16,
    question: Vec<u8>,
}

impl Dns {
    /// Starts an attempt. `id` must be unpredictable. None if the name is not a valid domain name.
    #[must_use]
    pub fn new(check: &DnsCheck, id: u16) -> Option<Self> {
        Some(Self { id, question: dns::question(id, &check.name, check.kind)? })
    }

    /// The datagram to send.
    #[must_use]
    pub fn question(&self) -> &[u8] {
        &self.question
    }

    /// Processes an event; returns the verdict once there is one.
    #[must_use]
    pub fn step(&self, heard: Heard<'_>) -> Option<Verdict> {
        let datagram = match heard.datagram() {
            Ok(datagram) => datagram,
            Err(verdict) => return verdict,
        };
        let message = dns::message(datagram)?;
        if message.id != self.id || !message.answers || !dns::concerns(&message, &self.question) {
            return None;
        }
        Some(match message.code {
            0 => Verdict::SUCCESS,
            code => Verdict::Failure(Failure::Answer(format!("rcode = {code}").into())),
        })
    }
}

pub(super) fn success_line(server: &str) -> String {
    format!("DNS_CHECK ({server}) success.")
}

/// The log line of a failure, the same for an ordinary attempt and for the last retry.
pub(super) fn failure_line(server: &str, failure: &Failure, retries: Option<u32>) -> String {
    let reason = match failure {
        Failure::Timeout => "read timeout from socket".to_owned(),
        Failure::Answer(text) => format!("read error occurred. ({text})"),
        other => format!("failed to read socket; {other}"),
    };
    match retries {
        None => format!("DNS_CHECK ({server}) {reason}"),
        Some(n) => format!("DNS_CHECK ({server}) {reason} after {n} retries"),
    }
}

pub(super) const fn mail_body(last: Option<&Verdict>) -> &'static str {
    match last {
        Some(Verdict::Success(_)) => "=> DNS_CHECK: succeed on service <=",
        _ => "=> DNS_CHECK: failed on service <=",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;

    fn asking() -> Dns {
        let check =
            DnsCheck { connection: sample::connection(53), kind: 6, name: "example.com".into() };
        Dns::new(&check, 0x1234).unwrap()
    }

    /// The answer with changed octets of its header.
    fn answer(dns: &Dns, change: &[(usize, u8)]) -> Option<String> {
        let mut answer = dns.question().to_vec();
        answer[2] = 0x81;
        answer[3] = 0x80;
        change.iter().for_each(|(at, octet)| answer[*at] = *octet);
        Some(dns.step(Heard::Datagram(&answer))?.to_string())
    }

    #[test]
    fn an_answer_decides_by_its_code_alone() {
        let dns = asking();
        assert_eq!(answer(&dns, &[]).as_deref(), Some("success"));
        assert_eq!(answer(&dns, &[(3, 0x82)]).as_deref(), Some("rcode = 2"));
        assert_eq!(answer(&dns, &[(3, 0x03)]).as_deref(), Some("rcode = 3"));
        // Truncated and authoritative answers count as well.
        assert_eq!(answer(&dns, &[(2, 0x87)]).as_deref(), Some("success"));
    }

    #[test]
    fn what_is_not_the_answer_is_passed_over() {
        let dns = asking();
        for change in [(0, 0x13), (1, 0x35), (2, 0x01), (2, 0xa1), (13, b'f'), (26, 1)] {
            assert_eq!(answer(&dns, &[change]), None, "{change:?}");
        }
        assert_eq!(dns.step(Heard::Datagram(&[])), None);
        assert_eq!(dns.step(Heard::Datagram(&dns.question()[..11])), None);
        let refused = Some(Verdict::Failure(Failure::Connection(111)));
        assert_eq!(dns.step(Heard::Broken(111)), refused);
    }
}
