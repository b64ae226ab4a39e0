//! Small values used by every layer: points in time, timers, addresses, names, seeded randomness.
//!
//! Nothing here depends on a protocol or the operating system.
#![forbid(unsafe_code)]

pub mod id;
pub mod limit;
pub mod near;
pub mod net;
pub mod rng;
pub mod time;
pub mod timer;
pub mod tls;

pub use id::{Name, Secret};
pub use net::{Family, IfIndex, IfName, Mac, Prefix};
pub use time::{Instant, WallTime};
pub use timer::TimerQueue;
