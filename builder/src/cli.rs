//! The command line of `taproot`; man pages and completions come from it.

pub mod disk;
pub mod image;
pub mod install;
pub mod integrity;
pub mod layer;
pub mod live;
pub mod machine;
pub mod run;
pub mod source;
pub mod takeover;

use crate::initramfs::compress::{Compression, ModuleCompression};
use crate::initramfs::extras::Rescue;
use crate::initramfs::fsck::Fsck;
use crate::settings::ModuleSet;
use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Packs the installed system and taproot-init into images that boot it from ZFS or a plain file system.
#[derive(Debug, Parser)]
#[command(name = "taproot", version, max_term_width = 100, propagate_version = true)]
#[command(
    after_help = "Examples:\n  taproot initramfs                      image for the running system and kernel\n  \
    taproot hooks enable                   images for every kernel that is installed from now on\n  \
    taproot inspect IMAGE                  what is in an image, and why\n  \
    taproot explain --cmdline WORDS        what a kernel command line would boot, and why\n  \
    taproot status                         which kernel has which image, and what boots next\n  \
    taproot doctor                         what would stop the next boot\n  \
    taproot layer init base --from DIR     a sealed layer of a root\n  \
    taproot image --tar FILE --qcow2 DISK  a tree becomes a disk that boots\n  \
    taproot live --tar FILE --raw STICK    a tree becomes a live system\n  \
    taproot replace DISK                   a new disk in the place of one that is gone\n  \
    taproot takeover IMAGE --disk DISK     another system in the place of this one"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an initramfs image.
    Initramfs(InitramfsArgs),
    /// Keep the images of installed kernels up to date.
    Hooks {
        /// What to do.
        #[command(subcommand)]
        action: Hooks,
    },
    /// List what is in an image and why each file is there.
    Inspect(InspectArgs),
    /// Say what a kernel command line asks for, and what it would boot.
    Explain(ExplainArgs),
    /// Say which kernels have which image, whether it is up to date, and what boots next.
    Status(StatusArgs),
    /// Say what would stop the next boot, and what to do about it.
    #[command(after_help = DOCTOR_HELP)]
    Doctor(StatusArgs),
    /// Make a disk that boots from a tree.
    Image(Box<image::ImageArgs>),
    /// Make a medium that boots a tree live, from a squashfs.
    #[command(after_help = live::HELP)]
    Live(Box<live::LiveArgs>),
    /// Make, merge, check and unpack the layers of a root.
    Layer {
        /// What to do.
        #[command(subcommand)]
        action: layer::Layer,
    },
    /// Make a copy of an image a machine of its own; a unit calls this once.
    FirstBoot(disk::FirstBootArgs),
    /// Make use of a disk that has become larger.
    Grow(disk::GrowArgs),
    /// Put a new disk in the place of one that the root's mirror lost.
    Replace(disk::ReplaceArgs),
    /// Make a boot environment of an archive, in a pool that is there.
    #[command(after_help = install::HELP)]
    Install(install::InstallArgs),
    /// Make and remove roots for systemd-nspawn, cloned from snapshots.
    Machine {
        /// What to do.
        #[command(subcommand)]
        action: machine::Machine,
    },
    /// Run a system in a virtual machine without a change to it.
    #[command(after_help = run::HELP)]
    Run(run::RunArgs),
    /// Replace this machine's system by an image, after a rehearsal.
    #[command(after_help = takeover::HELP)]
    Takeover(takeover::TakeoverArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory.
    Man {
        /// Directory; it must exist.
        directory: PathBuf,
    },
}

