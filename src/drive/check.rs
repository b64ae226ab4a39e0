//! The interpreter of the check engine: probes as tasks, the kernel's table on a thread of its own, the clock.
//!
//! Everything runs on one tokio thread except netlink, which may take long if a table is large or a module must be
//! loaded. Notices, the record of our services and the summary are passed to the role, which holds this value.

use core::net::IpAddr;
use core::pin::Pin;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Sleep, sleep_until};

use super::class::Class;
use super::probe::Probes;
use crate::base::Instant;
use crate::check::probe::misc::Misc;
use crate::check::probe::{ProbeId, Request};
use crate::check::{Action, Actions, Engine, Event, Limits};
use crate::kernel::ipvs::timeout::Keeper;
use crate::kernel::ipvs::{Error, Ipvs, PACKED};
use crate::model::checker::MiscCheck;
use crate::model::service::Timeouts;
use crate::model::{Lvs, ServiceKey};
use crate::plan::ipvs::{Op, Table};
use crate::plan::listing::Listing;
use crate::plan::{Outcome, Token};
use crate::status::TrackReport;
use crate::status::check::{Check, Summary};
use crate::status::{Notice, RunEnd};
use crate::sys::{clock, process};

/// Stack of the thread that writes the table.
const STACK: usize = 256 << 10;
/// Number of outcomes and results handled before other work gets a turn, heartbeats included: a single answer may have a
/// hundred outcomes, and a start of 5,000 services 25,000.
const TURN: usize = 256;
/// If a timer is noticed this much too late, the process was stalled: results that arrived meanwhile are processed
/// first.
const LATE: Duration = Duration::from_millis(50);

/// Outputs for the role.
#[derive(Debug)]
pub enum Output {
    /// Store this list of services for later processes, before `take_output` is called again: the operations that add
    /// them wait for that.
    Own(Arc<[ServiceKey]>),
    /// Make the runner run the program of a check; answered with [`Driver::ran`]. [`Driver::programs`] includes it
    /// until then.
    Run(u64),
    /// Terminate that program: its verdict is not needed any more.
    EndRun(u64),
    /// Notify scripts and mail recipients.
    Notify(Box<Notice>),
    /// The summary changed.
    Report,
    /// Everything is undone.
    Stopped,
}

/// The engine with its probes and the thread for the kernel's table.
pub struct Driver {
    engine: Engine,
    actions: Actions,
    /// Actions that wait until an earlier output has been taken.
    held: VecDeque<Action>,
    outputs: VecDeque<Output>,
    probes: Probes,
    /// Programs of checks that have not ended, by their number in requests to the runner.
    programs: BTreeMap<u64, Program>,
    jobs: Sender<Job>,
    /// Operations for the next job.
    batch: Vec<(Token, Arc<[Op]>)>,
    answers: UnboundedReceiver<Answer>,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to.
    armed: Option<Instant>,
    /// The scheduling class of the thread that takes turns.
    pub class: Class,
}

/// A job for the thread that talks to the kernel.
#[derive(Debug)]
enum Job {
    Read(Arc<[ServiceKey]>),
    List,
    /// Sets the connection timeouts of IPVS.
    Timeouts(Timeouts),
    /// Sets the receive buffer: octets, and whether it may exceed the limit of the system.
    Buffer(Option<u32>, bool),
    /// Operations of several services, sent together.
    Apply(Vec<(Token, Arc<[Op]>)>),
}

/// The program of a check.
#[derive(Debug)]
struct Program {
    probe: ProbeId,
    check: Box<MiscCheck>,
}

/// An answer of that thread.
#[derive(Debug)]
enum Answer {
    Table {
        services: Arc<[ServiceKey]>,
        result: Result<Table, i32>,
    },
    List(Result<Listing, i32>),
    /// The answers to one datagram together, so that the operations that follow fill a datagram again.
    Applied(Vec<(Token, Vec<Outcome>)>),
}

impl Answer {
    /// How many outcomes it has.
    fn length(&self) -> usize {
        match self {
            Self::Applied(lists) => lists.iter().map(|(_, outcomes)| outcomes.len()).sum(),
            Self::Table { services, .. } => services.len().max(1),
            Self::List(_) => 1,
        }
    }
}

/// Why the driver cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the thread that writes the IPVS table has ended")]
pub struct WriterLost;

