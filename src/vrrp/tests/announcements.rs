//! Announcements to the segment, scripts and people.

use super::*;
use crate::model::extras;

fn vip(last: u8) -> IpAddr {
    [10, 0, 2, last].into()
}

#[test]
fn each_address_is_announced_when_confirmed_and_all_again_later() {
    let mut config = failover(200);
    let interface = config.instances[0].interface.clone();
    config.instances[0].excluded.push(sample::address("10.0.2.101/24", &interface));
    let mut host = Host::new(config);
    host.obedient = false;
    host.pass(3_219 * MS);
    assert_eq!(host.frames(), []);
    let (token, _) = host.apply();
    host.event(Event::Applied { token, item: 1, outcome: Outcome::Done });
    assert_eq!(host.frames(), [(vip(101), 5)]);
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Already });
    assert_eq!(host.frames(), [(vip(101), 5), (vip(100), 5)]);
    host.look();
    host.pass(4_999 * MS);
    assert_eq!(host.frames(), []);
    host.pass(MS);
    assert_eq!(host.frames(), [(vip(100), 5), (vip(101), 5)]);
    host.look();
    host.pass(60 * SECOND);
    assert_eq!(host.frames(), []);
}

#[test]
fn a_slice_of_frames_ends_between_addresses_and_not_beyond_its_size() {
    let mut config = failover(200);
    let interface = config.instances[0].interface.clone();
    let more = (1..40).map(|n| sample::address(&format!("10.0.2.{}/24", 100 + n), &interface));
    config.instances[0].excluded.extend(more);
    let mut host = Host::new(config);
    host.pass(4 * SECOND);
    // The second set: all addresses are due at once.
    let (end, mut announced) = (host.now + 6 * SECOND, BTreeSet::new());
    while let Some(at) = host.engine.deadline().filter(|at| *at <= end) {
        host.look();
        host.now = at;
        host.event(Event::Timer);
        let frames = host.frames();
        assert!(frames.iter().all(|(_, count)| *count == 5), "{frames:?}");
        assert!(frames.iter().map(|(_, count)| count).sum::<u32>() <= 64, "{frames:?}");
        announced.extend(frames.into_iter().map(|(address, _)| address));
    }
    assert_eq!(announced.len(), 40);
}

#[test]
fn refresh_and_spacing() {
    let mut config = failover(200);
    let interface = config.instances[0].interface.clone();
    config.instances[0].excluded.push(sample::address("10.0.2.101/24", &interface));
    let garp = &mut config.instances[0].garp;
    (garp.repeat, garp.delay, garp.refresh) = (2, Duration::ZERO, 10 * SECOND);
    garp.interval = 10 * MS;
    let mut host = Host::new(config);
    host.pass(3_219 * MS);
    // One frame at a time, each address in turn, ten milliseconds apart.
    assert_eq!(host.frames(), [(vip(100), 1)]);
    host.pass(10 * MS);
    assert_eq!(host.frames(), [(vip(100), 1), (vip(101), 1)]);
    host.pass(20 * MS);
    assert_eq!(host.frames()[2..], [(vip(100), 1), (vip(101), 1)]);
    host.look();
    host.pass(10 * SECOND);
    assert_eq!(host.frames(), [(vip(100), 1), (vip(101), 1)]);
    // Leaving forgets the rest.
    host.look();
    host.hear(PEER, 250);
    host.pass(3 * SECOND);
    assert_eq!(host.frames(), []);
}

#[test]
fn the_first_refresh_comes_after_its_time() {
    let mut config = failover(200);
    let garp = &mut config.instances[0].garp;
    (garp.repeat, garp.delay, garp.refresh) = (2, Duration::ZERO, 10 * SECOND);
    garp.interval = Duration::ZERO;
    let mut host = Host::new(config);
    host.pass(3_219 * MS);
    assert_eq!(host.frames(), [(vip(100), 2)]);
    host.look();
    host.pass(9 * SECOND);
    assert_eq!(host.frames(), []);
    host.pass(SECOND);
    assert_eq!(host.frames(), [(vip(100), 1)]);
}

/// A master with an address on each of its two interfaces, and one of version 6.
fn on_two_interfaces(change: impl FnOnce(&mut Vrrp)) -> Host {
    let mut config = failover(200);
    let other: IfName = "enp0s9".parse().unwrap();
    let instance = &mut config.instances[0];
    instance.excluded.push(sample::address("10.0.2.101/24", &other));
    instance.excluded.push(sample::address("2001:db8::1/64", &other));
    let garp = &mut instance.garp;
    (garp.repeat, garp.delay) = (1, Duration::ZERO);
    change(&mut config);
    let mut host = Host::new(config);
    host.pass(3_219 * MS);
    host
}

