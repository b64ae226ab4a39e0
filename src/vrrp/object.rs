//! Which claimant wants which kernel objects, and what the answers mean for an instance. [`crate::plan::Table`] decides
//! what is requested from the kernel, and when.

use super::consequence::What;
use super::event::InstanceId;
use super::instance::Instance;
use super::registry::Registry;
use super::{Action, Engine, HOLD_DOWN, LONGEST_HOLD_DOWN, Moment, Phase, Timer, filter};
use crate::base::IfIndex;
use crate::model;
use crate::plan::route::objects;
use crate::plan::{Change, Object, ObjectId, Outcome, Part, Request, Token, Waits, Want};

/// What claims an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimant {
    /// An instance, which wants it while it is master.
    Instance(InstanceId),
    /// An instance, which requires the object while it is not master.
    Standby(InstanceId),
    /// An instance, which wants it as long as the instance exists: the interface that is created for it.
    Link(InstanceId),
    /// The host, which wants it as long as the daemon runs: a static address, route or rule.
    Host,
}

/// Progress of claiming the objects of a new configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Claiming {
    /// Position of the instance.
    instance: usize,
    /// Position of its next object; after the last instance: of the host's next object.
    next: usize,
    /// Its objects claimed so far.
    entries: Vec<ObjectId>,
}

impl Engine {
    /// Claims some objects of a configuration; the first call drops all claims of the previous one. False when all are
    /// claimed.
    pub(super) fn claim_some(
        &mut self,
        claiming: &mut Claiming,
        new: &model::Vrrp,
        ids: &[Option<InstanceId>],
    ) -> bool {
        if *claiming == Claiming::default() {
            self.objects.release_all();
        }
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let position = claiming.next;
        claiming.next += 1;
        let instance = new.instances.get(claiming.instance);
        if let (Some(config), 0) = (instance, position)
            && let Some(id) = ids.get(claiming.instance).copied().flatten()
        {
            self.claim_links(new, config, id);
            self.claim_daemons(&mut claiming.entries, new, config, id);
        }
        if instance.is_none() && position == 0 {
            self.claim_daemons_of_host(new);
        }
        let (claimant, lists) = match instance {
            Some(config) => {
                let id = ids.get(claiming.instance).copied().flatten();
                (id.map(Claimant::Instance), Lists::of(new, config))
            }
            None => (Some(Claimant::Host), Lists::of_host(new)),
        };
        let mut claim = |object: Object| {
            let Some(claimant) = claimant else { return };
            let entry = self.objects.claim(object, claimant);
            // The same address twice is one entry; lists are short or have no duplicates.
            if claimant != Claimant::Host && claiming.entries.last() != Some(&entry) {
                claiming.entries.push(entry);
            }
        };
        match lists.at(position) {
            Some(Wanted::One(object)) => claim(object),
            Some(Wanted::Several(several)) => several.into_iter().for_each(claim),
            None if instance.is_none() => {
                self.objects.drop_strays();
                self.adopt_links();
                return false;
            }
            None => {
                claiming.instance += 1;
                claiming.next = 0;
                let entries = core::mem::take(&mut claiming.entries);
                if let Some(Claimant::Instance(id)) = claimant {
                    self.give(id, entries);
                }
            }
        }
        true
    }

    fn give(&mut self, id: InstanceId, entries: Vec<ObjectId>) {
        let entry = |id: &ObjectId| self.objects.entry(*id);
        let in_flight = entries.iter().filter_map(entry).filter(|e| e.is_in_flight()).count();
        if let Some(instance) = self.instances.get_mut(id) {
            instance.entries = entries;
            instance.in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
        }
    }

    /// The kernel reported a change of an object.
    pub(super) fn object_changed(&mut self, moment: &mut Moment<'_>, change: &Change) {
        let effect = self.objects.changed(change);
        if let Some(entry) = effect.added {
            self.added_by_others(entry);
        }
        let mut entries = effect.removed;
        let mut altered = effect.altered;
        let concerned = entries.iter().chain(&altered).flat_map(|entry| self.users_of_link(*entry));
        let concerned: Vec<InstanceId> = concerned.collect();
        altered.retain(|entry| !self.may_set_right(moment, *entry));
        entries.retain(|entry| self.removed_by_others(moment, *entry));
        entries.extend(effect.settle.into_iter().filter(|entry| !altered.contains(entry)));
        self.settle(moment, &entries);
        self.each(What::Refresh, concerned);
        self.then_act();
        if let Some((link, prefix)) = change.sight.as_address() {
            if effect.foreign || self.has_owner(link) {
                self.each(What::Source, self.on_link(link));
            }
            self.then_act();
            self.each(What::Source, self.instances.with_source(prefix.address));
            self.then_act();
        }
        self.work(moment);
    }

    /// Whether a virtual address on this link may be the source of adverts, too.
    fn has_owner(&self, link: IfIndex) -> bool {
        self.names_of(link).iter().any(|name| self.instances.has_owner(name))
    }

