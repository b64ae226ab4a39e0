//! keepalived's dump files: what its own write for the same configuration, and what exporters make of ours.

mod readers;

use serde_json::Value;

use crate::compare::{prepared, start};
use crate::lab::daemon::{CONF, Program};
use crate::lab::node::Node;
use crate::lab::{LIMIT, Lab, Res};
use crate::scenario::{FAILOVER, Pair};
use crate::{cases, check};
use readers::Seen;

cases![Here:
    the_json_file_is_that_of_keepalived,
    exporters_of_json_see_the_state,
    the_statistics_are_those_of_keepalived_and_can_be_set_to_zero,
];

const JSON: &str = "/tmp/keepalived.json";
const STATS: &str = "/tmp/keepalived.stats";
/// Its signal, by the number that some exporters have built in.
const SIGJSON: &str = "36";

/// Gives the node a directory for temporary files of its own: two daemons write the same names.
fn own_temporary(node: &Node) -> Res {
    node.must(["mount", "-t", "tmpfs", "none", "/tmp"]).map(drop)
}

/// Sends a signal to the process in a pid file, as users of keepalived do, and waits until a new file is there that can
/// be read: keepalived's own is there before it is complete.
fn asked<T>(
    node: &Node,
    (pid, signal): (&str, &str),
    path: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Res<T> {
    let ask = format!(
        "rm -f {path}; for d in /run /run/keepalived; do test -s $d/{pid}.pid && kill -{signal} $(cat $d/{pid}.pid) && exit 0; done; exit 1"
    );
    node.must(["sh", "-c", &ask])?;
    let mut last = String::new();
    let done = node.timeline().poll(LIMIT, &format!("{path} after signal {signal}"), || {
        let Ok(text) = node.read(path) else { return Ok(None) };
        let read = read(&text);
        last = read.as_ref().err().cloned().unwrap_or_default();
        Ok(read.ok())
    });
    done.map_err(|stop| match last.is_empty() {
        true => stop,
        false => crate::lab::fail(format!("{path}: {last}")),
    })
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))
}

/// Fields of 2.2.7 whose values are not compared: it shows passwords, and when something happened is another moment.
const DIFFERENT: [&str; 5] =
    ["auth_data", "last_transition", "advert_sent", "advert_rcvd", "master_adver_int"];
/// Fields that it does not have.
const NEWER: [&str; 7] = [
    "track_process",
    "auth_ext_missing",
    "auth_ext_malformed",
    "auth_ext_unknown_key",
    "auth_ext_invalid_hmac",
    "auth_ext_stale",
    "auth_ext_replay",
];

/// keepalived, and then ours, with the same configuration on a node of its own.
fn each_of_both(lab: &mut Lab, mut see: impl FnMut(&Lab, &str, &Node) -> Res) -> Res {
    for (name, program) in [("ka", Program::keepalived()?), ("our", lab.subject.clone())] {
        let node = prepared(lab, name)?;
        own_temporary(&node)?;
        node.write("/usr/local/bin/probe", "#!/bin/sh\nexit 0\n", 0o755)?;
        let daemon = start(lab, &node, &program, include_str!("dump/same.conf"))?;
        see(lab, name, &node)?;
        daemon.stop()?;
    }
    Ok(())
}

