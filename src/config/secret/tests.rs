use super::*;
use crate::config::block::root_table;
use crate::config::keyword::{Keyword, Shape};
use crate::config::{MemoryFiles, Options, StaticHost, Style, load};

fn shown(text: &str) -> String {
    let mut secrets = Secrets { rules: Rules::new(root_table()), ..Secrets::default() };
    let mut changed = true;
    while changed {
        changed = false;
        secrets.scan(text.as_bytes(), &mut changed);
    }
    let mut state = State::default();
    let lines = text.split('\n').map(|line| {
        let (hidden, next) = walk(line.as_bytes(), state, &secrets.rules, &secrets.names);
        state = next;
        let (mut out, mut at) = (String::new(), 0);
        for part in hidden {
            out += &line[at..part.from];
            out += STARS;
            at = part.to;
        }
        out + &line[at..]
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn values_of_secret_lines_are_masked() {
    for (text, expected) in [
        ("auth_pass abc", "auth_pass ***"),
        ("auth_pas abc }", "auth_pas *** }"),
        ("auth_pass \"a}c\" x", "auth_pass ***"),
        ("key 7 abc def", "key 7 ***"),
        ("key 7abc", "key ***"),
        ("key 12345678", "key ***"),
        (
            "authentication { auth_type PASS auth_pass ab }",
            "authentication { auth_type PASS auth_pass *** }",
        ),
        (
            "auth_hmac {\n kye 2 ab\n keys cd\n mode enforce\n}\nx y",
            "auth_hmac {\n kye ***\n keys ***\n mode enforce\n}\nx y",
        ),
        ("autentication\n{\n pw ab", "autentication\n{\n pw ab"),
        ("auth_hmac { kye { 2 ab } } priority 3", "auth_hmac { kye { *** } } priority 3"),
        ("$PW=ab # c\nauth_pass x$PW", "$PW=***\nauth_pass ***"),
        ("$A=ab\n$B=$A\n$C=cd\nauth_pass ${B}", "$A=***\n$B=***\n$C=cd\nauth_pass ***"),
        ("$MY_KEY=ab cd", "$MY_KEY=***"),
        // Secrets of any length look the same, and the path of a key stays.
        ("auth_hmac {\n key 5 file:/etc/k x\n}", "auth_hmac {\n key 5 file:/etc/k ***\n}"),
        ("key 5 \"file:/etc/a b\"", "key 5 \"file:/etc/a b\""),
        ("auth_pass file:/etc/k", "auth_pass ***"),
        ("$K=file:/etc/k\nkey 5 $K", "$K=file:/etc/k\nkey 5 ***"),
        ("$K=file:/etc/k\nkey 5 $K\nauth_pass $K", "$K=***\nkey 5 ***\nauth_pass ***"),
        (
            "SSL {\n password a b\n key /etc/k\n ca /etc/c\n}",
            "SSL {\n password ***\n key /etc/k\n ca /etc/c\n}",
        ),
        ("$PW=a \\\n b \\\n c\nauth_pass $PW", "$PW=***\n***\n***\nauth_pass ***"),
        ("auth_pass a#b}c d", "auth_pass ***"),
        ("authentication {\n auth_pass=ab\n}", "authentication {\n auth_pass=***\n}"),
        (
            "priority 100 # authentication {\n state MASTER",
            "priority 100 # authentication {\n state MASTER",
        ),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn positions_follow_the_stars() {
    let hidden = [(2, 4), (6, 16)];
    let at = |at, to_end| moved(at, &hidden, to_end);
    // "ab" + "cd" + "ef" + "ghijklmnop" + "q" becomes "ab***ef***q".
    for (old, start, end) in [(0, 0, 0), (2, 2, 2), (3, 2, 5), (4, 5, 5), (6, 7, 7), (9, 7, 10)] {
        assert_eq!((at(old, false), at(old, true)), (start, end), "{old}");
    }
    assert_eq!((at(16, false), at(16, true), at(17, true)), (10, 10, 11));
}

/// A keyword of a secret, and the blocks around it.
type Row = (Vec<String>, &'static Keyword);

/// All keywords of secrets.
fn rows(table: &'static Table, around: &[String], found: &mut Vec<Row>) {
    for keyword in table.keywords {
        if keyword.secrecy != Secrecy::Open {
            found.push((around.to_vec(), keyword));
        }
        if let Shape::Block(child, header) = (keyword.shape)() {
            let name = if header.is_empty() { "" } else { " A" };
            let mut around = around.to_vec();
            around.push(format!("{}{name}", keyword.name));
            rows(child(), &around, found);
        }
    }
}

/// Everything that is said about a text, in every form.
fn said(main: &str, included: &str) -> String {
    let host = StaticHost::default().with_all_interfaces();
    let files = MemoryFiles::single("/etc/k.conf", main.as_bytes());
    let files = files.with("/etc/part.conf", included.as_bytes());
    let mut options = Options::new("/etc/k.conf", &host);
    (options.lints, options.consequences, options.document) = (true, true, true);
    let loaded = load(&files, &host, &options);
    let diagnostics = &loaded.diagnostics;
    let mut all = diagnostics.text(Style::Plain) + &diagnostics.json();
    all.extend(diagnostics.log_lines().map(|(_, line)| line + "\n"));
    all + &String::from_utf8_lossy(&loaded.document.without_secrets())
}

/// Secrets about which the same is said: neither what they are nor how long they are shows, and no word of a message
/// is taken for one.
#[test]
fn nothing_that_is_said_depends_on_a_secret() {
    let classes: [&[&str]; 3] = [
        &["Zq9xK7", "s3", "it's", "unused"],
        &["s3cr3t-of-mine", "unknown-keyword-of-all"],
        &["0123456789abcdef0123456789abcdef", "another-key-that-is-only-somewhat-longer"],
    ];
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    rows(root_table(), &[], &mut found);
    assert!(found.iter().any(|(_, keyword)| keyword.name == "auth_pass"));
    for (around, keyword) in found {
        let name = keyword.name;
        let (head, tail) = name.split_at(1);
        let wrong = format!("{head}{}{}{}", &tail[1..2], &tail[..1], &tail[2..]);
        let used = if keyword.secrecy == Secrecy::Key { format!("{name} 1") } else { name.into() };
        let forms = [
            "NAME SECRET",
            "USED SECRET",
            "USED SECRET SECRETx",
            "USED \"SECRET\"",
            "USED \"SECRET",
            "USED SECRET#c",
            "USED {\n SECRET\n}",
            "USED\nSECRET",
            "NAME\nSECRET",
            "NAME 300 SECRET",
            "NAME=SECRET",
            "WRONG SECRET",
            "WRONG 1 SECRET",
            "WRONG=SECRET",
            "USED SECRET\nUSED SECRET",
            "$PW=SECRET\nUSED $PW",
            "$PW=SECRET\nUSED x$PW",
            "$PW=SECRET \\\n SECRET\nUSED $PW",
            "$X=SECRET\n$PW=$X\nUSED $PW ${X}",
            "$PW=SECRET\nUSED $PW\nmode $PW\n$PW",
            "USED SECRET$n",
        ];
        for form in forms {
            let line = form.replace("NAME", name).replace("USED", &used).replace("WRONG", &wrong);
            for (secrets, inside) in
                classes.iter().flat_map(|class| [(class, true), (class, false)])
            {
                let of = |secret: &str| {
                    let line = line.replace("SECRET", secret);
                    let (begin, end) = (around.join(" {\n") + " {\n", "\n}".repeat(around.len()));
                    match inside {
                        true => said(&format!("{begin}{line}{end}\n"), ""),
                        false => said(&format!("{begin}include part.conf{end}\n"), &line),
                    }
                };
                let expected = of(secrets[0]);
                assert!(!expected.contains(secrets[0]), "{line}: {expected}");
                for secret in &secrets[1..] {
                    let said = of(secret);
                    let lines = said.lines().zip(expected.lines());
                    let different = lines.filter(|(a, b)| a != b).map(|pair| format!("{pair:?}"));
                    let different = different.take(2).collect::<Vec<_>>().join("\n");
                    if said != expected {
                        failed.push(format!("{line}: {secret}, {}: {different}", secrets[0]));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
