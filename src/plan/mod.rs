//! From what is wanted and what is there to what must be done, in an order that hurts nobody.
//!
//! Pure comparison: no kernel is asked here. Engines hand the resulting operations to the shell, which answers
//! each of them with an outcome.
//!
//! | file | concern |
//! |---|---|
//! | `object` | the kinds of objects: identity, phase, dependencies; operations on them |
//! | `address`, `route`, `rule`, `link`, `filter`, `sync` | the answers of one kind |
//! | `snapshot` | what the kernel has at one moment |
//! | `table` | the entries of the reconciler: wanted, in flight, refused; who wants what is the caller's business |
//! | `observed` | what the kernel has, in its order |
//! | `event` | what interfaces and events of the kernel mean for the entries |
//! | `request` | the operations that bring the kernel to what is wanted, and the answers to them |
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
pub use request::{Answer, Part, Request};
pub use snapshot::{Link, Settings, Snapshot};
pub use table::{Effect, Entry, ObjectId, Refused, Table, Waits, Want};

/// Ties the answers of the kernel to the request of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u64);

/// How the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done: something changed.
    Done,
    /// It was so already: an object to be added was there, one to be deleted was not.
    Already,
    /// Refused, with this error number (positive, as in errno.h).
    Refused(i32),
}

/// Mark of what this daemon puts into the kernel's tables: the number of `keepalived` among the route and
/// address protocols (`RTPROT_KEEPALIVED`).
pub const PROTOCOL_MARK: u8 = 18;
