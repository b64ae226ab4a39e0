//! How long a step of the VRRP engine takes in the large cases: `cargo bench --no-default-features --bench steps`.
//! A step keeps the adverts of all other instances waiting, so the largest one counts and not their sum.
//!
//! The kernel carries out every request, and its answers are separate steps. Log lines are formatted as in the daemon
//! and discarded.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "its output")]
#![allow(clippy::disallowed_methods, reason = "it reads the clock")]

use core::fmt::Write;
use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use evervip::base::{Family, IfIndex, Instant, Mac, Prefix};
use evervip::model::{Instance, Vrrp, sample};
use evervip::plan::{Outcome, Sight};
use evervip::status::vrrp::State;
use evervip::vrrp::{Action, Actions, Engine, Event, Link, Rx, Snapshot};
use evervip::wire::{ip, vrrp as wire};

const LINKS: u32 = 4;
/// Number of repetitions of each case.
const TIMES: usize = 5;

/// Formats the text of each line as the daemon does.
struct Lines;

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            event.record(&mut |_: &tracing::field::Field, value: &dyn core::fmt::Debug| {
                let _ = write!(line, "{value:?} ");
            });
        });
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// The durations of the steps caused by one event until nothing was left to do at its time.
#[derive(Clone, Debug, Default)]
struct Cost {
    steps: Vec<Duration>,
    /// The steps that process answers of the kernel.
    answers: Vec<Duration>,
    operations: usize,
}

impl Cost {
    /// The steps are the same each time; a longer duration was a disturbance.
    fn least(mut self, other: &Self) -> Self {
        let both = [(&mut self.steps, &other.steps), (&mut self.answers, &other.answers)];
        for (mine, others) in both {
            assert_eq!(mine.len(), others.len());
            mine.iter_mut().zip(others).for_each(|(mine, other)| *mine = (*mine).min(*other));
        }
        self
    }
}

struct Host {
    engine: Engine,
    now: Instant,
    out: Actions,
}

impl Host {
    fn new(config: &Vrrp) -> Self {
        let now = Instant::from_nanos(5_000_000_000);
        let mut host = Self { engine: Engine::new(now), now, out: Actions::new() };
        host.cost(Event::Reload(Arc::new(config.clone())));
        host
    }

    /// With all instances as master, if their priority permits it.
    fn running(config: &Vrrp) -> Self {
        let mut host = Self::new(config);
        host.cost(Event::Kernel(view(LINKS)));
        host.pass(Duration::from_secs(10));
        host
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.cost(Event::Timer);
        }
        self.now = end;
    }

    fn cost(&mut self, event: Event<'_>) -> Cost {
        let mut cost = Cost::default();
        self.step(event, &mut cost);
        while self.engine.deadline().is_some_and(|at| at <= self.now) {
            self.step(Event::Timer, &mut cost);
        }
        cost
    }

    fn step(&mut self, event: Event<'_>, cost: &mut Cost) {
        let begin = Clock::now();
        self.engine.handle(self.now, event, &mut self.out);
        cost.steps.push(begin.elapsed());
        let mut answers = Vec::new();
        loop {
            for action in self.out.list() {
                if let Action::Apply { token, ops } = action {
                    cost.operations += ops.len();
                    answers.extend((0..).take(ops.len()).map(|item| (*token, item)));
                }
            }
            self.out.clear();
            if answers.is_empty() {
                return;
            }
            for (token, item) in core::mem::take(&mut answers) {
                let begin = Clock::now();
                let event = Event::Applied { token, item, outcome: Outcome::Done };
                self.engine.handle(self.now, event, &mut self.out);
                cost.answers.push(begin.elapsed());
            }
        }
    }

    fn count(&self, state: State) -> usize {
        let view = self.engine.view(self.now);
        view.instances.iter().filter(|i| i.state == state).count()
    }
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').expect("ADDRESS/LENGTH");
    let (address, length) = (address.parse().expect("address"), length.parse().expect("length"));
    Prefix::new(address, length).expect("it fits")
}

fn link(number: u32, up: bool) -> Link {
    Link {
        index: IfIndex(number + 1),
        name: format!("eth{number}").parse().expect("a name"),
        up,
        arp: true,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        settings: evervip::plan::Settings::default(),
        vrf: None,
    }
}

fn view(links: u32) -> Snapshot {
    let own = |n: u32| Sight::address(IfIndex(n + 1), prefix(&format!("10.{n}.1.254/16")));
    Snapshot {
        links: (0..links).map(|n| link(n, true)).collect(),
        objects: (0..LINKS).map(own).collect(),
        ..Snapshot::default()
    }
}

/// 1,000 instances with this many addresses each.
fn thousand(priority: u8, vips: u8, grouped: bool) -> Vrrp {
    let mut config = Vrrp::default();
    let mut names = Vec::new();
    for n in 0..LINKS {
        for vrid in 1..=250 {
            let name = format!("I{n}.{vrid}");
            let vips: Vec<String> =
                (0..vips).map(|v| format!("10.{n}.{}.{vrid}/16", 2 + v)).collect();
            let vips: Vec<&str> = vips.iter().map(String::as_str).collect();
            config.instances.push(sample::instance(
                &name,
                &format!("eth{n}"),
                vrid,
                priority,
                &vips,
            ));
            names.push(name);
        }
    }
    if grouped {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        config.groups.push(sample::group("G", &names));
    }
    config
}

