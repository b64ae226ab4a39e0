//! Event lists: inputs of one engine, and the actions it requests.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::{Family, Mac, Prefix};
use crate::model::sample::{self, failover};
use crate::model::vrrp::{Authentication, Preempt, Priority, Version, Vrid};
use crate::model::{Vrrp, Weight};
use crate::plan::{Change, Op, Outcome, Sight, Token, Verb};
use crate::status::Notice;
use crate::status::vrrp::{Counters, State};
use crate::wire::{ip, vrrp as wire};

mod addresses;
mod adverts;
mod announcements;
mod budget;
mod causes;
mod fifos;
mod filters;
mod groups;
mod health;
mod interfaces;
mod jobs;
mod limits;
mod lines;
mod log;
mod peers;
mod reload;
mod routes;
mod rules;
mod sequences;
mod stalled;
mod sync;
mod trackers;
mod unicast;
mod vmac;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const ETH: IfIndex = IfIndex(2);
const OTHER: IfIndex = IfIndex(3);
const PEER: [u8; 4] = [10, 0, 2, 72];

/// An engine on a host with two links, a clock, and a kernel that carries out every request.
struct Host {
    engine: Engine,
    now: Instant,
    out: Actions,
    /// Whether each `Apply` is answered at once with success.
    obedient: bool,
    /// All actions since the last look.
    seen: Vec<Action>,
    packets: Vec<Vec<u8>>,
    /// Lines of the log, from informational ones on.
    log: Vec<lines::Line>,
}

impl Host {
    /// A host whose own address is 10.0.2.71, running this configuration.
    fn new(config: Vrrp) -> Self {
        let mut host = Self::off();
        host.event(Event::Reload(Arc::new(config)));
        host.event(Event::Kernel(host.kernel()));
        host
    }

    fn off() -> Self {
        let now = Instant::from_nanos(5_000_000_000);
        Self {
            engine: Engine::new(now),
            now,
            out: Actions::new(),
            obedient: true,
            seen: Vec::new(),
            packets: Vec::new(),
            log: Vec::new(),
        }
    }

    /// The failover scenario as seen by the primary, already master.
    fn master() -> Self {
        let mut host = Self::new(failover(200));
        host.pass(10 * SECOND);
        assert_eq!(host.state(), State::Master);
        host.look();
        host
    }

    /// The failover scenario as seen by the backup, with a master that was heard just now.
    fn backup() -> Self {
        let mut host = Self::new(failover(100));
        host.hear(PEER, 200);
        host.look();
        host
    }

    fn kernel(&self) -> Snapshot {
        Snapshot {
            links: vec![link(ETH, "enp0s8", true), link(OTHER, "enp0s9", true)],
            objects: vec![
                Sight::address(ETH, prefix("10.0.2.71/24")),
                Sight::address(OTHER, prefix("10.0.3.71/24")),
            ],
            ..Snapshot::default()
        }
    }

    fn event(&mut self, event: Event<'_>) {
        self.out.clear();
        let (engine, now, out) = (&mut self.engine, self.now, &mut self.out);
        let ((), lines) = lines::during(|| engine.handle(now, event, out));
        self.log.extend(lines);
        let out = std::mem::take(&mut self.out);
        for action in out.list() {
            if let Action::SendAdvert { packet, .. } = action {
                self.packets.push(out.bytes(packet).to_vec());
            }
        }
        self.seen.extend(out.list().iter().cloned());
        for action in out.list() {
            if let (Action::Apply { token, ops }, true) = (action, self.obedient) {
                for item in 0..u32::try_from(ops.len()).unwrap() {
                    self.event(Event::Applied { token: *token, item, outcome: Outcome::Done });
                }
            }
        }
    }

