//! Settings that decide about a server: one that cannot be used is kept, because without it nothing shows that the server
//! is good. What follows from it is left to `resolve`.

use core::ops::Deref;

use super::context::Cx;
use super::document::Node;
use super::schema::{Keyword, Next, Shape, Single, Slot, Times, Words};
use super::span::Spanned;
use super::words::{Statement, split_script};

/// A statement that cannot be used: its keyword and place.
pub(crate) type Refused = Spanned<&'static str>;

/// A slot that keeps the last statement if it cannot be used, unless another value is in force in addition to it.
#[derive(Debug, Default)]
pub(crate) struct Judging<S> {
    slot: S,
    refused: Option<(Refused, Vec<Vec<u8>>)>,
}

impl<S> Judging<S> {
    /// The statement, if it cannot be used.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused.as_ref().map(|(refused, _)| *refused)
    }
}

impl<S> Deref for Judging<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.slot
    }
}

impl<S: Single> Single for Judging<S> {
    type Value = S::Value;

    fn given(&self) -> Option<S::Value> {
        self.slot.given()
    }

    fn words(value: &S::Value, out: &mut Words) {
        S::words(value, out);
    }
}

impl<S: Slot + Single> Slot for Judging<S> {
    const TIMES: Times = S::TIMES;

    fn shape() -> Shape {
        S::shape()
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        cx.refused = false;
        let next = self.slot.begin(keyword, statement, cx);
        if !cx.refused {
            if self.slot.given().is_some() {
                self.refused = None;
            }
        } else if S::TIMES != Times::Many || self.slot.given().is_none() {
            // An earlier value does not count: a dump holds one of them only.
            self.slot = S::default();
            let refused = Spanned::new(keyword.name, statement.span());
            self.refused = Some((refused, words(statement)));
        }
        next
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        match &self.refused {
            Some((_, words)) => out.push(Node::statement(keyword, words.clone())),
            None => self.slot.nodes(keyword, out),
        }
    }
}

/// The words of a statement after its keyword. A quote that is not closed makes one more word, so that a dump cannot be
/// used either.
fn words(statement: &Statement<'_>) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = (1..statement.len())
        .map_while(|at| statement.word(at).map(|word| word.bytes.to_vec()))
        .collect();
    if split_script(statement.raw()).is_err() {
        words.extend([b"?".to_vec(), b"?".to_vec()]);
    }
    words
}
