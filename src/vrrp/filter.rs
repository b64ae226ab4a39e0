//! Packet filters: the packets that an instance drops, and the tables for them.
//!
//! An instance that does not accept packets for its addresses (`no_accept`, strict mode) drops packets to and from them
//! while it is master. The filters are claimed like its addresses, added before them and removed after them. The tables
//! exist as long as the daemon runs, if any instance may need them. An interface with a virtual MAC and IPv6 addresses has
//! a filter of its own as long as it exists: the kernel would report its group memberships from the virtual MAC, on a
//! backup too, and switches would learn the wrong port.

use std::collections::BTreeSet;

use super::Engine;
use super::consequence::What;
use super::event::InstanceId;
use super::instance::{Instance, say};
use crate::base::Family;
use crate::model::{self, FilterSettings};
use crate::plan::filter::{Filter, FilterTable};
use crate::plan::{Object, ObjectId};

/// The part of a configuration that concerns the filters of one claimant.
pub(super) enum List<'a> {
    /// Nothing is to be dropped.
    None,
    /// Packets to and from the addresses of an instance.
    Closed(&'a FilterSettings, [&'a [model::Address]; 2]),
    /// The host: the tables that all need.
    Tables(&'a model::Vrrp),
}

impl<'a> List<'a> {
    pub(super) fn of(all: &'a model::Vrrp, config: &'a model::Instance) -> Self {
        if config.is_closed() {
            Self::Closed(&all.filters, [&config.addresses, &config.excluded])
        } else {
            Self::None
        }
    }

    /// The filter at this position.
    pub(super) fn at(&self, position: usize) -> Option<Vec<Object>> {
        match self {
            Self::None => None,
            Self::Closed(settings, [first, second]) => {
                let second = || second.get(position - first.len());
                first.get(position).or_else(second).map(|a| vec![of_address(settings, a)])
            }
            Self::Tables(config) => (position == 0).then(|| {
                let table = |table| Object::FilterTable(Box::new(table));
                tables(config).into_iter().map(table).collect()
            }),
        }
    }
}

fn of_address(settings: &FilterSettings, address: &model::Address) -> Object {
    let filter = Filter::of_address(settings, address.prefix.address, &address.interface);
    Object::Filter(Box::new(filter))
}

/// The tables that a configuration needs.
#[must_use]
pub fn tables(config: &model::Vrrp) -> Vec<FilterTable> {
    let closed = config.instances.iter().filter(|i| i.is_closed());
    let addresses = closed.flat_map(|i| i.addresses.iter().chain(&i.excluded));
    let mut families: BTreeSet<Family> = addresses.map(|a| a.prefix.family()).collect();
    let links = config.instances.iter().flat_map(model::Instance::links);
    let reporting = |link| Filter::of_link(&config.filters, link).map(|filter| filter.table.family);
    let reporting: BTreeSet<Family> = links.filter_map(reporting).collect();
    families.extend(&reporting);
    let table = |family| {
        let vmacs = reporting.contains(&family);
        FilterTable { family, settings: config.filters.clone(), vmacs }
    };
    families.into_iter().map(table).collect()
}

impl Engine {
    /// Another program removed or changed a table: it is recreated with all of its content.
    pub(super) fn table_taken(&mut self, entry: ObjectId) {
        let Some(Object::FilterTable(table)) = self.objects.entry(entry).map(|e| &*e.object) else {
            return;
        };
        let id = table.id();
        tracing::warn!("{id} was changed by another program, recreating it");
        let family = id.family;
        self.each(What::Restored(family), self.instances.ids());
    }

    /// A table with packet filters of an instance is recreated.
    pub(super) fn count_restored(&mut self, id: InstanceId, family: Family) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let config = &instance.config;
        let mut addresses = config.addresses.iter().chain(&config.excluded);
        let of_table = |a: &model::Address| a.prefix.family() == family;
        if instance.is_master() && config.is_closed() && addresses.any(of_table) {
            instance.counters.objects_restored += 1;
        }
    }

    /// Logs that packets for the addresses of an instance are dropped from now on, or accepted again.
    pub(super) fn say_closed(instance: &Instance, begins: bool) {
        if instance.config.is_closed() {
            let what = if begins { "setting" } else { "removing" };
            say!(debug, *instance, "{what} firewall drop rule");
        }
    }
}
