//! Why instances changed their state: causes as values, their view, and their words.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::vrrp::State;
use crate::base::{Instant, Name};

/// Number of changes of state that are remembered for each instance: the one that led to the present state, and five.
pub const CHANGES: usize = 6;
/// Number of faults, or of trackers, that a cause names at most.
pub const NAMED: usize = 4;

/// Why the instances are in their states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histories {
    /// Time of the view.
    pub at: Instant,
    /// The instances, in the order of the configuration.
    pub instances: Vec<InstanceHistory>,
}

impl Histories {
    /// Joins this part of a view with the next one.
    #[must_use]
    pub fn joined(mut self, next: Self) -> Self {
        self.instances.extend(next.instances);
        Self { at: next.at, instances: self.instances }
    }
}

/// The last changes of state of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceHistory {
    pub name: Name,
    pub state: State,
    /// When it entered the state.
    pub since: Instant,
    /// Its priority now.
    pub ours: Ours,
    /// The router that it follows, and the priority of that one.
    pub master: Option<(IpAddr, u8)>,
    /// At most [`CHANGES`], the newest one first.
    pub changes: Vec<Change>,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub at: Instant,
    pub from: State,
    pub to: State,
    pub cause: Cause,
}

/// Why a state changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The daemon, or its process for virtual routers, started.
    Started,
    /// The daemon stops.
    Stopped,
    /// It was master until the previous process ended, which was too short ago for another router to take over.
    Resumed,
    /// It owns its addresses (priority 255) and starts as master.
    Owner,
    /// A reload added it.
    Added,
    /// A reload made it another virtual router.
    Moved,
    /// A better master was heard.
    Advert { from: IpAddr, priority: u8, ours: Ours },
    /// A master that keeps advertising another number of addresses is not worse: the lower one of the two yields.
    Disagreement { from: IpAddr, priority: u8, ours: Ours },
    /// Nothing was heard for too long.
    Silence {
        /// The master that was heard last, and its priority; none if there was none.
        of: Option<(IpAddr, u8)>,
        /// How long.
        time: Duration,
    },
    /// The master sent priority 0.
    Farewell { from: IpAddr },
    /// The master that is heard has a lower priority.
    Lower { from: IpAddr, priority: u8, ours: Ours },
    /// The process was held up for so long that another router must be master (`timer_expired_backup`).
    HeldUp { time: Duration },
    /// It cannot take part, for these reasons.
    Faults(Vec<Fault>),
    /// The last reason why it could not take part is gone; none if it is not known which one that was.
    Recovered(Option<Fault>),
    /// It follows another member of its sync group.
    Group {
        member: Name,
        /// Why that one changed its state.
        cause: Box<Cause>,
    },
}

/// Our priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ours {
    pub effective: u8,
    pub configured: u8,
    /// What makes the difference, with what each adds to it.
    pub by: Vec<(Tracked, i16)>,
}

/// A reason why an instance cannot take part, or, at its end, why it can again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// Of its own, in words.
    Own(String),
    /// Something that it tracks.
    Tracked(Tracked),
}

/// Something that is tracked, and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    pub kind: Kind,
    /// Empty for virtual servers.
    pub name: Name,
    /// Whether it is good; none if that is unknown, and of a file.
    pub good: Option<bool>,
    /// The number in a file.
    pub value: Option<i32>,
}

/// What kind of object is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Interface,
    Script,
    File,
    Process,
    Bfd,
    /// Whether the virtual servers of the configuration can be served.
    VirtualServers,
}

impl Kind {
    /// `interface`, `script`, `file`, `process`, `bfd` or `virtual_servers`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Script => "script",
            Self::File => "file",
            Self::Process => "process",
            Self::Bfd => "bfd",
            Self::VirtualServers => "virtual_servers",
        }
    }
}

impl Cause {
    /// Whether it is that the instance exists: that is so for each one by itself.
    #[must_use]
    pub const fn is_of_configuration(&self) -> bool {
        matches!(self, Self::Started | Self::Added | Self::Moved)
    }

