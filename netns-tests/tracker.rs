//! Trackers: files, with the same priorities and states as keepalived for the same contents, on the wire; processes, which
//! Debian's keepalived does not know; links whose changes count only when they last. `status` shows them.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Program, Role, signal_to};
use crate::lab::node::Node;
use crate::lab::timeline::Wall;
use crate::lab::{LIMIT, Lab, Res, late};
use crate::scenario::{FAILOVER, Pair, within};
use crate::{cases, check};

cases![Here:
    a_file_counts_as_in_keepalived,
    a_file_of_somebody_else_is_followed_from_process_to_process,
    processes_are_looked_for_where_no_events_are_to_be_had,
    trackers_are_shown,
    a_link_that_is_down_for_a_moment_counts_as_up,
];

/// The primary of the failover scenario, at priority 100, with a tracked file.
fn tracked(file: &str, entry: &str) -> String {
    let entry = format!("track_file {{\n  load {entry}\n }}");
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", &entry);
    let text = text.replace("priority 200", "priority 100");
    format!("track_file load {{\n file {file}\n weight 2\n init_file 5\n}}\n{text}")
}

/// Waits for an advert with this priority.
fn sends(lab: &Lab, node: &Node, priority: u8) -> Res {
    let mark = lab.mark();
    lab.after(mark).advert(node, |advert| advert.priority() == priority)?;
    Ok(())
}

fn a_file_counts_as_in_keepalived(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let hosts = [(&pair.svr1, lab.subject.clone()), (&pair.svr2, Program::keepalived()?)];
    for (host, program) in hosts {
        let file = "/run/load";
        host.write(CONF, &tracked(file, "weight 2"), 0o644)?;
        let daemon = program.start(host)?;
        // Its first decision knows the number.
        sends(lab, host, 110)?;
        check!(host.read(file)? == "5\n", "{:?}", host.read(file)?);
        for (content, priority) in [
            ("10\n", 120),
            ("-20", 60),
            ("  0x10 things", 132),
            ("garbage", 100),
            ("017", 130),
            ("", 100),
            ("1000", 254),
        ] {
            host.write(file, content, 0o600)?;
            sends(lab, host, priority)?;
        }
        host.must(["sh", "-c", "echo 3 >/run/new; mv /run/new /run/load"])?;
        sends(lab, host, 106)?;
        host.must(["rm", file])?;
        sends(lab, host, 100)?;
        // A value that leads to FAULT.
        let mark = lab.mark();
        host.write(file, "-127\n", 0o600)?;
        lab.after(mark).log(host, "(VRRP1) Entering FAULT STATE")?;
        let mark = lab.mark();
        host.write(file, "-1\n", 0o600)?;
        lab.after(mark).advert(host, |advert| advert.priority() == 98)?;
        check!(daemon.stop()?, "the exit status is not zero");
    }
    Ok(())
}

