//! From what is wanted to what the kernel holds.
//!
//! [`Engine::settle`] compares a service with the kernel and asks for the difference, one list at a time; when
//! the list is answered it compares again, until nothing is left to do. Then servers that waited count, the
//! sorry server moves on, and the quorum is looked at, each of which may lead to the next round. What the
//! kernel refuses is left out of the comparison until its time comes again.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::notify::say;
use super::service::{Dirty, Flight, Front, Queued, Refusal, Service, Standing};
use super::weight::effective;
use super::{Action, Engine, Moment, Phase, number, text};
use crate::model::{self, ServiceKey};
use crate::plan::ipvs::{
    Destination, DestinationKey, ENOENT, ESRCH, Entry, Op, Settings, Table, destination_op,
    service_op,
};
use crate::plan::{Outcome, Token};

/// Longest time to the next attempt at what the kernel refuses.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// More rounds of one service without an operation between them would be a circle.
const ROUNDS: usize = 16;

impl Engine {
    /// Does what there is to do for a service.
    pub(super) fn settle(&mut self, moment: &mut Moment<'_>, slot: u32) {
        for _ in 0..ROUNDS {
            if !matches!(self.phase, Phase::Running | Phase::Stopping { .. }) {
                return;
            }
            let Some(service) = self.services.get_mut(slot as usize) else {
                return;
            };
            if service.quarantined || service.flight.is_some() || service.reading {
                return;
            }
            if service.stale {
                self.read_again(moment, slot);
                return;
            }
            if self.in_flight >= self.limits.writes {
                // Who moves ahead leaves an entry behind that then finds nothing to do.
                let place = if self.bulk { Queued::Behind } else { Queued::Ahead };
                if service.queued < place {
                    service.queued = place;
                    match place {
                        Queued::Ahead => self.writes.push_front(slot),
                        _ => self.writes.push_back(slot),
                    }
                }
                return;
            }
            let ops = self.difference(slot);
            if !ops.is_empty() {
                self.write(moment, slot, ops);
                return;
            }
            self.drop_fronts(moment, slot);
            if self.is_gone(slot) {
                self.drop_service(slot);
                return;
            }
            if self.service(slot).is_none_or(|service| service.leaving) {
                return;
            }
            let moved = self.promote_taken(moment, slot);
            let moved = self.evaluate(moment, slot) || moved;
            let moved = self.advance_sorry(slot) || moved;
            if !moved {
                return;
            }
        }
        tracing::error!("a service does not settle; this is a defect, please report it");
    }

    fn write(&mut self, moment: &mut Moment<'_>, slot: u32, ops: Vec<Op>) {
        self.serial += 1;
        let token = Token(self.serial << 32 | u64::from(slot));
        let ops: Arc<[Op]> = ops.into();
        if let Some(service) = self.service_mut(slot) {
            service.flight = Some(Flight { token, ops: Arc::clone(&ops), answered: 0 });
            self.in_flight += 1;
            moment.out.push(Action::Apply { token, ops });
        }
    }

