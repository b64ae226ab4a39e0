//! Faults, priorities, scripts, groups, restarts.

use super::*;

fn tracked(weight: i16) -> Vrrp {
    let mut config = failover(100);
    config.scripts.push(sample::script("chk", 2, 3));
    sample::track(&mut config.instances[0], "chk", weight);
    config
}

impl Host {
    /// Ends the run requested last.
    pub(super) fn end_run(&mut self, end: RunEnd) {
        let run = self.seen.iter().rev().find_map(|a| match a {
            Action::RunScript { run, .. } => Some(*run),
            _ => None,
        });
        self.event(Event::Ran { run: run.expect("a script was to be run"), end });
    }

    fn runs(&self) -> usize {
        self.seen.iter().filter(|a| matches!(a, Action::RunScript { .. })).count()
    }

    fn effective(&self) -> u8 {
        self.engine.view(self.now).instances[0].effective_priority
    }

    pub(super) fn faults(&self) -> Vec<String> {
        self.engine.view(self.now).instances[0].faults.clone()
    }
}

#[test]
fn an_instance_waits_in_silence_for_the_first_result_of_its_script() {
    let mut host = Host::new(tracked(0));
    host.pass(500 * MS);
    assert_eq!((host.state(), host.announced()), (State::Init, vec![]));
    host.end_run(RunEnd::Exit(0));
    assert_eq!(host.state(), State::Backup);
    for end in [
        RunEnd::Exit(1),
        RunEnd::Signal(9),
        RunEnd::TimedOut,
        // keepalived counts a script that cannot be started as good; we do not.
        RunEnd::NotStarted(2),
    ] {
        let mut host = Host::new(tracked(0));
        host.end_run(end);
        assert_eq!(host.state(), State::Fault, "{end:?}");
        assert_eq!(host.faults(), ["script chk"]);
    }
}

#[test]
fn an_instance_holds_back_while_virtual_servers_cannot_be_served() {
    let with_servers = || Vrrp { needs_ipvs: true, ..failover(100) };
    let mut host = Host::new(with_servers());
    host.pass(500 * MS);
    // It waits for the report.
    assert_eq!((host.state(), host.faults()), (State::Init, vec![]));
    host.event(Event::Ipvs { works: false });
    assert_eq!(host.state(), State::Fault);
    assert_eq!(host.faults(), ["IPVS does not work or refuses a virtual server"]);
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Fault);
    host.event(Event::Ipvs { works: true });
    assert_eq!((host.state(), host.faults()), (State::Backup, vec![]));
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    host.event(Event::Ipvs { works: false });
    assert_eq!(host.state(), State::Fault);

    // The configuration decides whether it counts, and earlier reports are still known.
    host.event(Event::Reload(Arc::new(failover(100))));
    assert_eq!(host.state(), State::Backup);
    host.event(Event::Reload(Arc::new(with_servers())));
    assert_eq!(host.state(), State::Fault);

    // A master continues when a reload adds the first virtual server and nothing is known yet.
    let mut host = Host::new(failover(100));
    host.pass(10 * SECOND);
    host.event(Event::Reload(Arc::new(with_servers())));
    assert_eq!(host.state(), State::Master);
    host.event(Event::Ipvs { works: true });
    assert_eq!(host.state(), State::Master);
}

#[test]
fn a_script_can_count_as_failed_until_its_first_success() {
    let mut vrrp = tracked(0);
    vrrp.scripts[0].init_fail = true;
    let mut host = Host::new(vrrp);
    assert_eq!((host.state(), host.faults()), (State::Fault, vec!["script chk".to_owned()]));
    host.end_run(RunEnd::Exit(0));
    assert_eq!(host.state(), State::Backup);
}

#[test]
fn a_script_runs_every_interval_and_its_results_count_by_rise_and_fall() {
    let mut host = Host::new(tracked(0));
    let mut states = String::new();
    for result in "+---++".chars() {
        host.end_run(RunEnd::Exit(i32::from(result == '-')));
        states.push(if host.state() == State::Fault { 'F' } else { '.' });
        host.look();
        host.pass(SECOND);
        assert_eq!(host.runs(), 1);
    }
    assert_eq!(states, "...FF.");
}

