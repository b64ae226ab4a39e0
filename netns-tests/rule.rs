//! Policy rules and static objects: the same as keepalived's for the same file, restored when another program removes
//! them, removed at a stop.

use crate::lab::daemon::{CONF, Program};
use crate::lab::kernel::{routes, rules, same};
use crate::lab::node::Node;
use crate::lab::{LIMIT, Lab, Res};
use crate::route::machine;
use crate::scenario::LAN;
use crate::{cases, check};

cases![Here:
    rules_are_those_of_keepalived,
    what_is_static_needs_no_instance,
    an_instance_follows_the_interfaces_of_its_track_group,
];

/// The preference is the position, from 100.
const RULES: &[&str] = &[
    "from 10.1.0.0/16 table 200",
    "to 10.2.3.4 lookup 201",
    "from 10.1.0.0/16 to 10.2.0.0/16 iif enp0s8 tos 4 fwmark 0x10/0xff table 1000 realms 3/4",
    "not from 10.3.0.0/24 table main suppress_prefixlength 0",
    "fwmark 7 uidrange 1000-2000 table 202",
    "ipproto tcp sport 1-1023 dport 80-90 table 203",
    "tunnel-id 77 oif enp0s8 table 204",
    "from 10.4.0.0/16 blackhole",
    "from 10.5.0.0/16 unreachable",
    "from 10.6.0.0/16 prohibit",
    "from 10.7.0.0/16 goto 30000",
    "from 2001:db8:1::/48 table 205",
    "to 2001:db8:2::1 iif enp0s8 table 206",
    "from 2001:db8:3::/48 unreachable",
    "from 10.8.0.0/16 table 207 no_track",
];

fn rules_are_those_of_keepalived(lab: &mut Lab) -> Res {
    let lines: String = (100..)
        .zip(RULES)
        .map(|(preference, rule)| format!("  {rule} preference {preference}\n"))
        .collect();
    let text = format!(
        "vrrp_instance VRRP1 {{\n interface enp0s8\n state MASTER\n priority 200\n \
         virtual_router_id 41\n advert_int 0.2\n version 3\n virtual_ipaddress {{\n  10.0.0.100/24\n }}\n \
         virtual_rules {{\n{lines} }}\n}}\n"
    );
    let (theirs, ours) = (machine(lab, "ka")?, machine(lab, "our")?);
    let before = rules(&ours)?;
    theirs.write(CONF, &text, 0o644)?;
    ours.write(CONF, &text, 0o644)?;
    let their = Program::keepalived()?.start(&theirs)?;
    let our = lab.subject.start(&ours)?;
    lab.timeline().poll(LIMIT, "keepalived has added its rules", || {
        Ok((rules(&theirs)?.len() == before.len() + RULES.len()).then_some(()))
    })?;
    // Ours have the mark whether they are tracked or not, so that the next process recognises them.
    let mark = |line: String| line.replace("proto unspec", "proto keepalived");
    let wanted: Vec<String> = rules(&theirs)?.into_iter().map(mark).collect();
    same(lab, "our rules", &wanted, || rules(&ours))?;
    their.stop()?;

    lab.note("another program removes those that are tracked");
    let mark = lab.mark();
    for (preference, rule) in (100..).zip(RULES) {
        let family = if rule.contains("::") { "-6" } else { "-4" };
        if !rule.contains("no_track") {
            ours.must(["ip", family, "rule", "del", "pref", &preference.to_string()])?;
        }
    }
    same(lab, "they are put back", &wanted, || rules(&ours))?;
    lab.after(mark).log(&ours, "rule 100 from 10.1.0.0/16 table 200 was removed by another")?;
    let mark = lab.mark();
    ours.must(["ip", "rule", "del", "pref", "114"])?;
    lab.after(mark).some_adverts(&ours, 5)?;
    check!(rules(&ours)?.len() == wanted.len() - 1, "the rule with no_track is restored");

    check!(our.stop()?, "the exit status is not zero");
    same(lab, "no rule is left", &before, || rules(&ours))
}

