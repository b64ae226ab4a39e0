//! Two configurations, one after the other: common objects are not touched, and in the end the second one is in effect.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use evervip::base::rng::Rng;
use evervip::base::{IfIndex, IfName, Instant, Prefix};
use evervip::model::vrrp::{Instance, Vrrp};
use evervip::model::{Lvs, diff};
use evervip::plan::Outcome;
use evervip::plan::ipvs::{Destination, DestinationKey, Entry, Settings, Table, plan};
use evervip::sim::kernel::Kernel;
use evervip::status::vrrp::State;
use evervip::vrrp::{Action, Actions, Engine, Event, RunEnd};

use super::check::World;
use super::config::read;

/// Two configurations with a line `=====` between them.
pub fn pair(data: &[u8]) {
    // Small ones are as useful as large ones.
    let data = data.get(..6000).unwrap_or(data);
    const LINE: &[u8] = b"\n=====\n";
    let at = data.windows(LINE.len()).position(|w| w == LINE).unwrap_or(data.len());
    let (first, second) = data.split_at(at);
    let first = read(first).model;
    let second = read(second.strip_prefix(LINE).unwrap_or(second)).model;
    matching(&first.vrrp, &second.vrrp);
    tables(&first.lvs, &second.lvs);
    services(&first.lvs, &second.lvs);
    routers(&first.vrrp, &second.vrrp);
}

/// Every instance occurs in the matching exactly once.
fn matching(old: &Vrrp, new: &Vrrp) {
    let found = diff::instances(old, new);
    let mut olds: Vec<usize> = found.kept.iter().map(|(o, _)| *o).chain(found.removed).collect();
    let mut news: Vec<usize> = found.kept.iter().map(|(_, n)| *n).chain(found.added).collect();
    olds.sort_unstable();
    news.sort_unstable();
    assert!(olds.into_iter().eq(0..old.instances.len()));
    assert!(news.into_iter().eq(0..new.instances.len()));
    let same = diff::instances(new, new);
    assert!(same.added.is_empty() && same.removed.is_empty());
}

/// The table with every server in service.
fn table(lvs: &Lvs) -> Table {
    let entry = |service: &evervip::model::Service| Entry {
        settings: Settings::of(service),
        destinations: service
            .servers
            .iter()
            .map(|s| (DestinationKey::of(s), Destination::of(s, s.weight)))
            .collect(),
    };
    let services = lvs.services.iter().map(|s| (s.key, entry(s))).collect();
    Table { services, ..Table::default() }
}

/// The plan between two tables turns one into the other and does not touch equal entries.
fn tables(old: &Lvs, new: &Lvs) {
    let (old, new) = (table(old), table(new));
    assert!(plan(&new, &new).is_empty());
    let ops = plan(&old, &new);
    let mut now = old.clone();
    for op in &ops {
        assert_eq!(now.apply(op), Outcome::Done, "{op:?}");
        let key = op.service().expect("no plan empties the table");
        let same = old.services.get(&key) == new.services.get(&key);
        assert!(!same, "touched without need: {op:?}");
    }
    assert_eq!(now, new);
}

/// The check engine: an unchanged service gets no operation; exactly the wanted entries exist.
fn services(old: &Lvs, new: &Lvs) {
    let mut world = World::new();
    world.run(old);
    world.ops.clear();
    let before = world.kernel.clone();
    world.run(new);
    for service in &new.services {
        let same = old.services.contains(service)
            && old.no_checker_emails == new.no_checker_emails
            && before.services.contains_key(&service.key);
        let touched = world.ops.iter().find(|op| op.service() == Some(service.key));
        // Its checks may get the same result later, if they had none before.
        if same && before.services.get(&service.key) == world.kernel.services.get(&service.key) {
            assert_eq!(touched, None, "an equal service is touched");
        }
    }
    let there: BTreeSet<_> = world.kernel.services.keys().copied().collect();
    let wanted: BTreeSet<_> = new.services.iter().map(|s| s.key).collect();
    assert_eq!(there, wanted);
}

