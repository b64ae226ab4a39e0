//! Includes: `include`, `includer`, `includem`, `includew`, `includeb`, `includea`.

use std::rc::Rc;
use std::sync::Arc;

use super::define::starts_with_word;
use super::{Cx, Expander, FileFrame, Frame, Text, Trim};
use crate::config::checks::Checks;
use crate::config::codes;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::host::FileKind;
use crate::config::source::{
    ReadError, absolute, alternatives, directory_of, has_wildcard, matches,
};
use crate::config::span::{Span, Unit, u32_of};

/// Opening a file again costs about as much as reading this many bytes.
const OPENING: usize = 512;
/// A byte order mark.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Where the pattern of an include begins; none if the line is not an include.
pub(crate) fn pattern_at(line: &[u8]) -> Option<usize> {
    let rest = line.strip_prefix(b"include")?;
    let letter = usize::from(matches!(rest.first(), Some(b'r' | b'm' | b'w' | b'b' | b'a')));
    let head = line.get(..b"include".len() + letter)?;
    starts_with_word(line, head).then_some(head.len())
}

impl Expander {
    /// Opens the main file, or all files that match if the name is a pattern.
    pub(super) fn open_main(&mut self, cx: &mut Cx<'_>) {
        let pattern = cx.options.file.clone();
        let directory = cx.files.current_directory();
        let limit = cx.options.limits.files;
        let (mut found, mut unknown) = (Vec::new(), None);
        for choice in alternatives(&pattern, limit) {
            let more = matches(cx.files, &directory, &choice);
            found.extend(more.names);
            unknown = unknown.or(more.unknown);
        }
        let shown = String::from_utf8_lossy(&pattern).into_owned();
        if let Some((_, reason)) = unknown {
            // Not even a part of it is used.
            let message = format!("configuration file '{shown}' cannot be read: {reason}");
            refuse_main(cx, message, true);
            return;
        }
        if found.is_empty() {
            refuse_main(cx, format!("configuration file '{shown}' does not exist"), false);
            return;
        }
        if found.len() > 1 {
            cx.report(Diagnostic::warning(
                &codes::SEVERAL_FILES,
                format!("'{shown}' matches {} files, all are read", found.len()),
            ));
        }
        self.frames.push(Frame::Files(Pending {
            paths: found.into_iter(),
            directory: directory.into(),
            site: Span::NONE,
            checks: Checks::default(),
        }));
    }

    /// Carries out an include. The line is `include... PATTERN`, `site` its keyword.
    pub(super) fn include(&mut self, cx: &mut Cx<'_>, line: &Text, site: Span) {
        let keyword_len = pattern_at(&line.bytes).unwrap_or(0);
        let letter = (keyword_len > b"include".len())
            .then(|| line.bytes.get(keyword_len - 1).copied())
            .flatten();
        let checks = Checks::of_letter(letter).or(cx.include_checks);
        let pattern =
            line.bytes.get(keyword_len..).unwrap_or_default().trim_ascii_start_vt().to_vec();
        let whole = line.span(line.bytes.len() - pattern.len(), line.bytes.len());
        let whole = if whole.is_some() { whole } else { site };
        if self.frames.len() > cx.options.limits.depth {
            cx.report(
                Diagnostic::error(
                    &codes::LIMIT,
                    format!("includes nest deeper than {}", cx.options.limits.depth),
                )
                .at(whole)
                .label("this include is ignored")
                .class(Class::Include),
            );
            return;
        }
        let directory = match self.current_file() {
            Some(file) => Rc::clone(&file.directory),
            None => cx.files.current_directory().into(),
        };
        let choices = alternatives(&pattern, cx.options.limits.files);
        // The first is free: every file has its includes.
        let more = choices.iter().skip(1).map(Vec::len).sum();
        self.account(cx, more, whole);
        if self.exhausted {
            return;
        }
        let mut paths = Vec::new();
        let mut failed = false;
        for choice in &choices {
            let found = matches(cx.files, &directory, choice);
            if let Some((path, reason)) = found.unknown {
                let name = String::from_utf8_lossy(choice);
                let reason = if path == *choice {
                    reason
                } else {
                    format!("{}: {reason}", String::from_utf8_lossy(&path))
                };
                unreadable(cx, format!("include '{name}' cannot be read: {reason}"), whole, checks);
            } else if found.names.is_empty() {
                let wild = has_wildcard(choice);
                let counted = (checks.braces && choices.len() > 1)
                    || (checks.matched && !wild)
                    || (checks.wildcard && wild);
                failed |= checks.braces && choices.len() > 1;
                if counted || !(wild && checks.matched) {
                    missing(cx, choice, whole, counted, &directory);
                }
            }
            paths.extend(found.names);
        }
        if failed {
            return;
        }
        paths.truncate(cx.options.limits.files);
        self.frames.push(Frame::Files(Pending {
            paths: paths.into_iter(),
            directory,
            site: whole,
            checks,
        }));
    }

