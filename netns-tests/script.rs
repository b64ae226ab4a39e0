//! Users' programs: none outlives its purpose, one that hangs does not delay others, and `notify_stop` is the last one
//! at a stop.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Daemon, signal_to};
use crate::lab::node::Node;
use crate::lab::service::python;
use crate::lab::{LIMIT, Lab, Res};
use crate::scenario::{FAILOVER, Pair, steady, within};
use crate::{cases, check};

cases![Here:
    a_signal_to_all_processes_runs_notify_stop,
    a_slow_script_of_the_master_does_not_outlive_notify_stop,
    a_check_script_ends_with_the_daemon,
    a_check_script_ends_when_it_leaves_the_configuration,
    scripts_that_hang_hold_up_the_next_state_for_seconds_only,
    a_file_system_that_hangs_stops_one_script_only,
    scripts_of_a_removed_instance_run_to_their_end,
    the_first_process_of_a_container_leaves_no_zombies,
    a_check_script_is_logged_when_its_result_changes,
];

const VIP: &str = "10.0.0.100";
/// The output of scripts.
const TOLD: &str = "/run/told";

fn script(node: &Node, name: &str, text: &str) -> Res {
    node.write(name, &format!("#!/bin/sh\n{text}\n"), 0o755)
}

/// Waits until scripts have written this.
fn told(lab: &Lab, node: &Node, text: &str) -> Res {
    lab.timeline().poll(LIMIT, &format!("`{text}` told by a script"), || {
        Ok(node.read(TOLD).unwrap_or_default().contains(text).then_some(()))
    })
}

/// Whether a process with this in its command line exists, as seen inside the node.
fn runs(node: &Node, text: &str) -> Res<bool> {
    Ok(node.must(["ps", "-e", "-o", "stat=,args="])?.lines().any(|line| line.contains(text)))
}

fn a_signal_to_all_processes_runs_notify_stop(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", "notify_stop /run/stop.sh");
    script(&pair.svr1, "/run/stop.sh", "echo stop >>/run/told")?;
    pair.svr1.write(CONF, &text, 0o644)?;
    // Ctrl-C reaches all processes of the terminal.
    let signals = [Signal::SIGTERM, Signal::SIGINT];
    for (signal, supervisor_first) in signals.into_iter().flat_map(|s| [(s, true), (s, false)]) {
        pair.svr1.write(TOLD, "", 0o644)?;
        let mark = lab.mark();
        let daemon = lab.subject.start(&pair.svr1)?;
        lab.after(mark).address(&pair.svr1, VIP, true)?;
        // Long enough that its runner has had nothing to do for a while.
        let mark = lab.mark();
        lab.after(mark).some_adverts(&pair.svr1, 4)?;
        let mark = lab.mark();
        let mut all = daemon.processes();
        if !supervisor_first {
            all.reverse();
        }
        all.into_iter().try_for_each(|pid| signal_to(pid, signal))?;
        check!(daemon.ended(mark)?, "the exit status is not zero");
        let told = pair.svr1.read(TOLD)?;
        check!(told == "stop\n", "{signal}, supervisor first: {supervisor_first}: {told:?}");
    }
    Ok(())
}

fn a_slow_script_of_the_master_does_not_outlive_notify_stop(lab: &mut Lab) -> Res {
    let lines = "notify_master /run/master.sh\n notify_stop /run/stop.sh";
    let pair = Pair::new(lab)?;
    script(
        &pair.svr1,
        "/run/master.sh",
        "echo begin >>/run/told; sleep 1000; echo end >>/run/told",
    )?;
    script(&pair.svr1, "/run/stop.sh", "echo stop >>/run/told; ps -e -o args= >/run/beside")?;
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", lines);
    pair.svr1.write(CONF, &text, 0o644)?;
    let daemon = lab.subject.start(&pair.svr1)?;
    told(lab, &pair.svr1, "begin")?;
    check!(daemon.stop()?, "the exit status is not zero");
    check!(pair.svr1.read(TOLD)? == "begin\nstop\n", "{:?}", pair.svr1.read(TOLD)?);
    let beside = pair.svr1.read("/run/beside")?;
    check!(!beside.contains("sleep 1000"), "it runs beside notify_stop:\n{beside}");
    check!(!runs(&pair.svr1, "sleep 1000")?, "it goes on after the daemon");
    Ok(())
}

