//! Refused operations: which servers do not count because of them, and when they are retried.

use core::time::Duration;
use std::sync::Arc;

use super::id::{Index, ServerPosition, ServiceSlot};
use super::notify::say;
use super::service::{Dirty, Refusal};
use super::wanted::is_named;
use super::{Engine, Moment, Phase, Timer, text};
use crate::plan::ipvs::Op;

/// Longest time to the next attempt at a refused operation.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(60);

impl Engine {
    /// The kernel refused an operation.
    pub(super) fn refuse(
        &mut self,
        moment: &mut Moment<'_>,
        slot: ServiceSlot,
        op: &Op,
        errno: i32,
    ) {
        let config = Arc::clone(&self.config);
        let model = self.config_of(&config, slot);
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let Some(service) = self.services.get_mut(slot) else {
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
            // A reload has removed it meanwhile.
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
            // An operation from before the stop must not keep the rest from being removed.
            front.refused = None;
            // No more retries: it stays, and is recorded for the next process.
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
                let positions: Vec<ServerPosition> = match (model, self.service(slot)) {
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
                for position in ServerPosition::first(servers) {
                    self.knock_out(moment, slot, position);
                }
            }
            _ => {}
        }
        self.try_later(moment, slot);
    }

    /// Schedules the next attempt at refused operations: after 1 s, 2 s, 4 s .. 60 s.
    pub(super) fn try_later(&mut self, moment: &Moment<'_>, slot: ServiceSlot) {
        if self.timers.is_set(Timer::Retry(slot)) {
            return;
        }
        if let Some(service) = self.services.get_mut(slot) {
            let delay = backoff(service.backoff);
            service.backoff = service.backoff.saturating_add(1);
            self.timers.set(Timer::Retry(slot), moment.now + delay);
        }
    }

    /// Another attempt at refused operations is due.
    pub(super) fn retry(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot) {
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
}

pub(super) fn backoff(step: u8) -> Duration {
    let seconds = 1u64.checked_shl(u32::from(step)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST_RETRY)
}