/// The VRRP engine: an unchanged instance keeps its state and its addresses; exactly masters have their addresses.
fn routers(old: &Vrrp, new: &Vrrp) {
    let interfaces: BTreeSet<&IfName> =
        [old, new].into_iter().flat_map(|v| v.instances.iter().map(|i| &i.interface)).collect();
    if interfaces.is_empty() || interfaces.len() > 6 || old.instances.len() > 12 {
        return;
    }
    let names: Vec<IfName> = interfaces.into_iter().cloned().collect();
    let mut host = Host::new(&names);
    host.run(old);
    let states: BTreeMap<_, _> =
        old.instances.iter().map(|i| (&i.name, host.engine.state(i.name.as_str()))).collect();
    host.touched.clear();
    host.event(Event::Reload(Arc::new(new.clone())));
    let shared = |i: &Instance| {
        let mut others = new.instances.iter().chain(&old.instances).filter(|o| o.name != i.name);
        let groups = old.groups.iter().chain(&new.groups);
        let grouped = groups.flat_map(|g| &g.members).any(|m| *m == i.name);
        grouped || others.any(|o| o.interface == i.interface)
    };
    for instance in new.instances.iter().filter(|i| old.instances.contains(i) && !shared(i)) {
        let state = host.engine.state(instance.name.as_str());
        assert_eq!(Some(&state), states.get(&instance.name), "{}", instance.name);
        if state == Some(State::Master) {
            let interface = host.kernel.link(&instance.interface).map(|l| l.index);
            let mut touched = host.touched.iter();
            let bad = touched.find(|(i, p)| {
                let own = |a: &evervip::model::Address| a.prefix == *p;
                Some(*i) == interface && instance.addresses.iter().any(own)
            });
            assert_eq!(bad, None, "an address of {} is touched", instance.name);
        }
    }
    host.pass();
    host.check(new);
}

/// A machine whose kernel carries out every request, without other routers.
struct Host {
    engine: Engine,
    now: Instant,
    kernel: Kernel,
    own: Vec<(IfIndex, Prefix)>,
    rng: Rng,
    touched: Vec<(IfIndex, Prefix)>,
}

impl Host {
    fn new(names: &[IfName]) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let kernel = Kernel::new(1, names);
        let own = kernel.addresses.clone();
        let mut new =
            Self { engine: Engine::new(now), now, kernel, own, rng: Rng::new(1), touched: vec![] };
        new.event(Event::Kernel(new.kernel.snapshot()));
        new
    }

    fn run(&mut self, config: &Vrrp) {
        self.event(Event::Reload(Arc::new(config.clone())));
        self.pass();
        self.check(config);
    }

    /// Lets time pass until every instance has had time to become master.
    fn pass(&mut self) {
        for _ in 0..400 {
            let Some(due) = self.engine.deadline() else { break };
            self.now = self.now.max(due);
            self.event(Event::Timer);
        }
    }

    fn event(&mut self, event: Event<'_>) {
        let mut out = Actions::new();
        self.engine.handle(self.now, event, &mut out);
        for action in out.list() {
            match action {
                Action::Apply { token, ops } => {
                    for (item, op) in (0..).zip(ops) {
                        let address = op.as_address();
                        self.touched.extend(address.map(|(i, a)| (i, a.prefix)));
                        let outcome = self.kernel.apply(op, &mut self.rng);
                        self.event(Event::Applied { token: *token, item, outcome });
                    }
                }
                Action::Join { interface, group } | Action::Overhear { interface, group } => {
                    let (interface, group): (IfIndex, IpAddr) = (*interface, *group);
                    self.event(Event::Joined { interface, group, outcome: Outcome::Done });
                }
                Action::RunScript { run, .. } => {
                    self.event(Event::Ran { run: *run, end: RunEnd::Exit(0) });
                }
                _ => {}
            }
        }
    }

    /// Checks that exactly the addresses of masters and the machine's own exist.
    fn check(&self, config: &Vrrp) {
        assert_eq!(self.engine.failures(), 0, "a step panicked");
        let statics = config.static_addresses.iter();
        let mut wanted: BTreeSet<(IfIndex, Prefix)> =
            statics.filter_map(|a| self.place(a)).collect();
        for instance in &config.instances {
            let all = instance.addresses.iter().chain(&instance.excluded);
            if self.engine.holds_addresses(instance.name.as_str()) {
                wanted.extend(all.filter_map(|a| self.place(a)));
            }
        }
        for place in &wanted {
            assert!(self.kernel.addresses.contains(place), "{place:?} is missing");
        }
        for place in &self.kernel.addresses {
            let ours = wanted.contains(place) || self.own.contains(place);
            assert!(ours, "{place:?} belongs to no instance");
        }
    }

    fn place(&self, address: &evervip::model::Address) -> Option<(IfIndex, Prefix)> {
        Some((self.kernel.link(&address.interface)?.index, address.prefix))
    }
}
