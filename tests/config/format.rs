//! The layout of configurations: only the layout changes, and formatting is idempotent.

use std::fs;
use std::path::Path;

use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, format, load};
use proptest::prelude::*;

fn host() -> StaticHost {
    StaticHost { name: "vm".into(), ..StaticHost::default() }.with_all_interfaces()
}

fn read(files: &MemoryFiles, name: &str) -> Loaded {
    let host = host();
    let mut options = Options::new(name, &host);
    options.document = true;
    // All problems: which ones follow from a missing brace is told by the indentation, which the layout changes.
    options.consequences = true;
    load(files, &host, &options)
}

/// The meaning of the text: the model, the parsed statements, and the problems without their
/// places.
fn meaning(loaded: &Loaded) -> (String, Vec<u8>, Vec<String>) {
    let mut problems: Vec<String> =
        loaded.diagnostics.iter().map(|d| format!("{} {}", d.code.id, d.message)).collect();
    problems.sort();
    (format!("{:?}", loaded.model), loaded.document.to_conf(), problems)
}

fn check(name: &str, text: &[u8], files: impl Fn(&[u8]) -> MemoryFiles) {
    let laid_out = format(text);
    let shown = String::from_utf8_lossy(&laid_out).into_owned();
    assert_eq!(
        meaning(&read(&files(text), name)),
        meaning(&read(&files(&laid_out), name)),
        "{name} means something else:\n{}\n---\n{shown}",
        String::from_utf8_lossy(text)
    );
    assert_eq!(String::from_utf8_lossy(&format(&laid_out)), shown, "{name} changes twice");
}

fn alone(name: &str, text: &[u8]) {
    check(name, text, |text| MemoryFiles::single(name, text));
}

pub fn all_files(root: &Path, at: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_files(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found.sort();
}

#[test]
fn the_cases_of_the_language_keep_their_meaning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/syntax-cases");
    let mut all = Vec::new();
    all_files(&root, &root, &mut all);
    for (name, text) in all.iter().filter(|(name, _)| name.ends_with(".conf")) {
        check(name, text, |text| {
            let mut files = MemoryFiles::default();
            for (other, text) in all.iter().filter(|(other, _)| other != name) {
                let mode = if other == "inc/executable.inc" { 0o755 } else { 0o644 };
                files = files.with_mode(other, mode, text);
            }
            files.with_mode(name, 0o644, text)
        });
    }
}

#[test]
fn examples_are_laid_out_without_a_change_of_meaning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/examples");
    let mut all = Vec::new();
    all_files(&root, &root, &mut all);
    for (name, text) in all.iter().filter(|(name, _)| name.ends_with(".conf")) {
        alone(name, text);
    }
}

#[test]
fn other_peoples_files_keep_their_meaning() {
    let Some(root) = super::corpus::directory() else {
        return;
    };
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "conf") {
            alone(path.file_name().unwrap().to_str().unwrap(), &fs::read(&path).unwrap());
        }
    }
}

#[test]
fn nothing_of_the_text_is_lost() {
    let text = "# head\na { # one\n! two\n b c # three\n # four\n{\n}\n} # five\n";
    let shown = String::from_utf8(format(text.as_bytes())).unwrap();
    for comment in ["# head", "# one", "! two", "# three", "# four", "# five"] {
        assert_eq!(shown.matches(comment).count(), 1, "{comment}: {shown}");
    }
}

/// Random pieces of a text.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "vrrp_instance V",
        "virtual_ipaddress",
        "10.0.0.1",
        "priority 100",
        "state MASTER",
        "interface eth0",
        "virtual_router_id 5",
        "{",
        "}",
        "{",
        "}",
        "\n",
        "\n",
        "\n",
        " ",
        "  ",
        "\t",
        "# c",
        "! c",
        "\"",
        "\"x  {y\"",
        "'a  b'",
        "\\",
        "\\#",
        "$X=",
        "$X",
        "${X}",
        "${Y}",
        "@vm ",
        "@^vm ",
        "@other ",
        "~SEQ(X, 2) ",
        "~LST({X, Y}, {a, b}, {c, d}) ",
        "include x.conf",
        "script",
        "notify",
        "vrrp_script s",
        "\r\n",
        "global_defs",
        "router_id r",
        "\0",
        "\u{e4}",
        "x",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_thrown_together_keeps_its_meaning(pieces in prop::collection::vec(piece(), 0..40)) {
        alone("a.conf", pieces.concat().as_bytes());
    }

    #[test]
    fn any_bytes_are_laid_out(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let laid_out = format(&text);
        prop_assert_eq!(format(&laid_out), laid_out);
    }
}
