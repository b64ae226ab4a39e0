//! keepalived's command line as used by scripts and users: options, exit statuses, files, log destinations.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Program, signal_to};
use crate::lab::node::{Node, Output};
use crate::lab::timeline::{Wall, What};
use crate::lab::{Lab, Res};
use crate::scenario::{FAILOVER, LAN, NAT};
use crate::{cases, check};

cases![Here:
    a_test_of_a_file_says_what_keepalived_says,
    version_and_help_are_printed,
    what_is_not_understood_is_refused,
    without_a_file_it_does_not_start,
    it_goes_to_the_background_and_logs_to_syslog,
    it_logs_to_the_facility_that_is_asked_for,
    signal_numbers_are_named,
];

const VIP: &str = "10.0.0.100";

/// Where the process id of the supervisor is written by default: scripts depend on it.
const PID_FILE: &str = "/run/keepalived.pid";

fn a_test_of_a_file_says_what_keepalived_says(lab: &mut Lab) -> Res {
    let keepalived = Program::keepalived()?;
    let node = machine(lab)?;
    let good = FAILOVER[0];
    let files = [
        good.to_owned(),
        NAT[0].to_owned(),
        good.replace("interface", "intreface"),
        good.replace("priority 200", "priority 300"),
        good.replace("virtual_router_id 41", "virtual_router_id many"),
        good.replace("enp0s8", "enp0s77"),
        String::new(),
        good.trim_end().trim_end_matches('}').to_owned(),
        format!("{good}}}\n"),
    ];
    for text in files {
        node.write("/etc/keepalived/test.conf", &text, 0o644)?;
        let [theirs, ours] = [&keepalived, &lab.subject]
            .map(|program| run(&node, program, &["-t", "-f", "/etc/keepalived/test.conf"]));
        let (theirs, ours) = (theirs?, ours?);
        check!(
            theirs.status.code() == ours.status.code(),
            "keepalived {}: {}, we {}: {} for\n{text}",
            theirs.status,
            theirs.stderr,
            ours.status,
            ours.stderr
        );
        // A user who runs it by hand sees the reason.
        check!(ours.status.success() || !ours.stderr.trim().is_empty(), "no reason for\n{text}");
    }
    let missing = ["-t", "-f", "/etc/keepalived/none.conf"];
    let (theirs, ours) = (run(&node, &keepalived, &missing)?, run(&node, &lab.subject, &missing)?);
    check!(theirs.status.code() == ours.status.code(), "{} and {}", theirs.status, ours.status);
    Ok(())
}

fn version_and_help_are_printed(lab: &mut Lab) -> Res {
    let node = machine(lab)?;
    for option in ["-v", "--version"] {
        let output = run(&node, &lab.subject.clone(), &[option])?;
        check!(output.status.success() && output.stdout.is_empty(), "{option}: {}", output.status);
        // Tools take the second word for the version.
        let version = output.stderr.split_whitespace().nth(1).unwrap_or_default();
        check!(version.starts_with('v') && version.contains('.'), "{}", output.stderr);
    }
    for option in ["-h", "--help"] {
        let output = run(&node, &lab.subject.clone(), &[option])?;
        check!(output.status.success(), "{option}: {}", output.status);
        for word in ["--use-file", "--dont-fork", "--log-detail", "--config-test"] {
            check!(output.stderr.contains(word), "{word} is missing: {}", output.stderr);
        }
    }
    Ok(())
}

fn what_is_not_understood_is_refused(lab: &mut Lab) -> Res {
    let node = machine(lab)?;
    for options in [&["--no-such-option"][..], &["-Z"], &["-f"], &["--pid"]] {
        let output = run(&node, &lab.subject.clone(), options)?;
        check!(output.status.code() == Some(1), "{options:?}: {}", output.status);
        check!(!output.stderr.is_empty(), "{options:?}: no message");
    }
    lab.subject.ours_only("it supports these options")?;
    // Options that this version does not support are reported.
    for option in ["-x", "-A", "-T"] {
        let output = run(&node, &lab.subject.clone(), &[option, "-n", "-f", CONF])?;
        check!(output.status.code() == Some(1), "{option}: {}", output.status);
        check!(output.stderr.contains(option), "{option}: {}", output.stderr);
    }
    Ok(())
}

