//! The program under test and its peer: start on a node, processes, signals and log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::node::Node;
use super::timeline::{Event, Mark, What};
use super::{LIMIT, Res, Stop, fail};

/// The default path of a configuration on a node.
pub const CONF: &str = "/etc/keepalived/keepalived.conf";

/// Which of the two programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Make {
    EverVip,
    Keepalived,
}

/// A program that takes a keepalived.conf.
#[derive(Clone, Debug)]
pub struct Program {
    pub make: Make,
    pub path: PathBuf,
}

/// A running daemon.
pub struct Daemon {
    pub node: Node,
    pub make: Make,
    /// Process id of the supervisor, as seen from outside the node.
    pub pid: u32,
}

/// The role of a process of the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Vrrp,
    Checker,
    Runner,
    Config,
    Api,
}

impl Program {
    /// The program under test: `EVERVIP_NETNS_DAEMON`, else the evervipd built with the tests. A name ending in
    /// "keepalived" means that program.
    pub fn subject() -> Self {
        let path = std::env::var_os("EVERVIP_NETNS_DAEMON")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_evervipd")), PathBuf::from);
        let theirs = path.file_name().is_some_and(|name| name == "keepalived");
        Self { make: if theirs { Make::Keepalived } else { Make::EverVip }, path }
    }

    /// Debian's keepalived, for tests of the two together.
    pub fn keepalived() -> Res<Self> {
        let path = super::need::program("keepalived", "keepalived")?;
        Ok(Self { make: Make::Keepalived, path })
    }

    /// Starts it on the node in the foreground, with [`CONF`], its log on standard error.
    pub fn start(&self, node: &Node) -> Res<Daemon> {
        self.start_with(node, &["-D", "-f", CONF])
    }

    /// Starts it with these options after `-n -l -G`.
    pub fn start_with(&self, node: &Node, options: &[&str]) -> Res<Daemon> {
        let mut command = Command::new(&self.path);
        command.args(["-n", "-l", "-G"]).args(options);
        self.start_command(node, command)
    }

    /// Starts a prepared command line.
    pub fn start_command(&self, node: &Node, command: Command) -> Res<Daemon> {
        let pid = node.spawn(command, self.name())?;
        Ok(Daemon { node: node.clone(), make: self.make, pid })
    }

    pub fn name(&self) -> &'static str {
        match self.make {
            Make::EverVip => "evervipd",
            Make::Keepalived => "keepalived",
        }
    }

    /// Skips the test if the program under test is keepalived, which is known to behave differently.
    pub fn ours_only(&self, why: &str) -> Res {
        match self.make {
            Make::EverVip => Ok(()),
            Make::Keepalived => Err(Stop::Skip(format!("keepalived differs: {why}"))),
        }
    }
}

impl Daemon {
    /// Sends a signal to the supervisor.
    pub fn signal(&self, signal: Signal) -> Res {
        signal_to(self.pid, signal)
    }

    /// Stops it and waits; returns whether it exited with status zero.
    pub fn stop(&self) -> Res<bool> {
        self.stop_within(LIMIT)
    }

    /// The same with another deadline: for one that has much to undo.
    pub fn stop_within(&self, limit: Duration) -> Res<bool> {
        let mark = self.node.timeline().mark();
        self.signal(Signal::SIGTERM)?;
        self.ended_within(mark, limit)
    }

    /// Waits for the end of the supervisor; returns whether it exited with status zero.
    pub fn ended(&self, mark: Mark) -> Res<bool> {
        self.ended_within(mark, LIMIT)
    }

    fn ended_within(&self, mark: Mark, limit: Duration) -> Res<bool> {
        let what = format!("end of pid {} on {}", self.pid, self.node.name);
        self.node.timeline().wait(mark, limit, &what, |event: &Event| match event.what {
            What::Exit { pid, success, .. } if pid == self.pid => Some(success),
            _ => None,
        })
    }

    /// As [`Self::ended`]: how it ended, in words.
    pub fn ended_with(&self, mark: Mark) -> Res<String> {
        let what = format!("end of pid {} on {}", self.pid, self.node.name);
        self.node.timeline().wait(mark, LIMIT, &what, |event: &Event| match &event.what {
            What::Exit { pid, status, .. } if *pid == self.pid => Some(status.clone()),
            _ => None,
        })
    }

