//! The defaults declared in the tables are the effective ones.

use evervip::config::reference::{Term, Unset, vocabulary};
use evervip::config::{MemoryFiles, Options, StaticHost, load};
use evervip::model::Model;

use super::keywords::{inside, samples};

fn model(text: &str) -> Model {
    let host = StaticHost::default().with_all_interfaces();
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

/// Keywords with one value whose absence means none: no address, no script, no name.
const NOTHING: &[&str] = &[
    "active_key",
    "auth_pass",
    "auth_type",
    "bind_if",
    "bind_port",
    "bindto",
    "ca",
    "certificate",
    "config_save_dir",
    "delay",
    "digest",
    "dynamic_interfaces",
    "file",
    "garp_interval",
    "gna_interval",
    "include_check",
    "init_file",
    "instance",
    "interface",
    "key",
    "lvs_flush_on_stop",
    "lvs_flush_onstop",
    "lvs_notify_fifo",
    "lvs_notify_fifo_script",
    "lvs_sync_daemon",
    "lvs_sync_daemon_interface",
    "misc_path",
    "name",
    "nb_get_retry",
    "neighbor_ip",
    "neighbour_ip",
    "net_namespace",
    "notify",
    "notify_backup",
    "notify_deleted",
    "notify_down",
    "notify_fault",
    "notify_fifo",
    "notify_fifo_script",
    "notify_master",
    "notify_master_rx_lower_pri",
    "notify_stop",
    "notify_up",
    "password",
    "path",
    "persistence_engine",
    "process",
    "quorum_down",
    "quorum_up",
    "regex",
    "reload_time_file",
    "script",
    "shutdown_script",
    "smtp_alert",
    "smtp_server",
    "sni_name",
    "snmp_name",
    "sorry_server",
    "startup_script",
    "thread_timer_expired",
    "timer_expired_backup",
    "track_file",
    "use_ipvlan",
    "use_vmac",
    "virtual_router_id",
    "virtualhost",
    "vrf",
    "vrrp_iptables",
    "vrrp_notify_fifo",
    "vrrp_notify_fifo_script",
];

/// Defaults that no value of the keyword expresses: the host decides, the setting is off, or it is a value of two
/// parts.
const WORDS: &[&str] = &[
    "/dev/null if given without a value",
    "104 KiB, also the least",
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
    for term in vocabulary.iter().filter(|t| !t.dead) {
        match term.default {
            None if term.single && !NOTHING.contains(&term.name) => silent.push(term.name),
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
    assert!(silent.is_empty() && vague.is_empty(), "no default: {silent:?}\nunclear: {vague:?}");
}
