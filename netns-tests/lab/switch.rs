//! The network of a test: one namespace with a bridge per segment and a port per cable, and a capture of all ports.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{SockFilter, SockRef};

use super::Res;
use super::follow::Halt;
use super::frame::Frame;
use super::node::Node;
use super::timeline::{Timeline, Wall, What};

/// Drops what a port sends towards its node (packet type 4), before it takes room in the queue of the socket: a flood is
/// recorded once, where it comes from.
const RECEIVED_ONLY: [SockFilter; 4] = [
    // BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_PKTTYPE
    SockFilter::new(0x20, 0, 0, 0xffff_f004),
    // BPF_JMP | BPF_JEQ | BPF_K
    SockFilter::new(0x15, 0, 1, 4),
    // BPF_RET | BPF_K: nothing, and all of it.
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, 0x0004_0000),
];

/// The switch of a test.
pub struct Switch {
    node: Node,
    /// The node of each port, by the index of the port.
    ports: Arc<Mutex<BTreeMap<usize, Arc<str>>>>,
}

/// A cable between a node and a segment.
#[derive(Clone)]
pub struct Cable {
    switch: Node,
    port: String,
}

impl Switch {
    /// Takes over a node as the switch and begins to capture.
    pub fn new(node: Node, halt: &Halt) -> Res<Self> {
        let ports: Arc<Mutex<BTreeMap<usize, Arc<str>>>> = Arc::default();
        let fd = node.run(capture)??;
        quiet(&node)?;
        follow(fd, Arc::clone(&ports), Arc::clone(node.timeline()), halt);
        Ok(Self { node, ports })
    }

    /// Makes a segment.
    pub fn segment(&self, name: &str) -> Res {
        self.node.ip(&format!(
            "link add {name} type bridge mcast_snooping 0 forward_delay 0\nlink set {name} up\n"
        ))
    }

    /// Connects a segment to a new interface of the node, which is up afterwards.
    pub fn plug(&self, node: &Node, segment: &str, interface: &str) -> Res<Cable> {
        let port = format!("{}.{segment}", node.name);
        self.node.ip(&format!(
            "link add {port} type veth peer name {interface} netns {}\n\
             link set {port} master {segment}\n",
            node.first
        ))?;
        let index = self.node.run({
            let port = port.clone();
            move || if_nametoindex(port.as_str())
        })??;
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.insert(usize::try_from(index)?, Arc::clone(&node.name));
        drop(ports);
        self.node.ip(&format!("link set {port} up\n"))?;
        node.ip(&format!("link set {interface} up\n"))?;
        Ok(Cable { switch: self.node.clone(), port })
    }
}

impl Cable {
    /// Pulls the plug: the node loses its carrier.
    pub fn cut(&self) -> Res {
        self.switch.ip(&format!("link set {} down\n", self.port))
    }

    pub fn mend(&self) -> Res {
        self.switch.ip(&format!("link set {} up\n", self.port))
    }

    /// Drops everything in both directions while the carrier stays.
    pub fn block(&self) -> Res {
        self.switch.must(["bridge", "link", "set", "dev", &self.port, "state", "0"]).map(drop)
    }

    pub fn unblock(&self) -> Res {
        self.switch.must(["bridge", "link", "set", "dev", &self.port, "state", "3"]).map(drop)
    }
}

/// Disables IPv6 on interfaces created from now on; tests that need it enable it again.
pub fn quiet(node: &Node) -> Res {
    node.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    node.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
    node.ip("link set lo up\n")
}

fn capture() -> Res<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    SockRef::from(&fd).attach_filter(&RECEIVED_ONLY)?;
    setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&fd, sockopt::RxqOvfl, &1)?;
    // A flood must not displace the relevant frames.
    setsockopt(&fd, sockopt::RcvBufForce, &(256 << 20))?;
    Ok(fd)
}

fn follow(
    fd: OwnedFd,
    ports: Arc<Mutex<BTreeMap<usize, Arc<str>>>>,
    timeline: Arc<Timeline>,
    halt: &Halt,
) {
    let mut buffer = vec![0; 1 << 16];
    let mut lost = 0;
    halt.follow(fd, move |fd| {
        while let Some(received) = receive(fd, &mut buffer) {
            timeline.lost("frames", &mut lost, received.lost);
            let ports = ports.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(node), Some(frame)) =
                (ports.get(&received.port), buffer.get(..received.length).and_then(Frame::read))
            {
                timeline.push(received.at, node, What::Frame(frame));
            }
        }
        true
    });
}

/// A frame in the buffer.
struct Received {
    at: Wall,
    /// The index of the port.
    port: usize,
    length: usize,
    /// How many frames the socket had no room for so far.
    lost: u32,
}

fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> Option<Received> {
    let mut space = nix::cmsg_space!(TimeSpec, u32);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::empty();
    let message = recvmsg::<LinkAddr>(fd.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
    let (mut at, mut lost) = (None, 0);
    for control in message.cmsgs().into_iter().flatten() {
        match control {
            ControlMessageOwned::ScmTimestampns(time) => {
                at = Some(Wall(time.tv_sec() * 1_000_000_000 + time.tv_nsec()));
            }
            ControlMessageOwned::RxqOvfl(count) => lost = count,
            _ => {}
        }
    }
    let port = message.address.map_or(0, |address| address.ifindex());
    Some(Received { at: at.unwrap_or_else(Wall::now), port, length: message.bytes, lost })
}
