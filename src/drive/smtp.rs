//! Mails in keepalived's form, sent with lettre: urgent ones first, a few at a time, retried and finally given up. If
//! very many wait, they are combined into digests. Mails about the same object keep their order.
//!
//! Each step has a time limit of its own, and the server's answers a limit on their length: a server that is slow,
//! silent, or never stops sending only delays the mails behind. Answers may contain any octets.

use core::fmt::Debug;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lettre::Address;
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::model::Mail;
use crate::status::MailText;
use crate::sys::clock::{self, LocalTime};

/// Mails of a kind that may wait; if there are more, the oldest is dropped.
const WAITING: usize = 1000;
/// Concurrent connections, while the server accepts mails.
const CONNECTIONS: usize = 4;
/// If this many mails of a kind wait, they are sent as one.
const FLOOD: usize = 10;
/// Largest number of mails in one digest.
const LONGEST_DIGEST: usize = 200;
/// Pauses between attempts. After the last one a mail is given up.
const RETRY: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(40),
];
/// A mail that waited this long behind others gets only one attempt.
const OLD: Duration = Duration::from_secs(300);
/// Largest amount a server may send over one connection, in octets.
const LONGEST_TALK: usize = 64 << 10;
/// Largest part of an answer that is logged, in octets.
const LONGEST_REASON: usize = 512;
/// keepalived truncates subject and body to these lengths, in octets.
const LONGEST_SUBJECT: usize = 255;
const LONGEST_BODY: usize = 511;

/// The settings of the mailer; they change with a reload.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `router_id`
    pub router: Box<str>,
    /// Server and addresses; if none, mails are dropped.
    pub mail: Option<Mail>,
}

/// A mail to send.
#[derive(Debug)]
pub struct Job<T> {
    /// Returned when the mail is sent or given up.
    pub tag: T,
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
    /// An address that is not allowed in an envelope.
    #[error("{0} is not a mail address")]
    Address(String),
}

impl SmtpError {
    /// Whether retrying is pointless.
    fn is_final(&self) -> bool {
        match self {
            Self::Step(_, e) => e.is_permanent(),
            Self::Address(_) => true,
            Self::Slow(..) | Self::Connect(_) => false,
        }
    }
}

/// The server's answer in a form suitable for a log line.
fn reason(error: &lettre::transport::smtp::Error) -> String {
    let mut text = error.to_string();
    let end = cut(&text, LONGEST_REASON).len();
    if end < text.len() {
        text.truncate(end);
        text.push_str("...");
    }
    text.replace(char::is_control, " ")
}

/// Mails that are sent as one.
struct Batch<T> {
    mails: Vec<Job<T>>,
    since: Instant,
    attempts: usize,
}

impl<T> Batch<T> {
    /// For messages: the subject of one, or how many.
    fn name(&self) -> String {
        match self.mails.as_slice() {
            [only] => format!("\"{}\"", only.text.subject),
            several => format!("with {} messages", several.len()),
        }
    }

    fn is_urgent(&self) -> bool {
        self.mails.iter().any(|mail| mail.text.urgent)
    }
}

/// What a mail is about: its subject without the state.
fn about(text: &MailText) -> &str {
    text.subject.rsplit_once(" - ").map_or(text.subject.as_str(), |(about, _)| about)
}

/// Waiting mails, urgent ones and others.
struct Queue<T> {
    urgent: VecDeque<Batch<T>>,
    other: VecDeque<Batch<T>>,
    dropped: u64,
    /// The subjects of mails under way.
    busy: BTreeSet<String>,
}

