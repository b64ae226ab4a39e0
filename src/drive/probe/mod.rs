//! Probes on sockets: the IO of each kind, one task of the runtime per attempt.
//!
//! A task connects, passes the received data to the logic of its kind (`check::probe`) and returns the verdict. The
//! engine cancels attempts that take too long, which closes the socket.

mod connect;
mod datagram;
mod http;
mod search;
mod smtp;
mod tcp;
mod tls;

use std::collections::BTreeMap;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use crate::check::probe::{Closing, ProbeId, Request, Step, Verdict};
use crate::model::service;

/// The attempts under way. Dropping it ends them.
#[derive(Debug)]
pub struct Probes {
    running: BTreeMap<ProbeId, AbortHandle>,
    client: tls::Client,
    searches: search::Searches,
    sender: UnboundedSender<(ProbeId, Verdict)>,
    results: UnboundedReceiver<(ProbeId, Verdict)>,
}

impl Probes {
    /// No attempt yet.
    #[must_use]
    pub fn new() -> Self {
        let (sender, results) = unbounded_channel();
        Self {
            running: BTreeMap::new(),
            client: tls::Client::default(),
            searches: search::Searches::new(),
            sender,
            results,
        }
    }

    /// A new configuration: attempts over TLS from now on present this certificate to servers that ask for one.
    pub fn present(&mut self, material: Option<&service::Tls>) {
        self.client.present(material);
        self.searches.forget();
    }

    /// Begins an attempt.
    pub fn start(&mut self, probe: ProbeId, request: Request, closing: Closing) {
        let sender = self.sender.clone();
        let is_tls = matches!(&request, Request::Http(page) if page.tls.is_some());
        let context = is_tls.then(|| self.client.context());
        let searches = self.searches.clone();
        let task = tokio::spawn(async move {
            let verdict = match request {
                Request::Tcp(connection) => tcp::run(&connection, closing).await,
                Request::Http(page) => http::run(*page, closing, context, searches).await,
                Request::Udp(check) => datagram::udp(&check).await,
                Request::Ping(connection) => datagram::ping(&connection).await,
                Request::Dns(check) => datagram::dns(&check).await,
                Request::Smtp(check) => smtp::run(&check, closing).await,
                // Left to the runner: the driver never passes it to us.
                Request::Misc(_) => {
                    Verdict::Untried { step: Step::Program, errno: libc::EOPNOTSUPP }
                }
            };
            // The receiver is only gone while the process ends.
            let _ = sender.send((probe, verdict));
        });
        self.running.insert(probe, task.abort_handle());
    }

    /// Abandons an attempt.
    pub fn cancel(&mut self, probe: ProbeId) {
        if let Some(task) = self.running.remove(&probe) {
            task.abort();
        }
    }

    /// The next result. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> (ProbeId, Verdict) {
        match self.results.recv().await {
            Some(result) => self.ended(result),
            // Unreachable: this value holds a sender itself.
            None => core::future::pending().await,
        }
    }

    /// A result that is available already.
    pub fn ready(&mut self) -> Option<(ProbeId, Verdict)> {
        self.results.try_recv().ok().map(|result| self.ended(result))
    }

    fn ended(&mut self, result: (ProbeId, Verdict)) -> (ProbeId, Verdict) {
        self.running.remove(&result.0);
        result
    }
}

impl Default for Probes {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
