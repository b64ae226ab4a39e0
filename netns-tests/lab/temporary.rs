//! The temporary directory of a run for files outside the nodes, removed with the run however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use super::Res;

const PREFIX: &str = "evervip-netns-";

/// The directory, created at its first use.
pub fn folder() -> Res<PathBuf> {
    let path = path();
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// Removes the folder, and those of runs that were killed.
pub fn clean() {
    let _ = fs::remove_dir_all(path());
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Makes Ctrl-C and similar signals remove the directory and end the program; the kernel ends the nodes then. To be
/// called before there are threads.
pub fn clean_when_interrupted() -> Res {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    thread::spawn(move || {
        let signal = signals.wait();
        clean();
        std::process::exit(128 + signal.map_or(0, |signal| signal as i32));
    });
    Ok(())
}

fn path() -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()))
}
