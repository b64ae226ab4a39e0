//! The state of the kernel after a start is the same as with keepalived: both programs run each file of `compare/` on
//! identical machines, and interfaces, addresses, routes, rules and settings are compared; then ours stops and nothing
//! is left. The comments of a file list the instances that become master, those that enter FAULT, and other log lines
//! of both programs.

use crate::lab::daemon::{CONF, Daemon, Program};
use crate::lab::node::Node;
use crate::lab::timeline::What;
use crate::lab::{LIMIT, Lab, Res, kernel};
use crate::vmac::machine;
use crate::{cases, check};

cases![Here:
    addresses_are_the_same,
    instances_are_the_same,
    trackers_and_groups_are_the_same,
    routes_are_the_same,
    rules_and_what_is_static_are_the_same,
    virtual_macs_are_the_same,
];

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("compare/", $name, ".conf")))),*]
    };
}

type Files = &'static [(&'static str, &'static str)];

const ADDRESSES: Files = files![
    "address-bare",
    "address-brd",
    "address-dev",
    "address-excluded",
    "address-excluded-v6",
    "address-label",
    "address-many",
    "address-peer",
    "address-prefix",
    "address-scope",
    "address-second-subnet",
    "address-shared-subnet",
    "address-v6",
    "address-v6-and-v4",
    "address-v6-flags",
    "address-v6-old",
];

const INSTANCES: Files = files![
    "instance-both-families",
    "instance-delay",
    "instance-dont-track-primary",
    "instance-include-words",
    "instance-low",
    "instance-many",
    "instance-nopreempt",
    "instance-promote",
    "instance-source",
    "instance-state-master",
    "instance-unicast",
    "instance-unicast-v6",
    "instance-version-2",
    "instance-version-2-ah",
    "instance-version-2-bare",
    "instance-versions",
];

const TRACKERS: Files = files![
    "fault-interface-down",
    "fault-interface-reverse",
    "fault-interface-up",
    "fault-interface-weight",
    "fault-no-interface",
    "fault-script-bad",
    "fault-script-good",
    "fault-script-reverse",
    "fault-script-weight",
    "group-families",
    "group-fault",
    "group-script",
    "group-track",
    "group-track-weight",
    "group-two",
];

const ROUTES: Files = files![
    "route-after-address",
    "route-default",
    "route-device",
    "route-gateway",
    "route-metrics",
    "route-onlink",
    "route-source",
    "route-tables",
    "route-tos",
    "route-types",
    "route-v6",
    "route-ways",
];

const RULES: Files = files![
    "rule-and-route",
    "rule-from",
    "rule-interface",
    "rule-mark",
    "rule-ports",
    "rule-to",
    "rule-types",
    "rule-v6",
    "static-address",
    "static-all",
    "static-route",
    "static-rule",
];

const VMACS: Files = files![
    "vmac-address",
    "vmac-base",
    "vmac-beside",
    "vmac-dev",
    "vmac-name",
    "vmac-one",
    "vmac-parents",
    "vmac-route",
    "vmac-two",
    "vmac-v6",
];

/// Known differences (reasons in docs/configuration.md): lines of the state that are not compared.
fn differs(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    // keepalived sends from the link-local address of the parent, which it adds to each virtual interface for that.
    let borrowed = line.starts_with("address vrrp") && line.contains("fe80::71/64");
    let its_route = line.contains("fe80::/64") && line.contains("dev vrrp");
    // Version 2.4 sets it on interfaces for IPv6 as well, 2.2.7 does not.
    let of_v6 = line.starts_with("vrrp6.") && words.get(1) == Some(&"arp_ignore");
    borrowed || its_route || of_v6
}

pub fn state(node: &Node) -> Res<Vec<String>> {
    let all = kernel::everything(node)?.into_iter().filter(|line| !differs(line));
    // Our rules have the mark whether they are tracked or not.
    Ok(all.map(|line| line.replace("proto unspec", "proto keepalived")).collect())
}

/// The names after a word in the comments of a file.
fn named<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# ")?.strip_prefix(word));
    lines.flat_map(str::split_whitespace).collect()
}

pub fn start(lab: &Lab, node: &Node, program: &Program, text: &str) -> Res<Daemon> {
    node.write(CONF, text, 0o644)?;
    let mark = lab.mark();
    let daemon = program.start(node)?;
    let mut lines: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# says: ").map(str::to_lowercase))
        .collect();
    for (word, state) in [("masters:", "master"), ("faults:", "fault")] {
        let names = named(text, word);
        lines.extend(
            names.iter().map(|name| format!("({name}) entering {state} state").to_lowercase()),
        );
    }
    // keepalived writes the state at the start in small letters.
    for line in lines {
        lab.after(mark).wait(
            &format!("log line of {}: {line}", node.name),
            |event| match &event.what {
                What::Log { line: said, .. } if event.node == node.name => {
                    said.to_lowercase().contains(&line).then_some(())
                }
                _ => None,
            },
        )?;
    }
    Ok(daemon)
}

/// A machine with two interfaces and a third one that is down.
pub fn prepared(lab: &mut Lab, name: &str) -> Res<Node> {
    let node = machine(lab, name)?;
    node.ip("link add down0 type veth peer name down1\n\
             addr add 2001:db8::71/64 dev enp0s8 nodad\n")?;
    Ok(node)
}

fn compare(lab: &mut Lab, files: Files) -> Res {
    let (keepalived, subject) = (Program::keepalived()?, lab.subject.clone());
    let mut theirs = prepared(lab, "ka")?;
    let ours = prepared(lab, "our")?;
    for (name, text) in files {
        lab.note(name);
        let before = state(&ours)?;
        let their = start(lab, &theirs, &keepalived, text)?;
        let our = start(lab, &ours, &subject, text)?;
        // keepalived announces a state before it adds the objects of that state.
        let mut wanted = Vec::new();
        lab.timeline().poll(LIMIT, &format!("{name}: keepalived has settled"), || {
            let now = state(&theirs)?;
            let settled = now == wanted && (now == state(&ours)? || now != before);
            wanted = now;
            Ok(settled.then_some(()))
        })?;
        let masters = !named(text, "masters:").is_empty();
        check!(masters == (wanted != before), "{name}: the kernel of keepalived: {wanted:#?}");
        kernel::same(lab, &format!("{name}: the kernel is that of keepalived"), &wanted, || {
            state(&ours)
        })?;
        their.stop()?;
        check!(our.stop()?, "{name}: the exit status is not zero");
        kernel::same(lab, &format!("{name}: nothing is left"), &before, || state(&ours))?;
        // keepalived leaves an address with a peer and a virtual interface of an address behind.
        if state(&theirs)? != before {
            theirs = prepared(lab, &format!("k{}", lab.nodes()))?;
        }
    }
    Ok(())
}

fn addresses_are_the_same(lab: &mut Lab) -> Res {
    compare(lab, ADDRESSES)
}

fn instances_are_the_same(lab: &mut Lab) -> Res {
    compare(lab, INSTANCES)
}

fn trackers_and_groups_are_the_same(lab: &mut Lab) -> Res {
    compare(lab, TRACKERS)
}

fn routes_are_the_same(lab: &mut Lab) -> Res {
    compare(lab, ROUTES)
}

fn rules_and_what_is_static_are_the_same(lab: &mut Lab) -> Res {
    compare(lab, RULES)
}

fn virtual_macs_are_the_same(lab: &mut Lab) -> Res {
    compare(lab, VMACS)
}
