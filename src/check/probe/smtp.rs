//! `SMTP_CHECK`: a mail server must greet (220), accept HELO (250) and answer QUIT.
//!
//! A reply may have several lines (RFC 5321 4.2.1). Its length is limited.
//!
//! departs: keepalived treats a reply of several lines as an error, and also a server that closes the connection
//! instead of answering QUIT, although all relevant replies have arrived by then.

use core::net::SocketAddr;
use core::time::Duration;

use super::http::Heard;
use super::{Errno, Failure, Verdict};
use crate::model::checker::SmtpCheck;

/// Limit of one reply with all its lines, in octets. A line has 512 at most (RFC 5321 4.5.3.1.5).
const REPLY: usize = 8192;
/// The engine's limit of an attempt in units of `connect_timeout`: one each for the connection and three replies, and
/// one as a margin.
const PHASES: u32 = 5;
/// Characters of a reply that are quoted in a reason.
const SHOWN: usize = 60;

/// The conversation of one attempt.
#[derive(Debug)]
pub struct Smtp {
    helo: Box<str>,
    stage: Stage,
    /// The reply so far.
    reply: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Helo,
    Quit,
}

/// The next step of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for the rest of the reply.
    Wait,
    /// Send this and wait for the next reply.
    Say(Vec<u8>),
    /// The attempt ends with this verdict.
    Verdict(Verdict),
}

impl Smtp {
    /// Starts an attempt; the server sends first.
    #[must_use]
    pub fn new(check: &SmtpCheck) -> Self {
        let helo = check.helo.clone().unwrap_or_default();
        Self { helo, stage: Stage::Greeting, reply: Vec::new() }
    }

    /// Processes received octets. Must not be called after a verdict.
    #[must_use]
    pub fn step(&mut self, heard: Heard<'_>) -> Next {
        let bytes = match heard {
            Heard::Bytes(bytes) => bytes,
            // All relevant replies have arrived.
            Heard::End | Heard::Broken(_) if self.stage == Stage::Quit => {
                return Next::Verdict(Verdict::SUCCESS);
            }
            Heard::End => return bad("Read failure from server: connection closed"),
            Heard::Broken(errno) => {
                return bad(&format!("Read failure from server: {}", Errno(errno)));
            }
            Heard::Unsent(errno) => {
                return bad(&format!("Write failure to server: {}", Errno(errno)));
            }
            Heard::Silence => return bad("Read timeout from server"),
            Heard::Tls(why) => return bad(&format!("Read failure from server: {why}")),
        };
        let room = REPLY - self.reply.len();
        self.reply.extend(bytes.iter().take(room));
        let Some(reply) = reply(&self.reply) else {
            return if self.reply.len() >= REPLY {
                bad("Read failure from server: the reply is too long")
            } else {
                Next::Wait
            };
        };
        let (stage, wanted, what) = match self.stage {
            Stage::Greeting => (Stage::Helo, 220, "Bad greeting banner from server"),
            Stage::Helo => (Stage::Quit, 250, "Bad HELO response from server"),
            Stage::Quit => return Next::Verdict(Verdict::SUCCESS),
        };
        if reply != Some(wanted) {
            return bad(&format!("{what}: {}", shown(&self.reply)));
        }
        // Octets after the reply precede the next command, so they answer nothing.
        self.reply.clear();
        self.stage = stage;
        Next::Say(match stage {
            Stage::Helo | Stage::Greeting => format!("HELO {}\r\n", self.helo).into_bytes(),
            Stage::Quit => b"QUIT\r\n".to_vec(),
        })
    }
}

/// The time limit of the whole attempt.
pub(super) fn limit(check: &SmtpCheck) -> Duration {
    check.connection.timeout.saturating_mul(PHASES)
}

