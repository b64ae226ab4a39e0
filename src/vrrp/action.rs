//! Everything the engine can request.

use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;

use super::event::{InstanceId, RunId};
use crate::base::{IfIndex, Mac};
use crate::model::Command;
use crate::plan::{Op, Token};
use crate::status::Notice;

/// Something to be done. Carry actions out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send an advert now, in this turn. A refusal comes back as `Event::Unsent`.
    SendAdvert {
        instance: InstanceId,
        /// The interface it leaves by.
        interface: IfIndex,
        source: IpAddr,
        destination: IpAddr,
        /// IPv6: the hop limit. IPv4: the TTL, also contained in the header.
        hop_limit: u8,
        /// The packet within [`Actions::bytes`]: for IPv4 with its IP header (the kernel fills in that
        /// header's checksum), for IPv6 from the VRRP header on (the kernel fills in the VRRP checksum).
        packet: Range<usize>,
    },
    /// Send a gratuitous ARP request (IPv4) or an unsolicited neighbour advert (IPv6).
    SendGarp {
        /// The interface it leaves by.
        interface: IfIndex,
        mac: Mac,
        /// The address announced.
        address: IpAddr,
        /// How many frames, one right after the other.
        count: u32,
    },
    /// Change the kernel's objects, one operation after the other; each is answered with `Event::Applied`.
    Apply {
        /// Repeated in each answer.
        token: Token,
        ops: Vec<Op>,
    },
    /// Receive adverts for this multicast group, or for this address of ours, on this interface; answered with
    /// `Event::Joined`.
    Join {
        interface: IfIndex,
        /// The group, or the address.
        group: IpAddr,
    },
    /// Receive adverts for this multicast group on this interface without becoming a member of the group: the interface
    /// must not send membership reports, because its hardware address is that of a virtual router. Answered with
    /// `Event::Joined`, undone with `Action::Leave`.
    Overhear { interface: IfIndex, group: IpAddr },
    /// Also receive packets with an IP authentication header, wherever adverts are received.
    HearAh,
    /// Stop receiving what `Action::Join` or `Action::Overhear` asked for.
    Leave { interface: IfIndex, group: IpAddr },
    /// Run a tracking script; answered with `Event::Ran`.
    RunScript {
        /// Repeated in the answer.
        run: RunId,
        command: Command,
        /// When to give up.
        timeout: Duration,
    },
    /// End a run of a script that is no longer configured; its result is ignored.
    EndScript(RunId),
    /// Notify scripts, FIFOs and mail recipients.
    Notify(Notice),
    /// The summary changed: hand `Engine::summary` to the supervisor.
    Report,
    /// After `Event::Stop`: everything has been undone.
    Done,
}

/// A list of actions and the packets they refer to. It is cleared and reused, so that the steady state allocates
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Actions {
    list: Vec<Action>,
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

impl Actions {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an action.
    pub fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    /// Appends actions.
    pub fn extend(&mut self, actions: impl IntoIterator<Item = Action>) {
        self.list.extend(actions);
    }

    /// Reserves memory for the adverts of this many instances, so that a turn in which all are due allocates nothing.
    pub fn reserve(&mut self, adverts: usize) {
        /// Length of an advert with a few addresses, in octets.
        const ADVERT: usize = 64;
        self.list.reserve(adverts);
        self.bytes.reserve(adverts.saturating_mul(ADVERT));
    }

    /// Lets `write` append a packet and returns its range.
    pub fn packet(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.bytes.len();
        write(&mut self.bytes);
        start..self.bytes.len()
    }

    /// Lends `write` a scratch buffer, which is empty before and after.
    pub fn scratch(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        write(&mut self.scratch);
        self.scratch.clear();
    }

    /// The packet at `range`; empty if there is none.
    #[must_use]
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// The actions in order.
    #[must_use]
    pub fn list(&self) -> &[Action] {
        &self.list
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Clears the list but keeps its memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adverts_that_room_was_made_for_allocate_nothing() {
        let mut actions = Actions::new();
        actions.reserve(100);
        let room = (actions.list.capacity(), actions.bytes.capacity());
        for _ in 0..100 {
            actions.packet(|bytes| bytes.extend([0; 64]));
            actions.push(Action::Done);
        }
        assert_eq!((actions.list.capacity(), actions.bytes.capacity()), room);
    }
}
