//! The runner role: runs users' programs and sends mails for all other roles.
//!
//! Tracking scripts run side by side. Programs of notices run one after the other for each subject. No other role waits
//! for this one: they send requests and get the results later.

mod fifo;
mod programs;
mod subject;
mod tracked;

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::control::{Control, Order, Prepared};
use super::peers::peer;
use super::supervisor::first;
use crate::base::Name;
use crate::cli::exit::Exit;
use crate::drive::script::Checks;
use crate::drive::smtp;
use crate::ipc::{
    Deliver, FromRole, FromRunner, Peer, RoleName, RunnerPart, SendError, ToRole, ToRunner,
};
use crate::kernel::connector::Queue;
use crate::status::RunEnd;
use crate::sys::process::{self, Stranger};
use fifo::Fifos;
use programs::Programs;
use subject::{Job, Patience, Subject};
use tracked::{Found, Tracked};

/// At the end: how long to wait for the other roles, so that their last messages are received.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// At the end: how long roles that still run must have been silent.
const SILENCE: Duration = Duration::from_millis(500);
/// After a signal that was not sent by the supervisor: how long until this process ends by itself. A signal to all
/// processes of the daemon reaches the supervisor as well.
const ALONE: Duration = Duration::from_secs(10);
/// At the end: how long programs and mails under way may take: an earlier program is terminated within
/// [`crate::drive::script::STOP_GRACE`], and the programs of the stop have one second after that.
const LAST_WORK: Duration = Duration::from_millis(2500);
/// Mails that may be under way for one role: more than it sends at a time.
const MOST_MAILS: usize = 16_384;
/// Jobs that may wait for one subject: more than a role sends at a time.
const MOST_JOBS: usize = 256;

/// Where an answer goes: a role, and which of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whom {
    role: RoleName,
    channel: u64,
}

/// An answer on its way.
type Answer = (Whom, FromRunner, Option<OwnedFd>);

/// Runs the role.
pub(super) async fn run(mut control: Control) -> Exit {
    let (answer, answers) = mpsc::unbounded_channel();
    let (settings, for_mailer) = watch::channel(Arc::new(smtp::Settings::default()));
    let (mails, jobs) = mpsc::unbounded_channel();
    let back = answer.clone();
    let (found, finds) = mpsc::unbounded_channel();
    let mailing = Arc::new(AtomicUsize::new(0));
    let mailed = Arc::clone(&mailing);
    let mailer = tokio::spawn(smtp::run(for_mailer, jobs, move |(whom, id)| {
        mailed.fetch_sub(1, Ordering::Relaxed);
        let _ = back.send((whom, FromRunner::Delivered { id }, None));
    }));
    let tracked = Tracked::new(found, control.take_fd());
    let runner = Runner { mailing, ..Runner::new(settings, mails, tracked, answer) };
    runner.serve(control, answers, finds, mailer).await
}

struct Runner {
    vrrp: Option<Client>,
    checker: Option<Client>,
    channels: u64,
    subjects: BTreeMap<(RoleName, Name), Subject>,
    checks: Checks,
    /// Programs whose status matters, by the channel that asked and its number: dropping the sender ends the program.
    runs: BTreeMap<(u64, u64), oneshot::Sender<()>>,
    /// The programs that may be run.
    programs: Programs,
    fifos: Fifos,
    /// The files that other processes track and this one reads.
    tracked: Tracked,
    /// Mails under way.
    mailing: Arc<AtomicUsize>,
    patience: Patience,
    /// The umask of this process and of its programs.
    umask: u32,
    /// The daemon stops.
    stopping: bool,
    settings: watch::Sender<Arc<smtp::Settings>>,
    prepared: Prepared<RunnerPart>,
    mails: Option<mpsc::UnboundedSender<smtp::Job<(Whom, u64)>>>,
    answer: mpsc::UnboundedSender<Answer>,
    /// Each subject and each running program holds a copy.
    busy: Arc<()>,
    /// Unanswered requests.
    open: usize,
    /// Time of the last request.
    asked: Instant,
}

struct Client {
    whom: Whom,
    peer: Peer<FromRunner, ToRunner>,
}

impl Runner {
    fn new(
        settings: watch::Sender<Arc<smtp::Settings>>,
        mails: mpsc::UnboundedSender<smtp::Job<(Whom, u64)>>,
        tracked: Tracked,
        answer: mpsc::UnboundedSender<Answer>,
    ) -> Self {
        Self {
            vrrp: None,
            checker: None,
            channels: 0,
            subjects: BTreeMap::new(),
            checks: Checks::default(),
            runs: BTreeMap::new(),
            programs: Programs::default(),
            fifos: Fifos::default(),
            tracked,
            mailing: Arc::new(AtomicUsize::new(0)),
            patience: Patience::default(),
            umask: first::UMASK,
            stopping: false,
            settings,
            prepared: Prepared::default(),
            mails: Some(mails),
            answer,
            busy: Arc::new(()),
            open: 0,
            asked: Instant::now(),
        }
    }

