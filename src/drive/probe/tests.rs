use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::*;
use crate::check::CheckerSlot;
use crate::check::probe::{Failure, Step};
use crate::model::Connection;
use crate::model::checker::Source;
use crate::sys::testing;

const LIMIT: Duration = Duration::from_secs(20);

fn to(address: SocketAddr) -> Connection {
    Connection { to: address, from: None, interface: None, timeout: LIMIT, mark: 0 }
}

fn id(serial: u64) -> ProbeId {
    ProbeId { checker: CheckerSlot(0), serial }
}

async fn verdict(connection: Connection, closing: Closing) -> Verdict {
    let mut probes = Probes::new();
    probes.start(id(1), Request::Tcp(connection), closing);
    let (probe, verdict) = tokio::time::timeout(LIMIT, probes.next()).await.expect("a verdict");
    assert_eq!(probe, id(1));
    assert!(probes.running.is_empty() && probes.ready().is_none());
    verdict
}

/// A listener whose backlog is full, and the connections that fill it.
fn full() -> (Socket, Vec<std::net::TcpStream>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut inside = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
    {
        inside.push(stream);
        assert!(inside.len() < 10, "the queue never fills up");
    }
    (listener, inside)
}

#[test]
fn a_listener_is_good_and_a_closed_port_is_not() {
    testing::run(async {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(local) else {
                // This machine has no IPv6.
                assert_eq!(local, "[::1]:0");
                continue;
            };
            let address = listener.local_addr().unwrap();
            assert_eq!(verdict(to(address), Closing::Orderly).await, Verdict::SUCCESS);
            drop(listener);
            assert_eq!(
                verdict(to(address), Closing::Orderly).await,
                Verdict::Failure(Failure::Connection(libc::ECONNREFUSED))
            );
        }
    });
}

#[test]
fn connections_end_as_asked_for_and_nothing_is_said_on_them() {
    testing::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for (closing, end) in [(Closing::Orderly, Ok(0)), (Closing::Reset, Err(libc::ECONNRESET))] {
            assert_eq!(verdict(to(address), closing).await, Verdict::SUCCESS);
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let read = stream.read(&mut [0; 16]).map_err(|e| e.raw_os_error().unwrap_or(0));
            assert_eq!(read, end, "{closing:?}");
        }
    });
}

#[test]
fn the_source_is_the_one_asked_for() {
    testing::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let from = |address: [u8; 4], port| Some(Source { address: IpAddr::from(address), port });
        let settings = Connection { from: from([127, 0, 0, 9], 0), ..to(address) };
        assert_eq!(verdict(settings, Closing::Orderly).await, Verdict::SUCCESS);
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 9]));
        // An address that this machine does not have: no statement about the server.
        let settings = Connection { from: from([192, 0, 2, 1], 0), ..to(address) };
        assert_eq!(
            verdict(settings, Closing::Orderly).await,
            Verdict::Untried { step: Step::Source, errno: libc::EADDRNOTAVAIL }
        );
        // A port of its own, again and again.
        let free = TcpListener::bind("127.0.0.8:0").unwrap().local_addr().unwrap().port();
        for _ in 0..3 {
            let settings = Connection { from: from([127, 0, 0, 8], free), ..to(address) };
            assert_eq!(verdict(settings, Closing::Reset).await, Verdict::SUCCESS);
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer.port(), free);
        }
    });
}

#[test]
fn interface_and_mark() {
    testing::in_namespace("drive::probe::tests::interface_and_mark", || {
        testing::run(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let over = |name: &str| Connection {
                interface: Some(name.parse().unwrap()),
                mark: 7,
                ..to(address)
            };
            assert_eq!(verdict(over("lo"), Closing::Orderly).await, Verdict::SUCCESS);
            assert_eq!(
                verdict(over("nosuch"), Closing::Orderly).await,
                Verdict::Untried { step: Step::Device, errno: libc::ENODEV }
            );
            // 192.0.2.1 has no route here.
            let nowhere = to("192.0.2.1:80".parse().unwrap());
            assert_eq!(
                verdict(nowhere, Closing::Orderly).await,
                Verdict::Failure(Failure::Connection(libc::ENETUNREACH))
            );
        });
    });
}

