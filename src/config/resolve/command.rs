//! Scripts against the machine: accounts, paths, permissions.

use std::rc::Rc;

use super::Load;
use crate::config::codes::{self, Code};
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::host::{FileInfo, FileKind};
use crate::config::source::absolute;
use crate::config::span::Span;
use crate::config::value::script::{Account, Script};
use crate::config::value::text::decode;
use crate::model::{Command, User};

/// The purpose of a command: decides how keepalived counts a problem with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A check: without it something that the configuration relies on is left out.
    Check,
    /// `MISC_CHECK`: as a check, but keepalived looks for the program only when it runs it.
    Probe,
    /// A notification: problems are only logged.
    Notify,
}

impl Purpose {
    fn class(self) -> Class {
        match self {
            Self::Check | Self::Probe => Class::Problem,
            Self::Notify => Class::Quiet,
        }
    }
}

/// What is known about a program for an account.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The path to run, links resolved.
    path: Vec<u8>,
    /// Why it cannot be run.
    refusal: Option<String>,
    /// There is no such program.
    missing: bool,
    /// Why users other than root could change it, and the remedy.
    insecure: Option<(String, String)>,
}

/// The account given in the configuration. Reports a missing user or group.
pub(crate) fn account(account: &Account, cx: &mut Load<'_>) -> Option<User> {
    account_for(account, Purpose::Check, cx)
}

fn account_for(account: &Account, purpose: Purpose, cx: &mut Load<'_>) -> Option<User> {
    let found = account.find(purpose.class(), cx)?;
    let mut user = User { uid: found.uid, gid: found.gid, groups: vec![found.gid] };
    let always = cx.draft.global().set_supplementary_groups().0;
    if found.all_groups || always {
        user.groups.extend(found.further);
        user.groups.sort_unstable();
        user.groups.dedup();
    }
    Some(user)
}

/// The account of scripts that set none: none if there is no such account and script security requires one.
fn default_account(cx: &mut Load<'_>) -> Option<User> {
    cx.again.depends();
    if let Some(known) = &cx.draft.default_user {
        return known.clone();
    }
    let global = cx.draft.global();
    let secure = global.enable_script_security.is_set();
    let given = global.script_user.value().cloned();
    let user = match given {
        Some(given) => account(&given, cx),
        None if cx.given.bad_script_user => None,
        None => match cx.host.user("keepalived_script") {
            Some(found) => Some(User { uid: found.uid, gid: found.gid, groups: vec![found.gid] }),
            None if secure => None,
            None => {
                let own = cx.host.own_account();
                Some(User { uid: own.uid, gid: own.gid, groups: vec![own.gid] })
            }
        },
    };
    cx.draft.default_user = Some(user.clone());
    user
}

/// Whether there is an account for scripts that set none. If not, that is reported.
pub(super) fn default_exists(what: &str, at: Span, cx: &mut Load<'_>) -> bool {
    let known = default_account(cx).is_some();
    if !known {
        no_account(what, at, cx);
    }
    known
}

/// keepalived counts it for every kind of script, other than an unknown account of a notification.
fn no_account(what: &str, at: Span, cx: &mut Load<'_>) {
    let mut new = Diagnostic::environment(
        &codes::NO_USER,
        format!("{what} is left out: there is no account to run it"),
    )
    .at(at);
    new = if cx.given.bad_script_user {
        new.note("script_user does not exist")
    } else {
        new.help("set script_user, or create the account keepalived_script")
    };
    cx.report(new);
}

/// Adds to the error about an account what becomes of the command. Its arguments may have been taken for the account.
pub(super) fn explain_account(script: &Script, what: &str, cx: &mut Load<'_>) {
    let unquoted = script.account.is_some() && script.words.len() == 1;
    if let Some(last) = cx.reports.last_mut().filter(|last| *last.code == codes::NO_USER) {
        last.notes.push(format!("{what} is left out"));
        if unquoted {
            last.help.push(
                "the words after a command are a user and a group: put a command with arguments between double quotes"
                    .into(),
            );
        }
    }
}

