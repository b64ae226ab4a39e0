//! The report as text for people, 80 columns wide. Pure.

use core::fmt::Write as _;

use super::report::{
    Answer, Checker, Daemon, Instance, Report, Server, Service, State, Tracker, Vrrp,
};
use crate::base::near::nearest;

/// Columns of a line.
const WIDTH: usize = 80;

/// There is nothing of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no instance, group or service '{name}'{}", hint.as_ref().map(|h| format!(", did you mean '{h}'?")).unwrap_or_default())]
pub struct NotFound {
    /// The name.
    pub name: String,
    /// One that is near.
    pub hint: Option<String>,
}

/// Leaves in a report only what has this name.
///
/// # Errors
/// When nothing has, though everybody answered.
pub fn select(mut report: Report, name: &str) -> Result<Report, NotFound> {
    let mut names: Vec<String> = Vec::new();
    let mut found = false;
    let mut keep = |one: &str| {
        names.push(one.into());
        found |= one == name;
        one == name
    };
    let mut complete = true;
    match &mut report.vrrp {
        Some(Answer::Known(vrrp)) => {
            vrrp.instances.retain(|i| keep(&i.name));
            vrrp.groups.retain(|g| keep(&g.name));
            vrrp.trackers.retain(|t| keep(&t.name));
        }
        other => complete &= other.is_none(),
    }
    match &mut report.checker {
        Some(Answer::Known(checker)) => checker.services.retain(|s| keep(&s.name)),
        other => complete &= other.is_none(),
    }
    if found || !complete {
        return Ok(report);
    }
    let hint = nearest(name, names.iter().map(String::as_str)).map(Into::into);
    Err(NotFound { name: name.into(), hint })
}

/// The screen for a report.
#[must_use]
pub fn screen(report: &Report) -> String {
    let mut text = String::new();
    match &report.daemon {
        Answer::Known(daemon) => head(&mut text, daemon, &report.at),
        Answer::Unknown { unknown } => line(&mut text, &format!("evervipd: unknown: {unknown}")),
    }
    match &report.vrrp {
        Some(Answer::Known(vrrp)) => routers(&mut text, vrrp, &report.at),
        Some(Answer::Unknown { unknown }) => {
            line(&mut text, &format!("\nvirtual routers: unknown: {unknown}"));
        }
        None => {}
    }
    match &report.checker {
        Some(Answer::Known(checker)) => servers(&mut text, checker, &report.at),
        Some(Answer::Unknown { unknown }) => {
            line(&mut text, &format!("\nvirtual servers: unknown: {unknown}"));
        }
        None => {}
    }
    text
}

fn head(text: &mut String, daemon: &Daemon, now: &str) {
    let up = ago(&daemon.since, now);
    line(text, &format!("evervipd {}, pid {}, up {up}", daemon.version, daemon.pid));
    match &daemon.configuration {
        Some(c) => {
            line(text, &format!("configuration: {}, read {} ago", c.file, ago(&c.read, now)));
            if let Some(first) = &c.first_problem {
                let count =
                    format!("{}, {}", plural(c.errors, "error"), plural(c.warnings, "warning"));
                wrapped(text, "  ", &format!("{count}: {first}"));
            }
        }
        None => line(text, "configuration: the first one is being read"),
    }
    if daemon.reloading {
        line(text, "  a reload is under way");
    }
    if let Some(reload) = &daemon.last_reload
        && let Some(why) = &reload.refused
    {
        let when = ago(&reload.at, now);
        wrapped(text, "  ", &format!("LAST RELOAD REFUSED {when} ago: {why}"));
    }
    for process in daemon.processes.iter().filter(|p| p.wanted && p.pid.is_none()) {
        line(text, &format!("  the {} process does not run now", process.role));
    }
}

fn routers(text: &mut String, vrrp: &Vrrp, now: &str) {
    if !vrrp.instances.is_empty() {
        let mut table =
            Table::new(["INSTANCE", "INTERFACE", "VRID", "STATE", "FOR", "PRIO", "VIPS", "MASTER"]);
        table.right = [false, false, true, false, true, true, true, false];
        for i in &vrrp.instances {
            table.row([
                i.name.clone(),
                i.interface.clone(),
                i.vrid.to_string(),
                state(i.state).into(),
                ago(&i.since, now),
                i.effective_priority.to_string(),
                i.addresses_held.to_string(),
                master(i),
            ]);
            if i.effective_priority != i.priority {
                table.note(format!("configured priority {}, changed by trackers", i.priority));
            }
            for fault in &i.faults {
                table.note(format!("fault: {fault}"));
            }
            for refused in &i.addresses_refused {
                table.note(format!("{} refused: {}", refused.what, refused.error));
            }
        }
        table.print(text);
    }
    if !vrrp.groups.is_empty() {
        let mut table = Table::new(["GROUP", "STATE"]);
        vrrp.groups.iter().for_each(|g| table.row([g.name.clone(), state(g.state).into()]));
        table.print(text);
    }
    if !vrrp.trackers.is_empty() {
        let mut table = Table::new(["TRACKER", "KIND", "RESULT"]);
        for Tracker { kind, name, good } in &vrrp.trackers {
            let result = match good {
                None => "unknown",
                Some(true) => "good",
                Some(false) => "BAD",
            };
            table.row([name.clone(), kind.clone(), result.into()]);
        }
        table.print(text);
    }
}

