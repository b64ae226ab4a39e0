//! Capabilities.

use caps::{CapSet, Capability, CapsHashSet};

/// Something went wrong with capabilities.
#[derive(Debug, thiserror::Error)]
#[error("capabilities: {0}")]
pub struct CapError(#[from] caps::errors::CapsError);

/// Reduces the calling thread, which must be the only one, to `keep`; what it does not have it does not get.
/// With `bounding`, programs it executes cannot get others than those either.
///
/// # Errors
/// When the kernel refuses.
pub fn reduce(keep: &[Capability], bounding: Option<&[Capability]>) -> Result<(), CapError> {
    let have = caps::read(None, CapSet::Permitted)?;
    let keep: CapsHashSet = keep.iter().copied().filter(|c| have.contains(c)).collect();
    if let Some(bounding) = bounding.filter(|_| have.contains(&Capability::CAP_SETPCAP)) {
        for one in caps::read(None, CapSet::Bounding)? {
            if !bounding.contains(&one) {
                caps::drop(None, CapSet::Bounding, one)?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &keep)?;
    caps::set(None, CapSet::Permitted, &keep)?;
    caps::clear(None, CapSet::Inheritable)?;
    Ok(())
}

/// Whether the calling thread can use this capability.
#[must_use]
pub fn has(one: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, one).unwrap_or(false)
}