    async fn serve(
        mut self,
        mut control: Control,
        mut answers: mpsc::UnboundedReceiver<Answer>,
        mut finds: mpsc::UnboundedReceiver<Found>,
        mailer: tokio::task::JoinHandle<()>,
    ) -> Exit {
        let mut until: Option<Instant> = None;
        loop {
            if until.is_some_and(|end| self.may_end() || Instant::now() >= end) {
                break;
            }
            if until.is_some() || self.is_behind() {
                control.tick_soon();
            }
            tokio::select! {
                order = control.next() => match order {
                    Order::Do(ToRole::Stop { .. }, _) => {
                        until.get_or_insert(Instant::now() + ALONE);
                    }
                    other => self.order(&mut control, other),
                },
                // Not before it is known what they may request.
                message = hear(&mut self.vrrp), if self.programs.are_known() => match message {
                    Some((whom, message, fd)) => self.take(whom, message, fd),
                    None => {
                        let gone = self.vrrp.take();
                        self.forsake(gone);
                    }
                },
                message = hear(&mut self.checker), if self.programs.are_known() => match message {
                    Some((whom, message, fd)) => self.take(whom, message, fd),
                    None => {
                        let gone = self.checker.take();
                        self.forsake(gone);
                    }
                },
                answer = answers.recv() => if let Some((whom, message, fd)) = answer {
                    self.answer(whom, &message, fd);
                },
                found = finds.recv() => if let Some(found) = found {
                    self.tracked.found(found);
                    self.tell_tracked();
                },
            }
            if until.is_some() && control.told() && !self.stopping {
                // Other roles that are stopping now may still send something.
                until = Some(Instant::now() + LAST_WORDS);
                self.asked = Instant::now();
                self.stop_programs();
            }
        }
        // Programs and mails under way get some time.
        self.stop_programs();
        self.mails = None;
        self.subjects.clear();
        self.fifos = Fifos::default();
        let busy = core::mem::take(&mut self.busy);
        let mut left = self.open;
        let work = async {
            let mut mailer = mailer;
            while Arc::strong_count(&busy) > 1 || !mailer.is_finished() {
                tokio::select! {
                    answer = answers.recv() => if let Some((_, message, _)) = answer
                        && !matches!(message, FromRunner::Began { .. })
                    {
                        left = left.saturating_sub(1);
                    },
                    _ = &mut mailer, if !mailer.is_finished() => {}
                    () = tokio::time::sleep(Duration::from_millis(10)) => {}
                }
            }
        };
        if timeout(LAST_WORK, work).await.is_err() {
            tracing::warn!("stopping although {left} programs and mails are not finished");
        }
        control.done().await;
        Exit::Ok
    }

    /// Whether no role has anything more to send.
    fn may_end(&self) -> bool {
        let alone = self.vrrp.is_none() && self.checker.is_none();
        alone || (self.stopping && self.open == 0 && self.asked.elapsed() >= SILENCE)
    }

    /// Terminates running programs; later requests belong to the stop.
    fn stop_programs(&mut self) {
        self.stopping = true;
        self.runs.clear();
        for subject in self.subjects.values() {
            subject.stop();
        }
    }

    /// Ends the programs of a role that is gone: their results are not needed.
    fn forsake(&mut self, gone: Option<Client>) {
        if let Some(Client { whom, .. }) = gone {
            self.runs.retain(|(channel, _), _| *channel != whom.channel);
        }
    }

    /// Whether some tracked values could not be sent because a role's channel was full.
    fn is_behind(&self) -> bool {
        let mut clients = [&self.vrrp, &self.checker].into_iter().flatten();
        clients.any(|client| self.tracked.is_behind(client.whom.role))
    }

    /// Sends the other processes new values of what they track.
    fn tell_tracked(&mut self) {
        for client in [&mut self.vrrp, &mut self.checker].into_iter().flatten() {
            self.tracked.tell(client.whom.role, |message| client.peer.offer(message).is_ok());
        }
    }

