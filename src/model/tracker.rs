//! Tracked objects: their condition decides whether an instance may be master, or changes its priority.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::notify::Command;
use crate::base::{IfName, Name};

/// A `vrrp_script`: a program that runs periodically and whose exit status is tracked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Its name, unique within a configuration.
    pub name: Name,
    pub command: Command,
    /// `interval`: time from one start to the next, 1 ms to 4294 s.
    pub interval: Duration,
    /// `timeout`: a run that takes longer is killed and counts as failed.
    pub timeout: Duration,
    /// `rise`: consecutive successes that make a bad script good, at least 1.
    pub rise: u32,
    /// `fall`: consecutive failures that make a good script bad, at least 1.
    pub fall: u32,
    /// `init_fail`: failed until the first result.
    pub init_fail: bool,
}

/// The effect of a tracked object's condition on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Weight {
    /// Weight 0: the instance is in FAULT while the object is bad (`reverse`: while it is good).
    Fault {
        /// `reverse`
        reverse: bool,
    },
    /// Any other weight: it is added to the priority while the object is good if positive, while it is bad
    /// if negative; `reverse` negates what is added.
    Priority {
        /// -254 to 254 for a file, else -253 to 253; not 0.
        weight: i16,
        /// `reverse`
        reverse: bool,
    },
}

impl Weight {
    /// Weight 0 without `reverse`.
    pub const FAULT: Self = Self::Fault { reverse: false };

    /// The weight for a configured number and `reverse`. Numbers beyond ±253 count as ±253.
    #[must_use]
    pub fn new(weight: i16, reverse: bool) -> Self {
        match weight {
            0 => Self::Fault { reverse },
            w => Self::Priority { weight: w.clamp(-253, 253), reverse },
        }
    }

    /// What an object with condition `good` adds to the priority of an instance.
    #[must_use]
    pub const fn contribution(self, good: bool) -> i16 {
        match self {
            Self::Priority { weight, reverse } if (weight > 0) == good => {
                if reverse {
                    -weight
                } else {
                    weight
                }
            }
            _ => 0,
        }
    }

    /// Whether an object with condition `good` keeps an instance in FAULT.
    #[must_use]
    pub const fn faults(self, good: bool) -> bool {
        matches!(self, Self::Fault { reverse } if reverse == good)
    }
}

/// An entry of `track_script`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedScript {
    /// Name of a [`Script`] of the same configuration.
    pub script: Name,
    /// Its effect on this instance.
    pub weight: Weight,
}

/// An entry of `track_interface`, or an interface that is tracked because an address or a route needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedInterface {
    /// The interface; it need not exist.
    pub interface: IfName,
    /// Its effect on this instance.
    pub weight: Weight,
}

/// An entry of `track_file`, `track_process` or `track_bfd`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// Name of the object, of the same configuration.
    pub name: Name,
    /// The weight of its condition, or of the content of a file: -254 to 254.
    pub weight: i16,
    /// `reverse`
    pub reverse: bool,
}

impl Tracked {
    /// Its effect on the instance.
    #[must_use]
    pub const fn effect(&self) -> Weight {
        let Self { weight, reverse, .. } = *self;
        match weight {
            0 => Weight::Fault { reverse },
            weight => Weight::Priority { weight, reverse },
        }
    }
}

/// A `track_file`: its content is a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackFile {
    pub name: Name,
    pub path: Box<[u8]>,
    /// `weight` by which the content is multiplied.
    pub weight: i16,
    /// `weight ... reverse`
    pub reverse: bool,
    /// `init_file`
    pub init: Option<InitFile>,
}

/// `init_file`: the value to write at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitFile {
    pub value: i32,
    /// Write it even if the file exists.
    pub overwrite: bool,
}

/// A `vrrp_track_process`: how many processes of a name run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackProcess {
    pub name: Name,
    /// The program and, if they count, its arguments.
    pub words: Vec<Box<[u8]>>,
    /// `param_match`; none if arguments do not count.
    pub arguments: Option<ArgumentMatch>,
    /// `full_command`: the first word of the command line is compared, not the short name.
    pub full_command: bool,
    /// `quorum`: smallest number of processes.
    pub quorum: u32,
    /// `quorum_max`: largest number of processes.
    pub quorum_max: Option<u32>,
    /// `terminate_delay`
    pub terminate_delay: Duration,
    /// `fork_delay`
    pub fork_delay: Duration,
}

/// How arguments are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArgumentMatch {
    /// All given ones, and no others.
    Exact,
    /// The given ones as a prefix.
    Partial,
    /// The given ones as a prefix; the last one may be longer.
    Initial,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_act_on_the_documented_side() {
        assert_eq!(Weight::new(20, false).contribution(true), 20);
        assert_eq!(Weight::new(20, false).contribution(false), 0);
        assert_eq!(Weight::new(-20, false).contribution(false), -20);
        assert_eq!(Weight::new(-20, false).contribution(true), 0);
        assert_eq!(Weight::new(20, true).contribution(true), -20);
        assert_eq!(Weight::new(-20, true).contribution(false), 20);
        assert_eq!(Weight::new(300, false), Weight::Priority { weight: 253, reverse: false });
        assert!(Weight::FAULT.faults(false) && !Weight::FAULT.faults(true));
        assert!(Weight::new(0, true).faults(true) && !Weight::new(0, true).faults(false));
        assert!(!Weight::new(1, false).faults(false));
    }
}
