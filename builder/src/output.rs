//! Output: files that are there whole or not at all, and standard output.

use anyhow::{Context, Result};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes `bytes` to `path`, readable by the owner only: images may hold keys. A reader, or a crash, sees the old file or
/// the new one.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = path.display();
    // tempfile removes it again on every way out that does not persist it.
    let mut file = tempfile::Builder::new()
        .prefix(".taproot-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(dir)
        .with_context(|| format!("{shown}: cannot create a file in {}", dir.display()))?;
    file.write_all(bytes).with_context(|| format!("{shown}: writing"))?;
    file.as_file().sync_all().with_context(|| format!("{shown}: syncing"))?;
    file.persist(path).with_context(|| format!("{shown}: renaming"))?;
    File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("{shown}: syncing the directory"))
}

/// Writes to standard output; a reader that has seen enough (`| head`) is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_private_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, "old").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = write_private(&dir.path().join("none/image"), b"x").unwrap_err();
        assert!(format!("{error:#}").contains("cannot create a file in"), "{error:#}");
    }
}
