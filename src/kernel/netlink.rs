//! Requests over a netlink socket: many in one datagram, each with its answer and a time limit.
//!
//! Messages are decoded attribute by attribute with the iterators of `netlink-packet-core`. The typed messages of
//! `netlink-packet-route` require that everything is understood; here a link with an attribute that a library does not
//! know yet must not be missed.

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NlasIterator,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::sys::time::TimeVal;

/// Longest time for one answer. The kernel answers at once, unless an answer is lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests in one datagram: the failures of this many fit into the receive queue.
const PACKED: usize = 128;
/// Size of the queue: half of what Linux accounts for a socket by default, since it doubles the requested size.
const QUEUE: usize = 104 << 10;
/// Length of a message's header in octets.
const HEADER: usize = 16;
/// Largest datagram, in octets: the kernel packs up to 32 KiB of a dump into one.
pub(super) const DATAGRAM: usize = 32 << 10;

/// `NLMSG_ERROR`, also the acknowledgement.
const ERROR: u16 = 2;
/// `NLMSG_DONE`, the end of a dump.
const DONE: u16 = 3;
/// Type of the attribute of an acknowledgement with the kernel's error text (`NLMSGERR_ATTR_MSG`).
const WORDS: u16 = 1;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The kernel refused.
    #[error("the kernel refused: {}{words}", io::Error::from_raw_os_error(*errno))]
    Refused {
        /// Error number, positive.
        errno: i32,
        /// The kernel's error text after a blank and in parentheses, if there is one.
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

/// Sets the receive queue of a socket to `wanted` octets, but at least `least`. It exceeds the system's limit
/// (`net.core.rmem_max`) only with `force`, which needs NET_ADMIN.
pub(super) fn resize(socket: &impl AsFd, least: usize, wanted: Option<u32>, force: bool) {
    let wanted = usize::try_from(wanted.unwrap_or(0)).unwrap_or(usize::MAX);
    let wanted = wanted.min(i32::MAX as usize);
    if wanted > least {
        if force && setsockopt(socket, sockopt::RcvBufForce, &wanted).is_ok() {
            return;
        }
        let _ = setsockopt(socket, sockopt::RcvBuf, &wanted);
        // The kernel doubles the requested size after limiting it to the system's maximum.
        if getsockopt(socket, sockopt::RcvBuf).is_ok_and(|got| got / 2 >= least) {
            return;
        }
    }
    if setsockopt(socket, sockopt::RcvBufForce, &least).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &least);
    }
}

/// A request ready to be sent, except for its sequence number.
#[derive(Debug)]
pub struct Packed(Vec<u8>);

impl Packed {
    /// A request of this type; `flags` in addition to `NLM_F_REQUEST`.
    #[must_use]
    pub fn new(kind: u16, flags: u16, body: &impl Emitable) -> Self {
        let length = HEADER + body.buffer_len();
        let mut octets = vec![0; length];
        let mut header = NetlinkHeader::default();
        // Beyond any limit of the kernel, which refuses it as a whole.
        header.length = u32::try_from(length).unwrap_or(u32::MAX);
        header.message_type = kind;
        header.flags = NLM_F_REQUEST | flags;
        let (head, rest) = octets.split_at_mut(HEADER);
        header.emit(head);
        body.emit(rest);
        Self(octets)
    }
}

/// A socket for requests.
pub struct Requests {
    socket: Socket,
    port: u32,
    sequence: u32,
    datagrams: u64,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl Requests {
    /// Opens a socket to the routing tables.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn open() -> io::Result<Self> {
        Self::open_on(NETLINK_ROUTE)
    }

