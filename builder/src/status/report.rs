//! What `taproot status` tells, made of what was found out.

use super::facts::{Content, Image};
use super::{Survey, Verdict};
use crate::hooks::files::is_fallback;
use serde::Serialize;
use std::path::PathBuf;
use taproot_init::cmdline::{Request, Selector};
use taproot_init::plan::names;

/// What an image is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is what would be packed now.
    Ok,
    /// Something has changed since.
    Stale,
    /// An older version packed it, which did not note what it was made of.
    Unknown,
    /// It is kept beside a newer one.
    Fallback,
    /// Another tool made it.
    Other,
    /// Its kernel is not installed.
    Orphan,
    /// It is no image.
    Damaged,
    /// It cannot be read.
    Unreadable,
    /// There is none.
    Missing,
}

impl State {
    /// As the table shows it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
            Self::Fallback => "fallback",
            Self::Other => "other",
            Self::Orphan => "orphan",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
            Self::Missing => "missing",
        }
    }

    fn is_trouble(self) -> bool {
        matches!(self, Self::Stale | Self::Damaged | Self::Missing)
    }
}

/// One image of a kernel, or that it has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Kernel release.
    pub kernel: String,
    /// Whether it runs now.
    pub running: bool,
    /// Whether this boots next; `null` if that is not known.
    pub next: Option<bool>,
    /// The image.
    pub image: Option<PathBuf>,
    /// Its size.
    pub bytes: u64,
    /// When it was written, in seconds since 1970.
    pub made: u64,
    /// What it is worth.
    pub state: State,
    /// Why.
    pub why: Vec<String>,
}

/// The next boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NextBootText {
    /// The boot loader, where it is known.
    pub loader: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// The image, as the boot loader names it.
    pub image: Option<String>,
    /// The kernel command line.
    pub cmdline: String,
    /// The root.
    pub root: Option<String>,
    /// What names the root: `command line`, `image`, `bootfs`, and how.
    pub root_from: String,
    /// Why this boots next, in order.
    pub because: Vec<String>,
    /// Why it is not known what does: then kernel and words are those of the present boot.
    pub unknown: Option<String>,
    /// What `taproot explain` says of it.
    pub verdict: Option<Verdict>,
}

/// What `taproot status` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Of this object; grows when what is there changes its meaning.
    pub format: u32,
    /// Kernels and images.
    pub images: Vec<Row>,
    /// The next boot.
    pub next: NextBootText,
    /// What could not be looked at, and why.
    pub unknown: Vec<String>,
}

impl Status {
    /// From what was found out.
    pub fn of(survey: &Survey) -> Self {
        Self { format: 1, images: rows(survey), next: next(survey), unknown: survey.unknown.clone() }
    }

    /// Whether each kernel has the image that would be packed now. Where no kernel was found nothing is fine.
    pub fn is_fine(&self) -> bool {
        let of_kernel = self.images.iter().any(|row| row.state != State::Orphan);
        of_kernel && !self.images.iter().any(|row| row.state.is_trouble())
    }
}

fn rows(survey: &Survey) -> Vec<Row> {
    let target = survey.target();
    let known = survey.next.entry.is_some();
    let row = |kernel: &str, image: Option<&Image>| {
        let (state, why) = image.map_or((State::Missing, Vec::new()), |image| state(survey, image));
        Row {
            running: kernel == survey.system.running,
            next: known
                .then(|| image.is_some() && target.image.map(|image| &image.path) == image.map(|image| &image.path)),
            kernel: kernel.to_owned(),
            image: image.map(|image| image.path.clone()),
            bytes: image.map_or(0, |image| image.bytes),
            made: image.map_or(0, |image| image.made),
            state,
            why,
        }
    };
    let mut rows = Vec::new();
    for kernel in survey.kernels.iter().rev() {
        let own: Vec<&Image> = survey.images.iter().filter(|image| image.kernel() == Some(&kernel.release)).collect();
        if own.is_empty() {
            rows.push(row(&kernel.release, None));
        }
        rows.extend(own.into_iter().map(|image| row(&kernel.release, Some(image))));
    }
    let installed = |image: &&Image| survey.kernels.iter().any(|kernel| image.kernel() == Some(&kernel.release));
    for image in survey.images.iter().filter(|image| !installed(image)) {
        // Those of other tools are theirs to look after.
        if !matches!(image.content, Content::Other(None)) || target.image == Some(image) {
            rows.push(row(image.kernel().unwrap_or("not known"), Some(image)));
        }
    }
    rows
}

fn state(survey: &Survey, image: &Image) -> (State, Vec<String>) {
    let inside = match &image.content {
        Content::Taproot(inside) => inside,
        Content::Other(None) => return (State::Other, vec!["made by another tool".to_owned()]),
        Content::Other(Some(inside)) => {
            return (State::Other, vec![format!("made by {}, with taproot-init in it", inside.packer)]);
        }
        Content::Damaged(why) => return (State::Damaged, vec![why.clone()]),
        Content::Unreadable(why) => return (State::Unreadable, vec![why.clone()]),
    };
    if !survey.kernels.iter().any(|kernel| kernel.release == inside.kernel) {
        return (State::Orphan, vec![format!("kernel {} is not installed", inside.kernel)]);
    }
    let why: Vec<String> = survey.changes(inside).into_iter().map(|change| change.text).collect();
    match () {
        () if is_fallback(&image.path) => (State::Fallback, Vec::new()),
        () if !why.is_empty() => (State::Stale, why),
        () if !inside.recorded => (
            State::Unknown,
            vec![format!("packed by an older version ({}), which did not note what it was made of", inside.packer)],
        ),
        () => (State::Ok, Vec::new()),
    }
}

fn next(survey: &Survey) -> NextBootText {
    let target = survey.target();
    let request = survey.request();
    let root = survey.verdict.as_ref().and_then(|verdict| verdict.root.clone());
    let named = match &request.root.value {
        Selector::Dataset { dataset: name, .. } | Selector::Device(name) => Some(name.clone()),
        _ => None,
    };
    let root = root.or(named);
    let entry = survey.next.entry.as_ref();
    let image = entry.and_then(|entry| entry.images.last()).map(|named| named.name.clone());
    NextBootText {
        loader: survey.next.loader.clone(),
        kernel: target.kernel.clone(),
        image: target.image.map(|image| image.path.display().to_string()).or(image),
        cmdline: target.words.clone(),
        root_from: root_from(survey, &request, root.as_deref()),
        root,
        because: survey.next.because.clone(),
        unknown: survey.next.unknown.clone(),
        verdict: survey.verdict.clone(),
    }
}

/// What names the root.
fn root_from(survey: &Survey, request: &Request, root: Option<&str>) -> String {
    let word = &request.root.why;
    let inside = survey.target().image.and_then(Image::inside);
    let packed = inside
        .is_some_and(|inside| inside.cmdline.contains(word.as_str()) && !survey.target().words.contains(word.as_str()));
    let by = match (request.root.is_default(), packed) {
        (true, _) => "no word names one".to_owned(),
        (false, true) => format!("image: {word}"),
        (false, false) => format!("command line: {word}"),
    };
    match &request.root.value {
        Selector::Device(_) if request.root.is_default() => "image: it was packed for it".to_owned(),
        Selector::Dataset { .. } | Selector::Device(_) | Selector::Medium => by,
        Selector::Auto | Selector::Pool(_) => {
            let pool = root.map(|root| format!(" of pool {}", names::pool_of(root))).unwrap_or_default();
            format!("bootfs{pool}; {by}")
        }
        Selector::Unusable(why) => format!("{by}: {why}"),
    }
}
