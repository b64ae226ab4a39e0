//! The BFD thread: sockets and timers around the engine.
//!
//! It is separate from the real-time thread of VRRP, so that neither delays the other. Passing a change of a session
//! to the VRRP engine takes two wake-ups, some 0.2 ms. Ports: 3784 for one hop, 4784 for several (RFC 5881 4, RFC
//! 5883 5).

use core::time::Duration;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;

use crate::base::rng::Rng;
use crate::base::{Family, Instant};
use crate::bfd::{Action, Engine, Event, Report, Rx, SessionId};
use crate::drive::class::{Class, RealTime};
use crate::model::extras::Bfd;
use crate::sys::poll::{Epoll, Ready, Timer, Wake};
use crate::sys::udp::{Listener, Sender};
use crate::sys::{clock, process, sched};

/// Destination ports for one hop and for several hops.
const PORTS: [(u16, bool); 2] = [(3784, false), (4784, true)];
/// Packets that are read from each port before timers and orders are processed.
const PACKETS: usize = 64;
/// Packets that are read before a detection time is judged: roughly the capacity of a queue.
const QUEUE: usize = 2048;
/// Time between attempts to open a port.
const RETRY: Duration = Duration::from_secs(5);
/// How long a process that replaces another one waits before it reports sessions as down: they may have been up
/// before, and come up again.
const PATIENCE: Duration = Duration::from_secs(6);
/// Delay after a step that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Size of the receive buffer: more than the longest packet.
const ROOM: usize = 256;
/// Stack size of the thread, in octets.
const STACK: usize = 256 << 10;

const TIMER: u64 = 0;
const ORDER: u64 = 1;
const LISTENERS: u64 = 2;

/// A message from the thread.
#[derive(Debug)]
pub enum Said {
    /// A report about a session.
    Report(Report),
    /// All sessions have ended.
    Stopped,
}

/// The receiver of these messages; returns false when it no longer exists.
pub type Tell = Box<dyn FnMut(Said) -> bool + Send>;

/// How the thread is to run: keepalived's `bfd_` settings of its BFD process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Treatment {
    /// Its name in lists of threads.
    pub name: CString,
    /// Nice value, -20 to 19.
    pub nice: i8,
    /// Processors it may use.
    pub processors: Vec<u32>,
    pub real_time: RealTime,
}

/// The handle of the thread. Dropping it ends the thread.
pub struct Sessions {
    orders: Option<mpsc::Sender<Order>>,
    wake: Arc<Wake>,
}

#[derive(Debug)]
enum Order {
    Treat(Box<Treatment>),
    Have(Vec<Bfd>),
    Stop,
}

impl Sessions {
    /// Starts the thread without sessions. `again`: this process replaces an earlier one.
    ///
    /// # Errors
    /// When the limit of descriptors or threads is reached.
    pub fn start(again: bool, tell: Tell) -> io::Result<Self> {
        let wake = Arc::new(Wake::new()?);
        let (orders, receiver) = mpsc::channel();
        let called = Arc::clone(&wake);
        thread::Builder::new()
            .name("bfd".into())
            .stack_size(STACK)
            .spawn(move || serve(again, &receiver, &called, tell))?;
        Ok(Self { orders: Some(orders), wake })
    }

    /// Sets how the thread runs from now on.
    pub fn treat(&self, treatment: Treatment) {
        self.order(Order::Treat(Box::new(treatment)));
    }

    /// Sets the sessions to run from now on.
    pub fn have(&self, sessions: Vec<Bfd>) {
        self.order(Order::Have(sessions));
    }

    /// Ends all sessions; answered with [`Said::Stopped`].
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
            self.wake.call();
        }
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.orders = None;
        self.wake.call();
    }
}

