//! Virtual MACs: their interfaces are like keepalived's, adverts and answers are sent only from them, a backup sends
//! nothing from them, and they are restored when another program removes them.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::Signal;

use crate::interop::both_ways;
use crate::lab::daemon::{CONF, Daemon, Program, Role, signal_to};
use crate::lab::frame::{Frame, Mac};
use crate::lab::kernel;
use crate::lab::node::Node;
use crate::lab::timeline::{Mark, What};
use crate::lab::{LIMIT, Lab, Res};
use crate::scenario::{FAILOVER, LAN, Pair, replaced, steady, within};
use crate::{cases, check};

cases![Here:
    what_is_made_is_what_keepalived_makes,
    adverts_and_answers_come_from_the_virtual_mac_alone,
    a_backup_says_nothing_over_ipv6_either,
    it_takes_over_from_keepalived_with_a_virtual_mac,
    keepalived_takes_over_from_it_with_a_virtual_mac,
    adverts_leave_by_the_parent_where_that_is_asked_for,
    an_interface_that_others_remove_comes_back,
    an_interface_outlives_the_process_and_goes_with_the_daemon,
    interfaces_of_an_earlier_run_are_removed,
    a_name_that_somebody_has_is_waited_for,
    reports_of_the_segment_are_switched_off_while_that_is_asked_for,
];

pub const VIP: &str = "10.0.0.100";

/// The virtual MAC of an IPv4 router (RFC 9568 7.3).
pub const fn virtual_mac(vrid: u8) -> Mac {
    Mac([0, 0, 0x5e, 0, 1, vrid])
}

/// The failover example with virtual MACs, and its router id.
pub fn pair(more: &str) -> ([String; 2], u8) {
    let of = |text| within(text, "vrrp_instance VRRP1 {", &format!("use_vmac\n {more}"));
    let vrid = FAILOVER[0]
        .lines()
        .find_map(|line| line.trim().strip_prefix("virtual_router_id "))
        .and_then(|id| id.trim().parse().ok());
    (FAILOVER.map(of), vrid.unwrap_or_default())
}

/// Two interfaces with addresses of both families.
pub fn machine(lab: &mut Lab, name: &str) -> Res<Node> {
    let node = lab.node(name)?;
    for (interface, net) in [(LAN, "10.0.0"), ("enp0s9", "10.0.1")] {
        let segment = format!("{name}-{interface}");
        lab.segment(&segment)?;
        lab.plug(&node, &segment, interface, &[&format!("{net}.71/24")])?;
        node.sysctl(&format!("net.ipv6.conf.{interface}.addr_gen_mode"), "1")?;
        node.sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "0")?;
        node.ip(&format!("addr add fe80::71/64 dev {interface} nodad\n"))?;
    }
    node.ip("link set lo up\n")?;
    Ok(node)
}

/// Stacked interfaces, addresses, routes and related settings, sorted.
pub fn state(node: &Node) -> Res<Vec<String>> {
    let mut all = kernel::links(node)?;
    all.extend(kernel::addresses(node)?);
    for family in ["-4", "-6"] {
        for line in node.must(["ip", family, "route"])?.lines() {
            // That of the link-local address, see `what_is_made_is_what_keepalived_makes`.
            if !line.starts_with("fe80::/64 dev vrrp") {
                all.push(format!("route {}", line.trim()));
            }
        }
    }
    // Version 2.4 sets it on interfaces for IPv6 as well, 2.2.7 does not.
    let of_v6 = |line: &String| {
        ["vrrp6.", "vrrp2.", "vrrp.57"].iter().any(|name| line.starts_with(name))
            && line.contains(" arp_ignore ")
    };
    all.extend(kernel::settings(node)?.into_iter().filter(|line| !of_v6(line)));
    all.sort();
    Ok(all)
}

pub fn instance(vrid: u8, lines: &str, addresses: &str, excluded: &str) -> String {
    format!(
        "vrrp_instance V{vrid} {{\n interface {LAN}\n state MASTER\n priority 200\n virtual_router_id {vrid}\n \
         advert_int 1\n {lines}\n virtual_ipaddress {{\n{addresses}\n }}\n \
         virtual_ipaddress_excluded {{\n{excluded}\n }}\n}}\n"
    )
}

