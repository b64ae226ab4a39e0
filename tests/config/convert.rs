//! Parsed configurations are written and read again, as a configuration and as JSON, without a change of meaning.

#![allow(clippy::print_stdout, reason = "says that it was skipped")]

use std::fs;
use std::path::Path;

use evervip::config::{Document, Loaded, MemoryFiles, Options, StaticHost, load};
use serde_json::Value;

fn host() -> StaticHost {
    StaticHost { name: "vm".into(), ..StaticHost::default() }.with_all_interfaces()
}

fn read(files: &MemoryFiles, name: &str) -> Loaded {
    let host = host();
    let mut options = Options::new(name, &host);
    options.document = true;
    load(files, &host, &options)
}

fn read_text(text: &[u8]) -> Loaded {
    read(&MemoryFiles::single("a.conf", text), "a.conf")
}

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.schema.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn check(name: &str, loaded: &Loaded, schema: &Value) {
    let dump = loaded.document.to_conf();
    let shown = String::from_utf8_lossy(&dump);
    let again = read_text(&dump);
    assert_eq!(again.model, loaded.model, "{name}: the dump means something else:\n{shown}");
    assert_eq!(again.document.to_conf(), dump, "{name}: the dump of the dump differs");
    let json = loaded.document.to_json();
    let back = Document::from_json(json.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let text = back.to_conf();
    let model = read_text(&text).model;
    assert_eq!(model, loaded.model, "{name}: {json}\n{}", String::from_utf8_lossy(&text));
    assert_eq!(back.to_json(), json, "{name}: the JSON changes on its way");
    let value: Value = serde_json::from_str(&json).unwrap();
    let mut misfits = super::schema::misfits(&value, schema, schema, "");
    // A setting with which a check fails stays as it is written (W0416).
    let kept: Vec<String> = loaded
        .diagnostics
        .iter()
        .filter(|d| d.code.id == "W0416")
        .filter_map(|d| d.message.split('\'').nth(1).map(|keyword| format!("/{keyword}:")))
        .collect();
    misfits.retain(|misfit| !kept.iter().any(|keyword| misfit.contains(keyword)));
    assert!(misfits.is_empty(), "{name}: {misfits:?}\n{json}");
}

#[test]
fn the_cases_of_the_language_come_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/syntax-cases");
    let mut all = Vec::new();
    super::format::all_files(&root, &root, &mut all);
    let mut files = MemoryFiles::default();
    for (name, text) in &all {
        let mode = if name == "inc/executable.inc" { 0o755 } else { 0o644 };
        files = files.with_mode(name, mode, text);
    }
    let schema = schema();
    for (name, _) in all.iter().filter(|(name, _)| name.ends_with(".conf")) {
        check(name, &read(&files, name), &schema);
    }
}

#[test]
fn examples_come_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/examples");
    let mut all = Vec::new();
    super::format::all_files(&root, &root, &mut all);
    for (name, text) in all.iter().filter(|(name, _)| name.ends_with(".conf")) {
        check(name, &read_text(text), &schema());
    }
}

#[test]
fn other_peoples_files_come_back() {
    let Some(root) = super::corpus::directory() else {
        return;
    };
    let schema = schema();
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "conf") {
            let name = path.file_name().unwrap().to_str().unwrap();
            check(name, &read_text(&fs::read(&path).unwrap()), &schema);
        }
    }
}

#[test]
fn words_that_look_like_syntax_come_back() {
    for text in [
        "global_defs {\n router_id \"x$_PWD\"y\n}\n",
        "global_defs {\n router_id \\\n smtp_helo_name a\n}\n",
        "static_routes {\n 10.0.0.0/0 dev eth0\n}\n",
    ] {
        check(text, &read_text(text.as_bytes()), &schema());
    }
}

#[test]
fn values_have_their_types() {
    let text = "global_defs {\n vrrp_garp_interval 0.5\n}\nvrrp_instance V {\n interface eth0\n virtual_router_id 5\n nopreempt\n smtp_alert off\n advert_int 2\n virtual_ipaddress {\n 10.0.0.9/24 dev eth1\n 10.0.0.8\n }\n notify \"/bin/x 'a b'\" root\n}\n";
    let json: Value = serde_json::from_str(&read_text(text.as_bytes()).document.to_json()).unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["configuration"][0]["global_defs"]["vrrp_garp_interval"], 0.5);
    let instance = &json["configuration"][1]["vrrp_instance"];
    assert_eq!(instance["@"], "V");
    assert_eq!(instance["virtual_router_id"], 5);
    assert_eq!(instance["nopreempt"], true);
    assert_eq!(instance["smtp_alert"], false);
    assert_eq!(instance["advert_int"], 2);
    let addresses = serde_json::json!([["10.0.0.9/24", "dev", "eth1"], "10.0.0.8"]);
    assert_eq!(instance["virtual_ipaddress"], addresses);
}

#[test]
fn wrong_json_is_met_with_its_place() {
    let said = |text: &str| Document::from_json(text.as_bytes()).unwrap_err().to_string();
    assert!(said("{\n \"format\": 1,\n x").contains("line 3 column 2"), "{}", said("{\n x"));
    assert!(said("[]").contains("an object is expected"));
    assert!(said("{\"configuration\": {}}").contains("format: is missing"));
    let of = |inner: &str| format!("{{\"format\": 1, \"configuration\": {inner}}}");
    let unknown = said(&of(r#"[{"vrrp_instance": {"@": "V", "prority": 5}}]"#));
    assert!(
        unknown.contains(
            "configuration[0].vrrp_instance: unknown keyword 'prority', did you mean 'priority'?"
        ),
        "{unknown}"
    );
    let wrong = said(&of(r#"[{"vrrp_instance": {"virtual_ipaddress": [["10.0.0.1", {}]]}}]"#));
    assert!(
        wrong.starts_with("configuration[0].vrrp_instance.virtual_ipaddress[0][1]: "),
        "{wrong}"
    );
    assert!(said(&of(r#"[{"vrrp_instance": {"@": "a\nb"}}]"#)).contains("the end of a line"));
    // An invalid value is reported by the load, with its line.
    let text = of(r#"[{"vrrp_instance": {"@": "V", "priority": 999}}]"#);
    let conf = Document::from_json(text.as_bytes()).unwrap().to_conf();
    assert!(read_text(&conf).diagnostics.iter().any(|d| d.code.id == "E0302"));
}

/// What we write of names and commands with characters of the language, keepalived reads as it reads plain ones.
#[test]
fn keepalived_reads_names_that_need_quotes() {
    use std::process::Command;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.conf");
    let judged = |name: &str| -> Option<(Option<i32>, usize)> {
        let script = format!("\"/bin/true \\\\x{:02x}\"", name.as_bytes()[1]);
        let text = format!(
            "vrrp_instance \"{name}\" {{\n interface lo\n virtual_router_id 5\n notify_master {script}\n \
             virtual_ipaddress {{\n 192.0.2.9\n }}\n}}\n"
        );
        let written = read_text(text.as_bytes()).document.to_conf();
        fs::write(&path, &written).unwrap();
        let told = Command::new("keepalived").args(["-t", "-f"]).arg(&path).output().ok()?;
        let lines = String::from_utf8_lossy(&told.stderr).lines().count();
        Some((told.status.code(), lines))
    };
    let Some(plain) = judged("axb") else {
        println!("SKIPPED keepalived_reads_names_that_need_quotes: no keepalived");
        return;
    };
    for c in ['\'', '$', '\\', '#', '{', '}', '!', '~', '@'] {
        assert_eq!(judged(&format!("a{c}b")), Some(plain), "{c}");
    }
}
