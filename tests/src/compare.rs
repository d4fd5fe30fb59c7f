//! A tree as lines that can be compared: each entry with all that a copy has to keep.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::kit;
use crate::vm::Disk;

/// Prints what is in the tree that its first argument names; further ones are paths that are left out. A directory's links are a number only
/// if they are not what they should be: one for each directory in it, or just one where the file system does not count. Runs here and in guests.
pub const LOOK: &str = r"
import hashlib, os, stat, sys
def text(raw):
    return ''.join(chr(b) if 33 <= b < 127 and b != 37 else '%%%02x' % b for b in raw)
out = set(os.fsencode(path) for path in sys.argv[2:])
def look(path, name):
    s = os.lstat(path)
    directory = stat.S_ISDIR(s.st_mode)
    target = text(os.readlink(path)) if stat.S_ISLNK(s.st_mode) else '-'
    sha = '-'
    if stat.S_ISREG(s.st_mode):
        h = hashlib.md5()
        with open(path, 'rb') as f:
            while block := f.read(1 << 20):
                h.update(block)
        sha = h.hexdigest()
    names = set(os.listxattr(path, follow_symlinks=False))
    for kind in ['access', 'default']:
        try:
            os.getxattr(path, 'system.posix_acl_' + kind, follow_symlinks=False)
            names.add('system.posix_acl_' + kind)
        except OSError:
            pass
    attributes = ','.join(n + '=' + hashlib.md5(os.getxattr(path, n, follow_symlinks=False)).hexdigest() for n in sorted(names)) or '-'
    links, size = s.st_nlink, s.st_size
    if directory:
        inside = sum(stat.S_ISDIR(os.lstat(os.path.join(path, entry)).st_mode) for entry in os.listdir(path))
        links, size = '-' if links in (1, 2 + inside) else links, '-'
    print(text(name), '%o' % s.st_mode, s.st_uid, s.st_gid, links, size, s.st_mtime_ns,
          '%d:%d' % (os.major(s.st_rdev), os.minor(s.st_rdev)), target, attributes, sha)
def walk(path, name):
    look(path, name or b'/')
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for entry in sorted(os.listdir(path)):
            below = name + b'/' + entry
            if below not in out:
                walk(os.path.join(path, entry), below)
walk(os.fsencode(sys.argv[1]), b'')
";

/// What of a tree is not in an image of it as it was, by the account that the command gave as JSON: paths, or the topmost directory that was
/// made for them.
pub fn changed(said: &Value, tree: &Path) -> Result<Vec<String>> {
    let changes = &said["changes"];
    let lists = ["changed", "added"].map(|list| changes[list].as_array().cloned().unwrap_or_default()).concat();
    let of_lists = lists.iter().filter_map(|change| change["path"].as_str()).map(str::to_owned);
    let removed = changes["removed"].as_object().context("no list of what was removed")?;
    let topmost = |path: String| {
        let mut above: Vec<&Path> = Path::new(&path).ancestors().filter(|path| *path != Path::new("")).collect();
        above.reverse();
        let new = above.into_iter().find(|path| tree.join(path).symlink_metadata().is_err());
        format!("/{}", new.unwrap_or(Path::new(&path)).display())
    };
    // Each image has that one empty.
    let own = ["/etc/machine-id".to_owned()];
    let mut all: Vec<String> = removed.keys().cloned().chain(of_lists).map(topmost).chain(own).collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// What [`LOOK`] prints of a tree.
pub fn look(tree: &Path, without: &[String]) -> Result<String> {
    kit::run(Command::new("python3").args(["-c", LOOK]).arg(tree).args(without))
}

/// Text that is too long for `fw_cfg`, as a disk with zeros at its end.
pub fn as_disk(text: &str, path: &Path, serial: &str) -> Result<Disk> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))?;
    Ok(Disk::read_only(path, serial))
}
