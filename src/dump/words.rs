//! Words that the files have in common: addresses, commands, numbers.

use core::time::Duration;
use std::fmt::Write as _;

use crate::base::{IfName, Prefix};
use crate::model::Instance;
use crate::model::address::{Address, Lifetime};
use crate::model::link::VirtualLink;
use crate::model::notify::Command;
use crate::status::vrrp::{self as view, State};

/// A prefix, for a single host without its length.
pub fn prefix(prefix: &Prefix) -> String {
    let single = if prefix.address.is_ipv4() { 32 } else { 128 };
    if prefix.length() == single { prefix.address.to_string() } else { prefix.to_string() }
}

/// A command: its words in apostrophes. What an apostrophe in a word means is not told, as in keepalived's files.
pub fn command(command: &Command) -> String {
    let words: Vec<String> =
        command.words.iter().map(|w| format!("'{}'", String::from_utf8_lossy(w))).collect();
    words.join(" ")
}

/// Seconds with at most six significant digits, without a fraction if there is none.
pub fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    let digits = whole.checked_ilog10().map_or(0, |n| n as usize + 1);
    // Of a number below one the zero in front does not count, but six decimals are all that there is in microseconds.
    let text = format!("{:.*}", 6_usize.saturating_sub(digits), time.as_secs_f64());
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}

/// The scope of an address or a route.
pub fn scope(number: u8) -> String {
    match number {
        0 => "global".into(),
        200 => "site".into(),
        253 => "link".into(),
        254 => "host".into(),
        255 => "nowhere".into(),
        other => other.to_string(),
    }
}

/// An address of an instance, as one line.
pub fn virtual_address(address: &Address, config: &Instance, view: &view::Instance) -> String {
    let created = config.links().find(|link| link.name == address.interface);
    let own = config.own_link().is_some_and(|own| Some(own) == created);
    let set = view.addresses_held.contains(&address.prefix);
    let mut line = line(address, created, created.is_some() && !own);
    if set {
        line.push_str(" set");
    }
    if config.is_closed() && view.state == State::Master {
        line.push_str(" nftable_set");
    }
    line
}

/// An address as one line, without what is known about its presence. `created`: the interface that is created for it.
fn line(address: &Address, created: Option<&VirtualLink>, alone: bool) -> String {
    let Address {
        prefix: own, interface, broadcast, peer, label, preferred, flags, no_track, ..
    } = address;
    let mut line = prefix(own);
    let mut put = |text: core::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = line.write_fmt(text);
    };
    if let Some(broadcast) = broadcast {
        put(format_args!(" brd {broadcast}"));
    }
    put(format_args!(" dev {}", device(interface, created)));
    if alone {
        put(format_args!(" use_vmac"));
    }
    put(format_args!(" scope {}", scope(address.scope)));
    if let Some(label) = label {
        put(format_args!(" label {label}"));
    }
    if let Some(peer) = peer {
        put(format_args!(" peer {peer}"));
    }
    for (word, given) in [
        ("home", flags.home),
        ("-nodad", flags.dad),
        ("mngtmpaddr", flags.manage_temporary),
        ("noprefixroute", flags.no_prefix_route),
        ("autojoin", flags.autojoin),
        ("no_track", *no_track),
    ] {
        if given {
            put(format_args!(" {word}"));
        }
    }
    if own.address.is_ipv6() {
        match preferred {
            Lifetime::Forever => put(format_args!(" preferred_lft forever")),
            Lifetime::For(time) if time.is_zero() => put(format_args!(" deprecated")),
            Lifetime::For(time) => put(format_args!(" preferred_lft {}", time.as_secs())),
        }
    }
    line
}

fn device(interface: &IfName, created: Option<&VirtualLink>) -> String {
    match created {
        Some(link) => format!("{interface}@{}", link.parent),
        None => interface.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_six_significant_digits() {
        for (micros, text) in [
            (0, "0"),
            (1_000_000, "1"),
            (500_000, "0.5"),
            (550_000, "0.55"),
            (10_000, "0.01"),
            (40_950_000, "40.95"),
            (1_234_567, "1.23457"),
            (4_294_000_000, "4294"),
            (4_294_967_000, "4294.97"),
            (100_000_000, "100"),
        ] {
            assert_eq!(seconds(Duration::from_micros(micros)), text);
        }
    }
}
