//! Notify FIFOs: the lines that keepalived writes for the same changes, to a configured reader or an independent one.

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Program};
use crate::lab::node::Node;
use crate::lab::{LIMIT, Lab, Res};
use crate::route::machine;
use crate::{cases, check};

cases![Here:
    lines_are_those_of_keepalived,
    a_fifo_stays_open_over_a_reload_and_goes_with_the_daemon,
];

const READ: &str = "/run/read";

fn configuration(globals: &str) -> String {
    format!(
        "global_defs {{\n enable_script_security\n script_user root\n vrrp_notify_priority_changes\n{globals}}}\n\
         vrrp_script heavy {{\n script \"/bin/sh -c 'test ! -e /run/light'\"\n interval 1\n weight 20\n \
         fall 1\n rise 1\n}}\n\
         vrrp_sync_group G {{\n group {{\n  VRRP1\n }}\n}}\n\
         vrrp_instance VRRP1 {{\n interface enp0s8\n priority 150\n virtual_router_id 41\n advert_int 0.2\n \
         version 3\n virtual_ipaddress {{\n  10.0.0.100/24\n }}\n track_script {{\n  heavy\n }}\n}}\n"
    )
    // Required for a group whose members have trackers of their own.
    .replace("vrrp_sync_group G {\n", "vrrp_sync_group G {\n sync_group_tracking_weight\n")
}

fn wait_for(lab: &Lab, node: &Node, text: &str) -> Res {
    lab.timeline().poll(LIMIT, &format!("`{text}` read from the FIFO"), || {
        Ok(node.read(READ).unwrap_or_default().contains(text).then_some(()))
    })
}

fn lines_are_those_of_keepalived(lab: &mut Lab) -> Res {
    let text = configuration(
        " notify_fifo /run/all\n notify_fifo_script /run/reader.sh\n vrrp_notify_fifo /run/vrrp\n",
    );
    let mut read = Vec::new();
    for (name, program) in [("ka", Program::keepalived()?), ("our", lab.subject.clone())] {
        let node = machine(lab, name)?;
        node.write(CONF, &text, 0o644)?;
        node.write("/run/reader.sh", "#!/bin/sh\nexec cat \"$1\" >>/run/read\n", 0o755)?;
        let daemon = program.start(&node)?;
        wait_for(lab, &node, "INSTANCE \"VRRP1\" MASTER ")?;
        wait_for(lab, &node, "GROUP \"G\" MASTER 0")?;
        node.write("/run/light", "", 0o644)?;
        wait_for(lab, &node, "INSTANCE \"VRRP1\" MASTER_PRIORITY 150")?;
        let about = node.must(["stat", "-c", "%F %a %U", "/run/all", "/run/vrrp"])?;
        check!(about == "fifo 600 root\nfifo 600 root\n", "{name}: {about}");
        // The other one has no reader: its lines wait in the pipe.
        let own = node.must(["dd", "if=/run/vrrp", "iflag=nonblock", "count=1", "status=none"])?;
        check!(own.contains("INSTANCE \"VRRP1\" MASTER "), "{name}: {own}");
        check!(daemon.stop()?, "the exit status is not zero");
        // keepalived ends the reader before it has read the last lines.
        if name == "our" {
            wait_for(lab, &node, "INSTANCE \"VRRP1\" STOP")?;
        }
        let left = node.must(["ls", "/run"])?;
        check!(!left.contains("all") && !left.contains("vrrp\n"), "{name} leaves {left}");
        let all = node.read(READ)?;
        let lines = all.lines().filter(|line| !line.contains(" STOP "));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        // The first result of a program comes after its run: before or after the state.
        lines.sort();
        read.push(lines);
    }
    let [theirs, ours] = read.as_slice() else { return Ok(()) };
    check!(theirs == ours, "keepalived wrote {theirs:#?}, we {ours:#?}");
    Ok(())
}

fn a_fifo_stays_open_over_a_reload_and_goes_with_the_daemon(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it closes and recreates the FIFO")?;
    let node = machine(lab, "our")?;
    let text = configuration(
        " vrrp_notify_fifo /run/vrrp\n vrrp_notify_fifo_script /run/reader.sh\n fifo_write_vrrp_states_on_reload\n",
    );
    node.write(CONF, &text, 0o644)?;
    node.write(
        "/run/reader.sh",
        "#!/bin/sh\necho reads >>/run/read\necho $$ >/run/reader.pid\nexec cat \"$1\" >>/run/read\n",
        0o755,
    )?;
    let daemon = lab.subject.start(&node)?;
    wait_for(lab, &node, "INSTANCE \"VRRP1\" MASTER ")?;
    wait_for(lab, &node, "GROUP \"G\" MASTER 0")?;
    let before = node.read(READ)?;
    node.write(CONF, &text.replace("/24", "/25"), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    // The states again, to the same reader.
    lab.timeline().poll(LIMIT, "the states are written again", || {
        let later = node.read(READ)?;
        let new = later.strip_prefix(&before).unwrap_or_default();
        Ok((new.contains("INSTANCE \"VRRP1\" MASTER ") && new.contains("GROUP \"G\" MASTER 0"))
            .then_some(()))
    })?;
    check!(node.read(READ)?.matches("reads").count() == 1, "the reader was started again");
    // A reader that was ended is started again, and a FIFO that was removed is made again with a reader of its own.
    let states = |readers: usize| {
        daemon.signal(Signal::SIGHUP)?;
        lab.timeline().poll(LIMIT, &format!("reader {readers} gets the states"), || {
            let read = node.read(READ)?;
            let last = read.rsplit("reads").next().unwrap_or_default();
            let states = last.contains("INSTANCE \"VRRP1\" MASTER ");
            Ok((states && read.matches("reads").count() == readers).then_some(()))
        })
    };
    node.must(["sh", "-c", "kill -9 $(cat /run/reader.pid)"])?;
    lab.always().log(&node, "the reader of notify FIFO /run/vrrp has ended")?;
    states(2)?;
    node.must(["rm", "/run/vrrp"])?;
    states(3)?;
    // Without the keyword it is removed.
    node.write(CONF, &configuration(""), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.timeline().poll(LIMIT, "the FIFO is gone", || {
        Ok((!node.must(["ls", "/run"])?.lines().any(|name| name == "vrrp")).then_some(()))
    })?;
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}