#[test]
fn a_script_keeps_its_phase_and_catches_nothing_up() {
    let mut host = Host::new(tracked(0));
    let start = host.now;
    host.end_run(RunEnd::Exit(0));
    // Begun late, the next run is still due when it was due.
    host.look();
    host.now = start + 1_300 * MS;
    host.event(Event::Timer);
    assert_eq!(host.runs(), 1);
    host.end_run(RunEnd::Exit(0));
    host.look();
    host.pass(690 * MS);
    assert_eq!(host.runs(), 0);
    host.pass(20 * MS);
    assert_eq!(host.runs(), 1);
    host.end_run(RunEnd::Exit(0));
    // After a long stall it runs once.
    host.look();
    host.now = start + 30 * SECOND;
    host.event(Event::Timer);
    host.end_run(RunEnd::Exit(0));
    host.pass(900 * MS);
    assert_eq!(host.runs(), 1);
}

#[test]
fn a_script_that_does_not_end_is_not_started_again_until_the_runner_is() {
    let mut host = Host::new(tracked(0));
    host.look();
    host.pass(3 * SECOND);
    assert_eq!(host.runs(), 0);
    host.event(Event::RunnerReady);
    host.pass(SECOND);
    assert_eq!(host.runs(), 1);
}

#[test]
fn a_script_that_hangs_is_mentioned_once_a_run() {
    let mut host = Host::new(tracked(0));
    let mentioned = |host: &mut Host| {
        let lines = host.logged();
        lines.iter().filter(|line| line.contains("already running, expect idle")).count()
    };
    host.pass(8 * SECOND);
    assert_eq!(mentioned(&mut host), 1);
    host.pass(2 * SECOND);
    assert_eq!(mentioned(&mut host), 0);
    host.end_run(RunEnd::Exit(0));
    host.pass(4 * SECOND);
    assert_eq!(mentioned(&mut host), 1, "the next run hangs as well");
}

#[test]
fn an_answer_that_does_not_come_counts_as_a_timeout_and_the_script_runs_again() {
    let mut host = Host::new(tracked(0));
    host.end_run(RunEnd::Exit(0));
    host.pass(SECOND);
    host.look();
    // The runner lives but has lost this run. The condition turns bad with the third failure.
    host.pass(60 * SECOND);
    assert!(host.runs() >= 3, "{} runs", host.runs());
    assert_eq!((host.state(), host.faults()), (State::Fault, vec!["script chk".to_owned()]));
}

#[test]
fn weights_change_the_priority_and_the_time_to_wait() {
    let mut host = Host::new(tracked(-60));
    assert_eq!((host.state(), host.effective()), (State::Backup, 100));
    host.hear(PEER, 200);
    let due = host.engine.view(host.now);
    assert_eq!(due.instances[0].master, Some(PEER.into()));
    let deadline = |host: &mut Host| {
        let key = Timer::Silence(InstanceId(0));
        host.engine.timers.get(key).unwrap().since(host.now)
    };
    let before = deadline(&mut host);
    host.end_run(RunEnd::Exit(1));
    assert_eq!(host.effective(), 40);
    // 60 steps of a 256th of a second later.
    assert_eq!(deadline(&mut host) - before, Duration::from_micros(234_375));
    let mut host = Host::new(tracked(200));
    host.end_run(RunEnd::Exit(0));
    assert_eq!(host.effective(), 254);
    // The priority of an address owner does not change.
    let mut config = tracked(-60);
    config.instances[0].priority = Priority::OWNER;
    let mut host = Host::new(config);
    host.end_run(RunEnd::Exit(1));
    assert_eq!(host.effective(), 255);
}

#[test]
fn a_master_adverts_its_new_priority() {
    let mut host = Host::new(tracked(-60));
    host.end_run(RunEnd::Exit(0));
    host.pass(4 * SECOND);
    for _ in 0..3 {
        host.end_run(RunEnd::Exit(1));
        host.pass(SECOND);
    }
    host.look();
    host.pass(SECOND);
    assert_eq!(host.priorities(), [40]);
}

