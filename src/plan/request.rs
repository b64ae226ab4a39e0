//! From the entries of the table to operations in an order that causes no interruption, and the effect of their
//! answers.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::object::{Difference, Identity, Object, Op, Sight, Verb};
use super::table::{InFlight, ObjectId, Table, Want};
use super::{Outcome, Token};
use crate::base::{IfIndex, Instant, Prefix};

/// Operations to carry out in order.
#[derive(Debug)]
pub struct Request {
    /// Repeated in each answer.
    pub token: Token,
    pub ops: Vec<Op>,
    /// The entry of each operation.
    pub objects: Vec<ObjectId>,
}

/// Which operations are requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All operations that are necessary.
    All,
    /// Only operations on wanted objects.
    Additions,
    /// Only operations on unwanted objects.
    Removals,
}

impl Part {
    const fn takes(self, wanted: bool) -> bool {
        match self {
            Self::All => true,
            Self::Additions => wanted,
            Self::Removals => !wanted,
        }
    }
}

/// The effect of an answer on its entry.
#[derive(Debug)]
pub struct Answer {
    /// The entry.
    pub object: ObjectId,
    /// The operation was an addition or change, not a removal.
    pub added: bool,
    /// It existed before and stayed.
    pub existed: bool,
    /// When it is tried again; none if it succeeded.
    pub retry_at: Option<Instant>,
    /// The kernel had refused it before as well.
    pub repeated: bool,
    /// Other entries to compare again.
    pub affected: Vec<ObjectId>,
}

impl<C: Copy + PartialEq> Table<C> {
    /// The operations that these entries need; `want` gives how a claimant wants its objects now. Additions come before
    /// removals, and an object before those that depend on it.
    pub fn request(
        &mut self,
        ids: &[ObjectId],
        now: Instant,
        want: impl Fn(&C) -> Want,
    ) -> Option<Request> {
        let mut ids = ids.to_vec();
        ids.sort_by_key(|id| self.entry(*id).map(|e| e.object.phase()));
        self.request_part(&mut ids.into_iter(), Part::All, usize::MAX, now, want)
    }

    /// As [`Self::request`], for entries in the order of their requests, until there are `most` operations; entries
    /// left in `ids` have not been examined.
    pub fn request_part(
        &mut self,
        ids: &mut impl Iterator<Item = ObjectId>,
        part: Part,
        most: usize,
        now: Instant,
        want: impl Fn(&C) -> Want,
    ) -> Option<Request> {
        let (mut additions, mut removals) = (Vec::new(), Vec::new());
        while additions.len() + removals.len() < most
            && let Some(id) = ids.next()
        {
            let wanted = self.is_wanted(id, &want);
            if !part.takes(wanted) {
                continue;
            }
            let keep = self.want(id, &want) == Want::Keep;
            match self.next(id, wanted, keep, now) {
                None if wanted => {}
                None => self.collect(id),
                Some(true) => additions.push(id),
                Some(false) => removals.push(id),
            }
        }
        if additions.is_empty() && removals.is_empty() {
            return None;
        }
        let removals = self.arrange(removals, &additions);
        additions.extend(removals);
        let ops = additions.iter().filter_map(|id| self.op(*id)).collect();
        self.next_token += 1;
        let token = Token(self.next_token);
        self.requests.insert(token, additions.iter().copied().map(Some).collect());
        Some(Request { token, ops, objects: additions })
    }

    /// Whether operations of a request are still unanswered.
    #[must_use]
    pub fn is_open(&self, token: Token) -> bool {
        self.requests.contains_key(&token)
    }

