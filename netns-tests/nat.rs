//! The nat scenario: two instances in one group, masqueraded services, real requests through them.

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Daemon, Role, signal_to};
use crate::lab::service::{Server, fetch, mail};
use crate::lab::{LIMIT, Lab, Res, ipvs};
use crate::mail::mailed;
use crate::scenario::{Directors, NAT, replaced, steady, without};
use crate::{cases, check};

cases![Ipvs:
    a_dead_server_leaves_the_table_and_returns,
    a_cut_cable_moves_both_addresses,
    a_reload_touches_only_what_changed,
    a_killed_checker_leaves_the_table_alone,
    a_wedged_checker_is_replaced,
    a_dead_server_stays_out_when_the_checker_is_killed,
    processes_that_hang_or_die_at_the_stop_leave_nothing_behind,
    services_of_others_are_left_alone,
    changes_of_servers_are_mailed,
];

const OUTER: &str = "192.168.1.1";
const INNER: &str = "10.0.0.100";
const PAGE: &str = "http://192.168.1.1/";

/// The table of the scenario as `ipvsadm --save` prints it.
const TABLE: [&str; 3] = [
    "-A -t 192.168.1.1:80 -s rr -p 7200",
    "-a -t 192.168.1.1:80 -r 10.0.0.71:80 -m -w 1",
    "-a -t 192.168.1.1:80 -r 10.0.0.72:80 -m -w 1",
];

fn a_dead_server_leaves_the_table_and_returns(lab: &mut Lab) -> Res {
    let net = Directors::new(lab)?;
    let _second = Server::web(&net.webs[1], "10.0.0.72:80")?;
    let first = Server::web(&net.webs[0], "10.0.0.71:80")?;
    let [primary, backup] = net.start(&lab.subject, NAT)?;
    let all = lab.always();
    all.address(&net.svr1, OUTER, true)?;
    all.address(&net.svr1, INNER, true)?;
    ipvs::becomes(&net.svr1, &TABLE)?;
    ipvs::becomes(&net.svr2, &TABLE)?;
    let shown = ipvs::shown(&net.svr1)?;
    check!(shown.contains("TCP  192.168.1.1:80 rr persistent 7200"), "{shown}");
    check!(shown.contains("-> 10.0.0.71:80                 Masq    1"), "{shown}");

    // Persistence: one client, one server.
    let server = fetch(&net.client, PAGE)?;
    check!(server.is_some(), "no answer through {OUTER}");
    for _ in 0..3 {
        check!(fetch(&net.client, PAGE)? == server, "another server than {server:?}");
    }

    lab.note("the first web server ends");
    drop(first);
    ipvs::becomes(&net.svr1, &[TABLE[0], TABLE[2]])?;
    ipvs::becomes(&net.svr2, &[TABLE[0], TABLE[2]])?;
    lab.always()
        .log(&net.svr1, "Removing service [10.0.0.71]:tcp:80 from VS [192.168.1.1]:tcp:80")?;
    check!(
        fetch(&net.client, PAGE)?.as_deref() == Some("websvr2"),
        "the dead server gets requests"
    );

    lab.note("the first web server returns");
    let _first = Server::web(&net.webs[0], "10.0.0.71:80")?;
    ipvs::becomes(&net.svr1, &TABLE)?;
    lab.always().log(&net.svr1, "Adding service [10.0.0.71]:tcp:80 to VS [192.168.1.1]:tcp:80")?;

    check!(primary.stop()?, "the exit status is not zero");
    check!(ipvs::table(&net.svr1)?.is_empty(), "{}", ipvs::shown(&net.svr1)?);
    check!(backup.stop()?, "the exit status is not zero");
    check!(ipvs::table(&net.svr2)?.is_empty(), "{}", ipvs::shown(&net.svr2)?);
    Ok(())
}

