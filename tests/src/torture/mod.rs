//! Power cuts of a real machine whose root is made of layers: QEMU is killed at a random write of a commit, a merge, an adoption or the
//! cleaning behind it, and of what its disk was not told to keep a random part is lost. Then it must boot, show every file that was
//! durable, and come to an end with what was under way.
//!
//! The system is small, so that a boot takes seconds where a processor is emulated: a shell script (`guest.sh`) with busybox, our
//! program and mksquashfs in one layer, another layer over it, and an upper. Its disk is ext4.

mod known;
mod log;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use taproot_init::hex::hex;
use taproot_init::layers::state::{Digest, Flags, Image};
use taproot_init::layers::{State, text};

use crate::kit::{self, System};
use crate::sim::prng::Prng;
use crate::vm::{Disk, Scratch};
use crate::{layers, scenario, words};
use known::Known;
use log::Loss;

/// The image at the bottom.
const BASE: &str = "base.sqsh";
/// The one above it.
const SITE: &str = "site.sqsh";
/// The label of the disk's file system.
const LABEL: &str = "TORTURE";
/// The system.
const GUEST: &str = include_str!("guest.sh");
/// Seconds (of KVM) for a session.
const LIMIT: u64 = 60;
/// Boots in which everything must have come to an end.
const BOOTS: usize = 6;

/// What is cut.
struct Scene {
    /// What goes on in it.
    what: &'static str,
    /// The session that it is.
    session: &'static str,
    /// Which of the prepared disks it begins with.
    from: usize,
    /// What is under way when it ends without a cut, on which layers it runs then.
    ends: (&'static str, &'static str),
}

/// The first ones, one after the other, make the disks that all begin with.
const SCENES: [Scene; 6] = [
    Scene { what: "asking for a commit", session: "commit", from: 0, ends: ("two requested", "site base") },
    Scene { what: "sealing and building", session: "go-on", from: 1, ends: ("two ready", "#1 site base") },
    Scene { what: "adopting and cleaning", session: "go-on", from: 2, ends: ("", "two site base") },
    Scene { what: "merging", session: "merge", from: 3, ends: ("both ready", "two site base") },
    Scene { what: "adopting and cleaning what was merged", session: "go-on", from: 4, ends: ("", "both base") },
    Scene { what: "a trial that fails", session: "unconfirmed", from: 2, ends: ("two trial", "two site base") },
];

/// A disk to begin with, and what is known of it.
struct Stage {
    image: PathBuf,
    known: Known,
    /// Writes of the session that begins with it, if nothing cuts it.
    writes: u64,
}

/// The power cuts of one system.
pub struct Torture<'a> {
    system: &'a System,
    scratch: Scratch,
    stages: Vec<Stage>,
}

impl std::fmt::Debug for Torture<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Torture").field("scratch", &self.scratch).finish_non_exhaustive()
    }
}

/// How a session ended.
struct Session {
    /// All that it said.
    said: String,
    writes: u64,
}

impl<'a> Torture<'a> {
    /// Makes the disks: a whole story without a cut.
    pub fn prepare(system: &'a System) -> Result<Self> {
        let scratch = Scratch::new()?;
        let (image, known) = first_disk(system, scratch.path())?;
        let mut torture = Self { system, scratch, stages: vec![Stage { image, known, writes: 0 }] };
        for (number, scene) in SCENES.iter().enumerate().take_while(|(number, scene)| scene.from == *number) {
            let (image, mut known) = torture.stage(number, &format!("stage{}", number + 1))?;
            let session = torture.session(scene.session, &image)?;
            known.hear(&session.said).with_context(|| format!("{}, without a cut", scene.what))?;
            let found = (known.under_way(), known.mounted());
            ensure!(
                found == (scene.ends.0.into(), scene.ends.1.into()),
                "{}, without a cut: expected {:?}, found {found:?}",
                scene.what,
                scene.ends
            );
            torture.stages.get_mut(number).context("a stage")?.writes = session.writes;
            torture.stages.push(Stage { image, known, writes: 0 });
        }
        Ok(torture)
    }

