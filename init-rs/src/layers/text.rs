//! The state file: text, with a checksum at its end (`docs/layer-state.md`).

use super::state::{
    Digest, Discard, Flags, Image, Kind, Layer, MAX_TROUBLE, Operation, Past, Phase, Stack, State, Trial, Trouble,
};
use crate::hex::{hex, unhex};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::{Lines, SplitAsciiWhitespace};

/// First line.
pub const HEADER: &str = "taproot-layers-state 1";
/// No state is longer, bytes: the largest stacks many times over.
pub const MAX_BYTES: usize = 4 << 20;
const SUM: &str = "sum ";

/// Why a text is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Too long to be one.
    #[error("expected a layer state of at most {MAX_BYTES} bytes, found more")]
    TooLong,
    /// Of a later version, or something else.
    #[error("expected `{HEADER}`, found {0:?}: written by another version of taproot, or no layer state")]
    Header(String),
    /// Not as it was written.
    #[error("the checksum of the layer state is wrong: it was not written to its end, or damaged since")]
    Sum,
    /// Written as it is, by something that writes otherwise.
    #[error("line {line} of the layer state: expected {expected}, found {found:?}")]
    Line {
        /// From 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// Readable, and impossible.
    #[error("the layer state does not fit together: {0}")]
    Inconsistent(String),
}

/// The text of a state.
pub fn render(state: &State) -> Vec<u8> {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut text, state);
    let _ = writeln!(text, "{SUM}{}", hex(&Sha256::digest(&text)));
    text.into_bytes()
}

fn write_all(text: &mut String, state: &State) -> std::fmt::Result {
    writeln!(text, "{HEADER}\ngeneration {}", state.generation)?;
    let flags = state.flags.0.iter().map(|(flag, value)| format!(" {flag}={value}"));
    writeln!(text, "flags{}", flags.collect::<String>())?;
    writeln!(text, "numbers {} {}\nkeep {}\ngood {}", state.last_upper, state.last_past, state.keep, state.good)?;
    for (file, image) in &state.images {
        writeln!(text, "image {file} {} {}", digest(&image.digest), if image.made { "made" } else { "given" })?;
    }
    writeln!(text, "stack {}{}", state.stack.upper, layers(&state.stack.layers))?;
    if let Some(Trial { tries, back }) = &state.trial {
        writeln!(text, "trial {tries} {}{}", back.upper, layers(&back.layers))?;
    }
    for Past { number, upper, layers: list } in &state.pasts {
        writeln!(text, "past {number} {}{}", optional(*upper), layers(list))?;
    }
    for operation in &state.operations {
        match &operation.kind {
            Kind::Commit { file, below, copy } => writeln!(text, "commit {file} {below} {}", optional(*copy))?,
            Kind::Merge { file } => writeln!(text, "merge {file}")?,
            Kind::Rollback { to, upper } => writeln!(text, "rollback {} {upper}", optional(*to))?,
        }
        match operation.phase {
            Phase::Building(number) => writeln!(text, "phase building {number}")?,
            Phase::Verified(number, seal) => writeln!(text, "phase verified {number} {}", digest(&seal))?,
            phase => writeln!(text, "phase {}", phase.name())?,
        }
        writeln!(text, "from{}", layers(&operation.sources))?;
        if let Some(trouble) = &operation.trouble {
            writeln!(text, "trouble {} {}", if trouble.space { "space" } else { "other" }, trouble.text)?;
        }
    }
    for discard in &state.discards {
        match discard {
            Discard::Upper(number) => writeln!(text, "discard-upper {number}")?,
            Discard::File(file, None) => writeln!(text, "discard-file {file}")?,
            Discard::File(file, Some(seal)) => writeln!(text, "discard-file {file} {}", digest(seal))?,
        }
    }
    Ok(())
}

fn layers(list: &[Layer]) -> String {
    list.iter().fold(String::new(), |text, layer| format!("{text} {layer}"))
}

