//! One segment shared with Debian's keepalived: each takes over from the other in both roles, and the packets for the
//! same configuration are identical, octet by octet.

use std::net::{Ipv4Addr, Ipv6Addr};

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Daemon, Program};
use crate::lab::frame::{Advert, Frame};
use crate::lab::node::Node;
use crate::lab::timeline::{Wall, What};
use crate::lab::{Lab, Res};
use crate::scenario::{FAILOVER, LAN, Pair, soon, steady, within};
use crate::{cases, check};

cases![Here:
    it_takes_over_from_keepalived_and_gives_back,
    keepalived_takes_over_from_it_and_gives_back,
    a_higher_address_decides_between_equals,
    version_three_is_understood_both_ways,
    the_packets_of_version_two_are_the_same,
    the_packets_of_version_three_are_the_same,
    the_packets_over_ipv6_are_the_same,
    the_announcements_are_the_same,
];

const VIP: &str = "10.0.0.100";

fn it_takes_over_from_keepalived_and_gives_back(lab: &mut Lab) -> Res {
    let (keepalived, subject) = (Program::keepalived()?, lab.subject.clone());
    both_ways(lab, &keepalived, &subject, FAILOVER)
}

fn keepalived_takes_over_from_it_and_gives_back(lab: &mut Lab) -> Res {
    let (keepalived, subject) = (Program::keepalived()?, lab.subject.clone());
    both_ways(lab, &subject, &keepalived, FAILOVER)
}

fn version_three_is_understood_both_ways(lab: &mut Lab) -> Res {
    let keepalived = Program::keepalived()?;
    let subject = lab.subject.clone();
    let texts = FAILOVER.map(|text| {
        let text = text.replace("advert_int 1", "advert_int 0.3\n version 3");
        without_authentication(&text)
    });
    both_ways(lab, &keepalived, &subject, [&texts[0], &texts[1]])
}

/// The primary runs one program, the backup the other: a crash, a return, a clean stop.
pub fn both_ways(lab: &mut Lab, first: &Program, second: &Program, texts: [&str; 2]) -> Res {
    let pair = Pair::new(lab)?;
    pair.svr1.write(CONF, texts[0], 0o644)?;
    pair.svr2.write(CONF, texts[1], 0o644)?;
    let primary = first.start(&pair.svr1)?;
    second.start(&pair.svr2)?;
    lab.always().address(&pair.svr1, VIP, true)?;
    lab.always().some_adverts(&pair.svr1, 3)?;
    check!(lab.always().adverts(&pair.svr2).is_empty(), "the backup sent adverts");

    lab.note("the primary crashes");
    let mark = lab.mark();
    primary.crash()?;
    lab.after(mark).address(&pair.svr2, VIP, true)?;
    lab.after(mark).some_garps(&pair.svr2, VIP.parse()?, 5)?;

    lab.note("the primary returns");
    let mark = lab.mark();
    let primary = first.start(&pair.svr1)?;
    let later = lab.after(mark);
    later.address(&pair.svr2, VIP, false)?;
    later.some_garps(&pair.svr1, VIP.parse()?, 5)?;
    let mark = lab.mark();
    lab.after(mark).some_adverts(&pair.svr1, 4)?;
    check!(lab.after(mark).adverts(&pair.svr2).is_empty(), "two masters");

    lab.note("the primary stops");
    let mark = lab.mark();
    primary.signal(Signal::SIGTERM)?;
    let later = lab.after(mark);
    let (farewell, _) = later.advert(&pair.svr1, |advert| advert.priority() == 0)?;
    let (taken, _) = later.advert(&pair.svr2, |_| true)?;
    soon(farewell, taken, 1_500.0)?;
    later.address(&pair.svr2, VIP, true)?;
    Ok(())
}

