//! Many objects at once: what they need of the kernel is asked for in slices, a slice a step, so that the adverts of
//! others leave between them.
//!
//! The order is that of one request: what is to be there before what is to go, what others depend on before these, and
//! the other way round when it goes. Requests are carried out side by side, so the next stage waits for the answers to
//! the one before it, and within a stage two slices are under way at most.

use super::event::InstanceId;
use super::{Engine, Moment, Phase, SLICE, Timer};
use crate::plan::{self, ObjectId, Part, Token};

/// Objects that one step looks at. Most of a large configuration is as it should be already.
const LOOKS: usize = 256;
/// Requests of one sweep that may be unanswered.
const OPEN: usize = 2;

/// Objects to be compared with what is wanted by the time their turn comes.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The instance they belong to, if they are those of one.
    instance: Option<InstanceId>,
    ids: Vec<ObjectId>,
    /// Position of the next one.
    next: usize,
    /// What is wanted was asked for; now what is not wanted goes, in the opposite order.
    removing: bool,
    /// That of the slices under way.
    phase: Option<plan::Phase>,
    /// Requests that were not answered.
    open: Vec<Token>,
}

/// How far a sweep came in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It goes on with the next step.
    Sliced,
    /// It goes on with an answer of the kernel.
    Waits,
    /// Everything is asked for.
    Complete,
}

impl Engine {
    /// Asks the kernel for what is missing or too much among the objects of an instance.
    pub(super) fn settle_instance(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(entries) = self.instance(id).map(|i| i.entries.clone()) else { return };
        self.sweeps.retain(|sweep| sweep.instance != Some(id));
        self.settle_for(moment, &entries, Some(id));
    }

    /// The same for any objects.
    pub(super) fn settle(&mut self, moment: &mut Moment<'_>, entries: &[ObjectId]) {
        self.settle_for(moment, entries, None);
    }

    fn settle_for(
        &mut self,
        moment: &mut Moment<'_>,
        entries: &[ObjectId],
        instance: Option<InstanceId>,
    ) {
        if entries.is_empty() || matches!(self.phase, Phase::Waiting { .. }) {
            return;
        }
        if entries.len() <= SLICE {
            self.settle_now(moment, entries);
            return;
        }
        let mut ids = entries.to_vec();
        ids.sort_by_key(|id| self.objects.entry(*id).map(|e| e.object.phase()));
        let removing = self.phase != Phase::Running;
        if removing {
            ids.reverse();
        }
        let (next, phase, open) = (0, None, Vec::new());
        self.sweeps.push_back(Sweep { instance, ids, next, removing, phase, open });
        self.timers.set(Timer::Slice, moment.now);
    }

    /// Whether objects of an instance have not had their turn.
    pub(super) fn is_swept(&self, id: InstanceId) -> bool {
        self.sweeps.iter().any(|sweep| sweep.instance == Some(id))
    }

    /// Goes on with the sweeps, as far as one slice goes.
    pub(super) fn sweep(&mut self, moment: &mut Moment<'_>) {
        let (mut looks, mut sliced) = (LOOKS, false);
        for _ in 0..self.sweeps.len() {
            let Some(mut sweep) = self.sweeps.pop_front() else { break };
            match self.sweep_on(moment, &mut sweep, &mut looks) {
                Progress::Complete => {
                    if let Some(id) = sweep.instance {
                        self.announce_state_if_settled(moment, id);
                    }
                    continue;
                }
                Progress::Sliced => sliced = true,
                Progress::Waits => {}
            }
            self.sweeps.push_back(sweep);
        }
        if sliced {
            self.timers.set(Timer::Slice, moment.now);
        }
    }

    fn sweep_on(
        &mut self,
        moment: &mut Moment<'_>,
        sweep: &mut Sweep,
        looks: &mut usize,
    ) -> Progress {
        sweep.open.retain(|token| self.objects.is_open(*token));
        loop {
            let Some(first) = sweep.ids.get(sweep.next).copied() else {
                if core::mem::replace(&mut sweep.removing, true) {
                    return Progress::Complete;
                }
                (sweep.next, sweep.phase) = (0, None);
                sweep.ids.reverse();
                continue;
            };
            if self.budget == 0 || *looks == 0 {
                return Progress::Sliced;
            }
            let phase = self.objects.entry(first).map(|e| e.object.phase());
            let new_stage = phase.is_some() && sweep.phase != phase;
            if sweep.open.len() >= OPEN || (new_stage && !sweep.open.is_empty()) {
                return Progress::Waits;
            }
            sweep.phase = phase.or(sweep.phase);
            let of = |id: &ObjectId| self.objects.entry(*id).map(|e| e.object.phase());
            let rest = sweep.ids.iter().skip(sweep.next).take(*looks);
            let same: Vec<ObjectId> = rest.take_while(|id| of(id) == phase).copied().collect();
            let mut left = same.iter().copied();
            let part = if sweep.removing { Part::Removals } else { Part::Additions };
            let asked = self.ask(moment, &mut left, part, self.budget);
            let looked = same.len() - left.len();
            sweep.next += looked;
            *looks = looks.saturating_sub(looked);
            sweep.open.extend(asked);
        }
    }
}
