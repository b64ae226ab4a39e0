//! `evervip demo`: demonstrates a failover. Two machines on one LAN, made of namespaces, run the daemon with the files
//! of the failover scenario; one loses its power and comes back.
//!
//! Needs no root if the system permits user namespaces. Leaves nothing behind, however it ends: only this process holds
//! the machines.

mod lan;
mod screen;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::print::{out, say};
use crate::sys::netns;
use lan::{Lan, Machine, Word};
use screen::Screen;

/// The address that moves.
const VIP: &str = "10.0.0.100";

/// How long the demonstration waits for the next event.
const PATIENCE: Duration = Duration::from_secs(15);

/// Consecutive announcements of a new master (`garp_master_repeat`).
const REPEAT: u32 = 5;

/// Minimum time the backup waits after the last advert of the primary: three intervals of 1 s and its skew of (256 -
/// 100) / 256 s (RFC 3768, section 6.1).
const FLOOR: Duration = Duration::from_micros(3_609_375);

/// Why the demonstration failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses namespaces.
    #[error("cannot create {0}: {1}")]
    Namespace(&'static str, #[source] io::Error),
    /// The program of the daemon was not found.
    #[error("evervipd is neither in {} nor in PATH", .0.display())]
    NoDaemon(PathBuf),
    /// A file or process of the demonstration failed.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] io::Error),
    /// The kernel refused a part of the network.
    #[error("cannot create {0}: {1}")]
    Link(&'static str, #[source] rtnetlink::Error),
    /// An expected event did not happen.
    #[error("{0} did not happen in time")]
    Late(&'static str),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Runs the demonstration; the status is zero if everything happened as expected.
///
/// # Errors
/// Wrong options, as a text for the user.
pub fn run(mut args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    match args.next()? {
        None => Ok(show()),
        Some(Short('h') | Long("help")) => {
            out(HELP)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(other.unexpected()),
    }
}

pub(super) const HELP: &str = "\
Usage: evervip demo

Shows a failover between two nodes in network namespaces, without root: which
node holds the virtual address, the packets on the wire, a power failure, the
takeover with its duration, and the return. Takes about 20 seconds.

  -h, --help   print this text
";

fn show() -> ExitCode {
    match prepared() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("evervip demo: {error}"));
            if let Error::Namespace(..) = error {
                say(advice(Path::new("/proc/sys")).trim_end());
            }
            ExitCode::FAILURE
        }
    }
}

/// Does what requires a single thread, then runs the demonstration.
fn prepared() -> Result<(), Error> {
    let program = daemon()?;
    netns::become_root().map_err(|e| Error::Namespace("a user namespace", e))?;
    netns::private_run().map_err(|e| Error::Namespace("a mount namespace", e))?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::Io("the runtime", e))?;
    runtime.block_on(async {
        let hear = |kind| signal(kind).map_err(|e| Error::Io("signals", e));
        let mut interrupt = hear(SignalKind::interrupt())?;
        let mut terminate = hear(SignalKind::terminate())?;
        tokio::select! {
            told = story(&program) => told,
            _ = interrupt.recv() => Err(Error::Interrupted),
            _ = terminate.recv() => Err(Error::Interrupted),
        }
    })
}

/// The demonstration itself.
async fn story(program: &Path) -> Result<(), Error> {
    let mut screen = Screen::new();
    screen.picture();
    let mut lan = Lan::new(program)?;
    lan.power_on(Machine::Svr1).await?;
    lan.power_on(Machine::Svr2).await?;
    screen.step("Both machines start evervipd, each with its file of the failover scenario.");
    holds(&mut lan, &mut screen, Machine::Svr1, "a master advert of svr1").await?;
    screen.remark("svr1 has the higher priority and holds the address. svr2 listens.");
    adverts(&mut lan, &mut screen, Machine::Svr1, 2).await?;
    screen.addresses(&lan);

    screen.step("svr1 loses its power: all its processes and its network are gone at once.");
    let off = screen.clock();
    let last = lan.last_advert();
    lan.power_off(Machine::Svr1)?;
    let taken = holds(&mut lan, &mut screen, Machine::Svr2, "the takeover by svr2").await?;
    if let Some(silence) = last.and_then(|last| taken.checked_sub(last)) {
        screen.takeover(silence, FLOOR, screen.clock().saturating_sub(off));
    }
    adverts(&mut lan, &mut screen, Machine::Svr2, 1).await?;
    screen.addresses(&lan);

    screen.step("svr1 comes back.");
    lan.power_on(Machine::Svr1).await?;
    takes_back(&mut lan, &mut screen).await?;
    screen.remark("The machine with the higher priority has it again; svr2 gave it up.");
    adverts(&mut lan, &mut screen, Machine::Svr1, 1).await?;
    screen.addresses(&lan);

    screen.step("svr1 stops in good order: it sends priority 0, so svr2 takes over at once.");
    let asked = lan.stop(Machine::Svr1)?;
    let taken = holds(&mut lan, &mut screen, Machine::Svr2, "the takeover by svr2").await?;
    if let Some(handed) = taken.checked_sub(asked) {
        screen.handover(handed);
    }
    lan.stop(Machine::Svr2)?;
    until(&mut lan, &mut screen, "the end of svr2", |word| {
        matches!(word, Word::Ended { from: Machine::Svr2 })
    })
    .await?;
    screen.farewell();
    Ok(())
}

