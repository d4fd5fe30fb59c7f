//! What the early boot leaves for the booted system.

use super::{GENERATOR, GENERATORS, MOUNT_ALL, PROGRAM, RUN_GENERATORS};
use crate::sys::beneath::resolve;
use crate::sys::{FileKind, System};
use std::path::{Path, PathBuf};

const UNIT: &str = "zfs-mount.service";
/// Where systemd looks for units of the root; the first of a name wins.
const UNITS: [&str; 4] =
    ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// By its name it comes before other files for this unit, wherever those lie: what an administrator sets there counts.
const DROP_IN: &str = "/run/systemd/system/zfs-mount.service.d/00-taproot.conf";
/// Bytes of a unit that are read.
const UNIT_MAX: usize = 64 << 10;

/// What was left for the booted system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Files below `/run` that make systemd call us.
    pub files: Vec<String>,
    /// What is left as it is, and why.
    pub left: Option<String>,
}

/// Leaves it for the system in `root` with this init. One whose init is not systemd, or that mounts no dataset by itself,
/// gets nothing: there, `/run/systemd/system` would tell programs that systemd runs. The error says why it could not be done.
pub fn prepare(system: &dyn System, root: &Path, init: &str) -> Result<Prepared, String> {
    let mut prepared = Prepared::default();
    if !runs_systemd(system, root, init) {
        return Ok(prepared);
    }
    let command = find(system, root, &UNITS, UNIT).and_then(|unit| match stock(&read(system, &unit)) {
        Ok(program) => Some(program),
        Err(found) => {
            prepared.left = Some(format!(
                "{UNIT} of the root runs `{found}`, not `zfs mount -a`, and is left as it is: it may mount datasets of other \
                 boot environments"
            ));
            None
        }
    });
    let generator = find(system, root, &GENERATORS, GENERATOR).is_some();
    if command.is_none() && !generator {
        return Ok(prepared);
    }
    prepared.files = write(system, command.as_deref(), generator)?;
    Ok(prepared)
}

/// Whether an init is systemd: to any other, what is below `/run/systemd` would say that it runs.
pub fn runs_systemd(system: &dyn System, root: &Path, init: &str) -> bool {
    let place = resolve(system, root, Path::new(init)).unwrap_or_default();
    place.file_name().is_some_and(|name| name == "systemd")
}

fn write(system: &dyn System, command: Option<&str>, generator: bool) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    let failed = |path: &str, e: std::io::Error| format!("{path}: {e}");
    let program = Path::new(PROGRAM);
    system.keep_program(program).map_err(|e| failed(PROGRAM, e))?;
    if system.noexec(program) {
        let _ = system.remove(program);
        return Err(format!("{PROGRAM}: nothing in /run can be executed, it is mounted noexec"));
    }
    if let Some(command) = command {
        let text = format!(
            "# Written by taproot for this boot: as `zfs mount -a`, without the datasets of other boot environments.\n\
             [Service]\nExecStart=\nExecStart={PROGRAM} {MOUNT_ALL} {command}\n"
        );
        let path = Path::new(DROP_IN);
        let made = path.parent().map_or(Ok(()), |dir| system.make_dirs(dir));
        made.and_then(|()| system.write(path, text.as_bytes())).map_err(|e| failed(DROP_IN, e))?;
        files.push(DROP_IN.to_owned());
    }
    if generator {
        let path = format!("{RUN_GENERATORS}/{GENERATOR}");
        // One of an attempt before this one.
        let _ = system.remove(Path::new(&path));
        let made = system.make_dirs(Path::new(RUN_GENERATORS));
        made.and_then(|()| system.symlink(program, Path::new(&path))).map_err(|e| failed(&path, e))?;
        files.push(path);
    }
    Ok(files)
}

/// The file of this name that systemd would take.
fn find(system: &dyn System, root: &Path, dirs: &[&str], name: &str) -> Option<PathBuf> {
    let there = |path: &PathBuf| system.stat(path).is_ok_and(|info| info.kind == FileKind::File);
    let places = dirs.iter().filter_map(|dir| resolve(system, root, &Path::new(dir).join(name)).ok());
    places.into_iter().find(there)
}

fn read(system: &dyn System, path: &Path) -> String {
    String::from_utf8_lossy(&system.read(path, UNIT_MAX).unwrap_or_default()).into_owned()
}

/// The program that a unit calls with `mount -a` and nothing else; the error is what it does instead.
fn stock(unit: &str) -> Result<String, String> {
    let mut section = "";
    let mut commands: Vec<&str> = Vec::new();
    for line in unit.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if let Some(command) = line.strip_prefix("ExecStart").map(str::trim_start)
            && let Some(command) = command.strip_prefix('=').map(str::trim)
            && section == "[Service]"
        {
            // An empty one forgets those before.
            if command.is_empty() {
                commands.clear();
            } else {
                commands.push(command);
            }
        }
    }
    let words: Vec<&str> = commands.iter().flat_map(|command| command.split_whitespace()).collect();
    match words.as_slice() {
        [program, "mount", "-a"] if program.starts_with('/') && program.ends_with("/zfs") => Ok((*program).to_owned()),
        _ => Err(commands.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stock_command_is_replaced() {
        let unit = |command: &str| format!("[Unit]\nExecStart=/no\n\n[Service]\nType=oneshot\n{command}\n[Install]\n");
        for (lines, expected) in [
            ("ExecStart=/sbin/zfs mount -a", Ok("/sbin/zfs")),
            ("ExecStart = /nix/store/x/bin/zfs mount -a ", Ok("/nix/store/x/bin/zfs")),
            ("ExecStart=/bin/old\nExecStart=\nExecStart=/usr/bin/zfs mount -a", Ok("/usr/bin/zfs")),
            ("ExecStart=/sbin/zfs mount -l -a", Err("/sbin/zfs mount -l -a")),
            ("ExecStart=-/sbin/zfs mount -a", Err("-/sbin/zfs mount -a")),
            ("ExecStart=/bin/a\nExecStart=/sbin/zfs mount -a", Err("/bin/a; /sbin/zfs mount -a")),
            ("#ExecStart=/sbin/zfs mount -a", Err("")),
            ("ExecStartPre=/sbin/zfs mount -a", Err("")),
        ] {
            let found = stock(&unit(lines));
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{lines}");
        }
    }
}
