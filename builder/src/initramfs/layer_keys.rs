//! Public keys that lists of layers are checked by: those of the tree are in its images.

use super::archive::Archive;
use super::sources::{Kind, Source};
use super::tree::{self, Tree};
use anyhow::{Context as _, Result};
use std::path::Path;
use taproot_init::plan::layerlist::{KEY_SUFFIX, KEYS_DIR, PublicKey};

/// Packs them, if there are any. One that the boot could not read is refused: without it there would be a boot less that checks.
pub(super) fn pack(archive: &mut Archive, tree: &Tree) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for name in tree.list(KEYS_DIR)?.into_iter().filter(|name| name.ends_with(KEY_SUFFIX)) {
        let path = Path::new(KEYS_DIR).join(name);
        let shown = path.to_string_lossy();
        let bytes = tree.read(&path, tree::TEXT)?;
        PublicKey::parse(&String::from_utf8_lossy(&bytes)).with_context(|| shown.clone().into_owned())?;
        sources.push(Source::of(Kind::File, shown.clone(), &bytes));
        archive.file(&shown, bytes, "a key that lists of layers are checked by")?;
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn keys_of_the_tree_are_packed_and_others_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let packed = || {
            let mut archive = Archive::default();
            pack(&mut archive, &tree).map(|sources| sources.into_iter().map(|source| source.name).collect::<Vec<_>>())
        };
        assert_eq!(packed().unwrap(), [""; 0]);
        let keys = dir.path().join(KEYS_DIR.trim_start_matches('/'));
        fs::create_dir_all(&keys).unwrap();
        let key = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
        fs::write(keys.join("site.pub"), format!("ed25519 {key} site\n")).unwrap();
        fs::write(keys.join("site.key"), "a secret that somebody forgot").unwrap();
        assert_eq!(packed().unwrap(), ["/etc/taproot/layer-keys/site.pub"]);
        fs::write(keys.join("old.pub"), "ssh-ed25519 AAAA\n").unwrap();
        let error = format!("{:#}", packed().unwrap_err());
        assert!(error.starts_with("/etc/taproot/layer-keys/old.pub: expected a line `ed25519`"), "{error}");
    }
}