    /// An object was removed. Returns whether to restore it now: not while another program removes it repeatedly.
    fn removed_by_others(&mut self, moment: &Moment<'_>, entry: ObjectId) -> bool {
        if !self.running() || !self.wanted(entry) {
            return false;
        }
        let Some(what) = self.objects.entry(entry) else { return false };
        let claimants = what.claimants.clone();
        let object = std::sync::Arc::clone(&what.object);
        // An object that could not be created completely was removed again.
        let refused = what.refused.is_some() && matches!(*object, Object::Link(_));
        if !object.is_tracked() || refused {
            return false;
        }
        if claimants.contains(&Claimant::Host) && !matches!(*object, Object::FilterTable(_)) {
            tracing::warn!("static {object} was removed by another program, restoring it");
        }
        self.table_taken(entry);
        self.then_count_restored(object, claimants);
        self.may_set_right(moment, entry)
    }

    /// Whether a change by another program may be reverted at once; if not, it will be later.
    fn may_set_right(&mut self, moment: &Moment<'_>, entry: ObjectId) -> bool {
        if self.objects.may_restore(entry, moment.now) {
            return true;
        }
        if let Some(at) = self.objects.put_off(entry, 0, moment.now) {
            self.timers.set(Timer::Retry(entry), at);
        }
        false
    }

    /// Whether an object is to be in the kernel now.
    fn wanted(&self, entry: ObjectId) -> bool {
        self.objects.is_wanted(entry, |claimant| wants(&self.instances, self.phase, *claimant))
    }

    /// Requests the additions and removals that a few entries need.
    pub(super) fn settle_now(&mut self, moment: &mut Moment<'_>, entries: &[ObjectId]) {
        let Self { objects, instances, phase, .. } = self;
        let want = |claimant: &Claimant| wants(instances, *phase, *claimant);
        let request = objects.request(entries, moment.now, want);
        self.send(moment, request);
    }

    /// The same for one direction, and at most this many operations.
    pub(super) fn ask(
        &mut self,
        moment: &mut Moment<'_>,
        entries: &mut impl Iterator<Item = ObjectId>,
        part: Part,
        most: usize,
    ) -> Option<Token> {
        let Self { objects, instances, phase, .. } = self;
        let want = |claimant: &Claimant| wants(instances, *phase, *claimant);
        let request = objects.request_part(entries, part, most, moment.now, want);
        self.send(moment, request)
    }

    fn send(&mut self, moment: &mut Moment<'_>, request: Option<Request>) -> Option<Token> {
        let Request { token, ops, objects } = request?;
        // A change of state costs about as much as an operation or two.
        self.budget = self.budget.saturating_sub(ops.len());
        for entry in objects {
            let claimants =
                self.objects.entry(entry).map(|e| e.claimants.clone()).unwrap_or_default();
            for claimant in claimants {
                if let Claimant::Instance(id) | Claimant::Standby(id) = claimant
                    && let Some(instance) = self.instances.get_mut(id)
                {
                    instance.in_flight += 1;
                }
            }
        }
        moment.out.push(Action::Apply { token, ops });
        Some(token)
    }

    /// The kernel answered one operation.
    pub(super) fn applied(
        &mut self,
        moment: &mut Moment<'_>,
        token: Token,
        item: u32,
        outcome: Outcome,
    ) {
        let answer = self.objects.answered(token, item, outcome, moment.now);
        if !self.sweeps.is_empty() && !self.objects.is_open(token) {
            self.timers.set(Timer::Slice, moment.now);
        }
        let Some(answer) = answer else { return };
        let Some(entry) = self.objects.entry(answer.object) else { return };
        let claimants: Vec<InstanceId> = entry
            .claimants
            .iter()
            .filter_map(|claimant| match claimant {
                Claimant::Instance(id) | Claimant::Standby(id) => Some(*id),
                Claimant::Link(_) | Claimant::Host => None,
            })
            .collect();
        // If an object is refused because its table is missing, the log names the table.
        let told = matches!(self.objects.waits(answer.object), Some(Waits::FilterTable(..)));
        if let (Outcome::Refused(errno), false) = (outcome, answer.repeated || told) {
            let what = if answer.added { "add" } else { "remove" };
            let meanwhile = match entry.object.as_ref() {
                Object::FilterTable(_) if answer.added => {
                    "; meanwhile packets to virtual addresses are let in"
                }
                _ => "",
            };
            tracing::warn!(
                "cannot {what} {}: error {errno}, trying again{meanwhile}",
                entry.object
            );
        }
        if matches!(*entry.object, Object::Link(_))
            && outcome == Outcome::Done
            && answer.existed
            && answer.added
        {
            tracing::warn!("{} was not as configured and has been corrected", entry.object);
        }
        let users = self.users_of_link(answer.object);
        for id in &claimants {
            if let Some(instance) = self.instance_mut(*id) {
                instance.in_flight = instance.in_flight.saturating_sub(1);
            }
        }
        if let Some(at) = answer.retry_at {
            self.timers.set(Timer::Retry(answer.object), at);
            for id in &claimants {
                self.hold_down_if_hopeless(moment, *id, outcome);
            }
        } else if answer.added && !answer.existed {
            let is_address = self.objects.address(answer.object).is_some();
            for id in &claimants {
                if let Some(instance) = self.instance_mut(*id).filter(|_| is_address) {
                    instance.hold_downs = 0;
                }
                if self.instance(*id).is_some_and(Instance::is_master) {
                    self.announce_confirmed(moment, *id, answer.object);
                }
            }
        }
        if self.objects.own(answer.object).is_some()
            && let Some((link, _)) = self.objects.address(answer.object)
        {
            self.reconsider_sources(moment, self.on_link(link));
        }
        let mut entries = answer.affected;
        entries.push(answer.object);
        self.settle(moment, &entries);
        for id in claimants {
            self.announce_state_if_settled(moment, id);
            self.reconsider_all(moment, vec![id]);
        }
        self.each(What::Refresh, users);
        self.then_act();
        self.work(moment);
    }

