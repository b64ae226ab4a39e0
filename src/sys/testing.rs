//! Helpers for tests that need their own network.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

/// Set in a test that runs in its own namespaces.
const INSIDE: &str = "EVERVIP_TEST_INSIDE";

/// Runs `test`, which is the test called `name` (its full path), in a user and a network namespace of its own: it is
/// root there. Needs no privileges, only a kernel that permits user namespaces.
pub fn in_namespace(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return test();
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (package util-linux) runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs `ip` with these arguments and returns its output.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a future on a runtime of this thread.
pub fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Makes opening or executing this file hang until the returned value is dropped, for at most 45 s
/// (`fs.lease-break-time`): as on a file system whose server is gone.
pub fn hold_up(path: &Path) -> File {
    let file = File::open(path).unwrap();
    // SAFETY: no handler involved: the kernel's call to give up the lease is of no interest.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    // SAFETY: no pointers.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    file
}

/// Reports that a test is skipped because this machine does not permit it.
#[allow(clippy::print_stderr, reason = "whoever runs the tests reads it")]
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}
