//! What `kexec_load(2)` wants laid out: a kernel of x86 (`Documentation/arch/x86/boot.rst`), its parameters, and three instructions
//! that hand them over. Pure.

use anyhow::{Context as _, Result, ensure};

/// Bytes of a page, and of `struct boot_params`.
const PAGE: u64 = 4096;
/// Of the header in the kernel and in the parameters.
const HEADER: usize = 0x1f1;
/// Where 64-bit code begins, behind the kernel's load address.
const ENTRY_64: u64 = 0x200;
/// Kernels, parameters and initramfs are kept below it, for those that can address no more.
const CEILING: u64 = 0x7fff_0000;
/// Memory below it has other uses (firmware, the starting of processors).
const FLOOR: u64 = 0x10_0000;

/// Offsets in the header and in the parameters, by their names in the document.
mod at {
    pub(super) const SCREEN_INFO_END: usize = 0x40;
    pub(super) const ACPI_RSDP: usize = 0x70;
    pub(super) const E820_COUNT: usize = 0x1e8;
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const TYPE_OF_LOADER: usize = 0x210;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21c;
    pub(super) const CMD_LINE: usize = 0x228;
    pub(super) const ALIGNMENT: usize = 0x230;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const CMD_LINE_SIZE: usize = 0x238;
    pub(super) const PREF_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
    pub(super) const E820: usize = 0x2d0;
}

/// An entry of the memory map: 20 bytes, the type behind address and length; 1 is memory that can be used.
const E820_ENTRY: usize = 20;
const E820_MAX: usize = 128;

/// What is to lie where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Where the kernel jumps to.
    pub(super) entry: u64,
    /// Code, parameters and words, and their address.
    pub(super) start: (Vec<u8>, u64),
    /// Where the kernel's bytes behind its setup begin, their address, and what it needs of memory.
    pub(super) kernel: (usize, u64, u64),
    /// Where the initramfs lies.
    pub(super) initramfs: u64,
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Result<[u8; N]> {
    let found = from.get(at..at + N).and_then(|part| part.try_into().ok());
    found.with_context(|| format!("expected {N} bytes at {at:#x}, found the end"))
}

fn u64_at(from: &[u8], at: usize) -> Result<u64> {
    bytes(from, at).map(u64::from_le_bytes)
}

fn u32_at(from: &[u8], at: usize) -> Result<u64> {
    bytes(from, at).map(|found| u32::from_le_bytes(found).into())
}

fn u16_at(from: &[u8], at: usize) -> Result<u16> {
    bytes(from, at).map(u16::from_le_bytes)
}

fn put(into: &mut [u8], at: usize, what: &[u8]) -> Result<()> {
    into.get_mut(at..at + what.len()).context("the parameters are too small")?.copy_from_slice(what);
    Ok(())
}

/// Memory that can be used, from the parameters that the running kernel was started with: beginnings and ends.
fn memory(running: &[u8]) -> Result<Vec<(u64, u64)>> {
    let count = bytes::<1>(running, at::E820_COUNT)?.map(usize::from)[0].min(E820_MAX);
    let mut list = Vec::new();
    for number in 0..count {
        let entry = at::E820 + number * E820_ENTRY;
        let (begin, length, kind) =
            (u64_at(running, entry)?, u64_at(running, entry + 8)?, u32_at(running, entry + 16)?);
        if kind == 1 && begin < CEILING {
            let whole = (begin.max(FLOOR).next_multiple_of(PAGE), begin.saturating_add(length).min(CEILING));
            list.push((whole.0, whole.1 - whole.1 % PAGE));
        }
    }
    list.retain(|(begin, end)| begin < end);
    Ok(list)
}

/// Takes so many bytes from the end of the last area that has them above `above`.
fn from_end(free: &[(u64, u64)], size: u64, above: u64) -> Option<u64> {
    let size = size.checked_next_multiple_of(PAGE)?;
    let fits = |(begin, end): &(u64, u64)| {
        let at = end.checked_sub(size)?;
        (at >= (*begin).max(above)).then_some(at)
    };
    free.iter().rev().find_map(fits)
}

