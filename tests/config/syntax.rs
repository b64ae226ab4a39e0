//! Small configurations, one fact of the language each, with their results.
//!
//! `expected.tsv` has a row per case: the file, the exit status of a configuration test, the problems as line and code,
//! and the parsed statements. After an intended change run with `EVERVIP_BLESS=1` and review the difference.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, load};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/syntax-cases")
}

/// All files below a directory, named from it.
fn collect(root: &Path, at: &Path, files: &mut Vec<(String, u32, Vec<u8>)>) {
    let mut entries: Vec<_> = fs::read_dir(at).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            // The name marks the file as special, since checkouts may lose permissions.
            let _ = path.metadata().unwrap().permissions().mode();
            let mode = if name == "inc/executable.inc" { 0o755 } else { 0o644 };
            files.push((name, mode, fs::read(&path).unwrap()));
        }
    }
}

fn machine() -> StaticHost {
    StaticHost {
        name: "vm".into(),
        variables: vec![("KA_CASE".into(), b"9".to_vec())],
        ..StaticHost::default()
    }
}

fn run(files: &MemoryFiles, name: &str) -> Loaded {
    let host = machine();
    let mut options = Options::new(name, &host);
    options.document = true;
    load(files, &host, &options)
}

/// The row of a case.
fn row(name: &str, loaded: &Loaded) -> String {
    let problems: Vec<String> = loaded
        .diagnostics
        .iter()
        .filter(|d| d.code.id != "W0702")
        .map(|d| match loaded.diagnostics.location(d) {
            Some((file, line, _)) if file == name => format!("{line}:{}", d.code.id),
            Some((file, line, _)) => format!("{file}:{line}:{}", d.code.id),
            None => d.code.id.to_owned(),
        })
        .collect();
    let text = String::from_utf8_lossy(&loaded.document.to_conf()).into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut understood = words.join(" ");
    if understood.len() > 300 {
        understood = format!("{} bytes", understood.len());
    }
    let unusable = if loaded.unusable() { " unusable" } else { "" };
    format!(
        "{name}\t{}{unusable}\t{}\t{understood}",
        loaded.diagnostics.status(),
        problems.join(" ")
    )
}

#[test]
fn every_case_is_understood_as_expected() {
    let root = directory();
    let mut all = Vec::new();
    collect(&root, &root, &mut all);
    let mut files = MemoryFiles::default();
    for (name, mode, text) in &all {
        files = files.with_mode(name, *mode, text);
    }
    let rows: Vec<String> = all
        .iter()
        .filter(|(name, ..)| name.ends_with(".conf") && !name.contains('/'))
        .map(|(name, ..)| row(name, &run(&files, name)))
        .collect();
    assert_eq!(rows.len(), 187);
    let path = root.join("expected.tsv");
    let text = rows.join("\n") + "\n";
    if std::env::var_os("EVERVIP_BLESS").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap();
    for (got, wanted) in text.lines().zip(expected.lines()) {
        assert_eq!(got, wanted);
    }
    assert_eq!(text.lines().count(), expected.lines().count());
}
