//! Notify FIFOs: lines about states for the readers of named pipes, and the configured reader programs.
//!
//! A FIFO is opened for reading and writing without blocking, so it needs no reader, and lines are lost once the pipe
//! is full. It stays open over a reload that does not change its settings, unless it was removed or its reader ended.
//! Opening one may take as long as a file server is dead; nothing else waits for it.

use core::time::Duration;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::stat::Mode;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use crate::drive::apart::apart;
use crate::drive::script::{Running, STOP_GRACE};
use crate::ipc::RoleName;
use crate::model::User;
use crate::model::global::{Fifo, Settings};
use crate::status::RunEnd;

/// Lines that may wait for a FIFO that is being opened.
const WAITING: usize = 1024;
/// `PIPE_BUF`: largest atomic write to a pipe, in octets.
const LONGEST: usize = 4096;
/// How long a program may continue to read after the FIFO is closed.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The FIFOs of the configurations that are in force or about to be.
#[derive(Default)]
pub(super) struct Fifos {
    /// By number of the configuration, the newest last.
    known: Vec<(u32, Of)>,
}

/// The FIFOs of one configuration.
#[derive(Clone, Default)]
struct Of {
    all: Option<Arc<Writer>>,
    vrrp: Option<Arc<Writer>>,
    checker: Option<Arc<Writer>>,
}

impl Of {
    fn writers(&self) -> impl Iterator<Item = &Arc<Writer>> {
        [&self.all, &self.vrrp, &self.checker].into_iter().flatten()
    }
}

/// The destination of one FIFO's lines. Dropping it closes the FIFO.
struct Writer {
    config: Fifo,
    orders: mpsc::Sender<Order>,
}

/// What the task of a FIFO is to do.
enum Order {
    /// Write this line.
    Write(Box<str>),
    /// A reload leaves its settings alone: replace it if it is not there any more, and its reader if that has ended.
    Check,
}

impl Fifos {
    /// A configuration was decoded. New FIFOs are opened at once, and known ones checked: the role that applies the
    /// configuration may do so earlier than this process.
    pub fn prepare(&mut self, generation: u32, settings: &Settings, busy: &Arc<()>) {
        let known: Vec<Arc<Writer>> =
            self.known.iter().flat_map(|(_, of)| of.writers().cloned()).collect();
        let kept = |config: &Fifo| {
            let same = known.iter().find(|writer| writer.config == *config)?;
            match same.orders.try_send(Order::Check) {
                Err(TrySendError::Closed(_)) => None,
                // One that has no room for it is still being opened.
                Ok(()) | Err(TrySendError::Full(_)) => Some(Arc::clone(same)),
            }
        };
        let writer = |config: &Option<Fifo>| {
            let config = config.as_ref()?;
            Some(kept(config).unwrap_or_else(|| Writer::start(config.clone(), busy)))
        };
        let of = Of {
            all: writer(&settings.fifo),
            vrrp: writer(&settings.vrrp_fifo),
            checker: writer(&settings.lvs_fifo),
        };
        self.known.push((generation, of));
    }

    /// It is in force.
    pub fn apply(&mut self, generation: u32) {
        if let Some(at) = self.known.iter().position(|(number, _)| *number == generation) {
            self.known.drain(..at);
        }
    }

    /// It does not come into force.
    pub fn abandon(&mut self, generation: u32) {
        self.known.retain(|(number, _)| *number != generation);
    }

    /// Writes a line of a role, without its newline, to the FIFOs it belongs to.
    pub fn write(&self, role: RoleName, line: &str) {
        if line.is_empty() || line.len() >= LONGEST || line.chars().any(char::is_control) {
            return;
        }
        let Some((_, of)) = self.known.last() else { return };
        let own = if role == RoleName::Vrrp { &of.vrrp } else { &of.checker };
        for writer in [&of.all, own].into_iter().flatten() {
            // Dropped, as with a full pipe.
            let _ = writer.orders.try_send(Order::Write(line.into()));
        }
    }
}

impl Writer {
    fn start(config: Fifo, busy: &Arc<()>) -> Arc<Self> {
        let (orders, waiting) = mpsc::channel(WAITING);
        tokio::spawn(serve(config.clone(), waiting, Arc::clone(busy)));
        Arc::new(Self { config, orders })
    }
}

/// Writes lines until all senders are gone. `_busy` is held meanwhile.
async fn serve(config: Fifo, mut orders: mpsc::Receiver<Order>, _busy: Arc<()>) {
    let mut served = Served::open(config).await;
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => break,
                Some(Order::Write(line)) => served.write(&line),
                Some(Order::Check) => served.check().await,
            },
            () = ending(&served.reader), if served.reader.is_some() => {
                if let Some(reader) = served.reader.take() {
                    let (name, of) = (&served.name, reader.name().to_owned());
                    let end = reader.end(None, Duration::ZERO).await;
                    tracing::warn!("the reader of notify FIFO {name} has ended: {of} {}", how(end));
                }
            }
        }
    }
    served.close().await;
}

