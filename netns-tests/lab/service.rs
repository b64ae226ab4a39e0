//! Services and clients on the machines of a test: web servers, a real SMTP server and bad imitations of one, curl.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use super::follow::Halt;
use super::node::{Node, command};
use super::timeline::{Wall, What};
use super::{LIMIT, Res, need};

/// A listening socket with a thread for each connection; closed when this is dropped.
pub struct Server {
    _halt: Halt,
}

struct Listener(TcpListener);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Server {
    /// Listens on the node and serves each connection with `serve`.
    pub fn start(
        node: &Node,
        address: &str,
        serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> Res<Self> {
        let address: SocketAddr = address.parse()?;
        let listener = node.run(move || TcpListener::bind(address))??;
        listener.set_nonblocking(true)?;
        let (halt, serve) = (Halt::new()?, Arc::new(serve));
        halt.follow(Listener(listener), move |Listener(listener)| match listener.accept() {
            Ok((stream, peer)) => {
                let serve = Arc::clone(&serve);
                let ready = stream
                    .set_nonblocking(false)
                    .and_then(|()| stream.set_read_timeout(Some(LIMIT)));
                if ready.is_ok() {
                    thread::spawn(move || serve(stream, peer));
                }
                true
            }
            Err(error) => matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
            ),
        });
        Ok(Self { _halt: halt })
    }

    /// A web server that answers every request with the name of its node and the address of the client.
    pub fn web(node: &Node, address: &str) -> Res<Self> {
        let (name, timeline) = (Arc::clone(&node.name), Arc::clone(node.timeline()));
        Self::start(node, address, move |mut stream, peer| {
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    // A health check connects and disconnects.
                    Ok(0) | Err(_) => return,
                    Ok(length) => request.extend_from_slice(&buffer[..length]),
                }
            }
            let head = String::from_utf8_lossy(&request);
            let line = format!("{} from {peer}", head.lines().next().unwrap_or_default());
            let source = "web".into();
            timeline.push(Wall::now(), &name, What::Log { source, line });
            let body = format!("{name} {}\n", peer.ip());
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        })
    }
}

/// Requests a page with curl; the first word of the answer is the name of the answering node. Only
/// the connection, which kernels make by themselves, has a short limit: the processes behind it wait for a processor.
pub fn fetch(node: &Node, url: &str) -> Res<Option<String>> {
    need::program("curl", "curl")?;
    let limit = LIMIT.as_secs().to_string();
    let options = ["--silent", "--noproxy", "*", "--connect-timeout", "10", "--max-time", &limit];
    let output = node.output(["curl"].into_iter().chain(options).chain([url]))?;
    let words = output.stdout.split_whitespace().next();
    let answer = words.filter(|_| output.status.success()).map(str::to_owned);
    let line = format!("{url}: {}", answer.as_deref().unwrap_or("no answer"));
    let what = What::Log { source: "curl".into(), line };
    node.timeline().push(Wall::now(), &node.name, what);
    Ok(answer)
}

/// Starts Debian's aiosmtpd on port 25 of the loopback interface; what it receives is added to the timeline as lines of
/// "smtp".
pub fn mail(node: &Node) -> Res {
    let mut server = Command::new(python()?);
    server.args(["-u", "-m", "aiosmtpd", "--nosetuid", "--listen", "127.0.0.1:25"]).args([
        "--class",
        "aiosmtpd.handlers.Debugging",
        "stdout",
    ]);
    node.spawn(server, "smtp")?;
    node.timeline().poll(LIMIT, "the SMTP server listens", || {
        Ok(node.run(|| TcpStream::connect(("127.0.0.1", 25)))?.ok())
    })?;
    Ok(())
}

/// A python3 that has aiosmtpd: the system's own first.
pub fn python() -> Res<&'static str> {
    ["/usr/bin/python3", "python3"]
        .into_iter()
        .filter(|program| program.starts_with('/') <= Path::new(program).exists())
        .find(|program| {
            let test = command([*program, "-c", "import aiosmtpd"]).output();
            test.is_ok_and(|output| output.status.success())
        })
        .ok_or_else(|| need::missing("aiosmtpd", "python3-aiosmtpd"))
}
