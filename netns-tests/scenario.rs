//! The networks of the five scenarios, and the files of etc/examples that are run in them unchanged.

use crate::check;
use crate::lab::daemon::{CONF, Daemon, Program, Role, lives};
use crate::lab::frame::Advert;
use crate::lab::node::Node;
use crate::lab::switch::Cable;
use crate::lab::timeline::{Mark, Wall};
use crate::lab::{LIMIT, Lab, Res, fail, late};

/// The text of a file of etc/examples.
macro_rules! example {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/etc/examples/", $name))
    };
}

pub const FAILOVER: [&str; 2] =
    [example!("failover-primary.conf"), example!("failover-backup.conf")];
pub const NAT: [&str; 2] = [example!("nat-primary.conf"), example!("nat-backup.conf")];
pub const DR: [&str; 2] = [example!("dr-primary.conf"), example!("dr-backup.conf")];
pub const FWMARK: [&str; 2] = [example!("fwmark-primary.conf"), example!("fwmark-backup.conf")];
pub const HAPROXY: [&str; 2] = [example!("haproxy-primary.conf"), example!("haproxy-backup.conf")];
pub const HAPROXY_CFG: &str = example!("haproxy.cfg");

/// The interface that the scenarios name.
pub const LAN: &str = "enp0s8";

/// Two daemons' machines and a client on one LAN, 10.0.0.0/24 on enp0s8.
pub struct Pair {
    pub svr1: Node,
    pub svr2: Node,
    pub client: Node,
    /// The cables of svr1 and svr2.
    pub cables: [Cable; 2],
}

impl Pair {
    pub fn new(lab: &mut Lab) -> Res<Self> {
        lab.segment("lan")?;
        let (svr1, svr2) = (lab.node("svr1")?, lab.node("svr2")?);
        let client = lab.node("client")?;
        let cables = [
            lab.plug(&svr1, "lan", LAN, &["10.0.0.71/24"])?,
            lab.plug(&svr2, "lan", LAN, &["10.0.0.72/24"])?,
        ];
        lab.plug(&client, "lan", LAN, &["10.0.0.10/24"])?;
        Ok(Self { svr1, svr2, client, cables })
    }

    /// Starts a program on both with these configurations.
    pub fn start(&self, program: &Program, configurations: [&str; 2]) -> Res<[Daemon; 2]> {
        start(program, [&self.svr1, &self.svr2], configurations)
    }
}

/// Two directors between a client outside (192.168.1.0/24 on enp0s8) and two web servers inside (10.0.0.0/24 on
/// enp0s9), whose default route is the inner virtual address.
pub struct Directors {
    pub svr1: Node,
    pub svr2: Node,
    pub client: Node,
    pub webs: [Node; 2],
    /// The outer and the inner cable of svr1.
    pub cables: [Cable; 2],
}

impl Directors {
    pub fn new(lab: &mut Lab) -> Res<Self> {
        lab.segment("outer")?;
        lab.segment("inner")?;
        let (svr1, svr2) = (lab.node("svr1")?, lab.node("svr2")?);
        let cables = [
            lab.plug(&svr1, "outer", "enp0s8", &["192.168.1.11/24"])?,
            lab.plug(&svr1, "inner", "enp0s9", &["10.0.0.11/24"])?,
        ];
        lab.plug(&svr2, "outer", "enp0s8", &["192.168.1.12/24"])?;
        lab.plug(&svr2, "inner", "enp0s9", &["10.0.0.12/24"])?;
        for director in [&svr1, &svr2] {
            director.sysctl("net.ipv4.ip_forward", "1")?;
        }
        let client = lab.node("client")?;
        lab.plug(&client, "outer", LAN, &["192.168.1.20/24"])?;
        let webs = [lab.node("websvr1")?, lab.node("websvr2")?];
        for (web, address) in webs.iter().zip(["10.0.0.71/24", "10.0.0.72/24"]) {
            lab.plug(web, "inner", LAN, &[address])?;
            web.ip("route add default via 10.0.0.100\n")?;
        }
        Ok(Self { svr1, svr2, client, webs, cables })
    }

    /// Starts a program on both directors with these configurations.
    pub fn start(&self, program: &Program, configurations: [&str; 2]) -> Res<[Daemon; 2]> {
        start(program, [&self.svr1, &self.svr2], configurations)
    }
}

