//! A role's side of its channel to the supervisor.

use core::time::Duration;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::table::{BEAT, TICK};
use super::{Setup, Start};
use crate::ipc::{FromRole, Peer, RoleName, ToRole, frame};
use crate::sys::channel::Channel;
use crate::sys::memfd;

/// The longest part of a configuration.
pub(super) const LONGEST_PART: usize = 512 << 20;

/// How long a role continues without a supervisor before it shuts down in good order. If a daemon's first process dies,
/// a service manager kills the others at once with SIGKILL: then everything is still in place for the next daemon.
pub(super) const ORPHAN: Duration = Duration::from_secs(2);

/// A signal that asks for the end counts after this time: by then the channel of a killed supervisor is closed.
const CLOSES: Duration = Duration::from_millis(500);

/// What a role should do next.
#[derive(Debug)]
pub enum Order {
    /// A message of the supervisor, or a signal with the same meaning, and the descriptor sent with it.
    Do(ToRole, Option<OwnedFd>),
    /// Time has passed: [`BEAT`] at most, less after [`Control::tick_soon`].
    Tick,
}

/// Messages that were ignored because they are for other roles.
#[derive(Debug, Default)]
struct Unexpected(u32);

impl Unexpected {
    /// Counts a message. Returns a line for the log at the first one and whenever their number has doubled.
    fn note(&mut self, message: &ToRole) -> Option<String> {
        self.0 = self.0.saturating_add(1);
        let (count, name) = (self.0, message.name());
        count.is_power_of_two().then(|| {
            format!("ignored a message for another role, {name}; {count} so far; this is a defect, please report it")
        })
    }
}

/// A part of a configuration, from [`ToRole::Prepare`] to [`ToRole::Apply`].
#[derive(Debug)]
pub struct Prepared<P>(Option<(u32, P)>);

impl<P> Default for Prepared<P> {
    fn default() -> Self {
        Self(None)
    }
}

impl<P: DeserializeOwned> Prepared<P> {
    /// Decodes it and reports the result to the supervisor.
    pub fn decode(&mut self, control: &mut Control, generation: u32, part: Option<OwnedFd>) {
        let part = part.ok_or_else(|| "no part of the configuration was received".to_owned());
        let decoded = part
            .and_then(|part| memfd::read(part, LONGEST_PART).map_err(|e| e.to_string()))
            .and_then(|octets| frame::open(&octets).map_err(|e| e.to_string()));
        match decoded {
            Ok(part) => {
                self.0 = Some((generation, part));
                control.tell(&FromRole::Ready { generation });
            }
            Err(reason) => control.tell(&FromRole::Refused { generation, reason }),
        }
    }

    /// Takes over a part that was decoded elsewhere.
    pub fn put(&mut self, generation: u32, part: P) {
        self.0 = Some((generation, part));
    }

    /// The part with this number, until it is taken.
    pub fn get_mut(&mut self, generation: u32) -> Option<&mut P> {
        self.0.as_mut().filter(|(g, _)| *g == generation).map(|(_, part)| part)
    }

    /// Takes the part with this number, if it is the current one.
    pub fn take(&mut self, generation: u32) -> Option<P> {
        self.0.take().filter(|(g, _)| *g == generation).map(|(_, part)| part)
    }

    /// Drops it.
    pub fn abandon(&mut self) {
        self.0 = None;
    }
}

/// The requests of keepalived's signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGUSR1: write the whole state.
    Data,
    /// SIGUSR2: write the counters.
    Counts,
    /// SIGRTMAX-1: reset the counters.
    Clear,
    /// SIGRTMIN+2: write the whole state as JSON.
    Json,
}

/// Orders, from the supervisor or by signal.
pub struct Control {
    setup: Setup,
    supervisor: Peer<FromRole, ToRole>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// The signals by which keepalived is asked to write files.
    asking: [Signal; 4],
    beat: Interval,
    /// When the next tick is due, if it was requested to come before the regular one.
    due: Option<Instant>,
    /// Whether `next` sends heartbeats of this thread.
    beats: bool,
    /// Channels that could not be used, of which the supervisor must be informed.
    unconnected: u32,
    unexpected: Unexpected,
    /// Stop was ordered.
    stopping: bool,
    /// The supervisor ordered the stop, or is gone.
    told: bool,
    /// The supervisor is gone: until when the role continues.
    orphan: Option<Instant>,
    /// The parent-death signal of the supervisor has arrived.
    signalled: bool,
    /// When a signal that asks for the end counts.
    signal_due: Option<Instant>,
    /// What came with the setup.
    fd: Option<OwnedFd>,
    /// The file that the role writes.
    file: Option<File>,
}

impl Control {
    pub(super) fn new(start: Start) -> io::Result<Self> {
        Self::ended_by(start, SignalKind::terminate())
    }

