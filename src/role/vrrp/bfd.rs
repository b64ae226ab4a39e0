//! BFD sessions: their thread, and the delivery of their events to the VRRP engine.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::base::Name;
use crate::bfd::Report;
use crate::drive::bfd::{Said, Sessions, Treatment};
use crate::model::extras::Bfd;
use crate::role::Setup;
use crate::status::TrackReport;

/// Time limit for the last packets to neighbors.
const LAST: Duration = Duration::from_millis(200);

/// The thread of BFD, once a configuration has sessions.
pub(super) struct Bfds {
    /// This process replaces an earlier one.
    again: bool,
    /// This process only undoes what the earlier one did.
    undo: bool,
    /// `--no_bfd`
    off: bool,
    running: Option<(Sessions, UnboundedReceiver<Said>)>,
    /// The states of sessions for the checker, once they have been up.
    states: BTreeMap<Name, bool>,
    /// Reports to deliver while no thread runs.
    missing: VecDeque<Report>,
}

impl Bfds {
    /// No sessions yet.
    pub const fn new(setup: &Setup) -> Self {
        Self {
            again: setup.again,
            undo: setup.undo,
            off: setup.no_bfd,
            running: None,
            states: BTreeMap::new(),
            missing: VecDeque::new(),
        }
    }

    /// Sets the sessions to run from now on, and how their thread runs.
    pub fn have(&mut self, sessions: &[Bfd], treatment: Treatment) {
        self.states.retain(|name, _| sessions.iter().any(|s| s.for_checker && s.name == *name));
        if self.off {
            if !sessions.is_empty() && !self.undo {
                tracing::info!("BFD is switched off (--no_bfd): all sessions count as down");
            }
            self.missing.extend(sessions.iter().filter(|s| s.for_vrrp).map(|session| Report {
                name: session.name.clone(),
                up: false,
                for_vrrp: true,
                for_checker: false,
            }));
            return;
        }
        if self.running.is_none() && !sessions.is_empty() && !self.undo {
            let (tell, said) = unbounded_channel();
            let started =
                Sessions::start(self.again, Box::new(move |said| tell.send(said).is_ok()));
            match started {
                Ok(started) => self.running = Some((started, said)),
                Err(e) => {
                    tracing::error!("BFD cannot be started, all sessions count as down: {e}");
                    self.missing.extend(sessions.iter().map(|session| Report {
                        name: session.name.clone(),
                        up: false,
                        for_vrrp: session.for_vrrp,
                        for_checker: session.for_checker,
                    }));
                }
            }
        }
        if let Some((running, _)) = &self.running {
            running.treat(treatment);
            running.have(sessions.to_vec());
        }
    }

    /// The next event of a session. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Report {
        if let Some(report) = self.missing.pop_front() {
            return report;
        }
        while let Some((_, said)) = &mut self.running {
            match said.recv().await {
                Some(Said::Report(report)) => return report,
                Some(Said::Stopped) => {}
                None => self.running = None,
            }
        }
        core::future::pending().await
    }

    /// The states for the checker, if this report changes them. A session that has not been up yet has none: its checks
    /// do not fail for a neighbor that has not started BFD.
    pub fn observed(&mut self, report: &Report) -> Option<Vec<TrackReport>> {
        let Report { name, up, for_checker, .. } = report;
        if !for_checker || !(*up || self.states.contains_key(name)) {
            return None;
        }
        let before = self.states.insert(name.clone(), *up);
        let all = self.states.iter().map(|(name, up)| TrackReport::bfd(name.clone(), *up));
        (before != Some(*up)).then(|| all.collect())
    }

    /// Ends all sessions as administratively down, which neighbors do not treat as a failure.
    pub async fn leave(&mut self) {
        if let Some((running, said)) = &mut self.running {
            running.stop();
            let stopped =
                async { while !matches!(said.recv().await, Some(Said::Stopped) | None) {} };
            let _ = timeout(LAST, stopped).await;
        }
    }
}
