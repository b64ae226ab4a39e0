//! The end of the daemon.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;

use tokio::time::{Instant, timeout_at};

use super::files::drop_services;
use super::{Ended, Happened, Memory, RoleName, Supervisor, ToRole, Turn};
use crate::cli::exit::Exit;
use crate::ipc::{SendError, frame};
use crate::role::child;
use crate::sys::channel::Channel;
use crate::sys::sched;

/// Roles that add objects to the kernel.
const UNDOING: [RoleName; 2] = [RoleName::Vrrp, RoleName::Checker];
/// How long roles may take to stop, unless configured (`child_wait_time`).
const PATIENCE: Duration = Duration::from_secs(5);
/// How much longer they may take, unless that is configured, while they work and only get too little of the processor;
/// how often that is looked at.
const MORE_PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(2);
/// What the service manager is asked for then: enough for everything that comes after it.
const SPARE: Duration = Duration::from_secs(30);
/// How long they may take if they had to be restarted for that.
const SECOND_PATIENCE: Duration = Duration::from_secs(2);
/// How often a role whose process ends before it has undone its changes is restarted at once for that. More attempts
/// follow at the end of the time limit.
const AT_ONCE: u32 = 3;
/// How long they may take after that: on a slow machine a process needs seconds to start.
const LAST_PATIENCE: Duration = Duration::from_secs(20);
/// Descriptors that a role may need to undo its work: far more than its sockets and pipes.
const DESCRIPTORS: u64 = 256;
/// How long the runner may take after that for the last requests.
const RUNNER_PATIENCE: Duration = Duration::from_secs(4);

impl Supervisor {
    /// Stops all roles, and returns the daemon's exit status. The runner is stopped last: it receives the last requests
    /// of the others.
    pub(super) async fn stop(mut self, exit: Exit) -> Exit {
        tracing::info!("Stopping");
        self.manager.stopping();
        self.setup.undo = true;
        self.reload = super::Reload::Idle;
        let wait = self.current.as_ref().and_then(|c| c.report.global.child_wait);
        let until = Instant::now() + wait.unwrap_or(PATIENCE);
        let last = if wait.is_some() { until } else { until + MORE_PATIENCE };
        for role in UNDOING {
            self.stop_role(role);
        }
        self.wait_for(&UNDOING, until, last).await;
        // A role that had to be killed, or died, gets another chance to undo its changes.
        for role in UNDOING {
            self.stop_role(role);
        }
        let until = Instant::now() + SECOND_PATIENCE;
        self.wait_for(&UNDOING, until, until + MORE_PATIENCE).await;
        if let Some(runner) = self.child(RoleName::Runner) {
            runner.forget_restart();
            runner.tell(&ToRole::Stop { keep: false }, Vec::new());
        }
        if let Some(api) = self.child(RoleName::Api) {
            api.forget_restart();
            api.tell(&ToRole::Stop { keep: false }, Vec::new());
        }
        let last = [RoleName::Runner, RoleName::Api];
        let until = Instant::now() + RUNNER_PATIENCE;
        self.wait_for(&last, until, until).await;
        self.undo().await;
        if let Some(reader) = self.reader.take() {
            reader.dismiss().await;
        }
        for child in &mut self.children {
            child.set_pid_file(None);
        }
        if let Some(path) = &self.services {
            drop_services(path);
        }
        tracing::info!("Stopped");
        if let Some(socket) = self.socket {
            socket.remove();
        }
        self.pid_file.remove();
        exit
    }

    /// Undoes what could not be undone because no process could be started for it, or none had the time. The other
    /// roles have ended and free their resources; if that does not help, this process becomes the role. It can become
    /// one only, and an address that two hosts have does more harm than a service without clients.
    async fn undo(&mut self) {
        for role in UNDOING {
            self.stop_role(role);
        }
        let until = Instant::now() + LAST_PATIENCE;
        self.wait_for(&UNDOING, until, until).await;
        let left: Vec<_> = UNDOING.into_iter().filter(|role| self.is_left_behind(*role)).collect();
        let Some((first, others)) = left.split_first() else { return };
        for role in others {
            tracing::error!(
                "{role}: what it added to the kernel stays there: no process can be started"
            );
        }
        // Too few descriptors is the most likely reason; the farewell needs sockets of its own.
        sched::descriptors(DESCRIPTORS);
        tracing::error!("no process for {first} can be started, the supervisor does its work");
        if let Err(e) = self.become_role(*first) {
            tracing::error!("{first}: what it added to the kernel stays there: {e}");
        }
    }

