//! Configurations: the first stages alone, and all of them.

use evervip::config::{Head, Limits, Loaded, MemoryFiles, Options, StaticHost, Style, fuzz, load};

/// The name of the main file.
const MAIN: &str = "/etc/k.conf";
/// Begins a line that begins another file: the rest of the line is its name.
const FILE: &[u8] = b"=== ";

/// Text of the main file, then other files, each after a line `=== NAME`.
pub fn expand(data: &[u8]) {
    let (files, host, options) = prepare(data);
    let amounts = fuzz::stages(&files, &host, &options);
    let most = options.limits.expansion + 2 * data.len() + (1 << 17);
    assert!(amounts.octets <= most, "{amounts:?} of {} octets", data.len());
    assert!(amounts.problems <= options.limits.problems + 1);
}

/// The same, loaded completely and shown in every form.
pub fn load_all(data: &[u8]) {
    let loaded = read(data);
    let diagnostics = &loaded.diagnostics;
    // Rendering takes longer than everything else.
    let style = if data.len().is_multiple_of(5) { Style::Coloured } else { Style::Plain };
    for diagnostic in diagnostics.iter().take(4) {
        assert!(!diagnostics.render(diagnostic, style, Head::Title).is_empty());
        assert!(!diagnostics.render(diagnostic, style, Head::Log).is_empty());
    }
    assert!(diagnostics.iter().all(|diagnostic| !diagnostic.message.is_empty()));
    assert!(diagnostics.log_lines().count() >= diagnostics.len().min(1));
    // The model survives its encoding for the roles.
    let octets = postcard::to_allocvec(&loaded.model).expect("a model can be sent");
    let again: evervip::model::Model = postcard::from_bytes(&octets).expect("and received");
    assert_eq!(again, loaded.model);
    // The dump has the same meaning, unless something was left out.
    if diagnostics.is_empty() {
        let dump = loaded.document.to_conf();
        // Indented, a line may be longer than the language allows.
        if dump.split(|o| *o == b'\n').any(|line| line.len() > 1022) {
            return;
        }
        let second = read(&dump);
        let lines: Vec<_> = second.diagnostics.log_lines().collect();
        assert!(second.model == loaded.model, "{}\n{lines:?}", String::from_utf8_lossy(&dump));
    }
}

/// Reads what `expand` describes.
pub fn read(data: &[u8]) -> Loaded {
    let (files, host, options) = prepare(data);
    load(&files, &host, &options)
}

/// Reads octets as the main file, whatever they contain.
pub fn main_file(data: &[u8]) -> Loaded {
    let (_, host, options) = prepare(&[]);
    load(&MemoryFiles::default().with(MAIN, data), &host, &options)
}

/// Files, machine and options for what `expand` describes.
pub fn prepare(data: &[u8]) -> (MemoryFiles, StaticHost, Options) {
    let mut files = MemoryFiles::default();
    let (mut name, mut text) = (MAIN.to_owned(), Vec::new());
    for line in data.split_inclusive(|o| *o == b'\n') {
        if let Some(next) = line.strip_prefix(FILE) {
            files = files.with(&name, &text);
            name = format!("/etc/{}", String::from_utf8_lossy(next).trim());
            text.clear();
        } else {
            text.extend_from_slice(line);
        }
    }
    files = files.with(&name, &text);
    let host = StaticHost {
        variables: vec![("HOME".into(), b"/home/x".to_vec())],
        users: vec![("root".into(), 0), ("nobody".into(), 65534)],
        ..StaticHost::default()
    }
    .with_all_interfaces();
    let mut options = Options::new(MAIN, &host);
    options.document = true;
    options.lints = data.len().is_multiple_of(2);
    options.strict = data.len().is_multiple_of(3);
    options.limits = Limits {
        file: 1 << 20,
        expansion: 1 << 16,
        depth: 16,
        files: 100,
        problems: 200,
        rounds: 1 << 12,
    };
    (files, host, options)
}
