//! The process that reads a large configuration: it stays for the next one, which it reads faster. Whatever happens to
//! it, a reload applies what the files contain at that moment.

use core::fmt::Write;

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Daemon, Role, lives, signal_to};
use crate::lab::node::Node;
use crate::lab::{LIMIT, Lab, Res};
use crate::route::machine;
use crate::{cases, check};

cases![Here:
    a_reload_is_read_by_the_process_that_waits,
    a_waiting_process_that_ended_is_replaced,
];

/// Enough for a process to wait.
const SERVERS: u16 = 4_000;

/// A router for this address, and virtual servers of which the last one has this weight.
fn text(address: &str, weight: &str) -> String {
    let router = format!(
        "global_defs {{\n vrrp_without_ipvs\n}}\nvrrp_instance V {{\n interface enp0s8\n state MASTER\n \
         priority 200\n virtual_router_id 7\n advert_int 0.2\n version 3\n virtual_ipaddress {{\n  {address}/24\n }}\n}}\n"
    );
    router + &servers(weight)
}

/// Enough virtual servers for a process to wait; the last one has this weight.
pub fn servers(weight: &str) -> String {
    let mut text = String::new();
    for number in 0..SERVERS {
        let weight = if number + 1 == SERVERS { weight } else { "1" };
        let _ = write!(
            text,
            "virtual_server 10.1.{}.{} 80 {{\n lb_algo rr\n lb_kind NAT\n protocol TCP\n \
             real_server 10.2.0.1 80 {{\n  weight {weight}\n }}\n real_server 10.2.0.2 80 {{\n }}\n}}\n",
            number / 250,
            number % 250 + 1
        );
    }
    text
}

fn start(lab: &mut Lab) -> Res<(Node, Daemon)> {
    lab.subject.ours_only("its own processes read the configuration")?;
    let node = machine(lab, "our")?;
    node.write(CONF, &text("10.0.0.100", "1"), 0o644)?;
    let daemon = lab.subject.start(&node)?;
    lab.always().address(&node, "10.0.0.100", true)?;
    Ok((node, daemon))
}

/// Waits until a process waits for the next configuration.
fn waiting(lab: &Lab, daemon: &Daemon) -> Res<u32> {
    lab.timeline()
        .poll(LIMIT, "a process waits for the next configuration", || Ok(daemon.find(Role::Config)))
}

/// Reloads, and waits until the address is there and the reload is complete.
fn reload(lab: &Lab, node: &Node, daemon: &Daemon, address: &str) -> Res {
    let later = lab.after(lab.mark());
    daemon.signal(Signal::SIGHUP)?;
    later.address(node, address, true)?;
    later.log(node, "Reload complete")?;
    Ok(())
}

fn a_reload_is_read_by_the_process_that_waits(lab: &mut Lab) -> Res {
    let (node, daemon) = start(lab)?;
    let reader = waiting(lab, &daemon)?;
    for (address, other) in
        [("10.0.0.101", "10.0.0.201"), ("10.0.0.102", "10.0.0.202"), ("10.0.0.103", "10.0.0.203")]
    {
        lab.note(format!("{other} is written and replaced before a reload"));
        node.write(CONF, &text(other, "5"), 0o644)?;
        node.write(CONF, &text(address, "6"), 0o644)?;
        reload(lab, &node, &daemon, address)?;
        check!(!node.has("enp0s8", other)?, "what the file contained before is applied");
        check!(daemon.find(Role::Config) == Some(reader), "another process read it");
    }
    lab.note("a mistake in the last of many servers");
    let refused = lab.after(lab.mark());
    let mistaken = text("10.0.0.104", "1\n  wieght 3");
    node.write(CONF, &mistaken, 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    let (_, line) = refused.log(&node, "reload refused")?;
    check!(line.contains("wieght"), "the reason is missing: {line}");
    let place = mistaken.lines().take_while(|line| !line.contains("wieght")).count() + 1;
    check!(line.contains(&format!("Line {place})")), "not line {place}: {line}");
    check!(daemon.find(Role::Config) == Some(reader), "another process read it");
    lab.note("and without it");
    node.write(CONF, &text("10.0.0.104", "1"), 0o644)?;
    reload(lab, &node, &daemon, "10.0.0.104")?;
    check!(daemon.find(Role::Config) == Some(reader), "another process read it");
    lab.note("a small configuration needs no process");
    let small = text("10.0.0.105", "1");
    let small = small.split("virtual_server ").next().unwrap_or_default();
    node.write(CONF, small, 0o644)?;
    reload(lab, &node, &daemon, "10.0.0.105")?;
    check!(daemon.stop()?, "the exit status is not zero");
    check!(!lives(reader), "the process is still there");
    Ok(())
}

fn a_waiting_process_that_ended_is_replaced(lab: &mut Lab) -> Res {
    let (node, daemon) = start(lab)?;
    let first = waiting(lab, &daemon)?;
    signal_to(first, Signal::SIGKILL)?;
    node.write(CONF, &text("10.0.0.101", "2"), 0o644)?;
    reload(lab, &node, &daemon, "10.0.0.101")?;
    let second = waiting(lab, &daemon)?;
    check!(second != first, "a killed process waits");

    lab.note("it hangs when the reload begins, and is killed then");
    signal_to(second, Signal::SIGSTOP)?;
    node.write(CONF, &text("10.0.0.102", "3"), 0o644)?;
    let later = lab.after(lab.mark());
    daemon.signal(Signal::SIGHUP)?;
    later.log(&node, "Reloading")?;
    signal_to(second, Signal::SIGKILL)?;
    later.address(&node, "10.0.0.102", true)?;
    later.log(&node, "Reload complete")?;
    let third = waiting(lab, &daemon)?;
    check!(third != second, "a killed process waits");

    lab.note("the one that replaced it is used");
    node.write(CONF, &text("10.0.0.103", "4"), 0o644)?;
    reload(lab, &node, &daemon, "10.0.0.103")?;
    check!(daemon.find(Role::Config) == Some(third), "another process read it");
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}
