//! Container images (OCI image layout and layers, 1.1): the layers of one become one stream, without being unpacked.
//!
//! A layer takes away what layers below it have, so that all of them have to be known before the first file can be written: they are read
//! twice. The first time finds out what is left of which, the second time writes that.

mod store;
#[cfg(test)]
mod tests;

use super::feed::{Fed, feed};
use super::merge::Merged;
use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use std::path::Path;
use store::Store;

#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    fn shown(&self) -> String {
        let variant = self.variant.as_ref().map_or_else(String::new, |variant| format!("/{variant}"));
        format!("{}/{}{variant}", self.os, self.architecture)
    }

    /// Whether it is what was asked for, with or without its variant.
    fn is(&self, wanted: &str) -> bool {
        self.shown() == wanted || format!("{}/{}", self.os, self.architecture) == wanted
    }
}

#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// Name of an image in a layout.
const REFERENCE: &str = "org.opencontainers.image.ref.name";

/// What this machine is, as such images call it.
fn own() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    format!("linux/{arch}")
}

/// Begins to read an image: of a layout directory or an archive of such.
pub fn stream(path: &Path, tag: Option<&str>, platform: Option<&str>) -> Result<Fed> {
    let named = || format!("{}", path.display());
    let mut store = Store::open(path).with_context(named)?;
    let manifest = manifest(&mut store, tag, platform).with_context(named)?;
    ensure!(!manifest.layers.is_empty(), "{}: expected an image with layers, found none", named());
    for layer in &manifest.layers {
        ensure!(
            layer.media_type.contains("tar") && !layer.media_type.contains("encrypted"),
            "{}: expected layers that are archives, found {}",
            named(),
            layer.media_type
        );
    }
    let path = path.to_owned();
    Ok(feed(move |out| {
        let digests: Vec<String> = manifest.layers.into_iter().map(|layer| layer.digest).collect();
        let mut merged = Merged::default();
        for digest in &digests {
            let blob = store.verified(digest)?;
            let layer = super::packed::unpacked(blob.reader())?;
            merged.take(layer).with_context(|| format!("{}: layer {digest}", path.display()))?;
            blob.check()?;
        }
        merged.directories(out)?;
        for (number, digest) in digests.iter().enumerate() {
            let layer = super::packed::unpacked(store.plain(digest)?)?;
            merged.write(number, layer, out).with_context(|| format!("{}: layer {digest}", path.display()))?;
        }
        std::io::Write::write_all(out, &crate::tar::write::END)?;
        Ok(vec![format!("{} layers of {}", digests.len(), path.display())])
    }))
}

/// The manifest that was asked for; indexes may hold indexes.
fn manifest(store: &mut Store, tag: Option<&str>, platform: Option<&str>) -> Result<Manifest> {
    let mut index: Index = parse(&store.file("index.json")?)?;
    if let Some(tag) = tag {
        let names: Vec<String> =
            index.manifests.iter().filter_map(|one| one.annotations.get(REFERENCE).cloned()).collect();
        let is = |one: &Descriptor| {
            one.annotations.get(REFERENCE).is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}")))
        };
        index.manifests.retain(is);
        ensure!(!index.manifests.is_empty(), "expected an image {tag:?}, found {}", names.join(", "));
    }
    for _ in 0..4 {
        let chosen = choose(&index.manifests, platform)?;
        let bytes = store.small(&chosen.digest)?;
        if chosen.media_type.contains("index") || chosen.media_type.contains("manifest.list") {
            index = parse(&bytes)?;
        } else {
            return parse(&bytes);
        }
    }
    bail!("expected a manifest, found indexes of indexes")
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).context("expected JSON of a container image")
}

fn choose<'a>(all: &'a [Descriptor], platform: Option<&str>) -> Result<&'a Descriptor> {
    // Attestations of builders stand beside the images they are about.
    let images: Vec<&Descriptor> = all
        .iter()
        .filter(|one| one.platform.as_ref().is_none_or(|platform| platform.architecture != "unknown"))
        .collect();
    if let ([one], None) = (images.as_slice(), platform) {
        return Ok(one);
    }
    let own = own();
    let wanted = platform.unwrap_or(&own);
    let fits = |one: &&&Descriptor| one.platform.as_ref().is_none_or(|platform| platform.is(wanted));
    let fitting: Vec<&&Descriptor> = images.iter().filter(fits).collect();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => {
            let found: Vec<String> = images.iter().filter_map(|one| Some(one.platform.as_ref()?.shown())).collect();
            bail!("expected an image for {wanted}, found {}; say source.oci-platform", found.join(", "))
        }
        several => {
            let names: Vec<String> =
                several.iter().map(|one| one.annotations.get(REFERENCE).unwrap_or(&one.digest).clone()).collect();
            bail!("expected one image, found {}: name one as {}:TAG", names.join(", "), "PATH")
        }
    }
}
