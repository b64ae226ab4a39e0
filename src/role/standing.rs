//! Process settings from the configuration: name, nice value, processors and locked memory. A setting that a reload
//! removes is restored to its value at the start.

use std::ffi::{CStr, CString};

use super::table;
use crate::drive::bfd::Treatment;
use crate::drive::class::RealTime;
use crate::ipc::RoleName;
use crate::model::Global;
use crate::model::global::{ProcessSettings, Settings};
use crate::sys::{process, sched};

/// Names of keepalived's processes, which tools look for (`process_names`).
const NAMES: [(RoleName, &str); 2] =
    [(RoleName::Vrrp, "keepalived_vrrp"), (RoleName::Checker, "keepalived_lvs")];
const BFD_NAME: &str = "keepalived_bfd";

/// The settings in effect for this process.
pub struct Standing {
    role: RoleName,
    /// Nice value and processors at the start.
    nice: i8,
    processors: Vec<u32>,
    now: ProcessSettings,
}

impl Standing {
    /// No settings applied yet.
    pub fn new(role: RoleName) -> Self {
        Self {
            role,
            nice: sched::own_nice(),
            processors: sched::processors().unwrap_or_default(),
            now: ProcessSettings::default(),
        }
    }

    /// Applies the settings that differ from those in effect.
    pub fn take(&mut self, global: &Global) {
        let settings = &global.settings;
        let wanted = match self.role {
            RoleName::Vrrp => ProcessSettings {
                nice: global.vrrp_nice,
                // The BFD thread is part of this process.
                no_swap: global.vrrp_no_swap || settings.bfd.no_swap,
                ..settings.vrrp.clone()
            },
            _ => settings.checker.clone(),
        };
        let wanted = ProcessSettings { name: name(self.role, settings).map(Into::into), ..wanted };
        let before = core::mem::replace(&mut self.now, wanted);
        let wanted = &self.now;
        if wanted.name != before.name {
            set_name(wanted.name.as_deref(), table::row(self.role).title);
        }
        if wanted.nice != before.nice {
            let nice = wanted.nice.unwrap_or(self.nice);
            if let Err(e) = sched::nice(nice) {
                tracing::warn!("cannot use nice value {nice}: {e}");
            }
        }
        if wanted.cpus != before.cpus {
            let processors = if wanted.cpus.is_empty() { &self.processors } else { &wanted.cpus };
            if let Err(e) = sched::run_on(processors) {
                tracing::warn!("cannot run on processors {processors:?}: {e}");
            }
        }
        if wanted.no_swap != before.no_swap {
            let done = if wanted.no_swap { sched::lock_memory() } else { sched::unlock_memory() };
            if let Err(e) = done {
                tracing::warn!("cannot lock memory: {e}");
            }
        }
    }

    /// The configured treatment of the BFD thread, after [`Self::take`]: what is not configured is as for the process.
    pub fn bfd(&self, global: &Global) -> Treatment {
        let settings = &global.settings;
        let own = &settings.bfd;
        let name = configured(own.name.as_deref(), BFD_NAME, settings).unwrap_or("bfd");
        let processors = [&own.cpus, &self.now.cpus, &self.processors];
        Treatment {
            name: CString::new(name).unwrap_or_default(),
            nice: own.nice.or(self.now.nice).unwrap_or(self.nice),
            processors: processors
                .into_iter()
                .find(|all| !all.is_empty())
                .cloned()
                .unwrap_or_default(),
            real_time: RealTime {
                priority: own.rt_priority,
                // A process has one limit: the larger one, so that neither thread is killed within its own.
                limit: own.rt_limit.max(self.now.rt_limit),
                ..RealTime::default()
            },
        }
    }

    /// The configured scheduling of the role's time-critical thread.
    pub fn real_time(&self, global: &Global) -> RealTime {
        let settings = &global.settings;
        let priority = match self.role {
            RoleName::Vrrp => global.vrrp_rt_priority,
            _ => settings.checker.rt_priority,
        };
        RealTime {
            priority,
            limit: match self.role {
                // That of the BFD thread counts too, see `bfd`.
                RoleName::Vrrp if settings.bfd.rt_priority.is_some() => {
                    settings.bfd.rt_limit.max(self.now.rt_limit)
                }
                _ => self.now.rt_limit,
            },
            most: u8::try_from(settings.max_auto_priority).ok().filter(|most| *most > 0),
            delay: settings.min_auto_priority_delay,
        }
    }
}

/// The configured name of a process.
fn name(role: RoleName, settings: &Settings) -> Option<&str> {
    let own = match role {
        RoleName::Vrrp => &settings.vrrp.name,
        _ => &settings.checker.name,
    };
    let theirs = NAMES.iter().find(|(r, _)| *r == role).map(|(_, name)| *name);
    configured(own.as_deref(), theirs.unwrap_or_default(), settings)
}

/// The name of its own, that of keepalived with `process_names`, or `process_name`.
fn configured<'a>(
    own: Option<&'a str>,
    theirs: &'a str,
    settings: &'a Settings,
) -> Option<&'a str> {
    own.or_else(|| settings.process_names.then_some(theirs)).or(settings.process_name.as_deref())
}

/// Sets the name of this process, or restores the original one.
pub fn set_name(name: Option<&str>, otherwise: &CStr) {
    let name = name.and_then(|name| CString::new(name).ok());
    process::set_name(name.as_deref().unwrap_or(otherwise));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_its_own_name_or_keepaliveds_or_that_of_the_first() {
        let mut settings = Settings::default();
        let names = |settings: &Settings| {
            [RoleName::Vrrp, RoleName::Checker].map(|role| name(role, settings).map(str::to_owned))
        };
        assert_eq!(names(&settings), [None, None]);
        settings.process_name = Some("ha".into());
        assert_eq!(names(&settings), [Some("ha".into()), Some("ha".into())]);
        settings.process_names = true;
        let theirs = [Some("keepalived_vrrp".into()), Some("keepalived_lvs".into())];
        assert_eq!(names(&settings), theirs);
        settings.checker.name = Some("checks".into());
        assert_eq!(names(&settings), [Some("keepalived_vrrp".into()), Some("checks".into())]);
    }
}