    fn order(&mut self, control: &mut Control, order: Order) {
        let Order::Do(message, fd) = order else {
            self.tell_tracked();
            return;
        };
        match message {
            ToRole::Prepare { generation } => {
                self.prepared.decode(control, generation, fd);
                // The role that applies the new configuration may do so earlier than this process.
                if let Some(part) = self.prepared.get_mut(generation) {
                    let [vrrp, checker] = [&mut part.vrrp, &mut part.checker].map(core::mem::take);
                    self.programs.prepare(generation, vrrp, checker);
                    let settings = &part.global.settings;
                    // This must precede the creation of FIFOs, to which the umask applies.
                    process::umask(first::umask(control.setup().umask, settings));
                    self.fifos.prepare(generation, settings, &self.busy);
                }
            }
            ToRole::Apply { generation } => {
                if let Some(part) = self.prepared.take(generation) {
                    // Each field, so that a new one cannot be forgotten; the catalogues were taken when this was prepared.
                    let RunnerPart { global, files, processes, vrrp: _, checker: _ } = part;
                    // Files are only initialised at the start of the daemon, not at a reload or by a replaced process.
                    self.tracked.follow(files, generation == 1 && !control.setup().again);
                    let buffers = &global.settings.buffers;
                    let (size, force) = (buffers.process_monitor, buffers.process_monitor_force);
                    self.tracked.watch(processes, Queue { size, force });
                    self.umask = first::umask(control.setup().umask, &global.settings);
                    process::umask(self.umask);
                    self.programs.apply(generation);
                    self.fifos.apply(generation);
                    self.patience.set(global.notify_max_delay);
                    let settings = smtp::Settings { router: global.router_id, mail: global.mail };
                    self.settings.send_replace(Arc::new(settings));
                    control.tell(&FromRole::Applied { generation });
                }
            }
            ToRole::Abandon { generation } => {
                process::umask(self.umask);
                self.prepared.abandon();
                self.programs.abandon(generation);
                self.fifos.abandon(generation);
            }
            ToRole::Connect(role) => {
                if let Err(e) = self.connect(role, fd) {
                    control.unconnected(role, &e);
                }
            }
            // `serve` handles the first of these; the second reaches every role, and this one has no counters.
            ToRole::Stop { .. } | ToRole::Dump(_) => {}
            ToRole::Resume(_)
            | ToRole::Ipvs { .. }
            | ToRole::Observed(_)
            | ToRole::Change { .. }
            | ToRole::Answer(_) => {
                control.unexpected(&message);
            }
        }
    }

    fn connect(&mut self, role: RoleName, fd: Option<OwnedFd>) -> io::Result<()> {
        let slot = match role {
            RoleName::Vrrp => &mut self.vrrp,
            RoleName::Checker => &mut self.checker,
            RoleName::Config | RoleName::Runner | RoleName::Api => return Ok(()),
        };
        let peer = peer(fd)?;
        self.channels += 1;
        let gone = slot.replace(Client { whom: Whom { role, channel: self.channels }, peer });
        self.forsake(gone);
        self.tracked.tell_all(role);
        self.tell_tracked();
        Ok(())
    }

    fn take(&mut self, whom: Whom, message: ToRunner, fd: Option<OwnedFd>) {
        if let ToRunner::End { run } = message {
            self.runs.remove(&(whom.channel, run));
            return;
        }
        self.open += 1;
        self.asked = Instant::now();
        match message {
            ToRunner::Run { run, generation, program, timeout } => {
                let Some((command, slot)) = self.programs.run(whom.role, generation, program)
                else {
                    let end = RunEnd::NotStarted(libc::EPERM);
                    let _ = self.answer.send((whom, FromRunner::Ran { run, end }, None));
                    return;
                };
                let (answer, checks) = (self.answer.clone(), self.checks.clone());
                let (keep, stop) = oneshot::channel::<()>();
                if !self.stopping {
                    self.runs.insert((whom.channel, run), keep);
                }
                let busy = Arc::clone(&self.busy);
                tokio::spawn(async move {
                    let stopped = async {
                        let _ = stop.await;
                    };
                    let end = checks.run(&command, timeout, stopped).await;
                    drop((busy, slot));
                    let _ = answer.send((whom, FromRunner::Ran { run, end }, None));
                });
            }
            ToRunner::End { .. } => {}
            ToRunner::Notice { id, deliver: Deliver::Line(text) } => {
                self.fifos.write(whom.role, &text);
                self.done(whom, id);
            }
            ToRunner::Notice { id, deliver: Deliver::Mail(text) } => {
                if self.mailing.fetch_add(1, Ordering::Relaxed) >= MOST_MAILS {
                    self.mailing.fetch_sub(1, Ordering::Relaxed);
                    return self.done(whom, id);
                }
                let job = smtp::Job { tag: (whom, id), text };
                if let Some(mails) = &self.mails {
                    let _ = mails.send(job);
                }
            }
            ToRunner::Notice {
                id,
                deliver: Deliver::Programs { generation, about, state, programs, limit },
            } => {
                let role = whom.role;
                let Some((subject, commands)) =
                    self.programs.notice(role, generation, about, &programs)
                else {
                    return self.done(whom, id);
                };
                let state = Name::from(state.word());
                let answer = self.answer.clone();
                let running = answer.clone();
                let began = move |command, process| {
                    let _ = running.send((whom, FromRunner::Began { id, command }, process));
                };
                let done = move || {
                    let _ = answer.send((whom, FromRunner::Delivered { id }, None));
                };
                let before = fd.and_then(|fd| Stranger::program(fd).ok());
                let (began, done) = (Box::new(began), Box::new(done));
                let channel = whom.channel;
                let job = Job { channel, state, commands, limit, before, began, done };
                let key = (whom.role, subject);
                let queue = self.subjects.entry(key).or_insert_with_key(|(_, subject)| {
                    Subject::new(subject.clone(), self.patience.clone(), Arc::clone(&self.busy))
                });
                if self.stopping {
                    queue.stop();
                }
                if queue.waiting() >= MOST_JOBS {
                    return self.done(whom, id);
                }
                queue.push(job);
            }
        }
    }

