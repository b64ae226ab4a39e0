//! Texts of the operator's command: layout, JSON, the other router's file.

use evervip::config::{Document, Head, Peer, Style, format, load};

use super::config::{main_file, prepare, read};

/// Formatting is idempotent and keeps the meaning.
pub fn layout(data: &[u8]) {
    let data = data.get(..20_000).unwrap_or(data);
    let once = format(data);
    let twice = format(&once);
    assert!(once == twice, "{}\n->\n{}", once.escape_ascii(), twice.escape_ascii());
    let (first, second) = (main_file(data), main_file(&once));
    assert!(first.model == second.model, "another meaning:\n{}", once.escape_ascii());
}

/// JSON that may be a configuration; if it is, its meaning is preserved in all forms.
pub fn json(data: &[u8]) {
    let document = match Document::from_json(data) {
        Ok(document) => document,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let conf = document.to_conf();
    let again = Document::from_json(document.to_json().as_bytes()).expect("what was written");
    assert!(again.to_conf() == conf, "JSON that was read, written and read again");
    let loaded = main_file(&conf);
    let octets = postcard::to_allocvec(&loaded.model).expect("a model can be sent");
    assert!(!octets.is_empty());
}

/// Two routers' files with a line `=====` between them: lints are given, and nothing else changes.
pub fn peer(data: &[u8]) {
    let data = data.get(..8000).unwrap_or(data);
    const LINE: &[u8] = b"\n=====\n";
    let at = data.windows(LINE.len()).position(|w| w == LINE).unwrap_or(data.len());
    let (first, second) = data.split_at(at);
    let other = read(second.strip_prefix(LINE).unwrap_or(second)).model.vrrp;
    let (files, host, mut options) = prepare(first);
    options.lints = true;
    let alone = load(&files, &host, &options);
    options.peer = Some(Peer { file: "other.conf".into(), vrrp: other });
    let compared = load(&files, &host, &options);
    assert!(alone.model == compared.model, "advice changes what is done");
    assert_eq!(alone.diagnostics.errors(), compared.diagnostics.errors());
    assert!(compared.diagnostics.len() >= alone.diagnostics.len());
    for diagnostic in compared.diagnostics.iter().take(4) {
        assert!(!compared.diagnostics.render(diagnostic, Style::Plain, Head::Title).is_empty());
    }
}