#[test]
fn interfaces_of_a_group_share_the_least_time_between_announcements() {
    let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
    let all = [(vip(100), 1), (vip(101), 1), (v6, 1)];
    let sorted = |host: &Host| {
        let mut frames = host.frames();
        frames.sort();
        frames
    };
    let group = |garp, na, interfaces: &[&str]| extras::GarpGroup {
        garp,
        na,
        interfaces: interfaces.iter().map(|name| name.parse().unwrap()).collect(),
    };
    // Each interface on its own: all at once.
    let host = on_two_interfaces(|config| config.instances[0].garp.interval = SECOND);
    assert_eq!(sorted(&host), all);
    // Together: one after the other; neighbour adverts are not affected.
    let both = group(Some(SECOND), None, &["enp0s8", "enp0s9"]);
    let mut host = on_two_interfaces(|config| config.garp_groups.push(both.clone()));
    assert_eq!(sorted(&host), [(vip(100), 1), (v6, 1)]);
    host.pass(999 * MS);
    assert_eq!(host.frames().len(), 2);
    host.pass(MS);
    assert_eq!(sorted(&host), all);
    // One in a group, the other not; and a group for neighbour adverts alone.
    let one = group(Some(SECOND), None, &["enp0s8"]);
    let host = on_two_interfaces(|config| config.garp_groups.push(one));
    assert_eq!(sorted(&host), all);
    let na = group(None, Some(SECOND), &["enp0s9"]);
    let mut host = on_two_interfaces(|config| {
        config.garp_groups.push(na);
        config.instances[0].garp.repeat = 2;
    });
    assert_eq!(sorted(&host), [(vip(100), 2), (vip(101), 2), (v6, 1)]);
    host.pass(SECOND);
    assert_eq!(host.frames()[3..], [(v6, 1)]);
}

#[test]
fn a_shorter_time_between_announcements_holds_at_once() {
    let both = |garp| extras::GarpGroup {
        garp: Some(garp),
        na: None,
        interfaces: vec!["enp0s8".parse().unwrap(), "enp0s9".parse().unwrap()],
    };
    let mut host = on_two_interfaces(|config| config.garp_groups.push(both(3_600 * SECOND)));
    let mut config = Vrrp::clone(&host.engine.config);
    config.garp_groups = vec![both(10 * MS)];
    config.instances[0].garp.lower_prio_repeat = 1;
    host.look();
    host.event(Event::Reload(Arc::new(config)));
    host.pass(SECOND);
    host.hear(PEER, 100);
    host.pass(SECOND);
    assert!(host.frames().contains(&(vip(101), 1)), "{:?}", host.frames());
}

#[test]
fn nothing_is_announced_where_addresses_are_not_resolved() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(failover(200))));
    let mut kernel = host.kernel();
    kernel.links[0].arp = false;
    host.event(Event::Kernel(kernel));
    host.pass(10 * SECOND);
    assert_eq!((host.state(), host.frames()), (State::Master, vec![]));
}

#[test]
fn scripts_hear_of_a_state_when_the_kernel_has_confirmed_it() {
    let mut host = Host::new(failover(200));
    assert_eq!(host.announced(), ["INSTANCE \"VRRP1\" BACKUP 200"]);
    host.look();
    host.obedient = false;
    host.pass(3_219 * MS);
    assert_eq!(host.announced(), Vec::<String>::new());
    let (token, _) = host.apply();
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Done });
    assert_eq!(host.announced(), ["INSTANCE \"VRRP1\" MASTER 200"]);
    // A kernel that does not answer delays notices for at most a second.
    let mut host = Host::new(failover(200));
    host.obedient = false;
    host.pass(3_219 * MS);
    host.look();
    host.pass(999 * MS);
    assert_eq!(host.announced(), Vec::<String>::new());
    host.pass(MS);
    assert_eq!(host.announced(), ["INSTANCE \"VRRP1\" MASTER 200"]);
}

