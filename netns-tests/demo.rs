//! `evervip demo`, run by a user without privileges.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::lab::{Lab, Res, Stop, fail, need};
use crate::{cases, check};

cases![Here: a_user_without_rights_sees_a_takeover_and_nothing_stays];

fn a_user_without_rights_sees_a_takeover_and_nothing_stays(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has no demonstration")?;
    need::program("setpriv", "util-linux")?;
    // A directory that the user can read: the build directory may be closed to others.
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    for program in [env!("CARGO_BIN_EXE_evervip"), env!("CARGO_BIN_EXE_evervipd")] {
        let name = Path::new(program).file_name().ok_or_else(|| fail("a name"))?;
        fs::copy(program, folder.path().join(name))?;
    }
    let output = Command::new("timeout")
        .args(["100", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(folder.path().join("evervip"))
        .arg("demo")
        .stdin(Stdio::null())
        .output()?;
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    lab.note(&said);
    lab.note(&errors);
    if errors.contains("user namespace") {
        return Err(Stop::Skip("user namespaces for users without rights".into()));
    }
    check!(output.status.success(), "{}", output.status);
    for part in [
        "10.0.0.71/24 10.0.0.100/24",
        "svr2 is master",
        "10.0.0.72/24 10.0.0.100/24",
        "svr2 gave it up",
    ] {
        check!(said.contains(part), "`{part}` is missing");
    }
    let left = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path().join("exe")).ok())
        .filter(|exe| exe.starts_with(folder.path()))
        .count();
    check!(left == 0, "{left} processes are left");
    Ok(())
}
