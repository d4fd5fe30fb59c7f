//! Hash trees beside an image or at its end, and sums.

use super::{save, text};
use crate::uuid;
use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use taproot_init::devices::verity::{
    Digest, Format, HEAD_LEN, SUPERBLOCK_LEN, Superblock, Tree, VerityError, appended_at, build, root_hash,
};

/// Bytes of a block, of data and of the tree: what the page cache reads.
const BLOCK: u32 = 4096;
/// Of data that are read at once.
const CHUNK: usize = 1 << 20;
/// Endings of images: those of the tree and its root hash stand instead of them.
const IMAGES: [&str; 6] = ["sqsh", "squashfs", "sfs", "erofs", "raw", "img"];

/// Where a tree lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a file of its own, `NAME.verity`: the image stays as it is.
    Beside,
    /// Behind the image's end, in the same file.
    Appended,
}

/// A sealed image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What its tree comes to; also in `NAME.roothash`.
    pub root: Digest,
    /// Where the tree is.
    pub place: Place,
    /// Bytes of the image that the tree protects: all of it, padded to whole blocks.
    pub data_bytes: u64,
}

/// `NAME.verity` for `NAME.sqsh`.
fn beside(image: &Path, ending: &str) -> PathBuf {
    if image.extension().and_then(OsStr::to_str).is_some_and(|known| IMAGES.contains(&known)) {
        return image.with_extension(ending);
    }
    let mut name = image.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Whether an image has a root hash beside it.
pub fn is_sealed(image: &Path) -> bool {
    beside(image, "roothash").exists()
}

/// An image, how long its file is, and where it ends by its own superblock.
struct Image<'a> {
    path: &'a Path,
    file: File,
    len: u64,
    end: u64,
}

impl<'a> Image<'a> {
    fn open(path: &'a Path, write: bool) -> Result<Self> {
        let shown = path.display();
        let file =
            OpenOptions::new().read(true).write(write).open(path).with_context(|| format!("{shown}: opening"))?;
        let len = file.metadata().with_context(|| format!("{shown}: its size"))?.len();
        let mut head = Vec::new();
        (&file).take(HEAD_LEN as u64).read_to_end(&mut head).with_context(|| format!("{shown}: reading"))?;
        let end = appended_at(&head);
        let end = end.with_context(|| format!("{shown}: expected a squashfs or erofs image, found something else"))?;
        // An image that is not padded lacks less than a block.
        ensure!(len + u64::from(BLOCK) > end, "{shown}: expected an image of {end} bytes, found {len}: it was cut");
        Ok(Self { path, file, len, end })
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// The tree over the data.
    fn tree(&self, format: &Format) -> Result<Tree> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0)).with_context(|| format!("{}: reading", self.shown()))?;
        let mut read = BufReader::with_capacity(CHUNK, file);
        build(format, &mut read).with_context(|| format!("{}: reading", self.shown()))
    }

    /// What stands behind the data.
    fn behind(&self, from: u64, len: u64) -> Result<Vec<u8>> {
        let len =
            usize::try_from(len.min(self.len.saturating_sub(from))).context("a tree that memory has no room for")?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, from).with_context(|| format!("{}: reading", self.shown()))?;
        Ok(bytes)
    }
}

/// Makes the tree of a squashfs or erofs image and puts it where it is wanted, its root hash into `NAME.roothash`. The same image gets
/// the same tree: there is no salt unless one is given, and the superblock's uuid comes from the root hash.
pub fn seal(path: &Path, place: Place, salt: &[u8]) -> Result<Sealed> {
    let mut image = Image::open(path, place == Place::Appended)?;
    let shown = path.display().to_string();
    let (len, end) = (image.len, image.end);
    match place {
        Place::Beside => {
            ensure!(
                len >= end,
                "{shown}: expected an image padded to {end} bytes, found {len}; make it without -nopad"
            );
        }
        Place::Appended => ensure!(
            len <= end,
            "{shown}: expected nothing behind the image's end, found {} bytes{}; make the image anew",
            len - end,
            if Superblock::parse(&image.behind(end, SUPERBLOCK_LEN as u64)?).is_ok() { ", sealed already" } else { "" }
        ),
    }
    let format = Format::new(BLOCK, BLOCK, end / u64::from(BLOCK), salt)?;
    // Padding shows in the tree, so it comes first; it changes nothing of what is in the image.
    if len < end {
        image.file.set_len(end).with_context(|| format!("{shown}: padding"))?;
        image.len = end;
    }
    let tree = image.tree(&format)?;
    let superblock = Superblock { uuid: uuid::of_hash(tree.root.bytes()), format };
    let mut head = superblock.bytes().to_vec();
    head.resize(usize::try_from(BLOCK).unwrap_or_default(), 0);
    match place {
        Place::Beside => save(&beside(path, "verity"), &[&head, &tree.blocks], 0o644)?,
        Place::Appended => {
            if let Err(error) = append(&mut image.file, end, &[&head, &tree.blocks]) {
                // Half a tree is none.
                let _ = image.file.set_len(len);
                return Err(error).with_context(|| format!("{shown}: appending its tree"));
            }
        }
    }
    save(&beside(path, "roothash"), &[format!("{}\n", tree.root).as_bytes()], 0o644)?;
    Ok(Sealed { root: tree.root, place, data_bytes: end })
}

fn append(file: &mut File, at: u64, parts: &[&[u8]]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

/// Reads the whole image and its tree, beside it or at its end, and finds them to be what the root hash says. Without one the image's
/// own `NAME.roothash` is taken, which protects from accidents alone.
pub fn check(path: &Path, root: impl Into<Option<Digest>>) -> Result<Sealed> {
    let image = Image::open(path, false)?;
    let shown = path.display();
    let root: Digest = match root.into() {
        Some(root) => root,
        None => root_hash(&text(&beside(path, "roothash"))?).with_context(|| format!("{shown}: its root hash"))?,
    };
    let own = beside(path, "verity");
    let (bytes, place) = if own.exists() {
        (std::fs::read(&own).with_context(|| format!("{}: reading", own.display()))?, Place::Beside)
    } else {
        (image.behind(image.end, u64::MAX)?, Place::Appended)
    };
    let superblock = match Superblock::parse(&bytes) {
        Err(VerityError::NoSuperblock) => {
            bail!("{shown}: expected a tree at its end or in {}, found none; seal it", own.display())
        }
        other => other.with_context(|| format!("{shown}: its tree"))?,
    };
    let format = &superblock.format;
    let data_bytes = format.data_bytes();
    ensure!(data_bytes == image.end, "{shown}: expected a tree over {} bytes, found one over {data_bytes}", image.end);
    let tree = image.tree(format)?;
    ensure!(
        tree.root == root,
        "{shown}: expected the root hash {root}, found {}: the image was changed, or sealed anew",
        tree.root
    );
    let start = format.tree_start(0).saturating_mul(format.hash_block().into());
    let stored = usize::try_from(start).ok().and_then(|start| bytes.get(start..)?.get(..tree.blocks.len()));
    ensure!(
        stored == Some(&tree.blocks),
        "{shown}: the image is as its root hash says, but its tree is damaged; seal it again"
    );
    Ok(Sealed { root, place, data_bytes })
}
