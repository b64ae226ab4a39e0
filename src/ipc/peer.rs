//! Another process, as this end of a channel on the tokio runtime: in order, bounded, never waiting.

use core::marker::PhantomData;
use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, Encoded, ReceiveError, SendError};
use crate::sys::aio::Async;
use crate::sys::channel::Channel;

/// Messages that wait for a slow peer, in addition to the kernel's queue.
const WAITING: usize = 256;

/// Time between attempts to send, if the runtime cannot report when there is room.
const RETRY: Duration = Duration::from_millis(20);

/// Sends `Out`, receives `In`.
pub struct Peer<Out, In> {
    channel: Async<Channel>,
    /// Registration for room in the channel, only while messages wait: otherwise the thread would wake up each time
    /// the peer reads.
    room: Option<Async<Channel>>,
    buffer: Box<[u8]>,
    waiting: VecDeque<Encoded>,
    gone: bool,
    /// Number of invalid messages.
    bad: u64,
    /// The longest accepted value in sealed memory, in octets.
    longest: usize,
    /// Length of the last value in octets.
    length: usize,
    types: PhantomData<fn(Out) -> In>,
}

/// The result of [`Peer::hear`].
#[derive(Debug)]
pub enum Heard<In> {
    /// A message with its descriptors.
    Message(In, Vec<OwnedFd>),
    /// An invalid message; it was dropped.
    Nonsense,
    /// The peer is gone.
    End,
}

impl<Out: Serialize, In: DeserializeOwned> Peer<Out, In> {
    /// Takes this end of a channel.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn new(channel: Channel) -> io::Result<Self> {
        Ok(Self {
            channel: Async::read_only(channel)?,
            room: None,
            buffer: vec![0; frame::BUFFER].into(),
            waiting: VecDeque::new(),
            gone: false,
            bad: 0,
            longest: frame::LONGEST_BULK,
            length: 0,
            types: PhantomData,
        })
    }

    /// Sends `value` now, or as soon as the peer reads again. For messages that must arrive as long as the peer
    /// lives.
    ///
    /// # Errors
    /// `Gone` if the peer does not read any more: what it sent before its end can still be received. `Full` if it has not
    /// read for so long that 256 messages wait: it counts as hung then.
    pub fn post(&mut self, value: &Out, fds: Vec<OwnedFd>) -> Result<(), SendError> {
        if self.gone {
            return Err(SendError::Gone);
        }
        let message = frame::encode(value, fds)?;
        if self.waiting.is_empty() {
            match frame::send(self.channel.inner(), &message) {
                Err(SendError::Full) => {}
                other => return other,
            }
        }
        if self.waiting.len() >= WAITING {
            return Err(SendError::Full);
        }
        self.waiting.push_back(message);
        Ok(())
    }

    /// Sends `value` now or not at all. For messages that the next one supersedes.
    ///
    /// # Errors
    /// `Full` if the peer is slow, `Gone` if it is gone.
    pub fn offer(&mut self, value: &Out) -> Result<(), SendError> {
        if self.gone {
            return Err(SendError::Gone);
        }
        if !self.waiting.is_empty() {
            return Err(SendError::Full);
        }
        let message = frame::encode(value, Vec::new())?;
        frame::send(self.channel.inner(), &message)
    }

    /// A second handle on the channel, for a thread without a runtime.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn duplicate(&self) -> io::Result<Channel> {
        self.channel.inner().duplicate()
    }

    /// Refuses longer values unread from now on: decoding takes several times the memory. In octets.
    pub fn limit(&mut self, longest: usize) {
        self.longest = longest;
    }

    /// Length of the last message in octets.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// The next message; none if the peer is gone. Sends waiting messages meanwhile. Nothing is lost when the future is
    /// dropped.
    pub async fn next(&mut self) -> Option<(In, Vec<OwnedFd>)> {
        loop {
            match self.hear().await {
                Heard::Message(message, fds) => return Some((message, fds)),
                Heard::Nonsense => {}
                Heard::End => return None,
            }
        }
    }

    /// The same, but also reports invalid messages: for a receiver that must not be kept busy by them.
    pub async fn hear(&mut self) -> Heard<In> {
        if self.gone {
            return Heard::End;
        }
        let longest = self.longest;
        loop {
            self.watch_room();
            let answer = if self.waiting.is_empty() {
                take::<In>(&self.channel, &mut self.buffer, longest).await
            } else {
                tokio::select! {
                    biased;
                    answer = take::<In>(&self.channel, &mut self.buffer, longest) => answer,
                    more = flush(&self.channel, self.room.as_ref(), &mut self.waiting) => {
                        // It reads no more, but what it said before its end is still to be read.
                        if more.is_err() {
                            self.waiting.clear();
                        }
                        continue;
                    }
                }
            };
            match answer {
                Ok(Some((message, fds, length))) => {
                    self.length = length;
                    return Heard::Message(message, fds);
                }
                Ok(None) => {
                    self.gone = true;
                    return Heard::End;
                }
                Err(ReceiveError::Bad(why)) => {
                    self.bad += 1;
                    // A runaway peer must not fill the log.
                    if self.bad.is_power_of_two() {
                        tracing::warn!(
                            "dropped a message from another process ({why}), {} so far",
                            self.bad
                        );
                    }
                    return Heard::Nonsense;
                }
                Err(e) => {
                    tracing::warn!("cannot receive from another process: {e}");
                    self.gone = true;
                    return Heard::End;
                }
            }
        }
    }

    /// Waits until all messages to the peer are sent, or it is gone.
    pub async fn drain(&mut self) {
        while !self.waiting.is_empty() && !self.gone {
            self.watch_room();
            if flush(&self.channel, self.room.as_ref(), &mut self.waiting).await.is_err() {
                self.gone = true;
            }
        }
    }

    /// Makes the runtime watch for room in the channel while messages wait.
    fn watch_room(&mut self) {
        if self.waiting.is_empty() {
            self.room = None;
        } else if self.room.is_none() {
            self.room = self.channel.inner().duplicate().and_then(Async::write_only).ok();
        }
    }
}

