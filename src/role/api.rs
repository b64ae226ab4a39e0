//! The role that serves the control socket. It has no capability, and no other process depends on it: it queries them,
//! with a deadline, and passes their answers on.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::control::{Control, Order};
use super::peers::peer as channel;
use crate::api::peers;
use crate::api::report::{Clocks, report};
use crate::api::rounds::{Party, Rounds};
use crate::api::server::{CLIENTS, Report, Server};
use crate::api::why;
use crate::cli::exit::Exit;
use crate::ipc::{Answer, Ask, FromRole, Peer, Question, RoleName, ToRole, peer::next};
use crate::sys::clock;

/// How long no connection is accepted after the process ran out of descriptors.
const RECOVERY: Duration = Duration::from_millis(100);

/// Runs the role.
pub(super) async fn run(mut control: Control) -> Exit {
    match listener(&mut control) {
        Ok(listener) => serve(control, listener).await,
        Err(e) => {
            tracing::error!("cannot serve the control socket: {e}");
            Exit::Internal
        }
    }
}

fn listener(control: &mut Control) -> io::Result<UnixListener> {
    let fd = control.take_fd().ok_or(io::ErrorKind::InvalidInput)?;
    UnixListener::from_std(fd.into())
}

#[derive(Default)]
struct Role {
    vrrp: Option<Peer<Question, Answer>>,
    checker: Option<Peer<Question, Answer>>,
    rounds: Rounds<oneshot::Sender<Report>>,
}

async fn serve(mut control: Control, listener: UnixListener) -> Exit {
    let (asks, mut asked) = mpsc::channel(CLIENTS);
    let mut server = Server::new(asks);
    let mut role = Role::default();
    loop {
        let wait = role.rounds.due().map(|due| due.since(clock::now()));
        tokio::select! {
            biased;
            order = control.next() => match order {
                Order::Do(ToRole::Stop { .. }, _) => {
                    control.done().await;
                    return Exit::Ok;
                }
                Order::Do(ToRole::Connect(party), fd) => if let Err(e) = role.connect(party, fd) {
                    control.unconnected(party, &e);
                },
                Order::Do(ToRole::Answer(Answer { id, told }), _) => {
                    role.rounds.answer(id, Party::Supervisor, told);
                }
                // Every role receives it; this one has no counters.
                Order::Do(ToRole::Dump(_), _) | Order::Tick => {}
                Order::Do(message, _) => control.unexpected(&message),
            },
            answer = next(&mut role.vrrp) => match answer {
                Some(Answer { id, told }) => role.rounds.answer(id, Party::Vrrp, told),
                None => {
                    role.vrrp = None;
                    control.disconnected(RoleName::Vrrp);
                    role.rounds.lost(Party::Vrrp);
                }
            },
            answer = next(&mut role.checker) => match answer {
                Some(Answer { id, told }) => role.rounds.answer(id, Party::Checker, told),
                None => {
                    role.checker = None;
                    control.disconnected(RoleName::Checker);
                    role.rounds.lost(Party::Checker);
                }
            },
            wish = asked.recv() => if let Some((ask, client)) = wish {
                role.rounds.join(ask, client);
            },
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => server.add(stream),
                Err(e) => {
                    tracing::debug!("cannot accept a client: {e}");
                    sleep(RECOVERY).await;
                }
            },
        }
        role.turn(&mut control);
    }
}

impl Role {
    fn connect(&mut self, role: RoleName, fd: Option<OwnedFd>) -> io::Result<()> {
        let slot = match role {
            RoleName::Vrrp => &mut self.vrrp,
            RoleName::Checker => &mut self.checker,
            RoleName::Config | RoleName::Runner | RoleName::Api => return Ok(()),
        };
        *slot = Some(channel(fd)?);
        Ok(())
    }

    /// Begins and ends rounds that are due.
    fn turn(&mut self, control: &mut Control) {
        let now = clock::now();
        while let Some((id, ask)) = self.rounds.begin(now) {
            if let Some(ask) = Party::Supervisor.answers(ask)
                && !control.offer(&FromRole::Ask(Question { id, ask }))
            {
                let why = "the supervisor does not read";
                self.rounds.absent(id, Party::Supervisor, Some(why));
            }
            for (party, peer) in
                [(Party::Vrrp, &mut self.vrrp), (Party::Checker, &mut self.checker)]
            {
                let Some(ask) = party.answers(ask) else { continue };
                let question = Question { id, ask };
                match peer.as_mut().map(|peer| peer.offer(&question)) {
                    None => self.rounds.absent(id, party, None),
                    Some(Ok(())) => {}
                    Some(Err(e)) => {
                        let why = format!("the {} process cannot be asked: {e}", party.word());
                        self.rounds.absent(id, party, Some(&why));
                    }
                }
            }
        }
        for done in self.rounds.take_done(now) {
            let clocks = Clocks { now: clock::now(), wall: clock::wall() };
            // Plain structures of numbers and text are always JSON.
            let text = match done.ask {
                Ask::State => serde_json::to_string(&report(&done.parts, clocks)),
                Ask::Peers => serde_json::to_string(&peers::report(&done.parts, clocks)),
                Ask::Causes => serde_json::to_string(&why::report(&done.parts, clocks)),
            };
            let text: Report = Arc::from(text.unwrap_or_default());
            for client in done.clients {
                // The client may have disconnected meanwhile.
                let _ = client.send(Arc::clone(&text));
            }
        }
    }
}
