//! Where a daemon is and how its processes are treated: network namespaces, several daemons on a machine, names,
//! priorities, processors, memory and permissions of files, as the configuration says and over a reload.

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Daemon, Role, signal_to};
use crate::lab::node::Node;
use crate::lab::timeline::Wall;
use crate::lab::{LIMIT, Lab, Res, fail, late};
use crate::route::machine;
use crate::scenario::replaced;
use crate::{cases, check};

cases![Here:
    a_daemon_works_in_the_namespace_that_its_configuration_names,
    a_daemon_works_in_the_namespace_of_the_command_line,
    daemons_with_names_run_side_by_side,
    processes_are_treated_as_configured,
    the_bfd_thread_is_treated_as_configured,
    a_thread_whose_timers_run_late_gets_priority,
];

fn instance(interface: &str, vrid: u8, address: &str, more: &str) -> String {
    format!(
        "vrrp_instance V{vrid} {{\n interface {interface}\n state MASTER\n priority 200\n \
         virtual_router_id {vrid}\n advert_int 0.2\n version 3\n{more} virtual_ipaddress {{\n  \
         {address}\n }}\n}}\n"
    )
}

/// A machine with a namespace `blue`, and in it an interface `inner` whose other end, `outer`, is outside.
fn with_namespace(lab: &mut Lab) -> Res<Node> {
    let node = lab.node("our")?;
    node.ip("netns add blue\nlink add outer type veth peer name inner netns blue\n\
         addr add 10.9.0.2/24 dev outer\nlink set outer up\n")?;
    for line in ["addr add 10.9.0.1/24 dev inner", "link set inner up", "link set lo up"] {
        node.must(["ip", "-n", "blue"].into_iter().chain(line.split(' ')))?;
    }
    Ok(node)
}

/// Waits until the address is on the interface inside of the namespace, or is not.
fn inside(lab: &Lab, node: &Node, address: &str, there: bool) -> Res {
    lab.timeline().poll(LIMIT, &format!("{address} inside: {there}"), || {
        let all = node.must(["ip", "-n", "blue", "-o", "addr"])?;
        Ok((all.contains(&format!("inner    inet {address} ")) == there).then_some(()))
    })
}

