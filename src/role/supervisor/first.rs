//! The first reading of the configuration, before there is a daemon: it names the files that a daemon has and the
//! namespace that it runs in.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::place::Place;
use super::reload::load_request;
use super::{LoadError, Loaded, log_settings, setup};
use crate::cli::args::Options;
use crate::model::global::Settings;
use crate::role::{confine, load};

/// keepalived's default umask: what the daemon writes is for its own user alone.
pub const UMASK: u32 = 0o177;

/// What came of it.
pub struct First {
    /// Where the daemon is.
    pub place: Place,
    /// Permissions that its files do not get.
    pub umask: u32,
    /// The configuration, unless it has to be read again in another namespace.
    result: Option<Result<Loaded, LoadError>>,
}

impl First {
    /// Reads the configuration. A reload that is asked for meanwhile reads it again.
    ///
    /// # Errors
    /// When there is no runtime to be had, and a name that no file can have.
    pub fn read(options: &Options) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(read(options))?;
        let settings = match &result {
            Ok(loaded) => &loaded.report.global.settings,
            // The daemon says it, in its log, and ends.
            Err(_) => &Box::new(Settings::default()),
        };
        let place = Place::of(options, settings).map_err(io::Error::other)?;
        let umask = umask(options.umask, settings);
        // What there is of interfaces and addresses is another matter there.
        let elsewhere = options.namespace.is_none() && place.namespace.is_some();
        Ok(Self { place, umask, result: (!elsewhere).then_some(result) })
    }

    /// The configuration.
    pub(super) fn take(&mut self) -> Option<Result<Loaded, LoadError>> {
        self.result.take()
    }
}

/// Permissions that files of the daemon do not get: what the command line says, else what the configuration says.
#[must_use]
pub fn umask(given: Option<u32>, settings: &Settings) -> u32 {
    given.or(settings.umask.map(u32::from)).unwrap_or(UMASK)
}

async fn read(options: &Options) -> io::Result<Result<Loaded, LoadError>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let user = confine::separate_user().ok();
    let setup = setup(options, log_settings(options, &Place::default()), user);
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
