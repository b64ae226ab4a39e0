//! What the roles with an engine have in common: their channels to `runner`, which gets their notices, and to `api`,
//! which requests their state.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::notices::Notices;
use crate::ipc::{
    Answer, Ask, Catalogue, FromRunner, Peer, Question, RoleName, ToRunner, Told,
    peer::{next, next_with_fd},
};
use crate::model::Command;
use crate::status::Notice;
use crate::sys::channel::Channel;

/// Time that the runner gets to accept the last notices.
const LAST: Duration = Duration::from_millis(500);

/// The channels of such a role to other processes.
#[derive(Default)]
pub(super) struct Peers {
    runner: Option<Peer<ToRunner, FromRunner>>,
    api: Option<Peer<Answer, Question>>,
    notices: Notices,
    /// The channel to the runner ended, and nobody was told yet.
    lost_runner: bool,
}

/// The process at the other end of a channel that came from the supervisor.
///
/// # Errors
/// `EMFILE` when none came, because this process has no descriptor left; those of `epoll_ctl(2)`.
pub(super) fn peer<Out: Serialize, In: DeserializeOwned>(
    fd: Option<OwnedFd>,
) -> io::Result<Peer<Out, In>> {
    // The kernel omits descriptors when this process has reached its limit.
    let fd = fd.ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
    Peer::new(Channel::from_fd(fd))
}

/// A message of one of them.
#[derive(Debug)]
pub(super) enum Said {
    /// A message of the runner that is not about notices.
    Runner(FromRunner),
    /// `api` requests a view, with this number.
    Asked(u64, Ask),
    /// Nothing that concerns the role.
    Nothing,
}

impl Peers {
    /// Takes a channel created by the supervisor. True if it leads to a runner, which does not know the requests to
    /// an earlier one.
    ///
    /// # Errors
    /// When the channel cannot be used: the supervisor must create another one.
    pub fn connect(&mut self, role: RoleName, fd: Option<OwnedFd>) -> io::Result<bool> {
        match role {
            RoleName::Runner => {
                self.runner = Some(peer(fd)?);
                self.lost_runner = false;
                self.notices.begin_anew();
                self.send_notices();
                Ok(true)
            }
            RoleName::Api => {
                self.api = Some(peer(fd)?);
                Ok(false)
            }
            RoleName::Config | RoleName::Vrrp | RoleName::Checker => Ok(false),
        }
    }

    /// The next message. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Said {
        let Self { runner, api, .. } = self;
        tokio::select! {
            biased;
            message = next_with_fd(runner) => self.heard(message),
            question = next(api) => match question {
                Some(Question { id, ask }) => Said::Asked(id, ask),
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
            Some(message @ (FromRunner::Ran { .. } | FromRunner::Reports(_))) => {
                return Said::Runner(message);
            }
            None => self.lose_runner(),
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

    /// Whether the runner still has notices to execute.
    pub fn have_notices(&self) -> bool {
        self.runner.is_some() && !self.notices.is_empty()
    }

    /// Sends the notices that the runner has room for.
    pub fn send_notices(&mut self) {
        if let Some(runner) = &mut self.runner
            && self.notices.send(runner).is_err()
        {
            self.lose_runner();
        }
    }

    fn lose_runner(&mut self) {
        self.runner = None;
        self.lost_runner = true;
    }

    /// Whether the channel to the runner has ended since the last call. The runner itself may go on: it gives up a
    /// process that does not read for too long.
    pub fn has_lost_runner(&mut self) -> bool {
        core::mem::take(&mut self.lost_runner)
    }

    /// At the end of the role: sends the rest to the runner, which carries it out after this process has ended.
    pub async fn leave(&mut self) {
        if let Some(runner) = &mut self.runner {
            let _ = self.notices.send_rest(runner);
            let _ = tokio::time::timeout(LAST, runner.drain()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing;

    #[test]
    fn the_end_of_the_channel_to_the_runner_is_told_once() {
        testing::run(async {
            let mut peers = Peers::default();
            for _ in 0..2 {
                let (near, far) = Channel::pair().unwrap();
                peers.connect(RoleName::Runner, Some(near.into_fd())).unwrap();
                assert!(!peers.has_lost_runner());
                drop(far);
                assert!(matches!(peers.next().await, Said::Nothing));
                assert!(peers.has_lost_runner());
                assert!(!peers.has_lost_runner());
            }
        });
    }

    #[test]
    fn a_channel_that_cannot_be_used_is_asked_for_again() {
        testing::run(async {
            let mut peers = Peers::default();
            for role in [RoleName::Runner, RoleName::Api] {
                // A file that epoll refuses stands for any failure of `epoll_ctl(2)`, such as lack of kernel memory.
                let file = tempfile::tempfile().unwrap();
                assert!(peers.connect(role, Some(file.into())).is_err());
                // The kernel omits a descriptor when the process has reached its limit.
                let errno = peers.connect(role, None).unwrap_err().raw_os_error();
                assert_eq!(errno, Some(libc::EMFILE));
                let (near, _far) = Channel::pair().unwrap();
                let is_runner = peers.connect(role, Some(near.into_fd())).unwrap();
                assert_eq!(is_runner, role == RoleName::Runner);
            }
        });
    }
}
