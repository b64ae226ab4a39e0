//! Searches of pages for patterns, on threads of their own: what a server sends decides how long one takes, and other
//! checks must not wait for it. Equal patterns are compiled once. A search cannot be interrupted, so each server has at
//! most one, and those of a slow one do not take the threads of others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use regex::bytes::Regex;
use tokio::sync::Semaphore;

use crate::check::probe::http::Search;
use crate::check::probe::{Failure, Verdict};
use crate::drive::apart::apart;
use crate::model::pattern::Pattern;

/// Searches at a time. Each holds a thread, and a processor while it lasts.
const AT_ONCE: usize = 8;

/// The text of a pattern and its options.
type Key = (Box<[u8]>, Vec<Box<str>>);
type Compiled = Mutex<BTreeMap<Key, Option<Arc<Regex>>>>;

/// Compiled patterns, and the limits of searches.
#[derive(Clone, Debug)]
pub(super) struct Searches {
    compiled: Arc<Compiled>,
    turns: Arc<Semaphore>,
    /// The turn of each server that has a search.
    servers: Arc<Mutex<BTreeMap<SocketAddr, Weak<Semaphore>>>>,
}

impl Searches {
    pub(super) fn new() -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { compiled: Arc::default(), turns, servers: Arc::default() }
    }

    /// The verdict of a search of what a server sent, when it is its turn.
    pub(super) async fn verdict(&self, server: SocketAddr, search: Box<Search>) -> Verdict {
        let failed = Verdict::Failure(Failure::Timeout);
        let Ok(own) = self.turn_of(server).acquire_owned().await else { return failed };
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else { return failed };
        let compiled = Arc::clone(&self.compiled);
        let searched = apart(move || {
            let regex = regex_of(&compiled, &search.pattern);
            let verdict = search.verdict(regex.as_deref());
            drop((own, turn));
            verdict
        });
        searched.await.unwrap_or_else(|e| {
            tracing::warn!("cannot search a page of {server}: {e}");
            failed
        })
    }

    /// The only turn of a server.
    fn turn_of(&self, server: SocketAddr) -> Arc<Semaphore> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = servers.get(&server).and_then(Weak::upgrade) {
            return known;
        }
        servers.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Semaphore::new(1));
        servers.insert(server, Arc::downgrade(&turn));
        turn
    }

    /// Forgets the patterns of an earlier configuration.
    pub(super) fn forget(&self) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The compiled pattern; none if it is not valid. Nobody waits for another one that is being compiled.
fn regex_of(compiled: &Compiled, pattern: &Pattern) -> Option<Arc<Regex>> {
    let key = (pattern.text.clone(), pattern.options.clone());
    let known = || compiled.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = known().get(&key) {
        return regex.clone();
    }
    let regex = pattern.compile().ok().map(Arc::new);
    known().entry(key).or_insert(regex).clone()
}
