//! `THIRD-PARTY.md`: the crates that both binaries are linked with, and the texts of their licences, which go with every copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::kit::run;

/// The page, from the lock file and the sources of the crates as cargo has them on this machine.
pub fn page() -> Result<String> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]).current_dir(crate::checkout());
    let metadata: Value = serde_json::from_str(&run(&mut cargo)?).context("the output of cargo metadata")?;
    let linked = linked(&metadata);
    let mut page = String::from(HEAD);
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in list(&metadata, "packages").iter().filter(|package| linked.contains(text(package, "id"))) {
        if package["source"].is_null() {
            continue; // our own
        }
        let name = format!("{} {}", text(package, "name"), text(package, "version"));
        let licence = package["license"].as_str().unwrap_or("see its file");
        let home = package["repository"].as_str().unwrap_or("-");
        let _ = writeln!(page, "| {name} | {licence} | {home} |");
        for licence in licences(Path::new(text(package, "manifest_path")).parent().context("a crate's directory")?)? {
            texts.entry(licence).or_default().push(name.clone());
        }
    }
    page.push_str("\n## Texts\n");
    let mut texts: Vec<(String, Vec<String>)> = texts.into_iter().collect();
    texts.sort_by(|(_, a), (_, b)| a.cmp(b));
    for (text, names) in texts {
        let _ = write!(page, "\n### {}\n\n```text\n{text}\n```\n", names.join(", "));
    }
    Ok(page)
}

const HEAD: &str = "# Third-party notices

`taproot` and `taproot-init` are linked with these crates, and with the GNU C library (LGPL-2.1-or-later, see `LICENSE`). This page is made by
`make notices`; a test compares it with `Cargo.lock`.

| crate | licence | source |
|---|---|---|
";

/// Packages that the two binaries are linked with: what they need in every build, and what that needs.
fn linked(metadata: &Value) -> BTreeSet<&str> {
    let nodes = list(&metadata["resolve"], "nodes");
    let of_name = |name: &str| {
        let mut packages = list(metadata, "packages").iter();
        packages
            .find(|package| package["source"].is_null() && package["name"] == name)
            .map(|package| text(package, "id"))
    };
    let mut open: Vec<&str> = ["taproot", "taproot-init"].into_iter().filter_map(of_name).collect();
    let mut linked = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !linked.insert(id) {
            continue;
        }
        let deps = nodes.iter().filter(|node| node["id"] == id).flat_map(|node| list(node, "deps"));
        // A dependency of a build script or a test has a kind.
        open.extend(
            deps.filter(|dep| list(dep, "dep_kinds").iter().any(|kind| kind["kind"].is_null()))
                .map(|dep| text(dep, "pkg")),
        );
    }
    linked
}

/// The texts of the files in a crate that are called as licences are.
fn licences(dir: &Path) -> Result<Vec<String>> {
    let mut files: Vec<_> =
        fs::read_dir(dir).with_context(|| format!("{}", dir.display()))?.collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    let is_licence = |name: &str| {
        ["license", "licence", "copying", "notice"].iter().any(|word| name.to_lowercase().starts_with(word))
    };
    let mut texts = Vec::new();
    for file in files.iter().filter(|file| file.file_name().to_str().is_some_and(is_licence) && file.path().is_file()) {
        let bytes = fs::read(file.path())?;
        let lines = String::from_utf8_lossy(&bytes).lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        texts.push(lines.trim_matches('\n').to_owned());
    }
    Ok(texts)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Writes the page into the checkout.
pub fn write() -> Result<()> {
    let path = crate::checkout().join("THIRD-PARTY.md");
    fs::write(&path, page()?).with_context(|| format!("{}", path.display()))
}

/// Fails if the page of the checkout is not the one of the lock file.
pub fn check() -> Result<()> {
    let there = fs::read_to_string(crate::checkout().join("THIRD-PARTY.md")).unwrap_or_default();
    if there != page()? {
        bail!("THIRD-PARTY.md is not what Cargo.lock leads to; run: make notices");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_that_of_the_lock_file() {
        check().unwrap();
    }

    #[test]
    fn what_only_builds_or_tests_need_is_left_out() {
        let page = page().unwrap();
        assert!(page.contains("\n| nix ") && page.contains("\n| zstd-sys "), "{page}");
        assert!(!page.contains("\n| proptest ") && !page.contains("\n| cc "), "{page}");
    }
}
