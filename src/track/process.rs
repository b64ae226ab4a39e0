//! Counts the processes of each tracked kind, and decides whether enough of them run.
//!
//! [`Processes`] stores only the processes that match. Its caller observes processes starting, changing and ending,
//! and reports them here.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::base::Instant;
use crate::model::tracker::{ArgumentMatch, TrackProcess};
use crate::status::ProcessReport;

/// Octets to which the kernel truncates the short name of a process.
const SHORT: usize = 15;

/// A process id.
pub type Pid = u32;

/// The properties of a living process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its short name.
    pub name: Vec<u8>,
    /// The beginning of its command line, at least [`Processes::line`] octets of it: words, each followed by a NUL.
    pub line: Vec<u8>,
}

/// Processes that are tracked.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    kinds: Vec<Kind>,
    /// Living processes that match, with the positions of the kinds they match.
    living: BTreeMap<Pid, Box<[u32]>>,
}

/// One `vrrp_track_process`.
#[derive(Clone, Debug)]
struct Kind {
    config: TrackProcess,
    /// The required beginning of a command line.
    line: Vec<u8>,
    count: u32,
    /// None until all processes were scanned.
    runs: Option<bool>,
    /// The pending state and when it takes effect.
    turns: Option<Instant>,
    told: Option<(bool, u32)>,
}

impl Processes {
    /// Sets the tracked kinds. Until [`Self::replace`] provides the existing processes, nothing is known except the
    /// state of kinds that were tracked before with the same definition.
    pub fn follow(&mut self, kinds: Vec<TrackProcess>) {
        let mut before = core::mem::take(&mut self.kinds);
        self.living.clear();
        self.kinds = kinds
            .into_iter()
            .map(|config| {
                let same = before.iter().position(|kind| kind.config == config);
                let known = same.map(|position| before.swap_remove(position));
                let (runs, turns) = known.map_or((None, None), |kind| (kind.runs, kind.turns));
                Kind { line: line(&config), config, count: 0, runs, turns, told: None }
            })
            .collect();
    }

    /// Whether nothing is tracked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Octets of a command line that matter; 0: the command line is not needed.
    #[must_use]
    pub fn line(&self) -> usize {
        let full = self.kinds.iter().filter(|kind| kind.config.full_command);
        full.map(|kind| kind.line.len() + 1).max().unwrap_or(0)
    }

    /// Provides all existing processes.
    pub fn replace(&mut self, now: Instant, all: impl IntoIterator<Item = (Pid, Seen)>) {
        self.living.clear();
        self.kinds.iter_mut().for_each(|kind| kind.count = 0);
        for (pid, seen) in all {
            self.set(pid, self.matching(&seen));
        }
        for kind in &mut self.kinds {
            kind.settle(now);
            // The result of the first scan takes effect without the configured delays.
            if kind.runs.is_none() {
                kind.runs = Some(kind.enough());
            }
        }
    }

    /// A process forked another one, which has the same properties until it changes them.
    pub fn forked(&mut self, now: Instant, parent: Pid, child: Pid) {
        let same = self.living.get(&parent).cloned().unwrap_or_default();
        self.set(child, same);
        self.settle(now);
    }

    /// Adds or updates a process with its current properties; none: it has ended already.
    pub fn became(&mut self, now: Instant, pid: Pid, seen: Option<&Seen>) {
        let kinds = seen.map(|seen| self.matching(seen)).unwrap_or_default();
        self.set(pid, kinds);
        self.settle(now);
    }

    /// A process ended.
    pub fn ended(&mut self, now: Instant, pid: Pid) {
        self.set(pid, Box::default());
        self.settle(now);
    }

