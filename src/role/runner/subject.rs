//! The programs of one subject: one at a time, in the order of the requests.
//!
//! keepalived runs them side by side, so after a quick master-backup-master they may finish in any order. Here the next
//! one waits, but not for long: a program that hangs must not prevent that of the next state from running, and must not
//! continue beside it. So the old one is terminated: after `notify_max_delay`, or at once when the daemon stops.

use core::pin::pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::Name;
use crate::drive::script::{self, Running, STOP_GRACE};
use crate::model::Command;
use crate::status::RunEnd;
use crate::sys::process::Stranger;

/// How long a program may keep the next one of its subject waiting, for all subjects.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience(Arc<AtomicU64>);

impl Patience {
    /// Changes it for later waits.
    pub fn set(&self, patience: Duration) {
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }

    fn is(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Programs to run.
pub(super) struct Job {
    /// The channel by which it came.
    pub channel: u64,
    /// The state announced, for messages.
    pub state: Name,
    /// The commands to run, one after the other.
    pub commands: Vec<Command>,
    /// Time limit of each; only set when the daemon stops.
    pub limit: Option<Duration>,
    /// A process of the previous runner that must end first.
    pub before: Option<Stranger>,
    /// Called with the position of each started command, and its process.
    pub began: Box<dyn FnMut(u32, Option<OwnedFd>) + Send>,
    /// Called at the end.
    pub done: Box<dyn FnOnce() + Send>,
}

/// A queue of jobs and the task that processes it.
pub(super) struct Subject(Arc<Shared>);

struct Shared {
    name: Name,
    state: Mutex<State>,
    patience: Patience,
    /// Notified when there is a new job, or the daemon stops.
    news: Notify,
    /// Held while there is work.
    busy: Arc<()>,
}

#[derive(Default)]
struct State {
    /// With the time when each was added.
    jobs: VecDeque<(Instant, Job)>,
    working: bool,
    /// The daemon stops: only programs of the stop run.
    stopping: bool,
}

impl Subject {
    pub fn new(name: Name, patience: Patience, busy: Arc<()>) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Shared { name, state, patience, news: Notify::new(), busy }))
    }

    /// Adds a job and makes sure that the task runs.
    pub fn push(&self, job: Job) {
        let mut state = self.0.state();
        state.stopping |= job.limit.is_some();
        state.jobs.push_back((Instant::now(), job));
        if !core::mem::replace(&mut state.working, true) {
            tokio::spawn(work(Arc::clone(&self.0), Arc::clone(&self.0.busy)));
        }
        self.0.news.notify_one();
    }

    /// Number of waiting jobs.
    pub fn waiting(&self) -> usize {
        self.0.state().jobs.len()
    }

    /// The process that requested these jobs lives and requests them again by another channel.
    pub fn forget(&self, channel: u64) {
        self.0.state().jobs.retain(|(_, job)| job.channel != channel);
    }

    /// The daemon stops: the running program is terminated, and of waiting and later jobs only those of the stop run.
    pub fn stop(&self) {
        if !core::mem::replace(&mut self.0.state().stopping, true) {
            self.0.news.notify_one();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the program that runs since `started` is terminated, if a job waits or the daemon stops.
    fn patience_ends(&self, started: Instant) -> Option<Instant> {
        let state = self.state();
        if state.stopping {
            return Some(started);
        }
        // A later program of a job also gets its full time.
        state.jobs.front().map(|(since, _)| (*since).max(started) + self.patience.is())
    }
}

/// Processes jobs until none is left. `_busy` is held meanwhile.
async fn work(shared: Arc<Shared>, _busy: Arc<()>) {
    loop {
        let job = {
            let mut state = shared.state();
            match state.jobs.pop_front() {
                Some((_, job)) => job,
                None => {
                    state.working = false;
                    return;
                }
            }
        };
        let Job { channel: _, state, commands, limit, before, mut began, done } = job;
        if let Some(before) = before {
            let in_time = match limit {
                // It is a program of the stop as well, with that time limit.
                Some(limit) => tokio::time::timeout(limit, before.ending()).await.is_ok(),
                None => ends_in_time(&shared, before.ending()).await,
            };
            if !in_time {
                let of = &shared.name;
                tracing::warn!(
                    "a program of the previous runner for {of} ({state}) is still running, ending it"
                );
                let grace = if limit.is_some() { Duration::ZERO } else { STOP_GRACE };
                script::stop_stranger(&before, grace).await;
            }
        }
        for (position, command) in (0..).zip(&commands) {
            if limit.is_none() && shared.state().stopping {
                let (program, of) = (command.display(), &shared.name);
                tracing::info!("{program} for {of} ({state}) not run: stopping");
                continue;
            }
            one(&shared, &state, command, limit, |process| began(position, process)).await;
        }
        done();
    }
}

async fn one(
    shared: &Shared,
    state: &Name,
    command: &Command,
    limit: Option<Duration>,
    began: impl FnOnce(Option<OwnedFd>),
) {
    let of = &shared.name;
    let running = match Running::start(command) {
        Ok(running) => running,
        Err(e) => {
            tracing::warn!("cannot run {} for {of} ({state}): {e}", command.display());
            return;
        }
    };
    began(running.share());
    tracing::debug!("running {} for {of} ({state})", command.display());
    let name = running.name().to_owned();
    let end = match limit {
        // As keepalived does with programs that have a time limit: SIGKILL at once.
        Some(limit) => running.end(Some(limit), Duration::ZERO).await,
        None if !ends_in_time(shared, running.ending()).await => {
            let why = if shared.state().stopping { "stopping" } else { "the next one waits" };
            tracing::warn!("{name} for {of} ({state}) is still running, ending it: {why}");
            running.stop(STOP_GRACE).await;
            return;
        }
        None => running.end(None, Duration::ZERO).await,
    };
    match end {
        RunEnd::Exit(0) => {}
        RunEnd::Exit(status) => {
            tracing::info!("{name} for {of} ({state}) exited with status {status}");
        }
        RunEnd::Signal(number) => {
            tracing::warn!("{name} for {of} ({state}) was ended by signal {number}");
        }
        RunEnd::TimedOut => {
            let limit = limit.unwrap_or_default();
            tracing::warn!("{name} for {of} ({state}) exceeded {limit:?} and was ended");
        }
        RunEnd::NotStarted(number) => {
            let e = std::io::Error::from_raw_os_error(number);
            tracing::warn!("cannot run {name} for {of} ({state}): {e}");
        }
    }
}

/// Waits for the end of a program; false when another job has waited for too long, or the daemon stops.
async fn ends_in_time(shared: &Shared, ending: impl Future<Output = ()>) -> bool {
    let started = Instant::now();
    let mut ending = pin!(ending);
    loop {
        let patience_ends = shared.patience_ends(started);
        let impatient = async {
            match patience_ends {
                Some(at) => tokio::time::sleep_until(at).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = &mut ending => return true,
            () = impatient => return false,
            () = shared.news.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::sync::mpsc;

    use super::*;
    use crate::sys::testing;

    fn job(
        done: &mpsc::UnboundedSender<u32>,
        tag: u32,
        limit: Option<Duration>,
        text: &str,
    ) -> Job {
        let words: [&[u8]; 3] = [b"/bin/sh", b"-c", text.as_bytes()];
        let command =
            Command { words: words.map(Box::from).into(), through_shell: false, user: None };
        let done = done.clone();
        Job {
            channel: 1,
            state: Name::from("MASTER"),
            commands: vec![command],
            limit,
            before: None,
            began: Box::new(|_, _| {}),
            done: Box::new(move || done.send(tag).unwrap()),
        }
    }

    fn lines(file: &Path) -> Vec<String> {
        std::fs::read_to_string(file).unwrap_or_default().lines().map(Into::into).collect()
    }

    #[test]
    fn order_is_kept_whatever_each_takes() {
        testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("out");
            let subject = subject(LONG);
            let busy = Arc::clone(&subject.0.busy);
            let (done, mut tags) = mpsc::unbounded_channel();
            for (tag, pause) in [(1, "0.2"), (2, "0"), (3, "0.1")] {
                let text = format!(
                    "echo {tag} in >> {0}; sleep {pause}; echo {tag} out >> {0}",
                    file.display()
                );
                subject.push(job(&done, tag, None, &text));
            }
            for tag in [1, 2, 3] {
                assert_eq!(tags.recv().await, Some(tag));
            }
            assert_eq!(lines(&file), ["1 in", "1 out", "2 in", "2 out", "3 in", "3 out"]);
            // A program that is requested after a pause runs as well.
            subject.push(job(&done, 4, None, "exit 1"));
            assert_eq!(tags.recv().await, Some(4));
            drop(subject);
            while Arc::strong_count(&busy) > 1 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// A subject whose `notify_max_delay` is this many milliseconds.
    fn subject(millis: u64) -> Subject {
        let patience = Patience::default();
        patience.set(Duration::from_millis(millis));
        Subject::new(Name::from("instance A"), patience, Arc::new(()))
    }

    const LONG: u64 = 60_000;
    const AT_STOP: Option<Duration> = Some(Duration::from_secs(30));

    /// Waits until a program has written something.
    async fn written(file: &Path) -> Vec<String> {
        loop {
            let lines = lines(file);
            if !lines.is_empty() {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn lives(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn nothing_runs_beside_what_the_last_runner_started() {
        testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("out");
            let (done, mut tags) = mpsc::unbounded_channel();
            let (began, mut processes) = mpsc::unbounded_channel();
            let append = |what: &str| format!("echo {what} >> {}", file.display());
            // The previous runner starts one and is dropped; only the new one waits for it.
            let last = subject(LONG);
            let text = format!("sleep 0.3; {}", append("first"));
            let mut first = job(&done, 1, None, &text);
            first.began = Box::new(move |n, process| began.send((n, process)).unwrap());
            last.push(first);
            let (position, process) = processes.recv().await.unwrap();
            assert_eq!(position, 0);
            // The new one gets the rest of that notice, which is empty, and another one.
            let next = subject(LONG);
            let mut rest = job(&done, 2, None, "");
            rest.commands.clear();
            rest.before = Some(Stranger::hold(process.unwrap()).unwrap());
            next.push(rest);
            next.push(job(&done, 3, None, &append("second")));
            let mut all = Vec::new();
            while all.len() < 3 {
                all.push(tags.recv().await.unwrap());
            }
            assert_eq!(lines(&file), ["first", "second"]);
            all.retain(|tag| *tag != 1);
            assert_eq!(all, [2, 3]);
        });
    }

    #[test]
    fn what_the_last_runner_started_is_ended_when_another_has_waited_or_at_a_stop() {
        for stop in [false, true] {
            testing::run(async {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("out");
                let out = file.display();
                let (done, mut tags) = mpsc::unbounded_channel();
                let (began, mut processes) = mpsc::unbounded_channel();
                let last = subject(LONG);
                let mut first = job(&done, 1, None, &format!("echo $$ > {out}; exec sleep 60"));
                first.began = Box::new(move |_, process| began.send(process).unwrap());
                last.push(first);
                let process = processes.recv().await.unwrap();
                let pid = written(&file).await.remove(0);
                let next = subject(if stop { LONG } else { 300 });
                let mut rest = job(&done, 2, None, "");
                rest.commands.clear();
                rest.before = Some(Stranger::hold(process.unwrap()).unwrap());
                next.push(rest);
                // Alone it may run for any time.
                assert!(
                    tokio::time::timeout(Duration::from_millis(600), tags.recv()).await.is_err()
                );
                let limit = if stop { AT_STOP } else { None };
                next.push(job(&done, 3, limit, &format!("echo last >> {out}")));
                let mut all = Vec::new();
                while all.len() < 3 {
                    all.push(tags.recv().await.unwrap());
                }
                assert!(!lives(&pid));
                assert_eq!(lines(&file), [pid.as_str(), "last"]);
                all.retain(|tag| *tag != 1);
                assert_eq!(all, [2, 3]);
            });
        }
    }

    #[test]
    fn two_subjects_do_not_wait_for_each_other() {
        testing::run(async {
            let (a, b) = (subject(LONG), subject(LONG));
            let (done, mut tags) = mpsc::unbounded_channel();
            a.push(job(&done, 1, None, "exec sleep 30"));
            b.push(job(&done, 2, None, "exit 0"));
            assert_eq!(tags.recv().await, Some(2));
            a.stop();
            assert_eq!(tags.recv().await, Some(1));
        });
    }

    #[test]
    fn a_limit_ends_a_program() {
        testing::run(async {
            let subject = subject(LONG);
            let (done, mut tags) = mpsc::unbounded_channel();
            let limit = Some(Duration::from_millis(100));
            subject.push(job(&done, 1, limit, "trap '' TERM; sleep 100"));
            subject.push(job(&done, 2, limit, "/nonexistent"));
            assert_eq!((tags.recv().await, tags.recv().await), (Some(1), Some(2)));
        });
    }

    #[test]
    fn a_program_that_never_ends_is_ended_when_another_has_waited() {
        testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("pid");
            let subject = subject(300);
            let (done, mut tags) = mpsc::unbounded_channel();
            // It ignores SIGTERM as well.
            let text =
                format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", file.display());
            subject.push(job(&done, 1, None, &text));
            let pid = written(&file).await.remove(0);
            // Alone it may run for any time.
            assert!(tokio::time::timeout(Duration::from_millis(600), tags.recv()).await.is_err());
            subject.push(job(
                &done,
                2,
                None,
                &format!("test ! -e /proc/{pid} && echo 2 >> {}", file.display()),
            ));
            assert_eq!((tags.recv().await, tags.recv().await), (Some(1), Some(2)));
            assert!(!lives(&pid));
            assert_eq!(lines(&file).pop().as_deref(), Some("2"), "both ran at the same time");
        });
    }

    #[test]
    fn at_a_stop_nothing_of_before_outlives_the_last_program() {
        testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("out");
            let out = file.display();
            let subject = subject(LONG);
            let (done, mut tags) = mpsc::unbounded_channel();
            let slow = format!("echo $$ > {out}; sleep 60; echo late >> {out}");
            subject.push(job(&done, 1, None, &slow));
            let pid = written(&file).await.remove(0);
            subject.push(job(&done, 2, None, &format!("echo waited >> {out}")));
            subject.push(job(
                &done,
                3,
                AT_STOP,
                &format!("test ! -e /proc/{pid} && echo stop >> {out}"),
            ));
            for tag in [1, 2, 3] {
                assert_eq!(tags.recv().await, Some(tag));
            }
            assert_eq!(lines(&file), [pid.as_str(), "stop"]);
        });
    }

    #[test]
    fn a_subject_that_was_stopped_runs_the_programs_of_the_end_only() {
        testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("out");
            let out = file.display();
            let subject = subject(LONG);
            subject.stop();
            let (done, mut tags) = mpsc::unbounded_channel();
            subject.push(job(&done, 1, None, &format!("echo state >> {out}")));
            subject.push(job(&done, 2, AT_STOP, &format!("echo stop >> {out}")));
            assert_eq!((tags.recv().await, tags.recv().await), (Some(1), Some(2)));
            assert_eq!(lines(&file), ["stop"]);
        });
    }
}
