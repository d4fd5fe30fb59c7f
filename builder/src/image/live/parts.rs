//! The parts of a medium in a directory, for one that somebody else makes: what vmdebootstrap and vmpacstrap leave with `--squash`, to be
//! copied into the medium's directory `live`.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::medium::{DIRECTORY, Medium};
use crate::image::work::Work;
use crate::output::{Cleanup, directory};

/// The kernel command line, by which the files are found.
const WORDS: &str = "cmdline";

/// Refuses to write into what is no empty directory.
pub(super) fn check(output: &Path) -> Result<()> {
    let shown = output.display();
    directory(output).canonicalize().with_context(|| format!("{shown}: its directory"))?;
    let empty = match fs::read_dir(output) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    ensure!(
        empty,
        "--squash {shown}: expected an empty directory, or the name of a new one, found something else there"
    );
    Ok(())
}

/// Writes it; it gets its name when it is whole.
pub(super) fn write(medium: &Medium, output: &Path) -> Result<()> {
    let failed = || format!("{}: writing", output.display());
    let mut name = OsString::from(".");
    name.push(output.file_name().with_context(|| format!("{}: expected a name", output.display()))?);
    name.push(".taproot-parts");
    let work = Work::at(directory(output).join(name), &Cleanup::default())?;
    let dir = work.file("parts");
    // The tree's secrets are in it.
    DirBuilder::new().mode(0o700).create(&dir).with_context(failed)?;
    for (path, content) in &medium.files {
        if let Some(name) = called(path, medium) {
            fs::write(dir.join(name), content).with_context(failed)?;
        }
    }
    fs::write(dir.join(WORDS), format!("{}\n", medium.entry.options)).with_context(failed)?;
    for (path, from) in &medium.copies {
        if let Some(name) = called(path, medium) {
            // A second name is there at once; elsewhere it has to be a copy.
            let to = dir.join(name);
            fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop)).with_context(failed)?;
        }
    }
    for entry in fs::read_dir(&dir).with_context(failed)? {
        entry.and_then(|entry| File::open(entry.path())?.sync_all()).with_context(failed)?;
    }
    let sync = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all());
    sync(&dir).and_then(|()| fs::rename(&dir, output)).and_then(|()| sync(directory(output))).with_context(failed)
}

/// What a file is called there; kernel and initramfs as `/boot` has them.
fn called(path: &str, medium: &Medium) -> Option<String> {
    let name = path.strip_prefix(DIRECTORY)?.strip_prefix('/')?;
    let release = &medium.entry.release;
    Some(match name {
        "linux" => format!("vmlinuz-{release}"),
        "initrd" => format!("initrd.img-{release}"),
        name => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_directory_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path()).unwrap();
        check(&dir.path().join("new")).unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        for there in [dir.path(), &dir.path().join("file")] {
            assert!(format!("{:#}", check(there).unwrap_err()).contains("expected an empty directory"));
        }
    }
}
