//! Questions of the configuration language to the machine: accounts, interfaces, permissions, names.
//!
//! The core only defines the questions. `sys::host` asks the operating system; [`StaticHost`] answers from a
//! table, for tests and fuzzing.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::base::tls::{TlsMaterial, TlsRefusal};
use crate::base::{Family, IfName, Prefix};

/// An account of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
}

/// An interface of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its addresses with the lengths of their prefixes.
    pub addresses: Vec<Prefix>,
    /// It is the loopback interface.
    pub loopback: bool,
    /// It has Ethernet addresses.
    pub ethernet: bool,
    /// It supports multicast.
    pub multicast: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// It is a macvlan or ipvlan interface.
    pub stacked: bool,
    /// The VRF, bridge or bond that it belongs to.
    pub controller: Option<IfName>,
}

/// The kind of file at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    Directory,
    /// A symbolic link.
    Link,
    Other,
}

/// The metadata of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    pub kind: FileKind,
    /// Permission bits, set-id and sticky bits included.
    pub mode: u32,
    /// The user it belongs to.
    pub uid: u32,
    /// The group it belongs to.
    pub gid: u32,
}

/// The machine on which the configuration runs. Paths are octets: file names have no character set.
pub trait Host {
    /// The node name.
    fn host_name(&self) -> String;
    /// The interface, if it exists now.
    fn interface(&self, name: &IfName) -> Option<Interface>;
    /// Names of all interfaces.
    fn interfaces(&self) -> Vec<IfName>;
    /// The account with this name or number.
    fn user(&self, name: &str) -> Option<Account>;
    /// The group with this name or number.
    fn group(&self, name: &str) -> Option<u32>;
    /// The name of a user id, for messages.
    fn user_name(&self, uid: u32) -> Option<String>;
    /// The account the daemon runs as.
    fn own_account(&self) -> Account;
    /// An address of a host name; none if it does not resolve now.
    fn resolve(&self, name: &str) -> Option<IpAddr>;
    /// An environment variable.
    fn environment(&self, name: &str) -> Option<Vec<u8>>;
    /// The file itself, without following a link.
    fn inspect(&self, path: &[u8]) -> Option<FileInfo>;
    /// The target of a symbolic link.
    fn read_link(&self, path: &[u8]) -> Option<Vec<u8>>;
    /// At most `limit` bytes of the beginning of a file.
    fn read_start(&self, path: &[u8], limit: usize) -> Option<Vec<u8>>;
    /// Why the TLS library cannot use this material; none if it can.
    fn refuses_tls(&self, material: &TlsMaterial<'_>) -> Option<TlsRefusal>;
    /// Number of processors online.
    fn processors(&self) -> u32;
    /// Time since the machine started.
    fn uptime(&self) -> Option<Duration>;
    /// A seed for random numbers in the configuration.
    fn seed(&self) -> u64;
}

/// A machine that records whether it is asked.
pub(super) struct Watched<'a> {
    host: &'a dyn Host,
    asked: Rc<Cell<bool>>,
}

impl<'a> Watched<'a> {
    pub(super) const fn new(host: &'a dyn Host, asked: Rc<Cell<bool>>) -> Self {
        Self { host, asked }
    }

    fn ask(&self) -> &dyn Host {
        self.asked.set(true);
        self.host
    }
}

impl Host for Watched<'_> {
    fn host_name(&self) -> String {
        self.ask().host_name()
    }

    fn interface(&self, name: &IfName) -> Option<Interface> {
        self.ask().interface(name)
    }

    fn interfaces(&self) -> Vec<IfName> {
        self.ask().interfaces()
    }

    fn user(&self, name: &str) -> Option<Account> {
        self.ask().user(name)
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.ask().group(name)
    }

    fn user_name(&self, uid: u32) -> Option<String> {
        self.ask().user_name(uid)
    }

    fn own_account(&self) -> Account {
        self.ask().own_account()
    }

    fn resolve(&self, name: &str) -> Option<IpAddr> {
        self.ask().resolve(name)
    }

    fn environment(&self, name: &str) -> Option<Vec<u8>> {
        self.ask().environment(name)
    }

    fn inspect(&self, path: &[u8]) -> Option<FileInfo> {
        self.ask().inspect(path)
    }

    fn read_link(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.ask().read_link(path)
    }

    fn read_start(&self, path: &[u8], limit: usize) -> Option<Vec<u8>> {
        self.ask().read_start(path, limit)
    }

    fn refuses_tls(&self, material: &TlsMaterial<'_>) -> Option<TlsRefusal> {
        self.ask().refuses_tls(material)
    }

    fn processors(&self) -> u32 {
        self.ask().processors()
    }

    fn uptime(&self) -> Option<Duration> {
        self.ask().uptime()
    }

    fn seed(&self) -> u64 {
        self.ask().seed()
    }
}

/// A machine described by a table: for tests and fuzzing.
///
/// By default there are no interfaces, every program below `/usr/bin`, and the account `root`.
#[derive(Clone, Debug)]
pub struct StaticHost {
    /// The node name.
    pub name: String,
    /// Interfaces; `*` stands for all names.
    pub interfaces: Vec<(String, Interface)>,
    /// Users with their ids; the group has the same name and id.
    pub users: Vec<(String, u32)>,
    /// Names that resolve.
    pub hosts: Vec<(String, IpAddr)>,
    /// Environment variables.
    pub variables: Vec<(String, Vec<u8>)>,
    /// Files that exist besides the programs.
    pub files: Vec<(String, FileInfo)>,
    /// The targets of those that are symbolic links.
    pub links: Vec<(String, Vec<u8>)>,
    /// Names of programs in `/usr/bin`, which is the same as `/bin`; none for all names.
    pub programs: Option<Vec<String>>,
    /// Time since the machine started.
    pub uptime: Option<Duration>,
    pub seed: u64,
}