/// Arguments of `taproot initramfs`. What is not given comes from the configuration file, then from the default.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools)] // one a switch
#[command(
    after_help = "The image is written under a temporary name, synced and renamed, readable by its owner only. The same input \
    gives the same bytes. An image that could not boot is refused with the reasons, and no file is left behind. Nothing is read \
    from outside the tree: links are followed inside it, and paths in its own configuration file lie in it.\n\n\
    The configuration file takes kernel, output, modules, compress, compress-modules, rescue, rescue-password-file, fsck, keymap, init and cmdline as texts, \
    add-modules, add-files and layers-keys as lists (add-modules = [\"xfs\"]), layers and microcode as true or false.\n\n\
    Examples:\n  taproot initramfs\n  taproot initramfs --modules generic --rescue full --compress zstd:19\n  \
    taproot initramfs --root /mnt/tree --kernel 6.12.9-amd64 --output /mnt/esp/initramfs.img\n  \
    taproot initramfs --config /etc/taproot/initramfs.toml --json"
)]
pub struct InitramfsArgs {
    /// Tree to take kernel modules, programs, firmware and /etc/hostid from [default: /]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Kernel release to pack modules for [default: the running one; with --root, the only one of the tree]
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<String>,
    /// File to write, or a pipe, or - for standard output; %v stands for the kernel's release, links are followed [default: boot/initramfs-taproot-%v.img of the tree]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Drivers for this machine, or for what common machines boot from [default: host]
    #[arg(long, value_enum)]
    pub modules: Option<ModuleSet>,
    /// zstd, xz or gzip, with an optional level; lz4; or none [default: zstd:9]
    #[arg(long, value_name = "NAME[:LEVEL]")]
    pub compress: Option<Compression>,
    /// Each module by itself: zstd with an optional level, or none; a boot decompresses only those that it loads [default: zstd:9]
    #[arg(long, value_name = "NAME[:LEVEL]")]
    pub compress_modules: Option<ModuleCompression>,
    /// Programs for the rescue shell: busybox with zpool, zfs and zdb; busybox; or the built-in prompt alone [default: small]
    #[arg(long, value_enum)]
    pub rescue: Option<Rescue>,
    /// Lock the rescue prompt with a password: FILE holds it in its first line, or its argon2id hash ($argon2id$...)
    #[arg(long, value_name = "FILE")]
    pub rescue_password_file: Option<PathBuf>,
    /// Programs that check a plain root and /usr before they are mounted: of the types that they have, none, or of these types [default: auto]
    #[arg(long, value_name = "auto|none|TYPE,...")]
    pub fsck: Option<Fsck>,
    /// Pack for a root made of layers, whatever the tree's root is; the running system's is seen by itself
    #[arg(long)]
    pub layers: bool,
    /// Public key that signed lists of layers are believed by: a boot of this image believes no other layers; may be given several times
    #[arg(long = "layers-key", value_name = "FILE")]
    pub layers_keys: Vec<PathBuf>,
    /// Keyboard layout of the prompt: a keymap of the tree by its name, a file (with a slash; as for loadkeys, or busybox's bkeymap), or none for the kernel's US layout [default: what the tree's vconsole.conf or default/keyboard says]
    #[arg(long, value_name = "NAME|FILE|none")]
    pub keymap: Option<String>,
    /// Configuration file (TOML); what is given here goes before it, lists are joined [default: etc/taproot/initramfs.toml of the tree, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The static taproot-init [default: beside this program, or lib/taproot/taproot-init of its prefix]
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Pack this module too and load it at once; may be given several times
    #[arg(long = "add-module", value_name = "NAME")]
    pub add_modules: Vec<String>,
    /// Pack this file of the tree too, with its libraries if it is a program; may be given several times
    #[arg(long = "add-file", value_name = "SOURCE[:TARGET]")]
    pub add_files: Vec<String>,
    /// Words put before the kernel command line
    #[arg(long, value_name = "WORDS")]
    pub cmdline: Option<String>,
    /// Leave processor microcode out
    #[arg(long)]
    pub no_microcode: bool,
    /// Write the image even if the checks say that it cannot boot, and say why it may not
    #[arg(long)]
    pub no_preflight: bool,
    /// Print what was built as JSON
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// What `taproot hooks` does.
#[derive(Debug, Subcommand)]
pub enum Hooks {
    /// Make the images of all installed kernels, and from now on of every kernel that is installed.
    #[command(
        after_help = "The images get the names that the boot loader has in its entries (initrd.img-RELEASE in /boot on Debian). Images \
        of the program that made them so far stay as RELEASE.old until the new ones have booted once. That program is set aside: on \
        Debian update-initramfs is diverted, so that whatever asks for it gets taproot; on Arch the hooks of mkinitcpio, dracut and booster are \
        masked, also those that are installed later; elsewhere kernel-install is told. Fails, and changes nothing, if the newest or the running kernel's image cannot be made.\n\n\
        Examples:\n  taproot hooks enable\n  taproot hooks disable    the way back"
    )]
    Enable,
    /// Give the images back to the program that made them before, which makes them anew.
    #[command(after_help = "Examples:\n  taproot hooks disable")]
    Disable,
    /// Make the images anew, after a change of the configuration or of modules.
    #[command(
        after_help = "Packages do this by themselves. An image that cannot be made stays as it was, and that is an error for the newest and \
        the running kernel and a note for others.\n\nExamples:\n  taproot hooks update"
    )]
    Update,
    /// Make the image of one kernel; hooks of package managers call this.
    #[command(
        after_help = "The image in place stays as a fallback (its name with .old) until the new one has booted once. If the new one cannot \
        be made, nothing changes, the exit code is 1 and the reasons are given.\n\n\
        Examples:\n  taproot hooks add 6.12.9-amd64\n  taproot hooks add --root /mnt 6.12.9-amd64"
    )]
    Add {
        /// Release of the kernel, as `uname -r` prints it
        release: String,
        /// Tree that has it [default: /]
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
        /// For kernel-install: leave the image in this directory, as initrd
        #[arg(long, value_name = "DIR", requires = "entry")]
        staging: Option<PathBuf>,
        /// For kernel-install: directory of the boot entry, whose initrd stays as initrd.old
        #[arg(long, value_name = "DIR", requires = "staging")]
        entry: Option<PathBuf>,
    },
    /// Switch off pacman's hooks of other programs that make images; our own hook of pacman calls this when some are installed.
    #[command(after_help = "Examples:\n  taproot hooks mask 90-mkinitcpio-install.hook")]
    Mask {
        /// Their names or paths; those of other programs are passed over
        hooks: Vec<PathBuf>,
    },
    /// Remove the images of a kernel that is gone; hooks of package managers call this.
    #[command(after_help = "Examples:\n  taproot hooks remove 6.12.9-amd64")]
    Remove {
        /// Release of the kernel
        release: String,
        /// Tree that had it [default: /]
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
}

