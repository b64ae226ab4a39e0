//! The configuration language, from files as users write them.

mod again;
mod convert;
mod corpus;
mod defaults;
mod diagnostics;
mod examples;
mod firewall;
mod format;
mod hints;
mod keywords;
mod layers;
mod limits;
mod lint;
mod numbers;
mod parts;
mod peer;
mod reload;
mod schema;
mod service;
mod syntax;
mod unicast;
