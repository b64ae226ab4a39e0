//! Work in the smallest possible slices: an event at any point of it has the same result as if the work were done in
//! one piece.

use super::*;
use crate::status;

/// Five instances on two links, two of them a group, with a script, a tracked link and addresses of the host.
fn many() -> Vrrp {
    let mut config = Vrrp::default();
    for (n, interface) in (1..=5u8).zip(["enp0s8", "enp0s8", "enp0s9", "enp0s9", "enp0s8"]) {
        let third = if interface == "enp0s8" { 2 } else { 3 };
        let vips = [format!("10.0.{third}.{n}0/24"), format!("10.0.{third}.{n}1/24")];
        let vips = [vips[0].as_str(), vips[1].as_str()];
        let name = format!("I{n}");
        config.instances.push(sample::instance(&name, interface, 40 + n, 150, &vips));
    }
    config.groups.push(sample::group("G", &["I1", "I3"]));
    config.scripts.push(sample::script("chk", 1, 1));
    sample::track(&mut config.instances[1], "chk", -20);
    let own = config.instances[0].interface.clone();
    config.static_addresses.push(sample::address("10.9.9.9/24", &own));
    config
}

/// The same with something of each kind changed.
fn other() -> Vrrp {
    let mut config = many();
    // Renamed; faster; moved to another link; other id; gone; new.
    config.instances[0].name = "First".into();
    config.instances[1].advert_int = 2 * SECOND;
    config.instances[1].authentication = Authentication::None;
    config.instances[2].interface = config.instances[0].interface.clone();
    config.instances[3].vrid = Vrid::new(99).unwrap();
    config.instances.remove(4);
    config.instances.push(sample::instance("New", "enp0s9", 60, 120, &["10.0.3.60/24"]));
    // An address changes its owner.
    let moved = config.instances[0].addresses.remove(1);
    config.instances[1].addresses.push(moved);
    config.groups = vec![sample::group("G", &["I2", "I4"]), sample::group("H", &["I3", "New"])];
    config.scripts.push(sample::script("more", 1, 1));
    sample::track(&mut config.instances[2], "more", 0);
    config.static_addresses.clear();
    config
}

fn event_of(mut make: impl FnMut(&mut Host)) -> impl FnMut(&mut Host) {
    move |host| make(host)
}

/// The kernel as it is, with the names of its links swapped.
fn swapped(host: &Host) -> Snapshot {
    let mut kernel = host.kernel();
    let names = (kernel.links[0].name.clone(), kernel.links[1].name.clone());
    (kernel.links[1].name, kernel.links[0].name) = names;
    kernel
}

struct Outcomes {
    actions: Vec<Action>,
    packets: Vec<Vec<u8>>,
    view: status::vrrp::Vrrp,
    slices: usize,
}

impl Host {
    /// All instances are master and confirmed by the kernel; slices have this size from now on.
    fn of_many(effort: usize) -> Self {
        let mut host = Self::new(many());
        host.end_last_run();
        host.pass(10 * SECOND);
        assert!(host.engine.view(host.now).instances.iter().all(|i| i.state == State::Master));
        host.look();
        host.obedient = false;
        host.engine.set_effort(effort);
        host
    }

    /// Sends the adverts that are due, and does nothing else.
    fn send_due(&mut self) {
        while self.engine.advert_deadline().is_some_and(|at| at <= self.now) {
            self.event(Event::Adverts);
        }
    }

    fn end_last_run(&mut self) {
        let run = self.seen.iter().rev().find_map(|a| match a {
            Action::RunScript { run, .. } => Some(*run),
            _ => None,
        });
        self.event(Event::Ran { run: run.unwrap(), end: RunEnd::Exit(0) });
    }

