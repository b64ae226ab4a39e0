use core::net::SocketAddr;

use super::*;

const HELLO: [u8; 16] = [
    0x5d, 0x41, 0x40, 0x2a, 0xbc, 0x4b, 0x2a, 0x76, 0xb9, 0x71, 0x9d, 0x91, 0x10, 0x17, 0xc5, 0x92,
];

fn url() -> Url {
    Url {
        path: "/a".into(),
        digest: None,
        status: vec![(200, 299)],
        virtualhost: None,
        pattern: None,
        tls_compliant: None,
    }
}

fn check(to: &str) -> HttpCheck {
    let to: SocketAddr = to.parse().unwrap();
    let timeout = Duration::from_secs(5);
    HttpCheck {
        connection: Connection { to, from: None, interface: None, timeout, mark: 0 },
        tls: false,
        protocol: HttpProtocol::V1_0,
        sni: false,
        sni_name: None,
        fast_recovery: false,
        tls_compliant: false,
        virtualhost: None,
        urls: vec![url()],
    }
}

/// The verdict, in words, on an answer that arrives in parts of `size` octets; "" if there is none. The server closes
/// at the end if `closes`.
fn judged(url: &Url, answer: &[u8], size: usize, closes: bool) -> String {
    let mut http = Http::new(url.clone());
    let parts = answer.chunks(size).map(Heard::Bytes);
    let end = closes.then_some(Heard::End);
    parts.chain(end).find_map(|heard| http.step(heard)).map(said).unwrap_or_default()
}

/// The verdict that an outcome leads to, in words.
fn said(outcome: Outcome) -> String {
    let verdict = match outcome {
        Outcome::Verdict(verdict) => verdict,
        Outcome::Search(search) => {
            let regex = search.pattern.compile().ok();
            search.verdict(regex.as_ref())
        }
    };
    verdict.to_string()
}

/// The same whatever the size of the parts.
fn verdict(url: &Url, answer: &[u8], closes: bool) -> String {
    let all = judged(url, answer, answer.len().max(1), closes);
    for size in [1, 2, 7, 4096] {
        assert_eq!(judged(url, answer, size, closes), all, "in parts of {size}");
    }
    all
}

#[test]
fn questions_are_keepalived_s_octet_for_octet() {
    let text =
        |check: &HttpCheck, url: &Url| String::from_utf8(question(check, url).into()).unwrap();
    let mut named = check("10.0.0.71:80");
    let mut url = url();
    let first = "GET /a HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\n";
    assert_eq!(text(&named, &url), format!("{first}Host: 10.0.0.71:80\r\n\r\n"));
    named.virtualhost = Some("of.check".into());
    named.protocol = HttpProtocol::V1_0Close;
    let close = "Connection: close\r\n";
    assert_eq!(text(&named, &url), format!("{first}{close}Host: of.check\r\n\r\n"));
    url.virtualhost = Some("of.url".into());
    named.protocol = HttpProtocol::V1_1;
    let first = first.replace("1.0", "1.1");
    assert_eq!(text(&named, &url), format!("{first}{close}Host: of.url\r\n\r\n"));
    let check = check("[2001:db8::1]:8080");
    url.virtualhost = None;
    assert!(text(&check, &url).ends_with("\r\nHost: [2001:db8::1]:8080\r\n\r\n"));
}

#[test]
fn the_status_decides() {
    let page = url();
    let whole = |line: &str| format!("{line}\r\nServer: x\r\n\r\nhello").into_bytes();
    for (line, end) in [
        ("HTTP/1.1 200 OK", "success"),
        ("HTTP/1.0 299 x", "success"),
        ("HTTP/1.1 200", "success"),
        ("HTTP/1.1 300 Multiple Choices", "status 300 from url(/a)"),
        ("HTTP/1.1 503 Service Unavailable", "status 503 from url(/a)"),
    ] {
        assert_eq!(verdict(&page, &whole(line), true), end, "{line}");
    }
    let ranges = Url { status: vec![(200, 200), (401, 404)], ..page };
    for (status, good) in [(200, true), (201, false), (401, true), (404, true), (405, false)] {
        let end = verdict(&ranges, &whole(&format!("HTTP/1.1 {status} x")), true);
        assert_eq!(end == "success", good, "{status}: {end}");
    }
}

