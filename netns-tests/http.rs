//! `HTTP_GET` and `SSL_GET` with a real nginx and with servers that answer anything: the servers in the table, and the
//! logged reasons.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::daemon::CONF;
use crate::lab::node::{Node, command};
use crate::lab::service::Server;
use crate::lab::{LIMIT, Lab, Res, ipvs, need};
use crate::scenario::{director, run};
use crate::{cases, check};

cases![Ipvs:
    pages_of_nginx_decide_by_status_and_digest,
    garbage_and_slowness_cost_their_own_check,
];

/// Two servers of one process: one page that exists or not, and one whose content counts.
const NGINX: &str = "daemon off;
user root;
worker_processes 1;
pid /run/nginx.pid;
error_log stderr;
events {
}
http {
    access_log /run/access.log;
    client_body_temp_path /run/nginx-body;
    proxy_temp_path /run/nginx-proxy;
    fastcgi_temp_path /run/nginx-fastcgi;
    uwsgi_temp_path /run/nginx-uwsgi;
    scgi_temp_path /run/nginx-scgi;
    server {
        listen 10.0.0.71:80;
        server_name first.example.com;
        root /srv/first;
    }
    server {
        listen 10.0.0.71:80 default_server;
        return 421;
    }
    server {
        listen 10.0.0.72:80;
        root /srv/second;
    }
    server {
        listen 10.0.0.73:443 ssl default_server;
        ssl_certificate /srv/cert.pem;
        ssl_certificate_key /srv/key.pem;
        return 421;
    }
    server {
        listen 10.0.0.73:443 ssl;
        server_name third.example.com;
        ssl_certificate /srv/cert.pem;
        ssl_certificate_key /srv/key.pem;
        ssl_protocols TLSv1.2;
        ssl_client_certificate /srv/client.pem;
        ssl_verify_client on;
        root /srv/third;
    }
}
";

/// MD5 of `hello` and a line feed.
const HELLO: &str = "b1946ac92492d2347c6235b4d2611184";

/// A service with these servers, and their checks.
pub fn service(servers: &[(u8, &str, &str)]) -> String {
    let list: String = servers
        .iter()
        .map(|(n, kind, check)| {
            format!("real_server 10.0.0.{n} 80 {{\n{kind} {{\n{check}\n}}\n}}\n")
        })
        .collect();
    format!(
        "virtual_server 10.1.0.1 80 {{\ndelay_loop 1\nretry 1\ndelay_before_retry 1\nconnect_timeout 1\nlvs_sched rr\n\
         lvs_method DR\nprotocol TCP\n{list}}}\n"
    )
}

