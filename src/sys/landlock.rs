//! Landlock: which files and ports a process can reach, whatever its user and capabilities allow.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// What a process can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Files and directories that can be read, with everything below them. Nothing can be created, removed or executed.
    pub reads: &'static [&'static str],
    /// Directories in which existing files can be written, and nothing else.
    pub writes: &'static [&'static str],
    /// TCP connections can be made.
    pub tcp: bool,
}

/// The newest supported version; features that the kernel lacks are left out.
const NEWEST: ABI = ABI::V6;

/// Confines the calling thread, and everything that it starts later. False if the kernel does not support it. Open
/// descriptors continue to work.
///
/// # Errors
/// If the kernel refuses.
pub fn confine(reach: &Reach) -> Result<bool, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp)?
        // No signals to processes outside, and no connections to their abstract sockets.
        .scope(Scope::from_all(NEWEST))?;
    if !reach.tcp {
        rules = rules.handle_access(AccessNet::ConnectTcp)?;
    }
    let mut rules = rules.create()?;
    for path in reach.reads {
        // A missing path needs no rule.
        if let Ok(fd) = PathFd::new(path) {
            let reading = if std::path::Path::new(path).is_dir() {
                AccessFs::ReadFile | AccessFs::ReadDir
            } else {
                AccessFs::ReadFile.into()
            };
            rules = rules.add_rule(PathBeneath::new(fd, reading))?;
        }
    }
    for path in reach.writes {
        let Ok(fd) = PathFd::new(path) else { continue };
        // Kept open permanently: a rule applies to this inode, and procfs creates a new one for a path that is not held
        // open.
        if let Ok(held) = std::fs::File::open(path) {
            core::mem::forget(held);
        }
        rules = rules.add_rule(PathBeneath::new(fd, AccessFs::WriteFile))?;
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use nix::unistd::gettid;

    use super::*;

    #[test]
    fn only_what_is_named_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "x").unwrap();
        std::thread::spawn(move || {
            let writes = &["/proc/self/task"];
            if !confine(&Reach { reads: &["/etc"], writes, tcp: false }).unwrap() {
                return;
            }
            // An existing file can be written, but neither truncated nor created.
            let own = format!("/proc/self/task/{}/comm", gettid());
            let write = |path: &str| {
                let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
                std::io::Write::write_all(&mut file, b"x")
            };
            write(&own).unwrap();
            assert!(write("/proc/self/comm").is_err());
            assert!(std::fs::read("/etc/passwd").is_ok());
            assert!(std::fs::read(&path).is_err());
            assert!(std::fs::write("/etc/evervip-not-written", "x").is_err());
            assert!(std::fs::remove_file(&path).is_err());
        })
        .join()
        .unwrap();
        assert!(folder.path().join("file").exists());
    }
}
