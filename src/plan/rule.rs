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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Family;
    use crate::model::sample;

    fn prefix(text: &str) -> Option<Prefix> {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap())
    }

    fn with(change: impl FnOnce(&mut Rule)) -> Box<Rule> {
        let mut rule = sample::rule(Family::V4, 100, 200);
        change(&mut rule);
        identity(&rule)
    }

    fn realms(number: u32) -> RuleAction {
        RuleAction::Table {
            table: 200,
            realms: Some(number),
            suppress_length: None,
            suppress_group: None,
        }
    }

    #[test]
    fn what_the_kernel_does_not_report_is_no_part_of_the_identity() {
        let plain = with(|_| ());
        let spellings = [
            with(|r| r.from = prefix("0.0.0.0/0")),
            with(|r| r.to = prefix("0.0.0.0/0")),
            with(|r| r.tos = Some(0)),
            with(|r| r.mark = Some((0, 0))),
            with(|r| r.tunnel = Some(0)),
            with(|r| r.ip_protocol = Some(0)),
            with(|r| r.action = realms(0)),
            with(|r| r.no_track = true),
        ];
        for (number, spelling) in spellings.iter().enumerate() {
            assert_eq!(*spelling, plain, "{number}");
        }
        // The kernel clears the bits of the host.
        assert_eq!(
            with(|r| r.from = prefix("10.1.2.3/16")),
            with(|r| r.from = prefix("10.1.0.0/16"))
        );
        assert_eq!(with(|r| r.to = prefix("10.1.2.3/16")), with(|r| r.to = prefix("10.1.0.0/16")));
    }

    #[test]
    fn rules_that_differ_in_one_attribute_are_two() {
        let rules = [
            with(|_| ()),
            with(|r| r.preference = 101),
            with(|r| r.invert = true),
            with(|r| r.from = prefix("10.1.0.0/16")),
            with(|r| r.to = prefix("10.1.0.0/16")),
            with(|r| r.input = "eth0".parse().ok()),
            with(|r| r.output = "eth0".parse().ok()),
            with(|r| r.tos = Some(8)),
            with(|r| r.mark = Some((0, u32::MAX))),
            with(|r| r.mark = Some((1, u32::MAX))),
            with(|r| r.tunnel = Some(1)),
            with(|r| r.users = Some((0, 0))),
            with(|r| r.ip_protocol = Some(6)),
            with(|r| r.source_ports = Some((1, 1))),
            with(|r| r.destination_ports = Some((1, 1))),
            with(|r| r.action = realms(7)),
            with(|r| r.action = RuleAction::Goto(200)),
            with(|r| r.action = RuleAction::Blackhole),
            with(|r| r.protocol = 4),
        ];
        for (i, one) in rules.iter().enumerate() {
            for other in &rules[i + 1..] {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn a_rule_is_described_as_ip_shows_it() {
        let text = |change: fn(&mut Rule)| {
            let rule = with(change);
            crate::plan::Object::Rule(rule).to_string()
        };
        assert_eq!(text(|_| ()), "rule 100 of IPv4 table 200");
        assert_eq!(
            text(|r| {
                (r.invert, r.from, r.to) = (true, prefix("10.1.0.0/16"), prefix("10.2.0.0/16"));
                (r.input, r.output) = ("eth0".parse().ok(), "eth1".parse().ok());
                r.mark = Some((0x10, 0xff));
            }),
            "rule 100 not from 10.1.0.0/16 to 10.2.0.0/16 iif eth0 oif eth1 fwmark 0x10/0xff table 200"
        );
        assert_eq!(text(|r| r.mark = Some((1, u32::MAX))), "rule 100 of IPv4 fwmark 0x1 table 200");
        assert_eq!(text(|r| r.action = RuleAction::Goto(7)), "rule 100 of IPv4 goto 7");
        assert_eq!(text(|r| r.action = RuleAction::Prohibit), "rule 100 of IPv4 prohibit");
    }
}
