//! What other programs and earlier daemons do to the kernel: foreign objects, leftovers, disturbances.

use super::stock::{name, pick, some_foreign, variant};
use super::*;

impl Host {
    /// Adds objects of other programs, which nothing wanted names: a stacked interface, a setting, a table of packet
    /// filters with an element, a sync daemon. Returns what may not be wanted because of them.
    pub(super) fn add_foreign(&mut self) -> Vec<Identity<IfName>> {
        let mut taken = Vec::new();
        for object in some_foreign(&mut self.rng) {
            let op = self.op(Verb::Add, &object);
            assert_eq!(self.kernel.apply(&op, &mut Rng::new(0)), Outcome::Done, "{op}");
            taken.push(object.identity());
        }
        if self.rng.chance(50) {
            let link = pick(&mut self.rng, &LINKS);
            let setting = pick(&mut self.rng, &Setting::ALL);
            let index = self.index(link);
            self.kernel.settings.insert((index, setting), 7);
            self.kernel.note_settings(index);
            taken.push(Identity::Setting(name(link), setting));
        }
        taken
    }

    /// Everything in the kernel now was added by other programs.
    pub(super) fn note_foreign(&mut self) {
        let kernel = &self.kernel;
        self.foreign = kernel.addresses.iter().copied().collect();
        self.foreign_routes.clone_from(&kernel.routes);
        self.foreign_rules.clone_from(&kernel.rules);
        let links = kernel.stacked.iter();
        self.foreign_links = links.map(|(index, s)| (*index, s.attributes.clone())).collect();
        self.foreign_settings.clone_from(&kernel.settings);
        self.foreign_settings.retain(|_, value| *value > 1);
        self.foreign_tables = kernel.filters.tables().cloned().collect();
        self.foreign_filters = kernel.filters.elements().cloned().collect();
        self.foreign_daemons.clone_from(&kernel.daemons);
    }

    /// Adds some of these objects, of kinds that only the extended stock leaves behind, to the kernel.
    pub(super) fn leave_more_behind(&mut self, objects: &[Object]) {
        for object in objects {
            let possible = match object {
                Object::Setting(_) | Object::FilterTable(_) | Object::SyncDaemon(_) => true,
                Object::Filter(filter) => {
                    self.kernel.filters.tables().any(|table| table.id() == filter.table)
                }
                _ => false,
            };
            if possible && self.rng.chance(40) {
                let object = variant(&mut self.rng, object);
                let op = self.op(Verb::Add, &object);
                self.kernel.apply(&op, &mut Rng::new(0));
            }
        }
    }

    /// Adds some of these objects, possibly with other attributes, to the kernel before the daemon starts.
    pub(super) fn leave_behind(&mut self, objects: &[Object]) {
        for object in objects {
            // A route would disappear with its source, which cannot be prevented.
            let setting = matches!(object, Object::Setting(_));
            // See `leave_more_behind`. A table with other settings is not reported: an engine test covers that.
            let is_filter = matches!(object, Object::FilterTable(_) | Object::Filter(_));
            let is_daemon = matches!(object, Object::SyncDaemon(_));
            let possible = object.source().is_none() && !setting && !is_filter && !is_daemon;
            if self.rng.chance(40) && possible {
                let object = variant(&mut self.rng, object);
                let op = self.op(Verb::Add, &object);
                self.kernel.apply(&op, &mut Rng::new(0));
            }
        }
    }

    /// Changes by other programs on a running host, and the daemon's reaction.
    pub(super) fn disturb(&mut self) {
        let link = pick(&mut self.rng, &LINKS);
        let (name, index) = (name(link), self.index(link));
        match self.rng.below(6) {
            4 => {
                self.kernel.filters.flush();
                self.foreign_tables.clear();
                self.foreign_filters.clear();
                let changes = self.kernel.take_events();
                let again = self.tell(&changes);
                self.settle(again, true);
            }
            3 => {
                // Another program removes an interface, renames or changes it.
                let is_ours = |above: &IfIndex| self.foreign_links.iter().all(|(i, _)| i != above);
                let above = self.kernel.on_parent(index).into_iter().find(is_ours);
                let Some(above) = above else { return };
                if self.rng.chance(50) {
                    let change = self.kernel.link_change(above, false);
                    self.kernel.remove_link(above);
                    let again = self.tell(&change.into_iter().collect::<Vec<_>>());
                    self.settle(again, true);
                } else {
                    if self.rng.chance(50) {
                        self.kernel.spoil(above);
                    }
                    if self.rng.chance(50) {
                        self.kernel.rename_link(above, &stock::name("renamed"));
                    }
                    let changes = self.link_events();
                    let again = self.tell(&changes);
                    self.settle(again, true);
                }
            }
            0 => {
                let held = self.kernel.addresses.clone();
                if held.is_empty() {
                    return;
                }
                let (link, prefix) = pick(&mut self.rng, &held);
                if self.foreign.contains(&(link, prefix)) {
                    return;
                }
                let gone = self.kernel.remove(link, prefix);
                // Without promotion the kernel also removes foreign addresses of this subnet.
                gone.iter().for_each(|gone| {
                    self.foreign.remove(&(link, *gone));
                });
                let mut changes: Vec<Change> =
                    gone.iter().map(|p| Change::address(link, *p, false, false)).collect();
                changes.extend(self.kernel.take_events());
                let again = self.tell(&changes);
                self.settle(again, true);
            }
            1 => {
                self.kernel.flush_rules();
                self.foreign_rules.clear();
                let changes = self.kernel.take_events();
                let again = self.tell(&changes);
                self.settle(again, true);
            }
            2 => {
                self.foreign_routes.retain(|route| !route.links.contains(&index));
                for up in [false, true] {
                    self.kernel
                        .links
                        .iter_mut()
                        .filter(|l| l.index == index)
                        .for_each(|l| l.up = up);
                    if !up {
                        self.kernel.went_down(index);
                    }
                    self.kernel.follow_parent(index, up);
                    let mut changes = self.kernel.take_events();
                    changes.extend(self.link_events());
                    let mut again = self.tell(&changes);
                    let entries = self.table.link_changed(&name);
                    entries.iter().for_each(|id| self.table.doubt(*id));
                    again.extend(entries);
                    self.settle(again, up);
                }
            }
            _ => {
                let mut changes: Vec<Change> = self
                    .kernel
                    .remove_link(index)
                    .into_iter()
                    .map(|prefix| Change::address(index, prefix, false, false))
                    .collect();
                changes.extend(self.kernel.take_events());
                changes.extend(self.link_events());
                self.foreign.retain(|(link, _)| *link != index);
                self.foreign_routes.retain(|route| !route.links.contains(&index));
                let kernel = &self.kernel;
                self.foreign_links.retain(|(above, _)| kernel.link_at(*above).is_some());
                self.foreign_settings.retain(|(link, _), _| *link != index);
                let mut again = self.tell(&changes);
                again.extend(self.table.forget_link(index));
                again.extend(self.table.set_link(&name, None));
                self.settle(again, false);
                let index = self.kernel.make_link(&name, Mac([2, 0, 0, 0, 0, 9]));
                let again = self.table.set_link(&name, Some(index));
                self.settle(again, true);
            }
        }
    }
}
