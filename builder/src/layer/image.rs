//! Files that hold a layer: what their superblock says, whether they are whole, their checksum.

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use taproot_init::devices::probe::{SEALED_HEAD, Sealed, sealed};
use taproot_init::devices::verity::Digest;
use taproot_init::plan::layers::ENDINGS;
use taproot_init::plan::names::check_layer;

/// How much is read at once.
pub(super) const CHUNK: usize = 1 << 20;

/// A layer as it lies in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// As a stack names it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// `squashfs`, `erofs` or `directory`.
    pub kind: &'static str,
    /// Bytes of the file; none of a directory.
    pub bytes: Option<u64>,
    /// How its data are compressed.
    pub compression: Option<&'static str>,
    /// When it was made, in seconds since 1970.
    pub made: Option<u64>,
    /// Its checksum, if it was asked for.
    pub sha256: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// The superblock of a file; an error if it is no image.
pub fn superblock(path: &Path) -> Result<Sealed> {
    let shown = path.display();
    let mut head = Vec::with_capacity(SEALED_HEAD);
    let file = File::open(path).with_context(|| format!("{shown}: opening it"))?;
    file.take(SEALED_HEAD as u64).read_to_end(&mut head).with_context(|| format!("{shown}: reading it"))?;
    sealed(&head).with_context(|| format!("{shown}: expected an image of squashfs or erofs, found something else"))
}

/// The superblock of an image that is as long as it says.
pub fn whole(path: &Path) -> Result<Sealed> {
    let sealed = superblock(path)?;
    let found = fs::metadata(path).with_context(|| format!("{}: looking at it", path.display()))?.len();
    ensure!(
        found >= sealed.bytes,
        "{}: it was cut off: expected {} bytes, found {found}; copy or make it again",
        path.display(),
        sealed.bytes
    );
    Ok(sealed)
}

/// The name of the layer in a file, if it is called as images are and can be in a stack.
pub fn layer_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let name = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending))?;
    check_layer(name).is_ok().then(|| name.to_owned())
}

/// The file beside an image that has its checksum.
pub fn checksum_file(image: &Path) -> PathBuf {
    image.with_extension("sha256")
}

/// What stands there, as sha256sum(1) writes and checks it.
pub fn checksum_text(image: &Path, sha256: &str) -> String {
    format!("{sha256}  {}\n", image.file_name().unwrap_or_default().display())
}

/// The checksum that stands beside an image; `None` without such a file.
pub fn noted_checksum(image: &Path) -> Result<Option<String>> {
    let path = checksum_file(image);
    let text = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("{}: reading it", path.display()))?,
    };
    let sum = text.split_whitespace().next().unwrap_or_default().to_lowercase();
    let is_sum = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_sum, "{}: expected the checksum of {} in it, 64 hexadecimal digits", path.display(), image.display());
    Ok(Some(sum))
}

/// A file that is read from the disk where that can be had: what was just written is to be proven, not the memory it passed through.
pub(super) fn from_disk(path: &Path) -> Result<File> {
    let file = File::open(path).with_context(|| format!("{}: reading it", path.display()))?;
    // Only a wish: a file system may keep what it has.
    let _ = nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    Ok(file)
}

/// Size and checksum of a file, which is read to its end, from the disk. `read` hears how much was read so far.
pub fn sum(path: &Path, read: impl FnMut(u64)) -> Result<(u64, Digest)> {
    sum_of(from_disk(path)?, read).with_context(|| format!("{}: reading it", path.display()))
}

/// Size and checksum of an open file.
pub(super) fn sum_of(mut file: File, mut read: impl FnMut(u64)) -> io::Result<(u64, Digest)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; CHUNK];
    let mut total = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((total, Digest::of(hasher)));
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        total += n as u64;
        read(total);
    }
}

/// The layers in a directory, by name.
pub fn list(directory: &Path) -> Result<Vec<Layer>> {
    let failed = || format!("{}: expected a directory with layers", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(meta) = fs::metadata(&path) else { continue };
        if meta.is_dir() {
            let Some(name) = name.to_str().filter(|name| check_layer(name).is_ok() && *name != "lost+found") else {
                continue;
            };
            found.push(Layer::new(name.to_owned(), path, "directory"));
        } else if let Some(name) = layer_name(&path) {
            found.push(Layer::of_image(name, path, meta.len()));
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

impl Layer {
    fn new(name: String, path: PathBuf, kind: &'static str) -> Self {
        Self { name, path, kind, bytes: None, compression: None, made: None, sha256: None, problem: None }
    }

    fn of_image(name: String, path: PathBuf, bytes: u64) -> Self {
        let (read, whole) = (superblock(&path), whole(&path));
        let mut layer = Self::new(name, path, read.as_ref().map_or("unknown", |sealed| sealed.kind));
        layer.bytes = Some(bytes);
        layer.problem = whole.err().map(|error| format!("{error:#}"));
        if let Ok(sealed) = read {
            layer.compression = sealed.compression;
            layer.made = Some(sealed.made);
        }
        layer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base.sqsh");
        let mut head = vec![0_u8; 4096];
        head[..4].copy_from_slice(b"hsqs");
        head[20] = 1;
        head[28] = 4;
        head[40..48].copy_from_slice(&4096_u64.to_le_bytes());
        fs::write(&path, &head).unwrap();
        assert_eq!(whole(&path).unwrap().bytes, 4096);
        fs::write(&path, &head[..2000]).unwrap();
        assert!(format!("{:#}", whole(&path).unwrap_err()).contains("cut off: expected 4096 bytes, found 2000"));
        fs::write(dir.path().join("notes.txt"), "x").unwrap();
        fs::write(dir.path().join("bad.erofs"), "x").unwrap();
        fs::create_dir(dir.path().join("site")).unwrap();
        let layers = list(dir.path()).unwrap();
        let names: Vec<(&str, &str, bool)> =
            layers.iter().map(|layer| (layer.name.as_str(), layer.kind, layer.problem.is_some())).collect();
        assert_eq!(names, [("bad", "unknown", true), ("base", "squashfs", true), ("site", "directory", false)]);
    }

    #[test]
    fn checksums_beside_images() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base.sqsh");
        fs::write(&path, "abc").unwrap();
        let (size, sum) = sum(&path, |_| ()).unwrap();
        assert_eq!(size, 3);
        let sum = sum.to_string();
        assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(noted_checksum(&path).unwrap(), None);
        fs::write(checksum_file(&path), checksum_text(&path, &sum)).unwrap();
        assert_eq!(noted_checksum(&path).unwrap(), Some(sum));
        fs::write(dir.path().join("base.sha256"), "none").unwrap();
        assert!(noted_checksum(&path).is_err());
    }
}
