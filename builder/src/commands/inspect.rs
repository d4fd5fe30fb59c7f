//! `taproot inspect`.

use crate::cli::InspectArgs;
use crate::initramfs::sources::Kind;
use crate::initramfs::tree::named;
use crate::inspect::{LIMIT, Listing, Packed, list};
use crate::output::print;
use crate::progress::megabytes;
use anyhow::{Context, Result};
use std::fmt::Write as _;

/// Lists the image.
pub fn run(args: &InspectArgs) -> Result<()> {
    let shown = args.image.display();
    let bytes = named(&args.image, LIMIT)?;
    let listing = list(&bytes).with_context(|| format!("{shown}"))?;
    print(&if args.json { format!("{}\n", serde_json::to_string_pretty(&listing)?) } else { table(&listing) })
}

/// What the packer noted: whom the image is for, and what it was made of.
fn heading(packed: &Packed) -> String {
    let mut out = format!("kernel {}, packed by {}\n", packed.kernel, packed.packer);
    for (name, guid) in &packed.pools {
        let _ = writeln!(out, "expects pool {name} (guid {guid})");
    }
    if let Some(root) = &packed.root {
        let _ = writeln!(out, "expects root {root}");
    }
    if !packed.cmdline.is_empty() {
        let _ = writeln!(out, "words before the kernel's: {}", packed.cmdline);
    }
    if !packed.layer_modules.is_empty() {
        let _ = writeln!(out, "modules for layers: {}", packed.layer_modules.join(", "));
    }
    for key in &packed.layer_keys {
        let _ = writeln!(out, "key of signed layer lists: {key}");
    }
    let Some(sources) = &packed.sources else {
        return out + "an older version packed it: what it was made of is not noted (taproot status)\n\n";
    };
    for source in sources.iter().filter(|source| source.kind != Kind::Module) {
        let mark = source.mark.get(..source.mark.len().min(20)).unwrap_or_default();
        let _ = writeln!(out, "made of {} {} ({mark})", source.kind.word(), source.name);
    }
    out + "\n"
}

/// One line an entry, totals at the end.
fn table(listing: &Listing) -> String {
    let mut out = listing.packed.as_ref().map(heading).unwrap_or_default();
    for file in &listing.files {
        let kind = match file.kind {
            "directory" => 'd',
            "link" => 'l',
            "device" => 'c',
            _ => '-',
        };
        let why = file.why.as_deref().unwrap_or(if file.early { "read by the kernel before unpacking" } else { "" });
        let _ = writeln!(out, "{kind}{:04o} {:>10}  {:<70} {why}", file.mode & 0o7777, file.size, file.path);
    }
    let _ = writeln!(
        out,
        "{} entries, {} ({}), {} unpacked",
        listing.files.len(),
        megabytes(listing.bytes),
        listing.compression,
        megabytes(listing.uncompressed_bytes)
    );
    out
}
