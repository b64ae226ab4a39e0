//! Packet filters: what an instance wants dropped, and the tables for that.
//!
//! An instance that does not accept packets for its addresses (`no_accept`, strict mode) drops them while it is master,
//! and those from them: they are claimed like its addresses, of which they are put first and taken last. The tables are
//! there as long as the daemon runs, if any instance may need them.

use std::collections::BTreeSet;

use super::Engine;
use super::instance::{Instance, say};
use super::object::Claimant;
use crate::base::Family;
use crate::model::{self, FilterSettings};
use crate::plan::filter::{Filter, FilterTable};
use crate::plan::{Object, ObjectId};

/// What an instance wants dropped while it is master.
pub(super) fn of_instance(
    settings: &FilterSettings,
    config: &model::Instance,
) -> impl Iterator<Item = Object> {
    let all = config.addresses.iter().chain(&config.excluded).filter(|_| config.is_closed());
    all.map(|a| Filter::of_address(settings, a.prefix.address, &a.interface))
        .map(|filter| Object::Filter(Box::new(filter)))
}

/// The tables that a configuration needs.
#[must_use]
pub fn tables(config: &model::Vrrp) -> Vec<FilterTable> {
    let closed = config.instances.iter().filter(|i| i.is_closed());
    let addresses = closed.flat_map(|i| i.addresses.iter().chain(&i.excluded));
    let families: BTreeSet<Family> = addresses.map(|a| a.prefix.family()).collect();
    let table = |family| FilterTable { family, settings: config.filters.clone(), vmacs: false };
    families.into_iter().map(table).collect()
}

impl Engine {
    /// Claims the tables.
    pub(super) fn claim_tables(&mut self, config: &model::Vrrp) {
        for table in tables(config) {
            self.objects.claim(Object::FilterTable(Box::new(table)), Claimant::Host);
        }
    }

    /// Another program did away with a table, or changed something in it: it is made anew, with all that was in it.
    pub(super) fn table_taken(&mut self, entry: ObjectId) {
        let Some(Object::FilterTable(table)) = self.objects.entry(entry).map(|e| &*e.object) else {
            return;
        };
        let (id, settings) = (table.id(), &table.settings);
        tracing::warn!("{id} was changed by another program, making it anew");
        let concerned = |instance: &&mut Instance| {
            let mut filters = of_instance(settings, &instance.config);
            let of_table = |o: Object| matches!(o, Object::Filter(f) if f.table == id);
            instance.is_master() && filters.any(of_table)
        };
        for instance in self.instances.iter_mut().filter(concerned) {
            instance.counters.objects_restored += 1;
        }
    }

    /// Says that packets for the addresses of an instance are dropped from now on, or not any more.
    pub(super) fn say_closed(instance: &Instance, begins: bool) {
        if instance.config.is_closed() {
            let what = if begins { "setting" } else { "removing" };
            say!(debug, *instance, "{what} firewall drop rule");
        }
    }
}
