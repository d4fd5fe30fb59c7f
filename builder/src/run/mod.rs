//! `taproot run`: a system in a virtual machine, without a change to it: an image that keeps what it is, or a tree that a squashfs is
//! made of, under an upper in the machine's memory.

mod qemu;
mod tree;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::output::Cleanup;
use crate::progress::Progress;
use qemu::Firmware;
pub use qemu::{Forward, Options};

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The image of a disk.
    Image(PathBuf),
    /// A snapshot of the running root.
    Snapshot(String),
    /// A directory, of one file system.
    Tree(PathBuf),
}

impl Subject {
    /// From what stands on the command line.
    pub fn new(what: Option<&str>, root: Option<&Path>) -> Result<Self> {
        match (what, root) {
            (Some(what), None) => Ok(match what.strip_prefix('@') {
                Some(name) => {
                    ensure!(
                        !name.is_empty() && !name.contains(['/', '@']),
                        "expected @SNAPSHOT of the running root, found {what:?}"
                    );
                    Self::Snapshot(name.to_owned())
                }
                None => Self::Image(what.into()),
            }),
            (None, Some(root)) => Ok(Self::Tree(root.to_owned())),
            _ => bail!("expected one of: an image, @SNAPSHOT of the running root, --root DIR"),
        }
    }
}

/// How its system is packed, where it is a tree.
#[derive(Debug, Clone, Default)]
pub struct Packing {
    /// Release of the kernel, if not the running or the only one.
    pub kernel: Option<String>,
    /// The static taproot-init, if not the one beside this program.
    pub init: Option<PathBuf>,
    /// Where files of the machine lie while it runs.
    pub work: PathBuf,
}

/// Runs it until the machine ends; with `dry` the commands are given instead.
pub fn run(
    subject: &Subject,
    options: &Options,
    packing: &Packing,
    dry: bool,
    progress: &Progress,
    cleanup: &Cleanup,
) -> Result<Option<String>> {
    if dry {
        return dry_run(subject, options, packing).map(Some);
    }
    let dir = cleanup.guarded(|slot| {
        let made = tempfile::Builder::new().prefix("taproot-run.").tempdir_in(&packing.work);
        *slot = made.as_ref().ok().map(|dir| dir.path().to_owned());
        made
    });
    let dir = dir.with_context(|| format!("a directory in {}", packing.work.display()))?;
    let (boot, firmware) = match subject {
        Subject::Image(path) => (qemu::Boot::Image(path.clone(), format(path)?), firmware(path, options, dir.path())?),
        Subject::Snapshot(_) | Subject::Tree(_) => {
            (tree::pack(subject, options, packing, dir.path(), progress)?, Firmware::Bios)
        }
    };
    progress.finish();
    let words = qemu::arguments(&boot, &firmware, options);
    let mut command = Command::new(qemu::PROGRAM);
    let status = command.args(&words).status();
    let status =
        status.with_context(|| format!("starting {}: install QEMU (Debian: qemu-system-x86)", qemu::PROGRAM))?;
    drop(dir);
    cleanup.guarded(|slot| *slot = None);
    ensure!(
        status.success(),
        "{}: {status}; if KVM is there and does not work, -- -machine accel=tcg emulates the processor",
        qemu::PROGRAM
    );
    Ok(None)
}

fn dry_run(subject: &Subject, options: &Options, packing: &Packing) -> Result<String> {
    let dir = packing.work.join("taproot-run.XXXXXX");
    let mut lines = Vec::new();
    let (boot, firmware) = match subject {
        Subject::Image(path) => (qemu::Boot::Image(path.clone(), format(path)?), firmware(path, options, &dir)?),
        Subject::Snapshot(_) | Subject::Tree(_) => {
            let plan = tree::Plan::new(subject, packing, &dir)?;
            lines.extend(plan.described());
            (plan.boot(&options.words), Firmware::Bios)
        }
    };
    let words = qemu::arguments(&boot, &firmware, options);
    lines.push(shell(std::iter::once(qemu::PROGRAM).chain(words.iter().map(String::as_str))));
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// Words as a shell takes them.
fn shell<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=+,./:@%".contains(&b));
    let shown = |word: &str| if plain(word) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    words.map(shown).collect::<Vec<_>>().join(" ")
}

