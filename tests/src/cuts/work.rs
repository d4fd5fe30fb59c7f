//! The companion's part on the simulated disk: an image is a text with a line for each file. What is left out of images, how deletions
//! are marked and how an overlay copies up is as it is on Linux.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use taproot_init::layers::request::Mounted;
use taproot_init::layers::run::{Job, Work};
use taproot_init::layers::state::{Digest, Discard, Trouble};
use taproot_init::layers::steps::{Keep, Step};
use taproot_init::layers::{Files, Layer, Places, State, Store, request};

use super::disk::Disk;
use crate::sim::prng::Prng;

/// Files of a layer by their names: what is in them, or `None` where one is marked as deleted.
pub(super) type Content = BTreeMap<String, Option<String>>;

/// Files that belong to the machine and go into no image.
pub(super) const MACHINE: [&str; 2] = ["machine-id", "host-key"];
/// What marks a deleted file in a directory.
const WHITEOUT: &str = "\0";

/// What is in a layer's directory.
pub(super) fn directory(disk: &Disk, path: &Path) -> io::Result<Content> {
    let mut content = Content::new();
    for name in disk.list(path)? {
        let text = String::from_utf8_lossy(&disk.read(&path.join(&name), usize::MAX)?).into_owned();
        content.insert(name, (text != WHITEOUT).then_some(text));
    }
    Ok(content)
}

/// What is in an image.
pub(super) fn image(bytes: &[u8]) -> Option<Content> {
    let text = str::from_utf8(bytes).ok()?.strip_suffix("end\n")?;
    text.lines()
        .map(|line| {
            let (name, content) = line.split_once('=').map_or((line, None), |(name, content)| (name, Some(content)));
            Some((name.to_owned(), content.map(str::to_owned)))
        })
        .collect()
}

/// An image of these files.
pub(super) fn packed(content: &Content) -> Vec<u8> {
    let line = |(name, content): (&String, &Option<String>)| match content {
        Some(content) => format!("{name}={content}\n"),
        None => format!("{name}\n"),
    };
    let mut text: String = content.iter().map(line).collect();
    text.push_str("end\n");
    text.into_bytes()
}

/// Of a file or layer.
pub(super) fn digest(bytes: &[u8]) -> Digest {
    Digest { size: bytes.len() as u64, sha256: Sha256::digest(bytes).into() }
}

/// What is in a layer.
pub(super) fn layer(disk: &Disk, places: &Places, layer: &Layer) -> io::Result<Content> {
    let path = places.layer(layer, disk);
    match layer {
        Layer::Frozen(_) => directory(disk, &path),
        Layer::Image(_) => image(&disk.read(&path, usize::MAX)?).ok_or_else(|| io::Error::other("no image")),
    }
}

/// The layers as one, the topmost first.
pub(super) fn folded(layers: impl IntoIterator<Item = Content>) -> Content {
    let mut all = Content::new();
    for content in layers {
        for (name, content) in content {
            all.entry(name).or_insert(content);
        }
    }
    all
}

/// Writes files into a directory that nobody else looks at, durably.
pub(super) fn fill(disk: &Disk, path: &Path, content: &Content) -> io::Result<()> {
    for (name, content) in content {
        let file = path.join(name);
        disk.write(&file, content.as_deref().unwrap_or(WHITEOUT).as_bytes())?;
        disk.sync(&file)?;
    }
    disk.sync(path)
}

fn emptied(disk: &Disk, path: &Path) -> io::Result<()> {
    disk.list(path)?.iter().try_for_each(|name| disk.remove(&path.join(name)))
}

/// The companion.
#[derive(Debug)]
pub(super) struct Companion<'a> {
    /// Its disk.
    pub(super) disk: &'a Disk,
    /// Where things lie on it.
    pub(super) places: &'a Places,
    /// What it runs on.
    pub(super) mounted: &'a Mounted,
    /// The upper in RAM, if it is there.
    pub(super) ram: &'a Content,
    /// For what goes wrong.
    pub(super) prng: &'a mut Prng,
    /// Whether anything does.
    pub(super) calm: bool,
    /// Which step is done.
    pub(super) stage: &'a mut &'static str,
    /// An upper in RAM was copied.
    pub(super) copied: bool,
    /// The machine's files in an upper for a rollback.
    pub(super) prepared: Option<(u32, Content)>,
    /// Images that were removed.
    pub(super) removed: Vec<String>,
}

impl Companion<'_> {
    /// What the running system shows.
    pub(super) fn view(&self) -> io::Result<Content> {
        view(self.disk, self.places, self.mounted, self.ram)
    }

    fn fails(&mut self, percent: u64) -> bool {
        !self.calm && self.prng.chance(percent)
    }

    /// Somebody asks for something while a step takes its time.
    fn meddle(&mut self) {
        if !self.fails(10) {
            return;
        }
        let store = Store::new(self.disk, self.places);
        let which = self.prng.below(3);
        let mounted = self.mounted;
        let _ = store.update(|state: &State| match which {
            0 => state.pending().next().and_then(|operation| request::withdraw(state, operation.name()).ok()),
            1 => request::commit(state, mounted, "meanwhile.sqsh", 0).ok(),
            _ => request::confirm(state, mounted),
        });
    }

    fn of_job(&self, job: &Job) -> io::Result<Content> {
        let mut sources = Vec::new();
        for path in &job.sources {
            let is_image = self.disk.size(path)?.is_some();
            let content = if is_image {
                image(&self.disk.read(path, usize::MAX)?).ok_or_else(|| io::Error::other("no image"))?
            } else {
                // What marks one of the machine's files as deleted is no file of the machine's.
                let mut content = directory(self.disk, path)?;
                content.retain(|name, content| content.is_none() || !MACHINE.contains(&name.as_str()));
                content
            };
            sources.push(content);
        }
        let mut all = folded(sources);
        all.retain(|_, content| content.is_some() || !job.bottom);
        Ok(all)
    }
}

