//! The cost of a step, counted and not timed: how often an instance is visited, and how many change their state at
//! once. A thousand members of one group, and thousands of links.

use std::collections::VecDeque;

use super::*;

mod addresses;
mod bursts;
mod links;

const MEMBERS: u8 = 250;
const LINKS: u32 = 4;

/// 1,000 instances in one group, on four links.
fn large(priority: u8) -> Vrrp {
    let mut config = Vrrp::default();
    let mut names = Vec::new();
    for link in 0..LINKS {
        for vrid in 1..=MEMBERS {
            let name = format!("I{link}.{vrid}");
            let vip = format!("10.{link}.1.{vrid}/24");
            names.push(name.clone());
            config.instances.push(sample::instance(
                &name,
                &format!("eth{link}"),
                vrid,
                priority,
                &[&vip],
            ));
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    config.groups.push(sample::group("G", &names));
    config
}

fn index(link: u32) -> IfIndex {
    IfIndex(link + 1)
}

fn large_link(number: u32, up: bool) -> Link {
    Link { mac: Mac([2, 0, 0, 0, 0, 1]), ..link(IfIndex(9), &format!("eth{number}"), up) }
}

fn snapshot(links: u32) -> Snapshot {
    let links: Vec<Link> =
        (0..links).map(|n| Link { index: index(n), ..large_link(n, true) }).collect();
    let objects = links
        .iter()
        .take(LINKS as usize)
        .map(|l| Sight::address(l.index, prefix(&format!("10.{}.1.254/24", l.index.0 - 1))))
        .collect();
    Snapshot { links, objects, ..Snapshot::default() }
}

/// The cost of one event and all steps that follow from it at the same time.
#[derive(Default)]
struct Cost {
    /// Visits to instances.
    visits: u64,
    /// Visits to instances, links and objects in the most expensive step.
    largest: u64,
    /// Largest number of changes of state in one step.
    changes: usize,
    /// Largest number of operations in one step.
    operations: usize,
    /// Largest number of lines that one step logs.
    lines: usize,
    /// Requested operations in order: true for an addition, false for a removal.
    order: Vec<bool>,
}

impl std::fmt::Debug for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { visits, largest, changes, operations, lines, .. } = self;
        write!(
            f,
            "{visits} visits, at most {largest}; {changes} changes, {operations} operations, {lines} lines"
        )
    }
}

impl Cost {
    /// That each instance was visited some 40 times at most, in slices.
    fn assert_small(&self, factor: u64) {
        let within = self.visits <= factor * EACH && self.largest <= AT_ONCE;
        let few = self.changes <= SLICE && self.operations <= SLICE && self.lines <= LINES;
        assert!(within && few, "{self:?}");
    }
}

impl Host {
    /// Passes an event to the engine, and everything that follows from it at this time. As in the driver, answers of the
    /// kernel wait while the engine is occupied.
    fn cost(&mut self, event: Event<'_>) -> Cost {
        let mut cost = Cost::default();
        let mut answers = VecDeque::new();
        self.engine.entered = 0;
        self.count(event, &mut cost, &mut answers);
        loop {
            if !self.engine.is_occupied()
                && let Some((token, item)) = answers.pop_front()
            {
                let visits = cost.visits;
                let outcome = Outcome::Done;
                self.count(Event::Applied { token, item, outcome }, &mut cost, &mut answers);
                cost.visits = visits;
            } else if self.engine.deadline().is_some_and(|at| at <= self.now) {
                self.count(Event::Timer, &mut cost, &mut answers);
            } else {
                return cost;
            }
        }
    }

    fn count(&mut self, event: Event<'_>, cost: &mut Cost, answers: &mut VecDeque<(Token, u32)>) {
        self.engine.instances.visits.set(0);
        self.engine.looks = 0;
        self.engine.objects.looks.set(0);
        self.out.clear();
        let (engine, now, out) = (&mut self.engine, self.now, &mut self.out);
        let ((), lines) = lines::during(|| engine.handle(now, event, out));
        let spoken = |line: &&lines::Line| line.level <= tracing::Level::INFO;
        cost.lines = cost.lines.max(lines.iter().filter(spoken).count());
        self.log.extend(lines);
        // As in each turn of the driver.
        let _ = self.engine.receive_buffer();
        let visits = self.engine.instances.visits.get();
        let looks = std::mem::take(&mut self.engine.looks) + self.engine.objects.looks.take();
        let changes = std::mem::take(&mut self.engine.entered);
        cost.visits += visits;
        cost.largest = cost.largest.max(visits + looks);
        cost.changes = cost.changes.max(changes);
        let mut operations = 0;
        for action in self.out.list() {
            if let Action::Apply { token, ops } = action {
                operations += ops.len();
                cost.order.extend(ops.iter().map(|op| op.verb.adds()));
                answers.extend((0..).take(ops.len()).map(|item| (*token, item)));
            }
        }
        self.seen.extend(self.out.list().iter().cloned());
        cost.operations = cost.operations.max(operations);
    }

