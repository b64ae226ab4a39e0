//! Work that concerns everything at once: a new configuration, a snapshot of the whole kernel, a stop, the consequences of
//! a change for many instances. It is done in slices, one per step, and only due adverts are sent between them.
//!
//! Nothing else happens meanwhile: packets are processed and silences are judged after the job, so they never see half
//! a configuration. The driver hands nothing else over while [`Engine::is_occupied`]; any other event makes the engine
//! finish the job first, in one step. The parts of each job are in the files of their concern.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::lifecycle::{Farewells, Start};
use super::link::Sighting;
use super::reload::Reload;
use super::{Engine, Event, Moment, Timer};

/// Number of pieces of a job that one step does. A piece takes at most about 2 us, such as comparing an instance or
/// claiming an address.
pub(super) const EFFORT: usize = 128;

/// Work that is done in slices.
#[derive(Debug)]
pub(super) enum Job {
    /// A new configuration.
    Reload(Box<Reload>),
    /// A snapshot of the whole kernel.
    Sighting(Box<Sighting>),
    /// The start of all instances, once both are known.
    Start(Box<Start>),
    /// The stop of all instances.
    Farewells(Box<Farewells>),
    /// What a change means for many instances.
    Consequences,
}

/// Progress of a job in one step.
#[derive(Debug)]
pub(super) enum Progress {
    /// It continues in the next step.
    Sliced,
    /// It is done.
    Complete,
    /// It is done, and this job follows.
    Then(Job),
}

impl Engine {
    /// Whether a job is under way, during which only adverts should be sent: events other than [`Event::Timer`],
    /// [`Event::Adverts`] and [`Event::TimeOfDay`] should be handed over later, or this step takes long. Views and
    /// summaries taken meanwhile show a mixture of the old and the new state.
    #[must_use]
    pub const fn is_occupied(&self) -> bool {
        self.job.is_some()
    }

    /// Sets the number of pieces per step, for tests; at least 1.
    #[doc(hidden)]
    pub fn set_effort(&mut self, effort: usize) {
        self.effort_of_step = effort.max(1);
    }

    /// Whether an event can be handled while a job is under way.
    pub(super) const fn fits_in(event: &Event<'_>) -> bool {
        matches!(event, Event::Timer | Event::Adverts | Event::TimeOfDay(_))
    }

    /// Begins a job and does the first slice of it.
    pub(super) fn begin(&mut self, moment: &mut Moment<'_>, job: Job) {
        self.job = Some(job);
        self.go_on(moment);
    }

    /// Does the next slice of the job.
    pub(super) fn go_on(&mut self, moment: &mut Moment<'_>) {
        self.sliced = false;
        while let Some(mut job) = self.job.take() {
            // A piece is counted as done before it runs: after a panic the job continues behind it.
            let progress = catch_unwind(AssertUnwindSafe(|| match &mut job {
                Job::Reload(reload) => self.reload_on(moment, reload),
                Job::Sighting(sighting) => self.look_on(moment, sighting),
                Job::Start(start) => self.start_on(moment, start),
                Job::Farewells(farewells) => self.farewell_on(moment, farewells),
                Job::Consequences => self.consequences_on(moment),
            }));
            match progress {
                Ok(Progress::Complete) => {}
                Ok(Progress::Then(next)) => self.job = Some(next),
                Ok(Progress::Sliced) => {
                    self.job = Some(job);
                    self.timers.set(Timer::Slice, moment.now);
                    return;
                }
                Err(panic) => {
                    self.job = Some(job);
                    self.timers.set(Timer::Slice, moment.now);
                    resume_unwind(panic);
                }
            }
        }
    }

    /// Whether this step may do more of a job.
    pub(super) const fn has_room(&self) -> bool {
        self.effort > 0 && self.budget > 0 && !self.sliced
    }

    /// Continues steps that were cut into slices. False if there are none.
    pub(super) fn work_on(&mut self, moment: &mut Moment<'_>) -> bool {
        self.work(moment);
        !self.consequences.is_empty() || self.is_acting()
    }

    /// Counts pieces of work.
    pub(super) const fn spend(&mut self, pieces: usize) {
        self.effort = self.effort.saturating_sub(pieces);
    }
}