    /// Opens the next of the files that an include matched.
    pub(super) fn open_pending(&mut self, cx: &mut Cx<'_>) {
        let Some(Frame::Files(pending)) = self.frames.last_mut() else {
            return;
        };
        let Some(path) = pending.paths.next() else {
            self.frames.pop();
            return;
        };
        let (directory, site, checks) =
            (Rc::clone(&pending.directory), pending.site, pending.checks);
        let name = String::from_utf8_lossy(&path).into_owned();
        match self.open(cx, &path, &directory, site) {
            Ok(()) => {}
            Err(Refusal::Loop) => {
                let new = Diagnostic::error(
                    &codes::INCLUDE_LOOP,
                    format!("file '{name}' includes itself"),
                );
                cx.report(new.at(site).label("this include is ignored"));
            }
            Err(Refusal::Unusable(reason)) if !site.is_some() => {
                refuse_main(cx, format!("configuration file '{name}' {reason}"), false);
            }
            Err(Refusal::Read(error)) if !site.is_some() => {
                refuse_main(cx, format!("configuration file '{name}' {error}"), true);
            }
            Err(Refusal::Unusable(reason)) => {
                unusable(cx, format!("included file '{name}' {reason}, skipped"), site, checks);
            }
            Err(Refusal::Read(error)) => {
                let message = format!("included file '{name}' {error}, skipped");
                match error {
                    ReadError::Special => unusable(cx, message, site, checks),
                    ReadError::Unreadable(_) => unreadable(cx, message, site, checks),
                }
            }
        }
    }

    /// The displayed name of a file: relative names follow that of the including file.
    fn shown_name(&self, path: &[u8]) -> String {
        let mut shown = Vec::new();
        if path.first() != Some(&b'/')
            && let Some(file) = self.current_file()
        {
            shown.extend_from_slice(directory_of(&file.name).unwrap_or_default());
        }
        shown.extend_from_slice(path);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Puts a file on top of the frames.
    fn open(
        &mut self,
        cx: &mut Cx<'_>,
        path: &[u8],
        directory: &[u8],
        include: Span,
    ) -> Result<(), Refusal> {
        let unusable = |reason: &str| Err(Refusal::Unusable(reason.into()));
        let full = absolute(directory, path);
        let on_the_way = |f: &Frame| matches!(f, Frame::File(file) if *file.path == *full);
        if self.frames.iter().any(on_the_way) {
            return Err(Refusal::Loop);
        }
        match cx.files.status(&full) {
            Err(reason) => return Err(Refusal::Read(ReadError::Unreadable(reason))),
            Ok(None) => return unusable("does not exist"),
            Ok(Some((FileKind::Directory, _))) => return unusable("is a directory"),
            Ok(Some((FileKind::Regular, mode))) if mode & 0o111 != 0 => {
                return unusable("is executable");
            }
            Ok(Some((FileKind::Regular, _))) => {}
            Ok(Some(_)) => return unusable(&ReadError::Special.to_string()),
        }
        let name = self.shown_name(path);
        let mut text = cx.file_text(&full).map_err(Refusal::Read)?;
        let unreadable = encoding(&text);
        if unreadable.is_some() {
            text = Arc::default();
        }
        let full: Rc<[u8]> = full.into();
        if !self.opened.insert(Rc::clone(&full)) {
            self.account(cx, text.len() + OPENING, include);
            if self.exhausted {
                return Ok(());
            }
        }
        let file = cx.sources.add_file(&name, Arc::clone(&text));
        let unit = cx.sources.add_unit(Unit { file, include, expansion: u32::MAX });
        if let Some((message, remedy)) = unreadable {
            let at = Span { unit, start: 0, len: 0 };
            let new = Diagnostic::error(&codes::ENCODING, message).at(at);
            cx.report(
                new.label("nothing of this file is used").help(remedy.replace("FILE", &name)),
            );
        }
        let mut skipped = 0;
        if text.starts_with(MARK) {
            skipped = MARK.len();
            let at = Span { unit, start: 0, len: u32_of(skipped) };
            cx.report(
                Diagnostic::warning(&codes::BYTE_ORDER_MARK, "byte order mark (U+FEFF), skipped")
                    .at(at)
                    .help("save the file as UTF-8 without a byte order mark: keepalived reads it as part of the first word"),
            );
        }
        let directory = match directory_of(path) {
            Some(_) => directory_of(&full).unwrap_or(directory).into(),
            None => directory.into(),
        };
        self.frames.push(Frame::File(FileFrame {
            unit,
            text,
            at: skipped,
            directory,
            path: full,
            name: name.into_bytes().into(),
            checks: cx.include_checks,
        }));
        Ok(())
    }
}

/// What is wrong with the encoding of a file as a whole, and the remedy.
fn encoding(text: &[u8]) -> Option<(&'static str, &'static str)> {
    // In Latin-1 these are two letters that begin no keyword.
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Some((
            "the file is encoded in UTF-16",
            "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
        ));
    }
    let lines = text.trim_ascii_end();
    (lines.contains(&b'\r') && !text.contains(&b'\n')).then_some((
        "the lines of the file end with carriage returns",
        "convert it: tr '\\r' '\\n' < FILE > NEW",
    ))
}