fn a_daemon_works_in_the_namespace_that_its_configuration_names(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its pid files are seen otherwise")?;
    let node = with_namespace(lab)?;
    // Runs where the daemon is: nowhere else is there an interface of that name.
    let script = "#!/bin/sh\ncat /proc/net/dev >/run/seen\n";
    node.write("/run/notify.sh", script, 0o755)?;
    let globals =
        "net_namespace blue\nglobal_defs {\n script_user root\n enable_script_security\n}\n";
    let text = |address: &str| {
        globals.to_owned() + &instance("inner", 7, address, " notify_master /run/notify.sh\n")
    };
    node.write(CONF, &text("10.9.0.100/24"), 0o644)?;
    // A test looks for interfaces there, too.
    let test = |words: &[&str]| {
        node.output(["evervipd", "-t", "-f", CONF].iter().chain(words).map(|word| match *word {
            "evervipd" => lab.subject.path.as_os_str().to_owned(),
            word => word.into(),
        }))
    };
    let tested = test(&[])?;
    check!(tested.stderr.is_empty() && tested.status.success(), "{}", tested.stderr);
    let tested = test(&["-s", "red"])?;
    check!(tested.stderr.contains("network namespace red: No such file"), "{}", tested.stderr);
    check!(tested.stderr.contains("inner"), "the interface is here: {}", tested.stderr);
    let daemon = lab.subject.start(&node)?;
    inside(lab, &node, "10.9.0.100/24", true)?;
    check!(!node.must(["ip", "-o", "addr"])?.contains("10.9.0.100"), "the address is outside");
    lab.timeline().poll(LIMIT, "the script has run", || {
        Ok(node.read("/run/seen").ok().filter(|seen| !seen.is_empty()))
    })?;
    let seen = node.read("/run/seen")?;
    check!(seen.contains("inner:") && !seen.contains("outer:"), "the script ran elsewhere: {seen}");
    let files = node.must(["find", "/run/keepalived", "/run/evervip", "-type", "f,s"])?;
    for file in [
        "/run/keepalived/blue/keepalived.pid",
        "/run/keepalived/blue/vrrp.pid",
        "/run/evervip/control_blue.sock",
    ] {
        check!(files.contains(file), "no {file} in {files}");
    }
    // A process that is replaced is there, too.
    let old = daemon.role(Role::Vrrp)?;
    signal_to(old, Signal::SIGKILL)?;
    replaced(lab, &daemon, Role::Vrrp, old)?;
    // A reload looks for interfaces there.
    node.write(CONF, &text("10.9.0.101/24"), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    inside(lab, &node, "10.9.0.101/24", true)?;
    inside(lab, &node, "10.9.0.100/24", false)?;
    // It cannot move.
    let mark = lab.mark();
    node.write(CONF, &text("10.9.0.102/24").replace("net_namespace blue", ""), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&node, "net_namespace cannot be changed while the daemon runs")?;
    inside(lab, &node, "10.9.0.101/24", true)?;
    check!(daemon.stop()?, "the exit status is not zero");
    inside(lab, &node, "10.9.0.101/24", false)?;
    let left = node.must(["ls", "/run"])?;
    check!(!left.contains("keepalived") && !left.contains("evervip"), "left: {left}");
    Ok(())
}

fn a_daemon_works_in_the_namespace_of_the_command_line(lab: &mut Lab) -> Res {
    lab.subject.ours_only("a namespace that is missing is an exit status of zero")?;
    let node = with_namespace(lab)?;
    let text = "net_namespace red\n".to_owned() + &instance("inner", 7, "10.9.0.100/24", "");
    node.write(CONF, &text, 0o644)?;
    let mark = lab.mark();
    let daemon = lab.subject.start(&node)?;
    check!(!daemon.ended(mark)?, "it started without its namespace");
    lab.after(mark).log(&node, "cannot enter the network namespace red: No such file")?;
    let daemon = lab.subject.start_with(&node, &["-D", "-f", CONF, "-s", "blue"])?;
    inside(lab, &node, "10.9.0.100/24", true)?;
    // What the configuration says is of no account.
    let mark = lab.mark();
    node.write(CONF, &text.replace("net_namespace red", ""), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&node, "Reload complete")?;
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

fn daemons_with_names_run_side_by_side(lab: &mut Lab) -> Res {
    lab.subject.ours_only("names of its files are elsewhere")?;
    let node = machine(lab, "our")?;
    let start = |name: &str, vrid: u8| -> Res<Daemon> {
        let file = format!("/etc/keepalived/{name}.conf");
        let address = format!("10.0.0.{vrid}/24");
        let text = format!("instance {name}\n") + &instance("enp0s8", vrid, &address, "");
        node.write(&*file, &text, 0o644)?;
        lab.subject.start_with(&node, &["-D", "-f", &file])
    };
    let (a, b) = (start("a", 101)?, start("b", 102)?);
    lab.always().address(&node, "10.0.0.101", true)?;
    lab.always().address(&node, "10.0.0.102", true)?;
    for name in ["keepalived_a", "vrrp_a", "keepalived_b", "vrrp_b"] {
        let pid = node.read(format!("/run/keepalived/{name}.pid"))?;
        check!(pid.trim().parse::<u32>().is_ok(), "{name}: {pid}");
    }
    let mark = lab.mark();
    let third = start("a", 101)?;
    check!(!third.ended(mark)?, "a second daemon of the same name runs");
    lab.after(mark).log(&node, "/run/keepalived/keepalived_a.pid is locked")?;
    for daemon in [a, b] {
        check!(daemon.stop()?, "the exit status is not zero");
    }
    let left = node.must(["ls", "/run"])?;
    check!(!left.contains("keepalived") && !left.contains("evervip"), "left: {left}");
    Ok(())
}

/// What the kernel says of a process: its name, nice value, processors, and whether its memory is locked.
#[derive(Debug, PartialEq)]
struct Treated {
    name: String,
    nice: i32,
    processors: String,
    locked: bool,
}

fn treated(pid: u32) -> Res<Treated> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    let status = read("status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|line| line.trim().to_owned()).ok_or_else(|| fail(format!("no {name}")))
    };
    Ok(Treated {
        name: read("comm")?.trim().to_owned(),
        nice: stat(&read("stat")?, 19)?,
        processors: field("Cpus_allowed_list:")?,
        locked: field("VmLck:")? != "0 kB",
    })
}

/// A field of /proc/PID/stat by its number in proc(5).
fn stat(text: &str, number: usize) -> Res<i32> {
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
    let value = fields.and_then(|mut fields| fields.nth(number - 3)?.parse().ok());
    value.ok_or_else(|| fail(format!("{text}: no field {number}")))
}

/// The real-time priorities of the threads of a process, 0 for the normal class, by the name of the thread.
fn priorities(pid: u32) -> Res<Vec<(String, i32)>> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let read = |file: &str| std::fs::read_to_string(thread.path().join(file));
        all.push((read("comm")?.trim().to_owned(), stat(&read("stat")?, 40)?));
    }
    Ok(all)
}

