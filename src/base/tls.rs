//! What a client of TLS presents, and why it cannot be used: for the configuration and for the connections.

/// What a client of TLS has, as text in PEM form.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsMaterial<'a> {
    /// Certificates of authorities.
    pub ca: Option<&'a [u8]>,
    /// Its own certificate, then those that vouch for it.
    pub certificate: Option<&'a [u8]>,
    /// The key of its certificate.
    pub key: Option<&'a [u8]>,
    /// The password of the key.
    pub password: Option<&'a str>,
}

/// Part of [`TlsMaterial`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPart {
    Ca,
    Certificate,
    Key,
}

/// A part that cannot be used, and the reason in the library's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRefusal {
    pub part: TlsPart,
    pub reason: String,
}
