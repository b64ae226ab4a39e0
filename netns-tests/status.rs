//! The control socket and `evervip status`: a user's view of a running pair, and resistance to hostile clients and hung
//! processes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::daemon::{CONF, Role, signal_to};
use crate::lab::node::{Node, Output};
use crate::lab::timeline::Wall;
use crate::lab::{LIMIT, Lab, Res, fail, late};
use crate::scenario::{FAILOVER, Pair, replaced, steady, within};
use crate::{cases, check};

cases![Here:
    a_pair_is_shown_and_so_is_its_failover,
    a_refused_reload_and_a_bad_script_are_shown,
    a_hung_process_is_named_and_the_rest_is_shown,
    the_process_that_answers_holds_nothing_and_is_replaced,
    clients_that_stall_or_flood_harm_nobody,
    without_a_daemon_the_command_says_so,
];

/// The operator's command that was built with the tests.
const EVERVIP: &str = env!("CARGO_BIN_EXE_evervip");
const SOCKET: &str = "/run/evervip/control.sock";

/// A bare timer that is late by so many milliseconds excuses a process that does not answer within a second: a request
/// and its answer take a processor four times.
pub const SLOW: f64 = 250.0;

fn a_pair_is_shown_and_so_is_its_failover(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such command")?;
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    shown(lab, &pair.svr1, "MASTER")?;
    let backup = shown(lab, &pair.svr2, "BACKUP")?;
    lab.timeline().poll(LIMIT, "the backup hears the master", || {
        let instance = instance(&pair.svr2)?;
        Ok((instance["master"] == "10.0.0.71").then_some(()))
    })?;
    check!(backup["objects_held"] == 0 && backup["interface"] == "enp0s8", "{backup}");
    check!(backup["priority"] == 100 && backup["effective_priority"] == 100, "{backup}");
    lab.timeline().poll(LIMIT, "the master holds its address", || {
        Ok((instance(&pair.svr1)?["objects_held"] == 1).then_some(()))
    })?;
    let screen = status(&pair.svr1, &[])?;
    check!(screen.status.success() && screen.stderr.is_empty(), "{}", screen.stderr);
    let text = &screen.stdout;
    check!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let row = text.lines().find(|line| line.starts_with("VRRP1")).unwrap_or_default();
    let words: Vec<&str> = row.split_whitespace().collect();
    check!(matches!(words.as_slice(), [_, "enp0s8", "41", "MASTER", _, "200", "1", ..]), "{text}");
    check!(text.contains(&format!("configuration: {CONF}, read ")), "{text}");
    let metrics = pair.svr1.must([EVERVIP, "metrics"])?;
    let state = "evervip_vrrp_state{instance=\"VRRP1\",interface=\"enp0s8\",vrid=\"41\"} 2\n";
    check!(metrics.contains(state) && metrics.ends_with("# EOF\n"), "{metrics}");
    // One by name, and the closest one for a wrong name.
    let one = status(&pair.svr1, &["VRRP1"])?;
    check!(one.status.success() && one.stdout.contains("VRRP1"), "{}", one.stdout);
    let none = status(&pair.svr1, &["VRPR1"])?;
    check!(none.status.code() == Some(3), "{}", none.status);
    check!(none.stderr.contains("did you mean 'VRRP1'?"), "{}", none.stderr);
    check!(primary.stop()?, "the exit status is not zero");
    shown(lab, &pair.svr2, "MASTER")?;
    check!(pair.svr1.read(SOCKET).is_err(), "the socket is left");
    let left = pair.svr1.must(["ls", "/run"])?;
    check!(!left.contains("evervip"), "{left}");
    Ok(())
}

fn a_refused_reload_and_a_bad_script_are_shown(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such command")?;
    let pair = Pair::new(lab)?;
    let tracked = within(FAILOVER[0], "vrrp_instance VRRP1 {", "track_script {\n probe\n }");
    let probe =
        "vrrp_script probe {\n script \"/bin/false\"\n interval 1\n weight -20\n user root\n}\n";
    let [primary, _backup] =
        pair.start(&lab.subject, [&format!("{probe}{tracked}"), FAILOVER[1]])?;
    shown(lab, &pair.svr1, "MASTER")?;
    lab.timeline().poll(LIMIT, "the script is bad and lowers the priority", || {
        let report = report(&pair.svr1)?;
        let instance = &report["vrrp"]["instances"][0];
        let tracker = &report["vrrp"]["trackers"][0];
        let bad = tracker["name"] == "probe" && tracker["good"] == Value::Bool(false);
        let lower = instance["priority"] == 200 && instance["effective_priority"] == 180;
        Ok((bad && lower).then_some(()))
    })?;
    let screen = status(&pair.svr1, &[])?.stdout;
    check!(screen.contains("configured priority 200, changed by trackers"), "{screen}");
    check!(screen.lines().any(|l| l.starts_with("probe") && l.ends_with("BAD")), "{screen}");
    pair.svr1.write(CONF, &FAILOVER[0].replace("interface", "intreface"), 0o644)?;
    let mark = lab.mark();
    primary.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&pair.svr1, "reload refused")?;
    let report = report(&pair.svr1)?;
    let refused = report["daemon"]["last_reload"]["refused"].as_str().unwrap_or_default();
    check!(refused.contains("intreface"), "{report}");
    check!(report["daemon"]["configuration"]["generation"] == 1, "{report}");
    let screen = status(&pair.svr1, &[])?.stdout;
    check!(screen.contains("LAST RELOAD REFUSED"), "{screen}");
    Ok(())
}

