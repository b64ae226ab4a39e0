//! What instances track, counted the same way for every engine: rows with a state, references with a weight.
//!
//! A [`Table`] has a row for each tracked object, whatever its kind. Users refer to rows by id; a change of a row only
//! reaches its users, and the combined effect of all rows of a user ([`Standing`]) is maintained incrementally. Where
//! the state of a row comes from (netlink, a run of a script, ...) and what follows for a user is left to the engine.
#![forbid(unsafe_code)]

pub mod effect;
pub mod number;
pub mod process;
pub mod script;
pub mod table;

pub use effect::{Effect, Standing};
pub use script::{Condition, Rule};
pub use table::{Reference, State, Subject, Table, TrackerId};
