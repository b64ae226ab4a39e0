//! What the documentation quotes as a line of the log, or as a name of a counter, is written by the program in these
//! words.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The pages that tell people what to search for.
const PAGES: [&str; 2] = ["docs/troubleshooting.md", "docs/operations.md"];
/// Words that begin a command line, not a message.
const COMMANDS: &[&str] =
    &["evervip", "evervipd", "ip", "ipvsadm", "journalctl", "kill", "su", "systemctl", "tcpdump"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn quoted_messages_are_those_of_the_program() {
    let messages = messages();
    assert!(messages.len() > 1000, "{}", messages.len());
    for page in PAGES {
        let quotes = quotes(&read(&root().join(page)));
        assert!(quotes.len() > 3, "{page}: {quotes:?}");
        let made_up: Vec<_> = quotes.iter().filter(|q| !is_produced(q, &messages)).collect();
        assert!(made_up.is_empty(), "{page} quotes what the program does not say: {made_up:?}");
    }
}

#[test]
fn a_message_is_recognized_by_its_fixed_words() {
    let all = ["no {} address for interface {own}", "Entering {to} STATE{remark}", "{a}: {b}"];
    let all: BTreeSet<String> = all.map(str::to_owned).into();
    for quote in [
        "no IPv4 address for interface",
        "no IPv4 address for interface eth0",
        "VRRP_Instance(V) Entering MASTER STATE",
        "Entering … STATE",
        "address for …",
    ] {
        assert!(is_produced(quote, &all), "{quote}");
    }
    for quote in ["no address for interface", "Entering MASTER", "IPVS cannot be used", "a: b"] {
        assert!(!is_produced(quote, &all), "{quote}");
    }
    let page = "| says |\n|---|\n| `one two`, *three four* | `ip addr` `priority 50` |\n\nthe log says \"five six\" \
                and\n`seven\neight` `-x y`\n\n    VRRP_Script(x) failed\n    ip addr\n";
    let found = quotes(page);
    let expected = ["VRRP_Script(x) failed", "five six", "one two", "seven eight", "three four"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// Texts of several words in code, emphasis or quotation marks that are neither commands nor configuration.
fn quotes(page: &str) -> BTreeSet<String> {
    let keywords: BTreeSet<String> = Regex::new(r"(?m)^\| `([a-z_0-9]+)`")
        .unwrap()
        .captures_iter(&read(&root().join("docs/keywords.md")))
        .map(|found| found[1].to_owned())
        .collect();
    let mut all = BTreeSet::new();
    let mut running = String::new();
    for line in page.lines() {
        let indented = line.strip_prefix("    ");
        if let Some(line) = indented.filter(|line| line.starts_with("VRRP_")) {
            all.insert(line.to_owned());
        }
        let paragraph = indented.is_none() && !line.starts_with('|') && !line.trim().is_empty();
        if indented.is_none() {
            running.push_str(line);
        }
        running.push(if paragraph { ' ' } else { '\n' });
    }
    let marked =
        Regex::new(r#"`([^`\n]+)`|(?:^|[^*])\*([^*\n]+)\*(?:[^*]|$)|"([^"\n`]+)""#).unwrap();
    for found in marked.captures_iter(&running) {
        let text = found.iter().skip(1).flatten().next().unwrap().as_str();
        let first = text.split(' ').next().unwrap_or_default();
        let is_message = text.contains(' ')
            && !COMMANDS.contains(&first)
            && !keywords.contains(first)
            && !text.starts_with(['-', '/', '#']);
        if is_message {
            all.insert(text.to_owned());
        }
    }
    all
}

/// Whether a message contains the quote, with any text for its placeholders. `…` stands for what the page leaves out.
fn is_produced(quote: &str, messages: &BTreeSet<String>) -> bool {
    let quote = Regex::new(r"^VRRP_Instance\([^)]*\) ").unwrap().replace(quote, "");
    if quote.contains('…') {
        return messages.iter().any(|message| in_order(message, quote.split('…').map(str::trim)));
    }
    let plain = &*quote;
    let placeholder = Regex::new(r"\{[^{}]*\}").unwrap();
    messages.iter().any(|message| {
        if message.contains(plain) {
            return true;
        }
        let parts: Vec<&str> = placeholder.split(message).collect();
        (0..parts.len()).any(|from| {
            (from + 1..=parts.len()).any(|to| {
                let parts = &parts[from..to];
                let fixed: usize = parts.iter().map(|part| part.len()).sum();
                // Placeholders alone produce everything.
                fixed > 6 && fixed * 2 >= plain.len() && matches(plain, parts)
            })
        })
    })
}

fn in_order<'a>(message: &str, parts: impl Iterator<Item = &'a str>) -> bool {
    let mut left = message;
    parts.into_iter().all(|part| match left.split_once(part) {
        Some((_, rest)) => {
            left = rest;
            true
        }
        None => false,
    })
}

/// Whether `text` consists of these parts, in this order, with something between them.
fn matches(text: &str, parts: &[&str]) -> bool {
    let (Some((first, rest)), true) = (parts.split_first(), !parts.is_empty()) else {
        return false;
    };
    let Some(mut left) = text.strip_prefix(first.trim_start()) else { return false };
    for (i, part) in rest.iter().enumerate() {
        let last = i + 1 == rest.len();
        let part = if last { part.trim_end() } else { part };
        let found = if last && left.ends_with(part) {
            Some(left.len() - part.len())
        } else {
            left.find(part)
        };
        match found {
            Some(at) if at > 0 => left = &left[at + part.len()..],
            _ => return false,
        }
    }
    left.is_empty()
}

/// The texts in the sources of the program.
fn messages() -> BTreeSet<String> {
    let token =
        Regex::new(r##"//[^\n]*|r#*"[^"]*"#*|'(?:\\[^']*|[^\\'])'|"((?:[^"\\]|\\(?:.|\n))*)""##)
            .unwrap();
    let continued = Regex::new(r"\\\n\s*").unwrap();
    let mut all = BTreeSet::new();
    for path in files(&root().join("src")) {
        let shown = path.display().to_string();
        if shown.contains("/tests") || shown.contains("/sim/") {
            continue;
        }
        for found in token.captures_iter(&read(&path)).filter_map(|found| found.get(1)) {
            let text = continued.replace_all(found.as_str(), "").replace("\\\"", "\"");
            if text.len() > 6 {
                all.insert(text);
            }
        }
    }
    all
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
    all
}
