//! apply(plan(a, b)) = b, and nothing in both sets is touched: the table of `plan` on the simulated kernel, with its
//! cascades, refusals and earlier objects.

use std::collections::BTreeSet;

mod stock;

use stock::{name, pick, prefix, some_set, variant};

use super::kernel::{Kernel, SimRoute};
use super::stacked::News;
use super::tests::seeds;
use crate::base::rng::Rng;
use crate::base::{IfIndex, Instant, Mac, Prefix};
use crate::model::route::Rule;
use crate::plan::{
    AddressAttributes, Change, ChangeKind, Identity, Object, ObjectId, Op, Outcome, Phase, Setting,
    Table, Token, Verb, Want,
};

const LINKS: [&str; 2] = ["eth0", "eth1"];
/// Foreign objects: never touched.
const FOREIGN: [&str; 4] = ["10.5.0.200/24", "10.5.0.201/24", "10.6.0.200/16", "2001:db8::200/64"];

/// A kernel and the table that brings it to the wanted state.
struct Host {
    kernel: Kernel,
    table: Table<u8>,
    rng: Rng,
    now: Instant,
    /// Objects that must stay unchanged while one set is replaced by another.
    common: Vec<Object>,
    /// Addresses added by other programs.
    foreign: BTreeSet<(IfIndex, Prefix)>,
    foreign_routes: Vec<SimRoute>,
    foreign_rules: BTreeSet<Rule>,
    /// When refused operations are retried.
    retries: BTreeSet<(Instant, ObjectId)>,
}