/// What a system shows that runs on these layers: names of files that are there.
pub(super) fn view(disk: &Disk, places: &Places, mounted: &Mounted, ram: &Content) -> io::Result<Content> {
    let upper = directory(disk, &places.upper(mounted.stack.upper).join("upper"))?;
    let mut layers = vec![ram.clone(), upper];
    for of in &mounted.stack.layers {
        layers.push(layer(disk, places, of)?);
    }
    let mut all = folded(layers);
    all.retain(|_, content| content.is_some());
    Ok(all)
}

impl Work for Companion<'_> {
    type Lock = ();

    fn lock(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn build(&mut self, job: &Job) -> Result<(), Trouble> {
        assert!(!matches!(self.disk.size(&job.to), Ok(Some(_))), "an image is built over another");
        let bytes = packed(&self.of_job(job).map_err(Trouble::new)?);
        self.disk.write(&job.to, &bytes[..bytes.len() / 2]).map_err(Trouble::new)?;
        self.meddle();
        if self.fails(8) {
            return Err(Trouble::space("no room"));
        }
        if self.fails(4) {
            return Err(Trouble::new("mksquashfs ended with status 1\n"));
        }
        self.disk.write(&job.to, &bytes).map_err(Trouble::new)
    }

    fn verify(&mut self, job: &Job) -> Result<Digest, Trouble> {
        self.meddle();
        let bytes = self.disk.read(&job.to, usize::MAX).map_err(Trouble::new)?;
        if image(&bytes).as_ref() != self.of_job(job).ok().as_ref() {
            return Err(Trouble::new("expected what it was made of, found something else"));
        }
        Ok(digest(&bytes))
    }

    fn digest(&mut self, path: &Path) -> io::Result<Digest> {
        self.disk.read(path, usize::MAX).map(|bytes| digest(&bytes))
    }

    fn copy(&mut self, into: &Path) -> Result<(), Trouble> {
        emptied(self.disk, into).and_then(|()| fill(self.disk, into, self.ram)).map_err(Trouble::new)?;
        self.copied = true;
        Ok(())
    }

    fn keep(&mut self, keep: &Keep, places: &Places) -> Result<(), Trouble> {
        self.meddle();
        let upper = places.upper(keep.upper);
        let there = directory(self.disk, &upper.join("upper")).map_err(Trouble::new)?;
        let kept = if keep.live {
            self.view()
        } else {
            keep.sources.iter().map(|of| layer(self.disk, places, of)).collect::<Result<Vec<_>, _>>().map(folded)
        };
        let covering =
            MACHINE.iter().filter(|name| there.contains_key(**name)).map(|name| upper.join("upper").join(name));
        let synced = covering.chain([upper.join("upper")]).try_for_each(|path| self.disk.sync(&path));
        synced.map_err(Trouble::new)?;
        for (name, content) in kept.map_err(Trouble::new)? {
            let Some(content) = content.filter(|_| MACHINE.contains(&name.as_str()) && !there.contains_key(&name))
            else {
                continue;
            };
            let put = || {
                let (part, file) = (upper.join("work").join(&name), upper.join("upper").join(&name));
                self.disk.write(&part, content.as_bytes())?;
                self.disk.sync(&part)?;
                self.disk.rename(&part, &file)?;
                self.disk.sync(&upper.join("upper"))
            };
            put().map_err(Trouble::new)?;
        }
        Ok(())
    }

    fn prepare(&mut self, upper: &Path) -> Result<(), Trouble> {
        let mut content = self.view().map_err(Trouble::new)?;
        content.retain(|name, _| MACHINE.contains(&name.as_str()));
        emptied(self.disk, upper).and_then(|()| fill(self.disk, upper, &content)).map_err(Trouble::new)?;
        let number = upper.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse().ok());
        self.prepared = number.map(|number| (number, content));
        Ok(())
    }

    fn remove_tree(&mut self, path: &Path) -> io::Result<()> {
        self.disk.remove_tree(path)
    }

    fn tell(&mut self, step: &Step) {
        if let Step::Remove(discards) = step {
            self.removed.extend(discards.iter().filter_map(|discard| match discard {
                Discard::File(file, _) => Some(file.clone()),
                Discard::Upper(_) => None,
            }));
        }
        *self.stage = match step {
            Step::Remove(_) => "remove",
            Step::Copy { .. } => "copy",
            Step::Prepare { .. } => "prepare",
            Step::Begin { .. } => "begin",
            Step::Build { .. } => "build",
            Step::Publish { .. } => "publish",
            Step::Wait(_) => "wait",
        };
    }
}
