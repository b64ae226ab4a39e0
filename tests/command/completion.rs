//! The completions in bash. Without bash the test is skipped by name.
#![allow(clippy::print_stdout, reason = "says that it was skipped")]

use std::fs;
use std::process::Command;

use super::{EVERVIP, output, text};

#[test]
fn bash_offers_names_values_and_files() {
    if Command::new("bash").arg("--version").output().is_err() {
        println!("SKIPPED bash_offers_names_values_and_files: there is no bash");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("script"), output(EVERVIP, &["generate", "bash"]).stdout).unwrap();
    fs::write(folder.path().join("two words.conf"), "").unwrap();
    // The words of the line; the last one is being typed. bash makes a word of each equals sign.
    let offered = |words: &[&str]| -> Vec<String> {
        let script = r#". ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "_$1"; printf '%s\n' "${COMPREPLY[@]}""#;
        let result = Command::new("bash")
            .args(["-c", script, "bash"])
            .args(words)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(text(&result.stderr), "", "{words:?}");
        text(&result.stdout).lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(offered(&["evervip", "ch"]), ["check"]);
    assert_eq!(offered(&["evervip", "--v"]), ["--version"]);
    assert_eq!(offered(&["evervip", "check", "--pe"]), ["--peer", "--peer-id"]);
    assert_eq!(offered(&["evervip", "check", "--format", ""]), ["text", "json"]);
    assert_eq!(offered(&["evervip", "check", "--format", "=", "j"]), ["json"]);
    assert_eq!(offered(&["evervip", "check", "--format", "="]), ["text", "json"]);
    assert_eq!(offered(&["evervip", "check", "--color", "a"]), ["auto", "always"]);
    assert_eq!(offered(&["evervip", "check", "--silence", "W0501,L0804"]), ["W0501,L0804"]);
    assert_eq!(offered(&["evervip", "check", "--peer", "two"]), ["two words.conf"]);
    assert_eq!(offered(&["evervip", "check", "-i", ""]), Vec::<String>::new());
    assert_eq!(offered(&["evervip", "check", "s"]), ["script"]);
    assert_eq!(offered(&["evervip", "convert", "--to", "c"]), ["conf"]);
    assert_eq!(offered(&["evervip", "explain", "E0101"]), ["E0101"]);
    assert_eq!(offered(&["evervip", "help", "stat"]), ["status"]);
    assert_eq!(offered(&["evervip", "generate", "fi"]), ["fish"]);
    assert_eq!(offered(&["evervipd", "--use"]), ["--use-file"]);
    assert_eq!(offered(&["evervipd", "-f", "two"]), ["two words.conf"]);
    assert_eq!(offered(&["evervipd", "--signum", "=", "STA"]), ["STATS", "STATS_CLEAR"]);
    assert_eq!(offered(&["evervipd", "-S", "local7"]), ["local7"]);
}
