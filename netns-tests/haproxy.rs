//! The haproxy scenario with the real haproxy, and the scripts of an instance: their arguments, their order, and the
//! handling of misbehaving ones.

use std::ffi::OsStr;

use nix::sys::signal::Signal;

use crate::lab::daemon::signal_to;
use crate::lab::node::{Node, command};
use crate::lab::service::{Server, fetch};
use crate::lab::{LIMIT, Lab, Res, need};
use crate::scenario::{FAILOVER, HAPROXY, HAPROXY_CFG, LAN, Pair, within};
use crate::{cases, check};

cases![Here:
    a_dead_haproxy_moves_the_address_and_a_live_one_takes_it_back,
    a_tracked_interface_that_goes_down_is_a_fault,
    a_failing_script_with_a_weight_lowers_the_priority,
    a_script_that_hangs_and_ignores_its_end_counts_as_failed,
    state_scripts_run_with_their_own_arguments,
    a_slow_script_is_not_overtaken_by_a_later_one,
];

const VIP: &str = "10.0.0.100";
const PAGE: &str = "http://10.0.0.100/";

/// The file into which the scripts of the tests write their arguments.
const TOLD: &str = "/run/told";

/// The program of the scenario: one line per call.
const ON_STATE_CHANGE: &str = "#!/bin/sh\necho \"$@\" >/run/told\n";

fn a_dead_haproxy_moves_the_address_and_a_live_one_takes_it_back(lab: &mut Lab) -> Res {
    let haproxy = need::program("haproxy", "haproxy")?;
    need::program("killall", "psmisc")?;
    let pair = Pair::new(lab)?;
    lab.segment("inner")?;
    for (node, address) in [(&pair.svr1, "192.168.1.11/24"), (&pair.svr2, "192.168.1.12/24")] {
        lab.plug(node, "inner", "enp0s9", &[address])?;
        node.sysctl("net.ipv4.ip_nonlocal_bind", "1")?;
        node.write("/etc/haproxy/haproxy.cfg", HAPROXY_CFG, 0o644)?;
        told(node)?;
        node.write("/usr/local/bin/on_state_change", ON_STATE_CHANGE, 0o755)?;
    }
    let webs = [lab.node("websvr1")?, lab.node("websvr2")?];
    for (web, address) in webs.iter().zip(["192.168.1.71/24", "192.168.1.72/24"]) {
        lab.plug(web, "inner", LAN, &[address])?;
    }
    let _webs = [Server::web(&webs[0], "0.0.0.0:80")?, Server::web(&webs[1], "0.0.0.0:80")?];
    let run = |node: &Node| {
        // The file's connection limit requires more file descriptors than some machines allow.
        let options = ["-db", "-n", "1000", "-f", "/etc/haproxy/haproxy.cfg"].map(OsStr::new);
        let words = [haproxy.as_os_str()].into_iter().chain(options);
        node.spawn(command(words), "haproxy")
    };
    let first = run(&pair.svr1)?;
    run(&pair.svr2)?;
    pair.start(&lab.subject, HAPROXY)?;
    let all = lab.always();
    all.says(&pair.svr1, "told", "INSTANCE VRRP1 MASTER 200")?;
    all.says(&pair.svr2, "told", "INSTANCE VRRP1 BACKUP 100")?;
    all.address(&pair.svr1, VIP, true)?;
    let page = || fetch(&pair.client, PAGE);
    lab.timeline().poll(LIMIT, "a page through svr1", page)?;

    lab.note("haproxy on svr1 is killed");
    let mark = lab.mark();
    signal_to(first, Signal::SIGKILL)?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "(VRRP1) Entering FAULT STATE")?;
    later.says(&pair.svr1, "told", "INSTANCE VRRP1 FAULT 200")?;
    later.address(&pair.svr1, VIP, false)?;
    later.address(&pair.svr2, VIP, true)?;
    later.says(&pair.svr2, "told", "INSTANCE VRRP1 MASTER 100")?;
    lab.timeline().poll(LIMIT, "a page through svr2", page)?;

    lab.note("haproxy on svr1 is started again");
    let mark = lab.mark();
    run(&pair.svr1)?;
    let later = lab.after(mark);
    later.says(&pair.svr1, "told", "INSTANCE VRRP1 MASTER 200")?;
    later.says(&pair.svr2, "told", "INSTANCE VRRP1 BACKUP 100")?;
    later.address(&pair.svr2, VIP, false)?;
    check!(pair.svr1.has(LAN, "10.0.0.100/24")?, "{}", pair.svr1.addresses(LAN)?);
    lab.timeline().poll(LIMIT, "a page through svr1", page)?;
    // In order, each once.
    let states: Vec<_> = all.said(&pair.svr1, "told");
    let wanted = ["BACKUP 200", "MASTER 200", "FAULT 200", "BACKUP 200", "MASTER 200"];
    let wanted: Vec<_> = wanted.iter().map(|state| format!("INSTANCE VRRP1 {state}")).collect();
    // At the start haproxy's check has not succeeded yet: that may count as a fault first, as in keepalived.
    let states: Vec<_> = states.into_iter().skip_while(|line| line.contains("FAULT")).collect();
    check!(states == wanted, "{states:#?}");
    Ok(())
}

