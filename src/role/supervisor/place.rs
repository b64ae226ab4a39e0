//! The network namespace of a daemon and the names of its files (`instance`, `net_namespace`, `use_pid_dir`), which
//! distinguish it from other daemons of the machine. Both are known before the daemon starts and do not change while
//! it runs.

use std::path::{Path, PathBuf};

use crate::cli::args::{Options, is_file_name};
use crate::model::global::Settings;
use crate::role::socket;

/// The namespace and the file names of one daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The network namespace it runs in; none: the one it was started in.
    pub namespace: Option<Box<str>>,
    /// Its instance name.
    instance: Option<Box<str>>,
    /// Whether its pid files are in a separate directory (`use_pid_dir`).
    directory: bool,
}

/// The directory of pid files, which daemons create and remove.
pub const DIRECTORY: &str = "/run/keepalived";

impl Place {
    /// The place of a daemon with these options and this configuration.
    ///
    /// # Errors
    /// The message about a name that cannot be part of a file name.
    pub fn of(options: &Options, settings: &Settings) -> Result<Self, String> {
        let given = options.namespace.as_deref();
        let namespace = given.or(settings.namespace.as_deref());
        let instance = settings.instance.as_deref();
        for (what, name) in [("net_namespace", namespace), ("instance", instance)] {
            if let Some(name) = name.filter(|name| !is_file_name(name)) {
                return Err(format!("{what} {name}: this cannot be the name of a file"));
            }
        }
        Ok(Self {
            namespace: namespace.map(Into::into),
            instance: instance.map(Into::into),
            directory: settings.use_pid_directory,
        })
    }

    /// The difference to `other` that a running daemon cannot adopt, if there is one.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.namespace != other.namespace {
            Some("net_namespace")
        } else if self.instance != other.instance {
            Some("instance")
        } else if self.directory != other.directory {
            Some("use_pid_dir")
        } else {
            None
        }
    }

    /// The suffix of its file names: `_NAMESPACE_INSTANCE`.
    #[must_use]
    pub fn suffix(&self) -> String {
        let names = [&self.namespace, &self.instance];
        names.into_iter().flatten().map(|name| format!("_{name}")).collect()
    }

    /// Whether no setting distinguishes it from other daemons of the machine.
    pub const fn is_default(&self) -> bool {
        self.namespace.is_none() && self.instance.is_none() && !self.directory
    }

    /// Pid files of the supervisor, of `vrrp` and of `checker`. The names are keepalived's: tools that look for them
    /// find this daemon, and the two cannot run at the same time by mistake.
    pub(super) fn pid_files(&self, options: &Options) -> [PathBuf; 3] {
        let given = &options.pid_files;
        let or = |given: &Option<PathBuf>, name: &str| match given {
            Some(path) => path.clone(),
            None => self.pid_file(name),
        };
        [
            or(&given.supervisor, "keepalived"),
            or(&given.vrrp, "vrrp"),
            or(&given.checker, "checkers"),
        ]
    }

    /// The alias of interfaces that this daemon creates. It contains the path of a pid file, which no other daemon has;
    /// empty if that is too long for an alias (`IFALIASZ`, 256 octets).
    pub(super) fn mark(&self, options: &Options) -> Box<str> {
        let [_, vrrp, _] = self.pid_files(options);
        let mark = format!("evervip {}", vrrp.display());
        if mark.len() < 256 { mark.into() } else { Box::default() }
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        let mut folder = PathBuf::from(if self.is_default() { "/run" } else { DIRECTORY });
        // In its mount namespace, keepalived sees this subdirectory as [`DIRECTORY`] itself.
        folder.extend(self.namespace.as_deref().map(Path::new));
        let instance = self.instance.as_deref().map(|name| format!("_{name}"));
        folder.join(format!("{name}{}.pid", instance.unwrap_or_default()))
    }

    /// The control socket: next to the pid file if the command line names one.
    pub(super) fn socket(&self, options: &Options) -> PathBuf {
        match &options.pid_files.supervisor {
            None if !self.is_default() => socket::path_of(&self.suffix()),
            given => socket::path_for(given.as_deref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &Settings) -> Place {
        Place::of(&Options::default(), settings).unwrap()
    }

    #[test]
    fn files_have_keepaliveds_names() {
        let names = |settings: &Settings| {
            let place = of(settings);
            let options = Options::default();
            let [main, vrrp, checker] = place.pid_files(&options);
            let all = [main, vrrp, checker, place.socket(&options)];
            all.map(|path| path.display().to_string())
        };
        let mut settings = Settings::default();
        assert_eq!(
            names(&settings),
            [
                "/run/keepalived.pid",
                "/run/vrrp.pid",
                "/run/checkers.pid",
                "/run/evervip/control.sock",
            ]
        );
        settings.use_pid_directory = true;
        assert_eq!(
            names(&settings),
            [
                "/run/keepalived/keepalived.pid",
                "/run/keepalived/vrrp.pid",
                "/run/keepalived/checkers.pid",
                "/run/evervip/control.sock",
            ]
        );
        settings.instance = Some("x".into());
        assert_eq!(
            names(&settings),
            [
                "/run/keepalived/keepalived_x.pid",
                "/run/keepalived/vrrp_x.pid",
                "/run/keepalived/checkers_x.pid",
                "/run/evervip/control_x.sock",
            ]
        );
        settings.namespace = Some("blue".into());
        assert_eq!(
            names(&settings),
            [
                "/run/keepalived/blue/keepalived_x.pid",
                "/run/keepalived/blue/vrrp_x.pid",
                "/run/keepalived/blue/checkers_x.pid",
                "/run/evervip/control_blue_x.sock",
            ]
        );
        assert_eq!(of(&settings).suffix(), "_blue_x");
        let mark = of(&settings).mark(&Options::default());
        assert_eq!(*mark, *"evervip /run/keepalived/blue/vrrp_x.pid");
    }

    #[test]
    fn the_command_line_comes_first() {
        let settings = Settings { namespace: Some("blue".into()), ..Settings::default() };
        let mut options = Options { namespace: Some("red".into()), ..Options::default() };
        let place = Place::of(&options, &settings).unwrap();
        assert_eq!(place.namespace.as_deref(), Some("red"));
        options.pid_files.supervisor = Some("/run/a.pid".into());
        let [main, vrrp, _] = place.pid_files(&options);
        assert_eq!(main, Path::new("/run/a.pid"));
        assert_eq!(vrrp, Path::new("/run/keepalived/red/vrrp.pid"));
        assert_eq!(place.socket(&options), Path::new("/run/a.sock"));
    }

    #[test]
    fn what_a_reload_cannot_change_is_named() {
        let settings = Settings::default();
        let place = of(&settings);
        assert_eq!(place.difference(&of(&settings)), None);
        let other = Settings { namespace: Some("blue".into()), ..Settings::default() };
        assert_eq!(place.difference(&of(&other)), Some("net_namespace"));
        let other = Settings { instance: Some("x".into()), ..Settings::default() };
        assert_eq!(place.difference(&of(&other)), Some("instance"));
        let other = Settings { use_pid_directory: true, ..Settings::default() };
        assert_eq!(place.difference(&of(&other)), Some("use_pid_dir"));
        let other = Settings { instance: Some("../x".into()), ..Settings::default() };
        let wrong = Place::of(&Options::default(), &other).unwrap_err();
        assert_eq!(wrong, "instance ../x: this cannot be the name of a file");
    }
}
