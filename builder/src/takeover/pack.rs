//! The system in memory: this program as its init, the drivers of this machine, and the image.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use cpio::NewcBuilder;
use cpio::newc::ModeFileType;

use super::image::{self, Shape};
use super::orders::{IMAGE, Measure, ORDERS, Orders};
use crate::initramfs::archive::{Archive, Content};
use crate::initramfs::index::Index;
use crate::initramfs::modprobe_d::ModprobeConfig;
use crate::initramfs::modules::{self, Wanted};
use crate::initramfs::tree::Tree;
use crate::initramfs::{elf, host};

/// Kernels before 6.x read no larger files for kexec.
pub(super) const LIMIT: u64 = i32::MAX as u64;

/// Writes an archive with the image in it; what was found of that.
pub(super) fn image(out: &mut File, path: &Path, sum: &str) -> Result<(Measure, Shape)> {
    let name = IMAGE.trim_start_matches('/');
    let directory = name.split('/').next().unwrap_or_default();
    let empty = || NewcBuilder::new(directory).mode(0o755).nlink(2).set_mode_file_type(ModeFileType::Directory);
    let start = empty().write(Vec::new(), 0).finish()?;
    out.write_all(&start)?;
    // The size stands before the bytes, and is known behind them.
    let before = out.stream_position()?;
    let header = header(name, 0)?;
    out.write_all(&header)?;
    let found = image::copy(path, sum, out)?;
    let end = out.stream_position()?;
    let size = u32::try_from(end - before - header.len() as u64).ok().filter(|size| u64::from(*size) < LIMIT);
    let size = size.with_context(|| format!("{}: compressed it has 2 GiB and more, which no kernel takes: compress it better (zstd -19), or make a smaller one", path.display()))?;
    out.seek(SeekFrom::Start(before))?;
    out.write_all(&self::header(name, size)?)?;
    out.seek(SeekFrom::Start(end))?;
    out.write_all(cpio_gap(end))?;
    let trailer = cpio::newc::trailer(Vec::new())?;
    out.write_all(&trailer)?;
    let end = out.stream_position()?;
    out.write_all(&vec![0; usize::try_from(end.next_multiple_of(512) - end)?])?;
    Ok(found)
}

/// Up to the next four bytes.
fn cpio_gap(end: u64) -> &'static [u8] {
    match end % 4 {
        1 => &[0; 3],
        2 => &[0; 2],
        3 => &[0; 1],
        _ => &[],
    }
}

/// What stands before a file's bytes.
fn header(name: &str, size: u32) -> io::Result<Vec<u8>> {
    let entry = NewcBuilder::new(name).ino(1).mode(0o600).nlink(1).set_mode_file_type(ModeFileType::Regular);
    let mut bytes = entry.write(Vec::new(), 0).finish()?;
    // newc: six bytes of magic, then fields of eight digits; the size is the seventh.
    let digits = format!("{size:08X}");
    bytes.get_mut(54..62).unwrap_or_default().copy_from_slice(digits.as_bytes());
    Ok(bytes)
}

/// Modules that drive this machine's disks and keyboards, in the order in which they are loaded, with their files.
pub(super) fn drivers(archive: &mut Archive, release: &str) -> Result<Vec<(String, String)>> {
    let tree = Tree::open(Path::new("/")).context("opening /")?;
    let loaded = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    if loaded.trim().is_empty() && !tree.is_there(tree.modules(release)) {
        // A kernel that has everything built in.
        return Ok(Vec::new());
    }
    let index = Index::read(&tree, release)?;
    let config = ModprobeConfig::read(&tree)?;
    let mut wanted = Wanted::default();
    for chain in host::disks(Path::new("/sys")).into_iter().chain(host::inputs(Path::new("/sys"))) {
        let why = format!("driver of {}", chain.disk);
        wanted.names.extend(chain.modules.into_iter().map(|name| (name, why.clone())));
        wanted.modaliases.extend(chain.modaliases.into_iter().map(|alias| (alias, why.clone())));
    }
    let chosen = modules::close(&index, &config, &wanted);
    let packed = modules::read(&tree, &index, release, &chosen, Some(3))?;
    let table = modules::table(&index, &config, &chosen, &packed);
    for module in packed.into_values() {
        archive.file(&module.path, module.data, &module.why)?;
    }
    Ok(table.modules.into_iter().map(|module| (module.path, module.params)).collect())
}

/// Writes an archive with everything else. `program`: this one.
pub(super) fn system(out: &mut File, mut archive: Archive, program: Vec<u8>, orders: &Orders) -> Result<()> {
    let needs = elf::needs(&program).map_err(anyhow::Error::msg).context("reading this program")?;
    ensure!(
        needs.interpreter.is_none(),
        "expected this program to be static, as make build makes it: nothing in memory has its libraries"
    );
    archive.program("/init", program, "this program")?;
    archive.file(ORDERS, serde_json::to_vec_pretty(orders)?, "what is to be done")?;
    for dir in ["/dev", "/proc", "/sys", "/run", "/tmp"] {
        archive.add(dir, Content::Directory, 0o755, "place for a mount")?;
    }
    archive.add("/dev/console", Content::Device(5, 1), 0o600, "console")?;
    out.write_all(&archive.into_cpio(0, Vec::new())?).context("writing the system in memory")
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::super::disk::Identity;
    use super::super::image::tests::disk;
    use super::*;
    use sha2::Digest as _;
    use std::io::Read as _;

    #[test]
    fn the_kernel_finds_image_and_orders_in_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let image_path = dir.path().join("image");
        for extra in 0..4 {
            // Compressed, so that its size there is any.
            let mut bytes = disk(5 << 20);
            bytes[3 << 20] = extra;
            let compressed = zstd::bulk::compress(&bytes, 1).unwrap();
            std::fs::write(&image_path, &compressed).unwrap();
            let mut out = tempfile::tempfile().unwrap();
            let sum = taproot_init::hex::hex(&sha2::Sha256::digest(&compressed));
            let (measure, _) = image(&mut out, &image_path, &sum).unwrap();
            assert_eq!(out.stream_position().unwrap() % 512, 0);
            let orders = Orders {
                nonce: "c0ffee12".into(),
                minutes: 1,
                disk: Identity::default(),
                image: measure,
                modules: vec![],
            };
            let program = std::fs::read("/proc/self/exe").unwrap();
            system(&mut out, Archive::default(), program.clone(), &orders).unwrap();
            let mut all = Vec::new();
            out.rewind().unwrap();
            out.read_to_end(&mut all).unwrap();
            let mut files = std::collections::BTreeMap::new();
            let mut rest = all.as_slice();
            while rest.len() > 512 {
                let mut reader = cpio::NewcReader::new(rest).unwrap();
                let name = reader.entry().name().to_owned();
                if reader.entry().is_trailer() {
                    rest = reader.finish().unwrap();
                    let skip = rest.iter().take_while(|byte| **byte == 0).count();
                    rest = &rest[skip..];
                    continue;
                }
                let mut content = Vec::new();
                reader.read_to_end(&mut content).unwrap();
                rest = reader.finish().unwrap();
                files.insert(name, content);
            }
            assert_eq!(files["takeover/image.zst"], compressed);
            assert_eq!(files["init"], program);
            assert_eq!(serde_json::from_slice::<Orders>(&files["takeover/orders.json"]).unwrap(), orders);
            assert!(files.contains_key("dev/console") && files.contains_key("takeover"));
        }
    }
}
