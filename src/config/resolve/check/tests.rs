//! What happens to a check if one of its settings cannot be used: the table in docs/configuration.md, for every keyword of
//! every check.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::block::root_table;
use crate::config::keyword::{Keyword, Shape, Table, walk};
use crate::config::{Diagnostic, Loaded, MemoryFiles, Options, Severity, StaticHost, Stops, load};
use crate::model::{Checker, CheckerKind};

const PAGE: &str = include_str!("../../../../docs/configuration.md");

fn read(text: &str) -> Loaded {
    let host = StaticHost::default().with_all_interfaces();
    load(&MemoryFiles::single("k.conf", text.as_bytes()), &host, &Options::new("k.conf", &host))
}

/// The outcomes that the page states: the beginning of the second column by the keywords of the first.
fn stated() -> BTreeMap<&'static str, &'static str> {
    let (_, rest) = PAGE.split_once("| Setting of a check that cannot be used |").unwrap();
    let rows = rest.lines().skip(2).map(str::trim_start).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.strip_prefix("| ")?.split_once(" | "));
    let keywords = |cell: &'static str| cell.split('`').skip(1).step_by(2);
    cells.flat_map(|(cell, outcome)| keywords(cell).map(move |word| (word, outcome))).collect()
}

/// The lines that a block needs, by the keyword that each sets.
fn needed(table: &str) -> &'static [(&'static str, &'static str)] {
    match table {
        "url" => &[("path", "path /"), ("regex", "regex a")],
        "MISC_CHECK" => &[("misc_path", "misc_path /usr/bin/true")],
        "FILE_CHECK" => &[("track_file", "track_file f")],
        "BFD_CHECK" => &[("name", "name b")],
        _ => &[],
    }
}

/// A check with a line in the block `inner` of it, or in its own block. Also the number of the line.
fn text(check: &str, inner: Option<&str>, keyword: &str, line: &str) -> (u32, String) {
    let mut lines = vec![
        "track_file f {",
        "file /tmp/f",
        "}",
        "bfd_instance b {",
        "neighbor_ip 10.0.0.9",
        "source_ip 10.0.0.8",
        "}",
        "virtual_server 10.0.0.1 80 {",
        "lvs_sched rr",
        "lvs_method NAT",
        "protocol TCP",
        "real_server 10.0.0.71 80 {",
    ];
    lines.extend([check, "{"]);
    if inner.is_none() && matches!(check, "HTTP_GET" | "SSL_GET") {
        lines.extend(["url {", "path /", "}"]);
    }
    if let Some(inner) = inner {
        lines.extend([inner, "{"]);
    }
    let needed = needed(inner.unwrap_or(check));
    lines.extend(needed.iter().filter(|(name, _)| *name != keyword).map(|(_, line)| *line));
    lines.push(line);
    let at = u32::try_from(lines.len()).unwrap();
    lines.extend(inner.map(|_| "}"));
    lines.extend(["}", "}", "}"]);
    // A block begins in the line of its keyword.
    let text = lines.join("\n").replace("\n{", " {") + "\n";
    (at - if inner.is_some() { 2 } else { 1 }, text)
}

fn last_check(loaded: &Loaded) -> Option<&Checker> {
    loaded.model.lvs.services.first()?.servers.first()?.checkers.last()
}

/// The outcome of a line that cannot be used; none if it can be, or stops the start.
fn outcome(at: u32, text: &str) -> Option<&'static str> {
    let loaded = read(text);
    let all = &loaded.diagnostics;
    let here = |d: &&Diagnostic| all.location(d).is_some_and(|(_, line, _)| line == at);
    // Of a line whose quote is not closed, the words before it are used.
    let errors = |d: &&Diagnostic| d.severity == Severity::Error && d.code.id != "E0106";
    all.iter().filter(here).find(errors)?;
    if all.iter().any(|d| d.stops() == Stops::Start) {
        return Some("start");
    }
    let fails = all.iter().any(|d| d.id() == "W0416");
    Some(match last_check(&loaded).map(|check| &check.kind) {
        None => "left out",
        Some(CheckerKind::Unusable(_)) if fails => "fails",
        Some(CheckerKind::Unusable(_)) => "fails without a message",
        Some(_) if fails => "is said to fail",
        Some(_) => "default",
    })
}

#[test]
fn every_setting_of_a_check_that_cannot_be_used_has_the_outcome_of_the_page() {
    let stated = stated();
    let long = "x".repeat(600);
    let values =
        ["", "?", "-1", "99999999999999", "a..b", "\"a", "300-200", "f nonsense", &long, "::1"];
    let mut tables: Vec<(&'static str, Option<&'static str>, &'static Table)> = Vec::new();
    walk(root_table(), &mut |table| {
        if table.name != "real_server" {
            return;
        }
        for check in table.keywords {
            let Shape::Block(own, _) = (check.shape)() else { continue };
            tables.push((check.name, None, own()));
            for inner in own().keywords {
                if let Shape::Block(below, _) = (inner.shape)() {
                    tables.push((check.name, Some(inner.name), below()));
                }
            }
        }
    });
    let (mut wrong, mut seen, mut tried) = (Vec::new(), BTreeSet::new(), 0);
    for (check, inner, table) in tables {
        let given = |keyword: &&Keyword| {
            !keyword.dead && !matches!((keyword.shape)(), Shape::Block(..) | Shape::Flag)
        };
        for keyword in table.keywords.iter().filter(given) {
            let name = keyword.name;
            seen.insert(name);
            let Some(wanted) = stated.get(name) else {
                wrong.push(format!("{check} {name}: the page does not state it"));
                continue;
            };
            let mut broken = 0;
            for value in values {
                let (at, text) = text(check, inner, name, &format!("{name} {value}"));
                let Some(found) = outcome(at, &text) else { continue };
                broken += 1;
                // It counts as missing, as the page says.
                let is_missing = (name, value, found) == ("misc_path", "\"a", "left out");
                if found != "start" && !is_missing && !wanted.starts_with(found) {
                    wrong.push(format!("{check} {inner:?} {name} {value}: {found}, not {wanted}"));
                }
            }
            tried += broken;
            if broken == 0 {
                wrong.push(format!("{check} {inner:?} {name}: nothing is refused"));
            }
        }
    }
    for name in stated.keys().filter(|name| !seen.contains(*name)) {
        wrong.push(format!("{name} is on the page and is not a setting"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 400, "{tried}");
}

#[test]
fn an_inherited_host_name_that_cannot_be_used_fails_the_checks_that_use_it() {
    let text = |service: &str, server: &str, check: &str| {
        format!(
            "virtual_server 10.0.0.1 80 {{\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n{service}\n\
             real_server 10.0.0.71 80 {{\n{server}\nHTTP_GET {{\n{check}\nurl {{\npath /\n}}\n}}\n}}\n}}\n"
        )
    };
    let (bad, good) = ("virtualhost", "virtualhost www.example.com");
    for (service, server, check, fails) in [
        (bad, "", "", true),
        ("", bad, "", true),
        (good, bad, "", true),
        (bad, good, "", false),
        (bad, bad, good, false),
        ("", good, bad, true),
        (good, "", "", false),
    ] {
        let text = text(service, server, check);
        let loaded = read(&text);
        let kind = &last_check(&loaded).unwrap().kind;
        assert_eq!(matches!(kind, CheckerKind::Unusable(_)), fails, "{text}");
    }
}
