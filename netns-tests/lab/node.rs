//! A machine of a test: network, mount, process, host name and IPC namespaces of its own, held by its first process.
//! When that ends, or the test program dies for any reason, the kernel ends everything in it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};

use super::follow::Halt;
use super::timeline::{Timeline, Wall, What};
use super::{LIMIT, Res, Stop, fail};

/// The argument by which the test program becomes the first process of a node.
pub const INIT: &str = "--first-process-of-a-node";

/// The same for a node that is only a process namespace.
pub const SHELTER: &str = "--first-process-of-a-shelter";

/// Device nodes that every node sees.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

type Job = Box<dyn FnOnce() + Send>;

/// Cheap to clone; the machine ends with the [`super::Lab`] that created it.
#[derive(Clone)]
pub struct Node {
    pub name: Arc<str>,
    jobs: mpsc::Sender<Job>,
    /// Process id of the first process, as seen from outside.
    pub first: u32,
    timeline: Arc<Timeline>,
    halt: Arc<Halt>,
}

/// Keeps the first process alive; its end is the end of the machine.
pub struct Life {
    child: Child,
    _stdin: Option<ChildStdin>,
}

/// The output of a command.
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Node {
    /// Makes the namespaces and starts the first process.
    pub fn boot(name: &str, timeline: Arc<Timeline>, halt: Arc<Halt>) -> Res<(Self, Life)> {
        let host = name.to_owned();
        // The thread itself does not enter the new process namespace, only its children do.
        let flags = CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC;
        let (jobs, mut child) = inhabit(name, flags, move || start_first(INIT, &host))?;
        let stdin = child.stdin.take();
        let node = Self { name: name.into(), jobs, first: child.id(), timeline, halt };
        Ok((node, Life { child, _stdin: stdin }))
    }

    /// No namespaces at all: processes of this node run beside this program.
    pub fn outside(timeline: Arc<Timeline>, halt: Arc<Halt>) -> Res<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::Builder::new().name("node outside".to_owned()).spawn(move || {
            inbox.into_iter().for_each(|job| job());
        })?;
        Ok(Self { name: "outside".into(), jobs, first: std::process::id(), timeline, halt })
    }

    /// Only a process namespace, so that processes started in it end with this program.
    pub fn shelter(name: &str, timeline: Arc<Timeline>, halt: Arc<Halt>) -> Res<(Self, Life)> {
        let host = name.to_owned();
        let flags = CloneFlags::CLONE_NEWPID;
        let (jobs, mut child) = inhabit(name, flags, move || start_first(SHELTER, &host))?;
        let stdin = child.stdin.take();
        let node = Self { name: name.into(), jobs, first: child.id(), timeline, halt };
        Ok((node, Life { child, _stdin: stdin }))
    }

    /// Only a network namespace, which ends with the last clone: the other end of the cables.
    pub fn bare(name: &str, timeline: Arc<Timeline>, halt: Arc<Halt>) -> Res<Self> {
        let (jobs, ()) = inhabit(name, CloneFlags::CLONE_NEWNET, || Ok(()))?;
        Ok(Self { name: name.into(), jobs, first: std::process::id(), timeline, halt })
    }

    /// Runs `job` in the namespaces of the node and returns its result.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Res<T> {
        let (answer, wait) = mpsc::channel();
        let job = Box::new(move || {
            let _ = answer.send(job());
        });
        self.jobs.send(job).map_err(|_| fail("the node is gone"))?;
        wait.recv().map_err(|_| fail("a job of the node panicked"))
    }

    /// Runs a command to its end.
    pub fn output<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Res<Output> {
        let mut command = command(words);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let done = self.run(move || launch(&mut command)?.wait_with_output())?;
        let done = done.map_err(|error| fail(format!("{}: {error}", self.name)))?;
        Ok(Output {
            status: done.status,
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        })
    }

    /// What `evervip status` prints with these arguments as soon as every process has answered: each has a second for it,
    /// which a busy machine may not give it.
    pub fn status(&self, words: &[&str]) -> Res<String> {
        let words = [&[env!("CARGO_BIN_EXE_evervip"), "status"], words].concat();
        self.timeline().poll(LIMIT, "every process answers", || {
            let output = self.output(&words)?;
            Ok(output.status.success().then_some(output.stdout))
        })
    }

    /// Runs a command that must succeed; returns its standard output.
    pub fn must<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Res<String> {
        let words: Vec<_> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let output = self.output(&words)?;
        if !output.status.success() {
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            return Err(fail(format!(
                "{}: `{}` failed: {}{}",
                self.name,
                words.join(" "),
                output.stdout,
                output.stderr
            )));
        }
        Ok(output.stdout)
    }

    /// Runs `ip` with these lines as a batch.
    pub fn ip(&self, lines: &str) -> Res {
        let text = lines.to_owned();
        let (status, errors) = self.run(move || -> std::io::Result<_> {
            let mut ip = command(["ip", "-force", "-batch", "-"]);
            ip.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = launch(&mut ip)?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(text.as_bytes())?;
            }
            let done = child.wait_with_output()?;
            Ok((done.status, String::from_utf8_lossy(&done.stderr).into_owned()))
        })??;
        if !status.success() {
            return Err(fail(format!("{}: ip: {errors}\nof\n{lines}", self.name)));
        }
        Ok(())
    }

    /// Sets a variable of /proc/sys, named with dots or slashes.
    pub fn sysctl(&self, name: &str, value: &str) -> Res {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        let value = value.to_owned();
        let done = self.run({
            let path = path.clone();
            move || fs::write(path, value)
        })?;
        done.map_err(|error| fail(format!("{}: {}: {error}", self.name, path.display())))
    }

    /// Writes a file of the node: /etc, /usr/local, /run and /dev are its own, everything else is the machine's.
    pub fn write(&self, path: impl Into<PathBuf>, text: &str, mode: u32) -> Res {
        let (path, text) = (path.into(), text.to_owned());
        self.run(move || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        })??;
        Ok(())
    }

    /// Reads a file of the node.
    pub fn read(&self, path: impl Into<PathBuf>) -> Res<String> {
        let path = path.into();
        Ok(self.run(move || fs::read_to_string(path))??)
    }

    /// Starts a process whose output lines and end are added to the timeline.
    pub fn spawn(&self, mut command: Command, source: &str) -> Res<u32> {
        let source: Arc<str> = source.into();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = format!("{:?}", command.get_program());
        let mut child = self
            .run(move || launch(&mut command))?
            .map_err(|error| fail(format!("{}: cannot start {shown}: {error}", self.name)))?;
        let pid = child.id();
        if let Some(stdout) = child.stdout.take() {
            self.lines(stdout, &source);
        }
        if let Some(stderr) = child.stderr.take() {
            self.lines(stderr, &source);
        }
        let (node, timeline) = (Arc::clone(&self.name), Arc::clone(&self.timeline));
        thread::spawn(move || {
            if let Ok(status) = child.wait() {
                let success = status.success();
                let status = status.to_string();
                timeline.push(Wall::now(), &node, What::Exit { source, pid, status, success });
            }
        });
        Ok(pid)
    }

    /// Writes the output of a file descriptor into the timeline, line by line.
    pub fn lines(&self, fd: impl Into<std::os::fd::OwnedFd>, source: &Arc<str>) {
        let (node, source) = (Arc::clone(&self.name), Arc::clone(source));
        self.halt.lines(fd, node, source, Arc::clone(&self.timeline));
    }

    pub fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    pub fn halt(&self) -> &Halt {
        &self.halt
    }

    /// `ip addr` of one interface, as a user would look.
    pub fn addresses(&self, interface: &str) -> Res<String> {
        self.must(["ip", "addr", "list", "dev", interface])
    }

    /// Whether `address` (with its prefix length) is on the interface now.
    pub fn has(&self, interface: &str, address: &str) -> Res<bool> {
        Ok(self.addresses(interface)?.contains(&format!(" {address} ")))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command from its words.
pub fn command<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut words = words.into_iter();
    let program = words.next();
    let mut command = Command::new(program.as_ref().map_or(OsStr::new("true"), AsRef::as_ref));
    command.args(words);
    command
}

