//! How a boot knows the tree's image for the one that was made: a hash tree beside it, whose root hash is told by the command line, or by a
//! list that is signed (`docs/layer-integrity.md`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use taproot_init::cmdline::LIST_FILE;
use taproot_init::plan::layerlist::{KEY_SUFFIX, Layer, LayerList, Seal};

use super::medium::{DIRECTORY, LAYER};
use crate::image::disk::fat::{Copies, Files};
use crate::layer_integrity::{self, Place, SecretKey};

/// Endings of what lies beside the image.
const BESIDE: [&str; 2] = ["verity", "roothash"];

/// Who tells the boot what the image must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// The kernel command line.
    Word,
    /// A list, which this secret key signs, and its number.
    List(PathBuf, u64),
}

/// A sealed image.
#[derive(Debug)]
pub(super) struct Sealed {
    /// The word that asks for it.
    pub word: Option<String>,
    /// Keys that the initramfs is to have.
    pub keys: Vec<PathBuf>,
    /// Files of the medium.
    pub files: Files,
    pub copies: Copies,
}

impl Sealing {
    /// Fails if the key cannot be used.
    pub(super) fn ready(&self) -> Result<()> {
        match self {
            Self::Word => Ok(()),
            Self::List(key, _) => SecretKey::read(key).map(drop),
        }
    }

    /// Seals it: its tree comes beside it.
    pub(super) fn seal(&self, image: &Path) -> Result<Sealed> {
        let made = layer_integrity::seal(image, Place::Beside, b"")?;
        let copies = BESIDE.map(|ending| (format!("{DIRECTORY}/{LAYER}.{ending}"), image.with_extension(ending)));
        let mut sealed = Sealed { word: None, keys: Vec::new(), files: Files::new(), copies: copies.into() };
        match self {
            Self::Word => sealed.word = Some(format!("taproot.roothash={LAYER}:{}", made.root)),
            Self::List(key, serial) => {
                let key = SecretKey::read(key)?;
                let layer = Layer { name: LAYER.to_owned(), size: made.data_bytes, seal: Seal::Verity(made.root) };
                let list = key.sign(&LayerList { serial: *serial, layers: vec![layer] })?;
                sealed.files.insert(format!("{DIRECTORY}/{LIST_FILE}"), list.into_bytes());
                let public = image.with_file_name(format!("live{KEY_SUFFIX}"));
                fs::write(&public, key.public()?.render("live")).context("writing the public key")?;
                sealed.keys.push(public);
            }
        }
        Ok(sealed)
    }
}
