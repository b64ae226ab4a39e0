//! The `SSL` block: its files are read here, since the process that checks servers may not open files of root.

use super::Load;
use crate::base::id::Secret;
use crate::base::tls::{TlsMaterial, TlsPart};
use crate::config::block::service::Ssl;
use crate::config::codes;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::slot::Over;
use crate::config::span::Span;
use crate::config::value::text::{Path, decode};
use crate::model::service::Tls;

/// Largest file, in octets: a bundle of all public authorities has a quarter of that.
const LARGEST: usize = 1 << 20;

/// The consequence of a file that cannot be used.
const LEFT_OUT: &str = "SSL_GET presents no certificate";

pub(super) fn tls(block: Ssl, cx: &mut Load<'_>) {
    if cx.draft.model.lvs.tls.is_some() {
        let message = "SSL is already set, this block replaces it";
        cx.report(Diagnostic::warning(&codes::OVERWRITTEN, message).at(block.span));
    }
    let files = [(&block.ca, "ca"), (&block.certificate, "certificate"), (&block.key, "key")];
    let [ca, certificate, key] = files.map(|(slot, word)| content(slot, word, cx));
    // All files are read, so that each one that is missing is reported.
    cx.draft.model.lvs.tls = Some(match (ca, certificate, key) {
        (Ok(ca), Ok(certificate), Ok(key)) => {
            private(&block.key, cx);
            let password = block.password.value().map(|p| Secret::new(p.0.clone()));
            let new = Tls { password, ca, certificate, key: key.map(Secret::new) };
            match refusal(&new, &block, cx) {
                None => new,
                Some((at, message)) => {
                    unusable(message, at, cx);
                    Tls::default()
                }
            }
        }
        _ => Tls::default(),
    });
}

/// Why the material cannot be used, and the place.
fn refusal(new: &Tls, block: &Ssl, cx: &Load<'_>) -> Option<(Span, String)> {
    match (&new.certificate, &new.key) {
        (Some(_), None) => {
            let message = format!("SSL has a certificate without its key, {LEFT_OUT}");
            return Some((block.certificate.span(), message));
        }
        (None, Some(_)) => {
            let message = format!("SSL has a key without its certificate, {LEFT_OUT}");
            return Some((block.key.span(), message));
        }
        _ => {}
    }
    let material = TlsMaterial {
        ca: new.ca.as_deref(),
        certificate: new.certificate.as_deref(),
        key: new.key.as_ref().map(|key| &**key.reveal()),
        password: new.password.as_ref().map(|password| &**password.reveal()),
    };
    let refusal = cx.host.refuses_tls(&material)?;
    let (word, slot) = match refusal.part {
        TlsPart::Ca => ("ca", &block.ca),
        TlsPart::Certificate => ("certificate", &block.certificate),
        TlsPart::Key => ("key", &block.key),
    };
    let path = slot.value().map(|path| decode(&path.0)).unwrap_or_default();
    let message = format!("{word} '{path}' cannot be used: {}; {LEFT_OUT}", refusal.reason);
    Some((slot.span(), message))
}

/// A file was reported that cannot be read.
struct Unreadable;

/// The content of a file, if one is given.
fn content(
    slot: &Over<Path>,
    word: &str,
    cx: &mut Load<'_>,
) -> Result<Option<Box<[u8]>>, Unreadable> {
    let Some(Path(path)) = slot.value() else { return Ok(None) };
    cx.files.read(path, LARGEST).map(|text| Some(text.into())).map_err(|e| {
        let message = format!("{word} '{}' {e}; {LEFT_OUT}", decode(path));
        unusable(message, slot.span(), cx);
        Unreadable
    })
}

/// keepalived ends its checks at the start, but not a test of the configuration.
fn unusable(message: String, at: Span, cx: &mut Load<'_>) {
    let mut new = Diagnostic::error(&codes::NO_FILE, message).at(at).class(Class::Quiet);
    new.environment = true;
    cx.report(new);
}

/// Warns if other users can read the key.
fn private(slot: &Over<Path>, cx: &mut Load<'_>) {
    let Some(path) = slot.value().map(|path| path.0.clone()) else { return };
    let Some(info) = cx.host.inspect(&path).filter(|info| info.mode & 0o077 != 0) else { return };
    let (path, mode) = (decode(&path), info.mode & 0o7777);
    let message = format!("key file '{path}' can be read by other users (mode {mode:04o})");
    let new = Diagnostic::environment(&codes::INSECURE_KEY, message)
        .at(slot.span())
        .class(Class::Quiet)
        .help(format!("correct it with: chmod 600 '{path}'"));
    cx.report(new);
}