    /// Announces an address whose link has come up, for masters that do not depend on that link.
    pub(super) fn announce_again(&mut self, moment: &mut Moment<'_>, entry: ObjectId) {
        let claimants = self.objects.entry(entry).map(|e| e.claimants.clone()).unwrap_or_default();
        for claimant in claimants {
            if let Claimant::Instance(id) = claimant
                && self.instance(id).is_some_and(Instance::is_master)
            {
                self.announce_confirmed(moment, id, entry);
            }
        }
    }

    /// A master whose addresses are all refused by the kernel leaves them to other routers for a while.
    fn hold_down_if_hopeless(&mut self, moment: &Moment<'_>, id: InstanceId, outcome: Outcome) {
        /// Not permitted.
        const EPERM: i32 = 1;
        if self.instance(id).is_some_and(Instance::is_master) && self.all_refused(id) {
            let Some(instance) = self.instance_mut(id) else { return };
            let doubled = HOLD_DOWN.saturating_mul(1 << instance.hold_downs.min(10));
            let time = if outcome == Outcome::Refused(EPERM) { LONGEST_HOLD_DOWN } else { doubled };
            let time = time.min(LONGEST_HOLD_DOWN);
            let until = moment.now + time;
            instance.hold_downs = instance.hold_downs.saturating_add(1);
            instance.held_down_until = Some(until);
            let name = instance.config.name.clone();
            tracing::warn!(
                "VRRP_Instance({name}) the kernel refuses all its addresses: others may have them for {} s",
                time.as_secs()
            );
            self.refresh(id);
            self.timers.set(Timer::HoldDown(id), until);
        }
    }
}

/// The objects that a claimant wants, in the order in which they are added.
struct Lists<'a> {
    addresses: [&'a [model::Address]; 2],
    routes: &'a [model::Route],
    rules: &'a [model::route::Rule],
    filters: filter::List<'a>,
}

/// The object at one position of a configuration.
enum Wanted {
    One(Object),
    Several(Vec<Object>),
}

impl<'a> Lists<'a> {
    fn of(all: &'a model::Vrrp, config: &'a model::Instance) -> Self {
        let extras = config.extras.as_deref();
        Self {
            addresses: [&config.addresses, &config.excluded],
            routes: extras.map(|e| e.routes.as_slice()).unwrap_or_default(),
            rules: extras.map(|e| e.rules.as_slice()).unwrap_or_default(),
            filters: filter::List::of(all, config),
        }
    }

    /// The objects that exist in every state: `static_ipaddress`, `static_routes`, `static_rules`.
    fn of_host(config: &'a model::Vrrp) -> Self {
        Self {
            addresses: [&config.static_addresses, &[]],
            routes: &config.static_routes,
            rules: &config.static_rules,
            filters: filter::List::Tables(config),
        }
    }

    fn at(&self, mut position: usize) -> Option<Wanted> {
        for addresses in self.addresses {
            if let Some(address) = addresses.get(position) {
                return Some(Wanted::One(Object::Address(address.clone())));
            }
            position -= addresses.len();
        }
        if let Some(route) = self.routes.get(position) {
            return Some(Wanted::Several(objects(route)));
        }
        position -= self.routes.len();
        if let Some(rule) = self.rules.get(position) {
            return Some(Wanted::One(Object::Rule(Box::new(rule.clone()))));
        }
        self.filters.at(position - self.rules.len()).map(Wanted::Several)
    }
}

/// How a claimant wants its objects now. A retained object stays if it exists, but is not added.
fn wants(instances: &Registry, phase: Phase, claimant: Claimant) -> Want {
    match claimant {
        Claimant::Instance(id) => match instances.get(id) {
            Some(instance) if instance.is_master() => Want::Yes,
            Some(instance) if instance.retained => Want::Keep,
            _ => Want::No,
        },
        Claimant::Standby(id) => match instances.get(id) {
            Some(instance) if !instance.is_master() && is_running(phase) => Want::Yes,
            _ => Want::No,
        },
        Claimant::Link(_) | Claimant::Host if is_running(phase) => Want::Yes,
        Claimant::Link(_) | Claimant::Host => Want::No,
    }
}

const fn is_running(phase: Phase) -> bool {
    matches!(phase, Phase::Running | Phase::Waiting { .. })
}
