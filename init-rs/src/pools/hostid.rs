//! This system's hostid: four bytes that say whose a pool is.

use crate::sys::System;
use std::io;
use std::path::Path;

/// The file that the module reads when it has no parameter (`spl_hostid_path`).
const FILE: &str = "/etc/hostid";
const PARAMETER: &str = "/sys/module/spl/parameters/spl_hostid";

/// The hostid as the module sees it, and as stock tools do, which ask the module: its parameter, else `/etc/hostid`, else 0, which is none.
pub fn own(system: &dyn System) -> u32 {
    match system.text(PARAMETER).parse::<u32>() {
        Ok(id) if id != 0 => id,
        // One byte more than it may have: a longer file is none.
        _ => system.read(Path::new(FILE), 5).ok().and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes),
    }
}

/// The file as it is before a word changes it; `None`: there is none.
pub fn packed(system: &dyn System) -> Option<Vec<u8>> {
    system.read(Path::new(FILE), 5).ok()
}

/// Takes back what [`set`] did: the module looks into the file again, which is as it was.
pub fn put_back(system: &dyn System, packed: Option<&[u8]>) -> io::Result<()> {
    let file = Path::new(FILE);
    match packed {
        Some(bytes) => system.write(file, bytes)?,
        None => match system.remove(file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        },
    }
    let parameter = Path::new(PARAMETER);
    if system.exists(parameter) { system.write(parameter, b"0\n") } else { Ok(()) }
}

/// Makes `hostid` that of this system; 0: none. The module asks for it when a pool is opened, so this must come before. One
/// that is loaded already is told directly; one that is not needs its option too, else a packed one would win.
pub fn set(system: &dyn System, hostid: u32) -> io::Result<()> {
    let file = Path::new(FILE);
    if hostid == 0 {
        match system.remove(file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    } else {
        if let Some(dir) = file.parent() {
            system.make_dirs(dir)?;
        }
        system.write(file, &hostid.to_ne_bytes())?;
    }
    let parameter = Path::new(PARAMETER);
    if system.exists(parameter) { system.write(parameter, format!("{hostid}\n").as_bytes()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Tree;

    #[test]
    fn file_parameter_and_none() {
        let tree = Tree::new();
        assert_eq!(own(&tree), 0);
        set(&tree, 0xdead_beef).unwrap();
        assert_eq!(own(&tree), 0xdead_beef);
        assert_eq!(tree.read(Path::new(FILE), 9).unwrap(), 0xdead_beef_u32.to_ne_bytes());

        let before = packed(&tree);
        set(&tree, 7).unwrap();
        put_back(&tree, before.as_deref()).unwrap();
        assert_eq!((own(&tree), tree.exists(PARAMETER)), (0xdead_beef, false));

        let tree = tree.with(PARAMETER, "0\n");
        assert_eq!(own(&tree), 0xdead_beef, "a parameter of 0 means the file");
        set(&tree, 7).unwrap();
        assert_eq!((own(&tree), tree.text(PARAMETER).as_str()), (7, "7"));
        put_back(&tree, before.as_deref()).unwrap();
        assert_eq!((own(&tree), tree.text(PARAMETER).as_str()), (0xdead_beef, "0"));
        set(&tree, 0).unwrap();
        assert_eq!((own(&tree), tree.exists(FILE)), (0, false));
        assert_eq!(own(&tree.with(FILE, "five!")), 0, "a file that is too long is none");
    }
}
