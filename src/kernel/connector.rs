//! Process events (start, change, end) from the kernel's connector (`CN_IDX_PROC`).
//!
//! The kernel sends them only in the first network, process and user namespace, and only to a listener with
//! NET_ADMIN. The socket stays in the namespace it was opened in, so it is opened early and used later.

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    MsgFlags, NetlinkAddr, bind, getsockname, recvfrom, sendto, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::sys::bpf;

/// `CN_IDX_PROC` and `CN_VAL_PROC`, which is also the multicast group.
const PROCESSES: u32 = 1;
/// `PROC_CN_MCAST_LISTEN` and `PROC_CN_MCAST_IGNORE`.
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;
/// `NLMSG_DONE`: the type of all messages of the connector.
const DONE: u16 = 3;

/// Kinds of events (`enum proc_cn_event`).
const ANSWER: u32 = 0;
const FORK: u32 = 1;
const EXEC: u32 = 2;
const COMM: u32 = 0x200;
const EXIT: u32 = 0x8000_0000;

/// Offsets in a message: a netlink header (16 octets), a connector header (20), then `struct proc_event`.
const ACKNOWLEDGED: usize = 16 + 12;
const WHAT: usize = 36;
const ABOUT: usize = WHAT + 16;

/// Default size of the queue, in octets; the kernel counts some 800 for an event.
const QUEUE: usize = 4 << 20;
/// The size up to which it grows when events were lost.
const LARGEST: usize = 32 << 20;
/// Time limit of the kernel's acknowledgement.
const PATIENCE: Duration = Duration::from_millis(200);

/// One event. Those of threads are omitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process forked another one.
    Forked { parent: u32, child: u32 },
    /// A process executed another program, or changed its name.
    Became(u32),
    /// A process ended.
    Ended(u32),
    /// Events were lost: all processes must be scanned.
    Lost,
}

/// A message of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Event(Event),
    /// The answer to a request: the request's number plus one, and an error number or 0. (The kernel overwrites the
    /// sequence number of answers with its count of events.)
    Answer(u32, u32),
    Nothing,
}

/// The size of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// In octets; none: the default size.
    pub size: Option<u32>,
    /// Whether it may exceed the system's limit (`net.core.rmem_max`).
    pub force: bool,
}

/// Opens the socket in the network namespace of this thread. It receives nothing yet, and needs no capability.
///
/// # Errors
/// Those of `socket(2)`: the kernel lacks netlink, or the limit of descriptors is reached.
pub fn open() -> io::Result<OwnedFd> {
    let domain = Domain::from(libc::AF_NETLINK);
    let protocol = Protocol::from(libc::NETLINK_CONNECTOR);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(protocol))?;
    bpf::drop_all(&socket)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket.into())
}

/// The socket that receives process events.
pub struct Connector {
    socket: Socket,
    size: usize,
    listening: bool,
}

impl Connector {
    /// Uses a socket that was opened before.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket: socket.into(), size: 0, listening: false }
    }

    /// Subscribes to events.
    ///
    /// # Errors
    /// When the kernel sends no events: it was built without them, this process is in a namespace, or lacks
    /// NET_ADMIN.
    pub fn listen(&mut self, queue: Queue) -> io::Result<()> {
        self.resize(queue);
        if self.listening {
            return Ok(());
        }
        let port = getsockname::<NetlinkAddr>(self.socket.as_raw_fd())?.pid();
        bind(self.socket.as_raw_fd(), &NetlinkAddr::new(port, 1 << (PROCESSES - 1)))?;
        let _ = self.socket.attach_filter(&filter());
        let number = std::process::id();
        self.request(LISTEN, number, port)?;
        let answer = number.wrapping_add(1);
        // The answer is among the first messages in the queue.
        let mut heard = vec![PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        while poll(&mut heard, limit)? > 0 {
            while let Some(said) = self.receive() {
                match said {
                    Said::Answer(number, 0) if number == answer => {
                        self.listening = true;
                        return Ok(());
                    }
                    Said::Answer(number, errno) if number == answer => {
                        let errno = i32::try_from(errno).unwrap_or(libc::EPERM);
                        return Err(io::Error::from_raw_os_error(errno.saturating_abs()));
                    }
                    _ => {}
                }
            }
        }
        let _ = bpf::drop_all(&self.socket);
        Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not tell them here"))
    }

    /// Unsubscribes from events. Kernels before 6.6 continue to create events without a listener if a process ends
    /// without doing this.
    pub fn ignore(&mut self) {
        if core::mem::take(&mut self.listening) {
            let _ = bpf::drop_all(&self.socket);
            if let Ok(name) = getsockname::<NetlinkAddr>(self.socket.as_raw_fd()) {
                let _ = self.request(IGNORE, 0, name.pid());
            }
            while self.receive().is_some() {}
        }
    }

    /// The next event; none if the queue is empty.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            match self.receive()? {
                Said::Event(event) => return Some(event),
                Said::Answer(..) | Said::Nothing => {}
            }
        }
    }

    /// Doubles the size of the queue, which was too small.
    pub fn grow(&mut self) {
        self.size = (self.size * 2).clamp(QUEUE, LARGEST);
        let _ = setsockopt(&self.socket, sockopt::RcvBufForce, &self.size);
    }

    fn resize(&mut self, queue: Queue) {
        let size = queue.size.and_then(|size| usize::try_from(size).ok());
        self.size = size.unwrap_or(QUEUE);
        let limit = libc::c_int::MAX as usize;
        let size_ = self.size.min(limit);
        let _ = if size.is_none() || queue.force {
            setsockopt(&self.socket, sockopt::RcvBufForce, &size_)
        } else {
            setsockopt(&self.socket, sockopt::RcvBuf, &size_)
        };
    }

    fn request(&self, what: u32, number: u32, port: u32) -> io::Result<()> {
        let message = request(what, number, port);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.socket.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
        Ok(())
    }

    /// The next message of the kernel; none if the queue is empty. Messages from other senders are ignored.
    fn receive(&self) -> Option<Said> {
        let mut buffer = [0; 256];
        loop {
            return match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, Some(sender))) if sender.pid() == 0 => {
                    Some(decode(buffer.get(..length).unwrap_or_default()))
                }
                Ok(_) => Some(Said::Nothing),
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => Some(Said::Event(Event::Lost)),
                Err(_) => None,
            };
        }
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.ignore();
    }
}

