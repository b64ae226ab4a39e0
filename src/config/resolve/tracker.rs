//! The trackers of instances and groups.

use indexmap::IndexMap;

use super::track::Kind;

use super::Load;
use crate::base::near::nearest;
use crate::base::{IfName, Name};
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::span::Spanned;
use crate::config::value::tracker::{TrackEntry, TrackInterface};
use crate::model::{TrackedInterface, TrackedScript, Weight};

/// Tracked interfaces, each once.
pub(super) fn interfaces(
    entries: &[Spanned<TrackInterface>],
    own: Option<&IfName>,
    user: &str,
    cx: &mut Load<'_>,
) -> Vec<TrackedInterface> {
    let mut list: IndexMap<IfName, Weight> = IndexMap::new();
    for entry in entries {
        let interface = &entry.value.interface;
        if own == Some(interface) {
            let message =
                format!("({user}) ignoring track_interface {interface} since own interface");
            cx.report(Diagnostic::warning(&codes::NO_EFFECT_HERE, message).at(entry.span).note(
                "the instance's own interface is always tracked, unless dont_track_primary is set",
            ));
            continue;
        }
        let weight = Weight::new(entry.value.weight, entry.value.reverse);
        if list.contains_key(interface) {
            let message = format!("({user}) interface {interface} is already tracked, ignored");
            cx.report(Diagnostic::error(&codes::DUPLICATE_ENTRY, message).at(entry.span));
        } else {
            list.insert(interface.clone(), weight);
        }
    }
    list.into_iter().map(|(interface, weight)| TrackedInterface { interface, weight }).collect()
}

/// Tracked scripts that are defined, each once.
pub(super) fn scripts<const MAX: i64>(
    entries: &[Spanned<TrackEntry<MAX>>],
    user: &Name,
    cx: &mut Load<'_>,
) -> Vec<TrackedScript> {
    let mut list: IndexMap<Name, Weight> = IndexMap::new();
    for entry in entries {
        let name = &entry.value.name;
        let Some(script) = cx.draft.scripts.get_mut(name) else {
            let name = name.clone();
            cx.draft.unresolved.push((Kind::Script, name, entry.span, user.clone()));
            continue;
        };
        script.used = true;
        let (weight, reverse) = match entry.value.weight {
            Some((weight, reverse)) => (weight, reverse.unwrap_or(script.reverse)),
            None => (script.weight, script.reverse),
        };
        if list.contains_key(name) {
            let message = format!("({user}) script {name} is already tracked, ignored");
            cx.report(Diagnostic::error(&codes::DUPLICATE_ENTRY, message).at(entry.span));
        } else {
            list.insert(name.clone(), Weight::new(weight, reverse));
        }
    }
    list.into_iter().map(|(script, weight)| TrackedScript { script, weight }).collect()
}

/// Reports references to objects that were not defined before them.
pub(super) fn unresolved(cx: &mut Load<'_>) {
    for (kind, name, at, user) in core::mem::take(&mut cx.draft.unresolved) {
        let defined = match kind {
            Kind::Script => cx.draft.scripts.get_mut(&name).map(|script| {
                script.named = true;
                script.span
            }),
            kind => cx.draft.objects.get(&(kind, name.clone())).map(|o| o.span),
        };
        let word = kind.word();
        let new = match defined {
            Some(span) => Diagnostic::error(
                &codes::DEFINED_LATER,
                format!("({user}) track {word} {name} is defined after its use, ignored"),
            )
            .related(span, "defined here")
            .help("move the definition before this block"),
            None if kind == Kind::Script && cx.draft.lost_scripts.contains(&name) => {
                Diagnostic::environment(
                    &codes::NO_SCRIPT,
                    format!("({user}) track script {name} cannot be run, ignored"),
                )
            }
            None if kind == Kind::Bfd && cx.draft.bfds.contains_key(&name) => Diagnostic::advice(
                &codes::UNKNOWN_REFERENCE,
                format!("({user}) BFD instance {name} is left out, so it is not tracked"),
            ),
            None => {
                let new = Diagnostic::error(
                    &codes::UNKNOWN_REFERENCE,
                    format!("({user}) track {word} {name} not found, ignored"),
                );
                let scripts = cx.draft.scripts.keys().map(|n| n.as_str());
                let objects = cx.draft.objects.keys().filter(|(k, _)| *k == kind);
                let near = match kind {
                    Kind::Script => nearest(&name, scripts),
                    _ => nearest(&name, objects.map(|(_, n)| n.as_str())),
                };
                match near {
                    Some(near) => new.label(format!("did you mean '{near}'?")),
                    None => new,
                }
            }
        };
        cx.report(new.at(at));
    }
}