fn a_higher_address_decides_between_equals(lab: &mut Lab) -> Res {
    let (keepalived, subject) = (Program::keepalived()?, lab.subject.clone());
    let pair = Pair::new(lab)?;
    // 10.0.0.72 is the higher address; each program has it once.
    for programs in [[&subject, &keepalived], [&keepalived, &subject]] {
        let mark = lab.mark();
        let mut daemons = Vec::new();
        for (program, node) in programs.into_iter().zip([&pair.svr1, &pair.svr2]) {
            node.write(CONF, FAILOVER[1], 0o644)?;
            // Both become master if they do not receive each other's adverts.
            daemons.push(program.start(node)?);
            pair.cables[0].block()?;
        }
        lab.after(mark).address(&pair.svr1, VIP, true)?;
        lab.after(mark).address(&pair.svr2, VIP, true)?;
        let joined = lab.mark();
        pair.cables[0].unblock()?;
        let later = lab.after(joined);
        later.address(&pair.svr1, VIP, false)?;
        later.log(&pair.svr1, "(VRRP1) Entering BACKUP STATE")?;
        steady(lab, lab.mark(), &pair.svr2, 3)?;
        check!(pair.svr2.has(LAN, "10.0.0.100/24")?, "{}", pair.svr2.addresses(LAN)?);
        for daemon in daemons {
            daemon.stop()?;
        }
    }
    Ok(())
}

fn the_packets_of_version_two_are_the_same(lab: &mut Lab) -> Res {
    let plain = without_authentication(FAILOVER[0]);
    let many: String = (1..=20).map(|last| format!("10.0.1.{last}/24\n")).collect();
    same_packets(
        lab,
        &[
            FAILOVER[0],
            FAILOVER[1],
            &plain,
            &FAILOVER[0].replace("auth_pass 1066", "auth_pass longer-than-eight"),
            &FAILOVER[0].replace("auth_pass 1066", "auth_pass 12345678"),
            &within(&plain, "virtual_ipaddress {", &many),
            &FAILOVER[0]
                .replace("priority 200", "priority 255")
                .replace("advert_int 1", "advert_int 2"),
            &format!(
                "{}\n",
                plain.replace(
                    "virtual_ipaddress {",
                    "virtual_ipaddress_excluded {\n10.0.9.9\n}\nvirtual_ipaddress {"
                )
            ),
        ],
    )
}

fn the_packets_of_version_three_are_the_same(lab: &mut Lab) -> Res {
    let plain =
        without_authentication(FAILOVER[0]).replace("advert_int 1", "version 3\n advert_int 1");
    same_packets(
        lab,
        &[
            &plain,
            &plain.replace("advert_int 1", "advert_int 0.1"),
            &plain.replace("advert_int 1", "advert_int 0.01"),
            &plain.replace("advert_int 1", "advert_int 2.55"),
            &within(&plain, "virtual_ipaddress {", "10.0.0.101/24 dev enp0s8 scope link"),
        ],
    )
}

fn the_packets_over_ipv6_are_the_same(lab: &mut Lab) -> Res {
    let plain = without_authentication(FAILOVER[0])
        .replace("advert_int 1", "version 3\n advert_int 1")
        .replace("10.0.0.100/24", "fe80::100/64\n2001:db8::100/64");
    same_packets(lab, &[&plain, &plain.replace("advert_int 1", "advert_int 0.2")])
}

/// Runs keepalived and the program under test on machines with the same addresses in segments of their own and compares
/// the first adverts.
pub fn same_packets(lab: &mut Lab, texts: &[&str]) -> Res {
    let keepalived = Program::keepalived()?;
    for group in texts.chunks(4) {
        let mut pairs = Vec::new();
        for (at, text) in group.iter().enumerate() {
            let theirs = alone(lab, &format!("ka{at}"), &keepalived, text)?;
            let ours = alone(lab, &format!("our{at}"), &lab.subject.clone(), text)?;
            pairs.push((theirs, ours, *text));
        }
        for (theirs, ours, text) in pairs {
            let [their, our] = [&theirs.0, &ours.0].map(|node| lab.always().some_adverts(node, 2));
            for ((_, their), (_, our)) in their?.iter().zip(our?) {
                // The number of an authentication header, and the checksum that covers it, differ: ours follows the time
                // of day.
                let header = |a: &Advert| a.authentication.get(..8).map(<[u8]>::to_vec);
                check!(
                    their.payload == our.payload
                        && header(their) == header(&our)
                        && their.authentication.len() == our.authentication.len(),
                    "payloads {their:02x?} and {our:02x?} of\n{text}"
                );
                let fields = |a: &Advert| (a.source, a.target, a.ttl, a.tos, a.to);
                check!(fields(their) == fields(&our), "{their:?} and {our:?} of\n{text}");
            }
            for daemon in [theirs.1, ours.1] {
                daemon.stop()?;
            }
        }
    }
    Ok(())
}

