use super::*;
use std::fs;

#[test]
fn configuration_with_includes_and_circles() {
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().join("etc/ld.so.conf.d");
    fs::create_dir_all(&etc).unwrap();
    fs::write(dir.path().join("etc/ld.so.conf"), "# c\ninclude /etc/ld.so.conf.d/*.conf\n/opt/lib\n").unwrap();
    fs::write(etc.join("b.conf"), format!("/b\n{}", "include /etc/ld.so.conf\n".repeat(100))).unwrap();
    fs::write(etc.join("a.conf"), "/a\n").unwrap();
    fs::write(etc.join("ignored"), "/ignored\n").unwrap();
    let mut found = Vec::new();
    let tree = Tree::open(dir.path()).unwrap();
    configured(&tree, Path::new("/etc/ld.so.conf"), 0, &mut BTreeSet::new(), &mut found).unwrap();
    assert_eq!(found, ["/a", "/b", "/opt/lib"]);
}

/// A library whose dynamic section holds these entries; its string table is `strings`.
fn library(strings: &[u8], entries: &[(u64, u64)]) -> Vec<u8> {
    let words = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
    let mut out = vec![0; 64];
    out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (out[16], out[18], out[20], out[32], out[52], out[54], out[56]) = (3, 62, 1, 64, 64, 56, 2);
    let (at, size) = (64 + 2 * 56 + strings.len() as u64, 16 * (entries.len() as u64 + 2));
    out.extend(words(&[1, 0, 0, 0, at + size, at + size, 8]));
    out.extend(words(&[2, at, at, at, size, size, 8]));
    out.extend(strings);
    out.extend(words(&[5, 64 + 2 * 56, 10, strings.len() as u64]));
    out.extend(entries.iter().flat_map(|(tag, value)| words(&[*tag, *value])));
    out
}

#[test]
fn what_a_library_needs() {
    let strings = b"\0liba.so\0libb.so.1\0/old\0$ORIGIN/x::/opt\0";
    let found = needs(&library(strings, &[(1, 1), (1, 9), (29, 19), (29, 24)])).unwrap();
    assert_eq!(found.libraries, ["liba.so", "libb.so.1"]);
    assert_eq!(found.runpath, ["$ORIGIN/x", "/opt"], "the last one counts");
    assert_eq!(needs(&library(strings, &[(29, 24), (15, 19)])).unwrap().rpath, [""; 0], "the newer list counts");
    assert_eq!(needs(&library(strings, &[(15, 19)])).unwrap().rpath, ["/old"]);
    assert_eq!((found.machine, found.interpreter), (62, None));
    assert!(needs(&library(strings, &[(1, 1000)])).unwrap_err().contains("out of bounds"));
}

#[test]
fn names_that_overlap_take_no_more_than_the_file() {
    let mut strings = vec![b'a'; 1000];
    strings.push(0);
    let entries: Vec<(u64, u64)> = (0..500).map(|at| (1, at)).collect();
    assert!(needs(&library(&strings, &entries)).unwrap_err().contains("more names of libraries than it holds"));
    let entries: Vec<(u64, u64)> = (0..500).map(|at| (29, at)).collect();
    assert_eq!(needs(&library(&strings, &entries)).unwrap().runpath.len(), 1);
}

#[test]
fn more_segments_than_a_program_can_have() {
    let mut bytes = library(b"\0", &[]);
    bytes.resize(bytes.len() + 2000 * 56, 0);
    bytes[56..58].copy_from_slice(&2000_u16.to_le_bytes());
    assert!(needs(&bytes).unwrap_err().contains("2000 segments"));
}

#[test]
fn a_static_program_needs_nothing() {
    let own = std::env::current_exe().unwrap();
    let tree = Tree::open(Path::new("/")).unwrap();
    assert_eq!(closure(&tree, &own, "/x", &[]).unwrap(), Closure::default());
    assert!(closure(&tree, Path::new("/etc/passwd"), "/x", &[]).is_err());
}

#[test]
fn a_path_among_bytes() {
    assert!(contains(b"x//lib/\0", "/lib/\0") && contains(b"/lib", "/lib"));
    assert!(!contains(b"/li/lic", "/lib") && !contains(b"", "/lib") && !contains(b"lib", "/lib"));
}

#[test]
fn a_whole_string_among_bytes() {
    let loader = b"\x7fELF\0\0/lib/x86_64-linux-gnu/\0/usr/lib/\0/lib64/\0";
    assert!(is_string(loader, "/usr/lib/") && is_string(loader, "/lib64/"));
    // Arch's loader searches /usr/lib alone, and that ends alike.
    assert!(!is_string(loader, "/lib/") && !is_string(b"/lib/", "/lib/") && !is_string(b"", "/lib/"));
}