#[test]
fn what_scripts_and_recipients_get() {
    let mut config = failover(200);
    let notify = &mut config.instances[0].notify;
    notify.master = Some(sample::command("/master"));
    notify.fault = Some(sample::command("/fault"));
    notify.stop = Some(sample::command("/stop"));
    let mut host = Host::new(config);
    host.pass(4 * SECOND);
    let notice = host.notices().pop().unwrap();
    let lines: Vec<String> = notice.commands.iter().map(model::Command::display).collect();
    assert_eq!(lines, ["/master", "/notify INSTANCE VRRP1 MASTER 200"]);
    assert_eq!((notice.subject.as_str(), notice.state.as_str()), ("instance VRRP1", "MASTER"));
    let mail = notice.mail.unwrap();
    assert_eq!(mail.subject, "VRRP Instance VRRP1 - Entering MASTER state");
    assert_eq!(mail.body, "=> VRRP Instance is now owning VRRP VIPs <=");
    assert_eq!(notice.limit, None);
    host.look();
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    let notice = host.notices().pop().unwrap();
    let lines: Vec<String> = notice.commands.iter().map(model::Command::display).collect();
    assert_eq!(lines, ["/fault", "/notify INSTANCE VRRP1 FAULT 200"]);
    host.look();
    host.event(Event::Stop { keep_addresses: false });
    let notice = host.notices().pop().unwrap();
    assert_eq!(notice.limit, Some(SECOND));
    assert_eq!(notice.commands[1].display(), "/notify INSTANCE VRRP1 STOP 200");
    assert_eq!(notice.mail.unwrap().subject, "VRRP Instance VRRP1 - Stopping");
}

#[test]
fn nothing_is_announced_after_the_end() {
    for keep_addresses in [false, true] {
        let mut config = sample::nat(200);
        config.instances[0].vrid = Vrid::new(41).unwrap();
        let mut host = Host::new(config);
        host.pass(10 * SECOND);
        host.look();
        // The addresses are being removed, which takes the kernel some time.
        host.obedient = false;
        host.hear(PEER, 254);
        assert_eq!(host.announced(), Vec::<String>::new());
        host.event(Event::Stop { keep_addresses });
        let requests = host.seen.iter().filter_map(|action| match action {
            Action::Apply { token, ops } => Some((*token, u32::try_from(ops.len()).unwrap())),
            _ => None,
        });
        let requests: Vec<(Token, u32)> = requests.collect();
        for (token, count) in requests {
            for item in 0..count {
                host.event(Event::Applied { token, item, outcome: Outcome::Done });
            }
        }
        host.pass(10 * SECOND);
        let stops = ["INSTANCE \"external\"", "INSTANCE \"internal\"", "GROUP \"VRRP1\""];
        let said: Vec<String> = host
            .announced()
            .iter()
            .map(|line| line.replace(" STOP 200", "").replace(" STOP 0", ""))
            .collect();
        assert_eq!(said, stops, "{keep_addresses}");
    }
}

#[test]
fn no_mail_for_faults_if_asked_for() {
    for withheld in [false, true] {
        let mut config = failover(100);
        config.no_mail_for_faults = withheld;
        let mut host = Host::new(config);
        host.hear(PEER, 200);
        host.event(Event::Link(link(ETH, "enp0s8", false)));
        host.event(Event::Link(link(ETH, "enp0s8", true)));
        host.hear(PEER, 200);
        let mails = |host: &Host| -> Vec<String> {
            host.notices().into_iter().filter_map(|n| Some(n.mail?.subject)).collect()
        };
        let states = |names: &[&str]| -> Vec<String> {
            let subject = |s| format!("VRRP Instance VRRP1 - Entering {s} state");
            names.iter().map(subject).collect()
        };
        // The recipients know of no other state: no second mail about BACKUP.
        let wanted: &[&str] = if withheld { &["BACKUP"] } else { &["BACKUP", "FAULT", "BACKUP"] };
        assert_eq!(mails(&host), states(wanted));
        // The script is notified nevertheless.
        assert_eq!(host.announced().len(), 3);
    }
}

#[test]
fn the_script_for_adverts_of_lower_priority() {
    let mut config = failover(200);
    config.instances[0].notify.master_rx_lower_pri = Some(sample::command("/lower"));
    let mut host = Host::new(config);
    host.pass(4 * SECOND);
    host.look();
    host.hear(PEER, 100);
    assert_eq!(host.announced(), ["INSTANCE \"VRRP1\" MASTER_RX_LOWER_PRI 200"]);
    assert_eq!(host.notices()[0].commands[0].display(), "/lower");
}