fn what_is_static_needs_no_instance(lab: &mut Lab) -> Res {
    let text = "static_ipaddress {\n 10.7.0.1/24 dev enp0s8\n 2001:db8:7::1/64 dev enp0s8\n}\n\
                static_routes {\n 10.8.0.0/16 via 10.7.0.9 dev enp0s8 src 10.7.0.1\n \
                2001:db8:8::/48 via 2001:db8:7::9 dev enp0s8\n blackhole 10.9.0.0/16\n}\n\
                static_rules {\n from 10.7.0.0/24 table 200 preference 100\n \
                iif enp0s8 table 201 preference 101\n}\n";
    let all = |node: &Node| -> Res<Vec<String>> {
        let addresses = node.must(["ip", "-o", "addr", "show", "dev", LAN])?;
        let addresses = addresses.lines().filter_map(|line| line.split_whitespace().nth(3));
        let mut all: Vec<String> = addresses.map(str::to_owned).collect();
        all.sort();
        all.extend(routes(node)?);
        all.extend(rules(node)?);
        Ok(all)
    };
    let (theirs, ours) = (machine(lab, "ka")?, machine(lab, "our")?);
    let before = all(&ours)?;
    theirs.write(CONF, text, 0o644)?;
    ours.write(CONF, text, 0o644)?;
    let their = Program::keepalived()?.start(&theirs)?;
    let our = lab.subject.start(&ours)?;
    lab.timeline().poll(LIMIT, "keepalived has added everything", || {
        Ok((all(&theirs)?.len() == before.len() + 7).then_some(()))
    })?;
    let wanted = all(&theirs)?;
    same(lab, "what we have", &wanted, || all(&ours))?;
    their.stop()?;

    lab.note("another program removes everything");
    let mark = lab.mark();
    ours.ip("addr del 10.7.0.1/24 dev enp0s8\naddr del 2001:db8:7::1/64 dev enp0s8\n\
             rule del pref 100\nrule del pref 101\nroute del 2001:db8:8::/48\n\
             route del blackhole 10.9.0.0/16\n")?;
    same(lab, "it is put back", &wanted, || all(&ours))?;
    for what in ["address 10.7.0.1/24 on enp0s8", "rule 100 from 10.7.0.0/24 table 200"] {
        let text = format!("static {what} was removed by another program, restoring it");
        lab.after(mark).log(&ours, &text)?;
    }

    check!(our.stop()?, "the exit status is not zero");
    same(lab, "nothing is left", &before, || all(&ours))
}

fn an_instance_follows_the_interfaces_of_its_track_group(lab: &mut Lab) -> Res {
    let text = "track_group watched {\n group {\n  VRRP1\n }\n}\n\
                static_routes {\n 10.8.0.0/16 dev far0 scope link track_group watched\n}\n\
                vrrp_instance VRRP1 {\n interface enp0s8\n priority 200\n virtual_router_id 41\n \
                advert_int 0.2\n version 3\n virtual_ipaddress {\n  10.0.0.100/24\n }\n}\n\
                vrrp_instance VRRP2 {\n interface enp0s8\n priority 200\n virtual_router_id 42\n \
                advert_int 0.2\n version 3\n virtual_ipaddress {\n  10.0.0.102/24\n }\n}\n";
    let node = machine(lab, "our")?;
    node.ip("link add far0 type veth peer name far1\nlink set far0 up\nlink set far1 up\n")?;
    node.write(CONF, text, 0o644)?;
    let daemon = lab.subject.start(&node)?;
    lab.always().log(&node, "(VRRP1) Entering MASTER STATE")?;
    lab.always().log(&node, "(VRRP2) Entering MASTER STATE")?;
    let mark = lab.mark();
    node.ip("link set far1 down\n")?;
    lab.after(mark).log(&node, "(VRRP1) Entering FAULT STATE")?;
    node.ip("link set far1 up\n")?;
    lab.after(mark).log(&node, "(VRRP1) Entering MASTER STATE")?;
    let other = lab.after(mark).logs(&node, "(VRRP2) Entering");
    check!(other.is_empty(), "not a member: {other:?}");
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}
