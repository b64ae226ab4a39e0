use std::os::unix::net::UnixDatagram;

use tracing::Level;

use super::record::Record;
use super::*;
use crate::base::WallTime;

fn settings() -> Settings {
    Settings {
        identity: "evervip".into(),
        suffix: String::new(),
        syslog: true,
        facility: Facility::DAEMON,
        console: false,
        file: None,
        detail: 0,
    }
}

/// The records that this closure logs.
#[allow(clippy::vec_box, reason = "as they come from the queue")]
fn recorded(detail: u8, log: impl FnOnce()) -> Vec<Box<Record>> {
    let level = Settings { detail, ..settings() }.level();
    let (_, collector, _, [mut common, _]) = ring::make(level).unwrap();
    tracing::subscriber::with_default(collector, log);
    core::iter::from_fn(|| common.pop()).collect()
}

#[test]
fn fields_of_an_instance_are_kept_apart_and_others_appended() {
    let records = recorded(0, || {
        tracing::info!(
            instance = %"VRRP1",
            vrid = 41_u8,
            state = "MASTER",
            "VRRP_Instance({}) Entering MASTER STATE",
            "VRRP1"
        );
        tracing::warn!(errno = 5, "odd\nthing");
        tracing::info!(service = %"[10.0.0.1]:tcp:80", "Gained quorum for VS [10.0.0.1]:tcp:80");
    });
    let [first, second, third] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(first.text, "VRRP_Instance(VRRP1) Entering MASTER STATE");
    assert_eq!(first.instance.as_deref(), Some("VRRP1"));
    assert_eq!((first.vrid, first.state.as_deref()), (Some(41), Some("MASTER")));
    assert_eq!((second.text.as_str(), second.level), ("odd thing errno=5", Level::WARN));
    assert_eq!(third.text, "Gained quorum for VS [10.0.0.1]:tcp:80");
    assert_eq!(third.service.as_deref(), Some("[10.0.0.1]:tcp:80"));
}

#[test]
fn details_are_logged_when_asked_for() {
    let count = |detail| {
        recorded(detail, || {
            tracing::info!("a");
            tracing::debug!("b");
            tracing::trace!("c");
        })
        .len()
    };
    assert_eq!([count(0), count(1), count(2)], [1, 2, 3]);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let (shared, collector, real_time, [mut common, mut own]) =
        ring::make(LevelFilter::INFO).unwrap();
    tracing::subscriber::with_default(collector, || {
        for n in 0..5000 {
            tracing::info!("{n}");
        }
        ring::own(Some(real_time));
        tracing::info!("real-time");
        ring::own(None);
    });
    let kept = core::iter::from_fn(|| common.pop()).count() as u64;
    assert_eq!(kept + shared.lost.total.load(Ordering::Relaxed), 5000);
    assert!(kept >= 4000);
    // The other queue has room nevertheless.
    assert_eq!(own.pop().unwrap().text, "real-time");
}

#[test]
fn lines_that_others_cause_leave_room_for_changes_of_state() {
    let (shared, collector, real_time, [_, mut own]) = ring::make(LevelFilter::DEBUG).unwrap();
    tracing::subscriber::with_default(collector, || {
        ring::own(Some(real_time));
        for n in 0..10_000 {
            tracing::warn!(target: crate::status::PEER, "dropped an advert: {n}");
            tracing::debug!("detail {n}");
        }
        for n in 0..2000 {
            tracing::info!("Entering MASTER STATE {n}");
        }
        ring::own(None);
    });
    let kept: Vec<_> = core::iter::from_fn(|| own.pop()).map(|record| record.text).collect();
    let states = kept.iter().filter(|text| text.starts_with("Entering")).count();
    assert_eq!(states, 2000);
    assert_eq!(kept.len() as u64 + shared.lost.total.load(Ordering::Relaxed), 22_000);
}

#[test]
fn a_console_line_has_keepalived_form() {
    let mut record = Record::plain(Level::INFO, "text".into());
    record.time = WallTime { secs: 1_795_462_356, nanos: 0 };
    let line = file::line(&record);
    let want = crate::sys::clock::LocalTime::at(record.time);
    assert_eq!(line, format!("{want}: text\n"));
    assert_eq!(want.to_string().len(), "Mon Nov 23 19:32:36 2026".len());
}