fn becomes(node: &Node, servers: &[u8]) -> Res {
    let mut lines = vec!["-A -t 10.1.0.1:80 -s rr".to_owned()];
    lines.extend(servers.iter().map(|n| format!("-a -t 10.1.0.1:80 -r 10.0.0.{n}:80 -g -w 1")));
    ipvs::becomes(node, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The last attempt at each server as shown by the status.
fn last(node: &Node) -> Res<Vec<String>> {
    let text = node.status(&["--json"])?;
    let report: Value = serde_json::from_str(&text)?;
    let servers = report["checker"]["services"][0]["servers"].as_array().cloned();
    let servers = servers.unwrap_or_default();
    let words =
        |server: &Value| server["checks"][0]["last_result"].as_str().unwrap_or("?").to_owned();
    Ok(servers.iter().map(words).collect())
}

/// Makes a key and a certificate signed by itself.
fn certificate(node: &Node, certificate: &str, key: &str, protection: &[&str]) -> Res {
    let make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=x", "-days", "1"];
    let files = ["-keyout", key, "-out", certificate];
    node.must(make.iter().chain(protection).chain(&files))?;
    Ok(())
}

fn pages_of_nginx_decide_by_status_and_digest(lab: &mut Lab) -> Res {
    let nginx = need::program("nginx", "nginx-light")?;
    let node = director(lab)?;
    node.write("/srv/first/health", "ok\n", 0o644)?;
    node.write("/srv/first/more", "ok\n", 0o644)?;
    node.write("/srv/second/index.html", "hello\n", 0o644)?;
    node.write("/srv/third/index.html", "hello\n", 0o644)?;
    need::program("openssl", "openssl")?;
    // The server's certificate, and the one that it asks clients for, whose key has a password.
    certificate(&node, "/srv/cert.pem", "/srv/key.pem", &["-nodes"])?;
    certificate(&node, "/srv/client.pem", "/srv/client.key", &["-passout", "pass:pass word"])?;
    node.write("/etc/nginx/nginx.conf", NGINX, 0o644)?;
    let mut server = command([nginx.as_os_str()]);
    server.args(["-c", "/etc/nginx/nginx.conf"]);
    node.spawn(server, "nginx")?;
    lab.timeline().poll(LIMIT, "nginx listens", || {
        Ok(node.run(|| std::net::TcpStream::connect(("10.0.0.72", 80)))?.ok())
    })?;
    let status = "virtualhost first.example.com\nurl {\npath /health\nstatus_code 200\n}\n\
                  url {\npath /more\nstatus_code 200-204\n}";
    let digest = format!("url {{\npath /\ndigest {HELLO}\n}}");
    let tls = "connect_port 443\nenable_sni\nvirtualhost third.example.com\nurl {\npath /\nstatus_code 200\n}";
    let servers = [(71, "HTTP_GET", status), (72, "HTTP_GET", &digest), (73, "SSL_GET", tls)];
    let presented = "SSL {\nca /srv/cert.pem\ncertificate /srv/client.pem\nkey /srv/client.key\npassword \"pass word\"\n}\n";
    let daemon = run(lab, &node, &(presented.to_owned() + &service(&servers)))?;
    becomes(&node, &[71, 72, 73])?;
    let always = lab.always();
    for n in [71, 72, 73] {
        always.log(&node, &format!("Remote Web server [10.0.0.{n}]:tcp:80 succeed on service."))?;
    }

    lab.note("the page over TLS is gone");
    node.must(["rm", "/srv/third/index.html"])?;
    becomes(&node, &[71, 72])?;
    always.log(&node, "SSL_CHECK on service [10.0.0.73]:tcp:80 failed after 1 retries")?;
    node.write("/srv/third/index.html", "hello\n", 0o644)?;
    becomes(&node, &[71, 72, 73])?;

    lab.note("nothing is presented any more");
    node.write(CONF, &service(&servers), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    becomes(&node, &[71, 72])?;
    node.write(CONF, &(presented.to_owned() + &service(&servers)), 0o644)?;
    daemon.signal(Signal::SIGHUP)?;
    becomes(&node, &[71, 72, 73])?;

    lab.note("a page of the first server is gone");
    node.must(["rm", "/srv/first/more"])?;
    becomes(&node, &[72, 73])?;
    always.log(&node, "HTTP_CHECK on service [10.0.0.71]:tcp:80 failed after 1 retries")?;
    always.log(&node, "Removing service [10.0.0.71]:tcp:80 from VS [10.1.0.1]:tcp:80")?;
    lab.note("the page of the second server is another one");
    node.write("/srv/second/index.html", "hello!\n", 0o644)?;
    becomes(&node, &[73])?;
    if lab.subject.ours_only("it does not log the reason").is_ok() {
        always.log(&node, "failed after 1 retries (status 404 from url(/more)).")?;
        let (_, line) = always.log(&node, "(digest differs: ")?;
        check!(line.contains(&format!(" instead of {HELLO} from url(/))")), "{line}");
        let words = last(&node)?;
        check!(words[0] == "status 404 from url(/more)", "{words:?}");
        check!(words[1].starts_with("digest differs: "), "{words:?}");
    }

    lab.note("both are as they were");
    let mark = lab.mark();
    node.write("/srv/first/more", "ok\n", 0o644)?;
    node.write("/srv/second/index.html", "hello\n", 0o644)?;
    becomes(&node, &[71, 72, 73])?;
    let later = lab.after(mark);
    later.log(&node, "HTTP status code success to [10.0.0.71]:tcp:80 url(/more)")?;
    later.log(&node, "MD5 digest success to [10.0.0.72]:tcp:80 url(/)")?;
    let asked = node.read("/run/access.log")?;
    check!(asked.contains("\"GET /health HTTP/1.0\" 200"), "{asked}");
    check!(asked.contains("\"KeepAliveClient\""), "{asked}");
    check!(daemon.stop()?, "the exit status is not zero");
    ipvs::becomes(&node, &[])
}

fn garbage_and_slowness_cost_their_own_check(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it reads a slow page without a time limit")?;
    let node = director(lab)?;
    let _well = Server::web(&node, "10.0.0.71:80")?;
    // 0: a page; 1: octets without end; 2: one octet now and then.
    let mode = Arc::new(AtomicU8::new(0));
    let how = Arc::clone(&mode);
    let _strange = Server::start(&node, "10.0.0.73:80", move |mut stream, _| {
        let mut question = [0; 200];
        let _ = stream.read(&mut question);
        match how.load(Ordering::SeqCst) {
            0 => drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello")),
            1 => while stream.write_all(&[b'x'; 65536]).is_ok() {},
            _ => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while stream.write_all(b"x").is_ok() {
                    thread::sleep(Duration::from_millis(300));
                }
            }
        }
    })?;
    let page = "url {\npath /\nstatus_code 200\n}";
    let daemon = run(lab, &node, &service(&[(71, "HTTP_GET", page), (73, "HTTP_GET", page)]))?;
    becomes(&node, &[71, 73])?;
    let reason = |words: &str| {
        lab.timeline().poll(LIMIT * 2, words, || Ok((last(&node)?[1] == words).then_some(())))
    };
    lab.note("octets without end");
    mode.store(1, Ordering::SeqCst);
    becomes(&node, &[71])?;
    reason("header longer than 16384 bytes from url(/)")?;
    lab.note("a page again");
    mode.store(0, Ordering::SeqCst);
    becomes(&node, &[71, 73])?;
    lab.note("one octet now and then");
    mode.store(2, Ordering::SeqCst);
    // Twice twelve seconds and one between them.
    reason("timeout")?;
    lab.timeline().poll(LIMIT * 3, "the server leaves the table", || {
        Ok((ipvs::table(&node)?.len() == 2).then_some(()))
    })?;
    becomes(&node, &[71])?;
    check!(last(&node)?[0] == "success", "{:?}", last(&node)?);
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}
