use super::*;

fn read(line: &str) -> Parsed {
    parse(line.split_whitespace(), OsStr::new("/tmp"))
}

fn options(line: &str) -> Options {
    match read(line).wish {
        Some(Wish::Run(options) | Wish::Test(options, _)) => *options,
        other => panic!("{line}: {other:?} {:?}", read(line).errors),
    }
}

fn error(line: &str) -> String {
    let parsed = read(line);
    assert_eq!(parsed.wish, None, "{line}");
    parsed.errors.join("; ")
}

#[test]
fn short_and_long_forms_say_the_same() {
    for (short, long) in [
        ("-f /a", "--use-file=/a"),
        ("-f/a", "--use-file /a"),
        ("-n -l", "--dont-fork --log-console"),
        ("-nl", "--log-console --dont-fork"),
        ("-D", "--log-detail"),
        ("-DD", "--log-detail --log-detail"),
        ("-d", "--dump-conf"),
        ("-p /a", "--pid=/a"),
        ("-r /a", "--vrrp_pid=/a"),
        ("-c /a", "--checkers_pid=/a"),
        ("-P", "--vrrp"),
        ("-C", "--check"),
        ("-B", "--no_bfd"),
        ("-S 3", "--log-facility=local3"),
        ("-g", "--log-file"),
        ("-g/var/log/x", "--log-file=/var/log/x"),
        ("-G", "--no-syslog"),
        ("-u 022", "--umask=18"),
        ("-V", "--dont-release-vrrp"),
        ("-I", "--dont-release-ipvs"),
        ("-R", "--dont-respawn"),
        ("-a", "--address-monitoring"),
        ("-m", "--core-dump"),
        ("-e", "--all-config"),
        ("-i blue", "--config-id=blue"),
        ("-t", "--config-test"),
        ("-t/tmp/log", "--config-test=/tmp/log"),
        ("-v", "--version"),
        ("-h", "--help"),
    ] {
        let (one, other) = (read(short), read(long));
        assert_eq!(one, other, "{short} {long}");
        assert!(one.wish.is_some(), "{short}: {:?}", one.errors);
        assert!(one != read(""), "{short} changes nothing");
    }
}

#[test]
fn what_is_asked_for_arrives() {
    let o = options("-n -l -DDD -f /x -p /p -r /r -c /c -S local7 -G -V -I -R -i id");
    assert_eq!((o.file, o.foreground, o.console, o.detail), ("/x".into(), true, true, 2));
    assert_eq!(o.pid_files.supervisor, Some("/p".into()));
    assert_eq!(o.pid_files.vrrp, Some("/r".into()));
    assert_eq!(o.pid_files.checker, Some("/c".into()));
    assert_eq!((o.facility.number(), o.no_syslog), (23, true));
    assert_eq!((o.keep_vrrp, o.keep_ipvs, o.respawn), (true, true, false));
    assert_eq!(o.config_id.as_deref(), Some("id"));
    let o = options("");
    assert_eq!((o.file, o.vrrp, o.checker), (DEFAULT_FILE.into(), true, true));
    assert_eq!(o.umask, None);
    assert!(!options("-P").checker && options("-P").vrrp);
    assert!(!options("-C").vrrp && options("-C").checker);
    assert_eq!(options("-u 0x1f").umask, Some(0x1f));
    assert_eq!(options("-g").log_file, Some("/tmp/keepalived.log".into()));
    assert_eq!(options("-gx.log").log_file, Some("/tmp/x.log".into()));
    assert_eq!(options("-g /var/log/x -D").log_file, Some("/var/log/x".into()));
    assert_eq!(options("--log-file /var/log/x").log_file, Some("/var/log/x".into()));
    let o = options("-g -D");
    assert_eq!((o.log_file, o.detail), (Some("/tmp/keepalived.log".into()), 1));
    // In the background there is no console.
    assert!(!options("-l").console);
}

#[test]
fn a_test_may_name_a_file_for_its_messages() {
    let file = |line: &str| match read(line).wish {
        Some(Wish::Test(_, file)) => file,
        other => panic!("{other:?}"),
    };
    assert_eq!(file("-t"), None);
    assert_eq!(file("-t -f /x"), None);
    assert_eq!(file("-t/log -f /x"), Some("/log".into()));
    assert_eq!(file("--config-test=/log"), Some("/log".into()));
}

