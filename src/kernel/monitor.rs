//! What happens to links and addresses, told by the kernel as it happens.
//!
//! The monitor has a socket of its own with a large queue. If the queue overruns all the same, or at the start, a
//! complete view is taken; nothing is ever guessed.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::Emitable;
use netlink_packet_route::address::AddressMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::netlink::{DATAGRAM, Message, RequestError, Requests, attributes, messages, text};
use crate::base::{IfIndex, IfName, Mac, Prefix};
use crate::sys::aio::Async;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// Groups of events: links, IPv4 addresses, IPv6 addresses.
const GROUPS: [u32; 3] = [1, 5, 9];
/// Size of the queue: some 10,000 events.
const QUEUE: usize = 8 << 20;
/// Datagrams read at once before others get their turn.
const SLICE: usize = 64;
/// Attempts for a view that did not change while it was taken.
const ATTEMPTS: u32 = 5;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFF_UP: u32 = 0x1;
const IFF_RUNNING: u32 = 0x40;
const IFF_NOARP: u32 = 0x80;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: IfIndex,
    /// Its name.
    pub name: IfName,
    /// Administratively up and running.
    pub up: bool,
    /// Whether it resolves addresses (no `IFF_NOARP`).
    pub arp: bool,
    /// Hardware address; all zero if it has none of six octets.
    pub mac: Mac,
    /// Largest packet.
    pub mtu: u32,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link appeared or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(IfIndex),
    /// An address appeared or is gone.
    Address {
        /// The interface.
        interface: IfIndex,
        /// The address.
        prefix: Prefix,
        /// There now, or gone.
        present: bool,
        /// It came of a request of the writer.
        own: bool,
    },
    /// Events were lost: take a view.
    Lost,
}

/// Links and addresses at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses that can be used, in the kernel's order.
    pub addresses: Vec<(IfIndex, Prefix)>,
}

/// Listens to the kernel.
pub struct Monitor {
    socket: Async<Socket>,
    /// Port of the writer.
    writer: u32,
    /// What was told last of each link: most events about links change nothing that matters here.
    links: BTreeMap<IfIndex, Link>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Listens from now on. `writer` is the port of the socket whose requests are our own.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn open(writer: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        // Needs NET_ADMIN; with less, the kernel's own limit holds and a view is taken more often.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &QUEUE);
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self {
            socket: Async::read_only(socket)?,
            writer,
            links: BTreeMap::new(),
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Waits for events and appends them to `changes`. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the socket fails for another reason than an overrun.
    pub async fn next(&mut self, changes: &mut Vec<Change>) -> io::Result<()> {
        let Self { socket, writer, links, buffer } = self;
        socket
            .read(|socket| {
                let mut seen = 0;
                while seen < SLICE {
                    let (length, sender) =
                        match socket.recv_from(&mut buffer.as_mut_slice(), libc::MSG_TRUNC) {
                            Ok(datagram) => datagram,
                            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                                changes.push(Change::Lost);
                                return Ok(());
                            }
                            Err(e) if e.kind() == io::ErrorKind::WouldBlock && seen > 0 => break,
                            Err(e) => return Err(e),
                        };
                    seen += 1;
                    // Other processes may write to this socket; only the kernel is believed.
                    if sender.port_number() != 0 {
                        continue;
                    }
                    let Some(datagram) = buffer.get(..length) else {
                        changes.push(Change::Lost);
                        continue;
                    };
                    decode(datagram, *writer, links, changes);
                }
                Ok(())
            })
            .await
    }

    /// Takes a complete view with the writer's socket. Events that wait are dropped before: the view holds what
    /// they tell.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn view(&mut self, requests: &mut Requests) -> Result<View, RequestError> {
        self.drop_waiting();
        let mut view = View::default();
        for _ in 0..ATTEMPTS {
            view = View::default();
            let whole =
                requests.dump(RTM_GETLINK, &Anything, |message| {
                    view.links.extend(link(message).flatten());
                })? & requests.dump(RTM_GETADDR, &AddressMessage::default(), |message| {
                    view.addresses.extend(
                        address(message)
                            .filter(|(_, _, usable)| *usable == Usable::Yes)
                            .map(|(interface, prefix, _)| (interface, prefix)),
                    );
                })?;
            if whole {
                break;
            }
        }
        self.links = view.links.iter().map(|l| (l.index, l.clone())).collect();
        Ok(view)
    }

    /// The name of an interface, for messages.
    #[must_use]
    pub fn name(&self, index: IfIndex) -> String {
        self.links.get(&index).map_or_else(|| format!("{index:?}"), |link| link.name.to_string())
    }

