//! Why states changed, as the view of the causes tells it.

use super::*;
use crate::model::tracker::{TrackFile, Tracked};
use crate::status::TrackReport;
use crate::status::cause::{CHANGES, InstanceHistory};

impl Host {
    fn history(&self, position: usize) -> InstanceHistory {
        let (view, next) = self.engine.part_of_histories(self.now, Position::default(), 64);
        assert_eq!(next, None);
        view.instances[position].clone()
    }

    /// The causes of an instance in words, the newest one first.
    fn why(&self, position: usize) -> Vec<String> {
        let changes = self.history(position).changes;
        changes.iter().map(|c| format!("{} {}: {}", c.from, c.to, c.cause)).collect()
    }

    fn last_why(&self) -> String {
        self.why(0).into_iter().next().unwrap()
    }
}

/// The failover scenario; the instance also tracks this file.
fn tracking(priority: u8, weight: i16) -> Vrrp {
    let mut config = failover(priority);
    let (name, path) = (Name::from("f"), b"/run/f".to_vec().into());
    config.track_files.push(TrackFile { name, path, weight: 1, reverse: false, init: None });
    let extras = config.instances[0].extras.get_or_insert_default();
    extras.track_files.push(Tracked { name: "f".into(), weight, reverse: false });
    config
}

#[test]
fn a_start_and_the_silence_after_it() {
    let mut host = Host::new(failover(100));
    let begun = host.now;
    assert_eq!(host.why(0), ["INIT BACKUP: the process started"]);
    host.pass(10 * SECOND);
    let history = host.history(0);
    assert_eq!((history.state, history.since), (State::Master, history.changes[0].at));
    assert_eq!(history.changes[1].at, begun);
    assert_eq!(
        host.why(0),
        ["BACKUP MASTER: no advert of any master for 3.609 s", "INIT BACKUP: the process started"]
    );
}

#[test]
fn a_silent_master_is_named_with_the_length_of_its_silence() {
    let mut host = Host::backup();
    assert_eq!(host.history(0).master, Some((PEER.into(), 200)));
    host.pass(2 * SECOND);
    host.hear(PEER, 201);
    host.pass(10 * SECOND);
    let silence = "BACKUP MASTER: no advert of 10.0.2.72 (priority 201) for 3.609 s";
    assert_eq!(host.last_why(), silence);
    assert_eq!(host.history(0).master, None);
}

#[test]
fn routers_that_it_does_not_follow_are_not_blamed() {
    let mut host = Host::backup();
    for _ in 0..10 {
        host.hear([10, 0, 2, 73], 90);
        host.pass(SECOND / 2);
    }
    let silence = "BACKUP MASTER: no advert of 10.0.2.72 (priority 200) for 3.609 s";
    assert_eq!(host.last_why(), silence);
}

#[test]
fn a_farewell_is_no_silence() {
    let mut host = Host::backup();
    host.pass(SECOND);
    host.hear(PEER, 0);
    host.pass(SECOND);
    assert_eq!(host.last_why(), "BACKUP MASTER: 10.0.2.72 ceased to be master (priority 0)");
}

#[test]
fn a_master_of_lower_priority_is_displaced() {
    let mut host = Host::new(failover(200));
    for _ in 0..5 {
        host.hear(PEER, 100);
        host.pass(SECOND);
    }
    let lower = "BACKUP MASTER: the master 10.0.2.72 has priority 100, ours is 200";
    assert_eq!(host.last_why(), lower);
    // The same after a preemption delay, during which it was followed.
    let mut config = failover(200);
    config.instances[0].preempt = Preempt::After(5 * SECOND);
    let mut host = Host::new(config);
    for _ in 0..12 {
        host.hear(PEER, 100);
        host.pass(SECOND);
    }
    assert_eq!(host.last_why(), lower);
}

#[test]
fn a_better_master_is_named_with_both_priorities() {
    let mut host = Host::master();
    host.hear(PEER, 201);
    let better = "MASTER BACKUP: an advert of 10.0.2.72: priority 201, ours is 200";
    assert_eq!(host.last_why(), better);
    let mut host = Host::master();
    host.hear(PEER, 200);
    assert_eq!(
        host.last_why(),
        "MASTER BACKUP: an advert of 10.0.2.72: the same priority, 200, and a higher address than ours"
    );
    // What lowered our priority is named.
    let mut host = Host::new(tracking(200, 1));
    host.event(Event::Report(TrackReport::file("f".into(), -120)));
    host.pass(10 * SECOND);
    host.hear(PEER, 100);
    assert_eq!(
        host.last_why(),
        "MASTER BACKUP: an advert of 10.0.2.72: priority 100, ours is 80 (configured 200, file f has -120: -120)"
    );
    assert_eq!(host.history(0).ours.effective, 80);
}