impl Default for StaticHost {
    fn default() -> Self {
        Self {
            name: "node1".into(),
            interfaces: Vec::new(),
            users: vec![("root".into(), 0)],
            hosts: vec![("localhost".into(), IpAddr::from([127, 0, 0, 1]))],
            variables: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            programs: None,
            uptime: None,
            seed: 1,
        }
    }
}

impl StaticHost {
    /// The same host with an Ethernet interface `name` that has `addresses`.
    #[must_use]
    pub fn with_interface(mut self, name: &str, addresses: &[Prefix]) -> Self {
        let mut interface = Interface::ethernet();
        interface.addresses = addresses.to_vec();
        self.interfaces.push((name.into(), interface));
        self
    }

    /// The same host, on which every interface exists.
    #[must_use]
    pub fn with_all_interfaces(self) -> Self {
        self.with_interface("*", &[])
    }
}

impl Interface {
    /// The interface's own address that equals a virtual address, if there is one. A virtual address added by a master
    /// does not count: it came after the first address of the interface.
    #[must_use]
    pub fn own(&self, wanted: Prefix) -> Option<Prefix> {
        let same = |p: &&Prefix| p.address == wanted.address;
        let other = self.addresses.iter().find(|p| same(p) && p.length() != wanted.length());
        let mut of_family = self.addresses.iter().filter(|p| p.family() == wanted.family());
        // The kernel lists IPv4 addresses from the oldest one, IPv6 addresses from the newest.
        let oldest = match wanted.family() {
            Family::V4 => of_family.next(),
            Family::V6 => of_family.rfind(|p| !link_local(&p.address)),
        };
        other.or(oldest.filter(same)).filter(|_| !self.loopback).copied()
    }

    /// A plain Ethernet interface without addresses.
    #[must_use]
    pub const fn ethernet() -> Self {
        Self {
            addresses: Vec::new(),
            loopback: false,
            ethernet: true,
            multicast: true,
            mtu: 1500,
            stacked: false,
            controller: None,
        }
    }
}

/// Whether an address is only valid on one link.
pub(crate) const fn link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

const PROGRAM: FileInfo = FileInfo { kind: FileKind::Regular, mode: 0o755, uid: 0, gid: 0 };

const DIRECTORY: FileInfo = FileInfo { kind: FileKind::Directory, mode: 0o755, uid: 0, gid: 0 };

impl Host for StaticHost {
    fn host_name(&self) -> String {
        self.name.clone()
    }

    fn interface(&self, name: &IfName) -> Option<Interface> {
        let known = |n: &str| n == name.as_str() || (n == "*" && name.as_str() != "lo");
        self.interfaces.iter().find(|(n, _)| known(n)).map(|(_, i)| i.clone())
    }

    fn interfaces(&self) -> Vec<IfName> {
        self.interfaces.iter().filter_map(|(n, _)| n.parse().ok()).collect()
    }

    fn user(&self, name: &str) -> Option<Account> {
        let (_, id) = self.users.iter().find(|(n, id)| n == name || id.to_string() == name)?;
        Some(Account { uid: *id, gid: *id, groups: vec![*id] })
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.user(name).map(|u| u.gid)
    }

    fn user_name(&self, uid: u32) -> Option<String> {
        self.users.iter().find(|(_, id)| *id == uid).map(|(n, _)| n.clone())
    }

    fn own_account(&self) -> Account {
        Account { uid: 0, gid: 0, groups: vec![0] }
    }

    fn resolve(&self, name: &str) -> Option<IpAddr> {
        self.hosts.iter().find(|(n, _)| n == name).map(|(_, a)| *a)
    }

    fn environment(&self, name: &str) -> Option<Vec<u8>> {
        self.variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    fn inspect(&self, path: &[u8]) -> Option<FileInfo> {
        let found = self.files.iter().find(|(n, _)| n.as_bytes() == path);
        match (found, path) {
            (Some((_, info)), _) => Some(*info),
            (None, b"/" | b"/usr" | b"/usr/bin" | b"/tmp" | b"/etc" | b"/bin") => Some(DIRECTORY),
            (None, _) => {
                let name = path.strip_prefix(b"/usr/bin/").or(path.strip_prefix(b"/bin/"))?;
                let known = match &self.programs {
                    Some(names) => names.iter().any(|n| n.as_bytes() == name),
                    None => true,
                };
                known.then_some(PROGRAM)
            }
        }
    }

    fn read_link(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.links.iter().find(|(n, _)| n.as_bytes() == path).map(|(_, target)| target.clone())
    }

    fn read_start(&self, path: &[u8], _limit: usize) -> Option<Vec<u8>> {
        self.inspect(path).map(|_| b"#!/bin/sh\n".to_vec())
    }

    fn refuses_tls(&self, _: &TlsMaterial<'_>) -> Option<TlsRefusal> {
        None
    }

    fn processors(&self) -> u32 {
        4
    }

    fn uptime(&self) -> Option<Duration> {
        self.uptime
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
