//! What a layer is written as.

use clap::ValueEnum;
use serde::Serialize;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Type of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Smallest; without access control lists.
    #[default]
    Squashfs,
    /// With access control lists and exact times; needs the room twice while it is written.
    Erofs,
}

impl Format {
    /// What its file's name ends with.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Squashfs => "sqsh",
            Self::Erofs => "erofs",
        }
    }

    /// As mount(8) calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }

    /// The program that writes it, and the package that has that.
    pub fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Squashfs => ("mksquashfs", "squashfs-tools"),
            Self::Erofs => ("mkfs.erofs", "erofs-utils"),
        }
    }

    /// By the end of a file's name.
    pub fn of_ending(ending: &str) -> Option<Self> {
        match ending {
            "sqsh" | "squashfs" => Some(Self::Squashfs),
            "erofs" => Some(Self::Erofs),
            _ => None,
        }
    }
}

/// Compressor and level, as the program that writes the image takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// Its name; empty for none.
    name: &'static str,
    level: Option<u32>,
}

/// A compressor as one format has it: with these levels, or without any.
type Levels = Option<RangeInclusive<u32>>;

/// Compressors of squashfs, as mksquashfs knows them.
const SQUASHFS: [(&str, Levels); 6] =
    [("zstd", Some(1..=22)), ("gzip", Some(1..=9)), ("xz", None), ("lzo", Some(1..=9)), ("lz4", None), ("none", None)];
/// Those of erofs, as mkfs.erofs knows them.
const EROFS: [(&str, Levels); 6] = [
    ("zstd", Some(0..=22)),
    ("lz4", None),
    ("lz4hc", Some(0..=12)),
    ("lzma", Some(0..=9)),
    ("deflate", Some(0..=9)),
    ("none", None),
];

fn known(format: Format) -> &'static [(&'static str, Levels)] {
    match format {
        Format::Squashfs => &SQUASHFS,
        Format::Erofs => &EROFS,
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, level) = text.split_once(':').map_or((text, None), |(name, level)| (name, Some(level)));
        let mut names: Vec<&'static str> = Vec::new();
        for (known, _) in SQUASHFS.iter().chain(&EROFS) {
            if !names.contains(known) {
                names.push(known);
            }
        }
        let expected =
            || format!("expected one of {}, some with a level such as zstd:19, found {text:?}", names.join(", "));
        let name = names.iter().find(|known| **known == name).ok_or_else(expected)?;
        let level = level.map(|level| level.parse().map_err(|_| expected())).transpose()?;
        Ok(Self { name: *name, level })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.level.map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

impl Compression {
    /// What is used unless something is asked for: what each kernel of a distribution can read.
    pub fn default_of(format: Format) -> Self {
        match format {
            Format::Squashfs => Self { name: "zstd", level: Some(9) },
            Format::Erofs => Self { name: "lz4hc", level: None },
        }
    }

    /// Whether data are stored as they are.
    pub fn is_none(&self) -> bool {
        self.name == "none"
    }

    /// The words for the program; an error if the format has no such compression.
    pub fn words(&self, format: Format) -> Result<Vec<String>, String> {
        let Self { name, level } = *self;
        let Some((_, levels)) = known(format).iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = known(format).iter().map(|(name, _)| *name).collect();
            return Err(format!("{} is not compressed by {name}; expected one of {}", format.word(), names.join(", ")));
        };
        match (level, levels) {
            (Some(_), None) => return Err(format!("{name} has no levels in {}; write {name}", format.word())),
            (Some(level), Some(levels)) if !levels.contains(&level) => {
                let (least, most) = (levels.start(), levels.end());
                return Err(format!(
                    "{} has levels {least} to {most} of {name}, found {level}; write e.g. {name}:{most}",
                    format.word()
                ));
            }
            _ => {}
        }
        let words = match (format, self.is_none()) {
            (Format::Squashfs, true) => ["-noI", "-noD", "-noF", "-noX"].map(str::to_owned).to_vec(),
            (Format::Squashfs, false) => {
                let mut words = vec!["-comp".to_owned(), name.to_owned()];
                if let Some(level) = level {
                    words.extend(["-Xcompression-level".to_owned(), level.to_string()]);
                }
                words
            }
            (Format::Erofs, true) => Vec::new(),
            (Format::Erofs, false) => vec![format!("-z{name}{}", level.map_or_else(String::new, |n| format!(",{n}")))],
        };
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_programs() {
        let words =
            |text: &str, format| text.parse::<Compression>().unwrap().words(format).map(|words| words.join(" "));
        assert_eq!(words("zstd:19", Format::Squashfs).unwrap(), "-comp zstd -Xcompression-level 19");
        assert_eq!(words("xz", Format::Squashfs).unwrap(), "-comp xz");
        assert_eq!(words("none", Format::Squashfs).unwrap(), "-noI -noD -noF -noX");
        assert_eq!(words("lz4hc:12", Format::Erofs).unwrap(), "-zlz4hc,12");
        assert_eq!(words("none", Format::Erofs).unwrap(), "");
        assert!(words("xz", Format::Erofs).unwrap_err().contains("expected one of zstd, lz4, lz4hc"));
        for (text, format) in [
            ("lz4:3", Format::Squashfs),
            ("xz:6", Format::Squashfs),
            ("lz4:3", Format::Erofs),
            ("none:1", Format::Erofs),
        ] {
            assert!(words(text, format).unwrap_err().contains("no levels"), "{text}");
        }
        for (text, format) in [("zstd:0", Format::Squashfs), ("gzip:10", Format::Squashfs), ("lz4hc:13", Format::Erofs)]
        {
            assert!(words(text, format).unwrap_err().contains("has levels"), "{text}");
        }
        for text in ["", "zip", "zstd:x", "zstd:-1", "zstd:"] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
        assert_eq!("zstd:3".parse::<Compression>().unwrap().to_string(), "zstd:3");
    }
}