    /// The power fails once, as this seed has it, in the scene that is its turn; what came of it, in a line.
    pub fn run(&self, seed: u64) -> Result<String> {
        let turn = usize::try_from(seed).unwrap_or_default() % SCENES.len();
        let scene = SCENES.get(turn).context("a scene")?;
        let mut prng = Prng::new(seed);
        let writes = self.stages.get(scene.from).context("a stage")?.writes;
        // As a part of the whole: how many writes there are is not the same each time.
        let moment = 1 + writes * prng.below(1000) / 1000;
        let what = format!("seed {seed}: {}, cut after write {moment} of {writes}", scene.what);
        let (loss, boots) = self.cut(scene, moment, &mut prng).with_context(|| what.clone())?;
        let Loss { unsynced, lost, torn } = loss;
        Ok(format!("{what}; of {unsynced} unsynced {lost} lost, {torn} torn; well after {boots} boots"))
    }

    fn cut(&self, scene: &Scene, moment: u64, prng: &mut Prng) -> Result<(Loss, usize)> {
        let (live, mut known) = self.stage(scene.from, "live")?;
        let said = self.cut_session(scene.session, &live, moment)?;
        known.hear(&said)?;
        let (image, _) = self.stage(scene.from, "left")?;
        let loss = log::replay(&live.with_extension("log"), &image, prng)?;
        let trial = scene.session == "unconfirmed";
        let session = if trial { scene.session } else { "go-on" };
        for boots in 1..=BOOTS {
            known.hear(&self.session(session, &image)?.said).with_context(|| format!("boot {boots} after the cut"))?;
            let over = if trial { known.under_way().contains("its trial failed") } else { known.is_done() };
            if !over {
                continue;
            }
            ensure!(
                !trial || known.mounted() == "#1 site base",
                "expected the stack before, found {}",
                known.mounted()
            );
            let left = known.left_over();
            ensure!(trial || left.is_empty(), "left over: {left:?}");
            return Ok((loss, boots));
        }
        bail!("not at an end after {BOOTS} boots: {} on {}", known.under_way(), known.mounted())
    }

    /// A copy of a prepared disk, and what is known of it.
    fn stage(&self, number: usize, name: &str) -> Result<(PathBuf, Known)> {
        let stage = self.stages.get(number).context("a stage")?;
        let image = self.scratch.path().join(format!("{name}.img"));
        kit::run(Command::new("cp").arg("--sparse=always").arg(&stage.image).arg(&image))?;
        Ok((image, stage.known.clone()))
    }

    fn disk(image: &Path, format: &'static str) -> Disk {
        Disk::writable(image, format, "torture0")
    }

    fn start(&self, session: &str, disk: &Disk) -> Result<crate::vm::Running> {
        let words = format!("root=LABEL={LABEL} taproot.layers init=/t/{session}");
        scenario::vm(&format!("torture-{session}"), self.system, &words)?.disk(disk.clone()).start()
    }

    /// A session that ends by itself.
    fn session(&self, session: &str, image: &Path) -> Result<Session> {
        let disk = Self::disk(image, "raw");
        let mut vm = self.start(session, &disk)?;
        vm.wait_report("@@DONE", LIMIT)?;
        let writes = vm.writes(&disk).unwrap_or_default();
        vm.wait_exit(LIMIT)?;
        Ok(Session { said: vm.report.text(), writes })
    }

