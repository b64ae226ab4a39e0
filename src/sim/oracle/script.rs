//! Tracking scripts and files: when each runs, its condition according to its results, and that priorities follow at once.

use core::time::Duration;
use std::collections::BTreeMap;

use super::Oracle;
use crate::base::{Instant, Name};
use crate::model::{Instance, Vrrp};
use crate::sim::World;
use crate::sim::world::{Node, NodeId};
use crate::status::vrrp::State;
use crate::vrrp::{RunEnd, RunId};

/// Lost results and stalls delay runs by less than this.
const LATE: Duration = Duration::from_secs(15);

/// The condition of a script according to its results.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Track {
    /// None if it is unknown.
    pub good: Option<bool>,
    /// It has no result yet: the first result alone decides.
    fresh: bool,
    /// The last result, and the number of consecutive equal ones.
    streak: (bool, u32),
    /// When its run was last requested, and the run whose result counts.
    asked: Option<Instant>,
    /// When the next run may be requested: intervals are counted from the time that was due, even if a run is late.
    next: Option<Instant>,
    run: Option<RunId>,
}

impl Oracle {
    /// A new process: no script has a result.
    pub(super) fn forget_scripts(&mut self, id: NodeId, config: &Vrrp) {
        self.scripts.retain(|(node, _), _| *node != id);
        self.carry_scripts(id, &Vrrp::default(), config);
    }

    /// A script whose program stays the same keeps its state. A different program keeps the condition of its
    /// predecessor until its first result, which alone decides.
    pub(super) fn carry_scripts(&mut self, id: NodeId, old: &Vrrp, new: &Vrrp) {
        let mut carried = BTreeMap::new();
        for script in &new.scripts {
            let before = old.scripts.iter().find(|s| s.name == script.name);
            let same = before.is_some_and(|s| s.command == script.command);
            let known = self.scripts.remove(&(id, script.name.clone()));
            let track = match known {
                Some(known) if same => known,
                // Not fresh but without a verdict: results were lost, and the condition is unknown.
                Some(Track { good, fresh, .. }) if good.is_some() || !fresh => {
                    Track { fresh: true, good, ..Track::default() }
                }
                _ => {
                    let good = script.init_fail.then_some(false);
                    Track { fresh: true, good, ..Track::default() }
                }
            };
            carried.insert((id, script.name.clone()), track);
        }
        self.scripts.retain(|(node, _), _| *node != id);
        self.scripts.append(&mut carried);
    }

    /// The consequences of a result are judged when the daemon has completed them.
    pub(in crate::sim) fn put_off_results(&mut self, id: NodeId, goes_on: bool) {
        if goes_on {
            self.unfinished.insert(id);
        } else {
            self.unfinished.remove(&id);
        }
        self.step.ran |= self.ran_later.remove(&id);
        if goes_on && core::mem::take(&mut self.step.ran) {
            self.ran_later.insert(id);
        }
    }

    /// A daemon is about to get the number of a file; its consequences follow at once.
    pub(in crate::sim) const fn file_told(&mut self) {
        self.step.ran = true;
    }

    /// Results are lost, and their effect is unknown.
    pub(in crate::sim) fn lose_results(&mut self, id: NodeId) {
        for (_, track) in self.scripts.iter_mut().filter(|((node, _), _)| *node == id) {
            *track = Track { asked: track.asked, next: track.next, ..Track::default() };
        }
    }
}

impl World {
    /// A daemon requests a run of the program at `path`.
    pub(in crate::sim) fn judge_run(&mut self, id: NodeId, path: &[u8], run: RunId) {
        let now = self.now();
        let Some(script) = self.script_at(id, path) else {
            return self.violated_by(id, "runs a program that is no script");
        };
        let (name, interval) = script;
        let quiet = !self.within(&self.oracle.troubled, id, LATE)
            && !self.within(&self.oracle.stalled, id, LATE);
        let Some(track) = self.oracle.scripts.get_mut(&(id, name.clone())) else { return };
        track.run = Some(run);
        track.asked = Some(now);
        let early = track.next.is_some_and(|at| now < at);
        let due = track.next.filter(|due| !early && now.since(*due) < interval).unwrap_or(now);
        track.next = Some(due + interval);
        if early && quiet {
            self.violated_by(id, &format!("runs script {name} too often"));
        }
    }

