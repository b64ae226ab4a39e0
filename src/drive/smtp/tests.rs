use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream as Peer};
use std::sync::mpsc as channel;

use super::*;
use crate::sys::testing;

/// A server of these tests: its answers to each line, and the lines it received.
struct Server {
    port: u16,
    heard: channel::Receiver<String>,
}

impl Server {
    /// Answers each line of the client with `answer`, for any number of connections.
    fn start(answer: impl Fn(&mut Peer, &str) -> String + Send + 'static) -> Self {
        Self::speak(move |peer, line| answer(peer, line).into_bytes())
    }

    /// The same with answers in any encoding.
    fn speak(answer: impl Fn(&mut Peer, &str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, heard) = channel::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let greeting = answer(&mut stream, "");
                let _ = stream.write_all(&greeting);
                let mut data = false;
                loop {
                    let mut line = String::new();
                    if lines.read_line(&mut line).unwrap_or(0) == 0 {
                        break;
                    }
                    if tell.send(line.clone()).is_err() {
                        return;
                    }
                    if data && line != ".\r\n" {
                        continue;
                    }
                    let reply = answer(&mut stream, line.trim_end());
                    data = reply.starts_with(b"354");
                    let _ = stream.write_all(&reply);
                }
            }
        });
        Self { port, heard }
    }

    fn polite() -> Self {
        Self::start(|_, line| polite(line).into())
    }

    fn mail(&self) -> Mail {
        Mail {
            server: "127.0.0.1".into(),
            port: self.port,
            helo: "svr1.example.org".into(),
            timeout: Duration::from_millis(500),
            from: "HA <svr1@mydomain.com>".into(),
            to: vec!["root@mydomain.com".into(), "Admin <admin>".into()],
        }
    }
}

fn polite(line: &str) -> &'static str {
    match line.split([' ', ':']).next().unwrap() {
        "" => "220 hello\r\n",
        "EHLO" => "250-localhost\r\n250 8BITMIME\r\n",
        "DATA" => "354 go on\r\n",
        "QUIT" => "221 bye\r\n",
        _ => "250 fine\r\n",
    }
}

fn text(subject: &str) -> MailText {
    MailText {
        subject: subject.into(),
        body: "=> VRRP Instance is now owning VRRP VIPs <=".into(),
        urgent: false,
    }
}

/// Sends these mails and returns their tags in the order of completion.
fn deliver(mail: Mail, texts: Vec<MailText>) -> Vec<usize> {
    testing::run(async {
        let count = texts.len();
        let (jobs, receiver) = mpsc::unbounded_channel();
        for (tag, text) in texts.into_iter().enumerate() {
            jobs.send(Job { tag, text }).unwrap();
        }
        let mut jobs = Some(jobs);
        let settings = Settings { router: "svr1".into(), mail: Some(mail) };
        let (_keep, settings) = watch::channel(Arc::new(settings));
        let mut done = Vec::new();
        run(settings, receiver, |tag| {
            done.push(tag);
            if done.len() == count {
                jobs = None;
            }
        })
        .await;
        done
    })
}

fn sorted(mut tags: Vec<usize>) -> Vec<usize> {
    tags.sort_unstable();
    tags
}

#[test]
fn a_flood_becomes_digests_and_what_is_urgent_goes_first() {
    let server = Server::polite();
    let down = |n| text(&format!("Realserver [10.0.0.{n}]:tcp:80 - DOWN"));
    let mut texts: Vec<MailText> = (0..400).map(down).collect();
    texts.push(MailText { urgent: true, ..text("Virtualserver [10.1.0.1]:tcp:80 - DOWN") });
    let done = deliver(server.mail(), texts);
    assert_eq!(done.len(), 401);
    let heard: Vec<String> = server.heard.try_iter().collect();
    let subjects: Vec<&String> = heard.iter().filter(|l| l.starts_with("Subject: ")).collect();
    assert_eq!(subjects.len(), 3, "{subjects:#?}");
    assert_eq!(sorted(done), (0..401).collect::<Vec<_>>());
    // Each mail is in one of them.
    for n in 0..400 {
        let line = format!("Realserver [10.0.0.{n}]:tcp:80 - DOWN: =>");
        assert_eq!(heard.iter().filter(|l| l.starts_with(&line)).count(), 1, "{line}");
    }
    let whole = "Subject: [svr1] Virtualserver [10.1.0.1]:tcp:80 - DOWN\r\n".to_owned();
    assert!(subjects.contains(&&whole), "{subjects:#?}");
}

