//! Work that concerns everything at once: a new configuration, a view of the whole kernel, a stop. It is done in slices,
//! one a step, and only adverts that are due leave between them.
//!
//! Nothing else happens meanwhile: packets are judged and silences end when all is done, so none of them meets a half
//! of a configuration. The driver hands nothing else over as long as [`Engine::is_occupied`]; whatever comes all the
//! same has the job brought to its end first, in one step. What belongs to each job is in the files of its concern.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::lifecycle::{Farewells, Start};
use super::link::Sighting;
use super::reload::Reload;
use super::{Engine, Event, Moment, SLICE, Timer};

/// How much one step does of a job, in pieces that take about 2 us each at most, such as comparing an instance, or
/// claiming an address.
pub(super) const EFFORT: usize = 256;

/// Work that is done in slices.
#[derive(Debug)]
pub(super) enum Job {
    /// A new configuration.
    Reload(Box<Reload>),
    /// A view of the whole kernel.
    Sighting(Box<Sighting>),
    /// The start of all instances, once both are known.
    Start(Box<Start>),
    /// The end of all instances.
    Farewells(Box<Farewells>),
}

/// How far a job came in a step.
#[derive(Debug)]
pub(super) enum Progress {
    /// It goes on with the next step.
    Sliced,
    /// It is done.
    Complete,
    /// It is done, and this follows.
    Then(Job),
}

impl Engine {
    /// Whether work is under way during which nothing but adverts is to happen: events other than [`Event::Timer`],
    /// [`Event::Adverts`] and [`Event::TimeOfDay`] are better handed over later, or this step takes long. Views and
    /// summaries that are taken meanwhile show some things as they were and some as they will be.
    #[must_use]
    pub const fn is_occupied(&self) -> bool {
        self.job.is_some()
    }

    /// How much a step does of such work, for tests; at least 1.
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

    /// Does another slice of the job.
    pub(super) fn go_on(&mut self, moment: &mut Moment<'_>) {
        self.budget = SLICE;
        self.effort = self.effort_of_step;
        self.sliced = false;
        while let Some(mut job) = self.job.take() {
            // Whatever panics was counted as done before: the job goes on behind it.
            let progress = catch_unwind(AssertUnwindSafe(|| match &mut job {
                Job::Reload(reload) => self.reload_on(moment, reload),
                Job::Sighting(sighting) => self.look_on(moment, sighting),
                Job::Start(start) => self.start_on(moment, start),
                Job::Farewells(farewells) => self.farewell_on(moment, farewells),
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

    /// Works at what is left of steps that were cut. False when nothing is.
    pub(super) fn work_on(&mut self, moment: &mut Moment<'_>) -> bool {
        self.work(moment);
        !self.walking.is_empty() || !self.queue.is_empty()
    }

    /// Counts pieces of work.
    pub(super) const fn spend(&mut self, pieces: usize) {
        self.effort = self.effort.saturating_sub(pieces);
    }
}
