//! Descriptors of sockets whose library gives only their numbers.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use neli::socket::NlSocket;

/// The descriptor of a netlink socket.
#[must_use]
pub fn of_netlink(socket: &NlSocket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns its descriptor, which stays open while the socket is borrowed.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}