#[test]
fn what_is_no_answer_is_a_failure() {
    let page = url();
    for (answer, end) in [
        ("", "no data received from url(/a)"),
        ("HTTP/1.1 200 OK\r\nServer: x\r\n", "no data received from url(/a)"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "no data received from url(/a)"),
        ("SSH-2.0-x\r\n\r\n", "not an HTTP answer: invalid HTTP version from url(/a)"),
        ("HTTP/1.1 20x OK\r\n\r\n", "not an HTTP answer: invalid response status from url(/a)"),
    ] {
        assert_eq!(verdict(&page, answer.as_bytes(), true), end, "{answer:?}");
    }
    let mut http = Http::new(page);
    assert_eq!(
        http.ended(Heard::Broken(104)).to_string(),
        "cannot read: Connection reset by peer from url(/a)"
    );
}

#[test]
fn the_digest_is_that_of_the_page_as_it_comes() {
    let page = Url { digest: Some(HELLO), ..url() };
    let answer =
        |more: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{more}\r\n{body}").into_bytes();
    assert_eq!(verdict(&page, &answer("", "hello"), true), "success");
    // Not more than announced; after that the server need not close.
    assert_eq!(verdict(&page, &answer("content-length: 5\r\n", "hello!!"), false), "success");
    assert_eq!(verdict(&page, &answer("", "hello"), false), "");
    let other = "digest differs: 9b71d224bd62f3785d96d46ad3ea3d73 instead of \
                 5d41402abc4b2a76b9719d911017c592 from url(/a)";
    assert_ne!(verdict(&page, &answer("", "hello2"), true), "success");
    assert_eq!(verdict(&page, &answer("", "hello2"), true).len(), other.len());
    // Chunked: the digest covers the chunks with their lengths.
    let chunks =
        answer("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "5\r\nhello\r\n0\r\n\r\n");
    let end = verdict(&page, &chunks, true);
    assert!(end.starts_with("digest differs: "), "{end}");
    let raw = Md5::digest(b"5\r\nhello\r\n0\r\n\r\n").into();
    assert_eq!(verdict(&Url { digest: Some(raw), ..page }, &chunks, true), "success");
}

#[test]
fn an_empty_page_is_complete_with_its_header() {
    assert_eq!(verdict(&url(), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false), "success");
}

#[test]
fn length_is_limited() {
    let mut long = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    long.resize(HEADER + 1, b'y');
    assert_eq!(judged(&url(), &long, 1000, false), "header longer than 16384 bytes from url(/a)");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS + 1));
    let end = judged(&url(), many.as_bytes(), 1000, false);
    assert_eq!(end, "not an HTTP answer: too many headers from url(/a)");
    let mut http = Http::new(url());
    assert!(http.step(Heard::Bytes(b"HTTP/1.1 200 OK\r\n\r\n")).is_none());
    let part = vec![0; 1 << 20];
    let (mut parts, mut end) = (0, None);
    while end.is_none() && parts < 100 {
        end = http.step(Heard::Bytes(&part));
        parts += 1;
    }
    assert_eq!(parts, 65);
    let end = end.map(said).unwrap_or_default();
    assert_eq!(end, "page longer than 67108864 bytes from url(/a)");
}

#[test]
fn lines_are_keepalived_s() {
    let check = check("10.0.0.71:80");
    let server = "[10.0.0.71]:tcp:80";
    let failure = Failure::Page { path: "/a".into(), fault: Fault::Status(503) };
    let tries = |all| Tries { so_far: all, all, again: false };
    assert_eq!(
        failure_line(&check, server, &failure, tries(3)),
        "HTTP_CHECK on service [10.0.0.71]:tcp:80 failed after 3 retries (status 503 from url(/a))."
    );
    assert_eq!(
        failure_line(&check, server, &Failure::Connection(111), tries(0)),
        "HTTP_CHECK on service [10.0.0.71]:tcp:80 failed (Connection refused)."
    );
    assert_eq!(
        attempt_line(&check, server, &failure),
        "HTTP status code error to server [10.0.0.71]:tcp:80."
    );
    assert_eq!(
        attempt_line(&check, server, &Failure::Timeout),
        "Timeout connecting server [10.0.0.71]:tcp:80."
    );
    let unreachable = Failure::Connection(101);
    for (tls, word) in [(false, "HTTP_CHECK"), (true, "SSL_CHECK")] {
        assert_eq!(
            attempt_line(&HttpCheck { tls, ..check.clone() }, server, &unreachable),
            format!("{word} - network unreachable server [10.0.0.71]:tcp:80.")
        );
    }
    assert_eq!(page_line(&url(), server), "HTTP status code success to [10.0.0.71]:tcp:80 url(/a)");
}

