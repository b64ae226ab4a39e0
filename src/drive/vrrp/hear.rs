//! Receiving: how many packets are handed over before other work gets its turn.
//!
//! A flood must not delay our own adverts, and a process that was stalled must process what it missed before it
//! declares a master silent. So packets are read in batches, with due adverts sent between; and before the timers of
//! silence fire, exactly those packets are read that were in the queue when the timers were found to be due: the kernel
//! stamps each packet with its time.

use core::net::IpAddr;
use core::time::Duration;

use super::Driver;
use crate::base::{Instant, WallTime};
use crate::sys::clock;
use crate::vrrp::Event;
use crate::vrrp::event::Rx;
use crate::wire::checksum::Sum;
use crate::wire::ip::VRRP;

/// Packets handed over before due adverts are sent.
const BATCH: usize = 64;
/// Packets read from one socket if their time stamps are not usable: more than fit into its queue.
const QUEUE: usize = 8192;
/// If an advert is this late, the process was stalled, and other routers may have taken over meanwhile.
pub(super) const HELD_UP: Duration = Duration::from_millis(50);
/// Longest time that overdue adverts wait for received packets. All that is in the queue takes far less, but for a flood
/// on a slow machine.
const PATIENCE: Duration = Duration::from_millis(50);
/// The two clocks differ by no more than this unless the time of day is set.
const PARTED: Duration = Duration::from_millis(1);

/// Which packets were in the queues at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    /// The moment by the clock that packets are stamped with; none if that clock was set meanwhile, so that stamps from
    /// before and after are not comparable.
    wall: Option<WallTime>,
}

/// Notices when the time of day was set.
#[derive(Debug)]
pub(super) struct Clocks {
    /// Time of day at the other clock's zero, in nanoseconds.
    origin: u128,
}

impl Clocks {
    pub fn new() -> Self {
        Self { origin: origin(clock::now(), clock::wall()) }
    }

    /// The horizon of now.
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
    // Normally the machine has not run for longer than the time of day since 1970, but a clock that starts in 1970 may
    // lag.
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
    /// Whether timers other than adverts are due.
    pub(super) fn timers_due(&mut self, now: Instant) -> bool {
        self.engine.other_deadline().is_some_and(|at| at <= now)
    }

    /// Whether one of them judges a silence.
    pub(super) fn silence_due(&mut self, now: Instant) -> bool {
        self.engine.silence_deadline().is_some_and(|at| at <= now)
    }

    /// Sends the adverts that are due: those of one step are on the wire before the next step.
    pub(super) fn adverts(&mut self) {
        let now = clock::now();
        while self.engine.advert_deadline().is_some_and(|at| at <= now) {
            self.handle(now, Event::Adverts);
            self.beat();
        }
    }

    /// Whether our adverts are long overdue.
    pub(super) fn held_up(&mut self, now: Instant) -> bool {
        self.engine.advert_deadline().is_some_and(|at| now.since(at) > HELD_UP)
    }

    /// Hands over one batch of the packets of a socket; returns their number.
    pub(super) fn some_packets(&mut self, position: usize) -> usize {
        self.receive(position, None).0
    }

    /// Hands over every packet that had arrived at the horizon, from all sockets. Adverts are sent between batches
    /// unless they must wait for received packets; in a flood they do not wait for long.
    pub(super) fn hear(&mut self, horizon: Horizon, adverts_wait: bool) {
        let until = clock::now() + PATIENCE;
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
                    if !adverts_wait || clock::now() > until {
                        self.adverts();
                    }
                }
                if n == 0 || beyond || count >= QUEUE {
                    break;
                }
            }
        }
    }

    /// One read of packets: how many were handed over, and whether one of them arrived after the horizon.
    pub(super) fn receive(&mut self, position: usize, horizon: Option<Horizon>) -> (usize, bool) {
        let Some(mut batch) = self.sockets.batch.take() else {
            return (0, false);
        };
        let mut beyond = false;
        let group = self.sockets.receivers.get(position);
        let overhears = group.is_some_and(|group| group.overhears);
        let received = match group.and_then(|group| group.socket.as_ref()) {
            Some(socket) => socket.receive(&mut batch),
            None => Ok(0),
        };
        let count = received.unwrap_or_else(|e| {
            // ENETDOWN and similar: reported once, and not relevant here.
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
                let packet = if overhears { overheard(&rx, packet) } else { Some(packet) };
                if let Some(packet) = packet {
                    self.handle(now, Event::Advert { rx, packet });
                }
            }
        }
        self.sockets.batch = Some(batch);
        (count, beyond)
    }
}

/// Converts a packet that the kernel has not checked; none if the kernel would have dropped it.
fn overheard<'a>(rx: &Rx, packet: &'a [u8]) -> Option<&'a [u8]> {
    match rx.destination {
        IpAddr::V4(_) => {
            let header = packet.get(..usize::from(packet.first()? & 0x0f) * 4)?;
            (Sum::new().octets(header).finish() == 0).then_some(packet)
        }
        IpAddr::V6(_) => {
            let (header, rest) = packet.split_at_checked(40)?;
            let [first, _, _, _, high, low, ..] = *header else { return None };
            let length = u16::from_be_bytes([high, low]);
            let payload = rest.get(..usize::from(length)).filter(|_| first >> 4 == 6)?;
            let sum = Sum::new()
                .pseudo_header(rx.source, rx.destination, VRRP, u32::from(length))
                .octets(payload);
            (sum.finish() == 0).then_some(payload)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overheard_is_checked_as_the_kernel_does() {
        let rx = |source: &str, destination: &str| Rx {
            interface: crate::base::IfIndex(2),
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            hop_limit: 255,
        };
        let (source, group) = ("10.0.0.1", "224.0.0.18");
        let header = crate::wire::ip::encode(
            1,
            3,
            source.parse().unwrap(),
            group.parse().unwrap(),
            255,
            VRRP,
        );
        let mut packet = [&header[..], &[1, 2, 3]].concat();
        assert_eq!(overheard(&rx(source, group), &packet), Some(&packet[..]));
        packet[8] = 254;
        assert_eq!(overheard(&rx(source, group), &packet), None);
        assert_eq!(overheard(&rx(source, group), &[]), None);
        let v6 = rx("fe80::1", "ff02::12");
        let mut packet = vec![0x6c, 0, 0, 0, 0, 8, 112, 255];
        packet.extend("fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend("ff02::12".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend([0x31, 51, 100, 0, 0, 100, 0, 0]);
        let sum = Sum::new().pseudo_header(v6.source, v6.destination, VRRP, 8);
        let sum = sum.octets(&packet[40..]).finish().to_be_bytes();
        packet[46..48].copy_from_slice(&sum);
        packet.push(0);
        assert_eq!(overheard(&v6, &packet), Some(&packet[40..48]));
        packet[42] = 101;
        assert_eq!(overheard(&v6, &packet), None);
        assert_eq!(overheard(&v6, &packet[..47]), None);
    }

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
        // Set back by ten seconds while the process was stopped: earlier packets seem to be from the future.
        let horizon = clocks.judge(at(3000), wall(42_000));
        assert!(!horizon.is_before(Some(wall(51_000))));
        // From then on they are believed.
        let horizon = clocks.judge(at(4000), wall(43_000));
        assert!(horizon.is_before(Some(wall(43_001))));
        // A clock that shows less than the machine's uptime must not cause a panic.
        let mut clocks = Clocks { origin: origin(at(90_000), wall(1)) };
        assert!(clocks.judge(at(90_001), wall(2)).is_before(Some(wall(3))));
    }
}