    fn script_at(&self, id: NodeId, path: &[u8]) -> Option<(Name, Duration)> {
        let scripts = &self.node(id)?.config.scripts;
        let at = |s: &&crate::model::Script| s.command.words.first().is_some_and(|w| **w == *path);
        scripts.iter().find(at).map(|s| (s.name.clone(), s.interval))
    }

    /// The result of a run is about to be handed to a daemon.
    pub(in crate::sim) fn judge_result(
        &mut self,
        id: NodeId,
        path: &[u8],
        run: RunId,
        end: RunEnd,
    ) {
        let Some((name, _)) = self.script_at(id, path) else { return };
        let Some(node) = self.node(id) else { return };
        let Some(script) = node.config.scripts.iter().find(|s| s.name == name) else { return };
        let (rise, fall, success) = (script.rise, script.fall, end == RunEnd::Exit(0));
        let Some(track) = self.oracle.scripts.get_mut(&(id, name)) else { return };
        if track.run != Some(run) {
            return;
        }
        let (last, count) = track.streak;
        track.streak = (success, if last == success { count.saturating_add(1) } else { 1 });
        let enough = track.streak.1 >= if success { rise } else { fall };
        if core::mem::take(&mut track.fresh) || enough {
            track.good = Some(success);
        }
        self.oracle.step.ran = true;
    }

    /// After the result of a run: priorities and faults match all results together.
    pub(super) fn check_scripts(&self, id: NodeId, found: &mut Vec<String>) {
        let Some(node) = self.node(id) else { return };
        let Some(engine) = &node.engine else { return };
        let known = |name: &Name| {
            self.oracle.scripts.get(&(id, name.clone())).is_some_and(|t| t.good.is_some())
        };
        if !node.config.scripts.iter().all(|s| known(&s.name)) {
            return;
        }
        for instance in &node.config.instances {
            let name = &instance.name;
            if engine.state(name) == Some(State::Init) {
                continue;
            }
            let want = self.priority_of(node, id, instance);
            if engine.priority(name) != Some(want) {
                let said = engine.priority(name);
                found.push(format!("{name} has priority {said:?} after a script, not {want}"));
            }
            let bad = self.has_bad_script(node, id, instance) || has_bad_file(node, instance);
            if bad && engine.state(name) != Some(State::Fault) {
                found.push(format!("{name} is not in FAULT after a script"));
            }
        }
    }

    /// Scripts run at their intervals.
    pub(super) fn check_runs(&self, id: NodeId, found: &mut Vec<String>) {
        let quiet = !self.within(&self.oracle.troubled, id, LATE)
            && !self.within(&self.oracle.stalled, id, LATE);
        let Some(node) = self.node(id).filter(|node| quiet && node.runner_alive) else { return };
        for script in &node.config.scripts {
            let track = self.oracle.scripts.get(&(id, script.name.clone()));
            let asked = track.and_then(|track| track.asked);
            if asked.is_none_or(|at| self.now().since(at) > script.interval) {
                found.push(format!("script {} is not run", script.name));
            }
        }
    }
}

/// The amount that the tracked files of a router add to its priority, by the reported numbers; none if one of them
/// causes FAULT. keepalived.conf(5): the number is multiplied by the weight, and -254 and less is FAULT; without a
/// weight any number but 0 is.
fn files<'a>(node: &'a Node, instance: &'a Instance) -> impl Iterator<Item = Option<i32>> + 'a {
    let tracked = instance.extras.iter().flat_map(|extras| &extras.track_files);
    tracked.filter_map(|file| {
        let value = *node.files_told.get(&file.name)?;
        let product = i32::from(file.weight) * value * if file.reverse { -1 } else { 1 };
        Some(match file.weight {
            0 => ((value == 0) != file.reverse).then_some(0),
            _ => (product > -254).then_some(product.min(253)),
        })
    })
}

/// Whether a single file causes FAULT.
pub(super) fn has_bad_file(node: &Node, instance: &Instance) -> bool {
    files(node, instance).any(|effect| effect.is_none())
}

/// The amount that all files add to the priority of a router.
pub(super) fn sum_of_files(node: &Node, instance: &Instance) -> i32 {
    files(node, instance).flatten().sum()
}