fn a_hung_process_is_named_and_the_rest_is_shown(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such command")?;
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    shown(lab, &pair.svr1, "MASTER")?;
    let vrrp = primary.role(Role::Vrrp)?;
    // The supervisor comes first, or it would replace the process during the request.
    let both = [primary.pid, vrrp];
    for pid in both {
        signal_to(pid, Signal::SIGSTOP)?;
    }
    let hung = status(&pair.svr1, &["--json"]);
    for pid in both {
        signal_to(pid, Signal::SIGCONT)?;
    }
    let hung = hung?;
    check!(hung.status.code() == Some(4), "{}: {}", hung.status, hung.stderr);
    let report: Value = serde_json::from_str(&hung.stdout)?;
    check!(report["vrrp"]["unknown"] == "vrrp did not answer in 1 s", "{report}");
    check!(report["daemon"]["unknown"] == "supervisor did not answer in 1 s", "{report}");
    check!(report["checker"].is_null(), "{report}");
    shown(lab, &pair.svr1, "MASTER")?;
    // If only one hangs, it is reported by name, and the others answer.
    signal_to(vrrp, Signal::SIGSTOP)?;
    let hung = status(&pair.svr1, &["--json"])?;
    let report: Value = serde_json::from_str(&hung.stdout)?;
    let unknown = report["vrrp"]["unknown"].as_str().unwrap_or_default();
    check!(unknown.starts_with("vrrp did not answer") || unknown.contains("process"), "{report}");
    check!(report["daemon"]["pid"].is_u64() && hung.status.code() == Some(4), "{report}");
    replaced(lab, &primary, Role::Vrrp, vrrp)?;
    shown(lab, &pair.svr1, "MASTER")?;
    Ok(())
}

fn the_process_that_answers_holds_nothing_and_is_replaced(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such process")?;
    let pair = Pair::new(lab)?;
    let passwd = pair.svr1.read("/etc/passwd")? + "evervip:x:990:990::/:/bin/false\n";
    pair.svr1.write("/etc/passwd", &passwd, 0o644)?;
    let group = pair.svr1.read("/etc/group")? + "evervip:x:990:\n";
    pair.svr1.write("/etc/group", &group, 0o644)?;
    let [primary, backup] = pair.start(&lab.subject, FAILOVER)?;
    // With its own user, and without that account.
    for (daemon, ids) in [(&primary, "990\t990\t990\t990"), (&backup, "0\t0\t0\t0")] {
        let api = daemon.role(Role::Api)?;
        lab.timeline().poll(LIMIT, "the process has given up its rights", || {
            let status = fs::read_to_string(format!("/proc/{api}/status"))?;
            let value = |name: &str| {
                let line =
                    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.unwrap_or_default().trim().to_owned()
            };
            let caps = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
            let nothing = caps.iter().all(|name| value(name) == "0000000000000000");
            let user = value("Uid") == ids && value("Gid") == ids;
            let groups = ids.starts_with('0') || value("Groups").is_empty();
            Ok((nothing && value("NoNewPrivs") == "1" && user && groups).then_some(()))
        })?;
    }
    let mode = pair.svr1.must(["stat", "-c", "%a %u %g", SOCKET])?;
    check!(mode.trim() == "660 0 990", "{mode}");
    lab.always().some_adverts(&pair.svr1, 2)?;
    let mark = lab.mark();
    let api = primary.role(Role::Api)?;
    // A client that connects in between is served by the next one.
    signal_to(api, Signal::SIGKILL)?;
    shown(lab, &pair.svr1, "MASTER")?;
    replaced(lab, &primary, Role::Api, api)?;
    // One that hangs is killed although it belongs to another user.
    let api = primary.role(Role::Api)?;
    shown(lab, &pair.svr1, "MASTER")?;
    signal_to(api, Signal::SIGSTOP)?;
    replaced(lab, &primary, Role::Api, api)?;
    shown(lab, &pair.svr1, "MASTER")?;
    steady(lab, mark, &pair.svr1, 2)?;
    check!(lab.after(mark).kernel(&pair.svr1).is_empty(), "an address moved");
    Ok(())
}

