//! Checks that are not about pages, at real servers: mail, names, datagrams, echoes, files; and daemons of IPVS that
//! follow an instance.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::http::service;
use crate::lab::daemon::{CONF, Role, signal_to};
use crate::lab::node::{Node, command};
use crate::lab::service::python;
use crate::lab::{LIMIT, Lab, Res, ipvs, need};
use crate::scenario::{DR, LAN, Servers, director, replaced, run};
use crate::{cases, check};

cases![Ipvs:
    mail_servers_and_echoes_decide,
    datagrams_decide,
    name_servers_decide,
    a_tracked_file_decides,
    a_bfd_session_decides,
    a_service_is_checked_while_its_address_is_here,
    sync_daemons_follow_the_instance,
    timeouts_are_set_and_given_back,
];

/// These servers with these weights.
fn becomes(node: &Node, servers: &[(u8, u32)]) -> Res {
    let mut lines = vec!["-A -t 10.1.0.1:80 -s rr".to_owned()];
    let server =
        |(n, weight): &(u8, u32)| format!("-a -t 10.1.0.1:80 -r 10.0.0.{n}:80 -g -w {weight}");
    lines.extend(servers.iter().map(server));
    ipvs::becomes(node, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Starts Debian's aiosmtpd there.
fn mail(lab: &Lab, node: &Node) -> Res<u32> {
    let mut server = command([python()?]);
    server.args(["-u", "-m", "aiosmtpd", "--nosetuid", "--listen", "10.0.0.71:25"]);
    let pid = node.spawn(server, "smtp")?;
    lab.timeline().poll(LIMIT, "the SMTP server listens", || {
        Ok(node.run(|| std::net::TcpStream::connect(("10.0.0.71", 25)))?.ok())
    })?;
    Ok(pid)
}

fn mail_servers_and_echoes_decide(lab: &mut Lab) -> Res {
    let node = director(lab)?;
    let server = mail(lab, &node)?;
    let smtp = "connect_port 25\nhelo_name director.example";
    let daemon = run(lab, &node, &service(&[(71, "SMTP_CHECK", smtp), (72, "PING_CHECK", "")]))?;
    becomes(&node, &[(71, 1), (72, 1)])?;
    let always = lab.always();
    always.log(&node, "Remote SMTP server [10.0.0.71]:tcp:80 succeed on service.")?;
    always.log(&node, "ICMP connection to [10.0.0.72]:tcp:80 success.")?;

    lab.note("the mail server ends, the other host does not answer echoes any more");
    signal_to(server, Signal::SIGTERM)?;
    becomes(&node, &[(72, 1)])?;
    always.log(&node, "SMTP_CHECK Error connecting to server [10.0.0.71]:25")?;
    node.sysctl("net.ipv4.icmp_echo_ignore_all", "1")?;
    becomes(&node, &[])?;
    always.log(
        &node,
        "ICMP CHECK on service [10.0.0.72]:tcp:80 of [10.1.0.1]:tcp:80 failed after 1 retries",
    )?;

    lab.note("both return");
    let mark = lab.mark();
    node.sysctl("net.ipv4.icmp_echo_ignore_all", "0")?;
    becomes(&node, &[(72, 1)])?;
    mail(lab, &node)?;
    becomes(&node, &[(71, 1), (72, 1)])?;
    let later = lab.after(mark);
    later.log(&node, "Remote SMTP server [10.0.0.71]:tcp:80 succeed on service.")?;
    later.log(&node, "ICMP connection to [10.0.0.72]:tcp:80 success.")?;
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

/// A server of datagrams: it answers them with `pong` or, if it is told so, with something else; it ends with this.
struct Pong {
    other: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Pong {
    fn start(node: &Node) -> Res<Self> {
        let socket = node.run(|| UdpSocket::bind("10.0.0.72:7"))??;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (other, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (says_other, ends) = (Arc::clone(&other), Arc::clone(&end));
        let thread = thread::spawn(move || {
            let mut octets = [0; 100];
            while !ends.load(Ordering::SeqCst) {
                if let Ok((_, from)) = socket.recv_from(&mut octets) {
                    let other = says_other.load(Ordering::SeqCst);
                    let _ = socket.send_to(if other { b"PONG" } else { b"pong" }, from);
                }
            }
        });
        Ok(Self { other, end, thread: Some(thread) })
    }
}

impl Drop for Pong {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn datagrams_decide(lab: &mut Lab) -> Res {
    let node = director(lab)?;
    let pong = Pong::start(&node)?;
    // Nobody listens at the first one: an ICMP error comes back. The third one says nothing at all.
    let _silent = node.run(|| UdpSocket::bind("10.0.0.73:7"))??;
    let reply = "connect_port 7\npayload 70696e67\nrequire_reply 70 6f Xe 67";
    let servers = [
        (71, "UDP_CHECK", "connect_port 7"),
        (72, "UDP_CHECK", reply),
        (73, "UDP_CHECK", "connect_port 7"),
    ];
    let daemon = run(lab, &node, &service(&servers))?;
    becomes(&node, &[(72, 1), (73, 1)])?;
    let always = lab.always();
    always.log(&node, "UDP_CHECK on service [10.0.0.71]:tcp:80 failed (Connection refused).")?;
    always.log(&node, "UDP connection to [10.0.0.72]:tcp:80 success.")?;
    always.log(&node, "UDP connection to [10.0.0.73]:tcp:80 success.")?;

    lab.note("the second one answers something else");
    pong.other.store(true, Ordering::SeqCst);
    becomes(&node, &[(73, 1)])?;
    always.log(&node, "failed after 1 retries (byte 0 of the reply is 50).")?;
    pong.other.store(false, Ordering::SeqCst);
    becomes(&node, &[(72, 1), (73, 1)])?;
    lab.note("the second one ends");
    drop(pong);
    becomes(&node, &[(73, 1)])?;
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

fn name_servers_decide(lab: &mut Lab) -> Res {
    let dnsmasq = need::program("dnsmasq", "dnsmasq-base")?;
    let node = director(lab)?;
    let start = |more: &[&str]| {
        let mut server = command([dnsmasq.as_os_str()]);
        server.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--pid-file",
            "--bind-interfaces",
            "--listen-address=10.0.0.71",
            "--log-facility=-",
        ]);
        server.args(more);
        node.spawn(server, "dnsmasq")
    };
    let server = start(&["--host-record=mx.example,10.9.9.9"])?;
    let dns = "connect_port 53\ntype A\nname mx.example.";
    let daemon = run(lab, &node, &service(&[(71, "DNS_CHECK", dns)]))?;
    lab.always().log(&node, "DNS_CHECK ([10.0.0.71]:tcp:80) success.")?;
    becomes(&node, &[(71, 1)])?;
    lab.note("the name server ends, and one that knows no answer takes its place");
    signal_to(server, Signal::SIGTERM)?;
    becomes(&node, &[])?;
    let mark = lab.mark();
    let server = start(&["--address=/other.example/10.9.9.9"])?;
    // It refuses names of others: nobody it could ask.
    lab.timeline().poll(LIMIT, "the reason", || {
        let text = node.status(&["--json"])?;
        Ok(text.contains("rcode = 5").then_some(()))
    })?;
    becomes(&node, &[])?;
    signal_to(server, Signal::SIGTERM)?;
    start(&["--host-record=mx.example,10.9.9.9"])?;
    becomes(&node, &[(71, 1)])?;
    lab.after(mark).log(&node, "DNS_CHECK ([10.0.0.71]:tcp:80) success.")?;
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

fn a_tracked_file_decides(lab: &mut Lab) -> Res {
    let node = director(lab)?;
    node.write("/run/down", "0\n", 0o644)?;
    node.write("/run/more", "4\n", 0o644)?;
    let files = "track_file down {\nfile /run/down\nweight 0\n}\ntrack_file more {\nfile /run/more\nweight 2\n}\n";
    let servers = [(71, "FILE_CHECK", "track_file down"), (72, "FILE_CHECK", "track_file more")];
    let daemon = run(lab, &node, &format!("{files}{}", service(&servers)))?;
    becomes(&node, &[(71, 1), (72, 9)])?;
    lab.note("another number in each");
    node.write("/run/down", "1\n", 0o644)?;
    becomes(&node, &[(72, 9)])?;
    lab.always().log(&node, "Removing service [10.0.0.71]:tcp:80 from VS [10.1.0.1]:tcp:80")?;
    node.write("/run/more", "-3\n", 0o644)?;
    becomes(&node, &[(72, 0)])?;
    lab.note("the daemon starts again: who is out stays out");
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])?;
    ipvs::watch(&node)?;
    let mark = lab.mark();
    let daemon = lab.subject.start(&node)?;
    becomes(&node, &[(72, 0)])?;
    let later = lab.after(mark).ipvs(&node);
    check!(!format!("{later:?}").contains("10.0.0.71"), "{later:?}");
    node.must(["rm", "/run/down", "/run/more"])?;
    becomes(&node, &[(71, 1), (72, 1)])?;
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

fn a_bfd_session_decides(lab: &mut Lab) -> Res {
    lab.segment("lan")?;
    let (node, peer) = (lab.node("our")?, lab.node("peer")?);
    lab.plug(&node, "lan", LAN, &["10.0.0.1/24"])?;
    lab.plug(&peer, "lan", LAN, &["10.0.0.71/24"])?;
    let session = |neighbor: u8, own: u8| {
        format!(
            "bfd_instance B {{\n neighbor_ip 10.0.0.{neighbor}\n source_ip 10.0.0.{own}\n min_rx 50\n \
             min_tx 50\n multiplier 3\n checker\n}}\n"
        )
    };
    let servers = [(71, "BFD_CHECK", "name B"), (72, "BFD_CHECK", "name B\nalpha")];
    let daemon = run(lab, &node, &format!("{}{}", session(71, 1), service(&servers)))?;
    lab.note("nothing is heard of the neighbor: only who waits for it is out");
    becomes(&node, &[(71, 1)])?;
    peer.write(CONF, &session(1, 71).replace(" checker\n", ""), 0o644)?;
    let other = lab.subject.start(&peer)?;
    becomes(&node, &[(71, 1), (72, 1)])?;
    lab.note("it falls silent");
    other.crash()?;
    becomes(&node, &[])?;
    lab.always().log(&node, "BFD check of [B] RS([10.0.0.71]:tcp:80) is DOWN")?;
    lab.note("a process that is replaced knows what the other one had heard");
    let old = daemon.role(Role::Checker)?;
    signal_to(old, Signal::SIGKILL)?;
    replaced(lab, &daemon, Role::Checker, old)?;
    becomes(&node, &[])?;
    let mark = lab.mark();
    let other = lab.subject.start(&peer)?;
    lab.after(mark).log(&node, "BFD check of [B] RS([10.0.0.72]:tcp:80) is UP")?;
    becomes(&node, &[(71, 1), (72, 1)])?;
    check!(other.stop()? && daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

fn a_service_is_checked_while_its_address_is_here(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it says nothing when a reload suspends checks")?;
    let node = director(lab)?;
    let globals = "global_defs {\n lvs_netlink_cmd_rcv_bufs 20000000\n lvs_netlink_cmd_rcv_bufs_force\n \
                   lvs_netlink_monitor_rcv_bufs 30000000\n lvs_netlink_monitor_rcv_bufs_force\n}\n";
    // Nobody listens there.
    let services =
        service(&[(71, "TCP_CHECK", "")]).replace("delay_loop 1", "delay_loop 1\nha_suspend");
    let daemon = run(lab, &node, &format!("{globals}{services}"))?;
    let deactivated = "Deactivating healthchecker for service [10.0.0.71]:tcp:80";
    lab.always().log(&node, deactivated)?;
    becomes(&node, &[(71, 1)])?;
    let text = node.status(&[])?;
    check!(text.contains("checks are suspended"), "{text}");
    // The kernel doubles what it is asked for.
    let shown = node.must(["ss", "-a", "-m", "-f", "netlink"])?;
    for size in ["rb40000000,", "rb60000000,"] {
        check!(shown.contains(size), "{size}: {shown}");
    }
    lab.note("the address comes");
    node.ip("addr add 10.1.0.1/32 dev lo\n")?;
    becomes(&node, &[])?;
    lab.note("it goes, and the server begins to listen");
    let mark = lab.mark();
    node.ip("addr del 10.1.0.1/32 dev lo\n")?;
    lab.after(mark).log(&node, "Suspending healthchecker for service [10.0.0.71]:tcp:80")?;
    let _server = node.run(|| std::net::TcpListener::bind("10.0.0.71:80"))??;
    becomes(&node, &[])?;
    node.ip("addr add 10.1.0.1/32 dev lo\n")?;
    becomes(&node, &[(71, 1)])?;
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

/// What ipvsadm says of daemons.
fn daemons(node: &Node) -> Res<String> {
    need::program("ipvsadm", "ipvsadm")?;
    node.must(["ipvsadm", "-L", "--daemon"])
}

fn sync_daemons_follow_the_instance(lab: &mut Lab) -> Res {
    let net = Servers::new(lab)?;
    let tied = |text: &str| {
        let name = text
            .split_once("vrrp_instance ")
            .map_or("?", |(_, rest)| rest.split_whitespace().next().unwrap_or("?"));
        let line = format!("lvs_sync_daemon enp0s8 inst {name} id 77 ttl 3");
        format!("global_defs {{\n{line}\n}}\n{text}")
    };
    let [first, second] = DR.map(tied);
    let [primary, backup] = net.start(&lab.subject, [&first, &second])?;
    let is = |node: &Node, role: &str| {
        lab.timeline().poll(LIMIT, role, || {
            let text = daemons(node)?;
            let lines: Vec<&str> =
                text.lines().filter(|line| line.contains("sync daemon")).collect();
            let right = match role {
                "none" => lines.is_empty(),
                role => {
                    lines.len() == 1
                        && lines[0].starts_with(role)
                        && lines[0].contains("mcast=enp0s8")
                        && lines[0].contains("syncid=77")
                }
            };
            Ok(right.then_some(()))
        })
    };
    is(&net.svr1, "master")?;
    is(&net.svr2, "backup")?;
    lab.note("the backup takes over");
    check!(primary.stop()?, "the exit status is not zero");
    is(&net.svr1, "none")?;
    is(&net.svr2, "master")?;
    lab.note("the primary returns");
    let primary = lab.subject.start(&net.svr1)?;
    is(&net.svr1, "master")?;
    is(&net.svr2, "backup")?;
    check!(primary.stop()?, "the exit status is not zero");
    check!(backup.stop()?, "the exit status is not zero");
    is(&net.svr1, "none")?;
    is(&net.svr2, "none")?;
    Ok(())
}

fn timeouts_are_set_and_given_back(lab: &mut Lab) -> Res {
    need::program("ipvsadm", "ipvsadm")?;
    let node = director(lab)?;
    let is = |wanted: &str| {
        lab.timeline().poll(LIMIT, wanted, || {
            let text = node.must(["ipvsadm", "-L", "--timeout"])?;
            Ok(text.contains(wanted).then_some(()))
        })
    };
    node.must(["ipvsadm", "--set", "800", "100", "200"])?;
    let servers = service(&[(71, "TCP_CHECK", "")]);
    let with = |line: &str| format!("global_defs {{\n{line}\n}}\n{servers}");
    let daemon = run(lab, &node, &with("lvs_timeouts tcp 123 udp 45"))?;
    is("(tcp tcpfin udp): 123 100 45")?;
    lab.note("a reload that wants another one");
    node.write(CONF, &with("lvs_timeouts tcpfin 67"), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    is("(tcp tcpfin udp): 800 67 200")?;
    check!(daemon.stop()?, "the exit status is not zero");
    is("(tcp tcpfin udp): 800 100 200")
}