fn the_announcements_are_the_same(lab: &mut Lab) -> Res {
    let keepalived = Program::keepalived()?;
    let two = within(FAILOVER[0], "virtual_ipaddress {", "10.0.0.101/24\n10.0.0.102/24");
    let option = |lines: &str| within(&two, "vrrp_instance VRRP1 {", lines);
    let texts = [
        two.clone(),
        option("garp_master_repeat 2\n garp_master_delay 1"),
        option("garp_master_delay 1\n garp_master_refresh 2\n garp_master_refresh_repeat 3"),
        option("garp_master_repeat 3\n garp_master_delay 0"),
        without_authentication(&option("version 3"))
            .replace("10.0.0.100/24", "fe80::100/64\n2001:db8::100/64")
            .replace("10.0.0.101/24", "")
            .replace("10.0.0.102/24", ""),
    ];
    let mut pairs = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let theirs = alone(lab, &format!("ka{at}"), &keepalived, text)?.0;
        let ours = alone(lab, &format!("our{at}"), &lab.subject.clone(), text)?.0;
        pairs.push((theirs, ours, text));
    }
    for (theirs, ours, text) in pairs {
        // Eight adverts after the first: both sets and two refreshes have passed. Another one is due with the last advert,
        // before it or after it.
        let sequences = [&theirs, &ours].map(|node| -> Res<Vec<String>> {
            let adverts = lab.always().some_adverts(node, 9)?;
            let (start, end) = (adverts[0].0, Wall(adverts[0].0.0 + 7_500_000_000));
            // Whole seconds since it became master: the time of a set, not of each packet. It is late rather than early.
            let second = |at: Wall| (at.millis_since(start) / 1e3 + 0.3).floor();
            Ok(lab.always().all(|event| match &event.what {
                What::Frame(Frame::Arp(arp))
                    if event.node == node.name
                        && arp.sender == arp.target
                        && arp.sender != Ipv4Addr::new(10, 0, 0, 71)
                        && event.at < end =>
                {
                    let second = second(event.at);
                    let own = arp.from == arp.sender_mac;
                    Some(format!(
                        "{second} s: {} op {} to {:?} target {:?} own {own} length {}",
                        arp.sender, arp.operation, arp.to, arp.target_mac, arp.length
                    ))
                }
                What::Frame(Frame::Neighbour(advert))
                    if event.node == node.name
                        && advert.target != Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x71)
                        && event.at < end =>
                {
                    let second = second(event.at);
                    Some(format!(
                        "{second} s: {} from {} to {:?} hop limit {} override {} solicited {}",
                        advert.target,
                        advert.source,
                        advert.to,
                        advert.hop_limit,
                        advert.overrides,
                        advert.solicited
                    ))
                }
                _ => None,
            }))
        });
        let [their, our] = sequences;
        let (mut their, mut our) = (their?, our?);
        // The order within a set may differ (by address or by round): only the second of each frame counts.
        their.sort();
        our.sort();
        check!(!their.is_empty(), "keepalived announced nothing");
        check!(their == our, "keepalived: {their:#?}, we: {our:#?} of\n{text}");
    }
    Ok(())
}

/// A machine 10.0.0.71, fe80::71 in a segment of its own that runs the program.
fn alone(lab: &mut Lab, name: &str, program: &Program, text: &str) -> Res<(Node, Daemon)> {
    let name = &format!("{name}{}", lab.nodes());
    lab.segment(name)?;
    let node = lab.node(name)?;
    lab.plug(&node, name, LAN, &["10.0.0.71/24"])?;
    if text.contains("::") {
        // One link-local address, usable at once.
        node.sysctl("net.ipv6.conf.enp0s8.addr_gen_mode", "1")?;
        node.sysctl("net.ipv6.conf.enp0s8.disable_ipv6", "0")?;
        node.ip("addr add fe80::71/64 dev enp0s8 nodad\n")?;
    }
    // Missing peers with known hardware addresses: otherwise nothing would be sent to them.
    for peer in ["10.0.0.72", "10.0.0.73"].iter().filter(|peer| text.contains(**peer)) {
        node.ip(&format!("neigh add {peer} lladdr 02:00:00:00:00:99 dev {LAN} nud permanent\n"))?;
    }
    node.write(CONF, text, 0o644)?;
    let daemon = program.start(&node)?;
    Ok((node, daemon))
}

pub fn without_authentication(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        inside |= line.contains("authentication {");
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= !line.contains('}');
    }
    kept
}
