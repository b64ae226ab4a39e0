//! Configurations of other people, with keepalived's messages about them. They are not part of the project: the test
//! runs if `EVERVIP_CORPUS` names their directory, or if it exists beside the checkout as `../shared/corpus`.

#![allow(clippy::print_stdout, reason = "says that it was skipped")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use evervip::config::{
    FileInfo, FileKind, Loaded, MemoryFiles, Options, Severity, StaticHost, load,
};

pub fn directory() -> Option<PathBuf> {
    let given = std::env::var_os("EVERVIP_CORPUS").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut places: Vec<PathBuf> = given.into_iter().collect();
    places.extend(root.ancestors().take(3).map(|a| a.join("../shared/corpus")));
    places.into_iter().find(|p| p.join("INDEX.tsv").exists())
}

/// What keepalived 2.2.7 reports and we do not: the anchor of the reason in docs/configuration.md, and the message.
const JUDGED: &[(&str, &str)] = &[("newer-keywords", "Unknown keyword 'vrrp_ipsets'")];

/// What we report with a place and keepalived 2.2.7 does not: the anchor of the reason, and our code.
const MORE: &[(&str, &str)] = &[
    ("deprecated", "W0701"),
    ("repeated-addresses", "E0407"),
    ("follow-ups", "E0404 BFD instance"),
    ("unjudged", "W0416 BFD_CHECK"),
    ("mark-ports", "W0412 virtual server [test2]: port"),
];

/// Files whose exit status differs, with the anchor of the reason.
const STATUS: &[(&str, &str)] = &[("unused-scripts", "101-copy.conf")];

/// The anchor of the reason for messages of another keepalived process.
const OTHER_PROCESS: &str = "one-reading";

/// Lines about the machine on which keepalived ran, not about the text.
const ENVIRONMENT: &[&str] = &[
    "SECURITY VIOLATION",
    "Disabling track script",
    "Config files missing",
    "There are insecure scripts",
];

struct Verdict {
    interfaces: Vec<String>,
    /// Line numbers with the first message there.
    lines: Vec<(u32, String)>,
    /// Messages without a line.
    others: BTreeSet<String>,
    exit: u8,
}

fn verdict(path: &Path) -> Verdict {
    let text = fs::read_to_string(path).unwrap();
    let mut verdict =
        Verdict { interfaces: Vec::new(), lines: Vec::new(), others: BTreeSet::new(), exit: 0 };
    let mut inside = false;
    for line in text.lines() {
        if let Some(names) = line.strip_prefix("interfaces created:") {
            verdict.interfaces = names.split_whitespace().map(str::to_owned).collect();
        } else if line.starts_with('[') {
            inside = line.starts_with("[interfaces]");
            if inside {
                let exit = line.split("exit=").nth(1).unwrap().split_whitespace().next().unwrap();
                verdict.exit = exit.parse().unwrap_or(255);
            }
        } else if let (true, Some(message)) = (inside, line.strip_prefix('\t')) {
            if ENVIRONMENT.iter().any(|e| message.contains(e)) {
                continue;
            }
            let place = message.strip_prefix('(').and_then(|m| m.split_once("Line "));
            let number = place.and_then(|(_, rest)| rest.split(')').next()?.parse().ok());
            match number {
                Some(number) => {
                    let text = message.split_once(") ").map_or("", |m| m.1).to_owned();
                    if !verdict.lines.iter().any(|(n, t)| *n == number && *t == text) {
                        verdict.lines.push((number, text));
                    }
                }
                None => {
                    verdict.others.insert(message.to_owned());
                }
            }
        }
    }
    verdict
}

fn run(path: &Path, name: &str, verdict: &Verdict) -> Loaded {
    run_text(&fs::read(path).unwrap(), name, verdict)
}

