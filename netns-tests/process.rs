//! The processes of the daemon: any of them may be killed or hang, a second daemon is refused, a stop leaves nothing,
//! and a stalled process causes no false failover.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Daemon, Program, Role, lives, signal_to};
use crate::lab::node::launch;
use crate::lab::timeline::Wall;
use crate::lab::{LIMIT, Lab, Res, Stop, late};
use crate::scenario::{FAILOVER, LAN, Pair, replaced, steady, within};
use crate::{cases, check};

cases![Here:
    only_what_the_configuration_needs_is_started,
    a_killed_vrrp_process_keeps_its_addresses,
    a_wedged_vrrp_process_is_replaced_before_others_take_over,
    a_wedge_during_a_reload_is_noticed_as_fast,
    a_replaced_vrrp_process_repeats_no_notification,
    a_script_that_runs_while_the_runner_is_replaced_runs_once,
    a_killed_runner_delays_nothing_and_comes_back,
    a_wedged_runner_delays_nothing,
    a_channel_that_cannot_be_used_is_made_again,
    a_killed_supervisor_takes_everything_with_it,
    a_second_daemon_is_refused,
    a_keepalived_that_runs_is_refused_and_a_failed_start_leaves_no_file,
    a_stop_without_a_process_to_undo_it_is_undone_all_the_same,
    a_vrrp_process_that_hangs_during_a_stop_holds_no_address_beside_the_next_master,
    a_stop_leaves_nothing,
    a_stop_can_leave_the_addresses,
    a_backup_that_was_held_up_stays_backup,
    a_master_that_was_held_up_settles_again,
    a_blocked_log_delays_nothing,
    a_configuration_on_a_hanging_file_system_does_not_hold_up_later_reloads,
];

const VIP: &str = "10.0.0.100";

fn only_what_the_configuration_needs_is_started(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 1)?;
    primary.role(Role::Vrrp)?;
    check!(primary.find(Role::Checker).is_none(), "a checker without a virtual server");
    check!(primary.find(Role::Runner).is_none(), "a runner without a script or mail");
    check!(primary.find(Role::Config).is_none(), "the reader of the file is still there");
    Ok(())
}

fn a_killed_vrrp_process_keeps_its_addresses(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let vrrp = primary.role(Role::Vrrp)?;
    let mark = lab.mark();
    signal_to(vrrp, Signal::SIGKILL)?;
    replaced(lab, &primary, Role::Vrrp, vrrp)?;
    let later = lab.after(mark);
    lab.subject.ours_only("its addresses are removed and the backup takes over")?;
    steady(lab, mark, &pair.svr1, 4)?;
    check!(later.kernel(&pair.svr1).is_empty(), "{:?}", later.kernel(&pair.svr1));
    check!(later.adverts(&pair.svr2).is_empty(), "the backup took over");
    // It continues as master, however long it has been master: waiting for others first would cause a gap.
    let waited = later.logs(&pair.svr1, "Entering BACKUP STATE");
    check!(waited.is_empty(), "{waited:?}");
    Ok(())
}

fn a_wedged_vrrp_process_is_replaced_before_others_take_over(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it does not supervise its processes")?;
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let mark = lab.mark();
    for round in 1..=3 {
        let vrrp = primary.role(Role::Vrrp)?;
        let mark = lab.mark();
        signal_to(vrrp, Signal::SIGSTOP)?;
        replaced(lab, &primary, Role::Vrrp, vrrp)?;
        lab.after(mark).some_adverts(&pair.svr1, 2 + round)?;
    }
    let later = lab.after(mark);
    check!(later.adverts(&pair.svr2).is_empty(), "the backup took over");
    check!(later.kernel(&pair.svr1).is_empty(), "{:?}", later.kernel(&pair.svr1));
    settled(lab, &pair)
}

