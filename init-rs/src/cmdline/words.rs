//! Splits a command line into words by the kernel's own rules (`lib/cmdline.c`, `next_arg`).

/// One word of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word as given, quotes and all.
    pub text: String,
    /// The part before the first `=` (the whole word if there is none), without quotes around the word.
    pub key: String,
    /// The part after the first `=`, without quotes around it.
    pub value: Option<String>,
}

impl Word {
    /// Whether this is the bare `--` that ends the kernel's part.
    pub fn ends_parameters(&self) -> bool {
        self.key == "--" && self.value.is_none()
    }

    /// Whether the value says on or off.
    pub fn is_switch(&self) -> bool {
        self.value.is_some() && super::values::boolean(self.value.as_deref()).is_some()
    }

    /// Whether the value says off (`=0`, `=no`, `=off`...), where the word is a switch.
    pub fn is_off(&self) -> bool {
        super::values::is_off(self.value.as_deref())
    }
}

/// White space as the kernel sees it, but for byte 0xa0: the kernel splits there too, which would cut UTF-8 in two.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Splits `line` into words: white space separates, except between double quotes; quotes around a whole word or
/// around its value are dropped from `key` and `value`. A NUL ends the line. Bytes that are not UTF-8 are replaced.
///
/// Words after a `--` are given like the others; see [`Word::ends_parameters`].
pub fn tokenize(line: &[u8]) -> Vec<Word> {
    let mut rest = line.split(|&b| b == 0).next().unwrap_or_default();
    let mut words = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        // trim_ascii_start leaves the vertical tab, which the kernel counts as space.
        if let Some(after) = rest.strip_prefix(b"\x0b") {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return words;
        }
        let (word, after) = rest.split_at(word_length(rest));
        words.push(read_word(word));
        rest = after;
    }
}

/// Length of the word at the start of `rest`.
fn word_length(rest: &[u8]) -> usize {
    let mut in_quote = false;
    rest.iter()
        .position(|&b| {
            in_quote ^= b == b'"';
            is_space(b) && !in_quote
        })
        .unwrap_or(rest.len())
}

fn read_word(raw: &[u8]) -> Word {
    let mut body = raw;
    if let Some(inner) = raw.strip_prefix(b"\"") {
        body = inner.strip_suffix(b"\"").unwrap_or(inner);
    }
    // A `=` in first place does not separate: a parameter has a name.
    let equals = body.iter().skip(1).position(|&b| b == b'=').map(|at| at + 1);
    let (key, value) = match equals.and_then(|at| body.split_at_checked(at)) {
        Some((key, value)) => (key, Some(unquote(value.strip_prefix(b"=").unwrap_or(value)))),
        None => (body, None),
    };
    Word { text: lossy(raw), key: lossy(key), value: value.map(lossy) }
}

/// Drops an opening quote and, only if there was one, a closing quote.
fn unquote(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").map_or(value, |inner| inner.strip_suffix(b"\"").unwrap_or(inner))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