/// Checks a command and prepares it for running. Reports why this is impossible.
pub(crate) fn command(
    script: &Script,
    own: Option<&Account>,
    purpose: Purpose,
    what: &str,
    cx: &mut Load<'_>,
) -> Option<Command> {
    cx.again.depends();
    let at = script.at.0;
    let user = match script.account.as_ref().or(own) {
        Some(account) => {
            let user = account_for(account, purpose, cx);
            if user.is_none() {
                explain_account(script, what, cx);
            }
            user?
        }
        None => {
            let user = default_account(cx);
            if user.is_none() {
                no_account(what, at, cx);
            }
            user?
        }
    };
    let first = script.words.first()?;
    if first.starts_with(b"<") {
        return Some(Command {
            words: script.words.clone(),
            through_shell: true,
            user: Some(user),
        });
    }
    let verdict = verdict(first, &user, cx);
    let secure = cx.draft.global().enable_script_security.is_set();
    if let Some(reason) = &verdict.refusal {
        let unnoticed = purpose == Purpose::Probe && verdict.missing;
        let class = if unnoticed { Class::Quiet } else { purpose.class() };
        left_out(&codes::NO_SCRIPT, what, reason, None, at, class, cx);
        return None;
    }
    if let Some((reason, mend)) = &verdict.insecure {
        if secure {
            left_out(&codes::INSECURE_SCRIPT, what, reason, Some(mend), at, Class::Security, cx);
            return None;
        }
        cx.draft.insecure.get_or_insert_with(|| (at, reason.clone(), mend.clone()));
    }
    cx.draft.scripts_run.get_or_insert(at);
    let mut words = script.words.clone();
    if let Some(first) = words.first_mut() {
        *first = verdict.path.clone().into();
    }
    Some(Command { words, through_shell: false, user: Some(user) })
}

/// Whether an unused script could run: keepalived counts it nevertheless for script security.
pub(super) fn would_run(script: &Script, own: Option<&Account>, cx: &mut Load<'_>) -> bool {
    let named = script.account.as_ref().or(own);
    let uid = match named {
        Some(account) => cx.host.user(&account.user.value).map(|u| (u.uid, u.gid)),
        None => default_account(cx).map(|u| (u.uid, u.gid)),
    };
    let (Some((uid, gid)), Some(first)) = (uid, script.words.first()) else {
        return false;
    };
    let user = User { uid, gid, groups: vec![gid] };
    !first.starts_with(b"<") && verdict(first, &user, cx).refusal.is_none()
}

fn left_out(
    code: &'static Code,
    what: &str,
    reason: &str,
    mend: Option<&String>,
    at: Span,
    class: Class,
    cx: &mut Load<'_>,
) {
    let mut new =
        Diagnostic::environment(code, format!("{what} is left out: {reason}")).at(at).class(class);
    if let Some(mend) = mend {
        new = new.help(format!("correct it with: {mend}"));
    }
    cx.report(new);
}

/// Looks up a program, once for each account.
fn verdict(program: &[u8], user: &User, cx: &mut Load<'_>) -> Rc<Verdict> {
    let links = cx.draft.global().use_symlink_paths().0;
    let key = (program.to_vec(), user.uid, user.gid);
    if let Some(known) = cx.draft.verdicts.get(&key) {
        return Rc::clone(known);
    }
    let new = Rc::new(examine(program, user, links, cx));
    cx.draft.verdicts.insert(key, Rc::clone(&new));
    new
}

fn examine(program: &[u8], user: &User, links: bool, cx: &Load<'_>) -> Verdict {
    let refuse = |reason: String| Verdict {
        path: program.to_vec(),
        refusal: Some(reason),
        missing: false,
        insecure: None,
    };
    let missing = |reason: String| Verdict { missing: true, ..refuse(reason) };
    let shown = decode(program);
    let written = if program.contains(&b'/') {
        absolute(&cx.files.current_directory(), program)
    } else {
        match search(program, cx) {
            Some(path) => path,
            None => return missing(format!("'{shown}' is not in the search path")),
        }
    };
    let mut visited = Vec::new();
    let Some((real, info)) = follow(&written, cx, &mut visited) else {
        return missing(format!("'{shown}' does not exist"));
    };
    let real_shown = decode(&real);
    if info.kind != FileKind::Regular {
        return refuse(format!("'{real_shown}' is not a regular file"));
    }
    if !executable(&info, user) {
        return refuse(format!(
            "'{real_shown}' is not executable for user {}: owner {}, mode {:04o}; correct it with: chmod +x '{real_shown}'",
            name_of(user.uid, cx),
            name_of(info.uid, cx),
            info.mode & 0o7777,
        ));
    }
    if let Some((path, info)) =
        visited.iter().find(|(_, i)| i.kind == FileKind::Directory && !executable(i, user))
    {
        return refuse(format!(
            "user {} cannot enter '{shown}': owner {}, mode {:04o}; correct it with: chmod {}+x '{shown}'",
            name_of(user.uid, cx),
            name_of(info.uid, cx),
            info.mode & 0o7777,
            whose(info, user),
            shown = decode(path),
        ));
    }
    let set_id_root =
        info.mode & 0o4000 != 0 && info.uid == 0 || info.mode & 0o2000 != 0 && info.gid == 0;
    let insecure = if user.uid == 0 || user.gid == 0 || set_id_root {
        visited.push((real.clone(), info));
        visited.iter().find_map(|(p, i)| weakness(p, i, cx))
    } else {
        None
    };
    // It is not opened: on a file system that hangs that would take for ever. Whoever runs it sees whether it is a
    // program or a text for the shell.
    let path = if links { written } else { named(&written, real, cx) };
    Verdict { path, refusal: None, missing: false, insecure }
}

