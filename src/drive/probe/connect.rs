//! Sockets and TCP connections as a check configures them.

use core::time::Duration;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::check::probe::{Closing, In, Step};
use crate::model::Connection;

/// Makes the connection; returns what failed otherwise.
pub(super) async fn connect(settings: &Connection, closing: Closing) -> Result<TcpStream, In> {
    let socket = prepare(settings, closing)?;
    socket.connect(settings.to).await.map_err(failed(Step::Connect))
}

/// A TCP socket with the given way of closing.
fn prepare(settings: &Connection, closing: Closing) -> Result<TcpSocket, In> {
    let socket = socket(settings, Type::STREAM, Protocol::TCP)?;
    if closing == Closing::Reset {
        socket.set_linger(Some(Duration::ZERO)).map_err(failed(Step::Socket))?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// A socket with all settings of the connection.
pub(super) fn socket(settings: &Connection, kind: Type, protocol: Protocol) -> Result<Socket, In> {
    let kind = kind.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(settings.to), kind, Some(protocol))
        .map_err(failed(Step::Socket))?;
    if settings.mark != 0 {
        socket.set_mark(settings.mark).map_err(failed(Step::Mark))?;
    }
    if let Some(interface) = &settings.interface {
        let name = interface.as_str().as_bytes();
        socket.bind_device(Some(name)).map_err(failed(Step::Device))?;
    }
    if let Some(source) = settings.from {
        let bind = || {
            if source.port != 0 {
                // Earlier attempts used the same port.
                socket.set_reuse_address(true)?;
            }
            socket.bind(&SockAddr::from(SocketAddr::new(source.address, source.port)))
        };
        bind().map_err(failed(Step::Source))?;
    }
    Ok(socket)
}

pub(super) fn failed(step: Step) -> impl Fn(io::Error) -> In {
    move |error| In::Failed { step, errno: error.raw_os_error().unwrap_or(libc::EIO) }
}
