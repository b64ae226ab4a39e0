//! Packets that are wrong in one thing, or in everything: none may move an address or end a process.

use std::net::Ipv4Addr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Daemon};
use crate::lab::inject::{Forged, Forged6, Injector, ethernet};
use crate::lab::node::Node;
use crate::lab::timeline::Wall;
use crate::lab::{After, Lab, Res, Stop, late};
use crate::scenario::{FAILOVER, LAN, Pair, each_second, steady};
use crate::{cases, check};

cases![Here:
    a_valid_advert_of_a_stranger_takes_the_address,
    adverts_that_are_wrong_in_one_thing_move_nothing,
    what_is_dropped_is_counted_by_reason,
    adverts_over_ipv6_that_are_wrong_move_nothing,
    random_packets_move_nothing,
    a_flood_of_packets_moves_nothing,
    a_flood_of_valid_adverts_ends_nothing_and_holds_up_nobody,
    so_it_is_with_many_addresses,
    so_it_is_with_real_time_priority,
    so_it_is_with_many_addresses_and_real_time_priority,
];

const VIP: &str = "10.0.0.100";

/// The scenario with a third, hostile machine.
struct Attack {
    pair: Pair,
    daemons: [Daemon; 2],
    injector: Injector,
}

impl Attack {
    fn new(lab: &mut Lab) -> Res<Self> {
        let pair = Pair::new(lab)?;
        let attacker: Node = lab.node("attacker")?;
        lab.plug(&attacker, "lan", LAN, &["10.0.0.66/24"])?;
        let injector = Injector::new(&attacker, LAN)?;
        let daemons = pair.start(&lab.subject, FAILOVER)?;
        lab.always().some_adverts(&pair.svr1, 2)?;
        Ok(Self { pair, daemons, injector })
    }

    /// Sends the frames after each of some adverts of the primary; they must have no effect.
    fn survives(&self, lab: &Lab, frames: impl Fn(usize) -> Vec<Vec<u8>>, rounds: usize) -> Res {
        let pair = &self.pair;
        let mark = lab.mark();
        let later = lab.after(mark);
        for round in 0..rounds {
            self.injector.send(frames(round))?;
            later.some_adverts(&pair.svr1, round + 1)?;
        }
        // If one of the packets had counted, a router would have yielded or taken over by then.
        later.some_adverts(&pair.svr1, rounds + 4)?;
        // Reading wrong packets does not delay the primary's own adverts.
        each_second(&later.adverts(&pair.svr1))?;
        for node in [&pair.svr1, &pair.svr2] {
            let moved: Vec<_> =
                later.kernel(node).into_iter().filter(|text| text.contains(VIP)).collect();
            check!(moved.is_empty(), "{}: {moved:?}", node.name);
        }
        check!(later.adverts(&pair.svr2).is_empty(), "the backup took over");
        check!(pair.svr1.has(LAN, "10.0.0.100/24")?, "{}", pair.svr1.addresses(LAN)?);
        for daemon in &self.daemons {
            check!(!daemon.processes().is_empty(), "{} ended", daemon.node.name);
            let restarted = later.logs(&daemon.node, "Starting");
            check!(restarted.is_empty(), "a process was replaced: {restarted:?}");
        }
        Ok(())
    }
}

/// The test of the tests: a completely valid packet has an effect.
fn a_valid_advert_of_a_stranger_takes_the_address(lab: &mut Lab) -> Res {
    let attack = Attack::new(lab)?;
    let mark = lab.mark();
    attack.injector.send(vec![Forged::default().frame()])?;
    let later = lab.after(mark);
    later.address(&attack.pair.svr1, VIP, false)?;
    later.log(
        &attack.pair.svr1,
        "(VRRP1) Master received advert from 10.0.0.66 with higher priority 254, ours 200",
    )?;
    later.log(&attack.pair.svr1, "(VRRP1) Entering BACKUP STATE")?;
    // It stops sending: the primary has the address again.
    later.address(&attack.pair.svr1, VIP, true)?;
    Ok(())
}