fn a_cut_cable_moves_both_addresses(lab: &mut Lab) -> Res {
    let net = Directors::new(lab)?;
    let _webs =
        [Server::web(&net.webs[0], "10.0.0.71:80")?, Server::web(&net.webs[1], "10.0.0.72:80")?];
    let configurations = NAT.map(|text| without(text, "persistence_timeout"));
    net.start(&lab.subject, [&configurations[0], &configurations[1]])?;
    let all = lab.always();
    all.address(&net.svr1, OUTER, true)?;
    all.address(&net.svr1, INNER, true)?;

    // Without persistence the servers take turns.
    let answers: Vec<_> = (0..4)
        .map(|_| fetch(&net.client, PAGE))
        .collect::<Res<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    check!(answers.len() == 4 && answers[0] != answers[1], "{answers:?}");
    check!(answers[0] == answers[2] && answers[1] == answers[3], "{answers:?}");

    for (cable, name) in net.cables.iter().zip(["outer", "inner"]) {
        lab.note(format!("the {name} cable of svr1 is cut"));
        let mark = lab.mark();
        cable.cut()?;
        let later = lab.after(mark);
        for address in [OUTER, INNER] {
            later.address(&net.svr1, address, false)?;
            later.address(&net.svr2, address, true)?;
        }
        lab.timeline().poll(LIMIT, "a page through svr2", || fetch(&net.client, PAGE))?;
        lab.note(format!("the {name} cable of svr1 is mended"));
        let mark = lab.mark();
        cable.mend()?;
        let later = lab.after(mark);
        for address in [OUTER, INNER] {
            later.address(&net.svr2, address, false)?;
            later.address(&net.svr1, address, true)?;
        }
        lab.timeline().poll(LIMIT, "a page through svr1", || fetch(&net.client, PAGE))?;
    }
    Ok(())
}

fn a_reload_touches_only_what_changed(lab: &mut Lab) -> Res {
    let (net, _webs, [primary, backup]) = balanced(lab)?;
    for _ in 0..3 {
        check!(fetch(&net.client, PAGE)?.is_some(), "no answer through {OUTER}");
    }
    let before = ipvs::counted(&net.svr1)?;
    ipvs::watch(&net.svr1)?;

    lab.note("the same file again");
    let mark = lab.mark();
    let later = lab.after(mark);
    primary.signal(Signal::SIGHUP)?;
    backup.signal(Signal::SIGHUP)?;
    later.log(&net.svr1, "Reloading")?;
    steady(lab, mark, &net.svr1, 6)?;
    check!(later.ipvs(&net.svr1).is_empty(), "{:?}", later.ipvs(&net.svr1));
    check!(later.kernel(&net.svr1).is_empty(), "{:?}", later.kernel(&net.svr1));

    lab.note("one weight, one server more");
    let (head, tail) = NAT[0].split_once("weight 1").unwrap_or_default();
    let server = "real_server 10.0.0.73 80 {\nweight 3\n}\n";
    let changed = format!(
        "{head}weight 2{}",
        tail.replacen("real_server", &format!("{server}real_server"), 1)
    );
    net.svr1.write(CONF, &changed, 0o644)?;
    let mark = lab.mark();
    let later = lab.after(mark);
    primary.signal(Signal::SIGHUP)?;
    let wanted = [
        TABLE[0],
        "-a -t 192.168.1.1:80 -r 10.0.0.71:80 -m -w 2",
        TABLE[2],
        "-a -t 192.168.1.1:80 -r 10.0.0.73:80 -m -w 3",
    ];
    ipvs::becomes(&net.svr1, &wanted)?;
    steady(lab, mark, &net.svr1, 4)?;
    let mut commands = later.ipvs(&net.svr1);
    commands.sort();
    let service = "TCP 192.168.1.1:80";
    let expected = [
        format!("NEW_DEST {service} 10.0.0.73:80 weight 3"),
        format!("SET_DEST {service} 10.0.0.71:80 weight 2"),
    ];
    check!(commands == expected, "{commands:#?}");
    let after = ipvs::counters(&net.svr1)?;
    let kept = before.iter().all(|(name, count)| after.get(name).is_some_and(|now| now >= count));
    check!(kept && !before.is_empty(), "counters before {before:?}, after {after:?}");

    lab.note("the server goes again");
    net.svr1.write(CONF, NAT[0], 0o644)?;
    primary.signal(Signal::SIGHUP)?;
    ipvs::becomes(&net.svr1, &TABLE)?;
    check!(later.kernel(&net.svr1).is_empty(), "{:?}", later.kernel(&net.svr1));
    Ok(())
}

