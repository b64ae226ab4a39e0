//! Round trips of configurations generated from the tables: every keyword is written and read again, as the text of
//! [`super::Document::to_conf`] and as JSON, without a change of meaning.
//!
//! Texts that people write are in `tests/config/convert.rs`.

use std::collections::BTreeSet;

use super::block::root_table;
use super::document::{Body, Document, Node};
use super::keyword::{Shape, Table};
use super::{Loaded, MemoryFiles, Options, StaticHost, load};

/// Number of random combinations of the keywords of a block.
const ROUNDS: u64 = 20;

/// Values accepted by at least one keyword. The reader decides which keyword accepts which.
const POOL: &[&str] = &[
    "",
    "name",
    "\"two words\"",
    "\"\"",
    "eth0",
    "eth0 weight -5",
    "eth0 5",
    "100",
    "0x1f",
    "1 2 3",
    "10 reverse",
    "10.0.0.1",
    "10.0.0.1 80",
    "10.0.0.1/24 dev eth0 label eth0:1 scope link",
    "fe80::1",
    "2001:db8::1 80",
    "fwmark 5",
    "224.0.0.18",
    "ff02::12",
    "10.0.0.0/24 via 10.0.0.1 dev eth0 metric 5",
    "from 10.0.0.1 table 100 priority 10",
    "user@example.org",
    "localhost 2525",
    "/run/x",
    "/run/x root root",
    "/run/\u{e4} x",
    "\"/run/two words\"",
    "/bin/true",
    "\"/bin/true 'a  b' \\\\x41 \\\\xff ''\" nobody",
    "root",
    "nobody root",
    "NAT",
    "TUN type gue port 5 csum",
    "200",
    "200-299 404",
    "d41d8cd98f00b204e9800998ecf8427e",
    "TCP",
    "rr",
    "MASTER",
    "PASS",
    "AH",
    "255.255.255.0",
    "tcp 10 tcpfin 20 udp 30",
    "^a.*b$",
    "\"a b {c} #d\"",
    "strict",
    "all",
    "off",
    "eth0 V group 1",
    "chain_in chain_out",
    "one two three",
    "2",
    "01ff",
    "example.org.",
    "1500.125",
    "7 0123456789abcdef0123456789abcdef",
];

fn read(text: &[u8]) -> Loaded {
    read_with(text, false)
}

/// Reads a text; `strict`: superfluous words are reported.
fn read_with(text: &[u8], strict: bool) -> Loaded {
    let host = StaticHost {
        name: "vm".into(),
        users: vec![("root".into(), 0), ("nobody".into(), 65534)],
        ..StaticHost::default()
    }
    .with_all_interfaces();
    let mut options = Options::new("a.conf", &host);
    (options.document, options.strict) = (true, strict);
    load(&MemoryFiles::single("a.conf", text), &host, &options)
}

/// Words between the keyword of a block and its brace: the first accepted ones count.
const HEADERS: &[&str] = &["", "V", "10.0.0.1 80", "10.0.0.5 80", "eth0"];

/// Statements that a block requires.
fn base(block: &str) -> &'static str {
    match block {
        "vrrp_instance" => "interface eth0\nvirtual_router_id 5\n",
        "virtual_server" => "lb_algo rr\nlb_kind NAT\nprotocol TCP\n",
        "vrrp_script" => "script /bin/true\n",
        "vrrp_sync_group" => "group {\nV\n}\n",
        _ => "",
    }
}

/// Statements required before a keyword.
fn before(keyword: &str) -> &'static str {
    match keyword {
        "mh-fallback" | "mh-port" => "lb_algo mh\n",
        "sh-fallback" | "sh-port" => "lb_algo sh\n",
        "sorry_server_inhibit" | "sorry_server_lvs_method" => "sorry_server 10.0.0.9 80\n",
        _ => "",
    }
}

/// A block on the way to a keyword: its name, its header.
type Path = Vec<(&'static str, &'static str)>;

fn wrap(path: &Path, inner: &str) -> String {
    let mut text = String::new();
    for (name, header) in path {
        text.push_str(&format!("{name} {header} {{\n{}", base(name)));
    }
    text.push_str(inner);
    text.push('\n');
    for _ in path {
        text.push_str("}\n");
    }
    text
}

fn values(shape: &Shape) -> Vec<String> {
    match shape {
        Shape::Flag => vec![String::new()],
        Shape::Boolean => ["", "true", "off"].map(str::to_owned).to_vec(),
        Shape::Integer { min, max } => {
            let middle = min + (max - min) / 2;
            [*min, (*min + 1).min(*max), middle, *max].map(|n| n.to_string()).to_vec()
        }
        Shape::Seconds { min, max } => {
            [*min, (min + max) / 2.0, (min + 0.000_001).min(*max), (min + 1.25).min(*max), *max]
                .map(|n| format!("{n:.6}"))
                .to_vec()
        }
        Shape::Choice(words) => words.iter().map(|w| (*w).to_owned()).collect(),
        Shape::Text(_) | Shape::Words(_) | Shape::Block(..) => {
            POOL.iter().map(|v| (*v).to_owned()).collect()
        }
        Shape::Lines(_) | Shape::List(_) => {
            let lines = POOL.iter().filter(|v| !v.is_empty());
            let mut all: Vec<String> = lines.clone().map(|v| format!("{{\n{v}\n}}")).collect();
            all.push(format!("{{\n{}\n}}", lines.copied().collect::<Vec<_>>().join("\n")));
            all
        }
    }
}

