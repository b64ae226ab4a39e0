//! The rows: tracked objects, their states, and the users that refer to them.

use std::collections::BTreeMap;

use slab::Slab;

use crate::base::{IfName, Name};
use crate::model::Weight;

/// The number of a row; stable as long as it has a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackerId(pub u32);

/// The object of a row. Causes are listed in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An interface: good while it is up.
    Interface(IfName),
    /// A `vrrp_script`: good or bad by the exit status of its runs.
    Script(Name),
    /// A `track_file`: its state is the number in it.
    File(Name),
    /// A `vrrp_track_process`: good while the wanted number of processes runs.
    Process(Name),
    /// A `bfd_instance`: good while its session is up.
    Bfd(Name),
    /// The virtual servers of the configuration: good while the kernel can serve them.
    VirtualServers,
}

impl core::fmt::Display for Subject {
    /// As it is named when it is the cause of a fault.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface {name} down"),
            Self::Script(name) => write!(f, "script {name}"),
            Self::File(name) => write!(f, "file {name}"),
            Self::Process(name) => write!(f, "process {name}"),
            Self::Bfd(name) => write!(f, "BFD instance {name}"),
            Self::VirtualServers => f.write_str("IPVS does not work or refuses a virtual server"),
        }
    }
}

/// The state of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// A report is expected: users take no decision before it arrives, whatever the weight.
    Awaited,
    Good,
    Bad,
    Value(i32),
}

impl State {
    /// Good or bad; unknown without a result.
    #[must_use]
    pub const fn of(good: Option<bool>) -> Self {
        match good {
            None => Self::Unknown,
            Some(true) => Self::Good,
            Some(false) => Self::Bad,
        }
    }
}

/// How a user refers to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    pub tracker: TrackerId,
    /// The weight of its state for the user.
    pub weight: Weight,
}

/// All rows of an engine, whose users have ids of type `U`.
#[derive(Clone, Debug)]
pub struct Table<U> {
    rows: Slab<Row<U>>,
    by_subject: BTreeMap<Subject, TrackerId>,
}

#[derive(Clone, Debug)]
struct Row<U> {
    subject: Subject,
    state: State,
    users: Vec<(U, Weight)>,
}

impl<U> Default for Table<U> {
    fn default() -> Self {
        Self { rows: Slab::new(), by_subject: BTreeMap::new() }
    }
}

impl<U: Copy> Table<U> {
    /// The row of `subject`; created in `state` if there is none.
    pub fn row(&mut self, subject: &Subject, state: impl FnOnce() -> State) -> TrackerId {
        if let Some(id) = self.by_subject.get(subject) {
            return *id;
        }
        let row = Row { subject: subject.clone(), state: state(), users: Vec::new() };
        let id = TrackerId(u32::try_from(self.rows.insert(row)).unwrap_or(u32::MAX));
        self.by_subject.insert(subject.clone(), id);
        id
    }

    /// The row of `subject`, if there is one.
    #[must_use]
    pub fn find(&self, subject: &Subject) -> Option<TrackerId> {
        self.by_subject.get(subject).copied()
    }

    /// The objects of all rows.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.by_subject.keys()
    }

    /// The object of a row.
    #[must_use]
    pub fn subject(&self, id: TrackerId) -> Option<&Subject> {
        self.rows.get(id.0 as usize).map(|row| &row.subject)
    }

    /// The state of a row.
    #[must_use]
    pub fn state(&self, id: TrackerId) -> State {
        self.rows.get(id.0 as usize).map_or(State::Unknown, |row| row.state)
    }

    /// Sets the state of a row. Returns the previous one if it changed.
    pub fn set(&mut self, id: TrackerId, state: State) -> Option<State> {
        let row = self.rows.get_mut(id.0 as usize)?;
        let before = core::mem::replace(&mut row.state, state);
        (before != state).then_some(before)
    }

    /// The users that refer to a row, with their weights.
    #[must_use]
    pub fn users(&self, id: TrackerId) -> &[(U, Weight)] {
        self.rows.get(id.0 as usize).map_or(&[], |row| &row.users)
    }

    /// Adds a user to a row.
    pub fn refer(&mut self, user: U, reference: Reference) {
        if let Some(row) = self.rows.get_mut(reference.tracker.0 as usize) {
            row.users.push((user, reference.weight));
        }
    }

    /// Drops all users, before a new configuration adds them again.
    pub fn release_all(&mut self) {
        for (_, row) in &mut self.rows {
            row.users.clear();
        }
    }

    /// Drops the rows that have no user and are not selected by `keep`.
    pub fn collect(&mut self, keep: impl Fn(TrackerId, &Subject) -> bool) {
        self.by_subject.retain(|subject, id| {
            let used = self.rows.get(id.0 as usize).is_some_and(|row| !row.users.is_empty());
            let stays = used || keep(*id, subject);
            if !stays {
                self.rows.try_remove(id.0 as usize);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_lives_as_long_as_somebody_refers_to_it() {
        let mut table: Table<u8> = Table::default();
        let (a, b) = (Subject::Script("a".into()), Subject::Script("b".into()));
        let id = table.row(&a, || State::Bad);
        assert_eq!(table.row(&a, || State::Good), id);
        assert_eq!((table.state(id), table.set(id, State::Bad)), (State::Bad, None));
        assert_eq!(table.set(id, State::Good), Some(State::Bad));
        let reference = Reference { tracker: id, weight: Weight::FAULT };
        table.refer(7, reference);
        let other = table.row(&b, || State::Unknown);
        table.collect(|_, _| false);
        assert_eq!((table.find(&a), table.find(&b)), (Some(id), None));
        assert_eq!((table.subject(other), table.users(id)), (None, &[(7, Weight::FAULT)][..]));
        table.release_all();
        table.collect(|_, subject| *subject == a);
        assert_eq!((table.users(id), table.state(id)), (&[][..], State::Good));
    }
}
