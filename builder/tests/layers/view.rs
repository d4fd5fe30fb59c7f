//! What a directory shows to whoever looks: read here in another way than by the code that is tested.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use taproot_init::sys::xattrs;

/// Entries by path, each in a line; names of one file have the same number.
pub(crate) type View = BTreeMap<PathBuf, String>;

/// Looks at everything below a directory, and at itself.
pub(crate) fn view(root: &Path) -> View {
    let mut view = View::new();
    let mut files = BTreeMap::new();
    look(root, Path::new(""), &mut view, &mut files);
    view
}

fn look(root: &Path, path: &Path, view: &mut View, files: &mut BTreeMap<(u64, u64), usize>) {
    let here = root.join(path);
    // An overlay lists whiteouts in directories that one layer alone has, and then has no such file.
    let Ok(meta) = fs::symlink_metadata(&here) else { return };
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("link to {}", fs::read_link(&here).unwrap().display())
    } else if kind.is_file() {
        let count = files.len();
        let number = *files.entry((meta.dev(), meta.ino())).or_insert(count);
        format!("file {number} {:?}", String::from_utf8_lossy(&fs::read(&here).unwrap()))
    } else if kind.is_fifo() {
        "pipe".to_owned()
    } else if kind.is_socket() {
        "socket".to_owned()
    } else {
        format!("device {}", meta.rdev())
    };
    let open =
        fs::File::options().read(true).custom_flags(nix::libc::O_PATH | nix::libc::O_NOFOLLOW).open(&here).unwrap();
    let mut attributes: Vec<String> = xattrs::list(&open)
        .unwrap()
        .iter()
        .map(|name| format!("{}={:?}", String::from_utf8_lossy(name), xattrs::get(&open, name).unwrap()))
        .collect();
    attributes.sort();
    let mode = if kind.is_symlink() { 0 } else { meta.mode() & 0o7777 };
    let line = format!(
        "{what} {mode:04o} {}:{} {}.{} {attributes:?}",
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    view.insert(path.to_owned(), line);
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&here).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            look(root, &path.join(name), view, files);
        }
    }
}

/// Mounts that this process alone can reach, and that end with this.
pub(crate) struct Mounts {
    holder: Child,
}

impl Mounts {
    /// Runs a shell script in a namespace of its own, with these arguments.
    pub(crate) fn new(script: &str, arguments: &[&Path]) -> Self {
        let script = format!("set -e\n{script}\necho ready\nexec cat >/dev/null");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "hold"]).args(arguments);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{script}\n{arguments:?}");
        Self { holder }
    }

    /// Layers, the topmost first, as the kernel shows them: at `at`.
    pub(crate) fn overlay(layers: &[PathBuf], at: &Path) -> Self {
        // One layer alone is no overlay: an empty one is put below.
        let empty = at.with_extension("empty");
        fs::create_dir_all(at).unwrap();
        fs::create_dir_all(&empty).unwrap();
        let list: Vec<String> = layers.iter().chain([&empty]).map(|path| path.to_str().unwrap().to_owned()).collect();
        Self::new(
            "mount -t overlay -o \"ro,lowerdir=$1,index=off,metacopy=off,redirect_dir=nofollow,xino=off\" overlay \"$2\"",
            &[Path::new(&list.join(":")), at],
        )
    }

    /// The process that holds the namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Where a path of that namespace is for us.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), path.display()))
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
