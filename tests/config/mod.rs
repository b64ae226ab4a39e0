//! The configuration language, from files as users write them.

mod examples;
mod syntax;
