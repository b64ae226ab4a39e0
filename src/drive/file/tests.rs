use std::os::unix::fs::symlink;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::model::tracker::InitFile;

/// A directory of tracked files.
struct Bench {
    home: tempfile::TempDir,
    follower: Follower,
    finds: Receiver<Found>,
}

impl Bench {
    fn new() -> Self {
        let (tell, finds) = channel();
        let follower = Follower::start(Box::new(move |found| tell.send(found).is_ok())).unwrap();
        Self { home: tempfile::tempdir().unwrap(), follower, finds }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn file(&self, name: &str, init: Option<(i32, bool)>) -> TrackFile {
        TrackFile {
            name: name.into(),
            path: self.path(name).as_os_str().as_bytes().into(),
            weight: 1,
            reverse: false,
            init: init.map(|(value, overwrite)| InitFile { value, overwrite }),
        }
    }

    fn follow(&self, names: &[&str]) -> Vec<i32> {
        self.follower.follow(names.iter().map(|n| self.file(n, None)).collect(), false);
        let found = self.next();
        assert!(found.all);
        found.values.into_iter().map(|(_, value)| value).collect()
    }

    fn next(&self) -> Found {
        self.finds.recv_timeout(Duration::from_secs(20)).expect("a file is reported")
    }

    /// Waits until the number of a file is this. Faster than a read of all files, which would find it, too.
    fn becomes(&self, name: &str, wanted: i32) {
        let end = clock::now() + Duration::from_secs(20);
        while clock::now() < end {
            if self.next().values.contains(&(name.into(), wanted)) {
                return;
            }
        }
        panic!("{name} does not become {wanted}");
    }

    /// The other reported numbers.
    fn rest(&self) -> Vec<i32> {
        self.finds.try_iter().flat_map(|found| found.values).map(|(_, value)| value).collect()
    }
}

#[test]
fn a_file_is_followed_however_it_changes() {
    let bench = Bench::new();
    bench.write("f", "3\n");
    assert_eq!(bench.follow(&["f", "none"]), [3, 0]);
    let begun = clock::now();
    // Written in place, replaced, deleted and created again.
    bench.write("f", "4\n");
    bench.becomes("f", 4);
    bench.write("new", "5\n");
    fs::rename(bench.path("new"), bench.path("f")).unwrap();
    bench.becomes("f", 5);
    fs::remove_file(bench.path("f")).unwrap();
    bench.becomes("f", 0);
    bench.write("f", "6");
    bench.becomes("f", 6);
    fs::rename(bench.path("f"), bench.path("away")).unwrap();
    bench.becomes("f", 0);
    bench.write("none", "-7 and more");
    bench.becomes("none", -7);
    // It counts as empty only if it stays empty.
    bench.write("none", "");
    bench.becomes("none", 0);
    // Reported by an event, not found by the next read of all files.
    assert!(clock::now().since(begun) < AGAIN, "changes were not reported by events");
}

#[test]
fn a_file_that_is_truncated_and_written_is_never_taken_for_empty() {
    let bench = Bench::new();
    bench.write("f", "1");
    assert_eq!(bench.follow(&["f"]), [1]);
    for round in 0..300 {
        bench.write("f", &format!("{}", 1 + round % 3));
    }
    bench.write("f", "9");
    bench.becomes("f", 9);
    assert_eq!(bench.rest(), [0; 0]);
}

#[test]
fn many_changes_are_told_as_few_and_the_last_one_always() {
    let bench = Bench::new();
    assert_eq!(bench.follow(&["f"]), [0]);
    let begun = clock::now();
    for round in 1..=2000 {
        bench.write("new", &format!("{round}"));
        fs::rename(bench.path("new"), bench.path("f")).unwrap();
    }
    let mut told = 0;
    loop {
        told += 1;
        if bench.next().values == [("f".into(), 2000)] {
            break;
        }
    }
    let most = clock::now().since(begun).as_millis() / GAP.as_millis() + 2;
    assert!(told <= most, "{told} of at most {most}");
}

#[test]
fn directories_and_links_on_the_way_may_come_and_change() {
    let bench = Bench::new();
    assert_eq!(bench.follow(&["a/b/f", "link/f"]), [0, 0]);
    let begun = clock::now();
    fs::create_dir_all(bench.path("a/b")).unwrap();
    bench.write("a/b/f", "1");
    bench.becomes("a/b/f", 1);
    symlink("a/b", bench.path("link")).unwrap();
    bench.becomes("link/f", 1);
    bench.write("a/b/f", "2");
    bench.becomes("link/f", 2);
    // Another directory in its place.
    fs::create_dir_all(bench.path("other")).unwrap();
    bench.write("other/f", "8");
    symlink("other", bench.path("link2")).unwrap();
    fs::rename(bench.path("link2"), bench.path("link")).unwrap();
    bench.becomes("link/f", 8);
    // The file itself is a link.
    fs::remove_file(bench.path("other/f")).unwrap();
    bench.becomes("link/f", 0);
    symlink(bench.path("a/b/f"), bench.path("other/f")).unwrap();
    bench.becomes("link/f", 2);
    bench.write("a/b/f", "3");
    bench.becomes("link/f", 3);
    fs::rename(bench.path("a"), bench.path("z")).unwrap();
    bench.becomes("link/f", 0);
    assert!(clock::now().since(begun) < AGAIN, "changes were not reported by events");
    // A link to itself is a file that cannot be read.
    fs::remove_file(bench.path("link")).unwrap();
    symlink("link", bench.path("link")).unwrap();
    bench.write("never", "1");
    assert_eq!(bench.follow(&["link/f", "never"]), [0, 1]);
}

#[test]
fn what_is_no_number_or_no_file_counts_as_documented() {
    let bench = Bench::new();
    nix::unistd::mkfifo(&bench.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(bench.path("dir")).unwrap();
    bench.write("garbage", "\u{fffd}\0");
    bench.write("large", "99999999999");
    assert_eq!(bench.follow(&["fifo", "dir", "garbage", "large"]), [0; 4]);
    bench.write("large", "17");
    bench.becomes("large", 17);
    // A number that is too large changes nothing.
    bench.write("large", "99999999999");
    bench.write("garbage", "1");
    bench.becomes("garbage", 1);
    assert_eq!(bench.follow(&["large"]), [17]);
}

#[test]
fn initial_numbers_are_written_as_asked() {
    let bench = Bench::new();
    bench.write("kept", "5");
    bench.write("overwritten", "555555");
    nix::unistd::mkfifo(&bench.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let files = vec![
        bench.file("kept", Some((1, false))),
        bench.file("overwritten", Some((2, true))),
        bench.file("made", Some((-3, false))),
        bench.file("no/directory", Some((4, false))),
        bench.file("fifo", Some((4, true))),
    ];
    bench.follower.follow(files.clone(), true);
    let values = |found: Found| found.values.into_iter().map(|(_, v)| v).collect::<Vec<_>>();
    assert_eq!(values(bench.next()), [5, 2, -3, 0, 0]);
    assert_eq!(fs::read_to_string(bench.path("made")).unwrap(), "-3\n");
    assert_eq!(fs::read_to_string(bench.path("overwritten")).unwrap(), "2\n");
    // The second `follow` does not create or write files.
    fs::remove_file(bench.path("made")).unwrap();
    bench.becomes("made", 0);
    bench.follower.follow(files, false);
    assert_eq!(values(bench.next()), [5, 2, 0, 0, 0]);
}