/// Sends a request to subscribe or unsubscribe.
fn request(what: u32, number: u32, port: u32) -> Vec<u8> {
    const LENGTH: u32 = 16 + 20 + 4;
    let payload = [4_u16, 0].map(u16::to_ne_bytes).concat();
    [
        LENGTH.to_ne_bytes().to_vec(),
        [DONE, 0].map(u16::to_ne_bytes).concat(),
        [0, port, PROCESSES, PROCESSES, 0, number].map(u32::to_ne_bytes).concat(),
        payload,
        what.to_ne_bytes().to_vec(),
    ]
    .concat()
}

/// Decodes one message; none if it is truncated or malformed.
fn decode(message: &[u8]) -> Said {
    let word = |at: usize| {
        let octets = message.get(at..at + 4)?.first_chunk::<4>()?;
        Some(u32::from_ne_bytes(*octets))
    };
    // The process id at an offset, if the event concerns the process and not another thread: the first thread has the
    // id of the process.
    let process = |at: usize| {
        let (thread, process) = (word(at)?, word(at + 4)?);
        (thread == process && process != 0).then_some(process)
    };
    if (word(16), word(20)) != (Some(PROCESSES), Some(PROCESSES)) {
        return Said::Nothing;
    }
    let event = match word(WHAT) {
        Some(ANSWER) => match (word(ACKNOWLEDGED), word(ABOUT)) {
            (Some(number), Some(errno)) => return Said::Answer(number, errno),
            _ => None,
        },
        Some(FORK) => {
            // Any thread may fork: the parent is the process it belongs to.
            let parent = word(ABOUT + 4);
            parent.zip(process(ABOUT + 8)).map(|(parent, child)| Event::Forked { parent, child })
        }
        // A thread that executes a program becomes the first thread.
        Some(EXEC | COMM) => process(ABOUT).map(Event::Became),
        Some(EXIT) => process(ABOUT).map(Event::Ended),
        _ => None,
    };
    event.map_or(Said::Nothing, Said::Event)
}

