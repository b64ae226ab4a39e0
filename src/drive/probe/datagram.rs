//! The shell of checks that send one datagram and wait for another: `UDP_CHECK`.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::connect::{failed, socket};
use crate::check::probe::datagram::{Heard, STRAYS, flooded};
use crate::check::probe::udp::{self, Udp};
use crate::check::probe::{In, Step, Verdict, unconnected};
use crate::model::Connection;
use crate::model::checker::UdpCheck;

/// The longest datagram.
const LONGEST: usize = 65_535;

/// One attempt of `UDP_CHECK`. It ends with a verdict, or when nobody waits for one any more.
pub(super) async fn udp(check: &UdpCheck) -> Verdict {
    let open = || {
        let socket = socket(&check.connection, Type::DGRAM, Protocol::UDP)?;
        // Else the kernel keeps to itself that a host or a network cannot be reached.
        let told = match check.connection.to.is_ipv4() {
            true => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
            false => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
        };
        told.map_err(|errno| In::Failed { step: Step::Socket, errno: errno as i32 })?;
        connected(socket, &check.connection)
    };
    match open() {
        Ok(socket) => {
            ask(&socket, udp::question(check), |heard| Udp::new(check).step(heard)).await
        }
        Err(input) => refused(input),
    }
}

/// A socket that hears the server and nobody else.
fn connected(socket: Socket, settings: &Connection) -> Result<UdpSocket, In> {
    socket.connect(&settings.to.into()).map_err(failed(Step::Connect))?;
    UdpSocket::from_std(socket.into()).map_err(failed(Step::Socket))
}

/// Sends the question and hears what comes, until there is a verdict.
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

/// The next datagram. Memory for it is taken only when it is there: many attempts wait at a time.
async fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    loop {
        socket.readable().await?;
        let mut octets = vec![0; LONGEST];
        match socket.try_recv(&mut octets) {
            Ok(length) => {
                octets.truncate(length);
                return Ok(octets);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn refused(input: In) -> Verdict {
    match input {
        In::Failed { step, errno } => unconnected(step, errno),
        // What fails says that it failed.
        In::Connected => unconnected(Step::Socket, libc::EIO),
    }
}