/// The path without links, but with the name as written if the target is beside it: a script may look at its name.
fn named(written: &[u8], real: Vec<u8>, cx: &Load<'_>) -> Vec<u8> {
    let split = |path: &[u8]| {
        let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        (
            path.get(..at.max(1)).unwrap_or_default().to_vec(),
            path.get(at..).unwrap_or_default().to_vec(),
        )
    };
    let (folder, name) = split(written);
    let folder = follow(&folder, cx, &mut Vec::new()).map(|(path, _)| path);
    match folder {
        Some(folder) if folder == split(&real).0 => {
            absolute(&folder, name.get(1..).unwrap_or_default())
        }
        _ => real,
    }
}

/// Why other users can change a path element that root relies on, and the command that fixes it.
fn weakness(path: &[u8], info: &FileInfo, cx: &Load<'_>) -> Option<(String, String)> {
    let shown = decode(path);
    let mode = info.mode & 0o7777;
    if info.uid != 0 {
        let reason = format!(
            "'{shown}' belongs to {} (mode {mode:04o}), not to root",
            name_of(info.uid, cx)
        );
        return Some((reason, format!("chown root '{shown}'")));
    }
    let sticky = info.kind == FileKind::Directory && mode & 0o1000 != 0;
    if info.kind == FileKind::Link || sticky {
        return None;
    }
    if mode & 0o020 != 0 && info.gid != 0 {
        let reason = format!("group {} can write to '{shown}' (mode {mode:04o})", info.gid);
        return Some((reason, format!("chmod g-w '{shown}'")));
    }
    if mode & 0o002 != 0 {
        let reason = format!("any user can write to '{shown}' (mode {mode:04o})");
        return Some((reason, format!("chmod o-w '{shown}'")));
    }
    None
}

fn name_of(uid: u32, cx: &Load<'_>) -> String {
    cx.host.user_name(uid).unwrap_or_else(|| uid.to_string())
}

fn executable(info: &FileInfo, user: &User) -> bool {
    if user.uid == 0 {
        return info.mode & 0o111 != 0;
    }
    let bits = match whose(info, user) {
        'u' => info.mode >> 6,
        'g' => info.mode >> 3,
        _ => info.mode,
    };
    bits & 1 != 0
}

/// Which permissions of a file count for a user, as `chmod` names them.
fn whose(info: &FileInfo, user: &User) -> char {
    if info.uid == user.uid {
        'u'
    } else if user.gid == info.gid || user.groups.contains(&info.gid) {
        'g'
    } else {
        'o'
    }
}

/// Searches the directories of `PATH`.
fn search(program: &[u8], cx: &Load<'_>) -> Option<Vec<u8>> {
    let path = cx.host.environment("PATH").unwrap_or_else(|| {
        b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_vec()
    });
    path.split(|&b| b == b':')
        .filter(|d| d.first() == Some(&b'/'))
        .map(|directory| {
            let mut full = directory.to_vec();
            full.push(b'/');
            full.extend_from_slice(program);
            absolute(b"/", &full)
        })
        .find(|full| {
            follow(full, cx, &mut Vec::new())
                .is_some_and(|(_, i)| i.kind == FileKind::Regular && i.mode & 0o111 != 0)
        })
}

/// The target of a path, with links resolved, and all path elements on the way.
fn follow(
    path: &[u8],
    cx: &Load<'_>,
    visited: &mut Vec<(Vec<u8>, FileInfo)>,
) -> Option<(Vec<u8>, FileInfo)> {
    let mut rest: Vec<Vec<u8>> = parts(path).rev().map(<[u8]>::to_vec).collect();
    let mut here = b"/".to_vec();
    let mut links = 0;
    let root = cx.host.inspect(&here)?;
    let mut last = root;
    visited.push((here.clone(), root));
    while let Some(part) = rest.pop() {
        if part == b".." {
            here = absolute(b"/", super::super::source::directory_of(&here)?);
            if here.len() > 1 && here.last() == Some(&b'/') {
                here.pop();
            }
            continue;
        }
        let next = absolute(&here, &part);
        let info = cx.host.inspect(&next)?;
        last = info;
        if info.kind == FileKind::Link {
            links += 1;
            if links > 40 {
                return None;
            }
            let target = cx.host.read_link(&next)?;
            visited.push((next, info));
            if target.first() == Some(&b'/') {
                here = b"/".to_vec();
            }
            rest.extend(parts(&target).rev().map(<[u8]>::to_vec));
            continue;
        }
        if !rest.is_empty() {
            if info.kind != FileKind::Directory {
                return None;
            }
            visited.push((next.clone(), info));
        }
        here = next;
    }
    Some((here, last))
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".")
}
