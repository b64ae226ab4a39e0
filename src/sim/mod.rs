//! A simulator: the engines of the daemon on a virtual clock, on simulated hosts and networks with many kinds of
//! failures.
//!
//! | file | content |
//! |---|---|
//! | `world` | the clock, the event queue, the hosts |
//! | `turn` | the events of a host, step by step |
//! | `act` | the interpreter of actions |
//! | `net` | segments: loss, delay, duplication, partition |
//! | `kernel` | a host's links and addresses, and calls that fail |
//! | `stacked` | stacked interfaces, and settings |
//! | `filter` | its packet filters |
//! | `director` | a host's IPVS table and check engine, and the checked servers |
//! | `reconcile` | a test of `plan` alone on that kernel; `reconcile::stock`: the objects it draws from |
//! | `forge` | packets of strangers, valid or wrong in one thing |
//! | `story` | operations on the world: failures, reloads, repairs |
//! | `oracle` | the invariants of every step |
//! | `chaos` | a story derived from a seed |
//! | `fuzz` | octets decoded to events, for fuzzers |
//!
//! A run depends only on its seed: the same seed gives the same trace, octet for octet.
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
