//! The real-time thread of the VRRP role: sockets and timers around the engine.
//!
//! One turn: wait; hand over the packets that came in; hand over what the other thread says; if the engine's
//! deadline has passed, say so. In this order also after the process was stalled: what was missed is heard before
//! anybody is taken for silent. Nothing here waits for a lock, another process, the disk or netlink, and a turn
//! that only sends or receives adverts allocates nothing.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crate::base::{Family, IfIndex, Instant};
use crate::kernel::monitor::{self, View};
use crate::model;
use crate::plan::{Op, Outcome, Token};
use crate::status::vrrp::Summary;
use crate::status::{self, Notice, RunEnd};
use crate::sys::packet::FrameSocket;
use crate::sys::poll::{Epoll, Ready, Timer, Wake};
use crate::sys::raw::{Batch, Receiver, Sender};
use crate::sys::ring::{Consumer, Producer, ring};
use crate::sys::{clock, sched};
use crate::vrrp::event::Rx;
use crate::vrrp::{Action, Actions, Engine, Event, InstanceId, Link, RunId, Snapshot};
use crate::wire;

/// Messages between the two threads that may wait, each way.
const WAITING: usize = 256;
/// Notices that may wait beyond that.
const NOTICES: usize = 4096;
/// Packets handed over before the clock is looked at again: all that fit into the receive queue of a socket.
const PACKETS: usize = 8192;
/// Messages of the other thread handed over before the clock is looked at again.
const INPUTS: usize = 64;
/// A real-time thread that works this long, in microseconds, without waiting once has gone wild: the kernel ends
/// the process, which is started again.
const RUNAWAY: u64 = 500_000;
/// Time from one sign of life to the next.
pub const BEAT: Duration = Duration::from_millis(500);

const TIMER: u64 = 0;
const INPUT: u64 = 1;
const RECEIVERS: u64 = 2;

/// To the real-time thread.
#[derive(Debug)]
pub enum Input {
    /// A complete view of the kernel.
    View(View),
    /// What the kernel told.
    Change(monitor::Change),
    /// The kernel's answer to one operation.
    Applied {
        /// That of the request.
        token: Token,
        /// Position in its list.
        item: u32,
        /// The answer.
        outcome: Outcome,
    },
    /// Whether an interface forwards IPv6, for neighbour adverts.
    Router {
        /// The interface.
        interface: IfIndex,
        /// It does.
        forwards: bool,
    },
    /// A run of a script ended.
    Ran {
        /// That of the request.
        run: RunId,
        /// How.
        end: RunEnd,
    },
    /// The runner started again.
    RunnerReady,
    /// What the last process of this role told.
    Resume(Summary),
    /// A configuration to carry out; answered with `Output::Reloaded`.
    Reload {
        /// The virtual routers.
        config: Arc<model::Vrrp>,
        /// How this thread is treated.
        scheduling: Scheduling,
    },
    /// Answered with `Output::View`.
    Look,
    /// Leave in good order; answered with `Output::Stopped`.
    Stop {
        /// Leave addresses as they are.
        keep_addresses: bool,
    },
}

/// How the kernel is to treat the real-time thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Real-time priority, 1 to 99; none: the normal class.
    pub priority: Option<u8>,
    /// Nice value.
    pub nice: Option<i8>,
}

/// From the real-time thread.
#[derive(Debug)]
pub enum Output {
    /// Change the kernel's objects, in order; each operation is answered with `Input::Applied`.
    Apply {
        /// Comes back with each answer.
        token: Token,
        /// What to do.
        ops: Vec<Op>,
    },
    /// Run a script.
    Run {
        /// Comes back with the answer.
        run: RunId,
        /// What to run.
        command: model::Command,
        /// When to give up.
        timeout: Duration,
    },
    /// Tell scripts and people.
    Notify(Box<Notice>),
    /// What the supervisor should know.
    Summary(Summary),
    /// Everything there is to see.
    View(Box<status::vrrp::Vrrp>),
    /// The configuration is in force.
    Reloaded,
    /// Everything is undone.
    Stopped,
}

