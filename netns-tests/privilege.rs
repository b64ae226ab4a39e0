//! The privileges of each process of the daemon, read from the kernel and compared with the table of roles; and that
//! features needing more privileges still work.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use caps::Capability;
use evervip::ipc::{
    Announced, Ask, Change, Chosen, Deliver, FromRole, Memory, Question, RoleName, ToRunner, frame,
};
use evervip::role::table::row;
use evervip::status::vrrp::{InstanceSummary, State, Summary};
use evervip::sys::channel::Channel;
use evervip::sys::process;
use nix::fcntl::SealFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::sys::socket::{SockType, getsockopt, sockopt};

use crate::lab::daemon::{CONF, Role, signal_to};
use crate::lab::node::Node;
use crate::lab::timeline::Wall;
use crate::lab::{LIMIT, Lab, Res, fail, late, need};
use crate::reader::servers;
use crate::scenario::{FAILOVER, Pair, replaced, steady, within};
use crate::status::SLOW;
use crate::{cases, check};

cases![Here:
    each_process_holds_what_the_table_says,
    files_that_only_root_can_read_are_read,
    a_notify_script_may_gain_privileges,
    a_notify_script_goes_through_sudo,
    a_compromised_process_cannot_harm_the_supervisor,
    a_compromised_process_has_nothing_executed_but_what_is_configured,
];

/// The operator's command that was built with the tests.
const EVERVIP: &str = env!("CARGO_BIN_EXE_evervip");

const USER: u32 = 990;

/// Creates the account that roles run as.
fn account(node: &Node) -> Res {
    let passwd = node.read("/etc/passwd")? + "evervip:x:990:990::/:/bin/false\n";
    node.write("/etc/passwd", &passwd, 0o644)?;
    let group = node.read("/etc/group")? + "evervip:x:990:\n";
    node.write("/etc/group", &group, 0o644)
}

/// The fields of /proc/PID/status.
struct Status(String);

impl Status {
    fn of(pid: u32) -> Res<Self> {
        Ok(Self(fs::read_to_string(format!("/proc/{pid}/status"))?))
    }

    fn field(&self, name: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim()
    }

    fn set(&self, name: &str) -> Res<u64> {
        Ok(u64::from_str_radix(self.field(name), 16)?)
    }

    /// Whether real, effective, saved and file system id are all this one.
    fn is_all(&self, name: &str, id: u32) -> bool {
        self.field(name).split_whitespace().all(|word| word == id.to_string())
    }
}

fn mask(list: &[Capability]) -> u64 {
    list.iter().fold(0, |all, one| all | one.bitmask())
}

/// A configuration that requires a process of each role; it is so large that one waits to read the next.
fn everything() -> String {
    let instance = within(FAILOVER[0], "vrrp_instance VRRP1 {", "notify /bin/true");
    let service = "virtual_server 10.0.0.100 80 {\n delay_loop 1\n lb_algo rr\n lb_kind DR\n \
        protocol TCP\n real_server 10.0.0.10 80 {\n TCP_CHECK {\n connect_timeout 1\n }\n }\n}\n";
    within(&(instance + service), "global_defs {", "vrrp_without_ipvs on") + &servers("1")
}

const ROLES: [(Role, RoleName); 5] = [
    (Role::Config, RoleName::Config),
    (Role::Vrrp, RoleName::Vrrp),
    (Role::Checker, RoleName::Checker),
    (Role::Runner, RoleName::Runner),
    (Role::Api, RoleName::Api),
];

