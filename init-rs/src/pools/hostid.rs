//! This system's hostid: four bytes that say whose a pool is.

use std::fs;
use std::io;
use std::path::Path;

/// The file that the module reads when it has no parameter (`spl_hostid_path`).
const FILE: &str = "etc/hostid";
const PARAMETER: &str = "sys/module/spl/parameters/spl_hostid";

/// The hostid as the module sees it, and as stock tools do, which ask the module: its parameter, else `/etc/hostid`, else 0, which is none.
pub fn own() -> u32 {
    own_at(Path::new("/"))
}

/// Makes `hostid` that of this system; 0: none. The module asks for it when a pool is opened, so this must come before. One
/// that is loaded already is told directly; one that is not needs its option too, else a packed one would win.
pub fn set(hostid: u32) -> io::Result<()> {
    set_at(Path::new("/"), hostid)
}

fn own_at(root: &Path) -> u32 {
    let parameter = fs::read_to_string(root.join(PARAMETER)).ok();
    match parameter.and_then(|text| text.trim().parse::<u32>().ok()) {
        Some(id) if id != 0 => id,
        _ => fs::read(root.join(FILE)).ok().and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes),
    }
}

fn set_at(root: &Path, hostid: u32) -> io::Result<()> {
    let file = root.join(FILE);
    if hostid == 0 {
        match fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    } else {
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(&file, hostid.to_ne_bytes())?;
    }
    let parameter = root.join(PARAMETER);
    if parameter.exists() { fs::write(parameter, format!("{hostid}\n")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_parameter_and_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(own_at(root), 0);
        set_at(root, 0xdead_beef).unwrap();
        assert_eq!(own_at(root), 0xdead_beef);
        assert_eq!(fs::read(root.join(FILE)).unwrap(), 0xdead_beef_u32.to_ne_bytes());

        let parameter = root.join(PARAMETER);
        fs::create_dir_all(parameter.parent().unwrap()).unwrap();
        fs::write(&parameter, "0\n").unwrap();
        assert_eq!(own_at(root), 0xdead_beef, "a parameter of 0 means the file");
        set_at(root, 7).unwrap();
        assert_eq!((own_at(root), fs::read_to_string(&parameter).unwrap().as_str()), (7, "7\n"));
        set_at(root, 0).unwrap();
        assert_eq!((own_at(root), root.join(FILE).exists()), (0, false));
    }
}
