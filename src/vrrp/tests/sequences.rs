//! AH sequence numbers after a process was replaced or a daemon was restarted.

use super::*;
use crate::base::WallTime;
use crate::status::vrrp::{AhSummary, Summary};

/// The failover scenario with authentication headers.
fn config(priority: u8) -> Vrrp {
    let mut config = failover(priority);
    config.instances[0].authentication = Authentication::None;
    let key = crate::base::Secret::new(*b"secret12");
    config.instances[0].extras.get_or_insert_default().ah_key = Some(key);
    config
}

/// The numbers of the adverts sent since the last look.
fn numbers(host: &Host) -> Vec<u32> {
    let number = |packet: &Vec<u8>| {
        let (_, rest) = ip::decode(packet).unwrap();
        crate::wire::ah::decode(rest).unwrap().0.sequence
    };
    host.packets.iter().map(number).collect()
}

fn told(host: &Host) -> AhSummary {
    host.engine.summary(host.now).instances[0].ah
}

/// The next process of the role, after `pause`; the address is still there.
fn replaced(host: &Host, told: &Summary, config: Vrrp, pause: Duration) -> Host {
    let mut next = Host::off();
    next.now = host.now + pause;
    next.engine = Engine::new(next.now);
    next.event(Event::Resume(told.clone()));
    next.event(Event::Reload(Arc::new(config)));
    let mut kernel = next.kernel();
    kernel.objects.push(Sight::address(ETH, prefix("10.0.2.100/24")));
    next.event(Event::Kernel(kernel));
    next
}

#[test]
fn a_replaced_master_goes_on_behind_its_numbers() {
    let mut host = Host::new(config(200));
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    let told = host.engine.summary(host.now);
    host.pass(600 * SECOND);
    let last = *numbers(&host).last().unwrap();
    assert!(last > 500);
    // The stored summary dates from the change of state; only the signs of life are newer.
    let summary = Summary { at: host.now, ..told };
    let quick = replaced(&host, &summary, config(200), SECOND);
    assert_eq!(quick.state(), State::Master);
    let first = *numbers(&quick).first().unwrap();
    assert!(first > last && first < 2 * last + 1000, "{first} after {last}");
    // Another router may have taken over and continued from the last number: its adverts must be accepted.
    let mut slow = replaced(&host, &summary, config(200), 2 * SECOND);
    assert_eq!(slow.state(), State::Backup);
    assert!(self::told(&slow).last <= last);
    // If there is none, it becomes master again, and the others have received its numbers.
    slow.pass(5 * SECOND);
    assert_eq!(slow.state(), State::Master);
    let first = *numbers(&slow).first().unwrap();
    assert!(first > last, "{first} after {last}");
}

#[test]
fn a_replaced_backup_that_becomes_master_skips_what_it_may_have_heard() {
    let mut host = Host::new(config(100));
    host.receive(PEER, &unicast::with_ah(700));
    let summary = host.engine.summary(host.now);
    // The master sends for a while, and fails together with this process.
    for number in 701..=720 {
        host.pass(SECOND);
        host.receive(PEER, &unicast::with_ah(number));
    }
    let mut next = replaced(&host, &summary, config(100), 10 * MS);
    assert_eq!((next.state(), told(&next).last), (State::Backup, 700));
    next.pass(5 * SECOND);
    assert_eq!(next.state(), State::Master);
    assert!(numbers(&next)[0] > 720, "{:?}", numbers(&next));
}

#[test]
fn a_process_that_only_undoes_says_farewell_with_a_new_number() {
    let mut host = Host::new(config(200));
    host.pass(4 * SECOND);
    let summary = host.engine.summary(host.now);
    host.pass(20 * SECOND);
    let last = *numbers(&host).last().unwrap();
    let mut next = Host::off();
    next.now = host.now + 100 * MS;
    next.engine = Engine::new(next.now);
    next.event(Event::Undo);
    next.event(Event::Resume(Summary { at: host.now, ..summary }));
    next.event(Event::Reload(Arc::new(config(200))));
    let mut kernel = next.kernel();
    kernel.objects.push(Sight::address(ETH, prefix("10.0.2.100/24")));
    next.event(Event::Kernel(kernel));
    next.event(Event::Stop { keep_addresses: false });
    assert!(numbers(&next).len() == 1 && numbers(&next)[0] > last, "{:?}", numbers(&next));
}

#[test]
fn a_daemon_that_starts_again_sends_numbers_that_are_new_to_others() {
    let started = WallTime { secs: 1_700_000_000, nanos: 0 };
    let mut host = Host::off();
    host.event(Event::TimeOfDay(started));
    host.event(Event::Reload(Arc::new(config(200))));
    host.event(Event::Kernel(host.kernel()));
    host.pass(100 * SECOND);
    let last = *numbers(&host).last().unwrap();
    let lasted = Duration::from_secs(101);
    let mut next = Host::off();
    next.event(Event::TimeOfDay(started.after(lasted)));
    next.event(Event::Reload(Arc::new(config(200))));
    next.event(Event::Kernel(next.kernel()));
    next.pass(4 * SECOND);
    let first = numbers(&next)[0];
    assert!(first > last && first < last + 1000, "{first} after {last}");
}

#[test]
fn a_router_that_was_another_one_meanwhile_sends_numbers_that_are_new_to_others() {
    let mut host = Host::off();
    host.event(Event::TimeOfDay(WallTime { secs: 1_700_000_000, nanos: 0 }));
    host.event(Event::Reload(Arc::new(config(200))));
    host.event(Event::Kernel(host.kernel()));
    host.pass(100 * SECOND);
    let last = *numbers(&host).last().unwrap();
    let mut moved = config(200);
    moved.instances[0].vrid = Vrid::new(77).unwrap();
    host.event(Event::Reload(Arc::new(moved)));
    host.pass(2 * SECOND);
    host.packets.clear();
    host.event(Event::Reload(Arc::new(config(200))));
    host.pass(5 * SECOND);
    assert_eq!(host.state(), State::Master);
    let first = *numbers(&host).first().unwrap();
    assert!(first > last, "{first} after {last}");
}
