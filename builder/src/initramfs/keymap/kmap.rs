//! Keymaps as people write them, for `loadkeys` (keymaps(5)), and the binary ones of busybox's `loadkmap`, into what the kernel takes.

use super::symbols::{self, Charset, HOLE};
use std::collections::BTreeSet;
use taproot_init::sys::keymap::{COMPOSE_MAX, Keymap};

/// Files that include each other are read this deep.
const DEEPEST: usize = 16;
/// Bytes of all files together; those of kbd have some 20 KB, compiled ones of console-setup 400.
pub const LONGEST: u64 = 4 << 20;
/// The weight of alt.
const ALT: u8 = 8;
/// What a binary keymap begins with.
const BINARY: &[u8] = b"bkeymap";
/// Tables that a binary keymap can have, and keys in each.
const BINARY_TABLES: usize = 256;
const BINARY_KEYS: usize = 128;

/// A file and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it lies, for messages and for what it includes.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Finds the file that another one includes by this name.
pub type Include<'a> = dyn FnMut(&str, &str) -> Option<Source> + 'a;

/// A file that is no keymap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KmapError {
    /// A line that is not understood.
    #[error("{path}, line {line}: expected {expected}")]
    Line {
        /// File.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What would be right.
        expected: &'static str,
    },
    /// An included file that is not there.
    #[error("{path}, line {line}: includes {name:?}, which was not found")]
    Include {
        /// File.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What it includes.
        name: String,
    },
    /// Files that include each other for ever, or are huge.
    #[error("{0}: too many or too long files are included")]
    Endless(String),
    /// A binary keymap that is cut short.
    #[error("{0}: expected a whole binary keymap, found its beginning")]
    Short(String),
    /// Nothing in it.
    #[error("{0}: no key is defined")]
    Empty(String),
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// For the kernel.
    pub keymap: Keymap,
    /// Words that are not known; what they stand at does nothing.
    pub unknown: BTreeSet<String>,
}

/// Compiles a keymap of either form.
pub fn compile(source: &Source, include: &mut Include<'_>) -> Result<Compiled, KmapError> {
    let compiled = if source.bytes.starts_with(BINARY) {
        Compiled { keymap: binary(source)?, ..Compiled::default() }
    } else {
        let mut compiler = Compiler::default();
        compiler.file(source, include, 0)?;
        compiler.finish()
    };
    match compiled.keymap.tables.get(&0) {
        Some(plain) if !plain.is_empty() => Ok(compiled),
        _ => Err(KmapError::Empty(source.path.clone())),
    }
}

/// 256 bytes that say which tables follow, and those: 128 actions each.
fn binary(source: &Source) -> Result<Keymap, KmapError> {
    let short = || KmapError::Short(source.path.clone());
    let (flags, body) =
        source.bytes.get(BINARY.len()..).and_then(|rest| rest.split_at_checked(BINARY_TABLES)).ok_or_else(short)?;
    let there = (0..=u8::MAX).zip(flags).filter(|(_, flag)| **flag != 0).map(|(table, _)| table);
    let mut words =
        body.chunks_exact(2).map(|pair| pair.iter().rev().fold(0, |word, byte| word << 8 | u16::from(*byte)));
    let mut keymap = Keymap::default();
    for table in there {
        let actions: Vec<u16> = words.by_ref().take(BINARY_KEYS).collect();
        if actions.len() < BINARY_KEYS {
            return Err(short());
        }
        keymap.tables.insert(table, (0..=u8::MAX).zip(actions).skip(1).collect());
    }
    Ok(keymap)
}

#[derive(Default)]
struct Compiler {
    out: Compiled,
    /// Tables that a line `keymaps` names: columns of the lines are theirs.
    columns: Option<BTreeSet<u8>>,
    /// Keys with one action for all tables, which are not all known before the end; by then it may be another one.
    constant: BTreeSet<u8>,
    charset: Charset,
    alt_is_meta: bool,
    read: u64,
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// In double quotes.
    Text(String),
    /// In single quotes.
    Char(Vec<u8>),
}

/// Takes a line apart; a comment goes. `None`: quotes are left open.
fn tokens(line: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = line;
    while let Some((first, behind)) = rest.split_first() {
        rest = match first {
            b'#' | b'!' => break,
            b'=' => {
                tokens.push(Token::Word("=".to_owned()));
                behind
            }
            b'"' | b'\'' => {
                let (text, behind) = quoted(behind, *first)?;
                tokens.push(match first {
                    b'"' => Token::Text(String::from_utf8_lossy(&text).into_owned()),
                    _ => Token::Char(text),
                });
                behind
            }
            first if first.is_ascii_whitespace() => behind,
            _ => {
                let is_end = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'=' | b'"' | b'\'' | b'#' | b'!');
                let end = rest.iter().position(is_end).unwrap_or(rest.len());
                let (word, behind) = rest.split_at_checked(end)?;
                tokens.push(Token::Word(String::from_utf8_lossy(word).into_owned()));
                behind
            }
        };
    }
    Some(tokens)
}

