//! Files and processes that are tracked: another process looks at them and reports. Until it has, who tracks them
//! takes no decision; a report that does not come is not waited for without end.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Engine, Moment, Timer};
use crate::base::Name;
use crate::model::tracker::Tracked;
use crate::model::{self, Weight};
use crate::status::vrrp::{Tracker, TrackerKind};
use crate::track::{State, Subject};

/// How long the first report of a file or a process is waited for. It takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// What is known of a file or a process.
    pub(super) fn reported(&self, subject: &Subject) -> State {
        self.reports.get(subject).copied().unwrap_or(State::Awaited)
    }

    /// The number in a file, or whether enough processes run.
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
        // What the configuration in force does not name may be named by the next one.
        self.reports.insert(subject, state);
        if let Some(tracker) = tracker {
            let concerned = self.note_tracker(tracker, state);
            self.reconsider_all(moment, concerned);
        }
    }

    /// The subjects of the configuration that others report of.
    fn reporting(config: &model::Vrrp) -> impl Iterator<Item = Subject> {
        let files = config.track_files.iter().map(|f| Subject::File(f.name.clone()));
        files.chain(config.track_processes.iter().map(|p| Subject::Process(p.name.clone())))
    }

    /// A new configuration is there: what it does not name is forgotten, what nobody reported of yet is waited for.
    pub(super) fn await_reports(&mut self, moment: &Moment<'_>) {
        let wanted: std::collections::BTreeSet<Subject> = Self::reporting(&self.config).collect();
        self.reports.retain(|subject, _| wanted.contains(subject));
        self.counts.retain(|name, _| wanted.contains(&Subject::Process(name.clone())));
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

    /// Reports have not come in time: a file counts as one that is not there, and no process as running.
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
            tracing::warn!("nothing is known of tracked {subject} yet, {text}");
            if let Some(tracker) = self.trackers.find(&subject) {
                let concerned = self.note_tracker(tracker, state);
                self.reconsider_all(moment, concerned);
            }
        }
    }
}

/// Views of what is tracked by name.
impl Engine {
    pub(super) fn tracked_by_name(&self) -> usize {
        self.scripts.len() + Self::reporting(&self.config).count()
    }

    /// Scripts, files, processes, in this order.
    pub(super) fn view_of_trackers(&self) -> impl Iterator<Item = Tracker> {
        let scripts = self.scripts.values().map(|script| Tracker {
            kind: TrackerKind::Script,
            name: script.config.name.clone(),
            good: script.condition.good(),
            value: None,
        });
        scripts.chain(Self::reporting(&self.config).filter_map(|subject| {
            let state = match self.trackers.find(&subject) {
                Some(id) => self.trackers.state(id),
                // Nobody refers to it.
                None => self.reported(&subject),
            };
            let good = match state {
                State::Good => Some(true),
                State::Bad => Some(false),
                State::Unknown | State::Awaited | State::Value(_) => None,
            };
            let (kind, name, value) = match subject {
                Subject::File(name) => {
                    let value = if let State::Value(n) = state { Some(n.into()) } else { None };
                    (TrackerKind::File, name, value)
                }
                Subject::Process(name) => {
                    let count = self.counts.get(&name).map(|n| i64::from(*n));
                    (TrackerKind::Process, name, count)
                }
                Subject::Interface(_) | Subject::Script(_) | Subject::VirtualServers => {
                    return None;
                }
            };
            Some(Tracker { kind, name, good, value })
        }))
    }
}

/// What is tracked for an instance: by itself and by its group. Where both name the same thing, the group's
/// weight counts unless it is 0. One line for each kind.
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
