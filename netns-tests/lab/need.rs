//! What a test needs from the machine, and the text that names it if it is missing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Res, Stop};

/// The path of a program, or a skip that names it and its package.
pub fn program(name: &str, package: &str) -> Res<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Daemons live in sbin, which a user's PATH may lack.
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| missing(name, package))
}

/// Whether the kernel of this machine has IPVS, or can load it.
pub fn ipvs() -> bool {
    let there = || Path::new("/proc/net/ip_vs").exists();
    let load = || Command::new("modprobe").args(["--quiet", "ip_vs"]).output();
    there() || load().is_ok() && there()
}

pub fn missing(name: &str, package: &str) -> Stop {
    Stop::Skip(format!("{name} is not installed (package {package})"))
}
