//! Searches of pages for patterns, on threads of their own: what a server sends decides how long one takes, and other
//! checks must not wait for it. Equal patterns are compiled once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use regex::bytes::Regex;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::check::probe::http::{Heard, Http};
use crate::check::probe::{Failure, Verdict};
use crate::model::checker::Url;
use crate::model::pattern::Pattern;

/// Searches at a time. Each holds a thread, and a processor while it lasts.
const AT_ONCE: usize = 8;

/// The text of a pattern and its options.
type Key = (Box<[u8]>, Vec<Box<str>>);

/// Compiled patterns, and the limit of searches.
#[derive(Clone, Debug)]
pub(super) struct Searches {
    compiled: Arc<Mutex<BTreeMap<Key, Option<Arc<Regex>>>>>,
    turns: Arc<Semaphore>,
}

/// What was read from a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    /// This many octets.
    Octets(usize),
    End,
    /// Nothing within the time limit.
    Silence,
    /// Error number, positive.
    Broken(i32),
}

impl Read {
    /// The same as an input of an attempt; `part` was read into.
    pub(super) fn heard(self, part: &[u8]) -> Heard<'_> {
        match self {
            Self::Octets(count) => Heard::Bytes(part.get(..count).unwrap_or_default()),
            Self::End => Heard::End,
            Self::Silence => Heard::Silence,
            Self::Broken(errno) => Heard::Broken(errno),
        }
    }
}

impl Searches {
    pub(super) fn new() -> Self {
        Self { compiled: Arc::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// An attempt at a page.
    pub(super) async fn begin(&self, url: Url) -> Http {
        let Some(pattern) = url.pattern.clone() else {
            return Http::with(url, None);
        };
        let compiled = Arc::clone(&self.compiled);
        let regex = self.apart(move || regex_of(&compiled, &pattern)).await.flatten();
        Http::with(url, regex)
    }

    /// Gives what was read into `part` to an attempt. Returns both, unless that panicked, and the verdict.
    pub(super) async fn step(
        &self,
        mut http: Http,
        part: Vec<u8>,
        read: Read,
    ) -> (Option<(Http, Vec<u8>)>, Option<Verdict>) {
        let take = move || {
            let verdict = http.step(read.heard(&part));
            ((http, part), verdict)
        };
        match self.apart(take).await {
            Some((state, verdict)) => (Some(state), verdict),
            None => (None, Some(Verdict::Failure(Failure::Timeout))),
        }
    }

    /// Runs this on another thread when it is its turn; none if it panicked.
    async fn apart<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let task = spawn_blocking(move || {
            let result = run();
            drop(turn);
            result
        });
        task.await.ok()
    }

    /// Forgets the patterns of an earlier configuration.
    pub(super) fn forget(&self) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The compiled pattern; none if it is not valid, which was reported when the configuration was read.
fn regex_of(
    compiled: &Mutex<BTreeMap<Key, Option<Arc<Regex>>>>,
    pattern: &Pattern,
) -> Option<Arc<Regex>> {
    let key = (pattern.text.clone(), pattern.options.clone());
    let mut compiled = compiled.lock().unwrap_or_else(PoisonError::into_inner);
    compiled.entry(key).or_insert_with(|| pattern.compile().ok().map(Arc::new)).clone()
}
