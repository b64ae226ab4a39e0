//! Tracked objects besides scripts and interfaces, and groups of instances and interfaces.

use core::time::Duration;

use indexmap::{IndexMap, IndexSet};

use super::Load;
use crate::base::{Family, IfName, Name};
use crate::config::block::track::{
    BfdInstance, GarpGroup, OptionalMatch, ParamMatch, TrackFile, TrackGroup, TrackProcess,
};
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::host::FileKind;
use crate::config::source::directory_of;
use crate::config::span::{Span, Spanned};
use crate::config::value::text::ObjectName;
use crate::config::value::tracker::TrackEntry;
use crate::model;
use crate::model::extras::{self, Bfd};
use crate::model::tracker::{ArgumentMatch, InitFile, Tracked};

/// The kinds of tracked objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Script,
    File,
    Process,
    Bfd,
}

impl Kind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::File => "file",
            Self::Process => "process",
            Self::Bfd => "bfd",
        }
    }
}

/// A file, a process or a session that can be tracked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub span: Span,
    pub weight: i16,
    pub reverse: bool,
}

/// A group of instances whose members may come later.
#[derive(Debug)]
pub(crate) struct TrackGroupDraft {
    span: Span,
    members: Vec<Spanned<ObjectName>>,
    pub interfaces: IndexSet<IfName>,
}

fn incomplete(message: String, at: Span, start: Span, cx: &mut Load<'_>) {
    cx.report(
        Diagnostic::error(&codes::INCOMPLETE, message).at(at).related(start, "it begins here"),
    );
}

fn already(message: String, at: Span, first: Span, cx: &mut Load<'_>) {
    cx.report(
        Diagnostic::error(&codes::DUPLICATE_NAME, message)
            .at(at)
            .related(first, "this one is used"),
    );
}

pub(super) fn file(block: TrackFile, cx: &mut Load<'_>) {
    let name = block.header.0.clone();
    let Some(file) = block.file.value() else {
        let message = format!("track_file {name} has no file, it is left out");
        incomplete(message, block.end, block.span, cx);
        return;
    };
    let directory = directory_of(&file.0).unwrap_or(b".");
    let known = cx
        .host
        .inspect(directory.strip_suffix(b"/").filter(|d| !d.is_empty()).unwrap_or(directory))
        .is_some_and(|i| i.kind != FileKind::Regular);
    if !known {
        let message = format!(
            "the directory of track_file {name} does not exist: '{}'",
            String::from_utf8_lossy(directory)
        );
        let new = Diagnostic::environment(&codes::NO_FILE, message).at(block.file.span());
        cx.report(new.class(crate::config::diagnostic::Class::Quiet));
    }
    let weight = block.weight();
    let object = Object { span: block.span, weight: weight.weight, reverse: weight.reverse };
    // In keepalived two files with one name exist side by side; references find the first one.
    if !remember(Kind::File, &name, object, cx) {
        return;
    }
    cx.draft.model.vrrp.track_files.push(model::tracker::TrackFile {
        name,
        path: file.0.clone(),
        weight: object.weight,
        reverse: object.reverse,
        init: block.init_file.value().map(|i| InitFile { value: i.value, overwrite: i.overwrite }),
    });
}

pub(super) fn process(block: TrackProcess, cx: &mut Load<'_>) {
    let name = block.header.0.clone();
    let Some(process) = block.process.value() else {
        let message = format!("vrrp_track_process {name} has no process, it is left out");
        incomplete(message, block.end, block.span, cx);
        return;
    };
    let mut quorum = block.quorum().u32();
    let mut most = block.quorum_max.value().map(|n| n.u32());
    if most == Some(0) {
        quorum = 0;
    } else if let Some(high) = most.filter(|high| *high < quorum) {
        let message = format!("({name}) quorum_max {high} is below quorum {quorum}, ignored");
        cx.report(Diagnostic::error(&codes::CONFLICT, message).at(block.quorum_max.span()));
        most = None;
    }
    let weight = block.weight();
    let object = Object { span: block.span, weight: weight.weight, reverse: weight.reverse };
    if !remember(Kind::Process, &name, object, cx) {
        return;
    }
    let arguments = match block.param_match.value() {
        Some(OptionalMatch(None)) => Some(ArgumentMatch::Exact),
        Some(OptionalMatch(Some(ParamMatch::Initial))) => Some(ArgumentMatch::Initial),
        Some(OptionalMatch(Some(ParamMatch::Partial))) => Some(ArgumentMatch::Partial),
        None if process.0.len() > 1 => Some(ArgumentMatch::Exact),
        None => None,
    };
    let both = block.delay.value().map_or(Duration::ZERO, |d| d.duration());
    cx.draft.model.vrrp.track_processes.push(model::tracker::TrackProcess {
        name,
        words: process.0.clone(),
        arguments,
        full_command: block.full_command.is_set() || arguments.is_some(),
        quorum,
        quorum_max: most,
        terminate_delay: block.terminate_delay.value().map_or(both, |d| d.duration()),
        fork_delay: block.fork_delay.value().map_or(both, |d| d.duration()),
    });
}