fn a_file_of_somebody_else_is_followed_from_process_to_process(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such processes, and needs the directory at the start")?;
    let pair = Pair::new(lab)?;
    let host = &pair.svr1;
    host.write(CONF, &tracked("/run/app/load", "weight 0"), 0o644)?;
    let daemon = lab.subject.start(host)?;
    sends(lab, host, 100)?;
    let mark = lab.mark();
    // The directory is created, or replaced, later.
    host.must([
        "sh",
        "-c",
        "mkdir -m 700 /run/next; umask 077; echo 1 >/run/next/load; chown -R 65534 /run/next; \
         mv /run/next /run/app",
    ])?;
    lab.after(mark).log(host, "(VRRP1) Entering FAULT STATE")?;
    // The next processes know it, too: neither makes it better.
    for role in [Role::Vrrp, Role::Runner] {
        let mark = lab.mark();
        signal_to(daemon.role(role)?, Signal::SIGKILL)?;
        if role == Role::Vrrp {
            lab.after(mark).log(host, "(VRRP1) Entering FAULT STATE")?;
        }
        check!(
            lab.after(mark).adverts(host).is_empty(),
            "it sends adverts after the end of {role:?}"
        );
    }
    let mark = lab.mark();
    host.must(["sh", "-c", "echo 0 >/run/app/load"])?;
    lab.after(mark).advert(host, |advert| advert.priority() == 100)?;
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

/// What runs as a tracked process.
const WEB: &str = "/usr/local/bin/webserver";

/// Starts one.
fn web(host: &Node, words: &[&str]) -> Res<u32> {
    let mut command = Command::new(WEB);
    command.arg("1000").args(words);
    host.spawn(command, "webserver")
}

/// The primary of the failover scenario, at priority 100, with these blocks and these entries.
fn with_processes(blocks: &str, entries: &str) -> String {
    let entries = format!("track_process {{\n{entries}\n }}");
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", &entries);
    format!("{blocks}\n{}", text.replace("priority 200", "priority 100"))
}

fn processes_are_looked_for_where_no_events_are_to_be_had(lab: &mut Lab) -> Res {
    lab.subject.ours_only("Debian's is built without")?;
    let pair = Pair::new(lab)?;
    let host = &pair.svr1;
    host.must(["install", "-m", "755", "/bin/sleep", WEB])?;
    let blocks = "vrrp_track_process web {\n process webserver\n quorum 2\n quorum_max 3\n weight 10\n}\n\
        vrrp_track_process exact {\n process /usr/local/bin/webserver 1000\n weight -20\n}\n\
        vrrp_track_process first {\n process /usr/local/bin/webserver 10\n param_match initial\n}\n";
    let first = web(host, &[])?;
    host.write(CONF, &with_processes(blocks, "web\nexact\nfirst\n"), 0o644)?;
    let daemon = lab.subject.start(host)?;
    // One of two; the arguments are those of `exact`, and begin as those of `first`.
    sends(lab, host, 100)?;
    lab.always().log(host, "process events are not available here")?;
    let mark = lab.mark();
    let second = web(host, &["2000"])?;
    lab.after(mark).log(host, "Quorum gained for tracked process web")?;
    sends(lab, host, 110)?;
    let mark = lab.mark();
    signal_to(first, Signal::SIGKILL)?;
    lab.after(mark).log(host, "Quorum lost for tracked process web")?;
    lab.after(mark).log(host, "Quorum lost for tracked process exact")?;
    sends(lab, host, 80)?;
    // A reload that asks for less, and a new VRRP process.
    let fewer = blocks.replace("quorum 2", "quorum 1");
    host.write(CONF, &with_processes(&fewer, "web\nexact\nfirst\n"), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    sends(lab, host, 90)?;
    let mark = lab.mark();
    signal_to(daemon.role(Role::Vrrp)?, Signal::SIGKILL)?;
    lab.after(mark).log(host, "Entering MASTER STATE")?;
    sends(lab, host, 90)?;
    let mark = lab.mark();
    signal_to(second, Signal::SIGKILL)?;
    lab.after(mark).log(host, "(VRRP1) Entering FAULT STATE")?;
    let mark = lab.mark();
    for _ in 0..4 {
        web(host, &[])?;
    }
    // Four are too many.
    lab.after(mark).log(host, "(VRRP1) Entering MASTER STATE")?;
    sends(lab, host, 100)?;
    let said = lab.always().logs(host, "process events are not available here");
    check!(said.len() == 1, "{said:?}");
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

fn trackers_are_shown(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such command")?;
    let pair = Pair::new(lab)?;
    let host = &pair.svr1;
    host.must(["install", "-m", "755", "/bin/sleep", WEB])?;
    web(host, &[])?;
    let blocks = "vrrp_track_process web {\n process webserver\n}\n\
        vrrp_track_process db {\n process database\n weight 5\n}\n\
        track_file load {\n file /run/load\n weight 1\n init_file 7\n}\n";
    let text = with_processes(blocks, "web\ndb\n");
    let text = within(&text, "vrrp_instance VRRP1 {", "track_file {\n load\n }");
    host.write(CONF, &text, 0o644)?;
    let daemon = lab.subject.start(host)?;
    sends(lab, host, 107)?;
    let mut wanted =
        vec!["load file 7", "web process good (1 running)", "db process BAD (0 running)"];
    shows(lab, host, &wanted)?;
    host.write("/run/load", "-3\n", 0o644)?;
    web(host, &[])?;
    (wanted[0], wanted[1]) = ("load file -3", "web process good (2 running)");
    shows(lab, host, &wanted)?;
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

/// Waits until `evervip status` has these rows of trackers.
fn shows(lab: &Lab, host: &Node, wanted: &[&str]) -> Res {
    lab.timeline().poll(LIMIT, &format!("status shows {wanted:?}"), || {
        let text = host.output([env!("CARGO_BIN_EXE_evervip"), "status"])?.stdout;
        let rows: Vec<String> =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let shown = wanted.iter().all(|row| rows.iter().any(|shown| shown == row));
        Ok(shown.then_some(()))
    })
}

fn a_link_that_is_down_for_a_moment_counts_as_up(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let host = &pair.svr1;
    let delays = format!("interface_up_down_delays {{\n enp0s8 2 3\n}}\n{}", FAILOVER[0]);
    host.write(CONF, &delays.replace("advert_int 1", "advert_int 2"), 0o644)?;
    let daemon = lab.subject.start(host)?;
    lab.always().log(host, "(VRRP1) Entering MASTER STATE")?;
    let mark = lab.mark();
    pair.cables[0].cut()?;
    lab.after(mark).log(host, "Adding flags change to down delay")?;
    pair.cables[0].mend()?;
    lab.after(mark).log(host, "Delay timer for enp0s8 cancelled")?;
    lab.after(mark).some_adverts(host, 2)?;
    check!(lab.after(mark).logs(host, "FAULT").is_empty(), "a moment counted");
    // For longer than the delay it counts, no sooner; and so does the way back.
    for (down, text, least) in [
        (true, "(VRRP1) Entering FAULT STATE", 2000.0),
        (false, "(VRRP1) Entering BACKUP STATE", 3000.0),
    ] {
        let (mark, changed) = (lab.mark(), Wall::now());
        if down {
            pair.cables[0].cut()?
        } else {
            pair.cables[0].mend()?
        }
        let (begun, _) = lab.after(mark).log(host, "Adding flags change")?;
        let (counted, _) = lab.after(mark).log(host, text)?;
        // The line about the beginning may have been read late.
        let least = least - 20.0 - late::between(changed, begun);
        let lasted = counted.millis_since(begun);
        check!(lasted >= least, "after {lasted} ms, {least} at least: {text}");
    }
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}
