//! `HTTP_GET` and `SSL_GET`: requests a page and checks its status, its digest and its text.
//!
//! A check has one or more pages, each fetched on a connection of its own; the schedule decides which one is next. This
//! file builds the request, octet for octet like keepalived's, and evaluates the answer. The answer is read until the
//! status is wrong, as many octets as its header announces have arrived, or the server closes. Its length, and that of
//! its header, are limited; only the header is stored, and the part that is searched for a pattern.
//!
//! departs: keepalived requires a header below 4,096 octets with CRLF line ends, reads the rest after the result is
//! known, and waits for a server that leaves the connection open after a complete page. It reads pages of any length
//! for any time.

use core::fmt;
use core::time::Duration;

use md5::{Digest, Md5};
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use super::{Failure, Tries, Verdict};
use crate::model::Connection;
use crate::model::checker::{HttpCheck, HttpProtocol, Url};
use crate::model::pattern::{Pattern, SEARCHED};

/// Largest header, in octets.
const HEADER: usize = 16 * 1024;
/// Largest number of header fields.
const FIELDS: usize = 128;
/// Largest page, in octets.
const PAGE: u64 = 64 * 1024 * 1024;
/// An attempt may take this many times `connect_timeout`: one for the connection, one for the first octet, the rest for
/// the page.
const PHASES: u32 = 12;

/// A page to request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The connection. Its time limit applies to the connection, and again to each part of the answer.
    pub connection: Connection,
    /// TLS settings, for `SSL_GET`.
    pub tls: Option<Tls>,
    /// The request.
    pub question: Box<[u8]>,
    /// The expected answer.
    pub url: Url,
}

/// TLS settings. The server's certificate is not verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Server name in the greeting (SNI).
    pub server_name: Option<Box<str>>,
    /// Send close_notify before the connection is closed.
    pub compliant: bool,
}

impl Page {
    pub(super) fn of(check: &HttpCheck, url: &Url) -> Self {
        Self {
            connection: check.connection.clone(),
            tls: check.tls.then(|| tls(check, url)),
            question: question(check, url),
            url: url.clone(),
        }
    }

    /// The time limit of the whole attempt.
    pub(super) fn limit(&self) -> Duration {
        self.connection.timeout.saturating_mul(PHASES)
    }
}

/// The request for a page.
fn question(check: &HttpCheck, url: &Url) -> Box<[u8]> {
    let (version, close) = match check.protocol {
        HttpProtocol::V1_0 => ("1.0", ""),
        HttpProtocol::V1_0Close => ("1.0", "Connection: close\r\n"),
        HttpProtocol::V1_1 => ("1.1", "Connection: close\r\n"),
    };
    let named = url.virtualhost.as_ref().or(check.virtualhost.as_ref());
    let host = named.map_or_else(|| check.connection.to.to_string(), ToString::to_string);
    let path = &url.path;
    let text = format!(
        "GET {path} HTTP/{version}\r\nUser-Agent: KeepAliveClient\r\n{close}Host: {host}\r\n\r\n"
    );
    text.into_bytes().into()
}

fn tls(check: &HttpCheck, url: &Url) -> Tls {
    let named = || check.sni_name.as_ref().or(url.virtualhost.as_ref());
    let named = || named().or(check.virtualhost.as_ref()).cloned();
    Tls {
        server_name: check.sni.then(named).flatten(),
        compliant: url.tls_compliant.unwrap_or(check.tls_compliant),
    }
}