/// Starts a program on a machine of its own and waits until its instances are masters; yields the state from before
/// as well.
fn begin(
    lab: &mut Lab,
    name: &str,
    program: &Program,
    text: &str,
) -> Res<(Node, Daemon, Vec<String>)> {
    let node = machine(lab, name)?;
    let before = state(&node)?;
    let daemon = kernel::begin(lab, &node, program, text)?;
    Ok((node, daemon, before))
}

fn same(lab: &Lab, node: &Node, wanted: &[String]) -> Res {
    kernel::same(lab, "the kernel has what is wanted", wanted, || state(node))
}

fn what_is_made_is_what_keepalived_makes(lab: &mut Lab) -> Res {
    let keepalived = Program::keepalived()?;
    let subject = lab.subject.clone();
    let text = [
        instance(
            51,
            "use_vmac",
            "10.0.0.100\n10.0.1.101/24 dev enp0s9",
            "10.0.0.102/24 dev enp0s8",
        ),
        instance(52, "use_vmac six 02:00:00:00:00:06", "10.0.0.103/24\n10.0.0.104/24", ""),
        instance(53, "use_vmac\n vmac_xmit_base", "10.0.0.105", "2001:db8::5/64"),
        instance(
            54,
            "use_vmac\n use_vmac_addr",
            "10.0.0.106\n10.0.1.106/24 dev enp0s9",
            "2001:db8::6/64\n2001:db8:1::6/64 dev enp0s9",
        ),
        instance(55, "", "10.0.0.107 use_vmac\n10.0.1.107/24 dev enp0s9 use_vmac", ""),
        instance(56, "promote_secondaries", "10.0.0.108/24 dev enp0s9", ""),
        instance(57, "use_vmac", "fe80::100/64\n2001:db8::100/64", "10.0.0.109"),
    ]
    .concat();
    let (theirs, their, _) = begin(lab, "ka", &keepalived, &text)?;
    let (ours, our, before) = begin(lab, "our", &subject, &text)?;
    let mut wanted = Vec::new();
    lab.timeline().poll(LIMIT, "keepalived has added everything", || {
        wanted = state(&theirs)?;
        let there = |address: &str| wanted.iter().any(|line| line.contains(address));
        Ok((there("10.0.0.100/") && there("10.0.0.108/") && there("2001:db8:1::6")).then_some(()))
    })?;
    // keepalived adds the link-local address of the parent to interfaces for IPv6, to send from it. Ours does not need
    // it for that, and both interfaces would answer for it.
    wanted.retain(|line| !(line.starts_with("address vrrp") && line.contains("fe80::71/64")));
    same(lab, &ours, &wanted)?;
    their.stop()?;
    check!(our.stop()?, "the exit status is not zero");
    same(lab, &ours, &before)
}

/// Frames of a node with this source.
fn frames_from(lab: &Lab, mark: Mark, node: &Node, mac: Mac) -> Vec<String> {
    lab.after(mark).all(|event| match &event.what {
        What::Frame(frame) if event.node == node.name && source(frame) == Some(mac) => {
            Some(frame.to_string())
        }
        _ => None,
    })
}

fn source(frame: &Frame) -> Option<Mac> {
    match frame {
        Frame::Advert(advert) => Some(advert.from),
        Frame::Arp(arp) => Some(arp.from),
        Frame::Neighbour(neighbour) => Some(neighbour.from),
        Frame::Igmp { from, .. } | Frame::Mld { from } => Some(*from),
        Frame::Tcp(_) => None,
    }
}

