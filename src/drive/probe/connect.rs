//! Sockets and TCP connections as a check configures them.

use core::time::Duration;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::TcpStream;

use crate::check::probe::{Closing, In, Step};
use crate::model::Connection;

/// Makes the connection; returns what failed otherwise.
pub(super) async fn connect(settings: &Connection, closing: Closing) -> Result<TcpStream, In> {
    let socket = prepare(settings, closing)?;
    match socket.connect(&settings.to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
            return Err(failed(Step::Connect)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let stream = TcpStream::from_std(socket.into()).map_err(failed(Step::Socket))?;
    stream.writable().await.map_err(failed(Step::Connect))?;
    match stream.take_error() {
        Ok(None) => Ok(stream),
        Ok(Some(error)) | Err(error) => Err(failed(Step::Await)(error)),
    }
}

/// A TCP socket with the given way of closing.
fn prepare(settings: &Connection, closing: Closing) -> Result<Socket, In> {
    let socket = socket(settings, Type::STREAM, Protocol::TCP)?;
    if closing == Closing::Reset {
        socket.set_linger(Some(Duration::ZERO)).map_err(failed(Step::Socket))?;
    }
    Ok(socket)
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