impl Host {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut kernel = Kernel::new(1, &LINKS.map(name));
        kernel.promote = rng.chance(50);
        let mut host = Self {
            kernel,
            table: Table::default(),
            rng,
            now: Instant::ZERO,
            common: Vec::new(),
            foreign: BTreeSet::new(),
            foreign_routes: Vec::new(),
            foreign_rules: BTreeSet::new(),
            retries: BTreeSet::new(),
        };
        for text in FOREIGN {
            if host.rng.chance(50) {
                let link = pick(&mut host.rng, &LINKS);
                let link = host.index(link);
                host.kernel.add(link, prefix(text));
            }
        }
        host
    }

    fn index(&self, link: &str) -> IfIndex {
        self.kernel.link(&name(link)).unwrap().index
    }

    fn op(&self, verb: Verb, object: &Object) -> Op {
        let links = object.interfaces().into_iter();
        let links = links.map(|name| (name.clone(), self.kernel.link(name).unwrap().index));
        Op { verb, links: links.collect(), object: object.clone().into() }
    }

    /// Adds some of these objects, possibly with other attributes, to the kernel before the daemon starts.
    fn leave_behind(&mut self, objects: &[Object]) {
        for object in objects {
            // A route would disappear with its source, which cannot be prevented.
            let setting = matches!(object, Object::Setting(_));
            // A table with other settings is not reported: an engine test covers that.
            let is_filter = matches!(object, Object::FilterTable(_) | Object::Filter(_));
            let is_daemon = matches!(object, Object::SyncDaemon(_));
            let possible = object.source().is_none() && !setting && !is_filter && !is_daemon;
            if self.rng.chance(40) && possible {
                let object = variant(&mut self.rng, object);
                let op = self.op(Verb::Add, &object);
                self.kernel.apply(&op, &mut Rng::new(0));
            }
        }
    }

    /// What a starting daemon does: it learns the links and the existing objects.
    fn start(&mut self) {
        for link in LINKS {
            let index = self.index(link);
            self.table.set_link(&name(link), Some(index));
        }
        for sight in self.kernel.snapshot().objects {
            self.table.saw(sight);
        }
    }

    fn claim(&mut self, objects: &[Object]) {
        self.table.release_all();
        for object in objects {
            match self.op(Verb::Add, object).identity() {
                Some(Identity::Address(link, prefix)) => {
                    self.foreign.remove(&(link, prefix));
                }
                Some(Identity::Route(route)) => {
                    self.foreign_routes.retain(|other| other.identity != *route);
                }
                Some(Identity::Rule(rule)) => {
                    self.foreign_rules.remove(&rule);
                }
                _ => {}
            }
            self.table.claim(object.clone(), 0);
        }
    }

    /// Processes kernel events as an engine does: returns the entries to compare again.
    fn tell(&mut self, changes: &[Change]) -> Vec<ObjectId> {
        let mut all = Vec::new();
        for change in changes {
            let effect = self.table.changed(change);
            all.extend(effect.removed);
            all.extend(effect.settle);
        }
        all
    }

    /// Compares these entries until nothing is left to do, and retries refused operations. With `patient` false only
    /// until it would have to wait.
    fn settle(&mut self, mut queue: Vec<ObjectId>, patient: bool) {
        for _ in 0..2_000 {
            if queue.is_empty() {
                if !patient {
                    return;
                }
                let Some((at, id)) = self.retries.pop_first() else { return };
                self.now = self.now.max(at);
                queue.push(id);
            }
            let Some(request) = self.table.request(&queue, self.now, |_| Want::Yes) else {
                queue.clear();
                continue;
            };
            queue = self.carry_out(request.token, &request.ops);
        }
        panic!("it never ends");
    }

    /// The kernel carries out operations in order. Its answers and its events arrive over two sockets: each in order,
    /// but interleaved at random.
    fn carry_out(&mut self, token: Token, ops: &[Op]) -> Vec<ObjectId> {
        let (mut answers, mut events) = (Vec::new(), Vec::new());
        for (item, op) in (0u32..).zip(ops) {
            for common in &self.common {
                assert!(op.object.identity() != common.identity(), "asked for: {op}");
            }
            let (outcome, gone) = self.kernel.change(op, &mut self.rng);
            if let Some((link, _)) = op.as_address() {
                events.extend(gone.iter().map(|p| Change::address(link, *p, false, true)));
            }
            events.extend(self.kernel.take_events());
            events.extend(self.link_events());
            self.look(&format!("{op:?}: {outcome:?}"));
            answers.push((item, outcome));
        }
        for ((_, outcome), op) in answers.iter().zip(ops) {
            if let (Some((link, address)), Outcome::Done) = (op.as_address(), outcome) {
                let is = self.kernel.has(link, address.prefix);
                assert_eq!(is, op.verb.adds(), "{op}: another operation undid it");
            }
        }
        let mut again = Vec::new();
        let (mut answers, mut events) =
            (answers.into_iter().peekable(), events.into_iter().peekable());
        while answers.peek().is_some() || events.peek().is_some() {
            if events.peek().is_none() || answers.peek().is_some() && self.rng.chance(50) {
                let (item, outcome) = answers.next().unwrap();
                let answer = self.table.answered(token, item, outcome, self.now).unwrap();
                again.extend(answer.affected);
                again.push(answer.object);
                self.retries.extend(answer.retry_at.map(|at| (at, answer.object)));
                assert_eq!(matches!(outcome, Outcome::Refused(_)), answer.retry_at.is_some());
            } else {
                let event = events.next().unwrap();
                again.extend(self.tell(&[event]));
            }
        }
        again
    }

    /// The kernel's events about stacked interfaces; they do not tell who requested a change.
    fn link_events(&mut self) -> Vec<Change> {
        let news = self.kernel.take_news().into_iter();
        let changes = news.filter_map(|news| match news {
            News::Link(index) => {
                let kind = ChangeKind::Present;
                self.kernel.link_change(index, false).map(|change| Change { kind, ..change })
            }
            News::Gone(_, _, change) => Some(change),
        });
        changes.collect()
    }

    /// Checks that the objects that must stay exist.
    fn look(&self, after: &str) {
        for (link, prefix) in &self.foreign {
            assert!(self.kernel.has(*link, *prefix), "{prefix} of others after {after}");
        }
        for route in &self.foreign_routes {
            assert!(self.kernel.routes.contains(route), "{route:?} of others after {after}");
        }
        for rule in &self.foreign_rules {
            assert!(self.kernel.rules.contains(rule), "{rule:?} of others after {after}");
        }
        for object in &self.common {
            assert!(self.has(object), "{object} after {after}");
        }
    }

    /// Whether an object exists as wanted.
    fn has(&self, object: &Object) -> bool {
        match object {
            Object::Address(address) => {
                let link = self.kernel.link(&address.interface).unwrap().index;
                let sight = self.kernel.attributes.get(&(link, address.prefix));
                self.kernel.has(link, address.prefix)
                    && sight.cloned().unwrap_or_default() == AddressAttributes::of(address)
            }
            Object::Route(route) => {
                let Some(place) = self.op(Verb::Add, object).identity() else { return false };
                self.kernel.routes.iter().any(|have| {
                    have.sight().identity == place
                        && route.interface.as_ref().is_none_or(|name| {
                            self.kernel.link(name).is_some_and(|l| have.links.contains(&l.index))
                        })
                        && have.source == route.source
                        && have.attributes.metrics == route.metrics
                })
            }
            Object::Link(object) => {
                let link = &object.link;
                let parent = self.index(link.parent.as_str());
                self.kernel
                    .link(&link.name)
                    .is_some_and(|l| self.kernel.is_made(l.index, parent, link))
            }
            Object::Setting(object) => {
                let link = self.index(object.interface.as_str());
                self.kernel.setting(link, object.setting) == object.value
            }
            Object::Rule(rule) => self.kernel.rules.contains(rule),
            Object::FilterTable(table) => self.kernel.filters.tables().any(|have| have == &**table),
            Object::SyncDaemon(daemon) => self.kernel.daemons.get(&daemon.role) == Some(&**daemon),
            Object::Filter(_) => {
                let place = self.op(Verb::Add, object).identity();
                place.is_some_and(|place| self.kernel.filters.has(&place))
            }
        }
    }

    /// Checks that exactly the wanted and the foreign objects exist.
    fn is(&self, objects: &[Object], step: &str) {
        for object in objects {
            assert!(self.has(object), "{step}: {object} is missing: {:?}", self.kernel);
        }
        self.look(step);
        let addresses = objects.iter().filter(|object| object.address().is_some()).count();
        let want = addresses + self.foreign.len();
        assert_eq!(self.kernel.addresses.len(), want, "{step}: {:?}", self.kernel.addresses);
        let others = objects.iter().filter(|object| object.phase() == Phase::Link).count();
        let is_link = |object: &&Object| matches!(object, Object::Link(_));
        let made = self.kernel.links.len() - LINKS.len();
        assert_eq!(made, objects.iter().filter(is_link).count(), "{step}: {:?}", self.kernel.links);
        for link in LINKS {
            for setting in Setting::ALL {
                let identity = Identity::Setting(name(link), setting);
                let wanted = objects.iter().any(|object| object.identity() == identity);
                let value = self.kernel.setting(self.index(link), setting);
                assert_eq!(value, u32::from(wanted), "{step}: {} of {link}", setting.word());
            }
        }
        let rules = objects.iter().filter(|object| matches!(object, Object::Rule(_))).count();
        let want = rules + self.foreign_rules.len();
        assert_eq!(self.kernel.rules.len(), want, "{step}: {:?}", self.kernel.rules);
        let is_filter = |o: &&Object| matches!(o, Object::Filter(_));
        let filters = objects.iter().filter(is_filter).count();
        assert_eq!(self.kernel.filters.matched().len(), filters, "{step}: {:?}", self.kernel);
        let is_table = |o: &&Object| matches!(o, Object::FilterTable(_));
        let tables = objects.iter().filter(is_table).count();
        assert_eq!(self.kernel.filters.tables().count(), tables, "{step}: {:?}", self.kernel);
        let is_daemon = |o: &&Object| matches!(o, Object::SyncDaemon(_));
        let daemons = objects.iter().filter(is_daemon).count();
        assert_eq!(self.kernel.daemons.len(), daemons, "{step}: {:?}", self.kernel.daemons);
        let others = others + addresses + rules + filters + tables + daemons;
        let want = objects.len() - others + self.foreign_routes.len();
        assert_eq!(self.kernel.routes.len(), want, "{step}: {:?}", self.kernel.routes);
    }

    /// Changes by other programs on a running host, and the daemon's reaction.
    fn disturb(&mut self) {
        let link = pick(&mut self.rng, &LINKS);
        let (name, index) = (name(link), self.index(link));
        match self.rng.below(6) {
            4 => {
                self.kernel.filters.flush();
                let changes = self.kernel.take_events();
                let again = self.tell(&changes);
                self.settle(again, true);
            }
            3 => {
                // Another program removes an interface, or changes it.
                let Some(above) = self.kernel.on_parent(index).first().copied() else { return };
                if self.rng.chance(50) {
                    let change = self.kernel.link_change(above, false);
                    self.kernel.remove_link(above);
                    let again = self.tell(&change.into_iter().collect::<Vec<_>>());
                    self.settle(again, true);
                } else {
                    self.kernel.spoil(above);
                    let changes = self.link_events();
                    let again = self.tell(&changes);
                    self.settle(again, true);
                }
            }
            0 => {
                let held = self.kernel.addresses.clone();
                if held.is_empty() {
                    return;
                }
                let (link, prefix) = pick(&mut self.rng, &held);
                if self.foreign.contains(&(link, prefix)) {
                    return;
                }
                let gone = self.kernel.remove(link, prefix);
                // Without promotion the kernel also removes foreign addresses of this subnet.
                gone.iter().for_each(|gone| {
                    self.foreign.remove(&(link, *gone));
                });
                let mut changes: Vec<Change> =
                    gone.iter().map(|p| Change::address(link, *p, false, false)).collect();
                changes.extend(self.kernel.take_events());
                let again = self.tell(&changes);
                self.settle(again, true);
            }
            1 => {
                self.kernel.flush_rules();
                self.foreign_rules.clear();
                let changes = self.kernel.take_events();
                let again = self.tell(&changes);
                self.settle(again, true);
            }
            2 => {
                self.foreign_routes.retain(|route| !route.links.contains(&index));
                for up in [false, true] {
                    self.kernel
                        .links
                        .iter_mut()
                        .filter(|l| l.index == index)
                        .for_each(|l| l.up = up);
                    if !up {
                        self.kernel.went_down(index);
                    }
                    self.kernel.follow_parent(index, up);
                    let mut changes = self.kernel.take_events();
                    changes.extend(self.link_events());
                    let mut again = self.tell(&changes);
                    again.extend(self.table.link_changed(&name));
                    self.settle(again, up);
                }
            }
            _ => {
                let mut changes: Vec<Change> = self
                    .kernel
                    .remove_link(index)
                    .into_iter()
                    .map(|prefix| Change::address(index, prefix, false, false))
                    .collect();
                changes.extend(self.kernel.take_events());
                changes.extend(self.link_events());
                self.foreign.retain(|(link, _)| *link != index);
                self.foreign_routes.retain(|route| !route.links.contains(&index));
                let mut again = self.tell(&changes);
                again.extend(self.table.forget_link(index));
                again.extend(self.table.set_link(&name, None));
                self.settle(again, false);
                let index = self.kernel.make_link(&name, Mac([2, 0, 0, 0, 0, 9]));
                let again = self.table.set_link(&name, Some(index));
                self.settle(again, true);
            }
        }
    }
}

