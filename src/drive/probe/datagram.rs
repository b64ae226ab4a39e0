//! The I/O of checks that send one datagram and wait for another: `UDP_CHECK`, `DNS_CHECK`, `PING_CHECK`.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use socket2::{Protocol, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::connect::{failed, socket};
use crate::base::Family;
use crate::check::probe::datagram::{Heard, STRAYS, flooded};
use crate::check::probe::dns::Dns;
use crate::check::probe::ping::{self, Ping};
use crate::check::probe::udp::{self, Udp};
use crate::check::probe::{In, Step, Verdict, unconnected};
use crate::model::Connection;
use crate::model::checker::{DnsCheck, UdpCheck};

/// Octets of the longest datagram.
const LONGEST: usize = 65_535;

/// One attempt of `UDP_CHECK`. It ends with a verdict, or when it is dropped.
pub(super) async fn udp(check: &UdpCheck) -> Verdict {
    match open(&check.connection, Type::DGRAM, Protocol::UDP) {
        Ok(socket) => ask(&socket, udp::question(check), |heard| Udp::new(check).step(heard)).await,
        Err(input) => refused(input),
    }
}

/// One attempt of `DNS_CHECK`.
pub(super) async fn dns(check: &DnsCheck) -> Verdict {
    let dns = match random().map(|number: [u8; 2]| Dns::new(check, u16::from_ne_bytes(number))) {
        Ok(Some(dns)) => dns,
        Ok(None) => return unconnected(Step::Send, libc::EINVAL),
        Err(input) => return refused(input),
    };
    match open(&check.connection, Type::DGRAM, Protocol::UDP) {
        Ok(socket) => ask(&socket, dns.question(), |heard| dns.step(heard)).await,
        Err(input) => refused(input),
    }
}

/// One attempt of `PING_CHECK`.
pub(super) async fn ping(connection: &Connection) -> Verdict {
    let mut settings = connection.clone();
    settings.to.set_port(0);
    if let Some(from) = &mut settings.from {
        // The local port of an ICMP socket is the identifier, which the kernel chooses.
        from.port = 0;
    }
    let (family, protocol) = match settings.to.is_ipv4() {
        true => (Family::V4, Protocol::ICMPV4),
        false => (Family::V6, Protocol::ICMPV6),
    };
    let opened = random().and_then(|number: [u8; 8]| {
        let nonce = u64::from_ne_bytes(number);
        match open(&settings, Type::DGRAM, protocol) {
            // A system setting (ping_group_range) determines the groups that may open such a socket.
            Err(In::Failed { step: Step::Socket, errno: libc::EACCES | libc::EPERM }) => {
                let socket = open(&settings, Type::RAW, protocol)?;
                Ok((socket, Ping::new(family, ping::Socket::Raw, nonce)))
            }
            opened => Ok((opened?, Ping::new(family, ping::Socket::Datagram, nonce))),
        }
    });
    match opened {
        Ok((socket, ping)) => ask(&socket, &ping.question(), |heard| ping.step(heard)).await,
        Err(input) => refused(input),
    }
}

/// An unpredictable number.
fn random<const N: usize>() -> Result<[u8; N], In> {
    let mut octets = [0; N];
    let failed = |_| In::Failed { step: Step::Socket, errno: libc::EIO };
    openssl::rand::rand_bytes(&mut octets).map_err(failed)?;
    Ok(octets)
}

/// A socket that receives from the server only, and ICMP errors about its packets.
fn open(settings: &Connection, kind: Type, protocol: Protocol) -> Result<UdpSocket, In> {
    let socket = socket(settings, kind, protocol)?;
    // Without this option the kernel does not report that a host or a network is unreachable.
    let told = match settings.to.is_ipv4() {
        true => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
        false => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
    };
    told.map_err(|errno| In::Failed { step: Step::Socket, errno: errno as i32 })?;
    socket.connect(&settings.to.into()).map_err(failed(Step::Connect))?;
    UdpSocket::from_std(socket.into()).map_err(failed(Step::Socket))
}

/// Sends the question and receives until there is a verdict.
async fn ask(
    socket: &UdpSocket,
    question: &[u8],
    mut step: impl FnMut(Heard<'_>) -> Option<Verdict>,
) -> Verdict {
    let errno = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    if let Err(error) = socket.send(question).await
        && let Some(verdict) = step(Heard::Unsent(errno(&error)))
    {
        return verdict;
    }
    for _ in 0..STRAYS {
        let verdict = match receive(socket).await {
            Ok(datagram) => step(Heard::Datagram(&datagram)),
            Err(error) => step(Heard::Broken(errno(&error))),
        };
        if let Some(verdict) = verdict {
            return verdict;
        }
    }
    flooded()
}

/// The next datagram. Its buffer is allocated only when it has arrived, because many attempts wait at the same time.
async fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    loop {
        // An ICMP error alone does not make the socket readable, so both readiness for input and the error condition
        // are awaited. Each is cleared only when a read finds nothing.
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        let interest = if ready.is_readable() { Interest::READABLE } else { Interest::ERROR };
        let received = socket.try_io(interest, || {
            let mut octets = vec![0; LONGEST];
            let length = recv(socket.as_raw_fd(), &mut octets, MsgFlags::empty())?;
            octets.truncate(length);
            Ok(octets)
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

/// The verdict when the connection fails.
pub(super) fn refused(input: In) -> Verdict {
    match input {
        In::Failed { step, errno } => unconnected(step, errno),
        // A failed attempt reports its failure itself.
        In::Connected => unconnected(Step::Socket, libc::EIO),
    }
}