/// Lays out a kernel file. `running`: `/sys/kernel/boot_params/data`.
pub(super) fn lay_out(kernel: &[u8], running: &[u8], initramfs: u64, words: &str) -> Result<Layout> {
    ensure!(bytes::<4>(kernel, at::MAGIC)? == *b"HdrS", "expected a bzImage, found no HdrS at 0x202");
    ensure!(u16_at(kernel, at::VERSION)? >= 0x20c, "expected boot protocol 2.12 or newer (Linux 3.8)");
    ensure!(u16_at(kernel, at::XLOADFLAGS)? & 1 == 1, "expected a kernel that can be entered in 64-bit mode");
    ensure!((words.len() as u64) <= u32_at(kernel, at::CMD_LINE_SIZE)?, "the command line is too long for this kernel");
    let free = memory(running)?;
    let sectors = match bytes::<1>(kernel, at::SETUP_SECTS)?[0] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let setup = (sectors + 1) * 512;
    let needs = u32_at(kernel, at::INIT_SIZE)?.next_multiple_of(PAGE);
    let alignment = u32_at(kernel, at::ALIGNMENT)?.max(PAGE);
    let wanted = u64_at(kernel, at::PREF_ADDRESS)?;
    let place = |(begin, end): &(u64, u64)| {
        let at = (*begin).max(wanted).checked_next_multiple_of(alignment)?;
        (at.checked_add(needs)? <= *end).then_some(at)
    };
    let no_room = |what: &str| format!("no memory below 2 GiB is free for {what}");
    let at = free.iter().find_map(place).with_context(|| no_room("the kernel"))?;
    // Above the kernel: it looks for a place to unpack itself to from there on, and knows these two.
    let initramfs_at = from_end(&free, initramfs, at + needs).with_context(|| no_room("the initramfs"))?;
    let below: Vec<(u64, u64)> = free.iter().map(|(begin, end)| (*begin, (*end).min(initramfs_at))).collect();
    let start_size = 2 * PAGE + words.len() as u64 + 1;
    let start = from_end(&below, start_size, at + needs).with_context(|| no_room("the parameters"))?;

    let mut first = code(start + PAGE, at + ENTRY_64);
    first.resize(usize::try_from(PAGE)?, 0);
    first.extend(parameters(kernel, running, (initramfs_at, initramfs), start + 2 * PAGE)?);
    first.extend(words.as_bytes());
    first.push(0);
    Ok(Layout { entry: start, start: (first, start), kernel: (setup, at, needs), initramfs: initramfs_at })
}

/// `mov rsi, parameters; mov rax, entry; jmp rax`. Memory is mapped one to one then, and the kernel makes its own descriptor tables.
fn code(parameters: u64, entry: u64) -> Vec<u8> {
    [&[0x48, 0xbe][..], &parameters.to_le_bytes(), &[0x48, 0xb8], &entry.to_le_bytes(), &[0xff, 0xe0]].concat()
}