/// What happened on the connection after the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A part of the answer.
    Bytes(&'a [u8]),
    /// The server has closed the connection.
    End,
    /// The time limit passed.
    Silence,
    /// The request could not be sent: error number, positive.
    Unsent(i32),
    /// The connection broke: error number, positive.
    Broken(i32),
    /// TLS failed, with the library's message.
    Tls(&'a str),
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The time limit passed.
    Silence,
    /// The request could not be sent: error number, positive.
    Unsent(i32),
    /// The connection broke: error number, positive.
    Broken(i32),
    /// TLS failed, with the library's message.
    Tls(Box<str>),
    /// The connection was closed before there was a header.
    NoHeader,
    /// It is not HTTP; the reason in words.
    Malformed(Box<str>),
    /// The header is too long.
    LongHeader,
    /// The page is too long.
    LongPage,
    /// The status does not count as success.
    Status(u16),
    /// The digest of the page differs.
    Digest {
        /// MD5 of the page.
        found: [u8; 16],
        /// `digest`
        wanted: [u8; 16],
    },
    /// `regex` does not match the page, or matches although it must not.
    Pattern {
        /// `regex_no_match`
        absent: bool,
    },
    /// `regex` cannot be used, so nothing shows that the page is good.
    NoPattern,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence => f.write_str("timeout reading"),
            Self::Unsent(errno) => write!(f, "cannot send the request: {}", super::Errno(*errno)),
            Self::Broken(errno) => write!(f, "cannot read: {}", super::Errno(*errno)),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::NoHeader => f.write_str("no data received"),
            Self::Malformed(why) => write!(f, "not an HTTP answer: {why}"),
            Self::LongHeader => write!(f, "header longer than {HEADER} bytes"),
            Self::LongPage => write!(f, "page longer than {PAGE} bytes"),
            Self::Status(code) => write!(f, "status {code}"),
            Self::Digest { found, wanted } => {
                write!(f, "digest differs: {} instead of {}", hex(found), hex(wanted))
            }
            Self::Pattern { absent: false } => f.write_str("regular expression not found"),
            Self::Pattern { absent: true } => f.write_str("regular expression found"),
            Self::NoPattern => f.write_str("the regular expression cannot be used"),
        }
    }
}

impl Fault {
    /// keepalived's wording before `server`.
    const fn reason(&self, tls: bool) -> &'static str {
        match self {
            Self::Silence if tls => "Timeout SSL read",
            Self::Silence => "Timeout HTTP read",
            Self::Tls(_) => "SSL handshake/communication error connecting to",
            Self::Broken(_) if tls => "SSL read error from",
            Self::Unsent(_) => "Cannot send get request to",
            Self::Broken(_) => "Read error with",
            Self::NoHeader | Self::LongHeader | Self::LongPage => "Read, no data received from ",
            Self::Malformed(_) | Self::Status(_) => "HTTP status code error to",
            Self::Digest { .. } => "MD5 digest error to",
            Self::Pattern { .. } | Self::NoPattern => "Regex match failed",
        }
    }
}

