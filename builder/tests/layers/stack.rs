//! Commits, merges and rollbacks of a root that is mounted here as a boot mounts it, in a namespace of its own: what the protocol does
//! is the library's, the mounts are the kernel's, and what is typed is the program.

use super::view::{Mounts, view};
use super::{acl, possible, settle};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use taproot_init::layers::boot::enter;
use taproot_init::layers::state::State;
use taproot_init::layers::{Layer, Places, Stack, Store};
use taproot_init::sys::System;
use taproot_init::sys::linux::Linux;
use taproot_init::sys::xattrs;

/// Mounts the parts below `/run`, puts them together at `$2/root`, and shows that alone at `$2/seen`. `$1` is the base, `$3` lists
/// lowers from the top, `$4` the upper, `$5` the program; what follows are images, each with the name that it is mounted by.
const BOOT: &str = r#"mount -t tmpfs none /run
mkdir -p /run/taproot/base "$2/root" "$2/seen"
mount --bind "$1" /run/taproot/base
dir=$2 lowers=$3 upper=$4 program=$5
shift 5
while [ $# -gt 0 ]; do
    mkdir -p "/run/taproot/layers/$2"
    mount -o loop,ro "$1" "/run/taproot/layers/$2"
    shift 2
done
if [ "$upper" = ram ]; then
    mkdir /run/taproot/upper
    mount -t tmpfs none /run/taproot/upper
    upper=/run/taproot/upper
    mkdir "$upper/upper" "$upper/work"
fi
mkdir -p "$upper/upper" "$upper/work"
mount -t overlay -o "lowerdir=$lowers,upperdir=$upper/upper,workdir=$upper/work,index=off,metacopy=off,redirect_dir=off,xino=off" overlay "$dir/root"
mount --bind "$dir/root" "$dir/seen"
cd "$dir/root"
for part in usr dev proc; do mount --rbind "/$part" "$part"; done
touch /run/taproot-program
mount --bind "$program" /run/taproot-program
mount --rbind /run run"#;

/// A machine with layers.
struct Machine {
    dir: tempfile::TempDir,
    places: Places,
    mounts: Option<Mounts>,
}

impl Machine {
    /// One layer, `base`.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for part in ["usr", "dev", "proc", "run", "etc/ssh", "srv/data/old", "srv/lists"] {
            fs::create_dir_all(tree.join(part)).unwrap();
        }
        for (path, text) in
            [("etc/hostname", "base\n"), ("srv/data/old/one", "1"), ("srv/data/two", "2"), ("srv/tool", "#!/bin/sh\n")]
        {
            fs::write(tree.join(path), text).unwrap();
        }
        fs::write(tree.join("etc/machine-id"), "uninitialized\n").unwrap();
        for link in ["bin", "lib", "lib64", "sbin"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), tree.join(link)).unwrap();
        }
        settle(&tree, &tree, 1);
        fs::create_dir(dir.path().join("base")).unwrap();
        let base = dir.path().join("base");
        let places = Places { state: base.join(".layers"), images: vec![base] };
        let machine = Self { dir, places, mounts: None };
        machine.pack();
        machine
    }

    /// Makes the layer of its tree.
    fn pack(&self) {
        let mut init = Command::new(env!("CARGO_BIN_EXE_taproot"));
        init.args(["layer", "init", "base", "--keep", "all", "--quiet", "--into"]).arg(self.dir.path().join("base"));
        assert!(init.arg("--from").arg(self.dir.path().join("tree")).status().unwrap().success());
    }

    /// Boots as the command line lists layers.
    fn boot_listed(&mut self, upper: &str) {
        self.mount(&["/run/taproot/layers/base".to_owned()], upper, &["base.sqsh".to_owned()]);
    }

    /// Boots by the state, as the library says; what it notes.
    fn boot(&mut self) -> String {
        self.mounts = None;
        let linux = Linux::new();
        let system: &dyn System = &linux;
        let store = Store::new(&system, &self.places);
        let looked = store.look().unwrap().unwrap();
        let entered = store.enter(&looked.loaded, enter(&looked.loaded.state, &looked.disk).unwrap());
        let Stack { upper, layers } = &entered.stack;
        let upper = format!("/run/taproot/base/.layers/uppers/{upper}");
        let lowers: Vec<String> = layers
            .iter()
            .map(|layer| match layer {
                Layer::Frozen(number) => format!("/run/taproot/base/.layers/uppers/{number}/upper"),
                Layer::Image(file) => format!("/run/taproot/layers/{}", file.rsplit_once('.').unwrap().0),
            })
            .collect();
        let images: Vec<String> = layers
            .iter()
            .filter_map(|layer| match layer {
                Layer::Image(file) => Some(file.clone()),
                Layer::Frozen(_) => None,
            })
            .collect();
        self.mount(&lowers, &upper, &images);
        entered.notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    fn mount(&mut self, lowers: &[String], upper: &str, images: &[String]) {
        self.mounts = None;
        let base = self.dir.path().join("base");
        // An overlay of one lower and an upper is fine.
        let mut arguments: Vec<PathBuf> = vec![
            base.clone(),
            self.dir.path().to_owned(),
            lowers.join(":").into(),
            upper.into(),
            env!("CARGO_BIN_EXE_taproot").into(),
        ];
        for file in images {
            arguments.push(base.join(file));
            arguments.push(file.rsplit_once('.').unwrap().0.into());
        }
        let arguments: Vec<&Path> = arguments.iter().map(PathBuf::as_path).collect();
        self.mounts = Some(Mounts::new(BOOT, &arguments));
    }

    fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--mount").arg("--target").arg(self.mounts.as_ref().unwrap().pid().to_string());
        command.arg("chroot").arg(self.dir.path().join("root")).args(words).env_remove("SOURCE_DATE_EPOCH");
        command
    }

    fn inside(&self, words: &[&str]) -> (bool, String) {
        let Output { status, stdout, stderr } = self.program(words).stdin(Stdio::null()).output().unwrap();
        (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
    }

    fn sh(&self, script: &str) {
        let (done, said) = self.inside(&["/usr/bin/sh", "-ec", script]);
        assert!(done, "{script}: {said}");
    }

    fn layer(&self, line: &str) -> String {
        let (done, said) = self.typed(line);
        assert!(done, "taproot layer {line}: {said}");
        said
    }

    fn typed(&self, line: &str) -> (bool, String) {
        let words: Vec<&str> = ["/run/taproot-program", "layer"].into_iter().chain(line.split(' ')).collect();
        self.inside(&words)
    }

    fn refused(&self, line: &str, why: &str) {
        let (done, said) = self.typed(line);
        assert!(!done && said.contains(why), "taproot layer {line}: {said}");
    }

    /// What the background does, without trouble.
    fn work(&self) {
        let said = self.layer("work");
        let (done, status) = self.typed("status");
        assert!(done, "{said}\n{status}");
    }

    /// Starts the background and kills it after so long.
    fn kill_work(&self, after: std::time::Duration) {
        let mut command = self.program(&["/run/taproot-program", "layer", "work", "--quiet"]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn state(&self) -> State {
        let linux = Linux::new();
        let system: &dyn System = &linux;
        Store::new(&system, &self.places).load().unwrap().unwrap().state
    }

    fn layers(&self) -> Vec<String> {
        self.state().stack.layers.iter().map(ToString::to_string).collect()
    }

    /// What the root shows. Squashfs has whole seconds.
    fn shows(&self) -> Vec<(PathBuf, Vec<String>)> {
        let seen = self.mounts.as_ref().unwrap().path(&self.dir.path().join("seen"));
        let cut = |path: &Path, line: String| {
            let mut words: Vec<String> =
                line.split(' ').map(|word| word.split_once('.').map_or(word, |(left, _)| left).to_owned()).collect();
            // The top directory is that of the upper: a fresh one is as old as that.
            words.truncate(if path.as_os_str().is_empty() { 3 } else { words.len() });
            words
        };
        view(&seen).into_iter().map(|(path, line)| (path.clone(), cut(&path, line))).collect()
    }

    fn left(&self) -> Vec<String> {
        let names = |dir: &Path| {
            let mut names: Vec<String> =
                fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        [names(&self.places.images[0]), names(&self.places.state.join("uppers"))].concat()
    }
}

#[track_caller]
fn same(a: &[(PathBuf, Vec<String>)], b: &[(PathBuf, Vec<String>)]) {
    let differing: Vec<_> =
        a.iter().filter(|one| !b.contains(one)).chain(b.iter().filter(|one| !a.contains(one))).collect();
    assert!(differing.is_empty(), "{differing:#?}");
}

const WORK: &str = "echo 4711 >etc/machine-id; echo secret >etc/ssh/ssh_host_rsa_key; rm srv/data/old/one; mkdir -p srv/new/deep; echo n >srv/new/deep/file; \
    ln srv/new/deep/file srv/new/again; chmod 4755 srv/tool; rm -r srv/data/old; mkdir srv/data/old; echo r >srv/data/old/other; mkfifo srv/pipe; \
    echo site >etc/hostname";
const MORE: &str = "rm srv/new/again; echo changed >srv/data/two; cp -a srv/new srv/moved; rm -r srv/new; rm etc/ssh/ssh_host_rsa_key; rm -r srv/lists; \
    echo file >srv/lists";

#[test]
fn commit_and_merge_show_what_was_there() {
    if !possible() {
        return;
    }
    let mut machine = Machine::new();
    machine.boot_listed("/run/taproot/base/upper");
    machine.refused("status --json extra", "unexpected argument");
    machine.refused("commit site", "there is nothing to commit");
    machine.sh(WORK);
    machine.refused("commit base", "there is /run/taproot/base/base.sqsh already");
    machine.layer("commit site --dry-run");
    assert!(!machine.places.state.exists());
    machine.layer("commit site");
    machine.refused("commit other", "waits for the next boot already");
    machine.sh("echo late >srv/late");
    let before = machine.shows();

    // The next boot seals, and nothing is seen of that.
    assert!(machine.boot().contains("sealed for layer site"));
    assert_eq!(machine.layers(), ["#1", "base.sqsh"]);
    same(&machine.shows(), &before);
    machine.work();
    assert_eq!(fs::read_link(machine.places.upper(1)).ok(), None, "a list of layers finds what is sealed no longer");
    machine.sh(MORE);
    let before = machine.shows();

    assert!(machine.boot().contains("on trial, boot 1 of 3: site"));
    assert_eq!(machine.layers(), ["site.sqsh", "base.sqsh"]);
    same(&machine.shows(), &before);
    assert!(machine.layer("status").contains("on trial       boot 1 of 3"));
    machine.layer("confirm");
    machine.work();
    same(&machine.shows(), &before);
    assert_eq!(machine.left(), [".layers", "base.sha256", "base.sqsh", "site.sqsh", "2"]);

    // What belongs to the machine is in no image, and is still there.
    let files =
        Command::new("unsquashfs").arg("-l").arg(machine.places.new_image("site.sqsh")).output().unwrap().stdout;
    let files = String::from_utf8(files).unwrap();
    assert!(
        files.contains("srv/new/deep/file") && !files.contains("machine-id") && !files.contains("ssh_host"),
        "{files}"
    );

    machine.layer("merge 2 all");
    machine.work();
    assert!(machine.boot().contains("on trial"));
    assert_eq!(machine.layers(), ["all.sqsh"]);
    same(&machine.shows(), &before);
    machine.layer("confirm");
    machine.work();
    same(&machine.shows(), &before);
    assert!(machine.layer("status").contains("rollback 2     a fresh upper over site.sqsh : base.sqsh"));
}

#[test]
fn trials_end_by_themselves_and_the_way_back_is_kept() {
    if !possible() {
        return;
    }
    let mut machine = Machine::new();
    machine.boot_listed("/run/taproot/base/upper");
    machine.sh(WORK);
    machine.layer("commit site --type erofs");
    machine.boot();
    machine.work();
    for _ in 0..3 {
        machine.boot();
        assert_eq!(machine.layers(), ["site.erofs", "base.sqsh"]);
    }
    let before = machine.shows();
    assert!(machine.boot().contains("back to the stack before site"));
    same(&machine.shows(), &before);
    let (done, said) = machine.typed("status");
    assert!(!done && said.contains("its trial failed") && said.contains("taproot layer retry site"), "{said}");
    machine.layer("withdraw site");
    machine.work();
    assert_eq!(machine.layers(), ["#1", "base.sqsh"]);

    // A fresh upper has what belongs to the machine, and nothing else.
    machine.sh("echo more >srv/more");
    machine.layer("rollback");
    machine.work();
    machine.boot();
    machine.layer("confirm");
    machine.sh(
        "test ! -e srv/more; grep 4711 etc/machine-id; grep secret etc/ssh/ssh_host_rsa_key; grep site etc/hostname",
    );
    machine.layer("rollback 1");
    machine.work();
    machine.boot();
    machine.sh("grep more srv/more");
    machine.layer("confirm");
    machine.layer("forget 2");
    machine.work();
    let state = machine.state();
    assert!(state.pasts.is_empty() && state.discards.is_empty() && state.operations.is_empty(), "{state:?}");
}

#[test]
fn an_upper_in_memory_is_copied() {
    if !possible() {
        return;
    }
    let mut machine = Machine::new();
    machine.boot_listed("ram");
    machine.sh(WORK);
    machine.layer("commit site");
    let before = machine.shows();
    machine.work();
    machine.boot();
    same(&machine.shows(), &before);
    machine.layer("confirm");
    machine.work();
    same(&machine.shows(), &before);
    assert_eq!(machine.layers(), ["site.sqsh", "base.sqsh"]);
}

#[test]
fn what_cannot_be_sealed_is_refused_at_once() {
    if !possible() {
        return;
    }
    let mut machine = Machine::new();
    machine.boot_listed("/run/taproot/base/upper");
    machine.sh("echo x >srv/data/two; mkdir srv/dir");
    let upper = machine.dir.path().join("base/upper/upper");
    let mark = |path: &str, name: &str, value: &[u8]| {
        xattrs::set(&fs::File::open(upper.join(path)).unwrap(), name.as_bytes(), value).unwrap();
    };
    mark("srv/dir", "trusted.overlay.redirect", b"/srv/lists");
    machine.refused("commit site", "upper/upper/srv/dir: the overlay was mounted with redirect_dir=on");
    fs::remove_dir(upper.join("srv/dir")).unwrap();
    let acl = acl();
    if xattrs::set(&fs::File::open(upper.join("srv/data/two")).unwrap(), b"system.posix_acl_access", &acl).is_ok() {
        machine.refused("commit site --type squashfs", "/srv/data/two has one; take erofs (--type erofs)");
        assert!(machine.layer("commit site").contains("it will be erofs, because squashfs cannot hold"));
        machine.boot();
        machine.work();
        machine.boot();
        assert_eq!(machine.layers(), ["site.erofs", "base.sqsh"]);
    }
}

/// The background is killed wherever it happens to be, and the machine boots then: the root shows what it did, and in the end all is
/// done and nothing left over.
#[test]
fn work_that_is_killed_is_done_again() {
    if !possible() {
        return;
    }
    let mut machine = Machine::new();
    machine.boot_listed("/run/taproot/base/upper");
    machine.sh(WORK);
    machine.sh("head -c 3000000 /dev/urandom >srv/large");
    machine.layer("commit site");
    let before = machine.shows();
    machine.boot();
    for round in 0..10_u64 {
        machine.kill_work(std::time::Duration::from_millis(40 * round));
        let trial = machine.boot().contains("on trial");
        same(&machine.shows(), &before);
        if trial {
            machine.layer("confirm");
        }
    }
    machine.work();
    let _ = machine.boot();
    machine.layer("confirm");
    machine.work();
    same(&machine.shows(), &before);
    assert_eq!(machine.layers(), ["site.sqsh", "base.sqsh"]);
    let upper = machine.state().stack.upper.to_string();
    let left = machine.left();
    assert_eq!(left, [".layers", "base.sha256", "base.sqsh", "site.sqsh", upper.as_str()]);
}

/// What the upper keeps of the base goes on hiding what a newer base has.
#[test]
fn what_the_upper_hides_of_changed_layers_is_listed() {
    if !possible() {
        return;
    }
    let mut machine = Machine::new();
    machine.boot_listed("/run/taproot/base/upper");
    machine.sh(
        "echo mine >/etc/hostname; rm /srv/tool; rm -r /srv/data/old; mkdir /srv/data/old; rm -r /srv/lists; echo list >/srv/lists
        mkdir -p /var/lib/dpkg; echo old >/var/lib/dpkg/status; touch -d 2001-01-01 /etc/hostname /var/lib/dpkg/status",
    );
    let before = machine.layer("status --hidden");
    for line in ["deleted      /srv/tool", "replaced     /srv/data/old, with 1 below it", "another kind /srv/lists"] {
        assert!(before.contains(line), "{line}: {before}");
    }
    // The base is built anew.
    machine.mounts = None;
    let tree = machine.dir.path().join("tree");
    for (path, text) in [("etc/hostname", "newer\n"), ("var/lib/dpkg/status", "newer\n"), ("srv/lists/one", "1")] {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), text).unwrap();
    }
    fs::remove_file(machine.dir.path().join("base/base.sqsh")).unwrap();
    machine.pack();
    machine.boot_listed("/run/taproot/base/upper");
    let said = machine.layer("status --hidden");
    for line in [
        "hides          5 of what the layers have",
        "older copy   /etc/hostname",
        "older copy   /var/lib/dpkg/status",
        "another kind /srv/lists, with 1 below it",
        "/var/lib/dpkg is older than the layers'",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!machine.layer("status").contains("hides"));
    let json: serde_json::Value = serde_json::from_str(&machine.layer("status --json --hidden")).unwrap();
    assert_eq!(json["hidden"]["databases"][0], "var/lib/dpkg");
    let of =
        |how: &str| json["hidden"]["hidden"].as_array().unwrap().iter().filter(|hidden| hidden["how"] == how).count();
    assert_eq!(["deleted", "replaced", "other-kind", "newer"].map(of), [1, 1, 1, 2]);
    let json: serde_json::Value = serde_json::from_str(&machine.layer("status --json")).unwrap();
    assert!(json["hidden"].is_null());
}
