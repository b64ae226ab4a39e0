//! A role's side of its channel to the supervisor.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::child::ORPHANED;
use super::table::{BEAT, TICK};
use super::{Setup, Start};
use crate::ipc::{Asked, FromRole, Peer, RoleName, ToRole, frame};
use crate::sys::channel::Channel;
use crate::sys::memfd;

/// The longest part of a configuration.
pub(super) const LONGEST_PART: usize = 512 << 20;

/// How long a role continues without a supervisor before it shuts down in good order. If a daemon's first process dies,
/// a service manager kills the others at once with SIGKILL: then everything is still in place for the next daemon.
pub(super) const ORPHAN: Duration = Duration::from_secs(2);

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

/// Orders, from the supervisor or by signal.
pub struct Control {
    setup: Setup,
    supervisor: Peer<FromRole, ToRole>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// The parent-death signal.
    bereft: Signal,
    /// The signals by which keepalived is asked to write files.
    asking: [Signal; 4],
    beat: Interval,
    /// When the next tick is due, if it was requested to come before the regular one.
    due: Option<Instant>,
    /// Whether `next` sends heartbeats of this thread.
    beats: bool,
    /// Channels that could not be used, of which the supervisor must be informed.
    unconnected: u32,
    /// Channels to each other role that this one was given.
    channels: BTreeMap<RoleName, u32>,
    unexpected: Unexpected,
    /// Stop was ordered.
    stopping: bool,
    /// The supervisor ordered the stop, or is gone.
    told: bool,
    /// The supervisor is gone: until when the role continues.
    orphan: Option<Instant>,
    /// The channel to the supervisor is closed.
    closed: bool,
    /// What came with the setup.
    fd: Option<OwnedFd>,
    /// The file that the role writes.
    file: Option<File>,
}

impl Control {
    pub(super) fn new(start: Start) -> io::Result<Self> {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            setup: start.setup,
            supervisor: Peer::new(start.control)?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            bereft: signal(SignalKind::from_raw(ORPHANED as i32))?,
            asking: asking()?,
            beat,
            due: None,
            beats: true,
            unconnected: 0,
            channels: BTreeMap::new(),
            unexpected: Unexpected::default(),
            stopping: false,
            told: false,
            orphan: None,
            closed: false,
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

    /// The same with a descriptor.
    pub fn send(&mut self, message: &FromRole, fd: OwnedFd) {
        let _ = self.supervisor.post(message, vec![fd]);
    }

    /// Requests a tick within [`TICK`], so that work that comes up until then is done in one go.
    pub fn tick_soon(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + TICK);
    }

    /// Sends the supervisor a message that the next one of its kind supersedes; false if there is no room now.
    pub fn offer(&mut self, message: &FromRole) -> bool {
        self.supervisor.offer(message).is_ok()
    }

    /// Requests another channel from the supervisor, because the last one between this role and `other` has ended. If the
    /// other process has ended as well, its next one gets a channel anyway.
    pub fn disconnected(&mut self, other: RoleName) {
        tracing::debug!("the channel to {other} has ended");
        let given = self.channels.get(&other).copied().unwrap_or_default();
        self.tell(&FromRole::Unconnected { other, given });
    }

    /// The same because it cannot be used.
    pub fn unconnected(&mut self, other: RoleName, why: &io::Error) {
        self.unconnected += 1;
        // While the cause persists, another channel arrives twice a second.
        if self.unconnected.is_power_of_two() {
            tracing::error!("channel to {other}: {why}, asking for another one");
        }
        let given = self.channels.get(&other).copied().unwrap_or_default();
        self.tell(&FromRole::Unconnected { other, given });
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
                message = self.supervisor.next(), if !self.closed => match message {
                    Some((message, fds)) => {
                        self.told |= matches!(message, ToRole::Stop { .. });
                        if let ToRole::Connect(other) = message {
                            *self.channels.entry(other).or_default() += 1;
                        }
                        self.stopping |= self.told;
                        return Order::Do(message, fds.into_iter().next());
                    }
                    None => {
                        self.closed = true;
                        self.orphaned();
                    }
                },
                // A killed process sends it with the end of each thread, and closes its channels with the last one.
                _ = self.bereft.recv() => self.orphaned(),
                () = at(self.orphan), if !self.stopping => {
                    tracing::warn!("no supervisor, shutting down in good order");
                    self.told = true;
                    if let Some(order) = self.stop() {
                        return order;
                    }
                }
                _ = self.terminate.recv() => {
                    self.told |= self.orphan.is_some();
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
                what = asked(&mut self.asking) => return Order::Do(ToRole::Dump(what), None),
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

    /// The supervisor is gone: the role goes on for a while, unless it is stopping.
    fn orphaned(&mut self) {
        self.told |= self.stopping;
        if self.orphan.is_none() {
            self.orphan = Some(Instant::now() + ORPHAN);
            if !self.stopping {
                let seconds = ORPHAN.as_secs();
                tracing::warn!("the supervisor is gone, continuing for {seconds} s");
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
        _ = stats.recv() => Asked::Stats,
        _ = clear.recv() => Asked::StatsClear,
        _ = json.recv() => Asked::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log;

    /// The control of a role, and the supervisor's end of its channel.
    fn control() -> (Control, Channel) {
        let (near, far) = Channel::pair().unwrap();
        let setup = Setup {
            log: log::Settings {
                identity: "test".to_owned(),
                suffix: String::new(),
                syslog: false,
                facility: log::Facility::DAEMON,
                console: false,
                file: None,
                detail: 0,
            },
            keep: false,
            undo: false,
            again: false,
            ignore_sigint: false,
            watch_addresses: false,
            no_bfd: false,
            user: None,
            mark: Box::default(),
            core_files: false,
            umask: None,
            writes: None,
        };
        let start = Start { setup, control: near, fd: None, file: None, user: (0, 0) };
        (Control::new(start).unwrap(), far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_goes_on_for_two_seconds_although_the_channel_of_its_dead_supervisor_is_open() {
        let (mut control, far) = control();
        let begun = Instant::now();
        // Each of its threads that ends sends one.
        let mut ticks = 0;
        nix::sys::signal::raise(ORPHANED).unwrap();
        while let Order::Tick = control.next().await {
            ticks += 1;
            assert!(ticks < 1_000, "no end");
            assert!(!control.told());
            control.tick_soon();
            if ticks < 3 {
                nix::sys::signal::raise(ORPHANED).unwrap();
            }
        }
        let waited = begun.elapsed();
        assert!((ORPHAN..ORPHAN + BEAT).contains(&waited), "{waited:?}");
        // The supervisor's end, and not a mere signal, is the reason.
        assert!(control.told());
        // That the channel closes in the end is no news.
        drop(far);
        assert!(matches!(control.next().await, Order::Tick));
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
