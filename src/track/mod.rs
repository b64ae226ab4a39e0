//! Conditions of tracked things, counted the same way for every engine.
//!
//! What a condition does to an instance is a [`crate::model::Weight`]; when it is asked for again is the
//! engine's business.
#![forbid(unsafe_code)]

pub mod script;

pub use script::{Condition, Rule};
