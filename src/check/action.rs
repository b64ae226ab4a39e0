//! Everything the engine can ask for.

use std::sync::Arc;

use super::probe::{Closing, ProbeId, Request};
use crate::model::ServiceKey;
use crate::plan::Token;
use crate::plan::ipvs::Op;
use crate::status::Notice;

/// Something to be done. Carry actions out in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read what the kernel holds of these services; answered with `Event::Table`.
    Read {
        /// Which; the servers of others need not be read.
        services: Arc<[ServiceKey]>,
    },
    /// List all services that the kernel holds, those of others included; answered with `Event::Listed`.
    List,
    /// Keep this list where a later process of the daemon finds it, before anything after it is done: these
    /// services are in the kernel's table, or will be in a moment, because we put them there.
    Own(Arc<[ServiceKey]>),
    /// Change the kernel's table, one operation after the other; each is answered with `Event::Applied`.
    Apply {
        /// Comes back with each answer.
        token: Token,
        /// What to do.
        ops: Arc<[Op]>,
    },
    /// Begin an attempt; answered with `Event::Probed` unless it is cancelled.
    StartProbe {
        /// Comes back with the answer.
        probe: ProbeId,
        /// What to try. Its limit of time is the engine's business.
        request: Request,
        /// How to end the connection.
        closing: Closing,
    },
    /// Give an attempt up; no answer is wanted any more.
    CancelProbe {
        /// That of the attempt.
        probe: ProbeId,
    },
    /// Tell scripts, FIFOs and mail recipients.
    Notify(Notice),
    /// The summary changed: keep `Engine::summary`.
    Report,
    /// After `Event::Stop`: everything is undone.
    Done,
}

/// A list of actions. Emptied and used again, so that the steady state allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Actions(Vec<Action>);

impl Actions {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an action.
    pub fn push(&mut self, action: Action) {
        self.0.push(action);
    }

    /// Appends actions.
    pub fn extend(&mut self, actions: impl IntoIterator<Item = Action>) {
        self.0.extend(actions);
    }

    /// Takes the actions out in order, keeping the memory.
    pub fn drain(&mut self) -> impl Iterator<Item = Action> {
        self.0.drain(..)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Action> {
        self.0.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
