//! The runner role: programs of users and mails, for all other roles.
//!
//! Tracking scripts run side by side. Programs of notices run one after the other for each subject. Nothing here
//! is waited for by anybody: the other roles send what is to be done and hear later how it went.

mod subject;

use core::time::Duration;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::control::{Control, Order, Prepared};
use crate::base::Name;
use crate::cli::exit::Exit;
use crate::drive::{script, smtp};
use crate::ipc::{Deliver, FromRole, FromRunner, Peer, RoleName, RunnerPart, ToRole, ToRunner};
use crate::sys::channel::Channel;
use crate::sys::process::Stranger;
use subject::{Job, Subject};

/// At the end: how long the other roles are waited for, so that what they say last is heard.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// At the end: how long roles that run on must have been silent.
const SILENCE: Duration = Duration::from_millis(500);
/// At the end: how long programs and mails under way may take.
const LAST_WORK: Duration = Duration::from_millis(1500);

/// Where an answer goes: a role, and which of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whom {
    role: RoleName,
    channel: u64,
}

/// An answer on its way.
type Answer = (Whom, FromRunner, Option<OwnedFd>);

/// Runs the role.
pub(super) async fn run(control: Control) -> Exit {
    let (answer, answers) = mpsc::unbounded_channel();
    let (settings, for_mailer) = watch::channel(Arc::new(smtp::Settings::default()));
    let (mails, jobs) = mpsc::unbounded_channel();
    let back = answer.clone();
    let mailer = tokio::spawn(smtp::run(for_mailer, jobs, move |(whom, id)| {
        let _ = back.send((whom, FromRunner::Delivered { id }, None));
    }));
    let runner = Runner {
        vrrp: None,
        checker: None,
        channels: 0,
        subjects: BTreeMap::new(),
        settings,
        prepared: Prepared::default(),
        mails: Some(mails),
        answer,
        busy: Arc::new(()),
        open: 0,
        asked: Instant::now(),
    };
    runner.serve(control, answers, mailer).await
}

struct Runner {
    vrrp: Option<Client>,
    checker: Option<Client>,
    channels: u64,
    subjects: BTreeMap<(RoleName, Name), Subject>,
    settings: watch::Sender<Arc<smtp::Settings>>,
    prepared: Prepared<RunnerPart>,
    mails: Option<mpsc::UnboundedSender<smtp::Job<(Whom, u64)>>>,
    answer: mpsc::UnboundedSender<Answer>,
    /// Each subject at work holds a copy.
    busy: Arc<()>,
    /// What was asked for and has not been answered.
    open: usize,
    /// When something was asked for last.
    asked: Instant,
}

struct Client {
    whom: Whom,
    peer: Peer<FromRunner, ToRunner>,
}

impl Runner {
    async fn serve(
        mut self,
        mut control: Control,
        mut answers: mpsc::UnboundedReceiver<Answer>,
        mailer: tokio::task::JoinHandle<()>,
    ) -> Exit {
        let mut until: Option<Instant> = None;
        loop {
            if until.is_some_and(|end| self.may_end() || Instant::now() >= end) {
                break;
            }
            tokio::select! {
                order = control.next() => match order {
                    Order::Do(ToRole::Stop { .. }, _) => {
                        // Others that stop at this moment have something to say yet.
                        until = Some(Instant::now() + LAST_WORDS);
                    }
                    other => self.order(&mut control, other),
                },
                message = hear(&mut self.vrrp) => match message {
                    Some((whom, message, fd)) => self.take(whom, message, fd),
                    None => self.vrrp = None,
                },
                message = hear(&mut self.checker) => match message {
                    Some((whom, message, fd)) => self.take(whom, message, fd),
                    None => self.checker = None,
                },
                answer = answers.recv() => if let Some((whom, message, fd)) = answer {
                    self.answer(whom, &message, fd);
                },
            }
            if until.is_some() {
                for subject in self.subjects.values() {
                    subject.hurry();
                }
            }
        }
        // What is under way gets a moment.
        self.mails = None;
        self.subjects.clear();
        let busy = core::mem::take(&mut self.busy);
        let work = async {
            while Arc::strong_count(&busy) > 1 {
                let _ = timeout(Duration::from_millis(10), answers.recv()).await;
            }
            let _ = mailer.await;
        };
        if timeout(LAST_WORK, work).await.is_err() {
            tracing::info!("ending while programs or mails are under way");
        }
        control.done().await;
        Exit::Ok
    }