fn hex(digest: &[u8; 16]) -> String {
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The state of one attempt after the request was sent.
#[derive(Debug)]
pub struct Http {
    url: Url,
    stage: Stage,
}

/// What an input leads to.
#[derive(Debug)]
pub enum Outcome {
    /// The end.
    Verdict(Verdict),
    /// All else is as it should be: the search decides, which may take long.
    Search(Box<Search>),
}

/// The search of a page for its pattern.
#[derive(Debug)]
pub struct Search {
    pub pattern: Pattern,
    path: Box<str>,
    text: Vec<u8>,
}

impl Search {
    /// Searches with the compiled pattern. A page whose pattern could not be compiled, which was reported when the
    /// configuration was read, fails.
    #[must_use]
    pub fn verdict(self, regex: Option<&Regex>) -> Verdict {
        let absent = self.pattern.absent;
        let fault = match regex {
            None => Fault::NoPattern,
            Some(regex) if self.pattern.is_in(regex, &self.text) == absent => {
                Fault::Pattern { absent }
            }
            Some(_) => return Verdict::SUCCESS,
        };
        Verdict::Failure(Failure::Page { path: self.path, fault })
    }
}

#[derive(Debug)]
enum Stage {
    /// The header, octets so far.
    Header(Vec<u8>),
    Page {
        /// Digest of the octets so far, if one is wanted.
        digest: Option<Md5>,
        so_far: u64,
        /// The octets to search for the pattern.
        text: Vec<u8>,
        /// Length that the header announces.
        length: Option<u64>,
    },
}

impl Http {
    /// An attempt at a page.
    #[must_use]
    pub const fn new(url: Url) -> Self {
        Self { url, stage: Stage::Header(Vec::new()) }
    }

    /// Processes an input; returns the outcome once there is one, after which it must not be called again.
    #[must_use]
    pub fn step(&mut self, heard: Heard<'_>) -> Option<Outcome> {
        match self.take(heard) {
            Ok(None) => None,
            Ok(Some(())) => {
                Some(self.searched().map_or(Outcome::Verdict(Verdict::SUCCESS), |search| {
                    Outcome::Search(Box::new(search))
                }))
            }
            Err(fault) => Some(Outcome::Verdict(self.failure(fault))),
        }
    }

    /// The verdict on an attempt that something ends before the page.
    #[must_use]
    pub fn ended(&mut self, heard: Heard<'_>) -> Verdict {
        match self.take(heard) {
            Err(fault) => self.failure(fault),
            Ok(_) => Verdict::Failure(Failure::Timeout),
        }
    }

    fn failure(&self, fault: Fault) -> Verdict {
        Verdict::Failure(Failure::Page { path: self.url.path.clone(), fault })
    }

    /// The search of the page that has been read, if it has a pattern.
    fn searched(&mut self) -> Option<Search> {
        let pattern = *self.url.pattern.take()?;
        let text = match &mut self.stage {
            Stage::Page { text, .. } => core::mem::take(text),
            Stage::Header(_) => Vec::new(),
        };
        Some(Search { pattern, path: self.url.path.clone(), text })
    }

    fn take(&mut self, heard: Heard<'_>) -> Result<Option<()>, Fault> {
        let bytes = match heard {
            Heard::Bytes(bytes) => bytes,
            Heard::End => return self.finish().map(Some),
            Heard::Silence => return Err(Fault::Silence),
            Heard::Unsent(errno) => return Err(Fault::Unsent(errno)),
            Heard::Broken(errno) => return Err(Fault::Broken(errno)),
            Heard::Tls(why) => return Err(Fault::Tls(why.into())),
        };
        match &mut self.stage {
            Stage::Header(so_far) => {
                let room = HEADER - so_far.len();
                let (now, rest) = bytes.split_at(bytes.len().min(room));
                // Searches from where the end may have begun: earlier octets do not contain it.
                let from = so_far.len().saturating_sub(3);
                so_far.extend_from_slice(now);
                let header = if has_end(so_far.get(from..).unwrap_or_default()) {
                    header(so_far)?
                } else {
                    None
                };
                let Some(header) = header else {
                    return if so_far.len() >= HEADER { Err(Fault::LongHeader) } else { Ok(None) };
                };
                let page = so_far.split_off(header.end);
                let wanted = self.url.status.iter();
                if !wanted.clone().any(|(low, high)| (*low..=*high).contains(&header.status)) {
                    return Err(Fault::Status(header.status));
                }
                let digest = self.url.digest.map(|_| Md5::new());
                let (so_far, text) = (0, Vec::new());
                self.stage = Stage::Page { digest, so_far, text, length: header.length };
                match self.page(&page)? {
                    None => self.page(rest),
                    done => Ok(done),
                }
            }
            Stage::Page { .. } => self.page(bytes),
        }
    }

    /// Processes octets of the page.
    fn page(&mut self, bytes: &[u8]) -> Result<Option<()>, Fault> {
        let Stage::Page { digest, so_far, text, length } = &mut self.stage else {
            return Ok(None);
        };
        let left = length.map_or(u64::MAX, |length| length - *so_far);
        let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if let Some(pattern) = &self.url.pattern {
            // Starts one octet before the first possible position of a match.
            let skip = pattern.min_offset.saturating_sub(1).saturating_sub(*so_far);
            let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(count);
            let room = SEARCHED - text.len();
            text.extend(bytes.get(skip..count).unwrap_or_default().iter().take(room));
        }
        *so_far += count as u64;
        if let Some(digest) = digest {
            digest.update(bytes.get(..count).unwrap_or_default());
        }
        if *length == Some(*so_far) {
            return self.finish().map(Some);
        }
        if *so_far > PAGE { Err(Fault::LongPage) } else { Ok(None) }
    }

    /// Evaluates the page after its end, but for the search.
    fn finish(&mut self) -> Result<(), Fault> {
        let Stage::Page { digest, .. } = &mut self.stage else {
            return Err(Fault::NoHeader);
        };
        let found = digest.take().map(|digest| digest.finalize().into());
        if let (Some(wanted), Some(found)) = (self.url.digest, found)
            && wanted != found
        {
            return Err(Fault::Digest { found, wanted });
        }
        Ok(())
    }
}

/// Whether an empty line ends in these octets.
fn has_end(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| {
        let after = bytes.get(at + 1..).unwrap_or_default();
        after.starts_with(b"\n") || after.starts_with(b"\r\n")
    })
}

