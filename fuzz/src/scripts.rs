//! The path of a script: directories and links of any owner and mode.

use std::collections::BTreeMap;

use evervip::config::{FileInfo, FileKind, Host, Limits, MemoryFiles, Options, StaticHost, load};

use super::input::Input;

const NAMES: [&str; 5] = ["a", "b", "c", "..", "."];
const MODES: [u32; 8] = [0o755, 0o775, 0o777, 0o1777, 0o644, 0o4755, 0o700, 0o2775];
const IDS: [u32; 3] = [0, 0, 1000];

/// A tree of files, then the path of a script. With script security nothing that other users can replace runs as root.
pub fn walk(data: &[u8]) {
    let mut input = Input(data);
    let links = input.below(2) == 1;
    let mut files: BTreeMap<String, FileInfo> = BTreeMap::new();
    let mut targets = Vec::new();
    let mut folders = vec![String::new()];
    for _ in 0..input.below(40) {
        let parent = &folders[usize::from(input.octet()) % folders.len()];
        let path = format!("{parent}/{}", NAMES[usize::from(input.below(3))]);
        let info = FileInfo {
            kind: match input.below(6) {
                0 | 1 => FileKind::Directory,
                2 | 3 => FileKind::Link,
                4 => FileKind::Regular,
                _ => FileKind::Other,
            },
            mode: MODES[usize::from(input.below(8))],
            uid: IDS[usize::from(input.below(3))],
            gid: IDS[usize::from(input.below(3))],
        };
        if files.contains_key(&path) {
            continue;
        }
        match info.kind {
            FileKind::Directory => folders.push(path.clone()),
            FileKind::Link => targets.push((path.clone(), spelled(&mut input).into_bytes())),
            _ => {}
        }
        files.insert(path, info);
    }
    let script = format!("/{}", spelled(&mut input).trim_start_matches('/'));
    let host = StaticHost {
        users: vec![("root".into(), 0), ("nobody".into(), 1000)],
        files: files.into_iter().collect(),
        links: targets,
        ..StaticHost::default()
    }
    .with_all_interfaces();
    let text = format!(
        "global_defs {{\nenable_script_security\nscript_user root\n{}}}\nvrrp_instance VI {{\n\
         interface eth0\nvirtual_router_id 7\nnotify_master \"{script}\" root\n\
         notify_backup \"{script}\" nobody\n}}\n",
        if links { "use_symlink_paths\n" } else { "" }
    );
    let files = MemoryFiles::default().with("/etc/k.conf", text.as_bytes());
    let mut options = Options::new("/etc/k.conf", &host);
    options.limits = Limits { problems: 100, ..Limits::default() };
    let loaded = load(&files, &host, &options);
    let programs = loaded.model.vrrp.instances.iter().flat_map(|instance| {
        let notify = &instance.notify;
        notify.master.iter().chain(&notify.backup)
    });
    for command in programs {
        let path = String::from_utf8(command.words[0].to_vec()).expect("made of these names");
        let as_root = command.user.as_ref().is_some_and(|user| user.uid == 0);
        if !links {
            trusted(&path, as_root, &host);
        }
    }
}

/// Names with slashes between them.
fn spelled(input: &mut Input<'_>) -> String {
    let mut path = String::new();
    for _ in 0..=input.below(6) {
        path.push_str(["/", "", "//"][usize::from(input.below(3))]);
        path.push_str(NAMES[usize::from(input.below(5))]);
        path.push('/');
    }
    path.pop();
    path
}

/// A path without links that ends at a program, of which only root can replace any part.
fn trusted(path: &str, as_root: bool, host: &StaticHost) {
    let ends = path.match_indices('/').map(|(at, _)| at.max(1)).chain([path.len()]);
    for end in ends {
        let part = &path[..end];
        let info = host.inspect(part.as_bytes()).expect("it is there");
        let last = end == path.len();
        let kind = if last { FileKind::Regular } else { FileKind::Directory };
        assert_eq!(info.kind, kind, "{part} of {path}");
        if as_root {
            let sticky = !last && info.mode & 0o1000 != 0;
            let by_group = info.mode & 0o020 != 0 && info.gid != 0;
            let by_all = info.mode & 0o002 != 0;
            assert!(
                info.uid == 0 && (sticky || !by_group && !by_all),
                "{part} of {path}: {info:?}"
            );
        }
    }
}
