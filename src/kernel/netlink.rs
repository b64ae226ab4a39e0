//! Requests over a netlink socket: one at a time, each with its answer and a limit on the time for it.
//!
//! Messages are taken apart attribute by attribute with the iterators of `netlink-packet-core`. The typed messages
//! of `netlink-packet-route` are made for whoever wants everything; here a link with one attribute that a library
//! does not know yet must not go unseen.

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NlasIterator,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

/// Longest time for one answer. The kernel answers at once, unless an answer is lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Octets of a message's header.
const HEADER: usize = 16;
/// Octets of one datagram: the kernel packs up to 32 KiB of a dump into one.
pub(super) const DATAGRAM: usize = 32 << 10;

/// `NLMSG_ERROR`, also the acknowledgement.
const ERROR: u16 = 2;
/// `NLMSG_DONE`, the end of a dump.
const DONE: u16 = 3;
/// Type of the attribute of an acknowledgement that holds the kernel's words (`NLMSGERR_ATTR_MSG`).
const WORDS: u16 = 1;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The kernel refused.
    #[error("the kernel refused: {}{words}", io::Error::from_raw_os_error(*errno))]
    Refused {
        /// Error number, positive.
        errno: i32,
        /// The kernel's own words after a blank and in parentheses, if it had any.
        words: String,
    },
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Io(#[from] io::Error),
}

impl RequestError {
    /// The error number, positive.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Refused { errno, .. } => *errno,
            Self::Io(e) => e.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

/// A socket for requests.
pub struct Requests {
    socket: Socket,
    port: u32,
    sequence: u32,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl Requests {
    /// Opens a socket to the routing tables.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        // Both since Linux 4.12; only the words of refusals are lost without them.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        let patience = TimeVal::new(PATIENCE.as_secs().try_into().unwrap_or(1), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        Ok(Self { socket, port, sequence: 0, out: Vec::new(), buffer: vec![0; DATAGRAM] })
    }

    /// The port of this socket: events that its requests cause bear it.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// Sends one request and waits for its acknowledgement.
    ///
    /// # Errors
    /// What the kernel answers; `ETIMEDOUT` when it does not within 2 s, in which case it may or may not have
    /// been carried out.
    pub fn change(
        &mut self,
        kind: u16,
        flags: u16,
        body: &impl Emitable,
    ) -> Result<(), RequestError> {
        self.send(kind, flags | NLM_F_ACK, body)?;
        self.answers(|_| {})?;
        Ok(())
    }

    /// Asks for a list and hands over its messages. False when the list changed while it was made: it may lack
    /// entries then or have some twice.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub fn dump(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        each: impl FnMut(&Message<'_>),
    ) -> Result<bool, RequestError> {
        self.send(kind, NLM_F_DUMP, body)?;
        self.answers(each)
    }

    fn send(&mut self, kind: u16, flags: u16, body: &impl Emitable) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let length = HEADER + body.buffer_len();
        self.out.clear();
        self.out.resize(length, 0);
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        header.message_type = kind;
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let (head, rest) = self.out.split_at_mut(HEADER);
        header.emit(head);
        body.emit(rest);
        self.socket.send(&self.out, 0)?;
        Ok(())
    }

    /// Reads until the request that was sent last is answered. What belongs to earlier ones is dropped.
    fn answers(&mut self, mut each: impl FnMut(&Message<'_>)) -> Result<bool, RequestError> {
        let end = std::time::Instant::now() + PATIENCE;
        let mut whole = true;
        loop {
            let length = match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT).into());
                }
                Err(e) => return Err(e.into()),
            };
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    ERROR => return refusal(&message).map_or(Ok(whole), Err),
                    DONE => return Ok(whole),
                    _ => each(&message),
                }
            }
            if std::time::Instant::now() > end {
                return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT).into());
            }
        }
    }
}

impl AsFd for Requests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The error in an `NLMSG_ERROR`; none if it is an acknowledgement.
#[doc(hidden)]
#[must_use]
pub fn refusal(message: &Message<'_>) -> Option<RequestError> {
    let Some((code, rest)) = message.body.split_first_chunk::<4>() else {
        return Some(io::Error::from(io::ErrorKind::InvalidData).into());
    };
    let errno = i32::from_ne_bytes(*code).saturating_neg();
    if errno == 0 {
        return None;
    }
    // The header of the request comes first; its body only without NETLINK_CAP_ACK.
    let words = attributes(rest.get(HEADER..).unwrap_or_default())
        .find(|(kind, _)| *kind == WORDS)
        .map(|(_, value)| format!(" ({})", text(value)))
        .unwrap_or_default();
    Some(RequestError::Refused { errno, words })
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`
    pub kind: u16,
    /// `nlmsg_flags`
    pub flags: u16,
    /// `nlmsg_seq`
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the socket whose request this comes of, 0 for none.
    pub port: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of a datagram, up to the first one that is not whole.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    core::iter::from_fn(move || {
        let buffer = netlink_packet_core::NetlinkBuffer::new_checked(datagram).ok()?;
        let length = usize::try_from(buffer.length()).ok()?;
        let message = Message {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            sequence: buffer.sequence_number(),
            port: buffer.port_number(),
            body: datagram.get(HEADER..length)?,
        };
        // Messages start at multiples of four octets.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes of a message, up to the first one that is not whole: type without its flags, and value.
pub fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(body).map_while(Result::ok).map(|attribute| {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        (kind, attribute.into_inner().get(4..length).unwrap_or_default())
    })
}

/// The text of a value that ends with a zero octet.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_datagram_panics(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            for message in messages(&octets) {
                let _ = attributes(message.body).count();
                let _ = refusal(&message);
            }
            let _ = attributes(&octets).count();
        }
    }

    #[test]
    fn a_refusal_comes_with_the_kernels_words() {
        let mut body = vec![0; 4];
        body.splice(0..4, (-95_i32).to_ne_bytes());
        body.extend([0; 16]);
        body.extend([17, 0, 1, 0]);
        body.extend(b"Unknown kind\0\0\0\0");
        let message = Message { kind: ERROR, flags: 0, sequence: 1, port: 0, body: &body };
        let error = refusal(&message).unwrap();
        assert_eq!(error.errno(), 95);
        assert!(error.to_string().ends_with("(Unknown kind)"), "{error}");
    }
}