    fn in_state(&self, state: State) -> usize {
        let view = self.engine.view(self.now);
        view.instances.iter().filter(|i| i.state == state).count()
    }

    fn large_masters() -> Self {
        let mut host = Self::off();
        host.event(Event::Reload(Arc::new(large(200))));
        host.event(Event::Kernel(snapshot(LINKS)));
        host.pass(10 * SECOND);
        assert_eq!(host.in_state(State::Master), 1000);
        host.look();
        host
    }
}

/// A change that concerns all instances may visit each a few times, not once for each other one.
const EACH: u64 = 40_000;
/// Limit for one step: at some 50 ns for a visit far below a millisecond.
const AT_ONCE: u64 = 1_024;
/// Limit for the lines that one step logs: at some 3 us for a line. A change of state logs up to three of them.
const LINES: usize = 3 * SLICE;

#[test]
fn a_reload_that_changes_nothing_looks_at_each_instance_a_few_times() {
    let mut host = Host::large_masters();
    let cost = host.cost(Event::Reload(Arc::new(large(200))));
    cost.assert_small(1);
    assert_eq!(host.seen, [Action::Report]);
}

#[test]
fn a_link_that_goes_down_takes_its_group_along_in_slices() {
    let mut host = Host::large_masters();
    let down = Link { index: index(0), ..large_link(0, false) };
    let cost = host.cost(Event::Link(down));
    cost.assert_small(1);
    assert_eq!(host.in_state(State::Fault), 1000);
    // And back, as a backup first.
    let up = Link { index: index(0), ..large_link(0, true) };
    let cost = host.cost(Event::Link(up));
    cost.assert_small(1);
    assert_eq!(host.in_state(State::Backup), 1000);
    let cost = host.cost(Event::LinkGone(index(0)));
    cost.assert_small(1);
    assert_eq!(host.in_state(State::Fault), 1000);
}

#[test]
fn a_source_address_that_goes_and_comes_is_noted_in_slices() {
    let mut host = Host::large_masters();
    let change = |adds| Change::address(index(0), prefix("10.0.1.254/24"), adds, false);
    let cost = host.cost(Event::Object(change(false)));
    cost.assert_small(1);
    assert_eq!(host.in_state(State::Fault), 1000);
    let cost = host.cost(Event::Object(change(true)));
    cost.assert_small(1);
    assert_eq!(host.in_state(State::Backup), 1000);
}

#[test]
fn a_multicast_group_that_cannot_be_joined_is_noted_in_slices() {
    let mut host = Host::large_masters();
    let (interface, group) = (index(0), [224, 0, 0, 18].into());
    for (outcome, state) in [(Outcome::Refused(105), State::Fault), (Outcome::Done, State::Backup)]
    {
        let cost = host.cost(Event::Joined { interface, group, outcome });
        cost.assert_small(1);
        assert_eq!(host.in_state(state), 1000);
    }
}

/// 1,000 masters of one group, each of which tracks the same script.
fn tracking(weight: i16) -> Host {
    let mut config = large(200);
    config.scripts.push(sample::script("chk", 1, 1));
    for instance in &mut config.instances {
        sample::track(instance, "chk", weight);
    }
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config)));
    host.event(Event::Kernel(snapshot(LINKS)));
    host.pass(MS);
    host.event(Event::Ran { run: host.last_run(), end: RunEnd::Exit(0) });
    host.pass(10 * SECOND);
    assert_eq!(host.in_state(State::Master), 1000);
    host
}

impl Host {
    fn last_run(&self) -> RunId {
        let run = self.seen.iter().rev().find_map(|a| match a {
            Action::RunScript { run, .. } => Some(*run),
            _ => None,
        });
        run.unwrap()
    }
}

