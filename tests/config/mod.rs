//! The configuration language, from files as users write them.

mod corpus;
mod examples;
mod lint;
mod service;
mod limits;
mod syntax;