fn adverts_that_are_wrong_in_one_thing_move_nothing(lab: &mut Lab) -> Res {
    let attack = Attack::new(lab)?;
    let good = Forged::default;
    let right = good().payload().len();
    let addresses = |count: u8| (1..=count).map(|last| [10, 0, 7, last].into()).collect();
    let wrong = [
        Forged { ttl: 254, ..good() },
        Forged { ttl: 1, ..good() },
        Forged { ttl: 0, ..good() },
        // Versions 1 and 3, types 0 and 2.
        Forged { kind: 0x11, ..good() },
        Forged { kind: 0x31, ..good() },
        Forged { kind: 0x20, ..good() },
        Forged { kind: 0x22, ..good() },
        Forged { kind: 0xff, ..good() },
        Forged { vrid: 42, ..good() },
        Forged { vrid: 0, ..good() },
        Forged { checksum_error: 1, ..good() },
        Forged { checksum_error: 0x8000, ..good() },
        // No authentication, AH, an unknown kind.
        Forged { auth_type: 0, ..good() },
        Forged { auth_type: 2, ..good() },
        Forged { auth_type: 77, ..good() },
        Forged { password: b"1067\0\0\0\0".to_vec(), ..good() },
        Forged { password: b"1066\0\0\0\x01".to_vec(), ..good() },
        Forged { password: vec![0; 8], ..good() },
        Forged { password: Vec::new(), ..good() },
        Forged { interval: 2, ..good() },
        Forged { interval: 0, ..good() },
        // More or fewer addresses than counted.
        Forged { count: 0, ..good() },
        Forged { count: 2, ..good() },
        Forged { count: 255, ..good() },
        Forged { count: 0, addresses: Vec::new(), keep: 8, ..good() },
        Forged { count: 1, addresses: addresses(20), ..good() },
        Forged { password: vec![b'1'; 1000], ..good() },
        // Truncated at different places; the IP header is consistent.
        Forged { keep: 0, ..good() },
        Forged { keep: 1, ..good() },
        Forged { keep: 7, ..good() },
        Forged { keep: 8, ..good() },
        Forged { keep: right - 8, ..good() },
        Forged { keep: right - 1, ..good() },
        // The IP header is inconsistent.
        Forged { length_error: -1, ..good() },
        Forged { length_error: -8, ..good() },
        Forged { length_error: -20, ..good() },
        Forged { length_error: 4, ..good() },
        Forged { length_error: 4, trailer: vec![0; 4], ..good() },
        // First and second fragment of an incomplete packet.
        Forged { fragment: 0x2000, ..good() },
        Forged { fragment: 0x0001, ..good() },
        // To another group, with another protocol.
        Forged { target: [224, 0, 0, 19].into(), ..good() },
        Forged { protocol: 51, ..good() },
        Forged { protocol: 2, ..good() },
    ];
    let frames: Vec<Vec<u8>> = wrong.iter().map(Forged::frame).collect();
    // The same again as a farewell and with equal priority.
    let others = wrong
        .iter()
        .flat_map(|forged| [0, 200].map(|priority| Forged { priority, ..forged.clone() }.frame()));
    let all: Vec<Vec<u8>> = frames.into_iter().chain(others).collect();
    let mark = lab.mark();
    attack.survives(lab, |_| all.clone(), 3)?;
    steady(lab, mark, &attack.pair.svr1, 3)?;
    lab.subject.ours_only("it accepts adverts with other addresses than its own")?;
    let more = Forged { count: 2, addresses: addresses(2), ..good() };
    let none = Forged { count: 0, addresses: Vec::new(), ..good() };
    attack.survives(lab, |_| vec![more.frame(), none.frame()], 3)
}

