//! EverVIP: highly available virtual IP addresses, and load balancing behind them, from an unchanged `keepalived.conf`.
//!
//! The crate is one library in layers (see `docs/architecture.md`). The lower half, the *core*, only contains values:
//! packet codecs, the running configuration, the VRRP and health-check engines, the planner, the configuration language
//! and a simulator that runs the engines on a virtual clock. It has no clock, socket, thread or file and builds with
//! `--no-default-features`. The upper half (feature `daemon`) carries out the core's actions: sockets, netlink,
//! processes, scripts, mail.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::disallowed_methods,
        clippy::disallowed_types
    )
)]

// pest_derive names this crate.
extern crate alloc;

#[cfg(feature = "daemon")]
pub mod api;
pub mod base;
pub mod bfd;
pub mod check;
#[cfg(feature = "daemon")]
pub mod cli;
pub mod config;
#[cfg(feature = "daemon")]
pub mod drive;
pub mod dump;
#[cfg(feature = "daemon")]
pub mod ipc;
#[cfg(feature = "daemon")]
pub mod kernel;
#[cfg(feature = "daemon")]
pub mod log;
pub mod model;
pub mod plan;
#[cfg(feature = "daemon")]
pub mod role;
pub mod sim;
pub mod status;
#[cfg(feature = "daemon")]
pub mod sys;
pub mod track;
pub mod vrrp;
pub mod wire;
