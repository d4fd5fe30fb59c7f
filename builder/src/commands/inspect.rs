//! `taproot inspect`.

use crate::cli::InspectArgs;
use crate::initramfs::tree::named;
use crate::inspect::{LIMIT, Listing, list};
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

/// One line an entry, totals at the end.
fn table(listing: &Listing) -> String {
    let mut out = String::new();
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