/// Whether the keyword is in the block of the path.
fn holds(nodes: &[Node], path: &[(&'static str, &'static str)], keyword: &str) -> bool {
    // An old name, which is written back as the new one.
    let keyword = if keyword == "nb_get_retry" { "retry" } else { keyword };
    let named = |node: &Node, name: &str| node.keyword.is_some_and(|k| k.name == name);
    match path.split_first() {
        None => nodes.iter().any(|node| named(node, keyword)),
        Some(((block, _), rest)) => nodes.iter().any(|node| {
            matches!(&node.body, Body::Block(inner) if named(node, block) && holds(inner, rest, keyword))
        }),
    }
}

/// What changes when the configuration is written and read again.
fn changes(text: &str, loaded: &Loaded) -> Option<String> {
    let conf = loaded.document.to_conf();
    let again = read(&conf);
    let shown = String::from_utf8_lossy(&conf).into_owned();
    if again.model != loaded.model {
        let (first, second) = (format!("{:#?}", loaded.model), format!("{:#?}", again.model));
        let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        return Some(format!("another model: {differs:?}\n{text}---\n{shown}"));
    }
    if again.document.to_conf() != conf {
        let second = again.document.to_conf();
        let second = String::from_utf8_lossy(&second);
        let differs = shown.lines().zip(second.lines()).find(|(a, b)| a != b);
        return Some(format!("another text: {differs:?}\n{text}---\n{shown}---\n{second}"));
    }
    let json = loaded.document.to_json();
    match Document::from_json(json.as_bytes()) {
        Err(e) => Some(format!("{e}:\n{text}---\n{json}")),
        Ok(document) if document.to_conf() != conf => {
            let other = document.to_conf();
            let other = String::from_utf8_lossy(&other);
            Some(format!("another text by JSON:\n{shown}---\n{json}---\n{other}"))
        }
        Ok(_) => None,
    }
}

#[derive(Default)]
struct Found {
    changes: Vec<String>,
    silent: BTreeSet<String>,
    keywords: usize,
    accepted: usize,
    /// The first accepted statements of each keyword: the blocks around, what precedes it, and the statement.
    statements: Vec<(Path, String)>,
}

fn walk(table: &'static Table, path: &Path, found: &mut Found) {
    let mut statements: Vec<Vec<String>> = Vec::new();
    for keyword in table.keywords {
        let shape = (keyword.shape)();
        found.keywords += 1;
        let mut taken = false;
        let mut check = |inner: &str, found: &mut Found| {
            let text = wrap(path, inner);
            let loaded = read(text.as_bytes());
            let here = holds(&loaded.document.nodes, path, keyword.name);
            if here {
                found.changes.extend(changes(&text, &loaded));
            }
            taken |= here;
            here
        };
        if let Shape::Block(inner, _) = shape {
            let probe = |h: &&&str| {
                let inside = inner().keywords.iter().find(|k| matches!((k.shape)(), Shape::Flag));
                let inside = inside.map_or("", |k| k.name);
                check(
                    &format!("{} {h} {{\n{}{inside}\n}}", keyword.name, base(keyword.name)),
                    found,
                )
            };
            let header = HEADERS.iter().find(probe).copied().unwrap_or("");
            let mut below = path.clone();
            below.push((keyword.name, header));
            walk(inner(), &below, found);
            // An empty block of settings leaves no trace; it is covered by its keywords.
            continue;
        }
        let written = |value| format!("{}{} {value}\n", before(keyword.name), keyword.name);
        let mut all: Vec<String> = values(&shape).into_iter().map(written).collect();
        all.retain(|statement| check(statement, found));
        found.accepted += all.len();
        // A keyword that takes any text takes all of the pool.
        let count = match shape {
            Shape::Text(_) => 4,
            Shape::Words(_) | Shape::Lines(_) | Shape::List(_) => 16,
            _ => 0,
        };
        let words = all.iter().filter(|statement| statement.len() < 200).take(count);
        found.statements.extend(words.map(|statement| (path.clone(), statement.clone())));
        if !taken && !keyword.dead {
            let names: Vec<_> = path.iter().map(|p| p.0).collect();
            found.silent.insert(format!("{} / {} {shape:?}", names.join(" / "), keyword.name));
        }
        if !all.is_empty() {
            statements.push(all);
        }
    }
    // In these two, conflicting statements (families of addresses, flags of another scheduler) are resolved by their
    // order, which differs from that of the table.
    let ordered = matches!(path.last(), Some(("vrrp_instance" | "virtual_server", _)));
    let rounds = if ordered { 0 } else { ROUNDS };
    for round in 0..rounds {
        let text = wrap(path, &mixed(&statements, round));
        found.changes.extend(changes(&text, &read(text.as_bytes())));
    }
}