fn without_a_file_it_does_not_start(lab: &mut Lab) -> Res {
    let node = machine(lab)?;
    let options = ["-n", "-l", "-f", "/etc/keepalived/none.conf"];
    let output = run(&node, &lab.subject.clone(), &options)?;
    check!(!output.status.success(), "{}", output.status);
    check!(output.stderr.contains("/etc/keepalived/none.conf"), "{}", output.stderr);
    if let Ok(keepalived) = Program::keepalived() {
        let theirs = run(&node, &keepalived, &options)?;
        check!(theirs.status.code() == output.status.code(), "{} {}", theirs.status, output.status);
    }
    Ok(())
}

fn it_goes_to_the_background_and_logs_to_syslog(lab: &mut Lab) -> Res {
    let node = machine(lab)?;
    syslog(&node)?;
    // No option at all: the default file, the default pid files.
    node.write(CONF, FAILOVER[0], 0o644)?;
    let output = run(&node, &lab.subject.clone(), &[])?;
    check!(output.status.success(), "{}: {}", output.status, output.stderr);
    lab.always().address(&node, VIP, true)?;
    let (_, line) = lab.always().log(&node, "(VRRP1) Entering MASTER STATE")?;
    // Facility daemon (3), level info (6).
    check!(line.starts_with("<30>"), "{line}");
    check!(line.to_lowercase().contains("vrrp["), "no name and process id: {line}");
    let pid: u32 = node.read(PID_FILE)?.trim().parse()?;
    check!(
        node.must(["cat", &format!("/proc/{pid}/comm")])?.trim() == lab.subject.name(),
        "pid {pid}"
    );
    let mark = lab.mark();
    node.must(["kill", "-TERM", &pid.to_string()])?;
    lab.after(mark).address(&node, VIP, false)?;
    lab.after(mark).log(&node, "Stopped")?;
    Ok(())
}

fn it_logs_to_the_facility_that_is_asked_for(lab: &mut Lab) -> Res {
    let node = machine(lab)?;
    syslog(&node)?;
    node.write(CONF, FAILOVER[0], 0o644)?;
    let mut command = Command::new(&lab.subject.path);
    command.args(["-n", "-S", "5"]);
    let daemon = lab.subject.start_command(&node, command)?;
    // local5 is facility 21.
    let (_, line) = lab.always().log(&node, "Entering BACKUP STATE")?;
    check!(line.starts_with(&format!("<{}>", 21 * 8 + 6)), "{line}");
    signal_to(daemon.pid, Signal::SIGTERM)
}

fn signal_numbers_are_named(lab: &mut Lab) -> Res {
    let node = machine(lab)?;
    for (name, number) in [("STOP", "15"), ("RELOAD", "1"), ("DATA", "10"), ("STATS", "12")] {
        let output = run(&node, &lab.subject.clone(), &[&format!("--signum={name}")])?;
        check!(output.status.success(), "{name}: {}", output.status);
        check!(output.stdout.trim() == number, "{name}: {}", output.stdout);
    }
    let output = run(&node, &lab.subject.clone(), &["--signum=NONE"])?;
    check!(output.status.code() == Some(1), "{}", output.status);
    Ok(())
}

/// A machine with the interface of the scenario.
fn machine(lab: &mut Lab) -> Res<Node> {
    lab.segment("lan")?;
    let node = lab.node("svr1")?;
    lab.plug(&node, "lan", LAN, &["10.0.0.71/24"])?;
    Ok(node)
}

/// Runs the program to its end.
fn run(node: &Node, program: &Program, options: &[&str]) -> Res<Output> {
    let words = [program.path.as_os_str()].into_iter();
    node.output(words.chain(options.iter().map(OsStr::new)))
}

/// Listens in place of syslog; each message is a line of the timeline.
fn syslog(node: &Node) -> Res {
    let socket = node.run(|| UnixDatagram::bind("/dev/log"))??;
    // A read takes one message, which may lack an end of line.
    let (name, timeline) = (Arc::clone(&node.name), Arc::clone(node.timeline()));
    node.halt().follow(File::from(OwnedFd::from(socket)), move |file| {
        let mut buffer = [0; 4096];
        let length = file.read(&mut buffer).unwrap_or_default();
        let text = String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned();
        let what = What::Log { source: "syslog".into(), line: text };
        timeline.push(Wall::now(), &name, what);
        length > 0
    });
    Ok(())
}
