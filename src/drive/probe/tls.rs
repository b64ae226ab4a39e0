//! TLS for checks: with any server that the library can speak to, whatever its age, and without verifying its
//! certificate.

use std::pin::Pin;
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslVerifyMode};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::check::probe::http::Tls;

/// Accepts ciphers and keys that the library refuses by default: a check must not declare a server dead because of
/// them.
const CIPHERS: &str = "ALL:@SECLEVEL=0";

/// `SSL_OP_LEGACY_SERVER_CONNECT`, which the crate does not name: for servers without RFC 5746.
const LEGACY_SERVERS: SslOptions = SslOptions::from_bits_retain(1 << 2);

/// Does the TLS handshake; returns the reason if it failed.
pub(super) async fn greet(stream: TcpStream, tls: &Tls) -> Result<SslStream<TcpStream>, String> {
    let session = session(tls).map_err(|e| words(&e))?;
    let mut stream = SslStream::new(session, stream).map_err(|e| words(&e))?;
    match Pin::new(&mut stream).connect().await {
        Ok(()) => Ok(stream),
        Err(e) => Err(match (e.ssl_error(), e.io_error()) {
            (Some(stack), _) => words(stack),
            (None, Some(error)) => error.to_string(),
            (None, None) => "the server closed the connection".into(),
        }),
    }
}

fn session(tls: &Tls) -> Result<Ssl, ErrorStack> {
    /// Created by the first check that needs it: it takes memory.
    static CONTEXT: OnceLock<Result<SslContext, ErrorStack>> = OnceLock::new();
    let context = CONTEXT.get_or_init(context).as_ref().map_err(Clone::clone)?;
    let mut session = Ssl::new(context)?;
    if let Some(name) = &tls.server_name {
        session.set_hostname(name)?;
    }
    Ok(session)
}

fn context() -> Result<SslContext, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(None)?;
    builder.set_cipher_list(CIPHERS)?;
    builder.set_verify(SslVerifyMode::NONE);
    // The page may end with the connection; few servers send close_notify.
    builder.set_options(SslOptions::IGNORE_UNEXPECTED_EOF | LEGACY_SERVERS);
    Ok(builder.build())
}

/// The first reason, which is the closest to the cause.
fn words(stack: &ErrorStack) -> String {
    let reason = stack.errors().first().and_then(openssl::error::Error::reason);
    reason.unwrap_or("unknown error").to_owned()
}

#[cfg(test)]
mod tests;