/// One or no statement of each keyword, in a different order in each round.
fn mixed(statements: &[Vec<String>], round: u64) -> String {
    let mut state = round;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut left: Vec<&Vec<String>> = statements.iter().collect();
    let mut text = String::new();
    while !left.is_empty() {
        let all = left.swap_remove(random(left.len()));
        if random(8) > 0 {
            text.push_str(&all[random(all.len())]);
        }
    }
    text
}

#[test]
fn every_keyword_comes_back() {
    let mut found = Found::default();
    walk(root_table(), &Vec::new(), &mut found);
    assert!(found.keywords > 500, "{} keywords", found.keywords);
    assert!(found.accepted > 7000, "{} statements were taken", found.accepted);
    let silent: Vec<_> = found.silent.into_iter().collect();
    assert!(silent.is_empty(), "no value of the pool fits:\n{}", silent.join("\n"));
    assert!(
        found.changes.is_empty(),
        "{} changes:\n{}",
        found.changes.len(),
        found.changes.iter().take(40).cloned().collect::<Vec<_>>().join("\n====\n")
    );
    octets_come_back(&found.statements);
}

/// The statement with octets that are not UTF-8 behind one of its words, for each word, and those words.
fn with_octets(statement: &str, before: usize, octets: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = statement.as_bytes();
    let of_word = |b: &u8| b.is_ascii_alphanumeric() || b"/-_.@:".contains(b);
    let ends = (before + 1..bytes.len())
        .filter(|end| of_word(&bytes[end - 1]) && !bytes.get(*end).is_some_and(of_word));
    let begin = |end: usize| bytes[..end].iter().rposition(|b| !of_word(b)).map_or(0, |at| at + 1);
    ends.map(|end| {
        let changed = [&bytes[..end], octets, &bytes[end..]].concat();
        (changed, [&bytes[begin(end)..end], octets].concat())
    })
    .collect()
}

/// Octets that are not UTF-8 are not changed or lost in silence: they come back, as they are or escaped, or their place
/// is reported.
fn octets_come_back(statements: &[(Path, String)]) {
    let (mut kept, mut reported, mut wrong) = (0, 0, Vec::new());
    let has = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|found| found == part);
    for (index, (path, statement)) in statements.iter().enumerate() {
        let line = statement.trim_end().rfind('\n').filter(|_| !statement.contains('{'));
        let from = line.map_or(0, |at| at + 1);
        let name = statement[from..].find([' ', '\n']).map_or(statement.len(), |at| from + at);
        let plain = read(wrap(path, statement).as_bytes()).document.to_conf();
        let frame = wrap(path, "MARK").into_bytes();
        let at = frame.windows(4).position(|part| part == b"MARK").unwrap();
        // One octet, or a word that is UTF-8 in part.
        let octets = if index.is_multiple_of(2) { &b"\xe9"[..] } else { b"\xc3\xa9\xff" };
        let latin: String = octets.iter().map(|octet| char::from(*octet)).collect();
        let escaped: String = octets.iter().map(|octet| format!("\\x{octet:02x}")).collect();
        // Commands are split twice.
        let forms = [escaped.replace('\\', "\\\\"), escaped];
        for (changed, word) in with_octets(statement, name, octets) {
            let text = [&frame[..at], &changed, &frame[at + 4..]].concat();
            let loaded = read_with(&text, true);
            let conf = loaded.document.to_conf();
            let json = loaded.document.to_json();
            let back = Document::from_json(json.as_bytes()).map(|document| document.to_conf());
            let start = text.windows(word.len()).position(|part| part == word).unwrap();
            let number = 1 + text[..start].iter().filter(|b| **b == b'\n').count();
            let is_there = |problem: &super::Diagnostic| {
                let place = loaded.diagnostics.location(problem);
                place.is_some_and(|(_, line, _)| line as usize == number)
            };
            let shown = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
            if back.ok().as_ref() != Some(&conf) {
                wrong.push(format!("{}--- by JSON\n{json}", shown(&text)));
            } else if forms.iter().any(|form| has(&conf, form.as_bytes())) || has(&conf, octets) {
                kept += 1;
            } else if loaded.diagnostics.all().any(is_there) {
                reported += 1;
            } else if has(&conf, latin.as_bytes())
                || has(&plain, &word[..word.len() - octets.len()])
            {
                wrong.push(format!("{}---\n{}", shown(&text), shown(&conf)));
            }
        }
    }
    assert!(kept > 500 && reported > 1000, "{kept} kept, {reported} reported");
    let some = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n====\n");
    assert!(wrong.is_empty(), "{} changed in silence:\n{some}", wrong.len());
}
