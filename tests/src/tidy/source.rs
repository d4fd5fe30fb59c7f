//! A Rust file as the checks look at it: code without comments and literals, and without what is there for tests.

use std::ops::Range;

/// One file.
#[derive(Debug)]
pub(super) struct Source {
    /// Path in the checkout.
    pub(super) path: String,
    /// As it is.
    pub(super) text: String,
    /// As long as `text`, with comments, strings and characters blanked.
    pub(super) code: String,
    /// As `code`, with items for tests blanked.
    pub(super) product: String,
    /// Modules that are declared for tests only.
    pub(super) test_modules: Vec<String>,
}

impl Source {
    pub(super) fn new(path: &str, text: String) -> Self {
        let code = blank_literals(&text);
        let (product, test_modules) = without_tests(&code);
        Self { path: path.to_owned(), text, code, product, test_modules }
    }

    /// `path:line` of a byte.
    pub(super) fn at(&self, byte: usize) -> String {
        format!("{}:{}", self.path, self.line(byte))
    }

    /// Number of the line that a byte lies in.
    pub(super) fn line(&self, byte: usize) -> usize {
        self.text.bytes().take(byte).filter(|b| *b == b'\n').count() + 1
    }

    /// The functions: name, and from `fn` to the closing brace. Declarations without a body are none.
    pub(super) fn functions(&self) -> Vec<(String, Range<usize>)> {
        let mut list = Vec::new();
        for at in words(&self.code, "fn") {
            let name: String = self.code[at + 2..].trim_start().chars().take_while(|c| is_word(*c)).collect();
            // `fn(u8)` is a type.
            if name.is_empty() {
                continue;
            }
            if let Some(body) = body(&self.code, at) {
                list.push((name, at..body.end));
            }
        }
        list
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a word stands, by itself.
pub(super) fn words(code: &str, word: &str) -> Vec<usize> {
    let alone = |at: &usize| {
        !code[..*at].chars().next_back().is_some_and(is_word)
            && !code[at + word.len()..].chars().next().is_some_and(is_word)
    };
    code.match_indices(word).map(|(at, _)| at).filter(alone).collect()
}

/// The braces that belong to an item which begins at `from`, if it has any before its `;`. Array types hold semicolons,
/// so only one outside of brackets ends it.
pub(super) fn body(code: &str, from: usize) -> Option<Range<usize>> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return closing(code, at).map(|end| at..end),
            _ => {}
        }
    }
    None
}

/// Behind the brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at + 1),
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Puts blanks over comments and over what stands in quotes; lines stay where they are.
fn blank_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let Some(length) = literal(&text[at..], at > 0 && is_word_byte(bytes[at - 1])) else {
            at += 1;
            while !text.is_char_boundary(at) {
                at += 1;
            }
            continue;
        };
        let end = at + length;
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8(out).unwrap()
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// How long the comment, string or character is that `text` begins with.
fn literal(text: &str, in_word: bool) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |end| end + 2));
    }
    if !in_word && let Some(raw) = ["r", "br", "cr"].iter().find_map(|prefix| text.strip_prefix(prefix)) {
        let hashes = raw.bytes().take_while(|b| *b == b'#').count();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = text.len() - raw.len() + hashes + 1;
            return Some(text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len()));
        }
    }
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    // A lifetime has no second quote right behind its letter.
    let mut chars = text.strip_prefix('\'')?.chars();
    match (chars.next()?, chars.next()?) {
        ('\\', _) => Some(quoted(text, '\'')),
        (one, '\'') => Some(one.len_utf8() + 2),
        _ => None,
    }
}

/// Length up to the closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Blanks items under `#[cfg(test)]` and the like, and names the modules among them that lie in other files.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut out = code.as_bytes().to_vec();
    let mut modules = Vec::new();
    for (at, attribute) in code.match_indices("#[cfg(") {
        let inside = &code[at + attribute.len()..];
        let condition = &inside[..inside.find(']').unwrap_or(0)];
        if words(condition, "test").is_empty() || condition.contains("not(test") {
            continue;
        }
        let item = at + attribute.len() + condition.len() + 1;
        let end = match body(code, item) {
            Some(braces) => braces.end,
            None => code[item..].find(';').map_or(code.len(), |semicolon| item + semicolon + 1),
        };
        let head = code[item..end].split(['{', ';']).next().unwrap_or_default();
        if let Some(name) = words(head, "mod").first().map(|at| head[at + 3..].trim()) {
            modules.push(name.to_owned());
        }
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    (String::from_utf8(out).unwrap(), modules)
}

/// The product's files of a directory: without those that are modules for tests.
pub(super) fn product(files: Vec<Source>) -> Vec<Source> {
    let mut test_paths = Vec::new();
    for file in &files {
        let dir = match file.path.rsplit_once('/') {
            Some((dir, "mod.rs" | "lib.rs" | "main.rs")) => dir.to_owned(),
            _ => file.path.trim_end_matches(".rs").to_owned(),
        };
        for module in &file.test_modules {
            test_paths.push(format!("{dir}/{module}.rs"));
            test_paths.push(format!("{dir}/{module}/"));
        }
    }
    let is_test =
        |path: &str| test_paths.iter().any(|test| path == test || (test.ends_with('/') && path.starts_with(test)));
    files.into_iter().filter(|file| !is_test(&file.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r##"//! a { comment
fn one<'a>(x: &'a [u8; 3]) -> char { let s = "} // \" {"; let r = r#"" { "#; '{' }
#[cfg(test)]
mod proofs;
trait T { fn declared(&self); fn f2(&self, g: fn(u8) -> u8) {
    b'\''; /* } */
} }
#[cfg(any(test, fuzzing))]
mod tests {
    use std::fs;
}
#[cfg(not(test))]
fn last() {}
"##;

    #[test]
    fn functions_and_what_is_for_tests() {
        let source = Source::new("a/b.rs", TEXT.to_owned());
        let names: Vec<_> = source
            .functions()
            .into_iter()
            .map(|(name, at)| (name, source.line(at.start), source.line(at.end)))
            .collect();
        let wanted = [("one", 2, 2), ("f2", 5, 7), ("last", 13, 13)];
        assert_eq!(names, wanted.map(|(name, from, to)| (name.to_owned(), from, to)));
        assert_eq!(source.test_modules, ["proofs", "tests"]);
        assert!(source.code.contains("std::fs") && !source.product.contains("std::fs"));
        assert!(source.product.contains("fn last"));
        assert_eq!(source.at(source.text.find("trait").unwrap()), "a/b.rs:5");
        assert_eq!([&source.code, &source.product].map(String::len), [TEXT.len(); 2]);
    }

    #[test]
    fn files_of_test_modules_are_no_product() {
        let files = ["a/mod.rs", "a/b.rs", "a/b/proofs.rs", "a/b/proofs/x.rs", "a/proofs.rs"];
        let files = files.map(|path| Source::new(path, if path == "a/b.rs" { TEXT } else { "" }.to_owned()));
        let left: Vec<String> = product(files.into()).into_iter().map(|file| file.path).collect();
        assert_eq!(left, ["a/mod.rs", "a/b.rs", "a/proofs.rs"]);
    }
}
