//! Images that follow the installed kernels: made when a kernel comes, removed when it goes (`builder/hooks/` calls this).
//!
//! The image that a new one takes the place of stays as a fallback until the new one has booted once. Each image has an id, which
//! the boot notes in `/run/taproot/boot.json`; so whoever makes the next image knows which of the two has booted. Nothing has to run
//! in between (`docs/decisions/0016-kernel-hooks.md`).

pub(crate) mod behind;
pub mod files;
mod loader;
pub mod takeover;

use crate::cli::InitramfsArgs;
use crate::initramfs::tree::{self, Tree};
use crate::initramfs::{Summary, build, host, reach};
use crate::inspect;
use crate::output::{Cleanup, Target};
use crate::progress::{Progress, megabytes};
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use files::BootFiles;
use serde::Deserialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use taproot_init::image::ImageConfig;
use taproot_init::report::boot::REPORT_PATH;

/// Programs of Debian's packages that are told of a new image: boot loaders that keep a copy of it.
const TOLD: &str = "/etc/initramfs/post-update.d";
/// Names what makes the images for kernel-install.
const INSTALL_CONF: &str = "/etc/kernel/install.conf";

/// Where kernel-install wants an image.
#[derive(Debug, Clone)]
pub struct Staged {
    /// Directory in which it is left.
    pub staging: PathBuf,
    /// Directory of the kernel's boot entry, which the image is copied to later.
    pub entry: PathBuf,
}

/// What the boot says of itself.
#[derive(Debug, Deserialize)]
struct Booted {
    image: Option<String>,
}

/// The id of the image that is running, if `taproot` packed it.
pub fn running(tree: &Tree) -> Option<String> {
    let report = tree.read(REPORT_PATH, tree::TEXT).ok()?;
    serde_json::from_slice::<Booted>(&report).ok()?.image.filter(|id| !id.is_empty())
}

