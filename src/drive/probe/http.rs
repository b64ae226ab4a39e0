//! The shell of `HTTP_GET` and `SSL_GET`.

use std::io;
use std::time::Duration;

use openssl::ssl::SslContext;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connect::connect;
use super::search::Searches;
use super::tls;
use crate::check::probe::http::{Heard, Http, Outcome, Page, Tls};
use crate::check::probe::{Closing, Failure, In, Verdict, unconnected};

/// Octets per read.
const PART: usize = 4096;

/// One attempt. The connection is closed after the verdict. The time limit applies to each step; the engine limits
/// their sum.
pub(super) async fn run(
    mut page: Page,
    closing: Closing,
    context: Option<Result<SslContext, String>>,
    searches: Searches,
) -> Verdict {
    let limit = page.connection.timeout;
    let connected = timeout(limit, connect(&page.connection, closing)).await;
    match connected {
        Err(_) => Verdict::Failure(Failure::Timeout),
        Ok(Err(In::Failed { step, errno })) => unconnected(step, errno),
        // A failing `connect` never returns this.
        Ok(Err(In::Connected)) => Verdict::Failure(Failure::Timeout),
        Ok(Ok(mut stream)) => match (page.tls.take(), context) {
            (Some(tls), Some(Ok(context))) => {
                secured(stream, &tls, &context, page, limit, &searches).await
            }
            (Some(_), Some(Err(why))) => refused(Heard::Tls(&why), page),
            (None, _) | (_, None) => fetch(&mut stream, page, limit, &searches).await,
        },
    }
}

/// The verdict on a page that cannot be requested.
fn refused(heard: Heard<'_>, page: Page) -> Verdict {
    Http::new(page.url).ended(heard)
}

/// The same over TLS.
async fn secured(
    stream: TcpStream,
    tls: &Tls,
    context: &SslContext,
    page: Page,
    limit: Duration,
    searches: &Searches,
) -> Verdict {
    let mut stream = match timeout(limit, tls::greet(stream, tls, context)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return refused(Heard::Tls(&why), page),
        Err(_) => return refused(Heard::Tls("timeout"), page),
    };
    let verdict = fetch(&mut stream, page, limit, searches).await;
    if tls.compliant {
        // Sent without waiting for the server.
        let _ = timeout(limit, stream.shutdown()).await;
    }
    verdict
}

/// Requests the page and reads the answer.
async fn fetch<S>(stream: &mut S, page: Page, limit: Duration, searches: &Searches) -> Verdict
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let server = page.connection.to;
    let mut http = Http::new(page.url);
    match timeout(limit, stream.write_all(&page.question)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return http.ended(Heard::Unsent(errno(&error))),
        Err(_) => return http.ended(Heard::Silence),
    }
    let mut part = vec![0; PART];
    loop {
        let heard = match timeout(limit, stream.read(&mut part)).await {
            Ok(Ok(0)) => Heard::End,
            Ok(Ok(count)) => Heard::Bytes(part.get(..count).unwrap_or_default()),
            Ok(Err(error)) => Heard::Broken(errno(&error)),
            Err(_) => Heard::Silence,
        };
        match http.step(heard) {
            None => {}
            Some(Outcome::Verdict(verdict)) => return verdict,
            Some(Outcome::Search(search)) => return searches.verdict(server, search).await,
        }
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
