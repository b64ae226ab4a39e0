//! The programs of one subject: one at a time, in the order asked for.
//!
//! keepalived runs them side by side, so a quick master-backup-master may end with the programs in any order. Some
//! users' programs never end, though: they *are* the service that the state asks for. So a program that the next
//! one has waited for long enough is left to itself.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::Name;
use crate::drive::script::Running;
use crate::model::Command;
use crate::status::RunEnd;

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
        for command in &job.commands {
            one(&shared, &job.state, command, job.limit).await;
        }
        (job.done)();
    }
}

async fn one(shared: &Shared, state: &Name, command: &Command, limit: Option<Duration>) {
    let running = match Running::start(command) {
        Ok(running) => running,
        Err(e) => {
            tracing::warn!("cannot run {} for {} ({state}): {e}", command.display(), shared.name);
            return;
        }
    };
    let name = running.name().to_owned();
    let Some(limit) = limit else {
        if let Some(running) = wait(shared, running).await {
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

/// Waits for the end of a program; gives it back when others have waited for too long.
async fn wait(shared: &Shared, running: Running) -> Option<Running> {
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
            () = running.ending() => {
                let _ = running.end(None, Duration::ZERO).await;
                return None;
            }
            () = impatient => return Some(running),
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