fn optional(number: Option<u32>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn digest(digest: &Digest) -> String {
    format!("{} {}", digest.size, hex(&digest.sha256))
}

/// Reads a state. The checksum is looked at before anything else but the version.
pub fn parse(bytes: &[u8]) -> Result<State, StateError> {
    if bytes.len() > MAX_BYTES {
        return Err(StateError::TooLong);
    }
    let text = str::from_utf8(bytes).map_err(|_| StateError::Sum)?;
    let first = text.lines().next().unwrap_or_default();
    if first != HEADER {
        return Err(StateError::Header(first.chars().take(80).collect()));
    }
    // `sum `, 64 digits and a newline.
    let at = text.len().checked_sub(SUM.len() + 65).filter(|at| text.is_char_boundary(*at)).ok_or(StateError::Sum)?;
    let (body, end) = text.split_at(at);
    if end != format!("{SUM}{}\n", hex(&Sha256::digest(body))) || !body.ends_with('\n') {
        return Err(StateError::Sum);
    }
    let mut reader = Reader { lines: body.lines().peekable(), number: 0 };
    reader.one("taproot-layers-state", "the version")?;
    let state = reader.state()?;
    state.check().map_err(StateError::Inconsistent)?;
    Ok(state)
}

/// Words of a line behind its first, and what to say if they are not what they should be.
struct Words<'a> {
    rest: SplitAsciiWhitespace<'a>,
    line: &'a str,
    number: usize,
    expected: &'static str,
}

impl<'a> Words<'a> {
    fn error(&self) -> StateError {
        wrong(self.number, self.expected, self.line)
    }

    fn word(&mut self) -> Result<&'a str, StateError> {
        self.rest.next().ok_or_else(|| self.error())
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, StateError> {
        self.word()?.parse().map_err(|_| self.error())
    }

    fn optional(&mut self) -> Result<Option<u32>, StateError> {
        match self.word()? {
            "-" => Ok(None),
            word => word.parse().map(Some).map_err(|_| self.error()),
        }
    }

    fn digest(&mut self) -> Result<Digest, StateError> {
        let size = self.number()?;
        let digits = self.word()?;
        // There is one way to write a state.
        let sha256 = unhex(digits).filter(|bytes| hex(bytes) == digits).ok_or_else(|| self.error())?;
        Ok(Digest { size, sha256 })
    }

    fn layers(self) -> Result<Vec<Layer>, StateError> {
        let layer = |word: &str| match word.strip_prefix('#') {
            Some(number) => number.parse().map(Layer::Frozen).map_err(|_| self.error()),
            None => Ok(Layer::Image(word.to_owned())),
        };
        self.rest.clone().map(layer).collect()
    }

    fn end(mut self) -> Result<(), StateError> {
        if self.rest.next().is_none() { Ok(()) } else { Err(self.error()) }
    }
}

fn wrong(line: usize, expected: &'static str, found: &str) -> StateError {
    StateError::Line { line, expected, found: found.chars().take(80).collect() }
}

struct Reader<'a> {
    lines: Peekable<Lines<'a>>,
    number: usize,
}

