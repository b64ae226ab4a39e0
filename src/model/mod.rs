//! The running configuration, after every default, inheritance and check.
//!
//! A [`Model`] is built by the configuration role (or by a test) and sent to the other roles. It contains no source
//! positions and no original text; invalid values cannot be represented (a VRID of 0, a weight of 300, a track_script
//! naming nothing). `config` turns a `keepalived.conf` into a model; the engines implement it.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

pub mod address;
pub mod checker;
pub mod diff;
pub mod extras;
pub mod filter;
pub mod global;
pub mod group;
pub mod link;
pub mod notify;
pub mod pattern;
pub mod route;
pub mod sample;
pub mod service;
pub mod shared;
pub mod tracker;
pub mod unique;
pub mod vrrp;

pub use address::{Address, Lifetime};
pub use checker::{Checker, CheckerKind, Connection};
pub use filter::FilterSettings;
pub use global::{Global, Mail};
pub use group::SyncGroup;
pub use link::{LinkKind, VirtualLink};
pub use notify::{Command, NotifyCommands, User};
pub use route::Route;
pub use service::{Forward, Lvs, RealServer, Service, ServiceId, ServiceKey};
pub use shared::Shared;
pub use tracker::{Script, TrackedInterface, TrackedScript, Weight};
pub use vrrp::{Instance, SyncSettings, Vrrp};

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Settings of the daemon as a whole.
    pub global: Global,
    /// Virtual routers and what they track.
    pub vrrp: Vrrp,
    /// Virtual servers and their health checks.
    pub lvs: Lvs,
}
