//! Events of the kernel about links and objects.
//!
//! The monitor has a socket of its own with a large queue. If the queue overruns nevertheless, and at the start, a
//! snapshot is taken; nothing is ever guessed.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::Emitable;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::netlink::{
    DATAGRAM, Message, RequestError, Requests, attributes, messages, receive, text,
};
use super::object::{self, Watch};
use crate::base::{IfIndex, Mac};
use crate::plan::{self, Link, PROTOCOL_MARK, Snapshot};
use crate::sys::aio::Async;
use crate::sys::bpf;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

/// Group of events about links (`RTNLGRP_LINK`).
const LINKS: u32 = 1;
/// Size of the queue: some 10,000 events.
const QUEUE: usize = 8 << 20;
/// Number of datagrams read before other work gets its turn.
const SLICE: usize = 64;
/// Attempts to take a snapshot during which nothing changes.
const ATTEMPTS: u32 = 5;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFF_UP: u32 = 0x1;
const IFF_RUNNING: u32 = 0x40;
const IFF_NOARP: u32 = 0x80;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link appeared or changed.
    Link(Link),
    LinkGone(IfIndex),
    /// An object was added, changed or removed.
    Object(plan::Change),
    /// Events were lost: take a snapshot.
    Lost,
}

/// Listens to the kernel.
pub struct Monitor {
    socket: Async<Socket>,
    /// Port of the writer.
    writer: u32,
    /// The last reported state of each link: most events about links change nothing relevant.
    links: BTreeMap<IfIndex, Link>,
    /// The subscriptions besides links and addresses.
    watch: Watch,
    /// A snapshot was returned.
    seen: bool,
    buffer: Vec<u8>,
}

/// The result of taking a snapshot.
#[derive(Debug)]
pub struct SnapshotResult {
    /// None if the kernel's tables changed during each attempt: objects may be missing in all of them, so the known
    /// state is kept. The first snapshot, without which nothing starts, is combined from all attempts in this case.
    pub snapshot: Option<Snapshot>,
    /// Another snapshot must be taken soon.
    pub again: bool,
}

impl Monitor {
    /// Listens from now on. `writer` is the port of the socket whose requests are our own.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn open(writer: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        // Needs NET_ADMIN; without it the kernel's default limit applies and snapshots are taken more often.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &QUEUE);
        // Without it each foreign route wakes this process; there is no other difference.
        let _ = bpf::only_routes_of(&socket, PROTOCOL_MARK);
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in object::GROUPS.into_iter().chain([LINKS]) {
            socket.add_membership(group)?;
        }
        Ok(Self {
            socket: Async::read_only(socket)?,
            writer,
            links: BTreeMap::new(),
            watch: Watch::default(),
            seen: false,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Sets the size of the event queue to `wanted` octets, but at least 8 MiB; see `netlink::resize`.
    pub fn resize(&self, wanted: Option<u32>, force: bool) {
        super::netlink::resize(self.socket.inner(), QUEUE, wanted, force);
    }

    /// Changes the subscribed kinds of objects. True if a snapshot must be taken to learn their state.
    ///
    /// # Errors
    /// If the socket refuses.
    pub fn watch(&mut self, watch: Watch) -> io::Result<bool> {
        let before = core::mem::replace(&mut self.watch, watch);
        let socket = self.socket.inner();
        let mut more = false;
        for ((group, was), (_, is)) in before.groups().zip(watch.groups()) {
            match (was, is) {
                (false, true) => {
                    socket.add_membership(group)?;
                    more = true;
                }
                (true, false) => socket.drop_membership(group)?,
                _ => {}
            }
        }
        Ok(more)
    }

    /// Waits for events and appends them to `changes`. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// If the socket fails for a reason other than an overrun.
    pub async fn next(&mut self, changes: &mut Vec<Change>) -> io::Result<()> {
        let Self { socket, writer, links, buffer, .. } = self;
        socket
            .read(|socket| {
                let whole = receive(socket, buffer, SLICE, |datagram| {
                    decode(datagram, *writer, links, changes);
                })?;
                if !whole {
                    changes.push(Change::Lost);
                }
                Ok(())
            })
            .await
    }

    /// Takes a snapshot with the writer's socket. Waiting events are dropped before: the snapshot includes their
    /// effect.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn snapshot(&mut self, requests: &mut Requests) -> Result<SnapshotResult, RequestError> {
        self.drop_waiting();
        let watch = self.watch;
        let taken = settled(|| {
            let mut snapshot = Snapshot::default();
            let whole = requests.dump(RTM_GETLINK, &Anything, |message| {
                snapshot.links.extend(link(message).flatten());
                let all = object::changes(message, false).into_iter();
                snapshot.objects.extend(all.map(|change| change.sight));
            })? & object::list(requests, watch, &mut snapshot.objects)?;
            Ok::<_, RequestError>((snapshot, whole))
        })?;
        Ok(self.result(taken))
    }

    /// The usable part of a snapshot that is consistent or not.
    fn result(&mut self, (snapshot, whole): (Snapshot, bool)) -> SnapshotResult {
        if !whole && self.seen {
            return SnapshotResult { snapshot: None, again: true };
        }
        self.seen = true;
        self.links = snapshot.links.iter().map(|l| (l.index, l.clone())).collect();
        SnapshotResult { snapshot: Some(snapshot), again: !whole }
    }

    /// The name of an interface, for messages.
    #[must_use]
    pub fn name(&self, index: IfIndex) -> String {
        self.links.get(&index).map_or_else(|| format!("{index:?}"), |link| link.name.to_string())
    }

    fn drop_waiting(&mut self) {
        // Bounded: events may arrive faster than they are read.
        for _ in 0..100_000 {
            match self.socket.inner().recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(_) => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => break,
            }
        }
    }
}