/// Two scripts that never end, one of which ignores SIGTERM.
const CHECKS: &str = "vrrp_script polite {\n script /run/polite.sh\n interval 1\n timeout 60\n weight 2\n}\n\
    vrrp_script deaf {\n script /run/deaf.sh\n interval 1\n timeout 60\n weight 2\n}\n";
const TRACKS: &str = "track_script {\n polite\n deaf\n }";

/// A machine whose two check scripts have begun.
fn checking(lab: &mut Lab) -> Res<(Pair, Daemon)> {
    let pair = Pair::new(lab)?;
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", TRACKS);
    script(&pair.svr1, "/run/polite.sh", "echo polite >>/run/told; sleep 1001")?;
    let deaf = "trap '' TERM; echo deaf >>/run/told; while :; do sleep 1002; done";
    script(&pair.svr1, "/run/deaf.sh", deaf)?;
    pair.svr1.write(CONF, &format!("{CHECKS}{text}"), 0o644)?;
    let daemon = lab.subject.start(&pair.svr1)?;
    told(lab, &pair.svr1, "polite")?;
    told(lab, &pair.svr1, "deaf")?;
    Ok((pair, daemon))
}

fn a_check_script_ends_with_the_daemon(lab: &mut Lab) -> Res {
    let (pair, daemon) = checking(lab)?;
    check!(daemon.stop()?, "the exit status is not zero");
    for left in ["polite.sh", "deaf.sh", "sleep 1001", "sleep 1002"] {
        check!(!runs(&pair.svr1, left)?, "{left} runs after the daemon");
    }
    Ok(())
}

fn a_check_script_ends_when_it_leaves_the_configuration(lab: &mut Lab) -> Res {
    let (pair, daemon) = checking(lab)?;
    pair.svr1.write(CONF, FAILOVER[0], 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    // They would run for a minute.
    for left in ["sleep 1001", "sleep 1002"] {
        lab.timeline().poll(LIMIT, &format!("the end of `{left}`"), || {
            Ok((!runs(&pair.svr1, left)?).then_some(()))
        })?;
    }
    Ok(())
}

fn scripts_that_hang_hold_up_the_next_state_for_seconds_only(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let hangs = "echo \"$3\" >>/run/told; case $3 in BACKUP) ;; *) sleep 1003 ;; esac";
    script(&pair.svr1, "/run/notify.sh", hangs)?;
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", "notify /run/notify.sh");
    pair.svr1.write(CONF, &text, 0o644)?;
    lab.subject.start(&pair.svr1)?;
    told(lab, &pair.svr1, "MASTER")?;
    // Both the script of the master and that of the fault would run for a quarter of an hour.
    pair.cables[0].cut()?;
    lab.always().log(&pair.svr1, "Entering FAULT STATE")?;
    pair.cables[0].mend()?;
    told(lab, &pair.svr1, "FAULT\nBACKUP\nMASTER\n")?;
    lab.subject.ours_only("it lets such scripts run on")?;
    let left = pair.svr1.must(["ps", "-e", "-o", "args="])?.matches("sleep 1003").count();
    check!(left == 1, "{left} scripts of a state that hang");
    Ok(())
}

/// Blocks every process that opens the file named first until its input ends, like a dead file server.
const HOLD: &str = "import fcntl, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(sys.argv[1])
while True:
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        break
    except BlockingIOError:
        pass
print('held', flush=True)
signal.pause()
";

fn a_file_system_that_hangs_stops_one_script_only(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its reload reads the file, or hangs")?;
    let pair = Pair::new(lab)?;
    script(&pair.svr1, "/run/dead.sh", "exit 0")?;
    script(&pair.svr1, "/run/alive.sh", "test -e /run/good")?;
    script(&pair.svr1, "/run/notify.sh", "echo $3 >>/run/told")?;
    let checks = "vrrp_script dead {\n script /run/dead.sh\n interval 1\n timeout 600\n weight 2\n}\n\
        vrrp_script alive {\n script /run/alive.sh\n interval 1\n fall 1\n rise 1\n}\n";
    let lines = "track_script {\n dead\n alive\n }\n notify /run/notify.sh";
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", lines);
    pair.svr1.write("/run/good", "", 0o644)?;
    pair.svr1.write(CONF, &format!("{checks}{text}"), 0o644)?;
    let daemon = lab.subject.start(&pair.svr1)?;
    told(lab, &pair.svr1, "MASTER")?;
    let mut hold = Command::new(python()?);
    hold.args(["-c", HOLD, "/run/dead.sh"]);
    let holder = pair.svr1.spawn(hold, "hold")?;
    lab.always().says(&pair.svr1, "hold", "held")?;
    // It has been run once more meanwhile, and hangs.
    lab.timeline().poll(LIMIT, "a process that hangs in execve", || {
        let all = pair.svr1.must(["ps", "-e", "-o", "ppid=,args="])?;
        let runner = |line: &&str| line.contains("--role=runner");
        Ok((all.lines().filter(runner).count() == 2).then_some(()))
    })?;
    let mark = lab.mark();
    pair.svr1.must(["rm", "/run/good"])?;
    lab.after(mark).log(&pair.svr1, "Entering FAULT STATE")?;
    told(lab, &pair.svr1, "FAULT")?;
    check!(lab.always().logs(&pair.svr1, "does not respond").is_empty(), "the runner was killed");
    // A reload does not open the file either.
    let mark = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&pair.svr1, "Reload complete")?;
    signal_to(holder, Signal::SIGKILL)
}

