//! The operating system's answers to the configuration language: files, accounts, interfaces, host names.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};

use crate::base::tls::{TlsMaterial, TlsRefusal};
use crate::base::{IfName, Prefix};
use crate::config::{Account, FileInfo, FileKind, Files, Host, Interface, ReadError, too_large};

/// How long a lease of another program on a file is waited for. Such programs give it up at once or not at all.
const LEASE: Duration = Duration::from_secs(1);
/// How often it is tried again meanwhile.
const STEP: Duration = Duration::from_millis(10);

/// This machine. Each question to the operating system is asked once and its answer kept.
#[derive(Debug, Default)]
pub struct Machine {
    interfaces: OnceCell<BTreeMap<IfName, Interface>>,
    /// User and group that programs run as by default; none: those of this process.
    user: Option<(u32, u32)>,
}

impl Machine {
    /// The current machine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, for a daemon that runs as this user and group.
    #[must_use]
    pub fn of_user(self, user: (u32, u32)) -> Self {
        Self { user: Some(user), ..self }
    }

    fn all_interfaces(&self) -> &BTreeMap<IfName, Interface> {
        self.interfaces.get_or_init(read_interfaces)
    }
}

impl Files for Machine {
    fn status(&self, path: &[u8]) -> Result<Option<(FileKind, u32)>, String> {
        let found = if_exists(fs::metadata(path_of(path)))?;
        Ok(found.map(|found| (kind(found.file_type()), found.mode())))
    }

    fn read(&self, path: &[u8], limit: usize) -> Result<Vec<u8>, ReadError> {
        let file = open(path).map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?;
        let made_up = nix::sys::statfs::fstatfs(&file).is_ok_and(|on| {
            // Reading one may block forever (/proc/kmsg), change something, or never end.
            matches!(
                on.filesystem_type(),
                nix::sys::statfs::PROC_SUPER_MAGIC
                    | nix::sys::statfs::SYSFS_MAGIC
                    | nix::sys::statfs::DEBUGFS_MAGIC
                    | nix::sys::statfs::TRACEFS_MAGIC
            )
        });
        if !found.is_file() || made_up {
            return Err(ReadError::Special);
        }
        if found.len() > limit as u64 {
            return Err(too_large(limit));
        }
        // One more octet, for the end: without it reading would double the buffer to find the end.
        let mut text = Vec::with_capacity(usize::try_from(found.len()).unwrap_or_default() + 64);
        // It may grow meanwhile.
        file.take(limit as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() > limit {
            return Err(too_large(limit));
        }
        Ok(text)
    }

    fn list(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let Some(entries) = if_exists(fs::read_dir(path_of(directory)))? else {
            return Ok(Vec::new());
        };
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_vec());
        entries.map(name).collect::<io::Result<_>>().map_err(|e| e.to_string())
    }

    fn current_directory(&self) -> Vec<u8> {
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")).into_os_string().into_vec()
    }
}

impl Host for Machine {
    fn host_name(&self) -> String {
        let name = nix::unistd::gethostname().unwrap_or_else(|_| OsString::from("localhost"));
        name.to_string_lossy().into_owned()
    }

    fn interface(&self, name: &IfName) -> Option<Interface> {
        self.all_interfaces().get(name).cloned()
    }

    fn interfaces(&self) -> Vec<IfName> {
        self.all_interfaces().keys().cloned().collect()
    }

    fn user(&self, name: &str) -> Option<Account> {
        let number = || User::from_uid(Uid::from_raw(name.parse().ok()?)).ok().flatten();
        let user = User::from_name(name).ok().flatten().or_else(number)?;
        Some(account(&user.name, user.uid, user.gid))
    }

    fn group(&self, name: &str) -> Option<u32> {
        let number = || name.parse().ok();
        let group = Group::from_name(name).ok().flatten();
        group.map(|g| g.gid.as_raw()).or_else(number)
    }

