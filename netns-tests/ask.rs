//! What the operator's command answers about a running pair beyond its state: who was heard, and why.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::inject::{Forged, Injector};
use crate::lab::node::{Node, Output};
use crate::lab::{LIMIT, Lab, Res};
use crate::scenario::{FAILOVER, LAN, Pair, within};
use crate::{cases, check};

cases![Here:
    who_was_heard_and_whose_packets_were_refused_is_shown,
    why_an_instance_is_in_its_state_is_told,
];

/// The operator's command that was built with the tests.
const EVERVIP: &str = env!("CARGO_BIN_EXE_evervip");

fn who_was_heard_and_whose_packets_were_refused_is_shown(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such command")?;
    let pair = Pair::new(lab)?;
    let stranger = lab.node("stranger")?;
    lab.plug(&stranger, "lan", LAN, &["10.0.0.66/24"])?;
    let injector = Injector::new(&stranger, LAN)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    let wrong = || Forged { password: b"1067\0\0\0\0".to_vec(), ..Forged::default() };
    let version = || Forged { kind: 0x31, ..Forged::default() };
    injector.send(vec![wrong().frame(), wrong().frame(), version().frame()])?;
    // The backup hears the primary and has refused three packets.
    let heard = of_peers(lab, &pair.svr2, |instance| {
        let Some([master, other]) = instance["peers"].as_array().map(Vec::as_slice) else {
            return false;
        };
        master["adverts"].as_u64() > Some(1)
            && other["refused"]["auth_failure"] == 2
            && other["refused"]["bad_version"] == 1
    })?;
    let master = &heard["peers"][0];
    check!(heard["name"] == "VRRP1" && heard["state"] == "BACKUP", "{heard}");
    check!(master["source"] == "10.0.0.71" && master["master"] == true, "{heard}");
    check!(master["version"] == 2 && master["last"]["priority"] == 200, "{heard}");
    check!(master["last"]["interval_ms"] == 1000, "{heard}");
    check!(master["last"]["authentication"] == "PASS", "{heard}");
    check!(heard["peers"][1]["source"] == "10.0.0.66", "{heard}");
    check!(heard["peers"][1]["adverts"] == 0, "{heard}");
    let screen = evervip(&pair.svr2, &["peers", "VRRP1"])?;
    check!(screen.status.success() && screen.stderr.is_empty(), "{}", screen.stderr);
    let text = &screen.stdout;
    check!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let row = text.lines().find(|line| line.contains("10.0.0.71")).unwrap_or_default();
    let words: Vec<&str> = row.split_whitespace().collect();
    check!(matches!(words.as_slice(), [_, "2", "200", "1s", "plain", "PASS", ..]), "{text}");
    check!(text.contains("2 wrong password, 1 wrong version; the last"), "{text}");
    // The primary hears no backup, and says why.
    of_peers(lab, &pair.svr1, |instance| instance["state"] == "MASTER")?;
    let alone = evervip(&pair.svr1, &["peers"])?.stdout;
    check!(alone.contains("10.0.0.66") && !alone.contains("10.0.0.72"), "{alone}");
    let none = evervip(&pair.svr1, &["peers", "VRPR1"])?;
    check!(none.status.code() == Some(3), "{}", none.status);
    check!(none.stderr.contains("did you mean 'VRRP1'?"), "{}", none.stderr);
    // A farewell is shown as such.
    primary.signal(Signal::SIGTERM)?;
    of_peers(lab, &pair.svr2, |instance| instance["peers"][0]["last"]["priority"] == 0)?;
    let left = evervip(&pair.svr2, &["peers"])?.stdout;
    check!(left.contains("ceased to be master"), "{left}");
    Ok(())
}

