//! What becomes of a reload whose roles are late, or end.

use std::fs::File;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::*;
use crate::ipc::Peer;
use crate::sys::channel::Channel;
use crate::sys::process::Process;
use crate::sys::spawn;
use crate::sys::testing;

const PATIENCE: Duration = Duration::from_secs(30);

/// The other end of a role's channel.
type Far = Peer<FromRole, ToRole>;

/// A supervisor whose files are in a directory of its own.
struct Lab {
    supervisor: Supervisor,
    _folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| Some(PathBuf::from(folder.path()).join(name));
        let options = Options {
            no_syslog: true,
            pid_files: crate::cli::args::PidFiles {
                supervisor: file("supervisor"),
                vrrp: file("vrrp"),
                checker: file("checker"),
            },
            ..Options::default()
        };
        let place = Place::default();
        let files = PidFiles::lock(&options, &place).unwrap();
        let supervisor = Supervisor::new(options, &place, files).unwrap();
        Self { supervisor, _folder: folder }
    }

    /// The same, with a process of this role, while a configuration is in force.
    fn serving(role: RoleName, words: &[&str]) -> (Self, Far) {
        let mut lab = Self::new();
        let far = lab.run(role, words);
        lab.is_in_force(1);
        (lab, far)
    }

    /// Runs this program as the process of a role.
    fn run(&mut self, role: RoleName, words: &[&str]) -> Far {
        let words: Vec<Box<[u8]>> = words.iter().map(|word| word.as_bytes().into()).collect();
        let process: Process = spawn::program(&words, false, None).unwrap().process;
        let (near, far) = Channel::pair().unwrap();
        self.supervisor.child(role).unwrap().take_up(Ok((process, near))).unwrap();
        Peer::new(far).unwrap()
    }

    /// A configuration is in force.
    fn is_in_force(&mut self, generation: u32) {
        self.supervisor.generation = generation;
        self.supervisor.current = Some(configuration(generation));
        for role in [RoleName::Vrrp, RoleName::Checker] {
            self.supervisor.child(role).unwrap().wanted = true;
        }
    }

    /// These roles have been asked to decode the next configuration.
    fn prepares(&mut self, waiting: &[RoleName]) {
        self.supervisor.generation += 1;
        self.supervisor.reload = Reload::Preparing {
            candidate: Box::new(configuration(self.supervisor.generation)),
            waiting: waiting.iter().copied().collect(),
            new: BTreeSet::new(),
            until: Time::now(),
        };
        for role in waiting {
            self.supervisor.child(*role).unwrap().owes_an_answer();
        }
    }

    /// The next configuration needs these roles.
    fn is_to_have(&mut self, needs: Needs) {
        let InForce { report, parts, .. } = configuration_of(0, needs);
        self.supervisor.prepare(report, parts);
    }

    /// These roles take the next configuration, and apply it if all are ready.
    fn take(&mut self, roles: &[RoleName]) {
        let generation = self.supervisor.generation;
        roles.iter().for_each(|role| self.supervisor.ready(*role, generation));
        roles.iter().for_each(|role| self.supervisor.applied(*role, generation));
    }

    /// Processes of a role started so far, and whether one runs that has a pid file.
    fn started(&mut self, role: RoleName) -> (u32, bool) {
        let child = self.supervisor.child(role).unwrap();
        (child.view().starts, child.serves() && child.has_pid_file())
    }

    /// The roles waited for, and for how long; none if the reload is over.
    fn waits(&self) -> Option<(Vec<RoleName>, Duration)> {
        match &self.supervisor.reload {
            Reload::Preparing { waiting, until, .. } | Reload::Applying { waiting, until, .. } => {
                Some((waiting.iter().copied().collect(), until.duration_since(Time::now())))
            }
            Reload::Idle | Reload::Loading(..) => None,
        }
    }

    fn refused(&self) -> Option<&str> {
        self.supervisor.last_reload.as_ref().and_then(|last| last.refused.as_deref())
    }

    /// Waits until the process of a role has used some processor time, in ticks of 10 ms.
    async fn worked(&self, role: RoleName) {
        let child = self.supervisor.children.iter().find(|c| c.role == role).unwrap();
        let before = child.effort().unwrap().ticks;
        let more = async {
            while child.effort().unwrap().ticks <= before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, more).await.unwrap();
    }

    /// Ends the process of a role; returns how it ended.
    async fn end(&mut self, role: RoleName) -> Ended {
        let child = self.supervisor.child(role).unwrap();
        child.kill();
        loop {
            let next = tokio::time::timeout(PATIENCE, child.next()).await;
            if let Happened::Ended(ended) = next.unwrap() {
                return ended;
            }
        }
    }
}