#[test]
fn a_script_that_all_track_changes_them_in_slices() {
    let mut host = tracking(0);
    let run = host.last_run();
    let cost = host.cost(Event::Ran { run, end: RunEnd::Exit(1) });
    cost.assert_small(1);
    assert_eq!(host.in_state(State::Fault), 1000);
    // Only their priority.
    let mut host = tracking(-20);
    let run = host.last_run();
    let cost = host.cost(Event::Ran { run, end: RunEnd::Exit(1) });
    cost.assert_small(1);
    let view = host.engine.view(host.now);
    assert!(view.instances.iter().all(|i| i.effective_priority == 180));
}

#[test]
fn a_bfd_session_that_all_track_is_logged_in_slices() {
    use crate::model::tracker::Tracked;
    let mut config = large(200);
    config.groups.clear();
    config.bfds.clone_from(&trackers::tracking_session(0, false).bfds);
    for instance in &mut config.instances {
        let tracked = Tracked { name: "b".into(), weight: -20, reverse: false };
        instance.extras.get_or_insert_default().track_bfds.push(tracked);
    }
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config)));
    host.event(Event::Kernel(snapshot(LINKS)));
    let report = |up| Event::Report(crate::status::TrackReport::bfd("b".into(), up));
    host.event(report(true));
    host.pass(10 * SECOND);
    assert_eq!(host.in_state(State::Master), 1000);
    host.logged();
    let cost = host.cost(report(false));
    cost.assert_small(1);
    let lines = host.logged();
    let told = |line: &&String| line.ends_with("Tracked BFD instance b is DOWN");
    assert_eq!(lines.iter().filter(told).count(), 1000);
}

#[test]
fn adverts_that_are_due_go_out_between_the_slices() {
    let mut config = large(200);
    let mut alone = sample::instance("fast", "eth3", 255, 200, &["10.3.2.1/24"]);
    alone.advert_int = 100 * MS;
    config.instances.push(alone);
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config)));
    host.event(Event::Kernel(snapshot(LINKS)));
    host.pass(10 * SECOND);
    host.look();
    let fast = host.engine.instances.named("fast").unwrap();
    let due = host.engine.timers.get(Timer::Advert(fast)).unwrap();
    // The link fails just before an advert is due; a slice takes a while.
    host.now = due - MS / 2;
    host.event(Event::Link(Link { index: index(0), ..large_link(0, false) }));
    assert!(host.engine.deadline().unwrap() < due, "something is left for later");
    host.look();
    host.now = due;
    host.event(Event::Timer);
    let first = host.seen.iter().find_map(|a| match a {
        Action::SendAdvert { instance, .. } => Some(*instance),
        _ => None,
    });
    assert_eq!(first, Some(fast));
}

/// An advert of the router with the addresses of the instance `VRID` on the first link.
fn advert_for(vrid: u8, priority: u8) -> (Rx, Vec<u8>) {
    let from = [10, 0, 1, 253];
    let addresses = [IpAddr::from([10, 0, 1, vrid])];
    let packet = advert_of(from, &addresses, |c| (c.vrid, c.priority) = (vrid, priority));
    let (source, destination) = (from.into(), IpAddr::from([224, 0, 0, 18]));
    (Rx { interface: index(0), source, destination, hop_limit: 0 }, packet)
}

#[test]
fn an_advert_costs_the_same_in_a_group_of_a_thousand() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(large(100))));
    host.event(Event::Kernel(snapshot(LINKS)));
    host.pass(MS);
    let (rx, packet) = advert_for(7, 200);
    host.event(Event::Advert { rx, packet: &packet });
    let cost = host.cost(Event::Advert { rx, packet: &packet });
    assert_eq!(host.engine.view(host.now).instances[6].counters.adverts_received, 2);
    assert!(cost.visits <= 20, "{cost:?}");
    // The silence of a master that others still hear costs no more.
    host.look();
    host.pass(3 * SECOND);
    host.event(Event::Advert { rx, packet: &packet });
    let cost = host.cost(Event::Timer);
    cost.assert_small(1);
}

#[test]
fn a_group_that_hears_a_better_router_leaves_in_slices() {
    let mut host = Host::large_masters();
    let (rx, packet) = advert_for(7, 250);
    let cost = host.cost(Event::Advert { rx, packet: &packet });
    cost.assert_small(1);
    assert_eq!(host.in_state(State::Backup), 1000);
}

/// Lets all timers of this time fall due: none of their steps may look at more than [`AT_ONCE`] allows.
fn timers_are_cheap(host: &mut Host, time: Duration) {
    let end = host.now + time;
    let mut most = 0;
    while let Some(at) = host.engine.deadline().filter(|at| *at < end) {
        host.now = host.now.max(at);
        let cost = host.cost(Event::Timer);
        most = most.max(cost.largest);
    }
    assert!(most <= AT_ONCE, "{most}");
}

