//! TLS for checks: the handshake.

use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::base::tls::TlsMaterial;
use crate::check::probe::http::Tls;
use crate::model::service;
use crate::sys::tls::{client, client_with, words};

/// What all connections have in common. Created by the first check that needs it, since it takes memory.
#[derive(Debug, Default)]
pub struct Client {
    material: Option<service::Tls>,
    context: Option<SslContext>,
}

impl Client {
    /// Connections from now on present this certificate, if they are asked for one.
    pub fn present(&mut self, material: Option<&service::Tls>) {
        if self.material.as_ref() != material {
            *self = Self { material: material.cloned(), context: None };
        }
    }

    /// The context of a connection.
    pub fn context(&mut self) -> Result<SslContext, String> {
        if let Some(context) = &self.context {
            return Ok(context.clone());
        }
        let new = match &self.material {
            None => client().map_err(|e| words(&e))?,
            Some(tls) => client_with(&TlsMaterial {
                ca: tls.ca.as_deref(),
                certificate: tls.certificate.as_deref(),
                key: tls.key.as_ref().map(|key| &**key.reveal()),
                password: tls.password.as_ref().map(|password| &**password.reveal()),
            })
            .map_err(|refusal| refusal.reason)?,
        };
        Ok(self.context.insert(new).clone())
    }
}

/// Does the TLS handshake; returns the reason if it failed.
pub(super) async fn greet(
    stream: TcpStream,
    tls: &Tls,
    context: &SslContext,
) -> Result<SslStream<TcpStream>, String> {
    let session = session(tls, context).map_err(|e| words(&e))?;
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

fn session(tls: &Tls, context: &SslContext) -> Result<Ssl, ErrorStack> {
    let mut session = Ssl::new(context)?;
    if let Some(name) = &tls.server_name {
        session.set_hostname(name)?;
    }
    Ok(session)
}

#[cfg(test)]
mod tests;