impl<T> Queue<T> {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.other.is_empty()
    }

    fn of(&mut self, urgent: bool) -> &mut VecDeque<Batch<T>> {
        if urgent { &mut self.urgent } else { &mut self.other }
    }

    fn add(&mut self, job: Job<T>, done: &mut impl FnMut(T)) {
        let queue = self.of(job.text.urgent);
        let full = queue.len() >= WAITING;
        let oldest = if full { queue.pop_front() } else { None };
        queue.push_back(Batch { mails: vec![job], since: Instant::now(), attempts: 0 });
        if let Some(oldest) = oldest {
            for mail in oldest.mails {
                self.dropped += 1;
                done(mail.tag);
            }
            // One log line for each would be a flood of its own.
            if self.dropped.is_power_of_two() {
                let dropped = self.dropped;
                tracing::warn!(
                    "SMTP alerts dropped, {WAITING} others are waiting: {dropped} so far"
                );
            }
        }
    }

    /// The next batch to send: urgent mails before others, a flood as one.
    fn next(&mut self) -> Option<Batch<T>> {
        let Self { urgent, other, busy, .. } = self;
        for queue in [urgent, other] {
            let free =
                |batch: &Batch<T>| batch.mails.iter().all(|mail| !busy.contains(about(&mail.text)));
            let Some(position) = queue.iter().position(free) else {
                continue;
            };
            let mut batch = queue.remove(position)?;
            if queue.len() + 1 >= FLOOD {
                let mut rest = VecDeque::new();
                for more in queue.drain(..) {
                    if batch.mails.len() < LONGEST_DIGEST && free(&more) {
                        batch.mails.extend(more.mails);
                        batch.since = batch.since.min(more.since);
                    } else {
                        rest.push_back(more);
                    }
                }
                *queue = rest;
            }
            busy.extend(batch.mails.iter().map(|mail| about(&mail.text).to_owned()));
            return Some(batch);
        }
        None
    }

    /// A batch is no longer under way.
    fn free(&mut self, batch: &Batch<T>) {
        for mail in &batch.mails {
            self.busy.remove(about(&mail.text));
        }
    }
}

/// Sends the mails from `jobs` until that is closed and everything is sent or given up, calling `done` with the tag of
/// each. Once it is closed, nothing is retried.
pub async fn run<T: Send + 'static>(
    settings: watch::Receiver<Arc<Settings>>,
    mut jobs: mpsc::UnboundedReceiver<Job<T>>,
    mut done: impl FnMut(T),
) {
    let mut queue = Queue {
        urgent: VecDeque::new(),
        other: VecDeque::new(),
        dropped: 0,
        busy: BTreeSet::new(),
    };
    let mut under_way = JoinSet::new();
    let mut open = true;
    // The server accepts no mails: one attempt at a time; when the next one is due.
    let mut trouble: Option<Instant> = None;
    loop {
        // Takes all waiting jobs, so that a flood is recognised.
        while open {
            match jobs.try_recv() {
                Ok(job) => queue.add(job, &mut done),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => open = false,
            }
        }
        if !open {
            trouble = None;
        }
        let most = if trouble.is_some() { 1 } else { CONNECTIONS };
        let due = trouble.is_none_or(|until| until <= Instant::now());
        while due
            && under_way.len() < most
            && let Some(mut batch) = queue.next()
        {
            let settings = Arc::clone(&settings.borrow());
            let Some(mail) = settings.mail.clone() else {
                queue.free(&batch);
                batch.mails.into_iter().for_each(|mail| done(mail.tag));
                continue;
            };
            batch.attempts += 1;
            let texts: Vec<&MailText> = batch.mails.iter().map(|mail| &mail.text).collect();
            let now = LocalTime::at(clock::wall());
            let message = match texts.as_slice() {
                [only] => compose(&settings.router, &mail, only, now),
                several => digest(&settings.router, &mail, several, now),
            };
            under_way.spawn(async move {
                let error = send(&mail, message.as_bytes()).await.err();
                (batch, mail.server, error)
            });
        }
        if !open && under_way.is_empty() && queue.is_empty() {
            return;
        }
        let waits = under_way.is_empty() && !queue.is_empty();
        let again = async {
            match trouble {
                Some(until) if waits => tokio::time::sleep_until(until).await,
                _ => core::future::pending().await,
            }
        };
        let ended = tokio::select! {
            Some(ended) = under_way.join_next() => ended,
            more = jobs.recv(), if open => {
                match more {
                    Some(job) => queue.add(job, &mut done),
                    None => open = false,
                }
                continue;
            }
            () = again => continue,
        };
        let Ok((batch, server, error)) = ended else {
            continue;
        };
        queue.free(&batch);
        let name = batch.name();
        let Some(error) = error else {
            trouble = None;
            tracing::debug!("SMTP alert {name} successfully sent");
            batch.mails.into_iter().for_each(|mail| done(mail.tag));
            continue;
        };
        let late = batch.since.elapsed() > OLD;
        let wait = RETRY.get(batch.attempts - 1).filter(|_| open && !error.is_final() && !late);
        let Some(wait) = wait else {
            tracing::warn!(
                "SMTP alert {name} given up after {} attempts at server {server}: {error}",
                batch.attempts
            );
            batch.mails.into_iter().for_each(|mail| done(mail.tag));
            continue;
        };
        tracing::debug!("SMTP alert {name} to server {server}: {error}; again in {wait:?}");
        trouble = Some(Instant::now() + *wait);
        queue.of(batch.is_urgent()).push_front(batch);
    }
}

