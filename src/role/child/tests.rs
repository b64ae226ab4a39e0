//! What becomes of a role's process that is silent, slow, or cannot be talked to.

use std::fs::File;

use super::*;
use crate::sys::process::Effort;
use crate::sys::testing;

#[test]
fn a_process_that_cannot_be_talked_to_is_ended_and_started_again() {
    testing::run(async {
        let mut child = Child::new(RoleName::Vrrp);
        for attempt in 1..=3 {
            // A descriptor that epoll refuses, as it refuses any if the kernel has no memory.
            let file = tempfile::tempfile().unwrap();
            let process = idle();
            let pid = process.pid();
            let refused = child.take_up(Ok((process, Channel::from_fd(file.into()))));
            assert!(refused.is_err(), "attempt {attempt}");
            assert!(!child.is_running());
            // Its restart is due without a request.
            let next = tokio::time::timeout(PATIENCE, child.next()).await;
            assert!(matches!(next, Ok(Happened::RestartDue)), "attempt {attempt}: {next:?}");
            // The process is gone, and not a zombie.
            let gone = async {
                while File::open(format!("/proc/{pid}/stat")).is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            assert!(tokio::time::timeout(PATIENCE, gone).await.is_ok(), "{pid} is still there");
        }
        let (near, _far) = Channel::pair().unwrap();
        child.take_up(Ok((idle(), near))).unwrap();
        assert!(child.is_running());
        child.kill();
        assert!(matches!(child.next().await, Happened::Ended(Ended::Failed(_))));
    });
}

const PATIENCE: Duration = Duration::from_secs(30);

/// A process that waits to be killed.
fn idle() -> Process {
    program(&["/bin/sleep", "60"])
}

fn program(words: &[&str]) -> Process {
    let words: Vec<Box<[u8]>> = words.iter().map(|word| word.as_bytes().into()).collect();
    spawn::program(&words, false, None).unwrap().process
}

/// A role with this process, which sends nothing.
fn silent(process: Process) -> (Child, Channel) {
    silent_as(RoleName::Vrrp, process)
}

fn silent_as(role: RoleName, process: Process) -> (Child, Channel) {
    let (near, far) = Channel::pair().unwrap();
    let mut child = Child::new(role);
    child.take_up(Ok((process, near))).unwrap();
    (child, far)
}

/// Checks it at this time after its limit. Returns the time it gets from then on.
fn overdue(child: &mut Child, ago: Duration) -> Duration {
    let now = Instant::now();
    child.running.as_mut().unwrap().silent_at = now - ago;
    child.watch(false);
    child.silent_at().unwrap() - now
}

async fn until(child: &Child, what: impl Fn(Effort) -> bool) {
    let reached = async {
        while !child.running.as_ref().unwrap().process.effort().is_some_and(&what) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap();
}

#[test]
fn a_slow_start_is_waited_for_and_a_wedged_one_is_not() {
    testing::run(async {
        let (mut child, _far) = silent(program(&["/bin/sh", "-c", "while :; do :; done"]));
        for round in 1..=3 {
            until(&child, |effort| effort.ticks >= round * 2).await;
            assert!(overdue(&mut child, Duration::ZERO) >= FIRST_PATIENCE, "round {round}");
            assert!(child.goes_on(), "round {round}");
        }
        // A stopped process uses no processor time and is not runnable.
        child.running.as_ref().unwrap().process.signal(Signal::SIGSTOP);
        until(&child, |effort| !effort.runnable).await;
        child.goes_on();
        assert!(!child.goes_on());
        overdue(&mut child, Duration::ZERO);
        overdue(&mut child, Duration::ZERO);
        assert!(matches!(child.next().await, Happened::Ended(Ended::Failed(Exit::Signal(9)))));

        let (mut child, _far) = silent(idle());
        until(&child, |effort| !effort.runnable).await;
        overdue(&mut child, Duration::ZERO);
        overdue(&mut child, Duration::ZERO);
        assert!(matches!(child.next().await, Happened::Ended(Ended::Failed(Exit::Signal(9)))));
    });
}

#[test]
fn a_process_that_replaces_that_of_vrrp_must_be_heard_soon() {
    testing::run(async {
        for (role, soon) in [(RoleName::Vrrp, true), (RoleName::Checker, false)] {
            let (mut child, _far) = silent_as(role, idle());
            child.set_patience(Duration::from_millis(625));
            let first = child.silent_at().unwrap() - Instant::now();
            assert!(first > FIRST_PATIENCE / 2, "{role}: {first:?}");
            child.kill();
            assert!(matches!(child.next().await, Happened::Ended(Ended::Failed(_))));
            let (near, _far) = Channel::pair().unwrap();
            child.take_up(Ok((idle(), near))).unwrap();
            let next = child.silent_at().unwrap() - Instant::now();
            assert_eq!(next <= Duration::from_millis(625), soon, "{role}: {next:?}");
            // A check that finds it working does not make the time longer than that.
            if soon {
                until(&child, |effort| !effort.runnable).await;
                overdue(&mut child, Duration::ZERO);
                let again = overdue(&mut child, Duration::ZERO);
                assert!(again < Duration::from_secs(1), "{again:?}");
                let ended = tokio::time::timeout(PATIENCE, child.next()).await;
                assert!(matches!(ended, Ok(Happened::Ended(Ended::Failed(Exit::Signal(9))))));
            } else {
                child.kill();
            }
        }
    });
}

#[test]
fn a_role_that_works_is_slow_and_not_wedged_unless_others_take_over_meanwhile() {
    testing::run(async {
        let busy = || program(&["/bin/sh", "-c", "while :; do :; done"]);
        let (mut child, _far) = silent_as(RoleName::Checker, busy());
        child.running.as_mut().unwrap().seen = true;
        for round in 1..=3 {
            until(&child, |effort| effort.ticks >= round * 2).await;
            let more = overdue(&mut child, Duration::ZERO);
            assert!(more > Duration::ZERO && more <= child.patience / 2, "{more:?}");
            assert!(child.works_on(), "round {round}");
        }
        // It would go on for ever.
        let overtime = child.running.as_mut().unwrap().overtime.as_mut().unwrap();
        let effort = |ticks| Some(Effort { ticks, runnable: true });
        assert!(overtime.goes_on_below(EXTRA, effort(EXTRA - 1)));
        assert!(!overtime.goes_on_below(EXTRA, effort(EXTRA + 1_000)));
        // A stopped one does not work.
        child.running.as_ref().unwrap().process.signal(Signal::SIGSTOP);
        until(&child, |effort| !effort.runnable).await;
        overdue(&mut child, Duration::ZERO);
        overdue(&mut child, Duration::ZERO);
        assert!(matches!(child.next().await, Happened::Ended(Ended::Failed(Exit::Signal(9)))));

        let (mut child, _far) = silent(busy());
        child.running.as_mut().unwrap().seen = true;
        until(&child, |effort| effort.ticks >= 2).await;
        overdue(&mut child, Duration::ZERO);
        assert!(matches!(child.next().await, Happened::Ended(Ended::Failed(Exit::Signal(9)))));
    });
}

#[test]
fn nobody_is_to_blame_for_a_supervisor_that_was_held_up() {
    testing::run(async {
        let (mut child, _far) = silent(idle());
        child.running.as_mut().unwrap().seen = true;
        let more = overdue(&mut child, STALLED * 2);
        assert!(more > Duration::ZERO && more <= child.patience / 2, "{more:?}");
        // The next check ends it if it is still silent.
        overdue(&mut child, Duration::ZERO);
        assert!(matches!(child.next().await, Happened::Ended(Ended::Failed(Exit::Signal(9)))));
    });
}