fn head(path: &Path, bytes: usize) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(bytes as u64).read_to_end(&mut head));
    read.with_context(|| format!("reading {}", path.display()))?;
    Ok(head)
}

/// The format of an image, by its first bytes: QEMU is not to guess it of an image whose content a guest writes.
fn format(path: &Path) -> Result<&'static str> {
    const MAGICS: [(&[u8], usize, &str); 5] = [
        (b"QFI\xfb", 0, "qcow2"),
        (b"KDMV", 0, "vmdk"),
        (b"vhdxfile", 0, "vhdx"),
        (b"conectix", 0, "vpc"),
        (&[0x7f, 0x10, 0xda, 0xbe], 64, "vdi"),
    ];
    let head = head(path, 512)?;
    ensure!(
        !head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
        "{}: expected the image of a disk, found a compressed file: zstd -d first",
        path.display()
    );
    let found = MAGICS.iter().find(|(magic, at, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    Ok(found.map_or("raw", |(_, _, name)| name))
}

/// What starts an image: what is wanted, or BIOS for a raw one with boot code and UEFI for others.
fn firmware(path: &Path, options: &Options, dir: &Path) -> Result<Firmware> {
    let bios = match options.uefi {
        Some(uefi) => !uefi,
        None => format(path)? == "raw" && head(path, 440)?.iter().any(|byte| *byte != 0),
    };
    if bios {
        return Ok(Firmware::Bios);
    }
    let found = qemu::ovmf(Path::exists);
    let [code, empty] =
        found.context("expected UEFI firmware (OVMF), found none; install it (Debian: ovmf), or say --bios")?;
    let variables = dir.join("uefi-variables");
    if dir.exists() {
        fs::copy(empty, &variables).with_context(|| format!("copying {}", empty.display()))?;
    }
    Ok(Firmware::Uefi { code: code.to_owned(), variables })
}

/// Runs a program of the host that makes something.
fn made_by(command: &mut Command, package: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("expected the program {name}, found none; install {package}")
        }
        other => other.with_context(|| format!("starting {name}"))?,
    };
    ensure!(output.status.success(), "{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_run() {
        let new = |what, root: Option<&str>| Subject::new(what, root.map(Path::new));
        assert_eq!(new(Some("a.raw"), None).unwrap(), Subject::Image("a.raw".into()));
        assert_eq!(new(Some("@today"), None).unwrap(), Subject::Snapshot("today".into()));
        assert_eq!(new(None, Some("/mnt")).unwrap(), Subject::Tree("/mnt".into()));
        for (what, root) in [(None, None), (Some("a"), Some("/b")), (Some("@"), None), (Some("@a/../b"), None)] {
            assert!(new(what, root).is_err(), "{what:?} {root:?}");
        }
    }

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let vdi = [&[b'<'; 64][..], &[0x7f, 0x10, 0xda, 0xbe]].concat();
        let images: [(&[u8], &str); 6] = [
            (b"QFI\xfb123", "qcow2"),
            (b"KDMV", "vmdk"),
            (b"vhdxfile", "vhdx"),
            (&vdi, "vdi"),
            (b"\xeb\x63", "raw"),
            (b"", "raw"),
        ];
        for (bytes, expected) in images {
            fs::write(&path, bytes).unwrap();
            assert_eq!(format(&path).unwrap(), expected);
        }
        fs::write(&path, [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
        assert!(format(&path).unwrap_err().to_string().contains("zstd -d"));
        let options = |uefi| Options { uefi, ..Options::default() };
        fs::write(&path, b"\xeb\x63").unwrap();
        assert!(matches!(firmware(&path, &options(None), dir.path()).unwrap(), Firmware::Bios));
        fs::write(&path, [0; 512]).unwrap();
        assert!(matches!(firmware(&path, &options(Some(false)), dir.path()).unwrap(), Firmware::Bios));
    }

    #[test]
    fn commands_can_be_pasted() {
        let words = ["qemu", "root=/dev/vda a=b", "it's", "a,b=c", ""];
        assert_eq!(shell(words.into_iter()), r"qemu 'root=/dev/vda a=b' 'it'\''s' a,b=c ''");
    }
}
