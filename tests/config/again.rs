//! Reading a configuration again after a change: with the results of the earlier read, the model and every problem
//! are those of a full read.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use evervip::base::rng::Rng;
use evervip::config::{
    Diagnostic, Earlier, Loaded, MemoryFiles, Options, StaticHost, load, load_again,
};
use evervip::model::{Service, Shared};

use super::corpus;

const MAIN: &str = "/etc/k/k.conf";

/// Everything that a read tells.
fn told(loaded: &Loaded) -> (Vec<&Diagnostic>, Vec<String>, BTreeSet<String>, u8, usize) {
    let all: Vec<&Diagnostic> = loaded.diagnostics.iter().collect();
    let lines = loaded.diagnostics.log_lines().map(|(_, line)| line).collect();
    let diagnostics = &loaded.diagnostics;
    (all, lines, diagnostics.mistakes(), diagnostics.status(), loaded.instances_asked)
}

/// A process that reads one version of the files after the other.
#[derive(Default)]
struct Reader {
    earlier: Earlier,
    /// Those of the last model.
    services: Vec<Shared<Service>>,
    /// Services that were read, and those whose earlier result was used.
    blocks: usize,
    used: usize,
}

impl Reader {
    /// Reads the files and compares the result with that of a full read. Returns how many results were used again.
    fn read(&mut self, files: &MemoryFiles, host: &StaticHost, what: &str) -> usize {
        let options = Options::new(MAIN, host);
        let full = load(files, host, &options);
        let earlier = core::mem::take(&mut self.earlier);
        let (again, next) = load_again(files, host, &options, earlier);
        assert_eq!(told(&again), told(&full), "{what}");
        assert!(again.model == full.model, "{what}: {:#?}\n{:#?}", again.model, full.model);
        let before: BTreeSet<usize> = self.services.iter().map(Shared::number).collect();
        self.services = again.model.lvs.services;
        self.earlier = next;
        let used = self.services.iter().filter(|s| before.contains(&s.number())).count();
        self.blocks += self.services.len();
        self.used += used;
        used
    }
}

fn host() -> StaticHost {
    StaticHost::default().with_interface("eth0", &[])
}

fn server(number: u32, weight: u32) -> String {
    format!(
        "virtual_server 10.0.{}.{} 80 {{\n  lb_algo rr\n  lb_kind NAT\n  protocol TCP\n  real_server 172.16.0.1 80 {{\n    \
         weight {weight}\n    TCP_CHECK {{\n      connect_timeout 3\n    }}\n  }}\n  real_server 172.16.0.2 80 {{\n  }}\n}}\n",
        number / 250,
        number % 250 + 1
    )
}

fn many(weights: &[(u32, u32)]) -> String {
    weights.iter().map(|(number, weight)| server(*number, *weight)).collect()
}

#[test]
fn one_changed_block_of_many_is_the_only_one_read() {
    let mut weights: Vec<(u32, u32)> = (0..300).map(|number| (number, 1)).collect();
    let mut reader = Reader::default();
    let mut read = |text: &str, what: &str| {
        reader.read(&MemoryFiles::single(MAIN, text.as_bytes()), &host(), what)
    };
    assert_eq!(read(&many(&weights), "first"), 0);
    assert_eq!(read(&many(&weights), "unchanged"), 300);
    weights[299].1 = 7;
    assert_eq!(read(&many(&weights), "the last weight"), 299);
    weights[0].1 = 7;
    assert_eq!(read(&many(&weights), "the first weight"), 299);
    weights.remove(100);
    assert_eq!(read(&many(&weights), "one removed"), 299);
    weights.insert(50, (700, 3));
    assert_eq!(read(&many(&weights), "one added"), 299);
    weights.reverse();
    assert_eq!(read(&many(&weights), "another order"), 300);
    let spaced = many(&weights).replace("}\nvirtual", "}\n\n  # next\n\nvirtual");
    assert_eq!(read(&spaced, "comments between the blocks"), 300);
    let others = format!("{spaced}vrrp_instance A {{\n interface eth0\n virtual_router_id 7\n}}\n");
    assert_eq!(read(&others, "something else"), 300);
    let global = format!("global_defs {{\n router_id x\n}}\n{others}");
    assert_eq!(read(&global, "global_defs"), 0);
    assert_eq!(read(&global, "the same global_defs"), 300);
    assert_eq!(read(&format!("{others}global_defs {{\n router_id x\n}}\n"), "they come late"), 0);
}