    /// Whether nobody has anything more to say.
    fn may_end(&self) -> bool {
        let alone = self.vrrp.is_none() && self.checker.is_none();
        alone || (self.open == 0 && self.asked.elapsed() >= SILENCE)
    }

    fn order(&mut self, control: &mut Control, order: Order) {
        let Order::Do(message, fd) = order else {
            return;
        };
        match message {
            ToRole::Prepare { generation } => self.prepared.decode(control, generation, fd),
            ToRole::Apply { generation } => {
                if let Some(RunnerPart { global }) = self.prepared.take(generation) {
                    let settings = smtp::Settings { router: global.router_id, mail: global.mail };
                    self.settings.send_replace(Arc::new(settings));
                    control.tell(&FromRole::Applied { generation });
                }
            }
            ToRole::Abandon { .. } => self.prepared.abandon(),
            ToRole::Connect(role) => {
                if let Some(fd) = fd {
                    self.connect(role, Channel::from_fd(fd));
                }
            }
            // `serve` deals with the first of these.
            ToRole::Stop { .. } | ToRole::Resume(_) | ToRole::Count | ToRole::Answer(_) => {}
        }
    }

    fn connect(&mut self, role: RoleName, channel: Channel) {
        let slot = match role {
            RoleName::Vrrp => &mut self.vrrp,
            RoleName::Checker => &mut self.checker,
            RoleName::Config | RoleName::Runner | RoleName::Api => return,
        };
        match Peer::new(channel) {
            Ok(peer) => {
                self.channels += 1;
                *slot = Some(Client { whom: Whom { role, channel: self.channels }, peer });
            }
            Err(e) => tracing::error!("channel to {role}: {e}"),
        }
    }

    fn take(&mut self, whom: Whom, message: ToRunner, fd: Option<OwnedFd>) {
        self.open += 1;
        self.asked = Instant::now();
        match message {
            ToRunner::Run { run, command, timeout } => {
                let answer = self.answer.clone();
                tokio::spawn(async move {
                    let end = script::run(&command, timeout).await;
                    let _ = answer.send((whom, FromRunner::Ran { run, end }, None));
                });
            }
            ToRunner::Notice { id, deliver: Deliver::Mail(text) } => {
                let job = smtp::Job { tag: (whom, id), text };
                if let Some(mails) = &self.mails {
                    let _ = mails.send(job);
                }
            }
            ToRunner::Notice {
                id,
                deliver: Deliver::Programs { subject, state, commands, limit },
            } => {
                let answer = self.answer.clone();
                let running = answer.clone();
                let began = move |command, process| {
                    let _ = running.send((whom, FromRunner::Began { id, command }, process));
                };
                let done = move || {
                    let _ = answer.send((whom, FromRunner::Delivered { id }, None));
                };
                let before = fd.and_then(|fd| Stranger::hold(fd).ok());
                let (began, done) = (Box::new(began), Box::new(done));
                let job = Job { state, commands, limit, before, began, done };
                let key = (whom.role, subject);
                let queue = self.subjects.entry(key).or_insert_with_key(|(_, subject)| {
                    Subject::new(subject.clone(), Arc::clone(&self.busy))
                });
                queue.push(job);
            }
        }
    }

    /// Answers to a process that has ended meanwhile go nowhere.
    fn answer(&mut self, whom: Whom, message: &FromRunner, fd: Option<OwnedFd>) {
        if !matches!(message, FromRunner::Began { .. }) {
            self.open = self.open.saturating_sub(1);
        }
        let slot = match whom.role {
            RoleName::Vrrp => &mut self.vrrp,
            _ => &mut self.checker,
        };
        if let Some(client) = slot.as_mut().filter(|client| client.whom == whom)
            && client.peer.post(message, fd.into_iter().collect()).is_err()
        {
            *slot = None;
        }
    }
}

/// The next message of a role; none when it is gone.
async fn hear(client: &mut Option<Client>) -> Option<(Whom, ToRunner, Option<OwnedFd>)> {
    match client {
        Some(Client { whom, peer }) => {
            let whom = *whom;
            peer.next().await.map(|(message, fds)| (whom, message, fds.into_iter().next()))
        }
        None => core::future::pending().await,
    }
}
