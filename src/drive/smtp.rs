//! Mails in keepalived's form, sent with lettre: one after the other, tried again, given up in the end.
//!
//! Each step has a time limit of its own, and the server's answers a limit on their length: a server that is slow,
//! says nothing, or never stops talking holds up nothing but the mails behind. Answers are octets of any kind.

use core::fmt::Debug;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lettre::Address;
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::model::Mail;
use crate::status::MailText;
use crate::sys::clock::{self, LocalTime};

/// Mails that may wait; beyond that the oldest is dropped.
const WAITING: usize = 100;
/// Times from one attempt to the next. After the last one a mail is given up.
const RETRY: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(40),
];
/// A mail that waited this long behind others gets one attempt.
const OLD: Duration = Duration::from_secs(300);
/// What a server may say in one conversation, in octets.
const LONGEST_TALK: usize = 64 << 10;
/// How much of an answer goes into the log, in octets.
const LONGEST_REASON: usize = 512;
/// keepalived cuts subject and body at these lengths, in octets.
const LONGEST_SUBJECT: usize = 255;
const LONGEST_BODY: usize = 511;

/// What the mailer needs to know; changes with a reload.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `router_id`
    pub router: Box<str>,
    /// Server and addresses; none: mails are dropped.
    pub mail: Option<Mail>,
}

