//! `taproot layer seal`, `sign` and `keygen`.

use super::json;
use crate::cli::integrity::{KeygenArgs, SignArgs, TreeArgs};
use crate::layer::image::{layer_name, sum, whole};
use crate::layer_integrity::{self, Place, Sealed, SecretKey};
use crate::output::print;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use taproot_init::cmdline::LIST_FILE;
use taproot_init::plan::layerlist::{Layer, LayerList, Seal};

#[derive(Debug, Serialize)]
struct Tree<'a> {
    path: &'a Path,
    bytes: u64,
    root: String,
    appended: bool,
}

/// Makes trees, or looks whether they fit.
pub(super) fn seal(args: &TreeArgs) -> Result<()> {
    let place = if args.append { Place::Appended } else { Place::Beside };
    let mut trees = Vec::new();
    for path in &args.images {
        let sealed =
            if args.check { layer_integrity::check(path, None)? } else { layer_integrity::seal(path, place, b"")? };
        trees.push((path, sealed));
    }
    if args.json {
        let trees: Vec<Tree<'_>> = trees.iter().map(|(path, sealed)| tree(path, sealed)).collect();
        return json(&trees);
    }
    let line = |(path, sealed): &(&PathBuf, Sealed)| {
        let word = layer_name(path).map(|name| format!("taproot.roothash={name}:{}", sealed.root));
        let what = if args.check { "is what its root hash says" } else { "is sealed" };
        format!("{}: {what}: {}\n", path.display(), word.unwrap_or_else(|| sealed.root.to_string()))
    };
    print(&trees.iter().map(line).collect::<String>())
}

fn tree<'a>(path: &'a Path, sealed: &Sealed) -> Tree<'a> {
    Tree { path, bytes: sealed.data_bytes, root: sealed.root.to_string(), appended: sealed.place == Place::Appended }
}

/// Signs a list.
pub(super) fn sign(args: &SignArgs) -> Result<()> {
    let key = SecretKey::read(&args.key)?;
    let beside = || args.layers.first().map(|first| first.with_file_name(LIST_FILE)).unwrap_or_default();
    let output = args.output.clone().unwrap_or_else(beside);
    let serial = match args.serial {
        Some(serial) => serial,
        None => next_serial(&output, &key)?,
    };
    let layers = args.layers.iter().map(|path| layer(path)).collect::<Result<_>>()?;
    let text = key.sign(&LayerList { serial, layers })?;
    layer_integrity::save(&output, &[text.as_bytes()], 0o644)?;
    print(&format!("{}: number {serial}, {} layers, signed\n", output.display(), args.layers.len()))
}

/// One more than that of the list in its place.
fn next_serial(output: &Path, key: &SecretKey) -> Result<u64> {
    let bytes = match fs::read(output) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(1),
        other => other.with_context(|| format!("{}: reading it", output.display()))?,
    };
    let list = LayerList::open(&bytes, &[key.public()?], None);
    let list = list.with_context(|| format!("{}: its number is not known; give one (--serial)", output.display()))?;
    list.serial.checked_add(1).context("the number of the list cannot grow any more")
}

/// What a layer must be: what its root hash says, if it is sealed, else what it is now.
fn layer(path: &Path) -> Result<Layer> {
    let shown = path.display();
    let name = layer_name(path).with_context(|| format!("{shown}: expected NAME.sqsh, NAME.squashfs or NAME.erofs"))?;
    whole(path)?;
    if layer_integrity::is_sealed(path) {
        let Sealed { root, data_bytes, .. } = layer_integrity::check(path, None)?;
        return Ok(Layer { name, size: data_bytes, seal: Seal::Verity(root) });
    }
    let (size, sum) = sum(path, |_| ())?;
    ensure!(size > 0, "{shown}: it is empty");
    Ok(Layer { name, size, seal: Seal::Sha256(sum) })
}

/// Makes a pair of keys.
pub(super) fn keygen(args: &KeygenArgs) -> Result<()> {
    let (secret, public) = layer_integrity::keygen(&args.name, &args.comment)?;
    print(&format!(
        "{}: secret, for signing alone\n{}: for images: taproot initramfs --layers-key\n",
        secret.display(),
        public.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(path: &Path) {
        let mut bytes = vec![0_u8; 8192];
        bytes[..4].copy_from_slice(b"hsqs");
        bytes[20] = 1;
        bytes[28] = 4;
        bytes[40..48].copy_from_slice(&8192_u64.to_le_bytes());
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_list_of_a_sealed_layer_and_one_with_a_sum() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        keygen(&KeygenArgs { name: at("site"), comment: "site".to_owned() }).unwrap();
        for name in ["top.sqsh", "base.sqsh"] {
            image(&at(name));
        }
        seal(&TreeArgs { images: vec![at("base.sqsh")], append: false, check: false, json: false }).unwrap();
        seal(&TreeArgs { images: vec![at("base.sqsh")], append: false, check: true, json: true }).unwrap();
        let args = |serial| SignArgs {
            key: at("site.key"),
            output: None,
            serial,
            layers: vec![at("top.sqsh"), at("base.sqsh")],
        };
        sign(&args(None)).unwrap();
        sign(&args(None)).unwrap();
        let key = SecretKey::read(&at("site.key")).unwrap().public().unwrap();
        let list = || LayerList::open(&fs::read(at(LIST_FILE)).unwrap(), &[key], None).unwrap();
        assert_eq!(list().serial, 2);
        let names: Vec<String> = list().layers.iter().map(|layer| layer.name.clone()).collect();
        assert_eq!(names, ["top", "base"]);
        assert!(matches!(list().layers[0].seal, Seal::Sha256(_)) && matches!(list().layers[1].seal, Seal::Verity(_)));
        fs::write(at(LIST_FILE), "mine").unwrap();
        assert!(format!("{:#}", sign(&args(None)).unwrap_err()).contains("--serial"));
        sign(&args(Some(9))).unwrap();
        assert_eq!(list().serial, 9);
        let mut bytes = fs::read(at("base.sqsh")).unwrap();
        bytes[5000] ^= 1;
        fs::write(at("base.sqsh"), bytes).unwrap();
        assert!(format!("{:#}", sign(&args(Some(10))).unwrap_err()).contains("the image was changed"));
    }
}
