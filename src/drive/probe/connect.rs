//! A TCP connection as a check configures it.

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

/// A socket with all settings of the connection.
fn prepare(settings: &Connection, closing: Closing) -> Result<TcpSocket, In> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(settings.to), kind, Some(Protocol::TCP))
        .map_err(failed(Step::Socket))?;
    if closing == Closing::Reset {
        socket.set_linger(Some(Duration::ZERO)).map_err(failed(Step::Socket))?;
    }
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
    Ok(TcpSocket::from_std_stream(socket.into()))
}

fn failed(step: Step) -> impl Fn(io::Error) -> In {
    move |error| In::Failed { step, errno: error.raw_os_error().unwrap_or(libc::EIO) }
}
