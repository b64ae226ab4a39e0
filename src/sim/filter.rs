//! The packet filters of a simulated host: our tables and what they match.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::IfIndex;
use crate::plan::filter::{Filter, FilterTable, FilterTableId};
use crate::plan::{Change, ChangeKind, Identity, Object, Op, Outcome, Sight, Verb};

/// ENOENT: an element of a table that does not exist.
const NO_ENTRY: i32 = 2;
/// EOPNOTSUPP: the answer of a kernel without nf_tables.
pub const NOT_SUPPORTED: i32 = 95;

/// All tables.
#[derive(Clone, Debug, Default)]
pub struct SimFilters {
    tables: BTreeMap<FilterTableId, (FilterTable, BTreeSet<Filter<IfIndex>>)>,
    events: Vec<Change>,
    /// The kernel has no nf_tables.
    pub unsupported: bool,
    /// How often a table was created.
    pub made: usize,
}

impl SimFilters {
    pub(super) fn change(&mut self, op: &Op, identity: &Identity<IfIndex>) -> Outcome {
        if self.unsupported {
            return Outcome::Refused(NOT_SUPPORTED);
        }
        let delete = matches!(op.verb, Verb::Delete { .. });
        let changed = match (identity, op.object.as_ref()) {
            (Identity::FilterTable(id), _) if delete => self.tables.remove(id).is_some(),
            (Identity::FilterTable(id), Object::FilterTable(table)) => {
                // Its former content is gone.
                self.tables.insert(id.clone(), ((**table).clone(), BTreeSet::new()));
                self.made += 1;
                true
            }
            (Identity::Filter(filter), _) => {
                let Some((_, elements)) = self.tables.get_mut(&filter.table) else {
                    return if delete { Outcome::Already } else { Outcome::Refused(NO_ENTRY) };
                };
                match delete {
                    true => elements.remove(&**filter),
                    false => {
                        elements.insert((**filter).clone());
                        true
                    }
                }
            }
            _ => false,
        };
        if changed { Outcome::Done } else { Outcome::Already }
    }

    pub(super) fn sights(&self) -> impl Iterator<Item = Sight> {
        self.tables.iter().flat_map(|(id, (_, elements))| {
            let table = sight(Identity::FilterTable(id.clone()));
            let of = |f: &Filter<IfIndex>| sight(Identity::Filter(Box::new(f.clone())));
            core::iter::once(table).chain(elements.iter().map(of))
        })
    }

    pub(super) fn take_events(&mut self) -> Vec<Change> {
        core::mem::take(&mut self.events)
    }

    /// The existing tables.
    pub fn tables(&self) -> impl Iterator<Item = &FilterTable> {
        self.tables.values().map(|(table, _)| table)
    }

    /// What they match.
    pub fn elements(&self) -> impl Iterator<Item = &Filter<IfIndex>> {
        self.tables.values().flat_map(|(_, elements)| elements)
    }

    /// Whether an element exists.
    #[must_use]
    pub fn has(&self, place: &Identity<IfIndex>) -> bool {
        let Identity::Filter(filter) = place else { return false };
        self.tables.get(&filter.table).is_some_and(|(_, elements)| elements.contains(&**filter))
    }

    /// Their elements, in words.
    #[must_use]
    pub fn matched(&self) -> Vec<String> {
        self.elements().map(|f| format!("{:?}", f.element)).collect()
    }

    /// Another program removes all tables.
    pub fn flush(&mut self) {
        for (id, _) in core::mem::take(&mut self.tables) {
            let sight = sight(Identity::FilterTable(id));
            self.events.push(Change { sight, kind: ChangeKind::Gone, own: false });
        }
    }
}

fn sight(identity: Identity<IfIndex>) -> Sight {
    let links = match &identity {
        Identity::Filter(filter) => match &filter.element {
            crate::plan::filter::Element::OnLink(_, link) => vec![*link],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    Sight { identity, links, attributes: None }
}
