//! Virtual servers from the file to the table: the kernel entries of each kind of service, their changes when servers
//! fail and return, and the effect of a reload. One machine is director and servers at once.

use nix::sys::signal::Signal;

use crate::haproxy::told;
use crate::lab::daemon::CONF;
use crate::lab::service::Server;
use crate::lab::timeline::What;
use crate::lab::{LIMIT, Lab, Res, ipvs};
use crate::scenario::{director, run};
use crate::{cases, check};

cases![Ipvs:
    each_kind_of_service_is_in_the_table,
    schedulers_and_their_flags_are_in_the_table,
    without_its_servers_a_service_is_what_the_file_says,
    a_reload_edits_what_differs_in_place,
    many_services_travel_packed_and_one_change_alone,
    scripts_of_servers_and_quorums_run_with_their_own_arguments,
];

/// Lines of a service with one server, 10.0.0.71 port 80.
fn one(header: &str, lines: &str) -> String {
    format!("virtual_server {header} {{\n{lines}\nreal_server 10.0.0.71 80 {{\n }}\n}}\n")
}

fn each_kind_of_service_is_in_the_table(lab: &mut Lab) -> Res {
    let mut text = String::new();
    let mut lines = Vec::new();
    let mut add = |block: String, wanted: &[&'static str]| {
        text.push_str(&block);
        lines.extend(wanted);
    };
    let rr = "lvs_sched rr\nlvs_method DR\nprotocol TCP\n";
    // Persistence masks are read from left to right, odd ones included.
    add(
        one(
            "10.1.0.1 80",
            &format!("{rr}persistence_timeout 50\npersistence_granularity 255.255.0.0"),
        ),
        &[
            "-A -t 10.1.0.1:80 -s rr -p 50 -M 255.255.0.0",
            "-a -t 10.1.0.1:80 -r 10.0.0.71:80 -g -w 1",
        ],
    );
    add(
        one("10.1.0.2 80", &format!("{rr}persistence_granularity 255.0.255.0")),
        &[
            "-A -t 10.1.0.2:80 -s rr -p 360 -M 255.0.255.0",
            "-a -t 10.1.0.2:80 -r 10.0.0.71:80 -g -w 1",
        ],
    );
    // Ports: those of direct routing and tunnels are the service's, those of NAT the server's own.
    add(
        one("10.1.0.3 8080", "lvs_sched wrr\nlvs_method NAT\nprotocol TCP\nweight 5"),
        &["-A -t 10.1.0.3:8080 -s wrr", "-a -t 10.1.0.3:8080 -r 10.0.0.71:80 -m -w 5"],
    );
    add(
        one("10.1.0.4 8080", "lvs_sched rr\nlvs_method TUN\nprotocol UDP\nops"),
        &[
            "-A -u 10.1.0.4:8080 -s rr -o",
            "-a -u 10.1.0.4:8080 -r 10.0.0.71:8080 -i -w 1 --tun-type ipip",
        ],
    );
    add(
        one(
            "10.1.0.5 80",
            "lvs_sched rr\nlvs_method TUN type gue port 6080 remcsum\nprotocol SCTP",
        ),
        &[
            "-A --sctp-service 10.1.0.5:80 -s rr",
            "-a --sctp-service 10.1.0.5:80 -r 10.0.0.71:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum",
        ],
    );
    add(
        one("10.1.0.6 0", "lvs_sched rr\nlvs_method DR\nprotocol TCP"),
        &["-A -t 10.1.0.6:0 -s rr -p 360", "-a -t 10.1.0.6:0 -r 10.0.0.71:0 -g -w 1"],
    );
    // Defaults: UDP, wlc, NAT.
    add(
        one("10.1.0.7 80", ""),
        &["-A -u 10.1.0.7:80 -s wlc", "-a -u 10.1.0.7:80 -r 10.0.0.71:80 -m -w 1"],
    );
    add(
        one("fwmark 7", "lvs_sched rr\nlvs_method NAT"),
        &["-A -f 7 -s rr", "-a -f 7 -r 10.0.0.71:80 -m -w 1"],
    );
    add(
        one("fwmark 8", "lvs_sched rr\nlvs_method DR\npersistence_timeout"),
        &["-A -f 8 -s rr -p 360", "-a -f 8 -r 10.0.0.71:0 -g -w 1"],
    );
    add(
        "virtual_server fd00:1::1 53 {\nlvs_sched lc\nlvs_method NAT\nprotocol UDP\npersistence_timeout 9\n\
         persistence_granularity 64\nreal_server fd00::71 5353 {\nweight 0\n}\n}\n"
            .into(),
        &["-A -u [fd00:1::1]:53 -s lc -p 9 -M 64", "-a -u [fd00:1::1]:53 -r [fd00::71]:5353 -m -w 0"],
    );
    add(
        "virtual_server fwmark 7 {\nip_family inet6\nlvs_sched rr\nlvs_method DR\nreal_server fd00::71 {\n}\n}\n".into(),
        &["-A -f 7 -6 -s rr", "-a -f 7 -6 -r [fd00::71]:0 -g -w 1"],
    );
    let node = director(lab)?;
    let daemon = run(lab, &node, &text)?;
    ipvs::becomes(&node, &lines)?;
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

fn schedulers_and_their_flags_are_in_the_table(lab: &mut Lab) -> Res {
    let node = director(lab)?;
    let mut text = String::new();
    let mut lines = Vec::new();
    let schedulers =
        ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "fo", "ovf", "sed", "nq", "mh"];
    for (port, scheduler) in (1..).zip(schedulers) {
        let flags = match scheduler {
            "sh" => "sh-port\nsh-fallback\n",
            "mh" => "mh-port\n",
            _ => "",
        };
        let shown = match scheduler {
            "sh" => " -b sh-fallback,sh-port",
            "mh" => " -b mh-port",
            _ => "",
        };
        let settings = format!("lb_algo {scheduler}\n{flags}lb_kind DR\nprotocol TCP");
        text.push_str(&one(&format!("10.1.0.1 {port}"), &settings));
        lines.push(format!("-A -t 10.1.0.1:{port} -s {scheduler}{shown}"));
        lines.push(format!("-a -t 10.1.0.1:{port} -r 10.0.0.71:{port} -g -w 1"));
    }
    run(lab, &node, &text)?;
    ipvs::becomes(&node, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Two checked servers with weights 3 and 1, with further lines of the service and of each server.
fn checked(address: &str, lines: &str) -> String {
    let check = "TCP_CHECK {\nconnect_timeout 2\n}\n";
    format!(
        "virtual_server {address} 80 {{\ndelay_loop 2\nretry 1\ndelay_before_retry 1\nlvs_sched rr\nlvs_method DR\n\
         protocol TCP\n{lines}\nreal_server 10.0.0.71 80 {{\nweight 3\n{check}}}\n\
         real_server 10.0.0.72 80 {{\n{check}}}\n}}\n"
    )
}

fn without_its_servers_a_service_is_what_the_file_says(lab: &mut Lab) -> Res {
    let node = director(lab)?;
    // Last number of the address, settings, the entries without good servers, and with only the second one of weight 1.
    // In the form 71*3 72*1: last number of the server and weight.
    let stories: [(u8, &str, &str, &str, &str); 9] = [
        (1, "", "", "72*1", "71*3 72*1"),
        (2, "sorry_server 10.0.0.99 80", "99*1", "72*1", "71*3 72*1"),
        (
            3,
            "sorry_server 10.0.0.99 80\nsorry_server_inhibit",
            "99*1",
            "72*1 99*0",
            "71*3 72*1 99*0",
        ),
        (4, "inhibit_on_failure", "71*0 72*0", "71*0 72*1", "71*3 72*1"),
        (5, "quorum 2\nsorry_server 10.0.0.99 80", "99*1", "99*1", "71*3 72*1"),
        (6, "quorum 2", "", "72*1", "71*3 72*1"),
        (7, "alpha\nsorry_server 10.0.0.99 80", "99*1", "72*1", "71*3 72*1"),
        (8, "sorry_server 10.0.0.71 80\nquorum 3", "71*1", "71*1", "71*3 72*1"),
        (
            9,
            "inhibit_on_failure\nsorry_server 10.0.0.99 80",
            "71*0 72*0 99*1",
            "71*0 72*1",
            "71*3 72*1",
        ),
    ];
    let text: String =
        stories.iter().map(|(n, lines, ..)| checked(&format!("10.1.0.{n}"), lines)).collect();
    let table = |pick: fn(
        &(u8, &'static str, &'static str, &'static str, &'static str),
    ) -> &'static str| {
        let mut lines = Vec::new();
        for story in &stories {
            let service = format!("-t 10.1.0.{}:80", story.0);
            lines.push(format!("-A {service} -s rr"));
            for (server, weight) in pick(story).split(' ').filter_map(|entry| entry.split_once('*'))
            {
                lines.push(format!("-a {service} -r 10.0.0.{server}:80 -g -w {weight}"));
            }
        }
        lines
    };
    let becomes = |lines: Vec<String>| {
        ipvs::becomes(&node, &lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let daemon = run(lab, &node, &text)?;
    becomes(table(|story| story.2))?;
    lab.note("the second server begins to listen");
    let second = Server::web(&node, "10.0.0.72:80")?;
    becomes(table(|story| story.3))?;
    lab.note("the first server begins to listen");
    let first = Server::web(&node, "10.0.0.71:80")?;
    becomes(table(|story| story.4))?;
    lab.note("the first server ends");
    drop(first);
    becomes(table(|story| story.3))?;
    lab.note("the second server ends");
    drop(second);
    becomes(table(|story| story.2))?;
    let always = lab.always();
    for line in [
        "Enabling sorry server [10.0.0.99]:tcp:80 to VS [10.1.0.3]:tcp:80",
        "Lost quorum 2-0=2 > 1 for VS [10.1.0.5]:tcp:80",
        "Gained quorum 2+0=2 <= 4 for VS [10.1.0.5]:tcp:80",
        "Disabling service [10.0.0.71]:tcp:80 of VS [10.1.0.4]:tcp:80",
        "Starting with quorum down 1-0=1 > 0 for VS [10.1.0.7]:tcp:80",
        "TCP_CHECK on service [10.0.0.71]:tcp:80 failed after 1 retries.",
    ] {
        let (_, found) = always.log(&node, line)?;
        check!(found.ends_with(line), "{found}");
    }
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

fn a_reload_edits_what_differs_in_place(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it changes more, and dead servers count as alive")?;
    let node = director(lab)?;
    let first = Server::web(&node, "10.0.0.71:80")?;
    let _second = Server::web(&node, "10.0.0.72:80")?;
    let before = checked("10.1.0.1", "");
    let daemon = run(lab, &node, &before)?;
    let service = "-A -t 10.1.0.1:80 -s";
    let server = |n: u8, weight: u8| format!("-a -t 10.1.0.1:80 -r 10.0.0.{n}:80 -g -w {weight}");
    let becomes = |service: &str, servers: &[String]| {
        let lines: Vec<&str> =
            [service].into_iter().chain(servers.iter().map(String::as_str)).collect();
        ipvs::becomes(&node, &lines)
    };
    becomes(&format!("{service} rr"), &[server(71, 3), server(72, 1)])?;
    lab.always().log(&node, "TCP connection to [10.0.0.71]:tcp:80 success.")?;
    lab.always().log(&node, "TCP connection to [10.0.0.72]:tcp:80 success.")?;
    ipvs::watch(&node)?;
    // Reloads with this file; returns the requests to the kernel.
    let reload = |text: &str| -> Res<Vec<String>> {
        let mark = lab.mark();
        node.write(CONF, text, 0o644)?;
        daemon.signal(Signal::SIGHUP)?;
        lab.after(mark).log(&node, "Reload complete")?;
        // The daemon has requested everything when it requests the marker.
        let marker = one("fwmark 99", "lvs_sched rr\nlvs_method DR");
        let asked = lab.mark();
        node.write(CONF, &format!("{text}{marker}"), 0o644)?;
        daemon.signal(Signal::SIGHUP)?;
        lab.after(asked).wait("the marker in the table", |event| match &event.what {
            What::Ipvs(command) => {
                (command.name == "NEW_DEST" && command.service == "FWM 99").then_some(())
            }
            _ => None,
        })?;
        lab.after(asked).log(&node, "Reload complete")?;
        let mut commands = lab.after(mark).ipvs(&node);
        commands.retain(|command| !command.contains("FWM 99"));
        Ok(commands.into_iter().map(|command| command.trim_end().to_owned()).collect())
    };

    let text = before.replace("lvs_sched rr", "lvs_sched wlc\npersistence_timeout 60");
    let commands = reload(&text)?;
    check!(commands == ["SET_SERVICE TCP 10.1.0.1:80"], "{commands:?}");
    let shown = ipvs::table(&node)?;
    check!(shown.contains(&format!("{service} wlc -p 60")), "{shown:?}");

    // Changes of checks and notices cause no request to the kernel.
    let text = text
        .replace("delay_loop 2", "delay_loop 1")
        .replace("weight 3", "weight 3\nnotify_down /bin/true")
        .replace("lvs_sched", "quorum_up /bin/true\nlvs_sched");
    let commands = reload(&text)?;
    check!(commands.is_empty(), "{commands:?}");

    let text = text
        .replace("weight 3", "weight 4")
        .replace("real_server 10.0.0.72", "real_server 10.0.0.73");
    let mut commands = reload(&text)?;
    // 73 does not listen: its check may have failed before the end of the reload.
    commands.retain(|command| command != "DEL_DEST TCP 10.1.0.1:80 10.0.0.73:80");
    commands.sort();
    let wanted = [
        "DEL_DEST TCP 10.1.0.1:80 10.0.0.72:80 weight 1",
        "NEW_DEST TCP 10.1.0.1:80 10.0.0.73:80 weight 1",
        "SET_DEST TCP 10.1.0.1:80 10.0.0.71:80 weight 4",
    ];
    let plain = |lines: &[String]| -> Vec<String> {
        // A removal need not contain a weight.
        lines
            .iter()
            .map(|line| match line.strip_prefix("DEL_DEST") {
                Some(rest) => {
                    format!("DEL_DEST{}", rest.split(" weight").next().unwrap_or_default())
                }
                None => line.clone(),
            })
            .collect()
    };
    check!(plain(&commands) == plain(&wanted.map(String::from)), "{commands:?}");
    becomes(
        &format!("{service} wlc -p 60"),
        &[server(71, 4), "-A -f 99 -s rr".into(), "-a -f 99 -r 10.0.0.71:0 -g -w 1".into()],
    )?;

    lab.note("a server that is dead stays so over a reload");
    drop(first);
    becomes(
        &format!("{service} wlc -p 60"),
        &["-A -f 99 -s rr".into(), "-a -f 99 -r 10.0.0.71:0 -g -w 1".into()],
    )?;
    let commands = reload(&text.replace("weight 4", "weight 6"))?;
    check!(commands.iter().all(|command| command.starts_with("DEL_SERVICE")), "{commands:?}");
    let _first = Server::web(&node, "10.0.0.71:80")?;
    becomes(
        &format!("{service} wlc -p 60"),
        &[server(71, 6), "-A -f 99 -s rr".into(), "-a -f 99 -r 10.0.0.71:0 -g -w 1".into()],
    )
}

/// This many virtual servers with four servers each, the last one with another weight.
fn many(services: u16, weight: u8) -> String {
    (1..=services)
        .map(|n| {
            let [high, low] = n.to_be_bytes();
            let last = if n == services { weight } else { 1 };
            format!(
                "virtual_server 10.1.{high}.{low} 80 {{\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n\
                 real_server 10.2.{high}.{low} 80 {{\n}}\nreal_server 10.3.{high}.{low} 80 {{\n}}\n\
                 real_server 10.4.{high}.{low} 80 {{\n}}\n\
                 real_server 10.5.{high}.{low} 80 {{\nweight {last}\n}}\n}}\n"
            )
        })
        .collect()
}

fn many_services_travel_packed_and_one_change_alone(lab: &mut Lab) -> Res {
    const SERVICES: u16 = 5000;
    lab.subject
        .ours_only("each request is a datagram of its own, and a reload is more than one")?;
    let node = director(lab)?;
    ipvs::watch(&node)?;
    node.write(CONF, &many(SERVICES, 1), 0o644)?;
    let daemon = lab.subject.start_with(&node, &["-f", CONF])?;
    let asked = |mark| {
        lab.after(mark).all(|event| match &event.what {
            What::Ipvs(command) => Some((command.leads, command.to_string())),
            _ => None,
        })
    };
    let begin = lab.always();
    let all = usize::from(SERVICES) * 5;
    let what = "all services and servers were read";
    let mut count = 0;
    let patient = begin.within(LIMIT.saturating_mul(4));
    patient.wait(what, |event| match &event.what {
        What::Ipvs(_) => {
            count += 1;
            (count == all).then_some(())
        }
        _ => None,
    })?;
    let commands = asked(lab.timeline().beginning());
    let datagrams = commands.iter().filter(|(leads, _)| *leads).count();
    lab.note(format!("{} commands in {datagrams} datagrams", commands.len()));
    check!(datagrams <= all / 90, "{} commands in {datagrams} datagrams", commands.len());

    lab.note("one weight changes");
    let mark = lab.mark();
    node.write(CONF, &many(SERVICES, 2), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    let patient = lab.after(mark).within(LIMIT.saturating_mul(4));
    patient.wait("the weight", |event| match &event.what {
        What::Ipvs(_) => Some(()),
        _ => None,
    })?;
    // The whole table is compared after the reload; no entry may need a correction.
    lab.after(mark).within(LIMIT.saturating_mul(4)).log(&node, "Reload complete")?;
    check!(daemon.stop_within(LIMIT.saturating_mul(4))?, "the exit status is not zero");
    let reloaded = asked(mark);
    let one = "SET_DEST TCP 10.1.19.136:80 10.5.19.136:80 weight 2";
    check!(reloaded.first().is_some_and(|(_, command)| command == one), "{:?}", reloaded.first());
    let edits = reloaded.iter().filter(|(_, command)| !command.starts_with("DEL_"));
    check!(edits.count() == 1, "{:?}", &reloaded[..9.min(reloaded.len())]);
    Ok(())
}

fn scripts_of_servers_and_quorums_run_with_their_own_arguments(lab: &mut Lab) -> Res {
    let node = director(lab)?;
    let script = "/usr/local/bin/tell";
    node.write(script, "#!/bin/sh\nfor word in \"$@\"; do line=\"$line<$word>\"; done; echo \"$line\" >/run/told\n", 0o755)?;
    told(&node)?;
    let text = checked(
        "10.1.0.1",
        &format!(
            "quorum 4\nquorum_up \"{script} quorum up\"\nquorum_down \"{script} quorum down\""
        ),
    );
    let notify = format!("notify_up \"{script} 71 'is up'\"\nnotify_down \"{script} 71 down\"");
    let text = text.replace("weight 3", &format!("weight 3\n{notify}"));
    let first = Server::web(&node, "10.0.0.71:80")?;
    let _second = Server::web(&node, "10.0.0.72:80")?;
    let daemon = run(lab, &node, &text)?;
    let says = |mark, lines: [&str; 2]| {
        lines.iter().try_for_each(|line| lab.after(mark).says(&node, "told", line))
    };
    // Servers in service from the start are not announced, the quorum is.
    lab.always().says(&node, "told", "<quorum><up>")?;
    lab.always().log(&node, "TCP connection to [10.0.0.71]:tcp:80 success.")?;
    let mark = lab.mark();
    drop(first);
    says(mark, ["<71><down>", "<quorum><down>"])?;
    let mark = lab.mark();
    let _first = Server::web(&node, "10.0.0.71:80")?;
    says(mark, ["<71><is up>", "<quorum><up>"])?;
    // Without omega the stop is not announced.
    check!(daemon.stop()?, "the exit status is not zero");
    let said = lab.always().said(&node, "told");
    check!(said.len() == 5, "{said:?}");
    Ok(())
}