/// One instance with 5,000 addresses.
fn five_thousand() -> Vrrp {
    let mut instance = sample::instance("I", "eth0", 1, 200, &["10.0.200.1/16"]);
    let interface = instance.interface.clone();
    instance.excluded = (0..5000u32)
        .map(|n| sample::address(&format!("10.0.{}.{}/16", 2 + n / 250, 1 + n % 250), &interface))
        .collect();
    Vrrp { instances: vec![instance], ..Vrrp::default() }
}

fn changed(config: &Vrrp, change: impl Fn(&mut Instance)) -> Vrrp {
    let mut config = config.clone();
    config.instances.iter_mut().for_each(change);
    config
}

fn case(name: &str, mut take: impl FnMut() -> Cost) {
    let cost = (0..TIMES).map(|_| take()).reduce(|all, one| all.least(&one)).unwrap_or_default();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let largest = |times: &[Duration]| ms(times.iter().max().copied().unwrap_or_default());
    println!(
        "{name:<54} {:>6} {:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>7}",
        cost.steps.len(),
        largest(&cost.steps),
        ms(cost.steps.iter().sum()),
        largest(&cost.answers),
        ms(cost.answers.iter().sum()),
        cost.operations
    );
}

/// An advert for instance I0.7 of [`thousand`].
fn advert(priority: u8) -> (Rx, Vec<u8>) {
    let from = [10, 0, 1, 253];
    let addresses = [IpAddr::from([10, 0, 2, 7])];
    let content = wire::Content {
        version: 2,
        vrid: 7,
        priority,
        interval: Duration::from_secs(1),
        auth: Some(wire::Auth { kind: 1, data: *b"1066\0\0\0\0" }),
        addresses: &addresses,
        family: Family::V4,
        pseudo: None,
    };
    let mut payload = Vec::new();
    wire::encode(&content, &mut payload);
    let length = u16::try_from(payload.len()).expect("short");
    let to = [224, 0, 0, 18];
    let mut packet = ip::encode(1, length, from.into(), to.into(), 255, ip::VRRP).to_vec();
    packet.extend(payload);
    let (source, destination) = (from.into(), to.into());
    (Rx { interface: IfIndex(1), source, destination, hop_limit: 255 }, packet)
}

/// Nanoseconds for an advert received by one of a thousand backups.
fn received(grouped: bool) -> f64 {
    const COUNT: u32 = 100_000;
    let mut host = Host::new(&thousand(100, 1, grouped));
    host.cost(Event::Kernel(view(LINKS)));
    let (rx, packet) = advert(200);
    let begin = Clock::now();
    for _ in 0..COUNT {
        host.engine.handle(host.now, Event::Advert { rx, packet: &packet }, &mut host.out);
        host.out.clear();
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(COUNT)
}

fn main() {
    let _ = tracing::subscriber::set_global_default(Lines);
    println!(
        "{:<54} {:>6} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "ms", "steps", "largest", "all", "answer", "all", "ops"
    );
    let grouped = thousand(200, 1, true);
    let five = thousand(200, 5, false);
    case("a  reload of 1,000 unchanged instances in one group", || {
        let mut host = Host::running(&grouped);
        assert_eq!(host.count(State::Master), 1000);
        host.cost(Event::Reload(Arc::new(grouped.clone())))
    });
    case("b  link down in that group", || {
        let mut host = Host::running(&grouped);
        let cost = host.cost(Event::Link(link(0, false)));
        assert_eq!(host.count(State::Fault), 1000);
        cost
    });
    case("c  first view of 4,000 links, 1,000 instances", || {
        Host::new(&grouped).cost(Event::Kernel(view(4000)))
    });
    case("c2 the same view again", || {
        let mut host = Host::new(&grouped);
        host.cost(Event::Kernel(view(4000)));
        host.cost(Event::Kernel(view(4000)))
    });
    case("c3 first configuration of 1,000 instances", || {
        let now = Instant::from_nanos(5_000_000_000);
        let mut host = Host { engine: Engine::new(now), now, out: Actions::new() };
        host.cost(Event::Kernel(view(LINKS)));
        host.cost(Event::Reload(Arc::new(grouped.clone())))
    });
    let of_5000 = five_thousand();
    case("e  master of 5,000 VIPs", || {
        let mut host = Host::new(&of_5000);
        host.cost(Event::Kernel(view(LINKS)));
        host.now = host.engine.deadline().expect("a silence");
        let cost = host.cost(Event::Timer);
        assert_eq!(host.count(State::Master), 1);
        cost
    });
    case("e2 end of a master of 5,000 VIPs: link down", || {
        Host::running(&of_5000).cost(Event::Link(link(0, false)))
    });
    case("f  stop of 1,000 instances with 5 VIPs", || {
        Host::running(&five).cost(Event::Stop { keep_addresses: false })
    });
    case("g  reload with another interval for 1,000 instances", || {
        let new = changed(&five, |i| i.advert_int = Duration::from_secs(2));
        Host::running(&five).cost(Event::Reload(Arc::new(new)))
    });
    case("g2 reload with other VIPs of 1,000 instances", || {
        let new = changed(&five, |i| {
            for address in &mut i.addresses {
                if let IpAddr::V4(a) = &mut address.prefix.address {
                    *a = (u32::from(*a) | 0x8000).into();
                }
            }
        });
        Host::running(&five).cost(Event::Reload(Arc::new(new)))
    });
    case("g3 reload that removes 1,000 instances", || {
        Host::running(&five).cost(Event::Reload(Arc::new(Vrrp::default())))
    });
    let (alone, member) = (received(false), received(true));
    println!(
        "d  an advert heard by a backup: {alone:.0} ns alone, {member:.0} ns in a group of 1,000 ({:.2})",
        member / alone
    );
}
