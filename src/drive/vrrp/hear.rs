//! Receiving: how many packets are handed over before something else has its turn.
//!
//! A flood must not keep our own adverts from leaving, and a process that was held up must hear what it missed
//! before it takes anybody for silent. So packets come in batches, with due adverts sent between; and before the
//! timers of silence fire, exactly those packets are read that were in the queue when the timers were found to be
//! due: the kernel stamps each packet with its time.

use core::time::Duration;

use super::Driver;
use crate::base::{Instant, WallTime};
use crate::sys::clock;
use crate::vrrp::Event;
use crate::vrrp::event::Rx;

/// Packets handed over before due adverts are sent.
const BATCH: usize = 64;
/// Packets read from one socket where their times say nothing: more than fit into its queue.
const QUEUE: usize = 8192;
/// An advert that is late by so much: this process was held up, others may have taken over meanwhile.
const HELD_UP: Duration = Duration::from_millis(50);
/// The two clocks part by no more than this unless somebody sets the time of day.
const PARTED: Duration = Duration::from_millis(1);

/// What was in the queues at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    /// The moment by the clock that packets are stamped with; none when that clock was set meanwhile, and stamps
    /// from before and after cannot be compared.
    wall: Option<WallTime>,
}

/// Notices when the time of day was set.
#[derive(Debug)]
pub(super) struct Clocks {
    /// Time of day when the other clock stood at zero, in nanoseconds.
    origin: u128,
}

impl Clocks {
    pub fn new() -> Self {
        Self { origin: origin(clock::now(), clock::wall()) }
    }

    /// What is in the queues now.
    pub fn horizon(&mut self) -> Horizon {
        let wall = clock::wall();
        self.judge(clock::now(), wall)
    }

    fn judge(&mut self, now: Instant, wall: WallTime) -> Horizon {
        let origin = origin(now, wall);
        let set = origin.abs_diff(self.origin) > PARTED.as_nanos();
        self.origin = origin;
        Horizon { wall: (!set).then_some(wall) }
    }
}

fn origin(now: Instant, wall: WallTime) -> u128 {
    // The machine has not run for longer than the time of day says, but a clock that starts in 1970 may lag.
    let wall = Duration::new(wall.secs, wall.nanos).as_nanos() + (1 << 100);
    wall - u128::from(now.as_nanos())
}

impl Horizon {
    /// Whether the time of day was set just before.
    pub const fn is_unsure(self) -> bool {
        self.wall.is_none()
    }

    /// Whether a packet came in later.
    fn is_before(self, stamp: Option<WallTime>) -> bool {
        matches!((self.wall, stamp), (Some(wall), Some(stamp)) if stamp > wall)
    }
}

impl Driver {
    /// Whether timers of any kind but adverts are due.
    pub(super) fn timers_due(&mut self, now: Instant) -> bool {
        self.engine.other_deadline().is_some_and(|at| at <= now)
    }

    /// Whether one of them judges a silence.
    pub(super) fn silence_due(&mut self, now: Instant) -> bool {
        self.engine.silence_deadline().is_some_and(|at| at <= now)
    }

    /// Sends the adverts that are due.
    pub(super) fn adverts(&mut self) {
        let now = clock::now();
        if self.engine.advert_deadline().is_some_and(|at| at <= now) {
            self.handle(now, Event::Adverts);
        }
    }

    /// Whether our adverts should have left long ago.
    pub(super) fn held_up(&mut self, now: Instant) -> bool {
        self.engine.advert_deadline().is_some_and(|at| now.since(at) > HELD_UP)
    }

    /// Hands over one batch of the packets of a socket; how many they were.
    pub(super) fn some_packets(&mut self, position: usize) -> usize {
        self.receive(position, None).0
    }

    /// Hands over every packet that was there at the horizon, from all sockets. Adverts leave between batches
    /// unless they must wait for what is heard.
    pub(super) fn hear(&mut self, horizon: Horizon, adverts_wait: bool) {
        let mut since = 0;
        for position in 0..self.sockets.receivers.len() {
            let mut count = 0;
            loop {
                let (n, beyond) = self.receive(position, Some(horizon));
                count += n;
                since += n;
                if since >= BATCH {
                    since = 0;
                    self.beat();
                    if !adverts_wait {
                        self.adverts();
                    }
                }
                if n == 0 || beyond || count >= QUEUE {
                    break;
                }
            }
        }
    }

    /// One call for packets: how many were handed over, and whether one of them came in after the horizon.
    pub(super) fn receive(&mut self, position: usize, horizon: Option<Horizon>) -> (usize, bool) {
        let Some(mut batch) = self.sockets.batch.take() else {
            return (0, false);
        };
        let mut beyond = false;
        let received = match self.sockets.receivers.get(position) {
            Some(group) => group.socket.receive(&mut batch),
            None => Ok(0),
        };
        let count = received.unwrap_or_else(|e| {
            // ENETDOWN and the like: told once, about nothing that matters here.
            tracing::debug!("cannot receive adverts: {e}");
            0
        });
        if count > 0 {
            let now = clock::now();
            for (from, packet) in batch.packets() {
                beyond |= horizon.is_some_and(|horizon| horizon.is_before(from.at));
                let rx = Rx {
                    interface: from.interface,
                    source: from.source,
                    destination: from.destination,
                    hop_limit: from.hop_limit,
                };
                self.handle(now, Event::Advert { rx, packet });
            }
        }
        self.sockets.batch = Some(batch);
        (count, beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(millis: u64) -> WallTime {
        WallTime { secs: millis / 1000, nanos: u32::try_from(millis % 1000).unwrap() * 1_000_000 }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_packet_is_beyond_the_horizon_if_it_came_later() {
        let mut clocks = Clocks { origin: origin(at(1000), wall(50_000)) };
        let horizon = clocks.judge(at(3000), wall(52_000));
        assert!(!horizon.is_before(Some(wall(51_999))));
        assert!(!horizon.is_before(Some(wall(52_000))));
        assert!(horizon.is_before(Some(wall(52_001))));
        assert!(!horizon.is_before(None));
    }

    #[test]
    fn stamps_are_not_believed_when_the_time_of_day_was_set() {
        let mut clocks = Clocks { origin: origin(at(1000), wall(50_000)) };
        // Set back by ten seconds while the process was stopped: what came in before that seems to be from the
        // future.
        let horizon = clocks.judge(at(3000), wall(42_000));
        assert!(!horizon.is_before(Some(wall(51_000))));
        // From then on they are.
        let horizon = clocks.judge(at(4000), wall(43_000));
        assert!(horizon.is_before(Some(wall(43_001))));
        // A clock that shows less than the machine has run is no reason to panic.
        let mut clocks = Clocks { origin: origin(at(90_000), wall(1)) };
        assert!(clocks.judge(at(90_001), wall(2)).is_before(Some(wall(3))));
    }
}
