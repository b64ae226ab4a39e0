//! Bringing the kernel to the wanted state.
//!
//! [`Engine::settle`] compares a service with the kernel and requests the difference, one list at a time; after the
//! answers it compares again, until nothing is left to do. Then waiting servers count, the sorry server advances, and
//! the quorum is evaluated, each of which may lead to the next round. `wanted` computes the wanted state, `refusal`
//! handles refusals.

use std::sync::Arc;

use super::id::{Index, ServiceSlot};
use super::service::{Dirty, Flight, Front, Queued, Standing};
use super::wanted::is_taken;
use super::{Action, Engine, Moment, Phase, Timer, number, text};
use crate::model::ServiceKey;
use crate::plan::ipvs::{ENOENT, ESRCH, Op};
use crate::plan::{Outcome, Token};

/// Largest number of rounds of one service without an operation in between; more would be an endless loop.
const ROUNDS: usize = 16;

impl Engine {
    /// Does everything that a service needs now.
    pub(super) fn settle(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot) {
        for _ in 0..ROUNDS {
            if !matches!(self.phase, Phase::Running | Phase::Stopping { .. }) {
                return;
            }
            let Some(service) = self.services.get_mut(slot) else {
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
                // A service that moves ahead leaves an entry in the queue that then finds nothing to do.
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

    fn write(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot, ops: Vec<Op>) {
        self.serial += 1;
        let token = Token(self.serial << 32 | u64::from(slot.0));
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
        let slot = ServiceSlot(slot);
        let Some(flight) = self.services.get_mut(slot).and_then(|s| s.flight.as_mut()) else {
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
                    self.timers.clear(Timer::Retry(slot));
                }
            }
            self.settle(moment, slot);
            self.write_waiting(moment);
        }
    }

    /// Lets waiting services write.
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

    fn took(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot, op: &Op, outcome: Outcome) {
        let front = op.service().and_then(|key| self.service(slot)?.front(&key));
        let refused = front.is_some_and(|front| front.refused.is_some());
        match (op, outcome) {
            (_, Outcome::Done) => {
                self.counters.operations += 1;
                self.known.apply(op);
                self.accept(slot, op);
            }
            // As it should be, but done by another program: other differences must be read.
            (Op::DeleteService { .. } | Op::DeleteDestination { .. }, Outcome::Already) => {
                self.known.apply(op);
                self.accept(slot, op);
                self.doubt(moment, slot, op);
            }
            // Another program added it: its settings must be read.
            (_, Outcome::Already) => self.doubt(moment, slot, op),
            // The service could not be made, so its servers could not be added.
            (Op::AddDestination { .. }, Outcome::Refused(ESRCH)) if refused => {
                if let Some(service) = self.service_mut(slot) {
                    service.dirty = Dirty::All;
                }
            }
            // Another program removed it.
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

    /// A request succeeded: clears earlier refusals of it.
    fn accept(&mut self, slot: ServiceSlot, op: &Op) {
        let service = self.services.get_mut(slot);
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

    /// The kernel's state is not the known one.
    fn doubt(&mut self, moment: &Moment<'_>, slot: ServiceSlot, op: &Op) {
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

    /// Reads a service again that is not as known: at once the first time, then at increasing intervals.
    fn read_again(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot) {
        let Some(service) = self.services.get_mut(slot) else {
            return;
        };
        if service.backoff > 0 && self.timers.is_set(Timer::Retry(slot)) {
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

    fn promote_taken(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot) -> bool {
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
            let Some(service) = self.services.get_mut(slot) else {
                break;
            };
            let server = service.servers.get(position.index());
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

    /// Whether a service that is to be removed is gone.
    fn is_gone(&self, slot: ServiceSlot) -> bool {
        self.service(slot).is_some_and(|service| service.leaving && service.fronts.is_empty())
    }

    /// Forgets fronts that have been removed from the kernel.
    fn drop_fronts(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot) {
        let Some(service) = self.services.get_mut(slot) else {
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
        // Entries that another program adds there from now on are foreign.
        if was_leaving && self.leaving.is_empty() && matches!(self.phase, Phase::Running) {
            self.own(moment, None);
        }
    }

    fn drop_service(&mut self, slot: ServiceSlot) {
        self.timers.clear(Timer::Retry(slot));
        if let Some(service) = self.services.remove(slot) {
            self.by_id.remove(&service.id);
        }
    }
}
