//! Whole command lines of systems that exist, with what is made of each: `corpus.txt`, which says how a row is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;

const TEXT: &str = include_str!("corpus.txt");
/// So many rows there are at least.
const ROWS: usize = 60;
/// Between a word and what is said of it.
const SAID: &str = " => ";

/// A row: its fields in order, and where it begins.
#[derive(Debug)]
struct Row<'t> {
    number: usize,
    fields: Vec<(&'t str, &'t str)>,
}

/// The rows, or what is wrong with the text.
fn rows(text: &str) -> Result<Vec<Row<'_>>, String> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        if line.starts_with('#') {
            continue;
        }
        if line.is_empty() {
            open = false;
            continue;
        }
        let (key, value) =
            line.split_once(": ").ok_or(format!("line {number}: expected `key: value`, found `{line}`"))?;
        if value.is_empty() || value.trim() != value {
            return Err(format!("line {number}: {key} has no value, or blanks around it"));
        }
        if !open {
            rows.push(Row { number, fields: Vec::new() });
            open = true;
        }
        let row = rows.last_mut().ok_or("no row")?;
        let given = row.fields.iter().any(|(known, _)| *known == key);
        match key {
            "line" | "from" | "root" | "snapshot" | "hook" if given => {
                return Err(format!("line {number}: the row has two of `{key}`"));
            }
            "hook" if value != "steps aside" => return Err(format!("line {number}: expected `hook: steps aside`")),
            "set" if !value.contains(" = ") => return Err(format!("line {number}: expected `set: NAME = VALUE`")),
            "note" | "problem" if !value.contains(SAID) => {
                return Err(format!("line {number}: expected `{key}: WORD{SAID}PART OF THE TEXT`"));
            }
            "line" => {
                if let Some(other) = lines.insert(value, number) {
                    return Err(format!("line {number}: the same command line as in line {other}"));
                }
            }
            "from" | "root" | "snapshot" | "hook" | "set" | "option" | "note" | "problem" => {}
            _ => return Err(format!("line {number}: no field is called `{key}`")),
        }
        row.fields.push((key, value));
    }
    let must = ["line", "from", "root"];
    let lacks = |row: &Row<'_>| must.into_iter().find(|key| !row.fields.iter().any(|(known, _)| known == key));
    match rows.iter().find_map(|row| Some((row.number, lacks(row)?))) {
        Some((number, key)) => Err(format!("line {number}: the row has no `{key}`")),
        None => Ok(rows),
    }
}

/// What is made of a line, in the fields of a row. Notes and problems with their whole text.
fn made_of(request: &Request) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    for Setting { name, value, default, .. } in settings(request) {
        match name {
            "root" | "snapshot" => fields.push((name, value)),
            _ if default => {}
            _ => fields.push(("set", format!("{name} = {value}"))),
        }
    }
    let option = |option: &ModuleOption| ("option", format!("{}.{}", option.module, option.render()));
    fields.extend(request.module_options.iter().map(option));
    let said = |note: &Note| format!("{}{SAID}{}", note.word, note.message);
    fields.extend(request.notes.iter().map(|note| ("note", said(note))));
    fields.extend(request.problems.iter().map(|note| ("problem", said(note))));
    if !request.ours {
        fields.push(("hook", "steps aside".to_owned()));
    }
    fields
}

impl Row<'_> {
    fn line(&self) -> &str {
        self.fields.iter().find(|(key, _)| *key == "line").map_or("", |(_, line)| line)
    }

    /// How what is made of the line differs from the row; empty if it does not.
    fn differs(&self) -> String {
        let made = made_of(&parse(self.line().as_bytes()));
        let expected: Vec<_> = self.fields.iter().filter(|(key, _)| !["line", "from"].contains(key)).collect();
        let agrees = |(key, value): &&&(&str, &str), made: &(&str, String)| match *key {
            "note" | "problem" => {
                let (word, part) = value.split_once(SAID).unwrap_or((value, ""));
                made.0 == *key
                    && made.1.strip_prefix(word).and_then(|t| t.strip_prefix(SAID)).is_some_and(|t| t.contains(part))
            }
            _ => made.0 == *key && made.1 == *value,
        };
        let mut text = String::new();
        for field in expected.iter().filter(|field| !made.iter().any(|made| agrees(field, made))) {
            let _ = writeln!(text, "  expected, and not there: {}: {}", field.0, field.1);
        }
        for made in made.iter().filter(|made| !expected.iter().any(|field| agrees(&field, made))) {
            let _ = writeln!(text, "  there, and not expected: {}: {}", made.0, made.1);
        }
        text
    }
}

#[test]
fn every_line_of_the_corpus() {
    let rows = rows(TEXT).unwrap_or_else(|wrong| panic!("corpus.txt, {wrong}"));
    assert!(rows.len() >= ROWS, "corpus.txt has {} rows", rows.len());
    let mut failed = String::new();
    for (row, differs) in rows.iter().map(|row| (row, row.differs())).filter(|(_, differs)| !differs.is_empty()) {
        let _ = writeln!(failed, "corpus.txt, line {}: {}\n{differs}", row.number, row.line());
    }
    assert!(failed.is_empty(), "\n{failed}");
}

#[test]
fn a_row_that_is_wrong_is_found() {
    let good = "# x\nline: root=ZFS=p/d ro\nfrom: here\nroot: dataset p/d\nset: root's mount = ro\n";
    assert_eq!(rows(good).unwrap()[0].differs(), "");
    let differs = |from: &str, to: &str| rows(&good.replace(from, to)).unwrap()[0].differs();
    assert!(differs("dataset p/d", "dataset p/e").contains("expected, and not there: root: dataset p/e"));
    assert!(differs("dataset p/d", "dataset p/e").contains("there, and not expected: root: dataset p/d"));
    assert!(differs("set: root's mount = ro\n", "").contains("there, and not expected: set: root's mount = ro"));
    assert!(differs("ro\nfrom", "ro ROOT=x\nfrom").contains("note: ROOT=x => unknown"));
    assert_eq!(differs("ro\nfrom: here", "ro ROOT=x\nfrom: here\nnote: ROOT=x => unknown"), "");
    for (from, to, wrong) in [
        ("from: here\n", "", "line 2: the row has no `from`"),
        ("from: here", "from", "line 3: expected `key: value`"),
        ("from: here", "from:  here", "line 3: from has no value, or blanks"),
        ("from:", "form:", "line 3: no field is called `form`"),
        ("root: d", "root: x\nroot: d", "line 5: the row has two of `root`"),
        ("mount = ro", "mount", "line 5: expected `set: NAME = VALUE`"),
        ("set:", "note:", "line 5: expected `note: WORD => PART"),
        ("set: root's mount = ro", "hook: yes", "line 5: expected `hook: steps aside`"),
    ] {
        let error = rows(&good.replace(from, to)).unwrap_err();
        assert!(error.contains(wrong), "{error}");
    }
    assert!(rows(&format!("{good}\n{good}")).unwrap_err().contains("line 8: the same command line as in line 2"));
}
