//! Unified kernel images, made without objcopy and ukify: the sections are put behind those of systemd's stub, whose file is laid out
//! anew. So there is room for their headers whatever the stub leaves, and what only its maker needs (symbols, an old signature) is
//! left out. The same input gives the same bytes.

use std::borrow::Cow;

use super::{is_program, number};

/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const DATA: u32 = 0x4000_0040;
/// `IMAGE_NT_OPTIONAL_HDR64_MAGIC`.
const PE32_PLUS: u16 = 0x20b;
/// Pages of the machine: what the stub may execute where it lies begins on one.
const PAGE: u32 = 4096;
const SECTION_HEADER: usize = 40;
/// Size of the header in front of the optional one, with its signature.
const COFF: usize = 24;
/// Offsets in the optional header.
mod optional {
    pub(super) const INITIALIZED: usize = 8;
    pub(super) const SECTION_ALIGNMENT: usize = 32;
    pub(super) const FILE_ALIGNMENT: usize = 36;
    pub(super) const SIZE_OF_IMAGE: usize = 56;
    pub(super) const SIZE_OF_HEADERS: usize = 60;
    pub(super) const CHECKSUM: usize = 64;
    pub(super) const DIRECTORIES: usize = 108;
    /// Place and size of the signature.
    pub(super) const CERTIFICATES: usize = 144;
    /// The least that has it all.
    pub(super) const SIZE: usize = 152;
}

/// What a unified kernel image is made of. Kernel and initramfs are large: what is given away goes as soon as it was copied.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// Lines of os-release; what a boot loader shows and sorts by.
    pub os_release: &'a str,
    /// The kernel command line.
    pub cmdline: &'a str,
    /// Release of the kernel.
    pub release: &'a str,
    /// The kernel, an EFI program.
    pub kernel: Cow<'a, [u8]>,
    /// The initramfs.
    pub initrd: Cow<'a, [u8]>,
}

/// Why none can be made of these parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// It is no stub.
    #[error(
        "the stub is no EFI program that can be added to ({0}); expected systemd's (linuxx64.efi.stub of systemd-boot-efi)"
    )]
    Stub(&'static str),
    /// It is no EFI program.
    #[error("the kernel is no EFI program; expected one with CONFIG_EFI_STUB")]
    Kernel,
    /// They are for different machines.
    #[error("the stub is for machine {stub:#x} and the kernel for {kernel:#x}; expected both for the same")]
    Machine {
        /// `IMAGE_FILE_MACHINE_*` of the stub.
        stub: u16,
        /// That of the kernel.
        kernel: u16,
    },
    /// It is larger than such a file can be.
    #[error("kernel and initramfs together are too large for one EFI program (4 GiB)")]
    TooLarge,
}

/// A section of the new file.
struct Section<'a> {
    header: [u8; SECTION_HEADER],
    data: Cow<'a, [u8]>,
}

impl Section<'_> {
    fn get(&self, at: usize) -> u32 {
        number(&self.header, at).unwrap_or(0)
    }

    fn put(&mut self, at: usize, value: u32) {
        put(&mut self.header, at, &value.to_le_bytes());
    }

    /// Where its memory ends.
    fn end(&self) -> Option<u32> {
        self.get(12).checked_add(self.get(8).max(self.get(16)))
    }
}

/// Makes a unified kernel image, without a signature.
pub fn write(stub: &[u8], parts: Parts<'_>) -> Result<Vec<u8>, UkiError> {
    let program = Program::of(stub).map_err(UkiError::Stub)?;
    if !is_program(&parts.kernel) {
        return Err(UkiError::Kernel);
    }
    let kernel = machine(&parts.kernel).ok_or(UkiError::Kernel)?;
    if kernel != program.machine {
        return Err(UkiError::Machine { stub: program.machine, kernel });
    }
    let (cmdline, release) = (format!("{}\0", parts.cmdline), format!("{}\0", parts.release));
    // The kernel is the last: a stub that executes it where it lies lets it grow behind its end.
    let added = [
        (".osrel", parts.os_release.as_bytes().into()),
        (".cmdline", cmdline.into_bytes().into()),
        (".uname", release.into_bytes().into()),
        (".initrd", parts.initrd),
        (".linux", parts.kernel),
    ];
    program.with(added).unwrap_or(Err(UkiError::TooLarge))
}

