//! What the roles with an engine have in common: their channels to `runner`, which gets their notices, and to `api`,
//! which requests their state.

use core::time::Duration;
use std::os::fd::OwnedFd;

use super::notices::Notices;
use crate::base::Name;
use crate::ipc::{
    Answer, Ask, Catalogue, FromRunner, Peer, Question, RoleName, ToRunner, Told,
    peer::{next, next_with_fd},
};
use crate::model::Command;
use crate::status::{Notice, RunEnd};
use crate::sys::channel::Channel;

/// Time that the runner gets to accept the last notices.
const LAST: Duration = Duration::from_millis(500);

/// The channels of such a role to other processes.
#[derive(Default)]
pub(super) struct Peers {
    runner: Option<Peer<ToRunner, FromRunner>>,
    api: Option<Peer<Answer, Question>>,
    notices: Notices,
}

/// A message of one of them.
#[derive(Debug)]
pub(super) enum Said {
    /// The runner ended a run.
    Ran(u64, RunEnd),
    /// The runner has read these numbers in tracked files.
    Files(Vec<(Name, i32)>),
    /// `api` requests a view, with this number.
    Asked(u64),
    /// Nothing that concerns the role.
    Nothing,
}

impl Peers {
    /// Takes a channel created by the supervisor. True if it leads to a runner, which does not know the requests to an
    /// earlier one.
    pub fn connect(&mut self, role: RoleName, fd: Option<OwnedFd>) -> bool {
        let Some(channel) = fd.map(Channel::from_fd) else {
            return false;
        };
        let result = match role {
            RoleName::Runner => Peer::new(channel).map(|peer| {
                self.runner = Some(peer);
                self.notices.begin_anew();
                self.send_notices();
                true
            }),
            RoleName::Api => Peer::new(channel).map(|peer| {
                self.api = Some(peer);
                false
            }),
            RoleName::Config | RoleName::Vrrp | RoleName::Checker => Ok(false),
        };
        result.unwrap_or_else(|e| {
            tracing::error!("channel to {role}: {e}");
            false
        })
    }

    /// The next message. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Said {
        let Self { runner, api, .. } = self;
        tokio::select! {
            biased;
            message = next_with_fd(runner) => self.heard(message),
            question = next(api) => match question {
                Some(Question { id, ask: Ask::State }) => Said::Asked(id),
                None => {
                    self.api = None;
                    Said::Nothing
                }
            },
        }
    }

    fn heard(&mut self, message: Option<(FromRunner, Option<OwnedFd>)>) -> Said {
        let (message, process) = message.unzip();
        match message {
            Some(FromRunner::Began { id, command }) => {
                self.notices.began(id, command, process.flatten());
            }
            Some(FromRunner::Delivered { id }) => {
                self.notices.delivered(id);
                self.send_notices();
            }
            Some(FromRunner::Ran { run, end }) => return Said::Ran(run, end),
            Some(FromRunner::Files(values)) => return Said::Files(values),
            // The supervisor starts another one.
            None => self.runner = None,
        }
        Said::Nothing
    }

    /// Answers a request of `api`, which asks again if the answer is lost.
    pub fn answer(&mut self, id: u64, told: Told) {
        if let Some(api) = &mut self.api {
            let _ = api.offer(&Answer { id, told });
        }
    }

    /// These programs can be requested from now on.
    pub fn configure(&mut self, generation: u32, catalogue: Catalogue) {
        self.notices.configure(generation, catalogue);
    }

    /// Makes the runner run a program whose status matters. Without a runner the request is lost, as with
    /// [`Self::ask_runner`].
    pub fn run(&mut self, run: u64, command: &Command, timeout: Duration) {
        if self.runner.is_none() {
            return;
        }
        match self.notices.program(command) {
            Some((generation, program)) => {
                self.ask_runner(&ToRunner::Run { run, generation, program, timeout });
            }
            // A program that is not in the current configuration does not run; the requester has a deadline.
            None => tracing::warn!("{} is not in the configuration any more", command.display()),
        }
    }

    /// Sends the runner a request. Without a runner it is lost; a runner that does not read for long is restarted, and
    /// the role learns this by [`Self::connect`].
    pub fn ask_runner(&mut self, message: &ToRunner) {
        if let Some(runner) = &mut self.runner {
            let _ = runner.post(message, Vec::new());
        }
    }

    /// Adds a notice; sent with [`Self::send_notices`].
    pub fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Sends the notices that the runner has room for.
    pub fn send_notices(&mut self) {
        if let Some(runner) = &mut self.runner
            && self.notices.send(runner).is_err()
        {
            self.runner = None;
        }
    }

    /// At the end of the role: sends the rest to the runner, which carries it out after this process has ended.
    pub async fn leave(&mut self) {
        if let Some(runner) = &mut self.runner {
            let _ = self.notices.send_rest(runner);
            let _ = tokio::time::timeout(LAST, runner.drain()).await;
        }
    }
}
