//! The sockets of the real-time thread: who hears which group where, and what leaves by which socket.

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
    /// Whether packets with an IP authentication header are heard, too.
    ah: bool,
    /// None only while it is in use.
    pub batch: Option<Batch>,
}

/// A receiving socket and its memberships: the kernel allows some twenty for each. The first one of a family hears
/// what is sent to this host alone, too.
pub(super) struct Group {
    pub socket: Receiver,
    family: Family,
    /// Whether it hears packets with an IP authentication header, or those without.
    ah: bool,
    pub members: Vec<(IpAddr, IfIndex)>,
}

impl Sockets {
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            receivers: Vec::new(),
            senders: [None, None],
            frames: FrameSocket::open()?,
            ah: false,
            batch: Some(Batch::new()),
        })
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

    /// Hears a multicast group, or what is sent to an address of this host, on an interface.
    pub fn join(&mut self, epoll: &Epoll, group: IpAddr, interface: IfIndex) -> io::Result<()> {
        // What an interface of the same number left behind would be in the way.
        self.leave(group, interface);
        self.join_one(epoll, group, interface, false)?;
        if self.ah && group.is_ipv4() {
            self.join_one(epoll, group, interface, true)?;
        }
        Ok(())
    }

    /// Hears packets with an IP authentication header from now on, wherever others are heard; where that fails.
    pub fn hear_ah(&mut self, epoll: &Epoll) -> Vec<(IpAddr, IfIndex, io::Error)> {
        if core::mem::replace(&mut self.ah, true) {
            return Vec::new();
        }
        let members = self.receivers.iter().filter(|one| one.family == Family::V4);
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
        let is_such = |one: &Group| one.family == family && one.ah == ah;
        for one in self.receivers.iter_mut().filter(|one| is_such(one)) {
            match membership(&one.socket, group, interface) {
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
        // One is never closed again, so its position is its number.
        epoll.add(&socket, RECEIVERS + self.receivers.len() as u64)?;
        self.receivers.push(Group { socket, family, ah, members: vec![(group, interface)] });
        Ok(())
    }

    pub fn leave(&mut self, group: IpAddr, interface: IfIndex) {
        self.drop_members(|member| *member == (group, interface));
    }

    /// An interface is gone, and its memberships with it.
    pub fn forget(&mut self, interface: IfIndex) {
        self.drop_members(|(_, i)| *i == interface);
    }

    fn drop_members(&mut self, which: impl Fn(&(IpAddr, IfIndex)) -> bool) {
        for one in &mut self.receivers {
            let socket = &one.socket;
            one.members.retain(|member| {
                if which(member) {
                    // Refused when the interface is gone, which comes to the same.
                    if member.0.is_multicast() {
                        let _ = socket.leave(member.0, member.1);
                    }
                    false
                } else {
                    true
                }
            });
        }
    }
}

fn membership(socket: &Receiver, address: IpAddr, interface: IfIndex) -> io::Result<()> {
    if address.is_multicast() { socket.join(address, interface) } else { Ok(()) }
}
