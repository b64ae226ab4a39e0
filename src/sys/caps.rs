//! Capabilities.

use caps::{CapSet, Capability, CapsHashSet};

/// An error of capability functions.
#[derive(Debug, thiserror::Error)]
#[error("capabilities: {0}")]
pub struct CapError(#[from] caps::errors::CapsError);

/// Reduces the capabilities of the calling thread, which must be the only one, to `keep`; it gains none. The ambient
/// and the inheritable set become empty: programs it executes inherit no capability.
///
/// # Errors
/// If the kernel refuses.
pub fn reduce(keep: &[Capability]) -> Result<(), CapError> {
    let have = caps::read(None, CapSet::Permitted)?;
    let keep: CapsHashSet = keep.iter().copied().filter(|c| have.contains(c)).collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &keep)?;
    caps::set(None, CapSet::Permitted, &keep)?;
    caps::clear(None, CapSet::Inheritable)?;
    Ok(())
}

/// Ensures that neither this thread nor programs it executes can gain capabilities other than `keep`. Does nothing
/// without SETPCAP.
///
/// # Errors
/// If the kernel refuses.
pub fn bound(keep: &[Capability]) -> Result<(), CapError> {
    if has(Capability::CAP_SETPCAP) {
        for one in caps::read(None, CapSet::Bounding)? {
            if !keep.contains(&one) {
                caps::drop(None, CapSet::Bounding, one)?;
            }
        }
    }
    Ok(())
}

/// Those of `needed` that the calling thread cannot use.
#[must_use]
pub fn missing(needed: &[Capability]) -> Vec<Capability> {
    needed.iter().copied().filter(|one| !has(*one)).collect()
}

/// Whether a program that this thread executes as root can have this capability.
#[must_use]
pub fn is_bounded(one: Capability) -> bool {
    caps::has_cap(None, CapSet::Bounding, one).unwrap_or(false)
}

/// Names of capabilities, for messages: `CAP_NET_ADMIN, CAP_NET_RAW`.
#[must_use]
pub fn names(list: &[Capability]) -> String {
    let names: Vec<String> = list.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Whether the calling thread can use this capability.
#[must_use]
pub fn has(one: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, one).unwrap_or(false)
}
