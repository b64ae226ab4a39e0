use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use nix::sys::signal::{Signal, kill};

use super::*;
use crate::kernel::connector;

/// A copy of `sleep` under a unique name.
struct Bench {
    home: tempfile::TempDir,
    name: String,
    watch: Watch,
    finds: Receiver<Found>,
}

impl Bench {
    fn new(connector: Option<OwnedFd>) -> Self {
        let home = tempfile::tempdir().unwrap();
        // Unique to this test, and short enough not to be truncated by the kernel.
        let name = format!("t{}", home.path().to_str().unwrap().rsplit(".tmp").next().unwrap());
        fs::copy("/bin/sleep", home.path().join(&name)).unwrap();
        let (tell, finds) = channel();
        let tell: Tell = Box::new(move |found| tell.send(found).is_ok());
        Self { home, name, watch: Watch::start(connector, tell).unwrap(), finds }
    }

    fn kind(&self, quorum: u32) -> TrackProcess {
        TrackProcess {
            name: format!("{} of {quorum}", self.name).as_str().into(),
            words: vec![self.name.as_bytes().into()],
            arguments: None,
            full_command: false,
            quorum,
            quorum_max: None,
            terminate_delay: Duration::ZERO,
            fork_delay: Duration::ZERO,
        }
    }

    fn run(&self) -> Running {
        let path = self.home.path().join(&self.name);
        Running(Command::new(path).arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    /// Waits until this many run, and returns whether that is enough.
    fn counts(&self, wanted: u32) -> bool {
        let end = clock::now() + Duration::from_secs(20);
        while clock::now() < end {
            let found =
                self.finds.recv_timeout(Duration::from_secs(20)).expect("something is told");
            let last = found.reports.last();
            if let Some(report) = last.filter(|report| report.count == wanted) {
                return report.runs;
            }
        }
        panic!("there are never {wanted} of {}", self.name);
    }
}

/// A process that is killed at the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn they_come_and_go(bench: &Bench, queue: Queue) {
    let early = bench.run();
    bench.watch.follow(vec![bench.kind(2)], queue);
    assert!(!bench.counts(1));
    let late = bench.run();
    assert!(bench.counts(2));
    // A child of another process, started by a script.
    let path = bench.home.path().join(&bench.name);
    let script = format!("{} 1000 & echo $!; wait", path.display());
    let mut shell =
        Command::new("/bin/sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut child).unwrap();
    assert!(bench.counts(3));
    drop((early, late));
    assert!(!bench.counts(1));
    // A zombie does not count as running. The end of the shell does not end its child.
    shell.kill().unwrap();
    shell.wait().unwrap();
    kill(nix::unistd::Pid::from_raw(child.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    assert!(!bench.counts(0));
}

#[test]
fn they_are_found_without_events() {
    they_come_and_go(&Bench::new(None), Queue::default());
}

#[test]
fn they_are_told_by_events_and_found_when_some_are_lost() {
    if Connector::new(connector::open().unwrap()).listen(Queue::default()).is_err() {
        crate::sys::testing::skip("no events of processes here");
        return;
    }
    for queue in [Queue::default(), Queue { size: Some(1), force: true }] {
        they_come_and_go(&Bench::new(connector::open().ok()), queue);
    }
}

#[test]
fn a_zombie_and_a_strange_name_are_seen_for_what_they_are() {
    for (stat, expected) in [
        (&b"7 (cat) R 1 7"[..], Some(&b"cat"[..])),
        (b"7 (a) Z (b) S 1 7", Some(b"a) Z (b")),
        (b"7 (cat) Z 1 7", None),
        (b"7 (cat) X 1 7", None),
        (b"7 () S 1", Some(b"")),
        (b"7 )( S 1", None),
        (b"7 (cat", None),
        (b"7 (cat)", Some(b"cat")),
        (b"", None),
    ] {
        assert_eq!(name(stat), expected, "{}", String::from_utf8_lossy(stat));
    }
}

#[test]
fn nothing_is_told_when_nothing_is_tracked_any_more() {
    let bench = Bench::new(connector::open().ok());
    bench.watch.follow(vec![bench.kind(1)], Queue::default());
    assert!(!bench.counts(0));
    bench.watch.follow(Vec::new(), Queue::default());
    let found = bench.finds.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(found, Found { all: true, reports: Vec::new() });
    let _running = bench.run();
    bench.watch.follow(vec![bench.kind(1)], Queue::default());
    assert!(bench.counts(1));
}
