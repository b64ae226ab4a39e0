//! Host-wide settings that concern virtual MACs: reports of link-local groups (`disable_local_igmp`), which this
//! process switches off and on again, and the reverse path filter, of which it only warns.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::base::Family;
use crate::model::{LinkKind, Vrrp};

const FOLDER: &str = "/proc/sys/net/ipv4";
const REPORTS: &str = "igmp_link_local_mcast_reports";
const PATHS: &str = "conf/all/rp_filter";

/// The changed settings.
pub(super) struct HostSettings {
    folder: PathBuf,
    /// The original value of [`REPORTS`], while it is changed.
    reports: Option<u32>,
    /// The warning about the reverse path filter has been logged.
    told: bool,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self { folder: FOLDER.into(), reports: None, told: false }
    }
}

impl HostSettings {
    /// Takes over the original value of the setting from the previous process of this role, which had changed it.
    pub fn resume(&mut self, reports: Option<u32>) {
        self.reports = reports;
    }

    /// The original value, if it was changed.
    pub const fn reports_before(&self) -> Option<u32> {
        self.reports
    }

    /// Applies the settings of a new configuration.
    pub fn take(&mut self, config: &Vrrp) {
        let mut links = config.instances.iter().flat_map(|instance| instance.links());
        let has_vmac = links
            .any(|link| link.family == Family::V4 && matches!(link.kind, LinkKind::Macvlan { .. }));
        if has_vmac && config.disable_local_igmp {
            self.silence();
        } else {
            self.restore();
        }
        self.look_at_paths(has_vmac);
    }

    /// Switches off the reports of link-local groups.
    fn silence(&mut self) {
        let result = self.read(REPORTS).and_then(|value| {
            if value != 0 {
                self.write(REPORTS, 0)?;
                self.reports = Some(value);
            }
            Ok(())
        });
        if let Err(e) = result {
            tracing::warn!("disable_local_igmp: {REPORTS}: {e}");
        }
    }

    /// Restores the reports, unless another program has changed the setting meanwhile.
    pub fn restore(&mut self) {
        let Some(before) = self.reports.take() else { return };
        let result = self.read(REPORTS).and_then(|value| match value {
            0 => self.write(REPORTS, before),
            _ => Ok(()),
        });
        if let Err(e) = result {
            tracing::warn!("cannot set {REPORTS} to {before} again: {e}");
        }
    }

    /// Warns if the reverse path filter is strict: the kernel then drops packets that arrive on a virtual MAC's
    /// interface, because the route back to clients leaves by the parent interface.
    fn look_at_paths(&mut self, has_vmac: bool) {
        let strict = has_vmac && self.read(PATHS).is_ok_and(|value| value == 1);
        if strict && !self.told {
            tracing::warn!(
                "net.ipv4.conf.all.rp_filter is 1: the kernel drops packets to virtual addresses on interfaces of \
                 use_vmac when the route back leaves by another interface; set it to 0 or 2"
            );
        }
        self.told = strict;
    }

    fn read(&self, name: &str) -> io::Result<u32> {
        let text = fs::read_to_string(self.folder.join(name))?;
        text.trim().parse().map_err(io::Error::other)
    }

    fn write(&self, name: &str, value: u32) -> io::Result<()> {
        let mut file = fs::File::options().write(true).open(self.folder.join(name))?;
        io::Write::write_all(&mut file, format!("{value}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;

    /// Settings in a folder of the test, and a configuration with a virtual MAC.
    fn begin() -> (tempfile::TempDir, HostSettings, Vrrp) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("conf/all")).unwrap();
        fs::write(folder.path().join(REPORTS), "1\n").unwrap();
        fs::write(folder.path().join(PATHS), "0\n").unwrap();
        let settings = HostSettings { folder: folder.path().into(), ..HostSettings::default() };
        let mut instance = sample::instance("A", "eth0", 5, 100, &["10.0.0.5/24"]);
        sample::vmac(&mut instance);
        let config =
            Vrrp { instances: vec![instance], disable_local_igmp: true, ..Vrrp::default() };
        (folder, settings, config)
    }

    #[test]
    fn reports_are_switched_off_and_on_again() {
        let (folder, mut settings, mut config) = begin();
        let read = || fs::read_to_string(folder.path().join(REPORTS)).unwrap();
        settings.take(&config);
        assert_eq!((read().as_str(), settings.reports_before()), ("0\n", Some(1)));
        settings.take(&config);
        assert_eq!(settings.reports_before(), Some(1));
        // The next process of the role is given the original value.
        let mut next = HostSettings { folder: folder.path().into(), ..HostSettings::default() };
        next.resume(settings.reports_before());
        next.take(&config);
        assert_eq!(next.reports_before(), Some(1));
        config.disable_local_igmp = false;
        next.take(&config);
        assert_eq!((read().as_str(), next.reports_before()), ("1\n", None));
        // Without a virtual MAC there is nothing to switch off.
        config.disable_local_igmp = true;
        config.instances[0].extras = None;
        next.take(&config);
        assert_eq!(read(), "1\n");
    }

    #[test]
    fn what_others_decide_stays() {
        let (folder, mut settings, config) = begin();
        let path = folder.path().join(REPORTS);
        fs::write(&path, "0\n").unwrap();
        settings.take(&config);
        settings.restore();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n");
        fs::write(&path, "1\n").unwrap();
        settings.take(&config);
        fs::write(&path, "2\n").unwrap();
        settings.restore();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
    }

    #[test]
    fn a_strict_filter_of_paths_is_told_of_once() {
        let (folder, mut settings, config) = begin();
        settings.take(&config);
        assert!(!settings.told);
        fs::write(folder.path().join(PATHS), "1\n").unwrap();
        settings.take(&config);
        assert!(settings.told);
        settings.take(&Vrrp::default());
        assert!(!settings.told);
    }
}
