//! Where the tree comes from, as a configuration says it.

use super::{Config, Row};
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;

/// Where the tree comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An archive.
    Tar(PathBuf),
    /// A directory.
    Directory(PathBuf),
    /// A container image, its tag, and a platform.
    Oci(PathBuf, Option<String>, Option<String>),
    /// Debian, made anew.
    Mmdebstrap(Mmdebstrap),
    /// Arch Linux, made anew.
    Pacstrap(Pacstrap),
    /// This machine: further mount points, and what is left out.
    Running(Vec<PathBuf>, Vec<String>),
    /// Layers, the topmost first.
    Layers(Vec<PathBuf>),
}

/// What mmdebstrap is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mmdebstrap {
    /// Suite of Debian.
    pub suite: String,
    /// Where packages come from.
    pub mirror: Option<String>,
    /// Packages besides the variant's.
    pub include: Vec<String>,
    /// Parts of the archive.
    pub components: Vec<String>,
    /// Which packages it begins with.
    pub variant: String,
    /// `unshare` or `root`.
    pub mode: String,
    /// Processor.
    pub arch: Option<String>,
    /// Seconds.
    pub timeout: u64,
}

/// What pacstrap is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pacstrap {
    /// Packages and groups.
    pub packages: Vec<String>,
    /// Members of groups that are not installed.
    pub exclude: Vec<String>,
    /// Its `pacman.conf`.
    pub config: Option<PathBuf>,
    /// Where packages are kept: a directory, or `HOST:PATH`.
    pub cache: Option<String>,
    /// Keys that are trusted.
    pub trusted_keys: Vec<String>,
    /// Seconds.
    pub timeout: u64,
}

/// A state of the tree, of several that one pool keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Name of its snapshots.
    pub name: String,
    /// Packages that it adds.
    pub packages: Vec<String>,
    /// An archive that lies over the states before.
    pub tar: Option<PathBuf>,
    /// Tags that hold its snapshots.
    pub holds: Vec<String>,
    /// Whether every data set has its snapshot.
    pub everywhere: bool,
}

impl Config {
    /// All sources that were named, with their keys.
    fn sources(&self) -> Result<Vec<(&'static str, Source)>> {
        let row = self.row();
        let mut found: Vec<(&'static str, Source)> = Vec::new();
        let mut add = |key: &'static str, source: Option<Source>| found.extend(source.map(|source| (key, source)));
        add(
            "source.tar",
            row.text("source.tar").map(|text| {
                if text == "-" { Source::Tar("-".into()) } else { Source::Tar(row.from("source.tar", text)) }
            }),
        );
        add("source.directory", row.path("source.directory").map(Source::Directory));
        add("source.oci", row.text("source.oci").map(|text| oci(&row, text)));
        add("source.mmdebstrap.suite", mmdebstrap(&row)?.map(Source::Mmdebstrap));
        let installed = self.rows("state").any(|state| !state.list("packages").is_empty());
        add("source.pacstrap.packages", pacstrap(&row, installed)?.map(Source::Pacstrap));
        let also = row.list("source.running-also").iter().map(PathBuf::from).collect();
        let exclude = row.list("source.running-exclude").to_vec();
        add("source.running", row.flag("source.running").then_some(Source::Running(also, exclude)));
        let layers: Vec<PathBuf> =
            row.list("source.layers").iter().map(|text| row.from("source.layers", text)).collect();
        add("source.layers", (!layers.is_empty()).then_some(Source::Layers(layers)));
        Ok(found)
    }

    /// The one source that was named.
    pub fn source(&self) -> Result<Source> {
        let (row, mut found) = (self.row(), self.sources()?);
        if found.len() > 1 {
            let said: Vec<String> = found.iter().map(|(key, _)| row.at(key)).collect();
            bail!("expected one source, found {}", said.join(" and "));
        }
        found.pop().map(|(_, source)| source).context(
            "expected a source, found none: say source.tar, directory, oci, mmdebstrap.suite, pacstrap.packages, running or layers",
        )
    }

    /// The source, unless a hook takes its place.
    pub fn source_or_hook(&self) -> Result<Option<Source>> {
        let hooks = self.hooks();
        let replaced = ["source.replace", "install.replace"].iter().any(|name| hooks.has(name));
        match self.source() {
            Err(_) if replaced && self.sources()?.is_empty() => Ok(None),
            other => other.map(Some),
        }
    }

    /// The states, oldest first; one that nobody named if there are none.
    pub fn states(&self) -> Vec<State> {
        let state = |row: Row<'_>| State {
            name: row.text("name").unwrap_or_default().to_owned(),
            packages: row.list("packages").to_vec(),
            tar: row.path("tar"),
            holds: row.list("hold").to_vec(),
            everywhere: row.flag("everywhere"),
        };
        let states: Vec<State> = self.rows("state").map(state).collect();
        if states.is_empty() { vec![State::default()] } else { states }
    }
}

fn oci(row: &Row<'_>, text: &str) -> Source {
    let text = text.strip_prefix("oci:").or_else(|| text.strip_prefix("oci-archive:")).unwrap_or(text);
    let whole = row.from("source.oci", text);
    let platform = row.text("source.oci-platform").map(str::to_owned);
    match text.rsplit_once(':') {
        Some((path, tag)) if !whole.exists() => {
            Source::Oci(row.from("source.oci", path), Some(tag.to_owned()), platform)
        }
        _ => Source::Oci(whole, None, platform),
    }
}

fn mmdebstrap(row: &Row<'_>) -> Result<Option<Mmdebstrap>> {
    let Some(suite) = row.text("source.mmdebstrap.suite") else { return Ok(None) };
    let text = |key: &str| row.text(key).map(str::to_owned);
    Ok(Some(Mmdebstrap {
        suite: suite.to_owned(),
        mirror: text("source.mmdebstrap.mirror"),
        include: row.list("source.mmdebstrap.include").to_vec(),
        components: row.list("source.mmdebstrap.components").to_vec(),
        variant: text("source.mmdebstrap.variant").unwrap_or_default(),
        mode: text("source.mmdebstrap.mode").unwrap_or_default(),
        arch: text("source.arch"),
        timeout: row.number("source.mmdebstrap.timeout")?.unwrap_or(3600),
    }))
}

/// What pacstrap is asked for, by packages of its own or (`installed`) of states.
fn pacstrap(row: &Row<'_>, installed: bool) -> Result<Option<Pacstrap>> {
    let packages = row.list("source.pacstrap.packages").to_vec();
    if packages.is_empty() && !installed {
        return Ok(None);
    }
    Ok(Some(Pacstrap {
        packages,
        exclude: row.list("source.pacstrap.exclude").to_vec(),
        config: row.path("source.pacstrap.config"),
        cache: row.text("packages.cache").map(str::to_owned),
        trusted_keys: row.list("packages.trusted-keys").to_vec(),
        timeout: row.number("source.pacstrap.timeout")?.unwrap_or(3600),
    }))
}
