//! The writer of addresses.

use core::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};

use super::netlink::{RequestError, Requests};
use crate::base::{Family, IfIndex};
use crate::model::address::{Address, Lifetime};
use crate::plan::{Op, Outcome, PROTOCOL_MARK};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;

/// Carries out one operation and says how the kernel answered. Takes some 10 µs; up to 2 s if an answer is lost.
pub fn carry_out(requests: &mut Requests, op: &Op) -> Outcome {
    let (result, already): (_, &[i32]) = match op {
        Op::AddAddress { interface, address } => {
            let message = message(*interface, address, true);
            let flags = NLM_F_CREATE | NLM_F_EXCL;
            (requests.change(RTM_NEWADDR, flags, &message), &[libc::EEXIST])
        }
        Op::DeleteAddress { interface, address } => {
            let message = message(*interface, address, false);
            // With its interface the address is gone as well.
            let absent = &[libc::EADDRNOTAVAIL, libc::ENOENT, libc::ENODEV];
            (requests.change(RTM_DELADDR, 0, &message), absent)
        }
    };
    match result {
        Ok(()) => Outcome::Done,
        Err(e) if already.contains(&e.errno()) => Outcome::Already,
        Err(e) => {
            if let RequestError::Refused { words, .. } = &e
                && !words.is_empty()
            {
                tracing::debug!("{op:?}: {e}");
            }
            Outcome::Refused(e.errno())
        }
    }
}

/// The message that adds or deletes `address`.
fn message(interface: IfIndex, address: &Address, add: bool) -> AddressMessage {
    let local = address.prefix.address;
    let mut message = AddressMessage::default();
    let header = &mut message.header;
    header.index = interface.0;
    header.family = match address.prefix.family() {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    // With a peer the prefix is that of the peer.
    let far = address.peer.unwrap_or(address.prefix);
    header.prefix_len = far.length();
    message.attributes.push(AddressAttribute::Local(local));
    message.attributes.push(AddressAttribute::Address(far.address));
    if !add {
        return message;
    }
    message.header.scope = address.scope.into();
    if let Some(broadcast) = address.broadcast {
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    if let Some(label) = &address.label {
        message.attributes.push(AddressAttribute::Label(label.to_string()));
    }
    let flags = flags(address);
    // The header has room for the first eight only.
    message.header.flags =
        AddressHeaderFlags::from_bits_retain(u8::try_from(flags.bits() & 0xff).unwrap_or(0));
    message.attributes.push(AddressAttribute::Flags(flags));
    if let (IpAddr::V6(_), Lifetime::For(time)) = (local, address.preferred) {
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        lifetimes.ifa_valid = u32::MAX;
        message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
    }
    let mark = AddressProtocol::Other(PROTOCOL_MARK);
    message.attributes.push(AddressAttribute::Protocol(mark));
    message
}

fn flags(address: &Address) -> AddressFlags {
    let wanted = &address.flags;
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Nodad, address.prefix.family() == Family::V6 && !wanted.dad);
    flags.set(AddressFlags::Homeaddress, wanted.home);
    flags.set(AddressFlags::Managetempaddr, wanted.manage_temporary);
    flags.set(AddressFlags::Noprefixroute, wanted.no_prefix_route);
    flags.set(AddressFlags::Mcautojoin, wanted.autojoin);
    flags
}

#[cfg(test)]
mod tests;
