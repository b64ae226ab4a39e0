//! Reload: unchanged objects are not touched, a bad file changes nothing, of a good one only the difference is applied.

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Program, Role, lives};
use crate::lab::timeline::What;
use crate::lab::{LIMIT, Lab, Res};
use crate::scenario::{FAILOVER, LAN, Pair, steady, within};
use crate::{cases, check};

cases![Here:
    the_same_file_again_touches_nothing,
    a_bad_file_is_refused_with_its_line_and_changes_nothing,
    addresses_are_added_and_removed_without_touching_the_others,
    a_renamed_instance_keeps_its_address,
    an_address_that_moves_between_instances_stays,
    many_reloads_in_a_row_miss_no_advert,
    a_backup_that_reloads_stays_backup,
    a_new_priority_is_advertised_at_once,
    an_old_mistake_does_not_refuse_a_reload,
    a_file_that_lost_every_virtual_router_is_refused,
    a_start_without_anything_usable_ends,
    a_process_that_is_needed_again_while_it_stops_is_started_again,
];

const VIP: &str = "10.0.0.100";

fn the_same_file_again_touches_nothing(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, backup] = pair.start(&lab.subject, FAILOVER)?;
    // Both sets of announcements are out.
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let mark = lab.mark();
    primary.signal(Signal::SIGHUP)?;
    backup.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "Reloading")?;
    steady(lab, mark, &pair.svr1, 4)?;
    for node in [&pair.svr1, &pair.svr2] {
        check!(later.kernel(node).is_empty(), "{}: {:?}", node.name, later.kernel(node));
        check!(later.logs(node, "Entering").is_empty(), "{:?}", later.logs(node, "Entering"));
    }
    check!(later.adverts(&pair.svr2).is_empty(), "the backup sent adverts");
    let garps = later.garps(&pair.svr1, VIP.parse()?);
    check!(garps.is_empty(), "{} announcements of an address that did not change", garps.len());
    Ok(())
}

fn a_bad_file_is_refused_with_its_line_and_changes_nothing(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it applies the valid part of a bad file")?;
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    // An unknown word in line 15; another address, which must not be added.
    let bad =
        FAILOVER[0].replace("interface enp0s8", "intreface enp0s8").replace("0.100/24", "0.101/24");
    let line = bad.lines().position(|line| line.contains("intreface")).map_or(0, |at| at + 1);
    for text in [bad.as_str(), "vrrp_instance VRRP1 {\n", "\u{0}\u{1}\u{2}"] {
        pair.svr1.write(CONF, text, 0o644)?;
        let mark = lab.mark();
        primary.signal(Signal::SIGHUP)?;
        let later = lab.after(mark);
        if text == bad {
            later.log(&pair.svr1, &format!("Line {line}"))?;
            later.log(&pair.svr1, "intreface")?;
        } else {
            later.log(&pair.svr1, CONF)?;
        }
        steady(lab, mark, &pair.svr1, 3)?;
        check!(later.kernel(&pair.svr1).is_empty(), "{:?}", later.kernel(&pair.svr1));
        check!(later.adverts(&pair.svr2).is_empty(), "the backup sent adverts");
    }
    lab.note("a file that does not exist");
    pair.svr1.must(["rm", CONF])?;
    let mark = lab.mark();
    primary.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&pair.svr1, CONF)?;
    steady(lab, mark, &pair.svr1, 3)?;
    check!(lab.after(mark).kernel(&pair.svr1).is_empty(), "something was changed in the kernel");
    lab.note("a good file works again");
    pair.svr1.write(CONF, &FAILOVER[0].replace("0.100/24", "0.101/24"), 0o644)?;
    let mark = lab.mark();
    primary.signal(Signal::SIGHUP)?;
    lab.after(mark).address(&pair.svr1, "10.0.0.101", true)?;
    lab.after(mark).address(&pair.svr1, VIP, false)?;
    Ok(())
}