#[test]
fn signal_numbers_are_keepalived_own() {
    for (name, n) in [
        ("STOP", 15),
        ("RELOAD", 1),
        ("DATA", 10),
        ("STATS", 12),
        ("STATS_CLEAR", 63),
        ("JSON", 36),
    ] {
        assert_eq!(read(&format!("--signum={name}")).wish, Some(Wish::Number(n)));
    }
    assert_eq!(error("--signum=stop"), "Unknown sigfunc stop");
}

#[test]
fn beginnings_of_long_names_do() {
    assert!(options("--dont-f").foreground);
    assert_eq!(options("--use /x").file, Path::new("/x"));
    assert_eq!(error("--log"), "Option --log is ambiguous");
    assert_eq!(read("--vers").wish, Some(Wish::Version));
    // The full name, although it is a prefix of others.
    assert!(!options("--vrrp").checker);
}

#[test]
fn wrong_lines_are_errors_all_of_them() {
    assert_eq!(error("-Z"), "Unknown option -Z");
    assert_eq!(error("--bogus=1 -Z -n"), "Unknown option --bogus; Unknown option -Z");
    assert_eq!(error("--vesrion"), "Unknown option --vesrion, did you mean --version?");
    assert_eq!(error("-p"), "Missing parameter for option -p");
    assert_eq!(error("--pid="), "Missing parameter for option --pid");
    assert_eq!(error("--vrrp=1"), "Option --vrrp takes no value");
    assert_eq!(error("-S 9"), "Invalid log facility '9'");
    assert_eq!(error("-u 09"), "Invalid umask '09'");
    assert_eq!(error("-s a/b"), "Invalid namespace 'a/b'");
    assert_eq!(error("--namespace=.."), "Invalid namespace '..'");
}

/// What they ask for always happens: see `vrrp::tests::addresses` for addresses that other programs added.
#[test]
fn some_options_change_nothing() {
    for line in ["-X", "--release-vips", "--flush-log-file"] {
        assert_eq!(read(line), read(""), "{line}");
    }
}

#[test]
fn what_is_not_served_is_refused() {
    for line in ["-x", "-A /s", "-M", "-Mcore", "-b /p", "-T", "--snmp"] {
        assert!(error(line).contains("not supported by this version"), "{line}");
    }
    let refused =
        |shown: &str| format!("Option {shown} is not supported by this version of EverVIP");
    assert_eq!(error("-x"), refused("-x (--snmp)"));
    assert_eq!(error("--snmp"), refused("--snmp"));
    assert!(error("--config-fd=3").contains("keepalived's own use"));
}

#[test]
fn version_and_help_answer_at_once() {
    assert_eq!(read("-v --bogus").wish, Some(Wish::Version));
    let parsed = read("--bogus -h");
    assert_eq!((parsed.wish, parsed.errors.len()), (Some(Wish::Help), 1));
    // The second word of the first line is the version, for tools that look for it.
    let text = version();
    let word = text.split_whitespace().nth(1).unwrap();
    assert_eq!(word, format!("v{}", env!("CARGO_PKG_VERSION")));
    for row in ROWS.iter().filter(|r| r.3 != What::Never) {
        assert!(help().contains(&format!("--{}", row.1)), "{}", row.1);
    }
}

#[test]
fn words_that_are_no_options_are_errors() {
    let parsed = read("-n extra -D more");
    assert_eq!(parsed.errors, ["Unexpected argument 'extra'", "Unexpected argument 'more'"]);
    assert_eq!(parsed.wish, None);
    assert_eq!(error("status"), "Unexpected argument 'status', did you mean 'evervip status'?");
    let hint = ": '-f x.conf' tests this file, '-tx.conf' writes the messages to it";
    assert_eq!(error("-t x.conf"), format!("Unexpected argument 'x.conf'{hint}"));
    assert_eq!(
        error("-t -- -x"),
        "Unexpected argument '-x': '-f -x' tests this file, '-t-x' writes the messages to it"
    );
}
