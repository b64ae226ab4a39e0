//! A role's side of its channel to the supervisor.

use std::io;
use std::os::fd::OwnedFd;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::table::TICK;
use super::{Setup, Start};
use crate::ipc::{FromRole, Link, RoleName, ToRole};
use crate::status::check;
use crate::status::vrrp::Summary;
use crate::sys::channel::Channel;

/// What a role is to do next.
#[derive(Debug)]
pub enum Order {
    /// Decode this sealed memory and answer with `Ready` or `Refused`.
    Prepare {
        /// Number of the configuration.
        generation: u32,
        /// The part of the configuration.
        part: OwnedFd,
    },
    /// Carry out what was prepared and answer with `Applied`.
    Apply {
        /// That of `Prepare`.
        generation: u32,
    },
    /// Forget what was prepared.
    Abandon,
    /// The channel to another role.
    Peer(RoleName, Channel),
    /// What the last process of this role told.
    Resume(Summary),
    /// What the last process of the checker told.
    ResumeChecks(check::Summary),
    /// Leave in good order and end.
    Stop {
        /// Leave what is in the kernel as it is.
        keep: bool,
    },
    /// Log what was counted.
    Count,
    /// Half a second has passed.
    Tick,
}

/// What keepalived's signals ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGUSR1: everything that is known.
    Data,
    /// SIGUSR2: what was counted.
    Counts,
    /// SIGRTMAX-1: to count from nothing again.
    Clear,
    /// SIGRTMIN+2: everything, as JSON.
    Json,
}

/// Orders, from the supervisor or by signal.
pub struct Control {
    setup: Setup,
    link: Link<FromRole, ToRole>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Signals of keepalived that ask for files.
    asking: [Signal; 4],
    tick: Interval,
    /// Whether `next` tells the supervisor that this thread is alive.
    beats: bool,
    /// Stop was ordered.
    stopping: bool,
    /// The supervisor ordered it, or is gone.
    told: bool,
    /// Nobody is at the other end.
    orphan: bool,
    /// Keeps the lock on the pid file.
    _pid_file: Option<OwnedFd>,
}

impl Control {
    pub(super) fn new(start: Start) -> io::Result<Self> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            setup: start.setup,
            link: Link::new(start.control)?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            asking: asking()?,
            tick,
            beats: true,
            stopping: false,
            told: false,
            orphan: false,
            _pid_file: start._pid_file,
        })
    }

    /// What the role was told first.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Leaves signs of life to another thread, which sends [`FromRole::Alive`] on this channel.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn leave_beats(&mut self) -> io::Result<Channel> {
        self.beats = false;
        self.link.duplicate()
    }

    /// Tells the supervisor something.
    pub fn tell(&mut self, message: &FromRole) {
        // Full: the supervisor has not read for very long; gone: the next order says so.
        let _ = self.link.post(message, Vec::new());
    }

    /// Tells the supervisor something that the next message of the kind makes up for; false if it cannot take it
    /// now.
    pub fn offer(&mut self, message: &FromRole) -> bool {
        self.link.offer(message).is_ok()
    }

    /// Whether it is the supervisor that wants this role to stop, by its word or by its end, and not just a signal.
    #[must_use]
    pub const fn told(&self) -> bool {
        self.told
    }

    /// Tells the supervisor that everything is undone.
    pub async fn done(mut self) {
        self.tell(&FromRole::Done);
        let _ = tokio::time::timeout(TICK, self.link.drain()).await;
    }

    /// The next order. When the supervisor is gone or a signal says so, that is to stop. Nothing is lost when the
    /// future is dropped.
    pub async fn next(&mut self) -> Order {
        loop {
            tokio::select! {
                biased;
                message = self.link.next(), if !self.orphan => match message {
                    Some((message, fds)) => {
                        if let Some(order) = order(message, fds) {
                            self.told |= matches!(order, Order::Stop { .. });
                            self.stopping |= self.told;
                            return order;
                        }
                    }
                    None => {
                        self.orphan = true;
                        self.told = true;
                        if !core::mem::replace(&mut self.stopping, true) {
                            tracing::warn!("the supervisor is gone, leaving in good order");
                            return Order::Stop { keep: self.setup.keep };
                        }
                    }
                },
                _ = self.terminate.recv() => if let Some(order) = self.stop() {
                    return order;
                },
                _ = self.interrupt.recv() => if !self.setup.ignore_sigint
                    && let Some(order) = self.stop()
                {
                    return order;
                },
                _ = self.hangup.recv() => self.tell(&FromRole::ReloadWanted),
                what = asked(&mut self.asking) => match what {
                    Asked::Counts => return Order::Count,
                    other => not_served(other),
                },
                _ = self.tick.tick() => {
                    if self.beats {
                        let _ = self.link.offer(&FromRole::Alive);
                    }
                    return Order::Tick;
                }
            }
        }
    }

    fn stop(&mut self) -> Option<Order> {
        (!core::mem::replace(&mut self.stopping, true))
            .then_some(Order::Stop { keep: self.setup.keep })
    }
}

fn order(message: ToRole, fds: Vec<OwnedFd>) -> Option<Order> {
    let fd = fds.into_iter().next();
    Some(match message {
        ToRole::Prepare { generation } => Order::Prepare { generation, part: fd? },
        ToRole::Apply { generation } => Order::Apply { generation },
        ToRole::Abandon { .. } => Order::Abandon,
        ToRole::Peer(role) => Order::Peer(role, Channel::from_fd(fd?)),
        ToRole::Resume(summary) => Order::Resume(summary),
        ToRole::ResumeChecks(summary) => Order::ResumeChecks(summary),
        ToRole::Stop { keep } => Order::Stop { keep },
        ToRole::Count => Order::Count,
    })
}

/// The signals by which keepalived is asked to write files: SIGUSR1, SIGUSR2, SIGRTMAX-1, SIGRTMIN+2.
pub(super) fn asking() -> io::Result<[Signal; 4]> {
    let of = |number| signal(SignalKind::from_raw(number));
    Ok([
        of(libc::SIGUSR1)?,
        of(libc::SIGUSR2)?,
        of(libc::SIGRTMAX() - 1)?,
        of(libc::SIGRTMIN() + 2)?,
    ])
}

/// Waits for one of them.
pub(super) async fn asked(signals: &mut [Signal; 4]) -> Asked {
    let [data, stats, clear, json] = signals;
    tokio::select! {
        _ = data.recv() => Asked::Data,
        _ = stats.recv() => Asked::Counts,
        _ = clear.recv() => Asked::Clear,
        _ = json.recv() => Asked::Json,
    }
}

/// Says that a signal is not served.
pub(super) fn not_served(what: Asked) {
    let name = match what {
        Asked::Data => "SIGUSR1 (DATA)",
        Asked::Counts => "SIGUSR2 (STATS)",
        Asked::Clear => "STATS_CLEAR",
        Asked::Json => "JSON",
    };
    tracing::warn!("signal {name}: not served by this version");
}