/// The other thread's end.
pub struct Handle {
    input: Producer<Input>,
    output: Consumer<Output>,
    to: Arc<Wake>,
    from: Arc<Wake>,
    /// A message found no room.
    starved: Arc<AtomicBool>,
}

impl Handle {
    /// Hands a message over; gives it back when the real-time thread has too many already.
    ///
    /// # Errors
    /// The message.
    pub fn send(&mut self, message: Input) -> Result<(), Input> {
        let result = self.input.push(message);
        self.to.call();
        result
    }

    /// The next message. To be called until it gives none whenever [`Self::wake`] is ready.
    pub fn receive(&mut self) -> Option<Output> {
        let message = self.output.pop();
        if message.is_some() && self.starved.swap(false, Ordering::AcqRel) {
            self.to.call();
        }
        message
    }

    /// Is ready when there is something to receive.
    #[must_use]
    pub fn wake(&self) -> Arc<Wake> {
        Arc::clone(&self.from)
    }
}

/// What the thread calls besides its work. Neither may wait or allocate.
pub struct Hooks {
    /// Every half second, as long as the thread takes turns.
    pub beat: Box<dyn FnMut() + Send>,
    /// At the end of each turn.
    pub rest: Box<dyn FnMut() + Send>,
}

/// The engine with its sockets.
pub struct Driver {
    engine: Engine,
    actions: Actions,
    /// Answers to actions, handed to the engine after the actions they answer.
    answers: VecDeque<Answer>,
    epoll: Epoll,
    timer: Timer,
    ready: Ready,
    input: Consumer<Input>,
    output: Producer<Output>,
    /// Messages that found no room.
    backlog: VecDeque<Output>,
    starved: Arc<AtomicBool>,
    lost_notices: u64,
    wake: Arc<Wake>,
    wake_other: Arc<Wake>,
    hooks: Hooks,
    beat_at: Instant,
    report: bool,
    scheduling: Scheduling,
    sockets: Sockets,
    routers: BTreeMap<IfIndex, bool>,
}

enum Answer {
    Joined { interface: IfIndex, group: IpAddr, outcome: Outcome },
    Unsent { instance: InstanceId, errno: i32 },
}

impl Driver {
    /// Makes the engine and what it needs.
    ///
    /// # Errors
    /// `EPERM` without the capability NET_RAW.
    pub fn new(hooks: Hooks) -> io::Result<(Self, Handle)> {
        let epoll = Epoll::new()?;
        let timer = Timer::new()?;
        let (to_input, input) = ring(WAITING);
        let (output, from_output) = ring(WAITING);
        let (wake, wake_other) = (Arc::new(Wake::new()?), Arc::new(Wake::new()?));
        let starved = Arc::new(AtomicBool::new(false));
        epoll.add(&timer, TIMER)?;
        epoll.add(&*wake, INPUT)?;
        let handle = Handle {
            input: to_input,
            output: from_output,
            to: Arc::clone(&wake),
            from: Arc::clone(&wake_other),
            starved: Arc::clone(&starved),
        };
        let now = clock::now();
        let driver = Self {
            engine: Engine::new(now),
            actions: Actions::new(),
            answers: VecDeque::new(),
            epoll,
            timer,
            ready: Ready::new(),
            input,
            output,
            backlog: VecDeque::new(),
            starved,
            lost_notices: 0,
            wake,
            wake_other,
            hooks,
            beat_at: now,
            report: false,
            scheduling: Scheduling::default(),
            sockets: Sockets::open()?,
            routers: BTreeMap::new(),
        };
        Ok((driver, handle))
    }

    /// Takes turns until the other end of the queues is gone.
    ///
    /// # Errors
    /// When waiting itself fails, which leaves nothing to do but to start anew.
    pub fn run(mut self) -> io::Result<()> {
        while !self.input.is_closed() {
            self.turn()?;
        }
        Ok(())
    }