impl<'a> Reader<'a> {
    /// The next line, if it begins with this word.
    fn next_if(&mut self, word: &str, expected: &'static str) -> Option<Words<'a>> {
        let is = |line: &&str| line.split_ascii_whitespace().next() == Some(word);
        let line = self.lines.next_if(is)?;
        self.number += 1;
        let mut words = line.split_ascii_whitespace();
        words.next();
        Some(Words { rest: words, line, number: self.number, expected })
    }

    fn one(&mut self, word: &str, expected: &'static str) -> Result<Words<'a>, StateError> {
        match self.next_if(word, expected) {
            Some(words) => Ok(words),
            None => Err(wrong(self.number + 1, expected, self.lines.peek().copied().unwrap_or("the end"))),
        }
    }

    fn state(&mut self) -> Result<State, StateError> {
        let generation = self.one("generation", "`generation` and a number")?.number()?;
        let flags = self.flags()?;
        let mut numbers = self.one("numbers", "`numbers` and two numbers")?;
        let (last_upper, last_past) = (numbers.number()?, numbers.number()?);
        let keep = self.one("keep", "`keep` and a number")?.number()?;
        let good = self.one("good", "`good` and a number")?.number()?;
        let images = self.images()?;
        let stack = Self::stack(self.one("stack", "`stack`, the number of an upper, and layers")?)?;
        let trial = match self.next_if("trial", "`trial`, how often, the number of an upper, and layers") {
            None => None,
            Some(mut words) => Some(Trial { tries: words.number()?, back: Self::stack(words)? }),
        };
        let mut pasts = Vec::new();
        while let Some(mut words) = self.next_if("past", "`past`, a number, that of an upper or -, and layers") {
            pasts.push(Past { number: words.number()?, upper: words.optional()?, layers: words.layers()? });
        }
        let mut operations = Vec::new();
        while let Some(kind) = self.kind()? {
            operations.push(self.operation(kind)?);
        }
        let discards = self.discards()?;
        if let Some(line) = self.lines.next() {
            self.number += 1;
            return Err(wrong(self.number, "the checksum", line));
        }
        Ok(State {
            generation,
            flags,
            last_upper,
            last_past,
            keep,
            good,
            images,
            stack,
            trial,
            pasts,
            operations,
            discards,
        })
    }

    fn flags(&mut self) -> Result<Flags, StateError> {
        let words = self.one("flags", "`flags` and overlay options as NAME=VALUE")?;
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let flag = |word: &str| {
            let (flag, value) = word.split_once('=').filter(|(flag, value)| plain(flag) && plain(value))?;
            Some((flag.to_owned(), value.to_owned()))
        };
        let flags: Option<BTreeMap<String, String>> = words.rest.clone().map(flag).collect();
        flags.map(Flags).ok_or_else(|| words.error())
    }

    fn images(&mut self) -> Result<BTreeMap<String, Image>, StateError> {
        let mut images = BTreeMap::new();
        while let Some(mut words) = self.next_if("image", "`image`, its file, size, SHA-256, and `made` or `given`") {
            let (file, digest) = (words.word()?.to_owned(), words.digest()?);
            let made = match words.word()? {
                "made" => true,
                "given" => false,
                _ => return Err(words.error()),
            };
            if images.insert(file, Image { digest, made }).is_some() {
                return Err(words.error());
            }
        }
        Ok(images)
    }

    fn stack(mut words: Words<'_>) -> Result<Stack, StateError> {
        Ok(Stack { upper: words.number()?, layers: words.layers()? })
    }

    fn kind(&mut self) -> Result<Option<Kind>, StateError> {
        if let Some(mut words) = self.next_if("commit", "`commit`, a file, how many layers below, a number or -") {
            let kind = Kind::Commit { file: words.word()?.to_owned(), below: words.number()?, copy: words.optional()? };
            return words.end().map(|()| Some(kind));
        }
        if let Some(mut words) = self.next_if("merge", "`merge` and a file") {
            let kind = Kind::Merge { file: words.word()?.to_owned() };
            return words.end().map(|()| Some(kind));
        }
        if let Some(mut words) = self.next_if("rollback", "`rollback`, a number or -, and that of an upper") {
            let kind = Kind::Rollback { to: words.optional()?, upper: words.number()? };
            return words.end().map(|()| Some(kind));
        }
        Ok(None)
    }

    fn operation(&mut self, kind: Kind) -> Result<Operation, StateError> {
        let mut words = self.one("phase", "`phase` and its name")?;
        let phase = match words.word()? {
            "requested" => Phase::Requested,
            "sealed" => Phase::Sealed,
            "building" => Phase::Building(words.number()?),
            "verified" => Phase::Verified(words.number()?, words.digest()?),
            "ready" => Phase::Ready,
            "trial" => Phase::Trial,
            "done" => Phase::Done,
            _ => return Err(words.error()),
        };
        words.end()?;
        let sources = self.one("from", "`from` and layers")?.layers()?;
        Ok(Operation { kind, phase, sources, trouble: self.trouble()? })
    }

    fn trouble(&mut self) -> Result<Option<Trouble>, StateError> {
        let Some(line) = self.lines.next_if(|line| line.starts_with("trouble ")) else { return Ok(None) };
        self.number += 1;
        let error = || wrong(self.number, "`trouble`, `space` or `other`, and a text", line);
        let (kind, text) = line.strip_prefix("trouble ").and_then(|rest| rest.split_once(' ')).ok_or_else(error)?;
        if text.len() > MAX_TROUBLE {
            return Err(error());
        }
        match kind {
            "space" => Ok(Some(Trouble { space: true, text: text.to_owned() })),
            "other" => Ok(Some(Trouble { space: false, text: text.to_owned() })),
            _ => Err(error()),
        }
    }

    fn discards(&mut self) -> Result<Vec<Discard>, StateError> {
        let mut discards = Vec::new();
        loop {
            if let Some(mut words) = self.next_if("discard-upper", "`discard-upper` and a number") {
                discards.push(Discard::Upper(words.number()?));
            } else if let Some(mut words) = self.next_if("discard-file", "`discard-file`, a file, its size and SHA-256")
            {
                let file = words.word()?.to_owned();
                if file.contains('/') || file.starts_with('.') {
                    return Err(words.error());
                }
                let seal = if words.rest.clone().next().is_some() { Some(words.digest()?) } else { None };
                discards.push(Discard::File(file, seal));
            } else {
                return Ok(discards);
            }
        }
    }
}