fn a_wedge_during_a_reload_is_noticed_as_fast(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it does not supervise its processes")?;
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let vrrp = primary.role(Role::Vrrp)?;
    let mark = lab.mark();
    signal_to(vrrp, Signal::SIGSTOP)?;
    primary.signal(Signal::SIGHUP)?;
    replaced(lab, &primary, Role::Vrrp, vrrp)?;
    let later = lab.after(mark);
    later.some_adverts(&pair.svr1, 3)?;
    check!(later.adverts(&pair.svr2).is_empty(), "the backup took over");
    settled(lab, &pair)
}

fn a_replaced_vrrp_process_repeats_no_notification(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its addresses are removed and the backup takes over")?;
    let pair = Pair::new(lab)?;
    let script = "/usr/local/bin/on_state_change";
    pair.svr1.write(script, "#!/bin/sh\necho \"$@\" >>/run/told\n", 0o755)?;
    let group = format!("vrrp_sync_group G {{\n group {{\n VRRP1\n }}\n notify \"{script}\"\n}}\n");
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", &format!("notify \"{script}\""));
    let [daemon, _backup] = pair.start(&lab.subject, [&(group + &text), FAILOVER[1]])?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let told = || pair.svr1.read("/run/told").unwrap_or_default();
    lab.timeline().poll(LIMIT, "the group is told to be master", || {
        Ok(told().contains("GROUP G MASTER").then_some(()))
    })?;
    let before = told();
    let mark = lab.mark();
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let vrrp = daemon.role(Role::Vrrp)?;
        signal_to(vrrp, signal)?;
        replaced(lab, &daemon, Role::Vrrp, vrrp)?;
        // Not before it has begun: two processes that send nothing are a silence of their own.
        lab.after(lab.mark()).some_adverts(&pair.svr1, 1)?;
    }
    steady(lab, lab.mark(), &pair.svr1, 3)?;
    check!(lab.after(mark).adverts(&pair.svr2).is_empty(), "the backup took over");
    check!(told() == before, "before:\n{before}after:\n{}", told());
    Ok(())
}

fn a_script_that_runs_while_the_runner_is_replaced_runs_once(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such process")?;
    let pair = Pair::new(lab)?;
    let script = "/usr/local/bin/on_state_change";
    // Runs until it is told to go on.
    let text = "#!/bin/sh\necho $3 begins >>/run/told\n[ $3 = MASTER ] && read line </run/gate\n\
                echo $3 ends >>/run/told\n";
    pair.svr1.write(script, text, 0o755)?;
    pair.svr1.must(["mkfifo", "/run/gate"])?;
    let primary = within(FAILOVER[0], "vrrp_instance VRRP1 {", &format!("notify \"{script}\""));
    let patient = "global_defs {\n notify_max_delay 60\n}\n".to_owned();
    let [daemon, _backup] = pair.start(&lab.subject, [&(patient + &primary), FAILOVER[1]])?;
    let told = || pair.svr1.read("/run/told").unwrap_or_default();
    let waits_for = |what: &'static str| {
        lab.timeline().poll(LIMIT, what, || Ok(told().contains(what).then_some(())))
    };
    waits_for("MASTER begins")?;
    let runner = daemon.role(Role::Runner)?;
    signal_to(runner, Signal::SIGKILL)?;
    replaced(lab, &daemon, Role::Runner, runner)?;
    // The script of the next state waits for the previous one, although another process started it.
    let mark = lab.mark();
    pair.cables[0].cut()?;
    lab.after(mark).log(&pair.svr1, "Entering FAULT STATE")?;
    lab.after(mark).some_adverts(&pair.svr2, 3)?;
    check!(told() == "BACKUP begins\nBACKUP ends\nMASTER begins\n", "{}", told());
    pair.svr1.must(["sh", "-c", "echo >/run/gate"])?;
    waits_for("FAULT ends")?;
    let want = "MASTER begins\nMASTER ends\nFAULT begins\nFAULT ends\n";
    check!(told().ends_with(want) && told().matches("MASTER begins").count() == 1, "{}", told());
    Ok(())
}

fn a_killed_runner_delays_nothing_and_comes_back(lab: &mut Lab) -> Res {
    runner(lab, Signal::SIGKILL)
}

