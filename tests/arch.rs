//! The rules of docs/architecture.md that the compiler does not enforce: which module may use which, where `unsafe` is
//! allowed, reasons for dependencies, forbidden words. The table of layers is read from that page, so the two cannot
//! differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that build without the operating system.
const CORE: [&str; 13] = [
    "base", "wire", "model", "status", "plan", "track", "vrrp", "bfd", "check", "config", "dump",
    "sim", "lib",
];

/// Every folder with code.
const FOLDERS: [&str; 5] = ["src", "tests", "netns-tests", "bench", "fuzz"];

type Table = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_use_only_the_layers_below_them() {
    let table = table();
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let module = module(&path);
        if module == "lib" {
            continue;
        }
        let Some(allowed) = table.get(&module) else {
            wrong.push(format!("{}: module {module} has no row in the table", path.display()));
            continue;
        };
        for used in used(&path, &text) {
            if used != module && !allowed.contains(&used) && table.contains_key(&used) {
                wrong.push(format!("{}: {module} may not use {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rule 3 of section 2: which files know the configuration language, and which modules the messages between roles.
#[test]
fn config_and_ipc_are_known_where_the_page_says() {
    let may_config = |path: &Path| {
        let files = ["src/role/config.rs", "src/sys/host.rs"];
        ["config", "cli", "lib"].contains(&module(path).as_str())
            || files.iter().any(|file| path == Path::new(file))
    };
    let may_ipc = |path: &Path| ["ipc", "role", "api", "lib"].contains(&module(path).as_str());
    let mut wrong = Vec::new();
    let mut users = BTreeSet::new();
    for (path, text) in sources("src") {
        let used = used(&path, &text);
        for (name, may) in [("config", may_config(&path)), ("ipc", may_ipc(&path))] {
            if used.contains(name) {
                users.insert((name, module(&path)));
                if !may {
                    wrong.push(format!("{} may not use {name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for one in [("config", "role"), ("config", "sys"), ("ipc", "role"), ("ipc", "api")] {
        assert!(users.contains(&(one.0, one.1.to_owned())), "{one:?} was not seen");
    }
}

/// Longer than this, a file is split by concern.
const LINES: usize = 600;
/// Files that are one table or one list, and may be longer.
const TABLES: [&str; 1] = ["tests/config/keywords.rs"];

#[test]
fn no_file_is_longer_than_one_concern_needs() {
    let mut wrong = Vec::new();
    for (path, text) in FOLDERS.into_iter().flat_map(sources) {
        let count = text.lines().count();
        let table = TABLES.iter().any(|table| path == Path::new(table));
        if (count > LINES) != table {
            wrong.push(format!("{}: {count} lines", path.display()));
        }
    }
    assert!(wrong.is_empty(), "over {LINES} lines, or listed without need: {}", wrong.join("\n"));
}

#[test]
fn section_3_names_every_folder_and_file_of_the_product() {
    let entries = listing();
    let missing: Vec<_> = sources("src")
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| !is_listed(&entries, path))
        .map(|path| path.display().to_string())
        .collect();
    assert!(missing.is_empty(), "not in section 3:\n{}", missing.join("\n"));
    let gone: Vec<_> = entries
        .iter()
        .flat_map(|(key, _)| alternatives(key))
        .filter(|path| path.starts_with("src/") && !root().join(path).exists())
        .collect();
    assert!(gone.is_empty(), "listed in section 3, but there is no such file: {gone:?}");
}

#[test]
fn a_file_that_section_3_does_not_name_is_found() {
    let entries = [
        ("src/role/".to_owned(), "table.rs vrrp (no pace)".to_owned()),
        ("src/config/{a,b}.rs".to_owned(), "one · two".to_owned()),
    ];
    for good in
        ["src/role/table.rs", "src/role/vrrp/writer.rs", "src/role/mod.rs", "src/config/b.rs"]
    {
        assert!(is_listed(&entries, Path::new(good)), "{good}");
    }
    for bad in
        ["src/role/pace.rs", "src/role/new/table.rs", "src/config/c.rs", "src/other/table.rs"]
    {
        assert!(!is_listed(&entries, Path::new(bad)), "{bad}");
    }
    assert_eq!(alternatives("src/{a,b}.rs"), ["src/a.rs", "src/b.rs"]);
    assert_eq!(alternatives("src/lib.rs"), ["src/lib.rs"]);
}

/// The list of section 3: a path, and the text beside and below it.
fn listing() -> Vec<(String, String)> {
    let page = architecture();
    let section = page.split("\n## ").find(|part| part.starts_with("3. ")).unwrap_or_default();
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in section.split("```").nth(1).unwrap_or_default().lines() {
        match (line.split_once(' '), entries.last_mut()) {
            (Some((key, text)), _) if !key.is_empty() => {
                entries.push((key.to_owned(), text.to_owned()));
            }
            (_, Some((_, text))) => text.extend(["\n", line]),
            _ => {}
        }
    }
    assert!(entries.len() > 40, "the list of section 3 was not found");
    entries
}

/// Whether the list names a file below a folder of src, or the part of that folder which contains it. What stands in
/// parentheses explains, and names nothing.
fn is_listed(entries: &[(String, String)], path: &Path) -> bool {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let [_, folder, name, ..] = parts.as_slice() else {
        return entries.iter().any(|(key, _)| path == Path::new(key));
    };
    let folder = format!("src/{folder}/");
    let name = name.trim_end_matches(".rs");
    let mut of_folder = entries.iter().filter(|(key, _)| key.starts_with(&folder)).peekable();
    let within = ["mod", "tests"].contains(&name) && of_folder.peek().is_some();
    within
        || of_folder.any(|(key, text)| {
            let mut depth = 0;
            let plain = text.chars().filter(|c| {
                depth += i32::from(*c == '(') - i32::from(*c == ')');
                depth == 0
            });
            let text = format!("{} {}", key.replace(&folder, ""), plain.collect::<String>());
            words(&text).any(|word| word == name)
        })
}

/// `a{b,c}d` as `abd` and `acd`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((head, (list, tail))) =
        path.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?)))
    else {
        return vec![path.to_owned()];
    };
    list.split(',').map(|one| format!("{head}{one}{tail}")).collect()
}

#[test]
fn unsafe_stands_only_in_sys_and_says_why() {
    let mut wrong = Vec::new();
    for (path, text) in FOLDERS.into_iter().flat_map(sources) {
        // A counting allocator requires it.
        let inside = path.starts_with("src/sys") || path.ends_with("tests/allocations.rs");
        let mut explained = false;
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            // The text of the keyword in this file is not a use of it.
            let uses = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|form| code.contains(form) && !code.contains(&format!("\"{form}")));
            if uses && !(inside && explained) {
                wrong.push(format!("{}:{}", path.display(), number + 1));
            }
            // A comment applies to the statement below it, up to the next blank line.
            explained = !line.trim().is_empty() && (explained || line.contains("SAFETY:"));
        }
    }
    assert!(
        wrong.is_empty(),
        "unsafe without a SAFETY comment, or outside src/sys:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_module_of_the_core_forbids_unsafe_code() {
    let missing: Vec<_> = CORE
        .iter()
        .flat_map(|name| [format!("src/{name}/mod.rs"), format!("src/{name}.rs")])
        .filter(|path| !path.ends_with("/lib.rs") && root().join(path).exists())
        .filter(|path| !read(&root().join(path)).contains("#![forbid(unsafe_code)]"))
        .collect();
    assert!(missing.is_empty(), "without #![forbid(unsafe_code)]: {missing:?}");
}

#[test]
fn every_module_opens_with_what_it_holds() {
    let missing: Vec<_> = FOLDERS
        .into_iter()
        .flat_map(sources)
        .filter(|(path, text)| !text.starts_with("//!") && !path.ends_with("tests.rs"))
        .map(|(path, _)| path)
        .collect();
    assert!(missing.is_empty(), "without a //! line at the top: {missing:?}");
}

#[test]
fn every_dependency_has_its_reason_in_the_architecture_page() {
    let page = architecture();
    let missing: Vec<_> = dependencies("Cargo.toml")
        .into_iter()
        // Names may be written as words or as code.
        .filter(|(_, name)| !words(&page).any(|word| word == name))
        .collect();
    assert!(missing.is_empty(), "not named in docs/architecture.md: {missing:?}");
}

#[test]
fn every_dependency_is_used() {
    let code = |folders: &[&str]| -> String {
        folders.iter().flat_map(|folder| sources(folder)).map(|(_, text)| code(&text)).collect()
    };
    let product = code(&["src"]);
    let all = format!("{product}{}", code(&["tests", "netns-tests", "bench"]));
    let fuzz = code(&["fuzz"]);
    let mut unused = Vec::new();
    for (manifest, text) in [("Cargo.toml", &product), ("fuzz/Cargo.toml", &fuzz)] {
        for (section, name) in dependencies(manifest) {
            let text = if section == "dev-dependencies" { &all } else { text };
            if !names_crate(text, &name.replace('-', "_")) {
                unused.push(format!("{manifest}: {name}"));
            }
        }
    }
    assert!(unused.is_empty(), "dependencies that no code names: {unused:?}");
}

#[test]
fn a_crate_is_used_where_a_path_begins_with_its_name() {
    assert!(names_crate("use nix::net;", "nix"));
    assert!(names_crate("fn f() -> nix::Result {", "nix"));
    for other in ["use crate::nix::net;", "use unix::net;", "use nix_more::net;", "let nix = 1;"] {
        assert!(!names_crate(other, "nix"), "{other}");
    }
    assert!(!names_crate(&code("a(); // nix::net"), "nix"));
}

/// A state of a virtual router is only entered as the transition table decides: where `enter` is called, `Step::Enter` of
/// `fsm::step` gave the state, and only `enter` sets it.
#[test]
fn states_are_entered_as_the_transition_table_says() {
    let (mut calls, mut wrong) = (0, Vec::new());
    for (path, text) in sources("src/vrrp").into_iter().filter(|(path, _)| !is_test(path)) {
        for (number, called) in bypasses(&code(&text)) {
            calls += usize::from(called);
            if !called {
                wrong.push(format!("{}:{number}", path.display()));
            }
        }
        if !path.ends_with("transition.rs") && code(&text).contains(".set_machine(") {
            wrong.push(format!("{}: sets the state without enter()", path.display()));
        }
    }
    assert!(wrong.is_empty(), "not after a Step::Enter of the table:\n{}", wrong.join("\n"));
    assert!(calls > 0, "no call of enter() was found");
}

#[test]
fn a_state_entered_without_the_table_is_found() {
    let good = "fn f() {\n if let Step::Enter(to) = fsm::step(state, input) {\n  self.enter(moment, id, to);\n }\n}\n";
    let other = "fn g() {\n self.enter(moment, id, State::Init);\n}\n";
    assert_eq!(bypasses(good), [(3, true)]);
    assert_eq!(bypasses(&format!("{good}{other}")), [(3, true), (7, false)], "in another function");
    assert_eq!(bypasses(&good.replace("id, to", "id, State::Init")), [(3, false)]);
}

/// The lines that call `enter`, and whether the state is the one of a `Step::Enter` above in the same function.
fn bypasses(code: &str) -> Vec<(usize, bool)> {
    let mut given = None;
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("fn ") || line.contains(") fn ") || line.starts_with("pub fn ") {
            given = None;
        }
        if let Some((_, rest)) = line.split_once("Step::Enter(")
            && let Some((name, rest)) = rest.split_once(')')
            && rest.contains("fsm::step(")
        {
            given = Some(name.to_owned());
        }
        if let Some((_, rest)) = line.split_once(".enter(") {
            let last =
                rest.rsplit_once(')').and_then(|(arguments, _)| arguments.split(',').next_back());
            let called = last.map(str::trim) == given.as_deref() && given.is_some();
            found.push((number + 1, called));
        }
    }
    found
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// Whether a path in the code begins with the name of this crate.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code.get(..at).unwrap_or_default();
        let inside = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        // `::nix::net` is the crate, `crate::nix::net` is not.
        let below = before
            .strip_suffix("::")
            .is_some_and(|path| path.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        !inside && !below
    })
}

/// Section and name of each dependency that a manifest declares.
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let manifest = read(&root().join(manifest));
    let mut found = Vec::new();
    let mut section = "";
    for line in manifest.lines() {
        if let Some(heading) = line.strip_prefix('[') {
            section = heading.trim_end_matches(']');
        }
        let name = line.split(['=', ' ']).next().unwrap_or_default();
        if section.ends_with("dependencies") && name.starts_with(|c: char| c.is_ascii_lowercase()) {
            found.push((section.to_owned(), name.to_owned()));
        }
    }
    assert!(!found.is_empty(), "a manifest without dependencies");
    found
}

#[test]
fn no_file_says_what_it_must_not() {
    // Assembled here so that this file does not contain them.
    let forbidden = [
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["FIX", "ME"],
        ["XX", "X "],
        ["to", "do!("],
        ["unimple", "mented!("],
        ["#[ig", "nore"],
        ["not implemented", " yet"],
    ]
    .map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for path in files(&root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            wrong.extend(
                forbidden
                    .iter()
                    .filter(|word| line.contains(word.as_str()))
                    .map(|word| format!("{}:{}: {word}", path.display(), number + 1)),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table of section 2: two pairs of columns, "Module" and "May use".
fn table() -> Table {
    let page = architecture();
    let section = page.split("\n## ").find(|part| part.starts_with("2. ")).unwrap_or_default();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with('|') && !line.contains("---") && !line.contains("May use"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let pairs: Vec<(&str, &str)> = rows
        .iter()
        .flat_map(|cells| match cells.as_slice() {
            [left, uses, _, right, more] => vec![(*left, *uses), (*right, *more)],
            other => panic!("a row with {} cells: {other:?}", other.len()),
        })
        .filter(|(modules, _)| !modules.is_empty())
        .collect();
    assert!(pairs.len() > 8, "the table of section 2 was not found");
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split(',').map(|name| name.trim().to_owned()).collect()
    };
    let all: BTreeSet<String> = pairs.iter().flat_map(|(modules, _)| names(modules)).collect();
    let core = || CORE.iter().filter(|name| **name != "config" && **name != "sim");
    let mut table = Table::new();
    for (modules, uses) in pairs {
        let mut allowed = BTreeSet::new();
        for word in names(uses) {
            match word.as_str() {
                "nothing of ours" => {}
                "all" => allowed.extend(all.iter().cloned()),
                "the whole core but config" => {
                    allowed.extend(core().map(|name| (*name).to_owned()))
                }
                name => {
                    assert!(all.contains(name), "unknown module in the table: {name}");
                    allowed.insert(name.to_owned());
                }
            }
        }
        table.extend(names(modules).into_iter().map(|module| (module, allowed.clone())));
    }
    table
}

/// The modules of the crate that a file names, its tests included: `crate::a`, `crate::{a, b}`, `evervip::a`, and chains
/// of `super::` that reach the root.
fn used(path: &Path, text: &str) -> BTreeSet<String> {
    let code = code(text);
    let is_module_file = path.ends_with("mod.rs");
    let depth = path.components().count().saturating_sub(if is_module_file { 2 } else { 1 });
    let up = "super::".repeat(depth);
    let mut found = BTreeSet::new();
    for root in ["crate::", "evervip::", up.as_str()] {
        for (at, _) in code.match_indices(root) {
            let before = code.get(..at).unwrap_or_default();
            if before.ends_with("::") || before.ends_with(|c: char| c.is_alphanumeric()) {
                continue;
            }
            let rest = code.get(at + root.len()..).unwrap_or_default();
            found.extend(first_names(rest));
        }
    }
    found
}

/// A text without its `//` comments.
fn code(text: &str) -> String {
    text.lines().flat_map(|line| [line.split("//").next().unwrap_or_default(), "\n"]).collect()
}

/// Public types need a doc comment. Functions, fields and variants only need one if their names are not sufficient: a
/// rule for them would produce empty comments.
#[test]
fn public_types_are_documented() {
    const KINDS: [&str; 3] = ["struct", "enum", "trait"];
    let mut silent = Vec::new();
    for (path, text) in sources("src") {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let kind = line.strip_prefix("pub ").and_then(|rest| rest.split(' ').next());
            if !kind.is_some_and(|kind| KINDS.contains(&kind)) || line.contains('$') {
                continue;
            }
            let above = lines.get(..at).unwrap_or_default().iter().rev();
            let ends = |line: &&&str| line.is_empty() || line.ends_with(['{', '}', ';']);
            if !above.take_while(|l| !ends(l)).any(|l| l.starts_with("///") || l.contains("doc")) {
                silent.push(format!("{}:{}: {line}", path.display(), at + 1));
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

/// `a` of `a::b`, `a` and `c` of `{a::b, c}`.
fn first_names(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(list) = text.strip_prefix('{') else { return vec![name(text)] };
    let mut depth = 0;
    let mut names = vec![name(list)];
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(list.get(at + 1..).unwrap_or_default())),
            _ => {}
        }
    }
    names
}

/// The top-level module of a file below src.
fn module(path: &Path) -> String {
    let inner = path.strip_prefix("src").unwrap_or(path);
    let first = inner.components().next().map(|part| part.as_os_str().to_string_lossy());
    first.unwrap_or_default().trim_end_matches(".rs").to_owned()
}

/// Rust files below a folder of the package, with their text, by path from the package.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut all: Vec<_> = files(&root().join(folder))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = read(&path);
            (path.strip_prefix(root()).unwrap_or(&path).to_owned(), text)
        })
        .collect();
    assert!(!all.is_empty(), "no source files in {folder}");
    all.sort();
    all
}

/// All files below a folder except those of git and the compiler.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let skipped = ["target", ".git", "corpus", "artifacts"];
            if skipped.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
}

fn architecture() -> String {
    read(&root().join("docs/architecture.md"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
