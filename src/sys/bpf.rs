//! Socket filters.

use std::io;

use socket2::{SockFilter, Socket};

use crate::base::Family;

/// Opcode "return the constant": how many octets of the packet to keep, 0 to drop it.
const RETURN: u16 = 0x06;
/// Opcode "load the octet at this place".
const LOAD_OCTET: u16 = 0x30;
/// Opcode "keep these bits".
const AND: u16 = 0x54;
/// Opcode "go on so many instructions further if it equals the constant, so many if not".
const JUMP_EQUAL: u16 = 0x15;
/// Where the network header begins, whatever the socket shows (`SKF_NET_OFF`).
const NETWORK: u32 = 0xfff0_0000;

/// Lets nothing through. For sockets that only send, so that their queue stays empty, and for sockets that are
/// not ready to receive.
///
/// # Errors
/// Those of `SO_ATTACH_FILTER`.
pub fn drop_all(socket: &Socket) -> io::Result<()> {
    socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])
}

/// Lets everything through, but no more than `length` octets of it: a sender cannot fill the receive queue with
/// long packets.
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
