//! Policy rules as objects. A rule refers to its interfaces by name: it can exist without them, and the kernel keeps it
//! when they are deleted.

use core::fmt;

use crate::base::Prefix;
use crate::model::route::{Rule, RuleAction};

/// `RT_TABLE_MAIN`
const MAIN: u32 = 254;

/// The rule as the kernel reports it. All of it is its identity: no attribute can be changed.
#[must_use]
pub fn identity(rule: &Rule) -> Box<Rule> {
    let selector = |prefix: Option<Prefix>| prefix.filter(|p| p.length() > 0).map(|p| p.network());
    Box::new(Rule {
        from: selector(rule.from),
        to: selector(rule.to),
        tos: rule.tos.filter(|tos| *tos != 0),
        mark: rule.mark.filter(|mark| *mark != (0, 0)),
        tunnel: rule.tunnel.filter(|id| *id != 0),
        ip_protocol: rule.ip_protocol.filter(|number| *number != 0),
        action: match rule.action {
            RuleAction::Table { table, realms, suppress_length, suppress_group } => {
                RuleAction::Table {
                    table,
                    realms: realms.filter(|realms| *realms != 0),
                    suppress_length,
                    suppress_group,
                }
            }
            other => other,
        },
        no_track: false,
        ..rule.clone()
    })
}

/// As in `rule 100 from 10.1.0.0/16 iif eth0 table 200`.
pub(super) fn describe(rule: &Rule, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "rule {}", rule.preference)?;
    if rule.invert {
        f.write_str(" not")?;
    }
    match (rule.from, rule.to) {
        (None, None) => write!(f, " of {}", rule.family)?,
        (from, to) => {
            from.map_or(Ok(()), |prefix| write!(f, " from {prefix}"))?;
            to.map_or(Ok(()), |prefix| write!(f, " to {prefix}"))?;
        }
    }
    for (word, interface) in [("iif", &rule.input), ("oif", &rule.output)] {
        if let Some(interface) = interface {
            write!(f, " {word} {interface}")?;
        }
    }
    if let Some((mark, mask)) = rule.mark {
        write!(f, " fwmark {mark:#x}")?;
        if mask != u32::MAX {
            write!(f, "/{mask:#x}")?;
        }
    }
    match rule.action {
        RuleAction::Table { table: MAIN, .. } => f.write_str(" table main"),
        RuleAction::Table { table, .. } => write!(f, " table {table}"),
        RuleAction::MasterDevice => f.write_str(" l3mdev"),
        RuleAction::Goto(target) => write!(f, " goto {target}"),
        RuleAction::Nop => f.write_str(" nop"),
        RuleAction::Blackhole => f.write_str(" blackhole"),
        RuleAction::Unreachable => f.write_str(" unreachable"),
        RuleAction::Prohibit => f.write_str(" prohibit"),
    }
}