fn addresses_are_added_and_removed_without_touching_the_others(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let two = within(FAILOVER[0], "virtual_ipaddress {", "10.0.0.101/24");
    pair.svr1.write(CONF, &two, 0o644)?;
    let mark = lab.mark();
    primary.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.address(&pair.svr1, "10.0.0.101", true)?;
    later.advert(&pair.svr1, |advert| advert.payload.get(3) == Some(&2) && advert.sum() == 0)?;
    later.some_garps(&pair.svr1, "10.0.0.101".parse()?, 5)?;
    steady(lab, mark, &pair.svr1, 3)?;
    pair.svr1.write(CONF, FAILOVER[0], 0o644)?;
    primary.signal(Signal::SIGHUP)?;
    later.address(&pair.svr1, "10.0.0.101", false)?;
    steady(lab, mark, &pair.svr1, 6)?;
    let changes = later.kernel(&pair.svr1);
    check!(!changes.iter().any(|text| text.contains(VIP)), "{changes:?}");
    check!(
        later.logs(&pair.svr1, "Entering").is_empty(),
        "{:?}",
        later.logs(&pair.svr1, "Entering")
    );
    check!(later.adverts(&pair.svr2).is_empty(), "the backup sent adverts");
    Ok(())
}

fn a_renamed_instance_keeps_its_address(lab: &mut Lab) -> Res {
    unmoved(lab, FAILOVER[0], &FAILOVER[0].replace("vrrp_instance VRRP1", "vrrp_instance other"))
}

fn an_address_that_moves_between_instances_stays(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it may lose the address")?;
    let second = FAILOVER[0]
        .replace("vrrp_instance VRRP1", "vrrp_instance VRRP2")
        .replace("virtual_router_id 41", "virtual_router_id 42");
    let second = second.split_once("vrrp_instance").map_or("", |(_, rest)| rest);
    let text = |first: &str, other: &str| {
        let instance = second.replace("10.0.0.100/24", other);
        format!("{}\nvrrp_instance{instance}", FAILOVER[0].replace("10.0.0.100/24", first))
    };
    let before = text("10.0.0.100/24", "10.0.0.150/24");
    let after = text("10.0.0.150/24", "10.0.0.100/24");
    unmoved(lab, &before, &after)
}

/// Reloads one node, alone, from one file to another; no address may be added or removed, and it stays master.
fn unmoved(lab: &mut Lab, before: &str, after: &str) -> Res {
    let pair = Pair::new(lab)?;
    pair.svr1.write(CONF, before, 0o644)?;
    let daemon = lab.subject.start(&pair.svr1)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    pair.svr1.write(CONF, after, 0o644)?;
    let mark = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "Reloading")?;
    later.some_adverts(&pair.svr1, 8)?;
    check!(later.kernel(&pair.svr1).is_empty(), "{:?}", later.kernel(&pair.svr1));
    check!(pair.svr1.has(LAN, "10.0.0.100/24")?, "{}", pair.svr1.addresses(LAN)?);
    Ok(())
}

fn many_reloads_in_a_row_miss_no_advert(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let two = within(FAILOVER[0], "virtual_ipaddress {", "10.0.0.101/24");
    let mark = lab.mark();
    let later = lab.after(mark);
    for round in 0..20 {
        pair.svr1.write(CONF, if round % 2 == 0 { &two } else { FAILOVER[0] }, 0o644)?;
        primary.signal(Signal::SIGHUP)?;
        backup.signal(Signal::SIGHUP)?;
        if round % 5 == 4 {
            // Let a reload complete from time to time.
            later.some_adverts(&pair.svr1, round / 5 + 1)?;
        }
    }
    steady(lab, mark, &pair.svr1, 8)?;
    lab.timeline().poll(LIMIT, "the last file is in effect", || {
        Ok((!pair.svr1.has(LAN, "10.0.0.101/24")?).then_some(()))
    })?;
    let changes = later.kernel(&pair.svr1);
    check!(!changes.iter().any(|text| text.contains(VIP)), "{changes:?}");
    check!(later.adverts(&pair.svr2).is_empty(), "the backup sent adverts");
    check!(primary.processes().len() > 1 && backup.processes().len() > 1, "a process is gone");
    Ok(())
}

