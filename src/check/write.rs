//! From what is wanted to what the kernel holds.
//!
//! [`Engine::settle`] compares a service with the kernel and asks for the difference, one list at a time; when
//! the list is answered it compares again, until nothing is left to do. Then servers that waited count, the
//! sorry server moves on, and the quorum is looked at, each of which may lead to the next round. What the
//! kernel refuses is left out of the comparison until its time comes again.

use core::time::Duration;
use std::sync::Arc;

use super::notify::say;
use super::service::{Dirty, Flight, Queued, Refusal, Service, Standing};
use super::{Action, Cx, Engine, Phase, number, text};
use crate::model::{self, ServiceKey};
use crate::plan::ipvs::{
    Destination, DestinationKey, ENOENT, ESRCH, Entry, Op, Settings, destination_op, service_op,
};
use crate::plan::{Outcome, Token};

/// Longest time to the next attempt at what the kernel refuses.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// More rounds of one service without an operation between them would be a circle.
const ROUNDS: usize = 16;

impl Engine {
    /// Does what there is to do for a service.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>, slot: u32) {
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
                self.read_again(cx, slot);
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
                self.write(cx, slot, ops);
                return;
            }
            if self.is_gone(slot) {
                self.drop_service(cx, slot);
                return;
            }
            if self.service(slot).is_none_or(|service| service.leaving) {
                return;
            }
            let moved = self.promote_taken(cx, slot);
            let moved = self.evaluate(cx, slot) || moved;
            let moved = self.advance_sorry(slot) || moved;
            if !moved {
                return;
            }
        }
        tracing::error!("a service does not come to rest; this is a defect, please report it");
    }

    fn write(&mut self, cx: &mut Cx<'_>, slot: u32, ops: Vec<Op>) {
        self.serial += 1;
        let token = Token(self.serial << 32 | u64::from(slot));
        let ops: Arc<[Op]> = ops.into();
        if let Some(service) = self.service_mut(slot) {
            service.flight = Some(Flight { token, ops: Arc::clone(&ops), answered: 0 });
            self.in_flight += 1;
            cx.out.push(Action::Apply { token, ops });
        }
    }

    /// The kernel answered one operation.
    pub(super) fn applied(&mut self, cx: &mut Cx<'_>, token: Token, item: u32, outcome: Outcome) {
        if token == super::start::FLUSH {
            self.flushed(cx, outcome);
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
            self.took(cx, slot, op, outcome);
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
            self.settle(cx, slot);
            self.write_waiting(cx);
        }
    }

    /// Lets services write that waited for others to be answered.
    pub(super) fn write_waiting(&mut self, cx: &mut Cx<'_>) {
        while self.in_flight < self.limits.writes {
            let Some(slot) = self.writes.pop_front() else {
                return;
            };
            if let Some(service) = self.service_mut(slot)
                && core::mem::take(&mut service.queued) != Queued::No
            {
                self.enter(slot);
                self.settle(cx, slot);
            }
        }
    }

    fn took(&mut self, cx: &mut Cx<'_>, slot: u32, op: &Op, outcome: Outcome) {
        let refused = self.service(slot).is_some_and(|service| service.refused.is_some());
        match (op, outcome) {
            (_, Outcome::Done)
            | (Op::DeleteService { .. } | Op::DeleteDestination { .. }, Outcome::Already) => {
                self.counters.operations += 1;
                self.known.apply(op);
                self.accept(slot, op);
            }
            // Somebody else made it: what it is like must be read.
            (_, Outcome::Already) => self.doubt(slot, op),
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
            | (Op::SetDestination { .. }, Outcome::Refused(ENOENT)) => self.doubt(slot, op),
            (_, Outcome::Refused(errno)) => {
                self.counters.refused += 1;
                self.refuse(cx, slot, op, errno);
            }
        }
    }

    /// What was asked for is so: earlier refusals of it are past.
    fn accept(&mut self, slot: u32, op: &Op) {
        let config = Arc::clone(&self.config);
        let model = self.config_of(&config, slot);
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        let Some(destination) = op.destination() else {
            service.refused = None;
            return;
        };
        let Some(model) = model else {
            return;
        };
        if model.sorry_server.is_some_and(|s| DestinationKey::of_sorry(&s) == destination) {
            service.sorry_refused = None;
        }
        if let Some(position) = service.find(model, &destination)
            && let Some(server) = service.servers.get_mut(position as usize)
        {
            server.refused = None;
        }
    }

    /// What the kernel holds is not what we believed.
    fn doubt(&mut self, slot: u32, op: &Op) {
        if let Some(service) = self.service_mut(slot) {
            if !core::mem::replace(&mut service.stale, true) {
                tracing::warn!(
                    service = %service.key,
                    "the kernel's entries of VS {} were changed by another program ({}): reading them again",
                    service.key,
                    text::name(op)
                );
            }
            service.dirty = Dirty::All;
        }
    }

    fn refuse(&mut self, cx: &mut Cx<'_>, slot: u32, op: &Op, errno: i32) {
        let config = Arc::clone(&self.config);
        let model = self.config_of(&config, slot);
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
        let position =
            model.and_then(|model| op.destination().and_then(|key| service.find(model, &key)));
        let is_sorry = model
            .and_then(|model| model.sorry_server.as_ref())
            .is_some_and(|s| Some(DestinationKey::of_sorry(s)) == op.destination());
        let is_removal = matches!(op, Op::DeleteDestination { .. });
        let before = if is_sorry {
            service.sorry_refused.replace(refusal)
        } else if let Some(position) = position {
            match service.servers.get_mut(position as usize) {
                Some(server) => server.refused.replace(Box::new(refusal)).map(|before| *before),
                None => None,
            }
        } else if op.destination().is_none() || is_removal {
            service.refused.replace(refusal)
        } else {
            // It went with a reload meanwhile.
            return;
        };
        if before.is_none_or(|before| before.errno != errno || before.wanted != wanted) {
            let line = text::Refused { op, errno };
            say!(error, service.key, "{line}");
        }
        if matches!(self.phase, Phase::Stopping { .. }) {
            // There is no later: it stays.
            self.known.apply(op);
            if let Op::DeleteService { service } = op {
                self.owned.insert(*service);
            }
            return;
        }
        match op {
            Op::AddDestination { .. } => {
                if let Some(position) = position {
                    self.knock_out(cx, slot, position);
                }
            }
            Op::AddService { .. } => {
                let servers = self.service(slot).map_or(0, |service| service.servers.len());
                for position in 0..number(servers) {
                    self.knock_out(cx, slot, position);
                }
            }
            _ => {}
        }
        self.try_later(cx, slot);
    }

    /// Arms the next attempt at what is refused: after 1 s, 2 s, 4 s .. 60 s.
    pub(super) fn try_later(&mut self, cx: &Cx<'_>, slot: u32) {
        if self.retries.get(slot).is_some() {
            return;
        }
        if let Some(service) = self.services.get_mut(slot as usize) {
            let delay = backoff(service.backoff);
            service.backoff = service.backoff.saturating_add(1);
            self.retries.set(slot, cx.now + delay);
        }
    }

    /// The time has come for another attempt at what was refused.
    pub(super) fn retry(&mut self, cx: &mut Cx<'_>, slot: u32) {
        self.enter(slot);
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        let servers = service.servers.iter_mut().filter_map(|s| s.refused.as_deref_mut());
        for refusal in servers.chain(service.refused.as_mut()).chain(service.sorry_refused.as_mut())
        {
            refusal.blocks = false;
        }
        service.dirty = Dirty::All;
        self.settle(cx, slot);
    }

    /// Reads a service again that is not what we believed: at once the first time, then later and later.
    fn read_again(&mut self, cx: &mut Cx<'_>, slot: u32) {
        let Some(service) = self.services.get_mut(slot as usize) else {
            return;
        };
        if service.backoff > 0 && self.retries.get(slot).is_some() {
            return;
        }
        let key = service.key;
        service.reading = true;
        if service.backoff == 0 {
            service.backoff = 1;
        } else {
            self.try_later(cx, slot);
        }
        cx.out.push(Action::Read { services: [key].into() });
    }

    fn promote_taken(&mut self, cx: &mut Cx<'_>, slot: u32) -> bool {
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
            let want = wanted(service, model, position);
            let key = model.servers.get(position as usize).map(DestinationKey::of);
            if key.is_some_and(|key| self.known.destination(&model.key, &key) == want.as_ref()) {
                self.promote(cx, slot, position, why);
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
        let key = service.key;
        let have = self.known.services.get(&key);
        let dirty = core::mem::replace(&mut service.dirty, Dirty::Servers(Vec::new()));
        let blocked = service.refused.as_ref().is_some_and(|refusal| refusal.blocks);
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let Some(model) = model.filter(|_| !service.leaving) else {
            return match have {
                // The kernel removes its servers with it.
                Some(_) if !blocked && stopping && config.flush_services_only => {
                    vec![Op::DeleteService { service: key }]
                }
                Some(entry) if !blocked => removal(key, entry, model),
                _ => Vec::new(),
            };
        };
        let mut ops = Vec::new();
        match dirty {
            // Without the service itself there is nothing to add servers to.
            _ if have.is_none() && blocked => service.dirty = Dirty::All,
            Dirty::Servers(mut positions) if have.is_some() => {
                positions.sort_unstable();
                positions.dedup();
                let changes = positions.iter().filter_map(|p| server_op(service, model, *p, have));
                ops.extend(changes);
            }
            _ => {
                if !blocked {
                    let settings = Settings::of(model);
                    ops.extend(service_op(key, have.map(|e| &e.settings), Some(&settings)));
                }
                let positions = 0..number(service.servers.len());
                ops.extend(positions.filter_map(|p| server_op(service, model, p, have)));
                ops.extend(sorry_op(service, model, have));
                if let Some(entry) = have.filter(|_| !blocked) {
                    ops.extend(strays(service, model, entry));
                }
            }
        }
        // Stable: what is alike keeps the order of the configuration.
        ops.sort_by_key(|op| matches!(op, Op::DeleteDestination { .. }));
        ops
    }

    /// Whether a service that is to go has gone.
    fn is_gone(&self, slot: u32) -> bool {
        self.service(slot).is_some_and(|service| {
            service.leaving && !self.known.services.contains_key(&service.key)
        })
    }

    fn drop_service(&mut self, cx: &mut Cx<'_>, slot: u32) {
        self.retries.clear(slot);
        let Some(service) = self.services.try_remove(slot as usize) else {
            return;
        };
        self.by_key.remove(&service.key);
        // What another program puts there from now on is not ours.
        let was_last = self.leaving.remove(&service.key) && self.leaving.is_empty();
        if was_last && matches!(self.phase, Phase::Running) {
            self.own(cx);
        }
    }
}

