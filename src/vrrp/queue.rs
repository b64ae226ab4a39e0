//! The required sizes of the queues of received packets.

use super::Engine;
use super::instance::Instance;
use crate::base::Family;
use crate::model::vrrp::{ReceiveBuffers, Version};
use crate::wire::{ip, vrrp};

impl Engine {
    /// Octets that the instances require together, maintained as they change (`kernel_rx_buf_size`, else `vrrp_rx_bufs_policy`); 0 if none is
    /// configured.
    #[must_use]
    pub const fn receive_buffer(&self) -> u64 {
        self.receive_buffer
    }

    pub(super) fn receive_buffer_of(&self, instance: &Instance) -> u32 {
        let own = instance.config.extras.as_ref().and_then(|extras| extras.receive_buffer);
        if let Some(own) = own.filter(|own| *own > 0) {
            return own;
        }
        match self.config.receive_buffers {
            ReceiveBuffers::Kernel => 0,
            ReceiveBuffers::Mtu(times) => {
                let link = instance.link.and_then(|link| self.links.get(&link));
                times.saturating_mul(link.map_or(0, |link| link.mtu))
            }
            ReceiveBuffers::Advert(times) => times.saturating_mul(length(instance)),
            ReceiveBuffers::Bytes(octets) => octets,
        }
    }
}

/// Octets of a received advert, without the parts for authentication before and after it.
fn length(instance: &Instance) -> u32 {
    let config = &instance.config;
    // The kernel removes the IPv6 header. In version 2 a password follows the addresses.
    let (header, address) = match config.family {
        Family::V4 => (ip::HEADER, 4),
        Family::V6 => (0, 16),
    };
    let password = if config.version == Version::V2 { 8 } else { 0 };
    let all = header + vrrp::HEADER + address * instance.advertised.len() + password;
    u32::try_from(all).unwrap_or(u32::MAX)
}