/// Attaches a filter that passes only what [`decode`] understands, so that events of threads and other events do not
/// wake this process.
fn filter() -> Vec<SockFilter> {
    // A filter loads words in network byte order, but they are in the byte order of the machine.
    let number = |n: u32| u32::from_be_bytes(n.to_ne_bytes());
    let [what, about] = [WHAT, ABOUT].map(|at| u32::try_from(at).unwrap_or(0));
    let load = |at: u32| SockFilter::new(0x20, 0, 0, at);
    let equal = |n: u32, yes: u8, no: u8| SockFilter::new(0x15, yes, no, number(n));
    let keep = |octets: u32| SockFilter::new(0x06, 0, 0, octets);
    let to_x = || SockFilter::new(0x07, 0, 0, 0);
    let equal_x = |yes: u8, no: u8| SockFilter::new(0x1d, yes, no, 0);
    vec![
        load(what),
        equal(ANSWER, 13, 0),
        equal(EXEC, 12, 0),
        equal(COMM, 6, 0),
        equal(EXIT, 5, 0),
        equal(FORK, 0, 8),
        // 6: is the child the first thread of its process?
        load(about + 8),
        to_x(),
        load(about + 12),
        equal_x(5, 4),
        // 10: is this process the first thread of its process?
        load(about),
        to_x(),
        load(about + 4),
        equal_x(1, 0),
        // 14, 15: drop, and pass.
        keep(0),
        keep(u32::MAX),
    ]
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A message about an event in the byte order of this machine.
    fn message(what: u32, words: &[u32]) -> Vec<u8> {
        let header = [76, 3, 0, 0, PROCESSES, PROCESSES, 7, 1, 40, what, 0, 0, 0];
        let mut all: Vec<u8> = header.iter().chain(words).flat_map(|w| w.to_ne_bytes()).collect();
        all.resize(76, 0);
        all
    }

    #[test]
    fn events_are_read_and_threads_left_out() {
        for (what, words, expected) in [
            (FORK, &[10, 9, 20, 20][..], Said::Event(Event::Forked { parent: 9, child: 20 })),
            (FORK, &[10, 10, 21, 10], Said::Nothing),
            (EXEC, &[20, 20], Said::Event(Event::Became(20))),
            (COMM, &[20, 20, 0x61], Said::Event(Event::Became(20))),
            (COMM, &[21, 20, 0x61], Said::Nothing),
            (EXIT, &[20, 20, 0, 17], Said::Event(Event::Ended(20))),
            (EXIT, &[21, 20, 0, 17], Said::Nothing),
            (EXIT, &[0, 0], Said::Nothing),
            (4, &[20, 20], Said::Nothing),
            (ANSWER, &[13], Said::Answer(1, 13)),
        ] {
            assert_eq!(decode(&message(what, words)), expected, "{what:x} {words:?}");
        }
        let whole = message(EXEC, &[20, 20]);
        assert_eq!(decode(&whole[..59]), Said::Nothing);
        let mut other = whole;
        other[16..20].copy_from_slice(&2_u32.to_ne_bytes());
        assert_eq!(decode(&other), Said::Nothing);
    }

    proptest::proptest! {
        #[test]
        fn anything_can_be_read(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = decode(&octets);
        }
    }

    /// Needs NET_ADMIN and the first namespaces of the machine.
    fn listening(queue: Queue) -> Option<Connector> {
        let mut connector = Connector::new(open().unwrap());
        match connector.listen(queue) {
            Ok(()) => Some(connector),
            Err(e) => {
                crate::sys::testing::skip(&format!("no events of processes here: {e}"));
                None
            }
        }
    }

    fn run() -> u32 {
        let mut child = Command::new("/bin/true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn the_kernel_tells_of_processes_and_its_filter_drops_threads() {
        let Some(mut connector) = listening(Queue::default()) else { return };
        for _ in 0..20 {
            std::thread::spawn(|| {}).join().unwrap();
        }
        let child = run();
        let parent = std::process::id();
        let mut seen = Vec::new();
        let mut heard = 0;
        while let Some(said) = connector.receive() {
            heard += 1;
            match said {
                Said::Event(event @ Event::Forked { child: of, .. }) if of == child => {
                    seen.push(event);
                }
                Said::Event(event @ (Event::Became(of) | Event::Ended(of))) if of == child => {
                    seen.push(event);
                }
                // Answers to other listeners arrive as well.
                Said::Event(_) | Said::Answer(..) => {}
                Said::Nothing => panic!("something came through the filter"),
            }
        }
        let expected = [Event::Forked { parent, child }, Event::Became(child), Event::Ended(child)];
        assert_eq!(seen, expected, "of {heard}");
        // Unsubscribes, and subscribes again.
        connector.ignore();
        run();
        assert_eq!(connector.event(), None);
        connector.listen(Queue::default()).unwrap();
        let child = run();
        assert!(std::iter::from_fn(|| connector.event()).any(|e| e == Event::Ended(child)));
    }

    #[test]
    fn what_was_lost_is_said() {
        let Some(mut connector) = listening(Queue { size: Some(1), force: true }) else { return };
        (0..30).for_each(|_| {
            run();
        });
        assert!(std::iter::from_fn(|| connector.event()).any(|e| e == Event::Lost));
        // After an overflow the kernel queues nothing new until the queue has been read completely.
        while connector.event().is_some() {}
        connector.grow();
        let child = run();
        assert!(std::iter::from_fn(|| connector.event()).any(|e| e == Event::Ended(child)));
    }
}
