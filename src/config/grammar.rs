//! The grammars, compiled.

pub(crate) mod file {
    /// Braces and what stands between them.
    #[derive(pest_derive::Parser)]
    #[grammar = "grammar/keepalived.pest"]
    pub struct FileParser;
}

pub(crate) mod value {
    /// Definitions, references and repetitions.
    #[derive(pest_derive::Parser)]
    #[grammar = "grammar/values.pest"]
    pub struct ValueParser;
}
