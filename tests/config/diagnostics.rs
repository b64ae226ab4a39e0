//! Every code has a small configuration that produces it, and the expected text.
//!
//! `tests/data/diagnostics/CODE.conf` is the configuration, `CODE.txt` the text. After an intended change run with
//! `EVERVIP_BLESS=1` and review the difference; the same run rewrites `docs/diagnostics.md`.

use std::fs;
use std::path::{Path, PathBuf};

use evervip::base::Prefix;
use evervip::config::codes::{self, Code};
use evervip::config::{
    Diagnostic, FileInfo, FileKind, Loaded, MemoryFiles, Options, Peer, Severity, StaticHost,
    Style, load,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/diagnostics")
}

fn blessing() -> bool {
    std::env::var_os("EVERVIP_BLESS").is_some()
}

/// All files of the directory. Two are special by their permissions.
fn files() -> MemoryFiles {
    let mut files = MemoryFiles::default();
    let mut entries: Vec<_> = fs::read_dir(root()).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        let mode = if name == "executable.inc" || name == "F0113.conf" { 0o755 } else { 0o644 };
        files = files.with_mode(name, mode, &fs::read(&path).unwrap());
    }
    files
}

fn prefix(address: &str) -> Prefix {
    Prefix::new(address.parse().unwrap(), 24).unwrap()
}

/// A machine on which everything is fine except what some of the files test.
pub fn machine() -> StaticHost {
    let info = |kind, mode, uid| FileInfo { kind, mode, uid, gid: uid };
    let mut host = StaticHost {
        users: vec![("root".into(), 0), ("alice".into(), 1000)],
        ..StaticHost::default()
    };
    for name in ["eth0", "eth1"] {
        host = host.with_interface(name, &[prefix("192.0.2.9")]);
    }
    host = host.with_interface("lan0", &[prefix("198.51.100.9")]);
    for (path, kind, mode, uid) in [
        ("/opt", FileKind::Directory, 0o755, 0),
        ("/opt/app", FileKind::Directory, 0o700, 0),
        ("/opt/app/check.sh", FileKind::Regular, 0o755, 0),
        ("/opt/mine", FileKind::Directory, 0o755, 0),
        ("/opt/mine/check.sh", FileKind::Regular, 0o644, 1000),
        ("/opt/loose", FileKind::Directory, 0o777, 0),
        ("/opt/loose/check.sh", FileKind::Regular, 0o755, 0),
        ("/etc/loose.key", FileKind::Regular, 0o644, 0),
    ] {
        host.files.push((path.into(), info(kind, mode, uid)));
    }
    host
}

pub fn run(code: &Code) -> Loaded {
    let files = files();
    let host = machine();
    let name = match code.id {
        "W0115" => "W0115*.conf".to_owned(),
        id => format!("{id}.conf"),
    };
    let mut options = Options::new(name, &host);
    options.lints = true;
    if code.id == "E0112" {
        options.limits.depth = 1;
    }
    if code.id.starts_with("L081") {
        let peer = load(&files, &host, &Options::new("peer.conf", &host));
        options.peer = Some(Peer { file: "peer.conf".into(), vrrp: peer.model.vrrp });
    }
    load(&files, &host, &options)
}

