//! The modules of src/config: no circular dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Each module with those it uses, without tests. A directory is one module.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let mut all = Vec::new();
    files(&root, &mut all);
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for path in all {
        let inner = path.strip_prefix(&root).unwrap();
        let name = inner.components().next().unwrap().as_os_str().to_str().unwrap();
        let depth = inner.components().count() - usize::from(inner.ends_with("mod.rs"));
        if ["mod.rs", "tests.rs", "roundtrip.rs", "fuzz.rs"].contains(&name) || depth == 0 {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let up = "super::".repeat(depth);
        let out = texts.entry(name.trim_end_matches(".rs").to_owned()).or_default();
        for line in code.lines().map(|line| line.split("//").next().unwrap()) {
            out.push_str(&line.replace(&up, "crate::config::"));
            out.push('\n');
        }
    }
    let names: Vec<String> = texts.keys().cloned().collect();
    let used = |text: &str, name: &str| {
        text.split("crate::config::").skip(1).any(|rest| {
            let rest = rest.strip_prefix(name);
            rest.is_some_and(|r| !r.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    let of = |name: &str, text: &str| {
        names.iter().filter(|n| *n != name && used(text, n)).cloned().collect()
    };
    texts.iter().map(|(name, text)| (name.clone(), of(name, text))).collect()
}

#[test]
fn no_module_stands_in_a_circle() {
    let uses = uses();
    assert!(uses.len() > 25, "{uses:#?}");
    let mut circle = BTreeSet::new();
    for name in uses.keys() {
        let mut reached: BTreeSet<&String> = BTreeSet::new();
        let mut next: Vec<&String> = uses[name].iter().collect();
        while let Some(other) = next.pop() {
            if reached.insert(other) {
                next.extend(&uses[other]);
            }
        }
        if reached.contains(name) {
            circle.insert(name.as_str());
        }
    }
    assert!(circle.is_empty(), "{circle:?} of {uses:#?}");
}