fn a_killed_checker_leaves_the_table_alone(lab: &mut Lab) -> Res {
    let (net, _webs, [primary, _backup]) = balanced(lab)?;
    ipvs::watch(&net.svr1)?;
    let checker = primary.role(Role::Checker)?;
    let mark = lab.mark();
    signal_to(checker, Signal::SIGKILL)?;
    replaced(lab, &primary, Role::Checker, checker)?;
    steady(lab, mark, &net.svr1, 5)?;
    let later = lab.after(mark);
    check!(later.kernel(&net.svr1).is_empty(), "{:?}", later.kernel(&net.svr1));
    check!(later.adverts(&net.svr2).is_empty(), "the backup took over");
    check!(ipvs::table(&net.svr1)? == TABLE, "{}", ipvs::shown(&net.svr1)?);
    lab.subject.ours_only("it adds all services again")?;
    check!(later.ipvs(&net.svr1).is_empty(), "{:?}", later.ipvs(&net.svr1));
    Ok(())
}

fn a_wedged_checker_is_replaced(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it does not supervise its processes")?;
    let (net, webs, [primary, _backup]) = balanced(lab)?;
    let checker = primary.role(Role::Checker)?;
    let mark = lab.mark();
    signal_to(checker, Signal::SIGSTOP)?;
    replaced(lab, &primary, Role::Checker, checker)?;
    steady(lab, mark, &net.svr1, 5)?;
    let later = lab.after(mark);
    check!(later.kernel(&net.svr1).is_empty(), "{:?}", later.kernel(&net.svr1));
    check!(ipvs::table(&net.svr1)? == TABLE, "{}", ipvs::shown(&net.svr1)?);
    // The check runs again.
    let [first, _second] = webs;
    drop(first);
    ipvs::becomes(&net.svr1, &[TABLE[0], TABLE[2]])
}

fn a_dead_server_stays_out_when_the_checker_is_killed(lab: &mut Lab) -> Res {
    lab.subject.ours_only("each server counts as alive until its first check")?;
    let (net, webs, [primary, _backup]) = balanced(lab)?;
    let [first, _second] = webs;
    drop(first);
    ipvs::becomes(&net.svr1, &[TABLE[0], TABLE[2]])?;
    ipvs::watch(&net.svr1)?;
    let checker = primary.role(Role::Checker)?;
    let mark = lab.mark();
    signal_to(checker, Signal::SIGKILL)?;
    replaced(lab, &primary, Role::Checker, checker)?;
    // Time for a round of checks and its retries.
    steady(lab, mark, &net.svr1, 15)?;
    let commands = lab.after(mark).ipvs(&net.svr1);
    check!(commands.is_empty(), "{commands:?}");
    check!(ipvs::table(&net.svr1)? == [TABLE[0], TABLE[2]], "{}", ipvs::shown(&net.svr1)?);
    Ok(())
}

