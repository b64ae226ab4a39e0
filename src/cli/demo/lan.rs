//! The machines and the network of the demonstration, and the events on them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::net::if_::if_nametoindex;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rtnetlink::{LinkBridge, LinkUnspec, LinkVeth};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::{Error, VIP};
use crate::base::{Family, IfIndex, Mac};
use crate::sys::netns::{NetNs, end_with_us};
use crate::sys::tap::Tap;
use crate::wire::{ip, vrrp};

/// Directory of the demonstration's files, on a file system that only its processes see.
const FOLDER: &str = "/run/evervip-demo";

/// The interface of both machines, as their configurations name it.
const INTERFACE: &str = "enp0s8";

/// The command that shows the addresses of a machine.
pub const SHOW: &str = "ip -4 -brief addr show dev enp0s8";

/// One of the two machines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Machine {
    /// The primary.
    Svr1,
    /// The backup.
    Svr2,
}

/// An event.
#[derive(Debug)]
pub enum Word {
    /// An advert on the wire.
    Advert { from: Machine, at: Duration, priority: u8 },
    /// A gratuitous ARP for the virtual address.
    Announced { from: Machine, mac: Mac },
    /// A line of a daemon's log.
    Log { from: Machine, line: String },
    /// A daemon that was stopped has ended.
    Ended { from: Machine },
    /// There will be no more events.
    Silence,
}

/// The network and its machines.
pub struct Lan {
    program: PathBuf,
    wire: NetNs,
    ports: Arc<Mutex<BTreeMap<IfIndex, Machine>>>,
    running: BTreeMap<Machine, Running>,
    words: mpsc::UnboundedReceiver<Word>,
    speak: mpsc::UnboundedSender<Word>,
    last_advert: Option<Duration>,
}

/// A machine that is powered on.
struct Running {
    namespace: NetNs,
    daemon: Child,
}

impl Machine {
    pub const ALL: [Self; 2] = [Self::Svr1, Self::Svr2];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Svr1 => "svr1",
            Self::Svr2 => "svr2",
        }
    }

    pub const fn address(self) -> Ipv4Addr {
        match self {
            Self::Svr1 => Ipv4Addr::new(10, 0, 0, 71),
            Self::Svr2 => Ipv4Addr::new(10, 0, 0, 72),
        }
    }

    const fn configuration(self) -> &'static str {
        match self {
            Self::Svr1 => include_str!("../../../etc/examples/failover-primary.conf"),
            Self::Svr2 => include_str!("../../../etc/examples/failover-backup.conf"),
        }
    }
}

impl Lan {
    /// A network without machines.
    pub fn new(program: &Path) -> Result<Self, Error> {
        let wire = NetNs::create().map_err(|e| Error::Namespace("a network namespace", e))?;
        let tap = wire.inside(Tap::open).and_then(|tap| tap);
        let tap = tap.map_err(|e| Error::Io("listening to the wire", e))?;
        fs::create_dir(FOLDER).map_err(|e| Error::Io(FOLDER, e))?;
        let (speak, words) = mpsc::unbounded_channel();
        let ports = Arc::default();
        let (known, tell) = (Arc::clone(&ports), speak.clone());
        thread::spawn(move || overhear(&tap, &known, &tell));
        Ok(Self {
            program: program.to_owned(),
            wire,
            ports,
            running: BTreeMap::new(),
            words,
            speak,
            last_advert: None,
        })
    }

    /// Creates the machine, connects it and starts its daemon.
    pub async fn power_on(&mut self, machine: Machine) -> Result<(), Error> {
        let namespace = NetNs::create().map_err(|e| Error::Namespace("a network namespace", e))?;
        self.plug(machine, &namespace).await?;
        let daemon = namespace
            .inside(|| self.start(machine))
            .and_then(|started| started)
            .map_err(|e| Error::Io("starting evervipd", e))?;
        self.running.insert(machine, Running { namespace, daemon });
        Ok(())
    }

