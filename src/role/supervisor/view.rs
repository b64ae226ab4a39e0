//! What the supervisor reports about itself, to the service manager and to the process that serves the control socket.

use super::reload::nothing_usable;
use super::{Reload, RoleName, Supervisor, ToRole};
use crate::ipc::{Answer, Ask, Question, Told};
use crate::status::daemon::{self, Configuration, Daemon};
use crate::status::vrrp::State;
use crate::sys::clock;

impl Supervisor {
    /// Starts the process that serves the control socket, if there is one.
    pub(super) fn start_api(&mut self) {
        if self.child(RoleName::Api).is_some_and(|child| child.wanted && !child.is_running()) {
            self.start(RoleName::Api);
        }
    }

    /// Answers a request of `api`, the only role that sends them.
    pub(super) fn answer(&mut self, role: RoleName, question: Question) {
        let Question { id, ask } = question;
        if role != RoleName::Api || ask != Ask::State {
            return;
        }
        let told = Told::Daemon(Box::new(self.view()));
        if let Some(child) = self.child(role) {
            child.tell(&ToRole::Answer(Answer { id, told }), Vec::new());
        }
    }

    fn view(&self) -> Daemon {
        let configuration = self.current.as_ref().map(|current| Configuration {
            file: self.options.file.to_string_lossy().into_owned(),
            generation: current.generation,
            read: current.read,
            left_out: current.report.mistakes.len(),
            first_problem: current.report.first.clone(),
        });
        Daemon {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            at: clock::now(),
            since: self.since,
            reloading: configuration.is_some() && !matches!(self.reload, Reload::Idle),
            configuration,
            reloads: self.reloads,
            last_reload: self.last_reload.clone(),
            processes: self.children.iter().map(super::Child::view).collect(),
        }
    }

    /// Notes how a reload ended.
    pub(super) fn note_reload(&mut self, refused: Option<&str>) {
        let refused = refused.map(Into::into);
        self.reloads = self.reloads.saturating_add(1);
        self.last_reload = Some(daemon::Reload { at: clock::now(), refused });
    }

    /// Reports the state to the service manager.
    pub(super) fn tell_status(&self) {
        if self.current.is_some() && matches!(self.reload, Reload::Idle) {
            self.manager.status(&self.status_line());
        }
    }

    fn checks_needed(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.report.needs.checker)
    }

    /// For example `3 instances: 2 MASTER, 1 BACKUP`.
    pub(super) fn status_line(&self) -> String {
        let mut line = String::new();
        if let Some(summary) = &self.summary
            && !summary.instances.is_empty()
        {
            let count = |state| summary.instances.iter().filter(|i| i.state == state).count();
            let states = [State::Master, State::Backup, State::Fault, State::Init];
            let parts: Vec<String> = states
                .iter()
                .filter(|state| count(**state) > 0)
                .map(|state| format!("{} {state}", count(*state)))
                .collect();
            let n = summary.instances.len();
            line = format!("{n} instance{}: {}", if n == 1 { "" } else { "s" }, parts.join(", "));
        }
        if self.ipvs == Some(false) && self.checks_needed() {
            let gap = if line.is_empty() { "" } else { "; " };
            line.push_str(gap);
            line.push_str("IPVS does not work or refuses a virtual server");
        }
        let unusable = || nothing_usable(&self.current.as_ref()?.report, self.options.all);
        if line.is_empty() { unusable().unwrap_or_else(|| "running".into()) } else { line }
    }
}
