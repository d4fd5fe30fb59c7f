//! Words of live systems that ask for what is not done here: the boot is refused with the reason, because one that went on without
//! it would be another one.

use super::{LiveSystem, Note, note};
use crate::cmdline::Word;
use crate::cmdline::values::is_off;

const NETWORK: &str =
    "nothing is fetched or mounted over a network; the medium has to be a disk, or an ISO file on one (findiso=)";
const UPPER: &str = "this system keeps its upper in another way; taproot.upper=label:NAME, UUID=... or dir:DIRECTORY takes what is written";
const CHECK: &str =
    "the medium is not read through before it is used; boot without the word, and check it in the booted system";

/// A word, and why it is refused.
const REFUSED: &[(&str, &str)] = &[
    ("netboot", NETWORK),
    ("nfsroot", NETWORK),
    ("nfsopts", NETWORK),
    ("nfsoverlay", NETWORK),
    ("fetch", NETWORK),
    ("httpfs", NETWORK),
    ("ftpfs", NETWORK),
    ("iscsi", NETWORK),
    ("url", NETWORK),
    ("archiso_http_srv", NETWORK),
    ("archiso_nfs_srv", NETWORK),
    ("archiso_nbd_srv", NETWORK),
    ("archiso_pxe_http", NETWORK),
    ("rd.live.updates", NETWORK),
    ("todisk", "the medium is copied to no disk; dd or taproot image does that in a running system"),
    (
        "live-media-offset",
        "a medium begins where its device begins; a partition, or an ISO file (findiso=), has its own beginning",
    ),
    ("live-media-encryption", "no encrypted medium can be opened"),
    ("exposedroot", "an image is never written to; without the word what is written goes to memory"),
    ("skipunion", "the root is an overlay; plainroot mounts a single image read-only"),
    ("read-only", "no block device is made read-only; taproot.import=ro keeps everything on disks as it is"),
    ("verify-checksums", CHECK),
    ("rd.live.check", CHECK),
    ("rd.writable.fsimg", "an image is never written to; without the word what is written goes to memory"),
    ("cow_label", UPPER),
    ("cow_device", UPPER),
    ("cow_directory", UPPER),
];
/// Words that only archiso means so: checks of an image.
const OF_ARCHISO: [&str; 3] = ["checksum", "verify", "cms_verify"];

/// Whether a word asks for what cannot be done.
pub(super) fn check(word: &Word, system: LiveSystem) -> Result<(), Note> {
    if is_off(word.value.as_deref()) {
        return Ok(());
    }
    let key = word.key.as_str();
    if system == LiveSystem::Archiso && OF_ARCHISO.contains(&key) {
        return Err(note(&word.text, &format!("{}: {CHECK}", word.text)));
    }
    match REFUSED.iter().find(|(word, _)| *word == key) {
        Some((_, why)) => Err(note(&word.text, &format!("{}: {why}", word.text))),
        None => Ok(()),
    }
}
