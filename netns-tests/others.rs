//! Configurations of other people: the state of the kernel is the same as with keepalived. They are not part of the
//! project: the test runs if `EVERVIP_CORPUS` names their directory, or if it exists beside the checkout as
//! `../shared/corpus`.
//!
//! Of the files that remain by [`usable`], every tenth is tried, all at the same time, each on two machines of its own;
//! `EVERVIP_CORPUS_EVERY=1` tries all of them, twelve at a time. What would run programs, send mail or needs IPVS is
//! left out of a file.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::compare::state;
use crate::lab::daemon::{CONF, Daemon, Program};
use crate::lab::node::Node;
use crate::lab::timeline::{Mark, What};
use crate::lab::{LIMIT, Lab, Res, Stop, kernel};
use crate::{cases, check};

cases![Here: other_peoples_files_are_the_same];

/// Blocks that are left out.
const BLOCKS: [&str; 12] = [
    "vrrp_script",
    "track_script",
    "virtual_server",
    "virtual_server_group",
    "notification_email",
    "track_process",
    "vrrp_track_process",
    "track_file",
    "vrrp_track_file",
    "track_bfd",
    "bfd_instance",
    "SSL",
];

/// Beginnings of words whose lines are left out.
const WORDS: [&str; 12] = [
    "notify",
    "smtp",
    "notification_email_from",
    "script_user",
    "enable_script_security",
    "enable_snmp",
    "enable_dbus",
    "lvs_",
    "checker_",
    "startup_script",
    "shutdown_script",
    "fifo_",
];

/// Words in what remains of a file that cannot be compared here: other files, programs, places and definitions, starts
/// that are delayed, interfaces that this kernel does not have.
const OTHERS: [&str; 11] = [
    "script",
    "include",
    "net_namespace",
    "use_pid_dir",
    "linkbeat",
    "startup_delay",
    "delay_after_boot",
    "use_ipvlan",
    "mcast_src_ip",
    "@",
    "$",
];

fn directory() -> Res<PathBuf> {
    let given = env::var_os("EVERVIP_CORPUS").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = root.ancestors().take(3).map(|folder| folder.join("../shared/corpus"));
    let found = given.into_iter().chain(beside).find(|place| place.join("INDEX.tsv").exists());
    found.ok_or_else(|| Stop::Skip("no configurations of other people (EVERVIP_CORPUS)".into()))
}

/// A file, and what it needs.
struct Other {
    name: String,
    text: String,
    interfaces: Vec<String>,
    instances: Vec<String>,
    /// Addresses to send from.
    sources: Vec<String>,
}

/// The text without comments, blocks and lines that are left out.
fn shortened(text: &str) -> String {
    let mut rest = Vec::new();
    // Open braces of a block that is left out; none: its first one is yet to come.
    let mut skipping: Option<Option<i32>> = None;
    for line in text.lines() {
        let line = line.split(['#', '!']).next().unwrap_or_default();
        let count = |brace: char| i32::try_from(line.matches(brace).count()).unwrap_or(0);
        let first = line.split_whitespace().next().unwrap_or_default();
        if skipping.is_none() {
            if BLOCKS.contains(&first.trim_end_matches('{')) {
                skipping = Some(None);
            } else {
                if !WORDS.iter().any(|word| first.starts_with(word)) {
                    rest.push(line);
                }
                continue;
            }
        }
        let open = skipping.flatten().unwrap_or(0) + count('{') - count('}');
        skipping = match skipping.flatten() {
            None if count('{') == 0 => Some(None),
            _ if open <= 0 => None,
            _ => Some(Some(open)),
        };
    }
    rest.join("\n") + "\n"
}

/// The file of this name, if it can be compared.
fn usable(directory: &Path, name: &str) -> Option<Other> {
    let verdict = name.replace(".conf", ".txt");
    let verdict = fs::read_to_string(directory.join("verdicts").join(verdict)).ok()?;
    let made = verdict.lines().find_map(|line| line.strip_prefix("interfaces created:"))?;
    let interfaces: Vec<String> = made.split_whitespace().map(String::from).collect();
    let text = shortened(&fs::read_to_string(directory.join(name)).ok()?);
    let after = |word: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == word).then(|| words.next().map(str::to_owned)).flatten()
        });
        lines.map(|name| name.trim_matches(['{', '"']).to_owned()).collect()
    };
    let instances = after("vrrp_instance");
    let mut sources = after("unicast_src_ip");
    sources.sort();
    sources.dedup();
    let long = |interval: &String| interval.parse::<f64>().is_ok_and(|seconds| seconds > 3.0);
    let clear = !OTHERS.iter().any(|word| text.contains(word))
        && !after("advert_int").iter().any(long)
        && text.matches('{').count() == text.matches('}').count()
        && !made.contains("none")
        && instances.iter().all(|name| !name.is_empty())
        && !instances.is_empty();
    clear.then(|| Other { name: name.into(), text, interfaces, instances, sources })
}