    /// Whether a role's kernel objects still exist, and no process is about to remove them.
    fn is_left_behind(&mut self, role: RoleName) -> bool {
        let undo = !self.keeps(role) && self.current.is_some();
        undo && self.child(role).is_some_and(|child| child.wanted && child.is_astray())
    }

    /// Becomes the process of a role, with all its messages already queued. Returns only if that failed.
    fn become_role(&mut self, role: RoleName) -> io::Result<()> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        let (generation, part) = (current.generation, current.parts.of(role)?);
        let resume = match role {
            RoleName::Vrrp => self.summary.clone().map(Memory::Vrrp),
            RoleName::Checker => self.checks.clone().map(Memory::Checker),
            RoleName::Runner | RoleName::Config | RoleName::Api => None,
        };
        let setup = self.setup_of(role);
        let (near, far) = Channel::pair()?;
        let send = |message: Result<frame::Encoded, SendError>| {
            message.and_then(|message| frame::send(&near, &message)).map_err(io::Error::other)
        };
        send(frame::encode(&setup, Vec::new()))?;
        let mut orders: Vec<(ToRole, Vec<OwnedFd>)> = Vec::new();
        orders.extend(resume.map(|memory| (ToRole::Resume(memory), Vec::new())));
        orders.push((ToRole::Prepare { generation }, vec![part]));
        orders.push((ToRole::Apply { generation }, Vec::new()));
        orders.push((ToRole::Stop { keep: false }, Vec::new()));
        for (order, fds) in orders {
            send(frame::encode(&order, fds))?;
        }
        if let Some(path) = &self.services
            && role == RoleName::Vrrp
        {
            drop_services(path);
        }
        crate::log::flush(Duration::from_secs(1));
        Err(child::become_role(role, far))
    }

    /// Tells a role to stop. One whose process died and was not replaced yet is restarted for that: only this role
    /// knows its kernel objects.
    fn stop_role(&mut self, role: RoleName) {
        let keep = self.keeps(role);
        // Also with --dont-respawn, which is about going on.
        let again = !keep && self.current.is_some();
        let Some(child) = self.child(role) else {
            return;
        };
        child.forget_restart();
        if child.wanted && again && child.is_astray() {
            self.start_again(role);
        }
        if let Some(child) = self.child(role) {
            child.forget_restart();
            child.tell(&ToRole::Stop { keep }, Vec::new());
        }
    }

    /// Waits until none of these roles runs. Those that still run after `until` are killed; one that works, after `last`
    /// at the latest. One whose process ended before it had undone its changes is restarted at once: it does not wait
    /// for the others, since other routers take over its addresses meanwhile.
    async fn wait_for(&mut self, roles: &[RoleName], until: Instant, last: Instant) {
        let mut killed: Vec<RoleName> = Vec::new();
        let mut waits = true;
        let mut until = until;
        let mut restarts = 0;
        while self.children.iter().any(|c| roles.contains(&c.role) && c.is_running()) {
            // An endless series of events must not postpone the time limit.
            let turn = if Instant::now() < until {
                timeout_at(until, self.turn()).await.ok()
            } else {
                None
            };
            match turn {
                Some(Turn::Child(role, Happened::Ended(ended))) => {
                    if let Ended::Failed(exit) = ended {
                        tracing::error!("{role} process {exit}");
                    }
                    if let Some(child) = self.child(role) {
                        child.forget_restart();
                    }
                    if killed.is_empty() && restarts < AT_ONCE && UNDOING.contains(&role) {
                        restarts += 1;
                        self.stop_role(role);
                    }
                }
                Some(Turn::Watch) => self.watch(),
                Some(Turn::Look) => self.due = None,
                Some(Turn::ReaderEnded) => self.reader = None,
                Some(Turn::Manager) => self.manager.look(),
                // Other events do not matter any more.
                Some(_) => {}
                None if !waits => return,
                None => {
                    let now = Instant::now();
                    waits = false;
                    for child in &mut self.children {
                        if !roles.contains(&child.role) || !child.is_running() {
                            continue;
                        }
                        if now < last && child.works_on() {
                            waits = true;
                        } else if !killed.contains(&child.role) {
                            tracing::error!("{} process does not exit, killing it", child.role);
                            child.kill();
                            killed.push(child.role);
                        }
                    }
                    if waits {
                        self.manager.stopping_for(SPARE);
                    }
                    until = now + if waits { LOOK } else { Duration::from_secs(1) };
                }
            }
        }
    }
}