    /// All its running processes: the supervisor first, then its descendants.
    pub fn processes(&self) -> Vec<u32> {
        let parents = living();
        let mut found = Vec::new();
        if parents.contains_key(&self.pid) {
            found.push(self.pid);
        }
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            found.extend(parents.iter().filter(|(_, above)| **above == parent).map(|(pid, _)| pid));
            next += 1;
        }
        found
    }

    /// Kills all its processes at once, like a crash of the machine: none of them can send a farewell.
    pub fn crash(&self) -> Res {
        let mark = self.node.timeline().mark();
        // Freeze the supervisor first, or it would restart processes killed before it.
        signal_to(self.pid, Signal::SIGSTOP)?;
        let all = self.processes();
        for &pid in all.iter().filter(|pid| **pid != self.pid) {
            signal_to(pid, Signal::SIGKILL)?;
        }
        signal_to(self.pid, Signal::SIGKILL)?;
        self.ended(mark).map(drop)
    }

    /// Sends a signal to every process, the supervisor first.
    pub fn signal_all(&self, signal: Signal) -> Res {
        self.processes().into_iter().try_for_each(|pid| signal_to(pid, signal))
    }

    /// The process of a role, once it exists.
    pub fn role(&self, role: Role) -> Res<u32> {
        let what = format!("a process with the role {role:?} on {}", self.node.name);
        self.node.timeline().poll(LIMIT, &what, || Ok(self.find(role)))
    }

    /// The process of a role, if there is one now.
    pub fn find(&self, role: Role) -> Option<u32> {
        let file = match (self.make, role) {
            (Make::Keepalived, Role::Vrrp) => "/run/keepalived/vrrp.pid",
            (Make::Keepalived, Role::Checker) => "/run/keepalived/checkers.pid",
            (Make::Keepalived, _) => return None,
            (Make::EverVip, _) => return self.find_by_title(role),
        };
        let alternative = file.replace("/keepalived/", "/");
        let text = self.node.read(file).or_else(|_| self.node.read(alternative)).ok()?;
        let inner: u32 = text.trim().parse().ok()?;
        self.processes().into_iter().find(|pid| inner_pid(*pid) == Some(inner))
    }

    fn find_by_title(&self, role: Role) -> Option<u32> {
        let word = match role {
            Role::Vrrp => "vrrp",
            Role::Checker => "checker",
            Role::Runner => "runner",
            Role::Config => "config",
            Role::Api => "api",
        };
        let below = self.processes().into_iter().skip(1);
        below.into_iter().find(|pid| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
            let title = read("comm").unwrap_or_default() + &read("cmdline").unwrap_or_default();
            title.contains(word)
        })
    }
}

/// Sends a signal; ignores that a process has ended already. After SIGSTOP all its threads are stopped, which takes time on
/// a busy machine.
pub fn signal_to(pid: u32, signal: Signal) -> Res {
    match kill(Pid::from_raw(i32::try_from(pid)?), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(fail(format!("cannot send {signal} to {pid}: {error}"))),
    }
    let end = Instant::now() + LIMIT;
    while signal == Signal::SIGSTOP && runs(pid) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether a thread of a process is neither stopped nor a zombie.
fn runs(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let behind = stat.rsplit(')').next().unwrap_or_default().trim_start();
        !behind.is_empty() && !behind.starts_with(['T', 't', 'Z', 'X'])
    })
}

/// Whether a process exists and is not a zombie.
pub fn lives(pid: u32) -> bool {
    parent(&Path::new("/proc").join(pid.to_string())).is_some()
}

/// The parent of every living process.
fn living() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| parent(&entry.path())).collect()
}

fn parent(path: &Path) -> Option<(u32, u32)> {
    let pid = path.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(path.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    (fields.next()? != "Z").then_some(())?;
    Some((pid, fields.next()?.parse().ok()?))
}

/// The process id that the process itself sees.
fn inner_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}
