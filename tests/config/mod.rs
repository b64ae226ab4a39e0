//! The configuration language, from files as users write them.

mod corpus;
mod diagnostics;
mod examples;
mod format;
mod limits;
mod lint;
mod service;
mod syntax;