/// Shows events until the machine advertises as master and has the address; returns the time of that advert.
async fn holds(
    lan: &mut Lan,
    screen: &mut Screen,
    machine: Machine,
    what: &'static str,
) -> Result<Duration, Error> {
    let mut taking = Taking::by(machine);
    until(lan, screen, what, |word| taking.done(word)).await?;
    Ok(taking.first.unwrap_or_default())
}

/// Shows events until svr1 has the address again and svr2 gave it up, in either order.
async fn takes_back(lan: &mut Lan, screen: &mut Screen) -> Result<(), Error> {
    let (mut taking, mut given) = (Taking::by(Machine::Svr1), false);
    until(lan, screen, "the return of svr1", |word| {
        given |= matches!(word, Word::Log { from: Machine::Svr2, line } if line.contains("Entering BACKUP"));
        taking.done(word) && given
    })
    .await
}

/// A machine that is taking over the address.
struct Taking {
    machine: Machine,
    /// When its first advert as master was on the wire.
    first: Option<Duration>,
    announced: u32,
}

impl Taking {
    const fn by(machine: Machine) -> Self {
        Self { machine, first: None, announced: 0 }
    }

    /// Processes an event; returns whether the takeover is complete.
    fn done(&mut self, word: &Word) -> bool {
        match word {
            Word::Advert { from, at, priority } if *from == self.machine && *priority > 0 => {
                self.first.get_or_insert(*at);
            }
            Word::Announced { from, .. } if *from == self.machine => self.announced += 1,
            _ => {}
        }
        self.first.is_some() && self.announced >= REPEAT
    }
}

/// Shows events until the machine has sent this many more adverts.
async fn adverts(
    lan: &mut Lan,
    screen: &mut Screen,
    machine: Machine,
    mut count: u32,
) -> Result<(), Error> {
    until(lan, screen, "the next advert", |word| {
        if matches!(word, Word::Advert { from, .. } if *from == machine) {
            count = count.saturating_sub(1);
        }
        count == 0
    })
    .await
}

/// Shows events until `enough` returns true.
async fn until(
    lan: &mut Lan,
    screen: &mut Screen,
    what: &'static str,
    mut enough: impl FnMut(&Word) -> bool,
) -> Result<(), Error> {
    let end = tokio::time::sleep(PATIENCE);
    tokio::pin!(end);
    loop {
        tokio::select! {
            word = lan.next() => {
                screen.show(&word);
                if enough(&word) {
                    return Ok(());
                }
            }
            () = &mut end => {
                screen.all_logs();
                return Err(Error::Late(what));
            }
        }
    }
}

/// The daemon beside this program, else that in PATH.
fn daemon() -> Result<PathBuf, Error> {
    let own = std::env::current_exe().map_err(|e| Error::Io("the path of this program", e))?;
    let beside = own.parent().unwrap_or(Path::new("/"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::iter::once(beside.to_owned()).chain(std::env::split_paths(&path));
    folders
        .find_map(|folder| Some(folder.join("evervipd")).filter(|path| path.is_file()))
        .ok_or_else(|| Error::NoDaemon(beside.to_owned()))
}

/// Which system setting prevents this for an ordinary user, and how to change it.
fn advice(settings: &Path) -> String {
    let value = |name: &str| {
        let text = std::fs::read_to_string(settings.join(name)).ok()?;
        text.trim().parse::<i64>().ok()
    };
    let mut text = "This system does not let you create namespaces. Run it as root:\n  \
                    sudo evervip demo\n"
        .to_owned();
    let switches = [
        ("kernel/unprivileged_userns_clone", 0, "1"),
        ("user/max_user_namespaces", 0, "10000"),
        ("user/max_net_namespaces", 0, "10000"),
        ("kernel/apparmor_restrict_unprivileged_userns", 1, "0"),
    ];
    for (name, bad, good) in switches {
        if value(name) == Some(bad) {
            let name = name.replace('/', ".");
            text += &format!("or allow it to every user:\n  sudo sysctl {name}={good}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_the_setting_that_is_in_the_way() {
        let settings = tempfile::tempdir().unwrap();
        std::fs::create_dir(settings.path().join("kernel")).unwrap();
        let switch = settings.path().join("kernel/unprivileged_userns_clone");
        std::fs::write(&switch, "0\n").unwrap();
        assert!(advice(settings.path()).contains("sysctl kernel.unprivileged_userns_clone=1"));
        std::fs::write(&switch, "1\n").unwrap();
        assert!(!advice(settings.path()).contains("sysctl"));
    }
}
