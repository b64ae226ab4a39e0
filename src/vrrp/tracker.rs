//! Tracked files and processes: another process watches them and reports. Until then, instances that track them take no
//! decision; the wait for a report is limited.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Engine, Moment, Timer};
use crate::base::Name;
use crate::model::tracker::Tracked;
use crate::model::{self, Weight};
use crate::track::{State, Subject};

/// How long to wait for the first report about a file or a process. It normally takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// What is known about a file or a process.
    pub(super) fn reported(&self, subject: &Subject) -> State {
        self.reports.get(subject).copied().unwrap_or(State::Awaited)
    }

    /// A report: the number in a file, or whether enough processes run.
    pub(super) fn report(&mut self, moment: &mut Moment<'_>, subject: Subject, state: State) {
        let tracker = self.trackers.find(&subject);
        let before = self.reports.get(&subject).copied();
        if tracker.is_some() && before != Some(state) {
            match (&subject, state) {
                (Subject::File(name), State::Value(value)) => {
                    tracing::info!("Track file {name} is now {value}");
                }
                (Subject::Process(name), state) => {
                    let what = if state == State::Good { "gained" } else { "lost" };
                    tracing::info!("Quorum {what} for tracked process {name}");
                }
                _ => {}
            }
        }
        // A name that is not configured may belong to the next configuration.
        self.reports.insert(subject, state);
        if let Some(tracker) = tracker {
            let concerned = self.note_tracker(tracker, state);
            self.reconsider_all(moment, concerned);
        }
    }

    /// The subjects of the configuration that another process reports about.
    fn reporting(config: &model::Vrrp) -> impl Iterator<Item = Subject> {
        let files = config.track_files.iter().map(|f| Subject::File(f.name.clone()));
        files.chain(config.track_processes.iter().map(|p| Subject::Process(p.name.clone())))
    }

    /// A new configuration: subjects that it does not name are forgotten, and those without a report are waited for.
    pub(super) fn await_reports(&mut self, moment: &Moment<'_>) {
        let wanted: std::collections::BTreeSet<Subject> = Self::reporting(&self.config).collect();
        self.reports.retain(|subject, _| wanted.contains(subject));
        let awaited = wanted.iter().any(|subject| self.is_awaited(subject));
        match (awaited, self.timers.get(Timer::Reports)) {
            (true, None) => self.timers.set(Timer::Reports, moment.now + PATIENCE),
            (false, Some(_)) => self.timers.clear(Timer::Reports),
            _ => {}
        }
    }

    fn is_awaited(&self, subject: &Subject) -> bool {
        self.trackers.find(subject).is_some_and(|id| self.trackers.state(id) == State::Awaited)
    }

    /// Reports are overdue: a file counts as missing, and processes as not running.
    pub(super) fn reports_overdue(&mut self, moment: &mut Moment<'_>) {
        let config = std::sync::Arc::clone(&self.config);
        for subject in Self::reporting(&config) {
            if !self.is_awaited(&subject) {
                continue;
            }
            let (state, text) = match &subject {
                Subject::File(_) => (State::Value(0), "the number 0 is assumed"),
                _ => (State::Bad, "it is assumed not to run"),
            };
            tracing::warn!("nothing is known about tracked {subject} yet, {text}");
            if let Some(tracker) = self.trackers.find(&subject) {
                let concerned = self.note_tracker(tracker, state);
                self.reconsider_all(moment, concerned);
            }
        }
    }
}

/// What an instance tracks, by itself and through its group. If both track the same object, the group's weight counts
/// unless it is 0. One line per kind.
pub(super) fn tracked(
    config: &model::Vrrp,
    instance: &model::Instance,
    group: Option<&model::SyncGroup>,
) -> BTreeMap<Subject, Weight> {
    let mut all = BTreeMap::new();
    let mut add = |subject: Subject, weight: Weight| {
        all.entry(subject)
            .and_modify(|w| {
                if weight != Weight::FAULT {
                    *w = weight;
                }
            })
            .or_insert(weight);
    };
    let mut named = |list: &[Tracked], subject: fn(Name) -> Subject| {
        list.iter().for_each(|t| add(subject(t.name.clone()), t.effect()));
    };
    if let Some(extras) = instance.extras.as_deref() {
        named(&extras.track_files, Subject::File);
        named(&extras.track_processes, Subject::Process);
    }
    if let Some(group) = group {
        named(&group.track_files, Subject::File);
        named(&group.track_processes, Subject::Process);
    }
    let of_group = group.map(|g| (&g.track_interfaces[..], &g.track_scripts[..]));
    let own = (&instance.track_interfaces[..], &instance.track_scripts[..]);
    for (interfaces, scripts) in [Some(own), of_group].into_iter().flatten() {
        interfaces.iter().for_each(|t| add(Subject::Interface(t.interface.clone()), t.weight));
        scripts.iter().for_each(|t| add(Subject::Script(t.script.clone()), t.weight));
    }
    if config.needs_ipvs {
        add(Subject::VirtualServers, Weight::FAULT);
    }
    all
}