pub(super) fn backoff(step: u8) -> Duration {
    let seconds = 1u64.checked_shl(u32::from(step)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST_RETRY)
}

/// What a server is to be in the kernel's table; none if it is to have no entry.
pub(super) fn wanted(
    service: &Service,
    model: &model::Service,
    position: u32,
) -> Option<Destination> {
    let real = model.servers.get(position as usize)?;
    let server = service.servers.get(position as usize)?;
    let sorry = model
        .sorry_server
        .as_ref()
        .filter(|sorry| DestinationKey::of_sorry(sorry) == DestinationKey::of(real));
    if let Some(sorry) = sorry.filter(|_| service.sorry.serves()) {
        return Some(Destination::of_sorry(sorry, 1));
    }
    let inhibited = real.inhibit_on_failure.then_some(0);
    let weight = match server.standing {
        Standing::Up | Standing::Rising(_) if service.is_open() => Some(real.weight),
        // The kernel refused it: it must prove that it can be added before it counts again.
        Standing::Rising(_) => Some(0),
        Standing::Up | Standing::Down => inhibited,
    };
    weight.map(|weight| Destination::of(real, weight)).or_else(|| {
        sorry.filter(|sorry| sorry.inhibit).map(|sorry| Destination::of_sorry(sorry, 0))
    })
}

