use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{ErrorCode, NameType, SslContextBuilder, SslMethod, SslVerifyMode, SslVersion};
use openssl::symm::Cipher;
use openssl::x509::X509;

use super::*;
use crate::base::Secret;
use crate::check::CheckerSlot;
use crate::check::probe::http::Page;
use crate::check::probe::{Closing, ProbeId, Request};
use crate::drive::probe::Probes;
use crate::model::Connection;
use crate::model::checker::Url;
use crate::sys::testing;
use crate::sys::tls::CIPHERS;

const LIMIT: Duration = Duration::from_secs(20);

/// A self-signed certificate with a key of this many bits, that is valid for this many days.
fn certificate(bits: u32, until: u32) -> (X509, PKey<Private>) {
    let key = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
    let mut cert = X509::builder().unwrap();
    cert.set_pubkey(&key).unwrap();
    cert.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::days_from_now(until).unwrap()).unwrap();
    cert.sign(&key, MessageDigest::sha256()).unwrap();
    (cert.build(), key)
}

/// The server side, with a self-signed key of this many bits.
fn server(bits: u32) -> SslContextBuilder {
    // It expires now.
    let (cert, key) = certificate(bits, 0);
    let mut builder = SslContext::builder(SslMethod::tls_server()).unwrap();
    builder.set_cipher_list(CIPHERS).unwrap();
    builder.set_min_proto_version(None).unwrap();
    builder.set_certificate(&cert).unwrap();
    builder.set_private_key(&key).unwrap();
    builder
}

/// What a server observed: the version, the name in the greeting, and whether the client sent
/// close_notify.
type Heard = (String, Option<String>, bool);

/// Serves one connection, and reports what it observed.
fn serve(context: SslContext) -> (SocketAddr, Receiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let Ok(mut stream) = Ssl::new(&context).unwrap().accept(stream) else { return };
        let mut question = Vec::new();
        let mut part = [0; 100];
        while !question.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut part).unwrap();
            question.extend_from_slice(&part[..count]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        let name = stream.ssl().servername(NameType::HOST_NAME).map(str::to_owned);
        let version = stream.ssl().version_str().to_owned();
        let goodbye = stream.ssl_read(&mut part).map_err(|e| e.code());
        let _ = sender.send((version, name, goodbye == Err(ErrorCode::ZERO_RETURN)));
    });
    (address, heard)
}

/// The verdict on a page, in words.
fn fetched(to: SocketAddr, tls: Tls, timeout: Duration) -> String {
    fetched_with(to, tls, timeout, None)
}

/// The same by a client with a certificate.
fn fetched_with(
    to: SocketAddr,
    tls: Tls,
    timeout: Duration,
    material: Option<&service::Tls>,
) -> String {
    let url = Url {
        path: "/".into(),
        digest: None,
        status: vec![(200, 299)],
        virtualhost: None,
        pattern: None,
        tls_compliant: None,
    };
    let connection = Connection { to, from: None, interface: None, timeout, mark: 0 };
    let question = (*b"GET / HTTP/1.0\r\n\r\n").into();
    let page = Page { connection, tls: Some(tls), question, url };
    testing::run(async {
        let mut probes = Probes::new();
        probes.present(material);
        let id = ProbeId { checker: CheckerSlot(0), serial: 1 };
        probes.start(id, Request::Http(Box::new(page)), Closing::Orderly);
        let (_, verdict) = tokio::time::timeout(LIMIT, probes.next()).await.expect("a verdict");
        verdict.to_string()
    })
}

#[test]
fn a_server_that_nobody_vouches_for_is_good_and_hears_the_name() {
    for name in [None, Some("www.example.com")] {
        let (address, heard) = serve(server(2048).build());
        let tls = Tls { server_name: name.map(Into::into), compliant: false };
        assert_eq!(fetched(address, tls, LIMIT), "success");
        let heard = heard.recv_timeout(LIMIT).unwrap();
        assert_eq!(heard, ("TLSv1.3".into(), name.map(str::to_owned), false));
    }
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_the_configured_one() {
    let (cert, key) = certificate(2048, 1);
    let encrypted = |password: &[u8]| {
        key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), password).unwrap()
    };
    let material = |key: Vec<u8>, password: Option<&str>| service::Tls {
        password: password.map(|password| Secret::new(password.into())),
        ca: Some(cert.to_pem().unwrap().into()),
        certificate: Some(cert.to_pem().unwrap().into()),
        key: Some(Secret::new(key.into())),
    };
    let plain = key.private_key_to_pem_pkcs8().unwrap();
    for (material, verdict) in [
        (Some(material(plain, None)), "success"),
        (Some(material(encrypted(b"secret"), Some("secret"))), "success"),
        (Some(material(encrypted(b"se\0ret"), Some("se\0ret"))), "success"),
        (Some(service::Tls::default()), "TLS: "),
        (None, "TLS: "),
    ] {
        let mut context = server(2048);
        // In this version a missing certificate fails the handshake, not what follows.
        context.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        context.cert_store_mut().add_cert(cert.clone()).unwrap();
        let (address, heard) = serve(context.build());
        let said = fetched_with(address, Tls::default(), LIMIT, material.as_ref());
        assert!(said.starts_with(verdict), "{said}");
        assert_eq!(heard.recv_timeout(LIMIT).is_ok(), verdict == "success");
    }
}

#[test]
fn old_versions_ciphers_and_keys_are_accepted() {
    for (version, shown, cipher) in [
        (SslVersion::TLS1, "TLSv1", "ALL:@SECLEVEL=0"),
        (SslVersion::TLS1_1, "TLSv1.1", "ALL:@SECLEVEL=0"),
        (SslVersion::TLS1_2, "TLSv1.2", "AES128-SHA:@SECLEVEL=0"),
    ] {
        let mut context = server(1024);
        context.set_max_proto_version(Some(version)).unwrap();
        context.set_cipher_list(cipher).unwrap();
        let (address, heard) = serve(context.build());
        assert_eq!(fetched(address, Tls::default(), LIMIT), "success", "{shown}");
        assert_eq!(heard.recv_timeout(LIMIT).unwrap().0, shown);
    }
}

#[test]
fn the_end_is_said_when_that_is_asked_for() {
    let (address, heard) = serve(server(2048).build());
    let tls = Tls { server_name: None, compliant: true };
    assert_eq!(fetched(address, tls, LIMIT), "success");
    assert!(heard.recv_timeout(LIMIT).unwrap().2, "no close_notify");
}

#[test]
fn what_is_no_tls_is_a_failure_with_its_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, hold) = channel::<()>();
    let plain = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        // Until the client disconnects.
        while stream.read(&mut [0; 1000]).is_ok_and(|count| count > 0) {}
        let (closed, _) = listener.accept().unwrap();
        drop(closed);
        let _silent = listener.accept().unwrap();
        let _ = hold.recv();
    });
    assert_eq!(fetched(address, Tls::default(), LIMIT), "TLS: wrong version number from url(/)");
    let closed = fetched(address, Tls::default(), LIMIT);
    assert!(closed.starts_with("TLS: "), "{closed}");
    let silent = fetched(address, Tls::default(), Duration::from_millis(200));
    assert_eq!(silent, "TLS: timeout from url(/)");
    drop(sender);
    plain.join().unwrap();
}
