//! The laboratory: machines, cables and observers of one test, made of namespaces and removed with it.

pub mod daemon;
pub mod follow;
pub mod frame;
pub mod guest;
pub mod inject;
pub mod ipvs;
pub mod kernel;
pub mod late;
pub mod monitor;
pub mod need;
pub mod node;
pub mod service;
pub mod switch;
pub mod temporary;
pub mod timeline;

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::Location;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use daemon::Program;
use follow::Halt;
use frame::{Advert, Frame};
use node::{Life, Node};
use switch::{Cable, Switch};
use timeline::{Event, Mark, Timeline, Wall, What};

/// How long a test waits for an expected event.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Why a test ends early.
#[derive(Debug)]
pub enum Stop {
    Fail(String),
    /// Something that the machine lacks, named.
    Skip(String),
}

pub type Res<T = ()> = Result<T, Stop>;

impl<E: std::error::Error> From<E> for Stop {
    #[track_caller]
    fn from(error: E) -> Self {
        let place = Location::caller();
        Self::Fail(format!("{error} [{}:{}]", place.file(), place.line()))
    }
}

pub fn fail(text: impl Display) -> Stop {
    Stop::Fail(text.to_string())
}

/// Fails the test with a message unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err($crate::lab::fail(format!(
                "{} [{}:{}: {}]", format!($($message)+), file!(), line!(), stringify!($condition)
            )));
        }
    };
}

/// Everything of one test.
pub struct Lab {
    pub subject: Program,
    timeline: Arc<Timeline>,
    halt: Arc<Halt>,
    switch: Option<Switch>,
    nodes: Vec<Node>,
    lives: Vec<Life>,
}

impl Lab {
    pub fn new() -> Res<Self> {
        late::watch();
        Ok(Self {
            subject: Program::subject(),
            timeline: Timeline::new(),
            halt: Arc::new(Halt::new()?),
            switch: None,
            nodes: Vec::new(),
            lives: Vec::new(),
        })
    }

    /// A new machine with no interface except `lo`.
    pub fn node(&mut self, name: &str) -> Res<Node> {
        let (timeline, halt) = (Arc::clone(&self.timeline), Arc::clone(&self.halt));
        let (node, life) = Node::boot(name, timeline, halt)?;
        self.lives.push(life);
        switch::quiet(&node)?;
        node.write("/etc/hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {name}\n"), 0o644)?;
        let fd = node.run(monitor::open)??;
        monitor::follow(fd, Arc::clone(&node.name), Arc::clone(&self.timeline), &self.halt);
        self.nodes.push(node.clone());
        Ok(node)
    }

    /// The machine that the tests run on, as a node: for the guest, which is discarded afterwards.
    pub fn outside(&mut self) -> Res<Node> {
        let node = Node::outside(Arc::clone(&self.timeline), Arc::clone(&self.halt))?;
        let fd = node.run(monitor::open)??;
        monitor::follow(fd, Arc::clone(&node.name), Arc::clone(&self.timeline), &self.halt);
        self.nodes.push(node.clone());
        Ok(node)
    }

    /// The number of machines.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// A new segment that cables can be plugged into.
    pub fn segment(&mut self, name: &str) -> Res {
        if self.switch.is_none() {
            let (timeline, halt) = (Arc::clone(&self.timeline), Arc::clone(&self.halt));
            self.switch = Some(Switch::new(Node::bare("switch", timeline, halt)?, &self.halt)?);
        }
        self.the_switch()?.segment(name)
    }

    /// Gives the node an interface on the segment, with addresses such as `10.0.0.71/24`.
    pub fn plug(
        &self,
        node: &Node,
        segment: &str,
        interface: &str,
        addresses: &[&str],
    ) -> Res<Cable> {
        let cable = self.the_switch()?.plug(node, segment, interface)?;
        let lines: String =
            addresses.iter().map(|a| format!("addr add {a} dev {interface}\n")).collect();
        node.ip(&lines)?;
        Ok(cable)
    }

    pub fn mark(&self) -> Mark {
        self.timeline.mark()
    }

    /// A remark in the report.
    pub fn note(&self, text: impl Display) {
        self.timeline.push(Wall::now(), &"test".into(), What::Note(text.to_string()));
    }

    pub fn after(&self, mark: Mark) -> After<'_> {
        After { timeline: &self.timeline, mark, limit: LIMIT }
    }

    pub fn always(&self) -> After<'_> {
        self.after(self.timeline.beginning())
    }

    /// The timeline, as text.
    pub fn report(&self) -> String {
        self.timeline.report()
    }

    /// The current addresses of all machines, as text.
    pub fn state(&self) -> String {
        let shown = self.nodes.iter().filter_map(|node| {
            let text = node.must(["ip", "addr"]).ok()?;
            Some(format!("\n== ip addr on {}\n{text}", node.name))
        });
        shown.collect()
    }

    pub fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    fn the_switch(&self) -> Res<&Switch> {
        self.switch.as_ref().ok_or_else(|| fail("the test made no segment"))
    }
}

/// The events after a mark, collected or waited for.
#[derive(Clone, Copy)]
pub struct After<'a> {
    timeline: &'a Timeline,
    mark: Mark,
    limit: Duration,
}