    /// Waits and takes one turn.
    fn turn(&mut self) -> io::Result<()> {
        let due = self.engine.deadline().map_or(self.beat_at, |at| at.min(self.beat_at));
        self.timer.set(Some(due))?;
        let mut ready = core::mem::take(&mut self.ready);
        let waited = self.epoll.wait(&mut ready);
        let timer = ready.keys().any(|key| key == TIMER);
        let packets = ready.keys().any(|key| key >= RECEIVERS);
        let input = ready.keys().any(|key| key == INPUT);
        self.ready = ready;
        waited?;
        // By the clock: after the process was stopped and goes on, waiting ends without naming anything.
        let begin = clock::now();
        if packets || self.engine.deadline().is_some_and(|at| at <= begin) {
            self.packets();
        }
        if input {
            self.wake.clear();
            self.inputs();
        }
        if timer {
            self.timer.clear();
        }
        // Before the packets were read, not now: what came in after that is heard in the next turn, and nobody is
        // taken for silent whose packet is there already.
        if self.engine.deadline().is_some_and(|at| at <= begin) {
            self.handle(clock::now(), Event::Timer);
        }
        let now = clock::now();
        if self.beat_at <= now {
            (self.hooks.beat)();
            self.beat_at = now + BEAT;
        }
        self.flush();
        (self.hooks.rest)();
        Ok(())
    }

    /// Hands over the packets that have come in. Those of all sockets: the kernel names some of them only.
    fn packets(&mut self) {
        let Some(mut batch) = self.sockets.batch.take() else {
            return;
        };
        for position in 0..self.sockets.receivers.len() {
            let mut count = 0;
            while count < PACKETS {
                let Some(group) = self.sockets.receivers.get(position) else {
                    break;
                };
                match group.socket.receive(&mut batch) {
                    Ok(0) => break,
                    Ok(n) => count += n,
                    // ENETDOWN and the like: told once, about nothing that matters here.
                    Err(e) => {
                        tracing::debug!("receiving adverts: {e}");
                        break;
                    }
                }
                let now = clock::now();
                for (from, packet) in batch.packets() {
                    let rx = Rx {
                        interface: from.interface,
                        source: from.source,
                        destination: from.destination,
                        hop_limit: from.hop_limit,
                    };
                    self.handle(now, Event::Advert { rx, packet });
                }
            }
        }
        self.sockets.batch = Some(batch);
    }

    /// Hands over what the other thread says. What is left after some is for the next turn.
    fn inputs(&mut self) {
        for _ in 0..INPUTS {
            let Some(input) = self.input.pop() else {
                return;
            };
            self.input(input);
        }
        self.wake.call();
    }

    fn input(&mut self, input: Input) {
        let now = clock::now();
        let event = match input {
            Input::View(view) => Event::Kernel(snapshot(view)),
            Input::Change(change) => match change {
                monitor::Change::Link(l) => Event::Link(link(l)),
                monitor::Change::LinkGone(index) => {
                    self.sockets.forget(index);
                    self.routers.remove(&index);
                    Event::LinkGone(index)
                }
                monitor::Change::Object(change) => Event::Object(change),
                // The other thread takes a view then.
                monitor::Change::Lost => return,
            },
            Input::Applied { token, item, outcome } => Event::Applied { token, item, outcome },
            Input::Router { interface, forwards } => {
                self.routers.insert(interface, forwards);
                return;
            }
            Input::Ran { run, end } => Event::Ran { run, end },
            Input::RunnerReady => Event::RunnerReady,
            Input::Resume(summary) => Event::Resume(summary),
            Input::Reload { config, scheduling } => {
                // A large configuration takes longer than a real-time thread may work without a break.
                self.schedule(Scheduling { priority: None, ..scheduling });
                self.handle(now, Event::Reload(config));
                self.schedule(scheduling);
                self.tell(Output::Reloaded);
                return;
            }
            Input::Look => {
                let view = self.engine.snapshot(now);
                self.tell(Output::View(Box::new(view)));
                return;
            }
            Input::Stop { keep_addresses } => Event::Stop { keep_addresses },
        };
        self.handle(now, event);
    }