fn configuration(generation: u32) -> InForce {
    configuration_of(generation, Needs { vrrp: true, checker: true, ..Needs::default() })
}

fn configuration_of(generation: u32, needs: Needs) -> InForce {
    let report = LoadReport {
        usable: true,
        errors: 0,
        first_error: None,
        mistakes: BTreeSet::new(),
        asked: 1,
        services_asked: 0,
        instances: 1,
        senders: 0,
        tracked: 0,
        advert_interval: None,
        exit_status: 0,
        first: None,
        global: crate::model::global::Global::default(),
        needs,
        memory: 0,
        number: 0,
        base: None,
    };
    let part = || File::open("/dev/null").unwrap().into();
    let parts = Parts::new(part(), part(), part());
    InForce { generation, read: clock::now(), report: Box::new(report), parts }
}

/// Works for ever.
const BUSY: &[&str] = &["/bin/sh", "-c", "while :; do :; done"];
/// Waits for ever.
const IDLE: &[&str] = &["/bin/sleep", "600"];

/// The messages that a role gets until there are no more.
async fn told(far: &mut Far) -> Vec<ToRole> {
    let mut all = Vec::new();
    while let Ok(Some((message, _))) =
        tokio::time::timeout(Duration::from_millis(200), far.next()).await
    {
        all.push(message);
    }
    all
}

#[test]
fn a_reload_waits_for_a_role_that_works() {
    testing::run(async {
        let (mut lab, _far) = Lab::serving(RoleName::Vrrp, BUSY);
        lab.worked(RoleName::Vrrp).await;
        lab.prepares(&[RoleName::Vrrp]);
        for round in 1..=3 {
            lab.worked(RoleName::Vrrp).await;
            lab.supervisor.deadline();
            let (who, left) = lab.waits().unwrap_or_else(|| panic!("round {round}"));
            assert_eq!(who, [RoleName::Vrrp], "round {round}");
            assert!(left > PREPARE_LIMIT / 2, "round {round}: {left:?}");
        }
        assert!(lab.supervisor.last_reload.is_none());
        lab.end(RoleName::Vrrp).await;
    });
}

