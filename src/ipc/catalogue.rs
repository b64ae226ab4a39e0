//! The programs that `runner` can be asked to run. It gets this list with its part of a configuration; other processes
//! refer to a number in it and add what only they know, a state and a priority. So a compromised process can only cause
//! the execution of configured programs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::Name;
use crate::model::{self, CheckerKind, Command, Lvs, NotifyCommands};
use crate::status::notice;

/// The programs that one role can request, in an order that follows from its part of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue(Vec<Entry>);

/// One program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The subject of the notices that run it; empty for a program whose status matters.
    pub subject: Name,
    pub command: Command,
    /// Whether it gets arguments about the change: these words follow its own, then the state and the priority.
    pub tells: Option<(Kind, Name)>,
    /// How often it is used in the configuration.
    pub uses: u32,
}

/// What kind of object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A virtual router.
    Instance,
    /// A sync group.
    Group,
}

/// The arguments of a program in addition to the configured ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub state: Announced,
    /// The priority; 0 for a group.
    pub priority: u8,
}

/// A number in a [`Catalogue`], and the added arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    pub entry: u32,
    /// For programs that get arguments about the change.
    pub change: Option<Change>,
}

macro_rules! announced {
    ($($name:ident = $word:literal,)+) => {
        /// The states that notices announce.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Announced {
            $(#[doc = concat!("`", $word, "`")] $name,)+
        }

        impl Announced {
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

announced! {
    Init = "INIT",
    Backup = "BACKUP",
    Master = "MASTER",
    Fault = "FAULT",
    Stop = "STOP",
    Deleted = "DELETED",
    LowerPriority = "MASTER_RX_LOWER_PRI",
    Up = "UP",
    Down = "DOWN",
}

impl Kind {
    /// Its word in the arguments of programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Instance => "INSTANCE",
            Self::Group => "GROUP",
        }
    }
}

impl Catalogue {
    /// The programs of `vrrp`.
    #[must_use]
    pub fn of_vrrp(vrrp: &model::Vrrp) -> Self {
        let mut all = Builder::default();
        for script in &vrrp.scripts {
            all.add(&Name::default(), &script.command, None);
        }
        for instance in &vrrp.instances {
            let subject = notice::instance_subject(&instance.name);
            all.add_notify(&subject, &instance.notify, Kind::Instance, &instance.name);
            let lower = notice::lower_priority_subject(&instance.name);
            all.add_some(&lower, instance.notify.master_rx_lower_pri.as_ref());
        }
        for group in &vrrp.groups {
            let subject = notice::group_subject(&group.name);
            all.add_notify(&subject, &group.notify, Kind::Group, &group.name);
        }
        Self(all.entries)
    }

    /// The programs of `checker`.
    #[must_use]
    pub fn of_checker(lvs: &Lvs) -> Self {
        let mut all = Builder::default();
        for service in &lvs.services {
            // Names are only formatted where there are programs.
            if service.quorum_up.is_some() || service.quorum_down.is_some() {
                let subject = notice::service_subject(&service.id());
                all.add_some(&subject, service.quorum_up.as_ref());
                all.add_some(&subject, service.quorum_down.as_ref());
            }
            for server in &service.servers {
                if server.notify_up.is_some() || server.notify_down.is_some() {
                    let name = server.display(&service.key);
                    let subject = notice::server_subject(&name, &service.id());
                    all.add_some(&subject, server.notify_up.as_ref());
                    all.add_some(&subject, server.notify_down.as_ref());
                }
                for checker in &server.checkers {
                    if let CheckerKind::Misc(misc) = &checker.kind {
                        all.add(&Name::default(), &misc.command, None);
                    }
                }
            }
        }
        Self(all.entries)
    }

    /// One with these programs, each with its subject.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn of(programs: &[(&str, Command)]) -> Self {
        let mut all = Builder::default();
        for (subject, command) in programs {
            all.add(&Name::from(*subject), command, None);
        }
        Self(all.entries)
    }

    #[must_use]
    pub fn entry(&self, place: u32) -> Option<&Entry> {
        self.0.get(place as usize)
    }

    /// The complete chosen command; none if it is not in the list or the added arguments do not fit.
    #[must_use]
    pub fn command(&self, chosen: Chosen) -> Option<Command> {
        let Entry { command, tells, .. } = self.entry(chosen.entry)?;
        let mut command = command.clone();
        match (tells, chosen.change) {
            (None, None) => {}
            (Some((kind, name)), Some(Change { state, priority })) => {
                let priority = priority.to_string();
                let added = [kind.word(), name, state.word(), &priority];
                command.words.extend(added.iter().map(|word| Box::from(word.as_bytes())));
            }
            _ => return None,
        }
        Some(command)
    }
}

#[derive(Default)]
struct Builder {
    entries: Vec<Entry>,
    places: BTreeMap<Vec<u8>, usize>,
}

impl Builder {
    fn add(&mut self, subject: &Name, command: &Command, tells: Option<(Kind, Name)>) {
        let place =
            *self.places.entry(key(subject, command, tells.is_some())).or_insert_with(|| {
                let (subject, command) = (subject.clone(), command.clone());
                self.entries.push(Entry { subject, command, tells, uses: 0 });
                self.entries.len() - 1
            });
        if let Some(entry) = self.entries.get_mut(place) {
            entry.uses += 1;
        }
    }

    fn add_some(&mut self, subject: &Name, command: Option<&Command>) {
        if let Some(command) = command {
            self.add(subject, command, None);
        }
    }

    fn add_notify(&mut self, subject: &Name, commands: &NotifyCommands, kind: Kind, name: &Name) {
        let NotifyCommands { master, backup, fault, stop, deleted, any, .. } = commands;
        for specific in [master, backup, fault, stop, deleted] {
            self.add_some(subject, specific.as_ref());
        }
        if let Some(any) = any {
            self.add(subject, any, Some((kind, name.clone())));
        }
    }
}