fn the_json_file_is_that_of_keepalived(lab: &mut Lab) -> Res {
    let mut seen = Vec::new();
    each_of_both(lab, |lab, name, node| {
        // A master adds its addresses after it has told that it is one.
        let value = lab.timeline().poll(LIMIT, &format!("{name} holds its addresses"), || {
            let value = asked(node, ("keepalived", SIGJSON), JSON, json)?;
            let text = value.to_string();
            let last = text.contains("10.0.1.150/24 dev enp0s9 scope global set");
            Ok((last && text.matches(" set").count() >= 9).then_some(value))
        })?;
        seen.push((node.read(JSON)?, value));
        Ok(())
    })?;
    let [(their_text, theirs), (our_text, ours)] = seen.as_slice() else { return Ok(()) };
    check!(our_text.lines().count() == 1 && our_text.ends_with("}}]\n"), "{our_text}");
    check!(their_text.matches("\\/").count() == our_text.matches("\\/").count(), "{our_text}");
    let (theirs, ours) = (theirs.as_array(), ours.as_array());
    let (Some(theirs), Some(ours)) = (theirs, ours) else {
        return Err(crate::lab::fail("not an array"));
    };
    check!(theirs.len() == 4 && ours.len() == 4, "{ours:?}");
    let mut wrong = Vec::new();
    for (their, our) in theirs.iter().zip(ours) {
        for part in ["data", "stats"] {
            let (Some(their), Some(our)) = (their[part].as_object(), our[part].as_object()) else {
                wrong.push(format!("no {part}"));
                continue;
            };
            let names: Vec<&String> =
                our.keys().filter(|name| !NEWER.contains(&name.as_str())).collect();
            if names != their.keys().collect::<Vec<_>>() {
                wrong.push(format!("fields {names:?}\nnot {:?}", their.keys()));
            }
            for (name, value) in their {
                let got = our.get(name).unwrap_or(&Value::Null);
                let same = match DIFFERENT.contains(&name.as_str()) {
                    true => got.is_number() == value.is_number(),
                    false => got == value,
                };
                if !same {
                    wrong.push(format!("{name}: {got:#}\nnot {value:#}"));
                }
            }
        }
    }
    check!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn exporters_of_json_see_the_state(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let nodes = [&pair.svr1, &pair.svr2];
    for node in nodes {
        own_temporary(node)?;
    }
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().address(&pair.svr1, "10.0.0.100", true)?;
    primary.signal(nix::sys::signal::Signal::SIGUSR1)?;
    lab.always().log(&pair.svr1, "keepalived.data (signal DATA) is not supported")?;
    for reader in readers::JSON_READERS {
        for (node, state) in nodes.into_iter().zip([2, 1]) {
            let seen =
                lab.timeline().poll(LIMIT, &format!("{} sees {state}", reader.name), || {
                    let ask = (reader.asks, SIGJSON);
                    let seen = asked(node, ask, JSON, |text| (reader.read)(text))?;
                    Ok((seen.first().is_some_and(|one| one.state == state)).then_some(seen))
                })?;
            let [Seen { name, interface, addresses, .. }] = seen.as_slice() else {
                return Err(crate::lab::fail(format!("{}: {seen:?}", reader.name)));
            };
            check!(name == "VRRP1" && interface == "enp0s8", "{}: {seen:?}", reader.name);
            let address = [("10.0.0.100/24".to_owned(), "enp0s8".to_owned())];
            check!(!reader.addresses || *addresses == address, "{}: {seen:?}", reader.name);
        }
    }
    // It is for root, as keepalived's.
    let mode = pair.svr1.must(["stat", "-c", "%a %U", JSON])?;
    check!(mode == "600 root\n", "{mode}");
    check!(primary.stop()?, "the exit status is not zero");
    let left = pair.svr1.must(["ls", "-A", "/tmp"])?;
    check!(left == "keepalived.json\n", "{left}");
    Ok(())
}

/// The labels of the file, each with its indentation, without what 2.2.7 does not have.
fn labels(text: &str) -> Vec<String> {
    let (mut newer, mut all) = (false, Vec::new());
    for line in text.lines() {
        let label = line.split_once(':').map_or(line, |(label, _)| label);
        match label {
            "  Authentication Extension Errors" => newer = true,
            _ if !label.starts_with("    ") => newer = false,
            _ => {}
        }
        if !newer {
            all.push(label.to_owned());
        }
    }
    all
}

fn the_statistics_are_those_of_keepalived_and_can_be_set_to_zero(lab: &mut Lab) -> Res {
    let mut seen = Vec::new();
    each_of_both(lab, |lab, name, node| {
        for pid in ["keepalived", "vrrp"] {
            let labels = asked(node, (pid, "USR2"), STATS, |text| {
                let instances = readers::stats(text)?;
                let names: Vec<&str> = instances.iter().map(|i| i.name.as_str()).collect();
                // Those of keepalived grow while they are read.
                (names == ["V1", "V2", "V3", "V4"]).then(|| labels(text)).ok_or(text.into())
            })?;
            seen.push(labels);
        }
        // V3 sends an advert each second to nobody: it is at two when the signal comes.
        let sent = |signal: &str| {
            asked(node, ("vrrp", signal), STATS, |text| {
                let instances = readers::stats(text)?;
                let one = instances.into_iter().nth(2).ok_or("no third instance")?;
                let masters = one.number("Became master")?;
                Ok((one.number("Advertisements: Sent")?, masters))
            })
        };
        let before = lab.timeline().poll(LIMIT, &format!("{name} sends adverts"), || {
            Ok(Some(sent("USR2")?).filter(|(sent, masters)| *sent >= 2 && *masters == 1))
        })?;
        // The file has them as they were; the next one those since then.
        let at_once = sent("63")?;
        check!(at_once.0 >= before.0 && at_once.1 == 1, "{name}: {at_once:?} after {before:?}");
        let after = sent("USR2")?;
        check!(after.0 < at_once.0 && after.1 == 0, "{name}: {after:?} after {at_once:?}");
        if lab.subject.ours_only("its renamed instances are new ones").is_ok() && name == "our" {
            let mark = lab.mark();
            let rename =
                format!("sed -i 's/V3/V5/' {CONF} && kill -HUP $(cat /run/keepalived.pid)");
            node.must(["sh", "-c", &rename])?;
            lab.after(mark).log(node, "Reload complete")?;
            let renamed = sent("USR2")?;
            check!(renamed.1 == 0 && renamed.0 >= after.0, "{renamed:?} after {after:?}");
        }
        Ok(())
    })?;
    let [theirs, _, ours, again] = seen.as_slice() else { return Ok(()) };
    check!(theirs == ours && ours == again, "{ours:#?}\nnot\n{theirs:#?}");
    Ok(())
}