/// The id of an image: `None` if there is no file, empty if another program made it.
pub fn id(image: &Path) -> Result<Option<String>> {
    let bytes = match tree::named(image, inspect::LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absence() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let config = inspect::config(&bytes).ok().flatten();
    Ok(Some(config.map(|text| ImageConfig::parse(&text).id).unwrap_or_default()))
}

/// Whether the image in place becomes the fallback when a new one comes. One that is running has proved itself; of others, which
/// may never have booted, only the first stays.
pub(crate) fn becomes_fallback(current: &str, new: &str, running: Option<&str>, fallback: bool) -> bool {
    current != new && (!fallback || running.is_some_and(|running| running == current))
}

/// Paths of this machine.
#[derive(Debug)]
struct Place {
    /// What is written.
    output: PathBuf,
    /// The image that is in place now.
    current: PathBuf,
    fallback: PathBuf,
    /// A kernel that is changed together with it, and its fallback.
    kernel: Option<(PathBuf, PathBuf)>,
}

impl Place {
    fn of(tree: &Tree, files: &BootFiles, staged: Option<&Staged>) -> Result<Self> {
        if let Some(staged) = staged {
            let (current, fallback) = (staged.entry.join("initrd"), staged.entry.join("initrd.old"));
            return Ok(Self { output: staged.staging.join("initrd"), current, fallback, kernel: None });
        }
        let kernel = match &files.copied {
            Some(copied) => Some((tree.place(&files.kernel)?, tree.place(&copied.fallback)?)),
            None => None,
        };
        Ok(Self {
            output: tree.place(&files.image)?,
            current: tree.place(&files.image)?,
            fallback: tree.place(&files.fallback)?,
            kernel,
        })
    }

    /// Removes a fallback whose successor is running: it is not needed any more, and its room may be.
    fn settle(&self, running: Option<&str>) -> Result<()> {
        if self.fallback.exists() && running.is_some() && id(&self.current)?.as_deref() == running {
            remove_file(&self.fallback)?;
            if let Some((_, fallback)) = &self.kernel {
                remove_file(fallback)?;
            }
        }
        Ok(())
    }

    /// Keeps what is in place before an image of the id `new` is put there.
    fn keep(&self, new: &str, running: Option<&str>, cleanup: &Cleanup) -> Result<()> {
        let Some(current) = id(&self.current)? else { return Ok(()) };
        if becomes_fallback(&current, new, running, self.fallback.exists()) {
            link(&self.current, &self.fallback, cleanup)?;
            if let Some((kernel, fallback)) = self.kernel.as_ref().filter(|(kernel, _)| kernel.exists()) {
                link(kernel, fallback, cleanup)?;
            }
        }
        Ok(())
    }
}

/// Gives a file a second name, or makes a copy where the file system has no links. The file itself stays where it is.
fn link(from: &Path, to: &Path, cleanup: &Cleanup) -> Result<()> {
    let mut new = to.as_os_str().to_owned();
    new.push(".taproot-new");
    let new = PathBuf::from(new);
    remove_file(&new)?;
    if fs::hard_link(from, &new).is_err() {
        let bytes = tree::named(from, tree::BINARY)?;
        let target = Target::File(to.to_owned());
        target.has_room(bytes.len() as u64)?;
        return target.write(&bytes, cleanup);
    }
    fs::rename(&new, to).with_context(|| format!("{}: keeping {}", to.display(), from.display()))?;
    // Two names of one file are left alone by rename(2).
    remove_file(&new)
}

/// Removes a file; that it is not there is no error.
fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: removing", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes a kernel's image and puts it in place. If that fails, everything stays as it was, and the error says so. Nothing is made, and
/// that is no error, where no boot loader would read it: a package manager could only be left with half a kernel.
pub fn add(tree: &Tree, version: &str, staged: Option<&Staged>, cleanup: &Cleanup) -> Result<Option<Summary>> {
    let files = BootFiles::of(tree, version)?;
    // Of what is only staged the directory of the entry counts, which has the kernel too.
    let image = reach::unread(tree, staged.map_or(&files.image, |staged| &staged.entry))?;
    let kernel = if staged.is_some() { None } else { reach::unread(tree, &files.kernel)? };
    let nowhere = image.is_some() && staged.is_none();
    if let Some(unread) = image.or(kernel) {
        let again = format!("taproot hooks add {version}");
        eprintln!("taproot: KERNEL {version} DOES NOT REACH THE BOOT LOADER: {}", unread.say(&again));
    }
    if nowhere {
        return Ok(None);
    }
    let place = Place::of(tree, &files, staged)?;
    let made = make(tree, &files, &place, cleanup);
    let summary = made.with_context(|| {
        let current = place.current.display();
        if place.current.exists() {
            format!("kernel {version}: NO NEW IMAGE WAS MADE; {current} stays as it was")
        } else {
            // Of a package that is being configured dpkg has to know too that all is well then.
            let again = match std::env::var_os("DEB_MAINT_PARAMS") {
                Some(_) => "dpkg --configure -a".to_owned(),
                None => format!("taproot hooks add {version}"),
            };
            format!(
                "kernel {version} HAS NO IMAGE AND CANNOT BOOT; kernels that have one boot as before. Put right what follows, \
                 then: {again}"
            )
        }
    })?;
    if staged.is_none() {
        loader::add(tree, &files, cleanup)?;
        tell(tree, &files)?;
    }
    Ok(Some(summary))
}

fn make(tree: &Tree, files: &BootFiles, place: &Place, cleanup: &Cleanup) -> Result<Summary> {
    let running = running(tree);
    place.settle(running.as_deref())?;
    for other in BootFiles::installed(tree)?.iter().filter(|other| other.image != files.image) {
        Place::of(tree, other, None)?.settle(running.as_deref())?;
    }
    let kernel = match (&files.copied, &place.kernel) {
        (Some(copied), Some((to, _))) => Some((Target::find(to)?, tree.read(&copied.from, tree::BINARY)?)),
        _ => None,
    };
    let args = InitramfsArgs {
        root: Some(tree.shown("/")),
        kernel: Some(files.version.clone()),
        output: Some(place.output.clone()),
        ..InitramfsArgs::default()
    };
    let settings = Settings::new(&args)?;
    let summary = build(&settings, &Progress::Quiet, cleanup, |id| {
        if let Some((target, bytes)) = &kernel {
            target.has_room(bytes.len() as u64)?;
        }
        place.keep(id, running.as_deref(), cleanup)
    })?;
    if let Some((target, bytes)) = &kernel {
        target.write(bytes, cleanup)?;
    }
    Ok(summary)
}

/// Tells those who keep a copy of the image.
fn tell(tree: &Tree, files: &BootFiles) -> Result<()> {
    if !tree.is_running() || !Path::new(TOLD).is_dir() {
        return Ok(());
    }
    let arg = |text: String| format!("--arg={text}");
    let image = files.image.display().to_string();
    run("run-parts", &["--report", &arg(files.version.clone()), &arg(image), TOLD])
}

/// Runs a program whose output is the user's.
fn run(program: &str, args: &[&str]) -> Result<()> {
    let shown = format!("{program} {}", args.join(" "));
    let status = Command::new(program).args(args).status().with_context(|| format!("starting {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Why no boot loader would read the newest kernel's image, and what to do before this command.
fn unread(tree: &Tree, again: &str) -> Result<Option<String>> {
    let Some(newest) = BootFiles::installed(tree)?.pop() else { return Ok(None) };
    Ok(reach::unread(tree, &newest.image)?.map(|unread| unread.say(again)))
}

/// Makes the images of installed kernels anew: of those that have one, or of `all`. That of the newest kernel and of the running one
/// must succeed; of another, whose modules may have gone with an upgrade of zfs, the old image is as good as before.
pub fn update(tree: &Tree, all: bool, cleanup: &Cleanup) -> Result<Vec<Summary>> {
    if let Some(why) = unread(tree, "taproot hooks update")? {
        eprintln!("taproot: NO IMAGE WAS MADE: {why}");
        return Ok(Vec::new());
    }
    let by_kernel_install = generator(tree).as_deref() == Some("taproot");
    let mut kernels = Vec::new();
    for files in BootFiles::installed(tree)? {
        if all || by_kernel_install || tree.file(&files.image).is_some() || loader::has(tree, &files.version)? {
            kernels.push(files);
        }
    }
    let Some(newest) = kernels.last().map(|files| files.version.clone()) else {
        bail!("{tree} has no kernel with an image: expected /boot/vmlinuz-RELEASE and its modules");
    };
    let running = tree.is_running().then(host::kernel).and_then(Result::ok);
    let (mut made, mut failed) = (Vec::new(), None);
    for files in kernels {
        let result = if by_kernel_install {
            let kernel = files.copied.as_ref().map_or(&files.kernel, |copied| &copied.from);
            run("kernel-install", &["add", &files.version, &kernel.to_string_lossy()]).map(|()| None)
        } else {
            add(tree, &files.version, None, cleanup)
        };
        match result {
            Ok(summary) => made.extend(summary),
            Err(error) if files.version == newest || running.as_ref() == Some(&files.version) => {
                if let Some(other) = failed.replace(error) {
                    eprintln!("taproot: {other:#}");
                }
            }
            Err(error) => eprintln!("note: {error:#}"),
        }
    }
    failed.map_or(Ok(made), Err)
}

/// Removes what a kernel that goes had; returns what was there.
pub fn remove(tree: &Tree, version: &str, cleanup: &Cleanup) -> Result<Vec<PathBuf>> {
    let files = BootFiles::of(tree, version)?;
    let others = BootFiles::installed(tree)?;
    if let Some(other) = others.iter().find(|other| other.version != version && other.image == files.image) {
        eprintln!("note: {} stays: it is kernel {}'s now", tree.shown(&files.image).display(), other.version);
        return Ok(Vec::new());
    }
    if reach::unread(tree, &files.image)?.is_some() {
        eprintln!(
            "taproot: what the boot loader has of kernel {version} stays: it reads another place than {}, and would boot that kernel \
             without its modules",
            files.image.parent().unwrap_or(&files.image).display()
        );
    }
    loader::remove(tree, version, cleanup);
    let mut paths = vec![files.image, files.fallback];
    if let Some(copied) = files.copied {
        paths.extend([files.kernel, copied.fallback]);
    }
    let mut removed = Vec::new();
    for path in paths {
        let path = tree.place(path)?;
        if path.exists() {
            remove_file(&path)?;
            removed.push(path);
        }
    }
    Ok(removed)
}

/// What kernel-install is told to make images with.
fn generator(tree: &Tree) -> Option<String> {
    let text = tree.read(INSTALL_CONF, tree::TEXT).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines()
        .filter_map(|line| line.strip_prefix("initrd_generator="))
        .next_back()
        .map(|name| name.trim().to_owned())
}

/// One line of what was made.
pub fn said(summary: &Summary) -> String {
    format!(
        "taproot: {}: {}, {} modules of kernel {}, OpenZFS {}\n",
        summary.output.display(),
        megabytes(summary.bytes),
        summary.modules,
        summary.kernel,
        summary.zfs.as_deref().unwrap_or("not packed as a module"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_is_the_last_image_that_booted_or_else_the_first() {
        for (current, running, fallback, kept) in [
            ("a", None, false, true),      // nothing is known of it, but there is no other
            ("", None, false, true),       // another program's
            ("a", None, true, false),      // it may never have booted
            ("", Some("b"), true, false),  // the older kernel is running
            ("a", Some("a"), true, true),  // it is running
            ("a", Some("a"), false, true), // likewise
            ("new", Some("new"), false, false),
            ("new", None, false, false),
        ] {
            let found = becomes_fallback(current, "new", running, fallback);
            assert_eq!(found, kept, "{current:?} {running:?} {fallback}");
        }
    }

    #[test]
    fn a_second_name_is_a_copy_or_a_link_and_the_first_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("a.old"));
        fs::write(&from, "1").unwrap();
        fs::write(&to, "0").unwrap();
        for _ in 0..2 {
            link(&from, &to, &Cleanup::default()).unwrap();
            assert_eq!((fs::read(&from).unwrap(), fs::read(&to).unwrap()), (b"1".to_vec(), b"1".to_vec()));
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        }
    }
}
