//! `vrrp_script`.

use core::time::Duration;

use super::Load;
use super::command::{Purpose, command};
use crate::base::Name;
use crate::config::block::script::VrrpScript;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::span::{Span, Spanned};
use crate::config::value::script::{Account, Script};
use crate::model;

/// A script that is not used so far.
#[derive(Debug)]
pub(crate) struct ScriptDraft {
    pub span: Span,
    pub weight: i16,
    pub reverse: bool,
    pub used: bool,
    /// It is named by a tracker that precedes it, which does not count.
    pub named: bool,
    command: Script,
    account: Option<Account>,
    interval: Duration,
    timeout: Duration,
    rise: u32,
    fall: u32,
    init_fail: bool,
}

pub(super) fn resolve(block: VrrpScript, cx: &mut Load<'_>) {
    let name = block.header.0.clone();
    let Some(script) = &block.script.0 else {
        let message = format!("vrrp_script {name} has no 'script', it is left out");
        let mut new = Diagnostic::error(&codes::INCOMPLETE, message)
            .at(block.end)
            .label("the block ends without 'script'")
            .related(block.span, "it begins here");
        new.hidden = cx.was_refused("script", block.span);
        cx.report(new);
        cx.lost_names.insert(name.as_str().as_bytes().into());
        return;
    };
    let runnable = match block.user.value().or(script.value.account.as_ref()) {
        Some(account) => {
            let known = super::command::account(account, cx).is_some();
            if !known {
                let what = format!("vrrp_script {name}");
                super::command::explain_account(&script.value, &what, cx);
            }
            known
        }
        None => {
            let what = format!("vrrp_script {name}");
            super::command::default_exists(&what, block.end, cx)
        }
    };
    if !runnable {
        cx.draft.lost_scripts.insert(name);
        return;
    }
    let mut positive = |time: Option<&Spanned<_>>, what: &str| {
        let time: &Spanned<crate::config::value::number::Time<0, 4_294_000_000, 3>> = time?;
        if time.value.0 == 0 {
            let message = format!("{what} of script {name} must be greater than 0, 1 is used");
            cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(time.span));
            return Some(Duration::from_secs(1));
        }
        Some(time.value.duration())
    };
    let interval = positive(block.interval.0.as_ref(), "interval")
        .unwrap_or_else(|| block.interval().duration());
    let timeout = positive(block.timeout.0.as_ref(), "timeout").unwrap_or(interval);
    if cx.draft.scripts.contains_key(&name) {
        // In keepalived both exist; references find the first one.
        return;
    }
    let weight = block.weight();
    let draft = ScriptDraft {
        span: block.span,
        weight: weight.weight,
        reverse: weight.reverse,
        used: false,
        named: false,
        command: script.value.clone(),
        account: block.user.value().cloned(),
        interval,
        timeout,
        rise: block.rise().u32(),
        fall: block.fall().u32(),
        init_fail: block.init_fail.is_set(),
    };
    cx.draft.scripts.insert(name, draft);
}

/// Checks the used scripts; trackers of one that cannot run are dropped.
pub(super) fn finish(cx: &mut Load<'_>) {
    let drafts = core::mem::take(&mut cx.draft.scripts);
    let mut gone: indexmap::IndexSet<Name> = indexmap::IndexSet::new();
    for (name, draft) in &drafts {
        if !draft.used {
            let running = !cx.draft.model.vrrp.instances.is_empty();
            let own = draft.account.as_ref();
            if running && super::command::would_run(&draft.command, own, cx) {
                cx.draft.scripts_run.get_or_insert(draft.command.at.0);
            }
            continue;
        }
        let what = format!("track script {name}");
        match command(&draft.command, draft.account.as_ref(), Purpose::Check, &what, cx) {
            Some(command) => cx.draft.model.vrrp.scripts.push(model::Script {
                name: name.clone(),
                command,
                interval: draft.interval,
                timeout: draft.timeout,
                rise: draft.rise,
                fall: draft.fall,
                init_fail: draft.init_fail,
            }),
            None => {
                gone.insert(name.clone());
            }
        }
    }
    cx.draft.scripts = drafts;
    if gone.is_empty() {
        return;
    }
    let vrrp = &mut cx.draft.model.vrrp;
    for instance in &mut vrrp.instances {
        instance.track_scripts.retain(|t| !gone.contains(&t.script));
    }
    for group in &mut vrrp.groups {
        group.track_scripts.retain(|t| !gone.contains(&t.script));
    }
}
