//! The tables of keywords, one file per family of blocks.

pub(crate) mod checker;
pub(crate) mod global;
pub(crate) mod group;
pub(crate) mod root;
pub(crate) mod script;
pub(crate) mod service;
pub(crate) mod track;
pub(crate) mod vrrp;

use super::schema::{Block, Table};

/// The keywords outside all blocks.
#[must_use]
pub fn root_table() -> &'static Table {
    root::Root::table()
}
