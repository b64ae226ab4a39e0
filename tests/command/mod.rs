//! The programs as a user calls them: output, exit statuses, pipes, completion.

mod completion;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use evervip::cli::command::COMMANDS;

const EVERVIP: &str = env!("CARGO_BIN_EXE_evervip");
const EVERVIPD: &str = env!("CARGO_BIN_EXE_evervipd");

/// An instance whose only problem on any machine is its missing interface.
const GOOD: &str = "vrrp_instance A {\n interface no0\n virtual_router_id 5\n priority 150\n virtual_ipaddress {\n  192.0.2.9/24\n }\n}\n";

fn output(program: &str, words: &[&str]) -> Output {
    Command::new(program).args(words).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a program whose output pipe is closed, and returns its other output.
fn unread(program: &str, words: &[&str], to_error: bool) -> (ExitStatus, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    let closed = Stdio::from(OwnedFd::from(writer));
    let other = if to_error {
        command.stderr(closed).stdout(Stdio::piped());
        command.output().unwrap()
    } else {
        command.stdout(closed).stderr(Stdio::piped());
        command.output().unwrap()
    };
    (other.status, text(&other.stdout) + &text(&other.stderr))
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("k.conf");
    fs::write(&file, GOOD.replace("priority", "priorty")).unwrap();
    let file = file.to_str().unwrap();
    let mut lines: Vec<Vec<&str>> = vec![
        vec![],
        vec!["--version"],
        vec!["--help"],
        vec!["help"],
        vec!["check", file],
        vec!["check", "--format", "json", file],
        vec!["explain"],
        vec!["explain", "E0101"],
        vec!["fmt", file],
        vec!["fmt", "--check", file],
        vec!["convert", "--to", "json", file],
        vec!["generate", "keywords"],
    ];
    lines.extend(COMMANDS.iter().map(|c| vec![c.name, "--help"]));
    for words in &lines {
        let (status, said) = unread(EVERVIP, words, false);
        // Ended by SIGPIPE, like other filters, or as if everything had been read.
        assert!(status.signal() == Some(libc::SIGPIPE) || status.code().is_some_and(|c| c < 3));
        assert!(!said.contains("panicked") && !said.contains("cannot write"), "{words:?}: {said}");
    }
    for words in [
        &["-t", "-f", file][..],
        &["-t", "-f", "/nonexistent"],
        &["-v"],
        &["--help"],
        &["--no-such-option"],
        &["-n", "word", "-t", "-f", file],
    ] {
        let (status, said) = unread(EVERVIPD, words, true);
        // The exit status is that of a normal run.
        assert_eq!(status.code(), output(EVERVIPD, words).status.code(), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{words:?}: {said}");
    }
    let (status, said) = unread(EVERVIPD, &["--signum", "STOP"], false);
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error_and_no_panic() {
    for (program, words) in [
        (EVERVIP, &["--help"][..]),
        (EVERVIP, &["generate", "bash"]),
        (EVERVIPD, &["--signum", "STOP"]),
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let result = Command::new(program).args(words).stdout(full).output().unwrap();
        let said = text(&result.stderr);
        assert!(said.contains("cannot write the output"), "{words:?}: {said}");
        assert!(!result.status.success() && !said.contains("panicked"), "{said}");
    }
}

#[test]
fn check_reads_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("more.inc"), "vrrp_instance B {\n}\n").unwrap();
    let checked = |input: &str, options: &[&str]| {
        let mut child = Command::new(EVERVIP)
            .arg("check")
            .args(options)
            .arg("-")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let result = child.wait_with_output().unwrap();
        (result.status.code().unwrap(), text(&result.stdout))
    };
    let (status, said) = checked(&GOOD.replace("priority", "priorty"), &[]);
    assert!(status == 1 && said.contains("<stdin>:4:2") && said.contains("'priority'"), "{said}");
    let (status, said) = checked(GOOD, &["--silence", "e0501"]);
    assert_eq!((status, said.as_str()), (0, ""));
    let mut child = Command::new(EVERVIP)
        .args(["convert", "--to", "json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(GOOD.as_bytes()).unwrap();
    assert!(text(&child.wait_with_output().unwrap().stdout).contains("\"interface\": \"no0\""));
    // Includes are relative to the working directory.
    let (_, said) = checked("include more.inc\n", &["--format", "json"]);
    assert!(said.contains("more.inc") && said.contains("E0405"), "{said}");
}

#[test]
fn help_and_version() {
    for words in [&["help"][..], &["--help"], &["-h"]] {
        let said = output(EVERVIP, words);
        assert!(said.status.success());
        assert!(text(&said.stdout).contains("--version"), "{}", text(&said.stdout));
    }
    let of = |words: &[&str]| text(&output(EVERVIP, words).stdout);
    assert_eq!(of(&["help", "check"]), of(&["check", "--help"]));
    let wrong = output(EVERVIP, &["help", "chek"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("did you mean 'check'?"), "{}", text(&wrong.stderr));
    assert!(of(&["--version"]).starts_with("evervip "));
}

#[test]
fn a_certain_split_brain_has_an_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let own = write("a.conf", GOOD);
    let sound = write("b.conf", &GOOD.replace("priority 150", "priority 100"));
    let deaf = write("c.conf", &GOOD.replace("virtual_router_id 5", "virtual_router_id 6"));
    let check = |peer: &str, more: &[&str]| {
        output(EVERVIP, &[&["check", "--peer", peer, &own], more].concat())
    };
    assert_eq!(check(&sound, &["--silence", "E0501"]).status.code(), Some(0));
    // A reload with an interface that this machine does not have is refused.
    assert_eq!(check(&sound, &[]).status.code(), Some(1));
    let result = check(&deaf, &[]);
    assert_eq!(result.status.code(), Some(3), "{}", text(&result.stdout));
    let json = check(&deaf, &["--format", "json"]);
    assert!(text(&json.stdout).contains("\"split_brain\": true"), "{}", text(&json.stdout));
    assert_eq!(check(&deaf, &["--silence", "L0811,E0501"]).status.code(), Some(0));
    assert!(text(&output(EVERVIP, &["help", "check"]).stdout).contains("3 --peer found"));
}

/// Gives a text to standard input.
fn fed(words: &[&str], input: &str) -> Output {
    let mut child = Command::new(EVERVIP)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_file_of_the_peer_can_be_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.conf");
    fs::write(&path, GOOD).unwrap();
    let own = path.to_str().unwrap();
    let deaf = GOOD.replace("virtual_router_id 5", "virtual_router_id 6");
    let result = fed(&["check", "--peer", "-", own], &deaf);
    assert_eq!(result.status.code(), Some(3), "{}", text(&result.stderr));
    assert!(text(&result.stdout).contains("in <stdin>"), "{}", text(&result.stdout));
    let both = fed(&["check", "--peer", "-", "-"], GOOD);
    assert_eq!(both.status.code(), Some(2));
    assert!(text(&both.stderr).contains("only one of FILE and --peer"), "{}", text(&both.stderr));
    // The reason is the error that stops a start, not the first line.
    let fatal = format!("global_defs {{\n frob\n vrrp_garp_interval\n}}\n{GOOD}");
    let result = fed(&["check", "--peer", "-", own], &fatal);
    assert_eq!(result.status.code(), Some(2));
    let said = text(&result.stderr);
    assert!(said.contains("vrrp_garp_interval") && !said.contains("frob"), "{said}");
}

#[test]
fn special_and_huge_files_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let huge = folder.path().join("huge.conf");
    fs::File::create(&huge).unwrap().set_len(3 << 30).unwrap();
    let huge = huge.to_str().unwrap();
    for words in [&["fmt"][..], &["fmt", "--check"], &["convert", "--to", "conf"]] {
        let of = |file: &str| {
            let result = output(EVERVIP, &[words, &[file]].concat());
            assert_eq!(result.status.code(), Some(2), "{words:?} {file}");
            text(&result.stderr)
        };
        for special in ["/proc/kmsg", "/dev/zero"] {
            assert!(of(special).contains("is not a regular file"), "{words:?}: {}", of(special));
        }
        assert!(of(huge).contains("larger than 1073741824 bytes"), "{words:?}: {}", of(huge));
        assert!(of("/none.conf").contains("file '/none.conf' does not exist"), "{words:?}");
    }
}

#[test]
fn an_unknown_option_has_a_hint() {
    let said = |words: &[&str]| {
        let result = output(EVERVIP, words);
        assert_eq!(result.status.code(), Some(2));
        text(&result.stderr)
    };
    let hint = "unknown option '--fromat', did you mean '--format'?";
    assert!(said(&["check", "--fromat", "json"]).contains(hint));
    assert!(said(&["--vesrion"]).contains("unknown option '--vesrion', did you mean '--version'?"));
    assert!(said(&["check", "a", "b"]).contains("unexpected argument 'b'"));
    let daemon = output(EVERVIPD, &["--vesrion"]);
    assert_eq!(daemon.status.code(), Some(1));
    let said = text(&daemon.stderr);
    assert!(said.contains("Unknown option --vesrion, did you mean --version?"), "{said}");
}

/// keepalived ignores such words: `keepalived -t my.conf` tests the default file.
#[test]
fn an_argument_that_is_no_option_starts_and_tests_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("k.conf");
    fs::write(&file, GOOD).unwrap();
    let file = file.to_str().unwrap();
    for words in [&["-t", "-f", file, "extra"][..], &["-n", "-f", "/nonexistent", "extra"]] {
        let result = output(EVERVIPD, words);
        assert_eq!(result.status.code(), Some(1), "{words:?}");
        let expected =
            "evervipd: Unexpected argument 'extra'\n'evervipd --help' lists the options\n";
        assert_eq!(text(&result.stderr), expected);
    }
}

#[test]
fn the_last_line_tells_what_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.conf");
    let last = |text: &str| {
        fs::write(&path, text).unwrap();
        let result = output(EVERVIP, &["check", path.to_str().unwrap()]);
        String::from_utf8_lossy(&result.stdout).lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(last(GOOD), "1 error (1 stops a reload that adds it), 0 warnings");
    let late = format!("global_defs {{\n dynamic_interfaces\n}}\n{GOOD}");
    assert_eq!(last(&late), "0 errors, 1 warning (it stops nothing)");
    let tested = late.replace("dynamic", "reload_check_config\n dynamic");
    assert_eq!(last(&tested), "0 errors, 1 warning (it stops nothing)");
    let tested = tested.replace(" priority", " priorty 1\n priority");
    assert_eq!(
        last(&tested),
        "reload_check_config is set: the one that keepalived counts (1) stops every reload"
    );
    let two = late.replace("priority", "priorty 1\n sate MASTER\n priority");
    assert_eq!(
        last(&two),
        "2 errors (2 stop a reload that adds them), 1 warning (it stops nothing)"
    );
    // keepalived does not start without the value of `interface`.
    let fatal = format!("global_defs {{\n vrrp_garp_interval\n frob\n}}\n{late}");
    assert_eq!(
        last(&fatal),
        "2 errors (1 stops a start, 1 stops a reload that adds it), 1 warning (it stops nothing)"
    );
    assert_eq!(last("global_defs {\n}\n"), "");
}

/// keepalived 2.2.7: 4 for an unreadable main file, 0 for one that is missing or not text.
#[test]
fn a_main_file_that_cannot_be_read_has_a_status_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let tested = |path: &str| {
        let result = output(EVERVIPD, &["-t", "-f", path]);
        (result.status.code().unwrap(), text(&result.stderr))
    };
    fs::write(at("k.conf"), GOOD).unwrap();
    fs::set_permissions(at("k.conf"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(at("k.conf")).is_err() {
        assert_eq!(tested(&at("k.conf")).0, 4);
    }
    // Refused before it is read: reading it would block forever.
    let (status, said) = tested("/proc/kmsg");
    assert!(status == 4 && said.contains("/proc/kmsg"), "{status}: {said}");
    assert_eq!(tested(&at("none.conf")).0, 0);
    fs::DirBuilder::new().mode(0o755).create(at("folder")).unwrap();
    assert_eq!(tested(&at("folder")).0, 0);
}

/// keepalived only finds such a file when its checks start.
#[test]
fn a_client_certificate_that_cannot_be_used_is_reported_at_its_place() {
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::symm::Cipher;

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (key, file) = (PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(), at("k.conf"));
    let pem = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"right").unwrap();
    fs::write(at("key.pem"), pem).unwrap();
    fs::set_permissions(at("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(at("text"), "x").unwrap();
    for (lines, column, said) in [
        ("  ca none", 6, format!("ca '{}' cannot be read: No such file", at("none"))),
        ("  ca text", 6, format!("ca '{}' cannot be used: no start line", at("text"))),
        ("  key text", 7, "SSL has a key without its certificate".into()),
        ("  certificate text", 15, "SSL has a certificate without its key".into()),
        (
            "  certificate text\n  key key.pem\n  password right",
            15,
            format!("certificate '{}' cannot be used: no start line", at("text")),
        ),
    ] {
        let lines = lines.replace("none", &at("none")).replace("text", &at("text"));
        let lines = lines.replace("key.pem", &at("key.pem"));
        fs::write(&file, format!("SSL {{\n{lines}\n}}\n{GOOD}")).unwrap();
        let result = output(EVERVIPD, &["-t", "-f", &file]);
        let shown = text(&result.stderr);
        let place = format!("k.conf:2:{column}");
        assert!(shown.contains(&said) && shown.contains(&place), "{said}, {place}: {shown}");
    }
}

#[test]
fn special_files_and_large_ones_are_refused_before_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::set_permissions(at("fifo"), fs::Permissions::from_mode(0o600)).unwrap();
    // A sparse file.
    let large = fs::File::create(at("large")).unwrap();
    large.set_len(3 << 30).unwrap();
    std::os::unix::fs::symlink("/proc/kmsg", at("link")).unwrap();
    for (name, reason) in [
        ("fifo", "is not a regular file"),
        ("/dev/zero", "is not a regular file"),
        ("/proc/kmsg", "is not a regular file"),
        ("link", "is not a regular file"),
        ("large", "larger than"),
    ] {
        let file = at("k.conf");
        fs::write(&file, format!("include {name}\n{GOOD}")).unwrap();
        let said = ends(&file);
        assert!(said.contains(reason), "{name}: {said}");
        assert!(said.contains("no0"), "{name}: the rest is not read: {said}");
    }
}

#[test]
fn a_folder_that_cannot_be_read_is_not_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("k.conf");
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
    fs::create_dir(folder.path().join("closed")).unwrap();
    fs::set_permissions(folder.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let denied = ("closed", "Permission denied");
    // Root can read everything.
    let denied = (!nix::unistd::geteuid().is_root()).then_some(denied);
    for (name, reason) in [("loop", "Too many levels")].into_iter().chain(denied) {
        for part in ["*.conf", "part.conf", "a*/b.conf"] {
            fs::write(&file, format!("# first\ninclude {name}/{part}\n{GOOD}")).unwrap();
            let said = ends(&file);
            let line = said.lines().find(|line| line.contains(reason));
            let line = line.unwrap_or_else(|| panic!("{name}/{part}: {said}"));
            assert!(line.contains("Line 2") && line.contains("cannot be read"), "{line}");
            assert!(!said.contains("file matches include"), "{said}");
        }
    }
    // A missing directory is handled like an empty one.
    fs::write(&file, format!("include nothing/*.conf\n{GOOD}")).unwrap();
    let said = ends(&file);
    assert!(said.contains("file matches include"), "{said}");
}

/// The output of `-t`. It must end in less time than reading gigabytes would take.
fn ends(file: &Path) -> String {
    let mut child =
        Command::new(EVERVIPD).args(["-t", "-f"]).arg(file).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let (tell, told) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut said = String::new();
        pipe.read_to_string(&mut said).unwrap();
        let _ = tell.send(said);
    });
    let said = told.recv_timeout(Duration::from_secs(60));
    if said.is_err() {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    reader.join().unwrap();
    said.unwrap_or_else(|_| panic!("{}: it hangs", file.display()))
}

/// A configuration test by another user than root names what the daemon would lack.
#[test]
fn a_test_without_root_names_the_missing_capabilities() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("k.conf");
    fs::write(&file, GOOD).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = Command::new(EVERVIPD);
    let copy = folder.path().join("evervipd");
    if nix::unistd::geteuid().is_root() {
        // The build directory may be closed to other users.
        fs::copy(EVERVIPD, &copy).unwrap();
        command = Command::new(&copy);
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
    }
    let result = command.arg("-t").arg("-f").arg(&file).current_dir("/").output().unwrap();
    let said = text(&result.stderr);
    let line = said.lines().find(|line| line.contains("the daemon would lack"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    for name in ["CAP_NET_ADMIN", "CAP_NET_RAW"] {
        assert!(line.contains(name), "{line}");
    }
}

/// Neither a start that is refused, because the usual files belong to root, nor one with files of its own hides that
/// the daemon cannot work.
#[test]
fn a_start_without_root_names_the_missing_capabilities() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let file = folder.path().join("k.conf");
    fs::write(&file, GOOD).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let root = nix::unistd::geteuid().is_root();
    let copy = folder.path().join("evervipd");
    fs::copy(EVERVIPD, &copy).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let files = [("-p", "pid"), ("-r", "vrrp"), ("-c", "check")];
    let own: Vec<String> =
        files.iter().flat_map(|(option, name)| [(*option).to_owned(), path(name)]).collect();
    for (options, status, lines) in [
        (&[][..], 1, &["the daemon lacks"][..]),
        (&own[..], 4, &["the daemon lacks", "the vrrp process lacks"][..]),
    ] {
        // It ends by itself.
        let mut command = Command::new("timeout");
        if root {
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
            std::os::unix::process::CommandExt::gid(&mut command, 65534);
        }
        command.arg("60").arg(&copy).args(["-n", "-l", "-G", "-f"]).arg(&file).args(options);
        let result = command.current_dir("/").output().unwrap();
        let said = text(&result.stderr) + &text(&result.stdout);
        assert_eq!(result.status.code(), Some(status), "{options:?}: {said}");
        for part in lines {
            let line = said.lines().find(|line| line.contains(part));
            let line = line.unwrap_or_else(|| panic!("{part}: {said}"));
            for name in ["CAP_NET_ADMIN", "CAP_NET_RAW"] {
                assert!(line.contains(name), "{line}");
            }
        }
    }
}

/// keepalived 2.2.7 looks for the program of a MISC_CHECK when it runs it.
#[test]
fn a_missing_misc_check_does_not_change_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.conf");
    for program in ["/nonexistent/check", "no-such-program"] {
        let service = format!(
            "virtual_server 192.0.2.1 80 {{\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 192.0.2.2 80 {{\n  MISC_CHECK {{\n   misc_path \"{program}\"\n  }}\n }}\n}}\n"
        );
        fs::write(&path, service).unwrap();
        let result = output(EVERVIPD, &["-t", "-f", path.to_str().unwrap()]);
        let said = text(&result.stderr);
        assert_eq!(result.status.code(), Some(0), "{said}");
        assert!(said.contains("W0502") && said.contains(program), "{said}");
    }
}
