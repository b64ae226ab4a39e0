//! The statistics of an instance: by their names in `keepalived.json`, and as the text of `keepalived.stats`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Vrrp;
use crate::base::Name;
use crate::model::{self, diff};
use crate::status::vrrp::{self as view, Counters};

/// One of the statistics: its name in JSON, and where it comes from.
struct Statistic(&'static str, fn(&Counters) -> u64);

/// All of them, in the order of the JSON file.
static ALL: [Statistic; 20] = [
    Statistic("advert_rcvd", |c| c.adverts_received),
    Statistic("advert_sent", |c| c.adverts_sent),
    Statistic("become_master", |c| c.became_master),
    Statistic("release_master", |c| c.released_master),
    Statistic("packet_len_err", |c| c.bad_length),
    Statistic("advert_interval_err", |c| c.bad_interval),
    Statistic("ip_ttl_err", |c| c.bad_ttl),
    Statistic("invalid_type_rcvd", |c| c.bad_type),
    Statistic("addr_list_err", |c| c.bad_address_count.saturating_add(c.address_list_mismatch)),
    Statistic("invalid_authtype", |c| c.bad_auth_type),
    Statistic("authtype_mismatch", |c| c.auth_mismatch),
    Statistic("auth_failure", |c| c.auth_failure),
    Statistic("auth_ext_missing", |c| c.auth_missing),
    Statistic("auth_ext_malformed", |c| c.auth_malformed),
    Statistic("auth_ext_unknown_key", |c| c.auth_unknown_key),
    Statistic("auth_ext_invalid_hmac", |c| c.auth_invalid_hmac),
    Statistic("auth_ext_stale", |c| c.auth_stale),
    Statistic("auth_ext_replay", |c| c.auth_replay),
    Statistic("pri_zero_rcvd", |c| c.priority_zero_received),
    Statistic("pri_zero_sent", |c| c.priority_zero_sent),
];

/// The lines of `keepalived.stats`: heading, label and name of the statistic. Those of one heading follow one another;
/// one without a heading is a line of its own.
const LINES: [(&str, &str, &str); 20] = [
    ("Advertisements", "Received", "advert_rcvd"),
    ("Advertisements", "Sent", "advert_sent"),
    ("", "Became master", "become_master"),
    ("", "Released master", "release_master"),
    ("Packet Errors", "Length", "packet_len_err"),
    ("Packet Errors", "TTL", "ip_ttl_err"),
    ("Packet Errors", "Invalid Type", "invalid_type_rcvd"),
    ("Packet Errors", "Advertisement Interval", "advert_interval_err"),
    ("Packet Errors", "Address List", "addr_list_err"),
    ("Authentication Errors", "Invalid Type", "invalid_authtype"),
    ("Authentication Errors", "Type Mismatch", "authtype_mismatch"),
    ("Authentication Errors", "Failure", "auth_failure"),
    ("Authentication Extension Errors", "Missing", "auth_ext_missing"),
    ("Authentication Extension Errors", "Malformed", "auth_ext_malformed"),
    ("Authentication Extension Errors", "Unknown Key", "auth_ext_unknown_key"),
    ("Authentication Extension Errors", "Invalid HMAC", "auth_ext_invalid_hmac"),
    ("Authentication Extension Errors", "Stale", "auth_ext_stale"),
    ("Authentication Extension Errors", "Replay", "auth_ext_replay"),
    ("Priority Zero", "Received", "pri_zero_rcvd"),
    ("Priority Zero", "Sent", "pri_zero_sent"),
];

/// The counters of instances when they were last set to zero for the files. The counters themselves continue: other
/// readers, such as monitoring by metrics, need ones that never decrease.
#[derive(Clone, Debug, Default)]
pub struct Cleared(BTreeMap<Name, Counters>);

impl Cleared {
    /// Sets all counters of the files to zero.
    pub fn clear(&mut self, view: &view::Vrrp) {
        self.0 = view.instances.iter().map(|i| (i.name.clone(), i.counters)).collect();
    }

    /// A reload: an instance that stays keeps its counters, under another name, too; one that is added counts from the
    /// beginning.
    pub fn carry(&mut self, old: &model::Vrrp, new: &model::Vrrp) {
        if self.0.is_empty() {
            return;
        }
        let mut before = core::mem::take(&mut self.0);
        for (from, to) in diff::instances(old, new).kept {
            if let (Some(from), Some(to)) = (old.instances.get(from), new.instances.get(to))
                && let Some(counters) = before.remove(&from.name)
            {
                self.0.insert(to.name.clone(), counters);
            }
        }
    }

    /// The statistics of an instance by name, in the order of the JSON file.
    pub(super) fn of(
        &self,
        instance: &view::Instance,
    ) -> impl Iterator<Item = (&'static str, u64)> {
        let before = self.0.get(&instance.name);
        ALL.iter().map(move |Statistic(name, of)| {
            let count = of(&instance.counters);
            // A counter that is below its last value began anew.
            (*name, before.map(of).and_then(|before| count.checked_sub(before)).unwrap_or(count))
        })
    }
}

impl Vrrp<'_> {
    /// `keepalived.stats`
    #[must_use]
    pub fn stats(&self) -> String {
        let mut text = String::new();
        for (_, instance) in self.instances() {
            let all: BTreeMap<&str, u64> = self.cleared.of(instance).collect();
            let _ = writeln!(text, "VRRP Instance: {}", instance.name);
            let mut last = "";
            for (heading, label, name) in LINES {
                if heading != last && !heading.is_empty() {
                    let _ = writeln!(text, "  {heading}:");
                }
                last = heading;
                let indent = if heading.is_empty() { "  " } else { "    " };
                let count = all.get(name).copied().unwrap_or_default();
                let _ = writeln!(text, "{indent}{label}: {count}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statistic_has_one_line() {
        let mut of_lines = LINES.map(|(_, _, name)| name);
        let mut of_json = ALL.each_ref().map(|Statistic(name, _)| *name);
        of_lines.sort_unstable();
        of_json.sort_unstable();
        assert_eq!(of_lines, of_json);
    }
}
