//! Tracked files: the same priorities and states as keepalived for the same contents, on the wire, and features that
//! keepalived lacks.

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Program, Role, signal_to};
use crate::lab::node::Node;
use crate::lab::{Lab, Res};
use crate::scenario::{FAILOVER, Pair, within};
use crate::{cases, check};

cases![Here:
    a_file_counts_as_in_keepalived,
    a_file_of_somebody_else_is_followed_from_process_to_process,
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
