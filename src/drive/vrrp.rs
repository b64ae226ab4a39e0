//! The real-time thread of the VRRP role: sockets and timers around the engine.
//!
//! One turn: wait; hand over some of the received packets; send the adverts that are due; if other timers are due, hand
//! over the packets that had arrived by then, also after a stall of the process, so that missed packets are processed
//! before a master is declared silent; hand over messages of the other thread. Nothing here waits for a lock, another
//! process, the disk or netlink, and a turn that only sends or receives adverts allocates nothing. Longer work (a
//! flood, announcements of thousands of addresses, views) is done in slices, one per turn.
//!
//! `hear` decides how much is read, `sockets` holds the sockets, `message` defines the messages between the threads,
//! `look` answers requests for views.

mod hear;
pub mod look;
mod message;
mod sockets;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::class::Class;
use crate::base::{IfIndex, Instant};
use crate::plan::Outcome;
use crate::sys::clock;
use crate::sys::poll::{Epoll, Ready, Timer, Wake};
use crate::sys::ring::{Consumer, Producer, ring};
use crate::vrrp::{Action, Actions, Engine, Event, InstanceId};
use crate::wire;
use hear::Clocks;
use look::{Looks, Telling};
pub use message::{Handle, Input, Output, Scheduling};
use sockets::Sockets;

/// Messages between the two threads that may wait, in each direction.
const WAITING: usize = 256;
/// Notices that may wait in addition.
const NOTICES: usize = 4096;
/// Messages of the other thread handed over in a turn,
const INPUTS: usize = 64;
/// and packets and frames sent as a result.
const WORK: u32 = 64;
/// A wait longer than this has let other processes run.
const WAITED: Duration = Duration::from_micros(20);
/// How long a real-time thread waits after it has worked for long without waiting.
const BREATH: Duration = Duration::from_micros(200);
/// Time from one heartbeat to the next, until a configuration sets it, and during a stop.
pub const BEAT: Duration = Duration::from_millis(50);

const TIMER: u64 = 0;
const INPUT: u64 = 1;
const RECEIVERS: u64 = 2;

/// Callbacks of the thread. Neither may wait or allocate.
pub struct Hooks {
    /// The heartbeat: called at the interval of [`Scheduling`], as long as the thread takes turns.
    pub beat: Box<dyn FnMut() + Send>,
    /// At the end of each turn.
    pub rest: Box<dyn FnMut() + Send>,
}

/// The engine with its sockets.
pub struct Driver {
    engine: Engine,
    actions: Actions,
    /// Answers to actions, passed to the engine after the actions they answer.
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
    /// When this thread last waited.
    busy_since: Instant,
    /// Packets and frames sent in this turn.
    work: u32,
    clocks: Clocks,
    looks: Looks,
    telling: Telling,
    class: Class,
    /// Time from one heartbeat to the next.
    beat: Duration,
    /// A configuration that is being applied.
    reloading: Option<Reloading>,
    sockets: Sockets,
    routers: BTreeMap<IfIndex, bool>,
}

/// What to do when a configuration is in force.
struct Reloading {
    /// Reserved room for this many adverts in one step.
    adverts: usize,
    scheduling: Scheduling,
}

enum Answer {
    Joined { interface: IfIndex, group: IpAddr, outcome: Outcome },
    Unsent { instance: InstanceId, destination: IpAddr, errno: i32 },
}