fn a_backup_that_reloads_stays_backup(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [_primary, backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    let mark = lab.mark();
    let later = lab.after(mark);
    for count in 1..=5 {
        backup.signal(Signal::SIGHUP)?;
        later.some_adverts(&pair.svr1, count)?;
    }
    check!(later.adverts(&pair.svr2).is_empty(), "the backup sent adverts");
    check!(later.logs(&pair.svr2, "MASTER").is_empty(), "the backup became master");
    Ok(())
}

fn a_new_priority_is_advertised_at_once(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    pair.svr1.write(CONF, &FAILOVER[0].replace("priority 200", "priority 90"), 0o644)?;
    let mark = lab.mark();
    primary.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.advert(&pair.svr1, |advert| advert.priority() == 90)?;
    // The other router is better now.
    later.address(&pair.svr2, VIP, true)?;
    later.address(&pair.svr1, VIP, false)?;
    Ok(())
}

fn an_old_mistake_does_not_refuse_a_reload(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let host = &pair.svr1;
    let old = within(FAILOVER[0], "vrrp_instance VRRP1 {", "debuging 3");
    host.write(CONF, &old, 0o644)?;
    let daemon = lab.subject.start(host)?;
    lab.always().some_garps(host, VIP.parse()?, 10)?;
    // The same mistake on another line, and an additional address.
    let more = format!("# lines\n\n{}", within(&old, "virtual_ipaddress {", "10.0.0.101/24"));
    host.write(CONF, &more, 0o644)?;
    let mark = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.address(host, "10.0.0.101", true)?;
    // The kernel's event about the address comes after it, and does not belong to the following.
    later.wait("the route to the address", |event| match &event.what {
        What::Kernel(change) if event.node == host.name => {
            (change.to_string() == "route added").then_some(())
        }
        _ => None,
    })?;
    later.log(host, "Reload complete")?;
    lab.subject.ours_only("it applies a file with a new mistake")?;
    let text = within(&more, "vrrp_instance VRRP1 {", "priorty 3").replace("0.101/24", "0.102/24");
    host.write(CONF, &text, 0o644)?;
    let mark = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.log(host, "reload refused")?;
    later.log(host, "'priorty'")?;
    steady(lab, mark, host, 3)?;
    check!(later.kernel(host).is_empty(), "{:?}", later.kernel(host));
    lab.note("reload_check_config: an old mistake refuses, and the file says why");
    let report = "/run/check.log";
    let strict = format!("global_defs {{\nreload_check_config {report}\n}}\n{more}");
    host.write(CONF, &strict, 0o644)?;
    let mark = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(host, "Reload complete")?;
    let mark = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(host, "reload refused")?;
    let said = host.must(["cat", report])?;
    check!(said.contains("debuging"), "{said}");
    Ok(())
}

fn a_file_that_lost_every_virtual_router_is_refused(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it applies an empty file")?;
    let pair = Pair::new(lab)?;
    let host = &pair.svr1;
    host.write(CONF, FAILOVER[0], 0o644)?;
    let daemon = lab.subject.start(host)?;
    lab.always().some_garps(host, VIP.parse()?, 10)?;
    let address = "static_ipaddress {\n10.0.0.77/24 dev enp0s8\n}\n";
    for (text, why) in
        [("", "neither virtual routers nor virtual servers"), (address, "no virtual router")]
    {
        host.write(CONF, text, 0o644)?;
        let mark = lab.mark();
        daemon.signal(Signal::SIGHUP)?;
        let later = lab.after(mark);
        later.log(host, why)?;
        steady(lab, mark, host, 3)?;
        check!(later.kernel(host).is_empty(), "{:?}", later.kernel(host));
    }
    check!(daemon.stop()?, "it did not stop well");
    host.write(CONF, FAILOVER[0], 0o644)?;
    let mark = lab.mark();
    let daemon = lab.subject.start_with(host, &["-f", CONF, "--allow-empty"])?;
    lab.after(mark).address(host, VIP, true)?;
    host.write(CONF, "", 0o644)?;
    let mark = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).address(host, VIP, false)?;
    Ok(())
}

