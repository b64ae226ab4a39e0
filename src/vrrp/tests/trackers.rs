//! Tracked files and processes and their reports. Links whose changes count only after they have lasted.

use super::*;
use crate::model::tracker::{TrackFile, TrackProcess, Tracked};
use crate::status::vrrp::TrackerKind;
use crate::status::{ProcessReport, TrackReport};

fn file(name: &str) -> TrackFile {
    TrackFile {
        name: name.into(),
        path: format!("/run/{name}").into_bytes().into(),
        weight: 1,
        reverse: false,
        init: None,
    }
}

fn reference(name: &str, weight: i16, reverse: bool) -> Tracked {
    Tracked { name: name.into(), weight, reverse }
}

/// The primary with priority 100 that tracks a file.
fn tracking(weight: i16, reverse: bool) -> Vrrp {
    let mut config = failover(100);
    config.track_files.push(file("f"));
    let extras = config.instances[0].extras.get_or_insert_default();
    extras.track_files.push(reference("f", weight, reverse));
    config
}

impl Host {
    fn file(&mut self, name: &str, value: i32) {
        self.event(Event::Report(TrackReport::file(name.into(), value)));
    }

    fn effective_priority(&self) -> u8 {
        self.engine.view(self.now).instances[0].effective_priority
    }

    fn causes(&self) -> Vec<String> {
        self.engine.view(self.now).instances[0].faults.clone()
    }
}

#[test]
fn nothing_is_decided_before_the_number_in_a_file_is_known() {
    for weight in [0, 1] {
        let mut host = Host::new(tracking(weight, false));
        host.pass(500 * MS);
        assert_eq!((host.state(), host.announced()), (State::Init, vec![]), "{weight}");
        host.file("f", 0);
        assert_eq!((host.state(), host.effective_priority()), (State::Backup, 100));
        host.pass(10 * SECOND);
        assert_eq!(host.state(), State::Master);
    }
    // Reports before the configuration count.
    let mut host = Host::off();
    host.file("f", 20);
    host.event(Event::Reload(Arc::new(tracking(2, false))));
    host.event(Event::Kernel(host.kernel()));
    assert_eq!((host.state(), host.effective_priority()), (State::Backup, 140));
    // The wait for a report is limited: then the file counts as missing.
    let mut host = Host::new(tracking(0, false));
    host.pass(1999 * MS);
    assert_eq!(host.state(), State::Init);
    host.pass(MS);
    assert_eq!(host.state(), State::Backup);
    let mut host = Host::new(tracking(0, true));
    host.pass(2 * SECOND);
    assert_eq!((host.state(), host.causes()), (State::Fault, vec!["file f".to_owned()]));
    host.file("f", 1);
    assert_eq!(host.state(), State::Backup);
}

#[test]
fn the_number_times_the_weight_is_added_to_the_priority() {
    let mut host = Host::new(tracking(2, false));
    host.file("f", 3);
    host.pass(10 * SECOND);
    assert_eq!((host.state(), host.effective_priority()), (State::Master, 106));
    for (value, priority) in [(0, 100), (-20, 60), (-126, 1), (500, 254), (i32::MAX, 254)] {
        host.file("f", value);
        assert_eq!((host.state(), host.effective_priority()), (State::Master, priority), "{value}");
    }
    // From -254 on it is a fault.
    for value in [-127, i32::MIN] {
        host.file("f", value);
        assert_eq!((host.state(), host.causes()), (State::Fault, vec!["file f".to_owned()]));
        host.file("f", -126);
        assert_eq!((host.state(), host.effective_priority()), (State::Backup, 1), "{value}");
    }
    let mut host = Host::new(tracking(-254, true));
    host.file("f", -1);
    assert_eq!(host.state(), State::Fault);
    host.file("f", 1);
    assert_eq!((host.state(), host.effective_priority()), (State::Backup, 254));
}

#[test]
fn without_a_weight_any_other_number_than_0_is_a_fault() {
    let mut host = Host::new(tracking(0, false));
    for (value, state) in [(0, State::Backup), (1, State::Fault), (0, State::Backup)] {
        host.file("f", value);
        assert_eq!(host.state(), state, "{value}");
    }
    let mut host = Host::new(tracking(0, true));
    for (value, state) in [(-1, State::Backup), (0, State::Fault), (9, State::Backup)] {
        host.file("f", value);
        assert_eq!(host.state(), state, "{value}");
    }
}

