//! One session: its variables (RFC 5880 6.8.1), their changes by received packets, and the resulting times.
//!
//! The engine sends its packets and reports its changes.

use core::time::Duration;

use super::fsm::{Input, step};
use crate::base::Instant;
use crate::base::rng::Rng;
use crate::model::extras::Bfd;
use crate::wire::bfd::{Diagnostic, Packet, State, micros};

/// RFC 5880 6.8.3: shortest transmit interval of a session that is not up.
const SLOW: Duration = Duration::from_secs(1);
/// The unit of jitter is this fraction (divisor) of an interval.
const WHOLE: u64 = 1000;

/// A session. RFC names: local variables are `bfd.…`, those received from the remote system `bfd.Remote…`.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub config: Bfd,
    /// `bfd.LocalDiscr`
    pub own: u32,
    /// `bfd.SessionState`
    pub state: State,
    /// `bfd.LocalDiag`
    pub diagnostic: Diagnostic,
    pub remote: Remote,
    /// The multiplier of the last received packet, which determines the detection time.
    multiplier: u8,
    /// The current poll sequence.
    poll: Option<Poll>,
    /// `bfd.DesiredMinTxInterval` and `bfd.RequiredMinRxInterval` as in force: some changes take effect only when the
    /// remote system has acknowledged them.
    tx: Duration,
    rx: Duration,
    /// When the last periodic packet was sent.
    sent: Option<Instant>,
    /// When the next one is due, and the interval from which that was computed.
    next: Option<(Instant, Duration)>,
    /// When the detection time ends, counted from the last received packet.
    expires: Option<Instant>,
    /// When the last packet was received.
    heard: Option<Instant>,
    /// The last reported state.
    pub told: Option<bool>,
    /// Sending its packets fails.
    pub unsent: bool,
}

/// The values last received from the remote system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// `bfd.RemoteDiscr`; 0: unknown.
    pub number: u32,
    pub state: State,
    pub diagnostic: Diagnostic,
    demand: bool,
    min_rx: Duration,
    min_tx: Duration,
}

/// A poll sequence (RFC 5880 6.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Poll {
    /// The intervals changed again since it began: another sequence follows.
    again: bool,
}

/// The effects of a received packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The previous state, if the state changed.
    pub before: Option<State>,
    /// A packet with the Final bit must be sent.
    pub answer: bool,
}

impl Default for Remote {
    /// The initial values (RFC 5880 6.8.1).
    fn default() -> Self {
        Self {
            number: 0,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            demand: false,
            min_rx: Duration::from_micros(1),
            min_tx: Duration::ZERO,
        }
    }
}

impl Session {
    pub fn new(config: Bfd, own: u32) -> Self {
        let (tx, rx) = (config.idle_tx.max(SLOW), config.min_rx);
        Self {
            config,
            own,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::default(),
            multiplier: 0,
            poll: None,
            tx,
            rx,
            sent: None,
            next: None,
            expires: None,
            heard: None,
            told: None,
            unsent: false,
        }
    }

    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// `bfd.DesiredMinTxInterval` as sent in packets.
    fn min_tx(&self) -> Duration {
        //= rfc5880 6.8.3: not less than one second when bfd.SessionState is not Up
        if self.is_up() { self.config.min_tx } else { self.config.idle_tx.max(SLOW) }
    }

