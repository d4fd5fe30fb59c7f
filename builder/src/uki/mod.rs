//! Unified kernel images: PE programs that carry a kernel, an initramfs and a command line as sections (UAPI.5): read here,
//! made in `write.rs`, signed in `sign.rs`. What is read are foreign bytes.

pub mod sign;
pub mod write;

/// More than any such program has.
const MAX_SECTIONS: usize = 96;

/// The content of a section; `None` if the bytes are no PE program or have no section of that name.
pub fn section<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if !is_program(bytes) {
        return None;
    }
    let header = usize::try_from(number(bytes, 0x3c)?).ok()?;
    let coff = bytes.get(header..)?.strip_prefix(b"PE\0\0")?;
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(coff.get(at..at + 2)?.try_into().ok()?)));
    let (count, optional) = (half(2)?, half(16)?);
    let table = coff.get(20 + optional..)?;
    let mut sections = table.chunks_exact(40).take(count.min(MAX_SECTIONS));
    let found = sections.find(|entry| {
        let end = entry.iter().take(8).position(|b| *b == 0).unwrap_or(8);
        entry.get(..end) == Some(name.as_bytes())
    })?;
    // The size in memory is the exact one, that in the file is padded.
    let (size, padded, at) = (number(found, 8)?, number(found, 16)?, number(found, 20)?);
    let start = usize::try_from(at).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(size.min(padded)).ok()?)?)
}

/// The text of a section, without the NULs and spaces at its end.
pub fn text(bytes: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(section(bytes, name)?).into_owned();
    Some(text.trim_end_matches(['\0', ' ', '\n']).to_owned())
}

/// Whether the bytes begin as a PE program does.
pub fn is_program(bytes: &[u8]) -> bool {
    bytes.starts_with(b"MZ")
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The release of a Linux kernel for x86, from its header (`Documentation/arch/x86/boot.rst`): the first word of the text that
/// `kernel_version` leads to.
pub fn release(kernel: &[u8]) -> Option<String> {
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let at = usize::from(u16::from_le_bytes(kernel.get(0x20e..0x210)?.try_into().ok()?));
    let text = kernel.get(at.checked_add(0x200)?..)?;
    let end = text.iter().take(128).position(|b| matches!(b, 0 | b' '))?;
    let release = std::str::from_utf8(text.get(..end)?).ok()?;
    (at != 0 && !release.is_empty() && !release.contains('/')).then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::{kernel, program};
    use proptest::prelude::*;

    #[test]
    fn sections_and_releases() {
        let uki = program(&[(".cmdline", b"root=zfs ro\n\0"), (".initrd", b"x"), (".uname", b"6.1")]);
        assert_eq!(text(&uki, ".cmdline").as_deref(), Some("root=zfs ro"));
        assert_eq!((section(&uki, ".initrd"), section(&uki, ".linux")), (Some(&b"x"[..]), None));
        assert_eq!(release(&kernel("6.9.7-arch1-1 (linux@a) #1")).as_deref(), Some("6.9.7-arch1-1"));
        assert_eq!(release(b"MZ"), None);
    }

    proptest! {
        #[test]
        fn total(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..400, value in any::<u8>()) {
            let _ = (section(&bytes, ".x"), release(&bytes));
            let mut uki = program(&[(".a", b"1"), (".b", b"2")]);
            let len = uki.len();
            uki[at % len] = value;
            let _ = section(&uki, ".b");
        }
    }
}