    /// Lets time pass, timers included.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.deadline().filter(|at| *at <= end) {
            self.now = at;
            self.event(Event::Timer);
        }
        self.now = end;
    }

    /// A valid advert from a router with the same configuration except for the priority.
    fn hear(&mut self, from: [u8; 4], priority: u8) {
        let packet = advert(from, |content| content.priority = priority);
        self.receive(from, &packet);
    }

    fn receive(&mut self, from: [u8; 4], packet: &[u8]) {
        let (source, destination) = (from.into(), IpAddr::from([224, 0, 0, 18]));
        let rx = Rx { interface: ETH, source, destination, hop_limit: 0 };
        self.event(Event::Advert { rx, packet });
    }

    fn state(&self) -> State {
        self.engine.view(self.now).instances[0].state
    }

    fn counters(&self) -> Counters {
        self.engine.view(self.now).instances[0].counters
    }

    /// The actions since the last look.
    fn look(&mut self) -> Vec<Action> {
        self.packets.clear();
        std::mem::take(&mut self.seen)
    }

    /// The priorities of the adverts sent since the last look.
    fn priorities(&mut self) -> Vec<u8> {
        let packets = std::mem::take(&mut self.packets);
        packets.iter().map(|p| p[ip::HEADER + 2]).collect()
    }

    fn notices(&self) -> Vec<Notice> {
        let notices = self.seen.iter().filter_map(|a| match a {
            Action::Notify(notice) => Some(notice.clone()),
            _ => None,
        });
        notices.collect()
    }

    fn announced(&self) -> Vec<String> {
        self.notices().iter().map(|n| n.line.to_string()).collect()
    }

    /// Gratuitous frames by address.
    fn frames(&self) -> Vec<(IpAddr, u32)> {
        let frames = self.seen.iter().filter_map(|a| match a {
            Action::SendGarp { address, count, .. } => Some((*address, *count)),
            _ => None,
        });
        frames.collect()
    }

    /// Changes requested from the kernel: `+10.0.2.100/24`, `-...`; `=` for other attributes; routes in words.
    fn ops(&self) -> Vec<String> {
        let mut all = Vec::new();
        for action in &self.seen {
            if let Action::Apply { ops, .. } = action {
                all.extend(ops.iter().map(|op| {
                    let sign = match op.verb {
                        Verb::Add => '+',
                        Verb::Replace { .. } => '=',
                        Verb::Delete { .. } => '-',
                    };
                    match op.object.address() {
                        Some(address) => format!("{sign}{}", address.prefix),
                        None => format!("{sign}{}", op.object),
                    }
                }));
            }
        }
        all
    }

    /// A master hears a better one, which leaves before the kernel has answered: it is master again. Returns the request
    /// that is open.
    fn leave_and_return(&mut self) -> Token {
        self.obedient = false;
        self.look();
        self.hear(PEER, 250);
        let (token, _) = self.apply();
        self.hear(PEER, 0);
        while self.state() != State::Master {
            self.pass(MS);
        }
        token
    }

    fn apply(&self) -> (Token, Vec<Op>) {
        let found = self.seen.iter().rev().find_map(|a| match a {
            Action::Apply { token, ops } => Some((*token, ops.clone())),
            _ => None,
        });
        found.expect("something is asked of the kernel")
    }
}

fn link(index: IfIndex, name: &str, up: bool) -> Link {
    let octet = u8::try_from(index.0).unwrap();
    Link {
        index,
        name: name.parse().unwrap(),
        up,
        arp: true,
        mac: Mac([2, 0, 0, 0, octet, 1]),
        mtu: 1500,
        settings: crate::plan::Settings::default(),
        vrf: None,
    }
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

/// An advert of the failover scenario, modified by `change`.
fn advert(from: [u8; 4], change: impl FnOnce(&mut wire::Content<'_>)) -> Vec<u8> {
    let addresses = [IpAddr::from([10, 0, 2, 100])];
    advert_of(from, &addresses, change)
}

fn advert_of(
    from: [u8; 4],
    addresses: &[IpAddr],
    change: impl FnOnce(&mut wire::Content<'_>),
) -> Vec<u8> {
    let mut content = wire::Content {
        version: 2,
        vrid: 41,
        priority: 200,
        interval: SECOND,
        auth: Some(wire::Auth { kind: 1, data: *b"1066\0\0\0\0" }),
        addresses,
        family: Family::V4,
        pseudo: None,
    };
    change(&mut content);
    if content.version == 3 {
        content.pseudo = Some((from.into(), [224, 0, 0, 18].into()));
    }
    let mut payload = Vec::new();
    wire::encode(&content, &mut payload);
    packet(from, &payload)
}

fn packet(from: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let to = Ipv4Addr::new(224, 0, 0, 18);
    let mut packet = ip::encode(1, length, from.into(), to, 255, ip::VRRP).to_vec();
    packet.extend(payload);
    packet
}