/// A block is read again whenever something outside its text counts.
#[test]
fn what_depends_on_something_else_is_read_again() {
    let block = |line: &str| {
        format!(
            "virtual_server 10.0.0.1 80 {{\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 172.16.0.1 80 {{\n{line}\n }}\n}}\n"
        )
    };
    let dependent = [
        "  MISC_CHECK {\n   misc_path /usr/bin/true\n  }",
        "  notify_up /usr/bin/true",
        "  FILE_CHECK {\n   track_file f\n  }",
        "  BFD_CHECK {\n   name b\n  }",
        "  nb_get_retry 3",
        "  weight $W",
        "  weight 1\\\n  ",
        "  include other.conf",
        "  @node1 weight 2",
    ];
    for line in dependent {
        let text = format!("track_file f {{\n file /f\n}}\n{}", block(line));
        let files =
            MemoryFiles::single(MAIN, text.as_bytes()).with("/etc/k/other.conf", b"weight 3\n");
        let mut reader = Reader::default();
        reader.read(&files, &host(), line);
        assert_eq!(reader.read(&files, &host(), line), 0, "{line}");
    }
    let text = block("  weight 3");
    let mut reader = Reader::default();
    reader.read(&MemoryFiles::single(MAIN, text.as_bytes()), &host(), "");
    assert_eq!(reader.read(&MemoryFiles::single(MAIN, text.as_bytes()), &host(), ""), 1);
}

/// Pieces of which configurations are made at random.
const PIECES: &[&str] = &[
    "virtual_server 10.0.9.1 80 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 172.16.0.1 80 {\n  weight 2\n  HTTP_GET {\n   url {\n    path /\n    status_code 200\n   }\n  }\n }\n}\n",
    "  virtual_server 10.0.9.2 80\n  {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 172.16.0.1 80 { }\n } # end\n",
    "virtual_server 10.0.9.3 80 {\n lb_kind NAT\n real_server 172.16.0.1 80 {\n  nb_get_retry 3\n }\n}\n",
    "virtual_server fwmark 3 {\n lb_algo wlc\n lb_kind DR\n real_server 172.16.0.1 80 {\n }\n}\n",
    "virtual_server group G {\n lb_algo rr\n lb_kind DR\n protocol TCP\n real_server 172.16.0.4 80 {\n }\n}\n",
    "virtual_server_group G {\n 10.0.8.1-3 80\n fwmark 9\n}\n",
    "virtual_server_group G {\n 10.0.0.1 80\n}\n",
    "virtual_server 10.0.9.4 80 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 172.16.0.1 80 {\n  FILE_CHECK {\n   track_file F\n  }\n  notify_up /usr/bin/true\n }\n quorum_up \"/usr/bin/true x\"\n}\n",
    "virtual_server 10.0.9.5 80 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 172.16.0.1 80 {\n  weight $W\n }\n}\n",
    "virtual_server 10.0.9.6 80 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n include part.inc\n}\n",
    "virtual_server 10.0.9.7 80 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n@node1 quorum 2\n real_server 172.16.0.1 80 {\n }\n}\n",
    "virtual_server 10.0.9.8 80 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 172.16.0.1 80 {\n }\n} virtual_server 10.0.9.9 80 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 172.16.0.1 80 {\n }\n}\n",
    "virtual_server 10.0.9.10 80 {\n lb_algo rr\n real_server 172.16.0.1 80 {\n  TCP_CHECK {\n   bind_if eth1\n   connect_ip example.com\n  }\n }\n",
    "$W=5\n",
    "$BLOCK=\\\nvirtual_server 10.0.9.11 80 {\\\n lb_algo rr\\\n lb_kind NAT\\\n protocol TCP\\\n real_server 172.16.0.1 80 {\\\n }\\\n}\n$BLOCK\n",
    "~SEQ(N, 20, 22) virtual_server 10.0.7.$N 80 { lb_kind NAT; protocol TCP; real_server 1.1.1.1 80 { } }\n",
    "include part.inc\n",
    "include more.inc\n",
    "include missing.inc\n",
    "include_check\n",
    "global_defs {\n checker_log_all_failures\n}\n",
    "global_defs {\n smtp_alert\n notification_email { a@example.com }\n smtp_server 127.0.0.1\n}\n",
    "global_defs {\n lvs_notify_fifo /run/fifo\n}\n",
    "global_defs {\n enable_script_security\n dynamic_interfaces\n}\n",
    "track_file F {\n file /f\n weight 2\n}\n",
    "vrrp_script S {\n script /usr/bin/true\n}\n",
    "vrrp_instance A {\n interface eth0\n virtual_router_id 7\n virtual_ipaddress {\n  10.0.0.1\n }\n track_script {\n  S\n }\n}\n",
    "vrrp_instance B {\n interface eth1\n virtual_router_id 7\n priorty 3\n}\n",
    "static_ipaddress {\n 192.0.2.1/24\n}\n",
    "SSL {\n password x\n}\n",
    "nosuch {\n word\n}\n",
    "nosuch\n",
    "}\n",
    "{\n",
    "# a comment with { a brace\n\n",
    "virtual_server 10.0.6.1 80 {\n# a comment with } a brace\n lb_algo rr ! another\n lb_kind NAT\n protocol TCP\n real_server 172.16.0.1 80 {\n }\n}\n",
    "virtual_server 10.0.6.2 80 {\n lb_algo \"rr\n lb_kind NAT\n protocol TCP\n real_server 172.16.0.1 80 {\n }\n}\n",
    "virtual_server 10.0.6.3 80 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 172.16.0.1 80 {\n  weight 300\n }\n quorum 9\n}\n",
];

