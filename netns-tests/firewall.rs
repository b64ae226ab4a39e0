//! Addresses of masters that accept no packets for them: the daemon's nftables tables compared with keepalived's.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::lab::daemon::{CONF, Daemon, Program, Role, signal_to};
use crate::lab::node::Node;
use crate::lab::timeline::Patience;
use crate::lab::{LIMIT, Lab, Res, Stop, fail, need, service};
use crate::scenario::LAN;
use crate::{cases, check};

cases![Here:
    packets_to_closed_addresses_are_dropped_and_neighbours_are_answered,
    the_same_packets_are_dropped_as_by_keepalived,
    who_stops_being_master_answers_no_less_than_before,
    a_flushed_ruleset_is_put_back,
    a_replaced_process_keeps_its_tables,
    a_reload_opens_and_closes_addresses,
];

/// A client's attempts: UDP and TCP, over both families.
const PROBES: [(&str, &str); 8] = [
    ("udp", "10.0.0.100"),
    ("tcp", "10.0.0.100"),
    ("udp", "10.0.0.101"),
    ("tcp", "10.0.0.101"),
    ("udp", "10.0.0.71"),
    ("udp", "2001:db8::100"),
    ("tcp", "2001:db8::100"),
    ("udp", "fe80::100%enp0s8"),
];

/// A host with a daemon, and a client.
struct Hosts {
    host: Node,
    client: Node,
}

impl Hosts {
    fn new(lab: &mut Lab, name: &str) -> Res<Self> {
        need::program("nft", "nftables")?;
        lab.segment(name)?;
        let mut node = |what: &str, last: u8| -> Res<Node> {
            let node = lab.node(&format!("{name}-{what}"))?;
            lab.plug(&node, name, LAN, &[&format!("10.0.0.{last}/24")])?;
            node.sysctl("net.ipv6.conf.enp0s8.addr_gen_mode", "1")?;
            node.sysctl("net.ipv6.conf.enp0s8.disable_ipv6", "0")?;
            // Each attempt is refused, however many there are in a second.
            node.sysctl("net.ipv4.icmp_ratelimit", "0")?;
            node.sysctl("net.ipv6.icmp.ratelimit", "0")?;
            node.ip(&format!(
                "addr add fe80::{last}/64 dev enp0s8 nodad\naddr add 2001:db8::{last}/64 dev enp0s8 nodad\n\
                 link set lo up\n"
            ))?;
            Ok(node)
        };
        Ok(Self { host: node("host", 71)?, client: node("client", 10)? })
    }

    /// Starts a program and waits until it is master of all configured instances.
    fn start(&self, lab: &Lab, program: &Program, text: &str) -> Res<Daemon> {
        self.host.write(CONF, text, 0o644)?;
        let daemon = program.start(&self.host)?;
        self.is_master(lab, text)?;
        Ok(daemon)
    }

    /// Waits until the addresses of all instances are usable.
    fn is_master(&self, lab: &Lab, text: &str) -> Res {
        for name in names(text) {
            lab.always().log(&self.host, &format!("({name}) Entering MASTER STATE"))?;
        }
        for address in ["10.0.0.100", "10.0.0.101", "2001:db8::100", "fe80::100"] {
            if text.contains(address) {
                lab.timeline().poll(LIMIT, address, || {
                    let shown = self.host.must(["ip", "address", "show", "dev", LAN])?;
                    let usable = shown
                        .lines()
                        .any(|l| l.contains(&format!(" {address}/")) && !l.contains("tentative"));
                    Ok(usable.then_some(()))
                })?;
            }
        }
        Ok(())
    }

    fn nft(&self, words: &str) -> Res<String> {
        self.host.must(["nft"].into_iter().chain(words.split(' ')))
    }

