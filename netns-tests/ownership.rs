//! Ownership of addresses: those that a starting backup finds, those of a renamed interface, and those of an instance
//! that moves or enters FAULT.

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Daemon};
use crate::lab::node::Node;
use crate::lab::timeline::What;
use crate::lab::{After, Lab, Res};
use crate::scenario::{FAILOVER, LAN, Pair, soon, steady, within};
use crate::{cases, check};

cases![Here:
    a_starting_backup_adds_nothing_to_what_it_finds,
    a_starting_backup_adds_nothing_during_its_startup_delay,
    a_daemon_that_crashed_adds_nothing_beside_the_new_master,
    a_renamed_interface_keeps_role_and_address_until_the_end,
    interfaces_that_swap_their_names_keep_their_addresses,
    a_replaced_process_finds_the_renamed_interface,
    a_farewell_leaves_after_the_source_address_is_gone,
    a_farewell_over_ipv6_leaves_after_the_source_address_is_gone,
    a_move_to_another_interface_begins_with_a_farewell,
    a_move_to_another_virtual_router_begins_with_a_farewell,
    a_move_to_another_version_begins_with_a_farewell,
    a_move_to_another_family_begins_with_a_farewell,
    a_living_master_is_not_overrun_by_one_that_moves_to_it,
    dropping_the_first_address_of_a_subnet_touches_no_other,
    the_address_of_the_interface_itself_is_never_removed,
];

const VIP: &str = "10.0.0.100";

fn a_starting_backup_adds_nothing_to_what_it_finds(lab: &mut Lab) -> Res {
    leftover(lab, "", 5)
}

fn a_starting_backup_adds_nothing_during_its_startup_delay(lab: &mut Lab) -> Res {
    leftover(lab, "vrrp_startup_delay 10", 14)
}

/// Starts a backup with one of its three addresses on the interface, while a master sends this many adverts.
fn leftover(lab: &mut Lab, global: &str, adverts: usize) -> Res {
    lab.subject.ours_only("it removes existing addresses before it receives adverts")?;
    let pair = Pair::new(lab)?;
    let [first, second] = three();
    pair.svr1.write(CONF, &first, 0o644)?;
    lab.subject.start(&pair.svr1)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    pair.svr2.ip("addr add 10.0.0.101/24 dev enp0s8\n")?;
    lab.always().address(&pair.svr2, "10.0.0.101", true)?;
    pair.svr2.write(CONF, &within(&second, "global_defs {", global), 0o644)?;
    let mark = lab.mark();
    lab.subject.start(&pair.svr2)?;
    let later = lab.after(mark);
    later.address(&pair.svr2, "10.0.0.101", false)?;
    later.some_adverts(&pair.svr1, adverts)?;
    let added = added(&later, &pair.svr2);
    check!(added.is_empty(), "{added:?}");
    check!(later.adverts(&pair.svr2).is_empty(), "the backup sent adverts");
    Ok(())
}

fn a_daemon_that_crashed_adds_nothing_beside_the_new_master(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it removes existing addresses before it receives adverts")?;
    let pair = Pair::new(lab)?;
    let [first, second] = three();
    let first = first.replace("state MASTER", "state BACKUP\n nopreempt");
    let [daemon, _] = pair.start(&lab.subject, [&first, &second.replace("100\n", "90\n")])?;
    lab.always().address(&pair.svr1, "10.0.0.102", true)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    let mark = lab.mark();
    daemon.signal_all(Signal::SIGKILL)?;
    lab.after(mark).some_adverts(&pair.svr2, 2)?;
    pair.svr1.ip("addr del 10.0.0.100/24 dev enp0s8\naddr del 10.0.0.102/24 dev enp0s8\n")?;
    lab.after(mark).address(&pair.svr1, "10.0.0.102", false)?;
    let mark = lab.mark();
    lab.subject.start(&pair.svr1)?;
    let later = lab.after(mark);
    later.address(&pair.svr1, "10.0.0.101", false)?;
    later.some_adverts(&pair.svr2, 5)?;
    let added = added(&later, &pair.svr1);
    check!(added.is_empty(), "{added:?}");
    check!(later.adverts(&pair.svr1).is_empty(), "it sent adverts beside the master");
    Ok(())
}