    /// Carries out all requests and their consequences until nothing is left at this time.
    fn rest(&mut self) {
        let mut answered = 0;
        loop {
            let some = self.seen.iter().skip(answered).cloned().collect::<Vec<_>>();
            answered = self.seen.len();
            for action in &some {
                let Action::Apply { token, ops } = action else { continue };
                for item in 0..u32::try_from(ops.len()).unwrap() {
                    let outcome = Outcome::Done;
                    self.event(Event::Applied { token: *token, item, outcome });
                }
            }
            if self.engine.deadline().is_some_and(|at| at <= self.now) {
                self.event(Event::Timer);
            } else if some.is_empty() {
                return;
            }
        }
    }

    /// The requests and the final state if one event happens after `slices` slices of another.
    fn outcome(
        mut self,
        first: &mut dyn FnMut(&mut Self),
        slices: Option<usize>,
        second: &mut dyn FnMut(&mut Self),
    ) -> Outcomes {
        first(&mut self);
        let mut taken = 0;
        while self.engine.is_occupied() && slices.is_some_and(|slices| taken < slices) {
            self.event(Event::Timer);
            taken += 1;
        }
        self.engine.set_effort(1_000_000);
        second(&mut self);
        self.rest();
        let view = self.engine.view(self.now);
        let packets = std::mem::take(&mut self.packets);
        let mut seen = self.look();
        for action in &mut seen {
            // A place in the buffer of one step.
            if let Action::SendAdvert { packet, .. } = action {
                *packet = 0..0;
            }
        }
        Outcomes { actions: seen, packets, view, slices: taken }
    }
}