#[test]
fn two_broken_things_need_both_mending() {
    let mut config = failover(200);
    let interface = "enp0s9".parse().unwrap();
    let tracked = model::TrackedInterface { interface, weight: Weight::FAULT };
    config.instances[0].track_interfaces.push(tracked);
    let mut host = Host::new(config);
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    host.event(Event::Link(link(OTHER, "enp0s9", false)));
    assert_eq!(host.faults(), ["interface enp0s8 down", "interface enp0s9 down"]);
    host.event(Event::Link(link(OTHER, "enp0s9", true)));
    assert_eq!(host.state(), State::Fault);
    host.event(Event::Link(link(ETH, "enp0s8", true)));
    assert_eq!(host.state(), State::Backup);
}

#[test]
fn a_master_that_cannot_go_on_says_so_once() {
    let mut host = Host::master();
    host.event(Event::LinkGone(OTHER));
    assert_eq!(host.state(), State::Master);
    host.event(Event::Object(Change::address(ETH, prefix("10.0.2.71/24"), false, false)));
    // Without a source nothing can be sent; the fault is named.
    assert_eq!(host.faults(), ["no IPv4 address for interface enp0s8"]);
    host.event(Event::Object(Change::address(ETH, prefix("10.0.2.71/24"), true, false)));
    assert_eq!(host.state(), State::Backup);
    let mut host = Host::new(tracked(0));
    host.end_run(RunEnd::Exit(0));
    host.pass(4 * SECOND);
    for _ in 0..2 {
        host.end_run(RunEnd::Exit(1));
        host.pass(SECOND);
    }
    host.look();
    host.pass(SECOND);
    host.look();
    host.event(Event::RunnerReady);
    host.pass(SECOND);
    host.packets.clear();
    host.end_run(RunEnd::Exit(1));
    assert_eq!((host.state(), host.priorities()), (State::Fault, vec![0]));
}

#[test]
fn an_interface_that_comes_later_or_again_is_used() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(failover(200))));
    host.event(Event::Kernel(Snapshot::default()));
    assert_eq!(host.faults(), ["interface enp0s8 does not exist"]);
    let again = IfIndex(9);
    for index in [ETH, again] {
        host.look();
        host.event(Event::Link(link(index, "enp0s8", true)));
        let group = "224.0.0.18".parse().unwrap();
        assert!(host.seen.contains(&Action::Join { interface: index, group }), "{index:?}");
        let prefix = prefix("10.0.2.71/24");
        host.event(Event::Object(Change::address(index, prefix, true, false)));
        assert_eq!(host.state(), State::Backup);
        host.pass(4 * SECOND);
        assert_eq!(host.state(), State::Master);
        host.event(Event::LinkGone(index));
        assert_eq!(host.state(), State::Fault);
    }
}

#[test]
fn a_group_that_cannot_be_joined_is_tried_again() {
    let mut host = Host::new(failover(200));
    let (interface, group) = (ETH, "224.0.0.18".parse().unwrap());
    host.event(Event::Joined { interface, group, outcome: Outcome::Refused(105) });
    assert_eq!(host.faults(), ["cannot join 224.0.0.18 on enp0s8: error 105"]);
    host.look();
    host.pass(SECOND);
    assert_eq!(host.seen, [Action::Join { interface, group }]);
    host.event(Event::Joined { interface, group, outcome: Outcome::Done });
    assert_eq!(host.state(), State::Backup);
}

#[test]
fn a_member_alone_does_not_become_master() {
    let mut host = Host::new(sample::nat(200));
    // The internal segment has a master that is as good; the external one is silent.
    let addresses = [IpAddr::from([10, 0, 3, 100])];
    for _ in 0..20 {
        let packet = advert_of([10, 0, 3, 72], &addresses, |c| {
            (c.vrid, c.priority) = (92, 200);
        });
        let source = [10, 0, 3, 72].into();
        let destination = [224, 0, 0, 18].into();
        let rx = Rx { interface: OTHER, source, destination, hop_limit: 0 };
        host.event(Event::Advert { rx, packet: &packet });
        host.pass(SECOND);
    }
    let states: Vec<State> = host.engine.view(host.now).instances.iter().map(|i| i.state).collect();
    assert_eq!(states, [State::Backup, State::Backup]);
    // When that one goes silent too, both do.
    host.pass(4 * SECOND);
    let states: Vec<State> = host.engine.view(host.now).instances.iter().map(|i| i.state).collect();
    assert_eq!(states, [State::Master, State::Master]);
}

