//! The defaults declared in the tables are the effective ones.

use std::collections::BTreeSet;

use evervip::config::reference::{Term, Unset, vocabulary};
use evervip::config::{MemoryFiles, Options, StaticHost, load};
use evervip::model::Model;

use super::keywords::{inside, samples};

fn model(text: &str) -> Model {
    let mut host = StaticHost::default().with_all_interfaces();
    host.users.push(("nobody".into(), 65534));
    let files = MemoryFiles::single("a.conf", text.as_bytes());
    load(&files, &host, &Options::new("a.conf", &host)).model
}

/// The samples of a block that contain a keyword only in `line`.
fn places(term: &Term, all: &[Term], line: &str) -> Vec<String> {
    let same = |other: &&Term| other.path == term.path && other.keyword == term.keyword;
    let names: Vec<&str> = all.iter().filter(same).map(|other| other.name).collect();
    let other = |line: &&str| !line.split_whitespace().next().is_some_and(|w| names.contains(&w));
    let without = |text: String| text.lines().filter(other).collect::<Vec<_>>().join("\n");
    let here = inside(&term.path, " HERE").into_iter().map(without);
    here.map(|text| text.replace(" HERE", line)).collect()
}

/// Keywords that only have an effect with certain files, links or accounts of the host.
const OF_THE_HOST: &[&str] = &["use_symlink_paths", "set_supplementary_groups", "iproute_etc_dir"];

/// The declared default values, each with its keyword.
fn told() -> Vec<(Term, String)> {
    let value = |term: Term| match term.default {
        Some(Unset::Value(shown) | Unset::Inherited(_, shown)) => Some((term, shown())),
        _ => None,
    };
    vocabulary().into_iter().filter_map(value).collect()
}