fn a_tracked_interface_that_goes_down_is_a_fault(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    lab.segment("inner")?;
    let cable = lab.plug(&pair.svr1, "inner", "enp0s9", &["192.168.1.11/24"])?;
    let primary = within(FAILOVER[0], "vrrp_instance VRRP1 {", "track_interface {\n enp0s9\n }");
    pair.start(&lab.subject, [&primary, FAILOVER[1]])?;
    lab.always().address(&pair.svr1, VIP, true)?;
    let mark = lab.mark();
    cable.cut()?;
    let later = lab.after(mark);
    later.advert(&pair.svr1, |advert| advert.priority() == 0)?;
    later.log(&pair.svr1, "(VRRP1) Entering FAULT STATE")?;
    later.address(&pair.svr1, VIP, false)?;
    later.address(&pair.svr2, VIP, true)?;
    let mark = lab.mark();
    cable.mend()?;
    let later = lab.after(mark);
    later.address(&pair.svr1, VIP, true)?;
    later.address(&pair.svr2, VIP, false)?;
    Ok(())
}

fn a_failing_script_with_a_weight_lowers_the_priority(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let primary = tracked("/usr/local/bin/check", "interval 1\n weight -150\n fall 2\n rise 2");
    pair.svr1.write("/usr/local/bin/check", "#!/bin/sh\ntest ! -e /run/broken\n", 0o755)?;
    pair.start(&lab.subject, [&primary, FAILOVER[1]])?;
    lab.always().advert(&pair.svr1, |advert| advert.priority() == 200)?;
    let mark = lab.mark();
    pair.svr1.write("/run/broken", "", 0o644)?;
    let later = lab.after(mark);
    later.advert(&pair.svr1, |advert| advert.priority() == 50)?;
    later.log(&pair.svr1, "(VRRP1) Changing effective priority from 200 to 50")?;
    later.address(&pair.svr2, VIP, true)?;
    later.log(&pair.svr1, "(VRRP1) Entering BACKUP STATE")?;
    later.address(&pair.svr1, VIP, false)?;
    let mark = lab.mark();
    pair.svr1.must(["rm", "/run/broken"])?;
    let later = lab.after(mark);
    later.advert(&pair.svr1, |advert| advert.priority() == 200)?;
    later.address(&pair.svr2, VIP, false)?;
    Ok(())
}