struct Header {
    status: u16,
    /// `Content-Length`, if it gives the length of the page.
    length: Option<u64>,
    /// Length of the header in octets.
    end: usize,
}

/// Reads a header; none if it is not complete.
fn header(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = httparse::ParserConfig::default()
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_responses(true)
        .parse_response(&mut response, bytes);
    let end = match parsed {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Fault::Malformed(error.to_string().into())),
    };
    let value = |name: &str| {
        let mut fields = response.headers.iter();
        fields.find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    // RFC 9112 6.3: chunked, regardless of `Content-Length`.
    let length = match value("Transfer-Encoding") {
        Some(_) => None,
        None => value("Content-Length")
            .and_then(|text| core::str::from_utf8(text).ok()?.trim().parse().ok()),
    };
    Ok(Some(Header { status: response.code.unwrap_or(0), length, end }))
}

/// The first word of the log lines about a check.
const fn word(check: &HttpCheck) -> &'static str {
    if check.tls { "SSL_CHECK" } else { "HTTP_CHECK" }
}

pub(super) fn success_line(server: &str) -> String {
    format!("Remote Web server {server} succeed on service.")
}

/// The log line of a good page of a check that is down.
pub(super) fn page_line(url: &Url, server: &str) -> String {
    let what = match (&url.pattern, &url.digest) {
        (Some(_), _) => "Regex match",
        (None, Some(_)) => "MD5 digest",
        (None, None) => "HTTP status code",
    };
    format!("{what} success to {server} url({})", url.path)
}

pub(super) fn failure_line(
    check: &HttpCheck,
    server: &str,
    failure: &Failure,
    tries: Tries,
) -> String {
    let word = word(check);
    match tries.all {
        0 => format!("{word} on service {server} failed ({failure})."),
        n => format!("{word} on service {server} failed after {n} retries ({failure})."),
    }
}

pub(super) fn attempt_line(check: &HttpCheck, server: &str, failure: &Failure) -> String {
    /// ENETUNREACH
    const UNREACHABLE: i32 = 101;
    let reason = match failure {
        Failure::Page { fault, .. } => fault.reason(check.tls),
        Failure::Timeout => "Timeout connecting",
        Failure::Connection(UNREACHABLE) if check.tls => "SSL_CHECK - network unreachable",
        Failure::Connection(UNREACHABLE) => "HTTP_CHECK - network unreachable",
        _ => "Error connecting",
    };
    format!("{reason} server {server}.")
}

pub(super) const fn mail_body(last: Option<&Verdict>) -> &'static str {
    match last {
        Some(Verdict::Success(_)) => "=> CHECK succeed on service <=",
        _ => "=> CHECK failed on service : HTTP/SSL request failed <=",
    }
}

#[cfg(test)]
mod tests;
