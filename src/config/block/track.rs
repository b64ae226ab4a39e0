//! `track_file`, `vrrp_track_process`, `track_group`, `garp_group` and `bfd_instance`.

use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Args, Shape, Value, Words, block};
use crate::config::slot::{First, List, Many, One, OneList};
use crate::config::value::address::Ip;
use crate::config::value::number::{Bool, Exact, Flag, Int, Seconds, TIMER_MAX, integer};
use crate::config::value::text::{Interface, ObjectName, Path, SoleName, choice};
use crate::config::value::tracker::BlockWeight;

/// `init_file [VALUE] [overwrite]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InitFileWords {
    pub value: i32,
    pub overwrite: bool,
}

/// `process NAME [ARGS]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessWords(pub Vec<Box<[u8]>>);

/// Milliseconds with three decimals, kept in microseconds; the bounds are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Millis<const MIN: u64>(pub u64);

choice! {
    /// `param_match`
    pub enum ParamMatch {
        Initial = "initial",
        Partial = "partial",
    }
}

/// `param_match`, which may stand alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionalMatch(pub Option<ParamMatch>);

block! {
    /// A file whose content is a number. Instances, sync groups and checks that track it add the number, multiplied by a
    /// weight, or go into FAULT while it is not 0. The block must precede those that refer to it.
    pub struct TrackFile(ObjectName) = "track_file" {
        /// The file. Its directory must exist.
        file: First<Path> = "file", lenient;
        /// What the number is multiplied by; 0 means FAULT while the number is not 0.
        weight: First<BlockWeight<254>> = "weight", lenient, default(BlockWeight { weight: 1, reverse: false });
        /// Write this number, 0 if none is given, into the file at start if it does not exist; with `overwrite` always.
        init_file: One<InitFileWords> = "init_file";
    }
}

block! {
    /// Tracks how many processes of a name run. The kernel reports when they start and end; where it does not (in a container or
    /// a network namespace) all processes are looked at every second. The block must precede those that refer to it.
    pub struct TrackProcess(ObjectName) = "vrrp_track_process" {
        /// The program, and its arguments if they count.
        process: First<ProcessWords> = "process";
        /// How arguments are compared: all of them; with `partial` the first ones; with `initial` the first ones, of which
        /// the last may go on.
        param_match: One<OptionalMatch> = "param_match", otherwise("all, if there are any");
        /// What is added to the priority while enough processes run (if positive) or not (if negative). 0: FAULT while
        /// not enough run.
        weight: First<BlockWeight<254>> = "weight", lenient, default(BlockWeight { weight: 0, reverse: false });
        /// Minimum number of processes.
        quorum: One<Int<1, 65535>> = "quorum", default(Int(1));
        /// Maximum number of processes.
        quorum_max: One<Int<0, 65535>> = "quorum_max", otherwise("no limit");
        /// Sets `terminate_delay` and `fork_delay`.
        delay: One<Delay> = "delay";
        /// Seconds for which there must not be the wanted number of processes before that counts.
        terminate_delay: One<Delay> = "terminate_delay", otherwise("delay, else none");
        /// Seconds for which there must be the wanted number of processes before that counts.
        fork_delay: One<Delay> = "fork_delay", otherwise("delay, else none");
        /// Compare the first word of the command line, not the short name of the process.
        full_command: One<Flag> = "full_command";
    }
}

/// A delay of a tracked process.
pub(crate) type Delay = Seconds<1, 3_600_000_000>;

block! {
    /// Instances that also go into FAULT with the interfaces of static addresses, routes and rules that name this group.
    pub struct TrackGroup(SoleName) = "track_group" {
        /// The instances.
        group: OneList<ObjectName> = "group";
    }
}

block! {
    /// Interfaces that share a minimum time between gratuitous ARPs and between neighbour advertisements.
    pub struct GarpGroup(()) = "garp_group" {
        /// Seconds between gratuitous ARPs.
        garp_interval: One<Seconds<0, TIMER_MAX>> = "garp_interval";
        /// Seconds between neighbour advertisements.
        gna_interval: One<Seconds<0, TIMER_MAX>> = "gna_interval";
        /// One interface.
        interface: Many<Interface> = "interface";
        /// Several interfaces.
        interfaces: List<Interface> = "interfaces";
    }
}