    /// Opens a socket to a part of the kernel (`NETLINK_*`).
    ///
    /// # Errors
    /// When the process has no descriptor left, or the kernel lacks that part.
    pub fn open_on(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        // Both since Linux 4.12; without them only the error texts are missing.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        // Since Linux 4.20: dumps contain only what was requested. Without it the excess is filtered here.
        let _ = socket.set_netlink_get_strict_chk(true);
        let patience = TimeVal::new(PATIENCE.as_secs().try_into().unwrap_or(1), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        Ok(Self {
            socket,
            port,
            sequence: 0,
            datagrams: 0,
            out: Vec::new(),
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Sets its queue for answers to `wanted` octets, see `resize`.
    pub fn resize(&self, wanted: Option<u32>, force: bool) {
        resize(&self.socket, QUEUE, wanted, force);
    }

    /// The port of this socket, contained in events that its requests cause.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// Number of datagrams with changes sent.
    #[must_use]
    pub const fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Carries out requests in order, many to a datagram, and returns the answer to each.
    ///
    /// Only the last request of a datagram asks for an acknowledgement: the kernel carries them out in order and
    /// answers every failure, so a request without an answer has succeeded once that one is answered. An answer that
    /// does not arrive in 2 s is `ETIMEDOUT`, one that found no room in the queue `ENOBUFS`; such a request may or may
    /// not have been carried out.
    pub fn change(&mut self, requests: &[Packed]) -> Vec<Result<(), RequestError>> {
        let mut results = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let mut length = 0;
            let fits = rest.iter().take(PACKED).take_while(|request| {
                length += request.0.len().next_multiple_of(4);
                length <= DATAGRAM
            });
            let (now, later) = rest.split_at_checked(fits.count().max(1)).unwrap_or((rest, &[]));
            rest = later;
            self.send_packed(now, &mut results);
        }
        results
    }

    /// Carries out the requests between the first and the last one, which begin and end a transaction: all of them or
    /// none. They must fit into one datagram.
    ///
    /// # Errors
    /// The first refusal; `ETIMEDOUT` and `ENOBUFS` as in [`Self::change`].
    pub fn transaction(&mut self, requests: &[Packed]) -> Result<(), RequestError> {
        let first = self.sequence.wrapping_add(1);
        let last = requests.len().saturating_sub(2);
        self.pack(requests, last);
        // The end is never answered. An answer to the beginning is a refusal of the whole transaction.
        let mut answers: Vec<Option<RequestError>> =
            core::iter::repeat_with(|| None).take(last + 1).collect();
        self.datagrams += 1;
        self.socket.send(&self.out, 0)?;
        let read = self.packed_answers(first, true, &mut answers);
        answers.into_iter().flatten().next().map_or(read.map_err(Into::into), Err)
    }

    /// Puts requests into one datagram, and asks for an acknowledgement of the one at `last`.
    fn pack(&mut self, requests: &[Packed], last: usize) {
        self.out.clear();
        for (number, Packed(octets)) in requests.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let start = self.out.len();
            self.out.extend_from_slice(octets);
            let mut header = NetlinkBuffer::new(self.out.get_mut(start..).unwrap_or_default());
            header.set_sequence_number(self.sequence);
            if number == last {
                header.set_flags(header.flags() | NLM_F_ACK);
            }
            self.out.resize(self.out.len().next_multiple_of(4), 0);
        }
    }

    fn send_packed(&mut self, requests: &[Packed], results: &mut Vec<Result<(), RequestError>>) {
        let first = self.sequence.wrapping_add(1);
        let count = requests.len();
        self.pack(requests, count.saturating_sub(1));
        let mut answers: Vec<Option<RequestError>> =
            core::iter::repeat_with(|| None).take(count).collect();
        self.datagrams += 1;
        let mut failed = self.socket.send(&self.out, 0).err();
        if failed.is_none() {
            failed = self.packed_answers(first, false, &mut answers).err();
        }
        let errno = failed.map(|e| e.raw_os_error().unwrap_or(libc::EIO));
        results.extend(answers.into_iter().map(|answer| match (answer, errno) {
            (Some(error), _) => Err(error),
            (None, Some(errno)) => Err(io::Error::from_raw_os_error(errno).into()),
            (None, None) => Ok(()),
        }));
    }

    /// Reads failures until the last request is answered; for a transaction (`whole`), until the first one is.
    fn packed_answers(
        &mut self,
        first: u32,
        whole: bool,
        answers: &mut [Option<RequestError>],
    ) -> io::Result<()> {
        let end = std::time::Instant::now() + PATIENCE;
        let mut lost = false;
        loop {
            let length = match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let errno = if lost { libc::ENOBUFS } else { libc::ETIMEDOUT };
                    return Err(io::Error::from_raw_os_error(errno));
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    lost = true;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let mut done = false;
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                let position = message.sequence.wrapping_sub(first) as usize;
                if message.kind != ERROR || position >= answers.len() {
                    continue;
                }
                let refusal = refusal(&message);
                done |= position + 1 == answers.len();
                // The beginning of a transaction is answered when all of it is refused.
                done |= whole && position == 0 && refusal.is_some();
                if let Some(slot) = answers.get_mut(position) {
                    *slot = refusal;
                }
            }
            if done {
                let errno = io::Error::from_raw_os_error(libc::ENOBUFS);
                return if lost { Err(errno) } else { Ok(()) };
            }
            if std::time::Instant::now() > end {
                return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
            }
        }
    }

    /// Requests one object and passes on the kernel's messages about it.
    ///
    /// # Errors
    /// The kernel's error; `ETIMEDOUT` if it does not answer within 2 s.
    pub fn get(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        each: impl FnMut(&Message<'_>),
    ) -> Result<(), RequestError> {
        self.send(kind, NLM_F_ACK, body)?;
        self.answers(each)?;
        Ok(())
    }

    /// Requests a dump and passes on its messages. False if it changed meanwhile: entries may be missing or duplicated.
    ///
    /// # Errors
    /// As [`Self::get`].
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
        self.sequence = self.sequence.wrapping_add(1);
        let Packed(mut octets) = Packed::new(kind, flags, body);
        NetlinkBuffer::new(&mut octets).set_sequence_number(self.sequence);
        self.socket.send(&octets, 0)?;
        Ok(())
    }

    /// Reads until the last request is answered. Answers to earlier ones are dropped.
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

/// Reads datagrams from an event socket, at most `most` of them. False if the kernel has dropped some.
///
/// # Errors
/// If the socket fails for another reason, or there is nothing to read.
pub(super) fn receive(
    socket: &Socket,
    buffer: &mut [u8],
    most: usize,
    mut each: impl FnMut(&[u8]),
) -> io::Result<bool> {
    let mut seen = 0;
    let mut whole = true;
    while seen < most {
        let mut space = &mut *buffer;
        let (length, sender) = match socket.recv_from(&mut space, libc::MSG_TRUNC) {
            Ok(datagram) => datagram,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && seen > 0 => break,
            Err(e) => return Err(e),
        };
        seen += 1;
        // Other processes may write to this socket; only messages of the kernel count.
        if sender.port_number() != 0 {
            continue;
        }
        match buffer.get(..length) {
            Some(datagram) => each(datagram),
            None => whole = false,
        }
    }
    Ok(whole)
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
    /// `nlmsg_pid`: the port of the socket whose request caused it, 0 for none.
    pub port: u32,
    /// The content after the header.
    pub body: &'a [u8],
}

/// The messages of a datagram, up to the first incomplete one.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    core::iter::from_fn(move || {
        let buffer = NetlinkBuffer::new_checked(datagram).ok()?;
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

/// The attributes of a message, up to the first incomplete one: type without its flags, and value.
pub fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(body).map_while(Result::ok).map(|attribute| {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        (kind, attribute.into_inner().get(4..length).unwrap_or_default())
    })
}

/// The text of a value that ends with a NUL.
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