/// Files that an include matched and that are still to be read.
pub(super) struct Pending {
    paths: std::vec::IntoIter<Vec<u8>>,
    directory: Rc<[u8]>,
    site: Span,
    checks: Checks,
}

/// Reports a main file that cannot be used. keepalived's configuration test counts an unreadable one, but not a missing
/// or unsuitable one.
fn refuse_main(cx: &mut Cx<'_>, reason: String, unreadable: bool) {
    let counted = unreadable || cx.options.all_checks;
    let class = if counted { Class::Fatal } else { Class::Quiet };
    cx.report(Diagnostic::error(&codes::MAIN_FILE, reason).class(class));
}

enum Refusal {
    Loop,
    Unusable(String),
    /// It is of the right kind, but is not read.
    Read(ReadError),
}

/// Reports an include that cannot be used.
fn unusable(cx: &mut Cx<'_>, message: String, at: Span, checks: Checks) {
    let new = if checks.read {
        Diagnostic::error(&codes::INCLUDE_UNUSABLE, message).class(Class::Include)
    } else {
        let mut new = Diagnostic::advice(&codes::INCLUDE_UNUSABLE, message);
        new.environment = true;
        new
    };
    cx.report(new.at(at));
}

/// Reports an include that cannot be read now, so what it contains is lost: a reload must not apply the rest. keepalived
/// does, and its configuration test does not count it.
fn unreadable(cx: &mut Cx<'_>, message: String, at: Span, checks: Checks) {
    let class = if checks.read { Class::Include } else { Class::Quiet };
    let mut new = Diagnostic::error(&codes::INCLUDE_UNUSABLE, message).class(class);
    new.environment = true;
    cx.report(new.at(at));
}

/// Reports an include without a file.
fn missing(cx: &mut Cx<'_>, pattern: &[u8], at: Span, counted: bool, directory: &[u8]) {
    let name = String::from_utf8_lossy(pattern).into_owned();
    let message = format!("no file matches include '{name}'");
    let new = if counted {
        Diagnostic::error(&codes::INCLUDE_MISSING, message).class(Class::Include)
    } else {
        let mut new = Diagnostic::advice(&codes::INCLUDE_MISSING, message);
        new.environment = true;
        new
    };
    let new = new.at(at);
    cx.report(if pattern.starts_with(b"\"") {
        new.help("quotes are part of the name here; remove them")
    } else if pattern.first() == Some(&b'/') {
        new
    } else {
        new.note(format!("relative names start in '{}'", String::from_utf8_lossy(directory)))
    });
}
