//! The output of the demonstration: steps, events, addresses, times.

use std::io::Write;
use std::time::{Duration, Instant};

use super::VIP;
use crate::cli::check::style_for;
use crate::config::Style;

use super::lan::{Lan, Machine, SHOW, Word};

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// The terminal, or a substitute.
pub struct Screen {
    start: Instant,
    coloured: bool,
    /// Announcements of one machine that are not printed yet: time of the first, text, number.
    announced: Option<(Machine, String, String, u32)>,
    logs: Vec<String>,
}

impl Screen {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            coloured: style_for(&std::io::stdout()) == Style::Coloured,
            announced: None,
            logs: Vec::new(),
        }
    }

    /// Time since the demonstration began.
    pub fn clock(&self) -> Duration {
        self.start.elapsed()
    }

    /// The network.
    pub fn picture(&self) {
        let title = "EverVIP: two machines keep one virtual address answered.";
        say(&format!(
            "{}\n\n    svr1  10.0.0.71  priority 200 --+\n    \
             {:32}+-- one LAN --  virtual address {}\n    svr2  10.0.0.72  priority 100 --+\n\n\
             The machines are network namespaces of this process; nothing else is touched, nothing\n\
             stays behind. To the left: seconds. advert: \"I am the master\", once a second. ARP: how\n\
             the neighbours learn where the address is now.",
            self.paint(BOLD, title),
            "",
            self.paint(GREEN, VIP),
        ));
    }

    /// A headline.
    pub fn step(&mut self, text: &str) {
        self.flush();
        say(&format!("\n{} {}", self.time(), self.paint(BOLD, text)));
    }

    /// A sentence about what was just seen.
    pub fn remark(&mut self, text: &str) {
        self.flush();
        say(&format!("{}   {}", self.time(), self.paint(CYAN, text)));
    }

    /// Shows an event.
    pub fn show(&mut self, word: &Word) {
        match word {
            Word::Announced { from, mac } => {
                let time = self.time();
                match &mut self.announced {
                    Some((machine, _, _, count)) if machine == from => *count += 1,
                    _ => {
                        self.flush();
                        self.announced = Some((*from, time, format!("{VIP} is at {mac}"), 1));
                    }
                }
            }
            Word::Advert { from, priority: 0, .. } => {
                self.heard(*from, "advert", "priority 0: \"I am going\"");
            }
            Word::Advert { from, priority, .. } => {
                self.heard(*from, "advert", &format!("priority {priority}"));
            }
            Word::Log { from, line } => {
                self.logs.push(format!("{}: {line}", from.name()));
                // Transitions only; the rest is shown if something goes wrong.
                if let Some((_, state)) = line.split_once("(VRRP1) Entering ") {
                    self.heard(*from, "log", &format!("(VRRP1) Entering {state}"));
                }
            }
            Word::Silence => {}
            Word::Ended { from } => self.heard(*from, "", "evervipd has ended"),
        }
    }

    /// The addresses of both machines.
    pub fn addresses(&mut self, lan: &Lan) {
        self.flush();
        say("");
        for machine in Machine::ALL {
            let name = machine.name();
            let Some(text) = lan.addresses(machine) else {
                say(&format!("         {name} has no power"));
                continue;
            };
            say(&format!("         {name} $ {SHOW}"));
            for line in text.lines() {
                // Highlights the virtual address.
                let parts: Vec<_> = line.split(VIP).collect();
                say(&format!("           {}", parts.join(&self.paint(GREEN, VIP))));
            }
        }
    }

    /// How long the address was without a master.
    pub fn takeover(&mut self, silence: Duration, floor: Duration, since_off: Duration) {
        let over = silence.saturating_sub(floor);
        self.remark(&format!(
            "svr2 is master {:.3} s after the last advert of svr1 ({:.1} s after the power went).\n          \
             The protocol asks it to wait 3 x 1 s + 0.609 s = {:.3} s; EverVIP added {:.1} ms.",
            silence.as_secs_f64(),
            since_off.as_secs_f64(),
            floor.as_secs_f64(),
            over.as_secs_f64() * 1e3,
        ));
    }

    /// How long a clean stop left the address without a master.
    pub fn handover(&mut self, handed: Duration) {
        self.remark(&format!(
            "svr2 is master {:.2} s after svr1 was told to stop, without waiting for a timeout.",
            handed.as_secs_f64()
        ));
    }

    pub fn farewell(&mut self) {
        self.flush();
        say(
            "\nThat was it. The files are in etc/examples. An existing keepalived.conf works unchanged:\n  \
             evervipd -t -f /etc/keepalived/keepalived.conf",
        );
    }

    /// All log lines of the daemons.
    pub fn all_logs(&mut self) {
        self.flush();
        for line in &self.logs {
            say(line);
        }
    }

    fn heard(&mut self, from: Machine, kind: &str, text: &str) {
        self.flush();
        self.line(&self.time(), from, kind, text);
    }

    /// Prints announcements that were only counted until now.
    fn flush(&mut self) {
        if let Some((from, time, text, count)) = self.announced.take() {
            let times = if count > 1 { format!(", {count} times") } else { String::new() };
            self.line(&time, from, "ARP", &format!("{text}{times}"));
        }
    }

    fn line(&self, time: &str, from: Machine, kind: &str, text: &str) {
        let colour = match from {
            Machine::Svr1 => YELLOW,
            Machine::Svr2 => CYAN,
        };
        say(&format!("{time}   {}  {kind:<6}  {text}", self.paint(colour, from.name())));
    }

    fn time(&self) -> String {
        format!("{:6.1}", self.clock().as_secs_f64())
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.coloured { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }
}

/// A line on standard output. A closed pipe must not leave machines behind.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