    /// When [`Self::pass`] must be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.kinds.iter().filter_map(|kind| kind.turns).min()
    }

    /// Applies pending states whose delay has passed.
    pub fn pass(&mut self, now: Instant) {
        for kind in &mut self.kinds {
            if kind.turns.is_some_and(|at| at <= now) {
                kind.turns = None;
                kind.runs = Some(kind.enough());
            }
        }
    }

    /// The changes that were not reported yet. `counts`: includes kinds of which only the number changed.
    pub fn news(&mut self, counts: bool) -> Vec<ProcessReport> {
        let mut all = Vec::new();
        for kind in &mut self.kinds {
            let Some(runs) = kind.runs else { continue };
            let now = (runs, kind.count);
            let new = match kind.told {
                None => true,
                Some(told) => told.0 != runs || (counts && told != now),
            };
            if new {
                kind.told = Some(now);
                let name = kind.config.name.clone();
                all.push(ProcessReport { name, runs, count: kind.count });
            }
        }
        all
    }

    /// Whether a number differs from the reported one.
    #[must_use]
    pub fn counts_differ(&self) -> bool {
        self.kinds.iter().any(|kind| kind.told.is_some_and(|(_, count)| count != kind.count))
    }

    fn matching(&self, seen: &Seen) -> Box<[u32]> {
        let kinds = (0_u32..).zip(&self.kinds);
        kinds.filter(|(_, kind)| kind.counts(seen)).map(|(position, _)| position).collect()
    }

    fn set(&mut self, pid: Pid, kinds: Box<[u32]>) {
        let mut add = |kinds: &[u32], by: i32| {
            for position in kinds {
                if let Some(kind) = self.kinds.get_mut(*position as usize) {
                    kind.count = kind.count.saturating_add_signed(by);
                }
            }
        };
        add(&kinds, 1);
        let before = if kinds.is_empty() {
            self.living.remove(&pid)
        } else {
            self.living.insert(pid, kinds)
        };
        add(&before.unwrap_or_default(), -1);
    }

    fn settle(&mut self, now: Instant) {
        self.kinds.iter_mut().for_each(|kind| kind.settle(now));
    }
}

impl Kind {
    /// Whether a process is of this kind.
    fn counts(&self, seen: &Seen) -> bool {
        let TrackProcess { words, arguments, full_command, .. } = &self.config;
        if !full_command {
            let name = words.first().map_or(&[][..], |name| name);
            return name.get(..SHORT).unwrap_or(name) == seen.name.as_slice();
        }
        // A process that overwrites its command line may leave no NUL at the end.
        let unended = self.line.split_last().map_or(&[][..], |(_, rest)| rest);
        let line = seen.line.as_slice();
        match arguments {
            Some(ArgumentMatch::Exact) => line == self.line || line == unended,
            // Only the last argument may be a prefix, not the program.
            Some(ArgumentMatch::Initial) if words.len() > 1 => line.starts_with(unended),
            None | Some(ArgumentMatch::Partial | ArgumentMatch::Initial) => {
                line.starts_with(&self.line) || line == unended
            }
        }
    }

    fn enough(&self) -> bool {
        let TrackProcess { quorum, quorum_max, .. } = self.config;
        self.count >= quorum && quorum_max.is_none_or(|most| self.count <= most)
    }

    /// Updates the state from the number of processes.
    fn settle(&mut self, now: Instant) {
        let enough = self.enough();
        if self.runs.is_none_or(|runs| runs == enough) {
            self.turns = None;
            return;
        }
        let TrackProcess { fork_delay, terminate_delay, .. } = self.config;
        let delay = if enough { fork_delay } else { terminate_delay };
        if delay == Duration::ZERO {
            self.runs = Some(enough);
        } else if self.turns.is_none() {
            self.turns = Some(now + delay);
        }
    }
}