    /// Begins the operation that an entry needs: true to add or change it, false to remove it. Nothing while an
    /// operation of it is in flight, something it needs is missing or a retry is not due. Retained objects and the
    /// interface's own addresses are not changed.
    fn next(&mut self, id: ObjectId, wanted: bool, keep: bool, now: Instant) -> Option<bool> {
        self.put_if_moving(id);
        let present = self.is_present(id);
        if !wanted && self.is_shadowed(id) {
            return None;
        }
        let waits = match wanted {
            true => self.waits(id).is_some(),
            false => self.entry(id).is_some_and(|entry| self.waits_for_address(&entry.object)),
        };
        let alone = !self.shares_slot(id);
        let links = {
            let entry = self.entry(id)?;
            self.numbers(&entry.object)
        };
        let entry = self.entries.get_mut(id.0 as usize)?;
        if entry.in_flight.is_some() {
            return None;
        }
        if !present {
            entry.before = None;
            entry.doubtful = false;
        }
        let identity = entry.place.clone()?;
        let verb = match (wanted, present, &entry.before) {
            (true, false, _) => Verb::Add,
            (true, true, Some(before)) if !keep && !entry.own => {
                let in_place = entry.object.difference(before) != Difference::Anew && alone;
                Verb::Replace { before: Arc::clone(before), in_place }
            }
            (true, true, None) if entry.doubtful => Verb::Add,
            (true, true, _) | (false, false, _) => {
                entry.refused = None;
                return None;
            }
            (false, true, _) if entry.own => return None,
            (false, true, _) => Verb::Delete { keep_secondaries: false },
        };
        if waits || entry.refused.is_some_and(|r| now < r.retry_at && r.removal != wanted) {
            return None;
        }
        let doubtful = core::mem::take(&mut entry.doubtful);
        if !matches!(verb, Verb::Delete { .. }) {
            entry.before = None;
        }
        let adds = verb.adds();
        entry.placed |= matches!(verb, Verb::Add);
        let links = links.into_iter().map(|(_, index)| index).collect();
        entry.in_flight = Some(InFlight {
            verb,
            sight: Sight { identity, links, attributes: None },
            existed: present,
            doubtful,
            told: false,
        });
        Some(adds)
    }

    /// Sorts removals: dependent objects first. If the kernel would remove addresses that must stay, or that are
    /// removed separately, together with the first one of their subnet, that one comes last and is marked to keep the
    /// others.
    fn arrange(&mut self, mut removals: Vec<ObjectId>, additions: &[ObjectId]) -> Vec<ObjectId> {
        let place = |id: &ObjectId| self.entry(*id)?.place.as_ref();
        let coming: BTreeSet<(IfIndex, Prefix)> = additions
            .iter()
            .filter_map(|id| match place(id)? {
                Identity::Address(link, prefix) => Some((*link, prefix.network())),
                Identity::Route(_)
                | Identity::Rule(_)
                | Identity::Link(..)
                | Identity::Setting(..)
                | Identity::FilterTable(_)
                | Identity::Filter(_)
                | Identity::SyncDaemon(_) => None,
            })
            .collect();
        let mut subnets: BTreeMap<(IfIndex, Prefix), Vec<(u64, ObjectId)>> = BTreeMap::new();
        let mut last: BTreeMap<ObjectId, u64> = BTreeMap::new();
        for id in &removals {
            let place = self.entry(*id).and_then(|e| e.place.as_ref());
            if let Some(subnet) = place.and_then(|place| self.observed.subnet(place)) {
                subnets.entry(subnet.key).or_default().push((subnet.place, *id));
            }
        }
        for members in subnets.values() {
            let Some((_, any)) = members.first() else { continue };
            let place = self.entry(*any).and_then(|e| e.place.clone());
            let Some(subnet) = place.and_then(|place| self.observed.subnet(&place)) else {
                continue;
            };
            let comes = coming.contains(&subnet.key);
            let stays = members.len() < subnet.size;
            let with_first = members.iter().any(|(place, _)| *place == subnet.first);
            if !(comes || stays && with_first) {
                continue;
            }
            last.extend(members.iter().map(|(place, id)| (*id, u64::MAX - place)));
            // An address that is deleted and added again becomes the last of its subnet, and another one the first.
            for (_, id) in members.iter().filter(|(place, _)| comes || *place == subnet.first) {
                if let Some(entry) = self.entries.get_mut(id.0 as usize)
                    && let Some(operation) = &mut entry.in_flight
                {
                    operation.verb = Verb::Delete { keep_secondaries: true };
                }
            }
        }
        removals.sort_by_key(|id| {
            let phase = self.entry(*id).map(|e| e.object.phase());
            (Reverse(phase), last.get(id).copied().unwrap_or(0))
        });
        removals
    }

    /// An object as the kernel is given it: a route of a VRF is in the table of that.
    fn in_table(&self, object: &Arc<Object>) -> Arc<Object> {
        let Object::Route(route) = object.as_ref() else { return Arc::clone(object) };
        match route.vrf.as_ref().and_then(|vrf| self.vrfs.get(vrf)) {
            Some(table) => Arc::new(Object::Route(Box::new(super::route::in_table(route, *table)))),
            None => Arc::clone(object),
        }
    }

