//! The messages between the real-time thread and the other thread of the role, and the other thread's end of the
//! queues.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;

use super::look::{Part, SummaryPart};
use crate::base::IfIndex;
use crate::drive::class::RealTime;
use crate::model;
use crate::plan::{Op, Token};
use crate::status::{Ask, Notice};
use crate::sys::poll::Wake;
use crate::sys::ring::{Consumer, Producer};
use crate::vrrp::{Event, RunId};

/// A message to the real-time thread.
#[derive(Debug)]
pub enum Input {
    Engine(Event<'static>),
    /// Whether an interface forwards IPv6, for neighbour adverts.
    Router {
        interface: IfIndex,
        /// Whether it forwards.
        forwards: bool,
    },
    /// A configuration to apply; answered with `Output::Reloaded`.
    Reload {
        /// The virtual routers.
        config: Arc<model::Vrrp>,
        /// The scheduling of the real-time thread.
        scheduling: Scheduling,
    },
    /// Request for a view; answered with `Output::Part`s, the last of which is marked.
    Look {
        /// Repeated in each part.
        request: u64,
        /// What it shows.
        ask: Ask,
    },
}

/// How the kernel schedules the real-time thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Real-time priority and the related limits.
    pub real_time: RealTime,
    /// Time from one heartbeat to the next; none: [`super::BEAT`].
    pub beat: Option<Duration>,
}

/// A message from the real-time thread.
#[derive(Debug)]
pub enum Output {
    /// Change the kernel's objects, in order; each operation is answered with `Event::Applied`.
    Apply {
        /// Repeated in each answer.
        token: Token,
        ops: Vec<Op>,
    },
    /// Run a script.
    Run {
        /// Repeated in the answer.
        run: RunId,
        command: model::Command,
        /// When to give up.
        timeout: Duration,
    },
    /// End a run of a script.
    EndRun(RunId),
    /// Notify scripts and people.
    Notify(Box<Notice>),
    /// A part of the summary for the supervisor; `look::Summaries` joins them.
    Summary(SummaryPart),
    /// A part of the answer to `Input::Look`; `look::Views` joins them.
    Part(Box<Part>),
    /// The configuration is in force.
    Reloaded,
    /// Everything is undone.
    Stopped,
}

/// The other thread's end.
pub struct Handle {
    pub(super) input: Producer<Input>,
    pub(super) output: Consumer<Output>,
    pub(super) to: Arc<Wake>,
    pub(super) from: Arc<Wake>,
    /// A message found no room.
    pub(super) starved: Arc<AtomicBool>,
}

impl Handle {
    /// Sends a message to the real-time thread.
    ///
    /// # Errors
    /// Returns the message if the queue of the real-time thread is full.
    #[allow(clippy::result_large_err, reason = "the message itself, which the caller keeps")]
    pub fn send(&mut self, message: Input) -> Result<(), Input> {
        let result = self.input.push(message);
        self.to.call();
        result
    }

    /// The next message. To be called until it returns none whenever [`Self::wake`] is ready.
    pub fn receive(&mut self) -> Option<Output> {
        let message = self.output.pop();
        if message.is_some() && self.starved.swap(false, Ordering::AcqRel) {
            self.to.call();
        }
        message
    }

    /// Is ready when there is something to receive.
    #[must_use]
    pub fn wake(&self) -> Arc<Wake> {
        Arc::clone(&self.from)
    }
}
