//! Every fuzz target on stable Rust: its seeds, and mutated copies of them, the same in every run. `FUZZ_COPIES` sets
//! the number of copies of each seed, for a longer search without a fuzzer.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

mod made;

use std::fs;
use std::path::{Path, PathBuf};

use evervip::base::rng::Rng;

/// Number of mutated copies of each seed.
const COPIES: u64 = 40;
/// Octets with a meaning for at least one target.
const WORDS: [&[u8]; 12] = [
    b"{",
    b"}",
    b"\"",
    b"\n",
    b"$A",
    b"$A=",
    b"~SEQ(A,1,9)",
    b"include a",
    b"\0",
    b"\xff\xff",
    b"#",
    b"\\",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The seeds of a target, by name. Configurations include those of the program and its tests.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut folders = vec![root().join("fuzz/seeds").join(target)];
    if matches!(target, "config" | "expand" | "format") {
        folders.push(root().join("etc/examples"));
        folders.push(root().join("tests/data/syntax-cases"));
    }
    let mut found: Vec<PathBuf> = folders.iter().flat_map(|folder| files_in(folder)).collect();
    found.sort();
    found
        .iter()
        .map(|path| (path.display().to_string(), fs::read(path).unwrap_or_default()))
        .collect()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// A copy with some octets flipped, removed, duplicated, or with an inserted word.
fn changed(seed: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut copy = seed.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(copy.len() as u64 + 1) as usize;
        let end = (at + rng.below(40) as usize).min(copy.len());
        match rng.below(5) {
            0 => copy.truncate(at),
            1 => drop(copy.drain(at..end)),
            2 => {
                let part = copy[at..end].to_vec();
                copy.splice(end..end, part);
            }
            3 => {
                let word = WORDS[rng.below(WORDS.len() as u64) as usize];
                copy.splice(at..at, word.iter().copied());
            }
            _ => {
                if let Some(octet) = copy.get_mut(at) {
                    *octet = rng.next_u64() as u8;
                }
            }
        }
    }
    copy
}

/// Runs a target with its seeds and copies of them. A failing input is printed as text for a new seed.
fn replay(target: &str) {
    let (_, run) = targets::TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let all = seeds(target);
    assert!(!all.is_empty(), "{target} has no seeds");
    let asked = std::env::var("FUZZ_COPIES").ok().map(|n| n.parse().expect("a number"));
    let copies = asked.unwrap_or(COPIES.min(1600 / all.len() as u64).max(6));
    for (number, (name, seed)) in (0..).zip(&all) {
        let mut rng = Rng::new(number);
        for copy in 0..=copies {
            let input = if copy == 0 { seed.clone() } else { changed(seed, &mut rng) };
            let end = std::panic::catch_unwind(|| run(&input));
            assert!(end.is_ok(), "{name}, copy {copy}: {}", input.escape_ascii());
        }
    }
}

/// One test per target, so that they run in parallel and can be run individually.
macro_rules! replays {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*

        #[test]
        fn every_target_is_replayed_and_has_a_program() {
            let names: Vec<_> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($target)),*]);
            let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
            for name in names {
                assert!(manifest.contains(&format!("[[bin]]\nname = \"{name}\"")), "{name}");
            }
        }
    };
}

replays! {
    advert api arguments bfd channel check_events config dns expand files format http ipc ipvs
    json log mail mailer peer ping reload resume rtnetlink scripts smtp udp vrrp_events
}
