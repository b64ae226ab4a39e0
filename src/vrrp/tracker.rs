//! Tracked files, processes and BFD sessions: another process or thread watches them and reports. Until then,
//! instances that track them take no decision; the wait for a report is limited.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Action, Engine, Moment, Timer};
use crate::base::Name;
use crate::model::tracker::Tracked;
use crate::model::{self, Weight};
use crate::status::vrrp::{Tracker, TrackerKind};
use crate::status::{Reading, TrackReport};
use crate::track::{State, Subject};

/// How long to wait for the first report about a file or a process. It normally takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// The known state of a tracked subject.
    pub(super) fn reported(&self, subject: &Subject) -> State {
        self.reports.get(subject).copied().unwrap_or(State::Awaited)
    }

    /// A report: the number in a file, whether enough processes run, whether a session is up.
    pub(super) fn report(&mut self, moment: &mut Moment<'_>, report: TrackReport) {
        let TrackReport { kind, name, reading } = report;
        let state = match (kind, reading) {
            // The engine runs scripts itself and judges their ends.
            (TrackerKind::Script, _) => return,
            (_, Reading::Number(number)) => State::Value(number),
            (_, Reading::Condition { good, count }) => {
                if let Some(count) = count {
                    self.counts.insert(name.clone(), count);
                }
                State::of(Some(good))
            }
        };
        let subject = subject(kind, name);
        let tracker = self.trackers.find(&subject);
        let before = self.reports.get(&subject).copied();
        if tracker.is_some() && before != Some(state) {
            match &subject {
                Subject::File(name) => {
                    if let State::Value(value) = state {
                        tracing::info!("Track file {name} is now {value}");
                    }
                }
                Subject::Process(name) => {
                    let what = if state == State::Good { "gained" } else { "lost" };
                    tracing::info!("Quorum {what} for tracked process {name}");
                }
                // A line for each instance that tracks it: `line_of_user`.
                Subject::Bfd(_) => {}
                Subject::Interface(_) | Subject::Script(_) | Subject::VirtualServers => {}
            }
        }
        // A name that is not configured may belong to the next configuration.
        self.reports.insert(subject, state);
        if let Some(tracker) = tracker {
            self.tracker_is(moment, tracker, state);
        }
        if before != Some(state) {
            moment.out.push(Action::Report);
        }
    }

    /// The result of a script, as the previous process of this role knew it.
    pub(super) fn resumed_script(&self, name: &Name) -> Option<bool> {
        let mut known = self.resume.trackers.iter();
        known.find(|t| t.kind == TrackerKind::Script && t.name == *name)?.good
    }

    /// The previous process of this role knew this much: waiting for it again would be a gap for those who track it.
    pub(super) fn resume_reports(&mut self) {
        for Tracker { kind, name, good, value } in &self.resume.trackers {
            let state = match (kind, good, value) {
                (TrackerKind::Script, ..) => continue,
                (TrackerKind::File, _, Some(value)) => match i32::try_from(*value) {
                    Ok(value) => State::Value(value),
                    Err(_) => continue,
                },
                (_, Some(good), _) => State::of(Some(*good)),
                (_, None, _) => continue,
            };
            self.reports.entry(subject(*kind, name.clone())).or_insert(state);
        }
    }

    /// The configured subjects that another process or thread reports about.
    fn reporting(config: &model::Vrrp) -> impl Iterator<Item = Subject> {
        TrackerKind::all().flat_map(|kind| {
            let names: Box<dyn Iterator<Item = &Name>> = match kind {
                // The engine runs them itself.
                TrackerKind::Script => Box::new(core::iter::empty()),
                TrackerKind::File => Box::new(config.track_files.iter().map(|f| &f.name)),
                TrackerKind::Process => Box::new(config.track_processes.iter().map(|p| &p.name)),
                TrackerKind::Bfd => {
                    Box::new(config.bfds.iter().filter(|b| b.for_vrrp).map(|b| &b.name))
                }
            };
            names.map(move |name| subject(kind, name.clone()))
        })
    }

    /// A new configuration: subjects that it does not name are forgotten, and those without a report are waited for.
    pub(super) fn await_reports(&mut self, moment: &Moment<'_>) {
        let wanted: std::collections::BTreeSet<Subject> = Self::reporting(&self.config).collect();
        self.reports.retain(|subject, _| wanted.contains(subject));
        self.counts.retain(|name, _| wanted.contains(&Subject::Process(name.clone())));
        let awaited = wanted.iter().any(|s| !matches!(s, Subject::Bfd(_)) && self.is_awaited(s));
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
                // The sessions of a replaced process may have been up, so they get time to come up again.
                Subject::Bfd(_) => continue,
                Subject::Process(_) => (State::Bad, "it is assumed not to run"),
                // They are not reported.
                Subject::Interface(_) | Subject::Script(_) | Subject::VirtualServers => continue,
            };
            tracing::warn!("nothing is known about tracked {subject} yet, {text}");
            if let Some(tracker) = self.trackers.find(&subject) {
                self.tracker_is(moment, tracker, state);
            }
        }
    }
}

/// Views of the trackers.
impl Engine {
    pub(super) fn tracked_by_name(&self) -> usize {
        self.scripts.len() + Self::reporting(&self.config).count()
    }

    /// In this order: scripts, files, processes, sessions.
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
                // No instance or group tracks it.
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
                Subject::Bfd(name) => (TrackerKind::Bfd, name, None),
                Subject::Interface(_) | Subject::Script(_) | Subject::VirtualServers => {
                    return None;
                }
            };
            Some(Tracker { kind, name, good, value })
        }))
    }
}

/// What each instance that tracks an object logs when it changes: only for sessions, in keepalived's wording.
pub(super) fn line_of_user(subject: &Subject, state: State) -> Option<String> {
    let Subject::Bfd(session) = subject else { return None };
    let word = if state == State::Good { "UP" } else { "DOWN" };
    Some(format!("Tracked BFD instance {session} is {word}"))
}

/// The row of an object that is tracked by name.
const fn subject(kind: TrackerKind, name: Name) -> Subject {
    match kind {
        TrackerKind::Script => Subject::Script(name),
        TrackerKind::File => Subject::File(name),
        TrackerKind::Process => Subject::Process(name),
        TrackerKind::Bfd => Subject::Bfd(name),
    }
}

/// What an instance tracks, by itself and through its group. If both track the same object, the group's weight counts
/// unless it is 0.
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
    let mut named = |kind: TrackerKind, list: &[Tracked]| {
        list.iter().for_each(|t| add(subject(kind, t.name.clone()), t.effect()));
    };
    if let Some(extras) = instance.extras.as_deref() {
        for kind in TrackerKind::all() {
            match kind {
                // These lists have another type: see below.
                TrackerKind::Script => {}
                TrackerKind::File => named(kind, &extras.track_files),
                TrackerKind::Process => named(kind, &extras.track_processes),
                TrackerKind::Bfd => named(kind, &extras.track_bfds),
            }
        }
    }
    if let Some(group) = group {
        for kind in TrackerKind::all() {
            match kind {
                TrackerKind::Script => {}
                TrackerKind::File => named(kind, &group.track_files),
                TrackerKind::Process => named(kind, &group.track_processes),
                TrackerKind::Bfd => named(kind, &group.track_bfds),
            }
        }
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
