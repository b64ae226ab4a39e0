//! Settings that decide about a server: one that cannot be used is kept, because without it nothing shows that the server
//! is good. What follows from it is left to `resolve`.

use core::ops::Deref;

use super::context::Cx;
use super::document::Node;
use super::schema::{Keyword, Missing, Next, Refused, Shape, Single, Slot, Times, Words};
use super::span::Spanned;
use super::words::{Statement, split_script};

/// A slot that keeps the last statement if it cannot be used. If several values add up and each is another one that counts
/// as good (not `ALL`), the others stay in force instead.
#[derive(Debug, Default)]
pub(crate) struct Judging<S, const ALL: bool = false> {
    slot: S,
    refused: Option<(Refused, Vec<Vec<u8>>)>,
}

impl<S, const ALL: bool> Deref for Judging<S, ALL> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.slot
    }
}

impl<S: Single, const ALL: bool> Single for Judging<S, ALL> {
    type Value = S::Value;

    fn given(&self) -> Option<S::Value> {
        self.slot.given()
    }

    fn words(value: &S::Value, out: &mut Words) {
        S::words(value, out);
    }
}

impl<S: Slot + Single, const ALL: bool> Slot for Judging<S, ALL> {
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
        let adds_up = S::TIMES == Times::Many;
        // A keyword without its value that nothing is reported about counts as missing.
        let is_missing = statement.len() == 1 && keyword.missing == Missing::Quiet;
        if !cx.refused {
            if self.slot.given().is_some() && !(ALL && adds_up) {
                self.refused = None;
            }
        } else if !is_missing && (ALL || !adds_up || self.slot.given().is_none()) {
            // An earlier value does not count: a dump holds one of them only.
            self.slot = S::default();
            let refused = Spanned::new(keyword.name, statement.span());
            self.refused = Some((refused, words(keyword, statement)));
        }
        next
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        match &self.refused {
            Some((_, words)) => out.push(Node::statement(keyword, words.clone())),
            None => self.slot.nodes(keyword, out),
        }
    }

    fn refused(&self) -> Option<Refused> {
        self.refused.as_ref().map(|(refused, _)| *refused)
    }
}

/// The words of a statement after its keyword. A quote that is not closed makes one more word, so that a dump cannot be
/// used either.
fn words(keyword: &Keyword, statement: &Statement<'_>) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = (1..statement.len())
        .map_while(|at| statement.word(at).map(|word| word.bytes.to_vec()))
        .collect();
    let is_missing = words.is_empty() && keyword.missing == Missing::Reported;
    if !is_missing && split_script(statement.raw()).is_err() {
        words.extend([b"?".to_vec(), b"?".to_vec()]);
    }
    words
}