#[test]
fn a_group_speaks_after_its_members() {
    let mut host = Host::new(sample::nat(200));
    assert_eq!(
        host.announced(),
        [
            "INSTANCE \"external\" BACKUP 200",
            "INSTANCE \"internal\" BACKUP 200",
            "GROUP \"VRRP1\" BACKUP 0"
        ]
    );
    host.look();
    host.pass(4 * SECOND);
    let announced = host.announced();
    assert_eq!(announced.len(), 3);
    assert_eq!(announced[2], "GROUP \"VRRP1\" MASTER 0");
    host.look();
    host.event(Event::Link(link(OTHER, "enp0s9", false)));
    // The member with the fault first.
    assert_eq!(
        host.announced(),
        [
            "INSTANCE \"internal\" FAULT 200",
            "INSTANCE \"external\" FAULT 200",
            "GROUP \"VRRP1\" FAULT 0"
        ]
    );
    // Only the one whose cable is cut cannot send a farewell, and does not try.
    assert_eq!(host.priorities().iter().filter(|p| **p == 0).count(), 2);
}

/// An instance with this many addresses in addition to the advertised one.
fn with_addresses(count: u32) -> Vrrp {
    let mut config = failover(200);
    let interface = config.instances[0].interface.clone();
    for n in 0..count {
        let [_, a, b, c] = n.to_be_bytes();
        let text = format!("10.{}.{b}.{c}/24", 20 + a);
        config.instances[0].excluded.push(sample::address(&text, &interface));
    }
    config
}

/// Number of frames that this step requests.
fn sent(actions: &[Action]) -> u32 {
    let counts = actions.iter().map(|action| match action {
        Action::SendGarp { count, .. } => *count,
        _ => 0,
    });
    counts.sum()
}

#[test]
fn thousands_of_addresses_are_announced_in_slices_and_adverts_are_not_late() {
    let mut config = with_addresses(4_999);
    let mut other = sample::instance("OTHER", "enp0s9", 42, 200, &["10.0.3.100/24"]);
    (other.version, other.advert_int) = (Version::V3, 10 * MS);
    other.authentication = Authentication::None;
    config.instances.push(other);
    let mut host = Host::new(config);
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    host.look();
    // The second set, five seconds after the first: 25,000 frames.
    let (mut frames, mut adverts, mut due) = (0, 0, host.now);
    let end = host.now + 5 * SECOND;
    let mut addresses = BTreeSet::new();
    while let Some(at) = host.engine.deadline().filter(|at| *at <= end) {
        // Each step takes half a millisecond here.
        host.now = host.now.max(at) + MS / 2;
        host.event(Event::Timer);
        let actions = host.look();
        assert!(sent(&actions) <= 64 + 5, "{} frames in one step", sent(&actions));
        frames += sent(&actions);
        for action in &actions {
            match action {
                Action::SendGarp { address, .. } => drop(addresses.insert(*address)),
                Action::SendAdvert { instance: InstanceId(1), .. } => {
                    assert!(host.now.since(due) <= 12 * MS, "an advert is late");
                    (due, adverts) = (host.now, adverts + 1);
                }
                _ => {}
            }
        }
    }
    // One more address, of the other instance, is announced in this time.
    assert_eq!((frames, addresses.len()), (25_005, 5_001));
    assert!(adverts > 480, "{adverts}");
}

#[test]
fn a_flood_of_lower_priority_is_answered_at_once_then_at_a_bounded_rate() {
    let mut host = Host::new(with_addresses(50));
    host.pass(20 * SECOND);
    host.look();
    host.hear(PEER, 100);
    assert_eq!(host.priorities(), [200]);
    let first = sent(&host.look());
    assert!(first > 0);
    // Ten thousand in two seconds.
    for _ in 0..10_000 {
        host.pass(MS / 5);
        host.hear(PEER, 100);
    }
    let (adverts, frames) = (host.priorities().len(), sent(&host.look()));
    assert!((10..=24).contains(&adverts), "{adverts}");
    assert!(frames <= 24 * 51 * 5, "{frames}");
    // The last answer comes after the last advert; then it is quiet.
    host.pass(200 * MS);
    assert_eq!(host.priorities(), [200]);
    assert!(sent(&host.look()) >= 51 * 5);
    host.pass(700 * MS);
    assert_eq!((host.priorities().len(), sent(&host.look())), (0, 0));
}

#[test]
fn a_flood_of_farewells_is_answered_at_a_bounded_rate() {
    let mut host = Host::master();
    for _ in 0..1_000 {
        host.hear(PEER, 0);
        host.pass(MS);
    }
    let adverts = host.priorities().len();
    assert!((5..=14).contains(&adverts), "{adverts}");
}