    /// The same with another signal that asks for the end.
    fn ended_by(start: Start, end: SignalKind) -> io::Result<Self> {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            setup: start.setup,
            supervisor: Peer::new(start.control)?,
            terminate: signal(end)?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            asking: asking()?,
            beat,
            due: None,
            beats: true,
            unconnected: 0,
            unexpected: Unexpected::default(),
            stopping: false,
            told: false,
            orphan: None,
            signalled: false,
            signal_due: None,
            fd: start.fd,
            file: start.file,
        })
    }

    /// The setup of the role.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Takes the descriptor sent with the setup. Not for roles with a pid file, where it holds the lock.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fd.take()
    }

    /// Takes the file that the role writes ([`Setup::writes`]).
    pub fn take_file(&mut self) -> Option<File> {
        self.file.take()
    }

    /// Leaves heartbeats to another thread, which sends [`FromRole::Alive`] on this channel.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn leave_beats(&mut self) -> io::Result<Channel> {
        self.beats = false;
        self.supervisor.duplicate()
    }

    /// Sends a message to the supervisor.
    pub fn tell(&mut self, message: &FromRole) {
        // Full: the supervisor has not read for a very long time. Gone: the next order reports it.
        let _ = self.supervisor.post(message, Vec::new());
    }

    /// Requests a tick within [`TICK`], so that work that comes up until then is done in one go.
    pub fn tick_soon(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + TICK);
    }

    /// Sends the supervisor a message that the next one of its kind supersedes; false if there is no room now.
    pub fn offer(&mut self, message: &FromRole) -> bool {
        self.supervisor.offer(message).is_ok()
    }

    /// Requests another channel from the supervisor, because the last one between this role and `other` cannot be
    /// used.
    pub fn unconnected(&mut self, other: RoleName, why: &io::Error) {
        self.unconnected += 1;
        // While the cause persists, another channel arrives twice a second.
        if self.unconnected.is_power_of_two() {
            tracing::error!("channel to {other}: {why}, asking for another one");
        }
        self.tell(&FromRole::Unconnected(other));
    }

    /// Ignores a message that the supervisor sends to other roles only: a defect, which must not stay hidden.
    pub fn unexpected(&mut self, message: &ToRole) {
        if let Some(line) = self.unexpected.note(message) {
            tracing::error!("{line}");
        }
    }

    /// Whether the supervisor caused the stop of this role, by a message or by its end, and not just a signal.
    #[must_use]
    pub const fn told(&self) -> bool {
        self.told
    }

    /// Reports to the supervisor that everything is undone.
    pub async fn done(mut self) {
        self.tell(&FromRole::Done);
        let _ = tokio::time::timeout(TICK, self.supervisor.drain()).await;
    }

    /// The next order: `Stop` if the supervisor is gone or a signal requires it. Nothing is lost when the future is
    /// dropped.
    pub async fn next(&mut self) -> Order {
        loop {
            tokio::select! {
                biased;
                message = self.supervisor.next(), if self.orphan.is_none() => match message {
                    Some((message, fds)) => {
                        self.told |= matches!(message, ToRole::Stop { .. });
                        self.stopping |= self.told;
                        return Order::Do(message, fds.into_iter().next());
                    }
                    None => {
                        // A role that is already stopping need not wait for more.
                        self.told |= self.stopping;
                        if !self.stopping {
                            tracing::warn!(
                                "the supervisor is gone, continuing for {} s",
                                ORPHAN.as_secs()
                            );
                        }
                        self.signalled |= self.signal_due.take().is_some();
                        self.orphan = Some(Instant::now() + ORPHAN);
                    }
                },
                () = at(self.orphan), if !self.stopping => {
                    tracing::warn!("no supervisor, shutting down in good order");
                    self.told = true;
                    if let Some(order) = self.stop() {
                        return order;
                    }
                }
                _ = self.terminate.recv() => {
                    if self.orphan.is_none() {
                        // The end of the supervisor's main thread sends one, possibly before its channel is closed.
                        self.signal_due.get_or_insert_with(|| Instant::now() + CLOSES);
                    } else if core::mem::replace(&mut self.signalled, true) {
                        // The first one after the end of the supervisor only means that end.
                        self.told = true;
                        if let Some(order) = self.stop() {
                            return order;
                        }
                    }
                }
                () = at(self.signal_due) => {
                    self.signal_due = None;
                    if let Some(order) = self.stop() {
                        return order;
                    }
                }
                _ = self.interrupt.recv() => if !self.setup.ignore_sigint
                    && let Some(order) = self.stop()
                {
                    return order;
                },
                _ = self.hangup.recv() => self.tell(&FromRole::ReloadWanted),
                what = asked(&mut self.asking) => match what {
                    Asked::Counts => return Order::Do(ToRole::Count, None),
                    other => not_served(other),
                },
                _ = self.beat.tick() => {
                    if self.beats {
                        let _ = self.supervisor.offer(&FromRole::Alive);
                    }
                    return Order::Tick;
                }
                () = at(self.due) => {
                    self.due = None;
                    return Order::Tick;
                }
            }
        }
    }

    fn stop(&mut self) -> Option<Order> {
        (!core::mem::replace(&mut self.stopping, true))
            .then_some(Order::Do(ToRole::Stop { keep: self.setup.keep }, None))
    }
}