    fn drop_waiting(&mut self) {
        // Bounded: events may come in faster than they are read.
        for _ in 0..100_000 {
            match self.socket.inner().recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(_) => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => break,
            }
        }
    }
}

/// Appends what the messages of a datagram tell. `links` is what was told before.
#[doc(hidden)]
pub fn decode(
    datagram: &[u8],
    writer: u32,
    links: &mut BTreeMap<IfIndex, Link>,
    changes: &mut Vec<Change>,
) {
    for message in messages(datagram) {
        changes.extend(change(&message, writer, links));
    }
}

/// What a message means, if it is news.
fn change(
    message: &Message<'_>,
    writer: u32,
    links: &mut BTreeMap<IfIndex, Link>,
) -> Option<Change> {
    let own = writer != 0 && message.port == writer;
    match message.kind {
        RTM_NEWLINK => {
            let link = link(message)??;
            let before = links.insert(link.index, link.clone());
            (before.as_ref() != Some(&link)).then_some(Change::Link(link))
        }
        RTM_DELLINK => {
            let index = head(message.body)?.index;
            // The bridge module says so as well when a port leaves the bridge.
            link(message)?;
            links.remove(&index);
            Some(Change::LinkGone(index))
        }
        RTM_NEWADDR => {
            let (interface, prefix, state) = address(message)?;
            let present = match state {
                Usable::Yes => true,
                Usable::Never => false,
                Usable::NotYet => return None,
            };
            (!own).then_some(Change::Address { interface, prefix, present, own })
        }
        RTM_DELADDR => {
            let (interface, prefix, _) = address(message)?;
            Some(Change::Address { interface, prefix, present: false, own })
        }
        _ => None,
    }
}

/// The body of a request for all links: a header of 16 octets, all zero.
struct Anything;

impl Emitable for Anything {
    fn buffer_len(&self) -> usize {
        16
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

/// The head of messages about links and addresses alike.
struct Head {
    family: u8,
    /// Of an address: length of the prefix.
    second: u8,
    /// Of an address: the first eight flags.
    third: u8,
    index: IfIndex,
}

fn head(body: &[u8]) -> Option<Head> {
    let [family, second, third, _, a, b, c, d, ..] = *body else {
        return None;
    };
    Some(Head { family, second, third, index: IfIndex(u32::from_ne_bytes([a, b, c, d])) })
}

/// The link of a message. Outer none: not a message about a link as such. Inner none: its name is not valid.
fn link(message: &Message<'_>) -> Option<Option<Link>> {
    let head = head(message.body)?;
    // Bridges tell of their ports with messages of a family of their own, also that one left: it still exists.
    if i32::from(head.family) != libc::AF_UNSPEC {
        return None;
    }
    let flags = number(message.body.get(8..12)?)?;
    let (mut name, mut mac, mut mtu) = (None, Mac::default(), 0);
    for (kind, value) in attributes(message.body.get(16..)?) {
        match kind {
            IFLA_IFNAME => name = text(value).parse().ok(),
            IFLA_ADDRESS => mac = value.try_into().map(Mac).unwrap_or_default(),
            IFLA_MTU => mtu = number(value).unwrap_or(0),
            _ => {}
        }
    }
    Some(name.map(|name| Link {
        index: head.index,
        name,
        up: flags & IFF_UP != 0 && flags & IFF_RUNNING != 0,
        arp: flags & IFF_NOARP == 0,
        mac,
        mtu,
    }))
}

/// Whether an address can be used as a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usable {
    Yes,
    /// It is being checked for duplicates.
    NotYet,
    /// It is a duplicate.
    Never,
}

/// The address of a message, and whether it can be used.
fn address(message: &Message<'_>) -> Option<(IfIndex, Prefix, Usable)> {
    let head = head(message.body)?;
    let (mut local, mut far, mut flags) = (None, None, u32::from(head.third));
    for (kind, value) in attributes(message.body.get(8..)?) {
        match kind {
            IFA_LOCAL => local = ip(head.family, value),
            IFA_ADDRESS => far = ip(head.family, value),
            IFA_FLAGS => flags = number(value)?,
            _ => {}
        }
    }
    let usable = if flags & IFA_F_DADFAILED != 0 {
        Usable::Never
    } else if flags & IFA_F_TENTATIVE != 0 && flags & IFA_F_OPTIMISTIC == 0 {
        Usable::NotYet
    } else {
        Usable::Yes
    };
    Some((head.index, Prefix::new(local.or(far)?, head.second)?, usable))
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
        libc::AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?))),
        _ => None,
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests;
