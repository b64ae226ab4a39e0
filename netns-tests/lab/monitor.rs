//! The rtnetlink events of a node's kernel: those of `ip monitor address link route rule`.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};

use super::Res;
use super::follow::Halt;
use super::timeline::{Timeline, Wall, What};

/// Multicast groups: link, IPv4 and IPv6 addresses, routes and rules.
const GROUPS: u32 =
    1 | 1 << (5 - 1) | 1 << (7 - 1) | 1 << (8 - 1) | 1 << (9 - 1) | 1 << (11 - 1) | 1 << (19 - 1);

/// One event of the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Address {
        added: bool,
        address: IpAddr,
        prefix: u8,
        index: u32,
        secondary: bool,
    },
    Link {
        index: u32,
        name: String,
        up: bool,
        carrier: bool,
        gone: bool,
    },
    /// A route or rule; the text only names the kind of message.
    Other(String),
}

impl Change {
    /// The address that was added to (`true`) or removed from an interface.
    pub fn address(&self, was_added: bool) -> Option<IpAddr> {
        match self {
            Self::Address { added, address, .. } if *added == was_added => Some(*address),
            _ => None,
        }
    }
}

/// A socket that receives all of them; to be called in the network namespace to be monitored.
pub fn open() -> Res<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    // The events of 2,000 routes wait in it while its reader has no processor.
    setsockopt(&fd, sockopt::RcvBufForce, &(16 << 20))?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(fd)
}

/// Writes the events of the socket into the timeline until the test ends.
pub fn follow(fd: OwnedFd, node: Arc<str>, timeline: Arc<Timeline>, halt: &Halt) {
    let mut buffer = vec![0; 1 << 16];
    halt.follow(fd, move |fd| {
        loop {
            let received = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty());
            let at = Wall::now();
            match received {
                Ok(length) => {
                    for change in parse(buffer.get(..length).unwrap_or_default()) {
                        timeline.push(at, &node, What::Kernel(change));
                    }
                }
                Err(nix::Error::ENOBUFS) => {
                    let text = "the laboratory lost events of the kernel".to_owned();
                    timeline.push(at, &node, What::Note(text));
                }
                Err(_) => return true,
            }
        }
    });
}

fn parse(mut octets: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(octets) {
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        if let NetlinkPayload::InnerMessage(inner) = message.payload {
            changes.push(change(inner));
        }
        match octets.get(length.next_multiple_of(4)..) {
            Some(rest) if length > 0 && !rest.is_empty() => octets = rest,
            _ => break,
        }
    }
    changes
}

fn change(message: RouteNetlinkMessage) -> Change {
    match message {
        RouteNetlinkMessage::NewAddress(m) => address(&m, true),
        RouteNetlinkMessage::DelAddress(m) => address(&m, false),
        RouteNetlinkMessage::NewLink(m) => link(&m, false),
        RouteNetlinkMessage::DelLink(m) => link(&m, true),
        RouteNetlinkMessage::NewRoute(_) => Change::Other("route added".to_owned()),
        RouteNetlinkMessage::DelRoute(_) => Change::Other("route deleted".to_owned()),
        RouteNetlinkMessage::NewRule(_) => Change::Other("rule added".to_owned()),
        RouteNetlinkMessage::DelRule(_) => Change::Other("rule deleted".to_owned()),
        _ => Change::Other("another message".to_owned()),
    }
}

fn address(message: &AddressMessage, added: bool) -> Change {
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    let Some(address) = find(true).or_else(|| find(false)) else {
        return Change::Other("address message without an address".to_owned());
    };
    Change::Address {
        added,
        address,
        prefix: message.header.prefix_len,
        index: message.header.index,
        secondary: message.header.flags.contains(AddressHeaderFlags::Secondary),
    }
}

fn link(message: &LinkMessage, gone: bool) -> Change {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    Change::Link {
        index: message.header.index,
        name: name.unwrap_or_default(),
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        gone,
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { added, address, prefix, secondary, .. } => write!(
                f,
                "address {address}/{prefix}{} {}",
                if *secondary { " (secondary)" } else { "" },
                if *added { "added" } else { "deleted" }
            ),
            Self::Link { name, gone: true, .. } => write!(f, "link {name} deleted"),
            Self::Link { name, up, carrier, .. } => write!(
                f,
                "link {name} {}, {}",
                if *up { "up" } else { "down" },
                if *carrier { "carrier" } else { "no carrier" }
            ),
            Self::Other(text) => f.write_str(text),
        }
    }
}