/// What stands in quotes, and what behind them. A quote right behind the first one stands for itself (`'''`).
fn quoted(text: &[u8], quote: u8) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        match first {
            b'\\' => {
                let digits = rest.iter().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
                if let (1.., Some((octal, behind))) = (digits, rest.split_at_checked(digits)) {
                    let value = octal.iter().fold(0_u32, |value, digit| value << 3 | u32::from(digit - b'0'));
                    out.push(u8::try_from(value).ok()?);
                    rest = behind;
                } else {
                    let (escaped, behind) = rest.split_first()?;
                    out.push(if *escaped == b'n' { b'\n' } else { *escaped });
                    rest = behind;
                }
            }
            first if *first == quote && (quote == b'"' || !out.is_empty() || rest.first() != Some(&quote)) => break,
            first => out.push(*first),
        }
    }
    Some((out, rest))
}

impl Compiler {
    fn file(&mut self, source: &Source, include: &mut Include<'_>, depth: usize) -> Result<(), KmapError> {
        self.read = self.read.saturating_add(source.bytes.len() as u64);
        if depth > DEEPEST || self.read > LONGEST {
            return Err(KmapError::Endless(source.path.clone()));
        }
        let mut whole = Vec::new();
        for (at, line) in source.bytes.split(|b| *b == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Some(begun) = line.strip_suffix(b"\\") {
                whole.extend(begun);
                whole.push(b' ');
                continue;
            }
            whole.extend(line);
            let tokens = tokens(&whole);
            whole.clear();
            let wrong = |expected| KmapError::Line { path: source.path.clone(), line: at + 1, expected };
            let tokens = tokens.ok_or_else(|| wrong("a quote at the end of what is quoted"))?;
            match tokens.as_slice() {
                [Token::Word(word), Token::Text(name) | Token::Word(name)] if word == "include" => {
                    let missing = || KmapError::Include { path: source.path.clone(), line: at + 1, name: name.clone() };
                    let found = include(&source.path, name).ok_or_else(missing)?;
                    self.file(&found, include, depth + 1)?;
                }
                tokens => self.line(tokens).map_err(wrong)?,
            }
        }
        Ok(())
    }

