//! Each kernel service belongs to one virtual server: reports those that have a key in common.

use super::group::finish_groups;
use crate::config::codes;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::resolve::Load;
use crate::config::span::Span;
use crate::model::unique::{Overlap, make_unique};

/// Services that are defined twice: `model::unique` decides what becomes of them.
pub(in crate::config::resolve) fn finish(cx: &mut Load<'_>) {
    finish_groups(cx);
    for (at, overlap) in make_unique(&mut cx.draft.model.lvs.services) {
        let span = cx.draft.services.get(at).map_or(Span::NONE, |notes| notes.span);
        let message = overlap.to_string();
        cx.report(match overlap {
            Overlap::Joined { .. } => Diagnostic::note_only(&codes::DUPLICATE_NAME, message)
                .at(span)
                .note("the settings of the first definition are used"),
            Overlap::InGroup { .. } | Overlap::Taken { .. } => {
                Diagnostic::error(&codes::DUPLICATE_NAME, message).at(span).class(Class::Quiet)
            }
        });
    }
}