/// One random change of a list of pieces.
fn change(pieces: &mut Vec<String>, rng: &mut Rng) {
    let mut below = |n: usize| rng.below(u64::try_from(n.max(1)).unwrap()) as usize;
    let fresh = match below(3) {
        0 => PIECES[below(PIECES.len())].to_owned(),
        _ => server(below(40) as u32, below(3) as u32 + 1),
    };
    let at = below(pieces.len() + 1);
    match below(8) {
        0..=1 => pieces.insert(at, fresh),
        2 if at < pieces.len() => pieces[at] = fresh,
        3 if at < pieces.len() => drop(pieces.remove(at)),
        4 if at < pieces.len() => {
            let moved = pieces.remove(at);
            let to = below(pieces.len() + 1);
            pieces.insert(to, moved);
        }
        // A line is lost, doubled or cut.
        5..=6 if at < pieces.len() => {
            let mut lines: Vec<&str> = pieces[at].split_inclusive('\n').collect();
            let line = below(lines.len());
            let Some(text) = lines.get(line).copied() else {
                return;
            };
            let cut = below(text.len());
            match below(3) {
                0 => drop(lines.remove(line)),
                1 => lines.insert(line, text),
                _ if text.is_char_boundary(cut) => lines[line] = &text[..cut],
                _ => {}
            }
            pieces[at] = lines.concat();
        }
        _ => {}
    }
}

#[test]
fn random_changes_give_what_a_full_read_gives() {
    let mut used = (0, 0);
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let mut reader = Reader::default();
        let mut parts: [Vec<String>; 3] = Default::default();
        parts[0] = (0..20).map(|number| server(number, 1)).collect();
        parts[2] = (30..36).map(|number| server(number, 1)).collect();
        let mut host = host();
        for step in 0..25 {
            for _ in 0..rng.below(3) {
                let part = [0, 0, 0, 1, 2][rng.below(5) as usize];
                change(&mut parts[part], &mut rng);
            }
            if rng.below(12) == 0 {
                host = if host.interfaces.len() == 1 {
                    host.with_interface("eth1", &[])
                } else {
                    StaticHost::default().with_interface("eth0", &[])
                };
            }
            let [main, part, more] = [0, 1, 2].map(|part| parts[part].concat());
            let main = if rng.below(2) == 0 { main + "include more.inc\n" } else { main };
            let files = MemoryFiles::single(MAIN, main.as_bytes())
                .with("/etc/k/part.inc", part.as_bytes())
                .with("/etc/k/more.inc", more.as_bytes());
            let what =
                format!("seed {seed} step {step}\n{main}\n--- part\n{part}\n--- more\n{more}");
            reader.read(&files, &host, &what);
        }
        used = (used.0 + reader.used, used.1 + reader.blocks);
    }
    // Results are used again most of the time, so the comparison means something.
    assert!(used.0 * 3 > used.1, "{used:?}");
}

/// Lines of the files that show each problem, and of other people's configurations, go and come back.
#[test]
fn changed_lines_of_real_files_give_what_a_full_read_gives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("tests/data/diagnostics"), root.join("etc/examples")];
    folders.extend(corpus::directory());
    let mut paths = Vec::new();
    for folder in &folders {
        let entries = fs::read_dir(folder).into_iter().flatten();
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|e| e == "conf"));
    paths.sort();
    assert!(paths.len() > 50, "{}", paths.len());
    for (number, path) in (0..).zip(paths) {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let mut rng = Rng::new(number);
        let mut reader = Reader::default();
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        let server = server(1, 1);
        // Large files only once after a change.
        for step in 0..if text.len() > 20_000 { 2 } else { 4 } {
            let now = lines.concat();
            let files = MemoryFiles::single(MAIN, now.as_bytes());
            let what = format!("{} step {step}\n{now}", path.display());
            reader.read(&files, &host().with_all_interfaces(), &what);
            let at = rng.below(lines.len() as u64 + 1) as usize;
            match rng.below(3) {
                0 if at < lines.len() => drop(lines.remove(at)),
                1 => lines.insert(at, &server),
                _ => {}
            }
        }
    }
}

/// More problems than are kept: which of them are shown depends on how the text is cut into pieces.
#[test]
fn a_flood_of_problems_is_the_same() {
    let mut text: String = (0..400).map(|number| server(number, 1)).collect();
    text.push_str(&"nosuch\n".repeat(120_000));
    text.push_str(&server(900, 1));
    let mut reader = Reader::default();
    for what in ["first", "second", "third"] {
        reader.read(&MemoryFiles::single(MAIN, text.as_bytes()), &host(), what);
    }
}
