//! Kernel packages come and go in an installed Debian, and the images follow: dpkg, its triggers, the packages' maintainer scripts,
//! linux-base's hooks, initramfs-tools and kernel-install are the tree's own, and what `make install` installs is what runs. Made up are
//! the releases (the installed kernel packed again under other ones, with few modules, `tests/kit/kernel-package.sh`), dkms, which
//! installs modules that it built before (`tests/kit/dkms-stand-in`), and that an image has booted, for which its record is put in
//! place. Pacman is not run: its hook's script is, as pacman would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use taproot::{inspect, uki};
use taproot_init::image::ImageConfig;
use taproot_tests::chroot::{Chroot, said};
use taproot_tests::kit::{self, System};
use taproot_tests::{account, checkout, newer};

struct Debian {
    chroot: Chroot,
    system: System,
}

impl Debian {
    /// An installed system with Taproot, whose hooks are not on yet; `None` without root.
    fn new() -> Option<Self> {
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            account::skipped("changing an installed system needs root");
            return None;
        }
        let system = System::current().unwrap();
        let debian = Self { chroot: Chroot::new(&system).unwrap(), system };
        let make = format!("make --no-print-directory -s -C {} install DESTDIR={{root}}", checkout().display());
        let output = debian.chroot.outside(&make).unwrap();
        assert!(output.status.success(), "{}", said(&output));
        debian.configure("");
        let kernel = &debian.system.kernel;
        debian.good(&format!(
            "mkdir /var/lib/kit-dkms; echo {kernel} >/var/lib/kit-dkms/release
             cp /lib/modules/{kernel}/updates/dkms/* /var/lib/kit-dkms/; cd /var/lib/kit-dkms
             for packed in *.xz; do [ ! -e $packed ] || xz -d $packed; done
             for packed in *.zst; do [ ! -e $packed ] || zstd -q -d --rm $packed; done
             mkdir -p /etc/kernel/prerm.d /var/tmp/few; cd /lib/modules/{kernel}
             for dir in drivers/virtio fs/ext4 fs/jbd2 fs/nls; do
                 [ ! -d kernel/$dir ] || cp -r --parents kernel/$dir /var/tmp/few/
             done
             rm -r kernel; mv /var/tmp/few/kernel kernel; depmod {kernel}
             echo MODULES=list >/etc/initramfs-tools/conf.d/kit; rm -f /etc/initramfs-tools/update-initramfs.conf"
        ));
        let stand_in = std::fs::read(checkout().join("tests/kit/dkms-stand-in")).unwrap();
        for path in ["/etc/kernel/postinst.d/dkms", "/etc/kernel/prerm.d/dkms"] {
            debian.chroot.write(path, &stand_in).unwrap();
            debian.good(&format!("chmod 755 {path}"));
        }
        Some(debian)
    }

    /// Small images, and words for the command line.
    fn configure(&self, words: &str) {
        let text = format!(
            "modules = \"generic\"\nrescue = \"none\"\nfsck = \"none\"\nmicrocode = false\ncompress = \"zstd:1\"\ncompress-modules = \"zstd:1\"\ncmdline = \"{words}\"\n"
        );
        self.chroot.write("/etc/taproot/initramfs.toml", text.as_bytes()).unwrap();
    }

    /// Runs a script that must succeed; what it printed.
    fn good(&self, script: &str) -> String {
        let output = self.chroot.run(script).unwrap();
        assert!(output.status.success(), "{script}: {}", said(&output));
        said(&output)
    }

    /// Runs a script that must fail with what a package manager takes for an error.
    fn bad(&self, script: &str) -> String {
        let output = self.chroot.run(script).unwrap();
        assert!(!output.status.success(), "{script} succeeded: {}", said(&output));
        said(&output)
    }

    /// The n-th release after the installed one.
    fn release(&self, n: u32) -> String {
        newer::release(&self.system, n).unwrap()
    }

    /// Makes the package of a release; the command that installs it.
    fn package(&self, release: &str) -> String {
        let deb = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(checkout().join("tests/kit/kernel-package.sh"));
        command.arg(self.system.tree()).arg(&self.system.kernel).arg(release).arg(deb.path());
        kit::run(&mut command).unwrap();
        let to = format!("/var/tmp/{release}.deb");
        self.chroot.write(&to, &std::fs::read(deb.path()).unwrap()).unwrap();
        format!("dpkg -i {to}")
    }

    fn image(&self, path: &str) -> ImageConfig {
        let bytes = self.chroot.read(path).unwrap();
        ImageConfig::parse(
            &inspect::config(&bytes).unwrap().unwrap_or_else(|| panic!("{path}: another program's image")),
        )
    }

    /// What is in /boot of a release, or of all.
    fn boot(&self, of: &str) -> Vec<String> {
        let output = self.chroot.run(&format!("cd /boot; ls -A | grep -F '{of}' | grep -e img || true")).unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// As if the image of this path had booted just now.
    fn has_booted(&self, path: &str) {
        let record = format!("{{\"format\": 1, \"image\": \"{}\"}}\n", self.image(path).id);
        self.chroot.write("/run/taproot/boot.json", record.as_bytes()).unwrap();
    }
}

fn image_of(release: &str) -> String {
    format!("/boot/initrd.img-{release}")
}

#[test]
fn twenty_upgrades_in_a_row() {
    let Some(debian) = Debian::new() else { return };
    let kernel = debian.system.kernel.clone();
    // Installed alone the hooks do nothing.
    debian.good(&format!(
        "run-parts --report --exit-on-error --arg={kernel} /etc/kernel/postinst.d; [ ! -e /etc/taproot/hooks.enabled ]"
    ));
    debian.good("rm -f /boot/initrd.img-*; taproot hooks enable");
    assert_eq!(debian.image(&image_of(&kernel)).kernel, kernel);

    for n in 1..=20 {
        let release = debian.release(n);
        let install = debian.package(&release);
        let printed = debian.good(&format!("{install}; rm /var/tmp/*.deb"));
        assert!(!printed.contains("usage:"), "a hook of Debian's is not understood: {printed}");
        assert_eq!(debian.image(&image_of(&release)).kernel, release);
        debian.has_booted(&image_of(&release));
        if n > 2 {
            debian.good(&format!("dpkg -P linux-image-{}", debian.release(n - 2)));
        }
    }
    let mut expected = [kernel, debian.release(19), debian.release(20)].map(|release| format!("initrd.img-{release}"));
    expected.sort();
    assert_eq!(debian.boot(""), expected, "one image a kernel, and nothing else is left");
    let state = debian.good("dpkg --audit; dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' 'linux-image-*'");
    assert_eq!(state.matches("\nii ").count(), 4, "three kernels and the package that names the newest: {state}");
}

#[test]
fn an_upgrade_without_zfs_changes_no_image_and_fails() {
    let Some(debian) = Debian::new() else { return };
    let kernel = debian.system.kernel.clone();
    debian.good("rm -f /boot/initrd.img-*; taproot hooks enable");
    let release = debian.release(1);
    let install = debian.package(&release);
    let before = debian.good("cd /boot; sha256sum initrd.img-*");

    debian.good("touch /var/lib/kit-dkms/broken");
    let printed = debian.bad(&install);
    for text in [
        &format!("kernel {release} HAS NO IMAGE AND CANNOT BOOT"),
        &format!("no zfs module for kernel {release}"),
        "then: dpkg --configure -a: ",
        "dpkg: error processing package",
        "run-parts: /etc/kernel/postinst.d/taproot exited with return code 1",
    ] {
        assert!(printed.contains(text), "{text:?} is missing: {printed}");
    }
    assert_eq!(debian.good("cd /boot; sha256sum initrd.img-*"), before);
    // Others ask for new images meanwhile: that is no error of theirs.
    debian.good(
        "dpkg-trigger --by-package=zfsutils-linux --no-await update-initramfs; dpkg --triggers-only initramfs-tools",
    );
    assert_eq!(debian.boot(&release), [""; 0]);
    // Then the headers come, and the package manager goes on where it stopped.
    debian.good("rm /var/lib/kit-dkms/broken; dpkg --configure -a");
    assert_eq!(debian.image(&image_of(&release)).kernel, release);

    // Of all kernels the first one has no zfs: that is an error, and no reason to leave the others without.
    debian.good(&format!("mv /lib/modules/{kernel}/updates /var/tmp/; rm {}", image_of(&release)));
    debian.bad("update-initramfs -c -k all");
    assert_eq!(debian.image(&image_of(&release)).kernel, release);
    debian.good(&format!("mv /var/tmp/updates /lib/modules/{kernel}/"));

    // The same package anew, and this time there was an image.
    let before = debian.good("cd /boot; sha256sum initrd.img-*");
    let printed =
        debian.bad(&format!("touch /var/lib/kit-dkms/broken; rm -r /lib/modules/{release}/updates; {install}"));
    assert!(printed.contains(&format!("NO NEW IMAGE WAS MADE; {} stays as it was", image_of(&release))), "{printed}");
    assert_eq!(debian.good("cd /boot; sha256sum initrd.img-*"), before);
    // A package that goes takes along what it had, and only that.
    debian.good(&format!("dpkg -P linux-image-{release}"));
    assert_eq!(debian.boot(""), [format!("initrd.img-{kernel}")]);
}

#[test]
fn the_image_before_stays_until_the_new_one_has_booted() {
    let Some(debian) = Debian::new() else { return };
    let image = image_of(&debian.system.kernel);
    let old = format!("{image}.old");
    // What another program made is the first to stay.
    debian.chroot.write(&image, b"070701: not ours").unwrap();
    debian.good("taproot hooks enable");
    assert_eq!(debian.chroot.read(&old).unwrap(), b"070701: not ours");
    // What zfs-dkms, firmware packages and others do: they activate the trigger.
    let ask =
        "dpkg-trigger --by-package=zfsutils-linux --no-await update-initramfs; dpkg --triggers-only initramfs-tools";
    let first = debian.image(&image).id;
    debian.configure("taproot.wait=11");
    debian.good(ask);
    assert_ne!(debian.image(&image).id, first);
    assert_eq!(debian.chroot.read(&old).unwrap(), b"070701: not ours", "no image of ours has booted");
    // The second one boots; a third comes, and a fourth that nobody has seen boot.
    debian.has_booted(&image);
    let second = debian.image(&image).id;
    debian.configure("taproot.wait=12");
    debian.good(ask);
    assert_eq!(debian.image(&old).id, second);
    debian.configure("taproot.wait=13");
    debian.good("update-initramfs -u -k all");
    assert_eq!((debian.image(&old).id, debian.image(&image).cmdline), (second, "taproot.wait=13".to_owned()));
    // It boots, and the fallback goes with the next image that any kernel gets.
    debian.has_booted(&image);
    let release = debian.release(1);
    let install = debian.package(&release);
    debian.good(&install);
    assert!(!debian.chroot.has(Path::new(&old)), "{:?}", debian.boot(""));
    // No room: what is there stays.
    let before = debian.good("cd /boot; sha256sum initrd.img-*");
    debian.configure("taproot.wait=14");
    let full = "mkdir /var/tmp/boot; cp -a /boot/. /var/tmp/boot/; size=$(du -sk /var/tmp/boot | cut -f1)
        mount -t tmpfs -o size=$((size + 300))k tmpfs /boot; cp -a /var/tmp/boot/. /boot/";
    debian.good(full);
    let printed = debian.bad(&format!("taproot hooks add {release}"));
    assert!(printed.contains("are needed and") && printed.contains("stays as it was"), "{printed}");
    assert_eq!(debian.good("cd /boot; sha256sum initrd.img-*"), before);
}

#[test]
fn kernel_install_gets_the_image_and_an_entry_for_the_one_before() {
    let Some(debian) = Debian::new() else { return };
    let kernel = debian.system.kernel.clone();
    debian.good(
        "mkdir -p /boot/loader/entries /boot/kit; echo kit >/etc/kernel/entry-token; echo 'root=zfs:AUTO ro' >/etc/kernel/cmdline
         printf 'layout=bls\\ninitrd_generator=taproot\\n' >/etc/kernel/install.conf
         for name in 85-initrd.install 55-initrd.install; do ln -s /dev/null /etc/kernel/install.d/$name; done",
    );
    let add = format!("kernel-install add {kernel} /boot/vmlinuz-{kernel}");
    let (image, old) = (format!("/boot/kit/{kernel}/initrd"), format!("/boot/kit/{kernel}/initrd.old"));
    let entry = |name: &str| debian.good(&format!("cat /boot/loader/entries/kit-{kernel}{name}.conf"));
    debian.good(&add);
    assert!(entry("").contains(&format!("/kit/{kernel}/initrd\n")), "{}", entry(""));
    assert!(!debian.chroot.has(Path::new(&old)));
    let first = debian.image(&image).id;
    debian.configure("taproot.wait=11");
    debian.good(&add);
    assert_eq!(debian.image(&old).id, first);
    let fallback = entry(".old");
    for text in [
        format!("/kit/{kernel}/initrd.old\n"),
        "(image before)".into(),
        format!("{kernel}~old"),
        "root=zfs:AUTO".into(),
    ] {
        assert!(fallback.contains(&text), "{text:?}: {fallback}");
    }
    assert!(entry("").contains(&format!("/kit/{kernel}/initrd\n")));
    // Without zfs nothing changes, and kernel-install fails.
    let state = format!("cd /boot; sha256sum kit/{kernel}/* loader/entries/*");
    let before = debian.good(&state);
    let printed = debian.bad(&format!("rm -r /lib/modules/{kernel}/updates; depmod {kernel}; {add}"));
    assert!(printed.contains("NO NEW IMAGE WAS MADE") && printed.contains("no zfs module"), "{printed}");
    assert_eq!(debian.good(&state), before);
    debian.good(&format!("kernel-install remove {kernel}"));
    assert!(!debian.good("ls -R /boot/kit /boot/loader").contains(&kernel));
}

/// Where the boot loader reads a partition of its own: here a file system of its own, whose room is known.
#[test]
fn a_kernel_reaches_the_boot_loaders_partition_or_the_old_one_stays_there() {
    const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    let Some(debian) = Debian::new() else { return };
    let (kernel, first, second) = (debian.system.kernel.clone(), debian.release(1), debian.release(2));
    debian.chroot.write(STUB, &std::fs::read(STUB).unwrap()).unwrap();
    let config = "loader = \"uki+bls+grub\"\nesp = \"/efi\"\ncmdline = \"root=zfs:AUTO ro\"\n";
    debian.chroot.write("/etc/taproot/loader.toml", config.as_bytes()).unwrap();
    let printed = debian.bad("rm -f /boot/initrd.img-*; mkdir -p /efi; taproot hooks enable");
    assert!(printed.contains("DOES NOT REACH THE BOOT LOADER: /efi: expected the partition"), "{printed}");
    debian.good("mount -t tmpfs -o size=800m tmpfs /efi; taproot hooks enable");
    // What each loader boots first, and that it is what is in /boot.
    let boots = |release: &str| {
        let uki = debian.chroot.read(&format!("/efi/EFI/Linux/taproot-{release}.efi")).unwrap();
        assert_eq!(uki::text(&uki, ".uname").as_deref(), Some(release));
        assert!(uki::section(&uki, ".initrd") == Some(&debian.chroot.read(&image_of(release)).unwrap()[..]));
        assert!(
            uki::section(&uki, ".linux") == Some(&debian.chroot.read(&format!("/boot/vmlinuz-{release}")).unwrap()[..])
        );
        let menu = String::from_utf8(debian.chroot.read("/efi/grub/grub.cfg").unwrap()).unwrap();
        let entry = debian.good(&format!("cat /efi/loader/entries/taproot-{release}.conf"));
        let linux = menu.lines().find_map(|line| line.strip_prefix("    linux ")).unwrap();
        let linux = linux.strip_suffix(" root=zfs:AUTO ro").unwrap();
        assert!(entry.contains(&format!("\nlinux {linux}\n")) && linux.contains(release), "{menu} {entry}");
        debian.good(&format!(
            "cmp /efi{linux} /boot/vmlinuz-{release}; cmp /efi$(dirname {linux})/initrd {}",
            image_of(release)
        ));
    };
    boots(&kernel);
    debian.has_booted(&image_of(&kernel));
    let install = debian.package(&first);
    debian.good(&install);
    boots(&first);
    // Full: dpkg hears of it, and what was there is what boots.
    let install = debian.package(&second);
    let sums = "cd /efi; find . -type f -exec sha256sum {} + | sort";
    let before = debian.good(sums);
    debian.good("used=$(du -sk /efi | cut -f1); mount -o remount,size=$((used + 4000))k /efi");
    let printed = debian.bad(&install);
    for text in
        [&format!("NO ROOM FOR KERNEL {second}"), "DOES NOT REACH THE BOOT LOADER", "dpkg: error processing package"]
    {
        assert!(printed.contains(text), "{text:?} is missing: {printed}");
    }
    assert_eq!(debian.good(sums), before);
    boots(&first);
    debian.good("mount -o remount,size=800m /efi; dpkg --configure -a");
    boots(&second);
    // A new image of the kernel that runs leaves it as the image before; a kernel that goes takes its files along.
    debian.has_booted(&image_of(&second));
    debian.configure("taproot.wait=11");
    debian.good("update-initramfs -u -k all");
    boots(&second);
    assert!(debian.chroot.has(Path::new(&format!("/efi/EFI/Linux/taproot-{second}~old.efi"))));
    debian.good(&format!("dpkg -P linux-image-{first}"));
    let left = debian.good("dpkg --audit; find /efi");
    assert!(!left.contains(&first) && left.contains(&second), "{left}");
}

/// On Debian systemd-boot's own hooks call kernel-install, and a plugin of Debian's takes the image from /boot.
#[test]
fn systemd_boot_on_debian_gets_the_image_and_the_one_before() {
    let Some(debian) = Debian::new() else { return };
    let kernel = debian.system.kernel.clone();
    debian.good(
        "mkdir -p /boot/loader/entries /boot/kit; echo kit >/etc/kernel/entry-token; echo ro >/etc/kernel/cmdline",
    );
    // As systemd-boot's package has it, without the question whether the firmware boots it.
    debian
        .chroot
        .write(
            "/etc/initramfs/post-update.d/systemd-boot",
            b"#!/bin/sh\nkernel-install add \"$1\" \"/boot/vmlinuz-$1\"\n",
        )
        .unwrap();
    debian.good("chmod 755 /etc/initramfs/post-update.d/systemd-boot; rm -f /boot/initrd.img-*; taproot hooks enable");
    let image = format!("/boot/kit/{kernel}/initrd.img-{kernel}");
    assert_eq!(debian.image(&image).id, debian.image(&image_of(&kernel)).id);
    debian.has_booted(&image);
    let first = debian.image(&image).id;
    debian.configure("taproot.wait=11");
    debian.good("update-initramfs -u");
    assert_ne!(debian.image(&image).id, first);
    assert_eq!(debian.image(&format!("/boot/kit/{kernel}/initrd.old")).id, first);
    let entry = debian.good(&format!("cat /boot/loader/entries/kit-{kernel}.old.conf"));
    assert!(entry.contains(&format!("/kit/{kernel}/initrd.old\n")), "{entry}");
}

/// What pacman's hooks run, with what they are given: a kernel that the package leaves beside its modules.
#[test]
fn pacmans_hooks_keep_kernel_and_image_together() {
    let Some(debian) = Debian::new() else { return };
    let (first, second) = (debian.system.kernel.clone(), debian.release(1));
    let install = debian.package(&second);
    debian.good(&format!(
        "{install}; touch /etc/taproot/hooks.enabled
         for release in {first} {second}; do
             echo linux >/lib/modules/$release/pkgbase; mv /boot/vmlinuz-$release /lib/modules/$release/vmlinuz
         done
         echo newer >>/lib/modules/{second}/vmlinuz; mv /lib/modules/{second} /var/tmp/; rm -rf /boot/*"
    ));
    let hook = |what: &str, path: &str| format!("echo {path} | /usr/share/libalpm/scripts/taproot {what}");
    debian.good(&hook("add", &format!("usr/lib/modules/{first}/vmlinuz")));
    assert_eq!(debian.image("/boot/initramfs-linux.img").kernel, first);
    // The upgrade replaces the modules; without zfs the pair of before stays.
    debian.good(&format!("mv /lib/modules/{first} /var/tmp/; mv /var/tmp/{second} /lib/modules/; mv /lib/modules/{second}/updates /var/tmp/; depmod {second}"));
    let before = debian.good("cd /boot; sha256sum *");
    let printed = debian.bad(&hook("add", &format!("usr/lib/modules/{second}/vmlinuz")));
    assert!(printed.contains("NO NEW IMAGE WAS MADE"), "{printed}");
    assert_eq!(debian.good("cd /boot; sha256sum *"), before);
    debian.good(&format!("mv /var/tmp/updates /lib/modules/{second}/; depmod {second}"));
    debian.good(&hook("add", &format!("usr/lib/modules/{second}/vmlinuz")));
    assert_eq!(debian.image("/boot/initramfs-linux.img").kernel, second);
    assert_eq!(debian.image("/boot/initramfs-linux.old.img").kernel, first);
    debian.good(&format!(
        "cmp /boot/vmlinuz-linux /lib/modules/{second}/vmlinuz; cmp /boot/vmlinuz-linux.old /var/tmp/{first}/vmlinuz"
    ));
    // A newer zfs alone: every kernel's image.
    debian.configure("taproot.wait=11");
    debian.good(&hook("add", "usr/src/zfs-2.9/dkms.conf"));
    assert_eq!(debian.image("/boot/initramfs-linux.img").cmdline, "taproot.wait=11");
    // A program that comes later is masked before pacman would call it, and the way back is noted; only if it makes images.
    debian.good(&hook("mask", "usr/share/libalpm/hooks/90-dracut-install.hook"));
    debian.good(&hook("mask", "usr/share/libalpm/hooks/90-dracut-install.hook"));
    debian.good(&hook("mask", "usr/share/libalpm/hooks/30-systemd-update.hook"));
    let masked = debian.good("ls /etc/pacman.d/hooks; readlink /etc/pacman.d/hooks/*; cat /etc/taproot/hooks.enabled");
    let name = "90-dracut-install.hook";
    assert!(masked.trim().ends_with(&format!("\n{name}\n/dev/null\nmasked=/etc/pacman.d/hooks/{name}")), "{masked}");
    let mask = include_str!("../../builder/hooks/pacman/10-taproot-mask.hook");
    assert!(mask.contains("\nWhen = PreTransaction\n"), "after it is too late: pacman has read the other's hooks");
    // pacman's trigger for paths would call it at an upgrade, too, when there is no other image yet.
    let removal = include_str!("../../builder/hooks/pacman/60-taproot-remove.hook");
    assert!(removal.contains("\nType = Package\nOperation = Remove\n") && !removal.contains("Type = Path"));
    debian.good(&format!(
        "printf '#!/bin/sh\\n[ \"$*\" != \"-Qlq linux\" ] || echo /usr/lib/modules/{second}/vmlinuz\\n' >/usr/bin/pacman; chmod +x /usr/bin/pacman"
    ));
    debian.good(&hook("remove", "vim"));
    assert_eq!(debian.good("ls /boot").matches("linux").count(), 4);
    debian.good(&hook("remove", "linux"));
    assert_eq!(debian.good("ls /boot").matches("linux").count(), 0);
}

#[test]
fn the_way_back() {
    let Some(debian) = Debian::new() else { return };
    let kernel = debian.system.kernel.clone();
    debian.good("rm -f /boot/initrd.img-*; taproot hooks enable; taproot hooks enable");
    assert!(debian.good("dpkg-divert --list").contains("update-initramfs.without-taproot"));
    debian.configure("quiet");
    // Debian 13's hooks look whose it is, and give it a time.
    assert!(debian.good("update-initramfs --version").contains("\ntaproot "));
    debian.good(&format!("update-initramfs -c -k {kernel} -s 0"));
    assert_eq!(debian.boot("").len(), 2, "one and the one before: {:?}", debian.boot(""));
    // With the program gone, update-initramfs would be a link to nothing.
    let uninstall = format!("make --no-print-directory -s -C {} uninstall DESTDIR={{root}}", checkout().display());
    assert!(!debian.chroot.outside(&uninstall).unwrap().status.success());
    debian.good("taproot --version");

    debian.good("taproot hooks disable");
    assert!(!debian.good("dpkg-divert --list").contains("taproot"));
    assert_eq!(debian.boot(""), [format!("initrd.img-{kernel}")]);
    let made = debian.chroot.read(&image_of(&kernel)).unwrap();
    assert!(inspect::config(&made).is_ok_and(|config| config.is_none()), "initramfs-tools made it");
    debian.bad("taproot hooks disable");
    debian.bad("taproot hooks update");
    // And kernels go to initramfs-tools again.
    let release = debian.release(1);
    let install = debian.package(&release);
    let printed = debian.good(&install);
    assert!(printed.contains("update-initramfs: Generating") && !printed.contains("taproot:"), "{printed}");
    let output = debian.chroot.outside(&uninstall).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    debian.good("! command -v taproot; update-initramfs -u");
}