fn a_renamed_interface_keeps_role_and_address_until_the_end(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it treats a renamed interface as another one")?;
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let mark = lab.mark();
    rename(&pair.svr1, &[(LAN, "lan7")])?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "is called lan7 now")?;
    steady(lab, mark, &pair.svr1, 4)?;
    check!(removed(&later, &pair.svr1).is_empty(), "{:?}", removed(&later, &pair.svr1));
    check!(later.adverts(&pair.svr2).is_empty(), "the backup took over");
    // An address removed there is restored there.
    pair.svr1.ip("addr del 10.0.0.100/24 dev lan7\n")?;
    later.address(&pair.svr1, VIP, false)?;
    later.address(&pair.svr1, VIP, true)?;
    // The file with the new name only changes the name.
    let mark = lab.mark();
    pair.svr1.write(CONF, &FAILOVER[0].replace(LAN, "lan7"), 0o644)?;
    primary.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "Reload complete")?;
    steady(lab, mark, &pair.svr1, 3)?;
    check!(removed(&later, &pair.svr1).is_empty(), "{:?}", removed(&later, &pair.svr1));
    ends_clean(lab, &primary, &pair.svr1, &["lan7"])
}

fn interfaces_that_swap_their_names_keep_their_addresses(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it treats a renamed interface as another one")?;
    let pair = Pair::new(lab)?;
    lab.segment("second")?;
    lab.plug(&pair.svr1, "second", "enp0s9", &["10.0.1.71/24"])?;
    // The second address is on the second interface.
    let text = within(FAILOVER[0], "virtual_ipaddress {", "10.0.1.100/24 dev enp0s9");
    let [primary, _backup] = pair.start(&lab.subject, [&text, &text.replace("200", "100")])?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    lab.always().some_garps(&pair.svr1, "10.0.1.100".parse()?, 10)?;
    let mark = lab.mark();
    rename(&pair.svr1, &[(LAN, "between"), ("enp0s9", LAN), ("between", "enp0s9")])?;
    steady(lab, mark, &pair.svr1, 4)?;
    let later = lab.after(mark);
    check!(removed(&later, &pair.svr1).is_empty(), "{:?}", removed(&later, &pair.svr1));
    for (link, address) in [("enp0s9", "10.0.0.100/24"), (LAN, "10.0.1.100/24")] {
        check!(pair.svr1.has(link, address)?, "{}", pair.svr1.addresses(link)?);
    }
    check!(later.adverts(&pair.svr2).is_empty(), "the backup took over");
    ends_clean(lab, &primary, &pair.svr1, &[LAN, "enp0s9"])
}

fn a_replaced_process_finds_the_renamed_interface(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it treats a renamed interface as another one")?;
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    rename(&pair.svr1, &[(LAN, "lan7")])?;
    lab.always().log(&pair.svr1, "is called lan7 now")?;
    let mark = lab.mark();
    let vrrp = primary.role(crate::lab::daemon::Role::Vrrp)?;
    crate::lab::daemon::signal_to(vrrp, Signal::SIGKILL)?;
    let later = lab.after(mark);
    steady(lab, mark, &pair.svr1, 4)?;
    check!(removed(&later, &pair.svr1).is_empty(), "{:?}", removed(&later, &pair.svr1));
    ends_clean(lab, &primary, &pair.svr1, &["lan7"])
}

fn a_farewell_leaves_after_the_source_address_is_gone(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    // Otherwise the kernel removes the other addresses of the subnet with it.
    pair.svr1.sysctl("net.ipv4.conf.enp0s8.promote_secondaries", "1")?;
    pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    lab.subject.ours_only("it sends no farewell without its source address")?;
    unsourced(lab, &pair, "10.0.0.71/24")
}

fn a_farewell_over_ipv6_leaves_after_the_source_address_is_gone(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it sends no farewell without its source address")?;
    let pair = Pair::new(lab)?;
    let text = |priority: &str| {
        format!(
            "vrrp_instance VRRP1 {{\n interface enp0s8\n priority {priority}\n version 3\n \
             virtual_router_id 41\n virtual_ipaddress {{\n  fe80::100/64\n }}\n}}\n"
        )
    };
    for (node, address) in [(&pair.svr1, "fe80::71"), (&pair.svr2, "fe80::72")] {
        link_local(node, address)?;
    }
    pair.start(&lab.subject, [&text("200"), &text("100")])?;
    lab.always().advert(&pair.svr1, |advert| advert.priority() == 200)?;
    unsourced(lab, &pair, "fe80::71/64")
}

/// Removes the source address of the pair's master: the backup receives a farewell and need not wait.
fn unsourced(lab: &Lab, pair: &Pair, source: &str) -> Res {
    let mark = lab.mark();
    pair.svr1.ip(&format!("addr del {source} dev enp0s8\n"))?;
    let later = lab.after(mark);
    let (left, farewell) = later.advert(&pair.svr1, |advert| advert.priority() == 0)?;
    let (address, _) = source.split_once('/').unwrap_or((source, ""));
    check!(farewell.source.to_string() == address, "it came from {}", farewell.source);
    let (taken, _) = later.advert(&pair.svr2, |advert| advert.priority() > 0)?;
    // The skew of priority 100 is 0.61 s; without the farewell it is 3.6 s.
    soon(left, taken, 2_000.0)?;
    Ok(())
}