/// Arguments of `taproot inspect`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  taproot inspect /boot/initramfs-taproot-6.12.9.img\n  taproot inspect --json IMAGE | jq -r '.files[].path'"
)]
pub struct InspectArgs {
    /// The image; also images of other tools can be listed, without reasons.
    pub image: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `taproot explain`.
#[derive(Debug, Clone, Default, Args)]
#[command(
    after_help = "Prints each word with what it sets, the settings no word decides, and on the facts: the pool and the root that \
    would be chosen, every mount in order with its reason, and every step. Nothing is changed and no privileges are needed. \
    The exit code is 0 if it would boot as far as is known, 3 if it would not.\n\n\
    Examples:\n  taproot explain                                     this boot\n  \
    taproot explain --cmdline 'zfs=tank/ROOT/new ro'    another root on this machine\n  \
    taproot explain --facts boot.json --cmdline 'root=zfs:AUTO taproot.mounts=system'\n  \
    ssh host cat /run/taproot/boot.json | taproot explain --facts - --json\n  \
    taproot explain --facts none --cmdline 'root=zfs:AUTO rootdelay=9'    the words alone"
)]
pub struct ExplainArgs {
    /// The kernel command line [default: that of the recorded boot, else /proc/cmdline]
    #[arg(long, value_name = "WORDS")]
    pub cmdline: Option<String>,
    /// boot.json of a boot; `-`: from standard input; `system`: ask /dev/zfs and, as root, the block devices; `none` [default: /run/taproot/boot.json, else system, else none]
    #[arg(long, value_name = "FILE")]
    pub facts: Option<PathBuf>,
    /// Image whose packed words come before the command line, and whose expected pools count
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const STATUS_HELP: &str = "An image is stale if a new one would differ: modules, the installed taproot-init, /etc/hostid, \
    /etc/taproot/initramfs.toml, modprobe.d, files that were asked for, or the root's pool have changed since. What boots next \
    is read from the boot loader's files (GRUB, systemd-boot, unified kernel images) and the firmware's variables. Nothing is changed. A pool \
    that does not answer stops nothing: what cannot be looked at is said. Reading images and disks takes root.\n\n\
    The exit code is 0 if each kernel has an image that is up to date, 3 if one is stale, damaged or missing or no \
    kernel was found, 1 if that failed.\n\n\
    Examples:\n  taproot status\n  taproot status --json | jq -r '.images[] | select(.state == \"stale\") | .image'\n  \
    taproot status --root /mnt              of another system, mounted here";
const DOCTOR_HELP: &str = "Looks at the kernel that boots next, its image and its command line, at the newest kernel, and at what packing would \
    come to. Each finding has a lasting name (docs/status.md), what it comes to, and what to do. Nothing is changed, and a pool \
    that does not answer stops nothing. Takes root.\n\n\
    The exit code is for monitoring: 0 nothing was found, or notes; 1 something may stop the next boot; 2 something stops it; 3 it \
    could not be told.\n\n\
    Examples:\n  taproot doctor\n  taproot doctor --json | jq -r '.findings[] | .severity + \" \" + .code'\n  \
    taproot doctor --wait 5 || mail -s 'next boot' root    from cron\n  taproot doctor --root /mnt              of another system, mounted here";

/// Arguments of `taproot status` and `taproot doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = STATUS_HELP)]
pub struct StatusArgs {
    /// Look at the system in this directory, and at what it shows of this machine (proc, sys, run)
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// How long each thing that is looked at may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    pub wait: u16,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl StatusArgs {
    /// The directory without links.
    pub fn root(&self) -> Result<PathBuf> {
        let failed = || format!("--root {}: expected a directory", self.root.display());
        let root = self.root.canonicalize().with_context(failed)?;
        anyhow::ensure!(root.is_dir(), failed());
        Ok(root)
    }

