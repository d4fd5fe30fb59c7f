//! A copy of a system becomes one of its own, for a container.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::initramfs::tree::Tree;

/// What each machine has for itself, and makes anew.
const OWN: [&str; 3] = ["/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret", "/etc/hostid"];
/// Of the system it was made of: disks that are not this one's.
const FSTAB: &str = "# Emptied by taproot: what stood here were the mounts of the system that this one was made of.\n";

/// Makes the root in a directory a machine of this name; gives what is left to be done, for a person.
pub(crate) fn adapt(dir: &Path, name: &str) -> Result<Vec<String>> {
    // Links in the tree are followed in the tree: it is not ours.
    let tree = Tree::open(dir).with_context(|| format!("opening {}", dir.display()))?;
    let release = ["/etc/os-release", "/usr/lib/os-release"].iter().any(|path| tree.file(path).is_some());
    ensure!(
        release,
        "expected /etc/os-release or /usr/lib/os-release in {}, found none: systemd-nspawn starts no such root",
        dir.display()
    );
    let put = |path: &str, text: &str| -> Result<()> {
        let place = tree.place(path)?;
        // A root may begin without any /etc: systemd fills it.
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        fs::write(&place, text).with_context(|| format!("writing {}", place.display()))
    };
    // Empty: a new one is made at the first start. Without the file that would count as a first boot, which asks questions.
    put("/etc/machine-id", "")?;
    put("/etc/hostname", &format!("{name}\n"))?;
    if tree.is_there("/etc/fstab") {
        put("/etc/fstab", FSTAB)?;
    }
    for path in OWN {
        remove(&tree, path)?;
    }
    // Where it is no link to the first one.
    let bus = tree.place("/var/lib/dbus")?.join("machine-id");
    if fs::symlink_metadata(&bus).is_ok_and(|meta| meta.is_file()) {
        fs::remove_file(&bus).with_context(|| format!("removing {}", bus.display()))?;
    }
    let keys = host_keys(&tree)?;
    Ok(if keys.is_empty() {
        Vec::new()
    } else {
        vec![format!(
            "it has the ssh host keys of what it was made of ({}): replace them before it serves ssh",
            keys.join(", ")
        )]
    })
}

fn remove(tree: &Tree, path: &str) -> Result<()> {
    let place: PathBuf = tree.place(path)?;
    match fs::remove_file(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", place.display()))
        }
        _ => Ok(()),
    }
}

fn host_keys(tree: &Tree) -> Result<Vec<String>> {
    if !tree.is_there("/etc/ssh") {
        return Ok(Vec::new());
    }
    let names = tree.list("/etc/ssh")?;
    let is_key =
        |name: &String| name.starts_with("ssh_host_") && Path::new(name).extension().is_none_or(|end| end != "pub");
    Ok(names.into_iter().filter(is_key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_nowhere_outside() {
        let scratch = tempfile::tempdir().unwrap();
        let (outside, tree) = (scratch.path().join("etc"), scratch.path().join("tree"));
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir_all(tree.join("usr/lib")).unwrap();
        fs::create_dir_all(tree.join("usr/etc/ssh")).unwrap();
        fs::create_dir_all(tree.join("var/lib/dbus")).unwrap();
        fs::write(outside.join("machine-id"), "mine").unwrap();
        fs::write(tree.join("usr/lib/os-release"), "ID=x").unwrap();
        fs::write(tree.join("var/lib/dbus/machine-id"), "old").unwrap();
        fs::write(tree.join("usr/etc/ssh/ssh_host_ed25519_key"), "key").unwrap();
        fs::write(tree.join("usr/etc/ssh/ssh_host_ed25519_key.pub"), "key").unwrap();
        symlink("/usr/etc", tree.join("etc")).unwrap();
        symlink("/../../etc/machine-id", tree.join("usr/etc/machine-id")).unwrap();
        let told = adapt(&tree, "web");
        assert_eq!(fs::read_to_string(outside.join("machine-id")).unwrap(), "mine");
        // The link leads to itself within the tree, which is no place for a file.
        assert!(told.is_err());
        fs::remove_file(tree.join("usr/etc/machine-id")).unwrap();
        let told = adapt(&tree, "web").unwrap();
        assert!(told.concat().contains("(ssh_host_ed25519_key)"), "{told:?}");
        assert_eq!(fs::read_to_string(tree.join("usr/etc/machine-id")).unwrap(), "");
        assert!(!tree.join("var/lib/dbus/machine-id").exists());
        assert!(!tree.join("usr/etc/fstab").exists());
    }
}