/// A machine with the interfaces of a file.
fn machine(lab: &mut Lab, name: &str, other: &Other) -> Res<Node> {
    let node = lab.node(name)?;
    for (number, interface) in other.interfaces.iter().enumerate() {
        node.ip(&format!(
            "link add {interface} type veth peer name peer{number}\nlink set peer{number} up\n"
        ))?;
        node.sysctl(&format!("net/ipv6/conf/{interface}/addr_gen_mode"), "1")?;
        node.sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "0")?;
        node.ip(&format!(
            "link set {interface} up\naddr add 10.199.{number}.71/24 dev {interface}\n\
             addr add fe80::71/64 dev {interface} nodad\n"
        ))?;
    }
    for source in &other.sources {
        let first = other.interfaces.first().map_or("lo", String::as_str);
        node.ip(&format!("addr add {source} dev {first}\n"))?;
    }
    node.ip("link set lo up\n")?;
    Ok(node)
}

/// The first state of an instance after its start that lasts: MASTER or FAULT.
fn settled(lab: &Lab, mark: Mark, node: &Node, instance: &str) -> Res<bool> {
    let (master, fault) = (
        format!("({instance}) entering master state").to_lowercase(),
        format!("({instance}) entering fault state").to_lowercase(),
    );
    lab.after(mark).wait(&format!("{}: state of {instance}", node.name), |event| {
        match &event.what {
            What::Log { line, .. } if event.node == node.name => {
                let line = line.to_lowercase();
                match (line.contains(&master), line.contains(&fault)) {
                    (true, _) => Some(true),
                    (_, true) => Some(false),
                    _ => None,
                }
            }
            _ => None,
        }
    })
}

struct Trial<'a> {
    other: &'a Other,
    nodes: [Node; 2],
    daemons: [Daemon; 2],
    before: Vec<String>,
}

fn other_peoples_files_are_the_same(lab: &mut Lab) -> Res {
    let directory = directory()?;
    let (keepalived, subject) = (Program::keepalived()?, lab.subject.clone());
    let mut names: Vec<String> = fs::read_dir(&directory)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".conf"))
        .collect();
    names.sort();
    let every = env::var("EVERVIP_CORPUS_EVERY").ok().and_then(|number| number.parse().ok());
    let all: Vec<Other> = names.iter().filter_map(|name| usable(&directory, name)).collect();
    let chosen: Vec<&Other> = all.iter().step_by(every.unwrap_or(10)).collect();
    check!(chosen.len() >= 10, "{} of {} files are usable", all.len(), names.len());
    let (mut different, mut masters) = (Vec::new(), 0);
    for (round, some) in chosen.chunks(12).enumerate() {
        let (mut trials, mark) = (Vec::new(), lab.mark());
        for (number, other) in some.iter().enumerate() {
            let nodes = [
                machine(lab, &format!("ka{round}-{number}"), other)?,
                machine(lab, &format!("our{round}-{number}"), other)?,
            ];
            let before = state(&nodes[1])?;
            for node in &nodes {
                node.write(CONF, &other.text, 0o644)?;
            }
            let daemons = [keepalived.start(&nodes[0])?, subject.start(&nodes[1])?];
            trials.push(Trial { other, nodes, daemons, before });
        }
        for Trial { other, nodes: [theirs, ours], daemons: [their, our], before } in &trials {
            let mut judge = || -> Res {
                for instance in &other.instances {
                    let master = settled(lab, mark, theirs, instance)?;
                    check!(settled(lab, mark, ours, instance)? == master, "state of {instance}");
                    masters += usize::from(master);
                }
                let mut wanted = Vec::new();
                lab.timeline().poll(LIMIT, "keepalived has settled", || {
                    let now = state(theirs)?;
                    let settled = now == wanted && (now == state(ours)? || now != *before);
                    wanted = now;
                    Ok(settled.then_some(()))
                })?;
                kernel::same(lab, "the kernel is that of keepalived", &wanted, || state(ours))?;
                their.stop()?;
                check!(our.stop()?, "the exit status is not zero");
                kernel::same(lab, "nothing is left", before, || state(ours))
            };
            match judge() {
                Err(Stop::Fail(text)) => different.push(format!("{}: {text}", other.name)),
                Err(skip @ Stop::Skip(_)) => return Err(skip),
                Ok(()) => {}
            }
        }
    }
    lab.note(format!("{} files of {}, {masters} masters", chosen.len(), all.len()));
    check!(different.is_empty(), "{} of {}: {different:#?}", different.len(), chosen.len());
    check!(masters * 2 > chosen.len(), "only {masters} masters");
    Ok(())
}
