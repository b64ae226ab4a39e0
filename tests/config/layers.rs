//! The modules of src/config: no circular dependencies, file by file and folder by folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Graph = BTreeMap<String, BTreeSet<String>>;

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

/// The code of each file, without comments and tests, by its path as a module of `config`: `resolve::check`.
fn modules() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let mut all = Vec::new();
    files(&root, &mut all);
    let mut modules = BTreeMap::new();
    for path in all {
        let inner = path.strip_prefix(&root).unwrap().with_extension("");
        let names: Vec<&str> = inner.iter().map(|part| part.to_str().unwrap()).collect();
        let name = names.join("::");
        if names.contains(&"tests") || ["mod", "roundtrip", "fuzz"].contains(&&*name) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = code.lines().map(|line| line.split("//").next().unwrap());
        let code = lines.collect::<Vec<_>>().join("\n");
        modules.insert(name.trim_end_matches("::mod").to_owned(), code);
    }
    modules
}

/// Which module names which. A file of its own is part of the module that declares it, which may use it: what a file
/// takes from the modules around it does not count, what it takes from their other files does.
fn uses(modules: &BTreeMap<String, String>) -> Graph {
    let module_of = |path: &str| {
        let mut path = path;
        while !modules.contains_key(path) {
            path = path.rsplit_once("::")?.0;
        }
        Some(path.to_owned())
    };
    let inside = |me: &str, other: &str| me == other || me.starts_with(&format!("{other}::"));
    let of = |me: &String, code: &String| {
        let named = paths(me, code).into_iter().filter_map(|path| module_of(&path));
        named.filter(|other| !inside(me, other)).collect()
    };
    modules.iter().map(|(me, code)| (me.clone(), of(me, code))).collect()
}

/// The paths below `config` that a module names, in groups too, with `super` resolved, and the files it declares.
fn paths(me: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let starts =
        |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    for (at, root) in code.match_indices("crate::").filter(|(at, _)| starts(*at)) {
        let mut all = Vec::new();
        expand(&code[at + root.len()..], &[], &mut all);
        found
            .extend(all.iter().filter_map(|path| path.strip_prefix("config::")).map(str::to_owned));
    }
    let me: Vec<&str> = me.split("::").collect();
    for (at, _) in code.match_indices("super::").filter(|(at, _)| starts(*at)) {
        let (mut rest, mut base) = (&code[at..], me.as_slice());
        while let (Some(after), Some((_, outer))) =
            (rest.strip_prefix("super::"), base.split_last())
        {
            (rest, base) = (after, outer);
        }
        expand(rest, base, &mut found);
    }
    for line in code.lines() {
        let declared = line.split_once("mod ").and_then(|(_, name)| name.strip_suffix(';'));
        found.extend(declared.map(|name| format!("{}::{name}", me.join("::"))));
    }
    found
}

/// Adds the paths that a text begins with, below `base`: two for `a::{b, c as d}`. Returns what follows.
fn expand<'a>(text: &'a str, base: &[&'a str], found: &mut Vec<String>) -> &'a str {
    let mut path = base.to_vec();
    let mut text = text;
    loop {
        if let Some(mut list) = text.strip_prefix('{') {
            loop {
                list = list.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
                if let Some(rest) = list.strip_prefix('}') {
                    return rest;
                }
                let rest = expand(list, &path, found);
                if rest.len() == list.len() {
                    return rest;
                }
                list = rest;
            }
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if !name.is_empty() {
            path.push(name);
        }
        let Some(next) = rest.strip_prefix("::") else {
            found.push(path.join("::"));
            let rest = rest.strip_prefix('*').unwrap_or(rest);
            let renamed = rest.strip_prefix(" as ");
            return renamed.map_or(rest, |rest| {
                rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
            });
        };
        text = next;
    }
}

/// The modules from which a path leads back to themselves.
fn circle(uses: &Graph) -> BTreeSet<&str> {
    let leads_back = |name: &&String| {
        let mut reached: BTreeSet<&String> = BTreeSet::new();
        let mut next: Vec<&String> = uses[*name].iter().collect();
        while let Some(other) = next.pop() {
            if reached.insert(other) {
                next.extend(&uses[other]);
            }
        }
        reached.contains(name)
    };
    uses.keys().filter(leads_back).map(String::as_str).collect()
}

#[test]
fn no_file_stands_in_a_circle() {
    let uses = uses(&modules());
    assert!(uses.len() > 70, "{uses:#?}");
    let circle = circle(&uses);
    let part: Vec<_> = uses.iter().filter(|(name, _)| circle.contains(name.as_str())).collect();
    assert!(circle.is_empty(), "{circle:?} of {part:#?}");
}

/// A folder is one module here.
#[test]
fn no_module_stands_in_a_circle() {
    let mut folders = Graph::new();
    for (name, others) in uses(&modules()) {
        let folder = |name: &str| name.split("::").next().unwrap_or_default().to_owned();
        let own = folder(&name);
        let all = others.iter().map(|other| folder(other)).filter(|other| *other != own);
        folders.entry(own.clone()).or_default().extend(all);
    }
    assert!(folders.len() > 25, "{folders:#?}");
    let circle = circle(&folders);
    assert!(circle.is_empty(), "{circle:?} of {folders:#?}");
}

/// What the module's own file offers to others is not used within: a name that is exported again hides its module.
#[test]
fn no_file_uses_what_is_exported_again() {
    let modules = modules();
    let of_root = |path: &String| {
        let first = path.split("::").next().unwrap_or_default();
        !modules.keys().any(|name| name.split("::").next() == Some(first))
    };
    let wrong: Vec<_> = modules
        .iter()
        .map(|(name, code)| {
            (name, paths(name, code).into_iter().filter(of_root).collect::<Vec<_>>())
        })
        .filter(|(_, named)| !named.is_empty())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn circles_of_every_form_are_found() {
    let of = |files: &[(&str, &str)]| {
        let modules = files.iter().map(|(name, code)| ((*name).to_owned(), (*code).to_owned()));
        let uses = uses(&modules.collect());
        circle(&uses).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let b = ("r::b", "use super::a::C;");
    for a in [
        "use super::b;",
        "use super::{x, b as y};",
        "use crate::config::r::b::X;",
        "use crate::{base, config::{x, r::{self, b}}};",
        "use crate::config::{\n    x,\n    r::b,\n};",
        "fn f() { super::b::f() }",
    ] {
        assert_eq!(of(&[("r", ""), ("r::a", a), b, ("x", "")]), ["r::a", "r::b"], "{a}");
    }
    assert_eq!(of(&[("r", "mod a;\nmod b;"), ("r::a", "use super::f;"), b]), [""; 0]);
    // Through a file that belongs to one of them.
    let parts =
        [("r::a", "mod c;"), ("r::a::c", "use super::super::b::X;"), ("r::b", "use super::a::C;")];
    assert_eq!(of(&parts), ["r::a", "r::a::c", "r::b"]);
}
