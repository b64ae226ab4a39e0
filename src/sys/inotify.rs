//! Changes of files, as reported by the kernel.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A directory that is watched.
pub use nix::sys::inotify::WatchDescriptor as Directory;

/// Number of reads before the caller gets its turn.
const READS: usize = 64;

/// Something happened.
#[derive(Debug)]
pub struct Change {
    /// The directory; if it is not a watched one, changes were lost.
    pub directory: Directory,
    /// The file; none for the directory itself.
    pub name: Option<OsString>,
    /// Only the content or the permissions of the file changed.
    pub content: bool,
}

/// Watched directories.
pub struct Changes(Inotify);

impl Changes {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// Those of `inotify_init1(2)`: too many of them, or no descriptor left.
    pub fn open() -> io::Result<Self> {
        Ok(Self(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?))
    }

    /// Watches a directory for names that are added and removed. `content`: also for written files. Earlier watches of
    /// the same directory are kept.
    ///
    /// # Errors
    /// Those of `inotify_add_watch(2)`: it does not exist, is not a directory, is not readable, or too many are
    /// watched.
    pub fn watch(&self, directory: &Path, content: bool) -> io::Result<Directory> {
        let names = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD)
            | AddWatchFlags::IN_ONLYDIR;
        let more = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ATTRIB;
        Ok(self.0.add_watch(directory, if content { names | more } else { names })?)
    }

    /// Ends watching a directory.
    pub fn forget(&self, directory: Directory) {
        // A deleted one is forgotten already.
        let _ = self.0.rm_watch(directory);
    }

    /// Returns the changes.
    pub fn take(&self) -> Vec<Change> {
        let mut all = Vec::new();
        for _ in 0..READS {
            match self.0.read_events() {
                Ok(events) => all.extend(events.into_iter().map(|event| {
                    Change {
                        directory: event.wd,
                        name: event.name,
                        content: AddWatchFlags::IN_CLOSE_WRITE
                            .union(AddWatchFlags::IN_ATTRIB)
                            .contains(event.mask),
                    }
                })),
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        all
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