#[test]
fn a_set_that_is_asked_for_in_the_midst_of_another_follows_it_whole() {
    let mut host = Host::new(with_addresses(199));
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    host.look();
    let (mut frames, mut heard) = (0, false);
    let end = host.now + 6 * SECOND;
    while let Some(at) = host.engine.deadline().filter(|at| *at <= end) {
        // Each step takes half a millisecond here.
        host.now = host.now.max(at) + MS / 2;
        host.event(Event::Timer);
        frames += sent(&host.look());
        if frames >= 500 && !heard {
            heard = true;
            host.hear(PEER, 100);
        }
    }
    // The second set after becoming master, and the one that the advert calls for.
    assert_eq!(frames, 2 * 200 * 5);
}

#[test]
fn a_set_that_is_asked_for_while_one_is_under_way_follows_it_whole() {
    let mut host = Host::new(with_addresses(99));
    host.pass(20 * SECOND);
    host.look();
    host.hear(PEER, 100);
    // In the midst of the first set an advert of lower priority again, after the pause: each address once more.
    host.pass(101 * MS);
    host.look();
    host.hear(PEER, 100);
    host.pass(SECOND / 2);
    assert_eq!(sent(&host.look()), 500);
}

/// A master with a virtual MAC, an address on it, one on an interface made for it on another parent, and one on that
/// parent itself.
fn with_further_interfaces(all: bool, change: impl FnOnce(&mut Vrrp)) -> Host {
    let mut config = failover(200);
    let other: IfName = "enp0s9".parse().unwrap();
    let instance = &mut config.instances[0];
    sample::vmac(instance);
    let further: IfName = "vrrp1.41".parse().unwrap();
    let own = instance.own_link().unwrap().clone();
    let made = model::VirtualLink { name: further.clone(), parent: other.clone(), ..own };
    for (address, interface) in
        [("10.0.2.101/24", &further), ("10.0.2.102/24", &further), ("10.0.2.103/24", &other)]
    {
        instance.excluded.push(sample::address(address, interface));
    }
    let extras = instance.extras.as_mut().unwrap();
    extras.address_links.push(made);
    extras.garp_extra = Some(extras::GarpExtra { all, period: 7 * SECOND });
    let garp = &mut instance.garp;
    (garp.repeat, garp.delay) = (1, 2 * SECOND);
    change(&mut config);
    let mut host = Host::new(config);
    for (index, name) in [(IfIndex(9), "vrrp.41"), (IfIndex(10), "vrrp1.41")] {
        host.event(Event::Link(link(index, name, true)));
    }
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    // Both sets of announcements are sent.
    host.pass(2 * SECOND);
    host.look();
    host
}

#[test]
fn further_interfaces_are_announced_periodically() {
    for (all, frames) in [(false, vec![(vip(101), 1)]), (true, vec![(vip(101), 1), (vip(103), 1)])]
    {
        let mut host = with_further_interfaces(all, |_| {});
        host.pass(8 * SECOND);
        let mut sent = host.frames();
        sent.sort();
        assert_eq!(sent, frames);
        host.look();
        host.pass(7 * SECOND);
        assert_eq!(host.frames().len(), frames.len());
        // A router that is not master sends none.
        host.look();
        host.hear(PEER, 250);
        host.pass(3 * SECOND);
        assert_eq!(host.frames(), []);
    }
}

#[test]
fn an_own_interface_without_adverts_is_a_further_one() {
    let mut host = with_further_interfaces(false, |config| {
        config.instances[0].extras.as_mut().unwrap().vmac_xmit_base = true;
    });
    host.pass(8 * SECOND);
    let mut sent = host.frames();
    sent.sort();
    assert_eq!(sent, [(vip(100), 1), (vip(101), 1)]);
}

#[test]
fn a_reload_begins_and_ends_what_is_announced_periodically() {
    let mut host = with_further_interfaces(false, |_| {});
    let mut config = (*host.engine.config).clone();
    config.instances[0].extras.as_mut().unwrap().garp_extra = None;
    config.instances[0].garp.refresh = 5 * SECOND;
    host.event(Event::Reload(config.clone().into()));
    host.look();
    host.pass(6 * SECOND);
    assert_eq!(host.frames().len(), 4, "the refresh of all addresses alone");
    config.instances[0].garp.refresh = Duration::ZERO;
    host.event(Event::Reload(config.into()));
    host.look();
    host.pass(20 * SECOND);
    assert_eq!(host.frames(), []);
}
