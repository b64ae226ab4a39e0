//! The programs of one subject: one at a time, in the order asked for.
//!
//! keepalived runs them side by side, so a quick master-backup-master may end with the programs in any order. Some
//! users' programs never end, though: they *are* the service that the state asks for. So a program that the next
//! one has waited for long enough is left to itself.

use core::pin::pin;
use core::time::Duration;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::Name;
use crate::drive::script::Running;
use crate::model::Command;
use crate::status::RunEnd;
use crate::sys::process::Stranger;

/// How long a program without a limit of its own may keep others of its subject waiting.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same when the daemon stops.
const HURRY: Duration = Duration::from_millis(300);

/// Programs to run.
pub(super) struct Job {
    /// The state announced, for messages.
    pub state: Name,
    /// What to run, one after the other.
    pub commands: Vec<Command>,
    /// How long each may take.
    pub limit: Option<Duration>,
    /// A process of the last runner that nothing may run beside.
    pub before: Option<Stranger>,
    /// To be called with the position of each command that runs, and its process.
    pub began: Box<dyn FnMut(u32, Option<OwnedFd>) + Send>,
    /// To be called at the end.
    pub done: Box<dyn FnOnce() + Send>,
}

/// A queue of jobs and the task that works on it.
pub(super) struct Subject(Arc<Shared>);

struct Shared {
    name: Name,
    state: Mutex<State>,
    /// Called when there is a new job, or reason to hurry.
    news: Notify,
    /// Held while there is work.
    busy: Arc<()>,
}

#[derive(Default)]
struct State {
    /// With the time since which each waits.
    jobs: VecDeque<(Instant, Job)>,
    working: bool,
    hurry: bool,
}

impl Subject {
    pub fn new(name: Name, busy: Arc<()>) -> Self {
        Self(Arc::new(Shared { name, state: Mutex::default(), news: Notify::new(), busy }))
    }

    /// Adds a job and sees to it that somebody works.
    pub fn push(&self, job: Job) {
        let mut state = self.0.state();
        state.jobs.push_back((Instant::now(), job));
        if !core::mem::replace(&mut state.working, true) {
            tokio::spawn(work(Arc::clone(&self.0), Arc::clone(&self.0.busy)));
        }
        self.0.news.notify_one();
    }

    /// The daemon stops: nobody is waited for long.
    pub fn hurry(&self) {
        if !core::mem::replace(&mut self.0.state().hurry, true) {
            self.0.news.notify_one();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the program that runs now is no longer waited for, if somebody waits.
    fn patience_ends(&self) -> Option<Instant> {
        let state = self.state();
        let patience = if state.hurry { HURRY } else { PATIENCE };
        state.jobs.front().map(|(since, _)| *since + patience)
    }
}

/// Works until there is nothing left. `_busy` tells that it does.
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
        let Job { state, commands, limit, before, mut began, done } = job;
        if let Some(before) = before {
            let ending = ends_in_time(&shared, before.ending());
            let ended = match limit {
                Some(limit) => tokio::time::timeout(limit, ending).await.unwrap_or(false),
                None => ending.await,
            };
            if !ended {
                tracing::warn!("a program for {} still runs: leaving it to itself", shared.name);
            }
        }
        for (position, command) in (0..).zip(&commands) {
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
    let running = match Running::start(command) {
        Ok(running) => running,
        Err(e) => {
            tracing::warn!("cannot run {} for {} ({state}): {e}", command.display(), shared.name);
            return;
        }
    };
    began(running.share());
    let name = running.name().to_owned();
    let Some(limit) = limit else {
        if ends_in_time(shared, running.ending()).await {
            let _ = running.end(None, Duration::ZERO).await;
        } else {
            tracing::warn!(
                "{name} for {} ({state}) still runs while others wait: leaving it to itself",
                shared.name
            );
            tokio::spawn(running.end(None, Duration::ZERO));
        }
        return;
    };
    // keepalived's way with programs that have a limit: SIGKILL at once.
    if running.end(Some(limit), Duration::ZERO).await == RunEnd::TimedOut {
        tracing::warn!("{name} for {} ({state}) took longer than {limit:?}: ended", shared.name);
    }
}

/// Waits for the end of a program; false when others have waited for too long.
async fn ends_in_time(shared: &Shared, ending: impl Future<Output = ()>) -> bool {
    let mut ending = pin!(ending);
    loop {
        let patience_ends = shared.patience_ends();
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
            let busy = Arc::new(());
            let subject = Subject::new(Name::from("instance A"), Arc::clone(&busy));
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
            // And again after a rest.
            subject.push(job(&done, 4, None, "exit 1"));
            assert_eq!(tags.recv().await, Some(4));
            drop(subject);
            while Arc::strong_count(&busy) > 1 {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn nothing_runs_beside_what_the_last_runner_started() {
        testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("out");
            let (done, mut tags) = mpsc::unbounded_channel();
            let (began, mut processes) = mpsc::unbounded_channel();
            let append = |what: &str| format!("echo {what} >> {}", file.display());
            // The last runner starts one and is forgotten; nobody else waits for it.
            let last = Subject::new(Name::from("a"), Arc::new(()));
            let text = format!("sleep 0.3; {}", append("first"));
            let mut first = job(&done, 1, None, &text);
            first.began = Box::new(move |n, process| began.send((n, process)).unwrap());
            last.push(first);
            let (position, process) = processes.recv().await.unwrap();
            assert_eq!(position, 0);
            // The next one is to do the rest of that notice, which is nothing, and another.
            let next = Subject::new(Name::from("a"), Arc::new(()));
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
    fn two_subjects_do_not_wait_for_each_other() {
        testing::run(async {
            let busy = Arc::new(());
            let (a, b) = (
                Subject::new(Name::from("a"), Arc::clone(&busy)),
                Subject::new(Name::from("b"), busy),
            );
            let (done, mut tags) = mpsc::unbounded_channel();
            a.push(job(&done, 1, Some(Duration::from_secs(30)), "sleep 30"));
            b.push(job(&done, 2, None, "exit 0"));
            assert_eq!(tags.recv().await, Some(2));
            a.hurry();
        });
    }

    #[test]
    fn a_limit_ends_a_program() {
        testing::run(async {
            let subject = Subject::new(Name::from("a"), Arc::new(()));
            let (done, mut tags) = mpsc::unbounded_channel();
            let limit = Some(Duration::from_millis(100));
            subject.push(job(&done, 1, limit, "trap '' TERM; sleep 100"));
            subject.push(job(&done, 2, None, "/nonexistent"));
            assert_eq!((tags.recv().await, tags.recv().await), (Some(1), Some(2)));
        });
    }

    #[test]
    fn a_program_that_never_ends_is_left_to_itself_when_another_waits() {
        testing::run(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("pid");
            let subject = Subject::new(Name::from("a"), Arc::new(()));
            let (done, mut tags) = mpsc::unbounded_channel();
            subject.push(job(
                &done,
                1,
                None,
                &format!("echo $$ > {}; exec sleep 60", file.display()),
            ));
            while lines(&file).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Alone it may run as long as it likes.
            assert!(tokio::time::timeout(Duration::from_millis(500), tags.recv()).await.is_err());
            subject.hurry();
            subject.push(job(&done, 2, None, "exit 0"));
            assert_eq!((tags.recv().await, tags.recv().await), (Some(1), Some(2)));
            // It still runs.
            let pid = lines(&file).remove(0);
            assert!(Path::new(&format!("/proc/{pid}")).exists());
            let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        });
    }
}
