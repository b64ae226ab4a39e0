//! One message as a packet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::channel::{Channel, MOST_FDS};
use crate::sys::memfd;

/// The value is in the packet.
const INLINE: u8 = 0;
/// The value is in sealed memory, the first descriptor.
const BULK: u8 = 1;
/// Longer values are sent in sealed memory. In octets.
const LONGEST_INLINE: usize = 16 << 10;
/// Longer values than this are refused, unless the receiver sets another limit. In octets.
pub const LONGEST_BULK: usize = 512 << 20;

/// Size of the buffer that [`receive`] needs, in octets.
pub const BUFFER: usize = LONGEST_INLINE + 1;

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The peer has not read earlier messages. The message may be sent again later.
    #[error("the peer does not read")]
    Full,
    /// The peer is gone.
    #[error("the peer is gone")]
    Gone,
    /// Something else.
    #[error("sending a message: {0}")]
    Io(#[from] io::Error),
    /// The value cannot be encoded.
    #[error("encoding a message: {0}")]
    Encode(#[from] postcard::Error),
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// None has arrived yet.
    #[error("no message has come yet")]
    Empty,
    /// An invalid one arrived. It is dropped; the next one can be received.
    #[error("invalid message: {0}")]
    Bad(&'static str),
    /// Something else.
    #[error("receiving a message: {0}")]
    Io(io::Error),
}

/// An encoded message.
pub struct Encoded {
    packet: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// Prepares `value` for sending, with the descriptors `fds`, at most seven.
///
/// # Errors
/// If there is no memory for it.
pub fn encode<T: Serialize>(value: &T, mut fds: Vec<OwnedFd>) -> Result<Encoded, SendError> {
    if fds.len() >= MOST_FDS {
        return Err(SendError::Io(io::ErrorKind::InvalidInput.into()));
    }
    let mut packet = postcard::to_extend(value, vec![INLINE])?;
    if packet.len() > BUFFER {
        let memory = memfd::seal(c"evervip-message", packet.get(1..).unwrap_or_default())?;
        fds.insert(0, memory);
        packet = vec![BULK];
    }
    Ok(Encoded { packet, fds })
}

/// Sends what [`encode`] prepared.
///
/// # Errors
/// `Full` and `Gone`; it may be sent again after `Full`.
pub fn send(channel: &Channel, message: &Encoded) -> Result<(), SendError> {
    let fds: Vec<BorrowedFd<'_>> = message.fds.iter().map(AsFd::as_fd).collect();
    put(channel, &message.packet, &fds)
}

/// Sends a small value without allocating; `Io` if it takes more than 63 octets.
///
/// # Errors
/// As [`send`].
pub fn send_small<T: Serialize>(channel: &Channel, value: &T) -> Result<(), SendError> {
    let mut packet = [INLINE; 64];
    let [_, rest @ ..] = &mut packet;
    let length = postcard::to_slice(value, rest)?.len();
    put(channel, packet.get(..=length).unwrap_or_default(), &[])
}

fn put(channel: &Channel, packet: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), SendError> {
    channel.send(packet, fds).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => SendError::Full,
        io::ErrorKind::BrokenPipe => SendError::Gone,
        _ => SendError::Io(e),
    })
}

/// Receives the next message; none if the peer is gone. `buffer` has at least [`BUFFER`] octets.
///
/// # Errors
/// `Empty` if none has arrived yet, `Bad` for an invalid one.
pub fn receive<T: DeserializeOwned>(
    channel: &Channel,
    buffer: &mut [u8],
) -> Result<Option<(T, Vec<OwnedFd>)>, ReceiveError> {
    let received = receive_within(channel, buffer, LONGEST_BULK)?;
    Ok(received.map(|(value, fds, _)| (value, fds)))
}

/// The same, with a limit for values in sealed memory, in octets; with the length of the value.
///
/// # Errors
/// As [`receive`].
pub fn receive_within<T: DeserializeOwned>(
    channel: &Channel,
    buffer: &mut [u8],
    longest: usize,
) -> Result<Option<(T, Vec<OwnedFd>, usize)>, ReceiveError> {
    let received = channel.receive(buffer).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => ReceiveError::Empty,
        io::ErrorKind::InvalidData => ReceiveError::Bad("longer than agreed"),
        _ => ReceiveError::Io(e),
    })?;
    let Some(received) = received else {
        return Ok(None);
    };
    let packet = buffer.get(..received.length).unwrap_or_default();
    decode_within(packet, received.fds, longest).map(Some)
}

