//! Everything that can happen to the engine.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::probe::{ProbeId, Verdict};
use crate::model::{Lvs, ServiceKey};
use crate::plan::ipvs::Table;
use crate::plan::listing::Listing;
use crate::plan::{Outcome, Token};
use crate::status::TrackReport;
use crate::status::check::Summary;

/// Something that happened.
///
/// The driver's duties: `now` never goes back; results of probes are handed over before [`Event::Timer`] whenever both
/// are due, so that a process that was stalled processes the results that arrived meanwhile before it assumes a
/// timeout.
#[derive(Clone, Debug)]
pub enum Event {
    /// The deadline of `Engine::deadline` is reached.
    Timer,
    /// Services that an earlier process of this daemon put into the kernel's table. Comes before the first
    /// configuration or not at all.
    Owned(Vec<ServiceKey>),
    /// What the previous process of this role, which ended unexpectedly, had announced. Comes before the first
    /// configuration or not at all.
    Resume(Summary),
    /// The configuration from now on, checked and complete.
    Reload(Arc<Lvs>),
    /// The answer to `Action::Read`: what the kernel holds of these services, or the error number.
    Table {
        /// The services of the action.
        services: Arc<[ServiceKey]>,
        /// The answer. The table contains only the requested services.
        result: Result<Table, i32>,
    },
    /// The answer to `Action::List`: what the kernel holds, or the error number.
    Listed(Result<Listing, i32>),
    /// The kernel answered one operation of an `Action::Apply`.
    Applied {
        token: Token,
        /// Its position in the action's list.
        item: u32,
        /// The answer.
        outcome: Outcome,
    },
    /// An attempt ended.
    Probed { probe: ProbeId, verdict: Verdict },
    /// What was observed of a tracked object, such as the number in a file: reported when a configuration comes into
    /// force, and when it changes.
    Report(TrackReport),
    /// Which of the addresses of services with `ha_suspend` this host has, or none if that is not known: before a
    /// configuration with such services, and when it changes.
    Present(Option<BTreeSet<IpAddr>>),
    /// Stop: remove our entries, answer with `Action::Done`.
    Stop {
        /// `--dont-release-ipvs`: leave the entries in place.
        keep_entries: bool,
    },
}
