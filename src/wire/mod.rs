//! Packets: one file a protocol, from octets to values and back.
//!
//! Decoders take any input without panicking and say what is wrong; whether a packet is wanted is for others
//! to decide. Encoding what a decoder returned gives the same octets again.
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod ip;
pub mod ndp;
pub mod vrrp;