/// The objects that are the same in both sets and do not depend on changed ones.
fn common(a: &[Object], b: &[Object], refusals: bool) -> Vec<Object> {
    let holders = |all: &[Object], source| {
        all.iter()
            .filter(|o| o.address().is_some_and(|a| Some(a.prefix.address) == source))
            .cloned()
            .collect::<Vec<_>>()
    };
    let steady = |object: &&Object| {
        if let Object::Filter(filter) = object {
            // It is recreated with its table.
            let is_table =
                |o: &&Object| matches!(o, Object::FilterTable(t) if t.id() == filter.table);
            return a.iter().find(is_table) == b.iter().find(is_table);
        }
        let Object::Route(route) = object else { return true };
        let (before, after) = (holders(a, route.source), holders(b, route.source));
        let anew = before
            .iter()
            .any(|old| after.iter().any(|new| new.identity() == old.identity() && new != old));
        // If the new location of the source is refused, the old one is removed nevertheless.
        before == after || !anew && !refusals
    };
    a.iter().filter(|object| b.contains(object)).filter(steady).cloned().collect()
}

/// Three configurations one after the other, starting with a kernel that has parts of them and foreign objects.
fn exchange(seed: u64) {
    let mut host = Host::new(seed);
    let a = some_set(&mut host.rng, &[]);
    let b = some_set(&mut host.rng, &a);
    let c = some_set(&mut host.rng, &b);
    host.leave_behind(&a);
    let b_left: Vec<Object> = b.iter().filter(|o| o.phase() != Phase::Link).cloned().collect();
    host.leave_behind(&b_left);
    host.kernel.take_news();
    host.foreign = host.kernel.addresses.iter().copied().collect();
    host.foreign_routes = host.kernel.routes.clone();
    host.foreign_rules = host.kernel.rules.clone();
    host.kernel.refusals = if host.rng.chance(50) { 30 } else { 0 };
    let early = host.rng.chance(50);
    if early {
        host.claim(&a);
    }
    host.start();
    let mut old: Vec<Object> = Vec::new();
    for (step, new) in [("a", a), ("b", b), ("c", c)] {
        if host.rng.chance(50) {
            host.disturb();
        }
        host.common = common(&old, &new, host.kernel.refusals > 0);
        host.claim(&new);
        host.look("a disturbance");
        host.settle(host.table.ids(), true);
        host.common.clear();
        host.is(&new, step);
        let ids = host.table.ids();
        assert_eq!(ids.len(), new.len(), "{step}: an unwanted entry is kept");
        assert!(host.table.request(&ids, host.now, |_| Want::Yes).is_none(), "{step}");
        assert!(!host.table.is_busy());
        old = new;
    }
}

/// The kernel reports late that an address is gone which has been added again (`Verb::Replace`). Seed 603: it kept its
/// position before another one of its subnet, which was later removed with it. Seed 923: another interface had the same
/// address and lost it, so its routes were considered gone and stayed forever.
#[test]
fn a_removal_that_is_told_late_changes_nothing() {
    for seed in [603, 923] {
        exchange(seed);
    }
}

/// A route that gets a source while that is deleted and added again does not disappear with it (seed 2228).
#[test]
fn a_route_does_not_go_with_a_source_that_it_is_yet_to_get() {
    exchange(2228);
}

#[test]
fn a_plan_makes_one_set_of_the_other_and_touches_nothing_that_both_have() {
    for seed in seeds() {
        let played = std::panic::catch_unwind(|| exchange(seed));
        assert!(played.is_ok(), "replay it with EVERVIP_SEED={seed}");
    }
}