#[test]
fn what_is_urgent_goes_first_and_mails_on_one_thing_keep_their_order() {
    let mut queue = Queue {
        urgent: VecDeque::new(),
        other: VecDeque::new(),
        dropped: 0,
        busy: BTreeSet::new(),
    };
    let mut done = |_| {};
    let jobs = [
        ("server A - DOWN", false),
        ("server A - UP", false),
        ("server B - DOWN", false),
        ("service - DOWN", true),
    ];
    for (tag, (subject, urgent)) in jobs.into_iter().enumerate() {
        queue.add(Job { tag, text: MailText { urgent, ..text(subject) } }, &mut done);
    }
    let next = |queue: &mut Queue<usize>| queue.next().map(|batch| (batch.mails[0].tag, batch));
    let mut taken = Vec::new();
    while let Some((tag, batch)) = next(&mut queue) {
        taken.push((tag, batch));
    }
    let tags: Vec<usize> = taken.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(tags, [3, 0, 2], "the second one on A waits for the first");
    queue.free(&taken[1].1);
    assert_eq!(next(&mut queue).map(|(tag, _)| tag), Some(1));
}

#[test]
fn what_is_dropped_is_counted() {
    let mut queue = Queue {
        urgent: VecDeque::new(),
        other: VecDeque::new(),
        dropped: 0,
        busy: BTreeSet::new(),
    };
    let mut gone = Vec::new();
    for tag in 0..WAITING + 3 {
        queue.add(Job { tag, text: text(&tag.to_string()) }, &mut |tag| gone.push(tag));
    }
    queue.add(Job { tag: 0, text: MailText { urgent: true, ..text("x") } }, &mut |_| panic!());
    assert_eq!((queue.dropped, gone), (3, vec![0, 1, 2]));
}

#[test]
fn a_mail_has_keepalived_form() {
    let server = Server::polite();
    let done = deliver(server.mail(), vec![text("VRRP Instance VRRP1 - Entering MASTER state")]);
    assert_eq!(done, [0]);
    let mut heard: Vec<String> = server.heard.try_iter().collect();
    let date = heard.iter().position(|l| l.starts_with("Date: ")).unwrap();
    // Date: Mon, 23 Nov 2026 19:32:36 +0100
    let date = heard.remove(date);
    let parts: Vec<&str> = date.split_whitespace().collect();
    assert_eq!((parts.len(), parts[1].len(), parts[6].len()), (7, 4, 5), "{date}");
    assert_eq!(
        heard.concat(),
        "EHLO svr1.example.org\r\n\
         MAIL FROM:<svr1@mydomain.com>\r\n\
         RCPT TO:<root@mydomain.com>\r\n\
         RCPT TO:<admin@svr1.example.org>\r\n\
         DATA\r\n\
         From: HA <svr1@mydomain.com>\r\n\
         Subject: [svr1] VRRP Instance VRRP1 - Entering MASTER state\r\n\
         X-Mailer: Keepalived\r\n\
         To: root@mydomain.com,\r\n Admin <admin>\r\n\
         \r\n\
         => VRRP Instance is now owning VRRP VIPs <=\r\n\
         \r\n\
         .\r\n\
         QUIT\r\n"
    );
}