/// Runs until the handle is dropped. After a failure it starts over with new sockets and sessions.
fn serve(mut again: bool, orders: &mpsc::Receiver<Order>, wake: &Arc<Wake>, mut tell: Tell) {
    sched::timer_slack(1);
    let mut wanted = Vec::new();
    let mut class = Class::default();
    loop {
        let turn = AssertUnwindSafe(|| {
            Driver::new(again, wake)?.run(orders, &mut wanted, &mut class, &mut tell)
        });
        match catch_unwind(turn) {
            Ok(Ok(())) => return,
            Ok(Err(e)) => tracing::error!("BFD: {e}; all sessions begin anew"),
            Err(_) => tracing::error!("a step of BFD failed, all sessions begin anew"),
        }
        for Bfd { name, for_vrrp, for_checker, .. } in wanted.iter().cloned() {
            tell(Said::Report(Report { name, up: false, for_vrrp, for_checker }));
        }
        again = false;
        thread::sleep(PAUSE);
        wake.call();
    }
}

/// Applies settings to the calling thread. What the system refuses is logged.
fn treat(class: &mut Class, treatment: &Treatment) {
    let Treatment { name, nice, processors, real_time } = treatment;
    process::set_name(name);
    if let Err(e) = sched::nice_here(*nice) {
        tracing::warn!("BFD cannot use nice value {nice}: {e}");
    }
    if let Err(e) = sched::run_here_on(processors) {
        tracing::warn!("BFD cannot run on processors {processors:?}: {e}");
    }
    class.set(*real_time);
}

struct Driver<'a> {
    engine: Engine,
    actions: Vec<Action>,
    epoll: Epoll,
    timer: Timer,
    wake: &'a Arc<Wake>,
    listeners: Vec<Port>,
    senders: BTreeMap<SessionId, Way>,
    rng: Rng,
    /// When to retry the ports that could not be opened.
    retry_at: Option<Instant>,
    buffer: [u8; ROOM],
}

/// A port to receive from.
struct Port {
    family: Family,
    port: u16,
    multihop: bool,
    /// None while it cannot be opened.
    socket: Option<Listener>,
    complained: bool,
}

/// The sending side of a session.
struct Way {
    to: SocketAddr,
    from: Option<std::net::IpAddr>,
    place: u16,
    socket: Option<Sender>,
}

impl<'a> Driver<'a> {
    fn new(again: bool, wake: &'a Arc<Wake>) -> io::Result<Self> {
        let now = clock::now();
        let seed =
            now.as_nanos() ^ (u64::from(std::process::id()) << 40) ^ u64::from(clock::wall().nanos);
        let patience = if again { PATIENCE } else { Duration::ZERO };
        let (epoll, timer) = (Epoll::new()?, Timer::new()?);
        epoll.add(&timer, TIMER)?;
        epoll.add(&**wake, ORDER)?;
        Ok(Self {
            engine: Engine::new(seed, now, patience),
            actions: Vec::new(),
            epoll,
            timer,
            wake,
            listeners: Vec::new(),
            senders: BTreeMap::new(),
            rng: Rng::new(seed.rotate_left(17)),
            retry_at: None,
            buffer: [0; ROOM],
        })
    }