/// A tree of made-up programs and libraries; each names what it needs and where that is looked for.
struct Made(tempfile::TempDir);

const RPATH: u64 = 15;
const RUNPATH: u64 = 29;

/// Path, bits, libraries, and a list of directories with its tag.
type File<'a> = (&'a str, &'a str, &'a [&'a str], Option<(u64, &'a str)>);

impl Made {
    fn new(files: &[File<'_>]) -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        for (path, kind, libraries, list) in files {
            let mut strings = vec![0];
            let mut entries = Vec::new();
            let words = libraries.iter().map(|name| (1, *name)).chain(*list);
            for (tag, word) in words {
                entries.push((tag, strings.len() as u64));
                strings.extend(word.as_bytes());
                strings.push(0);
            }
            let mut bytes = library(&strings, &entries);
            if *kind == "32" {
                bytes[18] = 3; // i386; goblin reads the headers by the class, which stays
            }
            made.write(path, &bytes);
        }
        made
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Where in the image the libraries of `/bin/p` lie, and where they are from.
    fn closure(&self, target: &str) -> Vec<String> {
        let tree = Tree::open(self.0.path()).unwrap();
        let found = closure(&tree, Path::new("/bin/p"), target, &["libgcc_s.so.1"]).unwrap();
        let files = found.files.iter().map(|(image, from)| format!("{image} < {}", from.display()));
        files.chain(found.missing.iter().map(|name| format!("{name} missing"))).collect()
    }
}

#[test]
fn libraries_for_another_processor_are_none() {
    let made = Made::new(&[
        ("bin/p", "64", &["liba.so"], None),
        ("lib/i386-linux-gnu/liba.so", "32", &[], None),
        ("usr/lib/liba.so", "64", &["libb.so"], None),
        ("lib/libb.so", "32", &[], None),
    ]);
    made.write("etc/ld.so.conf", b"/lib/i386-linux-gnu\n");
    assert_eq!(made.closure("/bin/p"), ["/usr/lib/liba.so < /usr/lib/liba.so", "libb.so missing"]);
}

#[test]
fn the_directory_of_a_program_may_be_another_in_the_image() {
    let made = Made::new(&[
        ("opt/tool/bin/p", "64", &["liba.so"], Some((RUNPATH, "$ORIGIN/../lib"))),
        ("opt/tool/lib/liba.so", "64", &["libb.so"], None),
        ("opt/tool/lib/libb.so", "64", &[], None),
    ]);
    fs::create_dir_all(made.0.path().join("bin")).unwrap();
    std::os::unix::fs::symlink("/opt/tool/bin/p", made.0.path().join("bin/p")).unwrap();
    // Who was found by the newer list hands it on to nobody.
    assert_eq!(made.closure("/sbin/q"), ["/lib/liba.so < /opt/tool/lib/liba.so", "libb.so missing"]);
    assert_eq!(made.closure("/opt/x/q")[0], "/opt/lib/liba.so < /opt/tool/lib/liba.so");
}

#[test]
fn an_rpath_is_inherited() {
    let made = Made::new(&[
        ("bin/p", "64", &["liba.so"], Some((RPATH, "/opt/l"))),
        ("opt/l/liba.so", "64", &["libb.so"], None),
        ("opt/l/libb.so", "64", &["libc.so"], Some((RUNPATH, "/opt/m"))),
        ("opt/l/libc.so", "64", &[], None),
        ("opt/m/libc.so", "64", &["libd.so"], None),
        ("opt/l/libd.so", "64", &[], None),
    ]);
    let wanted = ["/opt/l/liba.so", "/opt/l/libb.so", "/opt/l/libd.so", "/opt/m/libc.so"];
    assert_eq!(made.closure("/bin/p"), wanted.map(|path| format!("{path} < {path}")));
}

#[test]
fn what_only_the_configuration_knows_goes_where_the_loader_looks() {
    let made = Made::new(&[
        ("bin/p", "64", &["liba.so", "libb.so"], None),
        ("opt/odd/liba.so", "64", &[], None),
        ("usr/local/lib/libb.so", "64", &[], None),
        ("usr/lib/libgcc_s.so.1", "64", &[], None),
    ]);
    made.write("etc/ld.so.conf", b"include ld.so.conf.d/*.conf\n");
    made.write("etc/ld.so.conf.d/odd.conf", b"/opt/odd # vendor\nhwcap 1 nosegneg\n");
    let wanted = [
        "/lib/x86_64-linux-gnu/liba.so < /opt/odd/liba.so",
        "/lib/x86_64-linux-gnu/libb.so < /usr/local/lib/libb.so",
        "/usr/lib/libgcc_s.so.1 < /usr/lib/libgcc_s.so.1",
    ];
    assert_eq!(made.closure("/bin/p"), wanted);
}
