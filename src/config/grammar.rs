//! The grammars, compiled.
#![allow(missing_docs)]

pub(crate) mod file {
    #[derive(pest_derive::Parser)]
    #[grammar = "grammar/keepalived.pest"]
    pub struct FileParser;
}

pub(crate) mod value {
    #[derive(pest_derive::Parser)]
    #[grammar = "grammar/values.pest"]
    pub struct ValueParser;
}
