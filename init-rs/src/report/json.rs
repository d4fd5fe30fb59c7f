//! A small JSON writer (RFC 8259), output only.

use std::fmt::Write as _;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number. Readers that hold numbers as doubles are exact up to 2^53; write guids as text.
    Int(i64),
    /// A number given in thousandths. The code that writes floats is 14 KB.
    Thousandths(u64),
    /// Text.
    Text(String),
    /// A list.
    Array(Vec<Json>),
    /// Members in the order given.
    Object(Vec<(&'static str, Json)>),
    /// This value on one line.
    Line(Box<Json>),
}

impl Json {
    /// Text from anything that can be shown.
    pub fn text(value: &impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    /// A list made from `items`.
    pub fn list<T>(items: &[T], make: impl FnMut(&T) -> Self) -> Self {
        Self::Array(items.iter().map(make).collect())
    }

    /// An object on one line.
    pub fn line(members: Vec<(&'static str, Self)>) -> Self {
        Self::Line(Box::new(Self::Object(members)))
    }

    /// The document with two-space indentation and a final newline.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.push('\n');
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Int(n) => {
                let _ = write!(out, "{n}");
            }
            Self::Thousandths(n) => {
                let number = format!("{}.{:03}", n / 1000, n % 1000);
                out.push_str(number.trim_end_matches('0').trim_end_matches('.'));
            }
            Self::Null => out.push_str("null"),
            Self::Text(text) => escape(text, out),
            Self::Array(items) => {
                block(out, depth, '[', ']', items, |item, out| item.write(out, depth + 1));
            }
            Self::Object(members) => block(out, depth, '{', '}', members, |(key, value), out| {
                escape(key, out);
                out.push_str(": ");
                value.write(out, depth + 1);
            }),
            Self::Line(value) => value.write_line(out),
        }
    }

    fn write_line(&self, out: &mut String) {
        match self {
            Self::Array(items) => {
                joined(out, '[', ']', items, Self::write_line);
            }
            Self::Object(members) => joined(out, '{', '}', members, |(key, value), out| {
                escape(key, out);
                out.push_str(": ");
                value.write_line(out);
            }),
            other => other.write(out, 0),
        }
    }
}

/// Items between brackets, on the line they are on.
fn joined<T>(out: &mut String, open: char, close: char, items: &[T], mut item: impl FnMut(&T, &mut String)) {
    out.push(open);
    for (n, value) in items.iter().enumerate() {
        if n > 0 {
            out.push_str(", ");
        }
        item(value, out);
    }
    out.push(close);
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One item a line between brackets; an empty block stays on its line.
fn block<T>(
    out: &mut String,
    depth: usize,
    open: char,
    close: char,
    items: &[T],
    mut item: impl FnMut(&T, &mut String),
) {
    out.push(open);
    for (n, value) in items.iter().enumerate() {
        out.push_str(if n == 0 { "\n" } else { ",\n" });
        out.push_str(&"  ".repeat(depth + 1));
        item(value, out);
    }
    if !items.is_empty() {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
    out.push(close);
}

fn escape(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || c == '\x7f' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shapes() {
        let doc = Json::Object(vec![
            ("a", Json::Array(vec![Json::Int(-1), Json::Null, Json::Thousandths(500), Json::Thousandths(20_000)])),
            ("b\"", Json::Object(vec![])),
            ("c", Json::Bool(true)),
            ("d", Json::line(vec![("e", Json::Array(vec![Json::Int(1), Json::Null])), ("f", Json::line(vec![]))])),
        ]);
        let back: serde_json::Value = serde_json::from_str(&doc.render()).unwrap();
        let d = serde_json::json!({"e": [1, null], "f": {}});
        assert_eq!(back, serde_json::json!({"a": [-1, null, 0.5, 20], "b\"": {}, "c": true, "d": d}));
        assert!(doc.render().contains("\n  \"d\": {\"e\": [1, null], \"f\": {}}\n"), "{}", doc.render());
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text: String) {
            let doc = Json::Array(vec![Json::text(&text)]).render();
            let back: Vec<String> = serde_json::from_str(&doc).unwrap();
            prop_assert_eq!(back, vec![text]);
        }
    }
}