/// The code of a complete reply; the inner option is none if it is malformed.
fn reply(octets: &[u8]) -> Option<Option<u16>> {
    let mut first = None;
    let mut rest = octets;
    loop {
        let end = memchr::memchr(b'\n', rest)?;
        let (line, more) = rest.split_at(end);
        rest = more.get(1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some((digits, text)) = line.split_first_chunk::<3>() else {
            return Some(None);
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return Some(None);
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        if *first.get_or_insert(code) != code {
            return Some(None);
        }
        match text.first() {
            None | Some(b' ') => return Some(Some(code)),
            Some(b'-') => {}
            Some(_) => return Some(None),
        }
    }
}

/// The beginning of a reply in printable form.
fn shown(reply: &[u8]) -> String {
    let line = reply.split(|octet| matches!(octet, b'\r' | b'\n')).next().unwrap_or_default();
    let shown = |octet: &u8| match octet {
        b' '..=b'~' => char::from(*octet),
        _ => '?',
    };
    line.iter().take(SHOWN).map(shown).collect()
}

fn bad(why: &str) -> Next {
    Next::Verdict(Verdict::Failure(Failure::Answer(why.into())))
}

pub(super) fn success_line(server: &str) -> String {
    format!("Remote SMTP server {server} succeed on service.")
}

/// The reason in keepalived's wording, and further details.
fn reason(failure: &Failure) -> (String, Option<String>) {
    match failure {
        Failure::Timeout => ("Connection timeout to server".into(), None),
        Failure::Connection(_) => ("Error connecting to server".into(), Some(failure.to_string())),
        other => {
            let text = other.to_string();
            match text.split_once(": ") {
                Some((what, more)) => (what.to_owned(), Some(more.to_owned())),
                None => (text, None),
            }
        }
    }
}

/// The log line of a failure, the same for an ordinary attempt and for the last retry.
pub(super) fn failure_line(host: SocketAddr, failure: &Failure) -> String {
    let (reason, more) = reason(failure);
    let more = more.map(|more| format!(" ({more})")).unwrap_or_default();
    format!("SMTP_CHECK {reason} [{}]:{}{more}", host.ip(), host.port())
}

pub(super) fn mail_body(last: Option<&Verdict>) -> String {
    match last {
        Some(Verdict::Failure(failure)) => {
            format!("=> CHECK failed on service : {} <=", reason(failure).0)
        }
        _ => "=> CHECK succeed on service <=".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Connection;

    fn smtp() -> Smtp {
        let timeout = Duration::from_secs(5);
        let to = ([10, 0, 0, 71], 25).into();
        let connection = Connection { to, from: None, interface: None, timeout, mark: 0 };
        Smtp::new(&SmtpCheck { connection, helo: Some("me.example".into()) })
    }

    /// Runs the conversation with these parts sent by the server, each one separately.
    fn talk(parts: &[&[u8]]) -> String {
        let mut smtp = smtp();
        let mut all = Vec::new();
        for part in parts {
            match smtp.step(Heard::Bytes(part)) {
                Next::Wait => all.push("wait".to_owned()),
                Next::Say(words) => {
                    all.push(String::from_utf8_lossy(&words).trim_end().to_owned());
                }
                Next::Verdict(verdict) => {
                    all.push(verdict.to_string());
                    break;
                }
            }
        }
        all.join(" | ")
    }

    #[test]
    fn a_greeting_and_a_goodbye() {
        let helo = "HELO me.example";
        for (parts, wanted) in [
            (&[&b"220 mx ESMTP\r\n"[..], b"250 hello\r\n", b"221 bye\r\n"][..], "success"),
            (&[b"220\r\n", b"250\n", b"x\n"], "success"),
            (&[b"220-one\r\n220 two\r\n", b"250-a\r\n250-b\r\n250 c\r\n", b"221 x\r\n"], "success"),
        ] {
            assert_eq!(talk(parts), format!("{helo} | QUIT | {wanted}"));
        }
        assert_eq!(
            talk(&[b"22", b"0-a\r\n220", b" b\r", b"\n"]),
            format!("wait | wait | wait | {helo}")
        );
    }

    #[test]
    fn anything_else_is_a_failure_with_its_reason() {
        let banner = "Bad greeting banner from server";
        for (greeting, shown) in [
            (&b"554 go away\r\n"[..], "554 go away"),
            (b"HTTP/1.0 400 Bad\r\n", "HTTP/1.0 400 Bad"),
            (b"220x\r\n", "220x"),
            (b"22\r\n", "22"),
            (b"220-a\r\n221 b\r\n", "220-a"),
            (b"\x1b[2J\xff\n", "?[2J?"),
        ] {
            assert_eq!(talk(&[greeting]), format!("{banner}: {shown}"));
        }
        let helo = "HELO me.example | Bad HELO response from server: 550 no";
        assert_eq!(talk(&[b"220 a\r\n", b"550 no\r\n"]), helo);
        let long = [b'2'; 10_000];
        assert_eq!(talk(&[&long]), "Read failure from server: the reply is too long");
        let mut lines = smtp();
        for _ in 0..1000 {
            match lines.step(Heard::Bytes(b"220-again\r\n")) {
                Next::Wait => assert!(lines.reply.len() <= REPLY),
                Next::Verdict(verdict) => {
                    assert!(verdict.to_string().ends_with("too long"));
                    return;
                }
                Next::Say(_) => panic!("it is not complete"),
            }
        }
        panic!("a greeting without end");
    }

    #[test]
    fn a_server_that_has_said_all_may_close() {
        for heard in [Heard::End, Heard::Broken(104)] {
            let mut early = smtp();
            assert!(matches!(early.step(heard), Next::Verdict(Verdict::Failure(_))));
            let mut smtp = smtp();
            assert!(matches!(smtp.step(Heard::Bytes(b"220 a\r\n")), Next::Say(_)));
            assert!(matches!(smtp.step(Heard::Bytes(b"250 a\r\n")), Next::Say(_)));
            assert_eq!(smtp.step(heard), Next::Verdict(Verdict::SUCCESS));
        }
        let mut smtp = smtp();
        let silence = smtp.step(Heard::Silence);
        assert_eq!(silence, bad("Read timeout from server"));
    }

    #[test]
    fn lines_as_keepalived_writes_them() {
        let host = "[fd00::1]:25".parse().unwrap();
        let answer = Failure::Answer("Bad greeting banner from server: 554 no".into());
        let line = "SMTP_CHECK Bad greeting banner from server [fd00::1]:25 (554 no)";
        assert_eq!(failure_line(host, &answer), line);
        let line = "SMTP_CHECK Error connecting to server [fd00::1]:25 (Connection refused)";
        assert_eq!(failure_line(host, &Failure::Connection(111)), line);
        let line = "SMTP_CHECK Connection timeout to server [fd00::1]:25";
        assert_eq!(failure_line(host, &Failure::Timeout), line);
        let verdict = Verdict::Failure(answer);
        let body = "=> CHECK failed on service : Bad greeting banner from server <=";
        assert_eq!(mail_body(Some(&verdict)), body);
    }
}