fn adverts_and_answers_come_from_the_virtual_mac_alone(lab: &mut Lab) -> Res {
    lab.subject.ours_only("only nftables stops its membership reports")?;
    let (pair, (texts, vrid)) = (Pair::new(lab)?, pair(""));
    let mac = virtual_mac(vrid);
    let mark = lab.mark();
    let [first, _second] = pair.start(&lab.subject.clone(), [&texts[0], &texts[1]])?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    steady(lab, lab.mark(), &pair.svr1, 3)?;
    check!(
        lab.after(mark).adverts(&pair.svr1).iter().all(|(_, advert)| advert.from == mac),
        "an advert came from another address"
    );
    let announced = lab.after(mark).garps(&pair.svr1, VIP.parse()?);
    check!(!announced.is_empty(), "nothing was announced");
    check!(
        announced.iter().all(|(_, arp)| arp.from == mac && arp.sender_mac == mac),
        "{announced:?}"
    );
    let leaked = frames_from(lab, mark, &pair.svr2, mac);
    check!(leaked.is_empty(), "the backup sent {leaked:?}");

    lab.note("both addresses answer, each with its own hardware address");
    reach(&pair.client, VIP)?;
    reach(&pair.client, "10.0.0.71")?;
    let learned = |address: &str| -> Res<String> {
        let line = pair.client.must(["ip", "neigh", "show", address])?;
        let after = line.split_once("lladdr ").and_then(|(_, rest)| rest.split(' ').next());
        Ok(after.unwrap_or_default().to_owned())
    };
    check!(learned(VIP)? == format!("{mac:?}"), "{}", learned(VIP)?);
    let learned = learned("10.0.0.71")?;
    check!(learned != format!("{mac:?}") && !learned.is_empty(), "{learned}");

    lab.note("the other one takes over with the same address, and gives back");
    let mark = lab.mark();
    first.crash()?;
    lab.after(mark).address(&pair.svr2, VIP, true)?;
    let taken = lab.after(mark).some_adverts(&pair.svr2, 2)?;
    check!(
        taken.iter().all(|(_, advert)| advert.from == mac),
        "an advert came from another address"
    );
    let mark = lab.mark();
    let again = lab.subject.start(&pair.svr1)?;
    lab.after(mark).address(&pair.svr2, VIP, false)?;
    lab.after(mark).some_adverts(&pair.svr1, 2)?;
    // After a crash the kernel handles the memberships, none of which is on the virtual MAC.
    let silent = lab.mark();
    steady(lab, silent, &pair.svr1, 3)?;
    let leaked = frames_from(lab, silent, &pair.svr2, mac);
    check!(leaked.is_empty(), "the backup sent {leaked:?}");
    check!(again.stop()?, "the exit status is not zero");
    Ok(())
}

fn it_takes_over_from_keepalived_with_a_virtual_mac(lab: &mut Lab) -> Res {
    let (keepalived, subject, (texts, _)) = (Program::keepalived()?, lab.subject.clone(), pair(""));
    both_ways(lab, &keepalived, &subject, [&texts[0], &texts[1]])
}

fn keepalived_takes_over_from_it_with_a_virtual_mac(lab: &mut Lab) -> Res {
    let (keepalived, subject, (texts, _)) = (Program::keepalived()?, lab.subject.clone(), pair(""));
    both_ways(lab, &subject, &keepalived, [&texts[0], &texts[1]])
}

fn adverts_leave_by_the_parent_where_that_is_asked_for(lab: &mut Lab) -> Res {
    let (pair, (texts, vrid)) = (Pair::new(lab)?, pair("vmac_xmit_base\n"));
    let mac = virtual_mac(vrid);
    let mark = lab.mark();
    pair.start(&lab.subject.clone(), [&texts[0], &texts[1]])?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    steady(lab, lab.mark(), &pair.svr1, 3)?;
    check!(
        lab.after(mark).adverts(&pair.svr1).iter().all(|(_, advert)| advert.from != mac),
        "an advert came from the virtual address"
    );
    let announced = lab.after(mark).garps(&pair.svr1, VIP.parse()?);
    check!(!announced.is_empty(), "nothing was announced");
    check!(announced.iter().all(|(_, arp)| arp.from == mac), "{announced:?}");
    Ok(())
}