    fn user_name(&self, uid: u32) -> Option<String> {
        User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|u| u.name)
    }

    fn own_account(&self) -> Account {
        let (uid, gid) = match self.user {
            Some((uid, gid)) => (Uid::from_raw(uid), Gid::from_raw(gid)),
            None => (geteuid(), getegid()),
        };
        match User::from_uid(uid).ok().flatten() {
            Some(user) => account(&user.name, uid, gid),
            None => Account { uid: uid.as_raw(), gid: gid.as_raw(), groups: vec![gid.as_raw()] },
        }
    }

    fn resolve(&self, name: &str) -> Option<IpAddr> {
        (name, 0).to_socket_addrs().ok()?.next().map(|a| a.ip())
    }

    fn environment(&self, name: &str) -> Option<Vec<u8>> {
        std::env::var_os(name).map(OsString::into_vec)
    }

    fn inspect(&self, path: &[u8]) -> Option<FileInfo> {
        let found = fs::symlink_metadata(path_of(path)).ok()?;
        Some(FileInfo {
            kind: kind(found.file_type()),
            mode: found.mode(),
            uid: found.uid(),
            gid: found.gid(),
        })
    }

    fn read_link(&self, path: &[u8]) -> Option<Vec<u8>> {
        fs::read_link(path_of(path)).ok().map(|p| p.into_os_string().into_vec())
    }

    fn read_start(&self, path: &[u8], limit: usize) -> Option<Vec<u8>> {
        use std::io::Read;
        use std::os::unix::fs::OpenOptionsExt;
        let mut text = Vec::new();
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        // A pipe in its place must not block.
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path_of(path)).ok()?;
        file.take(limit).read_to_end(&mut text).ok()?;
        Some(text)
    }

    fn refuses_tls(&self, material: &TlsMaterial<'_>) -> Option<TlsRefusal> {
        super::tls::client_with(material).err()
    }

    fn processors(&self) -> u32 {
        let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
        online.ok().flatten().and_then(|n| u32::try_from(n).ok()).unwrap_or(1)
    }

    fn uptime(&self) -> Option<Duration> {
        let text = fs::read_to_string("/proc/uptime").ok()?;
        text.split_whitespace()
            .next()?
            .parse()
            .ok()
            .and_then(|s| Duration::try_from_secs_f64(s).ok())
    }

    fn seed(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs() ^ (u64::from(now.subsec_nanos()) << 32) ^ u64::from(std::process::id())
    }
}

/// Opens a file for reading. A lease of another program on it, which the kernel asks it to give up, is waited for.
fn open(path: &[u8]) -> io::Result<fs::File> {
    let until = Instant::now() + LEASE;
    loop {
        // Opening a pipe or a terminal must not block.
        let mut options = fs::OpenOptions::new();
        let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path_of(path));
        match opened {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                std::thread::sleep(STEP);
            }
            other => return other,
        }
    }
}

fn unreadable(error: io::Error) -> ReadError {
    ReadError::Unreadable(error.to_string())
}

/// None if there is no such file.
fn if_exists<T>(result: io::Result<T>) -> Result<Option<T>, String> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(e.to_string()),
    }
}