/// The value of a packet.
///
/// # Errors
/// `Bad` if it is invalid.
#[doc(hidden)]
pub fn decode<T: DeserializeOwned>(
    packet: &[u8],
    fds: Vec<OwnedFd>,
) -> Result<(T, Vec<OwnedFd>), ReceiveError> {
    decode_within(packet, fds, LONGEST_BULK).map(|(value, fds, _)| (value, fds))
}

fn decode_within<T: DeserializeOwned>(
    packet: &[u8],
    mut fds: Vec<OwnedFd>,
    longest: usize,
) -> Result<(T, Vec<OwnedFd>, usize), ReceiveError> {
    match packet.split_first() {
        Some((&INLINE, body)) => Ok((open(body)?, fds, body.len())),
        Some((&BULK, [])) if !fds.is_empty() => {
            let body = memfd::read(fds.remove(0), longest)
                .map_err(|_| ReceiveError::Bad("its memory cannot be read or is too long"))?;
            Ok((open(&body)?, fds, body.len()))
        }
        _ => Err(ReceiveError::Bad("of no known form")),
    }
}

/// The value in postcard's encoding; all octets must belong to it.
///
/// # Errors
/// `Bad` if it is invalid.
#[doc(hidden)]
pub fn open<T: DeserializeOwned>(body: &[u8]) -> Result<T, ReceiveError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(ReceiveError::Bad("longer than its value")),
        Err(_) => Err(ReceiveError::Bad("its value cannot be decoded")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipc::message::{FromRole, FromRunner, ToRole, ToRunner};

    fn pass<T: Serialize + DeserializeOwned>(value: &T) -> T {
        let (a, b) = Channel::pair().unwrap();
        send(&a, &encode(value, Vec::new()).unwrap()).unwrap();
        receive(&b, &mut [0; BUFFER]).unwrap().unwrap().0
    }

    #[test]
    fn short_and_long_values_arrive() {
        for length in [0, 1, LONGEST_INLINE - 10, LONGEST_INLINE, 1 << 20] {
            let value = vec![7_u8; length];
            assert_eq!(pass(&value), value, "{length}");
        }
    }

    #[test]
    fn descriptors_stay_behind_a_long_value() {
        let (a, b) = Channel::pair().unwrap();
        let mark = memfd::seal(c"x", b"mark").unwrap();
        send(&a, &encode(&vec![1_u8; 1 << 16], vec![mark]).unwrap()).unwrap();
        let (value, mut fds) = receive::<Vec<u8>>(&b, &mut [0; BUFFER]).unwrap().unwrap();
        assert_eq!((value.len(), fds.len()), (1 << 16, 1));
        assert_eq!(memfd::read(fds.remove(0), 10).unwrap(), b"mark");
    }

    #[test]
    fn a_small_value_arrives() {
        let (a, b) = Channel::pair().unwrap();
        send_small(&a, &FromRole::Alive).unwrap();
        let (value, _) = receive::<FromRole>(&b, &mut [0; BUFFER]).unwrap().unwrap();
        assert_eq!(value, FromRole::Alive);
        assert!(send_small(&a, &vec![0_u8; 64]).is_err());
    }

    #[test]
    fn nonsense_is_refused_and_the_next_one_is_good() {
        let (a, b) = Channel::pair().unwrap();
        let mut buffer = [0; BUFFER];
        for bad in [&[2, 0][..], &[0], &[0, 0xff, 0xff, 0xff], &[1], &[0, 0, 0]] {
            a.send(bad, &[]).unwrap();
            assert!(
                matches!(receive::<FromRole>(&b, &mut buffer), Err(ReceiveError::Bad(_))),
                "{bad:?}"
            );
        }
        send_small(&a, &FromRole::Alive).unwrap();
        assert!(receive::<FromRole>(&b, &mut buffer).unwrap().is_some());
        assert!(matches!(receive::<FromRole>(&b, &mut buffer), Err(ReceiveError::Empty)));
    }

    proptest! {
        #[test]
        fn no_packet_panics(packet in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<ToRole>(&packet, Vec::new());
            let _ = decode::<FromRole>(&packet, Vec::new());
            let _ = decode::<ToRunner>(&packet, Vec::new());
            let _ = decode::<FromRunner>(&packet, Vec::new());
        }
    }
}
