//! What each process of the daemon may do, read from the kernel and compared with the table of roles; and that what
//! needs more still works.

use std::fs;
use std::os::unix::fs::MetadataExt;

use caps::Capability;
use evervip::ipc::RoleName;
use evervip::role::table::row;
use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Role, signal_to};
use crate::lab::node::Node;
use crate::lab::{LIMIT, Lab, Res, fail, need};
use crate::scenario::{FAILOVER, Pair, replaced, within};
use crate::{cases, check};

cases![Here:
    each_process_holds_what_the_table_says,
    files_that_only_root_can_read_are_read,
    a_notify_script_may_gain_privileges,
];

const USER: u32 = 990;

/// Makes the account that roles run as.
fn account(node: &Node) -> Res {
    let passwd = node.read("/etc/passwd")? + "evervip:x:990:990::/:/bin/false\n";
    node.write("/etc/passwd", &passwd, 0o644)?;
    let group = node.read("/etc/group")? + "evervip:x:990:\n";
    node.write("/etc/group", &group, 0o644)
}

/// The fields of /proc/PID/status.
struct Status(String);

impl Status {
    fn of(pid: u32) -> Res<Self> {
        Ok(Self(fs::read_to_string(format!("/proc/{pid}/status"))?))
    }

    fn field(&self, name: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim()
    }

    fn set(&self, name: &str) -> Res<u64> {
        Ok(u64::from_str_radix(self.field(name), 16)?)
    }

    /// All of real, effective, saved and file system id are this one.
    fn is_all(&self, name: &str, id: u32) -> bool {
        self.field(name).split_whitespace().all(|word| word == id.to_string())
    }
}

fn mask(list: &[Capability]) -> u64 {
    list.iter().fold(0, |all, one| all | one.bitmask())
}

/// Everything that makes a process for each role necessary.
fn everything() -> String {
    let instance = within(FAILOVER[0], "vrrp_instance VRRP1 {", "notify /bin/true");
    let service = "virtual_server 10.0.0.100 80 {\n delay_loop 1\n lb_algo rr\n lb_kind DR\n \
        protocol TCP\n real_server 10.0.0.10 80 {\n TCP_CHECK {\n connect_timeout 1\n }\n }\n}\n";
    within(&(instance + service), "global_defs {", "vrrp_without_ipvs on")
}

const ROLES: [(Role, RoleName); 4] = [
    (Role::Vrrp, RoleName::Vrrp),
    (Role::Checker, RoleName::Checker),
    (Role::Runner, RoleName::Runner),
    (Role::Api, RoleName::Api),
];

fn each_process_holds_what_the_table_says(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its processes are all root")?;
    let pair = Pair::new(lab)?;
    account(&pair.svr1)?;
    let text = everything();
    let [with, without] = pair.start(&lab.subject, [&text, &text])?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    for (daemon, user) in [(&with, USER), (&without, 0)] {
        for (role, name) in ROLES {
            let pid = daemon.role(role)?;
            lab.timeline()
                .poll(LIMIT, &format!("{name} has given up its rights"), || {
                    Ok(holds(pid, name, user)?.is_ok().then_some(()))
                })
                .or_else(|_| holds(pid, name, user)?.map_err(fail))?;
        }
        // The first one only starts and ends others.
        let first = Status::of(daemon.pid)?;
        check!(first.is_all("Uid", 0), "{}", first.0);
        let kill = Capability::CAP_KILL.bitmask();
        check!((first.set("CapPrm")?, first.set("CapEff")?) == (kill, kill), "{}", first.0);
        check!((first.set("CapInh")?, first.set("CapAmb")?) == (0, 0), "{}", first.0);
    }
    let told = |node: &Node| lab.always().logs(node, "its processes keep their user");
    check!(told(&pair.svr1).is_empty(), "{:?}", told(&pair.svr1));
    let lines = told(&pair.svr2);
    check!(lines.len() == 1 && lines.iter().all(|l| l.contains("no user evervip")), "{lines:?}");
    // One that is started later is no different.
    let vrrp = with.role(Role::Vrrp)?;
    signal_to(vrrp, Signal::SIGKILL)?;
    replaced(lab, &with, Role::Vrrp, vrrp)?;
    let vrrp = with.role(Role::Vrrp)?;
    lab.timeline().poll(LIMIT, "the next one has given up its rights", || {
        Ok(holds(vrrp, RoleName::Vrrp, USER)?.is_ok().then_some(()))
    })?;
    check!(with.stop()? && without.stop()?, "the exit status is not zero");
    Ok(())
}