/// A mail to be sent.
#[derive(Debug)]
pub struct Job<T> {
    /// Given back when the mail is sent or given up.
    pub tag: T,
    /// What to say.
    pub text: MailText,
}

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// A step took too long.
    #[error("{0} took longer than {1:?}")]
    Slow(&'static str, Duration),
    /// The server cannot be reached.
    #[error("connecting: {0}")]
    Connect(#[source] io::Error),
    /// The server refused a step or broke off.
    #[error("{0}: {reason}", reason = reason(.1))]
    Step(&'static str, #[source] lettre::transport::smtp::Error),
    /// An address that cannot stand in an envelope.
    #[error("{0} is no mail address")]
    Address(String),
}

impl SmtpError {
    /// Whether trying again is of no use.
    fn is_final(&self) -> bool {
        match self {
            Self::Step(_, e) => e.is_permanent(),
            Self::Address(_) => true,
            Self::Slow(..) | Self::Connect(_) => false,
        }
    }
}

/// The server's answer as it can stand in a line of the log.
fn reason(error: &lettre::transport::smtp::Error) -> String {
    let mut text = error.to_string();
    let end = cut(&text, LONGEST_REASON).len();
    if end < text.len() {
        text.truncate(end);
        text.push_str("...");
    }
    text.replace(char::is_control, " ")
}

struct Waiting<T> {
    job: Job<T>,
    since: Instant,
    attempts: usize,
}

/// Sends what comes through `jobs` until that is closed and everything is sent or given up, calling `done` with
/// the tag of each. Once it is closed nothing is tried again.
pub async fn run<T>(
    settings: watch::Receiver<Arc<Settings>>,
    mut jobs: mpsc::UnboundedReceiver<Job<T>>,
    mut done: impl FnMut(T),
) {
    let mut queue: VecDeque<Waiting<T>> = VecDeque::new();
    let mut open = true;
    loop {
        if queue.is_empty() {
            match jobs.recv().await {
                Some(job) => add(&mut queue, job, &mut done),
                None => return,
            }
        }
        while let Ok(job) = jobs.try_recv() {
            add(&mut queue, job, &mut done);
        }
        let Some(mut first) = queue.pop_front() else {
            continue;
        };
        let now = Arc::clone(&settings.borrow());
        let Some(mail) = &now.mail else {
            done(first.job.tag);
            continue;
        };
        first.attempts += 1;
        let message = compose(&now.router, mail, &first.job.text, LocalTime::at(clock::wall()));
        let error = {
            let attempt = send(mail, message.as_bytes());
            tokio::pin!(attempt);
            loop {
                tokio::select! {
                    result = &mut attempt => break result.err(),
                    more = jobs.recv(), if open => match more {
                        Some(job) => add(&mut queue, job, &mut done),
                        None => open = false,
                    },
                }
            }
        };
        let server = &mail.server;
        let subject = &first.job.text.subject;
        let Some(error) = error else {
            tracing::debug!("SMTP alert successfully sent: {subject}");
            done(first.job.tag);
            continue;
        };
        let late = first.since.elapsed() > OLD;
        let wait = RETRY.get(first.attempts - 1).filter(|_| open && !error.is_final() && !late);
        let Some(wait) = wait else {
            tracing::warn!(
                "SMTP alert \"{subject}\" given up after {} attempts at server {server}: {error}",
                first.attempts
            );
            done(first.job.tag);
            continue;
        };
        tracing::debug!("SMTP alert \"{subject}\" to server {server}: {error}; again in {wait:?}");
        queue.push_front(first);
        let again = tokio::time::sleep(*wait);
        tokio::pin!(again);
        while open {
            tokio::select! {
                () = &mut again => break,
                more = jobs.recv() => match more {
                    Some(job) => add(&mut queue, job, &mut done),
                    None => open = false,
                },
            }
        }
    }
}

fn add<T>(queue: &mut VecDeque<Waiting<T>>, job: Job<T>, done: &mut impl FnMut(T)) {
    if queue.len() >= WAITING
        && let Some(oldest) = queue.pop_front()
    {
        tracing::warn!(
            "SMTP alert \"{}\" dropped: {WAITING} others wait for the server",
            oldest.job.text.subject
        );
        done(oldest.job.tag);
    }
    queue.push_back(Waiting { job, since: Instant::now(), attempts: 0 });
}

/// The message as it goes to the server, but for the last line end and the dot.
#[doc(hidden)]
#[must_use]
pub fn compose(router: &str, mail: &Mail, text: &MailText, now: LocalTime) -> String {
    let subject = format!("[{router}] {}", text.subject);
    let to = mail.to.iter().map(|a| one_line(a)).collect::<Vec<_>>().join(",\r\n ");
    let (sign, offset) = if now.offset < 0 { ('-', -now.offset) } else { ('+', now.offset) };
    format!(
        "Date: {}, {:02} {} {} {:02}:{:02}:{:02} {sign}{:02}{:02}\r\n\
         From: {}\r\n\
         Subject: {}\r\n\
         X-Mailer: Keepalived\r\n\
         To: {to}\r\n\
         \r\n\
         {}\r\n",
        now.day_name(),
        now.day,
        now.month_name(),
        now.year,
        now.hour,
        now.minute,
        now.second,
        offset / 60,
        offset % 60,
        one_line(&mail.from),
        cut(&one_line(&subject), LONGEST_SUBJECT),
        cut(&text.body, LONGEST_BODY),
    )
}

/// Without what would begin another header.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

fn cut(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The address of an envelope: what stands between angle brackets, or all of it. Without a domain the name of
/// this host is added, as local mail servers do.
///
/// # Errors
/// When it cannot stand in an envelope.
#[doc(hidden)]
pub fn envelope(text: &str, host: &str) -> Result<Address, SmtpError> {
    let bare = match (text.rfind('<'), text.rfind('>')) {
        (Some(start), Some(end)) if start < end => text.get(start + 1..end).unwrap_or_default(),
        _ => text,
    };
    let bare = bare.trim();
    // Angle brackets end an address for servers that do not look for quotes.
    if bare.contains(|c: char| c.is_control() || matches!(c, '<' | '>')) {
        return Err(SmtpError::Address(text.into()));
    }
    let (user, domain) = bare.rsplit_once('@').unwrap_or((bare, host));
    Address::new(user, domain).map_err(|_| SmtpError::Address(text.into()))
}

/// One conversation with the server.
async fn send(mail: &Mail, message: &[u8]) -> Result<(), SmtpError> {
    let from = envelope(&mail.from, &mail.helo)?;
    let connection = connect(mail).await?;
    talk(connection, mail, from, message).await
}

/// From the greeting to the end.
async fn talk<S: Stream>(
    stream: S,
    mail: &Mail,
    from: Address,
    message: &[u8],
) -> Result<(), SmtpError> {
    let limit = mail.timeout;
    let stream = Box::new(Limited { stream, left: LONGEST_TALK });
    let name = ClientId::Domain(mail.helo.to_string());
    let greeting = AsyncSmtpConnection::connect_with_transport(stream, &name);
    let mut connection = match timeout(limit, greeting).await {
        Ok(result) => result.map_err(|e| SmtpError::Step("greeting", e))?,
        Err(_) => return Err(SmtpError::Slow("greeting", limit)),
    };
    let outcome = converse(&mut connection, mail, from, message).await;
    // The server has taken the mail or refused it: what it says to the end does not matter.
    let _ = timeout(limit.min(Duration::from_secs(2)), connection.quit()).await;
    outcome
}

async fn converse(
    connection: &mut AsyncSmtpConnection,
    mail: &Mail,
    from: Address,
    message: &[u8],
) -> Result<(), SmtpError> {
    let limit = mail.timeout;
    let eight_bits =
        !message.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime);
    let parameters = if eight_bits {
        vec![MailParameter::Body(MailBodyParameter::EightBitMime)]
    } else {
        Vec::new()
    };
    step("MAIL FROM", limit, connection.command(MailFrom::new(Some(from), parameters))).await?;
    let (mut taken, mut refused) = (0, None);
    for to in &mail.to {
        let outcome = match envelope(to, &mail.helo) {
            Ok(to) => step("RCPT TO", limit, connection.command(Rcpt::new(to, Vec::new()))).await,
            Err(e) => Err(e),
        };
        match outcome {
            Ok(()) => taken += 1,
            // A recipient that is refused for good does not take the mail from the others.
            Err(e) if e.is_final() => refused = Some((to, e)),
            Err(e) => return Err(e),
        }
    }
    if let Some((to, e)) = refused {
        if taken == 0 {
            return Err(e);
        }
        tracing::warn!("SMTP alert not sent to {to}: {e}");
    }
    step("DATA", limit, connection.command(Data)).await?;
    step("message", limit, connection.message(message)).await
}

async fn step<R>(
    name: &'static str,
    limit: Duration,
    future: impl Future<Output = Result<R, lettre::transport::smtp::Error>>,
) -> Result<(), SmtpError> {
    match timeout(limit, future).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(SmtpError::Step(name, e)),
        Err(_) => Err(SmtpError::Slow(name, limit)),
    }
}

/// Finds the server and connects to it.
async fn connect(mail: &Mail) -> Result<TcpStream, SmtpError> {
    let limit = mail.timeout;
    let name = mail.server.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<SocketAddr> = match name.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, mail.port)],
        Err(_) => timeout(limit, tokio::net::lookup_host((name, mail.port)))
            .await
            .map_err(|_| SmtpError::Slow("looking up the server", limit))?
            .map_err(SmtpError::Connect)?
            .collect(),
    };
    let mut last = SmtpError::Connect(io::ErrorKind::NotFound.into());
    for address in found {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => last = SmtpError::Connect(e),
            Err(_) => last = SmtpError::Slow("connecting", limit),
        }
    }
    Err(last)
}

/// What mails are sent through: TCP, or octets in memory.
trait Stream: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin + 'static {
    fn peer(&self) -> io::Result<SocketAddr>;
}

impl Stream for TcpStream {
    fn peer(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
}

/// A connection on which the other end may say so much and no more, and nothing that is not ASCII.
#[derive(Debug)]
struct Limited<S> {
    stream: S,
    left: usize,
}

impl<S: Stream> AsyncTokioStream for Limited<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer()
    }
}

impl<S: Stream> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the server does not stop talking")));
        }
        let before = buffer.filled().len();
        let answer = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let new = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        // lettre wants UTF-8, which servers with messages in Latin-1 do not send. Only the numbers matter.
        for octet in new.iter_mut().filter(|octet| !octet.is_ascii()) {
            *octet = b'?';
        }
        self.left = self.left.saturating_sub(new.len());
        answer
    }
}

impl<S: Stream> AsyncWrite for Limited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whole conversations with a server that is not there, for fuzzers.
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;
