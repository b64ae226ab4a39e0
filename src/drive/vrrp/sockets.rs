//! The sockets of the real-time thread: which groups are received on which interfaces, and what is sent by which
//! socket.

use std::io;
use std::net::IpAddr;

use super::RECEIVERS;
use crate::base::{Family, IfIndex};
use crate::sys::packet::FrameSocket;
use crate::sys::poll::Epoll;
use crate::sys::raw::{Batch, Receiver, Sender};

/// Sockets of all families.
pub(super) struct Sockets {
    pub receivers: Vec<Group>,
    senders: [Option<Sender>; 2],
    frames: FrameSocket,
    /// The requested queue size of each receiver, in octets.
    queue: usize,
    /// Whether packets with an IP authentication header are received, too.
    ah: bool,
    /// None only while it is in use.
    pub batch: Option<Batch>,
}

/// A receiving socket and its memberships: the kernel allows some twenty for each. The first one of a family also
/// receives unicast packets to this host.
pub(super) struct Group {
    /// None where one was closed: the next one is placed there.
    pub socket: Option<Receiver>,
    /// It receives from one interface without being a member of a group.
    pub overhears: bool,
    family: Family,
    /// Whether it receives packets with an IP authentication header, or those without.
    ah: bool,
    pub members: Vec<(IpAddr, IfIndex)>,
}

impl Sockets {
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            receivers: Vec::new(),
            senders: [None, None],
            frames: FrameSocket::open()?,
            queue: 0,
            ah: false,
            batch: Some(Batch::new()),
        })
    }

    /// Sets the queue of each receiver to this many octets, or to the default size if that is larger.
    /// Sets the size of the queues; without effect if it is the same.
    pub fn resize(&mut self, queue: u64) {
        let queue = usize::try_from(queue).unwrap_or(usize::MAX);
        if core::mem::replace(&mut self.queue, queue) != queue {
            for socket in self.receivers.iter().filter_map(|one| one.socket.as_ref()) {
                socket.resize(queue);
            }
        }
    }

    pub fn send(
        &mut self,
        interface: IfIndex,
        source: IpAddr,
        destination: IpAddr,
        hop_limit: u8,
        packet: &[u8],
    ) -> io::Result<()> {
        let family = Family::of(&source);
        let [v4, v6] = &mut self.senders;
        let slot = match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        let sender = match slot {
            Some(sender) => sender,
            None => slot.insert(Sender::open(family)?),
        };
        sender.send(interface, source, destination, hop_limit, packet)
    }

    pub fn frames(&self, interface: IfIndex, frame: &[u8], count: u32) -> io::Result<()> {
        (0..count).try_for_each(|_| self.frames.send(interface, frame))
    }

    /// Receives a multicast group, or packets to an address of this host, on an interface.
    pub fn join(&mut self, epoll: &Epoll, group: IpAddr, interface: IfIndex) -> io::Result<()> {
        // A membership left by an earlier interface with the same index would be in the way.
        self.leave(group, interface);
        self.join_one(epoll, group, interface, false)?;
        if self.ah && group.is_ipv4() {
            self.join_one(epoll, group, interface, true)?;
        }
        Ok(())
    }

    /// Receives packets with an IP authentication header from now on, wherever others are received; returns where that
    /// fails.
    pub fn hear_ah(&mut self, epoll: &Epoll) -> Vec<(IpAddr, IfIndex, io::Error)> {
        if core::mem::replace(&mut self.ah, true) {
            return Vec::new();
        }
        let heard = |one: &&Group| one.family == Family::V4 && !one.overhears;
        let members = self.receivers.iter().filter(heard);
        let members: Vec<_> = members.flat_map(|one| one.members.clone()).collect();
        let mut failed = Vec::new();
        for (group, interface) in members {
            if let Err(e) = self.join_one(epoll, group, interface, true) {
                failed.push((group, interface, e));
            }
        }
        failed
    }

    fn join_one(
        &mut self,
        epoll: &Epoll,
        group: IpAddr,
        interface: IfIndex,
        ah: bool,
    ) -> io::Result<()> {
        let family = Family::of(&group);
        let is_such = |one: &Group| one.family == family && one.ah == ah && !one.overhears;
        for one in self.receivers.iter_mut().filter(|one| is_such(one)) {
            let Some(socket) = &one.socket else { continue };
            match membership(socket, group, interface) {
                Ok(()) => {
                    one.members.push((group, interface));
                    return Ok(());
                }
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM)) => {}
                Err(e) => return Err(e),
            }
        }
        let first = !self.receivers.iter().any(is_such);
        let socket = if ah { Receiver::open_ah(first)? } else { Receiver::open(family, first)? };
        membership(&socket, group, interface)?;
        let members = vec![(group, interface)];
        self.add(epoll, Group { socket: Some(socket), overhears: false, family, ah, members })
    }

    /// Receives a multicast group on an interface without membership reports, with or without authentication headers.
    pub fn overhear(&mut self, epoll: &Epoll, group: IpAddr, interface: IfIndex) -> io::Result<()> {
        self.leave(group, interface);
        let family = Family::of(&group);
        let on_it = |one: &&mut Group| {
            one.overhears
                && one.socket.is_some()
                && one.family == family
                && one.members.iter().any(|(_, on)| *on == interface)
        };
        if let Some(one) = self.receivers.iter_mut().find(on_it) {
            one.members.push((group, interface));
            return Ok(());
        }
        let socket = Some(Receiver::overhear(family, interface)?);
        let members = vec![(group, interface)];
        self.add(epoll, Group { socket, overhears: true, family, ah: false, members })
    }

    /// The position of a socket is its number.
    fn add(&mut self, epoll: &Epoll, group: Group) -> io::Result<()> {
        let free = self.receivers.iter().position(|one| one.socket.is_none());
        let position = free.unwrap_or(self.receivers.len());
        if let Some(socket) = &group.socket {
            if self.queue > 0 {
                socket.resize(self.queue);
            }
            epoll.add(socket, RECEIVERS + position as u64)?;
        }
        match self.receivers.get_mut(position) {
            Some(slot) => *slot = group,
            None => self.receivers.push(group),
        }
        Ok(())
    }

    pub fn leave(&mut self, group: IpAddr, interface: IfIndex) {
        self.drop_members(|member| *member == (group, interface));
    }

    /// An interface was deleted, and its memberships with it.
    pub fn forget(&mut self, interface: IfIndex) {
        self.drop_members(|(_, i)| *i == interface);
    }

    fn drop_members(&mut self, which: impl Fn(&(IpAddr, IfIndex)) -> bool) {
        for one in &mut self.receivers {
            let socket = one.socket.as_ref().filter(|_| !one.overhears);
            one.members.retain(|member| {
                if which(member) {
                    // Refused if the interface is gone, which has the same effect.
                    if let Some(socket) = socket.filter(|_| member.0.is_multicast()) {
                        let _ = socket.leave(member.0, member.1);
                    }
                    false
                } else {
                    true
                }
            });
            if one.overhears && one.members.is_empty() {
                one.socket = None;
            }
        }
    }
}

fn membership(socket: &Receiver, address: IpAddr, interface: IfIndex) -> io::Result<()> {
    if address.is_multicast() { socket.join(address, interface) } else { Ok(()) }
}
