//! The end of the daemon.

use core::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Ended, Happened, RoleName, Supervisor, ToRole, Turn};
use crate::cli::exit::Exit;

/// How long roles may take to leave, unless the configuration says otherwise (`child_wait_time`).
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the runner may take beyond that for what was said last.
const RUNNER_PATIENCE: Duration = Duration::from_secs(3);

impl Supervisor {
    /// Ends all roles, and says with which status the daemon ends. The runner ends last: it hears what the others
    /// have to say at their end.
    pub(super) async fn stop(mut self, exit: Exit) -> Exit {
        tracing::info!("Stopping");
        self.manager.stopping();
        self.reload = super::Reload::Idle;
        let wait = self.current.as_ref().and_then(|c| c.report.global.child_wait);
        let until = Instant::now() + wait.unwrap_or(PATIENCE);
        for role in [RoleName::Vrrp, RoleName::Checker] {
            let keep = self.keeps(role);
            if let Some(child) = self.child(role) {
                child.forget_restart();
                child.tell(&ToRole::Stop { keep }, Vec::new());
            }
        }
        self.wait_for(&[RoleName::Vrrp, RoleName::Checker], until).await;
        if let Some(runner) = self.child(RoleName::Runner) {
            runner.forget_restart();
            runner.tell(&ToRole::Stop { keep: false }, Vec::new());
        }
        self.wait_for(&[RoleName::Runner], Instant::now() + RUNNER_PATIENCE).await;
        for child in &mut self.children {
            child.set_pid_file(None);
        }
        tracing::info!("Stopped");
        self.pid_file.remove();
        exit
    }

    /// Waits until none of these roles runs; those that do after that are killed.
    async fn wait_for(&mut self, roles: &[RoleName], until: Instant) {
        let mut killed = false;
        let mut until = until;
        while self.children.iter().any(|c| roles.contains(&c.role) && c.is_running()) {
            match timeout_at(until, self.turn()).await {
                Ok(Turn::Child(role, Happened::Ended(Ended::Failed(exit)))) => {
                    tracing::error!("{role} process {exit}");
                    if let Some(child) = self.child(role) {
                        child.forget_restart();
                    }
                }
                // Whatever else happens does not matter any more.
                Ok(_) => {}
                Err(_) if killed => return,
                Err(_) => {
                    for child in &mut self.children {
                        if roles.contains(&child.role) && child.is_running() {
                            tracing::error!("{} process does not end, killing it", child.role);
                            child.kill();
                        }
                    }
                    killed = true;
                    until = Instant::now() + Duration::from_secs(1);
                }
            }
        }
    }
}
