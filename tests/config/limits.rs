//! Excessive configurations: each ends soon, with an error that names the limit.

use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, load};

fn read(files: &MemoryFiles) -> Loaded {
    let host = StaticHost { name: "vm".into(), ..StaticHost::default() };
    load(files, &host, &Options::new("k.conf", &host))
}

fn codes(text: &str) -> Vec<&'static str> {
    read(&MemoryFiles::single("k.conf", text.as_bytes()))
        .diagnostics
        .iter()
        .map(|d| d.code.id)
        .collect()
}

#[test]
fn definitions_that_double_each_other_stop_at_the_line_limit() {
    let mut text = String::from("$A0=xx\n");
    for i in 1..40 {
        text.push_str(&format!("$A{i}=${{A{0}}} ${{A{0}}}\n", i - 1));
    }
    text.push_str("global_defs {\n router_id ${A39}\n}\n");
    assert_eq!(codes(&text), ["E0112"]);
}

#[test]
fn a_definition_that_is_itself_is_named() {
    let found =
        codes("$X=$X\n$Y=${Z}\n$Z=${Y}\nglobal_defs {\n router_id a$X\n router_id ${Y}\n}\n");
    assert!(found.contains(&"E0204"), "{found:?}");
}

#[test]
fn a_sequence_of_a_thousand_million_values_is_refused_at_once() {
    assert_eq!(codes("~SEQ(N, 1, 1000000000) foo $N\n"), ["E0112"]);
    assert_eq!(codes("~SEQ(N, -9000000000000000000, 9000000000000000000) foo $N\n"), ["E0112"]);
}

#[test]
fn nested_repetitions_end() {
    let text = b"~SEQ(A, 1, 5000) ~SEQ(B, 1, 5000) ~SEQ(C, 1, 5000) foo $A\n";
    let host = StaticHost::default();
    let mut options = Options::new("k.conf", &host);
    options.limits.problems = 500;
    let loaded = load(&MemoryFiles::single("k.conf", text), &host, &options);
    assert!(loaded.diagnostics.len() <= 502, "{}", loaded.diagnostics.len());
    assert!(
        loaded.diagnostics.iter().any(|d| d.message.ends_with("the rest of the file was not read"))
    );
}

#[test]
fn files_that_include_each_other_are_a_loop() {
    let files = MemoryFiles::single("k.conf", b"include a.inc\n")
        .with("a.inc", b"include b.inc\n")
        .with("b.inc", b"include a.inc\n");
    let found: Vec<_> = read(&files).diagnostics.iter().map(|d| d.code.id).collect();
    assert_eq!(found, ["E0203"]);
}

#[test]
fn an_endless_line_is_read_in_pieces_and_shown_in_part() {
    let text = "a".repeat(1 << 20);
    let loaded = read(&MemoryFiles::single("k.conf", text.as_bytes()));
    assert_eq!(loaded.diagnostics.iter().filter(|d| d.code.id == "E0109").count(), 1025);
    let style = evervip::config::Style::Plain;
    assert!(loaded.diagnostics.text(style).len() < 1_000_000);
}

#[test]
fn a_million_braces_end_with_a_count_of_what_is_not_shown() {
    let line = "{".repeat(1000) + "\n";
    let found = codes(&line.repeat(1000));
    assert!(found.len() < 20_000 && found.contains(&"E0112"), "{}", found.len());
}