    fn schedule(&mut self, wanted: Scheduling) {
        if let Some(nice) = wanted.nice.filter(|_| wanted.nice != self.scheduling.nice)
            && let Err(e) = sched::nice(nice)
        {
            tracing::warn!("cannot use nice value {nice} for the real-time thread: {e}");
        }
        if wanted.priority != self.scheduling.priority {
            let result = match wanted.priority {
                Some(priority) => {
                    sched::limit_real_time(RUNAWAY).and_then(|()| sched::real_time(priority))
                }
                None => sched::normal(),
            };
            if let Err(e) = result {
                tracing::warn!("cannot use real-time priority {:?}: {e}", wanted.priority);
            }
        }
        self.scheduling = wanted;
    }

    /// Hands one event to the engine and carries out what it asks for.
    fn handle(&mut self, now: Instant, event: Event<'_>) {
        self.actions.clear();
        self.engine.handle(now, event, &mut self.actions);
        self.act();
        while let Some(answer) = self.answers.pop_front() {
            let event = match answer {
                Answer::Joined { interface, group, outcome } => {
                    Event::Joined { interface, group, outcome }
                }
                Answer::Unsent { instance, errno } => Event::Unsent { instance, errno },
            };
            self.actions.clear();
            self.engine.handle(now, event, &mut self.actions);
            self.act();
        }
    }

    fn act(&mut self) {
        let actions = core::mem::take(&mut self.actions);
        for action in actions.list() {
            match action {
                Action::SendAdvert { instance, interface, source, destination, packet } => {
                    let packet = actions.bytes(packet);
                    if let Err(e) = self.sockets.send(*interface, *source, *destination, packet) {
                        let errno = e.raw_os_error().unwrap_or(libc::EIO);
                        self.answers.push_back(Answer::Unsent { instance: *instance, errno });
                    }
                }
                Action::SendGarp { interface, mac, address, count } => {
                    let sent = match address {
                        IpAddr::V4(address) => {
                            let frame = wire::arp::gratuitous(*mac, *address);
                            self.sockets.frames(*interface, &frame, *count)
                        }
                        IpAddr::V6(address) => {
                            let router = self.routers.get(interface).copied().unwrap_or(false);
                            let frame = wire::ndp::unsolicited(*mac, *address, router);
                            self.sockets.frames(*interface, &frame, *count)
                        }
                    };
                    if let Err(e) = sent {
                        tracing::debug!("cannot announce {address}: {e}");
                    }
                }
                Action::Apply { token, ops } => {
                    self.tell(Output::Apply { token: *token, ops: ops.clone() });
                }
                Action::Join { interface, group } => {
                    let outcome = match self.sockets.join(&self.epoll, *group, *interface) {
                        Ok(()) => Outcome::Done,
                        Err(e) => Outcome::Refused(e.raw_os_error().unwrap_or(libc::EIO)),
                    };
                    let (interface, group) = (*interface, *group);
                    self.answers.push_back(Answer::Joined { interface, group, outcome });
                }
                Action::Leave { interface, group } => self.sockets.leave(*group, *interface),
                Action::RunScript { run, command, timeout } => {
                    let (run, command, timeout) = (*run, command.clone(), *timeout);
                    self.tell(Output::Run { run, command, timeout });
                }
                Action::Notify(notice) => self.tell(Output::Notify(Box::new(notice.clone()))),
                Action::Report => self.report = true,
                Action::Done => self.tell(Output::Stopped),
            }
        }
        self.actions = actions;
    }