    /// The operation of an entry that is in flight.
    fn op(&self, id: ObjectId) -> Option<Op> {
        let entry = self.entry(id)?;
        let verb = match entry.in_flight.as_ref()?.verb.clone() {
            Verb::Replace { before, in_place } => {
                Verb::Replace { before: self.in_table(&before), in_place }
            }
            verb => verb,
        };
        let object = match (&verb, &entry.before) {
            // With the kernel's attributes.
            (Verb::Delete { .. }, Some(before)) => before,
            _ => &entry.object,
        };
        let object = self.in_table(object);
        let mut links = self.numbers(&object);
        if let (Object::Link(object), Some(place)) = (object.as_ref(), &entry.place) {
            links.extend(self.numbers.at(place).map(|own| (object.link.name.clone(), own)));
        }
        Some(Op { verb, object, links })
    }

    /// Processes the kernel's answer to one operation.
    pub fn answered(
        &mut self,
        token: Token,
        item: u32,
        outcome: Outcome,
        now: Instant,
    ) -> Option<Answer> {
        let items = self.requests.get_mut(&token)?;
        let object = items.get_mut(item as usize)?.take();
        if items.iter().all(Option::is_none) {
            self.requests.remove(&token);
        }
        let object = object?;
        let entry = self.entries.get_mut(object.0 as usize)?;
        let InFlight { verb, mut sight, existed, doubtful, told } = entry.in_flight.take()?;
        let mut anew = matches!(verb, Verb::Replace { in_place: false, .. });
        if outcome == Outcome::Done && (anew || matches!(verb, Verb::Delete { .. })) {
            entry.echo = !told;
        }
        let address = sight.as_address();
        let removal = matches!(verb, Verb::Delete { .. });
        // The address had indeed been removed.
        anew |= doubtful && address.is_some() && verb == Verb::Add && outcome == Outcome::Done;
        let mut answer = Answer {
            object,
            added: verb.adds(),
            existed: existed && !anew,
            retry_at: None,
            repeated: entry.refused.is_some(),
            affected: Vec::new(),
        };
        match (outcome, verb) {
            // The kernel has removed the old one, and refused the new one.
            (Outcome::Refused(_), Verb::Replace { .. }) if told => {
                self.lost(&sight.identity, &mut answer.affected);
            }
            (Outcome::Refused(_), Verb::Replace { before, .. }) => {
                entry.before = Some(before);
                entry.doubtful = doubtful;
            }
            // Only the answer could have told, so it stays in doubt.
            (Outcome::Refused(_), Verb::Add) if doubtful => {
                entry.doubtful = true;
            }
            // It was in doubt whether it exists.
            (Outcome::Refused(_), Verb::Add) => {
                self.lost(&sight.identity, &mut answer.affected);
            }
            // Another program has removed it meanwhile.
            (Outcome::Refused(_), Verb::Delete { .. }) if told => {
                self.lost(&sight.identity, &mut answer.affected);
            }
            // It stays, and what waited for its end does so no longer.
            (Outcome::Refused(_), Verb::Delete { .. }) => {
                entry.doubtful |= doubtful;
                if let Some((_, prefix)) = address {
                    answer.affected.extend(self.waiting_for(prefix.address));
                }
            }
            (outcome, verb @ (Verb::Add | Verb::Replace { .. })) => {
                entry.refused = None;
                if outcome == Outcome::Done || !matches!(verb, Verb::Add) {
                    sight.attributes = None;
                    self.observed.confirm(&sight.identity, &sight.links);
                }
                // A table is created as a whole; its previous elements are gone.
                self.lost_elements(&sight.identity, &mut answer.affected);
                if anew {
                    // It was gone for a moment, together with objects that depend on it.
                    self.lost(&sight.identity, &mut answer.affected);
                }
                self.saw(sight);
                if let Some((_, prefix)) = address {
                    answer.affected.extend(self.waiting_for(prefix.address));
                }
            }
            (_, Verb::Delete { .. }) => {
                entry.refused = None;
                let unclaimed = entry.claimants.is_empty();
                self.lost(&sight.identity, &mut answer.affected);
                if unclaimed && matches!(sight.identity, Identity::Link(..)) {
                    answer.affected.extend(self.missing_links());
                }
            }
        }
        if answer.added
            && let Some(entry) = self.entry(object)
        {
            let filters = self.filters_of(&entry.object);
            answer.affected.extend(filters);
        }
        if let (true, Some(Object::Filter(filter))) =
            (removal, self.entry(object).map(|entry| entry.object.as_ref()))
        {
            answer.affected.extend(self.addresses_of(filter));
        }
        if let Outcome::Refused(errno) = outcome {
            answer.retry_at = self.put_off(object, errno, now);
            if let Some(refused) = self.entry_mut(object).and_then(|entry| entry.refused.as_mut()) {
                refused.removal = removal;
            }
        }
        Some(answer)
    }
}