#[test]
fn syslog_gets_lines_also_after_it_was_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut out =
        syslog::Syslog::at(&path, &Settings { facility: "local1".parse().unwrap(), ..settings() });
    let mut record = Record::plain(Level::WARN, "first".into());
    // No daemon: dropped, and reported later.
    let now = crate::sys::clock::now();
    out.write_at(&record, now);
    let listen = || {
        let _ = std::fs::remove_file(&path);
        UnixDatagram::bind(&path).unwrap()
    };
    let take = |socket: &UnixDatagram| {
        let mut buffer = [0; 1000];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    let socket = listen();
    socket.set_nonblocking(true).unwrap();
    record.text = "second".into();
    // There is no attempt for each line.
    out.write_at(&record, now);
    assert!(socket.recv(&mut [0; 10]).is_err());
    out.write_at(&record, now + Duration::from_millis(100));
    assert!(take(&socket).ends_with("2 lines were dropped: syslog did not take them"));
    let line = take(&socket);
    // local1 is 17, a warning 4.
    assert!(line.starts_with("<140>"), "{line}");
    assert!(line.ends_with(&format!(" evervip[{}]: second", std::process::id())), "{line}");
    drop(socket);
    let socket = listen();
    record.text = "third".into();
    // A daemon that existed a moment ago is tried at once.
    out.write_at(&record, now + Duration::from_millis(100));
    assert!(take(&socket).ends_with(": third"));
    drop(socket);
    std::fs::remove_file(&path).unwrap();
    let mut later = now + Duration::from_secs(1);
    (0..10).for_each(|_| {
        out.write_at(&record, later);
        later = later + Duration::from_secs(11);
    });
    let socket = listen();
    // It has been absent for long: the next attempt may be ten seconds later.
    out.write_at(&record, later);
    assert!(take(&socket).contains("10 lines were dropped"));
}

#[test]
fn the_journal_gets_fields() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    assert!(journald::Journal::at(&path, &settings()).is_none());
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut out = journald::Journal::at(&path, &settings()).unwrap();
    let mut record = Record::plain(Level::INFO, "Entering MASTER STATE".into());
    record.instance = Some("VRRP1".into());
    record.vrid = Some(41);
    record.state = Some("MASTER".into());
    record.service = Some("FWM 123".into());
    out.write(&record);
    let mut buffer = [0; 1000];
    let n = socket.recv(&mut buffer).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&buffer[..n]),
        "MESSAGE=Entering MASTER STATE\nPRIORITY=6\nSYSLOG_IDENTIFIER=evervip\n\
         SYSLOG_FACILITY=3\nINSTANCE=VRRP1\nVRID=41\nSTATE=MASTER\nSERVICE=FWM 123\n"
    );
}

#[test]
fn facilities_have_keepalived_names() {
    for (text, number) in [("0", 16), ("7", 23), ("local3", 19), ("user", 1), ("daemon", 3)] {
        assert_eq!(text.parse::<Facility>().map(Facility::number), Ok(number), "{text}");
    }
    for text in ["8", "local8", "local", "", "kern", "LOCAL1"] {
        assert!(text.parse::<Facility>().is_err(), "{text}");
    }
}

#[test]
fn a_role_has_a_name_and_a_file_of_its_own() {
    let all = Settings { file: Some("/var/log/ha.log".into()), ..settings() };
    let role = all.for_role("vrrp");
    assert_eq!(role.identity, "evervip_vrrp");
    assert_eq!(role.file, Some("/var/log/ha_vrrp.log".into()));
    let named = Settings { suffix: "_blue_x".into(), ..all };
    assert_eq!(named.for_role("vrrp").identity, "evervip_vrrp_blue_x");
    assert_eq!(named.for_role("vrrp").file, Some("/var/log/ha_vrrp_blue_x.log".into()));
    assert_eq!(named.for_daemon().identity, "evervip_blue_x");
}