#[test]
fn an_attempt_given_up_leaves_nothing_behind() {
    testing::in_namespace("drive::probe::tests::an_attempt_given_up_leaves_nothing_behind", || {
        testing::run(async {
            let (listener, _inside) = full();
            let address = listener.local_addr().unwrap().as_socket().unwrap();
            let sockets = || std::fs::read_dir("/proc/self/fd").unwrap().count();
            let before = sockets();
            let mut probes = Probes::new();
            for serial in 0..300 {
                probes.start(id(serial), Request::Tcp(to(address)), Closing::Orderly);
            }
            // Until all of them have opened a socket.
            while sockets() < before + 300 {
                tokio::task::yield_now().await;
            }
            for serial in 0..300 {
                probes.cancel(id(serial));
            }
            let end = std::time::Instant::now() + LIMIT;
            while sockets() > before {
                assert!(std::time::Instant::now() < end, "sockets stay open");
                tokio::task::yield_now().await;
            }
            assert!(probes.ready().is_none(), "nothing is reported of what was given up");
            // As many that end by themselves, and those of a dropped value.
            for serial in 0..300 {
                probes.start(id(serial), Request::Tcp(to(address)), Closing::Reset);
            }
            drop(probes);
            while sockets() > before {
                assert!(std::time::Instant::now() < end, "sockets stay open");
                tokio::task::yield_now().await;
            }
        });
    });
}

/// Serves one connection: reads the request, then calls `serve`.
fn web(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = Vec::new();
        let mut part = [0; 100];
        while !question.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut part).unwrap();
            question.extend_from_slice(&part[..count]);
        }
        serve(stream);
    });
    address
}

/// The verdict on a page, in words.
async fn fetched(to: SocketAddr, timeout: Duration) -> String {
    let url = crate::model::checker::Url {
        path: "/".into(),
        digest: None,
        status: vec![(200, 299)],
        virtualhost: None,
        pattern: None,
        tls_compliant: None,
    };
    let page = crate::check::probe::http::Page {
        connection: Connection { timeout, ..self::to(to) },
        tls: None,
        question: (*b"GET / HTTP/1.0\r\n\r\n").into(),
        url,
    };
    let mut probes = Probes::new();
    probes.start(id(1), Request::Http(Box::new(page)), Closing::Orderly);
    let (_, verdict) = tokio::time::timeout(LIMIT, probes.next()).await.expect("a verdict");
    verdict.to_string()
}

#[test]
fn pages_good_bad_cut_off_and_endless() {
    use std::io::Write;
    testing::run(async {
        let good = web(|mut s| s.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap());
        assert_eq!(fetched(good, LIMIT).await, "success");
        let bad = web(|mut s| s.write_all(b"HTTP/1.1 503 Busy\r\n\r\nsorry").unwrap());
        assert_eq!(fetched(bad, LIMIT).await, "status 503 from url(/)");
        let mute = web(drop);
        assert_eq!(fetched(mute, LIMIT).await, "no data received from url(/)");
        let reset =
            web(|stream| socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap());
        let end = fetched(reset, LIMIT).await;
        assert_eq!(end, "cannot read: Connection reset by peer from url(/)");
        // As long as the client reads.
        let flood = web(|mut stream| while stream.write_all(&[b'x'; 65536]).is_ok() {});
        assert_eq!(fetched(flood, LIMIT).await, "header longer than 16384 bytes from url(/)");
        let endless = web(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
        });
        assert_eq!(fetched(endless, LIMIT).await, "page longer than 67108864 bytes from url(/)");
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(fetched(closed, LIMIT).await, "Connection refused");
    });
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let patience = Duration::from_millis(200);
    testing::run(async {
        let (sender, hold) = std::sync::mpsc::channel::<()>();
        let silent = web(move |_stream| {
            let _ = hold.recv();
        });
        assert_eq!(fetched(silent, patience).await, "timeout reading from url(/)");
        drop(sender);
        let (listener, _inside) = full();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(fetched(address, patience).await, "timeout");
    });
}

