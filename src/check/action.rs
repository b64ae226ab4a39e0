//! Everything the engine can request.

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
        /// The services; others need not be read.
        services: Arc<[ServiceKey]>,
    },
    /// List all services that the kernel holds, including foreign ones; answered with `Event::Listed`.
    List,
    /// Store this list for later processes of the daemon, before carrying out the following actions: these services are
    /// in the kernel's table, or soon will be, because we add them.
    Own(Arc<[ServiceKey]>),
    /// Change the kernel's table, one operation after the other; each is answered with `Event::Applied`.
    Apply {
        /// Repeated in each answer.
        token: Token,
        ops: Arc<[Op]>,
    },
    /// Begin an attempt; answered with `Event::Probed` unless it is cancelled.
    StartProbe {
        /// Repeated in the answer.
        probe: ProbeId,
        /// What to try. The engine enforces the time limit.
        request: Request,
        /// How to end the connection.
        closing: Closing,
    },
    /// Abandon an attempt; its answer is ignored.
    CancelProbe { probe: ProbeId },
    /// Notify scripts, FIFOs and mail recipients.
    Notify(Notice),
    /// The summary changed: keep `Engine::summary`.
    Report,
    /// After `Event::Stop`: everything has been undone.
    Done,
}

/// A list of actions. It is cleared and reused, so that the steady state allocates nothing.
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

    /// Removes and returns the actions in order, keeping the memory.
    pub fn drain(&mut self) -> impl Iterator<Item = Action> {
        self.0.drain(..)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Action> {
        self.0.iter()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Clears the list but keeps its memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