    /// Kills all processes of the machine at once, and removes the machine.
    pub fn power_off(&mut self, machine: Machine) -> Result<(), Error> {
        if let Some(off) = self.running.remove(&machine) {
            // The roles are in the process group of their supervisor: none of them can send a farewell.
            let group = pid(&off.daemon).map_err(|e| Error::Io("evervipd", e))?;
            killpg(group, Signal::SIGKILL).map_err(|e| Error::Io("killing evervipd", e.into()))?;
        }
        Ok(())
    }

    /// Tells the daemon of the machine to stop; returns the time of that.
    pub fn stop(&mut self, machine: Machine) -> Result<Duration, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some(mut ending) = self.running.remove(&machine) {
            let daemon = pid(&ending.daemon).map_err(|e| Error::Io("evervipd", e))?;
            kill(daemon, Signal::SIGTERM).map_err(|e| Error::Io("stopping evervipd", e.into()))?;
            let speak = self.speak.clone();
            tokio::spawn(async move {
                let _ = ending.daemon.wait().await;
                let _ = speak.send(Word::Ended { from: machine });
                drop(ending.namespace);
            });
        }
        Ok(now)
    }

    /// The next event.
    pub async fn next(&mut self) -> Word {
        // There is always a sender: this value itself.
        let word = self.words.recv().await.unwrap_or(Word::Silence);
        if let Word::Advert { at, .. } = word {
            self.last_advert = Some(at);
        }
        word
    }

    /// When the last advert was on the wire.
    pub fn last_advert(&self) -> Option<Duration> {
        self.last_advert
    }

    /// What [`SHOW`] prints on the machine; nothing when it has no power.
    pub fn addresses(&self, machine: Machine) -> Option<String> {
        let running = self.running.get(&machine)?;
        let mut words = SHOW.split(' ');
        let program = words.next().unwrap_or_default();
        let show = || std::process::Command::new(program).args(words).output();
        let output = running.namespace.inside(show).and_then(|output| output);
        Some(match output {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
            _ => "(the program `ip` of the package iproute2 is missing)\n".to_owned(),
        })
    }

    /// Lays a cable from the switch to the interface of a machine.
    async fn plug(&mut self, machine: Machine, namespace: &NetNs) -> Result<(), Error> {
        let port = machine.name();
        let switch = self.wire.inside(connect).and_then(|opened| opened);
        let switch = switch.map_err(|e| Error::Io("rtnetlink", e))?;
        let index = |namespace: &NetNs, name: &str| {
            let found = namespace.inside(|| if_nametoindex(name).map_err(io::Error::from));
            found.and_then(|index| index).map_err(|e| Error::Io("an interface", e))
        };
        if index(&self.wire, "lan").is_err() {
            let bridge = LinkBridge::new("lan").mcast_snooping(false).forward_delay(0);
            let request = switch.link().add(bridge.build());
            request.execute().await.map_err(|e| Error::Link("the bridge", e))?;
            let up = LinkUnspec::new_with_name("lan").up().build();
            switch.link().set(up).execute().await.map_err(|e| Error::Link("the bridge", e))?;
        }
        let lan = index(&self.wire, "lan")?;
        // The rest of a cable whose machine lost its power disappears a moment later: remove it now.
        if let Ok(old) = index(&self.wire, port) {
            let _ = switch.link().del(old).execute().await;
        }
        let other = LinkUnspec::new_with_name("other").setns_by_fd(namespace.as_raw_fd()).build();
        let pair = LinkVeth::new(port, "other").build();
        switch.link().add(pair).execute().await.map_err(|e| Error::Link("a cable", e))?;
        switch.link().set(other).execute().await.map_err(|e| Error::Link("a cable", e))?;
        let up = LinkUnspec::new_with_name(port).controller(lan).up().build();
        switch.link().set(up).execute().await.map_err(|e| Error::Link("a cable", e))?;
        let number = IfIndex(index(&self.wire, port)?);
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(number, machine);

        let inner = namespace.inside(connect).and_then(|opened| opened);
        let inner = inner.map_err(|e| Error::Io("rtnetlink", e))?;
        let theirs = index(namespace, "other")?;
        let name = LinkUnspec::new_with_index(theirs).name(INTERFACE).up().build();
        inner.link().set(name).execute().await.map_err(|e| Error::Link("an interface", e))?;
        let lo = LinkUnspec::new_with_name("lo").up().build();
        inner.link().set(lo).execute().await.map_err(|e| Error::Link("an interface", e))?;
        let address = inner.address().add(theirs, machine.address().into(), 24);
        address.execute().await.map_err(|e| Error::Link("an address", e))
    }

    /// Starts the daemon; to be called inside the machine's namespace.
    fn start(&self, machine: Machine) -> io::Result<Child> {
        let file = |suffix: &str| PathBuf::from(format!("{FOLDER}/{}{suffix}", machine.name()));
        fs::write(file(".conf"), machine.configuration())?;
        let mut command = Command::new(&self.program);
        command
            .args(["-n", "-l", "-G", "-D", "-f"])
            .arg(file(".conf"))
            .arg("-p")
            .arg(file(".pid"))
            .arg("-r")
            .arg(file("-vrrp.pid"))
            .arg("-c")
            .arg(file("-checkers.pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        end_with_us(command.as_std_mut());
        let mut daemon = command.spawn()?;
        if let Some(log) = daemon.stderr.take() {
            tokio::spawn(listen(log, machine, self.speak.clone()));
        }
        Ok(daemon)
    }
}

/// Nothing is left running if the demonstration is aborted.
impl Drop for Lan {
    fn drop(&mut self) {
        for machine in Machine::ALL {
            let _ = self.power_off(machine);
        }
    }
}

/// A connection to the kernel's network configuration, in the namespace of the thread.
fn connect() -> io::Result<rtnetlink::Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Forwards the lines of a log.
async fn listen(log: impl AsyncRead + Unpin, from: Machine, speak: mpsc::UnboundedSender<Word>) {
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if speak.send(Word::Log { from, line }).is_err() {
            return;
        }
    }
}