/// The verdict of any request, or none if it takes too long.
async fn of(request: Request, limit: Duration) -> Option<Verdict> {
    let mut probes = Probes::new();
    probes.start(id(1), request, Closing::Orderly);
    tokio::time::timeout(limit, probes.next()).await.ok().map(|(_, verdict)| verdict)
}

#[test]
fn datagrams_are_answered_refused_or_ignored() {
    use crate::model::checker::{DnsCheck, ReplyPattern, UdpCheck};
    testing::run(async {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let udp = |address| UdpCheck {
            connection: to(address),
            payload: None,
            reply: Some(ReplyPattern { octets: b"pon".as_slice().into(), mask: [0xff; 3].into() }),
            min_reply: 0,
            max_reply: 65_535,
        };
        let answering = tokio::task::spawn_blocking(move || {
            let mut octets = [0; 600];
            let mut asked = Vec::new();
            for answer in [&b"pong"[..], &[b'p'; 60_000]] {
                let (length, from) = server.recv_from(&mut octets).unwrap();
                asked.push(octets[..length].to_vec());
                server.send_to(answer, from).unwrap();
            }
            // A question to a name server, which first sends answers to other questions.
            let (length, from) = server.recv_from(&mut octets).unwrap();
            let mut answer = octets[..length].to_vec();
            answer[2] = 0x80;
            answer[0] ^= 1;
            server.send_to(&answer, from).unwrap();
            answer[0] ^= 1;
            server.send_to(&answer, from).unwrap();
            let (length, from) = server.recv_from(&mut octets).unwrap();
            let again = octets[..length].to_vec();
            for _ in 0..1200 {
                server.send_to(b"no answer", from).unwrap();
                std::thread::sleep(Duration::from_micros(50));
            }
            (asked, answer, again)
        });
        let request = || Request::Udp(Box::new(udp(address)));
        assert_eq!(of(request(), LIMIT).await, Some(Verdict::SUCCESS));
        let bad = of(request(), LIMIT).await.unwrap();
        assert_eq!(bad.to_string(), "byte 1 of the reply is 70");
        let dns = DnsCheck { connection: to(address), kind: 6, name: "a.example".into() };
        let request = || Request::Dns(Box::new(dns.clone()));
        assert_eq!(of(request(), LIMIT).await, Some(Verdict::SUCCESS));
        let flood = of(request(), LIMIT).await.unwrap();
        assert_eq!(flood.to_string(), "more than 1000 datagrams without an answer");
        let (asked, first, second) = answering.await.unwrap();
        assert_eq!(asked[0], b"keepalived check - keepalived ch");
        assert_ne!(first[..2], second[..2], "the same number twice");
        // The port is closed by now.
        let refused = Verdict::Failure(Failure::Connection(libc::ECONNREFUSED));
        assert_eq!(of(Request::Udp(Box::new(udp(address))), LIMIT).await, Some(refused.clone()));
        assert_eq!(of(Request::Dns(Box::new(dns)), LIMIT).await, Some(refused));
        // The server is silent: the engine judges that, not the attempt.
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent = udp(silent.local_addr().unwrap());
        let _ = of(Request::Udp(Box::new(silent)), Duration::from_millis(100)).await;
    });
}

#[test]
fn an_echo_comes_back() {
    testing::run(async {
        for address in ["127.0.0.1:80", "[::1]:80"] {
            let request = Request::Ping(to(address.parse().unwrap()));
            match of(request, LIMIT).await {
                Some(Verdict::Success(_)) => {}
                // Without permission for either kind of socket, or without IPv6, no attempt is possible.
                Some(Verdict::Untried { step: Step::Socket | Step::Connect, .. }) => {}
                Some(Verdict::Failure(Failure::Connection(_))) if address.starts_with('[') => {}
                other => panic!("{address}: {other:?}"),
            }
        }
    });
}