impl Driver {
    /// An engine without a configuration, and the thread for the kernel's table.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn new(seed: u64, limits: Limits) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let (sender, answers) = unbounded_channel();
        thread::Builder::new().name("ipvs".into()).stack_size(STACK).spawn(move || {
            process::block_signals();
            serve(&queue, &sender);
        })?;
        Ok(Self {
            engine: Engine::new(seed, limits),
            actions: Actions::new(),
            held: VecDeque::new(),
            outputs: VecDeque::new(),
            probes: Probes::new(),
            programs: BTreeMap::new(),
            jobs,
            batch: Vec::new(),
            answers,
            timer: Box::pin(sleep_until(tokio::time::Instant::now())),
            armed: None,
            class: Class::default(),
        })
    }

    /// Services that an earlier process recorded. Before the first configuration.
    pub fn owned(&mut self, services: Vec<ServiceKey>) {
        self.event(Event::Owned(services));
    }

    /// What the previous process of the role had announced. Before the first configuration.
    pub fn resume(&mut self, summary: Summary) {
        self.event(Event::Resume(summary));
    }

    /// The configuration from now on.
    pub fn reload(&mut self, config: Arc<Lvs>) {
        self.job(Job::Timeouts(config.timeouts));
        self.probes.present(config.tls.as_ref());
        let class = core::mem::take(&mut self.class);
        class.calmly(|| self.event(Event::Reload(config)));
        self.class = class;
    }

    /// Sets the receive buffer of the socket to the kernel's table, see [`Ipvs::resize`].
    pub fn resize(&self, octets: Option<u32>, force: bool) {
        self.job(Job::Buffer(octets, force));
    }

    /// Which of the addresses of services with `ha_suspend` this host has; none: that is not known.
    pub fn present(&mut self, addresses: Option<BTreeSet<IpAddr>>) {
        self.event(Event::Present(addresses));
    }

    /// What was observed of tracked objects.
    pub fn reports(&mut self, reports: Vec<TrackReport>) {
        reports.into_iter().for_each(|report| self.event(Event::Report(report)));
    }

    /// Stops; [`Output::Stopped`] follows.
    pub fn stop(&mut self, keep_entries: bool) {
        if !keep_entries {
            self.job(Job::Timeouts(Timeouts::default()));
        }
        self.event(Event::Stop { keep_entries });
    }

    /// The programs that the runner has to run, by number; for a new runner.
    pub fn programs(&self) -> impl Iterator<Item = u64> + use<'_> {
        self.programs.keys().copied()
    }

    /// One of them.
    #[must_use]
    pub fn program(&self, run: u64) -> Option<&MiscCheck> {
        self.programs.get(&run).map(|program| &*program.check)
    }

    /// A program ended. The results of abandoned ones are ignored.
    pub fn ran(&mut self, run: u64, end: RunEnd) {
        if let Some(Program { probe, check }) = self.programs.remove(&run) {
            let verdict = Misc { dynamic: check.dynamic }.step(end);
            self.event(Event::Probed { probe, verdict });
        }
    }

    /// The state to store for the next process.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.engine.summary()
    }

    /// Whether the virtual servers of the configuration can be served, once that is known.
    #[must_use]
    pub fn serves(&self) -> Option<bool> {
        self.engine.serves()
    }

    /// A full view.
    #[must_use]
    pub fn view(&self) -> Check {
        self.engine.view(clock::now())
    }

    /// The next output. To be called until there is none, after everything else.
    pub fn take_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.carry_out();
        }
        self.outputs.pop_front()
    }

    /// Waits for the next event and processes it. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// If the kernel's table can no longer be written.
    pub async fn turn(&mut self) -> Result<(), WriterLost> {
        let due = self.engine.deadline();
        if due != self.armed {
            self.armed = due;
            if let Some(due) = due {
                let wait = due.since(clock::now());
                self.timer.as_mut().reset(tokio::time::Instant::now() + wait);
            }
        }
        tokio::select! {
            biased;
            answer = self.answers.recv() => self.answered(answer.ok_or(WriterLost)?),
            (probe, verdict) = self.probes.next() => self.take(Event::Probed { probe, verdict }),
            () = self.timer.as_mut(), if due.is_some() => {
                // The runtime counts in milliseconds and may be early by less than one.
                self.armed = None;
                let now = clock::now();
                if let Some(due) = due {
                    self.class.late(now.since(due));
                }
                if due.is_some_and(|due| now.since(due) > LATE) {
                    self.look_around().await;
                }
                if due.is_some_and(|due| due <= clock::now()) {
                    self.take(Event::Timer);
                }
            }
        }
        let mut done = 0;
        while done < TURN {
            if let Ok(answer) = self.answers.try_recv() {
                done += answer.length();
                self.answered(answer);
            } else if let Some((probe, verdict)) = self.probes.ready() {
                done += 1;
                self.take(Event::Probed { probe, verdict });
            } else {
                break;
            }
        }
        // Together, so that the operations after many answers are sent in few datagrams.
        self.carry_out();
        Ok(())
    }

    /// Lets the runtime poll the sockets, and processes the results.
    async fn look_around(&mut self) {
        for _ in 0..3 {
            tokio::task::yield_now().await;
            while let Some((probe, verdict)) = self.probes.ready() {
                self.take(Event::Probed { probe, verdict });
            }
        }
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Table { services, result } => self.take(Event::Table { services, result }),
            Answer::List(result) => self.take(Event::Listed(result)),
            Answer::Applied(lists) => {
                for (token, outcomes) in lists {
                    for (item, outcome) in (0u32..).zip(outcomes) {
                        self.take(Event::Applied { token, item, outcome });
                    }
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.take(event);
        self.carry_out();
    }

    /// One step of the engine. Its actions wait for `carry_out`.
    fn take(&mut self, event: Event) {
        self.engine.handle(clock::now(), event, &mut self.actions);
        self.held.extend(self.actions.drain());
    }

    /// Carries out waiting actions, up to an output that must be taken first.
    fn carry_out(&mut self) {
        let is_own = |output: &Output| matches!(output, Output::Own(_));
        while !self.outputs.back().is_some_and(is_own)
            && let Some(action) = self.held.pop_front()
        {
            match action {
                Action::Read { services } => {
                    self.write();
                    self.job(Job::Read(services));
                }
                Action::List => {
                    self.write();
                    self.job(Job::List);
                }
                Action::Apply { token, ops } => self.batch.push((token, ops)),
                Action::StartProbe { probe, request: Request::Misc(check), .. } => {
                    self.programs.insert(probe.serial, Program { probe, check });
                    self.outputs.push_back(Output::Run(probe.serial));
                }
                Action::StartProbe { probe, request, closing } => {
                    self.probes.start(probe, request, closing);
                }
                Action::CancelProbe { probe } => {
                    if self.programs.remove(&probe.serial).is_some() {
                        self.outputs.push_back(Output::EndRun(probe.serial));
                    } else {
                        self.probes.cancel(probe);
                    }
                }
                Action::Own(services) => self.outputs.push_back(Output::Own(services)),
                Action::Notify(notice) => {
                    self.outputs.push_back(Output::Notify(Box::new(notice)));
                }
                Action::Report => self.outputs.push_back(Output::Report),
                Action::Done => self.outputs.push_back(Output::Stopped),
            }
        }
        self.write();
    }

    /// Sends the waiting operations to the thread.
    fn write(&mut self) {
        if !self.batch.is_empty() {
            let batch = core::mem::take(&mut self.batch);
            self.job(Job::Apply(batch));
        }
    }

    fn job(&self, job: Job) {
        // If the thread is gone, waiting for its answer reports it.
        let _ = self.jobs.send(job);
    }
}

/// The thread that talks to the kernel: jobs in order. Operations of several jobs are sent together in datagrams, and
/// answered by datagram: while the engine processes the answers to one, the next ones are written.
fn serve(queue: &Receiver<Job>, answers: &UnboundedSender<Answer>) {
    let mut ipvs = Ipvs::new();
    let mut timeouts = Keeper::default();
    let mut lists: VecDeque<(Token, Arc<[Op]>)> = VecDeque::new();
    let mut question = None;
    loop {
        while question.is_none() && filled(&lists) < PACKED {
            let job = if lists.is_empty() { queue.recv().ok() } else { queue.try_recv().ok() };
            match job {
                Some(Job::Apply(more)) => lists.extend(more),
                Some(Job::Timeouts(wanted)) => {
                    timeouts.want(wanted);
                    timeouts.tell(&mut ipvs);
                }
                Some(Job::Buffer(octets, force)) => ipvs.resize(octets, force),
                Some(job @ (Job::Read(_) | Job::List)) => question = Some(job),
                None if lists.is_empty() => return,
                None => break,
            }
        }
        let part = lists.len().min(whole(&lists));
        let part: Vec<_> = lists.drain(..part).collect();
        if !part.is_empty() {
            let mut outcomes = ipvs.apply(part.iter().flat_map(|(_, ops)| ops.iter())).into_iter();
            let each = |(token, ops): &(Token, Arc<[Op]>)| {
                (*token, outcomes.by_ref().take(ops.len()).collect())
            };
            let _ = answers.send(Answer::Applied(part.iter().map(each).collect()));
            continue;
        }
        let refused = |e: Error| {
            tracing::trace!("cannot read the IPVS table: {e}");
            e.errno()
        };
        match question.take() {
            Some(Job::Read(services)) => {
                let result = ipvs.read(&services).map_err(refused);
                // Resources that were missing before may be available now.
                timeouts.tell(&mut ipvs);
                let _ = answers.send(Answer::Table { services, result });
            }
            Some(Job::List) => {
                let _ = answers.send(Answer::List(ipvs.list().map_err(refused)));
            }
            Some(Job::Apply(_) | Job::Timeouts(_) | Job::Buffer(..)) | None => {}
        }
    }
}

/// The number of waiting operations, counted up to a full datagram.
fn filled(lists: &VecDeque<(Token, Arc<[Op]>)>) -> usize {
    let mut count = 0;
    for (_, ops) in lists {
        if count >= PACKED {
            break;
        }
        count += ops.len();
    }
    count
}

/// How many lists fill a datagram: as many as fit, but at least one.
fn whole(lists: &VecDeque<(Token, Arc<[Op]>)>) -> usize {
    let mut count = 0;
    let fit = lists.iter().take_while(|(_, ops)| {
        count += ops.len();
        count <= PACKED
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests;
