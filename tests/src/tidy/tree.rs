//! What is packed comes from a tree that may be foreign, so the packer reads it through `initramfs::tree::Tree` alone.

use super::seam::paths;
use super::source::{Source, product, words};
use super::{none, rust_files};

/// Files that read this machine, and have no path of a tree: a `Tree` does not say where it is.
const THIS_MACHINE: [&str; 7] = [
    "builder/src/initramfs/tree.rs", // is the way to the tree
    "builder/src/initramfs/kept.rs", // the same, if that is an archive
    "builder/src/initramfs/host.rs",
    "builder/src/initramfs/layered.rs",
    "builder/src/initramfs/members.rs",
    "builder/src/initramfs/root.rs",
    "builder/src/initramfs/password.rs",
];
/// Ways to a file besides `std::fs`.
const WAYS: [&str; 9] = [
    "exists",
    "is_file",
    "is_dir",
    "canonicalize",
    "metadata",
    "read_link",
    "read_dir",
    "symlink_metadata",
    "resolve_here",
];

fn past_the_tree(file: &Source) -> Vec<String> {
    let code = &file.product;
    let mut found: Vec<usize> =
        paths(code, "std").into_iter().filter(|(_, path)| path.starts_with("std::fs")).map(|(at, _)| at).collect();
    found.extend(WAYS.iter().flat_map(|way| words(code, way)).filter(|at| code[..*at].ends_with(['.', ':'])));
    found.sort_unstable();
    found.into_iter().map(|at| file.at(at)).collect()
}

#[test]
fn the_packed_tree_is_read_through_its_type() {
    let mut files = product(rust_files("builder/src/initramfs"));
    files.retain(|file| !THIS_MACHINE.contains(&file.path.as_str()));
    let list: Vec<String> = files.iter().flat_map(past_the_tree).collect();
    none(&list, "files of the tree to pack are read through initramfs::tree::Tree alone");
    let tree = rust_files("builder/src/initramfs").into_iter().find(|file| file.path == THIS_MACHINE[0]).unwrap();
    assert!(!tree.product.contains("pub root") && !tree.product.contains("fn root"), "a Tree must not say where it is");
}

#[test]
fn what_goes_past_it_is_found() {
    let found = |text: &str| past_the_tree(&Source::new("x.rs", text.to_owned())).len();
    for text in
        ["use std::fs;", "use std::{io, fs::File};", "std::fs::read(p)", "if path.exists() {}", "p.canonicalize()?"]
    {
        assert_eq!(found(text), 1, "{text}");
    }
    for text in
        ["use std::fmt;", "let exists = tree.file(p);", "// std::fs\n", "#[cfg(test)]\nmod tests { use std::fs; }"]
    {
        assert_eq!(found(text), 0, "{text}");
    }
}