impl After<'_> {
    /// Replaces the deadline [`LIMIT`].
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Waits for an event that `pick` chooses.
    pub fn wait<T>(&self, what: &str, pick: impl FnMut(&Event) -> Option<T>) -> Res<T> {
        self.timeline.wait(self.mark, self.limit, what, pick)
    }

    /// All events so far that `pick` chooses.
    pub fn all<T>(&self, pick: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        self.timeline.collect(self.mark, pick)
    }

    /// Waits for a log line of the node that contains `text`; returns time and line.
    pub fn log(&self, node: &Node, text: &str) -> Res<(Wall, String)> {
        self.wait(&format!("log line of {} with `{text}`", node.name), |event| {
            logged(event, node).filter(|line| line.contains(text)).map(|line| (event.at, line))
        })
    }

    /// The log lines of the node so far that contain `text`.
    pub fn logs(&self, node: &Node, text: &str) -> Vec<String> {
        self.all(|event| logged(event, node).filter(|line| line.contains(text)))
    }

    /// The lines so far of one process of the node.
    pub fn said(&self, node: &Node, by: &str) -> Vec<String> {
        self.all(|event| match &event.what {
            What::Log { source, line } if event.node == node.name && **source == *by => {
                Some(line.clone())
            }
            _ => None,
        })
    }

    /// Waits until a process of the node prints exactly this line.
    pub fn says(&self, node: &Node, by: &str, text: &str) -> Res {
        self.wait(&format!("{by} on {} says `{text}`", node.name), |event| match &event.what {
            What::Log { source, line } if event.node == node.name && **source == *by => {
                (line == text).then_some(())
            }
            _ => None,
        })
    }

    /// Waits for an advert sent by the node that `choose` accepts.
    pub fn advert(
        &self,
        node: &Node,
        mut choose: impl FnMut(&Advert) -> bool,
    ) -> Res<(Wall, Advert)> {
        self.wait(&format!("advert of {}", node.name), |event| {
            sent(event, node).filter(&mut choose).map(|advert| (event.at, advert))
        })
    }

    /// Waits for an advert of the node that was on the wire after this time, however much the recorder has to read
    /// before.
    pub fn advert_after(
        &self,
        node: &Node,
        time: Wall,
        mut choose: impl FnMut(&Advert) -> bool,
    ) -> Res<(Wall, Advert)> {
        self.wait(&format!("advert of {} after the time", node.name), |event| {
            let advert = (event.at > time).then(|| sent(event, node))?;
            advert.filter(&mut choose).map(|advert| (event.at, advert))
        })
    }

    /// Waits until the node has sent this many adverts.
    pub fn some_adverts(&self, node: &Node, count: usize) -> Res<Vec<(Wall, Advert)>> {
        let what = format!("{count} adverts of {}", node.name);
        self.timeline.wait_for(self.mark, self.limit, &what, count, |event| {
            Some((event.at, sent(event, node)?))
        })
    }

    /// The adverts that the node has sent so far.
    pub fn adverts(&self, node: &Node) -> Vec<(Wall, Advert)> {
        self.all(|event| Some((event.at, sent(event, node)?)))
    }

    /// Times and frames of the announcements of `address` by the node so far.
    pub fn garps(&self, node: &Node, address: Ipv4Addr) -> Vec<(Wall, frame::Arp)> {
        self.all(|event| Some((event.at, announced(event, node, address)?)))
    }

    /// Waits until the node has announced `address` this many times.
    pub fn some_garps(
        &self,
        node: &Node,
        address: Ipv4Addr,
        count: usize,
    ) -> Res<Vec<(Wall, frame::Arp)>> {
        let what = format!("{count} announcements of {address} by {}", node.name);
        self.timeline.wait_for(self.mark, self.limit, &what, count, |event| {
            Some((event.at, announced(event, node, address)?))
        })
    }

    /// Waits until `address` is added to (or with `false` removed from) an interface of the node.
    pub fn address(&self, node: &Node, address: &str, added: bool) -> Res<Wall> {
        let wanted: IpAddr = address.parse()?;
        let what =
            format!("{address} {} {}", if added { "added to" } else { "removed from" }, node.name);
        self.wait(&what, |event| match &event.what {
            What::Kernel(change) if event.node == node.name => {
                (change.address(added) == Some(wanted)).then_some(event.at)
            }
            _ => None,
        })
    }

    /// The commands so far that changed the IPVS table of the node, if it is monitored.
    pub fn ipvs(&self, node: &Node) -> Vec<String> {
        self.all(|event| match &event.what {
            What::Ipvs(command) if event.node == node.name => Some(command.to_string()),
            _ => None,
        })
    }

    /// The events of the node's kernel so far, as text.
    pub fn kernel(&self, node: &Node) -> Vec<String> {
        self.all(|event| match &event.what {
            What::Kernel(change) if event.node == node.name => Some(change.to_string()),
            _ => None,
        })
    }
}

/// The path of this test program, read before any namespace is entered.
pub fn own_program() -> Res<PathBuf> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = PATH.get() {
        return Ok(path.clone());
    }
    let path = std::env::current_exe()?;
    Ok(PATH.get_or_init(|| path).clone())
}

fn logged(event: &Event, node: &Node) -> Option<String> {
    match &event.what {
        What::Log { line, .. } if event.node == node.name => Some(line.clone()),
        _ => None,
    }
}

fn sent(event: &Event, node: &Node) -> Option<Advert> {
    match &event.what {
        What::Frame(Frame::Advert(advert)) if event.node == node.name => Some(advert.clone()),
        _ => None,
    }
}

fn announced(event: &Event, node: &Node, address: Ipv4Addr) -> Option<frame::Arp> {
    match &event.what {
        What::Frame(Frame::Arp(arp)) if event.node == node.name && arp.announces(address) => {
            Some(arp.clone())
        }
        _ => None,
    }
}
