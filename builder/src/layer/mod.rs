//! Layers of a root: read as they are stored, merged, sealed into images, compared (docs/layer-tools.md).
//!
//! Everything begins with [`tree::Source`], a raw layer: a directory that was an overlay's upper, or an image. [`merge::Plan`] is what one
//! layer made of several holds, entry by entry; [`seal`] writes it as an image and proves it, [`copy`] as a directory, [`tar`] as a
//! stream.

pub mod acl;
pub mod compare;
pub mod copy;
pub mod diff;
pub mod exclude;
pub mod fit;
pub mod format;
pub mod hidden;
pub mod image;
pub mod merge;
pub mod node;
pub mod room;
pub mod seal;
pub mod snapshot;
pub mod squashfs;
pub mod stack;
pub mod tar;
pub mod tree;
pub mod untar;
pub mod workshop;
