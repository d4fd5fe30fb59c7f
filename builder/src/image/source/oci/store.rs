//! Where the parts of a container image are: files of a directory, or of an archive that is not unpacked.

use crate::tar::{Archive, Kind};
use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use taproot_init::hex::hex;

/// Largest index or manifest.
const SMALL: u64 = 4 << 20;

/// The parts.
#[derive(Debug)]
pub(super) enum Store {
    Directory(PathBuf),
    /// The archive, and where in it each file is.
    Archive(PathBuf, HashMap<String, (u64, u64)>),
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let meta =
            std::fs::metadata(path).context("expected a container image (OCI layout), as a directory or an archive")?;
        let store = if meta.is_dir() {
            Self::Directory(path.to_owned())
        } else {
            Self::Archive(path.to_owned(), members(path)?)
        };
        if store.find("oci-layout").is_err() {
            let docker = store.find("manifest.json").is_ok() || store.find("repositories").is_ok();
            let convert = "; it is docker's own form: skopeo copy docker-archive:FILE oci-archive:NEW";
            bail!("expected a file oci-layout, found none{}", if docker { convert } else { "" });
        }
        Ok(store)
    }

    /// Opens a part by its path; with its length.
    fn find(&self, name: &str) -> Result<(File, u64)> {
        match self {
            Self::Directory(directory) => {
                let file = File::open(directory.join(name)).with_context(|| format!("expected {name} in it"))?;
                let length = file.metadata().with_context(|| name.to_owned())?.len();
                Ok((file, length))
            }
            Self::Archive(path, members) => {
                let (offset, length) = members.get(name).with_context(|| format!("expected {name} in it"))?;
                let mut file = File::open(path).with_context(|| path.display().to_string())?;
                file.seek(SeekFrom::Start(*offset)).with_context(|| path.display().to_string())?;
                Ok((file, *length))
            }
        }
    }

    /// A small part by its path.
    pub(super) fn file(&self, name: &str) -> Result<Vec<u8>> {
        let (file, length) = self.find(name)?;
        ensure!(length <= SMALL, "{name}: expected a small text, found {length} bytes");
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).with_context(|| name.to_owned())?;
        Ok(bytes)
    }

    /// A small part by its sum.
    pub(super) fn small(&self, digest: &str) -> Result<Vec<u8>> {
        let bytes = self.file(&place(digest)?)?;
        same(digest, &Sha256::digest(&bytes))?;
        Ok(bytes)
    }

    /// A part that was verified before.
    pub(super) fn plain(&self, digest: &str) -> Result<impl Read + Send + std::fmt::Debug + 'static> {
        let (file, length) = self.find(&place(digest)?)?;
        Ok(file.take(length))
    }

    /// A part whose sum is looked at while it is read.
    pub(super) fn verified(&self, digest: &str) -> Result<Verified> {
        let (file, length) = self.find(&place(digest)?)?;
        Ok(Verified { digest: digest.to_owned(), blob: Arc::new(Mutex::new((file.take(length), Sha256::new()))) })
    }
}

/// Where a part lies by its sum.
fn place(digest: &str) -> Result<String> {
    let sum = digest
        .strip_prefix("sha256:")
        .filter(|sum| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let sum = sum.with_context(|| format!("expected sha256: and 64 hexadecimal digits, found {digest:?}"))?;
    Ok(format!("blobs/sha256/{sum}"))
}

fn same(digest: &str, sum: &[u8]) -> Result<()> {
    let found = hex(sum);
    ensure!(
        digest.strip_prefix("sha256:") == Some(found.as_str()),
        "{digest}: its bytes have the sum {found}: the image is damaged"
    );
    Ok(())
}

fn members(path: &Path) -> Result<HashMap<String, (u64, u64)>> {
    let file = File::open(path).context("opening it")?;
    let mut archive = Archive::new(BufReader::new(file));
    let mut members = HashMap::new();
    let unpack = "expected an archive of an OCI layout, not compressed; if it is, undo that first (gzip -d, zstd -d)";
    while let Some(entry) = archive.next_entry().context(unpack)? {
        if entry.kind == Kind::File && entry.parts.len() <= 1 {
            let name = String::from_utf8_lossy(&entry.path).trim_start_matches("./").to_owned();
            members.insert(name, (archive.position(), entry.size));
        }
    }
    Ok(members)
}

/// A part with the sum of what was read of it.
#[derive(Debug)]
pub(super) struct Verified {
    digest: String,
    blob: Arc<Mutex<(io::Take<File>, Sha256)>>,
}

#[derive(Debug)]
struct Reader(Arc<Mutex<(io::Take<File>, Sha256)>>);

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut blob = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = blob.0.read(buffer)?;
        blob.1.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

impl Verified {
    pub(super) fn reader(&self) -> impl Read + Send + std::fmt::Debug + 'static {
        Reader(Arc::clone(&self.blob))
    }

    /// Reads what is left, and compares.
    pub(super) fn check(self) -> Result<()> {
        io::copy(&mut Reader(Arc::clone(&self.blob)), &mut io::sink()).context("reading a layer to its end")?;
        let blob = self.blob.lock().unwrap_or_else(PoisonError::into_inner);
        same(&self.digest, &blob.1.clone().finalize())
    }
}
