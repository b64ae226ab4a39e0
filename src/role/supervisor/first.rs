//! The first reading of the configuration, before the daemon starts, because the configuration names the daemon's
//! files and its network namespace.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::place::Place;
use super::reload::load_request;
use super::{LoadError, Loaded, setup};
use crate::cli::args::Options;
use crate::model::global::Settings;
use crate::role::{confine, load};

/// keepalived's default umask: only the user of the daemon gets access to files it writes.
pub const UMASK: u32 = 0o177;

/// The result of the first reading.
pub struct First {
    /// The namespace and the file names of the daemon.
    pub place: Place,
    /// The umask of the daemon.
    pub umask: u32,
    /// The configuration, unless it has to be read again in another namespace.
    result: Option<Result<Loaded, LoadError>>,
}

impl First {
    /// Reads the configuration; reads it again if a reload is requested meanwhile.
    ///
    /// # Errors
    /// When no runtime can be created, and when a name cannot be part of a file name.
    pub fn read(options: &Options) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(read(options))?;
        let settings = match &result {
            Ok(loaded) => &loaded.report.global.settings,
            // The daemon logs the error and ends.
            Err(_) => &Box::new(Settings::default()),
        };
        let place = Place::of(options, settings).map_err(io::Error::other)?;
        let umask = umask(options.umask, settings);
        // Interfaces and addresses differ in another namespace, so the configuration is read again there.
        let elsewhere = options.namespace.is_none() && place.namespace.is_some();
        Ok(Self { place, umask, result: (!elsewhere).then_some(result) })
    }

    /// The configuration.
    pub(super) fn take(&mut self) -> Option<Result<Loaded, LoadError>> {
        self.result.take()
    }
}

/// The umask: that of the command line, else that of the configuration.
#[must_use]
pub fn umask(given: Option<u32>, settings: &Settings) -> u32 {
    given.or(settings.umask.map(u32::from)).unwrap_or(UMASK)
}

async fn read(options: &Options) -> io::Result<Result<Loaded, LoadError>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let user = confine::separate_user().ok();
    let setup = setup(options, &Place::default(), user);
    loop {
        let (hurry, hurried) = oneshot::channel();
        let (mut hurry, mut again) = (Some(hurry), false);
        let load = load::load(setup.clone(), load_request(options, None), hurried, None);
        let mut load = core::pin::pin!(load);
        let result = loop {
            tokio::select! {
                biased;
                result = &mut load => break result,
                _ = hangup.recv() => {
                    again = true;
                    if let Some(hurry) = hurry.take() {
                        let _ = hurry.send(());
                    }
                }
            }
        };
        if !again {
            return Ok(result);
        }
    }
}
