//! The shell of `HTTP_GET`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::connect::connect;
use crate::check::probe::http::{Heard, Http, Page};
use crate::check::probe::{Closing, Failure, In, Verdict, unconnected};

/// Octets that are read at once.
const PART: usize = 4096;

/// One attempt. The connection is closed when it is decided. The limit of time holds for each step; the engine limits
/// their sum.
pub(super) async fn run(page: Page, closing: Closing) -> Verdict {
    let limit = page.connection.timeout;
    let connected = timeout(limit, connect(&page.connection, closing)).await;
    match connected {
        Err(_) => Verdict::Failure(Failure::Timeout),
        Ok(Err(In::Failed { step, errno })) => unconnected(step, errno),
        // What `connect` gives when it fails is that it failed.
        Ok(Err(In::Connected)) => Verdict::Failure(Failure::Timeout),
        Ok(Ok(stream)) => fetch(stream, page, limit).await,
    }
}

/// Asks for the page and hears the answer.
async fn fetch<S>(mut stream: S, page: Page, limit: Duration) -> Verdict
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut http = Http::new(page.url);
    let sent = match timeout(limit, stream.write_all(&page.question)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Heard::Unsent(errno(&error))),
        Err(_) => Some(Heard::Silence),
    };
    if let Some(verdict) = sent.and_then(|heard| http.step(heard)) {
        return verdict;
    }
    let mut part = vec![0; PART];
    loop {
        let heard = match timeout(limit, stream.read(&mut part)).await {
            Ok(Ok(0)) => Heard::End,
            Ok(Ok(count)) => Heard::Bytes(part.get(..count).unwrap_or_default()),
            Ok(Err(error)) => Heard::Broken(errno(&error)),
            Err(_) => Heard::Silence,
        };
        if let Some(verdict) = http.step(heard) {
            return verdict;
        }
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