fn a_wedged_runner_delays_nothing(lab: &mut Lab) -> Res {
    runner(lab, Signal::SIGSTOP)
}

/// The failover example; the primary writes what its notify script is called with into /run/told.
fn notified(lab: &mut Lab) -> Res<(Pair, [Daemon; 2])> {
    let pair = Pair::new(lab)?;
    let script = "/usr/local/bin/on_state_change";
    let primary = within(FAILOVER[0], "vrrp_instance VRRP1 {", &format!("notify \"{script}\""));
    pair.svr1.write(script, "#!/bin/sh\necho \"$@\" >>/run/told\n", 0o755)?;
    let daemons = pair.start(&lab.subject, [&primary, FAILOVER[1]])?;
    Ok((pair, daemons))
}

/// The process that runs scripts gets a signal; adverts continue, it is replaced, and scripts run again.
fn runner(lab: &mut Lab, signal: Signal) -> Res {
    lab.subject.ours_only("it has no such process")?;
    let (pair, [daemon, _backup]) = notified(lab)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let runner = daemon.role(Role::Runner)?;
    let mark = lab.mark();
    signal_to(runner, signal)?;
    replaced(lab, &daemon, Role::Runner, runner)?;
    steady(lab, mark, &pair.svr1, 4)?;
    let later = lab.after(mark);
    check!(later.kernel(&pair.svr1).is_empty(), "{:?}", later.kernel(&pair.svr1));
    check!(later.adverts(&pair.svr2).is_empty(), "the backup took over");
    pair.cables[0].cut()?;
    lab.timeline().poll(LIMIT, "the script is told of the fault", || {
        let told = pair.svr1.read("/run/told").unwrap_or_default();
        Ok(told.contains("INSTANCE VRRP1 FAULT 200").then_some(()))
    })
}

/// A process without a free descriptor cannot take the channel to a new runner: it gets one later, although nobody has
/// anything to say at that time.
fn a_channel_that_cannot_be_used_is_made_again(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no such process")?;
    let (pair, [daemon, _backup]) = notified(lab)?;
    let told = |what: &'static str| {
        lab.timeline().poll(LIMIT, what, || {
            let told = pair.svr1.read("/run/told").unwrap_or_default();
            Ok(told.contains(what).then_some(()))
        })
    };
    told("INSTANCE VRRP1 MASTER 200")?;
    let (vrrp, runner) = (daemon.role(Role::Vrrp)?, daemon.role(Role::Runner)?);
    let descriptors = |soft: u32| -> Res {
        let (pid, limit) = (vrrp.to_string(), format!("--nofile={soft}:"));
        let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status()?;
        check!(done.success(), "prlimit {limit}: {done}");
        Ok(())
    };
    descriptors(3)?;
    let mark = lab.mark();
    signal_to(runner, Signal::SIGKILL)?;
    replaced(lab, &daemon, Role::Runner, runner)?;
    lab.after(mark).log(&pair.svr1, "channel to runner: Too many open files")?;
    descriptors(256)?;
    pair.cables[0].cut()?;
    told("INSTANCE VRRP1 FAULT 200")?;
    check!(daemon.role(Role::Vrrp)? == vrrp, "the process was replaced");
    Ok(())
}

fn a_killed_supervisor_takes_everything_with_it(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    let below: Vec<u32> = primary.processes().into_iter().skip(1).collect();
    check!(!below.is_empty(), "there is one process only");
    let (mark, killed) = (lab.mark(), Wall::now());
    primary.signal(Signal::SIGKILL)?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "the supervisor is gone")?;
    let (end, _) = later.advert(&pair.svr1, |advert| advert.priority() == 0)?;
    // Everything continues for a moment: a daemon that is restarted at once finds everything in place. The line may be
    // read late, so the moment begins with the signal. (A clock that is being set runs a little faster or slower.)
    let went_on = end.millis_since(killed);
    check!(went_on > 1_990.0, "it left after {went_on} ms");
    let adverts = later.adverts(&pair.svr1);
    check!(adverts.iter().any(|(_, advert)| advert.priority() == 200), "it fell silent");
    later.address(&pair.svr1, VIP, false)?;
    later.address(&pair.svr2, VIP, true)?;
    lab.timeline().poll(LIMIT, "its children are gone", || {
        Ok(below.iter().all(|pid| !lives(*pid)).then_some(()))
    })?;
    // It can be started again despite the stale pid files.
    let mark = lab.mark();
    lab.subject.start(&pair.svr1)?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    Ok(())
}