/// A FIFO and its reader.
struct Served {
    config: Fifo,
    path: PathBuf,
    /// Its path, for the log.
    name: String,
    /// None if it cannot be used.
    pipe: Option<Pipe>,
    reader: Option<Running>,
    /// Lines that found it full.
    lost: u64,
}

impl Served {
    async fn open(config: Fifo) -> Self {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&config.path));
        let name = path.display().to_string();
        let mut served = Self { config, path, name, pipe: None, reader: None, lost: 0 };
        served.begin().await;
        served
    }

    /// Opens it, and starts its reader.
    async fn begin(&mut self) {
        let (path, account) = (self.path.clone(), self.config.account.clone());
        let opened = apart(move || Pipe::open(&path, account.as_ref())).await;
        match opened.and_then(|opened| opened) {
            Ok(pipe) => {
                self.pipe = Some(pipe);
                self.start_reader();
            }
            Err(e) => tracing::warn!("notify FIFO {} cannot be used: {e}", self.name),
        }
    }

    fn start_reader(&mut self) {
        let Some(mut script) = self.config.script.clone() else { return };
        script.words.push(self.path.as_os_str().as_bytes().into());
        match Running::start(&script) {
            Ok(reader) => self.reader = Some(reader),
            Err(e) => tracing::warn!("cannot run {}: {e}", script.display()),
        }
    }

    fn write(&mut self, line: &str) {
        let (Some(pipe), name) = (&mut self.pipe, &self.name) else { return };
        match pipe.write(line) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.lost += 1;
                let lost = self.lost;
                // One log line for each would be a flood of its own.
                if lost.is_power_of_two() {
                    tracing::warn!(
                        "notify FIFO {name} is full and not read, {lost} lines lost so far"
                    );
                }
            }
            Err(e) => tracing::warn!("cannot write to notify FIFO {name}: {e}"),
        }
    }

    /// Replaces what is missing.
    async fn check(&mut self) {
        let path = self.path.clone();
        let there = apart(move || path.symlink_metadata().map(|about| identity(&about))).await;
        let own = self.pipe.as_ref().map(|pipe| pipe.identity);
        if own.is_none() || there.and_then(|there| there).ok() != own {
            self.close().await;
            self.begin().await;
        } else if self.reader.is_none() {
            self.start_reader();
        }
    }

    /// Closes it. The reader sees the end of the pipe.
    async fn close(&mut self) {
        self.pipe = None;
        if let Some(reader) = self.reader.take()
            && timeout(LAST_LINES, reader.ending()).await.is_err()
        {
            reader.stop(STOP_GRACE).await;
        }
    }
}