#[test]
fn a_pattern_is_in_the_page_or_must_not_be() {
    use crate::model::checker::Pattern;
    let with = |text: &str, absent: bool, min_offset: u64, max_offset: Option<u64>| Url {
        pattern: Some(Box::new(Pattern {
            text: text.as_bytes().into(),
            options: Vec::new(),
            absent,
            min_offset,
            max_offset,
        })),
        ..url()
    };
    let page = b"HTTP/1.1 200 OK\r\nX: ready\r\nContent-Length: 12\r\n\r\nstate: ready and more";
    // Neither the header nor octets beyond the announced length are searched.
    assert_eq!(verdict(&with("^state: ready$", false, 0, None), page, false), "success");
    assert_eq!(
        verdict(&with("X: |more", false, 0, None), page, false),
        "regular expression not found from url(/a)"
    );
    assert_eq!(
        verdict(&with("ready", true, 0, None), page, false),
        "regular expression found from url(/a)"
    );
    assert_eq!(verdict(&with("down", true, 0, None), page, false), "success");
    // "ready" begins at 7.
    for (min, max, good) in [
        (7, None, true),
        (8, None, false),
        (0, Some(7), true),
        (0, Some(6), false),
        (100, None, false),
    ] {
        let is_good = verdict(&with("ready", false, min, max), page, false) == "success";
        assert_eq!(is_good, good, "{min} {max:?}");
    }
    // A wrong status or digest takes precedence.
    let bad = b"HTTP/1.1 503 no\r\n\r\nready";
    assert_eq!(verdict(&with("ready", false, 0, None), bad, true), "status 503 from url(/a)");
    let digest = Url { digest: Some(HELLO), ..with("ready", false, 0, None) };
    assert!(verdict(&digest, page, false).starts_with("digest differs"));
    let subject = "[10.0.0.71]:tcp:80";
    let line = page_line(&with("ready", false, 0, None), subject);
    assert_eq!(line, "Regex match success to [10.0.0.71]:tcp:80 url(/a)");
    let fault = Fault::Pattern { absent: false };
    let failure = Failure::Page { path: "/a".into(), fault };
    let line = attempt_line(&check("10.0.0.71:80"), subject, &failure);
    assert_eq!(line, "Regex match failed server [10.0.0.71]:tcp:80.");
}

#[test]
fn a_pattern_that_cannot_be_used_makes_every_page_bad() {
    use crate::model::checker::Pattern;
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready";
    for absent in [false, true] {
        let pattern = Pattern {
            text: b"(?=ready)".as_slice().into(),
            options: Vec::new(),
            absent,
            min_offset: 0,
            max_offset: None,
        };
        let url = Url { pattern: Some(Box::new(pattern)), ..url() };
        let why = "the regular expression cannot be used from url(/a)";
        assert_eq!(verdict(&url, page, false), why, "{absent}");
    }
    let failure = Failure::Page { path: "/a".into(), fault: Fault::NoPattern };
    let line = attempt_line(&check("10.0.0.71:80"), "[10.0.0.71]:tcp:80", &failure);
    assert_eq!(line, "Regex match failed server [10.0.0.71]:tcp:80.");
}

#[test]
fn a_page_without_end_is_searched_up_to_a_limit_and_kept_no_longer() {
    use crate::model::checker::Pattern;
    let pattern = Pattern {
        text: b"needle".as_slice().into(),
        options: Vec::new(),
        absent: false,
        min_offset: 10_000,
        max_offset: None,
    };
    let mut http = Http::new(Url { pattern: Some(Box::new(pattern)), ..url() });
    assert!(http.step(Heard::Bytes(b"HTTP/1.1 200 OK\r\n\r\n")).is_none());
    let part = vec![b'x'; 100_000];
    for _ in 0..20 {
        assert!(http.step(Heard::Bytes(&part)).is_none());
        let Stage::Page { text, .. } = &http.stage else { panic!("another stage") };
        assert!(text.len() <= SEARCHED);
    }
    assert!(http.step(Heard::Bytes(b"needle")).is_none());
    let end = said(http.step(Heard::End).unwrap());
    assert_eq!(end, "regular expression not found from url(/a)");
}
