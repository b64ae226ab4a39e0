//! The value types of keywords, one file per family.

pub(crate) mod address;
pub(crate) mod check;
pub(crate) mod entry;
pub(crate) mod global;
pub(crate) mod number;
pub(crate) mod route;
pub(crate) mod router;
pub(crate) mod rule;
pub(crate) mod script;
pub(crate) mod service;
pub(crate) mod text;
pub(crate) mod tracker;