/// The file system and the file of an inode.
fn identity(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

async fn ending(reader: &Option<Running>) {
    match reader {
        Some(reader) => reader.ending().await,
        None => core::future::pending().await,
    }
}

fn how(end: RunEnd) -> String {
    match end {
        RunEnd::Exit(status) => format!("exited with status {status}"),
        RunEnd::Signal(number) => format!("was ended by signal {number}"),
        RunEnd::TimedOut => "took too long".to_owned(),
        RunEnd::NotStarted(number) => {
            format!("could not be run: {}", io::Error::from_raw_os_error(number))
        }
    }
}

/// An open FIFO. One that was created here is removed at the end.
struct Pipe {
    file: File,
    identity: (u64, u64),
    made: Option<PathBuf>,
}

impl Pipe {
    fn open(path: &Path, account: Option<&User>) -> io::Result<Self> {
        // The umask removes permissions.
        let made = match nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o644)) {
            Ok(()) => true,
            Err(nix::errno::Errno::EEXIST) => false,
            Err(e) => return Err(e.into()),
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
            .open(path)?;
        let about = file.metadata()?;
        let mut pipe = Self { file, identity: identity(&about), made: None };
        if !about.file_type().is_fifo() {
            return Err(io::Error::other("it is not a FIFO"));
        }
        if made {
            pipe.made = Some(path.to_owned());
            if let Some(User { uid, gid, .. }) = account {
                fchown(&pipe.file, Some(*uid), Some(*gid))?;
            }
            return Ok(pipe);
        }
        let own = nix::unistd::geteuid().as_raw();
        if about.uid() != own && account.is_none_or(|user| user.uid != about.uid()) {
            let of = about.uid();
            return Err(io::Error::other(format!("it belongs to another user ({of})")));
        }
        Ok(pipe)
    }

    /// Writes a line in one piece.
    fn write(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Another program may have replaced it.
        if let Some(path) = &self.made
            && path.symlink_metadata().is_ok_and(|there| identity(&there) == self.identity)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::sys::testing;

    fn settings(path: &Path, account: Option<User>) -> Settings {
        let path = path.as_os_str().as_bytes().into();
        Settings { fifo: Some(Fifo { path, account, script: None }), ..Settings::default() }
    }

    /// The content of the pipe, as soon as there is some.
    async fn read(path: &Path) -> String {
        let end = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            assert!(std::time::Instant::now() < end, "nothing comes");
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(libc::O_NONBLOCK);
            let mut text = vec![0; 65_536];
            if let Ok(Ok(length @ 1..)) = options.open(path).map(|mut file| file.read(&mut text)) {
                return String::from_utf8_lossy(&text[..length]).into_owned();
            }
            tokio::task::yield_now().await;
        }
    }

    /// A configuration with this FIFO is in force.
    fn begun(path: &Path) -> (Fifos, Arc<()>) {
        let (mut fifos, busy) = (Fifos::default(), Arc::new(()));
        fifos.prepare(1, &settings(path, None), &busy);
        fifos.apply(1);
        (fifos, busy)
    }

    #[test]
    fn lines_go_to_the_fifos_of_a_role_and_stay_there_over_a_reload() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all");
        testing::run(async {
            let (mut fifos, busy) = begun(&path);
            fifos.write(RoleName::Vrrp, "INSTANCE \"A\" MASTER 100");
            fifos.write(RoleName::Checker, "VS [10.0.0.1]:tcp:80 UP");
            for bad in ["", "two\nlines", &"x".repeat(5000)] {
                fifos.write(RoleName::Vrrp, bad);
            }
            fifos.prepare(2, &settings(&path, None), &busy);
            fifos.abandon(2);
            fifos.prepare(3, &settings(&path, None), &busy);
            fifos.write(RoleName::Vrrp, "INSTANCE \"A\" BACKUP 100");
            fifos.apply(3);
            let mut text = String::new();
            while text.lines().count() < 3 {
                text += &read(&path).await;
            }
            let want =
                "INSTANCE \"A\" MASTER 100\nVS [10.0.0.1]:tcp:80 UP\nINSTANCE \"A\" BACKUP 100\n";
            assert_eq!(text, want);
            // Closed and removed with the configuration that names it.
            fifos.prepare(4, &Settings::default(), &busy);
            fifos.apply(4);
            while Arc::strong_count(&busy) > 1 {
                tokio::task::yield_now().await;
            }
            assert!(!path.exists());
        });
    }

    /// The file that a path leads to now; none if there is none.
    fn there(path: &Path) -> Option<(u64, u64)> {
        path.symlink_metadata().ok().map(|about| identity(&about))
    }

    #[test]
    fn a_reload_begins_anew_with_one_whose_task_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all");
        testing::run(async {
            let config = settings(&path, None);
            let (orders, ended) = mpsc::channel(1);
            drop(ended);
            let dead = Arc::new(Writer { config: config.fifo.clone().unwrap(), orders });
            let mut fifos = Fifos::default();
            fifos.known.push((1, Of { all: Some(dead), vrrp: None, checker: None }));
            fifos.prepare(2, &config, &Arc::new(()));
            fifos.apply(2);
            fifos.write(RoleName::Vrrp, "line");
            assert_eq!(read(&path).await, "line\n");
        });
    }

    #[test]
    fn a_reload_replaces_a_fifo_that_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all");
        testing::run(async {
            let (mut fifos, busy) = begun(&path);
            fifos.write(RoleName::Vrrp, "first");
            assert_eq!(read(&path).await, "first\n");
            for generation in 2.. {
                std::fs::remove_file(&path).unwrap();
                if generation == 4 {
                    // Not by another file in its place.
                    std::fs::write(&path, "").unwrap();
                }
                fifos.prepare(generation, &settings(&path, None), &busy);
                fifos.apply(generation);
                if generation == 4 {
                    break;
                }
                while there(&path).is_none() {
                    tokio::task::yield_now().await;
                }
                fifos.write(RoleName::Vrrp, "again");
                assert_eq!(read(&path).await, "again\n");
            }
            drop(fifos);
            while Arc::strong_count(&busy) > 1 {
                tokio::task::yield_now().await;
            }
            assert!(path.is_file(), "the file of another program is left alone");
        });
    }

    #[test]
    fn what_is_no_fifo_or_of_somebody_else_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        let file = directory.join("file");
        std::fs::write(&file, "kept").unwrap();
        let refused = |path: &Path| Pipe::open(path, None).err().unwrap().to_string();
        assert_eq!(refused(&file), "it is not a FIFO");
        let fifo = directory.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let link = directory.join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        assert!(refused(&link).contains("symbolic link"), "{}", refused(&link));
        assert!(refused(&directory.join("none/x")).contains("No such file"));
        // A file that existed before is not removed.
        drop(Pipe::open(&fifo, None).unwrap());
        assert!(fifo.exists());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "kept");
    }

    #[test]
    fn a_pipe_that_nobody_reads_loses_lines_and_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut pipe = Pipe::open(&folder.path().join("full"), None).unwrap();
        let line = "x".repeat(1000);
        pipe.write(&line).unwrap();
        let error = (0..1000).find_map(|_| pipe.write(&line).err());
        assert_eq!(error.unwrap().kind(), ErrorKind::WouldBlock);
    }
}