/// Writing each default explicitly, in every place, must make no difference, while another value makes one in at least
/// one place. Keywords that are not supported yet are exempt.
#[test]
fn written_out_defaults_change_nothing() {
    let mut wrong = Vec::new();
    let mut shown = 0;
    let all = vocabulary();
    for (term, default) in told().iter().filter(|(term, _)| !term.later && !term.dead) {
        let plain = places(term, &all, "");
        let line = |value: &str| places(term, &all, &format!(" {} {value}", term.name));
        let others: Vec<_> = samples(term).unwrap_or_default().iter().map(|v| line(v)).collect();
        let mut matter = 0;
        for (number, (text, written)) in plain.iter().zip(line(default)).enumerate() {
            let without = model(text);
            let matters = others.iter().any(|other| model(&other[number]) != without);
            matter += usize::from(matters);
            if model(&written) != without {
                wrong.push(format!("{} {} {default}:\n{written}", term.path, term.name));
                break;
            }
        }
        if matter == 0 && !OF_THE_HOST.contains(&term.name) {
            wrong.push(format!("{} {}: makes no difference anywhere", term.path, term.name));
        }
        shown += 1;
    }
    assert!(shown > 45, "{shown}");
    assert!(wrong.is_empty(), "{} of {shown}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Defaults of keywords that are not supported yet are also valid values of the keyword.
#[test]
fn every_default_can_be_written() {
    let files = |text: &str| MemoryFiles::single("a.conf", text.as_bytes());
    let host = StaticHost::default().with_all_interfaces();
    let codes = |text: &str| -> Vec<String> {
        let loaded = load(&files(text), &host, &Options::new("a.conf", &host));
        loaded.diagnostics.iter().map(|d| d.code.id.to_owned()).collect()
    };
    for (term, default) in told() {
        for text in inside(&term.path, &format!(" {} {default}", term.name)) {
            let codes = codes(&text);
            assert!(!codes.iter().any(|c| c.get(1..3) == Some("03")), "{codes:?}\n{text}");
        }
    }
}

/// Keywords with one value whose absence means none, by their block: no address, no script, no name.
const NOTHING: &[(&str, &[&str])] = &[
    ("auth_hmac", &["active_key"]),
    ("authentication", &["auth_pass", "auth_type"]),
    ("TCP_CHECK", &["bind_if", "bind_port", "bindto"]),
    ("HTTP_GET", &["bind_if", "bind_port", "bindto", "nb_get_retry"]),
    ("SSL_GET", &["bind_if", "bind_port", "bindto", "nb_get_retry", "sni_name"]),
    ("SMTP_CHECK", &["bind_if", "bind_port", "bindto"]),
    ("host", &["bind_if", "bind_port", "bindto"]),
    ("DNS_CHECK", &["bind_if", "bind_port", "bindto"]),
    ("PING_CHECK", &["bind_if", "bind_port", "bindto"]),
    ("UDP_CHECK", &["bind_if", "bind_port", "bindto"]),
    ("SSL", &["ca", "certificate", "key", "password"]),
    (
        "global_defs",
        &[
            "config_save_dir",
            "dynamic_interfaces",
            "include_check",
            "lvs_flush_on_stop",
            "lvs_flush_onstop",
            "lvs_notify_fifo",
            "lvs_notify_fifo_script",
            "lvs_sync_daemon",
            "notify_fifo",
            "notify_fifo_script",
            "reload_time_file",
            "shutdown_script",
            "smtp_alert",
            "smtp_server",
            "startup_script",
            "vrrp_iptables",
            "vrrp_notify_fifo",
            "vrrp_notify_fifo_script",
        ],
    ),
    ("vrrp_track_process", &["delay", "process"]),
    ("url", &["digest", "path", "regex"]),
    ("track_file", &["file", "init_file"]),
    ("garp_group", &["garp_interval", "gna_interval"]),
    ("-", &["instance", "net_namespace"]),
    (
        "vrrp_instance",
        &[
            "interface",
            "lvs_sync_daemon_interface",
            "notify",
            "notify_backup",
            "notify_deleted",
            "notify_fault",
            "notify_master",
            "notify_master_rx_lower_pri",
            "notify_stop",
            "thread_timer_expired",
            "timer_expired_backup",
            "use_ipvlan",
            "use_vmac",
            "virtual_router_id",
            "vrf",
        ],
    ),
    ("MISC_CHECK", &["misc_path"]),
    ("BFD_CHECK", &["name"]),
    ("bfd_instance", &["neighbor_ip", "neighbour_ip"]),
    (
        "vrrp_sync_group",
        &["notify", "notify_backup", "notify_fault", "notify_master", "notify_stop"],
    ),
    ("real_server", &["notify_down", "notify_up", "snmp_name", "virtualhost"]),
    (
        "virtual_server",
        &[
            "persistence_engine",
            "quorum_down",
            "quorum_up",
            "snmp_name",
            "sorry_server",
            "virtualhost",
        ],
    ),
    ("vrrp_script", &["script"]),
    ("FILE_CHECK", &["track_file"]),
];

/// Defaults that no value of the keyword expresses: the host decides, the setting is off, or it is a value of two
/// parts.
const WORDS: &[&str] = &[
    "/dev/null if given without a value",
    "104 KiB, also the least",
    "1 MiB, also the least",
    "4 MiB, also the least",
    "8 MiB, also the least",
    "/usr/lib/iproute2, then /usr/share/iproute2",
    "255; over IPv6 64 is taken, too",
    "360 if given without a value",
    "a fixed text",
    "all",
    "all, if there are any",
    "any",
    "as large as is usually enough, beyond the system's limit",
    "the form that the peer uses",
    "each address separately",
    "keepalived and names derived from it",
    "keepalived if given without a value",
    "keepalived_ipvs if given without a value",
    "no answer is required",
    "no limit",
    "no minimum",
    "none",
    "not real time",
    "on unless strict",
    "the kernel's",
    "the library's",
    "the program's",
    "the root",
];

/// Each row declares its default or is on the list above; descriptions name the keyword that decides.
#[test]
fn every_row_tells_its_default() {
    let vocabulary = vocabulary();
    let mut silent = Vec::new();
    let mut vague = Vec::new();
    let mut used = BTreeSet::new();
    for term in vocabulary.iter().filter(|t| !t.dead) {
        let block = term.path.rsplit('/').next().unwrap_or_default();
        match term.default {
            None if term.single => {
                let listed = NOTHING.iter().any(|(b, all)| *b == block && all.contains(&term.name));
                if listed {
                    used.insert((block, term.name));
                } else {
                    silent.push((block, term.name));
                }
            }
            Some(Unset::Words(words)) => {
                let named = words
                    .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .any(|word| vocabulary.iter().any(|other| other.name == word));
                if !named && !words.starts_with("that of") && !WORDS.contains(&words) {
                    vague.push((term.name, words));
                }
            }
            _ => {}
        }
    }
    let listed =
        NOTHING.iter().flat_map(|(block, all)| all.iter().map(move |name| (*block, *name)));
    let vain: Vec<_> = listed.filter(|one| !used.contains(one)).collect();
    assert!(
        silent.is_empty() && vague.is_empty() && vain.is_empty(),
        "no default: {silent:?}\nunclear: {vague:?}\nlisted in vain: {vain:?}"
    );
}

/// Where the value of a default comes from.
struct Origin {
    /// The block: a part of the path of the term, or `global_defs`.
    block: String,
    keyword: &'static str,
}

/// Other places that a description names, in order: `K`, `K of the virtual server`, `that of the real server, else K`.
/// None for what describes something else.
fn origins(term: &Term, words: &str, all: &[Term]) -> Option<Vec<Origin>> {
    let parts: Vec<&str> = term.path.split('/').collect();
    let has = |block: &str, keyword: &str| {
        let is_it = |other: &&Term| {
            other.path.rsplit('/').next() == Some(block) && other.keyword == keyword && !other.dead
        };
        all.iter().find(is_it).map(|other| other.keyword)
    };
    let mut found = Vec::new();
    for part in words.split(", else ") {
        let (keyword, blocks): (&str, Vec<&str>) = match part.split_once(" of ") {
            Some(("that", "the real server")) => (term.keyword, vec!["real_server"]),
            Some(("that", "the virtual server")) => (term.keyword, vec!["virtual_server"]),
            Some(("that", "the check")) => {
                (term.keyword, parts.iter().rev().skip(1).take(1).copied().collect())
            }
            Some((keyword, "the virtual server")) => (keyword, vec!["virtual_server"]),
            Some((keyword, "global_defs")) => (keyword, vec!["global_defs"]),
            _ => (part, parts.iter().rev().copied().chain(["global_defs"]).collect()),
        };
        let origin = blocks.iter().find_map(|block| {
            let keyword = has(block, keyword)?;
            let itself = keyword == term.keyword && parts.last() == Some(block);
            (!itself).then(|| Origin { block: (*block).to_owned(), keyword })
        });
        match origin {
            Some(origin) => found.push(origin),
            // The last part may be a value.
            None if found.is_empty() => return None,
            None => break,
        }
    }
    Some(found)
}

/// A configuration with a line in another block, the last one of its kind before HERE.
fn with_line(text: &str, block: &str, line: &str) -> Option<String> {
    if block == "global_defs" {
        return Some(text.replacen("global_defs {\n", &format!("global_defs {{\n{line}\n"), 1));
    }
    let here = text.find(" HERE")?;
    let opens = |l: &&str| l.split_whitespace().next() == Some(block) && l.ends_with('{');
    let opened = text[..here].lines().rfind(opens)?;
    let at = text[..here].rfind(opened)? + opened.len();
    Some(format!("{}\n{line}{}", &text[..at], &text[at..]))
}

/// Defaults that no other keyword gives, with the reason.
const IN_PROSE: &[(&str, &str)] = &[
    ("auth_hmac time_window", "a product of advert_int, tested in sim and resolve"),
    ("vrrp_instance state", "from the priority, by a rule"),
    ("vrrp_instance version", "from the family, by a rule"),
    ("vrrp_instance priority", "from the state, by a rule"),
    ("vrrp_instance mcast_src_ip", "of the host"),
    ("vrrp_instance unicast_src_ip", "of the host"),
    ("vrrp_instance mcast_dst_ip", "one keyword for each family"),
    ("vrrp_instance notify_priority_changes", "of a group, which stands elsewhere in the file"),
    ("vrrp_instance kernel_rx_buf_size", "a size that follows from a policy"),
    (
        "global_defs vrrp_process_name",
        "resolved by the process itself: place::processes_are_treated_as_configured",
    ),
    (
        "global_defs checker_process_name",
        "resolved by the process itself: place::processes_are_treated_as_configured",
    ),
    (
        "global_defs bfd_process_name",
        "resolved by the process itself: place::the_bfd_thread_is_treated_as_configured",
    ),
    ("url virtualhost", "resolved for each request: tests/check/pages.rs"),
    ("url tls_compliant", "resolved for each request: check::probe::http"),
    ("virtual_server ip_family", "of the addresses"),
    ("virtual_server retry", "of the kind of check, tested there"),
    ("virtual_server delay_before_retry", "of the kind of check, tested there"),
    ("FILE_CHECK weight", "of an object that stands elsewhere in the file"),
    ("global_defs router_id", "of the host"),
    ("global_defs notification_email_from", "of the host"),
    ("global_defs smtp_helo_name", "of the host"),
    ("global_defs vrrp_startup_delay", "none, which no value expresses"),
    ("global_defs vrrp_delay_after_boot", "none, which no value expresses"),
    ("global_defs vrrp_priority", "of the process, not of the file"),
    ("global_defs checker_priority", "of the process, not of the file"),
    ("global_defs bfd_priority", "of the process, not of the file"),
    ("global_defs script_user", "of the host"),
    ("global_defs umask", "of the command line"),
    ("TCP_CHECK connect_ip", "of the header of real_server"),
    ("TCP_CHECK connect_port", "of the header of real_server"),
    ("HTTP_GET connect_ip", "of the header of real_server"),
    ("HTTP_GET connect_port", "of the header of real_server"),
    ("SSL_GET connect_ip", "of the header of real_server"),
    ("SSL_GET connect_port", "of the header of real_server"),
    ("SMTP_CHECK connect_ip", "of the header of real_server"),
    ("SMTP_CHECK connect_port", "of the header of real_server"),
    ("host connect_ip", "of the header of real_server"),
    ("host connect_port", "of the header of real_server"),
    ("DNS_CHECK connect_ip", "of the header of real_server"),
    ("DNS_CHECK connect_port", "of the header of real_server"),
    ("PING_CHECK connect_ip", "of the header of real_server"),
    ("PING_CHECK connect_port", "of the header of real_server"),
    ("UDP_CHECK connect_ip", "of the header of real_server"),
    ("UDP_CHECK connect_port", "of the header of real_server"),
    ("HTTP_GET virtualhost", "from two places, else a text made of the address"),
    ("SSL_GET virtualhost", "from two places, else a text made of the address"),
];

/// A default described as another keyword's value is that value: with the other keyword set, writing the same value
/// changes nothing, and without the other keyword it does.
#[test]
fn described_defaults_come_from_the_named_keyword() {
    let all = vocabulary();
    let (mut wrong, mut prose, mut shown) = (Vec::new(), Vec::new(), 0);
    for term in all.iter().filter(|t| t.name == t.keyword && !t.later && !t.dead) {
        let words = match term.default {
            Some(Unset::Words(words) | Unset::Inherited(words, _)) => words,
            _ => continue,
        };
        let key = format!("{} {}", term.path.rsplit('/').next().unwrap_or_default(), term.name);
        let listed = IN_PROSE.iter().any(|(listed, _)| *listed == key);
        let Some(origins) = origins(term, words, &all).filter(|_| !listed) else {
            prose.push((key, words));
            continue;
        };
        for origin in origins {
            let (mut differs, mut same) = (0, 0);
            let name = format!("{key} from {} {}", origin.block, origin.keyword);
            let names: Vec<&str> = all
                .iter()
                .filter(|other| other.keyword == origin.keyword)
                .map(|other| other.name)
                .collect();
            for plain in places(term, &all, " HERE") {
                let other =
                    |l: &&str| !l.split_whitespace().next().is_some_and(|w| names.contains(&w));
                let plain = plain.lines().filter(other).collect::<Vec<_>>().join("\n");
                if same > 0 {
                    break;
                }
                let written = |text: &str, line: &str| model(&text.replace(" HERE", line));
                let without = written(&plain, "");
                for value in samples(term).unwrap_or_default() {
                    let line = format!(" {} {value}", origin.keyword);
                    let Some(other) = with_line(&plain, &origin.block, &line) else { continue };
                    let given = written(&other, "");
                    if given == without {
                        continue;
                    }
                    differs += 1;
                    let both = written(&other, &format!(" {} {value}", term.name));
                    let alone = written(&plain, &format!(" {} {value}", term.name));
                    same += usize::from(given == both && alone != without);
                }
            }
            if same == 0 {
                wrong.push(format!("{name}: {differs} differ"));
            }
            shown += 1;
        }
    }
    let unlisted: Vec<_> = prose
        .iter()
        .filter(|(key, words)| !IN_PROSE.iter().any(|(k, _)| k == key) && !WORDS.contains(words))
        .collect();
    let gone: Vec<_> =
        IN_PROSE.iter().filter(|(key, _)| !prose.iter().any(|(k, _)| k == key)).collect();
    assert!(wrong.is_empty(), "not from there, of {shown}:\n{}", wrong.join("\n"));
    assert!(
        unlisted.is_empty() && gone.is_empty(),
        "without a reason: {unlisted:#?}\nlisted in vain: {gone:?}"
    );
    assert!(shown > 50, "{shown}");
}
