//! The grammars, compiled.

pub(crate) mod file {
    /// Braces and the text between them.
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