    /// The packet to send now. `answer`: it answers a poll.
    pub fn packet(&self, answer: bool) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            //= rfc5880 6.5: not both in one packet
            poll: self.poll.is_some() && !answer,
            r#final: answer,
            multiplier: self.config.multiplier,
            own: self.own,
            yours: self.remote.number,
            min_tx: micros(self.min_tx()),
            min_rx: micros(self.config.min_rx),
            ..Packet::default()
        }
    }

    /// Applies a new configuration with the same addresses. True if a packet must be sent at once.
    pub fn reconfigure(&mut self, config: Bfd) -> bool {
        let before = core::mem::replace(&mut self.config, config);
        let intervals = |c: &Bfd| (c.min_tx, c.min_rx);
        if !self.is_up() {
            (self.tx, self.rx) = (self.min_tx(), self.config.min_rx);
            return false;
        }
        if intervals(&before) == intervals(&self.config) {
            return before.multiplier != self.config.multiplier;
        }
        self.renegotiate();
        true
    }

    /// Starts a poll sequence for changed intervals.
    fn renegotiate(&mut self) {
        //= rfc5880 6.8.3: an increased interval MUST NOT be used before the poll has ended
        self.tx = self.tx.min(self.min_tx());
        //= rfc5880 6.8.3: of a reduced bfd.RequiredMinRxInterval the previous value MUST be used until then
        self.rx = self.rx.max(self.config.min_rx);
        self.poll = Some(Poll { again: self.poll.is_some() });
    }

    /// The remote system has acknowledged the poll, so the new intervals take effect.
    fn poll_ended(&mut self) {
        match self.poll {
            Some(Poll { again: true }) => self.poll = Some(Poll::default()),
            Some(Poll { again: false }) => {
                self.poll = None;
                (self.tx, self.rx) = (self.min_tx(), self.config.min_rx);
            }
            None => {}
        }
    }

    pub const fn is_polling(&self) -> bool {
        self.poll.is_some()
    }

    /// Processes a packet for this session (RFC 5880 6.8.6, from the step that sets `bfd.RemoteDiscr`).
    pub fn heard(&mut self, now: Instant, packet: &Packet) -> Heard {
        self.remote = Remote {
            number: packet.own,
            state: packet.state,
            diagnostic: packet.diagnostic,
            demand: packet.demand,
            min_rx: Duration::from_micros(packet.min_rx.into()),
            min_tx: Duration::from_micros(packet.min_tx.into()),
        };
        self.multiplier = packet.multiplier;
        if packet.r#final {
            self.poll_ended();
        }
        let before = self.step(Input::Heard(packet.state));
        self.heard = Some(now);
        self.expires = Some(now + self.detection());
        Heard { before, answer: packet.poll && self.state != State::AdminDown }
    }

    /// The detection time has passed. Returns the previous state, if the state changed.
    pub fn expired(&mut self) -> Option<State> {
        self.expires = None;
        let before = self.step(Input::Expired);
        //= rfc5880 6.8.1: bfd.RemoteDiscr MUST be set to zero after a Detection Time without a packet
        self.remote = Remote::default();
        before
    }

    /// Ends the session.
    pub fn disable(&mut self) {
        self.step(Input::Disabled);
        (self.next, self.expires) = (None, None);
    }

    fn step(&mut self, input: Input) -> Option<State> {
        let before = self.state;
        let (state, why) = step(before, input);
        self.diagnostic = why.unwrap_or(self.diagnostic);
        self.state = state;
        if state == before {
            return None;
        }
        if state == State::Up {
            if self.min_tx() != self.tx {
                self.renegotiate();
            }
        } else if before == State::Up {
            (self.poll, self.tx, self.rx) = (None, self.min_tx(), self.config.min_rx);
        }
        Some(before)
    }

    /// `Detection Time` (RFC 5880 6.8.4, asynchronous mode).
    pub fn detection(&self) -> Duration {
        self.rx.max(self.remote.min_tx).saturating_mul(self.multiplier.into())
    }

    /// The transmit interval without jitter; none: no periodic packets are sent (RFC 5880 6.8.7).
    fn interval(&self) -> Option<Duration> {
        let remote = &self.remote;
        let silent = self.state == State::AdminDown
            //= rfc5880 6.8.7: the passive role sends nothing before it has heard
            || (self.config.passive && remote.number == 0)
            //= rfc5880 6.8.7: if bfd.RemoteMinRxInterval is zero
            || remote.min_rx.is_zero()
            //= rfc5880 6.8.7: if Demand mode is active on the remote system and no poll is being sent
            || (remote.demand && self.is_up() && remote.state == State::Up && self.poll.is_none());
        (!silent).then(|| self.tx.max(remote.min_rx))
    }

    /// Records that a periodic packet was sent, or another one that replaces it.
    pub fn was_sent(&mut self, now: Instant) {
        self.sent = Some(now);
        self.next = None;
    }

    /// Sets the time of the next packet, if the interval differs from the one used before. A shorter interval takes
    /// effect at once and counts from the last packet.
    pub fn schedule(&mut self, now: Instant, rng: &mut Rng) {
        let Some(interval) = self.interval() else {
            self.next = None;
            return;
        };
        if self.next.is_some_and(|(_, by)| by == interval) {
            return;
        }
        //= rfc5880 6.8.7: reduced by a random value of 0 to 25 %; with a multiplier of 1 of 10 to 25 %
        let least = if self.config.multiplier == 1 { WHOLE / 10 } else { 0 };
        let less = least + rng.below(WHOLE / 4 - least + 1);
        let parts = u32::try_from(WHOLE - less).unwrap_or(0);
        let jittered = interval * parts / 1000;
        let due = self.sent.map_or(now, |sent| (sent + jittered).max(now));
        self.next = Some((due, interval));
    }

    /// When the next packet is due.
    pub fn next(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// When the detection time ends.
    pub const fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// Time since the last received packet.
    pub fn silence(&self, now: Instant) -> Duration {
        self.heard.map_or(Duration::ZERO, |heard| now.since(heard))
    }

    /// Computes the end of the detection time again after a change of intervals.
    pub fn detect_anew(&mut self) {
        if let (Some(heard), Some(_)) = (self.heard, self.expires) {
            self.expires = Some(heard + self.detection());
        }
    }
}