/// Whether a process is what the table says of its role; if not, what it is.
fn holds(pid: u32, name: RoleName, user: u32) -> Res<Result<(), String>> {
    let (status, row) = (Status::of(pid)?, row(name));
    let keep = mask(row.keep);
    let sets = ["CapPrm", "CapEff", "CapInh", "CapAmb"].map(|set| status.set(set));
    let [permitted, effective, inheritable, ambient] = sets;
    let same = (permitted?, effective?, inheritable?, ambient?) == (keep, keep, 0, 0);
    let good = match row.confined {
        Some(_) => {
            same && status.is_all("Uid", user)
                && status.is_all("Gid", user)
                && (user == 0 || status.field("Groups").is_empty())
                && status.set("CapBnd")? == keep
                && status.field("NoNewPrivs") == "1"
                && status.field("Seccomp") == "2"
                && hidden(pid)
        }
        // Its programs may be root, and may gain privileges.
        None => {
            same && status.is_all("Uid", 0)
                && status.set("CapBnd")? & mask(&[Capability::CAP_NET_ADMIN]) != 0
                && status.field("NoNewPrivs") == "0"
                && status.field("Seccomp") == "0"
        }
    };
    Ok(if good { Ok(()) } else { Err(format!("{name}: {}", status.0)) })
}

/// Whether others of its user cannot look into a process: its files in /proc are root's then.
fn hidden(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}/environ")).is_ok_and(|file| file.uid() == 0)
}

fn files_that_only_root_can_read_are_read(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its processes are all root")?;
    let pair = Pair::new(lab)?;
    let node = &pair.svr1;
    account(node)?;
    node.write("/etc/secret/part.conf", FAILOVER[0], 0o600)?;
    node.must(["chmod", "700", "/etc/secret"])?;
    let main = "global_defs {\n reload_check_config /etc/secret/checked\n}\n\
        include /etc/secret/*.conf\n";
    node.write(CONF, main, 0o600)?;
    let daemon = lab.subject.start(node)?;
    lab.always().some_adverts(node, 2)?;
    let mark = lab.mark();
    let other = within(FAILOVER[0], "virtual_ipaddress {", "10.0.0.101/24");
    node.write("/etc/secret/part.conf", &other, 0o600)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).address(node, "10.0.0.101", true)?;
    // What is wrong stands in the file that the configuration names, and nothing of before.
    node.write("/etc/secret/checked", &"x".repeat(1 << 16), 0o600)?;
    node.write("/etc/secret/part.conf", &other.replace("priority", "priorty"), 0o600)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(node, "reload refused")?;
    let checked = node.read("/etc/secret/checked")?;
    check!(checked.contains("priorty") && !checked.contains("xx"), "{checked}");
    check!(node.must(["stat", "-c", "%a %u", "/etc/secret/checked"])?.trim() == "600 0", "mode");
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

fn a_notify_script_may_gain_privileges(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its processes are all root")?;
    let pair = Pair::new(lab)?;
    let node = &pair.svr1;
    account(node)?;
    // What sudo lives on: a program that belongs to root and takes on its rights.
    let gain = match need::program("sudo", "sudo") {
        Ok(sudo) => {
            node.write("/etc/sudoers", "nobody ALL=(ALL) NOPASSWD: ALL\n", 0o440)?;
            format!("{} -n id -u", sudo.display())
        }
        Err(_) => {
            node.must(["cp", "/usr/bin/id", "/usr/local/bin/own-id"])?;
            node.must(["chmod", "4755", "/usr/local/bin/own-id"])?;
            "/usr/local/bin/own-id -u".into()
        }
    };
    let script = format!("#!/bin/sh\n{{ id -u; {gain}; }} >/run/told/ids 2>&1\n");
    node.write("/usr/local/bin/on_master", &script, 0o755)?;
    node.must(["install", "-d", "-m", "777", "/run/told"])?;
    let line = "notify_master /usr/local/bin/on_master nobody nogroup";
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", line);
    node.write(CONF, &text, 0o644)?;
    let daemon = lab.subject.start(node)?;
    let told = lab.timeline().poll(LIMIT, "the script has told both", || {
        let told = node.read("/run/told/ids").unwrap_or_default();
        Ok((told.lines().count() >= 2).then_some(told))
    })?;
    let ids: Vec<&str> = told.lines().collect();
    check!(ids.len() == 2 && ids[0] != "0" && ids[1] == "0", "{told}");
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}
