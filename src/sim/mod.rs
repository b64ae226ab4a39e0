//! A simulator: the very engines of the daemon, on a virtual clock, on hosts and networks that fail in every
//! way we can think of.
//!
//! | file | holds |
//! |---|---|
//! | `world` | the clock, the queue of what will happen, the hosts |
//! | `turn` | what happens to a host, step by step |
//! | `act` | the interpreter of actions |
//! | `net` | segments: loss, delay, duplication, partition |
//! | `kernel` | a host's links and addresses, and calls that fail |
//! | `stacked` | interfaces made on others, and settings |
//! | `filter` | its packet filters |
//! | `director` | a host's IPVS table and check engine, and the servers it looks after |
//! | `reconcile` | a test of `plan` alone on that kernel, `reconcile::stock` what it draws from |
//! | `forge` | packets of strangers, valid or wrong in one thing |
//! | `story` | what can be done to all of them |
//! | `oracle` | what must hold after every step |
//! | `chaos` | a story made from a seed |
//! | `fuzz` | octets turned into events, for fuzzers |
//!
//! A run depends on its seed alone: the same seed gives the same trace, octet for octet.
#![forbid(unsafe_code)]

mod act;
pub mod chaos;
pub mod director;
pub mod filter;
pub mod forge;
pub mod fuzz;
pub mod kernel;
pub mod net;
pub mod oracle;
#[cfg(test)]
mod reconcile;
pub mod stacked;
pub mod story;
#[cfg(test)]
mod tests;
mod turn;
pub mod world;

pub use world::{NodeId, World};

/// The time of day, the same on all hosts.
fn time_of_day(now: crate::base::Instant) -> crate::base::WallTime {
    let time = crate::base::WallTime { secs: 1_700_000_000, nanos: 0 };
    time.after(now.since(crate::base::Instant::ZERO))
}
