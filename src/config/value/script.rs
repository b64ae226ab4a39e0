//! Commands with the account that runs them.

use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::document::script_text;
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::secret::mark;
use crate::config::span::{Span, Spanned};
use crate::config::value::text::{text_at, text_of};
use crate::config::words::split_script;

/// A command as configured; it is checked against the machine when it is used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Script {
    /// The program and its arguments, at least one word.
    pub words: Vec<Box<[u8]>>,
    /// The account after the command.
    pub account: Option<Account>,
    /// The place of the command.
    pub at: Span2,
}

/// A place that comparisons ignore.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span2(pub Span);

impl PartialEq for Span2 {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// An optional command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OptionalScript(pub Option<Script>);

/// A user with an optional group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Account {
    pub user: Spanned<Box<str>>,
    pub group: Option<Spanned<Box<str>>>,
}

impl Account {
    /// The account on this machine. Reports a user or group that does not exist, counted as `class`.
    pub(crate) fn find(&self, class: Class, cx: &mut Cx<'_>) -> Option<Found> {
        let unknown = |what: &str, name: &str, at: Span, cx: &mut Cx<'_>| {
            let message = format!("{what} '{}' does not exist", mark::text(name, at));
            cx.report(Diagnostic::environment(&codes::NO_USER, message).at(at).class(class));
        };
        let name = &self.user.value;
        let Some(user) = cx.host.user(name) else {
            unknown("user", name, self.user.span, cx);
            return None;
        };
        let mut found =
            Found { uid: user.uid, gid: user.gid, further: user.groups, all_groups: false };
        if let Some(group) = &self.group {
            // A leading colon requests the supplementary groups of the user.
            let name = match group.value.strip_prefix(':') {
                Some(name) => {
                    found.all_groups = true;
                    name
                }
                None => &*group.value,
            };
            if !name.is_empty() {
                let Some(gid) = cx.host.group(name) else {
                    unknown("group", name, group.span, cx);
                    return None;
                };
                found.gid = gid;
            }
        }
        Some(found)
    }
}

/// An account of this machine.
#[derive(Debug)]
pub(crate) struct Found {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups of the user.
    pub further: Vec<u32>,
    /// The supplementary groups are requested.
    pub all_groups: bool,
}

/// A path with the account that owns it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fifo {
    pub path: Box<[u8]>,
    pub account: Option<Account>,
}

const FORM: &str = "a command, in quotes if it has arguments, with an optional user and group";

impl Value for Script {
    fn shape() -> Shape {
        Shape::Words(FORM.into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let script = command(args, cx)?;
        if script.is_none() {
            args.report_missing(cx);
        }
        script
    }

    fn words(&self, out: &mut Words) {
        out.0.push(script_text(&self.words));
        if let Some(account) = &self.account {
            account.words(out);
        }
    }
}

impl Value for OptionalScript {
    fn shape() -> Shape {
        Shape::Words(format!("nothing, or {FORM}"))
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        command(args, cx).map(Self)
    }

    fn words(&self, out: &mut Words) {
        if let Some(script) = &self.0 {
            script.words(out);
        }
    }
}

/// Reads the line of a script keyword: none if it is malformed, `Some(None)` if there is no command.
fn command(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Option<Script>> {
    args.finish();
    let statement = args.statement;
    let raw = statement.raw();
    let line = match split_script(raw) {
        Ok(line) => line,
        Err(open) => {
            // The reader does not know how the line is split.
            if let Some(last) = cx.reports.last_mut()
                && *last.code == codes::MISSING_QUOTE
            {
                last.hidden = true;
            }
            cx.report(
                Diagnostic::error(&codes::SCRIPT_TEXT, "missing closing quote in a command")
                    .at(statement.raw_span(open.0, open.0 + 1))
                    .label("this quote is not closed on its line; the line is ignored"),
            );
            return None;
        }
    };
    let place = |i: usize| line.get(i).map(|w| statement.raw_span(w.start, w.end));
    let word = |i: usize, cx: &mut Cx<'_>| {
        let (word, at) = (line.get(i)?, place(i)?);
        Some(Spanned::new(text_at(&word.bytes, at, cx), at))
    };
    let Some(text) = line.get(1) else {
        return Some(None);
    };
    let at = place(1).unwrap_or(Span::NONE);
    let words = match split_script(&text.bytes) {
        Ok(words) => words,
        Err(_) => {
            let message = format!(
                "missing closing quote in command '{}'",
                mark::text(&String::from_utf8_lossy(&text.bytes), at)
            );
            cx.report(
                Diagnostic::error(&codes::SCRIPT_TEXT, message)
                    .at(at)
                    .label("the command is split into words, and a quote in it is not closed"),
            );
            return None;
        }
    };
    if words.is_empty() {
        return Some(None);
    }
    let account = word(2, cx).map(|user| Account { user, group: word(3, cx) });
    Some(Some(Script {
        words: words.into_iter().map(|w| w.bytes.into()).collect(),
        account,
        at: Span2(at),
    }))
}

impl Value for Account {
    fn shape() -> Shape {
        Shape::Words("a user and an optional group".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let user = args.need(cx)?;
        let group = args.next();
        Some(Self {
            user: Spanned::new(text_of(&user, cx), user.span()),
            group: group.map(|g| Spanned::new(text_of(&g, cx), g.span())),
        })
    }

    fn words(&self, out: &mut Words) {
        out.push(self.user.value.as_bytes());
        if let Some(group) = &self.group {
            out.push(group.value.as_bytes());
        }
    }
}

impl Value for Fifo {
    fn shape() -> Shape {
        Shape::Words("a path, with an optional user and group".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let path = args.need(cx)?.bytes.into();
        let account = match args.peek() {
            Some(_) => Account::read(args, cx),
            None => None,
        };
        Some(Self { path, account })
    }

    fn words(&self, out: &mut Words) {
        out.push(&self.path);
        if let Some(account) = &self.account {
            account.words(out);
        }
    }
}