fn servers(text: &mut String, checker: &Checker, now: &str) {
    if let Some(error) = &checker.ipvs_error {
        line(text, &format!("\nIPVS is not available: {error}"));
    }
    for service in &checker.services {
        text.push('\n');
        line(text, &service_line(service, now));
        if let Some(error) = &service.refused {
            wrapped(text, "  ", &format!("refused: {error}"));
        }
        if service.servers.is_empty() {
            continue;
        }
        let mut table = Table::new(["  SERVER", "STATE", "FOR", "WEIGHT", "LAST CHECK"]);
        table.right = [false, false, true, true, false];
        table.gap = false;
        for server in &service.servers {
            table.row([
                format!("  {}", server.address),
                up(server.up).into(),
                ago(&server.since, now),
                weight(server),
                last(server),
            ]);
            if let Some(error) = &server.refused {
                table.note(format!("refused: {error}"));
            }
        }
        table.print(text);
    }
}

fn service_line(service: &Service, now: &str) -> String {
    let sorry = if service.sorry { ", sorry server in service" } else { "" };
    format!(
        "{} {} for {}, weight {} of quorum {}{sorry}",
        service.name,
        up(service.up),
        ago(&service.since, now),
        service.weight,
        service.quorum
    )
}

const fn state(state: State) -> &'static str {
    match state {
        State::Init => "INIT",
        State::Backup => "BACKUP",
        State::Master => "MASTER",
        State::Fault => "FAULT",
    }
}

const fn up(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

fn master(instance: &Instance) -> String {
    match (&instance.master, instance.state) {
        (_, State::Master) => "this router".into(),
        (Some(master), _) => master.clone(),
        (None, _) => "none heard".into(),
    }
}

/// The weight in the kernel, or the configured one where the kernel has no entry.
fn weight(server: &Server) -> String {
    match server.kernel_weight {
        Some(weight) => weight.to_string(),
        None => format!("({})", server.weight),
    }
}

/// The result of the check that is to blame, else of the first.
fn last(server: &Server) -> String {
    let check = server.checks.iter().find(|check| !check.up).or_else(|| server.checks.first());
    check.map_or_else(String::new, |check| {
        let result = check.last_result.as_deref().unwrap_or("not yet checked");
        format!("{} {result}", check.kind)
    })
}

fn plural(count: u32, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// The time from one RFC 3339 time of this program to another, with its two largest units.
fn ago(from: &str, to: &str) -> String {
    let (Some(from), Some(to)) = (seconds(from), seconds(to)) else {
        return "?".into();
    };
    let s = to.saturating_sub(from);
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// Seconds since 1970 of a time as this program writes it.
fn seconds(time: &str) -> Option<u64> {
    let mut numbers = time.split(['-', 'T', ':', '.']).map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    // Years that begin with March, so that a leap day is the last.
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let since = days.checked_sub(719_469)?;
    Some(since * 86_400 + hour * 3600 + minute * 60 + second)
}

/// One line, cut at the width of the screen.
fn line(text: &mut String, content: &str) {
    let (start, content) = match content.strip_prefix('\n') {
        Some(rest) => ("\n", rest),
        None => ("", content),
    };
    let _ = writeln!(text, "{start}{}", cut(content, WIDTH));
}

/// A text over several lines, broken at blanks.
fn wrapped(text: &mut String, indent: &str, content: &str) {
    let mut current = indent.to_owned();
    for word in content.split(' ') {
        if current.trim_start().is_empty() {
            current.push_str(word);
        } else if current.chars().count() + 1 + word.chars().count() <= WIDTH {
            current.push(' ');
            current.push_str(word);
        } else {
            line(text, current.trim_end());
            current = format!("{indent}  {word}");
        }
    }
    line(text, &current);
}

/// At most `width` characters, without any that would steer a terminal; `~` where something is missing.
fn cut(content: &str, width: usize) -> String {
    let clean = content.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut short: String = clean.take(width).collect();
    if content.chars().count() > width {
        short.pop();
        short.push('~');
    }
    short
}

/// A table whose columns are made narrower until it fits.
struct Table<const N: usize> {
    rows: Vec<Row<N>>,
    right: [bool; N],
    /// Whether an empty line comes before it.
    gap: bool,
}

enum Row<const N: usize> {
    Cells([String; N]),
    Note(String),
}

impl<const N: usize> Table<N> {
    fn new(head: [&str; N]) -> Self {
        Self { rows: vec![Row::Cells(head.map(Into::into))], right: [false; N], gap: true }
    }

    fn row(&mut self, cells: [String; N]) {
        self.rows.push(Row::Cells(cells));
    }

    fn note(&mut self, text: String) {
        self.rows.push(Row::Note(text));
    }

    fn print(&self, text: &mut String) {
        let mut widths = [0; N];
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = cell.chars().count().max(*width);
                }
            }
        }
        // Two blanks between columns; what is widest gives way.
        let room = WIDTH - 2 * (N - 1);
        while widths.iter().sum::<usize>() > room {
            match widths.iter_mut().max() {
                Some(width) if *width > 1 => *width -= 1,
                _ => break,
            }
        }
        if self.gap {
            text.push('\n');
        }
        for row in &self.rows {
            match row {
                Row::Cells(cells) => {
                    let mut content = String::new();
                    for ((cell, width), right) in cells.iter().zip(widths).zip(self.right) {
                        let cell = cut(cell, width);
                        let _ = match right {
                            true => write!(content, "{cell:>width$}  "),
                            false => write!(content, "{cell:<width$}  "),
                        };
                    }
                    line(text, content.trim_end());
                }
                Row::Note(note) => wrapped(text, "    ", note),
            }
        }
    }
}
