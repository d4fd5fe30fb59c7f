//! Whether the kernel can execute a program of the new root, seen before the hand-over: behind it there is no way back.
//! What it does not understand it leaves to the kernel (`fs/binfmt_elf.c`, `fs/binfmt_script.c`).

use crate::sys::beneath::resolve;
use crate::sys::{FileKind, System};
use std::path::Path;

/// Interpreters of interpreters, as in the kernel (`exec_binprm`).
const MAX_DEPTH: u32 = 5;
/// The kernel reads this much of a script (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;
const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// The kernel takes at most 64 KiB of them.
const MAX_HEADERS: u64 = 1170;
const PATH_MAX: u64 = 4096;
const PT_INTERP: u32 = 3;
/// `e_machine` of programs for this processor.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// What kind of program it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Form {
    /// The kernel loads it by itself, or nothing is known that speaks against it.
    Alone,
    /// It is started by another program, at this path of the root.
    Interpreted(String),
    /// It cannot be executed, and why.
    Unfit(&'static str),
}

/// Why the file at `path` of the tree at `root` cannot be executed; `None` if nothing speaks against it.
pub fn obstacle(system: &dyn System, root: &Path, path: &Path) -> Option<String> {
    look(system, root, path, 0)
}

fn look(system: &dyn System, root: &Path, path: &Path, depth: u32) -> Option<String> {
    let place = resolve(system, root, path).unwrap_or_else(|_| root.join(path.strip_prefix("/").unwrap_or(path)));
    match system.stat(&place) {
        Ok(info) if info.kind != FileKind::File => return Some("is not a file".to_owned()),
        Ok(info) if info.mode & 0o111 == 0 => return Some("is not executable".to_owned()),
        Ok(_) if system.noexec(&place) => {
            return Some(
                "lies on a file system that is mounted noexec (exec=off of its dataset, or an option)".to_owned(),
            );
        }
        Ok(_) => {}
        Err(e) => return Some(e.to_string()),
    }
    let mut read = |at: u64, buf: &mut [u8]| system.read_at(&place, at, buf).ok();
    match form(&mut read) {
        Form::Alone => None,
        Form::Unfit(why) => Some(why.to_owned()),
        Form::Interpreted(_) if depth >= MAX_DEPTH => {
            Some("has an interpreter that needs one itself, and so on".into())
        }
        Form::Interpreted(interpreter) => look(system, root, Path::new(&interpreter), depth + 1)
            .map(|why| format!("needs {interpreter} to be executed: {why}")),
    }
}

/// Looks at a program's beginning. `read` gives bytes at an offset, fewer at the end of the file.
pub fn form(read: &mut dyn FnMut(u64, &mut [u8]) -> Option<usize>) -> Form {
    let mut head = [0_u8; HEAD];
    let Some(len) = read(0, &mut head) else { return Form::Unfit("cannot be read") };
    let head = head.get(..len).unwrap_or_default();
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
        let mut words = line.split(|b| matches!(b, b' ' | b'\t' | 0)).filter(|word| !word.is_empty());
        return match words.next() {
            Some(word) => Form::Interpreted(String::from_utf8_lossy(word).into_owned()),
            None => Form::Unfit("is a script without an interpreter behind #!"),
        };
    }
    if !head.starts_with(b"\x7fELF") {
        return Form::Unfit("is neither an ELF program nor a script (#!)");
    }
    match head.get(4..6) {
        // 64 bits, little-endian: our own kind.
        Some([2, 1]) => elf(head, read).unwrap_or(Form::Unfit("is cut off")),
        // 32 bits: the kernel may have what that needs.
        _ => Form::Alone,
    }
}

