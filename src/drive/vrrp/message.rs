//! What the real-time thread and the other thread of the role tell each other, and the other thread's end.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;

use super::look::{Part, SummaryPart};
use crate::base::IfIndex;
use crate::drive::class::RealTime;
use crate::model;
use crate::plan::{Op, Token};
use crate::status::Notice;
use crate::sys::poll::Wake;
use crate::sys::ring::{Consumer, Producer};
use crate::vrrp::{Event, RunId};

/// To the real-time thread.
#[derive(Debug)]
pub enum Input {
    /// Something for the engine.
    Engine(Event<'static>),
    /// Whether an interface forwards IPv6, for neighbour adverts.
    Router {
        interface: IfIndex,
        /// It does.
        forwards: bool,
    },
    /// A configuration to carry out; answered with `Output::Reloaded`.
    Reload {
        /// The virtual routers.
        config: Arc<model::Vrrp>,
        /// How this thread is treated.
        scheduling: Scheduling,
    },
    /// Show everything; answered with `Output::Part`s, the last of which says so.
    Look {
        /// Comes back with each part.
        request: u64,
    },
}

/// How the kernel is to treat the real-time thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Real-time priority and what goes with it.
    pub real_time: RealTime,
    /// Time from one sign of life to the next; none: [`super::BEAT`].
    pub beat: Option<Duration>,
}

/// From the real-time thread.
#[derive(Debug)]
pub enum Output {
    /// Change the kernel's objects, in order; each operation is answered with `Event::Applied`.
    Apply {
        /// Comes back with each answer.
        token: Token,
        /// What to do.
        ops: Vec<Op>,
    },
    /// Run a script.
    Run {
        /// Comes back with the answer.
        run: RunId,
        command: model::Command,
        /// When to give up.
        timeout: Duration,
    },
    /// End a run of a script.
    EndRun(RunId),
    /// Tell scripts and people.
    Notify(Box<Notice>),
    /// A part of what the supervisor should know; `look::Summaries` joins them.
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
    /// Hands a message over; gives it back when the real-time thread has too many already.
    ///
    /// # Errors
    /// The message.
    pub fn send(&mut self, message: Input) -> Result<(), Input> {
        let result = self.input.push(message);
        self.to.call();
        result
    }

    /// The next message. To be called until it gives none whenever [`Self::wake`] is ready.
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