fn why_an_instance_is_in_its_state_is_told(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such command")?;
    let pair = Pair::new(lab)?;
    let probe =
        "vrrp_script probe {\n script \"/usr/bin/test -e /run/good\"\n interval 1\n user root\n}\n";
    let tracked = within(FAILOVER[0], "vrrp_instance VRRP1 {", "track_script {\n probe\n }");
    pair.svr1.write("/run/good", "", 0o644)?;
    let primary = format!("{probe}{tracked}");
    let [primary, _backup] = pair.start(&lab.subject, [&primary, FAILOVER[1]])?;
    let changes = why(lab, &pair.svr1, "MASTER")?;
    let causes: Vec<&Value> = changes.iter().map(|change| &change["cause"]["kind"]).collect();
    check!(causes == ["silence", "started"], "{changes:?}");
    // The backup hears it.
    lab.timeline().poll(LIMIT, "the backup follows the primary", || {
        let report = asked(&pair.svr2)?;
        Ok((report["master"]["address"] == "10.0.0.71").then_some(()))
    })?;
    pair.svr1.must(["rm", "/run/good"])?;
    let failed = why(lab, &pair.svr1, "FAULT")?;
    let tracker = &failed[0]["cause"]["trackers"][0];
    check!(tracker["name"] == "probe" && tracker["good"] == false, "{failed:?}");
    let taken = why(lab, &pair.svr2, "MASTER")?;
    check!(taken[0]["cause"]["kind"] == "farewell", "{taken:?}");
    check!(taken[0]["cause"]["router"]["address"] == "10.0.0.71", "{taken:?}");
    pair.svr1.write("/run/good", "", 0o644)?;
    let back = why(lab, &pair.svr1, "MASTER")?;
    check!(back[0]["cause"]["kind"] == "lower_priority", "{back:?}");
    check!(back[0]["cause"]["router"]["priority"] == 100, "{back:?}");
    check!(back[1]["cause"]["text"] == "it can take part again: script probe is good", "{back:?}");
    let yielded = why(lab, &pair.svr2, "BACKUP")?;
    check!(yielded[0]["cause"]["router"]["priority"] == 200, "{yielded:?}");
    // The dead primary is named, with the time for which it was silent.
    primary.crash()?;
    let taken = why(lab, &pair.svr2, "MASTER")?;
    check!(taken[0]["cause"]["kind"] == "silence", "{taken:?}");
    check!(taken[0]["cause"]["millis"].as_u64() >= Some(3_000), "{taken:?}");
    let screen = evervip(&pair.svr2, &["why", "VRRP1"])?;
    let text = &screen.stdout;
    check!(screen.status.success(), "{}: {}", screen.status, screen.stderr);
    check!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    check!(text.starts_with("VRRP1: MASTER for "), "{text}");
    check!(
        text.contains("  BACKUP -> MASTER\n    no advert of 10.0.0.71 (priority 200) for "),
        "{text}"
    );
    check!(text.contains("    10.0.0.71 ceased to be master (priority 0)\n"), "{text}");
    let none = evervip(&pair.svr2, &["why", "VRPR1"])?;
    check!(none.status.code() == Some(3), "{}", none.status);
    check!(none.stderr.contains("did you mean 'VRRP1'?"), "{}", none.stderr);
    Ok(())
}

/// What the command says about the first instance.
fn asked(node: &Node) -> Res<Value> {
    let output = evervip(node, &["why", "--json"])?;
    if !output.status.success() {
        return Ok(Value::Null);
    }
    let report: Value = serde_json::from_str(&output.stdout)?;
    Ok(report["vrrp"]["instances"][0].clone())
}

/// Waits until the instance is in this state; returns its changes of state.
fn why(lab: &Lab, node: &Node, state: &str) -> Res<Vec<Value>> {
    lab.timeline().poll(LIMIT, &format!("{} is {state}", node.name), || {
        let instance = asked(node)?;
        let changes = instance["changes"].as_array().cloned().unwrap_or_default();
        Ok((instance["state"] == state).then_some(changes))
    })
}

/// Waits until what the instance has heard is as wanted.
fn of_peers(lab: &Lab, node: &Node, wanted: impl Fn(&Value) -> bool) -> Res<Value> {
    lab.timeline().poll(LIMIT, &format!("{} has heard it", node.name), || {
        let output = evervip(node, &["peers", "--json"])?;
        if !output.status.success() {
            return Ok(None);
        }
        let report: Value = serde_json::from_str(&output.stdout)?;
        let instance = report["vrrp"]["instances"][0].clone();
        Ok(wanted(&instance).then_some(instance))
    })
}

fn evervip(node: &Node, words: &[&str]) -> Res<Output> {
    node.output([&[EVERVIP], words].concat())
}