/// The configuration without the lines that begin with this word.
pub fn without(configuration: &str, word: &str) -> String {
    let lines = configuration.lines().filter(|line| !line.trim_start().starts_with(word));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Two directors, two web servers that hold the virtual address on lo, and two clients, all on one LAN.
pub struct Servers {
    pub svr1: Node,
    pub svr2: Node,
    pub client: Node,
    pub second: Node,
    pub webs: [Node; 2],
}

impl Servers {
    pub fn new(lab: &mut Lab) -> Res<Self> {
        lab.segment("lan")?;
        let mut node = |name: &str, address: &str| -> Res<Node> {
            let node = lab.node(name)?;
            lab.plug(&node, "lan", LAN, &[address])?;
            Ok(node)
        };
        let servers = Self {
            svr1: node("svr1", "10.0.0.11/24")?,
            svr2: node("svr2", "10.0.0.12/24")?,
            client: node("client", "10.0.0.20/24")?,
            second: node("client2", "10.0.0.21/24")?,
            webs: [node("websvr1", "10.0.0.71/24")?, node("websvr2", "10.0.0.72/24")?],
        };
        for web in &servers.webs {
            web.sysctl("net.ipv4.conf.enp0s8.arp_ignore", "1")?;
            web.sysctl("net.ipv4.conf.enp0s8.arp_announce", "2")?;
            web.ip("addr add 10.0.0.1/32 dev lo\n")?;
        }
        Ok(servers)
    }

    /// Starts a program on both directors with these configurations.
    pub fn start(&self, program: &Program, configurations: [&str; 2]) -> Res<[Daemon; 2]> {
        start(program, [&self.svr1, &self.svr2], configurations)
    }
}

fn start(program: &Program, nodes: [&Node; 2], configurations: [&str; 2]) -> Res<[Daemon; 2]> {
    for (node, text) in nodes.into_iter().zip(configurations) {
        node.write(CONF, text, 0o644)?;
    }
    let [first, second] = nodes;
    Ok([program.start(first)?, program.start(second)?])
}

/// A machine with the addresses of three servers, none of which listens yet.
pub fn director(lab: &mut Lab) -> Res<Node> {
    let node = lab.node("director")?;
    node.ip("addr add 10.0.0.71/32 dev lo\naddr add 10.0.0.72/32 dev lo\naddr add 10.0.0.73/32 dev lo\n")?;
    Ok(node)
}

/// Starts the program under test on a machine with this configuration.
pub fn run(lab: &Lab, node: &Node, configuration: &str) -> Res<Daemon> {
    node.write(CONF, configuration, 0o644)?;
    lab.subject.start(node)
}

/// The configuration with more lines after the one that begins a block.
pub fn within(configuration: &str, block: &str, more: &str) -> String {
    configuration.replacen(block, &format!("{block}\n {more}"), 1)
}

/// Waits until the node has sent this many adverts after the mark; none may be missing since the last one before it.
pub fn steady(lab: &Lab, mark: Mark, node: &Node, count: usize) -> Res {
    lab.after(mark).some_adverts(node, count)?;
    let all = lab.always().adverts(node);
    let later = lab.after(mark).adverts(node);
    let first = all.iter().position(|(at, _)| Some(at) == later.first().map(|(at, _)| at));
    let watched = all.get(first.unwrap_or_default().saturating_sub(1)..).unwrap_or_default();
    for pair in watched.windows(2) {
        let gap = pair[1].0.millis_since(pair[0].0);
        let most = late::bound(1_500.0, pair[0].0, pair[1].0);
        check!(gap < most, "{gap} ms between two adverts of {}, at most {most}", node.name);
    }
    Ok(())
}

/// Checks adverts that are due each second: none is missing, none is early.
pub fn each_second(adverts: &[(Wall, Advert)]) -> Res {
    for pair in adverts.windows(2) {
        let (first, second) = (pair[0].0, pair[1].0);
        let gap = second.millis_since(first);
        let most = late::bound(1_500.0, first, second);
        // The one after a late one is on its regular time.
        let least = 900.0 - late::between(Wall(first.0 - 1_000_000_000), first);
        check!((least..most).contains(&gap), "{gap} ms between two adverts, {least} to {most}");
    }
    Ok(())
}

/// Checks that `after` is at most this many milliseconds after `before`, plus the lateness of a bare timer.
#[track_caller]
pub fn soon(before: Wall, after: Wall, millis: f64) -> Res {
    let (took, most) = (after.millis_since(before), late::bound(millis, before, after));
    if took < most {
        return Ok(());
    }
    let place = std::panic::Location::caller();
    Err(fail(format!("it took {took} ms, at most {most} [{}:{}]", place.file(), place.line())))
}

/// Waits until a different process has the role.
pub fn replaced(lab: &Lab, daemon: &Daemon, role: Role, old: u32) -> Res {
    lab.timeline().poll(LIMIT, &format!("another process with the role {role:?}"), || {
        Ok(daemon.find(role).filter(|pid| *pid != old && !lives(old)))
    })?;
    Ok(())
}
