//! Adverts of a thousand instances that are due at the same moment.

use super::*;
use crate::model::extras::InstanceExtras;

/// 1,000 masters of no group whose adverts are all due now.
fn due_at_once(change: impl Fn(&mut model::Instance)) -> Host {
    let mut config = large(200);
    config.groups.clear();
    config.instances.iter_mut().for_each(change);
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config)));
    host.event(Event::Kernel(snapshot(LINKS)));
    host.pass(10 * SECOND);
    assert_eq!(host.in_state(State::Master), 1000);
    // All of them fell due while the process was stalled, and keep this phase.
    host.now = host.now + 2 * SECOND;
    host.event(Event::Timer);
    while host.engine.deadline().is_some_and(|at| at <= host.now) {
        host.event(Event::Timer);
    }
    let due = host.engine.advert_deadline().unwrap();
    let last = host.engine.instances.ids().into_iter().map(Timer::Advert);
    let last = last.filter_map(|timer| host.engine.timers.get(timer)).max();
    assert_eq!(last, Some(due));
    host.look();
    host.now = due;
    host
}

impl Host {
    fn senders(&self) -> Vec<InstanceId> {
        let senders = self.seen.iter().filter_map(|action| match action {
            Action::SendAdvert { instance, .. } => Some(*instance),
            _ => None,
        });
        senders.collect()
    }
}

#[test]
fn adverts_that_are_due_at_the_same_moment_leave_in_slices() {
    for event in [|| Event::Timer, || Event::Adverts] {
        let mut host = due_at_once(|_| {});
        let first = host.cost(event());
        first.assert_small(1);
        // They have left at that moment, each once.
        let senders: BTreeSet<InstanceId> = host.senders().into_iter().collect();
        assert_eq!((host.senders().len(), senders.len()), (1000, 1000));
    }
}

#[test]
fn packets_of_all_peers_count() {
    use crate::model::extras::{Unicast, UnicastPeer};
    let mut host = due_at_once(|instance| {
        let peer = |n| UnicastPeer { address: [10, 9, 9, n].into(), min_ttl: 0, max_ttl: 255 };
        let peers = (0..16).map(peer);
        let unicast = Unicast { peers: peers.collect(), ..Unicast::default() };
        let extras = InstanceExtras { unicast: Some(unicast), ..InstanceExtras::default() };
        instance.extras = Some(Box::new(extras));
    });
    let mut most = 0;
    while host.engine.deadline().is_some_and(|at| at <= host.now) {
        host.event(Event::Timer);
        most = most.max(host.senders().len());
        host.look();
    }
    assert!(most <= 128, "{most} packets in one step");
}

#[test]
fn nothing_comes_between_adverts_that_are_due_at_the_same_moment() {
    let mut config = large(200);
    config.groups.clear();
    let mut host = due_at_once(|_| {});
    let silent = sample::instance("silent", "eth3", 255, 50, &["10.3.2.1/24"]);
    config.instances.push(silent);
    let due = host.now;
    host.now = due - MS;
    host.cost(Event::Reload(Arc::new(config)));
    host.look();
    host.now = due;
    let id = host.engine.instances.named("silent").unwrap();
    host.engine.rearm(id, due);
    host.cost(Event::Timer).assert_small(1);
    let senders = host.senders();
    assert_eq!((senders.len(), senders.last()), (1001, Some(&id)));
}

#[test]
fn a_host_with_more_adverts_than_it_can_send_does_its_other_work_too() {
    let mut config = large(200);
    config.groups.clear();
    config.scripts.push(sample::script("chk", 1, 1));
    sample::track(&mut config.instances[0], "chk", -1);
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config)));
    host.event(Event::Kernel(snapshot(LINKS)));
    host.pass(MS);
    host.event(Event::Ran { run: host.last_run(), end: RunEnd::Exit(0) });
    host.pass(10 * SECOND);
    assert_eq!(host.in_state(State::Master), 1000);
    host.event(Event::Ran { run: host.last_run(), end: RunEnd::Exit(0) });
    host.look();
    // Each step takes half a second: in the time of 16 steps each advert falls due eight times.
    let steps = 100;
    for _ in 0..steps {
        host.event(Event::Timer);
        host.now = host.now + SECOND / 2;
    }
    let runs = host.seen.iter().filter(|a| matches!(a, Action::RunScript { .. })).count();
    assert!(runs > 0, "the script did not run in {steps} steps");
    assert!(host.senders().len() > steps * 32, "adverts are sent as well");
}

#[test]
fn masters_that_were_all_stalled_leave_in_slices() {
    let mut host = due_at_once(|instance| {
        let extras = InstanceExtras { timer_expired_backup: Some(128), ..Default::default() };
        instance.extras = Some(Box::new(extras));
    });
    host.now = host.now + 10 * SECOND;
    host.cost(Event::Timer).assert_small(2);
    assert_eq!(host.in_state(State::Backup), 1000);
    assert_eq!(host.senders(), [], "no farewell");
}
