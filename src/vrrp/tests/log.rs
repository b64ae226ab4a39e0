//! Lines of the log that users search for.

use super::lines::Line;
use super::*;

impl Host {
    /// The lines since the last call, without those for debugging.
    pub(super) fn logged(&mut self) -> Vec<String> {
        let lines = self.all_logged().into_iter();
        lines.filter(|line| line.level <= tracing::Level::INFO).map(|line| line.text).collect()
    }

    /// All lines since the last call.
    pub(super) fn all_logged(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.log)
    }

    /// Checks that the lines since the last call are these, apart from those about announcements.
    fn says(&mut self, want: &[&str]) {
        let mut lines = self.logged();
        lines.retain(|line| !line.contains("Sending gratuitous ARPs"));
        assert_eq!(lines, want, "\n{}", lines.join("\n"));
    }
}

#[test]
fn a_change_of_state_is_logged_with_its_cause() {
    let mut host = Host::new(failover(100));
    host.says(&["VRRP_Instance(VRRP1) Entering BACKUP STATE (init)"]);
    host.pass(10 * SECOND);
    let lines = host.logged();
    let sent = "VRRP_Instance(VRRP1) Sending gratuitous ARPs on enp0s8 for 10.0.2.100";
    assert!(lines.iter().any(|line| line == sent), "{lines:#?}");
    let want = ["VRRP_Instance(VRRP1) Entering MASTER STATE", "VRRP_Instance(VRRP1) setting VIPs."];
    assert_eq!(lines[..2], want);
    host.hear(PEER, 50);
    host.says(&[
        "VRRP_Instance(VRRP1) Received advert from 10.0.2.72 with lower priority 50, ours 100, \
                 forcing new election",
    ]);
    host.hear(PEER, 150);
    host.says(&[
        "VRRP_Instance(VRRP1) Master received advert from 10.0.2.72 with higher priority 150, ours 100",
        "VRRP_Instance(VRRP1) Entering BACKUP STATE",
    ]);
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    host.says(&[
        "VRRP_Instance(VRRP1) entering FAULT state (interface enp0s8 down)",
        "VRRP_Instance(VRRP1) Entering FAULT STATE",
    ]);
    host.event(Event::Link(link(ETH, "enp0s8", true)));
    host.says(&["VRRP_Instance(VRRP1) Entering BACKUP STATE"]);
    host.pass(10 * SECOND);
    host.logged();
    // The own address is 10.0.2.71.
    host.hear(PEER, 100);
    host.says(&[
        "VRRP_Instance(VRRP1) Master received advert from 10.0.2.72 with same priority 100 but higher \
         IP address than ours",
        "VRRP_Instance(VRRP1) Entering BACKUP STATE",
    ]);
    host.event(Event::Reload(Arc::new(Vrrp::default())));
    host.says(&["VRRP_Instance(VRRP1) removed by the new configuration"]);
}

#[test]
fn quiet_towards_lower_priorities_it_forces_no_election() {
    let mut config = failover(100);
    config.instances[0].lower_prio_no_advert = true;
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    host.logged();
    host.hear(PEER, 50);
    host.says(&[
        "VRRP_Instance(VRRP1) Received advert from 10.0.2.72 with lower priority 50, ours 100",
    ]);
}

#[test]
fn a_change_of_what_is_tracked_is_logged_once() {
    use crate::model::tracker::{TrackFile, Tracked};
    use crate::status::TrackReport;
    let mut config = failover(100);
    for name in ["f", "unused"] {
        config.track_files.push(TrackFile {
            name: name.into(),
            path: b"/run/file"[..].into(),
            weight: 1,
            reverse: false,
            init: None,
        });
    }
    let extras = config.instances[0].extras.get_or_insert_default();
    extras.track_files.push(Tracked { name: "f".into(), weight: 1, reverse: false });
    let mut host = Host::new(config.clone());
    host.logged();
    let number = |host: &mut Host, name: &str, value| {
        host.event(Event::Report(TrackReport::file(name.into(), value)));
    };
    number(&mut host, "f", 3);
    let priority = "VRRP_Instance(VRRP1) Changing effective priority from 100 to 103";
    host.says(&[
        "Track file f is now 3",
        priority,
        "VRRP_Instance(VRRP1) Entering BACKUP STATE (init)",
    ]);
    number(&mut host, "f", 3);
    host.says(&[]);
    // Nothing depends on it.
    number(&mut host, "unused", 3);
    host.says(&[]);
    number(&mut host, "f", 4);
    host.says(&[
        "Track file f is now 4",
        "VRRP_Instance(VRRP1) Changing effective priority from 103 to 104",
    ]);
    // Without a report.
    let mut host = Host::new(config);
    host.logged();
    host.pass(2 * SECOND);
    host.says(&[
        "nothing is known about tracked file f yet, the number 0 is assumed",
        "VRRP_Instance(VRRP1) Entering BACKUP STATE (init)",
    ]);
}

#[test]
fn results_of_scripts_are_logged_when_they_change() {
    let mut config = failover(100);
    config.scripts.push(sample::script("chk", 1, 2));
    sample::track(&mut config.instances[0], "chk", 0);
    let mut host = Host::new(config);
    let ends: [(RunEnd, &[&str]); 8] = [
        (
            RunEnd::Exit(0),
            &["VRRP_Script(chk) succeeded", "VRRP_Instance(VRRP1) Entering BACKUP STATE (init)"],
        ),
        (RunEnd::Exit(0), &[]),
        (RunEnd::Exit(7), &["Script `chk` now returning 7"]),
        (
            RunEnd::Exit(7),
            &[
                "VRRP_Script(chk) failed (exited with status 7)",
                "VRRP_Instance(VRRP1) entering FAULT state (script chk)",
                "VRRP_Instance(VRRP1) Entering FAULT STATE",
            ],
        ),
        (RunEnd::Exit(7), &[]),
        (
            RunEnd::Exit(0),
            &[
                "Script `chk` now returning 0",
                "VRRP_Script(chk) succeeded",
                "VRRP_Instance(VRRP1) Entering BACKUP STATE",
            ],
        ),
        (RunEnd::Signal(11), &[]),
        (
            RunEnd::TimedOut,
            &[
                "VRRP_Script(chk) timed_out",
                "VRRP_Instance(VRRP1) entering FAULT state (script chk)",
                "VRRP_Instance(VRRP1) Entering FAULT STATE",
            ],
        ),
    ];
    for (end, want) in ends {
        host.logged();
        host.end_run(end);
        host.says(want);
        host.pass(SECOND);
    }
}

#[test]
fn a_refusal_is_logged_the_first_time() {
    let mut host = Host::new(failover(200));
    host.obedient = false;
    host.pass(4 * SECOND);
    let refused = |host: &mut Host, what: &str| {
        let (token, _) = host.apply();
        host.logged();
        host.event(Event::Applied { token, item: 0, outcome: Outcome::Refused(1) });
        let lines = host.logged();
        let of = |line: &&String| line.starts_with(&format!("cannot {what} "));
        assert!(lines.iter().filter(of).all(|line| line.ends_with(": error 1, trying again")));
        lines.iter().filter(of).count()
    };
    assert_eq!(refused(&mut host, "add"), 1);
    host.look();
    host.pass(2 * SECOND);
    assert_eq!(refused(&mut host, "add"), 0);
    host.look();
    host.pass(60 * SECOND);
    let (token, _) = host.apply();
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Done });
    host.look();
    host.hear(PEER, 250);
    assert_eq!(refused(&mut host, "remove"), 1);
}