fn a_second_daemon_is_refused(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let mark = lab.mark();
    let second = lab.subject.start(&pair.svr1)?;
    second.ended(mark)?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "already running")?;
    steady(lab, mark, &pair.svr1, 3)?;
    check!(later.kernel(&pair.svr1).is_empty(), "{:?}", later.kernel(&pair.svr1));
    check!(primary.processes().len() > 1, "the first one lost a process");
    // With its own pid files it may run beside the first.
    let files =
        ["-p", "/run/second.pid", "-r", "/run/second-vrrp.pid", "-c", "/run/second-check.pid"];
    let text = FAILOVER[0].replace("router_id 41", "router_id 42").replace("0.100/24", "0.102/24");
    pair.svr1.write("/etc/keepalived/second.conf", &text, 0o644)?;
    let options = [&["-D", "-f", "/etc/keepalived/second.conf"][..], &files].concat();
    lab.subject.start_with(&pair.svr1, &options)?;
    later.address(&pair.svr1, "10.0.0.102", true)?;
    let pid = pair.svr1.read("/run/second.pid")?;
    check!(pid.trim().parse::<u32>().is_ok() && pid.ends_with('\n'), "pid file {pid:?}");
    Ok(())
}

/// The runner is stopped as well: neither it nor another role holds up the removal of the addresses.
fn a_vrrp_process_that_hangs_during_a_stop_holds_no_address_beside_the_next_master(
    lab: &mut Lab,
) -> Res {
    lab.subject.ours_only("it does not supervise its processes")?;
    let pair = Pair::new(lab)?;
    let lines = "notify \"/bin/true\"";
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", lines);
    pair.svr2.write(CONF, FAILOVER[1], 0o644)?;
    lab.subject.start(&pair.svr2)?;
    pair.svr1.write(CONF, &text, 0o644)?;
    for order in [[Signal::SIGSTOP, Signal::SIGTERM], [Signal::SIGTERM, Signal::SIGSTOP]] {
        let mark = lab.mark();
        let daemon = lab.subject.start(&pair.svr1)?;
        lab.after(mark).some_garps(&pair.svr1, VIP.parse()?, 10)?;
        lab.after(mark).some_adverts(&pair.svr1, 8)?;
        let [vrrp, runner] = [daemon.role(Role::Vrrp)?, daemon.role(Role::Runner)?];
        signal_to(runner, Signal::SIGSTOP)?;
        let (mark, begun) = (lab.mark(), Wall::now());
        for signal in order {
            let pid = if signal == Signal::SIGSTOP { vrrp } else { daemon.pid };
            signal_to(pid, signal)?;
        }
        let later = lab.after(mark);
        let removed = later.address(&pair.svr1, VIP, false)?;
        let added = later.address(&pair.svr2, VIP, true)?;
        let both = removed.millis_since(added);
        let most = late::bound(0.0, begun, removed);
        check!(both <= most, "{order:?}: both had the address for {both} ms");
        check!(daemon.ended(mark)?, "the exit status is not zero");
        check!(daemon.processes().is_empty(), "processes stayed behind");
    }
    Ok(())
}

