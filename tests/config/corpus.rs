//! Configurations of other people, with what keepalived says about them. They are not part of the project: the test runs
//! when `EVERVIP_CORPUS` names their directory, or when it is found beside the checkout as `../shared/corpus`.

#![allow(clippy::print_stdout, reason = "says that it was skipped")]

use std::collections::BTreeSet;
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
    ("mark-ports", "W0412 virtual server [test2] by mark"),
];

/// Files whose exit status differs, with the anchor of the reason.
const STATUS: &[(&str, &str)] = &[("unused-scripts", "101-copy.conf")];

/// The anchor of the reason for what another process of keepalived says.
const OTHER_PROCESS: &str = "one-reading";

/// Lines about the machine of the verdict, not about the text.
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
    for interface in &verdict.interfaces {
        host = host.with_interface(interface, &[]);
    }
    let files = MemoryFiles::single(name, &fs::read(path).unwrap());
    // keepalived reports each line that follows from a mistake.
    let options = Options { consequences: true, ..Options::new(name, &host) };
    load(&files, &host, &options)
}

type Ours = (u32, Severity, bool, String);

/// Where a block lacks its '{', only the process that the block is for reads it as one; for the others its lines are
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
    let mut names: Vec<String> = fs::read_dir(&directory)
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().into_string().ok())
        .filter(|n| n.ends_with(".conf"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    let mut wrong = Vec::new();
    for name in &names {
        let stem = name.trim_end_matches(".conf");
        let verdict = verdict(&directory.join(format!("verdicts/{stem}.txt")));
        let loaded = run(&directory.join(name), name, &verdict);
        let ours: Vec<Ours> = loaded
            .diagnostics
            .iter()
            .filter(|d| d.severity > Severity::Note)
            // What this version cannot carry out is no complaint about the text.
            .filter(|d| !matches!(d.code.id, "W0702" | "W0411"))
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
        // A message without a line may be about any line, and after status 2 keepalived read no further.
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
