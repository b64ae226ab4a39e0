//! Socket filters.

use std::io;
use std::os::fd::AsFd;

use socket2::{SockFilter, SockRef, Socket};

use crate::base::Family;

/// Opcode "return the constant": how many octets of the packet to keep, 0 to drop it.
const RETURN: u16 = 0x06;
/// Opcodes "load the 16 bits there, first octet high" and "load the octet there".
const LOAD_PAIR: u16 = 0x28;
const LOAD_OCTET: u16 = 0x30;
/// Opcode "keep these bits".
const AND: u16 = 0x54;
/// Opcodes "jump by one of two offsets, depending on whether it equals the constant" and "depending on whether it has
/// one of these bits".
const JUMP_EQUAL: u16 = 0x15;
const JUMP_SET: u16 = 0x45;
/// Offset of the network header, independent of the socket type (`SKF_NET_OFF`).
const NETWORK: u32 = 0xfff0_0000;

/// Drops everything. For sockets that only send, so that their queue stays empty, and for sockets that are not ready to
/// receive.
///
/// # Errors
/// Those of `SO_ATTACH_FILTER`.
pub fn drop_all(socket: &Socket) -> io::Result<()> {
    socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])
}

/// Accepts everything, but at most `length` octets of each packet: a sender cannot fill the receive queue with long
/// packets.
///
/// # Errors
/// Those of `SO_ATTACH_FILTER`.
pub fn cut_at(socket: &Socket, length: u32) -> io::Result<()> {
    socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, length)])
}

/// As [`cut_at`], for packets to multicast groups only.
///
/// # Errors
/// Those of `SO_ATTACH_FILTER`.
pub fn multicast_cut_at(socket: &Socket, family: Family, length: u32) -> io::Result<()> {
    // The first octet of the destination: 224 to 239, or 255.
    let (place, bits, value) = match family {
        Family::V4 => (NETWORK + 16, 0xf0, 0xe0),
        Family::V6 => (NETWORK + 24, 0xff, 0xff),
    };
    socket.attach_filter(&[
        SockFilter::new(LOAD_OCTET, 0, 0, place),
        SockFilter::new(AND, 0, 0, bits),
        SockFilter::new(JUMP_EQUAL, 0, 1, value),
        SockFilter::new(RETURN, 0, 0, length),
        SockFilter::new(RETURN, 0, 0, 0),
    ])
}

/// As [`multicast_cut_at`], for adverts only: the protocols 112 and, over IPv4, 51 in front of it.
///
/// # Errors
/// Those of `SO_ATTACH_FILTER`.
pub fn adverts_cut_at(socket: &Socket, family: Family, length: u32) -> io::Result<()> {
    let (place, bits, value, protocol, ah) = match family {
        Family::V4 => (NETWORK + 16, 0xf0, 0xe0, NETWORK + 9, 51),
        Family::V6 => (NETWORK + 24, 0xff, 0xff, NETWORK + 6, 112),
    };
    socket.attach_filter(&[
        SockFilter::new(LOAD_OCTET, 0, 0, protocol),
        SockFilter::new(JUMP_EQUAL, 1, 0, 112),
        SockFilter::new(JUMP_EQUAL, 0, 4, ah),
        SockFilter::new(LOAD_OCTET, 0, 0, place),
        SockFilter::new(AND, 0, 0, bits),
        SockFilter::new(JUMP_EQUAL, 0, 1, value),
        SockFilter::new(RETURN, 0, 0, length),
        SockFilter::new(RETURN, 0, 0, 0),
    ])
}

/// Of the events about routes, accepts only those about routes with this protocol mark, and replacements, because the
/// replaced route may have been one of these. A host may have a million other routes, and each would wake the reader.
/// Events about anything else are accepted.
///
/// # Errors
/// Those of `SO_ATTACH_FILTER`.
pub fn only_routes_of(socket: &impl AsFd, mark: u8) -> io::Result<()> {
    // Type and flags of a netlink message are in host order, after its length (32 bits); the protocol is the sixth
    // octet of a route's header, behind the 16 of the message's.
    let pair = |number: u16| u32::from(u16::from_be_bytes(number.to_ne_bytes()));
    let (kind, flags, protocol) = (4, 6, 21);
    let (new, gone) = (pair(libc::RTM_NEWROUTE), pair(libc::RTM_DELROUTE));
    let replaces = pair(u16::try_from(libc::NLM_F_REPLACE).unwrap_or(0));
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_PAIR, 0, 0, kind),
        SockFilter::new(JUMP_EQUAL, 3, 0, new),
        SockFilter::new(JUMP_EQUAL, 0, 6, gone),
        SockFilter::new(LOAD_OCTET, 0, 0, protocol),
        SockFilter::new(JUMP_EQUAL, 4, 5, mark.into()),
        SockFilter::new(LOAD_OCTET, 0, 0, protocol),
        SockFilter::new(JUMP_EQUAL, 2, 0, mark.into()),
        SockFilter::new(LOAD_PAIR, 0, 0, flags),
        SockFilter::new(JUMP_SET, 0, 1, replaces),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ])
}
