//! BFD sessions with the other implementations, and what instances make of them.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Program, Role, signal_to};
use crate::lab::frame::Advert;
use crate::lab::node::Node;
use crate::lab::{Lab, Res, need};
use crate::scenario::{FAILOVER, Pair, within};
use crate::{cases, check};

cases![Here:
    a_session_with_keepalived_and_the_end_of_either,
    a_session_with_bfdd_over_one_hop_and_over_several,
    a_session_survives_a_reload_and_comes_back_after_a_crash,
    without_bfd_there_is_no_session,
];

/// A session of `own` with `neighbor`, both last octets of 10.0.0, with more settings.
fn session(own: u8, neighbor: u8, more: &str) -> String {
    format!(
        "bfd_instance PEER {{\n neighbor_ip 10.0.0.{neighbor}\n source_ip 10.0.0.{own}\n min_rx 100\n \
         min_tx 100\n multiplier 3\n {more}\n}}\n"
    )
}

/// A file of the failover scenario with a session that is tracked.
fn tracking(file: &str, session: &str, entry: &str) -> String {
    let entry = format!("track_bfd {{\n  {entry}\n }}");
    format!("{session}{}", within(file, "vrrp_instance VRRP1 {", &entry))
}

fn a_session_with_keepalived_and_the_end_of_either(lab: &mut Lab) -> Res {
    let peer = Program::keepalived()?;
    let pair = Pair::new(lab)?;
    let (ours, theirs) = (&pair.svr1, &pair.svr2);
    ours.write(CONF, &tracking(FAILOVER[0], &session(71, 72, ""), "PEER"), 0o644)?;
    theirs.write(CONF, &tracking(FAILOVER[1], &session(72, 71, ""), "PEER weight -50"), 0o644)?;
    let daemon = lab.subject.start(ours)?;
    lab.always().log(ours, "FAULT")?;
    check!(lab.always().adverts(ours).is_empty(), "it speaks without its neighbor");
    let mark = lab.mark();
    let other = peer.start(theirs)?;
    lab.after(mark).log(ours, "(PEER) Entering Up state")?;
    lab.after(mark).log(ours, "VRRP_Instance(VRRP1) Tracked BFD instance PEER is UP")?;
    lab.after(mark).log(theirs, "Entering Up state")?;
    lab.after(mark).log(ours, "(VRRP1) Entering MASTER STATE")?;
    // The peer is gone without a word.
    let mark = lab.mark();
    other.crash()?;
    lab.after(mark).log(ours, "(PEER) Expired after")?;
    lab.after(mark).log(ours, "VRRP_Instance(VRRP1) Tracked BFD instance PEER is DOWN")?;
    lab.after(mark).log(ours, "(VRRP1) Entering FAULT STATE")?;
    let mark = lab.mark();
    let other = peer.start(theirs)?;
    lab.after(mark).log(ours, "(VRRP1) Entering MASTER STATE")?;
    // And so are we: the peer loses what it tracks.
    let mark = lab.mark();
    daemon.crash()?;
    lab.after(mark)
        .log(theirs, "Entering Down state (Local diagnostic - Control Detection Time Expired")?;
    let mark = lab.mark();
    let daemon = lab.subject.start(ours)?;
    lab.after(mark).log(theirs, "Entering Up state")?;
    lab.after(mark).log(ours, "(PEER) Entering Up state")?;
    let mark = lab.mark();
    check!(daemon.stop()?, "the exit status is not zero");
    lab.after(mark)
        .log(theirs, "Entering Down state (Local diagnostic - Neighbor Signaled Session Down")?;
    other.stop()?;
    Ok(())
}

/// Starts FRR's bfdd with a session of 10.0.0.72 with 10.0.0.71.
fn bfdd(host: &Node, name: &str, options: &str) -> Res<u32> {
    let program = std::path::Path::new("/usr/lib/frr/bfdd");
    if !program.is_file() {
        return Err(need::missing("bfdd", "frr"));
    }
    let folder = format!("/run/{name}");
    host.must(["install", "-d", "-o", "frr", &folder])?;
    let text = format!(
        "bfd\n peer 10.0.0.71 {options}local-address 10.0.0.72\n  transmit-interval 100\n  receive-interval 100\n  \
         detect-multiplier 3\n  no shutdown\n !\n!\n"
    );
    host.write(format!("{folder}/bfdd.conf"), &text, 0o644)?;
    let mut command = Command::new(program);
    command.args(["-u", "frr", "-g", "frr", "-P", "0", "--log", "stdout"]);
    for (option, file) in
        [("-f", "bfdd.conf"), ("-i", "bfdd.pid"), ("-z", "zserv.api"), ("--bfdctl", "bfdd.sock")]
    {
        command.arg(option).arg(format!("{folder}/{file}"));
    }
    command.arg("--vty_socket").arg(&folder);
    host.spawn(command, "bfdd")
}