fn a_script_that_hangs_and_ignores_its_end_counts_as_failed(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let primary = tracked("/usr/local/bin/check", "interval 1\n timeout 1\n fall 2\n rise 2");
    // It forks, ignores TERM and never ends, once the file exists.
    let script = "#!/bin/sh\ntest -e /run/broken || exit 0\ntrap '' TERM\n\
                  sleep 1000 &\nwhile :; do wait; sleep 1; done\n";
    pair.svr1.write("/usr/local/bin/check", script, 0o755)?;
    let [primary, _backup] = pair.start(&lab.subject, [&primary, FAILOVER[1]])?;
    lab.always().address(&pair.svr1, VIP, true)?;
    let mark = lab.mark();
    pair.svr1.write("/run/broken", "", 0o644)?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "(VRRP1) Entering FAULT STATE")?;
    later.address(&pair.svr1, VIP, false)?;
    later.address(&pair.svr2, VIP, true)?;
    lab.subject.ours_only("a script that ignores SIGTERM outlives it")?;
    // Its children end with it, or at the latest with the daemon.
    check!(primary.stop()?, "the exit status is not zero");
    let left = || {
        let all = pair.svr1.must(["ps", "-e", "-o", "args="])?;
        Ok((!all.contains("local/bin/check") && !all.contains("sleep 1000")).then_some(()))
    };
    lab.timeline().poll(LIMIT, "the script and its children are gone", left)?;
    Ok(())
}

fn state_scripts_run_with_their_own_arguments(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let script = "/usr/local/bin/on_state_change";
    let lines = format!(
        "notify_master \"{script} to-master 'two words'\"\n notify_backup \"{script} to-backup\"\n \
         notify_fault \"{script} to-fault\"\n notify_stop \"{script} to-stop\"\n notify \"{script} any\""
    );
    let primary = within(FAILOVER[0], "vrrp_instance VRRP1 {", &lines);
    told(&pair.svr1)?;
    pair.svr1.write(script, ON_STATE_CHANGE, 0o755)?;
    let [primary, _backup] = pair.start(&lab.subject, [&primary, FAILOVER[1]])?;
    let all = lab.always();
    all.says(&pair.svr1, "told", "to-backup")?;
    all.says(&pair.svr1, "told", "any INSTANCE VRRP1 BACKUP 200")?;
    all.says(&pair.svr1, "told", "to-master two words")?;
    all.says(&pair.svr1, "told", "any INSTANCE VRRP1 MASTER 200")?;
    pair.cables[0].cut()?;
    all.says(&pair.svr1, "told", "to-fault")?;
    all.says(&pair.svr1, "told", "any INSTANCE VRRP1 FAULT 200")?;
    primary.stop()?;
    all.says(&pair.svr1, "told", "to-stop")?;
    all.says(&pair.svr1, "told", "any INSTANCE VRRP1 STOP 200")?;
    Ok(())
}

fn a_slow_script_is_not_overtaken_by_a_later_one(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its scripts run at the same time and end in any order")?;
    let pair = Pair::new(lab)?;
    let script = "/usr/local/bin/on_state_change";
    let primary = within(FAILOVER[0], "vrrp_instance VRRP1 {", &format!("notify \"{script}\""));
    told(&pair.svr1)?;
    // The script for BACKUP waits until the instance is long MASTER.
    let slow = "#!/bin/sh\nif test \"$3\" = BACKUP; then sleep 5; fi\necho \"$@\" >/run/told\n";
    pair.svr1.write(script, slow, 0o755)?;
    pair.start(&lab.subject, [&primary, FAILOVER[1]])?;
    let all = lab.always();
    all.says(&pair.svr1, "told", "INSTANCE VRRP1 MASTER 200")?;
    let lines = all.said(&pair.svr1, "told");
    check!(lines == ["INSTANCE VRRP1 BACKUP 200", "INSTANCE VRRP1 MASTER 200"], "{lines:?}");
    Ok(())
}

/// The primary of the failover scenario with a tracked script.
fn tracked(script: &str, options: &str) -> String {
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", "track_script {\n chk\n }");
    format!("vrrp_script chk {{\n script \"{script}\"\n {options}\n}}\n{text}")
}

/// Creates the pipe that scripts write to; its lines are added to the timeline.
pub fn told(node: &Node) -> Res {
    let pipe = node.run(|| -> std::io::Result<std::fs::File> {
        nix::unistd::mkfifo(TOLD, nix::sys::stat::Mode::from_bits_truncate(0o666))?;
        // Also open for writing, so that it never ends.
        std::fs::OpenOptions::new().read(true).write(true).open(TOLD)
    })??;
    node.lines(pipe, &"told".into());
    Ok(())
}
