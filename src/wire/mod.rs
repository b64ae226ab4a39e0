//! Packets: one file per protocol, from octets to values and back.
//!
//! Decoders accept any input without panicking and report what is wrong; they do not decide whether a packet is wanted.
//! Encoding what a decoder returned gives the same octets again.
#![forbid(unsafe_code)]

pub mod ah;
pub mod arp;
pub mod bfd;
pub mod checksum;
pub mod dns;
pub mod hmac;
pub mod icmp;
pub mod ip;
pub mod ndp;
pub mod vrrp;

#[cfg(test)]
mod testing {
    /// Octets written in hexadecimal, with blanks between them or not.
    pub fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let octet = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
        digits.chunks(2).map(octet).collect()
    }
}
