//! Many objects at once: their kernel operations are requested in slices, one per step, so that other adverts are sent
//! between them.
//!
//! The order is that of one request: additions before removals, an object before those that depend on it, and the
//! reverse for removals. Requests are carried out concurrently, so a stage waits for the answers to the previous one,
//! and within a stage at most two slices are under way.

use super::event::InstanceId;
use super::{Engine, Moment, Phase, SLICE, Timer};
use crate::plan::{self, ObjectId, Part, Token};

/// Objects that one step examines. Most objects of a large configuration need no operation.
const LOOKS: usize = 256;
/// Largest number of unanswered requests of one sweep.
const OPEN: usize = 2;

/// Objects to compare with what is wanted when their turn comes.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The instance they belong to, if it is a single one.
    instance: Option<InstanceId>,
    ids: Vec<ObjectId>,
    /// Position of the next object.
    next: usize,
    /// The additions are requested; now unwanted objects are removed, in reverse order.
    removing: bool,
    /// Stage of the slices under way.
    phase: Option<plan::Phase>,
    /// Unanswered requests.
    open: Vec<Token>,
}

/// Progress of a sweep in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It continues in the next step.
    Sliced,
    /// It continues after an answer of the kernel.
    Waits,
    /// Everything is requested.
    Complete,
}

impl Engine {
    /// Requests the additions and removals that the objects of an instance need.
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

    /// Whether a sweep still has to process objects of an instance.
    pub(super) fn is_swept(&self, id: InstanceId) -> bool {
        self.sweeps.iter().any(|sweep| sweep.instance == Some(id))
    }

    /// Continues the sweeps by one slice.
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
            #[cfg(test)]
            {
                self.looks += looked as u64;
            }
            sweep.open.extend(asked);
        }
    }
}