    /// The kernel answered one operation.
    pub(super) fn applied(
        &mut self,
        moment: &mut Moment<'_>,
        token: Token,
        item: u32,
        outcome: Outcome,
    ) {
        if token == super::start::FLUSH {
            self.flushed(moment, outcome);
            return;
        }
        let slot = u32::try_from(token.0 & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        let Some(flight) = self.services.get_mut(slot as usize).and_then(|s| s.flight.as_mut())
        else {
            return;
        };
        if flight.token != token {
            return;
        }
        flight.answered += 1;
        let landed = flight.answered >= number(flight.ops.len());
        let ops = Arc::clone(&flight.ops);
        self.enter(slot);
        if let Some(op) = ops.get(item as usize) {
            self.took(moment, slot, op, outcome);
        }
        if landed {
            self.in_flight = self.in_flight.saturating_sub(1);
            if let Some(service) = self.service_mut(slot) {
                service.flight = None;
                if service.backoff > 0 && !service.stale && !service.is_refused() {
                    service.backoff = 0;
                    self.retries.clear(slot);
                }
            }
            self.settle(moment, slot);
            self.write_waiting(moment);
        }
    }

    /// Lets services write that waited for others to be answered.
    pub(super) fn write_waiting(&mut self, moment: &mut Moment<'_>) {
        while self.in_flight < self.limits.writes {
            let Some(slot) = self.writes.pop_front() else {
                return;
            };
            if let Some(service) = self.service_mut(slot)
                && core::mem::take(&mut service.queued) != Queued::No
            {
                self.enter(slot);
                self.settle(moment, slot);
            }
        }
    }

    fn took(&mut self, moment: &mut Moment<'_>, slot: u32, op: &Op, outcome: Outcome) {
        let front = op.service().and_then(|key| self.service(slot)?.front(&key));
        let refused = front.is_some_and(|front| front.refused.is_some());
        match (op, outcome) {
            (_, Outcome::Done) => {
                self.counters.operations += 1;
                self.known.apply(op);
                self.accept(slot, op);
            }
            // As it should be, but by another hand: what else is different must be read.
            (Op::DeleteService { .. } | Op::DeleteDestination { .. }, Outcome::Already) => {
                self.known.apply(op);
                self.accept(slot, op);
                self.doubt(moment, slot, op);
            }
            // Somebody else made it: what it is like must be read.
            (_, Outcome::Already) => self.doubt(moment, slot, op),
            // The service could not be made, so its servers could not be added.
            (Op::AddDestination { .. }, Outcome::Refused(ESRCH)) if refused => {
                if let Some(service) = self.service_mut(slot) {
                    service.dirty = Dirty::All;
                }
            }
            // Somebody else removed it.
            (
                Op::SetService { .. } | Op::AddDestination { .. } | Op::SetDestination { .. },
                Outcome::Refused(ESRCH),
            )
            | (Op::SetDestination { .. }, Outcome::Refused(ENOENT)) => self.doubt(moment, slot, op),
            (_, Outcome::Refused(errno)) => {
                self.counters.refused += 1;
                self.refuse(moment, slot, op, errno);
            }
        }
    }

    /// What was asked for is so: earlier refusals of it are past.
    fn accept(&mut self, slot: u32, op: &Op) {
        let service = self.services.get_mut(slot as usize);
        let front = op.service().and_then(|key| service?.front_mut(&key));
        let Some(front) = front else {
            return;
        };
        match op.destination() {
            None => {
                front.refused = None;
                front.counts = true;
                self.unserved.remove(&front.key);
            }
            Some(destination) => {
                front.refusals.remove(&destination);
            }
        }
    }

    /// What the kernel holds is not what we believed.
    fn doubt(&mut self, moment: &Moment<'_>, slot: u32, op: &Op) {
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        if let Some(service) = self.service_mut(slot) {
            if !core::mem::replace(&mut service.stale, true) {
                tracing::warn!(
                    service = %service.id,
                    "the kernel's entries of VS {} were changed by another program ({}): reading them again",
                    service.id,
                    text::name(op)
                );
            }
            service.dirty = Dirty::All;
        }
        if !stopping {
            self.audit_soon(moment);
        }
    }

    fn refuse(&mut self, moment: &mut Moment<'_>, slot: u32, op: &Op, errno: i32) {
        let config = Arc::clone(&self.config);
        let model = self.config_of(&config, slot);
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let Some(service) = self.services.get_mut(slot as usize) else {
            return;
        };
        let wanted = match op {
            Op::AddDestination { settings, .. } | Op::SetDestination { settings, .. } => {
                Some(*settings)
            }
            _ => None,
        };
        let refusal = Refusal { errno, wanted, blocks: true };
        let Some(key) = op.service() else {
            return;
        };
        let named = match (model, op.destination()) {
            (Some(model), Some(destination)) => {
                is_named(service, model, &key, &destination).then_some(destination)
            }
            _ => None,
        };
        let id = service.id.clone();
        let Some(front) = service.front_mut(&key) else {
            // It went with a reload meanwhile.
            return;
        };
        let is_removal = matches!(op, Op::DeleteDestination { .. });
        let before = if let Some(destination) = named {
            front.refusals.insert(destination, refusal)
        } else if op.destination().is_none() || is_removal {
            if front.counts && matches!(op, Op::AddService { .. }) {
                self.unserved.insert(key);
            }
            front.refused.replace(refusal)
        } else {
            return;
        };
        if before.is_none_or(|before| before.errno != errno || before.wanted != wanted) {
            let line = text::Refused { op, errno };
            say!(error, id, "{line}");
        }
        if stopping {
            // There is no later: it stays, and is on record for the next process.
            match op {
                Op::DeleteService { service } => {
                    self.known.apply(op);
                    self.owned.insert(*service);
                }
                Op::DeleteDestination { .. } => {
                    self.known.apply(op);
                }
                _ => {}
            }
            return;
        }
        match op {
            Op::AddDestination { destination, .. } => {
                let positions: Vec<u32> = match (model, self.service(slot)) {
                    (Some(model), Some(service)) => {
                        service.sharing(model, &key, destination).collect()
                    }
                    _ => Vec::new(),
                };
                for position in positions {
                    self.knock_out(moment, slot, position);
                }
            }
            Op::AddService { .. } => {
                let servers = self.service(slot).map_or(0, |service| service.servers.len());
                for position in 0..number(servers) {
                    self.knock_out(moment, slot, position);
                }
            }
            _ => {}
        }
        self.try_later(moment, slot);
    }

    /// Arms the next attempt at what is refused: after 1 s, 2 s, 4 s .. 60 s.
    pub(super) fn try_later(&mut self, moment: &Moment<'_>, slot: u32) {
        if self.retries.get(slot).is_some() {
            return;
        }
        if let Some(service) = self.services.get_mut(slot as usize) {
            let delay = backoff(service.backoff);
            service.backoff = service.backoff.saturating_add(1);
            self.retries.set(slot, moment.now + delay);
        }
    }

    /// The time has come for another attempt at what was refused.
    pub(super) fn retry(&mut self, moment: &mut Moment<'_>, slot: u32) {
        self.enter(slot);
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        for front in &mut service.fronts {
            for refusal in front.refusals.values_mut().chain(front.refused.as_mut()) {
                refusal.blocks = false;
            }
        }
        service.dirty = Dirty::All;
        self.settle(moment, slot);
    }

    /// Reads a service again that is not what we believed: at once the first time, then later and later.
    fn read_again(&mut self, moment: &mut Moment<'_>, slot: u32) {
        let Some(service) = self.services.get_mut(slot as usize) else {
            return;
        };
        if service.backoff > 0 && self.retries.get(slot).is_some() {
            return;
        }
        let keys: Arc<[ServiceKey]> = service.fronts.iter().map(|front| front.key).collect();
        service.reading = true;
        if service.backoff == 0 {
            service.backoff = 1;
        } else {
            self.try_later(moment, slot);
        }
        moment.out.push(Action::Read { services: keys });
    }

    fn promote_taken(&mut self, moment: &mut Moment<'_>, slot: u32) -> bool {
        let config = Arc::clone(&self.config);
        let Some(model) = self.config_of(&config, slot) else {
            return false;
        };
        let Some(service) = self.service_mut(slot) else {
            return false;
        };
        let rising = core::mem::take(&mut service.rising);
        let mut moved = false;
        for position in rising {
            let Some(service) = self.services.get_mut(slot as usize) else {
                break;
            };
            let server = service.servers.get(position as usize);
            let Some(Standing::Rising(why)) = server.map(|server| server.standing) else {
                continue;
            };
            if is_taken(&self.known, service, model, position) {
                self.promote(moment, slot, position, why);
                moved = true;
            } else {
                service.rising.push(position);
            }
        }
        moved
    }

    /// What must be done so that the kernel holds what is wanted: additions, then removals.
    fn difference(&mut self, slot: u32) -> Vec<Op> {
        let config = Arc::clone(&self.config);
        let model = self.config_of(&config, slot);
        let Some(service) = self.services.get_mut(slot as usize) else {
            return Vec::new();
        };
        let mut dirty = core::mem::replace(&mut service.dirty, Dirty::Servers(Vec::new()));
        if let Dirty::Servers(positions) = &mut dirty {
            positions.sort_unstable();
            positions.dedup();
        }
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let at_once = stopping && config.flush_services_only;
        let mut ops = Vec::new();
        let mut again = false;
        for front in &service.fronts {
            let have = self.known.services.get(&front.key);
            let Some(model) = model.filter(|_| !service.leaving && !front.leaving) else {
                match have {
                    // The kernel removes its servers with it.
                    Some(_) if !front.is_blocked() && at_once => {
                        ops.push(Op::DeleteService { service: front.key });
                    }
                    Some(entry) if !front.is_blocked() => {
                        ops.extend(removal(front.key, entry, model));
                    }
                    _ => {}
                }
                continue;
            };
            match &dirty {
                // Without the service itself there is nothing to add servers to.
                _ if have.is_none() && front.is_blocked() => again = true,
                Dirty::Servers(positions) if have.is_some() => {
                    ops.extend(changes(service, model, front, have, positions.iter().copied()));
                }
                _ => ops.extend(everything(service, model, front, have)),
            }
        }
        if again {
            service.dirty = Dirty::All;
        }
        // Stable: what is alike keeps its order.
        ops.sort_by_key(|op| matches!(op, Op::DeleteDestination { .. } | Op::DeleteService { .. }));
        ops
    }

    /// Whether a service that is to go has gone.
    fn is_gone(&self, slot: u32) -> bool {
        self.service(slot).is_some_and(|service| service.leaving && service.fronts.is_empty())
    }

    /// Forgets what was to leave the kernel and has.
    fn drop_fronts(&mut self, moment: &mut Moment<'_>, slot: u32) {
        let Some(service) = self.services.get_mut(slot as usize) else {
            return;
        };
        let whole = service.leaving;
        let known = &self.known;
        let has_gone =
            |front: &Front| (whole || front.leaving) && !known.services.contains_key(&front.key);
        if !service.fronts.iter().any(has_gone) {
            return;
        }
        let (gone, kept): (Vec<Front>, Vec<Front>) =
            core::mem::take(&mut service.fronts).into_iter().partition(has_gone);
        service.fronts = kept;
        let mut was_leaving = false;
        for front in gone {
            self.by_front.remove(&front.key);
            self.unserved.remove(&front.key);
            was_leaving |= self.leaving.remove(&front.key);
        }
        // What another program puts there from now on is not ours.
        if was_leaving && self.leaving.is_empty() && matches!(self.phase, Phase::Running) {
            self.own(moment, None);
        }
    }

    fn drop_service(&mut self, slot: u32) {
        self.retries.clear(slot);
        if let Some(service) = self.services.try_remove(slot as usize) {
            self.by_id.remove(&service.id);
        }
    }
}

pub(super) fn backoff(step: u8) -> Duration {
    let seconds = 1u64.checked_shl(u32::from(step)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST_RETRY)
}

/// What an entry is to be in the kernel's table; none if there is to be none. Servers that share it are in it while
/// one of them is good: it has the weight of the first of those.
fn wanted(
    service: &Service,
    model: &model::Service,
    front: &ServiceKey,
    key: &DestinationKey,
) -> Option<Destination> {
    let sorry = model.sorry_server.as_ref().filter(|s| DestinationKey::sorry_at(s, front) == *key);
    if let Some(sorry) = sorry.filter(|_| service.sorry.serves()) {
        return Some(Destination::of_sorry(sorry, 1));
    }
    let mut found = None;
    for position in service.sharing(model, front, key) {
        let real = model.servers.get(position as usize)?;
        let server = service.servers.get(position as usize)?;
        let weight = match server.standing {
            Standing::Up | Standing::Rising(_) if service.is_open() => {
                return Some(Destination::of(real, effective(real, server)));
            }
            // The kernel refused it: it must prove that it can be added before it counts again.
            Standing::Rising(_) => Some(0),
            Standing::Up | Standing::Down => real.inhibit_on_failure.then_some(0),
        };
        found = found.or_else(|| weight.map(|weight| Destination::of(real, weight)));
    }
    found.or_else(|| {
        sorry.filter(|sorry| sorry.inhibit).map(|sorry| Destination::of_sorry(sorry, 0))
    })
}

/// Whether the kernel has what is wanted of a server, in one front at least: others may refuse it.
pub(super) fn is_taken(
    known: &Table,
    service: &Service,
    model: &model::Service,
    position: u32,
) -> bool {
    let Some(real) = model.servers.get(position as usize) else {
        return false;
    };
    service.fronts.iter().filter(|front| !front.leaving).any(|front| {
        let key = DestinationKey::at(real, &front.key);
        let want = wanted(service, model, &front.key, &key);
        known.destination(&front.key, &key) == want.as_ref()
    })
}

/// Whether the configuration names an entry.
fn is_named(
    service: &Service,
    model: &model::Service,
    front: &ServiceKey,
    key: &DestinationKey,
) -> bool {
    let sorry = model.sorry_server.as_ref();
    sorry.is_some_and(|sorry| DestinationKey::sorry_at(sorry, front) == *key)
        || service.sharing(model, front, key).next().is_some()
}

/// What makes one entry what is wanted, unless the kernel refuses just that.
fn entry_op(
    service: &Service,
    model: &model::Service,
    front: &Front,
    have: Option<&Entry>,
    key: DestinationKey,
) -> Option<Op> {
    let want = wanted(service, model, &front.key, &key);
    if front.refusals.get(&key).is_some_and(|refusal| refusal.blocks && refusal.wanted == want) {
        return None;
    }
    let have = have.and_then(|entry| entry.destinations.get(&key));
    destination_op(front.key, key, have, want.as_ref())
}

/// What makes the entries of these servers what is wanted.
fn changes(
    service: &Service,
    model: &model::Service,
    front: &Front,
    have: Option<&Entry>,
    positions: impl Iterator<Item = u32>,
) -> Vec<Op> {
    let mut seen = BTreeSet::new();
    positions
        .filter_map(|position| model.servers.get(position as usize))
        .map(|real| DestinationKey::at(real, &front.key))
        // Two operations on one entry in one list would contradict each other.
        .filter(|key| !service.twins || seen.insert(*key))
        .filter_map(|key| entry_op(service, model, front, have, key))
        .collect()
}

/// What makes a front what is wanted, compared as a whole.
fn everything(
    service: &Service,
    model: &model::Service,
    front: &Front,
    have: Option<&Entry>,
) -> Vec<Op> {
    let mut ops = Vec::new();
    if !front.is_blocked() {
        let settings = Settings::at(model, &front.key);
        ops.extend(service_op(front.key, have.map(|entry| &entry.settings), Some(&settings)));
    }
    let positions = 0..number(service.servers.len());
    ops.extend(changes(service, model, front, have, positions));
    if let Some(sorry) = &model.sorry_server {
        let key = DestinationKey::sorry_at(sorry, &front.key);
        // One that is a server, too, had its turn.
        if service.sharing(model, &front.key, &key).next().is_none() {
            ops.extend(entry_op(service, model, front, have, key));
        }
    }
    if let Some(entry) = have.filter(|_| !front.is_blocked()) {
        let strays = entry.destinations.iter().map(|(key, _)| key);
        let strays = strays.filter(|key| !is_named(service, model, &front.key, key));
        ops.extend(
            strays.map(|destination| Op::DeleteDestination { service: front.key, destination }),
        );
    }
    ops
}

/// Everything of a front: the sorry server, the servers in the order of the configuration, the service.
fn removal(key: ServiceKey, entry: &Entry, model: Option<&model::Service>) -> Vec<Op> {
    let mut left = entry.destinations.clone();
    let sorry = model.and_then(|m| m.sorry_server.as_ref());
    let sorry = sorry.map(|sorry| DestinationKey::sorry_at(sorry, &key));
    let servers = model.into_iter().flat_map(|m| &m.servers);
    let servers = servers.map(|server| DestinationKey::at(server, &key));
    let named: Vec<_> = sorry.into_iter().chain(servers).filter(|key| left.remove(key)).collect();
    named
        .into_iter()
        .chain(left.iter().map(|(key, _)| key))
        .map(|destination| Op::DeleteDestination { service: key, destination })
        .chain([Op::DeleteService { service: key }])
        .collect()
}
