//! From the wanted and the observed state to the necessary operations, in an order that causes no interruption.
//!
//! Pure comparison: no kernel is asked here. Engines hand the resulting operations to the shell, which answers
//! each of them with an outcome.
//!
//! | file | concern |
//! |---|---|
//! | `object` | the kinds of objects: identity, phase, dependencies; operations on them |
//! | `address`, `route`, `rule`, `link`, `filter`, `sync` | one kind each |
//! | `snapshot` | what the kernel has at one moment |
//! | `table` | the entries of the reconciler: wanted, in flight, refused; claimants are left to the caller |
//! | `observed` | the kernel's objects, in its order |
//! | `event` | the effect of interfaces and kernel events on the entries |
//! | `request` | the operations that bring the kernel to the wanted state, and the answers to them |
//! | `ipvs` | virtual services and real servers, which have a planner of their own |
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

mod address;
mod event;
pub mod filter;
pub mod ipvs;
pub mod link;
pub mod listing;
pub mod object;
mod observed;
mod request;
pub mod route;
pub mod rule;
mod snapshot;
pub mod sync;
mod table;

pub use address::AddressAttributes;
pub use link::{LinkAttributes, LinkObject, LinkSettings, Setting, SettingObject};
pub use object::{Attributes, Change, ChangeKind, Identity, Object, Op, Phase, Sight, Verb};
pub use request::{Part, Request};
pub use snapshot::{Link, Settings, Snapshot, Unread, VrfRole};
pub use table::{ObjectId, Position, Table, Waits, Want};

/// Ties the answers of the kernel to the request of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u64);

/// How the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done: something changed.
    Done,
    /// Nothing to do: an object to be added existed, or one to be deleted did not.
    Already,
    /// Refused, with this error number (positive, as in errno.h).
    Refused(i32),
}

/// Mark of the objects that this daemon adds to the kernel's tables: the number of `keepalived` among the route and
/// address protocols (`RTPROT_KEEPALIVED`).
pub const PROTOCOL_MARK: u8 = 18;