#[test]
fn long_and_odd_texts_do_no_harm() {
    let server = Server::polite();
    let odd = MailText {
        subject: format!("x\r\nBcc: all@example.org {}", "ä".repeat(200)),
        body: ".\r\n".repeat(400),
        urgent: false,
    };
    assert_eq!(sorted(deliver(server.mail(), vec![odd, text("next")])), [0, 1]);
    let heard: Vec<String> = server.heard.try_iter().collect();
    assert!(heard.iter().all(|l| !l.starts_with("Bcc")));
    let subject = heard.iter().find(|l| l.starts_with("Subject")).unwrap();
    assert!(subject.trim_end().len() <= "Subject: ".len() + 255);
    // Non-ASCII octets are announced, and the next mail arrives complete.
    assert!(heard.contains(&"MAIL FROM:<svr1@mydomain.com> BODY=8BITMIME\r\n".to_owned()));
    assert!(heard.contains(&"Subject: [svr1] next\r\n".to_owned()));
}

#[test]
fn a_refusal_for_good_is_not_tried_again() {
    let server = Server::start(|_, line| match line.split(':').next().unwrap() {
        "MAIL FROM" => "550 not you\r\n".into(),
        _ => polite(line).into(),
    });
    assert_eq!(deliver(server.mail(), vec![text("a")]), [0]);
    let heard: Vec<String> = server.heard.try_iter().collect();
    assert_eq!(heard.iter().filter(|l| l.starts_with("MAIL")).count(), 1);
    assert!(heard.contains(&"QUIT\r\n".to_owned()));
}

#[test]
fn one_refused_recipient_does_not_take_the_mail_from_the_others() {
    let server = Server::start(|_, line| {
        if line.contains("root@") { "550 nobody\r\n".into() } else { polite(line).into() }
    });
    assert_eq!(deliver(server.mail(), vec![text("a")]), [0]);
    let heard: Vec<String> = server.heard.try_iter().collect();
    assert!(heard.contains(&".\r\n".to_owned()), "{heard:?}");
}

#[test]
fn a_server_that_is_busy_is_tried_again() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let server = Server::start(move |_, line| {
        if line.starts_with("MAIL") && first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            "450 later\r\n".into()
        } else {
            polite(line).into()
        }
    });
    assert_eq!(deliver(server.mail(), vec![text("a"), text("a")]), [0, 1]);
    let heard: Vec<String> = server.heard.try_iter().collect();
    assert_eq!(heard.iter().filter(|l| l.as_str() == ".\r\n").count(), 2);
}

#[test]
fn a_server_that_says_nothing_costs_one_step_of_time() {
    testing::run(async {
        let server = Server::start(|_, _| String::new());
        let mail = server.mail();
        let error = send(&mail, b"x").await.unwrap_err();
        assert!(matches!(error, SmtpError::Slow("greeting", _)), "{error}");
        assert!(!error.is_final());
    });
}

#[test]
fn a_server_that_never_stops_talking_is_cut_off() {
    testing::run(async {
        let server = Server::start(|peer, _| {
            while peer.write_all(&[b'2'; 4096]).is_ok() {}
            String::new()
        });
        let mut mail = server.mail();
        mail.timeout = Duration::from_secs(60);
        let error = send(&mail, b"x").await.unwrap_err();
        assert!(matches!(error, SmtpError::Step("greeting", _)), "{error}");
    });
}

#[test]
fn a_server_that_talks_nonsense_is_an_error() {
    testing::run(async {
        for nonsense in
            ["\u{0}\u{1}\r\n", "999 what\r\n", "2\r\n", "250", "HTTP/1.1 200 OK\r\n\r\n"]
        {
            let server = Server::start(move |_, _| nonsense.into());
            assert!(send(&server.mail(), b"x").await.is_err(), "{nonsense:?}");
        }
    });
}

#[test]
fn answers_need_not_be_utf_8() {
    let latin = |line: &str| {
        polite(line).replace("fine", "f\u{fc}gt sich").replace("hello", "gr\u{fc}\u{df} Gott")
    };
    let server = Server::speak(move |_, line| latin(line).chars().map(|c| c as u8).collect());
    assert_eq!(deliver(server.mail(), vec![text("a")]), [0]);
    let heard: Vec<String> = server.heard.try_iter().collect();
    assert!(heard.contains(&".\r\n".to_owned()), "{heard:?}");
    assert_eq!(heard.iter().filter(|l| l.starts_with("MAIL")).count(), 1);
}

