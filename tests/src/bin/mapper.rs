//! The library's way to a verity device, to be run in a machine of a test (`tests/verity.rs`):
//!
//! - `mapper map NAME DATA TREE ROOTHASH [WORD]` makes the device and prints its node; a tree on the same device lies at its image's end
//! - `mapper unmap NAME`

use std::error::Error;
use std::path::Path;

use taproot_init::devices::verity::{
    HEAD_LEN, OnCorruption, SUPERBLOCK_LEN, Superblock, Table, appended_at, root_hash,
};
use taproot_init::sys::device::BlockFile;
use taproot_init::sys::linux::Linux;
use taproot_init::sys::{FileKind, System};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let system = Linux::new();
    match args[..] {
        ["map", name, data, tree, root] => map(&system, name, (data, tree), root, OnCorruption::Error),
        ["map", name, data, tree, root, word] => map(&system, name, (data, tree), root, OnCorruption::parse(word)?),
        ["unmap", name] => Ok(system.unmap(name)?),
        _ => Err("expected map NAME DATA TREE ROOTHASH [WORD], or unmap NAME".into()),
    }
}

fn map(
    system: &dyn System,
    name: &str,
    (data, tree): (&str, &str),
    root: &str,
    on_corruption: OnCorruption,
) -> Result<(), Box<dyn Error>> {
    let read = |path: &str, at: u64, len: usize| {
        let mut bytes = vec![0; len];
        BlockFile::open(Path::new(path))?.read_at(at, &mut bytes).map(|()| bytes)
    };
    let number = |path: &str| -> Result<(u32, u32), Box<dyn Error>> {
        match system.stat(Path::new(path))?.kind {
            FileKind::Block { major, minor } => Ok((major, minor)),
            other => Err(format!("{path}: expected a block device, found {other:?}").into()),
        }
    };
    let superblock_at =
        if data == tree { appended_at(&read(data, 0, HEAD_LEN)?).ok_or("no image that has an end")? } else { 0 };
    let superblock = Superblock::parse(&read(tree, superblock_at, SUPERBLOCK_LEN)?)?;
    let root = root_hash(root)?;
    let (data, hash) = (number(data)?, number(tree)?);
    let table = Table { data, hash, superblock: &superblock, superblock_at, root, on_corruption };
    println!("{}", system.map(&table.mapping(name))?.display());
    Ok(())
}