fn clients_that_stall_or_flood_harm_nobody(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such socket")?;
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    shown(lab, &pair.svr1, "MASTER")?;
    let api = primary.role(Role::Api)?;
    let before = resident(api)?;
    let mark = lab.mark();
    // Requests without reading an answer.
    let mut floods: Vec<UnixStream> = (0..8).map(|_| connect(&pair.svr1)).collect::<Res<_>>()?;
    let requests = "{\"request\":\"status\"}\n".repeat(1000);
    for _ in 0..4 {
        for flood in &mut floods {
            flood.set_nonblocking(true)?;
            while flood.write(requests.as_bytes()).is_ok_and(|n| n > 0) {}
        }
        let mark = lab.mark();
        lab.after(mark).some_adverts(&pair.svr1, 1)?;
        check!(instance(&pair.svr1)?["state"] == "MASTER", "not served beside a flood");
    }
    // A line without end is refused, and no more of it is read.
    let mut endless = connect(&pair.svr1)?;
    endless.set_write_timeout(Some(Duration::from_secs(5)))?;
    let block = [b'x'; 1 << 16];
    check!((0..1000).any(|_| endless.write_all(&block).is_err()), "an endless line is read");
    // More clients than there is room for, all silent: the oldest must go, a new one is served.
    let silent: Vec<UnixStream> = (0..100).map(|_| connect(&pair.svr1)).collect::<Res<_>>()?;
    check!(instance(&pair.svr1)?["state"] == "MASTER", "not served beside silent clients");
    drop(silent);
    // Each wrong request is answered with its error.
    let answers = talk(&pair.svr1, "{\"id\":5,\"request\":\"stauts\"}\n?nonsense\n{\"id\":6}\n")?;
    let [first, second, third] = answers.as_slice() else {
        return Err(fail(format!("{answers:?}")));
    };
    check!(first["id"] == 5 && first["error"]["column"] == 19, "{first}");
    let message = first["error"]["message"].as_str().unwrap_or_default();
    check!(message.ends_with("did you mean 'status'?"), "{first}");
    check!(second["error"]["column"] == 1 && second["id"].is_null(), "{second}");
    check!(third["error"]["field"] == "request" && third["id"] == 6, "{third}");
    steady(lab, mark, &pair.svr1, 4)?;
    check!(lab.after(mark).kernel(&pair.svr1).is_empty(), "an address moved");
    let grown = resident(api)?.saturating_sub(before);
    check!(grown < 4096, "the process grew by {grown} kB");
    check!(primary.find(Role::Api) == Some(api), "the process was replaced");
    Ok(())
}

fn without_a_daemon_the_command_says_so(lab: &mut Lab) -> Res {
    let node = lab.node("svr1")?;
    for words in [&[][..], &["--json"], &["--socket", "/run/other.sock"]] {
        let output = status(&node, words)?;
        check!(output.status.code() == Some(1) && output.stdout.is_empty(), "{}", output.status);
        check!(output.stderr.contains("is evervipd running?"), "{}", output.stderr);
    }
    let wrong = status(&node, &["--jsno"])?;
    check!(wrong.status.code() == Some(2), "{}: {}", wrong.status, wrong.stderr);
    Ok(())
}

fn status(node: &Node, words: &[&str]) -> Res<Output> {
    node.output([&[EVERVIP, "status"], words].concat())
}

/// A report that every process has its part in. Each has a second for it, but for the lateness of the machine.
fn report(node: &Node) -> Res<Value> {
    loop {
        let begun = Wall::now();
        let output = status(node, &["--json"])?;
        if output.status.success() {
            return Ok(serde_json::from_str(&output.stdout)?);
        }
        let late = late::between(begun, Wall::now());
        check!(late > SLOW, "{}: {}{}", output.status, output.stderr, output.stdout);
    }
}

fn instance(node: &Node) -> Res<Value> {
    Ok(report(node)?["vrrp"]["instances"][0].clone())
}

/// Waits until the instance is shown in this state. Before the daemon has started there is no answer.
fn shown(lab: &Lab, node: &Node, state: &str) -> Res<Value> {
    lab.timeline().poll(LIMIT, &format!("{} is shown as {state}", node.name), || {
        let output = status(node, &["--json"])?;
        if !output.status.success() {
            return Ok(None);
        }
        let report: Value = serde_json::from_str(&output.stdout)?;
        let instance = report["vrrp"]["instances"][0].clone();
        Ok((instance["name"] == "VRRP1" && instance["state"] == state).then_some(instance))
    })
}

fn connect(node: &Node) -> Res<UnixStream> {
    Ok(node.run(|| UnixStream::connect(SOCKET))??)
}

/// The answers to these lines.
fn talk(node: &Node, lines: &str) -> Res<Vec<Value>> {
    let mut stream = connect(node)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(lines.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let text = BufReader::new(stream.take(1 << 20)).lines().collect::<Result<Vec<_>, _>>()?;
    Ok(text.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?)
}

/// Resident memory of a process in kB.
fn resident(pid: u32) -> Res<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| fail("no VmRSS"))
}