fn elf(head: &[u8], read: &mut dyn FnMut(u64, &mut [u8]) -> Option<usize>) -> Option<Form> {
    let head = head.get(..ELF_HEADER)?;
    if half(head, 18)? != MACHINE {
        return Some(Form::Unfit("is built for another kind of processor"));
    }
    let (table, size, count) = (wide(head, 32)?, half(head, 54)?, u64::from(half(head, 56)?));
    if usize::from(size) != PROGRAM_HEADER || count == 0 || count > MAX_HEADERS {
        return Some(Form::Unfit("is no ELF program that the kernel would load"));
    }
    for index in 0..count {
        let mut header = [0_u8; PROGRAM_HEADER];
        let at = table.checked_add(index * u64::from(size))?;
        if read(at, &mut header)? < PROGRAM_HEADER {
            return None;
        }
        if u32::from_le_bytes(header.get(..4)?.try_into().ok()?) != PT_INTERP {
            continue;
        }
        let len = usize::try_from(wide(&header, 32)?.min(PATH_MAX)).ok()?;
        let mut path = vec![0; len];
        let filled = read(wide(&header, 8)?, &mut path)?;
        let path = path.get(..filled)?.split(|b| *b == 0).next()?;
        return Some(Form::Interpreted(String::from_utf8_lossy(path).into_owned()));
    }
    Some(Form::Alone)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn wide(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::linux::Linux;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn of(bytes: &[u8]) -> Form {
        form(&mut |at, buf| {
            let from = bytes.get(usize::try_from(at).ok()?..).unwrap_or_default();
            let n = from.len().min(buf.len());
            buf[..n].copy_from_slice(&from[..n]);
            Some(n)
        })
    }

    /// A header, one program header of this type, and a path behind it.
    fn program(kind: u32, path: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; ELF_HEADER + PROGRAM_HEADER];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&MACHINE.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes[72] = 120;
        bytes[96] = u8::try_from(path.len()).unwrap();
        bytes.extend_from_slice(path);
        bytes
    }

    #[test]
    fn forms() {
        let interpreted = |path: &str| Form::Interpreted(path.to_owned());
        assert_eq!(of(b"#! /bin/sh -e\nx"), interpreted("/bin/sh"));
        assert_eq!(of(b"#!/usr/bin/env"), interpreted("/usr/bin/env"));
        assert!(matches!(of(b"#!\n/bin/sh"), Form::Unfit(_)));
        assert!(matches!(of(b""), Form::Unfit(why) if why.contains("neither")));
        assert_eq!(of(&program(1, b"")), Form::Alone);
        assert_eq!(of(&program(PT_INTERP, b"/lib64/ld.so\0")), interpreted("/lib64/ld.so"));
        let mut foreign = program(1, b"");
        foreign[18] = 40;
        assert!(matches!(of(&foreign), Form::Unfit(why) if why.contains("processor")));
        assert!(matches!(of(&program(1, b"")[..100]), Form::Unfit("is cut off")));
        foreign[4] = 1;
        assert_eq!(of(&foreign), Form::Alone, "32 bits are the kernel's to judge");
    }

    #[test]
    fn interpreters_are_looked_for_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8], mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        put("init", b"#!/shell\n", 0o755);
        let why = obstacle(&Linux::new(), dir.path(), Path::new("/init")).unwrap();
        assert!(why.contains("needs /shell to be executed: No such file"), "{why}");
        put("shell", &program(PT_INTERP, b"/ld.so\0"), 0o755);
        put("ld.so", &program(1, b""), 0o644);
        let why = obstacle(&Linux::new(), dir.path(), Path::new("/init")).unwrap();
        assert!(why.contains("needs /ld.so to be executed: is not executable"), "{why}");
        put("ld.so", &program(1, b""), 0o755);
        assert_eq!(obstacle(&Linux::new(), dir.path(), Path::new("/init")), None);
        put("init", b"#!/init\n", 0o755);
        assert!(obstacle(&Linux::new(), dir.path(), Path::new("/init")).is_some());
    }

    #[test]
    fn programs_of_this_machine_can_be_executed() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(obstacle(&Linux::new(), Path::new("/"), &own), None);
        assert_eq!(obstacle(&Linux::new(), Path::new("/"), Path::new("/bin/sh")), None);
    }

    proptest! {
        #[test]
        fn total(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), elf in any::<bool>()) {
            if elf {
                for (slot, byte) in bytes.iter_mut().zip(program(PT_INTERP, b"")[..56].iter()) {
                    *slot = *byte;
                }
            }
            let _ = of(&bytes);
        }
    }
}