fn run_text(text: &[u8], name: &str, verdict: &Verdict) -> Loaded {
    let programs = [
        "true",
        "false",
        "bash",
        "sh",
        "killall",
        "pidof",
        "echo",
        "test",
        "cat",
        "ping",
        "nft",
        "pkill",
        "pgrep",
        "curl",
        "python3",
        "systemctl",
        "ip",
    ];
    let mut host = StaticHost {
        name: "vm".into(),
        users: vec![("root".into(), 0), ("nobody".into(), 65534)],
        files: vec![
            (
                "/usr/sbin".into(),
                FileInfo { kind: FileKind::Directory, mode: 0o755, uid: 0, gid: 0 },
            ),
            (
                "/usr/sbin/ip".into(),
                FileInfo { kind: FileKind::Regular, mode: 0o755, uid: 0, gid: 0 },
            ),
        ],
        programs: Some(programs.map(str::to_owned).to_vec()),
        ..StaticHost::default()
    };
    // `one_more0` is that of an instance which a test adds.
    for interface in verdict.interfaces.iter().map(String::as_str).chain(["one_more0"]) {
        host = host.with_interface(interface, &[]);
    }
    let files = MemoryFiles::single(name, text);
    // keepalived reports each line that is a consequence of a mistake.
    let options = Options { consequences: true, ..Options::new(name, &host) };
    load(&files, &host, &options)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().into_string().ok())
        .filter(|n| n.ends_with(".conf"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

/// The text with one more line in its first instance; none if no instance begins on a line of its own.
fn with_line(text: &[u8], line: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut done = false;
    for part in text.split_inclusive(|&b| b == b'\n') {
        out.extend_from_slice(part);
        let shown = String::from_utf8_lossy(part);
        let words: Vec<&str> = shown.split_whitespace().collect();
        if !done && matches!(words.as_slice(), ["vrrp_instance", name, "{"] if !name.contains('$'))
        {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
            done = true;
        }
    }
    done.then_some(out)
}

/// "Only replaced if ... follows" must not be said of a name that was replaced.
#[test]
fn other_peoples_definitions_that_are_replaced_get_no_hint() {
    let Some(directory) = directory() else {
        println!("SKIPPED other_peoples_definitions_that_are_replaced_get_no_hint: no corpus");
        return;
    };
    let mut wrong = Vec::new();
    for name in &names(&directory) {
        let stem = name.trim_end_matches(".conf");
        let loaded = run(
            &directory.join(name),
            name,
            &verdict(&directory.join(format!("verdicts/{stem}.txt"))),
        );
        let report: serde_json::Value = serde_json::from_str(&loaded.diagnostics.json()).unwrap();
        for item in report["diagnostics"].as_array().unwrap() {
            let text = item["location"]["text"].as_str().unwrap_or_default();
            let helps = item["help"].as_array().into_iter().flatten().filter_map(|h| h.as_str());
            for used in helps.filter_map(|help| help.split_once("' is only replaced")) {
                let used = used.0.trim_start_matches('\'');
                let stays = text.match_indices(used).any(|(at, _)| {
                    let next = text[at + used.len()..].chars().next();
                    next.is_some_and(|c| !matches!(c, ' ' | '\t' | ',' | ')'))
                });
                if !stays {
                    wrong.push(format!("{name}: {used}: {text}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong hints:\n{}", wrong.len(), wrong.join("\n"));
}

const ANOTHER: &str = "vrrp_instance one_more_instance {\n interface one_more0\n virtual_router_id 254\n priority 7\n virtual_ipaddress {\n  192.0.2.254/24\n }\n}\n";

#[test]
fn other_peoples_files_with_mistakes_can_be_reloaded() {
    let Some(directory) = directory() else {
        println!(
            "SKIPPED other_peoples_files_with_mistakes_can_be_reloaded: no corpus, set EVERVIP_CORPUS"
        );
        return;
    };
    let (mut files, mut typos, mut wrong) = (0, 0, Vec::new());
    for name in &names(&directory) {
        let stem = name.trim_end_matches(".conf");
        let verdict = verdict(&directory.join(format!("verdicts/{stem}.txt")));
        let text = fs::read(directory.join(name)).unwrap();
        let running = run_text(&text, name, &verdict);
        // It starts, and something of it is left out.
        if running.unusable() || running.diagnostics.errors() == 0 {
            continue;
        }
        files += 1;
        let known = running.diagnostics.mistake_numbers();
        let refused = |loaded: &Loaded| -> Vec<String> {
            let new = loaded.diagnostics.new_errors(&known);
            new.map(|d| loaded.diagnostics.log_line(d)).collect()
        };
        let again = refused(&run_text(&text, name, &verdict));
        if !again.is_empty() {
            wrong.push(format!("{name}: as it is: {again:?}"));
        }
        let more = run_text(&[ANOTHER.as_bytes(), &text].concat(), name, &verdict);
        let found = refused(&more);
        let instances = |loaded: &Loaded| {
            let all = loaded.model.vrrp.instances.iter();
            all.map(|i| i.name.to_string()).collect::<BTreeSet<_>>()
        };
        let mut wanted = instances(&running);
        wanted.insert("one_more_instance".into());
        if !found.is_empty() || instances(&more) != wanted {
            wrong.push(format!("{name}: with another instance: {found:?} {:?}", instances(&more)));
        }
        let known_word = String::from_utf8_lossy(&text).contains("priorty");
        if running.model.vrrp.instances.is_empty() || known_word {
            continue;
        }
        if let Some(typo) = with_line(&text, "    priorty 77") {
            typos += 1;
            let found = refused(&run_text(&typo, name, &verdict));
            if found.is_empty() || !found.iter().all(|line| line.contains("priorty")) {
                wrong.push(format!("{name}: with a new typo: {found:?}"));
            }
        }
    }
    println!("{files} files with mistakes, {typos} of them with a typo in an instance");
    assert!(wrong.is_empty(), "{} of {files}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(files > 20 && typos > 10, "{files} files, {typos} typos");
}

/// How often each lint is given for these files: `cargo test -- --nocapture lints_of_other_peoples_files` prints it.
#[test]
fn lints_of_other_peoples_files_are_few() {
    let Some(directory) = directory() else {
        println!("SKIPPED lints_of_other_peoples_files_are_few: no corpus, set EVERVIP_CORPUS");
        return;
    };
    let mut counts: BTreeMap<&str, (usize, BTreeSet<String>)> = BTreeMap::new();
    let names = names(&directory);
    for name in &names {
        let stem = name.trim_end_matches(".conf");
        let mut host = StaticHost::default();
        for interface in &verdict(&directory.join(format!("verdicts/{stem}.txt"))).interfaces {
            host = host.with_interface(interface, &[]);
        }
        // The checking machine is a different one, with its own address.
        let own = evervip::base::Prefix::new("198.18.7.2".parse().unwrap(), 24).unwrap();
        host.interfaces.retain(|(name, _)| name != "eth0");
        host = host.with_interface("eth0", &[own]);
        let files = MemoryFiles::single(name, &fs::read(directory.join(name)).unwrap());
        let options = Options { lints: true, ..Options::new(name.as_str(), &host) };
        for d in load(&files, &host, &options).diagnostics.iter() {
            if d.code.id.starts_with('L') || d.code.id == "N0506" {
                let entry = counts.entry(d.code.id).or_default();
                entry.0 += 1;
                entry.1.insert(name.clone());
            }
        }
    }
    for (code, (times, files)) in &counts {
        println!("{code}: {times} times in {} of {} files: {files:?}", files.len(), names.len());
    }
    // For addresses outside the networks of the machine a file of another machine gets one note, no warning.
    if let Some((times, files)) = counts.get("L0804") {
        assert_eq!(*times, files.len(), "{files:?}");
    }
    for code in ["L0821", "L0822", "L0823", "L0824", "N0506"] {
        let files = counts.get(code).map_or(0, |(_, files)| files.len());
        assert!(files * 20 <= names.len(), "{code} speaks of {files} of {} files", names.len());
    }
}

/// Keywords that other peoples' files use and this version has not put into effect, by part (see [`super::parts`]):
/// none is left of the part about virtual routers and what they own.
#[test]
fn virtual_routers_of_other_people_are_wholly_in_effect() {
    let Some(directory) = directory() else {
        println!("SKIPPED virtual_routers_of_other_people_are_wholly_in_effect: no corpus");
        return;
    };
    let parts = super::parts::parts();
    let mut left: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let names = names(&directory);
    for name in &names {
        let stem = name.trim_end_matches(".conf");
        let verdict = verdict(&directory.join(format!("verdicts/{stem}.txt")));
        for d in run(&directory.join(name), name, &verdict).diagnostics.iter() {
            // Of a word that occurs in several parts the strictest counts.
            let keyword = d.message.split('\'').nth(1).unwrap_or_default();
            if d.code.id != "W0702" {
                continue;
            }
            let part = parts.get(keyword).copied().unwrap_or("vrrp1");
            left.entry(part).or_default().insert(format!("{name}: {}", d.message));
        }
    }
    for (part, lines) in &left {
        println!("{part}: {lines:#?}");
    }
    assert!(names.len() >= 150, "{} files", names.len());
    assert_eq!(left.get("vrrp1"), None);
}

type Ours = (u32, Severity, bool, String);

/// If a block lacks its '{', only the process that the block is for reads it as a block; for the others its lines are
/// unknown keywords. We read it once, as a block.
fn other_process(ours: &[Ours], line: u32, text: &str) -> bool {
    let structure = ["Unknown keyword", "Unexpected '{'", "Extra '}'"];
    structure.iter().any(|s| text.starts_with(s))
        && ours.iter().any(|o| o.3.starts_with("E0103") && o.0 <= line)
}

/// keepalived 2.2.7 kills itself in a test that meets some scripts, and ends early in a namespace it cannot enter.
fn cut_short(path: &Path, verdict: &Verdict) -> bool {
    let text = fs::read(path).unwrap();
    let namespace = b"net_namespace";
    verdict.exit == 143
        || verdict.exit == 0 && text.windows(namespace.len()).any(|w| w == namespace)
}

#[test]
fn every_difference_has_its_reason_in_the_documentation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    let anchors = [JUDGED, MORE, STATUS].concat();
    for anchor in anchors.iter().map(|(anchor, _)| *anchor).chain([OTHER_PROCESS]) {
        assert!(text.contains(&format!("<a id=\"{anchor}\">")), "no reason for {anchor}");
    }
}

#[test]
fn other_peoples_files_get_keepalived_s_verdict() {
    let Some(directory) = directory() else {
        println!(
            "SKIPPED other_peoples_files_get_keepalived_s_verdict: no corpus, set EVERVIP_CORPUS"
        );
        return;
    };
    let names = names(&directory);
    let mut wrong = Vec::new();
    for name in &names {
        let stem = name.trim_end_matches(".conf");
        let verdict = verdict(&directory.join(format!("verdicts/{stem}.txt")));
        let loaded = run(&directory.join(name), name, &verdict);
        let ours: Vec<Ours> = loaded
            .diagnostics
            .iter()
            .filter(|d| d.severity > Severity::Note)
            // Unsupported settings are not problems of the text.
            .filter(|d| d.code.id != "W0702")
            .map(|d| {
                let line = loaded.diagnostics.location(d).map_or(0, |l| l.1);
                (line, d.severity, d.environment, format!("{} {}", d.code.id, d.message))
            })
            .collect();
        for (line, text) in &verdict.lines {
            let judged =
                JUDGED.iter().any(|(_, j)| text.contains(j)) || other_process(&ours, *line, text);
            if !judged && !ours.iter().any(|o| o.0 == *line) {
                wrong.push(format!("{name}:{line}: only keepalived says: {text}"));
            }
        }
        let cut = cut_short(&directory.join(name), &verdict);
        // A message without a line may be about any line, and keepalived stopped reading after status 2.
        let quiet = verdict.others.is_empty() && !cut && verdict.exit != 2;
        for (line, _, environment, text) in &ours {
            let same = verdict.lines.iter().any(|(n, _)| n == line);
            let judged = MORE.iter().any(|(_, code)| text.starts_with(code));
            if !environment
                && !same
                && !judged
                && (quiet || std::env::var_os("EVERVIP_ALL").is_some())
            {
                wrong.push(format!(
                    "{name}:{line}: only we say: {text} [others: {}]",
                    verdict.others.len()
                ));
            }
        }
        let status = loaded.diagnostics.status();
        let known = STATUS.iter().any(|(_, file)| file == name);
        if verdict.exit != status && !known && !cut {
            wrong.push(format!("{name}: exit {status} instead of {}", verdict.exit));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
