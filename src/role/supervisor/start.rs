//! Starts the processes of roles, sends them the configuration in force, connects them with the roles they talk to, and
//! dismisses those that no configuration needs.

use std::os::unix::ffi::OsStrExt;

use super::{Memory, Options, Place, ROLES, Reload, RoleName, Setup, Supervisor, ToRole};
use crate::log;
use crate::sys::channel::Channel;

/// Roles that `api` queries.
const ASKED: [RoleName; 2] = [RoleName::Vrrp, RoleName::Checker];
/// Pairs of roles that have a channel, in the order of their names in [`RoleName`].
pub(super) const CHANNELS: [(RoleName, RoleName); 4] = [
    (RoleName::Vrrp, RoleName::Runner),
    (RoleName::Runner, RoleName::Checker),
    (RoleName::Vrrp, RoleName::Api),
    (RoleName::Checker, RoleName::Api),
];

impl Supervisor {
    /// Restarts a role that ended, and sends it the configuration in force.
    pub(super) fn start_again(&mut self, role: RoleName) {
        if role == RoleName::Api {
            self.start_api();
            return;
        }
        self.start(role);
        let candidate = match &self.reload {
            Reload::Preparing { candidate, waiting, .. } if waiting.contains(&role) => {
                Some(&**candidate)
            }
            _ => None,
        };
        // At the start there is only the first one, which is not yet to be applied. During a reload the process resumes
        // its work, if it has any, and decodes the next one as well.
        let has_work = self.children.iter().any(|child| child.role == role && child.wanted);
        let current = self.current.as_ref().filter(|_| has_work);
        let mut orders = Vec::new();
        for (configuration, apply) in [(current, true), (candidate, false)] {
            let Some(configuration) = configuration else { continue };
            let generation = configuration.generation;
            match configuration.parts.of(role) {
                Ok(part) => {
                    orders.push((ToRole::Prepare { generation }, vec![part]));
                    if apply {
                        orders.push((ToRole::Apply { generation }, Vec::new()));
                    }
                }
                Err(e) => tracing::error!("cannot pass the configuration to {role}: {e}"),
            }
        }
        if let Some(child) = self.child(role) {
            for (order, fds) in orders {
                child.tell(&order, fds);
            }
        }
    }

    /// Starts a role and connects it with the roles it talks to.
    pub(super) fn start(&mut self, role: RoleName) {
        let setup = self.setup_of(role);
        let ipvs = self.ipvs.filter(|_| role == RoleName::Vrrp);
        let observed =
            (role == RoleName::Checker && !self.observed.is_empty()).then(|| self.observed.clone());
        let resume = match role {
            RoleName::Vrrp => {
                self.summary_is_own = false;
                self.summary.clone().map(Memory::Vrrp)
            }
            RoleName::Checker => self.checks.clone().map(Memory::Checker),
            RoleName::Runner | RoleName::Config | RoleName::Api => None,
        };
        self.given.retain(|(of, _), _| *of != role);
        let Some(child) = self.child(role) else {
            return;
        };
        if let Err(e) = child.start(&setup) {
            tracing::error!("cannot start the {role} process: {e}, trying again");
            return;
        }
        if let Some(memory) = resume {
            child.tell(&ToRole::Resume(memory), Vec::new());
        }
        if let Some(works) = ipvs {
            child.tell(&ToRole::Ipvs { works }, Vec::new());
        }
        if let Some(observed) = observed {
            child.tell(&ToRole::Observed(observed), Vec::new());
        }
        let asked = ASKED.into_iter();
        match role {
            RoleName::Runner => asked.for_each(|other| self.connect(RoleName::Runner, other)),
            RoleName::Api => asked.for_each(|other| self.connect(RoleName::Api, other)),
            other => {
                self.connect(RoleName::Runner, other);
                self.connect(RoleName::Api, other);
            }
        }
    }

    /// The process of a role ended as it was told to. If a newer configuration needs the role again, its next process
    /// starts now.
    pub(super) fn has_stopped(&mut self, role: RoleName) {
        let is_awaited =
            matches!(&self.reload, Reload::Preparing { waiting, .. } if waiting.contains(&role));
        let is_wanted = self.child(role).is_some_and(|child| child.wanted);
        if ROLES.contains(&role) && (is_awaited || is_wanted) {
            self.want_pid_file(role);
            self.start_again(role);
        }
    }

    /// Tells the process of a role that is not needed to stop, and forgets what it reported: its next process begins
    /// anew.
    pub(super) fn dismiss(&mut self, role: RoleName, keep: bool) {
        match role {
            RoleName::Vrrp => {
                self.summary = None;
                self.observed.clear();
            }
            RoleName::Checker => {
                self.checks = None;
                self.ipvs = (!self.options.checker).then_some(true);
            }
            RoleName::Runner | RoleName::Config | RoleName::Api => {}
        }
        if let Some(child) = self.child(role) {
            child.forget_restart();
            child.tell(&ToRole::Stop { keep }, Vec::new());
            child.set_pid_file(None);
        }
    }

    /// The setup of the next process of a role.
    pub(super) fn setup_of(&self, role: RoleName) -> Setup {
        let mut setup = self.setup.clone();
        setup.keep = self.keeps(role);
        setup.again = self.children.iter().any(|c| c.role == role && c.was_started());
        if role == RoleName::Checker {
            setup.writes = self.services.as_ref().map(|path| path.as_os_str().as_bytes().into());
        }
        setup
    }

    /// Creates a channel between two roles, if both run.
    pub(super) fn connect(&mut self, first: RoleName, second: RoleName) {
        let both = [(first, second), (second, first)];
        let runs = |role| self.children.iter().any(|c| c.role == role && c.is_running());
        if !runs(first) || !runs(second) {
            return;
        }
        match Channel::pair() {
            Ok((near, far)) => {
                self.unconnected.remove(&(first.min(second), first.max(second)));
                for ((role, other), end) in both.into_iter().zip([near, far]) {
                    *self.given.entry((role, other)).or_default() += 1;
                    if let Some(child) = self.child(role) {
                        child.tell(&ToRole::Connect(other), vec![end.into_fd()]);
                    }
                }
            }
            Err(e) => {
                tracing::error!("cannot connect {first} and {second}: {e}, trying again");
                self.unconnected.insert((first.min(second), first.max(second)));
                self.pass_on_soon();
            }
        }
    }
}

/// Where the processes of this daemon log.
#[must_use]
pub fn log_settings(options: &Options, place: &Place) -> log::Settings {
    log::Settings {
        identity: "EverVIP".into(),
        suffix: place.suffix(),
        syslog: !options.no_syslog,
        facility: options.facility,
        console: options.console,
        file: options.log_file.clone(),
        detail: options.detail,
    }
}

/// The setup that is sent to each role first.
pub(super) fn setup(options: &Options, place: &Place, user: Option<(u32, u32)>) -> Setup {
    Setup {
        log: log_settings(options, place),
        keep: false,
        undo: false,
        again: false,
        ignore_sigint: options.ignore_sigint,
        watch_addresses: options.watch_addresses,
        no_bfd: !options.bfd,
        user,
        core_files: options.core_files,
        umask: options.umask,
        mark: place.mark(options),
        writes: None,
    }
}
