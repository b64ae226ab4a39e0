//! Socket filters.

use std::io;

use socket2::{SockFilter, Socket};

/// Opcode "return the constant": how many octets of the packet to keep, 0 to drop it.
const RETURN: u16 = 0x06;

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
