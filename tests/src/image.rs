//! Images under test: packed once with `out/taproot`, kept as long as nothing they are made of changes.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::kit::{self, System};
use crate::vm::Scratch;

/// The builder, as `make build` leaves it.
pub fn builder() -> PathBuf {
    crate::checkout().join("out/taproot")
}

/// The early-boot binary, as `make build` leaves it.
pub fn boot_binary() -> PathBuf {
    crate::checkout().join("out/taproot-init")
}

/// Arguments of `taproot initramfs` for a kit system; the caller adds `--rescue` and the like.
pub fn pack_command(system: &System, options: &[&str], output: &Path) -> Command {
    let mut command = Command::new(builder());
    command.arg("initramfs").arg("--root").arg(system.tree()).args(["--kernel", &system.kernel]).args(options);
    command.arg("--init").arg(boot_binary()).arg("--output").arg(output);
    command
}

/// The image for the boot scenarios: generic modules, small rescue set, and what checks an ext4.
pub fn standard(system: &System) -> Result<PathBuf> {
    cached(system, &["--modules", "generic", "--rescue", "small", "--fsck", "ext4"])
}

/// The image for plain roots: with file systems too whose programs the test systems do not have.
pub fn plain(system: &System) -> Result<PathBuf> {
    let added = ["--add-module", "xfs", "--add-module", "btrfs", "--add-module", "f2fs"];
    cached(system, &[&["--modules", "generic", "--rescue", "small", "--fsck", "ext4"][..], &added].concat())
}

/// An image packed with these options, from the cache if it was packed before from the same things.
pub fn cached(system: &System, options: &[&str]) -> Result<PathBuf> {
    for path in [builder(), boot_binary()] {
        ensure!(path.exists(), "{} is missing; run: make build", path.display());
    }
    let dir = kit::cache()?.join("images");
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    // Tests run as separate processes; the first one packs, the others wait.
    let lock = File::create(dir.join("lock")).context("the lock of the image cache")?;
    lock.lock().context("the lock of the image cache")?;
    let made_of = format!("{:016x}{:016x}{}{options:?}", hash(&builder())?, hash(&boot_binary())?, system.stamp()?);
    let words: String = options.join("").chars().filter(char::is_ascii_alphanumeric).collect();
    let path = dir.join(format!("{}-{words}.img", system.name));
    let note = path.with_extension("made-of");
    if path.exists() && fs::read_to_string(&note).is_ok_and(|text| text == made_of) {
        return Ok(path);
    }
    let _ = fs::remove_file(&note);
    kit::run(&mut pack_command(system, options, &path))?;
    fs::write(&note, made_of).with_context(|| format!("writing {}", note.display()))?;
    Ok(path)
}

/// The standard image without the device nodes it carries: the hardest start for `/init` when there is no console either.
pub fn without_device_nodes(system: &System, scratch: &Scratch) -> Result<PathBuf> {
    let packed = cached(system, &["--modules", "generic", "--rescue", "none", "--compress", "none"])?;
    let (dir, image) = (scratch.path().join("unpacked"), scratch.path().join("without-nodes.cpio"));
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let script = "cd \"$1\" && cpio --quiet -id -f 'dev/*' <\"$2\" && find . -mindepth 1 | sort | cpio --quiet -o -H newc >\"$3\"";
    kit::run(Command::new("sh").args(["-c", script, "sh"]).arg(&dir).arg(&packed).arg(&image))?;
    ensure!(!names(&image)?.iter().any(|n| n.starts_with("dev/")), "the nodes are still there");
    Ok(image)
}

/// FNV-1a of a file: enough to see that it changed.
fn hash(path: &Path) -> Result<u64> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// Names of everything in an uncompressed image: all `newc` members of all its archives (`initramfs` in the kernel's
/// `buffer-format.rst`).
pub fn names(image: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(image).with_context(|| format!("reading {}", image.display()))?;
    let mut names = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 110) {
        if header.first() == Some(&0) {
            // Padding between archives.
            at += 4;
            continue;
        }
        ensure!(header.starts_with(b"07070"), "{}: expected a cpio header at byte {at}", image.display());
        let field = |index: usize| -> Result<usize> {
            let digits = header.get(6 + index * 8..14 + index * 8).unwrap_or_default();
            usize::from_str_radix(std::str::from_utf8(digits)?, 16).with_context(|| format!("cpio header at byte {at}"))
        };
        let (size, name_size) = (field(6)?, field(11)?);
        let name = bytes.get(at + 110..at + 110 + name_size.saturating_sub(1)).context("a cut cpio member")?;
        let name = String::from_utf8_lossy(name).into_owned();
        at = (at + 110 + name_size).next_multiple_of(4);
        at = (at + size).next_multiple_of(4);
        if name != "TRAILER!!!" {
            names.push(name);
        }
    }
    Ok(names)
}