/// Compares `first` in one piece and in thin slices, with each of the others after every number of slices.
fn the_same_whenever(start: impl Fn(usize) -> Host, first: &mut dyn FnMut(&mut Host)) {
    type Other = (&'static str, Box<dyn FnMut(&mut Host)>);
    let mut others: Vec<Other> = vec![
        ("nothing", Box::new(event_of(|_| ()))),
        ("reload", Box::new(event_of(|h| h.event(Event::Reload(Arc::new(other())))))),
        ("reload back", Box::new(event_of(|h| h.event(Event::Reload(Arc::new(many())))))),
        ("reload of nothing", Box::new(event_of(|h| h.event(Event::Reload(Arc::default()))))),
        ("stop", Box::new(event_of(|h| h.event(Event::Stop { keep_addresses: false })))),
        ("stop and keep", Box::new(event_of(|h| h.event(Event::Stop { keep_addresses: true })))),
        ("view", Box::new(event_of(|h| h.event(Event::Kernel(h.kernel()))))),
        ("swapped", Box::new(event_of(|h| h.event(Event::Kernel(swapped(h)))))),
        ("down", Box::new(event_of(|h| h.event(Event::Link(link(ETH, "enp0s8", false)))))),
        ("gone", Box::new(event_of(|h| h.event(Event::LinkGone(OTHER))))),
        (
            "refused",
            Box::new(event_of(|h| {
                let (interface, group) = (ETH, [224, 0, 0, 18].into());
                h.event(Event::Joined { interface, group, outcome: Outcome::Refused(105) });
            })),
        ),
        (
            "address",
            Box::new(event_of(|h| {
                let change = Change::address(ETH, prefix("10.0.2.10/24"), false, false);
                h.event(Event::Object(change));
            })),
        ),
        (
            "better master",
            Box::new(event_of(|h| {
                let addresses = [IpAddr::from([10, 0, 2, 20]), IpAddr::from([10, 0, 2, 21])];
                let packet = advert_of(PEER, &addresses, |c| (c.vrid, c.priority) = (42, 250));
                h.receive(PEER, &packet);
            })),
        ),
        (
            "better master of later",
            Box::new(event_of(|h| {
                let addresses = [[10, 0, 2, 20], [10, 0, 2, 21], [10, 0, 2, 11]].map(IpAddr::from);
                let packet = advert_of(PEER, &addresses, |c| {
                    (c.vrid, c.priority, c.interval, c.auth) = (42, 250, 2 * SECOND, None);
                });
                h.receive(PEER, &packet);
            })),
        ),
        (
            "script",
            Box::new(event_of(|h| {
                // The same one, whether already requested or not.
                let run = h.engine.runs.keys().next().copied().unwrap_or(RunId(1));
                h.event(Event::Ran { run, end: RunEnd::Exit(1) });
            })),
        ),
        ("servers", Box::new(event_of(|h| h.event(Event::Ipvs { works: false })))),
    ];
    for (name, second) in &mut others {
        let whole = start(1_000_000).outcome(first, None, second);
        let mut slices = 0;
        loop {
            let sliced = start(1).outcome(first, Some(slices), second);
            let mut both = sliced.actions.iter().zip(&whole.actions);
            assert_eq!(both.find(|(a, b)| a != b), None, "{name} after {slices} slices");
            assert_eq!(sliced.actions.len(), whole.actions.len(), "{name} after {slices} slices");
            assert_eq!(sliced.packets, whole.packets, "{name} after {slices} slices");
            assert!(sliced.view == whole.view, "{name} after {slices} slices");
            if sliced.slices < slices {
                break;
            }
            slices += 1;
        }
        assert!(slices > 5, "{slices} slices");
    }
}

#[test]
fn a_reload_can_be_met_by_anything() {
    the_same_whenever(Host::of_many, &mut |h| h.event(Event::Reload(Arc::new(other()))));
}

#[test]
fn a_reload_that_changes_nothing_can_be_met_by_anything() {
    the_same_whenever(Host::of_many, &mut |h| h.event(Event::Reload(Arc::new(many()))));
}

#[test]
fn a_view_of_the_kernel_can_be_met_by_anything() {
    the_same_whenever(Host::of_many, &mut |h| h.event(Event::Kernel(h.kernel())));
    the_same_whenever(Host::of_many, &mut |h| h.event(Event::Kernel(swapped(h))));
    the_same_whenever(Host::of_many, &mut |h| h.event(Event::Kernel(Snapshot::default())));
}

#[test]
fn a_stop_can_be_met_by_anything() {
    let stop = |keep_addresses| move |h: &mut Host| h.event(Event::Stop { keep_addresses });
    the_same_whenever(Host::of_many, &mut stop(false));
    the_same_whenever(Host::of_many, &mut stop(true));
}

#[test]
fn a_change_of_a_link_can_be_met_by_anything() {
    let down = |h: &mut Host| h.event(Event::Link(link(ETH, "enp0s8", false)));
    the_same_whenever(Host::of_many, &mut { down });
    the_same_whenever(Host::of_many, &mut |h| h.event(Event::LinkGone(ETH)));
    let after = |effort| {
        let mut host = Host::of_many(1_000_000);
        down(&mut host);
        host.engine.set_effort(effort);
        host
    };
    the_same_whenever(after, &mut |h| h.event(Event::Link(link(ETH, "enp0s8", true))));
    // The interface is deleted and made again.
    let again = |h: &mut Host| h.event(Event::Link(link(IfIndex(9), "enp0s8", true)));
    the_same_whenever(Host::of_many, &mut { again });
    let address = Change::address(ETH, prefix("10.0.2.71/24"), false, false);
    the_same_whenever(Host::of_many, &mut |h| h.event(Event::Object(address.clone())));
}

#[test]
fn a_start_can_be_met_by_anything() {
    let off = |effort| {
        let mut host = Host::off();
        host.obedient = false;
        host.engine.set_effort(effort);
        host
    };
    the_same_whenever(off, &mut |h| h.event(Event::Reload(Arc::new(many()))));
    the_same_whenever(off, &mut |h| h.event(Event::Kernel(h.kernel())));
    let configured = |effort| {
        let mut host = off(1_000_000);
        host.event(Event::Reload(Arc::new(many())));
        host.engine.set_effort(effort);
        host
    };
    the_same_whenever(configured, &mut |h| h.event(Event::Kernel(h.kernel())));
    let seen = |effort| {
        let mut host = off(1_000_000);
        host.event(Event::Kernel(host.kernel()));
        host.engine.set_effort(effort);
        host
    };
    the_same_whenever(seen, &mut |h| h.event(Event::Reload(Arc::new(many()))));
}

/// Virtual router id, priority, interval and addresses of each advert sent since the last look.
fn adverts(host: &mut Host) -> Vec<(u8, u8, u8, Vec<u8>)> {
    let packets = std::mem::take(&mut host.packets);
    let vrrp = packets.iter().map(|p| &p[ip::HEADER..]);
    vrrp.map(|p| (p[1], p[2], p[5], p[8..8 + 4 * usize::from(p[3])].to_vec())).collect()
}

#[test]
fn adverts_leave_on_time_between_slices_and_are_of_one_configuration() {
    let of = |config: &Vrrp| -> Vec<_> {
        let octets = |i: &model::Instance| -> Vec<u8> {
            let all = i.addresses.iter().map(|a| a.prefix.address);
            all.flat_map(|a| match a {
                IpAddr::V4(a) => a.octets(),
                IpAddr::V6(_) => unreachable!("only IPv4 here"),
            })
            .collect()
        };
        let seconds = |i: &model::Instance| u8::try_from(i.advert_int.as_secs()).unwrap();
        let all = config.instances.iter();
        all.map(|i| (i.vrid.get(), i.priority.get(), seconds(i), octets(i))).collect()
    };
    let known: Vec<_> = of(&many()).into_iter().chain(of(&other())).collect();
    for slices in 0.. {
        let mut host = Host::of_many(1);
        let id = host.engine.instances.named("I2").unwrap();
        let due = host.engine.timers.get(Timer::Advert(id)).unwrap();
        host.now = due - MS;
        host.event(Event::Reload(Arc::new(other())));
        for _ in 0..slices {
            host.event(Event::Timer);
        }
        let occupied = host.engine.is_occupied();
        host.packets.clear();
        host.now = due;
        host.send_due();
        let sent = adverts(&mut host);
        assert_eq!(host.engine.is_occupied(), occupied, "adverts wait for nothing");
        for advert in &sent {
            let farewell = advert.1 == 0;
            assert!(farewell || known.contains(advert), "{advert:?} after {slices} slices");
        }
        // It gets the longer interval at some point and is not yet due then.
        let of_i2 = sent.iter().filter(|a| a.0 == 42).count();
        let next = host.engine.timers.get(Timer::Advert(id)).unwrap();
        assert!(of_i2 == 1 && next > due || of_i2 == 0 && next == due + SECOND, "{slices}");
        if !occupied {
            assert!(slices > 50, "{slices}");
            return;
        }
    }
}

#[test]
fn masters_go_on_until_they_say_farewell_the_next_one_due_first() {
    let mut host = Host::of_many(1);
    let ids = host.engine.instances.ids();
    // Their adverts are due one after the other, in another order than their numbers.
    for (n, id) in (0u32..).zip([3, 1, 4, 0, 2]) {
        host.engine.rearm(ids[id], host.now + MS * (10 + n));
    }
    let order: Vec<u8> = [44, 42, 45, 41, 43].to_vec();
    host.event(Event::Stop { keep_addresses: false });
    host.event(Event::Timer);
    assert_eq!(
        adverts(&mut host).iter().map(|a| (a.0, a.1)).collect::<Vec<_>>(),
        [(44, 0), (42, 0)]
    );
    // The slice takes so long that two more are due.
    host.now = host.now + 13 * MS;
    host.send_due();
    let sent: Vec<_> = adverts(&mut host).iter().map(|a| (a.0, a.1)).collect();
    assert_eq!(sent, [(45, 150), (41, 150)]);
    while host.engine.is_occupied() {
        host.event(Event::Timer);
    }
    let last: Vec<_> = adverts(&mut host).iter().map(|a| (a.0, a.1)).collect();
    assert_eq!(last, order[2..].iter().map(|vrid| (*vrid, 0)).collect::<Vec<_>>());
    // Addresses are removed after the last farewell.
    let seen = host.look();
    let farewell = seen.iter().rposition(|a| matches!(a, Action::SendAdvert { .. }));
    let apply = seen.iter().position(|a| matches!(a, Action::Apply { .. }));
    assert!(farewell < apply && farewell.is_some(), "{farewell:?} {apply:?}");
}

#[test]
fn nobody_is_taken_for_silent_in_the_middle() {
    let mut config = many();
    config.groups.clear();
    config.instances.iter_mut().for_each(|i| i.priority = Priority::new(100).unwrap());
    let mut host = Host::new(config.clone());
    host.end_last_run();
    host.pass(MS);
    let id = host.engine.instances.named("I5").unwrap();
    let due = host.engine.timers.get(Timer::Silence(id)).unwrap();
    host.engine.set_effort(1);
    host.now = due - MS;
    host.event(Event::Reload(Arc::new(config)));
    host.now = due;
    host.event(Event::Timer);
    host.event(Event::Timer);
    assert!(host.engine.is_occupied());
    assert_eq!(host.engine.state("I5"), Some(State::Backup));
    // Packets received meanwhile are processed first.
    let addresses = [IpAddr::from([10, 0, 2, 50]), IpAddr::from([10, 0, 2, 51])];
    let packet = advert_of(PEER, &addresses, |c| c.vrid = 45);
    host.receive(PEER, &packet);
    assert!(!host.engine.is_occupied());
    host.event(Event::Timer);
    assert_eq!(host.engine.state("I5"), Some(State::Backup));
}

#[test]
fn silences_are_judged_when_all_know_that_their_link_is_down() {
    let mut config = many();
    config.groups.clear();
    config.instances.iter_mut().for_each(|i| i.priority = Priority::new(100).unwrap());
    let mut host = Host::new(config);
    host.end_last_run();
    host.pass(MS);
    let last = host.engine.instances.named("I5").unwrap();
    let due = host.engine.timers.get(Timer::Silence(last)).unwrap();
    host.engine.set_effort(1);
    // A process that was stalled hears of the link when the masters have been silent for long enough.
    host.now = due;
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    while host.engine.deadline().is_some_and(|at| at <= host.now) {
        host.event(Event::Timer);
    }
    for instance in host.engine.view(host.now).instances {
        let down = instance.interface.as_str() == "enp0s8";
        assert_eq!(instance.state == State::Fault, down, "{}", instance.name);
        assert_eq!(instance.counters.became_master, u64::from(!down), "{}", instance.name);
    }
}

#[test]
fn no_advert_leaves_on_a_link_that_is_down_while_masters_learn_of_it() {
    for gone in [false, true] {
        let mut host = Host::of_many(1);
        let id = host.engine.instances.named("I5").unwrap();
        host.now = host.engine.timers.get(Timer::Advert(id)).unwrap();
        host.event(if gone {
            Event::LinkGone(ETH)
        } else {
            Event::Link(link(ETH, "enp0s8", false))
        });
        assert!(host.engine.is_occupied() && host.engine.state("I5") == Some(State::Master));
        host.packets.clear();
        host.send_due();
        let sent: Vec<_> = adverts(&mut host).iter().map(|a| (a.0, a.1)).collect();
        // Those of the other link.
        assert_eq!(sent, [(43, 150), (44, 150)]);
        host.rest();
        for name in ["I1", "I2", "I3", "I5"] {
            assert_eq!(host.engine.state(name), Some(State::Fault), "{name}");
        }
        assert_eq!(host.engine.state("I4"), Some(State::Master));
    }
}

#[test]
fn a_panic_in_a_slice_does_not_leave_half_a_configuration() {
    let mut host = Host::of_many(1);
    std::panic::set_hook(Box::new(|_| {}));
    host.engine.panic_in = host.engine.instances.named("I2");
    host.event(Event::Reload(Arc::new(other())));
    host.rest();
    _ = std::panic::take_hook();
    assert_eq!((host.engine.failures(), host.engine.is_occupied()), (1, false));
    let view = host.engine.view(host.now);
    let names: Vec<&str> = view.instances.iter().map(|i| &*i.name).collect();
    assert_eq!(names, ["First", "I2", "I3", "I4", "New"]);
    assert_eq!(host.engine.state("First"), Some(State::Master));
    assert_eq!(host.engine.state("I2"), Some(State::Fault));
}