fn a_stop_leaves_nothing(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let before = pair.svr1.must(["ip", "addr"])?;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mark = lab.mark();
        pair.svr1.write(CONF, FAILOVER[0], 0o644)?;
        let daemon = lab.subject.start(&pair.svr1)?;
        lab.after(mark).address(&pair.svr1, VIP, true)?;
        let files = || pair.svr1.must(["find", "/run", "-name", "*.pid"]);
        check!(!files()?.is_empty(), "no pid file");
        daemon.signal(signal)?;
        check!(daemon.ended(mark)?, "the exit status after {signal} is not zero");
        check!(daemon.processes().is_empty(), "processes stayed behind");
        check!(files()?.is_empty(), "pid files stayed behind: {}", files()?);
        let after = pair.svr1.must(["ip", "addr"])?;
        check!(before == after, "before:\n{before}after:\n{after}");
        let alive = pair.svr1.must(["ps", "-e", "-o", "comm="])?;
        check!(!alive.contains(lab.subject.name()), "{alive}");
    }
    Ok(())
}

fn a_stop_can_leave_the_addresses(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    pair.svr1.write(CONF, FAILOVER[0], 0o644)?;
    let options = ["-D", "--dont-release-vrrp", "-f", CONF];
    let daemon = lab.subject.start_with(&pair.svr1, &options)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    let mark = lab.mark();
    check!(daemon.stop()?, "the exit status is not zero");
    check!(pair.svr1.has(LAN, "10.0.0.100/24")?, "{}", pair.svr1.addresses(LAN)?);
    let farewell = lab.after(mark).adverts(&pair.svr1);
    check!(farewell.iter().all(|(_, advert)| advert.priority() == 200), "it gave up its role");
    Ok(())
}

