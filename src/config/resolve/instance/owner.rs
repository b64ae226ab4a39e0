//! Priority 255: the owner of the virtual addresses.

use super::super::Load;
use super::super::settled::ignored;
use crate::config::block::vrrp::VrrpInstance;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::model::{Instance, Weight};

/// The owner of the addresses keeps its priority: trackers that would change it do not count.
pub(super) fn owner_without_weights(
    block: &VrrpInstance,
    instance: &mut Instance,
    cx: &mut Load<'_>,
) {
    let weighted = |w: &Weight| matches!(w, Weight::Priority { .. });
    let mut lost: Vec<String> = Vec::new();
    instance.track_interfaces.retain(|t| {
        let keep = !weighted(&t.weight);
        if !keep {
            lost.push(format!("interface {}", t.interface));
        }
        keep
    });
    instance.track_scripts.retain(|t| {
        let keep = !weighted(&t.weight);
        if !keep {
            lost.push(format!("script {}", t.script));
        }
        keep
    });
    for what in lost {
        let what = format!("tracked {what} has a weight, which priority 255 does not allow");
        ignored(block, &what, block.span, cx);
    }
}

/// Reports which virtual addresses are the interface's own: this daemon never removes them.
pub(super) fn owned(block: &VrrpInstance, instance: &Instance, cx: &mut Load<'_>) {
    let lines = block.virtual_ipaddress.items.iter();
    for line in lines.chain(&block.virtual_ipaddress_excluded.items) {
        let name = line.value.interface.as_ref().unwrap_or(&instance.interface);
        let Some(own) = cx.interface(name).and_then(|i| i.own(line.value.prefix)) else {
            continue;
        };
        let address = own.address;
        let message = format!(
            "({}) {address} is {name}'s own address ({own}): it is never removed, whatever the state",
            instance.name
        );
        let mut new = Diagnostic::note_only(&codes::OWNS_ADDRESS, message)
            .at(line.span)
            .note("clients reach this host at it while its link is up, also when another router is master");
        new.environment = true;
        cx.report(new);
    }
}
