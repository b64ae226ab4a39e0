//! Virtual and static addresses.

use indexmap::IndexSet;

use super::Load;
use crate::base::{Family, IfName, Prefix};
use crate::config::block::root::Root;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::span::Spanned;
use crate::config::value::entry::AddressEntry;
use crate::model::{Address, Lifetime};

/// An address on the interface given in its line, else on `interface`.
pub(super) fn address(entry: &AddressEntry, interface: &IfName) -> Address {
    let interface = entry.interface.as_ref().unwrap_or(interface);
    let mut address = Address::new(entry.prefix, interface.clone());
    address.broadcast = entry.broadcast;
    address.peer = entry.peer.map(Prefix::host);
    address.scope = entry.scope;
    address.label = entry.label.clone();
    // An IPv6 address that is not part of a subnet must not be selected as a source.
    let host = entry.prefix.family() == Family::V6 && entry.prefix.length() == 128;
    address.preferred = entry.preferred.unwrap_or(if host {
        Lifetime::For(core::time::Duration::ZERO)
    } else {
        Lifetime::Forever
    });
    address.flags = entry.flags;
    address.no_track = entry.no_track;
    address
}

/// The addresses of a list; repeated ones are reported and ignored.
pub(super) fn addresses(
    entries: &[Spanned<AddressEntry>],
    interface: &IfName,
    seen: &mut IndexSet<(Prefix, IfName)>,
    cx: &mut Load<'_>,
) -> Vec<Address> {
    let mut list = Vec::with_capacity(entries.len());
    for entry in entries {
        let address = address(&entry.value, interface);
        let key = (Prefix::host(address.prefix.address), address.interface.clone());
        if seen.insert(key) {
            list.push(address);
        } else {
            let message = format!("address {} is already listed, ignored", address.prefix);
            // Nothing is lost, and keepalived 2.2 gives no message.
            cx.report(Diagnostic::warning(&codes::DUPLICATE_ENTRY, message).at(entry.span));
        }
    }
    list
}

/// `static_ipaddress`.
pub(super) fn statics(root: &Root, cx: &mut Load<'_>) {
    let entries = &root.static_ipaddress.items;
    if entries.is_empty() {
        return;
    }
    let Some(default) = cx.default_interface() else {
        return;
    };
    let mut seen = IndexSet::new();
    let list = addresses(entries, &default, &mut seen, cx);
    if let Some(entry) = entries.iter().find(|e| e.value.interface.is_none()) {
        cx.check_interface(Some(&default), entry.span, "for a static address");
    }
    cx.draft.model.vrrp.static_addresses = list;
}
