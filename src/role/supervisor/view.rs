//! What the supervisor tells of itself, and the process that passes it on.

use super::{Reload, RoleName, Supervisor, ToRole};
use crate::ipc::{Answer, Ask, Question, Told};
use crate::status::daemon::{self, Configuration, Daemon};
use crate::sys::clock;

impl Supervisor {
    /// Starts the process that serves the control socket, if there is one.
    pub(super) fn start_api(&mut self) {
        if self.child(RoleName::Api).is_some_and(|child| child.wanted && !child.is_running()) {
            self.start(RoleName::Api);
        }
    }

    /// Answers a question of `api`; nobody else asks.
    pub(super) fn answer(&mut self, role: RoleName, question: Question) {
        let Question { id, ask: Ask::State } = question;
        if role != RoleName::Api {
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
}