#[test]
fn a_mail_server_greets_or_does_not() {
    use std::io::Write;

    use crate::model::checker::SmtpCheck;
    testing::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::task::spawn_blocking(move || {
            for replies in [
                &["220-mx\r\n220 mx\r\n", "250 hello\r\n", "221 bye\r\n"][..],
                &["554 go away\r\n"],
                &["220 mx\r\n", "250 hello\r\n"],
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                for reply in replies {
                    stream.write_all(reply.as_bytes()).unwrap();
                    let mut words = [0; 100];
                    let _ = stream.read(&mut words).unwrap();
                }
            }
            let (mut slow, _) = listener.accept().unwrap();
            // An endless reply is limited to the same time as a missing one.
            while slow.write_all(b"2").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let helo = Some("me".into());
        let mut check = SmtpCheck { connection: to(address), helo };
        let request = |check: &SmtpCheck| Request::Smtp(Box::new(check.clone()));
        assert_eq!(of(request(&check), LIMIT).await, Some(Verdict::SUCCESS));
        let bad = of(request(&check), LIMIT).await.unwrap();
        assert_eq!(bad.to_string(), "Bad greeting banner from server: 554 go away");
        assert_eq!(of(request(&check), LIMIT).await, Some(Verdict::SUCCESS));
        check.connection.timeout = Duration::from_millis(200);
        let slow = of(request(&check), LIMIT).await.unwrap();
        assert_eq!(slow.to_string(), "Read timeout from server");
        serving.await.unwrap();
        let refused = Verdict::Failure(Failure::Connection(libc::ECONNREFUSED));
        assert_eq!(of(request(&check), LIMIT).await, Some(refused));
    });
}

/// Two servers whose pages take long to search, each asked twice as attempts that took too long were abandoned; then a
/// page that is searched in a moment, and a listener.
#[test]
fn long_searches_do_not_delay_other_checks() {
    use crate::model::pattern::SEARCHED;
    testing::run(async {
        let (pages, told) = std::sync::mpsc::channel();
        let long: Vec<u8> = b"axx".iter().copied().cycle().take(SEARCHED).collect();
        let mut probes = Probes::new();
        let slow = [1, 2].map(|_| searched_pages(long.clone(), 2, pages.clone()));
        for (number, address) in (1..).zip([slow, slow].concat()) {
            probes.start(
                id(number),
                searched(address, b"(?:a.{0,900}b|x.{3,900}c)"),
                Closing::Orderly,
            );
        }
        // All have been sent, so the searches begin.
        for _ in 0..4 {
            tokio::task::yield_now().await;
            while told.try_recv().is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let quick = searched_pages(b"hello".to_vec(), 1, pages);
        probes.start(id(5), searched(quick, b"h.l+o"), Closing::Orderly);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        probes.start(id(6), Request::Tcp(to(listener.local_addr().unwrap())), Closing::Orderly);
        let mut order = Vec::new();
        for _ in 0..6 {
            let (probe, verdict) = tokio::time::timeout(6 * LIMIT, probes.next()).await.unwrap();
            if verdict != Verdict::SUCCESS {
                let why = verdict.to_string();
                assert!(why.contains("regular expression not found"), "{why}");
            }
            order.push((probe, verdict == Verdict::SUCCESS));
        }
        let (first, last) = order.split_at(2);
        assert!(first.iter().all(|(probe, good)| *good && *probe >= id(5)), "{order:?}");
        assert!(last.iter().all(|(probe, good)| !*good && *probe < id(5)), "{order:?}");
    });
}

/// A web server that sends this page so many times, and tells each time when it is sent.
fn searched_pages(page: Vec<u8>, times: usize, sent: std::sync::mpsc::Sender<()>) -> SocketAddr {
    use std::io::Write;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for _ in 0..times {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1000]).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
            stream.write_all(&page).unwrap();
            drop(stream);
            let _ = sent.send(());
        }
    });
    address
}

/// A request for a page that must have a pattern.
fn searched(address: SocketAddr, text: &[u8]) -> Request {
    let pattern = crate::model::pattern::Pattern {
        text: text.into(),
        options: Vec::new(),
        absent: false,
        min_offset: 0,
        max_offset: None,
    };
    let url = crate::model::checker::Url {
        path: "/".into(),
        digest: None,
        status: vec![(200, 299)],
        virtualhost: None,
        pattern: Some(Box::new(pattern)),
        tls_compliant: None,
    };
    let connection = Connection { timeout: 6 * LIMIT, ..to(address) };
    let question = (*b"GET / HTTP/1.0\r\n\r\n").into();
    let page = crate::check::probe::http::Page { connection, tls: None, question, url };
    Request::Http(Box::new(page))
}