impl Driver {
    /// Creates the engine and its sockets.
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
            busy_since: now,
            work: 0,
            clocks: Clocks::new(),
            looks: Looks::default(),
            telling: Telling::default(),
            class: Class::default(),
            beat: BEAT,
            reloading: None,
            sockets: Sockets::open()?,
            routers: BTreeMap::new(),
        };
        Ok((driver, handle))
    }

    /// Takes turns until the other end of the queues is gone.
    ///
    /// # Errors
    /// If waiting itself fails: only a restart can help then.
    pub fn run(mut self) -> io::Result<()> {
        self.handle(clock::now(), Event::TimeOfDay(clock::wall()));
        while !self.input.is_closed() {
            self.turn()?;
        }
        Ok(())
    }

    /// Waits and takes one turn.
    fn turn(&mut self) -> io::Result<()> {
        let due = self.engine.deadline().map_or(self.beat_at, |at| at.min(self.beat_at));
        self.timer.set(Some(due))?;
        if !self.looks.is_empty() || (self.backlog.is_empty() && !self.telling.is_idle()) {
            self.wake.call();
        }
        let mut ready = core::mem::take(&mut self.ready);
        let asked = clock::now();
        let waited = self.epoll.wait(&mut ready);
        let begin = clock::now();
        if begin.since(asked) > WAITED {
            self.busy_since = begin;
        }
        self.class.late(begin.since(due));
        let timer = ready.keys().any(|key| key == TIMER);
        let input = ready.keys().any(|key| key == INPUT);
        waited?;
        self.work = 0;
        // By the clock: after the process was stopped and continued, waiting ends without an event.
        let horizon = self.clocks.horizon();
        if horizon.is_unsure() {
            self.handle(begin, Event::TimeOfDay(clock::wall()));
        }
        if self.engine.is_occupied() && !self.held_up(begin) {
            // Packets wait in their queues, and those in time count for the silences that end meanwhile.
            self.handle(begin, Event::Timer);
        } else if self.silence_due(begin) || self.held_up(begin) {
            let adverts_wait = self.held_up(begin);
            self.hear(horizon, adverts_wait);
            self.adverts();
            // The timers due when the packets were read, not now: later packets are processed in the next turn, and no
            // master is declared silent whose packet has arrived already.
            if self.timers_due(begin) {
                self.handle(clock::now(), Event::Timer);
            }
        } else {
            // These do not judge a silence, so they need not wait for received packets. With the time of the beginning:
            // a silence that ended since then may have been broken by a packet in the queue.
            if self.timers_due(begin) {
                self.handle(begin, Event::Timer);
            }
            for key in ready.keys().filter(|key| *key >= RECEIVERS) {
                let position = usize::try_from(key - RECEIVERS).unwrap_or(usize::MAX);
                self.some_packets(position);
                self.adverts();
            }
        }
        self.adverts();
        self.ready = ready;
        if input && !self.engine.is_occupied() {
            self.wake.clear();
            self.inputs();
        }
        self.reloaded();
        if !self.engine.is_occupied() {
            self.sockets.resize(self.engine.receive_buffer());
        }
        if !self.engine.is_occupied()
            && let Some(part) = self.looks.part(&self.engine, clock::now())
        {
            self.tell(Output::Part(Box::new(part)));
        }
        if timer {
            self.timer.clear();
        }
        self.beat();
        self.flush();
        (self.hooks.rest)();
        self.breathe();
        Ok(())
    }

    /// Sends a heartbeat when it is due or almost due: one that coincides with an advert needs no wake-up of its own.
    fn beat(&mut self) {
        let now = clock::now();
        let period = self.beat;
        if self.beat_at <= now + period / 4 {
            (self.hooks.beat)();
            self.beat_at = now + period;
        }
    }

    /// Under a flood there is always something to do. A real-time thread that never blocks takes its processor from all
    /// other processes and is killed by the kernel (RLIMIT_RTTIME).
    fn breathe(&mut self) {
        if self.class.stretch().is_some_and(|most| clock::now().since(self.busy_since) > most) {
            std::thread::sleep(BREATH);
            self.busy_since = clock::now();
        }
    }

    /// Processes some messages of the other thread. The others are left for the next turn.
    fn inputs(&mut self) {
        for _ in 0..INPUTS {
            if self.work >= WORK || self.engine.is_occupied() {
                break;
            }
            let Some(input) = self.input.pop() else {
                return;
            };
            self.input(input);
        }
        self.wake.call();
    }

    fn input(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Engine(event) => {
                if let Event::LinkGone(index) = event {
                    self.sockets.forget(index);
                    self.routers.remove(&index);
                }
                if matches!(event, Event::Stop { .. }) {
                    // The supervisor is less patient now.
                    self.beat = BEAT;
                    self.beat_at = now;
                }
                self.handle(now, event);
            }
            Input::Router { interface, forwards } => {
                self.routers.insert(interface, forwards);
            }
            Input::Reload { config, scheduling } => {
                let adverts = config.instances.iter().map(crate::model::Instance::copies).sum();
                self.reloading = Some(Reloading { adverts, scheduling });
                self.handle(now, Event::Reload(config));
            }
            Input::Look { request, ask } => self.looks.ask(request, ask),
        }
    }

    /// Reports that a configuration is in force, once it is.
    fn reloaded(&mut self) {
        if self.engine.is_occupied() {
            return;
        }
        if let Some(Reloading { adverts, scheduling }) = self.reloading.take() {
            self.actions.reserve(adverts);
            self.looks.restart();
            self.telling.restart();
            self.class.set(scheduling.real_time);
            self.beat = scheduling.beat.unwrap_or(BEAT);
            self.tell(Output::Reloaded);
        }
    }

    /// Passes one event to the engine and carries out its actions.
    fn handle(&mut self, now: Instant, event: Event<'_>) {
        self.actions.clear();
        self.engine.handle(now, event, &mut self.actions);
        self.act();
        while !self.engine.is_occupied()
            && let Some(answer) = self.answers.pop_front()
        {
            let event = match answer {
                Answer::Joined { interface, group, outcome } => {
                    Event::Joined { interface, group, outcome }
                }
                Answer::Unsent { instance, destination, errno } => {
                    Event::Unsent { instance, destination, errno }
                }
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
                Action::SendAdvert {
                    instance,
                    interface,
                    source,
                    destination,
                    hop_limit,
                    packet,
                } => {
                    self.work += 1;
                    let packet = actions.bytes(packet);
                    let (instance, destination) = (*instance, *destination);
                    let sent =
                        self.sockets.send(*interface, *source, destination, *hop_limit, packet);
                    if let Err(e) = sent {
                        let errno = e.raw_os_error().unwrap_or(libc::EIO);
                        self.answers.push_back(Answer::Unsent { instance, destination, errno });
                    }
                }
                Action::SendGarp { interface, mac, address, count } => {
                    self.work = self.work.saturating_add(*count);
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
                Action::Overhear { interface, group } => {
                    let outcome = match self.sockets.overhear(&self.epoll, *group, *interface) {
                        Ok(()) => Outcome::Done,
                        Err(e) => Outcome::Refused(e.raw_os_error().unwrap_or(libc::EIO)),
                    };
                    let (interface, group) = (*interface, *group);
                    self.answers.push_back(Answer::Joined { interface, group, outcome });
                }
                Action::HearAh => {
                    for (group, interface, e) in self.sockets.hear_ah(&self.epoll) {
                        let outcome = Outcome::Refused(e.raw_os_error().unwrap_or(libc::EIO));
                        self.answers.push_back(Answer::Joined { interface, group, outcome });
                    }
                }
                Action::Leave { interface, group } => self.sockets.leave(*group, *interface),
                Action::RunScript { run, command, timeout } => {
                    let (run, command, timeout) = (*run, command.clone(), *timeout);
                    self.tell(Output::Run { run, command, timeout });
                }
                Action::EndScript(run) => self.tell(Output::EndRun(*run)),
                Action::Notify(notice) => self.tell(Output::Notify(Box::new(notice.clone()))),
                Action::Report => self.telling.ask(),
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
        // Operations on the kernel are never dropped; their number is limited by that of addresses.
        if matches!(message, Output::Notify(_)) && self.backlog.len() >= NOTICES {
            self.lost_notices += 1;
            if self.lost_notices.is_power_of_two() {
                tracing::warn!(
                    "{} notifications were lost: too many are waiting",
                    self.lost_notices
                );
            }
            return;
        }
        self.backlog.push_back(message);
    }

    /// Sends messages that found no room, and the next part of a changed summary.
    fn flush(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(message) = self.output.push(message) {
                self.backlog.push_front(message);
                self.starved.store(true, Ordering::Release);
                return;
            }
            self.wake_other.call();
        }
        if !self.engine.is_occupied()
            && let Some(part) = self.telling.part(&self.engine, clock::now())
        {
            self.tell(Output::Summary(part));
        }
    }
}

#[cfg(test)]
mod tests;
