//! What keeps the sources as they are meant to be, without a machine: short files and functions, rooms that import only what
//! lies below them, no way to the world but the seam, and pages that name what the code has. Each check ends with the list of
//! what breaks it, a line of a file each.

mod lengths;
mod pages;
mod rooms;
mod seam;
mod source;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

/// All Rust files below a directory of the checkout, sorted.
fn rust_files(below: &str) -> Vec<Source> {
    let root = crate::checkout();
    let mut files = Vec::new();
    walk(&root.join(below), &mut files);
    files.retain(|path| path.extension().is_some_and(|end| end == "rs"));
    assert!(!files.is_empty(), "no Rust file below {below}");
    files.iter().map(|path| read(&root, path)).collect()
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn read(root: &Path, path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Source::new(&path.strip_prefix(root).unwrap().to_string_lossy(), text)
}

/// A page of the checkout.
fn page(path: &str) -> String {
    let path = crate::checkout().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Fails with the list, if there is anything in it.
fn none(list: &[String], rule: &str) {
    assert!(list.is_empty(), "{rule}; against that are {}:\n  {}\n", list.len(), list.join("\n  "));
}
