//! The check engine: lists of events and what must come of them.

mod audit;
mod bench;
mod kinds;
mod pages;
mod pool;
mod quorum;
mod refusals;
mod reload;
mod schedule;
mod start;
mod stop;
mod story;