fn processes_are_treated_as_configured(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it treats its processes once, at the start")?;
    let node = machine(lab, "our")?;
    let service = "virtual_server 10.0.0.100 80 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n \
                   real_server 10.0.0.1 80 {\n  TCP_CHECK {\n  }\n }\n}\n";
    let text = |globals: &str| {
        let routers = instance("enp0s8", 7, "10.0.0.100/24", "");
        format!("global_defs {{\n{globals}}}\n{service}") + &routers
    };
    node.write(CONF, &text(""), 0o644)?;
    let daemon = lab.subject.start(&node)?;
    let at = |role| daemon.role(role).and_then(treated);
    lab.always().log(&node, "Startup complete")?;
    let before = [at(Role::Vrrp)?, at(Role::Checker)?];
    check!(before[0].name == "evervipd-vrrp" && before[1].name == "evervipd-check", "{before:?}");
    let own = treated(std::process::id())?.nice;
    check!(before.iter().all(|one| one.nice == own && !one.locked), "{before:?}");
    let reload = |globals: &str| -> Res {
        let mark = lab.mark();
        node.write(CONF, &text(globals), 0o644)?;
        daemon.signal(Signal::SIGHUP)?;
        lab.after(mark).log(&node, "Reload complete").map(drop)
    };
    reload(
        " process_names\n checker_process_name checks\n process_name ha\n vrrp_priority -5\n \
         vrrp_no_swap\n vrrp_cpu_affinity 0\n vrrp_rt_priority 20\n vrrp_rlimit_rttime 20000\n \
         checker_priority 5\n checker_no_swap\n checker_cpu_affinity 0\n checker_rt_priority 10\n \
         checker_rlimit_rttime 30000\n umask 022\n vrrp_notify_fifo /run/fifo\n \
         vrrp_rx_bufs_policy 20000000\n vrrp_netlink_monitor_rcv_bufs 30000000\n \
         vrrp_netlink_monitor_rcv_bufs_force\n vrrp_netlink_cmd_rcv_bufs 25000000\n \
         vrrp_netlink_cmd_rcv_bufs_force\n",
    )?;
    let wanted = [("keepalived_vrrp", -5), ("checks", 5)].map(|(name, nice)| Treated {
        name: name.into(),
        nice,
        processors: "0".into(),
        locked: true,
    });
    let [vrrp, checker] = [daemon.role(Role::Vrrp)?, daemon.role(Role::Checker)?];
    lab.timeline().poll(LIMIT, "processes are treated as configured", || {
        let got = [treated(vrrp)?, treated(checker)?];
        lab.note(format!("{got:?}"));
        // Names and priorities of the nice kind are of the first thread; that of real time counts then.
        let same = got.iter().zip(&wanted).all(|(got, wanted)| {
            (&got.name, &got.processors, got.locked)
                == (&wanted.name, &wanted.processors, wanted.locked)
        });
        Ok(same.then_some(()))
    })?;
    check!(treated(vrrp)?.nice == -5, "{:?}", treated(vrrp)?);
    let of = |pid, name: &str| -> Res<i32> {
        let all = priorities(pid)?;
        let found = all.iter().find(|(thread, _)| thread == name).map(|(_, priority)| *priority);
        found.ok_or_else(|| fail(format!("no thread {name} in {all:?}")))
    };
    check!(of(vrrp, "vrrp-rt")? == 20, "{:?}", priorities(vrrp)?);
    check!(of(vrrp, "keepalived_vrrp")? == 0, "{:?}", priorities(vrrp)?);
    check!(of(checker, "checks")? == 10, "{:?}", priorities(checker)?);
    for (pid, limit) in [(vrrp, "20000"), (checker, "30000")] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let line = limits.lines().find(|line| line.starts_with("Max realtime timeout"));
        let soft = line.and_then(|line| line.split_whitespace().nth(3));
        check!(soft == Some(limit), "{line:?}");
    }
    check!(treated(daemon.pid)?.name == "ha", "{:?}", treated(daemon.pid)?);
    let mode = |file: &str| node.must(["stat", "-c", "%a", file]);
    lab.timeline().poll(LIMIT, "the FIFO", || Ok(mode("/run/fifo").ok()))?;
    check!(mode("/run/fifo")? == "644\n", "{}", mode("/run/fifo")?);
    // The kernel doubles what it is asked for.
    let shown = node.must(["ss", "-a", "-m", "-f", "netlink"])?;
    for size in ["rb60000000,", "rb50000000,"] {
        check!(shown.contains(size), "{size}: {shown}");
    }
    // All of it goes with the words that asked for it.
    reload(" vrrp_notify_fifo /run/other\n")?;
    lab.timeline().poll(LIMIT, "processes are treated as before", || {
        Ok(([treated(vrrp)?, treated(checker)?] == before).then_some(()))
    })?;
    for pid in [vrrp, checker] {
        let all = priorities(pid)?;
        check!(all.iter().all(|(_, priority)| *priority == 0), "{all:?}");
    }
    check!(treated(daemon.pid)?.name == "evervipd", "{:?}", treated(daemon.pid)?);
    lab.timeline().poll(LIMIT, "the other FIFO", || Ok(mode("/run/other").ok()))?;
    check!(mode("/run/other")? == "600\n", "{}", mode("/run/other")?);
    Ok(())
}