    fn run(
        mut self,
        orders: &mpsc::Receiver<Order>,
        wanted: &mut Vec<Bfd>,
        class: &mut Class,
        tell: &mut Tell,
    ) -> io::Result<()> {
        if !wanted.is_empty() {
            self.reload(wanted.clone());
        }
        let mut ready = Ready::new();
        loop {
            let deadline = [self.engine.deadline(), self.retry_at].into_iter().flatten().min();
            self.timer.set(deadline)?;
            self.epoll.wait(&mut ready)?;
            self.timer.clear();
            self.wake.clear();
            let due = self.engine.deadline().is_some_and(|at| at <= clock::now());
            // Packets that arrived before a timer fell due are processed before it, so that a stall of this process
            // does not look like the silence of a neighbor.
            self.hear(if due { QUEUE } else { PACKETS });
            loop {
                match orders.try_recv() {
                    Ok(Order::Treat(treatment)) => treat(class, &treatment),
                    Ok(Order::Have(sessions)) => {
                        wanted.clone_from(&sessions);
                        self.reload(sessions);
                    }
                    Ok(Order::Stop) => {
                        self.handle(Event::Stop);
                        wanted.clear();
                        self.act(tell);
                        tell(Said::Stopped);
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            let now = clock::now();
            if self.engine.deadline().is_some_and(|at| at <= now) {
                self.engine.handle(now, Event::Timer, &mut self.actions);
            }
            if self.retry_at.is_some_and(|at| at <= now) {
                self.open_ports();
            }
            if !self.act(tell) {
                return Ok(());
            }
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        self.engine.handle(clock::now(), event, &mut self.actions);
    }

    /// Sets the sessions, and opens the ports that they need.
    fn reload(&mut self, sessions: Vec<Bfd>) {
        let needed = |family: Family, multihop: bool| {
            let mut all = sessions.iter();
            all.any(|s| Family::of(&s.neighbor) == family && s.multihop == multihop)
        };
        for family in [Family::V4, Family::V6] {
            for (port, multihop) in PORTS {
                let place =
                    self.listeners.iter().position(|l| l.family == family && l.port == port);
                match (place, needed(family, multihop)) {
                    (None, true) => self.listeners.push(Port {
                        family,
                        port,
                        multihop,
                        socket: None,
                        complained: false,
                    }),
                    (Some(place), false) => {
                        let gone = self.listeners.remove(place);
                        if let Some(socket) = gone.socket {
                            let _ = self.epoll.remove(&socket);
                        }
                    }
                    _ => {}
                }
            }
        }
        self.open_ports();
        self.handle(Event::Reload(sessions));
    }

    fn open_ports(&mut self) {
        self.retry_at = None;
        for port in self.listeners.iter_mut().filter(|port| port.socket.is_none()) {
            let opened = Listener::open(port.family, port.port)
                .and_then(|socket| self.epoll.add(&socket, LISTENERS).map(|()| socket));
            match opened {
                Ok(socket) => port.socket = Some(socket),
                Err(e) => {
                    if !core::mem::replace(&mut port.complained, true) {
                        let Port { port, family, .. } = port;
                        tracing::error!("BFD cannot listen to UDP port {port} of {family}: {e}");
                    }
                    self.retry_at = Some(clock::now() + RETRY);
                }
            }
        }
    }

    /// Passes received packets to the engine, at most this many of each port.
    fn hear(&mut self, most: usize) {
        let Self { listeners, buffer, engine, actions, .. } = self;
        for port in listeners {
            let Some(socket) = &port.socket else { continue };
            for _ in 0..most {
                match socket.receive(buffer) {
                    Ok(Some((Some(from), length))) => {
                        let rx = Rx {
                            source: from.source,
                            destination: from.destination,
                            ttl: from.ttl,
                            multihop: port.multihop,
                        };
                        let octets = buffer.get(..length).unwrap_or_default();
                        engine.handle(clock::now(), Event::Packet { rx, octets }, actions);
                    }
                    Ok(Some((None, _))) => {}
                    Ok(None) => break,
                    Err(e) => {
                        tracing::debug!("BFD port {}: {e}", port.port);
                        break;
                    }
                }
            }
        }
    }

    /// Executes the actions of the engine. False when the receiver of the messages no longer exists.
    fn act(&mut self, tell: &mut Tell) -> bool {
        let mut results = Vec::new();
        for action in core::mem::take(&mut self.actions) {
            match action {
                Action::Open { session, to, from, multihop } => {
                    let [(near, _), (far, _)] = PORTS;
                    let to = SocketAddr::new(to, if multihop { far } else { near });
                    let place = u16::try_from(self.rng.below(1 << 14)).unwrap_or(0);
                    self.senders.insert(session, Way { to, from, place, socket: None });
                }
                Action::Close { session } => drop(self.senders.remove(&session)),
                Action::Send { session, ttl, packet } => {
                    if let Some(way) = self.senders.get_mut(&session) {
                        results.push((session, way.send(ttl, &packet).is_ok()));
                    }
                }
                Action::Tell(report) => {
                    if !tell(Said::Report(report)) {
                        return false;
                    }
                }
            }
        }
        for (session, works) in results {
            self.handle(Event::Sent { session, works });
        }
        true
    }
}

impl Way {
    fn send(&mut self, ttl: u8, packet: &[u8]) -> io::Result<()> {
        let sender = match &mut self.socket {
            Some(sender) => sender,
            None => self.socket.insert(Sender::open(self.from, self.to, self.place)?),
        };
        sender.send(ttl, packet)
    }
}

#[cfg(test)]
mod tests;