    /// A notice is finished.
    fn done(&self, whom: Whom, id: u64) {
        let _ = self.answer.send((whom, FromRunner::Delivered { id }, None));
    }

    /// Sends an answer; one to a process that has ended meanwhile is dropped.
    fn answer(&mut self, whom: Whom, message: &FromRunner, fd: Option<OwnedFd>) {
        if !matches!(message, FromRunner::Began { .. }) {
            self.open = self.open.saturating_sub(1);
        }
        if let FromRunner::Ran { run, .. } = message {
            self.runs.remove(&(whom.channel, *run));
        }
        let slot = match whom.role {
            RoleName::Vrrp => &mut self.vrrp,
            _ => &mut self.checker,
        };
        // One that has ended is forgotten when everything that it requested before is read.
        if let Some(client) = slot.as_mut().filter(|client| client.whom == whom)
            && matches!(client.peer.post(message, fd.into_iter().collect()), Err(SendError::Full))
        {
            tracing::error!("the {} process does not read its answers, giving it up", whom.role);
            let gone = slot.take();
            self.forsake(gone);
            // If it lives, it repeats its unanswered requests by another channel.
            for ((role, _), subject) in &self.subjects {
                if *role == whom.role {
                    subject.forget(whom.channel);
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::channel::Channel;
    use crate::sys::testing;

    /// A runner with a client, whose end of the channel is returned.
    fn with_client() -> (Runner, Whom, Peer<ToRunner, FromRunner>) {
        let (answer, _) = mpsc::unbounded_channel();
        let (mails, _) = mpsc::unbounded_channel();
        let (found, _) = mpsc::unbounded_channel();
        let (settings, _) = watch::channel(Arc::new(smtp::Settings::default()));
        let mut runner = Runner::new(settings, mails, Tracked::new(found, None), answer);
        let (near, far) = Channel::pair().unwrap();
        runner.connect(RoleName::Vrrp, Some(near.into_fd())).unwrap();
        let whom = runner.vrrp.as_ref().unwrap().whom;
        (runner, whom, Peer::new(far).unwrap())
    }

    fn delivered(id: u64) -> FromRunner {
        FromRunner::Delivered { id }
    }

    #[test]
    fn the_last_requests_of_a_process_that_has_ended_are_still_received() {
        testing::run(async {
            let (mut runner, whom, mut far) = with_client();
            for id in 1..=3 {
                let deliver = Deliver::Line("INSTANCE A STOP 100".into());
                far.post(&ToRunner::Notice { id, deliver }, Vec::new()).unwrap();
            }
            drop(far);
            // Something that it requested before ends now; there is nobody left who reads the answer.
            runner.answer(whom, &delivered(9), None);
            for expected in 1..=3 {
                let heard = hear(&mut runner.vrrp);
                let (from, message, _) =
                    timeout(LAST_WORDS, heard).await.unwrap().expect("its last words");
                assert_eq!(from, whom);
                assert!(matches!(message, ToRunner::Notice { id, .. } if id == expected));
                runner.answer(whom, &delivered(expected), None);
            }
            assert!(hear(&mut runner.vrrp).await.is_none(), "it has ended");
        });
    }

    #[test]
    fn a_process_that_never_reads_its_answers_is_given_up() {
        testing::run(async {
            let (mut runner, whom, far) = with_client();
            let mut answers = 0_u64;
            while runner.vrrp.is_some() {
                answers += 1;
                assert!(answers < 1_000_000, "answers to it are kept for ever");
                runner.answer(whom, &delivered(answers), None);
            }
            // An answer to an earlier process is not for the next one.
            let (near, next) = Channel::pair().unwrap();
            runner.connect(RoleName::Vrrp, Some(near.into_fd())).unwrap();
            runner.answer(whom, &delivered(1), None);
            assert!(next.receive(&mut [0; 64]).is_err(), "it got the answer of another");
            drop(far);
        });
    }
}
