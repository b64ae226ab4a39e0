//! The I/O of `SMTP_CHECK`.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::connect::connect;
use super::datagram::refused;
use crate::check::probe::http::Heard;
use crate::check::probe::smtp::{Next, Smtp};
use crate::check::probe::{Closing, Failure, Verdict};
use crate::model::checker::SmtpCheck;

/// Size of one read, in octets.
const PART: usize = 1024;

/// One attempt. `connect_timeout` limits the connection and each complete reply separately.
pub(super) async fn run(check: &SmtpCheck, closing: Closing) -> Verdict {
    let limit = check.connection.timeout;
    let mut stream = match timeout(limit, connect(&check.connection, closing)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(input)) => return refused(input),
        Err(_) => return Verdict::Failure(Failure::Timeout),
    };
    let errno = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    let mut smtp = Smtp::new(check);
    let mut until = Instant::now() + limit;
    let mut part = vec![0; PART];
    loop {
        let heard = match timeout_at(until, stream.read(&mut part)).await {
            Ok(Ok(0)) => Heard::End,
            Ok(Ok(count)) => Heard::Bytes(part.get(..count).unwrap_or_default()),
            Ok(Err(error)) => Heard::Broken(errno(&error)),
            Err(_) => Heard::Silence,
        };
        let mut next = smtp.step(heard);
        if let Next::Say(words) = next {
            until = Instant::now() + limit;
            next = match timeout_at(until, stream.write_all(&words)).await {
                Ok(Ok(())) => Next::Wait,
                Ok(Err(error)) => smtp.step(Heard::Unsent(errno(&error))),
                Err(_) => smtp.step(Heard::Silence),
            };
        }
        if let Next::Verdict(verdict) = next {
            return verdict;
        }
    }
}