/// The stub, taken apart.
struct Program<'a> {
    /// Everything before the section headers.
    head: &'a [u8],
    /// Where the PE signature stands.
    pe: usize,
    machine: u16,
    sections: Vec<Section<'a>>,
    section_alignment: u32,
    file_alignment: u32,
}

impl<'a> Program<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, &'static str> {
        if !is_program(bytes) {
            return Err("it does not begin with MZ");
        }
        let pe = number(bytes, 0x3c).and_then(|at| usize::try_from(at).ok()).ok_or("it is too short")?;
        let coff = bytes.get(pe..).and_then(|rest| rest.strip_prefix(b"PE\0\0")).ok_or("it has no PE header")?;
        let (count, size) = (half(coff, 2).unwrap_or(0), usize::from(half(coff, 16).unwrap_or(0)));
        let optional = bytes.get(pe + COFF..pe + COFF + size).ok_or("its optional header is cut off")?;
        if size < optional::SIZE || half(optional, 0) != Some(PE32_PLUS) {
            return Err("it is not of the 64-bit form");
        }
        if number(optional, optional::DIRECTORIES).unwrap_or(0) < 5 {
            return Err("it has no place for a signature");
        }
        let alignment = |at| number(optional, at).filter(|n| n.is_power_of_two() && *n <= 1 << 16);
        let section_alignment = alignment(optional::SECTION_ALIGNMENT).ok_or("its sections have no alignment")?;
        let file_alignment = alignment(optional::FILE_ALIGNMENT).ok_or("its file has no alignment")?;
        let table = pe + COFF + size;
        let mut sections = Vec::new();
        for index in 0..usize::from(count) {
            let at = table + index * SECTION_HEADER;
            let header = bytes.get(at..at + SECTION_HEADER).and_then(|header| header.try_into().ok());
            let mut section =
                Section { header: header.ok_or("its section headers are cut off")?, data: Cow::Borrowed(&[]) };
            let (size, at) = (section.get(16), section.get(20));
            if size > 0 {
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                let data = bytes.get(from..).and_then(|rest| rest.get(..usize::try_from(size).ok()?));
                section.data = data.ok_or("a section lies behind its end")?.into();
            }
            if section.header.starts_with(b".linux\0\0") {
                return Err("it has a kernel in it");
            }
            sections.push(section);
        }
        let head = bytes.get(..table).ok_or("it is too short")?;
        let machine = half(coff, 0).unwrap_or(0);
        Ok(Self { head, pe, machine, sections, section_alignment, file_alignment })
    }

    /// The file with more sections; `None` if a number has no room.
    fn with<const N: usize>(mut self, added: [(&str, Cow<'a, [u8]>); N]) -> Option<Result<Vec<u8>, UkiError>> {
        let mut end =
            self.sections.iter().map(Section::end).collect::<Option<Vec<_>>>()?.into_iter().max().unwrap_or(0);
        // Sections of the stub may begin where their headers would end by now.
        let first = self.sections.iter().map(|section| section.get(12)).min().unwrap_or(u32::MAX);
        let mut initialized = number(self.head, self.pe + COFF + optional::INITIALIZED)?;
        for (name, data) in added {
            let size = u32::try_from(data.len()).ok()?;
            let mut section = Section { header: [0; SECTION_HEADER], data };
            put(&mut section.header, 0, name.as_bytes());
            let at = align(end, self.section_alignment.max(PAGE))?;
            section.put(8, size);
            section.put(12, at);
            section.put(36, DATA);
            initialized = initialized.checked_add(align(size, self.file_alignment)?)?;
            end = at.checked_add(size)?;
            self.sections.push(section);
        }
        let table = self.head.len() + self.sections.len() * SECTION_HEADER;
        let headers = align(u32::try_from(table).ok()?, self.file_alignment)?;
        if headers > first {
            return Some(Err(UkiError::Stub("its first section leaves no room for the headers of others")));
        }
        let mut at = headers;
        for section in &mut self.sections {
            let size = align(u32::try_from(section.data.len()).ok()?, self.file_alignment)?;
            section.put(16, size);
            section.put(20, if size == 0 { 0 } else { at });
            at = at.checked_add(size)?;
        }
        let image = align(end, self.section_alignment)?;
        Some(Ok(self.bytes(headers, initialized, image)))
    }

    fn bytes(self, headers: u32, initialized: u32, image: u32) -> Vec<u8> {
        let mut out = self.head.to_vec();
        let optional = self.pe + COFF;
        let count = u16::try_from(self.sections.len()).unwrap_or(u16::MAX);
        put(&mut out, self.pe + 6, &count.to_le_bytes());
        // No symbols, and no signature.
        put(&mut out, self.pe + 12, &[0; 8]);
        put(&mut out, optional + optional::CERTIFICATES, &[0; 8]);
        for (at, value) in [
            (optional::INITIALIZED, initialized),
            (optional::SIZE_OF_IMAGE, image),
            (optional::SIZE_OF_HEADERS, headers),
            (optional::CHECKSUM, 0),
        ] {
            put(&mut out, optional + at, &value.to_le_bytes());
        }
        for section in &self.sections {
            out.extend(section.header);
        }
        for section in self.sections {
            out.resize(out.len().next_multiple_of(self.file_alignment as usize), 0);
            out = join(out, section.data);
        }
        out.resize(out.len().next_multiple_of(self.file_alignment as usize), 0);
        let sum = checksum(&out);
        put(&mut out, optional + optional::CHECKSUM, &sum.to_le_bytes());
        out
    }
}

/// One behind the other. The smaller one moves, if the other is ours: an initramfs is never there twice.
fn join(mut front: Vec<u8>, back: Cow<'_, [u8]>) -> Vec<u8> {
    match back {
        Cow::Owned(mut back) if back.len() > front.len() => {
            back.splice(..0, front);
            back
        }
        back => {
            front.extend_from_slice(&back);
            front
        }
    }
}

/// The checksum of a PE file in whose place zeros stand: its 16-bit words added up with their carries, and its size.
fn checksum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| pair.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u32::try_from(sum + bytes.len() as u64).unwrap_or(0)
}