fn key(subject: &Name, command: &Command, tells: bool) -> Vec<u8> {
    // Plain structures can always be encoded.
    postcard::to_stdvec(&(subject, command, tells)).unwrap_or_default()
}

/// A catalogue for the requesting side: from a command to its number.
#[derive(Debug, Default)]
pub struct Index {
    catalogue: Catalogue,
    places: BTreeMap<Vec<u8>, u32>,
    subjects: BTreeMap<Name, Subject>,
}

#[derive(Debug)]
struct Subject {
    /// Any program of the subject.
    about: u32,
    /// The program that gets arguments about the change.
    told: Option<u32>,
}

impl Index {
    /// Indexes a catalogue.
    #[must_use]
    pub fn new(catalogue: Catalogue) -> Self {
        let (mut places, mut subjects) = (BTreeMap::new(), BTreeMap::<Name, Subject>::new());
        for (place, entry) in (0..).zip(&catalogue.0) {
            let tells = entry.tells.is_some();
            places.insert(key(&entry.subject, &entry.command, tells), place);
            let subject = subjects
                .entry(entry.subject.clone())
                .or_insert(Subject { about: place, told: None });
            if tells {
                subject.told = Some(place);
            }
        }
        Self { catalogue, places, subjects }
    }

    /// A number with this subject, which represents it.
    #[must_use]
    pub fn about(&self, subject: &Name) -> Option<u32> {
        self.subjects.get(subject).map(|subject| subject.about)
    }

    /// The number of a command, and its added arguments.
    #[must_use]
    pub fn choose(&self, subject: &Name, command: &Command) -> Option<Chosen> {
        if let Some(place) = self.places.get(&key(subject, command, false)) {
            return Some(Chosen { entry: *place, change: None });
        }
        let place = self.subjects.get(subject)?.told?;
        let (_, [_, _, state, priority]) = command.words.split_last_chunk::<4>()?;
        let text = |word: &[u8]| core::str::from_utf8(word).ok().map(str::to_owned);
        let state = Announced::from_word(&text(state)?)?;
        let priority = text(priority)?.parse().ok()?;
        let chosen = Chosen { entry: place, change: Some(Change { state, priority }) };
        // Any other command is not the configured one.
        (self.catalogue.command(chosen).as_ref() == Some(command)).then_some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;

    fn told(command: &Command, words: &[&str]) -> Command {
        let mut command = command.clone();
        command.words.extend(words.iter().map(|word| Box::from(word.as_bytes())));
        command
    }

    fn catalogue() -> (Catalogue, Index) {
        let (kind, name) = (Kind::Instance, Name::from("A"));
        let mut all = Builder::default();
        let subject = Name::from("instance A");
        all.add(&Name::default(), &sample::command("/bin/check"), None);
        all.add(&Name::default(), &sample::command("/bin/check"), None);
        all.add(&subject, &sample::command("/bin/master"), None);
        all.add(&subject, &sample::command("/bin/any"), Some((kind, name)));
        all.add(&subject, &sample::command("/bin/any"), None);
        let catalogue = Catalogue(all.entries);
        (catalogue.clone(), Index::new(catalogue))
    }

    #[test]
    fn what_is_chosen_is_what_runs() {
        let (catalogue, index) = catalogue();
        let any = sample::command("/bin/any");
        let (none, subject) = (Name::default(), Name::from("instance A"));
        for (subject, command) in [
            (&none, sample::command("/bin/check")),
            (&subject, sample::command("/bin/master")),
            (&subject, any.clone()),
            (&subject, told(&any, &["INSTANCE", "A", "MASTER", "200"])),
            (&subject, told(&any, &["INSTANCE", "A", "STOP", "0"])),
        ] {
            let chosen = index.choose(subject, &command).unwrap();
            assert_eq!(catalogue.command(chosen), Some(command));
        }
        assert_eq!(catalogue.0.iter().map(|e| e.uses).collect::<Vec<_>>(), [2, 1, 1, 1]);
        let about = index.about(&subject).unwrap();
        assert_eq!(catalogue.entry(about).unwrap().subject, subject);
    }

    #[test]
    fn what_is_not_in_the_configuration_cannot_be_chosen() {
        let (catalogue, index) = catalogue();
        let any = sample::command("/bin/any");
        let subject = Name::from("instance A");
        for command in [
            sample::command("/bin/sh"),
            // A command of another subject.
            sample::command("/bin/check"),
            told(&any, &["INSTANCE", "B", "MASTER", "200"]),
            told(&any, &["GROUP", "A", "MASTER", "200"]),
            told(&any, &["INSTANCE", "A", "$(reboot)", "200"]),
            told(&any, &["INSTANCE", "A", "MASTER", "256"]),
            told(&any, &["INSTANCE", "A", "MASTER", "007"]),
            told(&any, &["x", "INSTANCE", "A", "MASTER", "200"]),
            told(&any, &["MASTER"]),
            Command { through_shell: true, ..told(&any, &["INSTANCE", "A", "MASTER", "1"]) },
        ] {
            assert_eq!(index.choose(&subject, &command), None, "{}", command.display());
        }
        let change = Some(Change { state: Announced::Master, priority: 1 });
        assert_eq!(catalogue.command(Chosen { entry: 4, change: None }), None);
        assert_eq!(catalogue.command(Chosen { entry: u32::MAX, change: None }), None);
        // A program without such arguments must not get any, one with them must.
        assert_eq!(catalogue.command(Chosen { entry: 1, change }), None);
        assert_eq!(catalogue.command(Chosen { entry: 2, change: None }), None);
    }
}
