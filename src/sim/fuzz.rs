//! Octets decoded to events of an engine, for fuzzers and property tests.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use super::kernel::Kernel;
use crate::base::{IfIndex, Instant, Prefix};
use crate::model::Vrrp;
use crate::model::sample;
use crate::plan::{Change, Outcome, Token};
use crate::status::{ProcessReport, TrackReport};
use crate::vrrp::{Action, Actions, Engine, Event, Link, RunEnd, RunId, Rx, Snapshot};

/// More actions than any event of such a small configuration can cause.
const MOST: usize = 1000;

/// Passes an engine the events encoded in `data`, in any order, plausible or not, and returns how many of its steps
/// panicked. In every case the steps end and the deadlines advance.
///
/// # Panics
/// If the engine requests too many actions at once, a past deadline, or an invalid advert.
#[must_use]
pub fn vrrp_events(data: &[u8]) -> u64 {
    let mut input = Input(data);
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut engine = Engine::new(now);
    let mut out = Actions::new();
    let names: Vec<_> = ["enp0s8", "enp0s9"].iter().filter_map(|n| n.parse().ok()).collect();
    let kernel = Kernel::new(1, &names);
    let mut asked: Vec<(Token, u32)> = Vec::new();
    let mut runs: Vec<RunId> = Vec::new();
    while let Some(kind) = input.octet() {
        now = now + Duration::from_millis(u64::from(input.octet().unwrap_or(0)) * 8);
        let interface = IfIndex(2 + u32::from(input.octet().unwrap_or(0) % 3));
        let number = input.octet().unwrap_or(0);
        let outcome = match number % 3 {
            0 => Outcome::Done,
            1 => Outcome::Already,
            _ => Outcome::Refused(i32::from(number)),
        };
        let packet;
        let event = match kind % 16 {
            0..=2 => {
                packet = input.packet(number);
                let source = IpAddr::from([10, 0, 2, number]);
                let destination = IpAddr::V4(crate::base::net::VRRP_GROUP_V4);
                let rx = Rx { interface, source, destination, hop_limit: number };
                Event::Advert { rx, packet: &packet }
            }
            3..=5 => Event::Timer,
            6 => Event::Kernel(match number % 3 {
                0 => Snapshot::default(),
                _ => kernel.snapshot(),
            }),
            7 => match kernel.link_at(IfIndex(2 + u32::from(number % 2))) {
                Some(link) => {
                    Event::Link(Link { index: interface, up: number % 4 != 0, ..link.clone() })
                }
                None => Event::Timer,
            },
            8 => Event::LinkGone(interface),
            9 => {
                let prefix = Prefix::new(IpAddr::from([10, 0, 2, number]), 24);
                let prefix = prefix.unwrap_or(Prefix::host(IpAddr::from([10, 0, 2, number])));
                let (present, own) = (kind >= 128, kind % 32 >= 16);
                Event::Object(Change::address(interface, prefix, present, own))
            }
            10 => match asked.pop() {
                Some((token, item)) => Event::Applied { token, item, outcome },
                None => Event::Applied { token: Token(u64::from(number)), item: 0, outcome },
            },
            11 => {
                let group = IpAddr::V4(crate::base::net::VRRP_GROUP_V4);
                Event::Joined { interface, group, outcome }
            }
            12 => {
                let run = runs.pop().unwrap_or(RunId(u64::from(number)));
                let end = match number % 4 {
                    0 | 1 => RunEnd::Exit(i32::from(number % 2)),
                    2 => RunEnd::TimedOut,
                    _ => RunEnd::Signal(9),
                };
                Event::Ran { run, end }
            }
            13 => Event::RunnerReady,
            14 => Event::Reload(Arc::new(configuration(number))),
            15 if number % 8 == 1 => {
                Event::Report(TrackReport::file("f".into(), i32::from(kind) - 128))
            }
            15 if number % 8 == 2 => {
                let report = ProcessReport { name: "p".into(), runs: kind >= 128, count: 1 };
                Event::Report(report.into())
            }
            15 if number % 8 == 0 => Event::Ipvs { works: number >= 128 },
            _ if number == 255 => Event::Stop { keep_addresses: kind >= 128 },
            _ => Event::Resume(engine.summary(now)),
        };
        out.clear();
        let was_timer = matches!(event, Event::Timer);
        engine.handle(now, event, &mut out);
        assert!(out.list().len() < MOST, "{} actions for one event", out.list().len());
        let late = engine.deadline().filter(|due| was_timer && *due <= now);
        assert_eq!(late, None, "a deadline that does not move on");
        for action in out.list() {
            match action {
                Action::Apply { token, ops } => {
                    asked.extend((0..).zip(ops).map(|(item, _)| (*token, item)));
                }
                Action::RunScript { run, .. } => runs.push(*run),
                Action::SendAdvert { source, packet, .. } => {
                    let sent = read_back(*source, out.bytes(packet));
                    assert!(sent.is_some(), "an advert that cannot be decoded");
                }
                _ => {}
            }
        }
    }
    engine.failures()
}