/// Routers join more groups than hosts, whose memberships the kernel reports by itself.
fn a_backup_says_nothing_over_ipv6_either(lab: &mut Lab) -> Res {
    lab.subject.ours_only("Debian's keepalived is built without packet filters")?;
    lab.segment("lan")?;
    let mut nodes = Vec::new();
    for (name, last) in [("svr1", 71), ("svr2", 72)] {
        let node = lab.node(name)?;
        lab.plug(&node, "lan", LAN, &[])?;
        node.sysctl("net.ipv6.conf.all.disable_ipv6", "0")?;
        node.sysctl("net.ipv6.conf.default.disable_ipv6", "0")?;
        node.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        node.sysctl(&format!("net.ipv6.conf.{LAN}.addr_gen_mode"), "1")?;
        node.sysctl(&format!("net.ipv6.conf.{LAN}.disable_ipv6"), "0")?;
        node.ip(&format!("addr add fe80::{last}/64 dev {LAN} nodad\n"))?;
        nodes.push(node);
    }
    let [master, backup] = nodes.as_slice() else { return Ok(()) };
    let text = |priority: u8| {
        format!(
            "vrrp_instance V57 {{\n interface {LAN}\n priority {priority}\n virtual_router_id 57\n \
             advert_int 0.2\n version 3\n use_vmac\n virtual_ipaddress {{\n  fe80::100/64\n  \
             2001:db8::100/64\n }}\n}}\n"
        )
    };
    master.write(CONF, &text(200), 0o644)?;
    lab.subject.start(master)?;
    lab.always().log(master, "(V57) Entering MASTER STATE")?;
    let mark = lab.mark();
    backup.write(CONF, &text(100), 0o644)?;
    let daemon = lab.subject.start(backup)?;
    lab.after(mark).log(backup, "(V57) Entering BACKUP STATE")?;
    // The kernel reports a membership again after a second.
    let mark_of_backup = lab.mark();
    lab.after(mark_of_backup).some_adverts(master, 10)?;
    let mac = Mac([0, 0, 0x5e, 0, 2, 57]);
    let leaked = frames_from(lab, mark, backup, mac);
    check!(leaked.is_empty(), "the backup sent {leaked:?}");
    check!(index(backup, "vrrp.57").is_ok(), "there is no interface to send from");
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

/// Tries to connect to a host: a refused connection counts as an answer.
pub fn reach(node: &Node, address: &'static str) -> Res {
    let answer = node.run(move || {
        let address = SocketAddr::new(address.parse().expect("an address"), 9);
        TcpStream::connect_timeout(&address, LIMIT).err().map(|e| e.kind())
    })?;
    check!(answer == Some(ErrorKind::ConnectionRefused), "{address}: {answer:?}");
    Ok(())
}

pub fn index(node: &Node, name: &str) -> Res<String> {
    node.must(["cat", &format!("/sys/class/net/{name}/ifindex")])
}

fn an_interface_that_others_remove_comes_back(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it does not restore everything")?;
    let (pair, (texts, vrid)) = (Pair::new(lab)?, pair(""));
    let name = format!("vrrp.{vrid}");
    let mark = lab.mark();
    pair.start(&lab.subject.clone(), [&texts[0], &texts[1]])?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    steady(lab, lab.mark(), &pair.svr1, 2)?;

    let mark = lab.mark();
    pair.svr1.ip(&format!("link del {name}\n"))?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    steady(lab, lab.mark(), &pair.svr1, 2)?;
    // Its end begins with a change.
    lab.after(mark).log(&pair.svr1, &format!("macvlan {name} on {LAN} was "))?;

    let mark = lab.mark();
    let sysctl = format!("net.ipv4.conf.{LAN}.arp_ignore");
    pair.svr1.ip(&format!("link set {name} down\n"))?;
    pair.svr1.sysctl(&sysctl, "1")?;
    lab.after(mark).log(&pair.svr1, &format!("macvlan {name} on {LAN} was not as configured"))?;
    steady(lab, lab.mark(), &pair.svr1, 2)?;
    reach(&pair.client, VIP)?;
    check!(lab.after(mark).adverts(&pair.svr2).is_empty(), "the backup took over");
    Ok(())
}

fn an_interface_outlives_the_process_and_goes_with_the_daemon(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its process is not replaced")?;
    let (pair, (texts, vrid)) = (Pair::new(lab)?, pair(""));
    let name = format!("vrrp.{vrid}");
    let settings = |node: &Node| -> Res<Vec<String>> {
        let read = |s| node.read(format!("/proc/sys/net/ipv4/conf/{LAN}/{s}"));
        ["arp_ignore", "arp_filter", "arp_announce"].into_iter().map(read).collect()
    };
    let before = settings(&pair.svr1)?;
    let mark = lab.mark();
    let [first, _second] = pair.start(&lab.subject.clone(), [&texts[0], &texts[1]])?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    steady(lab, lab.mark(), &pair.svr1, 2)?;
    let number = index(&pair.svr1, &name)?;
    check!(settings(&pair.svr1)? == ["1\n", "1\n", "2\n"], "{:?}", settings(&pair.svr1)?);
    let old = first.role(Role::Vrrp)?;
    let mark = lab.mark();
    signal_to(old, Signal::SIGKILL)?;
    replaced(lab, &first, Role::Vrrp, old)?;
    steady(lab, lab.mark(), &pair.svr1, 2)?;
    check!(index(&pair.svr1, &name)? == number, "it was recreated");
    check!(lab.after(mark).adverts(&pair.svr2).is_empty(), "the backup took over");
    check!(first.stop()?, "the exit status is not zero");
    check!(index(&pair.svr1, &name).is_err(), "it is left behind");
    check!(settings(&pair.svr1)? == before, "{:?}", settings(&pair.svr1)?);
    Ok(())
}

/// After a crash of the whole daemon, with another configuration.
fn interfaces_of_an_earlier_run_are_removed(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it leaves them behind")?;
    let node = machine(lab, "our")?;
    // Of other programs, one of which has given it the name of the daemon.
    node.ip(&format!(
        "link add other link {LAN} address 00:00:5e:00:01:63 type macvlan mode private\n\
         link add another link {LAN} address 00:00:5e:00:01:64 type macvlan mode private\n\
         link set another alias evervip\n"
    ))?;
    let subject = lab.subject.clone();
    let stays = instance(51, "use_vmac", "10.0.0.100/24", "");
    let goes = [
        instance(52, "use_vmac", "10.0.0.101/24\n10.0.1.101/24 dev enp0s9", ""),
        instance(53, "use_vmac_addr", "10.0.1.102/24 dev enp0s9", ""),
        instance(57, "use_vmac", "fe80::100/64", ""),
    ]
    .concat();
    let names = |node: &Node| -> Res<Vec<String>> {
        let all = kernel::links(node)?;
        Ok(all.iter().filter_map(|line| line.split(' ').nth(1).map(String::from)).collect())
    };
    let settings = kernel::settings(&node)?;
    let daemon = kernel::begin(lab, &node, &subject, &(stays.clone() + &goes))?;
    check!(kernel::settings(&node)? != settings, "the parent keeps its settings");
    check!(names(&node)?.len() == 6, "{:?}", names(&node)?);
    let number = index(&node, "vrrp.51")?;
    daemon.crash()?;
    let mark = lab.mark();
    let daemon = kernel::begin(lab, &node, &subject, &stays)?;
    lab.after(mark)
        .log(&node, "removing macvlan vrrp.52 on enp0s8, which an earlier run has left")?;
    let here = |name: &str| format!("{name}@{LAN}:");
    let wanted = ["other", "another", "vrrp.51"].map(here).to_vec();
    kernel::same(lab, "those of the configuration", &wanted, || names(&node))?;
    check!(index(&node, "vrrp.51")? == number, "it was created again");

    lab.note("a name that moves to another interface is free soon");
    daemon.crash()?;
    let moved = stays.replace(LAN, "enp0s9").replace("10.0.0.", "10.0.1.");
    let mark = lab.mark();
    let daemon = kernel::begin(lab, &node, &subject, &moved)?;
    lab.after(mark).address(&node, "10.0.1.100", true)?;
    let wanted = [here("other"), here("another"), "vrrp.51@enp0s9:".into()].to_vec();
    kernel::same(lab, "it has moved", &wanted, || names(&node))?;
    check!(daemon.stop()?, "the exit status is not zero");
    kernel::same(lab, "only others are left", &wanted[..2], || names(&node))?;
    kernel::same(lab, "the settings of the parents are as before", &settings, || {
        kernel::settings(&node)
    })
}

fn a_name_that_somebody_has_is_waited_for(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it exits")?;
    let (pair, (texts, vrid)) = (Pair::new(lab)?, pair(""));
    let name = format!("vrrp.{vrid}");
    pair.svr1.ip(&format!(
        "link add other type veth peer name beside\nlink set other up\n\
         link add {name} link other type macvlan mode bridge\n"
    ))?;
    let mark = lab.mark();
    pair.start(&lab.subject.clone(), [&texts[0], &texts[1]])?;
    let reason = format!("interface {name} exists but is not of type macvlan on {LAN}");
    lab.after(mark).log(&pair.svr1, &reason)?;
    lab.after(mark).address(&pair.svr2, VIP, true)?;
    let mark = lab.mark();
    pair.svr1.ip(&format!("link del {name}\n"))?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    Ok(())
}

fn reports_of_the_segment_are_switched_off_while_that_is_asked_for(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it does not follow a reload")?;
    let node = machine(lab, "our")?;
    let text =
        |globals: &str| format!("{globals}{}", instance(51, "use_vmac", "10.0.0.100/24", ""));
    let globals = "global_defs {\n disable_local_igmp\n}\n";
    let becomes = |wanted: &str| {
        lab.timeline().poll(LIMIT, &format!("reports: {wanted}"), || {
            let value = node.read("/proc/sys/net/ipv4/igmp_link_local_mcast_reports")?;
            Ok((value.trim() == wanted).then_some(()))
        })
    };
    becomes("1")?;
    node.sysctl("net.ipv4.conf.all.rp_filter", "1")?;
    node.write(CONF, &text(globals), 0o644)?;
    let daemon = lab.subject.start(&node)?;
    becomes("0")?;
    lab.always().log(&node, "net.ipv4.conf.all.rp_filter is 1")?;
    lab.always().log(&node, "(V51) Entering MASTER STATE")?;
    // The next process knows what it was.
    let old = daemon.role(Role::Vrrp)?;
    signal_to(old, Signal::SIGKILL)?;
    replaced(lab, &daemon, Role::Vrrp, old)?;
    let mark = lab.mark();
    node.write(CONF, &text(""), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&node, "Reload complete")?;
    becomes("1")?;
    node.write(CONF, &text(globals), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    becomes("0")?;
    check!(daemon.stop()?, "the exit status is not zero");
    becomes("1")
}

/// Features that this kernel may lack.
pub mod guest {
    use super::{begin, instance, same, state};
    use crate::lab::daemon::Program;
    use crate::lab::{LIMIT, Lab, Res};
    use crate::{cases, check};

    cases![Ipvs:
        an_ipvlan_is_what_keepalived_makes,
    ];

    fn an_ipvlan_is_what_keepalived_makes(lab: &mut Lab) -> Res {
        let keepalived = Program::keepalived()?;
        let subject = lab.subject.clone();
        let text = [
            instance(51, "use_ipvlan 10.0.0.91/24", "10.0.0.100", ""),
            instance(52, "use_ipvlan six 10.0.0.92/24 private", "10.0.0.101", ""),
        ]
        .concat();
        let (theirs, their, _) = begin(lab, "ka", &keepalived, &text)?;
        let (ours, our, before) = begin(lab, "our", &subject, &text)?;
        let mut wanted = Vec::new();
        lab.timeline().poll(LIMIT, "keepalived has added everything", || {
            wanted = state(&theirs)?;
            let there = |address: &str| wanted.iter().any(|line| line.contains(address));
            Ok((there("10.0.0.100/") && there("10.0.0.101/")).then_some(()))
        })?;
        same(lab, &ours, &wanted)?;
        their.stop()?;
        check!(our.stop()?, "the exit status is not zero");
        same(lab, &ours, &before)
    }
}
