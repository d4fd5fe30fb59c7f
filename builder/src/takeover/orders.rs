//! What the system in memory is told, by a file that is packed with it.

use serde::{Deserialize, Serialize};

use super::disk::Identity;

/// Where it lies there.
pub(super) const ORDERS: &str = "/takeover/orders.json";
/// The image, compressed by zstd.
pub(super) const IMAGE: &str = "/takeover/image.zst";

/// What it does, and by what it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Orders {
    /// Shown where it was told before, and typed to confirm: a machine that came up in its old system does not know it.
    pub(super) nonce: String,
    /// After so long without a confirmation the machine restarts.
    pub(super) minutes: u64,
    /// The disk that is written.
    pub(super) disk: Identity,
    /// What is written.
    pub(super) image: Measure,
    /// Paths and parameters of modules, in the order in which they are loaded.
    pub(super) modules: Vec<(String, String)>,
}

/// Size and sums (SHA-256, hexadecimal) of an image's bytes, uncompressed: three parts are all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Measure {
    /// Bytes.
    pub(super) bytes: u64,
    /// Of the first [`EDGE`] bytes.
    pub(super) head: String,
    /// Of what lies between the two.
    pub(super) body: String,
    /// Of the last [`EDGE`] bytes.
    pub(super) tail: String,
}

/// Bytes at both ends that are written last: partition tables lie there.
pub(super) const EDGE: usize = 1 << 20;
