//! What a layer's integrity rests on, made and checked: hash trees for dm-verity, sums, and lists of layers that are signed.

mod keys;
mod seal;

pub use keys::{SecretKey, keygen};
pub use seal::{Place, Sealed, check, is_sealed, seal};

use crate::layer::image::sum;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use taproot_init::plan::layerlist::{Layer, Seal};

/// Whether an image is the layer that a list speaks of; all of it is read.
pub fn check_layer(layer: &Layer, image: &Path) -> Result<()> {
    let shown = image.display();
    match &layer.seal {
        Seal::Sha256(expected) => {
            let (size, found) = sum(image, |_| ())?;
            ensure!(size == layer.size, "{shown}: expected {} bytes, found {size}; copy the layer again", layer.size);
            ensure!(
                found == *expected,
                "{shown}: expected the SHA-256 sum {expected}, found {found}; copy the layer again"
            );
        }
        Seal::Verity(root) => {
            let sealed = check(image, *root)?;
            let size = sealed.data_bytes;
            ensure!(size == layer.size, "{shown}: expected {} bytes below its tree, found {size}", layer.size);
        }
    }
    Ok(())
}

/// Writes a file whole or not at all, also after a power cut.
pub(crate) fn save(path: &Path, parts: &[&[u8]], mode: u32) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else { bail!("{}: expected the name of a file", path.display()) };
    let write = || {
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(dir)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("{}: writing", path.display()))
}

/// Reads a small text.
fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}: reading", path.display()))
}

#[cfg(test)]
mod tests;
