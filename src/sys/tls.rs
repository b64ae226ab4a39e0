//! TLS as a client, for checks: with any server that the library can speak to, whatever its age, and without verifying
//! its certificate.

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslContext, SslContextBuilder, SslMethod, SslOptions, SslVerifyMode};
use openssl::x509::X509;

use crate::base::tls::{TlsMaterial, TlsPart, TlsRefusal};

/// Accepts ciphers and keys that the library refuses by default: a check must not declare a server dead because of
/// them.
pub const CIPHERS: &str = "ALL:@SECLEVEL=0";

/// `SSL_OP_LEGACY_SERVER_CONNECT`, which the crate does not name: for servers without RFC 5746.
const LEGACY_SERVERS: SslOptions = SslOptions::from_bits_retain(1 << 2);

/// What connections of checks have in common.
///
/// # Errors
/// If the library has no memory.
pub fn client() -> Result<SslContext, ErrorStack> {
    Ok(builder()?.build())
}

/// The same with a certificate that the client presents if it is asked for one.
///
/// # Errors
/// If a part is not PEM, if the password is wrong, or if the key does not belong to the certificate.
pub fn client_with(material: &TlsMaterial<'_>) -> Result<SslContext, TlsRefusal> {
    let refused = |part| move |stack: ErrorStack| TlsRefusal { part, reason: words(&stack) };
    let mut builder = builder().map_err(refused(TlsPart::Certificate))?;
    if let Some(pem) = material.ca {
        for authority in certificates(pem).map_err(refused(TlsPart::Ca))? {
            builder.cert_store_mut().add_cert(authority).map_err(refused(TlsPart::Ca))?;
        }
    }
    if let Some(pem) = material.certificate {
        let mut chain = certificates(pem).map_err(refused(TlsPart::Certificate))?.into_iter();
        if let Some(own) = chain.next() {
            builder.set_certificate(&own).map_err(refused(TlsPart::Certificate))?;
        }
        for above in chain {
            builder.add_extra_chain_cert(above).map_err(refused(TlsPart::Certificate))?;
        }
    }
    if let Some(pem) = material.key {
        let key = private_key(pem, material.password).map_err(refused(TlsPart::Key))?;
        builder.set_private_key(&key).map_err(refused(TlsPart::Key))?;
        builder.check_private_key().map_err(refused(TlsPart::Key))?;
    }
    Ok(builder.build())
}

fn builder() -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(None)?;
    builder.set_cipher_list(CIPHERS)?;
    builder.set_verify(SslVerifyMode::NONE);
    // The page may end with the connection; few servers send close_notify.
    builder.set_options(SslOptions::IGNORE_UNEXPECTED_EOF | LEGACY_SERVERS);
    Ok(builder)
}

/// All certificates of a file, at least one.
fn certificates(pem: &[u8]) -> Result<Vec<X509>, ErrorStack> {
    let all = X509::stack_from_pem(pem)?;
    // A file without any is an error of its own kind.
    if all.is_empty() { X509::from_pem(pem).map(|one| vec![one]) } else { Ok(all) }
}

fn private_key(pem: &[u8], password: Option<&str>) -> Result<PKey<Private>, ErrorStack> {
    // Without a password the library would ask for one at the terminal.
    let password = password.unwrap_or_default().as_bytes();
    PKey::private_key_from_pem_callback(pem, |room| {
        // One that does not fit, of some thousand octets, is not the one.
        let length = room.get_mut(..password.len()).map_or(0, |room| {
            room.copy_from_slice(password);
            password.len()
        });
        Ok(length)
    })
}

/// The first reason, which is the closest to the cause.
#[must_use]
pub fn words(stack: &ErrorStack) -> String {
    let reason = stack.errors().first().and_then(openssl::error::Error::reason);
    reason.unwrap_or("unknown error").to_owned()
}
