//! The pages of `HTTP_GET` and `SSL_GET`, with their regular expressions.

use super::Load;
use crate::config::block::checker::{TlsUrlBlock, UrlBlock};
use crate::config::codes;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::schema::{Block, Refused, Slot};
use crate::config::span::{Span, Spanned};
use crate::model::checker::{Pattern, Url};

macro_rules! url {
    ($name:ident, $Block:ty, $compliant:expr) => {
        /// `refused` becomes a setting that cannot be used, if there is one.
        pub(super) fn $name(
            block: &$Block,
            cx: &mut Load<'_>,
            refused: &mut Option<Refused>,
        ) -> Option<Url> {
            *refused = refused.or_else(|| Block::refused(block));
            let named = block.path.value().map(|path| path.0.clone());
            // A path that cannot be used is never requested.
            let Some(path) = named.or_else(|| Slot::refused(&block.path).map(|_| "/".into()))
            else {
                let message = "the url has no path, it is left out";
                cx.report(
                    Diagnostic::error(&codes::INCOMPLETE, message)
                        .at(block.end)
                        .related(block.span, "it begins here"),
                );
                return None;
            };
            let status = block.status_code().into_iter().flat_map(|s| s.0).collect();
            let options = block.regex_options.0.iter().flat_map(|o| o.value.0.iter().cloned());
            let parts = PatternParts {
                text: block.regex.value().map(|r| r.0.clone()),
                options: options.collect(),
                absent: block.regex_no_match.is_set(),
                start: block.regex_min_offset().0,
                min: block.regex_min_offset.0.as_ref().map(|o| Spanned::new(o.value.0, o.span)),
                max: block.regex_max_offset.value().map(|o| o.0),
                at: block.span,
                pattern_at: block.regex.0.as_ref().map_or(block.span, |regex| regex.span),
            };
            let compliant: fn(&$Block) -> Option<bool> = $compliant;
            Some(Url {
                path,
                digest: block.digest.value().map(|d| d.0),
                status,
                virtualhost: block.virtualhost.value().map(|h| h.0.clone()),
                pattern: pattern(parts, cx, refused),
                tls_compliant: compliant(block),
            })
        }
    };
}

url!(plain_url, UrlBlock, |_| None);
url!(tls_url, TlsUrlBlock, |block| block.tls_compliant.value().map(|b| b.0));

/// The regular expression settings of a page's block.
struct PatternParts {
    text: Option<Box<[u8]>>,
    options: Vec<Box<str>>,
    absent: bool,
    /// `regex_min_offset`, or its default.
    start: u64,
    /// The same, if it is given.
    min: Option<Spanned<u64>>,
    max: Option<u64>,
    at: Span,
    pattern_at: Span,
}

fn pattern(
    parts: PatternParts,
    cx: &mut Load<'_>,
    refused: &mut Option<Refused>,
) -> Option<Box<Pattern>> {
    let Some(text) = parts.text else {
        let given =
            parts.absent || !parts.options.is_empty() || parts.min.is_some() || parts.max.is_some();
        if given {
            let message = "settings for a regular expression have no effect without 'regex'";
            cx.report(Diagnostic::advice(&codes::NO_EFFECT_HERE, message).at(parts.at));
        }
        return None;
    };
    if let (Some(low), Some(high)) = (&parts.min, parts.max)
        && low.value >= high
    {
        // keepalived ignores both, and does not count it.
        let message = "regex_min_offset must be below regex_max_offset";
        let new = Diagnostic::error(&codes::CONFLICT, message).at(low.span);
        cx.report(new.class(Class::Quiet));
        *refused = refused.or(Some(Spanned::new("regex_min_offset", low.span)));
    }
    let pattern = Pattern {
        text,
        options: parts.options,
        absent: parts.absent,
        min_offset: parts.start,
        max_offset: parts.max,
    };
    if let Err(why) = pattern.compile() {
        let message = format!("the regular expression cannot be used: {why}");
        let new = Diagnostic::error(&codes::VALUE, message).at(parts.pattern_at);
        cx.report(new);
        *refused = refused.or(Some(Spanned::new("regex", parts.pattern_at)));
    }
    Some(Box::new(pattern))
}
