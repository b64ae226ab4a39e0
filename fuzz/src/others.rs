//! Input from users and other programs: command lines, requests of the control socket and its reports, pid files,
//! records of services, mail addresses.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use evervip::api::report::Report;
use evervip::api::{peers, request, text, why};
use evervip::base::WallTime;
use evervip::cli::args;
use evervip::drive::smtp;
use evervip::model::Mail;
use evervip::role::fuzz as role;
use evervip::status::MailText;
use evervip::sys::clock::LocalTime;

/// Arguments with NUL between them.
pub fn arguments(data: &[u8]) {
    let words = data.split(|o| *o == 0).map(|word| OsString::from_vec(word.to_vec()));
    let parsed = args::parse(words, OsStr::new("/tmp"));
    assert!(parsed.wish.is_some() || !parsed.errors.is_empty(), "refused without a reason");
    for line in &parsed.errors {
        assert!(!line.is_empty());
    }
}

/// A line for the control socket; and the same octets as the report of an untrusted daemon.
pub fn api(data: &[u8]) {
    if let Err((id, wrong)) = request::parse(data) {
        assert!(!wrong.message.is_empty() && wrong.message.len() < 2000, "{wrong:?}");
        let line = request::refusal(id, &wrong);
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
    }
    if let Ok(report) = serde_json::from_slice::<Report>(data) {
        fits(&text::screen(&report));
        let _ = text::select(report, "A");
    }
    if let Ok(report) = serde_json::from_slice::<peers::Report>(data) {
        fits(&peers::screen(&report));
        let _ = peers::select(report, "A");
    }
    if let Ok(report) = serde_json::from_slice::<why::Report>(data) {
        fits(&why::screen(&report));
        let _ = why::select(report, "A");
    }
}

/// A screen has 80 columns and no control characters.
fn fits(screen: &str) {
    for line in screen.lines() {
        assert!(line.chars().count() <= 80 && !line.chars().any(char::is_control), "{line:?}");
    }
}

/// Files beside the daemon: its pid file and the record of its virtual servers.
pub fn files(data: &[u8]) {
    if let Some(pid) = role::number(data) {
        assert_eq!(role::number(format!("{pid}\n").as_bytes()), Some(pid));
    }
    if let Ok(text) = core::str::from_utf8(data) {
        let services = role::services(text);
        assert_eq!(role::services(&role::text(&services)), services, "written and read again");
    }
}

/// Sender, recipient, subject and text of a mail, with NUL between them.
pub fn mail(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or("");
    let (from, to, subject, body) = (part(), part(), part(), part());
    for address in [from, to] {
        if let Ok(address) = smtp::envelope(address, "node1") {
            let address = address.to_string();
            let bad = address.chars().find(|c| c.is_control() || matches!(c, '<' | '>'));
            assert_eq!(bad, None, "{address:?}");
        }
    }
    let mail = Mail {
        server: "localhost".into(),
        port: 25,
        timeout: Duration::from_secs(1),
        helo: "node1".into(),
        from: from.into(),
        to: vec![to.into()],
    };
    let text = MailText { subject: subject.into(), body: body.into(), urgent: false };
    let now = LocalTime::at(WallTime::default());
    let message = smtp::compose("node1", &mail, &text, now);
    let (head, _) = message.split_once("\r\n\r\n").expect("a head and a body");
    let names: Vec<&str> = head.split("\r\n").filter_map(|l| l.split(':').next()).collect();
    assert_eq!(names, ["Date", "From", "Subject", "X-Mailer", "To"], "no text makes a header");
    assert!(!head.replace("\r\n", "").contains(['\r', '\n']));
}

/// Answers of a mail server: none of its text becomes a command or breaks a log line.
pub fn smtp(data: &[u8]) {
    let data = data.get(..100_000).unwrap_or(data);
    let mail = Mail {
        server: "localhost".into(),
        port: 25,
        timeout: Duration::from_secs(1),
        helo: "node1".into(),
        from: "a@example.org".into(),
        to: vec!["b@example.org".into(), "c@example.org".into()],
    };
    let (heard, outcome) = smtp::fuzz::converse(&mail, "Subject: x\r\n\r\ny\r\n", data);
    let heard = String::from_utf8(heard).expect("what is sent is ours");
    let known = |line: &str| {
        let ours = ["EHLO node1", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>"];
        let more = ["RCPT TO:<c@example.org>", "DATA", "Subject: x", "", "y", ".", "QUIT"];
        ours.contains(&line) || more.contains(&line)
    };
    assert!(heard.split("\r\n").all(known), "{heard:?}");
    assert!(heard.len() < 400, "{heard:?}");
    match outcome {
        Ok(()) => assert!(heard.contains("\r\n.\r\n"), "sent without its text: {heard:?}"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 600 && !text.contains(char::is_control), "{text:?}");
        }
    }
}
