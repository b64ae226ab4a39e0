//! Tests that need a different kernel: all selected ones run in one boot of the guest, by the same test program; their
//! results are returned through a shared directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::follow::Halt;
use super::node::Node;
use super::timeline::{Event, Timeline, What};
use super::{LIMIT, Res, Stop, fail, own_program, temporary};

/// The argument by which the test program runs inside the guest: a file with the names of tests, a file for results.
pub const INSIDE: &str = "--inside-the-guest";

/// How long a guest may take until its first result, and from each result to the next. Only one that hangs takes so
/// long: each wait of its tests ends by itself, and its tests run a few at a time.
const STRIDE: Duration = LIMIT.saturating_mul(10);
/// The limit of its script in seconds, which ends a guest that nobody waits for.
const LIFE: u32 = 86_400;

/// How one test in the guest ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// One line of the file of results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    pub verdict: Verdict,
}

/// One boot of the guest: tests wait for it.
#[derive(Default)]
pub struct Boot {
    done: Mutex<Option<Arc<Outcome>>>,
    ended: Condvar,
}

struct Outcome {
    verdicts: BTreeMap<String, Verdict>,
    /// The result of a test without a verdict.
    trouble: Stop,
}

impl Boot {
    /// Boots the guest in the background and runs these tests in it.
    pub fn start(names: Vec<String>, systemd: bool) -> Arc<Self> {
        let boot = Arc::new(Self::default());
        let ours = Arc::clone(&boot);
        thread::spawn(move || {
            let outcome = run(&names, systemd)
                .unwrap_or_else(|trouble| Outcome { verdicts: BTreeMap::new(), trouble });
            *ours.done.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(outcome));
            ours.ended.notify_all();
        });
        boot
    }

    /// Waits for the end of the guest; returns the result of this test.
    pub fn result(&self, name: &str) -> Res {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = loop {
            if let Some(outcome) = done.as_ref() {
                break Arc::clone(outcome);
            }
            done = self.ended.wait(done).unwrap_or_else(PoisonError::into_inner);
        };
        drop(done);
        match outcome.verdicts.get(name) {
            Some(Verdict::Passed) => Ok(()),
            Some(Verdict::Failed(text)) => Err(fail(format!("in the guest: {text}"))),
            Some(Verdict::Skipped(reason)) => Err(Stop::Skip(reason.clone())),
            None => Err(match &outcome.trouble {
                Stop::Fail(text) => fail(text),
                Stop::Skip(reason) => Stop::Skip(reason.clone()),
            }),
        }
    }
}

/// Boots, waits for the end, reads the results.
fn run(names: &[String], systemd: bool) -> Res<Outcome> {
    let script = script();
    let check = Command::new(&script).arg("--check").output()?;
    if !check.status.success() {
        let reason = String::from_utf8_lossy(&check.stderr).trim().to_owned();
        return Err(Stop::Skip(reason));
    }
    let folder = temporary::folder()?;
    let shared = folder.join(if systemd { "systemd" } else { "ipvs" });
    fs::create_dir(&shared)?;
    let (list, results) = (shared.join("tests"), shared.join("results"));
    fs::write(&list, names.join("\n"))?;
    fs::write(&results, "")?;
    let mut command = Command::new(script);
    command.args(["-m", "1500M", "-t", &LIFE.to_string()]);
    command.args(systemd.then_some("-s"));
    command.arg("-w").arg(&shared).arg("--");
    command.arg(own_program()?).arg(INSIDE).arg(&list).arg(&results);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("TMPDIR", &folder);
    // In a process namespace of its own the guest ends with this program, however that ends.
    let timeline = Timeline::new();
    let (node, _life) = Node::shelter("guest", Arc::clone(&timeline), Arc::new(Halt::new()?))?;
    let mark = timeline.mark();
    let pid = node.spawn(command, "guest")?;
    // The machine decides how long its tests take; what counts is that they get on.
    let written = || fs::metadata(&results).map_or(0, |file| file.len());
    let ended = |event: &Event| match event.what {
        What::Exit { pid: ended, .. } if ended == pid => Some(()),
        _ => None,
    };
    let mut before = written();
    let mut how = "the guest ended before this test did".to_owned();
    while let Err(Stop::Fail(text)) = timeline.wait(mark, STRIDE, "its next result", ended) {
        let now = written();
        if now == before {
            how = format!("the guest hangs: {text}");
            break;
        }
        before = now;
    }
    let text = fs::read_to_string(&results)?;
    let records = text.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok());
    let verdicts = records.map(|record| (record.name, record.verdict)).collect();
    let trouble = fail(format!("{how}:\n{}", timeline.report()));
    Ok(Outcome { verdicts, trouble })
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("netns-tests/guest/run")
}
