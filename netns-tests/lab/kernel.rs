//! The state of a node's kernel, from the output of `ip`, in a form that allows comparing two
//! nodes.

use super::daemon::{CONF, Daemon, Program};
use super::node::Node;
use super::{LIMIT, Lab, Res, Stop, fail};

/// Settings of each interface that a daemon may change.
const SETTINGS: [&str; 5] =
    ["arp_ignore", "arp_filter", "rp_filter", "accept_local", "promote_secondaries"];

/// The whole state, sorted.
pub fn everything(node: &Node) -> Res<Vec<String>> {
    let mut all = links(node)?;
    all.extend(addresses(node)?);
    all.extend(routes(node)?);
    all.extend(rules(node)?);
    all.extend(settings(node)?);
    all.sort();
    Ok(all)
}

/// Stacked interfaces: names, flags, hardware addresses and modes.
pub fn links(node: &Node) -> Res<Vec<String>> {
    let mut all = Vec::new();
    for line in node.must(["ip", "-d", "-o", "link"])?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| {
            let place = words.iter().position(|other| *other == word);
            place.and_then(|place| words.get(place + 1)).copied().unwrap_or("-")
        };
        let Some(place) = words.iter().position(|word| matches!(*word, "macvlan" | "ipvlan"))
        else {
            continue;
        };
        // `macvlan mode private`, `ipvlan  mode l2 bridge`
        let mode = words.get(place..place + 4).unwrap_or_default().join(" ");
        let (name, flags) =
            (words.get(1).copied().unwrap_or("-"), words.get(2).copied().unwrap_or("-"));
        // An ipvlan has the hardware address of its parent.
        let mac = if mode.contains("ipvlan") { "-" } else { after("link/ether") };
        let group = after("group");
        all.push(format!(
            "link {name} {flags} {mac} group {group} {mode} addrgenmode {}",
            after("addrgenmode")
        ));
    }
    Ok(all)
}

/// Addresses with all attributes except lifetimes and the protocol mark.
pub fn addresses(node: &Node) -> Res<Vec<String>> {
    let shown = node.must(["ip", "-o", "addr"])?;
    let address = |line: &str| {
        let words = line.split_whitespace().skip(1);
        let words = words.take_while(|word| !word.starts_with("valid_lft"));
        let words = words.filter(|word| !matches!(*word, "\\" | "proto" | "keepalived"));
        format!("address {}", words.collect::<Vec<_>>().join(" "))
    };
    Ok(shown.lines().map(address).collect())
}

/// The routes of all tables and both families, except those of the addresses themselves.
pub fn routes(node: &Node) -> Res<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for family in ["-4", "-6"] {
        // Each nexthop of a route is on a line of its own.
        let text = node.must(["ip", "-d", family, "route", "show", "table", "all"])?;
        for line in text.lines() {
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            match all.last_mut() {
                Some(last) if line.starts_with("nexthop") => *last = format!("{last} {line}"),
                _ => all.push(line),
            }
        }
    }
    // The remaining lifetime always differs.
    let whole = |line: String| match line.split_once(" expires ") {
        Some((head, rest)) => {
            let (_, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            format!("{head} expires {rest}")
        }
        None => line,
    };
    let made_by_the_kernel = |line: &String| line.contains(" proto kernel ");
    let mut all: Vec<String> =
        all.into_iter().map(whole).filter(|line| !made_by_the_kernel(line)).collect();
    all.sort();
    Ok(all)
}

/// The rules of both families.
pub fn rules(node: &Node) -> Res<Vec<String>> {
    let mut all = Vec::new();
    for family in ["-4", "-6"] {
        let text = node.must(["ip", "-d", family, "rule", "show"])?;
        all.extend(text.lines().map(|line| format!("{family} {}", line.replace('\t', " "))));
    }
    all.sort();
    Ok(all)
}

/// [`SETTINGS`] of all interfaces.
pub fn settings(node: &Node) -> Res<Vec<String>> {
    let mut all = Vec::new();
    for interface in node.must(["ls", "/proc/sys/net/ipv4/conf"])?.split_whitespace() {
        for setting in SETTINGS {
            let value = node.read(format!("/proc/sys/net/ipv4/conf/{interface}/{setting}"))?;
            all.push(format!("{interface} {setting} {}", value.trim()));
        }
    }
    Ok(all)
}

/// Waits until a list matches the wanted one; the failure names missing and excess lines.
pub fn same(
    lab: &Lab,
    what: &str,
    wanted: &[String],
    mut list: impl FnMut() -> Res<Vec<String>>,
) -> Res {
    let mut found = Vec::new();
    let waited = lab.timeline().poll(LIMIT, what, || {
        found = list()?;
        Ok((found == wanted).then_some(()))
    });
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).cloned().collect()
    };
    waited.map_err(|stop| match stop {
        Stop::Fail(text) => fail(format!(
            "{text}: missing {:#?}, too much {:#?}",
            only(wanted, &found),
            only(&found, wanted)
        )),
        skip @ Stop::Skip(_) => skip,
    })
}

/// Starts a program with this configuration and waits until all instances in it are masters.
pub fn begin(lab: &Lab, node: &Node, program: &Program, text: &str) -> Res<Daemon> {
    node.write(CONF, text, 0o644)?;
    let mark = lab.mark();
    let daemon = program.start(node)?;
    for line in text.lines().filter_map(|line| line.strip_prefix("vrrp_instance ")) {
        let name = line.trim_end_matches(" {");
        lab.after(mark).log(node, &format!("({name}) Entering MASTER STATE"))?;
    }
    Ok(daemon)
}
