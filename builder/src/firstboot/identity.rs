//! What a running system is known by besides its disks: made where it is missing, and left alone where it is there.

use crate::output::{Cleanup, Target};
use crate::uuid;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Bytes of the seed that systemd keeps.
const SEED: usize = 512;

/// Random bytes.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("/dev/urandom: reading")?;
    Ok(bytes)
}

/// Writes a file that is there whole or not at all.
pub(crate) fn save(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("{}: making it", dir.display()))?;
    }
    Target::find(path)?.write(bytes, &Cleanup::default())?;
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| format!("{}: its mode", path.display()))
}

/// The machine's id; what was done. systemd gives one to a boot that finds none, and keeps it as soon as it can; others do not.
pub(super) fn machine_id(root: &Path) -> Result<Option<String>> {
    let path = root.join("etc/machine-id");
    let text = fs::read_to_string(&path).unwrap_or_default();
    if text.trim().len() == 32 && text.trim().bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    save(&path, format!("{}\n", uuid::text(uuid::of_random(random()?)).replace('-', "")).as_bytes(), 0o444)?;
    Ok(Some("machine-id: made".to_owned()))
}

/// Keys of the ssh server, where one is installed and has none.
pub(super) fn host_keys(root: &Path) -> Result<Option<String>> {
    let dir = root.join("etc/ssh");
    if !dir.join("sshd_config").exists() {
        return Ok(None);
    }
    let names = fs::read_dir(&dir).with_context(|| format!("{}: listing", dir.display()))?.flatten();
    let is_key = |name: &str| name.strip_prefix("ssh_host_").is_some_and(|rest| rest.strip_suffix("_key").is_some());
    if names.into_iter().any(|entry| is_key(&entry.file_name().to_string_lossy())) {
        return Ok(None);
    }
    let status = Command::new("ssh-keygen").arg("-A").arg("-f").arg(root).status().context("starting ssh-keygen")?;
    ensure!(status.success(), "ssh-keygen -A: {status}");
    Ok(Some("ssh host keys: made".to_owned()))
}

/// The seed of the random numbers that systemd takes up at the next boot.
pub(super) fn seed(root: &Path) -> Result<Option<String>> {
    let dir = root.join("var/lib/systemd");
    let path = dir.join("random-seed");
    if !dir.is_dir() || path.exists() {
        return Ok(None);
    }
    save(&path, &random::<SEED>()?, 0o600)?;
    Ok(Some("random seed: made".to_owned()))
}

/// What is wrong with the hostid: the one that the pool was opened with is the one that the system has from now on, or the next boot finds
/// the pool in another system's hands.
pub(super) fn hostid(root: &Path, running: u32) -> Option<String> {
    let bytes = fs::read(root.join("etc/hostid")).ok()?;
    let own = bytes.as_slice().try_into().map_or(0, u32::from_ne_bytes);
    (own != running).then(|| {
        format!(
            "hostid: /etc/hostid says {own:08x}, and the kernel has {running:08x}: the initramfs carries another one; make it anew \
             (taproot hooks update) before the next boot"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("var/lib/systemd")).unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        for empty in ["", "uninitialized\n"] {
            fs::write(dir.path().join("etc/machine-id"), empty).unwrap();
            assert!(machine_id(dir.path()).unwrap().is_some());
            let made = fs::read_to_string(dir.path().join("etc/machine-id")).unwrap();
            assert!(made.len() == 33 && made.as_bytes()[12] == b'4', "{made}");
            assert_eq!(machine_id(dir.path()).unwrap(), None);
            assert_eq!(fs::read_to_string(dir.path().join("etc/machine-id")).unwrap(), made);
            fs::remove_file(dir.path().join("etc/machine-id")).unwrap();
        }
        assert!(seed(dir.path()).unwrap().is_some() && seed(dir.path()).unwrap().is_none());
        assert_eq!(fs::read(dir.path().join("var/lib/systemd/random-seed")).unwrap().len(), SEED);
        // No server, and one that has a key.
        assert_eq!(host_keys(dir.path()).unwrap(), None);
        fs::create_dir_all(dir.path().join("etc/ssh")).unwrap();
        fs::write(dir.path().join("etc/ssh/sshd_config"), "").unwrap();
        fs::write(dir.path().join("etc/ssh/ssh_host_ed25519_key"), "").unwrap();
        assert_eq!(host_keys(dir.path()).unwrap(), None);
        assert_eq!(hostid(dir.path(), 7), None);
        fs::write(dir.path().join("etc/hostid"), 7_u32.to_ne_bytes()).unwrap();
        assert_eq!(hostid(dir.path(), 7), None);
        assert!(hostid(dir.path(), 0).unwrap().contains("00000007"));
    }
}