/// The priority of an advert that was sent.
fn read_back(source: IpAddr, packet: &[u8]) -> Option<u8> {
    let family = crate::base::Family::of(&source);
    let payload = match family {
        crate::base::Family::V4 => crate::wire::ip::decode(packet).ok()?.1,
        crate::base::Family::V6 => packet,
    };
    crate::wire::vrrp::decode(payload, family).ok().map(|advert| advert.priority)
}

/// One of a few configurations with something of everything.
fn configuration(number: u8) -> Vrrp {
    let mut config =
        if number.is_multiple_of(2) { sample::nat(100) } else { sample::failover(200) };
    if number & 4 != 0 {
        config.scripts.push(sample::script("chk", 1, 2));
        for instance in &mut config.instances {
            sample::track(instance, "chk", i16::from(number & 8));
        }
    }
    if number & 16 != 0 {
        config.instances.reverse();
    }
    if number & 3 == 3 {
        config.instances.push(sample::instance("six", "enp0s9", 93, 150, &["fe80::100/64"]));
    }
    if number & 32 != 0 {
        config.instances.pop();
        config.groups.clear();
    }
    for instance in &mut config.instances {
        instance.garp.interval = Duration::from_millis(u64::from(number & 64));
        if number & 128 != 0 {
            instance.name = format!("renamed {}", instance.name).into();
        }
    }
    if number & 128 != 0 {
        config.groups.clear();
    }
    config
}

/// Octets that are consumed one by one.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A packet: random octets, or an advert that is valid except for one octet.
    fn packet(&mut self, number: u8) -> Vec<u8> {
        if number.is_multiple_of(8) {
            let length = usize::from(self.octet().unwrap_or(0)).min(self.0.len());
            let (packet, rest) = self.0.split_at(length);
            self.0 = rest;
            return packet.to_vec();
        }
        let address = IpAddr::from([10, 0, 2, 100]);
        let mut payload = Vec::new();
        crate::wire::vrrp::encode(
            &crate::wire::vrrp::Content {
                version: 2,
                vrid: 41,
                priority: number,
                interval: Duration::from_secs(1),
                auth: Some(crate::wire::vrrp::Auth { kind: 1, data: *b"1066\0\0\0\0" }),
                addresses: &[address],
                family: crate::base::Family::V4,
                pseudo: None,
            },
            &mut payload,
        );
        let length = u16::try_from(payload.len()).unwrap_or(0);
        let (from, to) = ([10, 0, 2, number].into(), crate::base::net::VRRP_GROUP_V4);
        let mut packet = crate::wire::ip::encode(1, length, from, to, 255, 112).to_vec();
        packet.extend(payload);
        let place = usize::from(self.octet().unwrap_or(0));
        if let Some(octet) = packet.get_mut(place) {
            *octet = self.octet().unwrap_or(0);
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_order_of_events_fails(data in prop::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(vrrp_events(&data), 0);
        }
    }
}