/// The next message of a peer that may not exist; none if it is gone. Descriptors are closed.
pub async fn next<Out: Serialize, In: DeserializeOwned>(
    peer: &mut Option<Peer<Out, In>>,
) -> Option<In> {
    next_with_fd(peer).await.map(|(message, _)| message)
}

/// The same, with the first descriptor sent with it.
pub async fn next_with_fd<Out: Serialize, In: DeserializeOwned>(
    peer: &mut Option<Peer<Out, In>>,
) -> Option<(In, Option<OwnedFd>)> {
    match peer {
        Some(peer) => peer.next().await.map(|(message, fds)| (message, fds.into_iter().next())),
        None => core::future::pending().await,
    }
}

async fn take<In: DeserializeOwned>(
    channel: &Async<Channel>,
    buffer: &mut [u8],
    longest: usize,
) -> Result<Option<(In, Vec<OwnedFd>, usize)>, ReceiveError> {
    channel
        .read(|inner| match frame::receive_within(inner, buffer, longest) {
            Err(ReceiveError::Empty) => Err(io::ErrorKind::WouldBlock.into()),
            other => Ok(other),
        })
        .await
        .map_err(ReceiveError::Io)?
}

/// Sends the first waiting message.
async fn flush(
    channel: &Async<Channel>,
    room: Option<&Async<Channel>>,
    waiting: &mut VecDeque<Encoded>,
) -> Result<(), SendError> {
    let Some(message) = waiting.front() else {
        return Ok(());
    };
    let send = |channel: &Channel| match frame::send(channel, message) {
        Err(SendError::Full) => Err(io::ErrorKind::WouldBlock.into()),
        other => Ok(other),
    };
    let sent = match room {
        Some(room) => room.write(send).await?,
        // No descriptor is left to watch for room, so sending is retried periodically.
        None => loop {
            tokio::time::sleep(RETRY).await;
            if let Ok(sent) = send(channel.inner()) {
                break sent;
            }
        },
    };
    match sent {
        Err(SendError::Gone) => Err(SendError::Gone),
        // Sent, or can never be sent: in both cases it is removed from the queue.
        _ => {
            waiting.pop_front();
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Ends = (Peer<u32, Vec<u8>>, Peer<Vec<u8>, u32>);

    fn run<F: Future>(future: impl FnOnce(Ends) -> F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
            async {
                let (a, b) = Channel::pair().unwrap();
                future((Peer::new(a).unwrap(), Peer::new(b).unwrap())).await
            },
        )
    }

    #[test]
    fn a_slow_peer_gets_everything_in_order() {
        run(|(mut a, mut b)| async move {
            let mut sent = 0_u32;
            while a.waiting.is_empty() {
                a.post(&sent, Vec::new()).unwrap();
                sent += 1;
            }
            for _ in 0..100 {
                a.post(&sent, Vec::new()).unwrap();
                sent += 1;
            }
            assert!(matches!(a.offer(&0), Err(SendError::Full)));
            let reader = async {
                for expected in 0..sent {
                    assert_eq!(b.next().await.unwrap().0, expected);
                }
            };
            // `next` sends waiting messages although nothing arrives.
            tokio::select! {
                () = reader => {}
                _ = a.next() => panic!("nothing was sent"),
            }
        });
    }

    #[test]
    fn a_peer_that_never_reads_is_found_out() {
        run(|(mut a, b)| async move {
            let refused = (0..1_000_000).find_map(|n| a.post(&n, Vec::new()).err());
            drop(b);
            assert!(matches!(refused, Some(SendError::Full)));
        });
    }

    #[test]
    fn nonsense_is_skipped() {
        run(|(mut a, mut b)| async move {
            a.channel.inner().send(&[9, 9, 9], &[]).unwrap();
            a.post(&5, Vec::new()).unwrap();
            assert_eq!(b.next().await.unwrap().0, 5);
            assert_eq!(b.bad, 1);
        });
    }

    #[test]
    fn the_last_words_of_a_peer_are_heard_by_one_who_has_something_to_say() {
        run(|(mut a, mut b)| async move {
            while b.waiting.is_empty() {
                b.post(&vec![0; 1000], Vec::new()).unwrap();
            }
            a.post(&1, Vec::new()).unwrap();
            a.post(&2, Vec::new()).unwrap();
            assert_eq!(b.next().await.unwrap().0, 1);
            drop(a);
            let flushed = flush(&b.channel, b.room.as_ref(), &mut b.waiting).await;
            assert!(matches!(flushed, Err(SendError::Gone)), "{flushed:?}");
            assert_eq!(b.next().await.unwrap().0, 2);
            assert!(b.next().await.is_none());
        });
    }

    #[test]
    fn the_end_of_a_peer_is_the_end() {
        run(|(mut a, mut b)| async move {
            a.post(&1, Vec::new()).unwrap();
            drop(a);
            assert_eq!(b.next().await.unwrap().0, 1);
            assert!(b.next().await.is_none());
            assert!(matches!(b.post(&vec![1], Vec::new()), Err(SendError::Gone)));
        });
    }
}
