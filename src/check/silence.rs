//! A kernel that does not answer.
//!
//! Whoever reads and writes the table can hang in the kernel: a lock that is not given back, a module that is being
//! removed. Nothing can be done about that from here, but it must not go unnoticed: after a minute without any of the answers
//! that are due the virtual servers count as not served, so that virtual routers hold back; and a stop does not wait
//! any longer. All is as before with the next answer.

use core::time::Duration;

use super::start::TIMED_OUT;
use super::{Action, Engine, Event, Phase};
use crate::base::Instant;

/// How long the kernel may take from one answer to the next; a list of a large table takes a few seconds.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// What the kernel was asked and has not answered.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Answers that are due.
    open: u64,
    /// When the next one must have come; none when none is due, or when it did not.
    until: Option<Instant>,
    /// It did not.
    is_silent: bool,
}

impl Silence {
    /// When the kernel has been silent for too long.
    pub const fn due(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it has.
    pub const fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Takes in what happened.
    pub fn answered(&mut self, now: Instant, event: &Event) {
        if !matches!(event, Event::Table { .. } | Event::Listed(_) | Event::Applied { .. }) {
            return;
        }
        self.open = self.open.saturating_sub(1);
        self.until = (self.open > 0).then(|| now + LONGEST);
        if core::mem::take(&mut self.is_silent) {
            tracing::info!("IPVS: the kernel answers again");
        }
    }

    /// Takes in what was asked for.
    pub fn asked<'a>(&mut self, now: Instant, actions: impl Iterator<Item = &'a Action>) {
        let answers = |action: &Action| match action {
            Action::Read { .. } | Action::List => 1,
            Action::Apply { ops, .. } => u64::try_from(ops.len()).unwrap_or(u64::MAX),
            _ => 0,
        };
        let more: u64 = actions.map(answers).sum();
        if self.open == 0 && more > 0 {
            self.until = Some(now + LONGEST);
        }
        self.open = self.open.saturating_add(more);
    }
}

impl Engine {
    /// No answer came for too long.
    pub(super) fn silent(&mut self) {
        self.silence.until = None;
        if matches!(self.phase, Phase::Reading { .. } | Phase::Waiting { .. }) {
            // The first reading has a deadline of its own, and is tried again.
            return;
        }
        self.silence.is_silent = true;
        let seconds = LONGEST.as_secs();
        tracing::error!("IPVS: the kernel has not answered for {seconds} s (error {TIMED_OUT})");
        if matches!(self.phase, Phase::Stopping { .. }) {
            tracing::error!("IPVS: leaving without it, entries may stay");
            let fronts = self.services.iter().flat_map(|(_, service)| &service.fronts);
            self.owned.extend(fronts.map(|front| front.key));
            self.services.clear();
            self.phase = Phase::Stopping { flushing: false };
        }
    }
}