/// Whether to keep a block; a second one with its name is reported.
pub(super) fn wants_bfd(block: &BfdInstance, cx: &mut Load<'_>) -> bool {
    let name = &block.header.0;
    if name.len() > 31 {
        let message =
            format!("the name of bfd_instance {name} has more than 31 characters, it is left out");
        cx.report(Diagnostic::error(&codes::TOO_LONG, message).at(block.span));
        return false;
    }
    if let Some(first) = cx.draft.bfds.get(name).copied() {
        already(
            format!("bfd_instance {name} is already defined, this block is left out"),
            block.span,
            first,
            cx,
        );
        return false;
    }
    cx.draft.bfds.insert(name.clone(), block.span);
    true
}

pub(super) fn bfd(block: BfdInstance, cx: &mut Load<'_>) {
    let name = block.header.0.clone();
    let Some(neighbor) = block.neighbor_ip.value().map(|ip| ip.0) else {
        let message = format!("BFD instance {name} has no neighbor address, it is left out");
        incomplete(message, block.end, block.span, cx);
        return;
    };
    let source = block.source_ip.value().map(|ip| ip.0);
    if source.is_some_and(|s| Family::of(&s) != Family::of(&neighbor)) {
        let message = format!(
            "BFD instance {name}: source and neighbor are of different families, the instance is left out"
        );
        incomplete(message, block.end, block.span, cx);
        return;
    }
    let same = cx
        .draft
        .model
        .vrrp
        .bfds
        .iter()
        .find(|b| b.neighbor == neighbor && b.source == source)
        .map(|b| b.name.clone());
    if let Some(other) = same {
        let message =
            format!("BFD instance {name} has the same addresses as {other}, it is left out");
        incomplete(message, block.end, block.span, cx);
        return;
    }
    let weight = block.weight();
    let object = Object { span: block.span, weight: weight.weight, reverse: weight.reverse };
    remember(Kind::Bfd, &name, object, cx);
    let given = block.ttl.value().map(|n| n.u8());
    // keepalived sends 64 over IPv6, which no other implementation takes.
    let expected = given.unwrap_or(match Family::of(&neighbor) {
        Family::V4 => 255,
        Family::V6 => 64,
    });
    let (vrrp, checker) = (block.vrrp.is_set(), block.checker.is_set());
    // -1 is 255 in eight bits.
    let hops = u8::try_from(block.max_hops().0).unwrap_or(u8::MAX);
    cx.draft.model.vrrp.bfds.push(Bfd {
        name,
        neighbor,
        source,
        min_rx: Duration::from_micros(block.min_rx().0),
        min_tx: Duration::from_micros(block.min_tx().0),
        idle_tx: Duration::from_micros(block.idle_tx().0),
        multiplier: block.multiplier().u8(),
        passive: block.passive.is_set(),
        ttl: given.unwrap_or(u8::MAX),
        least_ttl: expected.saturating_sub(hops),
        multihop: block.multihop().0,
        for_vrrp: vrrp || !checker,
        for_checker: checker || !vrrp,
    });
}

/// Notes an object that can be tracked. False if the name is taken.
fn remember(kind: Kind, name: &Name, object: Object, cx: &mut Load<'_>) -> bool {
    let key = (kind, name.clone());
    if cx.draft.objects.contains_key(&key) {
        return false;
    }
    cx.draft.objects.insert(key, object);
    true
}

/// Tracked objects that are defined, each once.
pub(super) fn tracked<const MAX: i64>(
    kind: Kind,
    entries: &[Spanned<TrackEntry<MAX>>],
    user: &Name,
    cx: &mut Load<'_>,
) -> Vec<Tracked> {
    let mut list: IndexMap<Name, Tracked> = IndexMap::new();
    for entry in entries {
        let name = &entry.value.name;
        let Some(object) = cx.draft.objects.get(&(kind, name.clone())).copied() else {
            cx.draft.unresolved.push((kind, name.clone(), entry.span, user.clone()));
            continue;
        };
        let mut others = cx.draft.model.vrrp.bfds.iter().filter(|bfd| !bfd.for_vrrp);
        if kind == Kind::Bfd && others.any(|bfd| bfd.name == *name) {
            let message = format!("({user}) BFD instance {name} is for checks only, ignored");
            let new = Diagnostic::error(&codes::UNKNOWN_REFERENCE, message).at(entry.span);
            cx.report(new.help("add 'vrrp' to its block"));
            continue;
        }
        if list.contains_key(name) {
            let message = format!("({user}) {} {name} is already tracked, ignored", kind.word());
            cx.report(Diagnostic::error(&codes::DUPLICATE_ENTRY, message).at(entry.span));
            continue;
        }
        let (weight, reverse) = match entry.value.weight {
            Some((weight, reverse)) => (weight, reverse.unwrap_or(object.reverse)),
            None => (object.weight, object.reverse),
        };
        let most = if kind == Kind::File { 254 } else { 253 };
        let weight = weight.clamp(-most, most);
        list.insert(name.clone(), Tracked { name: name.clone(), weight, reverse });
    }
    list.into_values().collect()
}

