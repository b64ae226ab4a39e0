//! Tracking scripts: when each runs, and the effect of its result.

use core::time::Duration;

use super::event::{RunEnd, RunId};
use super::{Action, Engine, Moment, Timer};
use crate::base::Instant;
use crate::model;
use crate::track::{Condition, Rule, State, TrackerId};

/// A running tracking script.
#[derive(Debug)]
pub(super) struct Script {
    pub config: model::Script,
    pub condition: Condition,
    /// Its program has no result yet: the first one alone decides. Until then the condition is that of the previous
    /// program, or the one assumed by `init_fail`.
    fresh: bool,
    /// The run without a result.
    running: Option<Running>,
    /// Exit status of the last run, for the log.
    last_status: i32,
}

/// A run of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Running {
    run: RunId,
    /// When it was requested.
    since: Instant,
    /// It was logged that it still runs when the next run is due.
    told: bool,
}

/// How long the answer to a run may take beyond the script's `timeout`: SIGTERM, SIGKILL and giving up after that take
/// up to four seconds. No answer is expected after this.
const LOST: Duration = Duration::from_secs(10);

impl Script {
    /// A script; `before`: the one of the same name with a different program. A reload that only changes how something
    /// is checked must not demote a master before the new program has a result.
    pub fn new(config: model::Script, before: Option<&Self>) -> Self {
        let known = before.map(|before| before.condition).filter(|c| c.good().is_some());
        let assumed =
            if config.init_fail { Condition::Bad { successes: 0 } } else { Condition::Unknown };
        let condition = known.unwrap_or(assumed);
        Self { config, condition, fresh: true, running: None, last_status: 0 }
    }

    /// The same script, of which the previous process of this role knew whether it is good.
    pub fn resumed(mut self, good: Option<bool>) -> Self {
        match good {
            Some(true) => self.condition = Condition::Good { failures: 0 },
            Some(false) => self.condition = Condition::Bad { successes: 0 },
            None => return self,
        }
        self.fresh = false;
        self
    }

    /// Its run, if no answer to it is expected any more.
    fn lost(&self, now: Instant) -> Option<RunId> {
        let Running { run, since, .. } = self.running?;
        (now.since(since) > self.config.timeout.saturating_add(LOST)).then_some(run)
    }

    /// Its state as a tracker.
    pub const fn state(&self) -> State {
        State::of(self.condition.good())
    }
}

impl Engine {
    /// Starts a script that has no run scheduled yet.
    pub(super) fn start_script(&mut self, moment: &mut Moment<'_>, id: TrackerId) {
        if self.timers.get(Timer::Script(id)).is_none() {
            self.script_due(moment, id, moment.now);
        }
    }

    /// The next run of a script is due.
    pub(super) fn script_due(&mut self, moment: &mut Moment<'_>, id: TrackerId, due: Instant) {
        self.next_run += 1;
        let run = RunId(self.next_run);
        let script = self.scripts.get(&id);
        if let Some((script, run)) = script.and_then(|s| Some((s, s.lost(moment.now)?))) {
            let name = &script.config.name;
            tracing::warn!("Track script {name}: no result of its last run, counted as timed out");
            self.ran(moment, run, RunEnd::TimedOut);
        }
        let Some(script) = self.scripts.get_mut(&id) else { return };
        let interval = script.config.interval;
        let next = due + interval;
        let next = if next > moment.now { next } else { moment.now + interval };
        if let Some(running) = &mut script.running {
            if !core::mem::replace(&mut running.told, true) {
                tracing::info!(
                    "Track script {} is already running, expect idle - skipping run",
                    script.config.name
                );
            }
        } else {
            script.running = Some(Running { run, since: moment.now, told: false });
            self.runs.insert(run, id);
            let (command, timeout) = (script.config.command.clone(), script.config.timeout);
            moment.out.push(Action::RunScript { run, command, timeout });
        }
        self.timers.set(Timer::Script(id), next);
    }

    /// A run ended.
    pub(super) fn ran(&mut self, moment: &mut Moment<'_>, run: RunId, end: RunEnd) {
        let Some(id) = self.runs.remove(&run) else { return };
        let script = self.scripts.get_mut(&id);
        // A script that a reload replaced meanwhile waits for another run.
        let Some(script) = script.filter(|s| s.running.is_some_and(|r| r.run == run)) else {
            return;
        };
        script.running = None;
        let name = script.config.name.clone();
        if let RunEnd::Exit(status) = end
            && status != script.last_status
        {
            tracing::info!("Script `{name}` now returning {status}");
            script.last_status = status;
        }
        let success = end == RunEnd::Exit(0);
        let before = script.condition.good();
        let rule = Rule { rise: script.config.rise, fall: script.config.fall };
        let fresh = core::mem::take(&mut script.fresh);
        let condition = if fresh { Condition::Unknown } else { script.condition };
        script.condition = condition.after(success, rule);
        let after = script.condition.good();
        if before == after {
            return;
        }
        match end {
            RunEnd::Exit(0) => tracing::info!("VRRP_Script({name}) succeeded"),
            RunEnd::Exit(status) => {
                tracing::info!("VRRP_Script({name}) failed (exited with status {status})");
            }
            RunEnd::Signal(signal) => {
                tracing::info!("VRRP_Script({name}) failed (due to signal {signal})");
            }
            RunEnd::TimedOut => tracing::info!("VRRP_Script({name}) timed_out"),
            RunEnd::NotStarted(errno) => {
                tracing::info!("VRRP_Script({name}) failed (could not be started: error {errno})");
            }
        }
        self.tracker_is(moment, id, State::of(after));
        moment.out.push(Action::Report);
    }

    /// A script is not needed any more: ends its run.
    pub(super) fn end_script(&mut self, moment: &mut Moment<'_>, script: &Script) {
        if let Some(Running { run, .. }) = script.running
            && self.runs.remove(&run).is_some()
        {
            moment.out.push(Action::EndScript(run));
        }
    }

    /// The runner's requests are lost: the next runs start at their regular times.
    pub(super) fn runner_ready(&mut self) {
        self.runs.clear();
        for script in self.scripts.values_mut() {
            script.running = None;
        }
    }
}