#[test]
fn the_weight_of_the_group_comes_before_that_of_the_member() {
    let mut config = tracking(1, false);
    config.groups.push(model::SyncGroup {
        name: "G".into(),
        members: vec![config.instances[0].name.clone()],
        track_files: vec![reference("f", 10, false)],
        ..Default::default()
    });
    let mut host = Host::new(config.clone());
    host.file("f", 3);
    assert_eq!(host.effective_priority(), 130);
    // A weight of 0 at the group leaves the member's weight in effect.
    config.groups[0].track_files[0].weight = 0;
    host.event(Event::Reload(Arc::new(config)));
    assert_eq!((host.state(), host.effective_priority()), (State::Backup, 103));
}

#[test]
fn a_reload_keeps_what_is_known_of_files() {
    let mut host = Host::new(tracking(1, false));
    host.file("f", 7);
    host.pass(10 * SECOND);
    assert_eq!((host.state(), host.effective_priority()), (State::Master, 107));
    host.event(Event::Reload(Arc::new(tracking(2, false))));
    assert_eq!((host.state(), host.effective_priority()), (State::Master, 114));
    // A master continues while nothing is known about a new file.
    let mut more = tracking(2, false);
    more.track_files.push(file("g"));
    let extras = more.instances[0].extras.get_or_insert_default();
    extras.track_files.push(reference("g", 0, false));
    host.event(Event::Reload(Arc::new(more.clone())));
    assert_eq!((host.state(), host.effective_priority()), (State::Master, 114));
    host.file("g", 1);
    assert_eq!(host.state(), State::Fault);
    // Reports about names that are not configured are forgotten.
    host.event(Event::Reload(Arc::new(failover(100))));
    host.pass(10 * SECOND);
    assert_eq!((host.state(), host.effective_priority()), (State::Master, 100));
    host.event(Event::Reload(Arc::new(more)));
    assert_eq!(host.state(), State::Master);
    host.file("g", 0);
    host.file("f", 1);
    assert_eq!((host.state(), host.effective_priority()), (State::Master, 102));
}

/// The primary with priority 100 that tracks a process.
fn tracking_process(weight: i16, reverse: bool) -> Vrrp {
    let mut config = failover(100);
    config.track_processes.push(TrackProcess {
        name: "p".into(),
        words: vec![b"haproxy"[..].into()],
        arguments: None,
        full_command: false,
        quorum: 1,
        quorum_max: None,
        terminate_delay: Duration::ZERO,
        fork_delay: Duration::ZERO,
    });
    let extras = config.instances[0].extras.get_or_insert_default();
    extras.track_processes.push(reference("p", weight, reverse));
    config
}

impl Host {
    fn process(&mut self, runs: bool, count: u32) {
        self.event(Event::Report(ProcessReport { name: "p".into(), runs, count }.into()));
    }

    /// The trackers in the view.
    fn shown(&self) -> Vec<String> {
        let view = self.engine.view(self.now).trackers;
        let text = |value: Option<i64>| value.map_or("-".into(), |value| value.to_string());
        let good = |good: Option<bool>| good.map_or("-".into(), |good| good.to_string());
        view.into_iter()
            .map(|t| format!("{} {} {} {}", t.kind.word(), t.name, good(t.good), text(t.value)))
            .collect()
    }
}

#[test]
fn a_process_counts_by_whether_it_runs() {
    for (weight, reverse, running, not) in [
        (0, false, Some(100), None),
        (0, true, None, Some(100)),
        (20, false, Some(120), Some(100)),
        (-20, false, Some(100), Some(80)),
        (-20, true, Some(100), Some(120)),
    ] {
        let mut host = Host::new(tracking_process(weight, reverse));
        host.pass(SECOND);
        assert_eq!(host.state(), State::Init, "decided before it is known");
        for (runs, priority) in [(true, running), (false, not), (true, running)] {
            host.process(runs, 1);
            let fit = (host.state() == State::Backup).then(|| host.effective_priority());
            assert_eq!(fit, priority, "{weight} {reverse} {runs}");
        }
    }
    let mut host = Host::new(tracking_process(0, false));
    host.process(false, 0);
    assert_eq!(host.causes(), ["process p"]);
    // Without a report within the time limit, the process is considered not running.
    let mut host = Host::new(tracking_process(0, false));
    host.pass(2 * SECOND);
    assert_eq!(host.state(), State::Fault);
    host.process(true, 1);
    assert_eq!(host.state(), State::Backup);
}