    /// Queues a message for the other thread.
    fn tell(&mut self, message: Output) {
        if self.backlog.is_empty() {
            match self.output.push(message) {
                Ok(()) => self.wake_other.call(),
                Err(message) => {
                    self.backlog.push_back(message);
                    self.starved.store(true, Ordering::Release);
                }
            }
            return;
        }
        // Operations on the kernel are never dropped; there are no more than addresses.
        if matches!(message, Output::Notify(_)) && self.backlog.len() >= NOTICES {
            self.lost_notices += 1;
            if self.lost_notices.is_power_of_two() {
                tracing::warn!("{} notices were lost: too many wait", self.lost_notices);
            }
            return;
        }
        self.backlog.push_back(message);
    }

    /// Passes on what found no room, and what changed in this turn as one summary.
    fn flush(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(message) = self.output.push(message) {
                self.backlog.push_front(message);
                self.starved.store(true, Ordering::Release);
                return;
            }
            self.wake_other.call();
        }
        if core::mem::take(&mut self.report) {
            let summary = self.engine.summary(clock::now());
            self.tell(Output::Summary(summary));
        }
    }
}

/// Sockets of all families.
struct Sockets {
    receivers: Vec<Group>,
    senders: [Option<Sender>; 2],
    frames: FrameSocket,
    /// None only while it is in use.
    batch: Option<Batch>,
}

/// A receiving socket and its memberships: the kernel allows some twenty for each.
struct Group {
    socket: Receiver,
    family: Family,
    members: Vec<(IpAddr, IfIndex)>,
}

impl Sockets {
    fn open() -> io::Result<Self> {
        Ok(Self {
            receivers: Vec::new(),
            senders: [None, None],
            frames: FrameSocket::open()?,
            batch: Some(Batch::new()),
        })
    }

    fn send(
        &mut self,
        interface: IfIndex,
        source: IpAddr,
        destination: IpAddr,
        packet: &[u8],
    ) -> io::Result<()> {
        let family = Family::of(&source);
        let [v4, v6] = &mut self.senders;
        let slot = match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        let sender = match slot {
            Some(sender) => sender,
            None => slot.insert(Sender::open(family)?),
        };
        sender.send(interface, source, destination, packet)
    }

    fn frames(&self, interface: IfIndex, frame: &[u8], count: u32) -> io::Result<()> {
        (0..count).try_for_each(|_| self.frames.send(interface, frame))
    }

    fn join(&mut self, epoll: &Epoll, group: IpAddr, interface: IfIndex) -> io::Result<()> {
        // What an interface of the same number left behind would be in the way.
        self.leave(group, interface);
        let family = Family::of(&group);
        for one in self.receivers.iter_mut().filter(|r| r.family == family) {
            match one.socket.join(group, interface) {
                Ok(()) => {
                    one.members.push((group, interface));
                    return Ok(());
                }
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM)) => {}
                Err(e) => return Err(e),
            }
        }
        let socket = Receiver::open(family)?;
        socket.join(group, interface)?;
        epoll.add(&socket, RECEIVERS)?;
        self.receivers.push(Group { socket, family, members: vec![(group, interface)] });
        Ok(())
    }

    fn leave(&mut self, group: IpAddr, interface: IfIndex) {
        self.drop_members(|member| *member == (group, interface));
    }

    /// An interface is gone, and its memberships with it.
    fn forget(&mut self, interface: IfIndex) {
        self.drop_members(|(_, i)| *i == interface);
    }

    fn drop_members(&mut self, which: impl Fn(&(IpAddr, IfIndex)) -> bool) {
        for one in &mut self.receivers {
            let socket = &one.socket;
            one.members.retain(|member| {
                if which(member) {
                    // Refused when the interface is gone, which comes to the same.
                    let _ = socket.leave(member.0, member.1);
                    false
                } else {
                    true
                }
            });
        }
    }
}

fn snapshot(view: View) -> Snapshot {
    Snapshot { links: view.links.into_iter().map(link).collect(), objects: view.objects }
}

fn link(l: monitor::Link) -> Link {
    Link { index: l.index, name: l.name, up: l.up, arp: l.arp, mac: l.mac, mtu: l.mtu }
}

#[cfg(test)]
mod tests;