/// The command line to look for. If arguments do not count, it is the program alone.
fn line(config: &TrackProcess) -> Vec<u8> {
    let words = if config.arguments.is_some() { config.words.len() } else { 1 };
    config.words.iter().take(words).flat_map(|word| word.iter().copied().chain([0])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(words: &[&str]) -> TrackProcess {
        TrackProcess {
            name: "p".into(),
            words: words.iter().map(|word| word.as_bytes().into()).collect(),
            arguments: None,
            full_command: false,
            quorum: 1,
            quorum_max: None,
            terminate_delay: Duration::ZERO,
            fork_delay: Duration::ZERO,
        }
    }

    fn seen(words: &[&str]) -> Seen {
        let program = words[0].rsplit('/').next().unwrap();
        let name = program.as_bytes().iter().take(SHORT).copied().collect();
        Seen { name, line: words.iter().flat_map(|w| w.bytes().chain([0])).collect() }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// The reports after a step, as `runs count`.
    fn told(all: &mut Processes) -> Vec<String> {
        all.news(true).iter().map(|news| format!("{} {}", news.runs, news.count)).collect()
    }

    fn matches(config: &TrackProcess, words: &[&str]) -> bool {
        let mut all = Processes::default();
        all.follow(vec![config.clone()]);
        let mut seen = seen(words);
        seen.line.truncate(all.line());
        all.replace(at(0), [(1, seen)]);
        all.news(false)[0].count == 1
    }

    #[test]
    fn processes_are_known_by_their_short_name_or_by_their_command_line() {
        let short = kind(&["a-name-of-twenty-one"]);
        assert!(matches(&short, &["/bin/a-name-of-twenty-two", "x"]));
        assert!(!matches(&short, &["/bin/a-name-of-twen"]));
        assert!(!matches(&kind(&["hap"]), &["/usr/sbin/haproxy"]));

        let full = TrackProcess { full_command: true, ..kind(&["/bin/s"]) };
        assert!(matches(&full, &["/bin/s", "-x"]) && matches(&full, &["/bin/s"]));
        assert!(!matches(&full, &["s"]) && !matches(&full, &["/bin/sh"]));

        let words = ["s", "-a", "one"];
        let with = |arguments| TrackProcess {
            full_command: true,
            arguments: Some(arguments),
            ..kind(&words)
        };
        let lines: [&[&str]; 6] = [
            &["s", "-a", "one"],
            &["s", "-a", "one", "more"],
            &["s", "-a", "one-and-a-half"],
            &["s", "-a"],
            &["s", "-a one"],
            &["sh", "-a", "one"],
        ];
        for (arguments, expected) in [
            (ArgumentMatch::Exact, [true, false, false, false, false, false]),
            (ArgumentMatch::Partial, [true, true, false, false, false, false]),
            (ArgumentMatch::Initial, [true, true, true, false, false, false]),
        ] {
            assert_eq!(lines.map(|line| matches(&with(arguments), line)), expected);
        }
        // Without arguments in the definition, the program must match completely.
        let alone = TrackProcess {
            full_command: true,
            arguments: Some(ArgumentMatch::Initial),
            ..kind(&["s"])
        };
        assert!(matches(&alone, &["s", "-a"]) && !matches(&alone, &["sh"]));
        // A line that was overwritten ends without a NUL; one of a kernel thread is empty.
        let mut all = Processes::default();
        all.follow(vec![with(ArgumentMatch::Exact)]);
        let title = Seen { name: b"s".to_vec(), line: b"s\0-a\0one".to_vec() };
        all.replace(at(0), [(1, title), (2, Seen::default())]);
        assert_eq!(told(&mut all), ["true 1"]);
    }

    #[test]
    fn children_are_what_their_parents_are_until_they_say_otherwise() {
        let mut all = Processes::default();
        all.follow(vec![TrackProcess { quorum: 2, ..kind(&["web"]) }]);
        assert!(told(&mut all).is_empty(), "nothing is known yet");
        all.replace(at(0), [(10, seen(&["web"])), (11, seen(&["sh"]))]);
        assert_eq!(told(&mut all), ["false 1"]);
        all.forked(at(1), 10, 20);
        assert_eq!(told(&mut all), ["true 2"]);
        all.forked(at(1), 11, 21);
        all.became(at(1), 20, Some(&seen(&["helper"])));
        assert_eq!(told(&mut all), ["false 1"]);
        all.became(at(1), 21, Some(&seen(&["web"])));
        // A repeated event does not count the process twice.
        all.became(at(1), 21, Some(&seen(&["web"])));
        all.forked(at(1), 10, 21);
        assert_eq!(told(&mut all), ["true 2"]);
        all.ended(at(2), 21);
        all.ended(at(2), 21);
        all.ended(at(2), 99);
        all.became(at(2), 98, None);
        assert_eq!(told(&mut all), ["false 1"]);
        // The process id is reused by another program.
        all.forked(at(3), 11, 10);
        assert_eq!(told(&mut all), ["false 0"]);
    }

    #[test]
    fn too_many_are_as_bad_as_too_few() {
        let mut all = Processes::default();
        all.follow(vec![TrackProcess { quorum: 0, quorum_max: Some(0), ..kind(&["old"]) }]);
        all.replace(at(0), []);
        assert_eq!(told(&mut all), ["true 0"]);
        all.became(at(0), 5, Some(&seen(&["old"])));
        assert_eq!(told(&mut all), ["false 1"]);
    }

    #[test]
    fn a_change_counts_when_it_has_lasted() {
        let delays = TrackProcess {
            fork_delay: Duration::from_secs(3),
            terminate_delay: Duration::from_secs(5),
            ..kind(&["web"])
        };
        let mut all = Processes::default();
        all.follow(vec![delays.clone()]);
        // The result of the first scan takes effect at once.
        all.replace(at(0), [(1, seen(&["web"]))]);
        assert_eq!((told(&mut all), all.deadline()), (vec!["true 1".into()], None));
        all.ended(at(10), 1);
        assert_eq!(all.deadline(), Some(at(15)));
        // It recovers before the delay has passed: there is no change.
        all.became(at(14), 2, Some(&seen(&["web"])));
        assert_eq!(all.deadline(), None);
        all.pass(at(20));
        assert!(all.news(false).is_empty());
        all.ended(at(30), 2);
        // Neither further events, nor a reload, nor a scan restarts the delay.
        all.ended(at(31), 3);
        all.follow(vec![delays.clone()]);
        all.replace(at(32), []);
        all.pass(at(34));
        assert_eq!((told(&mut all), all.deadline()), (vec!["true 0".into()], Some(at(35))));
        all.pass(at(35));
        assert_eq!((told(&mut all), all.deadline()), (vec!["false 0".into()], None));
        all.became(at(40), 4, Some(&seen(&["web"])));
        all.pass(at(42));
        assert!(all.news(false).is_empty() && all.counts_differ());
        all.pass(at(43));
        assert_eq!(told(&mut all), ["true 1"]);
        // A changed definition of the same name starts without a state.
        all.follow(vec![TrackProcess { quorum: 2, ..delays }]);
        assert!(told(&mut all).is_empty());
        all.replace(at(44), [(4, seen(&["web"]))]);
        assert_eq!(told(&mut all), ["false 1"]);
    }

    #[test]
    fn what_does_not_count_is_not_kept() {
        let mut all = Processes::default();
        all.follow(vec![kind(&["web"]), kind(&["web"]), kind(&["db"])]);
        all.replace(at(0), (0..1000).map(|pid| (pid, seen(&["other"]))));
        all.became(at(0), 7, Some(&seen(&["web"])));
        for pid in 2000..3000 {
            all.forked(at(0), 8, pid);
        }
        assert_eq!(
            (all.living.len(), told(&mut all)),
            (1, vec!["true 1".into(), "true 1".into(), "false 0".into()])
        );
    }

    proptest::proptest! {
        /// After arbitrary events in arbitrary order the counts are those of the living processes.
        #[test]
        fn numbers_are_those_of_the_living(
            steps in proptest::collection::vec((0..4_u8, 0..6_u32, 0..6_u32), 0..60)
        ) {
            let names = ["web", "db", "other"];
            let mut all = Processes::default();
            all.follow(vec![kind(&["web"]), kind(&["db"])]);
            all.replace(at(0), []);
            let mut living: BTreeMap<Pid, &str> = BTreeMap::new();
            for (what, a, b) in steps {
                let name = names[b as usize % 3];
                match what {
                    0 => {
                        let same = living.get(&a).copied().unwrap_or("other");
                        living.insert(b, same);
                        all.forked(at(1), a, b);
                    }
                    1 => {
                        living.insert(a, name);
                        all.became(at(1), a, Some(&seen(&[name])));
                    }
                    2 => {
                        living.remove(&a);
                        all.ended(at(1), a);
                    }
                    _ => all.replace(at(1), living.iter().map(|(pid, name)| (*pid, seen(&[name])))),
                }
                for (kind, name) in all.kinds.iter().zip(names) {
                    let count = living.values().filter(|n| **n == name).count();
                    assert_eq!(kind.count as usize, count);
                    assert_eq!(kind.runs, Some(count >= 1));
                }
            }
        }
    }
}