/// `IMAGE_FILE_MACHINE_*` of a program.
fn machine(bytes: &[u8]) -> Option<u16> {
    let at = usize::try_from(number(bytes, 0x3c)?).ok()?;
    half(bytes.get(at..)?.strip_prefix(b"PE\0\0")?, 0)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn align(value: u32, to: u32) -> Option<u32> {
    value.checked_next_multiple_of(to.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::{section, text};
    use super::*;
    use crate::made::stub;
    use proptest::prelude::*;

    /// A kernel that says for which machine it is.
    fn kernel() -> Vec<u8> {
        let mut kernel = stub(0x1000, &[]);
        kernel.resize(70_001, 7);
        kernel
    }

    fn parts<'a>(kernel: &'a [u8], initrd: &'a [u8]) -> Parts<'a> {
        Parts {
            os_release: "ID=kit\n",
            cmdline: "root=zfs:AUTO ro",
            release: "6.1.0-1-amd64",
            kernel: kernel.into(),
            initrd: initrd.into(),
        }
    }

    #[test]
    fn sections_lie_behind_those_of_the_stub_and_say_where() {
        let (stub, kernel) = (stub(0x1000, &[(".text", &[1; 700]), (".sdmagic", b"#### LoaderInfo")]), kernel());
        let uki = write(&stub, parts(&kernel, b"initramfs")).unwrap();
        assert_eq!(uki, write(&stub, parts(&kernel, b"initramfs")).unwrap());
        assert_eq!(
            (text(&uki, ".cmdline").as_deref(), text(&uki, ".uname").as_deref()),
            (Some("root=zfs:AUTO ro"), Some("6.1.0-1-amd64"))
        );
        assert_eq!(section(&uki, ".linux"), Some(&kernel[..]));
        assert_eq!(
            (section(&uki, ".initrd"), section(&uki, ".osrel")),
            (Some(&b"initramfs"[..]), Some(&b"ID=kit\n"[..]))
        );
        assert_eq!(section(&uki, ".text"), Some(&[1; 700][..]));
        // Nothing overlaps, in the file and in memory, and all is aligned.
        let optional = 0x40 + COFF;
        let field = |at: usize| number(&uki, at).unwrap();
        let table = optional + 240;
        let headers = field(optional + optional::SIZE_OF_HEADERS);
        assert!(headers as usize >= table + 7 * SECTION_HEADER);
        let (mut memory, mut file) = (headers, headers);
        for index in 0..7 {
            let at = table + index * SECTION_HEADER;
            assert!(field(at + 12) >= memory && field(at + 20) == file, "{index}");
            assert_eq!((field(at + 20) % 0x200, field(at + 12) % 0x1000), (0, 0));
            memory = field(at + 12) + field(at + 8);
            file = field(at + 20) + field(at + 16);
        }
        assert_eq!(
            (file as usize, field(optional + optional::SIZE_OF_IMAGE)),
            (uki.len(), memory.next_multiple_of(0x1000))
        );
        assert_eq!((field(0x40 + 12), half(&uki, 0x46)), (0, Some(7)), "no symbols");
        // The checksum is that of the file without it.
        let (mut bare, at) = (uki.clone(), 0x40 + COFF + optional::CHECKSUM);
        put(&mut bare, at, &[0; 4]);
        assert_eq!(number(&uki, at), Some(checksum(&bare)));
    }

    #[test]
    fn what_cannot_be_one_is_said() {
        let (good, kernel) = (stub(0x1000, &[(".text", &[1; 700])]), kernel());
        let error = |stub: &[u8], kernel: &[u8]| write(stub, parts(kernel, b"i")).unwrap_err();
        assert!(matches!(error(b"ELF", &kernel), UkiError::Stub(_)));
        assert_eq!(error(&good, b"bzImage"), UkiError::Kernel);
        let mut other = kernel.clone();
        other[0x44] = 1;
        assert!(matches!(error(&good, &other), UkiError::Machine { .. }));
        let uki = write(&good, parts(&kernel, b"i")).unwrap();
        assert_eq!(error(&uki, &kernel), UkiError::Stub("it has a kernel in it"));
        // No room for headers below the first section.
        let error = error(&stub(0x200, &[(".text", &[1; 700])]), &kernel);
        assert!(matches!(error, UkiError::Stub(why) if why.contains("no room")), "{error}");
    }

    /// The stub of this machine, where there is one, by sbsign's and objdump's eyes.
    #[test]
    fn the_real_stub_if_it_is_there() {
        let Ok(real) = std::fs::read("/usr/lib/systemd/boot/efi/linuxx64.efi.stub") else { return };
        let uki = write(&real, parts(&kernel(), b"initramfs")).unwrap();
        assert_eq!(section(&uki, ".initrd"), Some(&b"initramfs"[..]));
        assert_eq!(section(&uki, ".sdmagic"), section(&real, ".sdmagic"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uki.efi");
        std::fs::write(&path, &uki).unwrap();
        let listed = std::process::Command::new("objdump").arg("-h").arg(&path).output();
        if let Ok(listed) = listed {
            let text = String::from_utf8_lossy(&listed.stdout).into_owned();
            assert!(listed.status.success() && text.contains(".linux") && text.contains(".osrel"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn total(bytes in proptest::collection::vec(any::<u8>(), 0..700), at in 0_usize..600, value in any::<u8>()) {
            let kernel = kernel();
            let _ = write(&bytes, parts(&kernel, b"i"));
            let mut bad = stub(0x1000, &[(".text", &[1; 90])]);
            let len = bad.len();
            bad[at % len] = value;
            let _ = write(&bad, parts(&kernel, b"i"));
            let _ = write(&stub(0x1000, &[]), parts(&bad, b"i"));
        }
    }
}