#[test]
fn a_refusal_is_one_line_of_the_log() {
    testing::run(async {
        let server = Server::speak(|_, line| match line.split(':').next().unwrap() {
            "MAIL FROM" => {
                let line = [&b"550-\xfcberlastet \x1b[31m"[..], &[b'x'; 600], b"\r\n"].concat();
                [line.repeat(20), b"550 no\r\n".to_vec()].concat()
            }
            _ => polite(line).into(),
        });
        let error = send(&server.mail(), b"x").await.unwrap_err();
        assert!(error.is_final());
        let text = error.to_string();
        assert!(text.starts_with("MAIL FROM: permanent error (550): ?berlastet"), "{text}");
        assert!(text.len() < LONGEST_REASON + 20 && !text.contains(char::is_control), "{text}");
    });
}

#[test]
fn an_absent_server_is_given_up_in_the_end() {
    // Virtual time: the waits between attempts pass at once.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mail = Mail { port: free, ..Server::polite().mail() };
        let (jobs, receiver) = mpsc::unbounded_channel();
        for tag in 0..WAITING + 20 {
            jobs.send(Job { tag, text: text("a") }).unwrap();
        }
        let mut jobs = Some(jobs);
        let settings = Settings { router: "svr1".into(), mail: Some(mail) };
        let (_keep, settings) = watch::channel(Arc::new(settings));
        let start = Instant::now();
        let mut done = Vec::new();
        run(settings, receiver, |tag| {
            done.push(tag);
            if done.len() == WAITING + 20 {
                jobs = None;
            }
        })
        .await;
        done.sort_unstable();
        assert_eq!(done, (0..WAITING + 20).collect::<Vec<_>>());
        // Six attempts for the first ones, one for each that became old meanwhile.
        let all: Duration = RETRY.iter().sum();
        assert!((all..3 * (OLD + all)).contains(&start.elapsed()), "{:?}", start.elapsed());
    });
}

#[test]
fn at_the_end_nothing_is_tried_again() {
    testing::run(async {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mail = Mail { port: free, ..Server::polite().mail() };
        let (jobs, receiver) = mpsc::unbounded_channel();
        for tag in 0..3 {
            jobs.send(Job { tag, text: text("a") }).unwrap();
        }
        let settings = Settings { router: "svr1".into(), mail: Some(mail) };
        let (_keep, settings) = watch::channel(Arc::new(settings));
        let mut done = Vec::new();
        let work = run(settings, receiver, |tag| done.push(tag));
        // The first attempt fails; the stop comes while it waits for the second one.
        let end = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(jobs);
        };
        let limit = RETRY[0] / 2;
        timeout(limit, async { tokio::join!(work, end) }).await.expect("no waiting");
        assert_eq!(done, [0, 1, 2]);
    });
}

#[test]
fn without_a_server_mails_are_dropped() {
    testing::run(async {
        let (jobs, receiver) = mpsc::unbounded_channel();
        jobs.send(Job { tag: 1, text: text("a") }).unwrap();
        drop(jobs);
        let (_keep, settings) = watch::channel(Arc::new(Settings::default()));
        let mut done = Vec::new();
        run(settings, receiver, |tag| done.push(tag)).await;
        assert_eq!(done, [1]);
    });
}

#[test]
fn envelopes() {
    let ok = |text| envelope(text, "host").unwrap().to_string();
    assert_eq!(ok("a@b.org"), "a@b.org");
    assert_eq!(ok("A B <a@b.org>"), "a@b.org");
    assert_eq!(ok("root"), "root@host");
    assert_eq!(ok("\"x <y>\" <a@b.org>"), "a@b.org");
    for bad in ["", "<>", "a b@c", "a@b c", "x> <y"] {
        assert!(envelope(bad, "host").is_err(), "{bad}");
    }
}