    /// Whether the host answers to each of these, asked at the same time. A refusal counts as an answer: no port is open.
    fn answered(&self, probes: &[(&str, &str)]) -> Res<Vec<bool>> {
        let mut asked = Vec::new();
        for (how, address) in probes {
            let (how, address) = ((*how).to_owned(), (*address).to_owned());
            asked.push(self.client.run(move || ask(&how, &address))??);
        }
        // Kernels answer within milliseconds.
        let silence = Patience::new(Duration::from_secs(1));
        let mut answered = vec![false; asked.len()];
        loop {
            for (socket, answered) in asked.iter().zip(&mut answered) {
                let error = socket.take_error()?;
                *answered |= error.is_some_and(|e| e.kind() == ErrorKind::ConnectionRefused);
            }
            if silence.left().is_zero() || answered.iter().all(|answered| *answered) {
                return Ok(answered);
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Whether the host answers.
    fn answers(&self, probe: (&str, &str)) -> Res<bool> {
        Ok(self.answered(&[probe])? == [true])
    }

    /// Waits until it answers, or does not.
    fn becomes(&self, lab: &Lab, address: &str, wanted: bool) -> Res {
        let what = format!("{address} {}", if wanted { "answers" } else { "is silent" });
        lab.timeline()
            .poll(LIMIT, &what, || Ok((self.answers(("udp", address))? == wanted).then_some(())))
    }

    /// Whether the client knows the hardware address of a neighbour.
    fn resolves(&self, address: &str) -> Res<bool> {
        let shown = self.client.must(["ip", "neighbour", "show", address, "dev", LAN])?;
        Ok(shown.contains("lladdr") && !shown.contains("FAILED"))
    }

    /// The rules without packet counters, sorted.
    fn ruleset(&self, arguments: &str) -> Res<Vec<String>> {
        let text = self.nft(arguments)?;
        let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        Ok(lines)
    }
}

/// Sends a datagram or begins a connection to port 9, without waiting; an address may name its interface.
fn ask(how: &str, address: &str) -> Res<Socket> {
    let (address, interface) = address.split_once('%').unwrap_or((address, ""));
    let mut address = SocketAddr::new(address.parse()?, 9);
    if let SocketAddr::V6(six) = &mut address
        && !interface.is_empty()
    {
        six.set_scope_id(if_nametoindex(interface)?);
    }
    let kind = if how == "tcp" { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
            return Err(error.into());
        }
        _ => {}
    }
    if kind == Type::DGRAM {
        socket.send(b"?")?;
    }
    Ok(socket)
}

/// The names of the instances of a configuration.
fn names(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("vrrp_instance "));
    lines.filter_map(|rest| rest.split(' ').next()).collect()
}

fn instance(name: &str, id: u8, more: &str, addresses: &str) -> String {
    format!(
        "vrrp_instance {name} {{\n interface enp0s8\n virtual_router_id {id}\n advert_int 1\n \
         {more}\n virtual_ipaddress {{\n{addresses} }}\n}}\n"
    )
}

/// An instance that is closed, one that is not, and one of IPv6.
fn configuration(global: &str, closed: &str) -> String {
    let v4 = "  10.0.0.100/24\n";
    let v6 = "  fe80::100/64\n  2001:db8::100/64\n";
    [
        format!("global_defs {{\n{global}}}\n"),
        instance("CLOSED", 1, &format!("priority 200\n {closed}"), v4),
        instance("OPEN", 2, "priority 200\n strict_mode off", "  10.0.0.101/24\n"),
        instance("SIX", 3, &format!("priority 200\n version 3\n {closed}"), v6),
    ]
    .concat()
}

fn packets_to_closed_addresses_are_dropped_and_neighbours_are_answered(lab: &mut Lab) -> Res {
    let hosts = Hosts::new(lab, "one")?;
    let text = configuration("", "no_accept")
        + &instance("OWNER", 4, "state MASTER\n priority 255\n no_accept", "  10.0.0.102/24\n");
    let daemon = hosts.start(lab, &lab.subject.clone(), &text)?;
    let closed = PROBES.map(|(_, to)| to.contains("::100") || to == "10.0.0.100");
    let answers = hosts.answered(&PROBES)?;
    check!(answers == closed.map(|closed| !closed), "{answers:?} of {PROBES:?}");
    check!(hosts.answers(("udp", "10.0.0.102"))?, "the owner of an address does not answer");
    for address in ["10.0.0.100", "2001:db8::100", "fe80::100"] {
        check!(hosts.resolves(address)?, "{address} is not resolved");
    }
    lab.note("nothing leaves from it either");
    for (source, leaves) in [("10.0.0.100", false), ("10.0.0.101", true)] {
        let script = format!(
            "import socket\ns = socket.create_connection(('10.0.0.10', 9), 1, ('{source}', 0))"
        );
        let said = hosts.host.output([service::python()?, "-c", &script])?.stderr;
        check!(said.contains("ConnectionRefused") == leaves, "{source}: {said}");
    }
    check!(daemon.stop()?, "the exit status is not zero");
    check!(hosts.nft("list ruleset")?.is_empty(), "{}", hosts.nft("list ruleset")?);
    Ok(())
}

fn the_same_packets_are_dropped_as_by_keepalived(lab: &mut Lab) -> Res {
    let keepalived = Program::keepalived()?;
    let subject = lab.subject.clone();
    let settings = [
        ("", "no_accept"),
        (" vrrp_strict\n", ""),
        (" vrrp_strict\n vrrp_version 3\n", "accept"),
        (" nftables mine\n nftables_counters\n nftables_priority -7\n", "no_accept"),
        (" nftables\n nftables_ifindex\n", "no_accept"),
        (" vrrp_iptables\n", "strict_mode"),
        (" nftables\n", "accept"),
    ];
    for (number, (global, closed)) in settings.into_iter().enumerate() {
        let text = configuration(global, closed);
        let mut runs = Vec::new();
        for (name, program) in [("k", &keepalived), ("o", &subject)] {
            let hosts = Hosts::new(lab, &format!("{name}{number}"))?;
            hosts.host.write(CONF, &text, 0o644)?;
            runs.push((program.start(&hosts.host)?, hosts));
        }
        let mut found = Vec::new();
        for (daemon, hosts) in runs {
            hosts.is_master(lab, &text)?;
            let answers = hosts.answered(&PROBES)?;
            let rules = hosts.nft("list ruleset")?;
            let lines = rules.lines().map(|line| line.trim().to_owned());
            let is_hook =
                |line: &String| line.starts_with("table ") || line.starts_with("type filter ");
            let mut hooks: Vec<String> = lines.filter(is_hook).collect();
            hooks.sort();
            lab.note(format!("{}: {global:?} {closed:?} {answers:?}\n{rules}", hosts.host.name));
            daemon.stop()?;
            found.push((answers, hooks));
        }
        check!(found[0] == found[1], "{global:?} {closed:?}: {found:#?}");
    }
    Ok(())
}

fn who_stops_being_master_answers_no_less_than_before(lab: &mut Lab) -> Res {
    let hosts = Hosts::new(lab, "one")?;
    let text = configuration("", "no_accept");
    let daemon = hosts.start(lab, &lab.subject.clone(), &text)?;
    hosts.becomes(lab, "10.0.0.100", false)?;
    lab.note("its link goes down: it is not master any more");
    hosts.host.ip("link set enp0s8 down\n")?;
    lab.always().log(&hosts.host, "(CLOSED) Entering FAULT STATE")?;
    lab.timeline().poll(LIMIT, "the filter is gone", || {
        Ok((!hosts.nft("list ruleset")?.contains("10.0.0.100")).then_some(()))
    })?;
    lab.note("another program adds the address to the host: it is foreign");
    hosts.host.ip("link set enp0s8 up\naddr add 10.0.0.100/32 dev lo\n")?;
    check!(hosts.nft("list tables")?.contains("table ip keepalived"), "the table is gone");
    check!(daemon.stop()?, "the exit status is not zero");
    hosts.host.ip("addr replace 10.0.0.71/24 dev enp0s8\n")?;
    hosts.becomes(lab, "10.0.0.100", true)
}

fn a_flushed_ruleset_is_put_back(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it does not notice that the rules are gone")?;
    let hosts = Hosts::new(lab, "one")?;
    let daemon = hosts.start(lab, &lab.subject.clone(), &configuration("", "no_accept"))?;
    hosts.nft("add table inet theirs")?;
    hosts.nft("add chain inet theirs keep")?;
    let wanted = hosts.ruleset("list table ip keepalived")?;
    check!(wanted.iter().any(|line| line.contains("10.0.0.100")), "{wanted:?}");
    for command in [
        "delete table ip keepalived",
        "flush chain ip keepalived in",
        "flush set ip keepalived vips",
        "add element ip keepalived vips { 10.0.0.9 }",
        "flush ruleset",
    ] {
        let mark = lab.mark();
        hosts.nft(command)?;
        lab.after(mark).log(&hosts.host, "by another program")?;
        let mut found = Vec::new();
        let back = lab.timeline().poll(LIMIT, &format!("what '{command}' took"), || {
            found = hosts.ruleset("list ruleset")?;
            Ok(wanted.iter().all(|line| found.contains(line)).then_some(()))
        });
        back.map_err(|stop| match stop {
            Stop::Fail(text) => fail(format!("{text}: {found:#?}")),
            skip @ Stop::Skip(_) => skip,
        })?;
        check!(!found.iter().any(|line| line.contains("10.0.0.9 ")), "{found:#?}");
        check!(!hosts.answers(("udp", "10.0.0.100"))?, "it answers after '{command}'");
        let theirs = found.iter().any(|line| line.contains("table inet theirs"));
        check!(theirs == (command != "flush ruleset"), "{found:#?}");
    }
    hosts.nft("add table inet theirs")?;
    check!(daemon.stop()?, "the exit status is not zero");
    let left = hosts.nft("list tables")?;
    check!(left.trim() == "table inet theirs", "{left}");
    Ok(())
}

fn a_replaced_process_keeps_its_tables(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its processes have other names")?;
    let hosts = Hosts::new(lab, "one")?;
    let text = configuration(" nftables_counters\n", "no_accept");
    let daemon = hosts.start(lab, &lab.subject.clone(), &text)?;
    // Handles are never reused: an object with the same one was not touched.
    let tables = || -> Res<Vec<String>> {
        let all = hosts.ruleset("-a list ruleset")?;
        Ok(all.into_iter().filter(|line| !line.contains("counter")).collect())
    };
    let before = tables()?;
    let process = daemon.role(Role::Vrrp)?;
    let mark = lab.mark();
    signal_to(process, Signal::SIGKILL)?;
    lab.after(mark).log(&hosts.host, "(CLOSED) Entering MASTER STATE")?;
    lab.after(mark).log(&hosts.host, "(SIX) Entering MASTER STATE")?;
    check!(tables()? == before, "{before:#?} {:#?}", tables()?);
    check!(!hosts.answers(("udp", "10.0.0.100"))?, "it answers");
    lab.note("what another program did meanwhile is found as well");
    let process = daemon.role(Role::Vrrp)?;
    signal_to(process, Signal::SIGSTOP)?;
    hosts.nft("flush chain ip keepalived in")?;
    let mark = lab.mark();
    signal_to(process, Signal::SIGKILL)?;
    lab.after(mark).log(&hosts.host, "(CLOSED) Entering MASTER STATE")?;
    hosts.becomes(lab, "10.0.0.100", false)?;
    check!(daemon.stop()?, "the exit status is not zero");
    check!(hosts.nft("list ruleset")?.is_empty(), "{}", hosts.nft("list ruleset")?);
    Ok(())
}

fn a_reload_opens_and_closes_addresses(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it refuses to change the name of the table")?;
    let hosts = Hosts::new(lab, "one")?;
    let daemon = hosts.start(lab, &lab.subject.clone(), &configuration("", "no_accept"))?;
    let mark = lab.mark();
    for (global, closed) in
        [("", "accept"), ("", "no_accept"), (" nftables other\n", "no_accept"), ("", "strict_mode")]
    {
        hosts.host.write(CONF, &configuration(global, closed), 0o644)?;
        let reload = lab.mark();
        daemon.signal(Signal::SIGHUP)?;
        let open = closed == "accept";
        lab.after(reload).log(&hosts.host, "eload")?;
        hosts.becomes(lab, "10.0.0.100", open)?;
        hosts.becomes(lab, "2001:db8::100", open)?;
        check!(hosts.answers(("udp", "10.0.0.101"))?, "the other instance does not answer");
        let tables = lab.timeline().poll(LIMIT, "the tables", || {
            let text = hosts.nft("list tables")?;
            let name = if global.is_empty() { "keepalived" } else { "other" };
            let right = match open {
                true => text.is_empty(),
                false => text.lines().count() == 2 && text.lines().all(|l| l.ends_with(name)),
            };
            Ok(right.then_some(()))
        });
        tables?;
    }
    let touched = lab.after(mark).kernel(&hosts.host);
    let touched: Vec<_> =
        touched.iter().filter(|text| text.contains("::100") || text.contains(".100")).collect();
    check!(touched.is_empty(), "{touched:?}");
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

/// In the guest, whose kernel has no nftables families.
pub mod guest {
    use super::*;

    cases![Ipvs: without_nftables_an_instance_works_and_says_so];

    fn without_nftables_an_instance_works_and_says_so(lab: &mut Lab) -> Res {
        lab.subject.ours_only("it logs other messages")?;
        lab.segment("one")?;
        let node = lab.node("host")?;
        lab.plug(&node, "one", LAN, &["10.0.0.71/24"])?;
        let probe =
            node.output(["sh", "-c", "nft add table ip probe && nft delete table ip probe"]);
        if probe.is_ok_and(|output| output.status.success()) {
            return Err(Stop::Skip("this kernel has nftables".into()));
        }
        let text = instance("CLOSED", 1, "priority 200\n no_accept", "  10.0.0.100/24\n");
        node.write(CONF, &text, 0o644)?;
        let daemon = lab.subject.start(&node)?;
        lab.always().log(&node, "cannot add nftables table ip keepalived")?;
        lab.always().log(&node, "(CLOSED) Entering MASTER STATE")?;
        lab.always().address(&node, "10.0.0.100", true)?;
        lab.always().some_adverts(&node, 3)?;
        check!(daemon.stop()?, "the exit status is not zero");
        Ok(())
    }
}