#[test]
fn a_restarted_role_goes_on_if_it_was_quick() {
    let resume = |pause: Duration| {
        let host = Host::master();
        let summary = host.engine.summary(host.now);
        let mut next = Host::off();
        next.now = host.now + pause;
        next.engine = Engine::new(next.now);
        next.event(Event::Resume(summary));
        next.event(Event::Reload(Arc::new(failover(200))));
        let mut kernel = next.kernel();
        kernel.objects.push(Sight::address(ETH, prefix("10.0.2.100/24")));
        next.event(Event::Kernel(kernel));
        next
    };
    let mut quick = resume(1_999 * MS);
    assert_eq!((quick.state(), quick.priorities()), (State::Master, vec![200]));
    assert_eq!((quick.ops(), quick.announced()), (vec![], vec![]));
    // The last advert may be an interval older than the last sign of life.
    let slow = resume(2 * SECOND);
    assert_eq!(slow.state(), State::Backup);
}

/// The next process need not run a script, or wait for a report, before it continues as master; nor does one that is
/// replaced as well before it has a result of its own.
#[test]
fn a_restarted_role_knows_what_is_tracked() {
    use crate::model::tracker::{TrackFile, Tracked};
    use crate::status::TrackReport;
    let mut config = failover(200);
    config.scripts.push(sample::script("chk", 1, 3));
    sample::track(&mut config.instances[0], "chk", 0);
    config.track_files.push(TrackFile {
        name: "f".into(),
        path: b"/run/file"[..].into(),
        weight: 1,
        reverse: false,
        init: None,
    });
    let extras = config.instances[0].extras.get_or_insert_default();
    extras.track_files.push(Tracked { name: "f".into(), weight: 1, reverse: false });
    let resumed = |summary: &Summary, pause: Duration| {
        let mut next = Host::off();
        next.now = summary.at + pause;
        next.engine = Engine::new(next.now);
        next.event(Event::Resume(summary.clone()));
        next.event(Event::Reload(Arc::new(config.clone())));
        let mut kernel = next.kernel();
        kernel.objects.push(Sight::address(ETH, prefix("10.0.2.100/24")));
        next.event(Event::Kernel(kernel));
        next
    };
    for (good, state) in [(true, State::Master), (false, State::Fault)] {
        let mut host = Host::new(config.clone());
        host.event(Event::Report(TrackReport::file("f".into(), 3)));
        host.end_run(RunEnd::Exit(0));
        host.pass(5 * SECOND);
        assert_eq!((host.state(), host.engine.priority("VRRP1")), (State::Master, Some(203)));
        if !good {
            for _ in 0..3 {
                host.pass(SECOND);
                host.end_run(RunEnd::Exit(1));
            }
            assert_eq!(host.state(), State::Fault);
        }
        let mut summary = host.engine.summary(host.now);
        for round in 0..3 {
            let next = resumed(&summary, 500 * MS);
            assert_eq!(next.state(), state, "round {round}");
            assert_eq!(next.engine.priority("VRRP1"), Some(203));
            summary = next.engine.summary(next.now);
        }
        // It is one result among others, so the thresholds hold.
        let mut next = resumed(&summary, 500 * MS);
        next.end_run(RunEnd::Exit(u8::from(good).into()));
        assert_eq!(next.state(), if good { State::Master } else { State::Backup });
    }
    // Whatever changes is known to the supervisor at once.
    let mut host = Host::new(config.clone());
    host.event(Event::Report(TrackReport::file("f".into(), 3)));
    host.end_run(RunEnd::Exit(0));
    host.pass(5 * SECOND);
    for (event, reports) in [(3, false), (4, true), (4, false)] {
        host.look();
        host.event(Event::Report(TrackReport::file("f".into(), event)));
        let told = host.seen.iter().any(|action| matches!(action, Action::Report));
        assert_eq!(told, reports, "{event}");
    }
}