/// Starts a process without blocked signals: this program blocks those that would end it, and children inherit that.
pub fn launch(command: &mut Command) -> std::io::Result<Child> {
    let ours = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let child = command.spawn();
    ours.thread_set_mask()?;
    child
}

/// The first process of a node: creates its file system (in a shelter only /proc), reports that, reaps orphans, ends
/// with its parent.
pub fn first_process(word: &str, host: &str) -> Result<(), Box<dyn std::error::Error>> {
    set_pdeathsig(Signal::SIGKILL)?;
    let reaped = SigSet::from_iter([Signal::SIGCHLD]);
    reaped.thread_block()?;
    place("proc", Path::new("/proc"), None)?;
    if word == INIT {
        sethostname(host)?;
        file_system()?;
    }
    println!("ready");
    thread::spawn(move || {
        loop {
            let _ = reaped.wait();
            while matches!(
                waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
                Ok(status) if status != WaitStatus::StillAlive
            ) {}
        }
    });
    // The test program holds the other end; it never writes.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Starts a thread in new namespaces: what it opens and starts belongs to them.
fn inhabit<T: Send + 'static>(
    name: &str,
    flags: CloneFlags,
    begin: impl FnOnce() -> Res<T> + Send + 'static,
) -> Res<(mpsc::Sender<Job>, T)> {
    // The path of this program outside the node.
    super::own_program()?;
    let (jobs, inbox) = mpsc::channel::<Job>();
    let (ready, told) = mpsc::channel();
    thread::Builder::new().name(format!("node {name}")).spawn(move || {
        let begun = enter(flags).and_then(|()| begin());
        let up = begun.is_ok();
        let _ = ready.send(begun);
        while let Some(job) = up.then(|| inbox.recv().ok()).flatten() {
            job();
        }
    })?;
    let begun = told.recv()??;
    Ok((jobs, begun))
}