#[test]
fn faults_and_their_end_are_named() {
    let mut host = Host::new(tracking(200, 0));
    host.event(Event::Report(TrackReport::file("f".into(), 0)));
    host.event(Event::Report(TrackReport::file("f".into(), 3)));
    assert_eq!(host.last_why(), "BACKUP FAULT: file f has 3");
    // A second fault: the last one to end is the one that counts.
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    host.event(Event::Report(TrackReport::file("f".into(), 0)));
    assert_eq!(host.state(), State::Fault);
    host.event(Event::Link(link(ETH, "enp0s8", true)));
    assert_eq!(host.last_why(), "FAULT BACKUP: it can take part again: interface enp0s8 is up");
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    assert_eq!(host.last_why(), "BACKUP FAULT: interface enp0s8 down");
    host.event(Event::Report(TrackReport::file("f".into(), 3)));
    host.event(Event::Link(link(ETH, "enp0s8", true)));
    host.event(Event::Report(TrackReport::file("f".into(), 0)));
    assert_eq!(host.last_why(), "FAULT BACKUP: it can take part again: file f has 0");
    // A reload that does not track it any more.
    host.event(Event::Report(TrackReport::file("f".into(), 3)));
    host.event(Event::Reload(Arc::new(failover(200))));
    let reload = "FAULT BACKUP: it can take part again: a reload changed what it tracks";
    assert_eq!(host.last_why(), reload);
}

#[test]
fn members_of_a_group_name_the_one_that_they_follow() {
    let mut host = Host::new(sample::nat(200));
    host.pass(10 * SECOND);
    assert_eq!(host.why(0)[1], "INIT BACKUP: the process started");
    assert_eq!(host.why(1)[1], "INIT BACKUP: the process started");
    let followed = "BACKUP MASTER: it follows external of its group: no advert of any master";
    let own = "BACKUP MASTER: no advert of any master";
    let mut first = [host.why(0), host.why(1)].map(|why| why[0].clone());
    first.sort();
    assert!(first[1].starts_with(own) || first[0].starts_with(followed), "{first:?}");
    host.event(Event::Link(link(OTHER, "enp0s9", false)));
    assert_eq!(
        [host.why(0)[0].as_str(), host.why(1)[0].as_str()],
        [
            "MASTER FAULT: it follows internal of its group: interface enp0s9 down",
            "MASTER FAULT: interface enp0s9 down"
        ]
    );
    host.event(Event::Link(link(OTHER, "enp0s9", true)));
    assert_eq!(
        host.why(0)[0],
        "FAULT BACKUP: it follows internal of its group: it can take part again: interface enp0s9 is up"
    );
}

#[test]
fn what_a_reload_did_is_told() {
    let mut host = Host::master();
    let mut config = failover(200);
    config.instances.push(sample::instance("new", "enp0s9", 42, 100, &["10.0.3.1/24"]));
    config.instances[0].vrid = Vrid::new(43).unwrap();
    host.event(Event::Reload(Arc::new(config)));
    let moved = "a reload made it another virtual router";
    let why = host.why(0);
    assert_eq!(why[..2], [format!("INIT BACKUP: {moved}"), format!("MASTER INIT: {moved}")]);
    assert_eq!(host.why(1), ["INIT BACKUP: a reload added it"]);
}

#[test]
fn a_master_that_was_held_up_says_so() {
    let mut config = failover(100);
    config.instances[0].extras.get_or_insert_default().timer_expired_backup = Some(128);
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    host.now = host.engine.advert_deadline().unwrap() + 4 * SECOND;
    host.event(Event::Timer);
    assert_eq!(
        host.last_why(),
        "MASTER BACKUP: this process was held up for 4.000 s: another router must be master"
    );
}

#[test]
fn a_process_that_continues_as_master_says_so() {
    let mut first = Host::master();
    let mut next = Host::off();
    next.now = first.now + SECOND;
    first.pass(SECOND);
    next.event(Event::Resume(first.engine.summary(first.now)));
    next.event(Event::Reload(Arc::new(failover(200))));
    next.event(Event::Kernel(next.kernel()));
    assert_eq!(next.why(0), ["INIT MASTER: it was master until the previous process ended"]);
    let mut config = failover(255);
    config.instances[0].state = model::vrrp::InitialState::Master;
    let owner = Host::new(config);
    let starts = "INIT MASTER: it owns its addresses (priority 255) and starts as master";
    assert_eq!(owner.why(0), [starts]);
}

#[test]
fn the_last_changes_are_kept_and_no_others() {
    let mut host = Host::master();
    for priority in 201..=210 {
        host.hear(PEER, priority);
        host.pass(10 * SECOND);
    }
    let why = host.why(0);
    assert_eq!(why.len(), CHANGES);
    assert_eq!(why[0], "BACKUP MASTER: no advert of 10.0.2.72 (priority 210) for 3.219 s");
    assert!(why[5].contains("priority 208, ours"), "{why:?}");
}