fn each_process_holds_what_the_table_says(lab: &mut Lab) -> Res {
    lab.subject.ours_only("all its processes run as root")?;
    let pair = Pair::new(lab)?;
    account(&pair.svr1)?;
    let text = everything();
    let lower = text.replace("priority 200", "priority 100");
    let [with, without] = pair.start(&lab.subject, [&text, &lower])?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    for (daemon, user) in [(&with, USER), (&without, 0)] {
        for (role, name) in ROLES {
            // The process that has read the first configuration ends, another one waits for the next.
            let mut last = format!("there is no process {name}");
            lab.timeline()
                .poll(LIMIT, &format!("{name} has given up its rights"), || {
                    let Some(pid) = daemon.find(role) else { return Ok(None) };
                    last = match holds(pid, name, user) {
                        Ok(Ok(())) => return Ok(Some(())),
                        Ok(Err(state)) => state,
                        Err(_) => format!("{name}: process {pid} is gone"),
                    };
                    Ok(None)
                })
                .map_err(|_| fail(&last))?;
        }
        // The first process only starts and ends others.
        let first = Status::of(daemon.pid)?;
        check!(first.is_all("Uid", 0), "{}", first.0);
        let kill = Capability::CAP_KILL.bitmask();
        check!((first.set("CapPrm")?, first.set("CapEff")?) == (kill, kill), "{}", first.0);
        check!((first.set("CapInh")?, first.set("CapAmb")?) == (0, 0), "{}", first.0);
    }
    let told = |node: &Node| lab.always().logs(node, "its processes keep their user");
    check!(told(&pair.svr1).is_empty(), "{:?}", told(&pair.svr1));
    let lines = told(&pair.svr2);
    check!(lines.len() == 1 && lines.iter().all(|l| l.contains("no user evervip")), "{lines:?}");
    // A process that is started later is no different.
    let vrrp = with.role(Role::Vrrp)?;
    signal_to(vrrp, Signal::SIGKILL)?;
    replaced(lab, &with, Role::Vrrp, vrrp)?;
    let vrrp = with.role(Role::Vrrp)?;
    lab.timeline().poll(LIMIT, "the next one has given up its rights", || {
        Ok(holds(vrrp, RoleName::Vrrp, USER)?.is_ok().then_some(()))
    })?;
    check!(with.stop()? && without.stop()?, "the exit status is not zero");
    Ok(())
}

/// Whether a process matches the table row of its role; if not, its actual state.
fn holds(pid: u32, name: RoleName, user: u32) -> Res<Result<(), String>> {
    let (status, row) = (Status::of(pid)?, row(name));
    // Capabilities that root does not have on this machine cannot be kept.
    let keep = mask(row.keep) & Status::of(std::process::id())?.set("CapPrm")?;
    let sets = ["CapPrm", "CapEff", "CapInh", "CapAmb"].map(|set| status.set(set));
    let [permitted, effective, inheritable, ambient] = sets;
    let same = (permitted?, effective?, inheritable?, ambient?) == (keep, keep, 0, 0);
    let good = match row.confined {
        Some(_) => {
            same && status.is_all("Uid", user)
                && status.is_all("Gid", user)
                && (user == 0 || status.field("Groups").is_empty())
                && status.set("CapBnd")? == keep
                && status.field("NoNewPrivs") == "1"
                && status.field("Seccomp") == "2"
                && hidden(pid)
        }
        // Its programs may run as root, and may gain privileges.
        None => {
            same && status.is_all("Uid", 0)
                && status.set("CapBnd")? & mask(&[Capability::CAP_NET_ADMIN]) != 0
                && status.field("NoNewPrivs") == "0"
                && status.field("Seccomp") == "0"
        }
    };
    Ok(if good { Ok(()) } else { Err(format!("{name}: {}", status.0)) })
}

/// Whether other processes of its user cannot inspect a process: its files in /proc belong to root then.
fn hidden(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}/environ")).is_ok_and(|file| file.uid() == 0)
}

