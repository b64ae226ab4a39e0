//! Virtual servers with several entries, programs as checks, and changes of the table by other programs, on a real
//! kernel; groups are compared with keepalived with the same file.

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Program, signal_to};
use crate::lab::service::Server;
use crate::lab::{LIMIT, Lab, Res, ipvs};
use crate::scenario::{director, run};
use crate::{cases, check};

cases![Ipvs:
    groups_make_the_table_that_keepalived_makes,
    a_dead_server_of_a_group_leaves_all_its_entries,
    a_program_takes_its_server_out_and_in,
    what_other_programs_do_to_the_table_is_put_right,
    a_large_table_is_put_right_where_it_differs,
    a_tunnel_to_an_address_of_this_machine_is_written_once,
    after_the_end_of_the_supervisor_the_table_stays_for_a_moment,
];

/// Groups of addresses, ranges and marks of both families, and virtual servers of each kind on them.
const GROUPS: &str = "\
virtual_server_group plain {
    10.1.0.1 80
    10.1.1.1-3 8080
}
virtual_server group plain {
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    real_server 10.0.0.71 80 {
        weight 2
    }
    real_server 10.0.0.72 8080 {
    }
    sorry_server 10.0.0.73 81
}
virtual_server group plain {
    lvs_sched wlc
    lvs_method DR
    protocol UDP
    persistence_timeout 50
    real_server 10.0.0.71 80 {
        weight 7
    }
}
virtual_server_group marks {
    fwmark 5
    fwmark 7
}
virtual_server group marks {
    lvs_sched lc
    lvs_method TUN
    real_server 10.0.0.72 0 {
    }
}
virtual_server_group mixed {
    10.1.2.1 443
    fwmark 9
    10.1.3.254-255 443
}
virtual_server group mixed {
    lvs_sched wrr
    lvs_method DR
    protocol TCP
    real_server 10.0.0.71 443 {
    }
    real_server 10.0.0.72 443 {
        weight 0
    }
}
virtual_server_group six {
    fd00:1::1 80
    fd00:1::10-12 8080
    fwmark 11
}
virtual_server group six {
    ip_family inet6
    lvs_sched sh
    sh-port
    lvs_method NAT
    protocol TCP
    real_server fd00::71 80 {
    }
    real_server fd00::72 8080 {
        weight 3
    }
}
";

/// The table that keepalived creates from a configuration, once it has this many lines. After keepalived's stop nothing
/// of it is left.
fn reference(lab: &mut Lab, name: &str, configuration: &str, lines: usize) -> Res<Vec<String>> {
    let node = lab.node(name)?;
    node.write(CONF, configuration, 0o644)?;
    let daemon = Program::keepalived()?.start(&node)?;
    let what = format!("keepalived's table with {lines} lines");
    let table = lab.timeline().poll(LIMIT, &what, || {
        let table = ipvs::table(&node)?;
        Ok((table.len() == lines).then_some(table))
    })?;
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(table)
}

