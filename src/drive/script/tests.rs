use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::*;
use crate::sys::testing;

fn shell(text: &str) -> Command {
    let words: [&[u8]; 3] = [b"/bin/sh", b"-c", text.as_bytes()];
    Command { words: words.map(Box::from).into(), through_shell: false, user: None }
}

async fn run(command: &Command, limit: Duration) -> RunEnd {
    Checks::default().run(command, limit, core::future::pending()).await
}

fn run_for(text: &str, millis: u64) -> RunEnd {
    testing::run(run(&shell(text), Duration::from_millis(millis)))
}

/// Whether the process whose id is in this file still runs (a zombie does not).
fn runs(file: &Path) -> bool {
    let pid = std::fs::read_to_string(file).unwrap();
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn the_status_comes_back() {
    assert_eq!(run_for("exit 0", 10_000), RunEnd::Exit(0));
    assert_eq!(run_for("exit 3", 10_000), RunEnd::Exit(3));
    assert_eq!(run_for("kill -15 $$", 10_000), RunEnd::Signal(15));
}

#[test]
fn what_takes_too_long_is_ended() {
    assert_eq!(run_for("sleep 100", 50), RunEnd::TimedOut);
}

#[test]
fn what_ignores_a_request_to_end_is_killed_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let text = format!(
        "trap '' TERM; (trap '' TERM; echo $$ >/dev/null; exec sleep 100) & echo $! > {}; wait; wait",
        file.display()
    );
    assert_eq!(run_for(&text, 200), RunEnd::TimedOut);
    let end = crate::sys::clock::now() + Duration::from_secs(10);
    while runs(&file) {
        assert!(crate::sys::clock::now() < end, "its child ends too");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_not_wanted_any_more_ends_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let text = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", file.display());
    let command = shell(&text);
    testing::run(async {
        let begun = async {
            while std::fs::read_to_string(&file).unwrap_or_default().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let end = Checks::default().run(&command, Duration::from_secs(60), begun).await;
        assert_eq!(end, RunEnd::TimedOut);
    });
    assert!(!runs(&file));
}

#[test]
fn a_file_system_that_hangs_is_a_timeout_of_its_scripts_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    std::fs::write(&file, "#!/bin/sh\nexit 0\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&file, mode).unwrap();
    let words = vec![file.as_os_str().as_bytes().into()];
    let command = Command { words, through_shell: false, user: None };
    let _held = testing::hold_up(&file);
    testing::run(async {
        let hanging = run(&command, Duration::from_millis(300));
        tokio::pin!(hanging);
        let other = shell("exit 3");
        let other = run(&other, Duration::from_secs(30));
        tokio::select! {
            biased;
            end = &mut hanging => panic!("{end:?} before the other one"),
            end = other => assert_eq!(end, RunEnd::Exit(3)),
        }
        assert_eq!(hanging.await, RunEnd::TimedOut);
    });
}

#[test]
fn what_hangs_and_cannot_be_killed_is_not_started_again() {
    let checks = Checks::default();
    let command = shell("exit 0");
    checks.hanging().insert(command.display());
    let again = || testing::run(checks.run(&command, Duration::from_secs(9), async {}));
    assert_eq!(again(), RunEnd::TimedOut);
    checks.hanging().clear();
    let pending = checks.run(&command, Duration::from_secs(9), core::future::pending());
    assert_eq!(testing::run(pending), RunEnd::Exit(0));
}

#[test]
fn what_a_program_leaves_behind_in_time_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    assert_eq!(
        run_for(&format!("sleep 30 & echo $! > {}", file.display()), 10_000),
        RunEnd::Exit(0)
    );
    assert!(runs(&file));
    let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
}

#[test]
fn a_flood_of_output_and_closed_descriptors_hurt_nobody() {
    assert_eq!(
        run_for("yes | head -c 50000000; yes | head -c 50000000 >&2; exit 4", 60_000),
        RunEnd::Exit(4)
    );
    assert_eq!(run_for("exec 0<&- 1>&- 2>&-; exit 5", 10_000), RunEnd::Exit(5));
}

#[test]
fn a_file_without_interpreter_line_runs_in_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    std::fs::write(&file, "test \"$1\" = 'a b' && exit 6\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&file, mode).unwrap();
    let words = vec![file.as_os_str().as_bytes().into(), b"a b".as_slice().into()];
    let command = Command { words, through_shell: false, user: None };
    assert_eq!(testing::run(run(&command, Duration::from_secs(10))), RunEnd::Exit(6));
}

#[test]
fn what_cannot_be_started_is_told_with_its_reason() {
    let words = vec![b"/nonexistent".as_slice().into()];
    let command = Command { words, through_shell: false, user: None };
    let end = testing::run(run(&command, Duration::from_secs(10)));
    assert_eq!(end, RunEnd::NotStarted(libc::ENOENT));
}

#[test]
fn a_redirection_is_a_test_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flag");
    let words = vec![format!("<{}", file.display()).into_bytes().into()];
    let command = Command { words, through_shell: true, user: None };
    let result = || testing::run(run(&command, Duration::from_secs(10)));
    assert_ne!(result(), RunEnd::Exit(0));
    std::fs::write(&file, "").unwrap();
    assert_eq!(result(), RunEnd::Exit(0));
}

#[test]
fn the_account_and_the_environment_are_the_right_ones() {
    if !crate::sys::process::is_root() {
        // Not root: the account cannot be changed.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    let file = folder.path().join("out");
    let mut command = shell(&format!(
        "(id -u; id -g; id -G; umask; echo $NOTIFY_SOCKET$IFS_X; ps -o pgid= -p $$ | tr -d ' '; echo $$) > {}",
        file.display()
    ));
    command.user = Some(User { uid: 65534, gid: 65533, groups: vec![65533, 4] });
    assert_eq!(testing::run(run(&command, Duration::from_secs(10))), RunEnd::Exit(0));
    let out = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], ["65534", "65533", "65533 4"]);
    assert_eq!(lines[5], lines[6], "it leads its process group");
}