fn a_move_to_another_interface_begins_with_a_farewell(lab: &mut Lab) -> Res {
    moves(lab, |text| text.replace("interface enp0s8", "interface enp0s9"), |_| true)
}

fn a_move_to_another_virtual_router_begins_with_a_farewell(lab: &mut Lab) -> Res {
    let change = |text: &str| text.replace("virtual_router_id 41", "virtual_router_id 43");
    moves(lab, change, |advert| advert.vrid() == 43)
}

fn a_move_to_another_version_begins_with_a_farewell(lab: &mut Lab) -> Res {
    let change = |text: &str| within(text, "vrrp_instance VRRP1 {", "version 3");
    moves(lab, change, |advert| advert.version() == 3)
}

fn a_move_to_another_family_begins_with_a_farewell(lab: &mut Lab) -> Res {
    let change = |text: &str| {
        let text = within(text, "vrrp_instance VRRP1 {", "version 3");
        text.replace("10.0.0.100/24", "fe80::100/64")
    };
    moves(lab, change, |advert| advert.source.is_ipv6())
}

/// Reloads the master of a pair with a file that moves its instance to another election, whose adverts `there`
/// recognises: a farewell in the old one, where the backup takes over after its skew; the whole master-down time in the
/// new one.
fn moves(
    lab: &mut Lab,
    change: impl Fn(&str) -> String,
    there: impl Fn(&crate::lab::frame::Advert) -> bool,
) -> Res {
    lab.subject.ours_only("it sends no farewell on the former interface")?;
    let pair = Pair::new(lab)?;
    lab.segment("second")?;
    lab.plug(&pair.svr1, "second", "enp0s9", &["10.0.1.71/24"])?;
    link_local(&pair.svr1, "fe80::71")?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    pair.svr1.write(CONF, &change(FAILOVER[0]), 0o644)?;
    let mark = lab.mark();
    primary.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    let old = |advert: &crate::lab::frame::Advert| {
        advert.vrid() == 41 && advert.version() == 2 && advert.source.is_ipv4()
    };
    let (left, _) = later.advert(&pair.svr1, |advert| old(advert) && advert.priority() == 0)?;
    let (taken, _) = later.advert(&pair.svr2, |advert| advert.priority() > 0)?;
    soon(left, taken, 2_000.0)?;
    let (risen, _) =
        later.advert(&pair.svr1, |advert| advert.priority() == 200 && there(advert))?;
    // Three intervals and its skew.
    let waited = risen.millis_since(left);
    check!(waited > 3_000.0, "it was master on the other side after {waited} ms");
    Ok(())
}

fn a_living_master_is_not_overrun_by_one_that_moves_to_it(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it sends no farewell on the former interface")?;
    let pair = Pair::new(lab)?;
    let other = FAILOVER[1].replace("virtual_router_id 41", "virtual_router_id 43");
    // Better than the moving router.
    let other = other.replace("priority 100", "priority 250");
    let [primary, _] = pair.start(&lab.subject, [FAILOVER[0], &other.replace("0.100", "0.101")])?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    lab.always().some_adverts(&pair.svr2, 2)?;
    let moved = FAILOVER[0].replace("virtual_router_id 41", "virtual_router_id 43");
    pair.svr1.write(CONF, &moved.replace("0.100", "0.101"), 0o644)?;
    let mark = lab.mark();
    primary.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.advert(&pair.svr1, |advert| advert.priority() == 0)?;
    later.some_adverts(&pair.svr2, 5)?;
    let sent = later.adverts(&pair.svr1);
    let wrong: Vec<_> = sent.iter().filter(|(_, advert)| advert.vrid() == 43).collect();
    check!(wrong.is_empty(), "{wrong:?}");
    check!(later.garps(&pair.svr1, "10.0.0.101".parse()?).is_empty(), "it took the address");
    Ok(())
}

