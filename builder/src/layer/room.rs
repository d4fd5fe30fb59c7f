//! How much room a layer takes, before it is written.

use super::format::{Compression, Format};
use super::merge::Plan;
use super::tree::Source;

/// What compressed system files come to, of a hundred: most come to less.
const COMPRESSED: u64 = 60;
/// An inode, its names and attributes.
const ENTRY: u64 = 200;
/// For what cannot be known.
const MARGIN: u64 = 1 << 20;

/// Bytes that the image may take, and that are needed while it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Estimate {
    /// The image.
    pub image: u64,
    /// At most at once, beside what is there now.
    pub needed: u64,
}

/// The estimate for a plan. Files of an image take no more than that image does.
pub fn estimate(plan: &Plan, sources: &[Source], format: Format, compression: &Compression) -> Estimate {
    let per_source = sources.iter().enumerate().map(|(index, source)| {
        let own = plan.items.iter().filter(|item| item.source == index && item.link_to.is_none());
        let data = own.map(|item| item.node.size()).sum();
        (data, source.image().map(|image| image.bytes))
    });
    let image = of(per_source, plan.items.len() as u64, compression.is_none());
    // Erofs is made of a copy of the tree.
    let copy = if format == Format::Erofs { plan.totals().bytes + 4096 * plan.items.len() as u64 } else { 0 };
    Estimate { image, needed: image + copy }
}

fn of(sources: impl Iterator<Item = (u64, Option<u64>)>, entries: u64, stored: bool) -> u64 {
    let data: u64 = sources
        .map(|(data, image)| match image {
            _ if stored => data,
            Some(image) => image.min(data),
            None => data / 100 * COMPRESSED,
        })
        .sum();
    data + entries * ENTRY + MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_counts() {
        let sources = [(1_000_000_000, Some(300_000_000)), (100_000_000, None), (5_000, Some(90_000_000))];
        assert_eq!(of(sources.into_iter(), 1000, false), 300_000_000 + 60_000_000 + 5_000 + 200_000 + MARGIN);
        assert_eq!(of(sources.into_iter(), 0, true), 1_100_005_000 + MARGIN);
    }
}