fn files_that_only_root_can_read_are_read(lab: &mut Lab) -> Res {
    lab.subject.ours_only("all its processes run as root")?;
    let pair = Pair::new(lab)?;
    let node = &pair.svr1;
    account(node)?;
    node.write("/etc/secret/part.conf", FAILOVER[0], 0o600)?;
    node.must(["chmod", "700", "/etc/secret"])?;
    let main = "global_defs {\n reload_check_config /etc/secret/checked\n}\n\
        include /etc/secret/*.conf\n";
    node.write(CONF, main, 0o600)?;
    let daemon = lab.subject.start(node)?;
    lab.always().some_adverts(node, 2)?;
    let mark = lab.mark();
    let other = within(FAILOVER[0], "virtual_ipaddress {", "10.0.0.101/24");
    node.write("/etc/secret/part.conf", &other, 0o600)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).address(node, "10.0.0.101", true)?;
    // The problems are in the configured file, and nothing of its old content.
    node.write("/etc/secret/checked", &"x".repeat(1 << 16), 0o600)?;
    node.write("/etc/secret/part.conf", &other.replace("priority", "priorty"), 0o600)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(node, "reload refused")?;
    let checked = node.read("/etc/secret/checked")?;
    check!(checked.contains("priorty") && !checked.contains("xx"), "{checked}");
    check!(node.must(["stat", "-c", "%a %u", "/etc/secret/checked"])?.trim() == "600 0", "mode");
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

fn a_notify_script_may_gain_privileges(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let node = &pair.svr1;
    // What sudo relies on: a setuid program of root.
    node.must(["cp", "/usr/bin/id", "/usr/local/bin/own-id"])?;
    node.must(["chmod", "4755", "/usr/local/bin/own-id"])?;
    gains(lab, node, "/usr/local/bin/own-id -u")
}

fn a_notify_script_goes_through_sudo(lab: &mut Lab) -> Res {
    let sudo = need::program("sudo", "sudo")?;
    let pair = Pair::new(lab)?;
    let rule = "nobody ALL=(root) NOPASSWD: /usr/bin/id -u\n";
    pair.svr1.write("/etc/sudoers", rule, 0o440)?;
    gains(lab, &pair.svr1, &format!("{} -n /usr/bin/id -u", sudo.display()))
}

/// A notify script of an ordinary user becomes root by this command, which prints the user.
fn gains(lab: &Lab, node: &Node, gain: &str) -> Res {
    lab.subject.ours_only("all its processes run as root")?;
    account(node)?;
    let script = format!("#!/bin/sh\n{{ id -u; {gain}; }} >/run/told/ids 2>&1\n");
    node.write("/usr/local/bin/on_master", &script, 0o755)?;
    node.must(["install", "-d", "-m", "777", "/run/told"])?;
    let line = "notify_master /usr/local/bin/on_master nobody nogroup";
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", line);
    node.write(CONF, &text, 0o644)?;
    let daemon = lab.subject.start(node)?;
    let told = lab.timeline().poll(LIMIT, "the script has told both", || {
        let told = node.read("/run/told/ids").unwrap_or_default();
        Ok((told.lines().count() >= 2).then_some(told))
    })?;
    let ids: Vec<&str> = told.lines().collect();
    check!(ids.len() == 2 && ids[0] != "0" && ids[1] == "0", "{told}");
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

/// What a compromised process of the daemon has: its channels.
struct Taken {
    pid: u32,
    supervisor: Channel,
    /// To the runner, and to the process that answers.
    others: Vec<Channel>,
}

impl Taken {
    fn over(process: u32) -> Res<Self> {
        let pid = i32::try_from(process)?;
        let mut channels = Vec::new();
        for number in 3..64 {
            let Ok(fd) = process::descriptor_of(pid, number) else { continue };
            if getsockopt(&fd, sockopt::SockType).is_ok_and(|kind| kind == SockType::SeqPacket) {
                channels.push(Channel::from_fd(fd));
            }
        }
        check!(channels.len() >= 2, "{} channels", channels.len());
        let others = channels.split_off(1);
        Ok(Self { pid: process, supervisor: channels.remove(0), others })
    }
}

/// What the descriptors of a process refer to.
fn descriptors(pid: u32) -> Res<Vec<String>> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?;
    Ok(open
        .flatten()
        .filter_map(|fd| Some(fs::read_link(fd.path()).ok()?.display().to_string()))
        .collect())
}