/// The primary with priority 100 that tracks a BFD session.
pub(super) fn tracking_session(weight: i16, reverse: bool) -> Vrrp {
    let mut config = failover(100);
    config.bfds.push(model::extras::Bfd {
        name: "b".into(),
        neighbor: [10, 0, 2, 72].into(),
        source: None,
        min_rx: 10 * MS,
        min_tx: 10 * MS,
        idle_tx: SECOND,
        multiplier: 5,
        passive: false,
        ttl: 255,
        least_ttl: 255,
        multihop: false,
        for_vrrp: true,
        for_checker: true,
    });
    let extras = config.instances[0].extras.get_or_insert_default();
    extras.track_bfds.push(reference("b", weight, reverse));
    config
}

#[test]
fn a_session_counts_by_whether_it_is_up() {
    for (weight, reverse, up, down) in [
        (0, false, Some(100), None),
        (0, true, None, Some(100)),
        (20, false, Some(120), Some(100)),
        (-20, false, Some(100), Some(80)),
        (-20, true, Some(100), Some(120)),
    ] {
        let mut host = Host::new(tracking_session(weight, reverse));
        // There is no time limit here: a process that replaces another one waits for sessions that were up.
        host.pass(10 * SECOND);
        assert_eq!(host.state(), State::Init, "decided before it is known");
        for (is_up, priority) in [(false, down), (true, up), (false, down)] {
            host.event(Event::Report(TrackReport::bfd("b".into(), is_up)));
            let fit = (host.state() == State::Backup).then(|| host.effective_priority());
            assert_eq!(fit, priority, "{weight} {reverse} {is_up}");
        }
    }
    let mut host = Host::new(tracking_session(0, false));
    host.event(Event::Report(TrackReport::bfd("b".into(), false)));
    assert_eq!(
        (host.causes(), host.shown()),
        (vec!["BFD instance b".into()], vec!["bfd b false -".into()])
    );
    // The tracking by a group applies to its members; a reload keeps the known state.
    let mut config = tracking_session(0, false);
    config.instances[0].extras = None;
    config.groups.push(model::SyncGroup {
        name: "G".into(),
        members: vec![config.instances[0].name.clone()],
        track_bfds: vec![reference("b", 7, false)],
        ..Default::default()
    });
    host.event(Event::Reload(Arc::new(config)));
    assert_eq!((host.state(), host.effective_priority()), (State::Backup, 100));
    host.event(Event::Report(TrackReport::bfd("b".into(), true)));
    assert_eq!(host.effective_priority(), 107);
}

#[test]
fn each_change_of_what_is_tracked_is_one_line() {
    let mut config = tracking_process(5, false);
    config.track_files.push(file("f"));
    config.bfds = tracking_session(7, false).bfds;
    let extras = config.instances[0].extras.get_or_insert_default();
    extras.track_files.push(reference("f", 1, false));
    extras.track_bfds.push(reference("b", 7, false));
    let mut host = Host::new(config);
    host.logged();
    for (good, number) in [(true, 3), (true, 3), (false, -4), (false, -4), (true, 3)] {
        host.event(Event::Report(TrackReport::bfd("b".into(), good)));
        host.process(good, 1);
        host.file("f", number);
    }
    let mut lines = host.logged();
    lines.retain(|line| ["rack file", "BFD", "Quorum"].iter().any(|part| line.contains(part)));
    let of = |session: &str, quorum: &str, number: i32| {
        [
            format!("VRRP_Instance(VRRP1) Tracked BFD instance b is {session}"),
            format!("Quorum {quorum} for tracked process p"),
            format!("Track file f is now {number}"),
        ]
    };
    let want = [of("UP", "gained", 3), of("DOWN", "lost", -4), of("UP", "gained", 3)];
    assert_eq!(lines, want.concat());
}

