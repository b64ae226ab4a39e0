//! Requests of the control socket: one line of JSON, checked. Pure.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::SCHEMA;
use crate::base::near::nearest;
use crate::status::Ask;

/// The longest request in octets, without its newline.
pub const LONGEST: usize = 4096;

/// A request, valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Repeated in the answer.
    pub id: Option<u64>,
    /// What is requested.
    pub what: What,
}

/// What can be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A report.
    Report(Ask),
    /// The versions of the daemon and of the protocol.
    Version,
}

impl What {
    /// Everything that can be requested.
    pub const ALL: [Self; 4] = [
        Self::Report(Ask::State),
        Self::Report(Ask::Peers),
        Self::Report(Ask::Causes),
        Self::Version,
    ];

    /// Its name in requests.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Report(ask) => report_word(ask),
            Self::Version => "version",
        }
    }
}

/// The name of a report, in its request and in the answer.
#[must_use]
pub const fn report_word(ask: Ask) -> &'static str {
    match ask {
        Ask::State => "status",
        Ask::Peers => "peers",
        Ask::Causes => "why",
    }
}

/// An invalid request, as reported to its sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// What is wrong, for people.
    pub message: String,
    /// The octet of the line where it is, from 1; none if there is no particular one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The field that is wrong, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Wrong {
    /// An error without a position.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), column: None, field: None }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.column {
            Some(column) => write!(f, " (column {column})"),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<u64>,
    request: String,
}

/// Reads one line, without its newline.
///
/// # Errors
/// What is wrong with it, and its id if that could be read.
pub fn parse(line: &[u8]) -> Result<Request, (Option<u64>, Wrong)> {
    if line.len() > LONGEST {
        let message = format!("a request has at most {LONGEST} octets");
        return Err((None, Wrong { column: Some(LONGEST + 1), ..Wrong::new(message) }));
    }
    // The reader below would accept an array.
    let start = line.iter().position(|octet| !octet.is_ascii_whitespace()).unwrap_or(line.len());
    if line.get(start) != Some(&b'{') {
        let message = "a request is a JSON object, such as {\"request\":\"status\"}";
        return Err((None, Wrong { column: Some(start + 1), ..Wrong::new(message) }));
    }
    let Line { id, request } =
        serde_json::from_slice(line).map_err(|e| (id_of(line), syntax(&e)))?;
    let what = What::ALL.into_iter().find(|what| what.word() == request);
    what.map(|what| Request { id, what }).ok_or_else(|| (id, unknown(line, &request)))
}

fn id_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(line).ok()?.get("id")?.as_u64()
}

fn syntax(error: &serde_json::Error) -> Wrong {
    let whole = error.to_string();
    let message = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(text, _)| text);
    // Names of fields come from the client.
    let field = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next())
        .map(cut);
    Wrong { message: cut(message), column: Some(error.column().max(1)), field }
}

fn unknown(line: &[u8], name: &str) -> Wrong {
    let words = || What::ALL.iter().map(|what| what.word());
    let name = cut(name);
    let hint = match nearest(&name, words()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are: {}", words().collect::<Vec<_>>().join(", ")),
    };
    let quoted = format!("\"{name}\"");
    let column = line.windows(quoted.len()).position(|part| part == quoted.as_bytes());
    Wrong {
        message: format!("unknown request '{name}', {hint}"),
        column: column.map(|at| at + 1),
        field: Some("request".into()),
    }
}

/// At most 200 characters, so that an answer is never much longer than its request.
fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The line that answers a request with an error.
#[must_use]
pub fn refusal(id: Option<u64>, error: &Wrong) -> String {
    #[derive(Serialize)]
    struct Refusal<'a> {
        schema: u32,
        id: Option<u64>,
        error: &'a Wrong,
    }
    line(&Refusal { schema: SCHEMA, id, error })
}

/// The line that answers `version`.
#[must_use]
pub fn version(id: Option<u64>) -> String {
    #[derive(Serialize)]
    struct Version {
        schema: u32,
        id: Option<u64>,
        version: &'static str,
    }
    line(&Version { schema: SCHEMA, id, version: env!("CARGO_PKG_VERSION") })
}

/// The beginning of the line that answers a request for a report; the report, `}` and a newline follow.
#[must_use]
pub fn head(id: Option<u64>, ask: Ask) -> String {
    let id = id.map_or_else(|| "null".into(), |id| id.to_string());
    format!("{{\"schema\":{SCHEMA},\"id\":{id},\"{}\":", report_word(ask))
}

fn line(value: &impl Serialize) -> String {
    // Plain structures of numbers and text are always JSON.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> (Option<u64>, Wrong) {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn requests_are_read() {
        let status = parse(br#"{"id":7,"request":"status"}"#);
        assert_eq!(status, Ok(Request { id: Some(7), what: What::Report(Ask::State) }));
        let version = parse(br#" {"request": "version"} "#);
        assert_eq!(version, Ok(Request { id: None, what: What::Version }));
        for what in What::ALL {
            let line = format!("{{\"id\":0,\"request\":\"{}\"}}", what.word());
            assert_eq!(parse(line.as_bytes()), Ok(Request { id: Some(0), what }));
        }
    }

    #[test]
    fn a_wrong_one_is_told_where_and_what() {
        let (id, wrong) = refused(r#"{"id":1,"request":"statsu"}"#);
        assert_eq!(id, Some(1));
        assert_eq!(wrong.message, "unknown request 'statsu', did you mean 'status'?");
        assert_eq!((wrong.column, wrong.field.as_deref()), (Some(19), Some("request")));
        let (_, wrong) = refused(r#"{"request":"x"}"#);
        assert_eq!(wrong.message, "unknown request 'x', there are: status, peers, why, version");
        let (id, wrong) = refused(r#"{"id":2,"reqest":"status"}"#);
        assert_eq!((id, wrong.field.as_deref()), (Some(2), Some("reqest")));
        assert_eq!(wrong.column, Some(16));
        let (id, wrong) = refused(r#"{"id":3}"#);
        assert_eq!((id, wrong.field.as_deref()), (Some(3), Some("request")));
        let (id, wrong) = refused(r#"{"id":-1,"request":"status"}"#);
        assert_eq!((id, wrong.column), (None, Some(8)));
        for (bad, column) in
            [("", 1), ("x", 1), ("{", 1), (" [1,\"status\"]", 2), ("{\"id\":1,}", 9)]
        {
            let (_, wrong) = refused(bad);
            assert!(!wrong.message.is_empty() && !wrong.message.contains(" at line "), "{bad}");
            assert_eq!(wrong.column, Some(column), "{bad}");
        }
        let long = format!("{{\"request\":\"{}\"}}", "x".repeat(LONGEST));
        assert_eq!(refused(&long).1.column, Some(LONGEST + 1));
        assert!(refused(&format!("{{\"{}\":1}}", "y".repeat(4000))).1.message.len() < 300);
    }

    #[test]
    fn answers_are_lines_of_json() {
        let text = refusal(Some(1), &Wrong::new("a\n\"b\""));
        assert_eq!(text, "{\"schema\":1,\"id\":1,\"error\":{\"message\":\"a\\n\\\"b\\\"\"}}\n");
        let text = version(None);
        assert!(
            text.starts_with("{\"schema\":1,\"id\":null,\"version\":\"") && text.ends_with("\"}\n")
        );
        let text = head(Some(u64::MAX), Ask::Peers) + "{}}";
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    proptest! {
        #[test]
        fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Err((id, wrong)) = parse(&line) {
                let text = refusal(id, &wrong);
                prop_assert_eq!(text.matches('\n').count(), 1);
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
        }
    }
}