/// Memory of its own in kB.
fn own_memory(pid: u32) -> Res<u64> {
    let status = Status::of(pid)?;
    let number = status.field("RssAnon").split_whitespace().next().and_then(|n| n.parse().ok());
    number.ok_or_else(|| fail("no RssAnon"))
}

/// A sealed memory of this length, all zero.
fn endless(length: i64) -> Res<OwnedFd> {
    let fd = memfd_create(c"x", MFdFlags::MFD_ALLOW_SEALING)?;
    nix::unistd::ftruncate(&fd, length)?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_ADD_SEALS(seals))?;
    Ok(fd)
}

/// Everything that such a process may try with the supervisor, once.
fn attack(channel: &Channel, huge: &OwnedFd, round: usize) {
    let null = fs::File::open("/dev/null").ok();
    let beside: Vec<_> = null.iter().cycle().take(8).map(AsFd::as_fd).collect();
    let lie = "no\nMAINPID=1\nSTATUS=taken over\x1b[2J";
    // Too long, with descriptors; not decodable; far too long.
    let _ = channel.send(&[0; 20_000], &beside);
    let _ = channel.send(&[0, 0xff, 0xff, 0xff, 0xff, 0xff], &beside);
    let _ = channel.send(&[1], &[huge.as_fd()]);
    let _ = channel.send(b"", &[]);
    let one = InstanceSummary {
        name: "".into(),
        state: State::Master,
        announced: None,
        own: Vec::new(),
        ah: Default::default(),
        heard: Vec::new(),
    };
    let small = Summary { instances: Vec::new(), ..Summary::default() };
    let messages = [
        FromRole::Refused { generation: 1, reason: lie.into() },
        FromRole::Refused { generation: 2, reason: lie.into() },
        FromRole::Ipvs { works: round.is_multiple_of(2) },
        FromRole::Applied { generation: 9 },
        FromRole::Ready { generation: 9 },
        FromRole::ReloadWanted,
        FromRole::Remember(Memory::Vrrp(small)),
        FromRole::Remember(Memory::Checker(vec![7; 1000].into())),
        FromRole::Ask(Question { id: 1, ask: Ask::State }),
    ];
    for message in &messages {
        if let Ok(message) = frame::encode(message, Vec::new()) {
            let _ = frame::send(channel, &message);
        }
    }
    if round.is_multiple_of(64) {
        let summary = Summary { instances: vec![one; 50_000], ..Summary::default() };
        for memory in [Memory::Vrrp(summary), Memory::Checker(vec![0; 32 << 20].into())] {
            if let Ok(message) = frame::encode(&FromRole::Remember(memory), Vec::new()) {
                let _ = frame::send(channel, &message);
            }
        }
    }
}

