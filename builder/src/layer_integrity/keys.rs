//! Keys that lists of layers are signed with.

use super::save;
use anyhow::{Context as _, Result, bail, ensure};
use ed25519_compact::{KeyPair, Seed};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use taproot_init::hex::{hex, unhex};
use taproot_init::plan::layerlist::{KEY_SUFFIX, LayerList, PublicKey};

/// How the file of a secret key begins.
const SECRET: &str = "ed25519-secret ";
/// How its name ends.
const SECRET_ENDING: &str = "key";

/// A secret key. Its bytes are overwritten when it is dropped.
pub struct SecretKey(KeyPair);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey").finish_non_exhaustive()
    }
}

impl SecretKey {
    /// From the 32 bytes of RFC 8032.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(KeyPair::from_seed(Seed::new(seed)))
    }

    /// From its file, which nobody but its owner may read.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mut file = File::open(path).with_context(|| format!("{shown}: opening"))?;
        let mode = file.metadata().with_context(|| format!("{shown}: its mode"))?.mode();
        if mode & 0o077 != 0 {
            bail!("{shown}: expected a file that its owner alone can read, found mode {:o}; chmod 600", mode & 0o777);
        }
        let mut text = String::new();
        (&mut file).take(4096).read_to_string(&mut text).with_context(|| format!("{shown}: reading"))?;
        let seed = text.trim_end().strip_prefix(SECRET).and_then(unhex);
        let seed = seed.with_context(|| format!("{shown}: expected a line `{SECRET}` with 64 hexadecimal digits"))?;
        Ok(Self::new(seed))
    }

    /// What a list that it signed is checked by.
    pub fn public(&self) -> Result<PublicKey> {
        Ok(PublicKey::new(*self.0.pk)?)
    }

    /// The list with its signature. One that could not be read again is not signed.
    pub fn sign(&self, list: &LayerList) -> Result<String> {
        let text = list.render();
        let again = LayerList::parse(&text).context("this list could not be read again")?;
        ensure!(again == *list, "this list would read otherwise: a bug");
        Ok(list.signed(&self.0.sk.sign(text, None)))
    }
}

/// Makes a pair of keys: `BASE.key`, which is to be kept secret, and `BASE.pub`, which is packed in images. Gives both paths; what is
/// there is not written over.
pub fn keygen(base: &Path, comment: &str) -> Result<(PathBuf, PathBuf)> {
    ensure!(!comment.contains(['\n', '\r']), "expected a comment of one line");
    let named = |ending: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(format!(".{ending}"));
        PathBuf::from(name)
    };
    let (secret, public) = (named(SECRET_ENDING), named(KEY_SUFFIX.trim_start_matches('.')));
    for path in [&secret, &public] {
        let there = path.symlink_metadata().is_ok();
        ensure!(!there, "{}: expected no such file, found one; choose another name or remove it", path.display());
    }
    let mut seed = [0; 32];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed)).context("/dev/urandom: reading")?;
    let key = SecretKey::new(seed);
    save(&secret, &[SECRET.as_bytes(), hex(&seed).as_bytes(), b"\n"], 0o600)?;
    save(&public, &[key.public()?.render(comment).as_bytes()], 0o644)?;
    Ok((secret, public))
}
