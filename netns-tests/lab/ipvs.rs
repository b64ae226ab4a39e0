//! The IPVS table of a node as its user sees it, and the commands that change it, captured from a monitor device of the
//! kernel (nlmon), which shows every netlink message of the namespace.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, NetlinkAddr, SockFlag, SockProtocol,
    SockType, bind, recv, recvmsg, send, setsockopt, socket, sockopt,
};

use super::monitor::Change;
use super::node::Node;
use super::timeline::{Wall, What};
use super::{LIMIT, Res, Stop, fail, need};

/// A command to the kernel that changes the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    pub name: &'static str,
    /// `TCP 10.0.0.1:80` or `FWM 123`; empty if there is none.
    pub service: String,
    /// The real server.
    pub server: String,
    pub weight: Option<u32>,
    /// It is the first of its datagram.
    pub leads: bool,
}

/// The lines of `ipvsadm --save`, sorted. The kernel lists the services of all namespaces by position, so changes by
/// other tests make it repeat or omit some of ours: a table counts if it is read twice.
pub fn table(node: &Node) -> Res<Vec<String>> {
    need::program("ipvsadm", "ipvsadm")?;
    let mut before = read(node)?;
    loop {
        let now = read(node)?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
}

fn read(node: &Node) -> Res<Vec<String>> {
    let mut lines: Vec<String> = node
        .must(["ipvsadm", "--save", "--numeric"])?
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    lines.sort();
    Ok(lines)
}

/// The table as a user sees it.
pub fn shown(node: &Node) -> Res<String> {
    node.must(["ipvsadm", "-Ln"])
}

/// Waits until the table is these lines, given in any order.
pub fn becomes(node: &Node, wanted: &[&str]) -> Res {
    let mut wanted: Vec<String> = wanted.iter().map(|line| (*line).to_owned()).collect();
    wanted.sort();
    let mut last = Vec::new();
    let what = format!("the IPVS table of {}", node.name);
    let waited = node.timeline().poll(LIMIT.saturating_mul(2), &what, || {
        last = table(node)?;
        Ok((last == wanted).then_some(()))
    });
    waited.map_err(|stop| match stop {
        Stop::Fail(text) => fail(format!("{text}: wanted {wanted:#?}, found {last:#?}")),
        skip @ Stop::Skip(_) => skip,
    })
}

/// Connections and incoming packets that each service and server has counted since it was added, by the second word of
/// its line.
pub fn counters(node: &Node) -> Res<BTreeMap<String, (u64, u64)>> {
    let text = node.must(["ipvsadm", "-Ln", "--stats", "--exact"])?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words.get(at)?.parse().ok();
            Some(((*words.get(1)?).to_owned(), (number(2)?, number(3)?)))
        })
        .collect())
}

/// The same as soon as there is a count: the kernel sums its counters every two seconds.
pub fn counted(node: &Node) -> Res<BTreeMap<String, (u64, u64)>> {
    node.timeline().poll(LIMIT, "the kernel has counted packets", || {
        let counters = counters(node)?;
        Ok(counters.values().any(|count| *count > (0, 0)).then_some(counters))
    })
}

/// Begins to write the commands into the timeline; skips the test if the kernel has no nlmon.
pub fn watch(node: &Node) -> Res {
    let family = node.run(family)??;
    let mark = node.timeline().mark();
    node.ip("link add nlmon0 type nlmon\nlink set nlmon0 up\n")
        .map_err(|_| Stop::Skip("the kernel has no nlmon".to_owned()))?;
    // The kernel's events about this device must not be attributed to the daemon later.
    node.timeline().wait(mark, LIMIT, "the monitor device is up", |event| match &event.what {
        What::Kernel(Change::Link { name, up: true, .. }) if event.node == node.name => {
            (name == "nlmon0").then_some(())
        }
        _ => None,
    })?;
    let fd = node.run(|| -> Res<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        setsockopt(&fd, sockopt::RxqOvfl, &1)?;
        // 25,000 requests and their answers wait in it while its reader has no processor.
        setsockopt(&fd, sockopt::RcvBufForce, &(64 << 20))?;
        Ok(fd)
    })??;
    let (name, timeline) = (Arc::clone(&node.name), Arc::clone(node.timeline()));
    let mut buffer = vec![0; 1 << 16];
    let mut lost = 0;
    node.halt().follow(fd, move |fd| {
        loop {
            let mut space = nix::cmsg_space!(u32);
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let (fd, flags) = (fd.as_raw_fd(), MsgFlags::empty());
            let Ok(message) = recvmsg::<LinkAddr>(fd, &mut parts, Some(&mut space), flags) else {
                return true;
            };
            for control in message.cmsgs().into_iter().flatten() {
                if let ControlMessageOwned::RxqOvfl(count) = control {
                    timeline.lost("messages to and from IPVS", &mut lost, count);
                }
            }
            // Hardware type of a netlink monitor.
            let wanted = message.address.is_some_and(|address| address.hatype() == 824);
            let length = if wanted { message.bytes } else { 0 };
            for command in commands(family, buffer.get(..length).unwrap_or_default()) {
                timeline.push(Wall::now(), &name, What::Ipvs(command));
            }
        }
    });
    Ok(())
}