#[test]
fn every_code_has_an_example_and_says_what_it_always_said() {
    let mut wrong = Vec::new();
    for code in codes::ALL {
        let loaded = run(code);
        if !loaded.diagnostics.iter().any(|d| d.code == *code) {
            let got: Vec<_> = loaded.diagnostics.log_lines().collect();
            wrong.push(format!("{} is not produced, but {got:?}", code.id));
            continue;
        }
        let text = loaded.diagnostics.text(Style::Plain);
        let path = root().join(format!("{}.txt", code.id));
        if blessing() {
            fs::write(&path, &text).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(format!("{} says something else now:\n{text}", code.id));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same lines, one of them with a misspelt keyword or an unusable last word: the number of the line and the text.
fn broken(text: &str) -> Vec<(u32, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first().is_none_or(|word| word.starts_with(['#', '!', '}', '@', '$', '~'])) {
            continue;
        }
        let misspelt = line.replacen(words[0], &format!("{}x", words[0]), 1);
        let last = words.last().filter(|word| words.len() > 1 && **word != "{");
        let unusable = last.and_then(|word| Some(format!("{} ?", line.rsplit_once(word)?.0)));
        for new in core::iter::once(misspelt).chain(unusable) {
            let mut lines = lines.clone();
            lines[at] = &new;
            all.push((u32::try_from(at + 1).unwrap(), lines.join("\n") + "\n"));
        }
    }
    all
}

/// Each line of each example is broken. What that adds begins with the line.
#[test]
fn a_cause_comes_before_its_consequences() {
    let files = files();
    let host = machine();
    let mut wrong = Vec::new();
    let (mut tried, mut followed) = (0, 0);
    for code in codes::ALL {
        let name = format!("{}.conf", code.id);
        let Ok(text) = fs::read_to_string(root().join(&name)) else { continue };
        if text.len() > 4096 || name == "F0113.conf" {
            continue;
        }
        let read = |text: &str| {
            let mut options = Options::new(name.clone(), &host);
            options.lints = true;
            load(&files.clone().with(&name, text.as_bytes()), &host, &options)
        };
        let before: Vec<String> =
            read(&text).diagnostics.iter().map(|d| d.message.clone()).collect();
        for (line, text) in broken(&text) {
            let loaded = read(&text);
            let all = &loaded.diagnostics;
            let here =
                |d: &Diagnostic| all.location(d).is_some_and(|at| at.0 == name && at.1 == line);
            let new: Vec<_> = all.iter().filter(|d| !before.contains(&d.message)).collect();
            let Some(cause) = new.iter().position(|d| here(d) && d.severity == Severity::Error)
            else {
                continue;
            };
            tried += 1;
            followed += usize::from(new.len() > cause + 1);
            if !here(new[0]) {
                let said: Vec<_> = new.iter().map(|d| all.log_line(d)).collect();
                wrong.push(format!("{name}:{line}: {said:#?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 700 && followed > 70, "{tried} {followed}");
}

/// Text, log and JSON show three problems of a kind and count the others.
#[test]
fn a_flood_of_one_kind_of_problem_is_counted() {
    let host = machine();
    let instance = |name: &str, line: &str| {
        format!(
            "vrrp_instance {name} {{\n interface eth0\n virtual_router_id 7\n{line}\n virtual_ipaddress {{\n  192.0.2.1/24\n }}\n}}\n"
        )
    };
    let megabyte = "x1 ".repeat(350_000);
    let addresses = (0..2000).map(|n| format!("a{n} ")).collect::<String>();
    let often: String = (0..300).map(|n| instance(&format!("I{n}"), " priorty 100")).collect();
    for (text, code, shown) in [
        (instance("A", &megabyte), "E0109", 30),
        (format!("{megabyte}\n"), "E0109", 30),
        (
            format!("vrrp_sync_group G {{\n group {{\n{}\n }}\n}}\n", &addresses[..1000]),
            "E0404",
            10,
        ),
        (instance("A", "$X=\\\n{ } } }").replace("$X", &"} ".repeat(200)), "E0104", 40),
        (often, "E0101", 310),
    ] {
        let mut options = Options::new("k.conf", &host);
        options.lints = true;
        let loaded = load(&MemoryFiles::single("k.conf", text.as_bytes()), &host, &options);
        let all = &loaded.diagnostics;
        let begin: String = text.chars().take(80).collect();
        let of_kind = all.iter().filter(|d| d.code.id == code).count();
        let lines: Vec<String> = all.log_lines().map(|(_, line)| line).collect();
        assert!(lines.len() <= shown, "{begin}: {} lines", lines.len());
        assert!(all.text(Style::Plain).lines().count() < shown * 12, "{begin}");
        let json: serde_json::Value = serde_json::from_str(&all.json()).unwrap();
        let items = json["diagnostics"].as_array().unwrap();
        assert_eq!(items.len(), lines.len(), "{begin}");
        let more: u64 = items.iter().filter_map(|item| item["more"].as_u64()).sum();
        // Nothing is lost: it is shown or counted.
        assert_eq!(items.len() + usize::try_from(more).unwrap(), all.len(), "{begin}");
        assert!(of_kind > 3, "{begin}: {of_kind} of {code}, {:?}", &lines[..lines.len().min(8)]);
    }
}

#[test]
fn a_lint_is_advice_and_leaves_the_exit_status_alone() {
    for code in codes::ALL.iter().filter(|c| c.id.starts_with('L')) {
        let loaded = run(code);
        for d in loaded.diagnostics.iter().filter(|d| d.code.id.starts_with('L')) {
            assert!(d.severity < Severity::Error, "{}: {}", d.code.id, d.message);
        }
        assert_eq!(loaded.diagnostics.status(), without_lints(code).diagnostics.status());
        assert!(!without_lints(code).diagnostics.iter().any(|d| d.code.id.starts_with('L')));
    }
}

fn without_lints(code: &Code) -> Loaded {
    let host = machine();
    load(&files(), &host, &Options::new(format!("{}.conf", code.id), &host))
}

#[test]
fn colours_are_for_terminals_only() {
    let loaded = run(&codes::UNKNOWN_KEYWORD);
    assert!(!loaded.diagnostics.text(Style::Plain).contains('\u{1b}'));
    assert!(loaded.diagnostics.text(Style::Coloured).contains("\u{1b}["));
}

/// The page of all codes.
fn page() -> String {
    let mut page = String::from(
        "# Diagnostics\n\n\
         <!-- Made from src/config/codes.rs and tests/data/diagnostics by the test config::diagnostics. Do not edit. -->\n\n\
         The messages of `evervip check` and `evervipd -t`, by code. The letter says what the problem stops: `F` a start and\n\
         every reload, `E` a reload that adds it (the wrong part is ignored, or an interface is missing), `W` nothing: it is\n\
         doubtful, or does not fit this machine; `L` stands for lints, which keepalived does not have, and `N` for notes. The number is the kind\n\
         of problem. Some kinds can have several letters; the usual one is shown below. `evervip explain CODE` shows the\n\
         text on a terminal.\n\n\
         - `evervip check --silence CODE,CODE` leaves out warnings and lints. Errors cannot be silenced, except E0501\n  (interfaces that this machine does not have), to check the file of another machine.\n\
         - `evervip check --peer FILE` compares with the configuration of the other router (L0811 to L0819); exit status 3 means\n\
           that both would be master at the same time.\n\
         - `evervip check --strict` fails for warnings as well, and reports what keepalived ignores without a message.\n\
         - `evervip check --format json` prints what [diagnostics.schema.json](diagnostics.schema.json) describes.\n\n\
         `evervipd -t` reports the same and exits with keepalived's exit status, which lints do not change.\n\n",
    );
    for code in codes::ALL {
        page.push_str(&format!("- [{0}](#{1}) {2}\n", code.id, code.id.to_lowercase(), code.title));
    }
    for code in codes::ALL {
        page.push_str(&format!("\n<a id=\"{}\"></a>\n", code.id.to_lowercase()));
        page.push_str(&format!("## {}: {}\n\n", code.id, code.title));
        for line in code.lines() {
            page.push_str(line);
            page.push('\n');
        }
        let loaded = run(code);
        if let Some(d) = loaded.diagnostics.iter().find(|d| d.code == *code) {
            let text = loaded.diagnostics.render(d, Style::Plain, evervip::config::Head::Title);
            let short = text.lines().all(|l| l.len() < 300 && !l.contains('\0'));
            if short {
                page.push_str(&format!("\n```text\n{}\n```\n", text.trim_end()));
            }
        }
    }
    page
}

#[test]
fn the_page_of_codes_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/diagnostics.md");
    let page = page();
    if blessing() {
        fs::write(&path, page).unwrap();
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/diagnostics.md is stale: run the tests with EVERVIP_BLESS=1");
}

#[test]
fn codes_are_unique_and_sorted_within_their_hundred() {
    let mut numbers: Vec<&str> = codes::ALL.iter().map(|c| &c.id[1..]).collect();
    let before = numbers.clone();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, before, "two codes of one number, or out of order");
}

#[test]
fn json_is_as_the_published_schema_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/diagnostics.schema.json");
    let schema: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for code in codes::ALL {
        let report: serde_json::Value =
            serde_json::from_str(&run(code).diagnostics.json()).unwrap();
        assert_eq!(
            super::schema::misfits(&report, &schema, &schema, ""),
            Vec::<String>::new(),
            "{}",
            code.id
        );
        for item in report["diagnostics"].as_array().unwrap() {
            let stops = match &item["code"].as_str().unwrap()[..1] {
                "F" => "start",
                "E" => "reload",
                _ => "nothing",
            };
            assert_eq!(item["stops"], stops, "{item}");
            seen.extend(item.as_object().unwrap().keys().cloned());
        }
    }
    // Every member of the schema occurs in at least one diagnostic.
    let described = schema["$defs"]["diagnostic"]["properties"].as_object().unwrap();
    let described: std::collections::BTreeSet<String> = described.keys().cloned().collect();
    assert_eq!(seen, described);
    // The schema check itself detects errors.
    let wrong = serde_json::json!({ "format": 2, "errors": "none" });
    assert!(super::schema::misfits(&wrong, &schema, &schema, "").len() > 3);
}
