//! Volumes: block devices in the pool.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::PoolError;
use super::block::{Bp, Compression, Embed};
use super::content::{Content, hash_block};
use super::dmu::{self, Object, ObjectSet, types};
use super::plan::Volume;
use super::store::{Space, Store};
use super::zap;
use super::zpl::METADATA;

const SET_ZVOL: u64 = 3;

/// Writes a volume; returns the pointer to it, what it takes, and what it holds if that is wanted.
pub(super) fn write(
    volume: &Volume,
    compression: Compression,
    verify: bool,
    store: &mut Store<'_>,
) -> Result<(Bp, Space, Option<Content>), PoolError> {
    let mut content = verify.then(Content::default);
    if let Some(content) = &mut content {
        content.volume(volume.size, volume.block_size);
    }
    let mut set = ObjectSet::default();
    let (data, size) = (set.reserve(), set.reserve());
    let top = write_blocks(volume, compression, &mut content, data, store)?;
    let mut space = top.space;
    set.set(data, &Object::plain(types::VOLUME, volume.block_size).dnode(&top))?;
    let zap = zap::build(&zap::numbers(&[("size", volume.size)]), 1)?;
    let blocks = zap.blocks.iter().map(Vec::as_slice);
    let top = dmu::write_blocks(store, types::VOLUME_PROPERTIES, METADATA, blocks, None)?;
    space.add(top.space);
    set.set(size, &Object::plain(types::VOLUME_PROPERTIES, zap.block_size).dnode(&top))?;
    let (pointer, more) = set.write(store, SET_ZVOL, &[], METADATA, None)?;
    space.add(more);
    Ok((pointer, space, content))
}

fn write_blocks(
    volume: &Volume,
    compression: Compression,
    content: &mut Option<Content>,
    object: u64,
    store: &mut Store<'_>,
) -> Result<dmu::Top, PoolError> {
    let size = volume.block_size as u64;
    let blocks = volume.size / size;
    let mut tree = dmu::Tree::new(types::VOLUME, METADATA);
    let source = volume.content.as_ref().map(File::open).transpose()?;
    let mut block = vec![0; volume.block_size];
    let kind = super::block::Kind { object_type: types::VOLUME, level: 0 };
    while tree.blocks() < blocks {
        let at = tree.blocks() * size;
        let next = source.as_ref().map_or(Ok(None), |source| data_from(source, at))?;
        let next = next.map_or(blocks, |next| (next / size).min(blocks));
        while tree.blocks() < next {
            tree.push(Bp::HOLE, Space::default(), store)?;
        }
        let Some(source) = source.as_ref().filter(|_| tree.blocks() < blocks) else { break };
        let at = tree.blocks() * size;
        fill(source, at, &mut block)?;
        if let (Some(content), Some(hash)) = (content.as_mut(), hash_block(&block)) {
            content.block(object, tree.blocks(), &hash);
        }
        let (bp, space) = store.write(&block, kind, 1, (compression, Embed::Yes), None)?;
        tree.push(bp, space, store)?;
    }
    tree.finish(store)
}

/// Where data begins that is no hole; `None` if there is none any more.
fn data_from(source: &File, at: u64) -> io::Result<Option<u64>> {
    match lseek(source, at.cast_signed(), Whence::SeekData) {
        Ok(found) => Ok(Some(found.cast_unsigned().max(at))),
        Err(Errno::ENXIO) => Ok(None),
        // It knows of no holes.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Some(at)),
        Err(error) => Err(error.into()),
    }
}

/// Reads a block; zeros behind the end.
fn fill(source: &File, at: u64, block: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < block.len() {
        match source.read_at(block.get_mut(done..).unwrap_or_default(), at + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    block.get_mut(done..).unwrap_or_default().fill(0);
    Ok(())
}