fn a_compromised_process_cannot_harm_the_supervisor(lab: &mut Lab) -> Res {
    lab.subject.ours_only("all its processes run as root")?;
    let pair = Pair::new(lab)?;
    let node = &pair.svr1;
    account(node)?;
    node.write(CONF, FAILOVER[0], 0o644)?;
    let manager = node.run(|| UnixDatagram::bind("/run/manager.sock"))??;
    manager.set_nonblocking(true)?;
    let mut command = std::process::Command::new(&lab.subject.path);
    command.args(["-n", "-l", "-G", "-f", CONF]).env("NOTIFY_SOCKET", "/run/manager.sock");
    let daemon = lab.subject.start_command(node, command)?;
    lab.always().some_adverts(node, 2)?;
    let supervisor = daemon.pid;
    let (before, memory) = (descriptors(supervisor)?, own_memory(supervisor)?);
    let vrrp = daemon.role(Role::Vrrp)?;
    let mut taken = Taken::over(vrrp)?;
    let huge = endless(512 << 20)?;
    let mut told = String::new();
    let mut most = 0;
    let begin = Instant::now();
    let mut slowest = 0.0_f64;
    let (mut rounds, mut last) = (0, begin);
    for round in 0_usize.. {
        attack(&taken.supervisor, &huge, round);
        // A process that sends no heartbeats is replaced, and the next one is compromised.
        if round.is_multiple_of(16) && Some(taken.pid) != daemon.find(Role::Vrrp) {
            taken = Taken::over(daemon.role(Role::Vrrp)?)?;
        }
        // On a busy machine it takes longer until both requests are sent.
        if begin.elapsed() > Duration::from_secs(5) && (rounds >= 2 || begin.elapsed() > LIMIT) {
            break;
        }
        if last.elapsed() > Duration::from_millis(500) {
            last = Instant::now();
            most = most.max(own_memory(supervisor)?);
            // A request and a reload during the attack.
            daemon.signal(Signal::SIGHUP)?;
            let asked = Wall::now();
            let answer = node.output([EVERVIP, "status", "--json"])?;
            slowest = slowest.max(Wall::now().millis_since(asked));
            rounds += 1;
            let report: serde_json::Value = serde_json::from_str(&answer.stdout)?;
            // The supervisor itself answers within its second.
            let slow = || late::between(asked, Wall::now()) > SLOW;
            check!(report["daemon"]["pid"].is_u64() || slow(), "{report}");
        }
        let mut packet = [0; 4096];
        while let Ok(length) = manager.recv(&mut packet) {
            told += &String::from_utf8_lossy(&packet[..length]);
            told.push('\n');
        }
    }
    lab.note(format!("{:?} of attack, slowest answer {slowest} ms, {most} kB", begin.elapsed()));
    check!(rounds >= 2, "{rounds} questions in the midst of it");
    check!(most.saturating_sub(memory) < 16 << 10, "{memory} kB before, {most} kB under attack");
    let mut left = Vec::new();
    lab.timeline()
        .poll(LIMIT, "no descriptor is left", || {
            left = descriptors(supervisor)?;
            // The channel and the identity of a process that waits to read the next configuration.
            let reader = if daemon.find(Role::Config).is_some() { 2 } else { 0 };
            Ok((left.len() <= before.len() + reader).then_some(()))
        })
        .map_err(|e| fail(format!("{e:?}; before: {before:?}, now: {left:?}")))?;
    for line in told.lines() {
        let pid = line.strip_prefix("MAINPID=");
        check!(pid.is_none_or(|pid| pid != "1"), "{line}");
        check!(line.starts_with("STATUS=") || !line.contains("taken over"), "{line}");
        check!(!line.contains('\x1b'), "{line:?}");
    }
    check!(told.contains("STATUS="), "nothing was reported: {told}");
    let mark = lab.mark();
    steady(lab, mark, node, 3)?;
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

fn a_compromised_process_has_nothing_executed_but_what_is_configured(lab: &mut Lab) -> Res {
    lab.subject.ours_only("all its processes run as root")?;
    let pair = Pair::new(lab)?;
    let node = &pair.svr1;
    account(node)?;
    let script = "#!/bin/sh\necho \"$@\" >>/run/told\n";
    node.write("/usr/local/bin/on_change", script, 0o755)?;
    let line = "notify /usr/local/bin/on_change";
    node.write(CONF, &within(FAILOVER[0], "vrrp_instance VRRP1 {", line), 0o644)?;
    let daemon = lab.subject.start(node)?;
    let told = || node.read("/run/told").unwrap_or_default();
    lab.timeline().poll(LIMIT, "the script runs", || {
        Ok(told().contains("INSTANCE VRRP1 MASTER 200").then_some(()))
    })?;
    let runner = daemon.role(Role::Runner)?;
    let taken = Taken::over(daemon.role(Role::Vrrp)?)?;
    // A foreign process that the runner is made to treat as one of its programs.
    let mut other = std::process::Command::new("sleep").arg("600").spawn()?;
    let stranger = process::descriptor_of_process(i32::try_from(other.id())?)?;
    let change = |state| Some(Change { state, priority: 7 });
    let chosen = Chosen { entry: 0, change: change(Announced::Fault) };
    let programs = |generation, about, programs: Vec<Chosen>| Deliver::Programs {
        generation,
        about,
        state: Announced::Fault,
        programs,
        limit: None,
    };
    let second = Duration::from_secs(1);
    let mark = lab.mark();
    for channel in &taken.others {
        let mut messages = vec![
            // A notify program requested for its status, missing programs, a missing configuration.
            ToRunner::Run { run: 1, generation: 1, program: 0, timeout: second },
            ToRunner::Run { run: 2, generation: 1, program: 4711, timeout: second },
            ToRunner::Run { run: 3, generation: 9, program: 0, timeout: second },
            ToRunner::Notice { id: 1 << 40, deliver: programs(1, 4711, vec![]) },
            ToRunner::Notice { id: 2 << 40, deliver: programs(1, 0, vec![chosen; 3]) },
        ];
        messages.extend((0..200).map(|n| ToRunner::Notice {
            id: (3 << 40) + n,
            deliver: programs(1, 0, vec![Chosen { entry: 0, change: None }]),
        }));
        for message in &messages {
            let fds = vec![stranger.try_clone()?];
            let message = frame::encode(message, fds).map_err(fail)?;
            let _ = frame::send(channel, &message);
        }
        // The old form: words to execute.
        let words: (u8, u64, Vec<&str>) = (0, 1, vec!["/usr/bin/touch", "/run/owned"]);
        if let Ok(message) = frame::encode(&words, Vec::new()) {
            let _ = frame::send(channel, &message);
        }
    }
    lab.after(mark).log(node, "not in the configuration, refused")?;
    // Configured programs run with the permitted arguments, and nothing else does.
    for channel in &taken.others {
        let message = ToRunner::Notice { id: 4 << 40, deliver: programs(1, 0, vec![chosen]) };
        let message = frame::encode(&message, vec![stranger.try_clone()?]).map_err(fail)?;
        let _ = frame::send(channel, &message);
    }
    lab.timeline().poll(LIMIT, "the script runs with the state that was added", || {
        Ok(told().contains("INSTANCE VRRP1 FAULT 7").then_some(()))
    })?;
    let alive = other.try_wait()?.is_none();
    other.kill()?;
    other.wait()?;
    check!(alive, "a foreign process was ended");
    check!(told().lines().all(|line| line.starts_with("INSTANCE VRRP1 ")), "{}", told());
    check!(node.read("/run/owned").is_err(), "something else was executed");
    check!(daemon.find(Role::Runner) == Some(runner), "the runner was replaced");
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

pub mod guest {
    use super::{RoleName, USER, account, holds};
    use crate::cases;
    use crate::lab::daemon::Role;
    use crate::lab::{LIMIT, Lab, Res, ipvs};
    use crate::scenario::{FAILOVER, Pair};

    cases![Ipvs: the_checker_fills_and_empties_the_table_without_being_root];

    fn the_checker_fills_and_empties_the_table_without_being_root(lab: &mut Lab) -> Res {
        lab.subject.ours_only("all its processes run as root")?;
        let pair = Pair::new(lab)?;
        account(&pair.svr1)?;
        let service = "virtual_server 10.0.0.100 80 {\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n\
            real_server 10.0.0.10 80 {\n}\n}\n";
        let text = format!("{}\n{service}", FAILOVER[0]);
        let [daemon, _backup] = pair.start(&lab.subject, [&text, FAILOVER[1]])?;
        let one = ["-A -t 10.0.0.100:80 -s rr", "-a -t 10.0.0.100:80 -r 10.0.0.10:80 -m -w 1"];
        ipvs::becomes(&pair.svr1, &one)?;
        let checker = daemon.role(Role::Checker)?;
        lab.timeline().poll(LIMIT, "the checker has given up its rights", || {
            Ok(holds(checker, RoleName::Checker, USER)?.is_ok().then_some(()))
        })?;
        pair.svr1.output(["ipvsadm", "-C"])?;
        daemon.signal(nix::sys::signal::Signal::SIGHUP)?;
        ipvs::becomes(&pair.svr1, &one)?;
        daemon.stop()?;
        ipvs::becomes(&pair.svr1, &[])
    }
}
