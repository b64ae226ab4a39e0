//! From what is wanted and what is there to what must be done, in an order that hurts nobody.
//!
//! Pure comparison: no kernel is asked here. Engines hand the resulting operations to the shell, which answers
//! each of them with an outcome.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::base::IfIndex;
use crate::model::Address;

pub mod ipvs;

/// Ties the answers of the kernel to the request of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u64);

/// One change of the kernel's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Put the address on the interface. Being there already is success.
    AddAddress {
        /// The interface, which `address.interface` names.
        interface: IfIndex,
        /// The address and its attributes.
        address: Address,
    },
    /// Take the address off the interface. Not being there is success.
    DeleteAddress {
        /// The interface, which `address.interface` names.
        interface: IfIndex,
        /// The address and its attributes.
        address: Address,
    },
}

/// How the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done: something changed.
    Done,
    /// It was so already: an address to be added was there, one to be deleted was not.
    Already,
    /// Refused, with this error number (positive, as in errno.h).
    Refused(i32),
}

/// Mark of what this daemon puts into the kernel's tables: the number of `keepalived` among the route and
/// address protocols (`RTPROT_KEEPALIVED`).
pub const PROTOCOL_MARK: u8 = 18;
