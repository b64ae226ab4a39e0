//! Standard error and the log file.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::record::Record;
use crate::sys::clock::LocalTime;
use crate::sys::process;

/// How long, in milliseconds, a reader may take before lines for it are dropped.
const PATIENCE: u16 = 1000;

/// A line in keepalived's form: `Mon Nov 23 19:32:36 2026: text`.
pub(super) fn line(record: &Record) -> String {
    format!("{}: {}\n", LocalTime::at(record.time), record.text)
}

/// Standard error.
pub(super) struct Console {
    /// The reader was too slow last time: lines are dropped at once until it reads again.
    blocked: bool,
    dropped: u64,
}

impl Console {
    pub const fn new() -> Self {
        Self { blocked: false, dropped: 0 }
    }

    pub fn write(&mut self, line: &str) {
        let stderr = io::stderr();
        let patience = if self.blocked { 0 } else { PATIENCE };
        self.blocked = !process::writable_within(&stderr, patience);
        if self.blocked {
            self.dropped += 1;
            return;
        }
        let mut stderr = stderr.lock();
        if self.dropped > 0 {
            let _ = writeln!(
                stderr,
                "({} lines were dropped because they were not read)",
                self.dropped
            );
            self.dropped = 0;
        }
        // A failure cannot be reported.
        let _ = stderr.write_all(line.as_bytes());
    }
}

/// A file that lines are appended to.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = append(path)?;
        Ok(Self { path: path.into(), file })
    }

    pub fn reopen(&mut self) {
        if let Ok(file) = append(&self.path) {
            self.file = file;
        }
    }

    pub fn write(&mut self, line: &str) {
        let _ = self.file.write_all(line.as_bytes());
    }
}

fn append(path: &Path) -> io::Result<File> {
    // The usual directory is /tmp: symbolic links are not followed.
    File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}
