//! The clients of the control socket: one task each, everything bounded. A client that stalls, floods or dies only
//! affects its own task.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::request::{self, LONGEST, Request, What};
use crate::status::Ask;

/// Largest number of clients. One more displaces the client that was silent longest.
pub const CLIENTS: usize = 64;
/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a client may take to read an answer. What it sends meanwhile is not read.
const PATIENCE: Duration = Duration::from_secs(5);

/// A report as JSON, shared by the waiting clients.
pub type Report = Arc<str>;

/// A request for a report: which one, and where to send it.
pub type Wish = (Ask, oneshot::Sender<Report>);

/// Accepts connections.
#[derive(Debug)]
pub struct Server {
    asks: mpsc::Sender<Wish>,
    clients: Vec<Client>,
    started: Instant,
}

#[derive(Debug)]
struct Client {
    task: AbortHandle,
    /// When it sent its last request, in milliseconds since the server started.
    last: Arc<AtomicU64>,
}

impl Server {
    /// Reports are requested through `asks`, which has room for [`CLIENTS`].
    #[must_use]
    pub fn new(asks: mpsc::Sender<Wish>) -> Self {
        Self { asks, clients: Vec::new(), started: Instant::now() }
    }

    /// Serves one more client.
    pub fn add(&mut self, stream: UnixStream) {
        self.clients.retain(|client| !client.task.is_finished());
        if self.clients.len() >= CLIENTS
            && let Some((position, client)) = self
                .clients
                .iter()
                .enumerate()
                .min_by_key(|(_, client)| client.last.load(Ordering::Relaxed))
        {
            client.task.abort();
            self.clients.swap_remove(position);
        }
        let (started, asks) = (self.started, self.asks.clone());
        let now = move || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = Arc::new(AtomicU64::new(now()));
        let mark = Arc::clone(&last);
        let task = tokio::spawn(async move {
            let told = serve(stream, &asks, || mark.store(now(), Ordering::Relaxed)).await;
            if let Err(e) = told {
                tracing::trace!("client of the control socket: {e}");
            }
        });
        self.clients.push(Client { task: task.abort_handle(), last });
    }
}

/// Answers the requests of one client, one after the other.
async fn serve(
    stream: UnixStream,
    asks: &mpsc::Sender<Wish>,
    mark: impl Fn(),
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(LONGEST, reader);
    let mut line = Vec::new();
    loop {
        let there = timeout(SILENCE, next(&mut reader, &mut line)).await;
        let whole = match there {
            Ok(read) => read?,
            Err(_) => return Ok(()),
        };
        if line.is_empty() && !whole {
            return Ok(());
        }
        mark();
        let writing = async {
            match request::parse(&line) {
                Ok(Request { id, what: What::Version }) => {
                    writer.write_all(request::version(id).as_bytes()).await
                }
                Ok(Request { id, what: What::Report(ask) }) => {
                    let (answer, report) = oneshot::channel();
                    if asks.send((ask, answer)).await.is_err() {
                        return Ok(());
                    }
                    let Ok(report) = report.await else {
                        return Ok(());
                    };
                    writer.write_all(request::head(id, ask).as_bytes()).await?;
                    writer.write_all(report.as_bytes()).await?;
                    writer.write_all(b"}\n").await
                }
                Err((id, wrong)) => writer.write_all(request::refusal(id, &wrong).as_bytes()).await,
            }
        };
        match timeout(PATIENCE, writing).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
        // If a line is too long, its end is not searched for; a line without a newline is the last one.
        if !whole {
            return Ok(());
        }
    }
}

/// Reads a line without its newline; returns whether it had one. A line that is too long is cut.
async fn next(reader: &mut BufReader<OwnedReadHalf>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let most = u64::try_from(LONGEST).unwrap_or(u64::MAX).saturating_add(2);
    reader.take(most).read_until(b'\n', line).await?;
    let whole = line.last() == Some(&b'\n');
    if whole {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(whole && line.len() <= LONGEST)
}
