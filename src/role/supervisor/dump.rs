//! Writes keepalived's dump files, whose content other roles make.
//!
//! A file takes the place of its predecessor when it is complete. A disk that does not answer holds up nothing: each file
//! has at most one thread, and of the contents that arrive meanwhile the last one is written next.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::Supervisor;
use crate::ipc::{DumpFile, RoleName};
use crate::sys::memfd;

/// The longest file, in octets: about 20,000 instances.
const LONGEST: usize = 64 << 20;
/// Stack of a thread that writes a file.
const STACK: usize = 128 << 10;

/// A file to be written.
struct Job {
    path: PathBuf,
    /// Sealed memory with its content.
    content: OwnedFd,
}

/// Files that are being written, each with what is to be written after it.
type Slots = BTreeMap<DumpFile, Option<Job>>;

/// The files.
#[derive(Default)]
pub(super) struct Dumps(Arc<Mutex<Slots>>);

impl Dumps {
    /// Writes a file, at once or after the same file that is being written.
    fn write(&self, file: DumpFile, job: Job) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = slots.get_mut(&file) {
            *waiting = Some(job);
            return;
        }
        let shared = Arc::clone(&self.0);
        let thread = thread::Builder::new().name("dump".into()).stack_size(STACK);
        match thread.spawn(move || write_all(&shared, file, job)) {
            Ok(_) => drop(slots.insert(file, None)),
            Err(e) => tracing::warn!("cannot write a dump file: {e}"),
        }
    }
}

impl Supervisor {
    /// A role has made a file.
    pub(super) fn dump(&mut self, role: RoleName, file: DumpFile, content: Option<OwnedFd>) {
        if role != file.writer() {
            self.refused(role, 0, "a file of another role");
        } else if let Some(content) = content {
            let path = self.options.temporary.join(name(file));
            self.dumps.write(file, Job { path, content });
        }
    }
}

/// The name of a file.
const fn name(file: DumpFile) -> &'static str {
    match file {
        DumpFile::Json => "keepalived.json",
        DumpFile::Stats => "keepalived.stats",
    }
}

/// Writes a file, and what arrives for it meanwhile.
fn write_all(slots: &Mutex<Slots>, file: DumpFile, mut job: Job) {
    loop {
        let Job { path, content } = job;
        match write(&path, content) {
            Ok(()) => tracing::debug!("wrote {}", path.display()),
            Err(e) => tracing::warn!("cannot write {}: {e}", path.display()),
        }
        let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.get_mut(&file).and_then(Option::take) {
            Some(next) => job = next,
            None => {
                slots.remove(&file);
                return;
            }
        }
    }
}

/// Writes a file beside its place and moves it there, so that no reader sees a part of it. Nothing is followed: a link of
/// that name is replaced.
fn write(path: &Path, content: OwnedFd) -> io::Result<()> {
    let content = memfd::read(content, LONGEST)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(".keepalived.")
        // Less what the umask forbids.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    file.write_all(&content)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn job(path: &Path, text: &str) -> Job {
        Job { path: path.into(), content: memfd::seal(c"test", text.as_bytes()).unwrap() }
    }

    #[test]
    fn a_file_takes_the_place_of_what_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("x.json"), folder.path().join("other"));
        std::fs::write(&other, "precious").unwrap();
        symlink(&other, &path).unwrap();
        let Job { path, content } = job(&path, "new");
        write(&path, content).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(std::fs::read_to_string(other).unwrap(), "precious");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        // A directory of that name stays, and nothing else is left.
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("x.json/y")).unwrap();
        let Job { path, content } = job(&folder.path().join("x.json"), "new");
        assert!(write(&path, content).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_many_contents_the_last_one_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let dumps = Dumps::default();
        for n in 0..100 {
            dumps.write(DumpFile::Json, job(&path, &n.to_string()));
        }
        let end = std::time::Instant::now() + core::time::Duration::from_secs(10);
        while !dumps.0.lock().unwrap().is_empty() && std::time::Instant::now() < end {
            thread::yield_now();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "99");
    }
}
