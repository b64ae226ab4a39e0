//! Pages and scripts generated from the tables, compared with the files in the project.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use evervip::cli::args;
use evervip::cli::command::COMMANDS;
use evervip::cli::generate::TARGETS;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default()
}

#[test]
fn generated_files_are_what_the_tables_say() {
    for target in TARGETS {
        let (name, file, text) = (target.name, target.file, (target.make)());
        if std::env::var_os("EVERVIP_BLESS").is_some() {
            fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), text).unwrap();
            continue;
        }
        assert!(read(file) == text, "{file} is stale: evervip generate {name} > {file}");
    }
}

#[test]
fn manual_pages_name_every_option() {
    let daemon = read("etc/man/evervipd.8").replace("\\-", "-");
    for option in args::help().split_whitespace().filter(|w| w.starts_with("--")) {
        let name = option.split(['=', '[', ',', ')']).next().unwrap();
        assert!(daemon.contains(&format!("\\fB{name}\\fR")), "{name} is not in evervipd(8)");
    }
    let page = read("etc/man/evervip.1").replace("\\-", "-");
    for command in COMMANDS {
        assert!(page.contains(&format!("evervip {}", command.name)));
        for flag in command.flags() {
            assert!(page.contains(&format!("--{}", flag.long)), "{} {}", command.name, flag.long);
        }
    }
}

#[test]
fn completion_knows_every_command() {
    for file in
        ["etc/completion/evervip.bash", "etc/completion/_evervip", "etc/completion/evervip.fish"]
    {
        let text = read(file);
        let words: BTreeSet<&str> =
            text.split(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).collect();
        for command in COMMANDS {
            assert!(words.contains(command.name), "{} is not in {file}", command.name);
        }
        assert!(text.contains("config-test") && text.contains("evervipd"), "{file}");
    }
}

#[test]
fn the_page_of_keywords_shows_what_a_user_asks_for() {
    let page = read("docs/keywords.md");
    for (block, keyword) in [
        ("## vrrp_instance\n", "virtual_router_id"),
        ("## virtual_server / real_server / HTTP_GET / url\n", "status_code"),
        ("## global_defs\n", "vrrp_garp_master_refresh"),
    ] {
        let chapter = page.split(block).nth(1).unwrap().split("\n## ").next().unwrap();
        assert!(chapter.contains(&format!("| `{keyword}` |")), "{keyword} is not in {block}");
    }
}