/// The number of the generic netlink family, requested from the kernel.
fn family() -> Res<u16> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkGeneric,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    // Header, generic header (get family), attribute 2: the name.
    let mut request = Vec::new();
    request.extend(32u32.to_ne_bytes());
    request.extend([16u16, 1].map(u16::to_ne_bytes).concat());
    request.extend([0; 8]);
    request.extend([3, 1, 0, 0]);
    request.extend([9u16, 2].map(u16::to_ne_bytes).concat());
    request.extend(b"IPVS\0\0\0\0");
    let length = u32::try_from(request.len())?;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    send(fd.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    attributes(answer.get(20..length).unwrap_or_default())
        .into_iter()
        .find_map(|(kind, value)| (kind == 1).then(|| u16_of(value)).flatten())
        .ok_or_else(|| Stop::Skip("the kernel has no IPVS".to_owned()))
}

/// The requests of the family that change something, in a packet of netlink messages.
fn commands(family: u16, mut octets: &[u8]) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    while let Some(header) = octets.get(..16) {
        let length = u32_of(header).map_or(0, |length| length as usize);
        let Some(message) = octets.get(..length).filter(|_| length >= 16) else { break };
        let kind = header.get(4..).and_then(u16_of);
        let request = header.get(6).is_some_and(|flags| flags & 1 != 0);
        if kind == Some(family) && request {
            let command = command(message.get(16..).unwrap_or_default());
            found.extend(command.map(|command| Command { leads: found.is_empty(), ..command }));
        }
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn command(body: &[u8]) -> Option<Command> {
    let name = match body.first()? {
        1 => "NEW_SERVICE",
        2 => "SET_SERVICE",
        3 => "DEL_SERVICE",
        5 => "NEW_DEST",
        6 => "SET_DEST",
        7 => "DEL_DEST",
        16 => "ZERO",
        17 => "FLUSH",
        _ => return None,
    };
    let (service, server) = (String::new(), String::new());
    let mut command = Command { name, service, server, weight: None, leads: false };
    for (kind, value) in attributes(body.get(4..)?) {
        let parts: BTreeMap<u16, &[u8]> = attributes(value).into_iter().collect();
        let number = |at: u16| parts.get(&at).copied().and_then(u16_of);
        match kind {
            1 => {
                let mark = parts.get(&5).copied().and_then(u32_of);
                let protocol = if number(2) == Some(17) { "UDP" } else { "TCP" };
                command.service = match (mark, parts.get(&3)) {
                    (Some(mark), _) => format!("FWM {mark}"),
                    (None, Some(address)) => {
                        let family = number(1);
                        format!("{protocol} {}", endpoint(family, address, parts.get(&4).copied()))
                    }
                    (None, None) => String::new(),
                };
            }
            2 => {
                let family = number(11).or(Some(2));
                if let Some(address) = parts.get(&1) {
                    command.server = endpoint(family, address, parts.get(&2).copied());
                }
                command.weight = parts.get(&4).copied().and_then(u32_of);
            }
            _ => {}
        }
    }
    Some(command)
}

fn endpoint(family: Option<u16>, address: &[u8], port: Option<&[u8]>) -> String {
    let address: IpAddr = if family == Some(10) {
        let octets = address.get(..16).and_then(|a| <[u8; 16]>::try_from(a).ok());
        Ipv6Addr::from(octets.unwrap_or_default()).into()
    } else {
        let octets = address.get(..4).and_then(|a| <[u8; 4]>::try_from(a).ok());
        Ipv4Addr::from(octets.unwrap_or_default()).into()
    };
    let port = port.and_then(u16_of).map(u16::from_be).unwrap_or_default();
    std::net::SocketAddr::new(address, port).to_string()
}

fn attributes(mut octets: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (u16_of(octets), octets.get(2..).and_then(u16_of)) {
        let length = usize::from(length);
        let Some(value) = octets.get(4..length) else { break };
        found.push((kind & 0x3fff, value));
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn u16_of(octets: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(octets.get(..2)?.try_into().ok()?))
}

fn u32_of(octets: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.get(..4)?.try_into().ok()?))
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.service, self.server)?;
        self.weight.map_or(Ok(()), |weight| write!(f, " weight {weight}"))
    }
}