#[test]
fn a_reload_is_refused_because_of_a_role_that_does_nothing() {
    testing::run(async {
        // What it did before the reload is no progress.
        let (mut lab, mut far) = Lab::serving(RoleName::Vrrp, BUSY);
        let mut other = lab.run(RoleName::Checker, IDLE);
        lab.worked(RoleName::Vrrp).await;
        lab.supervisor.child(RoleName::Vrrp).unwrap().signal(Signal::SIGSTOP);
        let stopped = async {
            let child = lab.supervisor.child(RoleName::Vrrp).unwrap();
            while child.effort().unwrap().runnable {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, stopped).await.unwrap();
        lab.prepares(&[RoleName::Vrrp]);
        lab.supervisor.deadline();
        assert_eq!(lab.waits(), None);
        assert_eq!(lab.refused(), Some("vrrp did not answer in time"));
        // All that decoded it forget it, and the previous one stays in force.
        for far in [&mut far, &mut other] {
            assert_eq!(told(far).await, [ToRole::Abandon { generation: 2 }]);
        }
        assert_eq!(lab.supervisor.current.as_ref().map(|c| c.generation), Some(1));
        lab.end(RoleName::Vrrp).await;
        lab.end(RoleName::Checker).await;
    });
}

#[test]
fn a_start_goes_on_without_a_role_that_does_nothing() {
    testing::run(async {
        let mut lab = Lab::new();
        let _far = lab.run(RoleName::Vrrp, IDLE);
        let _other = lab.run(RoleName::Checker, BUSY);
        lab.prepares(&[RoleName::Vrrp, RoleName::Checker]);
        lab.worked(RoleName::Checker).await;
        // The first check may still see its own start.
        lab.supervisor.deadline();
        lab.worked(RoleName::Checker).await;
        lab.supervisor.deadline();
        // Only the wedged one is killed; both are waited for, and the daemon does not end.
        let vrrp = lab.supervisor.child(RoleName::Vrrp).unwrap();
        let ended = tokio::time::timeout(PATIENCE, vrrp.next()).await.unwrap();
        assert!(matches!(ended, Happened::Ended(Ended::Failed(End::Signal(9)))), "{ended:?}");
        assert!(lab.supervisor.child(RoleName::Checker).unwrap().is_running());
        lab.supervisor.lost(RoleName::Vrrp, Ended::Failed(End::Signal(9)));
        let (who, left) = lab.waits().unwrap();
        assert_eq!(who, [RoleName::Vrrp, RoleName::Checker]);
        assert!(left > PREPARE_LIMIT / 2, "{left:?}");
        assert!(lab.supervisor.failed.is_none() && lab.supervisor.last_reload.is_none());
        lab.end(RoleName::Checker).await;
    });
}

#[test]
fn a_role_that_is_late_to_apply_does_not_hold_up_the_next_reload() {
    testing::run(async {
        let (mut lab, _far) = Lab::serving(RoleName::Vrrp, IDLE);
        lab.supervisor.child(RoleName::Checker).unwrap().wanted = false;
        lab.prepares(&[RoleName::Vrrp]);
        lab.supervisor.ready(RoleName::Vrrp, 2);
        assert_eq!(lab.waits().map(|(who, _)| who), Some(vec![RoleName::Vrrp]));
        assert_eq!(lab.supervisor.current.as_ref().map(|c| c.generation), Some(2));
        lab.supervisor.deadline();
        assert_eq!(lab.waits(), None);
        assert_eq!(lab.refused(), None);
        assert_eq!(lab.supervisor.reloads, 1);
        // The deadline of nothing is nothing.
        lab.supervisor.deadline();
        assert_eq!(lab.supervisor.reloads, 1);
        lab.end(RoleName::Vrrp).await;
    });
}

#[test]
fn the_end_of_a_role_that_was_to_answer_refuses_the_reload() {
    testing::run(async {
        let (mut lab, _far) = Lab::serving(RoleName::Vrrp, IDLE);
        lab.prepares(&[RoleName::Vrrp]);
        // Killed once, it takes the configuration with its next process; the second time it may be the reason.
        for refused in [None, Some("the vrrp process ended")] {
            let ended = lab.end(RoleName::Vrrp).await;
            assert!(lab.supervisor.ended(RoleName::Vrrp, ended).is_none());
            assert_eq!(lab.refused(), refused);
            assert_eq!(lab.waits().is_some(), refused.is_none());
            let _next = lab.run(RoleName::Vrrp, IDLE);
        }
        lab.end(RoleName::Vrrp).await;
    });
}

#[test]
fn a_stop_is_less_patient_with_vrrp_but_not_while_it_works() {
    testing::run(async {
        let (mut lab, _far) = Lab::serving(RoleName::Vrrp, BUSY);
        let _other = lab.run(RoleName::Checker, IDLE);
        lab.supervisor.setup.undo = true;
        assert_eq!(lab.supervisor.silent_at(), lab.supervisor.children[1].silent_at());
        for role in [RoleName::Vrrp, RoleName::Checker] {
            let child = lab.supervisor.child(role).unwrap();
            child.tell(&ToRole::Stop { keep: false }, Vec::new());
        }
        let limit = lab.supervisor.silent_at().unwrap();
        assert!(limit <= Time::now() + table::STOP_PATIENCE, "{:?}", limit - Time::now());
        // It works, so it gets more time; an early check changes nothing.
        lab.supervisor.watch();
        assert_eq!(lab.supervisor.silent_at(), Some(limit));
        lab.worked(RoleName::Vrrp).await;
        tokio::time::sleep_until(limit).await;
        lab.supervisor.watch();
        assert!(lab.supervisor.silent_at().unwrap() > limit);
        // Now it does nothing: it is killed, and the checker, which has the whole time of the stop, is not.
        lab.supervisor.child(RoleName::Vrrp).unwrap().signal(Signal::SIGSTOP);
        let (until, mut checks) = (Time::now() + PATIENCE, 0);
        while lab.supervisor.child(RoleName::Vrrp).unwrap().is_running() {
            match tokio::time::timeout_at(until, lab.supervisor.turn()).await.unwrap() {
                Turn::Watch => {
                    checks += 1;
                    lab.supervisor.watch();
                }
                Turn::Child(RoleName::Vrrp, Happened::Ended(ended)) => {
                    assert_eq!(ended, Ended::AsTold);
                }
                _ => {}
            }
        }
        // The first one may still see work.
        assert!(checks <= 3, "{checks}");
        assert!(lab.supervisor.child(RoleName::Vrrp).unwrap().is_astray());
        assert!(lab.supervisor.child(RoleName::Checker).unwrap().is_running());
        lab.end(RoleName::Checker).await;
    });
}

const ROUTERS: Needs =
    Needs { vrrp: true, checker: false, vrrp_runner: false, checker_runner: false };
const SERVERS: Needs =
    Needs { vrrp: false, checker: true, vrrp_runner: false, checker_runner: false };

#[test]
fn a_role_that_is_wanted_again_while_it_stops_is_started_again() {
    testing::run(async {
        for (role, with, without) in
            [(RoleName::Vrrp, ROUTERS, SERVERS), (RoleName::Checker, SERVERS, ROUTERS)]
        {
            let (mut lab, mut far) = Lab::serving(role, IDLE);
            let other = if role == RoleName::Vrrp { RoleName::Checker } else { RoleName::Vrrp };
            let _other = lab.run(other, IDLE);
            lab.is_to_have(without);
            lab.take(&[role, other]);
            assert_eq!(lab.waits(), None, "{role}");
            let told_to_stop = told(&mut far).await;
            assert_eq!(told_to_stop.last(), Some(&ToRole::Stop { keep: false }), "{role}");
            // What it reports now is not what its next process will find.
            let reports = if role == RoleName::Vrrp {
                Memory::Vrrp(Summary::default())
            } else {
                Memory::Checker(Box::default())
            };
            lab.supervisor.said(role, FromRole::Remember(reports));
            assert!(lab.supervisor.summary.is_none() && lab.supervisor.checks.is_none());
            // It is not asked any more, but the next one is waited for.
            lab.is_to_have(with);
            lab.take(&[other]);
            assert_eq!(told(&mut far).await, [], "{role}");
            assert_eq!(lab.waits().map(|(who, _)| who), Some(vec![role]));
            assert_eq!(lab.started(role), (1, false));
            let ended = lab.end(role).await;
            assert!(lab.supervisor.ended(role, ended).is_none());
            assert_eq!(lab.started(role), (2, true), "{role}");
            assert_eq!(lab.waits().map(|(who, _)| who), Some(vec![role]));
            lab.take(&[role]);
            lab.supervisor.applied(other, lab.supervisor.generation);
            assert_eq!(lab.waits(), None);
            assert_eq!((lab.refused(), lab.supervisor.reloads), (None, 2), "{role}");
            lab.end(role).await;
            lab.end(other).await;
        }
    });
}

#[test]
fn a_role_started_for_a_refused_configuration_is_started_again_for_the_next() {
    testing::run(async {
        let (mut lab, _far) = Lab::serving(RoleName::Vrrp, IDLE);
        lab.supervisor.child(RoleName::Checker).unwrap().wanted = false;
        lab.supervisor.child(RoleName::Checker).unwrap().set_pid_file(None);
        lab.is_to_have(Needs { checker: true, ..ROUTERS });
        assert_eq!(lab.started(RoleName::Checker), (1, true));
        lab.supervisor.refused(RoleName::Vrrp, lab.supervisor.generation, "no memory");
        assert_eq!(lab.refused(), Some("vrrp: no memory"));
        assert_eq!(lab.started(RoleName::Checker), (1, false));
        // Its process has not ended yet.
        lab.is_to_have(Needs { checker: true, ..ROUTERS });
        lab.take(&[RoleName::Vrrp]);
        let who = vec![RoleName::Checker];
        assert_eq!(lab.waits().map(|(who, _)| who), Some(who));
        let ended = lab.end(RoleName::Checker).await;
        lab.supervisor.ended(RoleName::Checker, ended);
        assert_eq!(lab.started(RoleName::Checker), (2, true));
        // If it is not wanted after all, its end has no consequences.
        lab.supervisor.refused(RoleName::Checker, lab.supervisor.generation, "no memory");
        let ended = lab.end(RoleName::Checker).await;
        lab.supervisor.ended(RoleName::Checker, ended);
        assert_eq!(lab.started(RoleName::Checker), (2, false));
        assert!(!lab.supervisor.child(RoleName::Checker).unwrap().has_pid_file());
        lab.end(RoleName::Vrrp).await;
    });
}

#[test]
fn a_role_that_hangs_when_a_reload_stops_it_is_killed_and_one_that_works_is_not() {
    testing::run(async {
        for role in [RoleName::Checker, RoleName::Runner] {
            let (mut lab, _far) = Lab::serving(role, BUSY);
            lab.supervisor.child(RoleName::Vrrp).unwrap().wanted = false;
            lab.is_to_have(Needs::default());
            lab.take(&[role]);
            assert!(lab.supervisor.child(role).unwrap().is_stopping());
            // The next reload waits for its end; that is no reason for patience.
            lab.is_to_have(Needs { checker: true, checker_runner: true, ..Needs::default() });
            for round in 1..=3 {
                lab.worked(role).await;
                lab.supervisor.child(role).unwrap().is_overdue();
                assert!(lab.supervisor.silent_at() <= Some(Time::now()));
                lab.supervisor.watch();
                let limit = lab.supervisor.child(role).unwrap().silent_at();
                assert!(limit > Some(Time::now()), "{role}, round {round}");
            }
            let child = lab.supervisor.child(role).unwrap();
            child.signal(Signal::SIGSTOP);
            let stopped = async {
                while child.effort().unwrap().runnable {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, stopped).await.unwrap();
            // The first checks may still see work.
            for _ in 0..4 {
                lab.supervisor.child(role).unwrap().is_overdue();
                lab.supervisor.watch();
            }
            let child = lab.supervisor.child(role).unwrap();
            let ended = tokio::time::timeout(PATIENCE, child.next()).await;
            assert!(matches!(ended, Ok(Happened::Ended(Ended::AsTold))), "{role}: {ended:?}");
            for child in &mut lab.supervisor.children {
                child.kill();
            }
        }
    });
}

#[test]
fn two_processes_whose_channel_has_ended_get_another_one() {
    testing::run(async {
        let mut lab = Lab::new();
        let mut vrrp = lab.run(RoleName::Vrrp, IDLE);
        let mut runner = lab.run(RoleName::Runner, IDLE);
        lab.is_in_force(1);
        let connected = |told: &[ToRole]| {
            told.iter().filter(|message| matches!(message, ToRole::Connect(_))).count()
        };
        lab.supervisor.connect(RoleName::Runner, RoleName::Vrrp);
        assert_eq!(connected(&told(&mut vrrp).await), 1);
        for (given, channels) in [(1, 1), (1, 0), (2, 1)] {
            // An answer to one that is on its way asks for nothing.
            let ask = FromRole::Unconnected { other: RoleName::Runner, given };
            lab.supervisor.said(RoleName::Vrrp, ask);
            lab.supervisor.pass_on();
            assert_eq!(connected(&told(&mut vrrp).await), channels, "{given}");
        }
        assert_eq!(connected(&told(&mut runner).await), 3);
        // Requested, and made for another reason before it was: one is enough.
        lab.supervisor
            .said(RoleName::Vrrp, FromRole::Unconnected { other: RoleName::Runner, given: 3 });
        lab.supervisor.connect(RoleName::Runner, RoleName::Vrrp);
        lab.supervisor.pass_on();
        assert_eq!(connected(&told(&mut vrrp).await), 1);
        lab.end(RoleName::Vrrp).await;
        lab.end(RoleName::Runner).await;
    });
}