fn processes_that_hang_or_die_at_the_stop_leave_nothing_behind(lab: &mut Lab) -> Res {
    lab.subject.ours_only("objects added by its processes stay")?;
    let (net, _webs, [primary, backup]) = balanced(lab)?;

    lab.note("both roles of svr1 hang when it is told to stop");
    for role in [Role::Vrrp, Role::Checker] {
        signal_to(primary.role(role)?, Signal::SIGSTOP)?;
    }
    let mark = lab.mark();
    check!(primary.stop()?, "the exit status is not zero");
    check!(ipvs::table(&net.svr1)?.is_empty(), "{}", ipvs::shown(&net.svr1)?);
    for (interface, address) in [("enp0s8", OUTER), ("enp0s9", INNER)] {
        let shown = net.svr1.addresses(interface)?;
        check!(!shown.contains(&format!(" {address}/")), "{shown}");
        lab.after(mark).address(&net.svr2, address, true)?;
    }

    lab.note("both roles of svr2 die just before it is told to stop");
    let roles = [backup.role(Role::Vrrp)?, backup.role(Role::Checker)?];
    backup.signal(Signal::SIGSTOP)?;
    roles.into_iter().try_for_each(|role| signal_to(role, Signal::SIGKILL))?;
    let mark = lab.mark();
    backup.signal(Signal::SIGTERM)?;
    backup.signal(Signal::SIGCONT)?;
    check!(backup.ended(mark)?, "the exit status is not zero");
    check!(ipvs::table(&net.svr2)?.is_empty(), "{}", ipvs::shown(&net.svr2)?);
    for (interface, address) in [("enp0s8", OUTER), ("enp0s9", INNER)] {
        let shown = net.svr2.addresses(interface)?;
        check!(!shown.contains(&format!(" {address}/")), "{shown}");
    }
    Ok(())
}

fn services_of_others_are_left_alone(lab: &mut Lab) -> Res {
    let net = Directors::new(lab)?;
    let _webs = net.serve()?;
    let theirs = ["-A -t 10.9.9.9:443 -s wlc", "-a -t 10.9.9.9:443 -r 10.9.9.8:443 -m -w 1"];
    for line in theirs {
        net.svr1.must(["ipvsadm"].into_iter().chain(line.split(' ')))?;
    }
    let [primary, _backup] = net.start(&lab.subject, NAT)?;
    ipvs::becomes(&net.svr1, &[&TABLE[..], &theirs].concat())?;
    primary.signal(Signal::SIGHUP)?;
    lab.always().log(&net.svr1, "Reloading")?;
    lab.after(lab.mark()).some_adverts(&net.svr1, 3)?;
    ipvs::becomes(&net.svr1, &[&TABLE[..], &theirs].concat())?;
    check!(primary.stop()?, "the exit status is not zero");
    ipvs::becomes(&net.svr1, &theirs)
}

fn changes_of_servers_are_mailed(lab: &mut Lab) -> Res {
    let net = Directors::new(lab)?;
    mail(&net.svr1)?;
    let [first, _second] = net.serve()?;
    // Mails about real servers are sent by default: this is the file of the scenario with shorter times.
    let primary = NAT[0].replace("delay_loop 10", "delay_loop 2");
    net.start(&lab.subject, [&primary, NAT[1]])?;
    ipvs::becomes(&net.svr1, &TABLE)?;
    drop(first);
    let server = "[svr1] Realserver [10.0.0.71]:tcp:80 of virtual server [192.168.1.1]:tcp:80";
    mailed(lab, &net.svr1, &format!("{server} - DOWN"), "=> TCP CHECK failed on service <=")?;
    let _first = Server::web(&net.webs[0], "10.0.0.71:80")?;
    mailed(lab, &net.svr1, &format!("{server} - UP"), "=> TCP CHECK succeed on service <=")
}

/// Both directors run, the first has both addresses and announced them, all servers are in both tables.
fn balanced(lab: &mut Lab) -> Res<(Directors, [Server; 2], [Daemon; 2])> {
    let net = Directors::new(lab)?;
    let webs = net.serve()?;
    let daemons = net.start(&lab.subject, NAT)?;
    for address in [OUTER, INNER] {
        lab.always().some_garps(&net.svr1, address.parse()?, 10)?;
    }
    ipvs::becomes(&net.svr1, &TABLE)?;
    ipvs::becomes(&net.svr2, &TABLE)?;
    Ok((net, webs, daemons))
}

impl Directors {
    /// Both web servers.
    fn serve(&self) -> Res<[Server; 2]> {
        let [first, second] = &self.webs;
        Ok([Server::web(first, "10.0.0.71:80")?, Server::web(second, "10.0.0.72:80")?])
    }
}