fn server_op(
    service: &Service,
    model: &model::Service,
    position: u32,
    have: Option<&Entry>,
) -> Option<Op> {
    let key = DestinationKey::of(model.servers.get(position as usize)?);
    let want = wanted(service, model, position);
    let refusal = service.servers.get(position as usize)?.refused.as_deref();
    if refusal.is_some_and(|refusal| refusal.blocks && refusal.wanted == want) {
        return None;
    }
    let have = have.and_then(|entry| entry.destinations.get(&key));
    destination_op(model.key, key, have, want.as_ref())
}

/// The sorry server, unless it is one of the servers too.
fn sorry_op(service: &Service, model: &model::Service, have: Option<&Entry>) -> Option<Op> {
    let sorry = model.sorry_server.as_ref()?;
    let key = DestinationKey::of_sorry(sorry);
    if service.find(model, &key).is_some() {
        return None;
    }
    let weight = if service.sorry.serves() { Some(1) } else { sorry.inhibit.then_some(0) };
    let want = weight.map(|weight| Destination::of_sorry(sorry, weight));
    if service.sorry_refused.as_ref().is_some_and(|r| r.blocks && r.wanted == want) {
        return None;
    }
    let have = have.and_then(|entry| entry.destinations.get(&key));
    destination_op(model.key, key, have, want.as_ref())
}

/// Entries of our service that the configuration does not name.
fn strays(service: &Service, model: &model::Service, entry: &Entry) -> Vec<Op> {
    let sorry = model.sorry_server.as_ref().map(DestinationKey::of_sorry);
    entry
        .destinations
        .iter()
        .map(|(key, _)| key)
        .filter(|key| Some(*key) != sorry && service.find(model, key).is_none())
        .map(|destination| Op::DeleteDestination { service: model.key, destination })
        .collect()
}

/// Everything of a service: the sorry server, its servers in the order of the configuration, the service.
fn removal(service: ServiceKey, entry: &Entry, model: Option<&model::Service>) -> Vec<Op> {
    let mut left = entry.destinations.clone();
    let sorry = model.and_then(|m| m.sorry_server.as_ref()).map(DestinationKey::of_sorry);
    let servers = model.into_iter().flat_map(|m| &m.servers).map(DestinationKey::of);
    let named: Vec<_> = sorry.into_iter().chain(servers).filter(|key| left.remove(key)).collect();
    named
        .into_iter()
        .chain(left.iter().map(|(key, _)| key))
        .map(|destination| Op::DeleteDestination { service, destination })
        .chain([Op::DeleteService { service }])
        .collect()
}
