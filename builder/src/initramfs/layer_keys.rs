//! Public keys that lists of layers are checked by: those of the tree are in its images.

use super::archive::Archive;
use super::sources::{Kind, Source};
use super::tree::{self, Tree};
use crate::settings::{Named, Settings};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use taproot_init::cmdline::parse;
use taproot_init::plan::layerlist::{KEY_SUFFIX, KEYS_DIR, MAX_KEYS, PublicKey};

/// Packs those of the tree and those that were named, if there are any. One that the boot could not read is refused: without it there
/// would be a boot less that checks.
pub(super) fn pack(archive: &mut Archive, tree: &Tree, named: &[Named]) -> Result<Vec<Source>> {
    let mut keys = Vec::new();
    for name in own(tree)? {
        let path = Path::new(KEYS_DIR).join(&name);
        keys.push((path.to_string_lossy().into_owned(), name, tree.read(&path, tree::TEXT)?));
    }
    for key in named {
        let shown = key.shown(tree);
        let stem = shown.file_stem().unwrap_or_default().to_string_lossy();
        keys.push((shown.display().to_string(), format!("{stem}{KEY_SUFFIX}"), key.read(tree, tree::TEXT)?));
    }
    let mut sources = Vec::new();
    let mut packed = BTreeMap::new();
    for (shown, name, bytes) in keys {
        PublicKey::parse(&String::from_utf8_lossy(&bytes)).with_context(|| shown.clone())?;
        if let Some(other) = packed.insert(name.clone(), bytes.clone()) {
            ensure!(other == bytes, "{shown}: expected another name, found {name} a second time, with another key");
            continue;
        }
        let path = format!("{KEYS_DIR}/{name}");
        sources.push(Source::of(Kind::File, path.clone(), &bytes));
        archive.file(&path, bytes, "a key that lists of layers are checked by")?;
    }
    ensure!(packed.len() <= MAX_KEYS, "expected at most {MAX_KEYS} keys of lists of layers, found {}", packed.len());
    Ok(sources)
}

/// Names of the tree's own.
fn own(tree: &Tree) -> Result<Vec<String>> {
    Ok(tree.list(KEYS_DIR)?.into_iter().filter(|name| name.ends_with(KEY_SUFFIX)).collect())
}

/// Whether the boot of such an image wants layers that are checked, as far as is known here.
pub(super) fn checks(settings: &Settings) -> bool {
    wants_checked(&settings.cmdline)
        || !settings.layers_keys.is_empty()
        || own(&settings.tree).is_ok_and(|keys| !keys.is_empty())
}

/// Whether these words of a command line want layers that are checked.
pub(super) fn wants_checked(words: &str) -> bool {
    let layers = parse(words.as_bytes()).layers;
    layers.is_some_and(|layers| !layers.integrity.roots.is_empty() || layers.integrity.only.is_some())
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
            pack(&mut archive, &tree, &[])
                .map(|sources| sources.into_iter().map(|source| source.name).collect::<Vec<_>>())
        };
        assert_eq!(packed().unwrap(), [""; 0]);
        let keys = dir.path().join(KEYS_DIR.trim_start_matches('/'));
        fs::create_dir_all(&keys).unwrap();
        let key = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
        fs::write(keys.join("site.pub"), format!("ed25519 {key} site\n")).unwrap();
        fs::write(keys.join("site.key"), "a secret that somebody forgot").unwrap();
        assert_eq!(packed().unwrap(), ["/etc/taproot/layer-keys/site.pub"]);
        let also = dir.path().join("site.pub");
        let twice = |text: &str| {
            fs::write(&also, text).unwrap();
            pack(&mut Archive::default(), &tree, &[Named::Here(also.clone())]).map(|sources| sources.len())
        };
        assert_eq!(twice(&format!("ed25519 {key} site\n")).unwrap(), 1, "the same key");
        assert!(format!("{:#}", twice(&format!("ed25519 {key} other\n")).unwrap_err()).contains("a second time"));
        fs::write(keys.join("old.pub"), "ssh-ed25519 AAAA\n").unwrap();
        let error = format!("{:#}", packed().unwrap_err());
        assert!(error.starts_with("/etc/taproot/layer-keys/old.pub: expected a line `ed25519`"), "{error}");
    }
}
