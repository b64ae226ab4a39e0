//! Messages with descriptors and in sealed memory, as a runaway process would send them.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use evervip::ipc::frame::{self, ReceiveError};
use evervip::ipc::message::{FromRole, LoadRequest};
use evervip::sys::channel::{Channel, MOST_FDS};
use evervip::sys::memfd;

use super::input::Input;

/// Messages: each a kind, a number of descriptors, a length and its octets. A received message is the one that was
/// sent, or it is refused; no descriptor outlives its message; the next message arrives nevertheless.
pub fn channel(data: &[u8]) {
    let mut input = Input(data.get(..4000).unwrap_or(data));
    let (ours, theirs) = Channel::pair().expect("a channel");
    let mut buffer = vec![0; frame::BUFFER];
    while let Some(kind) = input.next() {
        let count = usize::from(input.below(40));
        let length = usize::from(input.octet()).min(input.0.len());
        let (body, rest) = input.0.split_at(length);
        input.0 = rest;
        let (mut mark, held) = UnixStream::pair().expect("a pair");
        mark.set_nonblocking(true).expect("it does not wait");
        let held = OwnedFd::from(held);
        let fds: Vec<OwnedFd> = (0..count).map(|_| held.try_clone().expect("a copy")).collect();
        drop(held);
        let sent = send(&theirs, kind, body, fds);
        let received = match kind % 2 {
            0 => frame::receive::<FromRole>(&ours, &mut buffer).map(|m| m.map(|(_, fds)| fds)),
            _ => frame::receive::<LoadRequest>(&ours, &mut buffer).map(|m| m.map(|(_, fds)| fds)),
        };
        match received {
            Ok(Some(fds)) => assert!(sent && fds.len() <= MOST_FDS, "{} descriptors", fds.len()),
            Ok(None) => panic!("the peer is there"),
            Err(ReceiveError::Bad(_)) => assert!(sent),
            Err(ReceiveError::Empty) => assert!(!sent, "a message was lost"),
            Err(ReceiveError::Io(e)) => panic!("{e}"),
        }
        // The other end of the mark is closed, so reading ends.
        match mark.read(&mut [0; 1]) {
            Ok(0) => {}
            Ok(_) => panic!("unexpected data"),
            Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("{count} descriptors: some stay"),
            Err(e) => panic!("{e}"),
        }
        frame::send_small(&theirs, &FromRole::Alive).expect("sent");
        let next = frame::receive::<FromRole>(&ours, &mut buffer);
        assert!(matches!(next, Ok(Some((FromRole::Alive, _)))), "the next message is lost");
    }
}

/// Sends it in one of several ways; returns whether it was sent.
fn send(channel: &Channel, kind: u8, body: &[u8], mut fds: Vec<OwnedFd>) -> bool {
    let packet = match kind / 2 % 6 {
        // The value is in the packet.
        0 => [&[0][..], body].concat(),
        // The value is in sealed memory.
        1 => {
            fds.insert(0, memfd::seal(c"fuzz", body).expect("memory"));
            vec![1]
        }
        // In unsealed memory, or in a descriptor that is not memory.
        2 => {
            let mut file = File::options().write(true).open("/dev/null").expect("a file");
            file.write_all(body).expect("written");
            fds.insert(0, file.into());
            vec![1]
        }
        // In memory whose descriptor is missing.
        3 => vec![1],
        // Longer than any packet.
        4 => [&[0][..], &body.repeat(frame::BUFFER / body.len().max(1) + 2)].concat(),
        _ => body.to_vec(),
    };
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    // A message without octets and descriptors would look like the end of the peer.
    let nothing = packet.is_empty();
    channel.send(if nothing { &[9] } else { &packet }, &fds).is_ok()
}