block! {
    /// A BFD session. Instances, sync groups and checks can follow its state. The block must precede those that refer to it.
    pub struct BfdInstance(ObjectName) = "bfd_instance" {
        /// Address of the other end.
        neighbor_ip: One<Ip> = "neighbor_ip" | "neighbour_ip";
        /// Own address.
        source_ip: One<Ip> = "source_ip", otherwise("any");
        /// Shortest interval in milliseconds at which packets can be received.
        min_rx: One<Millis<1_000>> = "min_rx", default(Millis(10_000));
        /// Interval in milliseconds at which packets are sent while the session is up.
        min_tx: One<Millis<1_000>> = "min_tx", default(Millis(10_000));
        /// Interval in milliseconds at which packets are sent while the session is not up.
        idle_tx: One<Millis<1_000_000>> = "idle_tx", default(Millis(1_000_000));
        /// Number of packets missed before the session goes down.
        multiplier: One<Exact<1, 255>> = "multiplier", default(Exact(5));
        /// Send nothing before the other end does.
        passive: One<Flag> = "passive";
        /// TTL or hop limit of sent packets; received ones must have at least this, less `max_hops`. The default over IPv6
        /// accepts the 64 that keepalived sends.
        ttl: One<Exact<1, 255>> = "ttl" | "hoplimit", otherwise("255; over IPv6 64 is taken, too");
        /// Number of hops that a received packet may have travelled; 255 or -1: any.
        max_hops: One<Exact<-1, 255>> = "max_hops", default(Exact(0));
        /// Use port 4784 instead of 3784.
        multihop: One<Bool> = "multihop", default(Bool(false));
        /// Weight for trackers of the session that give none.
        weight: One<BlockWeight<253>> = "weight", default(BlockWeight { weight: 0, reverse: false });
        /// Notify the VRRP process only, unless `checker` is given too.
        vrrp: One<Flag> = "vrrp";
        /// Notify the checker process only, unless `vrrp` is given too.
        checker: One<Flag> = "checker";
    }
}

impl Value for InitFileWords {
    fn shape() -> Shape {
        Shape::Words("an optional number, and optionally 'overwrite'".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut new = Self { value: 0, overwrite: false };
        while let Some(word) = args.next() {
            if word.bytes == b"overwrite" {
                new.overwrite = true;
            } else if word.bytes.iter().any(u8::is_ascii_digit) {
                let number = integer(&word, i64::from(i32::MIN), i64::from(i32::MAX), false, cx);
                new.value = number.and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
                if !(-254..=254).contains(&new.value) {
                    let message = format!("{} counts as {}", new.value, new.value.clamp(-254, 254));
                    cx.report(Diagnostic::warning(&codes::RANGE, message).at(word.span()));
                }
            } else {
                crate::config::value::entry::unknown_option(&word, &["overwrite"], "init_file", cx);
            }
        }
        Some(new)
    }

    fn words(&self, out: &mut Words) {
        out.show(self.value);
        if self.overwrite {
            out.push("overwrite");
        }
    }
}

impl Value for ProcessWords {
    fn shape() -> Shape {
        Shape::Words("a program and its arguments".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut words = vec![args.need(cx)?.bytes.into()];
        while let Some(word) = args.next() {
            words.push(word.bytes.into());
        }
        Some(Self(words))
    }

    fn words(&self, out: &mut Words) {
        for word in &self.0 {
            out.push(word);
        }
    }
}

impl Value for OptionalMatch {
    fn shape() -> Shape {
        Shape::Words("nothing for all, or one of initial, partial".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        match args.peek() {
            None => Some(Self(None)),
            Some(_) => ParamMatch::read(args, cx).map(|m| Self(Some(m))),
        }
    }

    fn words(&self, out: &mut Words) {
        if let Some(how) = self.0 {
            out.push(how.word());
        }
    }
}

impl<const MIN: u64> Value for Millis<MIN> {
    fn shape() -> Shape {
        Shape::Words(format!(
            "milliseconds from {} to 4294967, with up to three decimals",
            MIN / 1000
        ))
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let read = crate::config::value::number::decimal(word.bytes, 3);
        let micros = read.filter(|d| (MIN..=4_294_967_000).contains(&d.value)).map(|d| d.value);
        let Some(micros) = micros else {
            let message = format!("invalid time '{}' in milliseconds, ignored", word.shown());
            let new = Diagnostic::error(&codes::RANGE, message).at(word.span());
            cx.report(new.label(format!("expected {}", Self::shape().expected())));
            return None;
        };
        if micros > 10_000_000 {
            let message = format!("'{}' is longer than 10 seconds", word.shown());
            cx.report(Diagnostic::warning(&codes::RANGE, message).at(word.span()));
        }
        Some(Self(micros))
    }

    fn words(&self, out: &mut Words) {
        // Microseconds shown as milliseconds: the same digits, the point three places further.
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        if part == 0 {
            out.show(whole);
        } else {
            out.push(format!("{whole}.{part:03}").trim_end_matches('0'));
        }
    }
}
