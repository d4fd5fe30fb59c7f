//! What went into an image, by its content, so that it can be told later whether a new image would be another one. Neither
//! times nor sizes are noted: the same input gives the same bytes.
//!
//! The file is `/etc/taproot/sources` in the image: UTF-8 lines of three fields, separated by a tab: kind, mark, name.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use taproot_init::hex::hex;

/// Where the list lies in an image.
pub const SOURCES_PATH: &str = "/etc/taproot/sources";

/// Kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A module by its name; the mark is the hash of its file.
    Module,
    /// The configuration of the packer by its path; the mark is its hash.
    Configuration,
    /// A file of modprobe.d by its path; the mark is its hash.
    Modprobe,
    /// A file that was asked for by its path in the tree; the mark is its hash.
    File,
    /// A disk of the root's pool by its path; the mark is the guid of the vdev.
    Member,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Module, "module"),
    (Kind::Configuration, "configuration"),
    (Kind::Modprobe, "modprobe"),
    (Kind::File, "file"),
    (Kind::Member, "member"),
];

impl Kind {
    /// As the file has it.
    pub fn word(self) -> &'static str {
        KINDS.iter().find(|(known, _)| *known == self).map_or("", |(_, word)| word)
    }
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// What it is.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// What it was, in a form that is compared.
    pub mark: String,
}

impl Source {
    /// A source whose mark is the hash of its content.
    pub fn of(kind: Kind, name: impl Into<String>, content: &[u8]) -> Self {
        Self { kind, name: name.into(), mark: hash(content) }
    }
}

/// SHA-256 in hexadecimal digits.
pub fn hash(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// The text of the file.
pub fn render(sources: &[Source]) -> String {
    let mut sorted: Vec<&Source> = sources.iter().collect();
    sorted.sort();
    let mut out = String::from("# written by taproot initramfs\n");
    for Source { kind, name, mark } in sorted {
        let _ = writeln!(out, "{}\t{mark}\t{}", kind.word(), name.replace(['\n', '\t'], "?"));
    }
    out
}

/// Reads the file; lines of kinds that are not known are left to newer programs.
pub fn parse(text: &str) -> Vec<Source> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, '\t');
        let (word, mark, name) = (fields.next()?, fields.next()?, fields.next()?);
        let (kind, _) = KINDS.iter().find(|(_, known)| *known == word)?;
        Some(Source { kind: *kind, name: name.to_owned(), mark: mark.to_owned() })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let sources: Vec<Source> =
            KINDS.iter().map(|(kind, name)| Source::of(*kind, format!("/a b/{name}"), b"x")).collect();
        assert_eq!(parse(&render(&sources)), sources);
        assert_eq!(parse("# x\nmodule\tx\nnew\ta\tb\n"), []);
        assert_eq!(hash(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