fn scripts_of_a_removed_instance_run_to_their_end(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let node = &pair.svr1;
    script(
        node,
        "/run/slow.sh",
        "echo begins $4 >>/run/told; sleep 0.5; echo ends $4 >>/run/told",
    )?;
    let removed = "vrrp_instance GOES {\n interface enp0s8\n virtual_router_id 77\n priority 90\n advert_int 1\n \
                   notify /run/slow.sh\n virtual_ipaddress {\n  10.0.0.177/24\n }\n}\n";
    node.write(CONF, &format!("{}{removed}", FAILOVER[0]), 0o644)?;
    let daemon = lab.subject.start(node)?;
    lab.always().address(node, "10.0.0.177", true)?;
    lab.timeline().poll(LIMIT, "the script of the state MASTER", || {
        Ok(node.read("/run/told").ok().filter(|told| told.ends_with("ends 90\n")))
    })?;
    node.must(["rm", "/run/told"])?;
    // Nothing in this file runs a script.
    node.write(CONF, FAILOVER[0], 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.timeline().poll(LIMIT, "the script of the removal ends", || {
        Ok(node.read("/run/told").ok().filter(|told| told.contains("ends")))
    })?;
    lab.always().address(node, "10.0.0.177", false)?;
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

fn the_first_process_of_a_container_leaves_no_zombies(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let host = &pair.svr1;
    script(host, "/run/orphan.sh", "(sleep 0.2; echo x >>/run/told) & exit 0")?;
    let check = "vrrp_script orphan {\n script /run/orphan.sh\n interval 1\n}\n";
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", "track_script {\n orphan\n }");
    host.write(CONF, &format!("{check}{text}"), 0o644)?;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(&lab.subject.path).args(["-n", "-l", "-G", "-D", "-f", CONF]);
    let mark = lab.mark();
    let unshare = lab.subject.start_command(host, command)?;
    lab.after(mark).address(host, VIP, true)?;
    told(lab, host, "x\nx\nx\nx\n")?;
    let zombies = || -> Res<usize> {
        let all = host.must(["ps", "-e", "-o", "stat=,args="])?;
        Ok(all.lines().filter(|line| line.contains("<defunct>")).count())
    };
    lab.timeline().poll(LIMIT, "no zombies", || Ok((zombies()? == 0).then_some(())))?;
    // Killing it kills its child.
    signal_to(unshare.pid, Signal::SIGKILL)
}

fn a_check_script_is_logged_when_its_result_changes(lab: &mut Lab) -> Res {
    let check = "vrrp_script chk {\n script /run/chk.sh\n interval 1\n fall 1\n rise 1\n}\n";
    let pair = Pair::new(lab)?;
    script(&pair.svr1, "/run/chk.sh", "echo x >>/run/told; test ! -e /run/bad")?;
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", "track_script {\n chk\n }");
    pair.svr1.write(CONF, &format!("{check}{text}"), 0o644)?;
    lab.subject.start(&pair.svr1)?;
    lab.always().address(&pair.svr1, VIP, true)?;
    told(lab, &pair.svr1, "x\nx\nx\nx\nx\n")?;
    steady(lab, lab.mark(), &pair.svr1, 1)?;
    let lines = lab.always().logs(&pair.svr1, "chk");
    // Only that it succeeded, and which script it is.
    check!(lines.len() <= 2, "{lines:#?}");
    pair.svr1.write("/run/bad", "", 0o644)?;
    lab.always().log(&pair.svr1, "VRRP_Script(chk) failed")?;
    Ok(())
}