    /// How long each thing may take.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.wait.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_with_choices_has_examples() {
        for name in
            ["initramfs", "inspect", "explain", "status", "doctor", "first-boot", "grow", "install", "run", "takeover"]
        {
            let mut command = Cli::command();
            let help = command.find_subcommand_mut(name).unwrap().render_help().to_string();
            assert!(help.contains("Examples:"), "{name}");
        }
        for name in ["hooks", "layer", "machine"] {
            for action in Cli::command().find_subcommand(name).unwrap().get_subcommands() {
                assert!(action.clone().render_help().to_string().contains("Examples:"), "{action}");
            }
        }
    }

    /// Commands in a page: what is quoted, and lines of examples.
    fn commands(page: &str) -> Vec<Vec<&str>> {
        let quoted =
            page.lines().filter(|line| !line.starts_with("    ")).flat_map(|line| line.split('`').skip(1).step_by(2));
        let examples = page.lines().filter_map(|line| line.strip_prefix("    "));
        quoted
            .chain(examples)
            .flat_map(|text| text.split("&&"))
            .map(|text| text.split('#').next().unwrap().trim().trim_start_matches("sudo "))
            .filter_map(|text| text.strip_prefix("taproot "))
            .map(|text| text.split_whitespace().collect())
            .collect()
    }

    /// What a page tells people to type exists.
    #[test]
    fn commands_in_the_pages_exist() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut pages = vec![root.join("README.md")];
        pages.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
        let mut seen = 0;
        for page in pages.iter().filter(|page| page.extension().is_some_and(|end| end == "md")) {
            let text = std::fs::read_to_string(page).unwrap();
            for words in commands(&text) {
                let shown = format!("{}: taproot {}", page.display(), words.join(" "));
                let mut command = Cli::command();
                let mut words = words.as_slice();
                while let Some((name, rest)) = words.split_first().filter(|_| command.has_subcommands()) {
                    let names: Vec<&str> = name.split('|').collect();
                    if names.iter().any(|name| name.starts_with(['-', '.']) || *name == "help") {
                        break;
                    }
                    let found =
                        names.iter().map(|name| command.find_subcommand(name).cloned()).collect::<Option<Vec<_>>>();
                    command = found.unwrap_or_else(|| panic!("{shown}: no such command")).remove(0);
                    words = rest;
                }
                for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
                    let name = option.split(['=', ',', ')']).next().unwrap();
                    let known = |arg: &clap::Arg| arg.get_long() == Some(name);
                    assert!(
                        name == "help" || name == "version" || command.get_arguments().any(known),
                        "{shown}: --{name}"
                    );
                }
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen} commands in all pages");
    }
}