#[test]
fn a_group_that_hears_a_worse_router_announces_all_addresses_in_slices() {
    let mut host = Host::large_masters();
    let (rx, packet) = advert_for(7, 50);
    let cost = host.cost(Event::Advert { rx, packet: &packet });
    cost.assert_small(1);
    // The frames follow at once, a slice at a time.
    timers_are_cheap(&mut host, 100 * MS);
    assert_eq!(host.frames().len(), 1000);
}

#[test]
fn a_group_rises_in_slices() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(large(200))));
    host.event(Event::Kernel(snapshot(LINKS)));
    // All timers run out at once; the last one decides.
    for _ in 0..500 {
        let Some(at) = host.engine.deadline() else { break };
        host.now = host.now.max(at);
        let cost = host.cost(Event::Timer);
        cost.assert_small(1);
        if host.in_state(State::Master) == 1000 {
            break;
        }
    }
    assert_eq!(host.in_state(State::Master), 1000);
}

#[test]
fn owners_of_their_addresses_start_as_masters_in_slices() {
    let mut config = large(255);
    for instance in &mut config.instances {
        instance.state = model::vrrp::InitialState::Master;
    }
    let mut host = Host::off();
    host.cost(Event::Reload(Arc::new(config))).assert_small(1);
    let cost = host.cost(Event::Kernel(snapshot(LINKS)));
    cost.assert_small(2);
    assert_eq!(host.in_state(State::Master), 1000);
}

#[test]
fn the_first_view_of_many_links_looks_at_those_concerned() {
    let mut host = Host::off();
    let cost = host.cost(Event::Reload(Arc::new(large(200))));
    cost.assert_small(1);
    let cost = host.cost(Event::Kernel(snapshot(4000)));
    cost.assert_small(1);
    assert_eq!(host.in_state(State::Backup), 1000);
    // A link that is not configured causes no work, and neither does an address on it.
    let other = Link { index: index(3999), ..large_link(3999, false) };
    let cost = host.cost(Event::Link(other));
    assert_eq!(cost.visits, 0);
    let (interface, prefix) = (index(3999), prefix("10.9.9.9/24"));
    let cost = host.cost(Event::Object(Change::address(interface, prefix, true, false)));
    assert_eq!(cost.visits, 0);
    // The same view again.
    let cost = host.cost(Event::Kernel(snapshot(4000)));
    cost.assert_small(1);
}

/// 1,000 instances, each on an interface of its own, besides 4,000 interfaces that are not configured.
fn each_on_its_own_link() -> Host {
    let mut config = large(200);
    config.groups.clear();
    let mut kernel = snapshot(0);
    for (n, instance) in (0..).zip(&mut config.instances) {
        let mut link = Link { index: index(n), ..large_link(n, true) };
        instance.interface = link.name.clone();
        instance.addresses[0].interface = link.name.clone();
        kernel.links.push(link.clone());
        for number in 1..=4 {
            link.index = index(n + 1000 * number);
            link.name = format!("foreign{}", n + 1000 * number).parse().unwrap();
            kernel.links.push(link.clone());
        }
        kernel.objects.push(Sight::address(index(n), prefix("10.9.9.9/24")));
    }
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config)));
    host.event(Event::Kernel(kernel));
    host.pass(10 * SECOND);
    assert_eq!(host.in_state(State::Master), 1000);
    host
}

/// The whole summary and the whole view, from parts each of which visits few instances and objects.
fn in_parts(host: &Host) -> (Summary, crate::status::vrrp::Vrrp) {
    const PART: usize = 64;
    let (engine, now) = (&host.engine, host.now);
    let cheap = || {
        let visits = engine.instances.visits.replace(0) + engine.instances.viewed.replace(0);
        assert!(visits <= AT_ONCE, "{visits}");
    };
    let (mut summary, mut next) = engine.summary_part(now, Position::default(), PART);
    cheap();
    while let Some(begin) = next {
        let (part, then) = engine.summary_part(now, begin, PART);
        assert!(part.interfaces.len() + part.instances.len() <= PART);
        (summary, next) = (summary.joined(part), then);
        cheap();
    }
    let (mut view, mut next) = engine.part_of_view(now, Position::default(), PART);
    cheap();
    while let Some(begin) = next {
        let (part, then) = engine.part_of_view(now, begin, PART);
        (view, next) = (view.joined(part), then);
        cheap();
    }
    (summary, view)
}

