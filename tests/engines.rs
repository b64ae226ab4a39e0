//! The tests of the engines in this folder as a program of their own, which needs nothing of the operating system part:
//! `cargo test --no-default-features --test engines`. They are in `main` as well.
#![allow(clippy::disallowed_types, reason = "tests")]

mod adverts;
mod check;
