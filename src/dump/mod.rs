//! keepalived's dump files as text: what it writes to the directory for temporary files when it gets the signals DATA,
//! STATS and JSON. The text is made of views and of the configuration; who asks and who writes is left to the roles.
#![forbid(unsafe_code)]

mod json;
mod route;
mod statistics;
mod words;

use std::collections::BTreeMap;

use crate::base::{Instant, WallTime};
use crate::model::{self, Instance};
use crate::status::vrrp as view;
pub use statistics::Cleared;

/// What the files about virtual routers show.
#[derive(Clone, Copy, Debug)]
pub struct Vrrp<'a> {
    /// The configuration of the view. An instance that is missing in one of the two is not shown.
    pub config: &'a model::Vrrp,
    pub view: &'a view::Vrrp,
    /// The counters when they were last set to zero.
    pub cleared: &'a Cleared,
    /// The time of day of the view.
    pub wall: WallTime,
}

impl<'a> Vrrp<'a> {
    /// The instances in the order of the configuration.
    fn instances(&self) -> impl Iterator<Item = (&'a Instance, &'a view::Instance)> {
        let views: BTreeMap<&str, &view::Instance> =
            self.view.instances.iter().map(|i| (i.name.as_str(), i)).collect();
        self.config
            .instances
            .iter()
            .filter_map(move |config| Some((config, *views.get(config.name.as_str())?)))
    }

    /// The time of day at this moment, which is not long before or after the view.
    fn time(&self, at: Instant) -> WallTime {
        if at > self.view.at {
            self.wall.after(at.since(self.view.at))
        } else {
            self.wall.before(self.view.at.since(at))
        }
    }
}

/// A state by keepalived's number.
const fn number(state: view::State) -> u8 {
    match state {
        view::State::Init => 0,
        view::State::Backup => 1,
        view::State::Master => 2,
        view::State::Fault => 3,
    }
}

/// The state that an instance aims at: that in which it is, and before its start the one that its priority suggests.
const fn wanted(config: &Instance, state: view::State) -> view::State {
    match state {
        view::State::Init if config.priority.is_owner() => view::State::Master,
        view::State::Init => view::State::Backup,
        other => other,
    }
}

#[cfg(test)]
mod tests;