/// Waits until this time; for ever if there is none.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => core::future::pending().await,
    }
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

/// Logs that a signal is not supported.
pub(super) fn not_served(what: Asked) {
    let name = match what {
        Asked::Data => "SIGUSR1 (DATA)",
        Asked::Counts => "SIGUSR2 (STATS)",
        Asked::Clear => "STATS_CLEAR",
        Asked::Json => "JSON",
    };
    tracing::warn!("signal {name} is not supported by this version");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log;
    use crate::sys::testing;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Stands for SIGTERM: it does not end a process, such as that of other tests, that has no handler.
    const END: libc::c_int = libc::SIGURG;

    fn control() -> (Control, Channel) {
        let log = log::Settings {
            identity: "test".into(),
            suffix: String::new(),
            syslog: false,
            facility: log::Facility::DAEMON,
            console: false,
            file: None,
            detail: 0,
        };
        let setup = Setup {
            log,
            keep: true,
            undo: false,
            again: false,
            ignore_sigint: false,
            watch_addresses: false,
            no_bfd: false,
            user: None,
            core_files: false,
            umask: None,
            writes: None,
        };
        let (near, far) = Channel::pair().unwrap();
        let start = Start { setup, control: near, fd: None, file: None, user: (0, 0) };
        (Control::ended_by(start, SignalKind::from_raw(END)).unwrap(), far)
    }

    fn raise() {
        nix::sys::signal::raise(nix::sys::signal::Signal::try_from(END).unwrap()).unwrap();
    }

    /// Takes events until this is true. An order to stop must not come before.
    async fn until(control: &mut Control, what: impl Fn(&Control) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !what(control) {
            assert!(Instant::now() < end, "it does not happen");
            let order = tokio::time::timeout(Duration::from_millis(5), control.next()).await;
            assert!(matches!(order, Err(_) | Ok(Order::Tick)), "{order:?}");
        }
    }

    async fn stops(control: &mut Control) -> bool {
        loop {
            match tokio::time::timeout(PATIENCE, control.next()).await.unwrap() {
                Order::Tick => {}
                Order::Do(ToRole::Stop { keep }, None) => return keep,
                other => panic!("{other:?}"),
            }
        }
    }

    /// One test: all its parts use the same signal of this process.
    #[test]
    fn a_signal_at_the_end_of_the_supervisor_only_means_that_end() {
        testing::run(async {
            // It comes before the channel is closed. The role continues, as if it had come after that.
            let (mut control, far) = control();
            raise();
            until(&mut control, |control| control.signal_due.is_some()).await;
            assert!(control.signal_due.unwrap() > Instant::now() + CLOSES / 10);
            drop(far);
            until(&mut control, |control| control.orphan.is_some()).await;
            assert!(control.signal_due.is_none() && control.signalled && !control.told());
            // The second one asks for the end.
            raise();
            assert!(stops(&mut control).await);
            assert!(control.told());

            // The channel is closed first.
            let (mut control, far) = self::control();
            drop(far);
            until(&mut control, |control| control.orphan.is_some()).await;
            raise();
            until(&mut control, |control| control.signalled).await;
            // No other supervisor has come.
            control.orphan = Some(Instant::now());
            assert!(stops(&mut control).await);
            assert!(control.told());

            // The supervisor lives: somebody else wants this process to end.
            let (mut control, far) = self::control();
            raise();
            until(&mut control, |control| control.signal_due.is_some()).await;
            control.signal_due = Some(Instant::now());
            assert!(stops(&mut control).await);
            assert!(!control.told());
            drop(far);
        });
    }

    #[test]
    fn messages_for_other_roles_are_counted_and_logged_less_and_less() {
        let mut unexpected = Unexpected::default();
        let lines: Vec<Option<String>> =
            (0..5).map(|_| unexpected.note(&ToRole::Ipvs { works: true })).collect();
        let logged: Vec<bool> = lines.iter().map(Option::is_some).collect();
        assert_eq!(logged, [true, true, false, true, false]);
        assert!(
            lines[0].as_ref().is_some_and(|line| line.contains("another role, Ipvs; 1 so far"))
        );
        assert!(lines[3].as_ref().is_some_and(|line| line.contains("4 so far")));
    }
}