/// Reports frames on the wire until the receiver is gone.
fn overhear(
    tap: &Tap,
    ports: &Mutex<BTreeMap<IfIndex, Machine>>,
    tell: &mpsc::UnboundedSender<Word>,
) {
    let mut buffer = [0; 256];
    while let Ok(heard) = tap.next(&mut buffer) {
        let frame = buffer.get(..heard.length.min(buffer.len())).unwrap_or_default();
        let ports = ports.lock().unwrap_or_else(PoisonError::into_inner);
        let from = ports.get(&heard.interface).copied();
        if let Some(word) = from.and_then(|from| read(from, heard.at, frame))
            && tell.send(word).is_err()
        {
            return;
        }
    }
}

/// The frames of interest: adverts, and announcements of the virtual address.
fn read(from: Machine, at: Duration, frame: &[u8]) -> Option<Word> {
    let body = frame.get(14..)?;
    match frame.get(12..14)? {
        [8, 0] => {
            let (header, payload) = ip::decode(body).ok()?;
            (header.protocol == ip::VRRP).then_some(())?;
            let advert = vrrp::decode(payload, Family::V4).ok()?;
            Some(Word::Advert { from, at, priority: advert.priority })
        }
        [8, 6] => {
            let sender: [u8; 4] = body.get(14..18)?.try_into().ok()?;
            let target = body.get(24..28)?;
            let mac = Mac(body.get(8..14)?.try_into().ok()?);
            let own = sender == target && VIP == Ipv4Addr::from(sender).to_string();
            own.then_some(Word::Announced { from, mac })
        }
        _ => None,
    }
}

fn pid(child: &Child) -> io::Result<Pid> {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    id.map(Pid::from_raw).ok_or_else(|| io::ErrorKind::NotFound.into())
}