/// `struct boot_params`: the kernel's own header, and of the running kernel's what the firmware told: screen, ACPI, memory.
fn parameters(kernel: &[u8], running: &[u8], initramfs: (u64, u64), words: u64) -> Result<Vec<u8>> {
    let mut page = vec![0; usize::try_from(PAGE)?];
    put(&mut page, 0, &bytes::<{ at::SCREEN_INFO_END }>(running, 0)?)?;
    put(&mut page, at::ACPI_RSDP, &bytes::<8>(running, at::ACPI_RSDP)?)?;
    put(&mut page, at::E820_COUNT, &bytes::<1>(running, at::E820_COUNT)?)?;
    put(&mut page, at::E820, &bytes::<{ E820_ENTRY * E820_MAX }>(running, at::E820)?)?;
    let end = at::MAGIC + usize::from(bytes::<1>(kernel, 0x201)?[0]);
    put(&mut page, HEADER, kernel.get(HEADER..end).context("the kernel ends in its header")?)?;
    put(&mut page, at::TYPE_OF_LOADER, &[0xff])?;
    for (place, value) in [(at::RAMDISK_IMAGE, initramfs.0), (at::RAMDISK_SIZE, initramfs.1), (at::CMD_LINE, words)] {
        put(&mut page, place, &u32::try_from(value)?.to_le_bytes())?;
    }
    Ok(page)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn kernel() -> Vec<u8> {
        let mut kernel = vec![0x90; 0x4000];
        kernel[at::SETUP_SECTS] = 7;
        kernel[0x201] = 0x66;
        kernel[at::MAGIC..at::MAGIC + 4].copy_from_slice(b"HdrS");
        kernel[at::VERSION..at::VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        kernel[at::XLOADFLAGS] = 0x7f;
        for (place, value) in [(at::CMD_LINE_SIZE, 2047_u32), (at::ALIGNMENT, 0x20_0000), (at::INIT_SIZE, 0x300_0000)] {
            kernel[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
        kernel[at::PREF_ADDRESS..at::PREF_ADDRESS + 8].copy_from_slice(&0x100_0000_u64.to_le_bytes());
        kernel
    }

    fn running(map: &[(u64, u64, u32)]) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[6] = 25;
        page[at::ACPI_RSDP] = 0xe0;
        page[at::E820_COUNT] = u8::try_from(map.len()).unwrap();
        for (number, (begin, length, kind)) in map.iter().enumerate() {
            let entry = [&begin.to_le_bytes()[..], &length.to_le_bytes(), &kind.to_le_bytes()].concat();
            page[at::E820 + number * 20..][..20].copy_from_slice(&entry);
        }
        page
    }

    const MAP: [(u64, u64, u32); 4] =
        [(0, 0x9_fc00, 1), (0x10_0000, 0x3ff0_0000, 1), (0xfeff_c000, 0x4000, 2), (0x1_0000_0000, 0x4000_0000, 1)];

    #[test]
    fn everything_has_a_place_of_its_own_in_memory() {
        let layout = lay_out(&kernel(), &running(&MAP), 0x1234_5678, "console=ttyS0").unwrap();
        assert_eq!(layout.kernel, (8 * 512, 0x100_0000, 0x300_0000));
        assert_eq!(layout.initramfs, (0x4000_0000 - 0x1234_5678_u64) & !0xfff);
        let (start, at) = &layout.start;
        assert_eq!((layout.entry, start.len()), (*at, 8192 + 14));
        assert!(*at >= 0x400_0000 && at + 3 * 4096 <= layout.initramfs && at % 4096 == 0);
        assert_eq!(start[..2], [0x48, 0xbe]);
        assert_eq!(u64_at(start, 2).unwrap(), at + 4096);
        assert_eq!(u64_at(start, 12).unwrap(), 0x100_0200);
        assert_eq!(start[20..22], [0xff, 0xe0]);
        let page = &start[4096..8192];
        assert_eq!(u32_at(page, at::RAMDISK_IMAGE).unwrap(), layout.initramfs);
        assert_eq!(u32_at(page, at::RAMDISK_SIZE).unwrap(), 0x1234_5678);
        assert_eq!(u32_at(page, at::CMD_LINE).unwrap(), at + 8192);
        assert_eq!((page[6], page[at::ACPI_RSDP], page[at::E820_COUNT], page[at::TYPE_OF_LOADER]), (25, 0xe0, 4, 0xff));
        assert_eq!(start[8192..], *b"console=ttyS0\0");
    }

    #[test]
    fn what_does_not_fit_or_is_no_kernel_is_refused() {
        let told = |kernel: &[u8], running: &[u8], initramfs, words: &str| {
            format!("{:#}", lay_out(kernel, running, initramfs, words).unwrap_err())
        };
        assert!(told(&kernel(), &running(&MAP), 0x3f00_0000, "").contains("free for the initramfs"));
        assert!(told(&kernel(), &running(&MAP[..1]), 1, "").contains("free for the kernel"));
        assert!(told(b"MZ", &running(&MAP), 1, "").contains("found the end"));
        assert!(told(&[0; 4096], &running(&MAP), 1, "").contains("expected a bzImage"));
        assert!(told(&kernel(), &running(&MAP), 1, &"x".repeat(3000)).contains("too long"));
        assert!(told(&kernel(), &[], 1, "").contains("found the end"));
    }

    proptest::proptest! {
        #[test]
        fn total(noise: Vec<u8>, map: Vec<(u64, u64, u32)>, size: u64) {
            let map: Vec<_> = map.into_iter().take(100).collect();
            let _ = lay_out(&noise, &running(&map), size, "");
            let _ = lay_out(&kernel(), &running(&map), size, "x");
            let _ = lay_out(&kernel(), &noise, 1, "");
        }
    }
}
