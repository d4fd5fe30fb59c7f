//! Swap space and the hibernation image in it: the header (mkswap(8), `kernel/power/swap.c`).

/// Signatures of an image, at the end of the first page: those of the kernel, of the tools of uswsusp, and of `TuxOnIce`.
const IMAGES: [&[u8]; 4] = [b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001"];
/// Signatures of swap space without an image.
const SWAPS: [&[u8]; 2] = [b"SWAPSPACE2", b"SWAP-SPACE"];
/// Length of a signature.
const SIGNATURE: usize = 10;

/// The first page of a swap device or swap file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Signature of the image in it, if there is one.
    pub image: Option<String>,
    /// Whether it is swap space, with or without an image.
    pub swap: bool,
}

impl Header {
    /// Reads a page; total over any bytes.
    pub fn read(page: &[u8]) -> Self {
        let tail = page.len().checked_sub(SIGNATURE).and_then(|at| page.get(at..)).unwrap_or_default();
        let image =
            IMAGES.iter().find(|s| **s == tail).map(|s| String::from_utf8_lossy(s).trim_end_matches('\0').to_owned());
        let swap = image.is_some() || SWAPS.contains(&tail);
        Self { image, swap }
    }
}

/// The signature that makes plain swap space of a page that holds an image: the one that the image displaced, which stands
/// before its own. To be written to the last bytes of the page.
pub fn signature_without_image(page: &[u8]) -> [u8; SIGNATURE] {
    let displaced = page.len().checked_sub(2 * SIGNATURE).and_then(|at| page.get(at..at + SIGNATURE));
    let known = SWAPS.into_iter().find(|s| Some(*s) == displaced).unwrap_or(SWAPS[0]);
    known.try_into().unwrap_or([0; SIGNATURE])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(signature: &[u8]) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[4096 - signature.len()..].copy_from_slice(signature);
        page
    }

    #[test]
    fn headers() {
        let header = |signature: &[u8]| Header::read(&page(signature));
        assert_eq!(header(b"SWAPSPACE2"), Header { image: None, swap: true });
        for (signature, name) in
            [(&b"S1SUSPEND\0"[..], "S1SUSPEND"), (b"ULSUSPEND\0", "ULSUSPEND"), (b"LINHIB0001", "LINHIB0001")]
        {
            assert_eq!(header(signature), Header { image: Some(name.to_owned()), swap: true });
        }
        assert_eq!(header(b"S1SUSPENDx"), Header::default());
        assert_eq!(Header::read(b"S1SUSPEND"), Header::default());
        assert_eq!(Header::read(b"S1SUSPEND\0").image.as_deref(), Some("S1SUSPEND"));
        assert_eq!(Header::read(&[]), Header::default());
    }

    #[test]
    fn the_displaced_signature_comes_back() {
        let mut with_image = page(b"SWAP-SPACES1SUSPEND\0");
        assert_eq!(&signature_without_image(&with_image), b"SWAP-SPACE");
        with_image[4096 - 20..4096 - 10].fill(0);
        assert_eq!(&signature_without_image(&with_image), b"SWAPSPACE2");
        assert_eq!(&signature_without_image(&[]), b"SWAPSPACE2");
    }
}