fn path_of(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

fn kind(kind: fs::FileType) -> FileKind {
    if kind.is_file() {
        FileKind::Regular
    } else if kind.is_dir() {
        FileKind::Directory
    } else if kind.is_symlink() {
        FileKind::Link
    } else {
        FileKind::Other
    }
}

fn account(name: &str, uid: Uid, gid: Gid) -> Account {
    let groups = CString::new(name)
        .ok()
        .and_then(|name| getgrouplist(&name, gid).ok())
        .unwrap_or_else(|| vec![gid]);
    Account {
        uid: uid.as_raw(),
        gid: gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    }
}

fn read_interfaces() -> BTreeMap<IfName, Interface> {
    let mut found: BTreeMap<IfName, Interface> = BTreeMap::new();
    let Ok(entries) = getifaddrs() else {
        return found;
    };
    for entry in entries {
        let Ok(name) = entry.interface_name.parse::<IfName>() else {
            continue;
        };
        let interface = found.entry(name).or_insert_with_key(|name| {
            let attribute = |file: &str| {
                fs::read_to_string(format!("/sys/class/net/{name}/{file}")).unwrap_or_default()
            };
            let kind = attribute("uevent");
            let loopback = entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
            Interface {
                addresses: Vec::new(),
                loopback,
                ethernet: match attribute("type").trim().parse::<u32>() {
                    Ok(kind) => kind == 1,
                    Err(_) => !loopback,
                },
                multicast: entry.flags.contains(InterfaceFlags::IFF_MULTICAST),
                mtu: attribute("mtu").trim().parse().unwrap_or(1500),
                stacked: kind.contains("DEVTYPE=macvlan") || kind.contains("DEVTYPE=ipvlan"),
                controller: fs::read_link(format!("/sys/class/net/{name}/master"))
                    .ok()
                    .and_then(|path| path.file_name()?.to_str()?.parse().ok()),
            }
        });
        let Some(address) = entry.address else {
            continue;
        };
        let (address, mask): (IpAddr, Option<u32>) = if let Some(address) = address.as_sockaddr_in()
        {
            let mask = entry.netmask.as_ref().and_then(|m| m.as_sockaddr_in());
            (address.ip().into(), mask.map(|m| m.ip().to_bits().count_ones()))
        } else if let Some(address) = address.as_sockaddr_in6() {
            let mask = entry.netmask.as_ref().and_then(|m| m.as_sockaddr_in6());
            (address.ip().into(), mask.map(|m| m.ip().to_bits().count_ones()))
        } else {
            continue;
        };
        let prefix = mask
            .and_then(|bits| Prefix::new(address, u8::try_from(bits).ok()?))
            .unwrap_or(Prefix::host(address));
        interface.addresses.push(prefix);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_of_another_program_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leased");
        fs::write(&path, "text").unwrap();
        let lease = crate::sys::testing::hold_up(&path);
        let path = path.as_os_str().as_bytes();
        // It is kept: reading fails, and does not try for ever.
        let kept = Machine::new().read(path, 100);
        assert!(
            matches!(&kept, Err(ReadError::Unreadable(why)) if why.contains("unavailable")),
            "{kept:?}"
        );
        // It is given up while reading waits.
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| Machine::new().read(path, 100));
            std::thread::sleep(3 * STEP);
            drop(lease);
            assert_eq!(reader.join().unwrap().unwrap(), b"text");
        });
    }

    #[test]
    fn special_and_endless_files_are_refused_before_they_are_read() {
        let machine = Machine::new();
        for made_up in
            ["/proc/kmsg", "/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"]
        {
            if machine.status(made_up.as_bytes()).unwrap().is_some() {
                let refused = machine.read(made_up.as_bytes(), 1 << 20);
                assert_eq!(refused, Err(ReadError::Special), "{made_up}");
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        // Larger than the memory of this machine: it must not be read.
        fs::File::create(&path).unwrap().set_len(1 << 42).unwrap();
        let path = path.as_os_str().as_bytes();
        assert_eq!(machine.read(path, 1 << 20), Err(too_large(1 << 20)));
        fs::write(path_of(path), "text").unwrap();
        assert_eq!(machine.read(path, 4).unwrap(), b"text");
        assert_eq!(machine.read(path, 3), Err(too_large(3)));
    }

    #[test]
    fn the_machine_knows_itself() {
        let machine = Machine::new();
        let lo = machine.interface(&"lo".parse().unwrap()).unwrap();
        assert!(lo.loopback);
        assert_eq!(machine.user("root").unwrap().uid, 0);
        assert_eq!(machine.user_name(0).as_deref(), Some("root"));
        assert_eq!(machine.user("no-such-user-here"), None);
        assert_eq!(machine.inspect(b"/").unwrap().kind, FileKind::Directory);
        assert_eq!(machine.status(b"/nonexistent"), Ok(None));
        assert!(machine.processors() >= 1);
    }
}