fn a_session_with_bfdd_over_one_hop_and_over_several(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let (ours, theirs) = (&pair.svr1, &pair.svr2);
    for (name, options, more) in [("near", "", ""), ("far", "multihop ", "multihop\n max_hops 5")] {
        ours.write(CONF, &tracking(FAILOVER[0], &session(71, 72, more), "PEER"), 0o644)?;
        let daemon = lab.subject.start(ours)?;
        let mark = lab.mark();
        let other = bfdd(theirs, name, options)?;
        lab.after(mark).log(ours, "(PEER) Entering Up state")?;
        lab.after(mark).log(ours, "(VRRP1) Entering MASTER STATE")?;
        let mark = lab.mark();
        signal_to(other, Signal::SIGKILL)?;
        lab.after(mark).log(ours, "(PEER) Expired after")?;
        lab.after(mark).log(ours, "(VRRP1) Entering FAULT STATE")?;
        let mark = lab.mark();
        let other = bfdd(theirs, name, options)?;
        lab.after(mark).log(ours, "(VRRP1) Entering MASTER STATE")?;
        // It stops in good order: it says that it is held down, and so no more is to be expected of it.
        let mark = lab.mark();
        signal_to(other, Signal::SIGTERM)?;
        lab.after(mark).log(ours, "(VRRP1) Entering FAULT STATE")?;
        check!(daemon.stop()?, "the exit status is not zero");
    }
    Ok(())
}

fn a_session_survives_a_reload_and_comes_back_after_a_crash(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its processes are others")?;
    let pair = Pair::new(lab)?;
    let (svr1, svr2) = (&pair.svr1, &pair.svr2);
    let first = |more: &str| tracking(FAILOVER[0], &session(71, 72, more), "PEER weight 20");
    svr1.write(CONF, &first(""), 0o644)?;
    let text = tracking(FAILOVER[1], &session(72, 71, "passive"), "PEER");
    svr2.write(CONF, &text, 0o644)?;
    let daemon = lab.subject.start(svr1)?;
    let mark = lab.mark();
    lab.after(mark).advert(svr1, |advert| advert.priority() == 200)?;
    let other = lab.subject.start(svr2)?;
    lab.after(mark).advert(svr1, |advert| advert.priority() == 220)?;
    // Other intervals, agreed upon while it is up.
    let mark = lab.mark();
    svr1.write(CONF, &first("min_tx 300\n min_rx 50\n multiplier 4"), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).some_adverts(svr1, 3)?;
    for host in [svr1, svr2] {
        let lines = lab.after(mark).logs(host, "(PEER) Entering");
        check!(lines.is_empty(), "{lines:?}");
    }
    check!(lab.after(mark).adverts(svr1).iter().all(|(_, a)| a.priority() == 220), "it was down");
    // A process that is replaced does not call down what it does not know yet.
    let mark = lab.mark();
    signal_to(daemon.role(Role::Vrrp)?, Signal::SIGKILL)?;
    lab.after(mark).log(svr1, "(PEER) Entering Up state")?;
    lab.after(mark).advert(svr1, |advert| advert.priority() == 220)?;
    let lines = lab.after(mark).logs(svr1, "PEER is DOWN");
    check!(lines.is_empty(), "{lines:?}");
    // The neighbor stops in good order.
    let mark = lab.mark();
    check!(other.stop()?, "the exit status is not zero");
    lab.after(mark).log(svr1, "Remote diagnostic - Administratively Down")?;
    lab.after(mark).advert(svr1, |advert| advert.priority() == 200)?;
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

/// `-B`: keepalived sends no packet of a session either, and its instances take the session for down.
fn without_bfd_there_is_no_session(lab: &mut Lab) -> Res {
    let peer = Program::keepalived()?;
    let pair = Pair::new(lab)?;
    let (svr1, svr2) = (&pair.svr1, &pair.svr2);
    // The first lowers its priority, the second must stay in FAULT.
    svr1.write(CONF, &tracking(FAILOVER[0], &session(71, 72, ""), "PEER weight -50"), 0o644)?;
    svr2.write(CONF, &tracking(FAILOVER[1], &session(72, 71, ""), "PEER"), 0o644)?;
    let lowered = |advert: &Advert| advert.priority() == 150;
    let other = peer.start_with(svr1, &["-D", "-B", "-f", CONF])?;
    lab.always().advert(svr1, lowered)?;
    other.stop()?;
    let mark = lab.mark();
    let daemon = lab.subject.start_with(svr1, &["-D", "-B", "-f", CONF])?;
    lab.after(mark).advert(svr1, lowered)?;
    let mark = lab.mark();
    let with_session = lab.subject.start(svr2)?;
    lab.after(mark).log(svr2, "FAULT")?;
    lab.after(mark).some_adverts(svr1, 4)?;
    check!(lab.after(mark).logs(svr2, "Entering Up state").is_empty(), "there is a session");
    check!(lab.after(mark).logs(svr1, "(PEER) Entering").is_empty(), "there is a session");
    check!(with_session.stop()? && daemon.stop()?, "the exit status is not zero");
    Ok(())
}