#[test]
fn a_replaced_role_repeats_no_notice_and_no_mail_of_a_group() {
    let mut config = sample::nat(200);
    config.groups[0].smtp_alert = true;
    let mut host = Host::new(config.clone());
    host.pass(8 * SECOND);
    let told = host.notices();
    let last = told.iter().rfind(|n| n.line.starts_with("GROUP")).unwrap();
    assert_eq!((&*last.line, last.mail.is_some()), ("GROUP \"VRRP1\" MASTER 0", true));
    let summary = host.engine.summary(host.now);
    let mut next = Host::off();
    next.now = host.now + SECOND;
    next.engine = Engine::new(next.now);
    next.event(Event::Resume(summary));
    next.event(Event::Reload(Arc::new(config)));
    let kernel = next.kernel();
    next.event(Event::Kernel(kernel));
    next.pass(8 * SECOND);
    assert_eq!(next.engine.view(next.now).groups[0].state, State::Master);
    let told: Vec<_> = next.notices().into_iter().map(|n| n.line).collect();
    assert!(told.iter().all(|n| !n.starts_with("GROUP")), "{told:?}");
}

#[test]
fn a_step_that_panics_ends_one_instance_and_no_other() {
    let mut config = failover(200);
    config.instances.push(sample::instance("VRRP2", "enp0s9", 42, 200, &["10.0.3.100/24"]));
    let mut host = Host::new(config);
    host.pass(4 * SECOND);
    host.look();
    std::panic::set_hook(Box::new(|_| {}));
    host.engine.panic_in = Some(InstanceId(0));
    host.pass(SECOND);
    _ = std::panic::take_hook();
    let view = host.engine.view(host.now);
    assert_eq!(view.instances[0].state, State::Fault);
    assert_eq!(view.instances[1].state, State::Master);
    assert_eq!(host.ops(), ["-10.0.2.100/24"]);
    host.look();
    host.pass(SECOND);
    assert_eq!(host.packets.len(), 1);
}

#[test]
fn the_first_advert_carries_the_priority_that_counts() {
    let mut host = Host::new(tracked(-60));
    host.end_run(RunEnd::Exit(1));
    host.priorities();
    host.pass(5 * SECOND);
    assert_eq!((host.state(), host.priorities().first().copied()), (State::Master, Some(40)));
}

#[test]
fn addresses_found_at_the_start_are_the_masters_own_once_it_is_master() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(failover(200))));
    let mut kernel = host.kernel();
    kernel.objects.push(Sight::address(ETH, prefix("10.0.2.100/24")));
    host.event(Event::Kernel(kernel));
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    host.look();
    // As a backup it would have removed them for the new master.
    host.hear(PEER, 50);
    host.pass(SECOND);
    assert_eq!((host.state(), host.ops()), (State::Master, vec![]));
}

#[test]
fn an_interface_that_got_another_number_is_joined_again() {
    let mut host = Host::new(failover(100));
    host.look();
    let new = IfIndex(9);
    host.event(Event::Link(link(new, "enp0s8", true)));
    let joined =
        host.seen.iter().any(|a| matches!(a, Action::Join { interface, .. } if *interface == new));
    assert!(joined, "{:?}", host.seen);
}

#[test]
fn a_farewell_leaves_from_where_the_last_advert_did() {
    let mut host = Host::master();
    let own = prefix("10.0.2.71/24");
    host.event(Event::Object(Change::address(ETH, own, false, false)));
    let farewell = host.seen.iter().find_map(|a| match a {
        Action::SendAdvert { interface, source, .. } => Some((*interface, *source)),
        _ => None,
    });
    assert_eq!(farewell, Some((ETH, [10, 0, 2, 71].into())));
    assert_eq!((host.state(), host.priorities()), (State::Fault, vec![0]));
    // An interface that was deleted has no addresses.
    let mut host = Host::master();
    host.event(Event::LinkGone(ETH));
    assert_eq!((host.state(), host.priorities()), (State::Fault, vec![]));
}

#[test]
fn every_way_out_of_master_but_yielding_says_farewell_once() {
    type Way = fn(&mut Host);
    let ways: [(Way, State, Vec<u8>); 4] = [
        (|h| h.event(Event::Link(link(ETH, "enp0s8", false))), State::Fault, vec![0]),
        (|h| h.event(Event::Stop { keep_addresses: false }), State::Init, vec![0]),
        (|h| h.event(Event::Stop { keep_addresses: true }), State::Master, vec![]),
        (|h| h.hear(PEER, 250), State::Backup, vec![]),
    ];
    for (way, state, farewell) in ways {
        let mut host = Host::master();
        way(&mut host);
        assert_eq!((host.state(), host.priorities()), (state, farewell));
    }
}