fn what_is_dropped_is_counted_by_reason(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it writes a file on this signal")?;
    let attack = Attack::new(lab)?;
    let good = Forged::default;
    let right = good().payload().len();
    let router_alert = vec![0x94, 4, 0, 0];
    let wrong = [
        Forged { ttl: 254, ..good() },
        Forged { kind: 0x31, ..good() },
        Forged { kind: 0x22, ..good() },
        Forged { checksum_error: 1, ..good() },
        // With options the header is longer, and its content is found nevertheless.
        Forged { checksum_error: 1, options: router_alert.clone(), ..good() },
        Forged { keep: right - 1, ..good() },
        Forged { auth_type: 77, ..good() },
        Forged { auth_type: 0, ..good() },
        Forged { password: b"1067\0\0\0\0".to_vec(), ..good() },
        Forged { interval: 2, ..good() },
        Forged { ttl: 1, options: router_alert, ..good() },
        Forged { vrid: 42, ..good() },
        Forged { keep: 0, ..good() },
        Forged {
            count: 2,
            addresses: vec![[10, 0, 0, 100].into(), [10, 0, 0, 101].into()],
            ..good()
        },
    ];
    let mark = lab.mark();
    attack.survives(lab, |_| wrong.iter().map(Forged::frame).collect(), 1)?;
    let dropped = "dropped: wrong TTL 2, wrong version 1, wrong type 1, wrong checksum 2, \
                   wrong length 1, unknown authentication 1, other authentication 1, \
                   wrong password 1, wrong address count 1, wrong interval 1";
    let later = lab.after(mark);
    for (daemon, became) in attack.daemons.iter().zip([1, 0]) {
        daemon.signal(Signal::SIGUSR2)?;
        let (_, line) = later.log(&daemon.node, "(VRRP1) statistics: adverts received")?;
        check!(line.ends_with(dropped), "{line}");
        check!(line.contains(&format!("; became master {became}, ")), "{line}");
        later.log(&daemon.node, "statistics: packets for unknown VRIDs 2, malformed packets 0")?;
    }
    Ok(())
}

fn adverts_over_ipv6_that_are_wrong_move_nothing(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it writes a file on this signal")?;
    lab.segment("lan")?;
    let (node, attacker) = (lab.node("svr1")?, lab.node("attacker")?);
    lab.plug(&attacker, "lan", LAN, &["10.0.0.66/24"])?;
    lab.plug(&node, "lan", LAN, &["10.0.0.71/24"])?;
    node.sysctl("net.ipv6.conf.enp0s8.addr_gen_mode", "1")?;
    node.sysctl("net.ipv6.conf.enp0s8.disable_ipv6", "0")?;
    node.ip("addr add fe80::71/64 dev enp0s8 nodad\n")?;
    let text = "vrrp_instance VRRP1 {\n interface enp0s8\n state MASTER\n priority 200\n version 3\n \
                virtual_router_id 41\n virtual_ipaddress {\n  fe80::100/64\n }\n}\n";
    node.write(CONF, text, 0o644)?;
    let daemon = lab.subject.start(&node)?;
    lab.always().some_adverts(&node, 2)?;
    let injector = Injector::new(&attacker, LAN)?;
    let good = Forged6::default;
    // Eight octets of padding options; the first and only fragment of a packet.
    let (padding, fragment) = (vec![112, 0, 1, 4, 0, 0, 0, 0], vec![112, 0, 0, 0, 0, 0, 0, 9]);
    let wrong = [
        Forged6 { hop_limit: 254, ..good() },
        Forged6 { hop_limit: 1, extension: Some((0, padding.clone())), ..good() },
        Forged6 { kind: 0x21, ..good() },
        Forged6 { kind: 0x32, ..good() },
        Forged6 { checksum_error: 1, ..good() },
        Forged6 { checksum_error: 1, extension: Some((0, padding.clone())), ..good() },
        Forged6 { checksum_error: 1, extension: Some((44, fragment)), ..good() },
        Forged6 { count: 2, ..good() },
        Forged6 { count: 0, keep: 8, ..good() },
        Forged6 { keep: 7, ..good() },
        Forged6 { keep: 23, ..good() },
        Forged6 { keep: 1, ..good() },
        Forged6 { vrid: 42, ..good() },
        Forged6 { keep: 0, ..good() },
    ];
    let mark = lab.mark();
    let later = lab.after(mark);
    injector.send(wrong.iter().map(Forged6::frame).collect())?;
    later.some_adverts(&node, 4)?;
    let moved: Vec<_> =
        later.kernel(&node).into_iter().filter(|text| text.contains("fe80::100")).collect();
    check!(moved.is_empty(), "{moved:?}");
    daemon.signal(Signal::SIGUSR2)?;
    let (_, line) = later.log(&node, "(VRRP1) statistics: adverts received 0, ")?;
    let dropped = "dropped: wrong TTL 2, wrong version 1, wrong type 1, wrong checksum 3, \
                   wrong length 3, wrong address count 1";
    check!(line.ends_with(dropped), "{line}");
    later.log(&node, "statistics: packets for unknown VRIDs 3, ")?;
    // The test of the test: after an extension header a valid one counts.
    injector.send(vec![Forged6 { extension: Some((0, padding)), ..good() }.frame()])?;
    later.log(&node, "(VRRP1) Entering BACKUP STATE")?;
    Ok(())
}