    /// One line; the error says what was expected.
    fn line(&mut self, tokens: &[Token]) -> Result<(), &'static str> {
        let Some((Token::Word(first), rest)) = tokens.split_first() else {
            return if tokens.is_empty() {
                Ok(())
            } else {
                Err("keycode, keymaps, include, charset, string or compose")
            };
        };
        match (first.to_ascii_lowercase().as_str(), rest) {
            ("keymaps", ranges) => self.keymaps(ranges).ok_or("tables, such as 0-2,4-6,8,12"),
            ("charset", [Token::Text(name) | Token::Word(name)]) => {
                self.charset = Charset::named(name);
                Ok(())
            }
            ("alt_is_meta", []) => {
                self.alt_is_meta = true;
                Ok(())
            }
            // What function keys send is no matter of a layout.
            ("string" | "strings", _) => Ok(()),
            ("compose", [Token::Word(usual), ..]) if usual == "as" => {
                symbols::usual_accents().for_each(|chars| self.accent(chars));
                Ok(())
            }
            ("compose", [accent, letter, Token::Word(to), result]) if to == "to" => {
                self.compose([accent, letter, result]).ok_or("compose 'accent' 'letter' to 'result'")
            }
            ("keycode", rest) => self.key(None, rest),
            _ => {
                let at = tokens
                    .iter()
                    .position(|token| matches!(token, Token::Word(w) if w.eq_ignore_ascii_case("keycode")));
                let (modifiers, rest) = at.and_then(|at| tokens.split_at_checked(at)).unwrap_or((tokens, &[]));
                let table = modifiers.iter().try_fold(0_u16, |sum, token| Some(sum | weight(token)?));
                let (Some(table), Some((_, rest))) = (table, rest.split_first()) else {
                    return Err("keycode, modifiers before keycode, keymaps, include, charset, string or compose");
                };
                self.key(Some(table), rest)
            }
        }
    }

    fn keymaps(&mut self, ranges: &[Token]) -> Option<()> {
        let words = ranges.iter().map(|token| if let Token::Word(word) = token { Some(word.as_str()) } else { None });
        let list = words.collect::<Option<String>>()?;
        // What was defined before has columns, too.
        let columns = self.columns.get_or_insert_with(|| self.out.keymap.tables.keys().copied().collect());
        for range in list.split(',').filter(|range| !range.is_empty()) {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let (from, to) = (symbols::number(from)?, symbols::number(to)?);
            columns.extend((from..=to.min(255)).filter_map(|table| u8::try_from(table).ok()));
        }
        (!columns.is_empty()).then_some(())
    }

    fn compose(&mut self, parts: [&Token; 3]) -> Option<()> {
        let mut chars = ['\0'; 3];
        for (c, part) in chars.iter_mut().zip(parts) {
            *c = self.character(part)?;
        }
        self.accent(chars);
        Some(())
    }

    /// Adds a combination, as long as the kernel has room.
    fn accent(&mut self, chars: [char; 3]) {
        let compose = &mut self.out.keymap.compose;
        if compose.len() < COMPOSE_MAX && !compose.contains(&chars) {
            compose.push(chars);
        }
    }

    /// The character that a part of a compose line means: files are in UTF-8, or older than that.
    fn character(&self, token: &Token) -> Option<char> {
        match token {
            Token::Char(bytes) => {
                let text = str::from_utf8(bytes).unwrap_or_default();
                let mut chars = text.chars();
                match (chars.next(), chars.next(), bytes.as_slice()) {
                    (Some(c), None, _) => Some(c),
                    (None, _, [byte]) => self.charset.decode(*byte),
                    _ => None,
                }
            }
            Token::Word(word) => symbols::action(word, self.charset).and_then(symbols::typed),
            Token::Text(_) => None,
        }
    }

    /// What stands behind `keycode`.
    fn key(&mut self, table: Option<u16>, rest: &[Token]) -> Result<(), &'static str> {
        let form = "keycode NUMBER = ACTION...";
        let [Token::Word(key), Token::Word(equals), actions @ ..] = rest else { return Err(form) };
        let key = symbols::number(key).filter(|_| equals == "=").ok_or(form)?;
        let mut codes = Vec::new();
        for action in actions {
            let Token::Word(word) = action else { return Err(form) };
            let code = symbols::action(word, self.charset);
            if code.is_none() && self.out.unknown.len() < COMPOSE_MAX {
                self.out.unknown.insert(word.clone());
            }
            codes.push(code.unwrap_or(HOLE));
        }
        // Nothing at all is nothing everywhere.
        let first = codes.first().copied().unwrap_or(HOLE);
        // Key 0 is none, and beyond 255 the kernel has no room.
        let Some(key) = u8::try_from(key).ok().filter(|key| *key != 0) else { return Ok(()) };
        let tables = &mut self.out.keymap.tables;
        match table {
            Some(table) => {
                if let Ok(table) = u8::try_from(table) {
                    tables.entry(table).or_default().insert(key, first);
                }
            }
            None if codes.len() == 1 => {
                for keys in tables.values_mut() {
                    keys.remove(&key);
                }
                self.constant.insert(key);
                tables.entry(0).or_default().insert(key, first);
            }
            None => {
                let columns: Vec<u8> = match &self.columns {
                    Some(columns) => columns.iter().copied().collect(),
                    None if codes.is_empty() => tables.keys().copied().collect(),
                    None => (0..=u8::MAX).take(codes.len()).collect(),
                };
                let rest = if codes.is_empty() { Some(HOLE) } else { None };
                let codes = codes.into_iter().map(Some).chain(std::iter::repeat(rest));
                for (table, code) in columns.into_iter().zip(codes) {
                    let keys = tables.entry(table).or_default();
                    // Columns that are left off do nothing, or what an earlier line said.
                    let action = keys.entry(key).or_insert(HOLE);
                    *action = code.unwrap_or(*action);
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Compiled {
        let tables = &mut self.out.keymap.tables;
        self.out.keymap.complete = self.columns.is_some();
        for table in self.columns.into_iter().flatten() {
            tables.entry(table).or_default();
        }
        let plain = tables.get(&0).cloned().unwrap_or_default();
        for (table, keys) in tables.iter_mut() {
            let meta = |code| symbols::meta(code).filter(|_| self.alt_is_meta && table & ALT != 0);
            for (key, code) in plain.iter().filter(|(key, _)| self.constant.contains(key)) {
                let letter = symbols::letter_with(*code, *table);
                let code = letter.or_else(|| meta(*code)).unwrap_or(*code);
                if *table == 0 {
                    keys.insert(*key, code);
                } else {
                    keys.entry(*key).or_insert(code);
                }
            }
        }
        for (table, keys) in tables.clone().iter().filter(|(table, _)| self.alt_is_meta && *table & ALT == 0) {
            let Some(alt) = tables.get_mut(&(table | ALT)) else { continue };
            for (key, code) in keys {
                if let Some(meta) = symbols::meta(*code).filter(|_| alt.get(key).is_none_or(|code| *code == HOLE)) {
                    alt.insert(*key, meta);
                }
            }
        }
        self.out
    }
}

/// The weight of a modifier's name.
fn weight(token: &Token) -> Option<u16> {
    let Token::Word(word) = token else { return None };
    Some(match word.to_ascii_lowercase().as_str() {
        "plain" => 0,
        "shift" => 1,
        "altgr" => 2,
        "control" => 4,
        "alt" => 8,
        "shiftl" => 16,
        "shiftr" => 32,
        "ctrll" => 64,
        "ctrlr" => 128,
        "capsshift" => 256,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