fn groups_make_the_table_that_keepalived_makes(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it is the other side of the comparison")?;
    // Entries times one and the servers: 4*3, 4*2, 2*2, 4*3, 5*3.
    let table = reference(lab, "first", GROUPS, 51)?;
    for line in [
        "-a -t 10.1.1.2:8080 -r 10.0.0.71:80 -m -w 2",
        "-A -u 10.1.0.1:80 -s wlc -p 50",
        "-a -u 10.1.1.3:8080 -r 10.0.0.71:8080 -g -w 7",
        "-a -f 5 -r 10.0.0.72:0 -i -w 1 --tun-type ipip",
        "-a -f 9 -r 10.0.0.72:0 -g -w 0",
        "-A -f 11 -6 -s sh -b sh-port",
        "-a -t [fd00:1::11]:8080 -r [fd00::72]:8080 -m -w 3",
    ] {
        check!(table.iter().any(|shown| shown == line), "no line {line:?} in {table:#?}");
    }

    let node = director(lab)?;
    let daemon = run(lab, &node, GROUPS)?;
    ipvs::becomes(&node, &table.iter().map(String::as_str).collect::<Vec<_>>())?;

    lab.note("an entry goes, a range grows, a mark becomes another");
    let changed = GROUPS
        .replacen("    10.1.0.1 80\n", "", 1)
        .replacen("10.1.1.1-3", "10.1.1.1-5", 1)
        .replacen("fwmark 7", "fwmark 8", 1);
    // keepalived's reload leaves old entries of groups behind; so one started with the new file is the reference.
    let table = reference(lab, "second", &changed, 56)?;
    ipvs::watch(&node)?;
    let mark = lab.mark();
    node.write(CONF, &changed, 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    ipvs::becomes(&node, &table.iter().map(String::as_str).collect::<Vec<_>>())?;
    let touched = lab.after(mark).ipvs(&node);
    let differs = ["10.1.0.1:80", "10.1.1.4:", "10.1.1.5:", "FWM 7", "FWM 8"];
    let stays = |command: &&String| !differs.iter().any(|differs| command.contains(differs));
    check!(touched.iter().find(stays).is_none(), "{touched:#?}");
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

fn a_dead_server_of_a_group_leaves_all_its_entries(lab: &mut Lab) -> Res {
    let node = director(lab)?;
    let check = "TCP_CHECK {\nconnect_timeout 2\n}\n";
    let text = format!(
        "virtual_server_group web {{\n10.1.0.1-2 80\nfwmark 3\n}}\nvirtual_server group web {{\ndelay_loop 2\nretry 1\n\
         delay_before_retry 1\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\nsorry_server 10.0.0.73 80\n\
         real_server 10.0.0.71 80 {{\nweight 3\n{check}}}\n\
         real_server 10.0.0.72 80 {{\n{check}}}\n}}\n"
    );
    let becomes = |servers: &[(u8, u8)]| {
        let mut lines = Vec::new();
        for service in ["-t 10.1.0.1:80", "-t 10.1.0.2:80", "-f 3"] {
            lines.push(format!("-A {service} -s rr"));
            lines.extend(servers.iter().map(|(server, weight)| {
                format!("-a {service} -r 10.0.0.{server}:80 -m -w {weight}")
            }));
        }
        ipvs::becomes(&node, &lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let first = Server::web(&node, "10.0.0.71:80")?;
    let second = Server::web(&node, "10.0.0.72:80")?;
    let daemon = run(lab, &node, &text)?;
    becomes(&[(71, 3), (72, 1)])?;
    drop(first);
    becomes(&[(72, 1)])?;
    drop(second);
    becomes(&[(73, 1)])?;
    let _first = Server::web(&node, "10.0.0.71:80")?;
    becomes(&[(71, 3)])?;
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

fn a_program_takes_its_server_out_and_in(lab: &mut Lab) -> Res {
    let node = director(lab)?;
    // The first word names a file with the exit status.
    let script = "/usr/local/bin/judge";
    node.write(script, "#!/bin/sh\nread -r status <\"$1\"\nexit \"$status\"\n", 0o755)?;
    let judged = |n: u8, lines: &str| {
        format!(
            "real_server 10.0.0.{n} 80 {{\nweight 10\nMISC_CHECK {{\nmisc_path \"{script} /run/{n}\"\nmisc_timeout 5\n\
             {lines}}}\n}}\n"
        )
    };
    let text = format!(
        "virtual_server 10.1.0.1 80 {{\ndelay_loop 1\nlvs_sched rr\nlvs_method DR\nprotocol TCP\n{}{}}}\n",
        judged(71, ""),
        judged(72, "misc_dynamic\n")
    );
    let says = |n: u8, status: u8| node.write(format!("/run/{n}"), &format!("{status}\n"), 0o644);
    let becomes =
        |servers: &[(u8, u8)]| {
            let service = "-t 10.1.0.1:80";
            let mut lines = vec![format!("-A {service} -s rr")];
            lines.extend(servers.iter().map(|(server, weight)| {
                format!("-a {service} -r 10.0.0.{server}:80 -g -w {weight}")
            }));
            ipvs::becomes(&node, &lines.iter().map(String::as_str).collect::<Vec<_>>())
        };
    says(71, 0)?;
    says(72, 0)?;
    let daemon = run(lab, &node, &text)?;
    becomes(&[(71, 10), (72, 10)])?;
    lab.note("status 7: for one a failure, for the other a weight of 5");
    says(71, 7)?;
    says(72, 7)?;
    becomes(&[(72, 5)])?;
    lab.note("status 0 and 255");
    says(71, 0)?;
    says(72, 255)?;
    becomes(&[(71, 10), (72, 253)])?;
    lab.note("status 1 and 2");
    says(71, 1)?;
    says(72, 2)?;
    becomes(&[(72, 0)])?;
    lab.note("status 0 and 1");
    says(71, 0)?;
    says(72, 1)?;
    becomes(&[(71, 10)])?;
    lab.note("back to the weight of the file");
    says(72, 0)?;
    becomes(&[(71, 10), (72, 10)])?;
    let always = lab.always();
    for line in [
        "Removing service [10.0.0.71]:tcp:80 from VS [10.1.0.1]:tcp:80",
        "Adding service [10.0.0.72]:tcp:80 to VS [10.1.0.1]:tcp:80",
    ] {
        always.log(&node, line)?;
    }
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

fn what_other_programs_do_to_the_table_is_put_right(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it never reads the table again")?;
    let node = director(lab)?;
    let text = "global_defs {\nlvs_audit_interval 1\n}\n\
        virtual_server_group web {\n10.1.0.1-2 80\n}\n\
        virtual_server group web {\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n\
        real_server 10.0.0.71 80 {\n}\nreal_server 10.0.0.72 80 {\nweight 3\n}\n}\n\
        virtual_server fwmark 9 {\nlvs_sched wlc\nlvs_method DR\nreal_server 10.0.0.71 {\n}\n}\n";
    let wanted = [
        "-A -t 10.1.0.1:80 -s rr",
        "-a -t 10.1.0.1:80 -r 10.0.0.71:80 -m -w 1",
        "-a -t 10.1.0.1:80 -r 10.0.0.72:80 -m -w 3",
        "-A -t 10.1.0.2:80 -s rr",
        "-a -t 10.1.0.2:80 -r 10.0.0.71:80 -m -w 1",
        "-a -t 10.1.0.2:80 -r 10.0.0.72:80 -m -w 3",
        "-A -f 9 -s wlc",
        "-a -f 9 -r 10.0.0.71:0 -g -w 1",
    ];
    let daemon = run(lab, &node, text)?;
    ipvs::becomes(&node, &wanted)?;
    ipvs::watch(&node)?;
    // A foreign command, as arguments of ipvsadm; the resulting requests to the kernel, that command first.
    let stories: [(&str, &[&str]); 5] = [
        (
            "-d -t 10.1.0.1:80 -r 10.0.0.72:80",
            &[
                "DEL_DEST TCP 10.1.0.1:80 10.0.0.72:80",
                "NEW_DEST TCP 10.1.0.1:80 10.0.0.72:80 weight 3",
            ],
        ),
        (
            "-e -t 10.1.0.2:80 -r 10.0.0.71:80 -m -w 100",
            &[
                "SET_DEST TCP 10.1.0.2:80 10.0.0.71:80 weight 100",
                "SET_DEST TCP 10.1.0.2:80 10.0.0.71:80 weight 1",
            ],
        ),
        ("-E -f 9 -s sed", &["SET_SERVICE FWM 9", "SET_SERVICE FWM 9"]),
        (
            "-a -f 9 -r 10.0.0.99:0 -g",
            &["NEW_DEST FWM 9 10.0.0.99:0 weight 1", "DEL_DEST FWM 9 10.0.0.99:0"],
        ),
        (
            "-C",
            &[
                "FLUSH",
                "NEW_SERVICE TCP 10.1.0.1:80",
                "NEW_DEST TCP 10.1.0.1:80 10.0.0.71:80 weight 1",
                "NEW_DEST TCP 10.1.0.1:80 10.0.0.72:80 weight 3",
                "NEW_SERVICE TCP 10.1.0.2:80",
                "NEW_DEST TCP 10.1.0.2:80 10.0.0.71:80 weight 1",
                "NEW_DEST TCP 10.1.0.2:80 10.0.0.72:80 weight 3",
                "NEW_SERVICE FWM 9",
                "NEW_DEST FWM 9 10.0.0.71:0 weight 1",
            ],
        ),
    ];
    // Without weights of removals, which need none.
    let plain = |command: &str| match command.trim().split_once(" weight ") {
        Some((head, _)) if head.starts_with("DEL") => head.to_owned(),
        _ => command.trim().to_owned(),
    };
    for (words, commands) in stories {
        lab.note(format!("ipvsadm {words}"));
        let mark = lab.mark();
        node.must(["ipvsadm"].into_iter().chain(words.split(' ')))?;
        lab.after(mark).log(&node, "correcting it")?;
        ipvs::becomes(&node, &wanted)?;
        let mut asked: Vec<_> = lab.after(mark).ipvs(&node).iter().map(|c| plain(c)).collect();
        let mut expected: Vec<_> = commands.iter().map(|c| plain(c)).collect();
        asked.sort();
        expected.sort();
        check!(asked == expected, "after ipvsadm {words}: {asked:#?}");
    }

    lab.note("foreign services are not changed");
    node.must(["ipvsadm", "-A", "-t", "10.9.9.9:9", "-s", "rr"])?;
    let mark = lab.mark();
    let others = [&wanted[..], &["-A -t 10.9.9.9:9 -s rr"]].concat();
    // The next comparison corrects one of our entries, which shows that it took place.
    node.must("ipvsadm -d -t 10.1.0.1:80 -r 10.0.0.72:80".split(' '))?;
    lab.after(mark).log(&node, "correcting it")?;
    ipvs::becomes(&node, &others)?;

    lab.note("a reload looks at once, and counts");
    daemon.signal(Signal::SIGUSR2)?;
    let (_, line) = lab.always().log(&node, "corrected ")?;
    let count = line.rsplit("corrected ").next().and_then(|n| n.trim().parse::<u32>().ok());
    check!(count == Some(8), "{line}");
    node.write(CONF, &text.replace("lvs_audit_interval 1", "lvs_audit_interval 86400"), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.always().log(&node, "Reload complete")?;
    node.must("ipvsadm -e -f 9 -r 10.0.0.71:0 -g -w 44".split(' '))?;
    let mark = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&node, "correcting it")?;
    ipvs::becomes(&node, &others)
}

/// More services than are read one by one: a list shows which ones differ.
fn a_large_table_is_put_right_where_it_differs(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it never looks at the table")?;
    let node = director(lab)?;
    let mut text = "global_defs {\nlvs_audit_interval 1\n}\n".to_owned();
    let mut wanted = Vec::new();
    for n in 1..=80 {
        text += &format!(
            "virtual_server 10.1.0.{n} 80 {{\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n\
             real_server 10.0.0.71 80 {{\n}}\nreal_server 10.0.0.72 80 {{\n}}\n}}\n"
        );
        wanted.push(format!("-A -t 10.1.0.{n}:80 -s rr"));
        for server in [71, 72] {
            wanted.push(format!("-a -t 10.1.0.{n}:80 -r 10.0.0.{server}:80 -m -w 1"));
        }
    }
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let _daemon = run(lab, &node, &text)?;
    ipvs::becomes(&node, &wanted)?;
    ipvs::watch(&node)?;
    let stories = [
        ("-d -t 10.1.0.44:80 -r 10.0.0.72:80", "DEL_DEST", Some("NEW_DEST TCP 10.1.0.44:80")),
        ("-e -t 10.1.0.7:80 -r 10.0.0.71:80 -m -w 9", "SET_DEST", Some("SET_DEST TCP 10.1.0.7:80")),
        ("-E -t 10.1.0.80:80 -s wlc", "SET_SERVICE", Some("SET_SERVICE TCP 10.1.0.80:80")),
        ("-D -t 10.1.0.1:80", "DEL_SERVICE", None),
        ("-C", "FLUSH", None),
    ];
    for (words, theirs, ours) in stories {
        lab.note(format!("ipvsadm {words}"));
        let mark = lab.mark();
        node.must(["ipvsadm"].into_iter().chain(words.split(' ')))?;
        lab.after(mark).log(&node, "correcting it")?;
        ipvs::becomes(&node, &wanted)?;
        let asked = lab.after(mark).ipvs(&node);
        check!(asked.first().is_some_and(|first| first.contains(theirs)), "{asked:?}");
        let back = &asked[1..];
        if let Some(ours) = ours {
            check!(back.len() == 1 && back[0].contains(ours), "{words}: {asked:#?}");
        } else {
            // A service with two servers each.
            let whole = if words == "-C" { 240 } else { 3 };
            check!(back.len() == whole, "{words}: {} requests", back.len());
        }
    }
    Ok(())
}

/// Some kernels tell such a server as "local", which is no reason to write it again at each look.
fn a_tunnel_to_an_address_of_this_machine_is_written_once(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it never looks at the table")?;
    let node = director(lab)?;
    node.ip("address add 10.77.0.1/32 dev lo\n")?;
    let text = "global_defs {\nlvs_audit_interval 1\n}\n\
        virtual_server 10.1.0.1 80 {\nlvs_sched rr\nlvs_method TUN\nprotocol TCP\n\
        real_server 10.77.0.1 80 {\n}\nreal_server 10.0.0.72 80 {\n}\n}\n";
    let wanted = [
        "-A -t 10.1.0.1:80 -s rr",
        "-a -t 10.1.0.1:80 -r 10.0.0.72:80 -i -w 1 --tun-type ipip",
        "-a -t 10.1.0.1:80 -r 10.77.0.1:80 -i -w 1 --tun-type ipip",
    ];
    let _daemon = run(lab, &node, text)?;
    ipvs::becomes(&node, &wanted)?;
    ipvs::watch(&node)?;
    let start = lab.mark();
    // Each time the whole table is looked at.
    for _ in 0..3 {
        let mark = lab.mark();
        node.must("ipvsadm -d -t 10.1.0.1:80 -r 10.0.0.72:80".split(' '))?;
        lab.after(mark).log(&node, "correcting it")?;
        ipvs::becomes(&node, &wanted)?;
    }
    let asked = lab.after(start).ipvs(&node);
    check!(asked.len() == 6 && !asked.iter().any(|c| c.contains("10.77.0.1")), "{asked:#?}");
    Ok(())
}

fn after_the_end_of_the_supervisor_the_table_stays_for_a_moment(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its processes exit at once with the parent")?;
    let node = director(lab)?;
    let text = "virtual_server 10.1.0.1 80 {\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n\
        real_server 10.0.0.71 80 {\n}\n}\n";
    let wanted = ["-A -t 10.1.0.1:80 -s rr", "-a -t 10.1.0.1:80 -r 10.0.0.71:80 -m -w 1"];
    let daemon = run(lab, &node, text)?;
    ipvs::becomes(&node, &wanted)?;
    ipvs::watch(&node)?;

    lab.note(
        "the supervisor is killed; then a service manager ends the rest of it and starts it again",
    );
    let mark = lab.mark();
    let below: Vec<u32> = daemon.processes().into_iter().skip(1).collect();
    daemon.signal(Signal::SIGKILL)?;
    lab.after(mark).log(&node, "the supervisor is gone")?;
    below.into_iter().try_for_each(|pid| signal_to(pid, Signal::SIGKILL))?;
    let mark_of_start = lab.mark();
    let daemon = lab.subject.start(&node)?;
    lab.after(mark_of_start).log(&node, "Startup complete")?;
    ipvs::becomes(&node, &wanted)?;
    let commands = lab.after(mark).ipvs(&node);
    check!(commands.is_empty(), "{commands:?}");

    lab.note("it is killed and not restarted");
    daemon.signal(Signal::SIGKILL)?;
    ipvs::becomes(&node, &[])
}