fn a_backup_that_was_held_up_stays_backup(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [_primary, backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    for _ in 0..3 {
        backup.signal_all(Signal::SIGSTOP)?;
        let mark = lab.mark();
        // Longer than the backup would wait before it takes over.
        lab.after(mark).some_adverts(&pair.svr1, 5)?;
        backup.signal_all(Signal::SIGCONT)?;
        let mark = lab.mark();
        steady(lab, mark, &pair.svr1, 2)?;
    }
    let sent = lab.always().adverts(&pair.svr2).len();
    check!(sent == 0, "the backup sent {sent} adverts");
    let masters = lab.always().logs(&pair.svr2, "MASTER");
    check!(masters.is_empty(), "{masters:?}");
    Ok(())
}

fn a_master_that_was_held_up_settles_again(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    let mark = lab.mark();
    primary.signal_all(Signal::SIGSTOP)?;
    lab.after(mark).address(&pair.svr2, VIP, true)?;
    lab.after(mark).some_adverts(&pair.svr2, 2)?;
    let resumed = lab.mark();
    primary.signal_all(Signal::SIGCONT)?;
    lab.after(resumed).address(&pair.svr2, VIP, false)?;
    // Neighbours learned that the backup has it: it must be announced again.
    lab.after(resumed).some_garps(&pair.svr1, VIP.parse()?, 1)?;
    settled(lab, &pair)
}

fn a_blocked_log_delays_nothing(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it blocks until the line is written")?;
    let pair = Pair::new(lab)?;
    pair.svr1.write(CONF, FAILOVER[0], 0o644)?;
    pair.svr2.write(CONF, FAILOVER[1], 0o644)?;
    // The pipe has no reader, and is full except for a few lines.
    let (reader, mut writer) = std::io::pipe()?;
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    while writer.write(&[b'.'; 1024]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty()))?;
    let mut command = Command::new(&lab.subject.path);
    command.args(["-n", "-l", "-G", "-D", "-f", CONF]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(writer);
    let mut child = pair.svr1.run(move || launch(&mut command))??;
    lab.subject.start(&pair.svr2)?;
    let mark = lab.mark();
    lab.after(mark).some_garps(&pair.svr1, VIP.parse()?, 10)?;
    steady(lab, mark, &pair.svr1, 8)?;
    check!(lab.always().adverts(&pair.svr2).is_empty(), "the backup took over");
    // The log continues as soon as the pipe is read.
    pair.svr1.lines(reader, &"pipe".into());
    let mark = lab.mark();
    signal_to(child.id(), Signal::SIGTERM)?;
    lab.after(mark).advert(&pair.svr1, |advert| advert.priority() == 0)?;
    lab.timeline().poll(LIMIT, "the end of the daemon", || Ok(child.try_wait()?))?;
    lab.after(mark).log(&pair.svr1, "Stopped")?;
    Ok(())
}

/// The primary advertises and holds the address, and the backup does neither.
fn settled(lab: &Lab, pair: &Pair) -> Res {
    lab.timeline().poll(LIMIT, "only the primary has the address", || {
        Ok((pair.svr1.has(LAN, "10.0.0.100/24")? && !pair.svr2.has(LAN, "10.0.0.100/24")?)
            .then_some(()))
    })?;
    let mark = lab.mark();
    lab.after(mark).some_adverts(&pair.svr1, 3)?;
    check!(lab.after(mark).adverts(&pair.svr2).is_empty(), "two masters");
    Ok(())
}

fn a_keepalived_that_runs_is_refused_and_a_failed_start_leaves_no_file(lab: &mut Lab) -> Res {
    lab.subject.ours_only("the test concerns both programs on one machine")?;
    let pair = Pair::new(lab)?;
    let node = &pair.svr1;
    node.write(CONF, FAILOVER[0], 0o644)?;
    let keepalived = Program::keepalived()?.start(node)?;
    lab.always().some_garps(node, VIP.parse()?, 10)?;
    let files = || node.must(["find", "/run", "-name", "*.pid"]);
    let before = files()?;
    let mark = lab.mark();
    let ours = lab.subject.start(node)?;
    check!(!ours.ended(mark)?, "it started beside keepalived");
    lab.after(mark).log(node, "keepalived is already running")?;
    check!(files()? == before, "before: {before}, now: {}", files()?);
    steady(lab, mark, node, 3)?;
    let later = lab.after(mark).kernel(node);
    check!(later.is_empty(), "{later:?}");
    check!(keepalived.stop()?, "keepalived ended badly");
    // Its own files do not stay either if one of them cannot be locked, or if the start fails later.
    let before = files()?;
    for (file, vrrp) in
        [(CONF, "/nosuch/vrrp.pid"), ("/etc/keepalived/nosuch.conf", "/run/own-vrrp.pid")]
    {
        let mark = lab.mark();
        let options = ["-f", file, "-p", "/run/own.pid", "-r", vrrp, "-c", "/run/own-check.pid"];
        let ours = lab.subject.start_with(node, &options)?;
        check!(!ours.ended(mark)?, "it started");
        check!(files()? == before, "before: {before}, now: {}", files()?);
    }
    // Nor if it has too few descriptors.
    let mark = lab.mark();
    let mut few = Command::new("prlimit");
    few.arg("--nofile=12").arg(&lab.subject.path).args(["-n", "-l", "-G", "-D", "-f", CONF]);
    let ours = lab.subject.start_command(node, few)?;
    check!(!ours.ended(mark)?, "it started with 12 descriptors");
    check!(files()? == before, "before: {before}, now: {}", files()?);
    Ok(())
}

fn a_stop_without_a_process_to_undo_it_is_undone_all_the_same(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it does not remove the address")?;
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    let vrrp = primary.role(Role::Vrrp)?;
    // Starting a process takes five descriptors.
    free_descriptors(primary.pid, 0)?;
    let mark = lab.mark();
    signal_to(vrrp, Signal::SIGKILL)?;
    lab.after(mark).log(&pair.svr1, "cannot start the vrrp process")?;
    check!(pair.svr1.has(LAN, "10.0.0.100/24")?, "the address is gone already");
    free_descriptors(primary.pid, 0)?;
    let mark = lab.mark();
    check!(primary.stop()?, "the exit status is not zero");
    check!(!pair.svr1.has(LAN, "10.0.0.100/24")?, "the address stays");
    lab.after(mark).log(&pair.svr1, "the supervisor does its work")?;
    lab.after(mark).advert(&pair.svr1, |advert| advert.priority() == 0)?;
    Ok(())
}

/// Limits the number of descriptors that a process can still open.
fn free_descriptors(pid: u32, free: usize) -> Res {
    let open: Vec<usize> = std::fs::read_dir(format!("/proc/{pid}/fd"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let gaps = |limit: usize| (0..limit).filter(|number| !open.contains(number)).count();
    let limit = (0..).take_while(|limit| gaps(*limit) <= free).last().unwrap_or_default();
    // The upper limit stays: it could not be raised again.
    let limit = format!("--nofile={limit}:");
    let done = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status()?;
    check!(done.success(), "prlimit: {done}");
    Ok(())
}

/// A file system (FUSE) whose server accepts requests and never answers: a process that looks up a file there cannot be
/// killed.
const HANGING: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
os.mknod("/run/fuse", 0o20600, os.makedev(10, 229))
fuse = os.open("/run/fuse", os.O_RDWR)
options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fuse
os.mkdir("/run/remote")
if libc.mount(b"remote", b"/run/remote", b"fuse", 0, options):
    sys.exit("cannot mount: " + os.strerror(ctypes.get_errno()))
print("mounted", flush=True)
while True:
    request = os.read(fuse, 1 << 20)
    length, code, number = struct.unpack_from("=IIQ", request)
    if code == 26: # FUSE_INIT
        answer = struct.pack("=IIIIHHIIHHI7I", 7, 31, 0, 0, 0, 0, 4096, 1, 1, 0, *[0] * 8)
        os.write(fuse, struct.pack("=IiQ", 16 + len(answer), 0, number) + answer)
    else:
        print("asked", flush=True)
"#;

fn a_configuration_on_a_hanging_file_system_does_not_hold_up_later_reloads(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its VRRP process reads the file, and hangs")?;
    if !std::path::Path::new("/sys/module/fuse").exists() {
        return Err(Stop::Skip("the kernel has no FUSE".into()));
    }
    let pair = Pair::new(lab)?;
    let node = &pair.svr1;
    let [daemon, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(node, VIP.parse()?, 10)?;
    let mut server = Command::new("/usr/bin/python3");
    server.args(["-c", HANGING]);
    let server = node.spawn(server, "fuse")?;
    lab.always().says(node, "fuse", "mounted")?;

    let mark = lab.mark();
    let including = format!("{}include /run/remote/part.conf\n", FAILOVER[0]);
    node.write(CONF, &including, 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.says(node, "fuse", "asked")?;
    let reader = daemon.role(Role::Config)?;
    lab.note("another, valid file");
    let other = within(FAILOVER[0], "virtual_ipaddress {", "10.0.0.101/24");
    node.write(CONF, &other, 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    let applied = later.address(node, "10.0.0.101", true)?;
    let (begun, _) = later.log(node, "another reload follows")?;
    // At most 5 s for the one that hangs, half a second for the kill, and the time to read the other one.
    let took = applied.millis_since(begun);
    let bound = late::bound(6_500.0, begun, applied);
    check!(took < bound, "applied after {took} ms, {bound} ms at most");
    check!(state(reader)? == Some('D'), "it does not hang: {:?}", state(reader)?);
    later.log(node, "failed to terminate after kill")?;
    steady(lab, mark, node, 8)?;

    lab.note("and again, until the file system is back");
    node.write(CONF, &including, 0o644)?;
    let again = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    lab.after(again).log(node, "Reloading")?;
    signal_to(server, Signal::SIGKILL)?;
    lab.after(again).log(node, "part.conf")?;
    lab.timeline().poll(LIMIT, "the processes that hung are gone", || {
        // Another one may wait for the next configuration.
        let waits = match daemon.find(Role::Config) {
            Some(pid) => state(pid)? != Some('D'),
            None => true,
        };
        Ok((state(reader)?.is_none() && waits).then_some(()))
    })?;
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

/// The state of a process as ps shows it; none when it is gone.
fn state(pid: u32) -> Res<Option<char>> {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return Ok(None) };
    Ok(stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()))
}