fn random_packets_move_nothing(lab: &mut Lab) -> Res {
    let attack = Attack::new(lab)?;
    let frames = |round: usize| {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ round as u64);
        let mut frames = Vec::new();
        for _ in 0..1500 {
            frames.push(match random.below(3) {
                // Random octets in a packet of protocol 112.
                0 => {
                    let mut forged = Forged { trailer: random.up_to(100), ..Forged::default() };
                    forged.password = random.up_to(1400);
                    forged.count = random.below(256) as u8;
                    forged.kind = random.below(256) as u8;
                    forged.keep = random.below(1400);
                    // The correct checksum would make some of them valid adverts.
                    forged.checksum_error = 0x55;
                    forged.frame()
                }
                // A valid advert with some flipped bits, but never in the checksum, which then is wrong.
                1 => {
                    let mut frame = Forged::default().frame();
                    let at = 34 + random.below(6);
                    frame[at] ^= 1 << random.below(8);
                    frame
                }
                // Anything after an IP header.
                _ => {
                    let mut packet = Forged::default().frame().split_off(14);
                    packet.truncate(20);
                    packet.extend(random.up_to(1400));
                    ethernet([224, 0, 0, 18].into(), &packet)
                }
            });
        }
        frames
    };
    attack.survives(lab, frames, 5)
}

fn a_flood_of_packets_moves_nothing(lab: &mut Lab) -> Res {
    let attack = Attack::new(lab)?;
    // Wrong checksums: each packet has to be read to be refused. As many as the socket accepts.
    let bad = Forged { checksum_error: 7, ..Forged::default() }.frame();
    attack.survives(lab, |_| vec![bad.clone(); 30_000], 4)
}

fn a_flood_of_valid_adverts_ends_nothing_and_holds_up_nobody(lab: &mut Lab) -> Res {
    flooded(lab, 1, "")
}

fn so_it_is_with_many_addresses(lab: &mut Lab) -> Res {
    flooded(lab, 51, "")
}

fn so_it_is_with_real_time_priority(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its threads have other names")?;
    flooded(lab, 1, "vrrp_rt_priority 50")
}

fn so_it_is_with_many_addresses_and_real_time_priority(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its threads have other names")?;
    flooded(lab, 51, "vrrp_rt_priority 50")
}