fn a_start_without_anything_usable_ends(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let host = &pair.svr1;
    let text = FAILOVER[0].replace("virtual_router_id", "# virtual_router_id");
    host.write(CONF, &text, 0o644)?;
    let mark = lab.mark();
    let daemon = lab.subject.start(host)?;
    let ours = daemon.ended(mark)?;
    check!(!ours, "it ended as if all were well");
    let mark = lab.mark();
    let theirs = Program::keepalived()?.start(host)?.ended_with(mark)?;
    lab.subject.ours_only("its messages differ")?;
    let mark = lab.mark();
    let daemon = lab.subject.start(host)?;
    let status = daemon.ended_with(mark)?;
    check!(status == theirs, "exit status {status:?}, of keepalived {theirs:?}");
    lab.after(mark).log(host, "nothing of the configuration can be used")?;
    // A file of virtual servers only: keepalived stays, and so do we, but it is an error.
    host.write(CONF, "virtual_server 10.9.0.1 80 {\n lb_algo rr\n lb_kind NAT\n}\n", 0o644)?;
    let mark = lab.mark();
    let theirs = Program::keepalived()?.start(host)?;
    lab.after(mark).log(host, "Startup complete")?;
    check!(theirs.stop()?, "keepalived did not stop well");
    let mark = lab.mark();
    let daemon = lab.subject.start(host)?;
    lab.after(mark).log(host, "nothing of the configuration can be used")?;
    lab.after(mark).log(host, "has no real servers")?;
    check!(daemon.stop()?, "it did not stop well");
    Ok(())
}

/// One reload drops everything, the next one wants it back while the process that runs scripts is still ending one.
fn a_process_that_is_needed_again_while_it_stops_is_started_again(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such process")?;
    let pair = Pair::new(lab)?;
    let host = &pair.svr1;
    let script = "/usr/local/bin/on_state_change";
    // It ignores the request to end.
    let slow =
        "#!/bin/sh\ntrap '' TERM\necho $3 >>/run/told\n[ $3 = MASTER ] || exit 0\nsleep 1000\n";
    host.write(script, slow, 0o755)?;
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", &format!("notify \"{script}\""));
    host.write(CONF, &text, 0o644)?;
    let daemon = lab.subject.start_with(host, &["-D", "-f", CONF, "--allow-empty"])?;
    let told = |count: usize| {
        lab.timeline().poll(LIMIT, "the script is told", || {
            let told = host.read("/run/told").unwrap_or_default();
            Ok((told.matches("MASTER").count() == count).then_some(()))
        })
    };
    told(1)?;
    for round in 2..=3 {
        let runner = daemon.role(Role::Runner)?;
        host.write(CONF, "", 0o644)?;
        let mark = lab.mark();
        daemon.signal(Signal::SIGHUP)?;
        lab.after(mark).log(host, "Reload complete")?;
        lab.after(mark).address(host, VIP, false)?;
        check!(lives(runner), "the process that is to be still stopping has ended");
        host.write(CONF, &text, 0o644)?;
        let mark = lab.mark();
        daemon.signal(Signal::SIGHUP)?;
        lab.after(mark).log(host, "Reload complete")?;
        lab.after(mark).address(host, VIP, true)?;
        told(round)?;
        let files = host.must(["find", "/run", "-name", "*.pid"])?;
        check!(files.contains("vrrp"), "pid files: {files}");
    }
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}