/// Whether to keep a block; a second one with its name is reported.
pub(super) fn wants_group(block: &TrackGroup, cx: &mut Load<'_>) -> bool {
    let name = &block.header.0;
    let Some(first) = cx.draft.track_groups.get(name).map(|g| g.span) else {
        return true;
    };
    already(
        format!("track_group {name} is already defined, this block is left out"),
        block.span,
        first,
        cx,
    );
    false
}

pub(super) fn group(block: TrackGroup, cx: &mut Load<'_>) {
    let draft = TrackGroupDraft {
        span: block.span,
        members: block.group.items,
        interfaces: IndexSet::new(),
    };
    cx.draft.track_groups.insert(block.header.0.clone(), draft);
}

/// Adds an interface of a static item to a track group.
pub(super) fn follow(
    group: Option<&Name>,
    interface: Option<&IfName>,
    at: Span,
    cx: &mut Load<'_>,
) {
    let Some(name) = group else {
        return;
    };
    match (cx.draft.track_groups.get_mut(name), interface) {
        (Some(group), Some(interface)) => {
            group.interfaces.insert(interface.clone());
        }
        (Some(_), None) => {}
        (None, _) => {
            let message = format!("track_group {name} not found, ignored");
            let new = Diagnostic::error(&codes::UNKNOWN_REFERENCE, message).at(at);
            cx.report(new.help("define track groups before the items that use them"));
        }
    }
}

/// Finds the members of track groups.
pub(super) fn finish(cx: &mut Load<'_>) {
    for (name, draft) in core::mem::take(&mut cx.draft.track_groups) {
        let mut members = IndexSet::new();
        for member in &draft.members {
            if cx.draft.instances.contains_key(&member.value.0) {
                members.insert(member.value.0.clone());
            } else {
                let message = format!(
                    "virtual router {} specified in track_group {name} does not exist, ignored",
                    member.value.0
                );
                cx.report(Diagnostic::error(&codes::UNKNOWN_REFERENCE, message).at(member.span));
            }
        }
        if members.is_empty() {
            continue;
        }
        for instance in &mut cx.draft.model.vrrp.instances {
            if members.contains(&instance.name) {
                let interfaces = draft.interfaces.iter();
                super::settled::follow(
                    &mut instance.track_interfaces,
                    &instance.interface,
                    interfaces,
                );
            }
        }
        cx.draft.model.vrrp.track_groups.push(extras::TrackGroup {
            name,
            members: members.into_iter().collect(),
            interfaces: draft.interfaces.into_iter().collect(),
        });
    }
}

pub(super) fn garp_group(block: GarpGroup, cx: &mut Load<'_>) {
    let time = |t: Option<Duration>| t.filter(|t| !t.is_zero());
    let garp = time(block.garp_interval.value().map(|t| t.duration()));
    let na = time(block.gna_interval.value().map(|t| t.duration()));
    if garp.is_none() && na.is_none() {
        let message = "the garp_group has no interval, it is left out".to_owned();
        incomplete(message, block.end, block.span, cx);
        return;
    }
    let mut interfaces: IndexSet<IfName> = IndexSet::new();
    for entry in block.interface.0.iter().chain(&block.interfaces.items) {
        let name = &entry.value.0;
        cx.check_interface(Some(name), entry.span, "specified for garp_group");
        let grouped = cx.draft.model.vrrp.garp_groups.iter().any(|g| g.interfaces.contains(name));
        let problem = if grouped || interfaces.contains(name) {
            Some(format!("interface {name} is already in a garp_group, ignored"))
        } else if cx.interface(name).is_some_and(|i| i.stacked) {
            Some(format!("interface {name} is a VMAC or ipvlan, ignored"))
        } else {
            None
        };
        match problem {
            Some(message) => {
                cx.report(Diagnostic::error(&codes::DUPLICATE_ENTRY, message).at(entry.span));
            }
            None => {
                interfaces.insert(name.clone());
            }
        }
    }
    cx.draft.model.vrrp.garp_groups.push(extras::GarpGroup {
        garp,
        na,
        interfaces: interfaces.into_iter().collect(),
    });
}