    /// A session whose power fails after this many writes; what it said until then.
    fn cut_session(&self, session: &str, image: &Path, moment: u64) -> Result<String> {
        let log = image.with_extension("log");
        // Only what is written of it takes room.
        fs::File::create(&log).and_then(|file| file.set_len(1 << 32)).context("the log of writes")?;
        let disk = Self::disk(image, "logged");
        let mut vm = self.start(session, &disk)?;
        let deadline = Instant::now() + vm.accel.limit(LIMIT);
        // It can be over a little earlier than the one that was counted.
        while vm.writes(&disk).is_ok_and(|writes| writes < moment) && !vm.report.shows("@@DONE") {
            ensure!(!vm.console.shows_anew(words::PROMPT), "the boot ended in the rescue prompt");
            ensure!(Instant::now() < deadline, "{}", vm.console.late());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        vm.pulled()
    }
}

fn sum(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The disk before anything was asked for: two layers, and a state with an upper of this machine's own.
fn first_disk(system: &System, dir: &Path) -> Result<(PathBuf, Known)> {
    let base = base(system, dir)?;
    let site = sealed(dir, "site", &[("srv/site", "site\n"), ("srv/old", "old\n"), ("srv/live-0", "of a layer\n")])?;
    let mut images = BTreeMap::new();
    for (file, path) in [(BASE, &base), (SITE, &site)] {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let digest = Digest { size: bytes.len() as u64, sha256: Sha256::digest(&bytes).into() };
        images.insert(file.to_owned(), Image { digest, made: false });
    }
    let state = State::new(images, vec![SITE.to_owned(), BASE.to_owned()], Flags::portable());
    let state = state.map_err(|why| anyhow::anyhow!("the first state: {why}"))?;
    let upper = [("etc/machine-id", "0123456789abcdef0123456789abcdef\n"), ("srv/kept", "kept\n")];
    let mut files = vec![(base, BASE.to_owned()), (site, SITE.to_owned())];
    let contents = [(".layers/state".to_owned(), text::render(&state))].into_iter();
    let contents =
        contents.chain(upper.map(|(name, text)| (format!(".layers/uppers/1/upper/{name}"), text.as_bytes().to_vec())));
    for (number, (name, bytes)) in contents.enumerate() {
        let path = dir.join(format!("content{number}"));
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        files.push((path, name));
    }
    let image = dir.join("stage0.img");
    let files: Vec<(PathBuf, &str)> = files.iter().map(|(path, name)| (path.clone(), name.as_str())).collect();
    layers::ext4(&image, LABEL, 128, &files)?;
    let shown = [("srv/site", "site\n"), ("srv/old", "old\n"), ("srv/live-0", "of a layer\n")].into_iter().chain(upper);
    Ok((image, Known::new(shown.map(|(name, text)| (format!("/{name}"), sum(text.as_bytes()))))))
}

/// The layer with the system: the session's script by its names, busybox by those of its commands, and programs with their libraries.
fn base(system: &System, dir: &Path) -> Result<PathBuf> {
    let tree = dir.join("base");
    for name in ["bin", "t", "proc", "sys", "dev", "run", "tmp", "mnt", "srv", "etc"] {
        fs::create_dir_all(tree.join(name)).context("the tree of the system")?;
    }
    let busybox = system.tree().join("usr/bin/busybox");
    let put = |from: &Path, to: &str| -> Result<()> {
        let to = tree.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a name in a directory")?)?;
        fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).context("permissions")
    };
    put(&busybox, "bin/busybox")?;
    for command in kit::run(Command::new(&busybox).arg("--list"))?.split_whitespace().filter(|name| *name != "busybox")
    {
        symlink("busybox", tree.join("bin").join(command)).context("the commands of busybox")?;
    }
    put(&crate::image::builder(), "bin/taproot")?;
    let mksquashfs = kit::run(Command::new("sh").args(["-c", "command -v mksquashfs"]))?;
    put(Path::new(mksquashfs.trim()), "bin/mksquashfs")?;
    // As ldd names them, its loader included; and the one that a thread's end loads.
    let libraries = kit::run(Command::new("ldd").arg(mksquashfs.trim()))?;
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
    let is_libc = |path: &&Path| path.file_name().is_some_and(|name| name == "libc.so.6");
    let ends = libraries.clone().find(is_libc).map(|libc| libc.with_file_name("libgcc_s.so.1"));
    for library in libraries.chain(ends.as_deref()) {
        put(library, utf8(library)?)?;
    }
    let sessions: std::collections::BTreeSet<&str> = SCENES.iter().map(|scene| scene.session).collect();
    for session in sessions {
        let path = tree.join("t").join(session);
        fs::write(&path, GUEST).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))?;
    }
    packed(&tree)
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{}: not UTF-8", path.display()))
}

/// A layer with these files.
fn sealed(dir: &Path, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let tree = dir.join(name);
    for (name, text) in files {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().context("a name in a directory")?)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    packed(&tree)
}

/// An image of a tree, stored as it is: unpacking is slow where a processor is emulated.
fn packed(tree: &Path) -> Result<PathBuf> {
    let image = tree.with_extension("sqsh");
    let options = ["-noappend", "-quiet", "-no-progress", "-all-root", "-noI", "-noD", "-noF", "-noX"];
    kit::run(Command::new("mksquashfs").arg(tree).arg(&image).args(options))?;
    Ok(image)
}