fn dropping_the_first_address_of_a_subnet_touches_no_other(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it does not prevent the kernel from removing secondary addresses")?;
    let pair = Pair::new(lab)?;
    // None of the interface's own addresses is in this subnet, so that the first virtual one is its primary address,
    // with which the kernel removes the others.
    let all = "10.9.0.1/24\n 10.9.0.2/24\n 10.9.0.3/24";
    let text = FAILOVER[0].replace("10.0.0.100/24", all);
    pair.svr1.write(CONF, &text, 0o644)?;
    let primary = lab.subject.start(&pair.svr1)?;
    lab.always().some_garps(&pair.svr1, "10.9.0.3".parse()?, 10)?;
    pair.svr1.write(CONF, &text.replace("10.9.0.1/24\n", "\n"), 0o644)?;
    let mark = lab.mark();
    primary.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.address(&pair.svr1, "10.9.0.1", false)?;
    later.some_adverts(&pair.svr1, 2)?;
    let gone: Vec<_> = later.all(|event| match &event.what {
        What::Kernel(change) if event.node == pair.svr1.name => change.address(false),
        _ => None,
    });
    check!(gone.len() == 1, "{gone:?}");
    let blamed = later.logs(&pair.svr1, "another program");
    check!(blamed.is_empty(), "{blamed:?}");
    let shown = pair.svr1.addresses(LAN)?;
    check!(shown.contains("10.9.0.2/24") && shown.contains("10.9.0.3/24"), "{shown}");
    Ok(())
}

fn the_address_of_the_interface_itself_is_never_removed(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it removes the interface's own address")?;
    let pair = Pair::new(lab)?;
    let owner = FAILOVER[0].replace("priority 200", "priority 255");
    let owner = owner.replace("10.0.0.100/24", "10.0.0.71/24\n 10.0.0.100/24");
    let backup = FAILOVER[1].replace("10.0.0.100/24", "10.0.0.71/24\n 10.0.0.100/24");
    let [primary, _backup] = pair.start(&lab.subject, [&owner, &backup])?;
    lab.always().log(&pair.svr1, "10.0.0.71/24 is an address of enp0s8 itself")?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    let mark = lab.mark();
    let later = lab.after(mark);
    // A fault, a reload without the address, a stop: it stays.
    pair.cables[0].cut()?;
    later.log(&pair.svr1, "Entering FAULT STATE")?;
    later.address(&pair.svr1, VIP, false)?;
    pair.cables[0].mend()?;
    later.address(&pair.svr1, VIP, true)?;
    pair.svr1.write(CONF, &owner.replace("10.0.0.71/24\n", "\n"), 0o644)?;
    primary.signal(Signal::SIGHUP)?;
    later.log(&pair.svr1, "Reload complete")?;
    check!(primary.stop()?, "the exit status is not zero");
    let shown = pair.svr1.addresses(LAN)?;
    check!(shown.contains("10.0.0.71/24") && !shown.contains(VIP), "{shown}");
    let gone = later.all(|event| match &event.what {
        What::Kernel(change) if event.node == pair.svr1.name => change.address(false),
        _ => None,
    });
    check!(!gone.contains(&"10.0.0.71".parse()?), "{gone:?}");
    Ok(())
}

/// The configurations of a pair with three addresses.
fn three() -> [String; 2] {
    FAILOVER.map(|text| within(text, "virtual_ipaddress {", "10.0.0.101/24\n 10.0.0.102/24"))
}

/// Addresses that were added.
fn added(later: &After<'_>, node: &Node) -> Vec<std::net::IpAddr> {
    later.all(|event| match &event.what {
        What::Kernel(change) if event.node == node.name => change.address(true),
        _ => None,
    })
}

/// Addresses that were removed. (The kernel reports those of a renamed interface again.)
fn removed(later: &After<'_>, node: &Node) -> Vec<std::net::IpAddr> {
    later.all(|event| match &event.what {
        What::Kernel(change) if event.node == node.name => change.address(false),
        _ => None,
    })
}

/// Renames interfaces while they are up, one after the other.
fn rename(node: &Node, names: &[(&str, &str)]) -> Res {
    let lines = names.iter().map(|(old, new)| format!("link set {old} name {new}\n"));
    node.ip(&lines.collect::<String>())
}

/// Gives the node an IPv6 address on its interface.
fn link_local(node: &Node, address: &str) -> Res {
    node.sysctl("net.ipv6.conf.enp0s8.addr_gen_mode", "1")?;
    node.sysctl("net.ipv6.conf.enp0s8.disable_ipv6", "0")?;
    node.ip(&format!("addr add {address}/64 dev enp0s8 nodad\n"))
}

/// Stops the daemon and checks that none of its addresses stays on these interfaces.
fn ends_clean(lab: &Lab, daemon: &Daemon, node: &Node, links: &[&str]) -> Res {
    let mark = lab.mark();
    check!(daemon.stop()?, "the exit status is not zero");
    lab.after(mark).advert(node, |advert| advert.priority() == 0)?;
    for link in links {
        let shown = node.addresses(link)?;
        check!(!shown.contains("0.100/24") && !shown.contains("1.100/24"), "{shown}");
    }
    Ok(())
}