#[test]
fn parts_of_summaries_and_views_cost_little_whatever_they_are_about() {
    for host in [each_on_its_own_link(), Host::large_masters(), Host::new(five_thousand())] {
        host.engine.instances.visits.set(0);
        host.engine.instances.viewed.set(0);
        let (summary, view) = in_parts(&host);
        assert_eq!(summary, host.engine.summary(host.now));
        assert_eq!(view, host.engine.view(host.now));
    }
    // Those of one instance are missing, and all are listed.
    let mut host = Host::new(five_thousand());
    host.obedient = false;
    host.pass(4 * SECOND);
    while let Some((token, ops)) = host.seen.iter().find_map(|action| match action {
        Action::Apply { token, ops } => Some((*token, ops.len())),
        _ => None,
    }) {
        host.look();
        for item in (0..).take(ops) {
            host.event(Event::Applied { token, item, outcome: Outcome::Refused(22) });
        }
        host.event(Event::Timer);
    }
    host.engine.instances.visits.set(0);
    host.engine.instances.viewed.set(0);
    let (_, view) = in_parts(&host);
    assert!(view.instances[0].objects_missing.len() > 1000);
    assert_eq!(view, host.engine.view(host.now));
}

#[test]
fn the_device_of_a_vrf_concerns_the_instances_in_it() {
    let vrf: IfName = "red".parse().unwrap();
    let mut config = large(200);
    config.groups.clear();
    config.instances[7].extras.get_or_insert_default().vrf = Some(vrf);
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(config)));
    host.event(Event::Kernel(snapshot(LINKS)));
    host.pass(10 * SECOND);
    let device = Some(crate::plan::VrfRole::Device { table: 10 });
    let red = Link { index: index(90), vrf: device, ..link(IfIndex(9), "red", true) };
    let cost = host.cost(Event::Link(red.clone()));
    assert!((1..20).contains(&cost.visits), "{cost:?}");
    let cost = host.cost(Event::LinkGone(red.index));
    assert!((1..20).contains(&cost.visits), "{cost:?}");
}

#[test]
fn a_setting_that_a_thousand_interfaces_need_is_one_object() {
    use crate::plan::{ChangeKind, Identity, Setting};
    let mut config = large(200);
    config.groups.clear();
    let parent: IfName = "eth0".parse().unwrap();
    for (n, instance) in config.instances.iter_mut().enumerate() {
        instance.interface = parent.clone();
        instance.addresses[0].interface = parent.clone();
        sample::vmac(instance);
        let name: IfName = format!("vrrp.{n}").parse().unwrap();
        instance.addresses[0].interface = name.clone();
        instance.extras.as_mut().unwrap().own_link.as_mut().unwrap().name = name;
    }
    let mut host = Host::off();
    host.cost(Event::Reload(Arc::new(config))).assert_small(2);
    host.cost(Event::Kernel(snapshot(1))).assert_small(2);
    host.logged();
    let identity = Identity::Setting(index(0), Setting::ArpIgnore);
    let sight = Sight { identity, links: vec![index(0)], attributes: None };
    let change = Change { sight, kind: ChangeKind::Gone, own: false };
    let cost = host.cost(Event::Object(change));
    cost.assert_small(2);
    assert_eq!(cost.order, [true], "it is set again");
    let want = "VRRP_Instance(I0.1) arp_ignore 1 of eth0 was removed by another program, restoring it \
                (1000 instances use it)";
    assert_eq!(host.logged(), [want]);
    let view = host.engine.view(host.now);
    assert!(view.instances.iter().all(|i| i.counters.objects_restored == 1));
}

/// 1,000 instances of no group with five addresses each.
fn five_each(priority: u8) -> Vrrp {
    let mut config = large(priority);
    config.groups.clear();
    for instance in &mut config.instances {
        let first = instance.addresses[0].clone();
        for n in 0..4 {
            let mut more = first.clone();
            if let IpAddr::V4(a) = &mut more.prefix.address {
                *a = Ipv4Addr::from(u32::from(*a) + ((n + 1) << 8));
            }
            instance.addresses.push(more);
        }
    }
    config
}

/// One instance with 5,000 addresses.
fn five_thousand() -> Vrrp {
    let mut config = failover(200);
    let interface = config.instances[0].interface.clone();
    config.instances[0].excluded = (0..4999)
        .map(|n| sample::address(&format!("10.1.{}.{}/16", n / 250, 1 + n % 250), &interface))
        .collect();
    config
}
