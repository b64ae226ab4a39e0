//! apply(plan(a, b)) = b, and nothing in both sets is touched: the table of `plan` on the simulated kernel, with its
//! cascades, refusals and earlier objects.

use std::collections::{BTreeMap, BTreeSet};

mod others;
mod stock;

use stock::{kind, name, pick, prefix, some_set, some_set_alike};

use super::kernel::{Kernel, SimRoute};
use super::stacked::News;
use super::tests::seeds;
use crate::base::rng::Rng;
use crate::base::{IfIndex, IfName, Instant, Mac, Prefix};
use crate::model::route::Rule;
use crate::plan::filter::{Filter, FilterTable};
use crate::plan::sync::{SyncDaemon, SyncRole};
use crate::plan::{
    AddressAttributes, Change, ChangeKind, Identity, LinkAttributes, Object, ObjectId, Op, Outcome,
    Phase, Setting, Table, Token, Verb, Want,
};

const LINKS: [&str; 2] = ["eth0", "eth1"];
/// The kinds of objects, see [`kind`].
const KINDS: [&str; 8] =
    ["address", "route", "rule", "link", "setting", "filter table", "filter", "sync daemon"];
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
    foreign_links: Vec<(IfIndex, LinkAttributes)>,
    foreign_settings: BTreeMap<(IfIndex, Setting), u32>,
    foreign_tables: Vec<FilterTable>,
    foreign_filters: BTreeSet<Filter<IfIndex>>,
    foreign_daemons: BTreeMap<SyncRole, SyncDaemon>,
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
            foreign_links: Vec::new(),
            foreign_settings: BTreeMap::new(),
            foreign_tables: Vec::new(),
            foreign_filters: BTreeSet::new(),
            foreign_daemons: BTreeMap::new(),
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
                Some(Identity::Link(_, name)) => {
                    let index = self.kernel.link(&name).map(|link| link.index);
                    self.foreign_links.retain(|(other, _)| Some(*other) != index);
                }
                Some(Identity::FilterTable(id)) => {
                    self.foreign_tables.retain(|table| table.id() != id);
                    self.foreign_filters.retain(|filter| filter.table != id);
                }
                Some(Identity::SyncDaemon(role)) => {
                    self.foreign_daemons.remove(&role);
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
        for (index, attributes) in &self.foreign_links {
            let found = self.kernel.stacked.get(index).map(|s| &s.attributes);
            assert_eq!(found, Some(attributes), "interface of others after {after}");
        }
        for ((index, setting), value) in &self.foreign_settings {
            let found = self.kernel.setting(*index, *setting);
            assert_eq!(found, *value, "{} of others after {after}", setting.word());
        }
        for table in &self.foreign_tables {
            let there = self.kernel.filters.tables().any(|other| other == table);
            assert!(there, "{} of others after {after}", table.id());
        }
        for filter in &self.foreign_filters {
            let there = self.kernel.filters.elements().any(|other| other == filter);
            assert!(there, "{filter:?} of others after {after}");
        }
        for (role, daemon) in &self.foreign_daemons {
            let found = self.kernel.daemons.get(role);
            assert_eq!(found, Some(daemon), "of others after {after}");
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
                    .is_some_and(|l| self.kernel.is_made(l.index, parent, object))
            }
            Object::Setting(object) => {
                let link = self.index(object.interface.as_str());
                self.kernel.setting(link, object.setting) == object.value
            }
            Object::Rule(rule) => self.kernel.rules.contains(rule),
            Object::FilterTable(table) => self.kernel.filters.tables().any(|have| have == &**table),
            Object::SyncDaemon(wanted) => {
                // An option that is not wanted may have any value.
                self.kernel.daemons.get(&wanted.role).is_some_and(|have| {
                    (&have.interface, have.id) == (&wanted.interface, wanted.id)
                        && wanted.max_length.is_none_or(|length| have.max_length == Some(length))
                        && wanted.port.is_none_or(|port| have.port == Some(port))
                        && wanted.ttl.is_none_or(|ttl| have.ttl == Some(ttl))
                        && wanted.group.is_none_or(|group| have.group == Some(group))
                })
            }
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
        let made = self.kernel.links.len() - LINKS.len() - self.foreign_links.len();
        assert_eq!(made, objects.iter().filter(is_link).count(), "{step}: {:?}", self.kernel.links);
        for link in LINKS {
            for setting in Setting::ALL {
                let identity = Identity::Setting(name(link), setting);
                let wanted = objects.iter().any(|object| object.identity() == identity);
                let index = self.index(link);
                let value = self.kernel.setting(index, setting);
                let foreign = self.foreign_settings.get(&(index, setting)).copied();
                assert_eq!(
                    value,
                    foreign.unwrap_or(u32::from(wanted)),
                    "{step}: {} of {link}",
                    setting.word()
                );
            }
        }
        let rules = objects.iter().filter(|object| matches!(object, Object::Rule(_))).count();
        let want = rules + self.foreign_rules.len();
        assert_eq!(self.kernel.rules.len(), want, "{step}: {:?}", self.kernel.rules);
        let is_filter = |o: &&Object| matches!(o, Object::Filter(_));
        let filters = objects.iter().filter(is_filter).count();
        let want = filters + self.foreign_filters.len();
        assert_eq!(self.kernel.filters.matched().len(), want, "{step}: {:?}", self.kernel);
        let is_table = |o: &&Object| matches!(o, Object::FilterTable(_));
        let tables = objects.iter().filter(is_table).count();
        let want = tables + self.foreign_tables.len();
        assert_eq!(self.kernel.filters.tables().count(), want, "{step}: {:?}", self.kernel);
        let is_daemon = |o: &&Object| matches!(o, Object::SyncDaemon(_));
        let daemons = objects.iter().filter(is_daemon).count();
        let want = daemons + self.foreign_daemons.len();
        assert_eq!(self.kernel.daemons.len(), want, "{step}: {:?}", self.kernel.daemons);
        let others = others + addresses + rules + filters + tables + daemons;
        let want = objects.len() - others + self.foreign_routes.len();
        assert_eq!(self.kernel.routes.len(), want, "{step}: {:?}", self.kernel.routes);
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

/// Three configurations one after the other, starting with a kernel that has parts of them and foreign objects. Returns
/// the kinds of the objects that two successive ones had in common. `extended`: with all kinds of foreign objects and
/// remainders; without, the same draws as when the seeds of the tests below were found.
fn exchange(seed: u64, extended: bool) -> Vec<&'static str> {
    let mut host = Host::new(seed);
    let taken = if extended { host.add_foreign() } else { Vec::new() };
    let set = |host: &mut Host, like: &[Object]| {
        let draw: fn(&mut Rng, &[Object]) -> Vec<Object> =
            if extended { some_set_alike } else { some_set };
        let mut set = draw(&mut host.rng, like);
        set.retain(|object| !taken.contains(&object.identity()));
        set
    };
    let a = set(&mut host, &[]);
    let b = set(&mut host, &a);
    let c = set(&mut host, &b);
    let mut kinds = Vec::new();
    host.leave_behind(&a);
    let b_left: Vec<Object> = b.iter().filter(|o| o.phase() != Phase::Link).cloned().collect();
    host.leave_behind(&b_left);
    if extended {
        host.leave_more_behind(&a);
    }
    host.kernel.take_news();
    host.note_foreign();
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
        kinds.extend(host.common.iter().map(kind));
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
    kinds
}

/// The kernel reports late that an address is gone which has been added again (`Verb::Replace`). Seed 603: it kept its
/// position before another one of its subnet, which was later removed with it. Seed 923: another interface had the same
/// address and lost it, so its routes were considered gone and stayed forever.
#[test]
fn a_removal_that_is_told_late_changes_nothing() {
    for seed in [603, 923] {
        exchange(seed, false);
    }
}

/// A route that gets a source while that is deleted and added again does not disappear with it (seed 2228).
#[test]
fn a_route_does_not_go_with_a_source_that_it_is_yet_to_get() {
    exchange(2228, false);
}

#[test]
fn a_plan_makes_one_set_of_the_other_and_touches_nothing_that_both_have() {
    let mut common: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in seeds() {
        let played = std::panic::catch_unwind(|| exchange(seed, true));
        assert!(played.is_ok(), "replay it with EVERVIP_SEED={seed}");
        for kind in played.unwrap_or_default() {
            *common.entry(kind).or_default() += 1;
        }
    }
    // A single seed that is replayed need not have all.
    if seeds().count() > 1 {
        for kind in KINDS {
            assert!(common.get(kind).is_some_and(|count| *count > 0), "{kind}: {common:?}");
        }
    }
}