/// One instance with this many addresses receives valid adverts of lower priority as fast as they can be sent; another
/// one, on the same machine, advertises every tenth of a second.
fn flooded(lab: &mut Lab, addresses: u8, global: &str) -> Res {
    const FLOOD: Duration = Duration::from_secs(4);
    lab.segment("lan")?;
    let (node, attacker) = (lab.node("svr1")?, lab.node("attacker")?);
    lab.plug(&node, "lan", LAN, &["10.0.0.71/24"])?;
    lab.plug(&attacker, "lan", LAN, &["10.0.0.66/24"])?;
    let vips: Vec<Ipv4Addr> = core::iter::once([10, 0, 0, 100].into())
        .chain((1..addresses).map(|last| [10, 0, 1, last].into()))
        .collect();
    let list: String = vips.iter().map(|vip| format!("  {vip}/24\n")).collect();
    let text = format!(
        "global_defs {{\n {global}\n}}\n\
         vrrp_instance VRRP1 {{\n interface enp0s8\n state MASTER\n priority 200\n \
         virtual_router_id 41\n advert_int 1\n authentication {{\n  auth_type PASS\n  \
         auth_pass 1066\n }}\n virtual_ipaddress {{\n{list} }}\n}}\n\
         vrrp_instance VRRP2 {{\n interface enp0s8\n state MASTER\n priority 200\n version 3\n \
         virtual_router_id 42\n advert_int 0.1\n virtual_ipaddress {{\n  10.0.0.101/24\n }}\n}}\n"
    );
    node.write(CONF, &text, 0o644)?;
    let daemon = lab.subject.start(&node)?;
    lab.always().log(&node, "(VRRP1) Entering MASTER STATE")?;
    lab.always().log(&node, "(VRRP2) Entering MASTER STATE")?;
    let before = daemon.processes();
    if !global.is_empty() && !before.iter().any(|pid| is_real_time(*pid, 50)) {
        return Err(Stop::Skip("real-time priority is not available here".into()));
    }
    let injector = Injector::new(&attacker, LAN)?;
    let forged = Forged { priority: 100, count: addresses, addresses: vips, ..Forged::default() };
    let frame = forged.frame();
    let (mark, begin) = (lab.mark(), Wall::now());
    let sent = injector.flood(frame, FLOOD)?;
    let end = Wall::now();
    let late = late::between(begin, end);
    let later = lab.after(mark);
    lab.note(format!("{sent} adverts, a bare timer was late by {late} ms"));
    check!(daemon.processes() == before, "{before:?} became {:?}", daemon.processes());
    let restarted = later.logs(&node, "Starting");
    check!(restarted.is_empty(), "a process was replaced: {restarted:?}");
    // A backup of it would not have taken over.
    let of_other = |later: &After<'_>| -> Vec<Wall> {
        let all = later.adverts(&node).into_iter();
        all.filter(|(_, advert)| advert.vrid() == 42).map(|(at, _)| at).collect()
    };
    // The recorder has to process the flood, too.
    later.advert_after(&node, end, |advert| advert.vrid() == 42)?;
    let times: Vec<Wall> = of_other(&later).into_iter().filter(|at| *at <= end).collect();
    check!(times.len() >= 2, "{} adverts of VRRP2", times.len());
    for two in times.windows(2) {
        let gap = two[1].millis_since(two[0]);
        check!(gap < 300.0 + late, "VRRP2 was silent for {gap} ms, a bare timer late by {late} ms");
    }
    let due = FLOOD.as_millis() as f64 / 100.0;
    let lost = (late / 100.0).ceil();
    check!(times.len() as f64 >= 0.9 * due - lost, "{} of {due} adverts of VRRP2", times.len());
    // The flood was received and answered.
    let answered = "(VRRP1) Received advert from 10.0.0.66 with lower priority 100, ours 200";
    later.log(&node, answered)?;
    // A few lines, however many adverts there were, and nothing else about them.
    if lab.subject.ours_only("its log lines are others").is_ok() {
        let (lines, all) = (later.logs(&node, answered).len(), later.logs(&node, "").len());
        check!(lines == 5, "{lines} lines about {sent} adverts");
        check!(all < 20, "{all} lines: {:?}", later.logs(&node, ""));
    }
    // Afterwards everything is as before.
    lab.after(lab.mark()).some_adverts(&node, 12)?;
    check!(node.has(LAN, "10.0.0.100/24")?, "{}", node.addresses(LAN)?);
    Ok(())
}

/// Whether a thread of a process runs with this real-time priority.
fn is_real_time(pid: u32, priority: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The 40th field, counted after the name in parentheses, which may contain anything.
        let behind = stat.rsplit(')').next().unwrap_or_default();
        behind.split_whitespace().nth(37).is_some_and(|field| field == priority.to_string())
    })
}

/// A generator whose sequence is the same in every run (splitmix64).
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Random octets, fewer than the bound.
    fn up_to(&mut self, bound: usize) -> Vec<u8> {
        (0..self.below(bound)).map(|_| self.next() as u8).collect()
    }
}