    /// A word for programs.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Resumed => "resumed",
            Self::Owner => "owner",
            Self::Added => "added",
            Self::Moved => "moved",
            Self::Advert { .. } => "advert",
            Self::Disagreement { .. } => "disagreement",
            Self::Silence { .. } => "silence",
            Self::Farewell { .. } => "farewell",
            Self::Lower { .. } => "lower_priority",
            Self::HeldUp { .. } => "held_up",
            Self::Faults(_) => "fault",
            Self::Recovered(_) => "recovered",
            Self::Group { .. } => "group",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("the process started"),
            Self::Stopped => f.write_str("the daemon stops"),
            Self::Resumed => f.write_str("it was master until the previous process ended"),
            Self::Owner => f.write_str("it owns its addresses (priority 255) and starts as master"),
            Self::Added => f.write_str("a reload added it"),
            Self::Moved => f.write_str("a reload made it another virtual router"),
            Self::Advert { from, priority, ours } if *priority == ours.effective => write!(
                f,
                "an advert of {from}: the same priority, {ours}, and a higher address than ours"
            ),
            Self::Advert { from, priority, ours } => {
                write!(f, "an advert of {from}: priority {priority}, ours is {ours}")
            }
            Self::Disagreement { from, priority, ours } => write!(
                f,
                "{from} keeps advertising another number of addresses, with priority {priority}, ours is {ours}"
            ),
            Self::Silence { of: Some((master, priority)), time } => write!(
                f,
                "no advert of {master} (priority {priority}) for {:.3} s",
                time.as_secs_f64()
            ),
            Self::Silence { of: None, time } => {
                write!(f, "no advert of any master for {:.3} s", time.as_secs_f64())
            }
            Self::Farewell { from } => write!(f, "{from} ceased to be master (priority 0)"),
            Self::Lower { from, priority, ours } => {
                write!(f, "the master {from} has priority {priority}, ours is {ours}")
            }
            Self::HeldUp { time } => write!(
                f,
                "this process was held up for {:.3} s: another router must be master",
                time.as_secs_f64()
            ),
            Self::Faults(faults) if faults.is_empty() => {
                f.write_str("another member of its group cannot take part")
            }
            Self::Faults(faults) => {
                for (n, fault) in faults.iter().enumerate() {
                    write!(f, "{}{fault}", if n > 0 { "; " } else { "" })?;
                }
                Ok(())
            }
            Self::Recovered(None) => f.write_str("it can take part again"),
            Self::Recovered(Some(fault)) => write!(f, "it can take part again: {fault}"),
            Self::Group { member, cause } => write!(f, "it follows {member} of its group: {cause}"),
        }
    }
}

impl fmt::Display for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { effective, configured, by } = self;
        write!(f, "{effective}")?;
        if effective == configured {
            return Ok(());
        }
        write!(f, " (configured {configured}")?;
        for (tracked, effect) in by {
            write!(f, ", {tracked}: {effect:+}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(text) => f.write_str(text),
            Self::Tracked(tracked) => tracked.fmt(f),
        }
    }
}

impl fmt::Display for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, good, value } = self;
        let is = match (kind, good) {
            (Kind::Interface, Some(true)) => "is up",
            (Kind::Interface, Some(false)) => "is down",
            (Kind::Process, Some(true)) => "runs",
            (Kind::Process, Some(false)) => "does not run",
            (Kind::Bfd, Some(true)) => "is up",
            (Kind::Bfd, Some(false)) => "is down",
            (_, Some(true)) => "is good",
            (_, Some(false)) => "is bad",
            (_, None) => "is unknown",
        };
        match (kind, value) {
            (Kind::VirtualServers, _) if *good == Some(true) => {
                f.write_str("IPVS works and serves all virtual servers")
            }
            (Kind::VirtualServers, _) => {
                f.write_str("IPVS does not work or refuses a virtual server")
            }
            (Kind::Bfd, _) => write!(f, "BFD instance {name} {is}"),
            (_, Some(value)) => write!(f, "{} {name} has {value}", kind.word()),
            (_, None) => write!(f, "{} {name} {is}", kind.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(kind: Kind, good: Option<bool>, value: Option<i32>) -> Tracked {
        Tracked { kind, name: "x".into(), good, value }
    }

    #[test]
    fn causes_have_words() {
        let from = [10, 0, 0, 1].into();
        let script = tracked(Kind::Script, Some(false), None);
        let ours = Ours { effective: 80, configured: 100, by: vec![(script.clone(), -20)] };
        let same = Ours { effective: 100, configured: 100, by: Vec::new() };
        let time = Duration::from_micros(3_609_375);
        let fault =
            Cause::Faults(vec![Fault::Own("interface eth0 down".into()), Fault::Tracked(script)]);
        for (cause, text) in [
            (
                Cause::Advert { from, priority: 90, ours },
                "an advert of 10.0.0.1: priority 90, ours is 80 (configured 100, script x is bad: -20)",
            ),
            (
                Cause::Advert { from, priority: 100, ours: same },
                "an advert of 10.0.0.1: the same priority, 100, and a higher address than ours",
            ),
            (
                Cause::Silence { of: Some((from, 200)), time },
                "no advert of 10.0.0.1 (priority 200) for 3.609 s",
            ),
            (Cause::Silence { of: None, time }, "no advert of any master for 3.609 s"),
            (
                Cause::Group { member: "A".into(), cause: Box::new(fault) },
                "it follows A of its group: interface eth0 down; script x is bad",
            ),
        ] {
            assert_eq!(cause.to_string(), text);
        }
        for (tracked, text) in [
            (tracked(Kind::File, None, Some(-3)), "file x has -3"),
            (tracked(Kind::Interface, Some(true), None), "interface x is up"),
            (tracked(Kind::Process, Some(false), None), "process x does not run"),
            (tracked(Kind::Bfd, Some(false), None), "BFD instance x is down"),
            (
                tracked(Kind::VirtualServers, Some(false), None),
                "IPVS does not work or refuses a virtual server",
            ),
            (tracked(Kind::Script, None, None), "script x is unknown"),
        ] {
            assert_eq!(tracked.to_string(), text);
        }
    }
}