fn enter(flags: CloneFlags) -> Res {
    unshare(flags | CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).map_err(
        |error| match error {
            Errno::EPERM => Stop::Skip("needs root".to_owned()),
            error => fail(format!("cannot create namespaces: {error}")),
        },
    )?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(())
}

fn start_first(word: &str, host: &str) -> Res<Child> {
    let program = super::own_program()?;
    let mut first = Command::new(program);
    first.args([word, host]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = launch(&mut first)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.trim_end() != "ready" {
        let _ = child.kill();
        return Err(fail(format!("the first process of {host} did not start: {}", child.wait()?)));
    }
    Ok(child)
}

/// /sys of the node's own namespaces; writable /etc and /usr/local; its own /dev and /run, which holds the layers of
/// the others.
fn file_system() -> Result<(), Box<dyn std::error::Error>> {
    place("sysfs", Path::new("/sys"), None)?;
    place("tmpfs", Path::new("/run"), Some("mode=755"))?;
    fs::create_dir("/run/lock")?;
    let parts = Path::new("/run/parts-of-the-node");
    fs::create_dir(parts)?;
    for lower in ["/etc", "/usr/local"] {
        let folder = |kind: &str| parts.join(format!("{}-{kind}", lower.replace('/', "_")));
        let (upper, work) = (folder("upper"), folder("work"));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let data =
            format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
        place("overlay", Path::new(lower), Some(&data))?;
    }
    let devices = parts.join("dev");
    fs::create_dir(&devices)?;
    for name in DEVICES {
        let (from, to) = (Path::new("/dev").join(name), devices.join(name));
        fs::write(&to, "")?;
        mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    }
    std::os::unix::fs::symlink("/proc/self/fd", devices.join("fd"))?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&devices), "/dev", None::<&str>, flags, None::<&str>)?;
    Ok(())
}

/// Mounts a file system of this kind.
fn place(kind: &str, target: &Path, data: Option<&str>) -> Result<(), String> {
    mount(Some(kind), target, Some(kind), MsFlags::empty(), data)
        .map_err(|error| format!("cannot mount {kind} on {}: {error}", target.display()))
}