/// Several mails as one.
fn digest(router: &str, mail: &Mail, texts: &[&MailText], now: LocalTime) -> String {
    let first = texts.first().map_or("", |text| text.subject.as_str());
    let subject = format!("{} alerts, the first: {first}", texts.len());
    let body: Vec<String> = texts
        .iter()
        .map(|text| {
            let line = format!("{}: {}", one_line(&text.subject), one_line(&text.body));
            cut(&line, LONGEST_SUBJECT + LONGEST_BODY).to_owned()
        })
        .collect();
    write(router, mail, &subject, &body.join("\r\n"), now)
}

/// The message as sent to the server, except for the last newline and the dot.
#[doc(hidden)]
#[must_use]
pub fn compose(router: &str, mail: &Mail, text: &MailText, now: LocalTime) -> String {
    write(router, mail, &text.subject, cut(&text.body, LONGEST_BODY), now)
}

fn write(router: &str, mail: &Mail, subject: &str, body: &str, now: LocalTime) -> String {
    let subject = format!("[{router}] {subject}");
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
        body,
    )
}

/// The text without characters that would begin another header.
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

/// The envelope address: the text between angle brackets, or all of it. Without a domain the name of this host is
/// added, as local mail servers do.
///
/// # Errors
/// If it is not allowed in an envelope.
#[doc(hidden)]
pub fn envelope(text: &str, host: &str) -> Result<Address, SmtpError> {
    let bare = match (text.rfind('<'), text.rfind('>')) {
        (Some(start), Some(end)) if start < end => text.get(start + 1..end).unwrap_or_default(),
        _ => text,
    };
    let bare = bare.trim();
    // Angle brackets end an address for servers that do not parse quotes.
    if bare.contains(|c: char| c.is_control() || matches!(c, '<' | '>')) {
        return Err(SmtpError::Address(text.into()));
    }
    let (user, domain) = bare.rsplit_once('@').unwrap_or((bare, host));
    Address::new(user, domain).map_err(|_| SmtpError::Address(text.into()))
}

/// One connection to the server.
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
    // The server has accepted or refused the mail: its answer to QUIT does not matter.
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
            // The others still get the mail if a recipient is refused permanently.
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

/// The transport of mails: TCP, or octets in memory.
trait Stream: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin + 'static {
    fn peer(&self) -> io::Result<SocketAddr>;
}

impl Stream for TcpStream {
    fn peer(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
}

/// A connection that limits the amount of received data and replaces octets that are not ASCII.
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
            return Poll::Ready(Err(io::Error::other("the server sends too much")));
        }
        let before = buffer.filled().len();
        let answer = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let new = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        // lettre requires UTF-8, which servers with messages in Latin-1 do not send. Only the status codes matter.
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

/// Whole connections with a simulated server, for fuzzers.
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;