#[test]
fn a_view_shows_what_is_tracked_by_name() {
    let mut config = tracking_process(0, false);
    config.track_files.push(file("f"));
    config.track_files.push(file("unused"));
    let extras = config.instances[0].extras.get_or_insert_default();
    extras.track_files.push(reference("f", 1, false));
    config.scripts.push(sample::script("chk", 1, 1));
    let mut host = Host::new(config);
    let unknown = ["script chk - -", "file f - -", "file unused - -", "process p - -"];
    assert_eq!(host.shown(), unknown);
    host.file("f", -3);
    host.file("unused", 7);
    host.process(false, 4);
    let known = ["script chk - -", "file f - -3", "file unused - 7", "process p false 4"];
    assert_eq!(host.shown(), known);
    host.process(true, 5);
    assert_eq!(host.shown()[3], "process p true 5");
    // A view in parts has the same contents.
    let (whole, mut parts) = (host.engine.view(host.now), Vec::new());
    let mut next = Some(Position::default());
    while let Some(begin) = next {
        let (part, then) = host.engine.part_of_view(host.now, begin, 1);
        parts.extend(part.trackers);
        next = then;
    }
    assert_eq!(parts, whole.trackers);
    assert_eq!(parts[1].kind, TrackerKind::File);
}

/// Priority 100 and an interval of a second, master; three adverts may be lost unless said otherwise.
fn delayed(down: Duration, up: Duration, down_timer_adverts: u8) -> Host {
    let mut config = failover(100);
    let instance = &mut config.instances[0];
    (instance.advert_int, instance.down_timer_adverts) = (SECOND, down_timer_adverts);
    let interface = instance.interface.clone();
    config.interface_delays.push(model::extras::InterfaceDelay { interface, down, up });
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    host.look();
    host
}

impl Host {
    fn carrier(&mut self, up: bool) {
        self.event(Event::Link(link(ETH, "enp0s8", up)));
    }
}

#[test]
fn a_link_that_is_down_for_less_than_its_delay_stays_up() {
    let mut host = delayed(SECOND, Duration::ZERO, 3);
    host.carrier(false);
    host.pass(999 * MS);
    // Reported again, by a snapshot.
    let mut kernel = host.kernel();
    kernel.links[0].up = false;
    host.event(Event::Kernel(kernel));
    assert_eq!(host.state(), State::Master);
    host.look();
    host.carrier(true);
    // Switches may have lost the location of the address.
    host.pass(SECOND);
    assert!(!host.frames().is_empty(), "nothing is announced");
    host.pass(10 * SECOND);
    assert_eq!((host.state(), host.priorities()), (State::Master, vec![100; 11]));
    // A delay begins anew with each loss, and ends.
    host.carrier(false);
    host.pass(999 * MS);
    assert_eq!(host.state(), State::Master);
    host.pass(MS);
    assert_eq!(host.state(), State::Fault);
    // No delay for the other way.
    host.carrier(true);
    assert_eq!(host.state(), State::Backup);
}

#[test]
fn a_link_counts_as_up_when_it_stays_so() {
    let mut host = delayed(Duration::ZERO, 5 * SECOND, 3);
    host.carrier(false);
    assert_eq!(host.state(), State::Fault);
    host.carrier(true);
    host.pass(4 * SECOND);
    host.carrier(false);
    host.pass(4 * SECOND);
    host.carrier(true);
    host.pass(4999 * MS);
    assert_eq!(host.state(), State::Fault);
    host.pass(MS);
    assert_eq!(host.state(), State::Backup);
    // Deleted and recreated with another index: its first state counts at once.
    host.event(Event::LinkGone(ETH));
    assert_eq!(host.state(), State::Fault);
    let other = IfIndex(30);
    host.event(Event::Link(link(other, "enp0s8", true)));
    host.event(Event::Object(Change::address(other, prefix("10.0.2.71/24"), true, false)));
    assert_eq!(host.state(), State::Backup);
}

#[test]
fn a_loss_counts_before_others_stop_waiting() {
    // Slightly less than two adverts.
    let mut host = delayed(60 * SECOND, Duration::ZERO, 3);
    host.carrier(false);
    host.pass(1996 * MS);
    assert_eq!(host.state(), State::Master);
    host.pass(MS);
    assert_eq!(host.state(), State::Fault);
    // If no advert may be lost there is no time for delays.
    let mut host = delayed(60 * SECOND, 60 * SECOND, 1);
    host.carrier(false);
    assert_eq!(host.state(), State::Fault);
    host.carrier(true);
    assert_eq!(host.state(), State::Backup);
}