/// Lists until nothing changes meanwhile, and returns whether that succeeded. If not, the results of all attempts are
/// joined: what one attempt misses another one has, and removals are reported by events still to be read.
fn settled<E>(
    mut list: impl FnMut() -> Result<(Snapshot, bool), E>,
) -> Result<(Snapshot, bool), E> {
    let mut all = Snapshot::default();
    for _ in 0..ATTEMPTS {
        let (snapshot, whole) = list()?;
        if whole {
            return Ok((snapshot, true));
        }
        // In the kernel's order, as far as there is one.
        join(&mut all.links, snapshot.links, |link| link.index);
        join(&mut all.objects, snapshot.objects, |sight| sight.identity.clone());
    }
    Ok((all, false))
}

/// Replaces known elements by newer ones, and appends unknown ones.
fn join<T, K: Ord>(all: &mut Vec<T>, newer: Vec<T>, key: impl Fn(&T) -> K) {
    let mut places: BTreeMap<K, usize> = all.iter().map(&key).zip(0..).collect();
    for one in newer {
        let place = *places.entry(key(&one)).or_insert(all.len());
        match all.get_mut(place) {
            Some(known) => *known = one,
            None => all.push(one),
        }
    }
}

/// Appends the changes reported by the messages of a datagram. `links` is the previously reported state.
#[doc(hidden)]
pub fn decode(
    datagram: &[u8],
    writer: u32,
    links: &mut BTreeMap<IfIndex, Link>,
    changes: &mut Vec<Change>,
) {
    for message in messages(datagram) {
        change(&message, writer, links, changes);
    }
}

/// Appends the change that a message reports, if it is new.
fn change(
    message: &Message<'_>,
    writer: u32,
    links: &mut BTreeMap<IfIndex, Link>,
    changes: &mut Vec<Change>,
) {
    let own = writer != 0 && message.port == writer;
    match message.kind {
        RTM_NEWLINK => {
            if let Some(Some(link)) = link(message)
                && links.insert(link.index, link.clone()).as_ref() != Some(&link)
            {
                changes.push(Change::Link(link));
            }
            changes.extend(object::changes(message, own).into_iter().map(Change::Object));
        }
        RTM_DELLINK => {
            // The bridge module sends this as well when a port leaves the bridge.
            if let (Some(head), Some(_)) = (head(message.body), link(message)) {
                links.remove(&head.index);
                changes.push(Change::LinkGone(head.index));
                changes.extend(object::changes(message, own).into_iter().map(Change::Object));
            }
        }
        _ => {
            changes.extend(object::changes(message, own).into_iter().map(Change::Object));
        }
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

/// The header of a message about a link.
struct Head {
    family: u8,
    index: IfIndex,
}

fn head(body: &[u8]) -> Option<Head> {
    let [family, _, _, _, a, b, c, d, ..] = *body else {
        return None;
    };
    Some(Head { family, index: IfIndex(u32::from_ne_bytes([a, b, c, d])) })
}

/// The link of a message. Outer none: not a message about a link itself. Inner none: its name is not valid.
fn link(message: &Message<'_>) -> Option<Option<Link>> {
    let head = head(message.body)?;
    // Bridges report their ports with messages of their own family, including that one left the bridge: it still
    // exists.
    if i32::from(head.family) != libc::AF_UNSPEC {
        return None;
    }
    let flags = number(message.body.get(8..12)?)?;
    let (mut name, mut mac, mut mtu) = (None, Mac::default(), 0);
    let body = message.body.get(16..)?;
    let (settings, vrf) = (object::link::settings(body), object::link::vrf(body));
    for (kind, value) in attributes(body) {
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
        settings,
        vrf,
    }))
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests;