/// Waits until this many milliseconds have passed since a time.
fn passed(lab: &Lab, since: Wall, millis: f64) -> Res {
    lab.timeline()
        .poll(LIMIT, "time passes", || Ok((Wall::now().millis_since(since) > millis).then_some(())))
}

fn the_bfd_thread_is_treated_as_configured(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has a process for BFD, and treats it once")?;
    let node = machine(lab, "our")?;
    let text = |globals: &str| {
        format!(
            "global_defs {{\n{globals}}}\nbfd_instance B {{\n neighbor_ip 10.0.0.3\n source_ip \
             10.0.0.2\n}}\n"
        ) + &instance("enp0s8", 7, "10.0.0.100/24", " track_bfd {\n  B weight -10\n }\n")
    };
    node.write(CONF, &text(""), 0o644)?;
    let daemon = lab.subject.start(&node)?;
    lab.always().log(&node, "Startup complete")?;
    let vrrp = daemon.role(Role::Vrrp)?;
    // Name, nice value, real-time priority and processors of the threads.
    let threads = || -> Res<Vec<(String, i32, i32, String)>> {
        let mut all = Vec::new();
        for thread in std::fs::read_dir(format!("/proc/{vrrp}/task"))?.flatten() {
            let read = |file: &str| std::fs::read_to_string(thread.path().join(file));
            let (line, status) = (read("stat")?, read("status")?);
            let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            let cpus = cpus.unwrap_or_default().trim().to_owned();
            all.push((read("comm")?.trim().to_owned(), stat(&line, 19)?, stat(&line, 40)?, cpus));
        }
        Ok(all)
    };
    let of = |name: &str| -> Res<Option<(i32, i32, String)>> {
        let found = threads()?.into_iter().find(|thread| thread.0 == name);
        Ok(found.map(|(_, nice, priority, cpus)| (nice, priority, cpus)))
    };
    let becomes = |name: &str, wanted: (i32, i32, &str)| {
        let wanted = (wanted.0, wanted.1, wanted.2.to_owned());
        lab.timeline().poll(LIMIT, &format!("thread {name} with {wanted:?}"), || {
            lab.note(format!("{:?}", threads()?));
            Ok((of(name)?.as_ref() == Some(&wanted)).then_some(()))
        })
    };
    let reload = |globals: &str| -> Res {
        let mark = lab.mark();
        node.write(CONF, &text(globals), 0o644)?;
        daemon.signal(Signal::SIGHUP)?;
        lab.after(mark).log(&node, "Reload complete").map(drop)
    };
    let (nice, priority, everywhere) = of("vrrp-rt")?.ok_or_else(|| fail("no thread vrrp-rt"))?;
    becomes("bfd", (nice, priority, &everywhere))?;
    reload(" bfd_process_name hears\n bfd_priority -3\n bfd_cpu_affinity 0\n bfd_no_swap\n")?;
    becomes("hears", (-3, 0, "0"))?;
    check!(treated(vrrp)?.locked, "its memory is not locked");
    check!(of("vrrp-rt")? == Some((nice, 0, everywhere.clone())), "{:?}", threads()?);
    // What is said of the process holds where nothing is said of the thread.
    reload(
        " process_names\n vrrp_priority -5\n bfd_rt_priority 7\n bfd_rlimit_rttime 40000\n \
         vrrp_rlimit_rttime 30000\n",
    )?;
    lab.timeline().poll(LIMIT, "the thread runs in real time", || {
        Ok((of("keepalived_bfd")?.is_some_and(|(_, priority, _)| priority == 7)).then_some(()))
    })?;
    let limits = std::fs::read_to_string(format!("/proc/{vrrp}/limits"))?;
    let line = limits.lines().find(|line| line.starts_with("Max realtime timeout"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    check!(soft == Some("40000"), "{line:?}");
    reload("")?;
    becomes("bfd", (nice, 0, &everywhere))?;
    check!(!treated(vrrp)?.locked, "its memory is still locked");
    Ok(())
}

fn a_thread_whose_timers_run_late_gets_priority(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its timers are not those of a thread")?;
    let node = machine(lab, "our")?;
    let globals = "global_defs {\n max_auto_priority 2\n min_auto_priority_delay 300000\n}\n";
    // Of a long interval: its supervisor waits for 2 s then.
    let routers =
        instance("enp0s8", 7, "10.0.0.100/24", "").replace("advert_int 0.2", "advert_int 2");
    let text = globals.to_owned() + &routers;
    node.write(CONF, &text, 0o644)?;
    let daemon = lab.subject.start(&node)?;
    lab.always().some_adverts(&node, 1)?;
    let vrrp = daemon.role(Role::Vrrp)?;
    let real_time = || -> Res<i32> {
        let all = priorities(vrrp)?;
        let found = all.iter().find(|(name, _)| name == "vrrp-rt").map(|(_, n)| *n);
        found.ok_or_else(|| fail(format!("{all:?}")))
    };
    let begun = Wall::now();
    let mut priority = real_time()?;
    // A machine that is busy enough makes timers late by itself.
    let busy = || late::between(begun, Wall::now()) > 200.0;
    check!(priority == 0 || busy(), "{priority} before a timer was late");
    for _ in 0..3 {
        // It is stopped while the advert after this one becomes due.
        let stopped = loop {
            let (sent, _) = lab.after(lab.mark()).some_adverts(&node, 1)?[0];
            passed(lab, sent, 1_500.0)?;
            signal_to(vrrp, Signal::SIGSTOP)?;
            if Wall::now().millis_since(sent) < 1_950.0 {
                break sent;
            }
            signal_to(vrrp, Signal::SIGCONT)?;
        };
        passed(lab, stopped, 2_500.0)?;
        let mark = lab.mark();
        signal_to(vrrp, Signal::SIGCONT)?;
        lab.after(mark).some_adverts(&node, 1)?;
        let (before, risen) = (priority, (priority + 1).min(2));
        priority = real_time()?;
        check!(priority == risen || priority == 2 && busy(), "{before} became {priority}");
    }
    check!(priority == 2, "{priority} in the end");
    // It stays at another reload, and goes when it is no more allowed.
    for (text, priority) in [(text.replace("V7", "V8"), 2), (text.replace(globals, ""), 0)] {
        let mark = lab.mark();
        node.write(CONF, &text, 0o644)?;
        daemon.signal(Signal::SIGHUP)?;
        lab.after(mark).log(&node, "Reload complete")?;
        lab.timeline().poll(LIMIT, &format!("priority {priority}"), || {
            Ok((real_time()? == priority).then_some(()))
        })?;
    }
    Ok(())
}
