//! The check engine: lists of events and the expected actions.

mod audit;
mod bench;
mod kinds;
#[allow(dead_code, reason = "only the texts are compared here")]
#[path = "../../src/vrrp/tests/lines.rs"]
mod lines;
mod pages;
mod pool;
mod presence;
mod quorum;
mod refusals;
mod reload;
mod schedule;
mod start;
mod stop;
mod story;
