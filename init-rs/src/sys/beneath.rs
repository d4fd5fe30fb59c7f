//! Paths of a tree that is not (yet) `/`: an absolute link in it must not lead out of it.

use super::System;
use super::linux::Linux;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Longest chain of symbolic links, as in the kernel.
const MAX_LINKS: usize = 40;

/// Where `path` of the tree at `root` is, with every link followed inside it. Parts that do not exist stay as they are.
/// `ELOOP` for more links than the kernel follows.
pub fn resolve(system: &dyn System, root: &Path, path: &Path) -> io::Result<PathBuf> {
    Ok(root.join(walk(path, &|inside| system.read_link(&root.join(inside)).ok())?))
}

/// The same in any tree, from its root on; `link` says what the link at a place leads to, if there is one.
pub fn walk(path: &Path, link: &dyn Fn(&Path) -> Option<PathBuf>) -> io::Result<PathBuf> {
    let mut todo: Vec<PathBuf> = vec![path.to_path_buf()];
    let mut inside = PathBuf::new();
    let mut links = 0;
    while let Some(next) = todo.pop() {
        let mut parts = next.components();
        while let Some(part) = parts.next() {
            match part {
                Component::RootDir => inside.clear(),
                Component::ParentDir => {
                    inside.pop();
                }
                Component::Normal(name) => {
                    inside.push(name);
                    let Some(target) = link(&inside) else { continue };
                    inside.pop();
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    // The rest waits until the link's own parts are walked.
                    todo.push(parts.as_path().to_owned());
                    todo.push(target);
                    break;
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }
    Ok(inside)
}

/// [`resolve`] on the running system.
pub fn resolve_here(root: &Path, path: &Path) -> io::Result<PathBuf> {
    resolve(&Linux::new(), root, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/lib/systemd")).unwrap();
        fs::write(root.join("usr/lib/systemd/systemd"), "x").unwrap();
        symlink("usr/sbin", root.join("sbin")).unwrap();
        fs::create_dir_all(root.join("usr/sbin")).unwrap();
        symlink("/lib/systemd/systemd", root.join("usr/sbin/init")).unwrap();
        symlink("/usr/lib", root.join("lib")).unwrap();
        assert_eq!(resolve_here(root, Path::new("/sbin/init")).unwrap(), root.join("usr/lib/systemd/systemd"));
        assert_eq!(resolve_here(root, Path::new("/../../etc")).unwrap(), root.join("etc"));
        symlink("loop", root.join("loop")).unwrap();
        assert!(resolve_here(root, Path::new("/loop")).is_err());
    }
}
