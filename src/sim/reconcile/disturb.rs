//! What other programs do to a running host.

use super::*;

impl Host {
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
                // Another program removes an interface, or changes it.
                let is_ours = |above: &IfIndex| self.foreign_links.iter().all(|(i, _)| i != above);
                let above = self.kernel.on_parent(index).into_iter().find(is_ours);
                let Some(above) = above else { return };
                if self.rng.chance(50) {
                    let change = self.kernel.link_change(above, false);
                    self.kernel.remove_link(above);
                    let again = self.tell(&change.into_iter().collect::<Vec<_>>());
                    self.settle(again, true);
                } else {
                    self.kernel.spoil(above);
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
                    again.extend(self.table.link_changed(&name));
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
