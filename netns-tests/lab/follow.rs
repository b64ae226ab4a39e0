//! Threads that read something until it ends or the test is over.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Res;
use super::timeline::{Timeline, Wall, What};

/// Ends all followers of a test when it is dropped.
pub struct Halt {
    _ours: UnixStream,
    theirs: Arc<UnixStream>,
}

impl Halt {
    pub fn new() -> Res<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok(Self { _ours: ours, theirs: Arc::new(theirs) })
    }

    /// Starts a thread that calls `ready` each time `fd` can be read, until it returns `false` or the test is over.
    pub fn follow<F>(&self, fd: F, mut ready: impl FnMut(&mut F) -> bool + Send + 'static)
    where
        F: AsFd + Send + 'static,
    {
        let halt = Arc::clone(&self.theirs);
        let mut fd = fd;
        thread::spawn(move || {
            loop {
                let mut fds = [
                    PollFd::new(fd.as_fd(), PollFlags::POLLIN),
                    PollFd::new(halt.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut fds, PollTimeout::NONE) {
                    Err(nix::Error::EINTR) => continue,
                    Err(_) => return,
                    Ok(_) => {}
                }
                let [own, end] = fds.map(|fd| fd.any().unwrap_or(true));
                if end || own && !ready(&mut fd) {
                    return;
                }
            }
        });
    }

    /// Writes each line that comes out of `fd` into the timeline.
    pub fn lines(
        &self,
        fd: impl Into<OwnedFd>,
        node: Arc<str>,
        source: Arc<str>,
        timeline: Arc<Timeline>,
    ) {
        let mut pending = Vec::new();
        self.follow(std::fs::File::from(fd.into()), move |file| {
            let mut buffer = [0; 4096];
            let length = file.read(&mut buffer).unwrap_or_default();
            let at = Wall::now();
            pending.extend_from_slice(buffer.get(..length).unwrap_or_default());
            while let Some(end) = pending.iter().position(|&octet| octet == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                timeline.push(at, &node, What::Log { source: Arc::clone(&source), line });
            }
            length > 0
        });
    }
}
