//! What was written to a real Debian over layers becomes a layer, and layers become one: through the reboots that it needs the tree
//! stays what it was, entry by entry. Packages are upgraded on the way, and a newer kernel is installed and boots. Made up are their
//! versions (`tests/src/layers.rs` packs what is installed again, `tests/kit/kernel-*.sh` the kernel); QEMU loads what the boot loader
//! would, from where it would read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use taproot_tests::kit::System;
use taproot_tests::layers::{self, LABEL};
use taproot_tests::newer;
use taproot_tests::scenario::vm;
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Disk, Scratch, Vm};

/// What each boot has. `list` says what the root shows, without what a boot itself writes: directories keep no time, because files
/// come and go in them. Lists lie beside the layers, in no tree.
const TOOLS: &str = r#"set -e
say() { echo "@@$*"; }
base=/run/taproot/base
list() {
    find / -xdev \( -path /var/log -o -path /var/lib/systemd -o -path /tmp -o -path /var/tmp -o -path /root/.cache \) -prune \
        -o -type d -printf '%P %y %m %U:%G\n' -o -printf '%P %y %m %U:%G %s %n %Ts %l\n' | LC_ALL=C sort >$base/$1
    find /etc /opt /srv /usr/local -xdev -type f -exec sha256sum {} + | LC_ALL=C sort >>$base/$1
    python3 - >>$base/$1 <<'END'
import os
for top in ("/opt", "/srv", "/etc"):
    for path, names, files in os.walk(top):
        for name in files + names:
            at = os.path.join(path, name)
            try:
                attributes = sorted(os.listxattr(at, follow_symlinks=False))
            except OSError: # of a link in squashfs
                attributes = []
            for attribute in attributes:
                print(at, attribute, os.getxattr(at, attribute, follow_symlinks=False).hex())
END
}
same() {
    list now
    say SAME $1 $(LC_ALL=C diff $base/$1 $base/now >/run/difference && echo yes || echo no)
    sed 's/^/@@DIFFERS /' /run/difference
}
# Until the background has done what it can. Its unit counts as not active until it runs, so that says nothing.
worked() {
    for i in $(seq 300); do
        taproot layer status | grep -q '^waits for *the background' || break
        sleep 0.5
    done
    say WORK $(systemctl show -p Result --value taproot-layer-work)
    taproot layer status | sed 's/^/@@STATUS /'
}
good() {
    for i in $(seq 300); do
        systemctl is-active --quiet taproot-layer-confirm && break
        sleep 0.2
    done
    say CONFIRM $(systemctl is-active taproot-layer-confirm)
}
"#;

/// Everything that can become of files of a layer.
const CHANGES: &str = r#"
mkdir -p /srv/deep/deeper
echo new >/srv/deep/deeper/file
ln /srv/deep/deeper/file /srv/deep/again
rm /etc/debian_version
rm -r /etc/skel
mkdir /etc/skel
echo new >/etc/skel/new
mv /etc/pam.d /etc/pam.moved
cp -a /etc/pam.moved /etc/pam.d
rm -r /etc/terminfo
echo file >/etc/terminfo
echo more >>/etc/hosts
chmod 4700 /etc/issue
mknod /srv/null c 1 3
mkfifo /srv/pipe
ln -s nowhere /srv/link
python3 -c 'import os
open("/opt/capable", "w").write("x")
os.setxattr("/opt/capable", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
os.setxattr("/opt/capable", "user.note", b"kept")'
"#;

/// Debian's packages in their next version. What dpkg says of them then, of all that is installed, and what it left.
const UPGRADE: &str = r#"
upgrade() {
    dpkg -i /usr/share/kit/*-$1.deb >/run/dpkg 2>&1 || sed 's/^/@@DPKG /' /run/dpkg
    clean $1
}
clean() {
    say CLEAN $1 $(dpkg --verify sed gzip $kernel) $(dpkg --audit)         $(find / -xdev -name '*.dpkg-*' ! -path '/etc/initramfs-tools/*')         $(dpkg-query -W -f '${Version}\n' sed gzip | grep -c "+kit$1\$") $(tail -qn 1 /usr/share/doc/sed/copyright | grep -c "+kit$1\$")
}
"#;

/// A newer kernel while `/boot` lies in the upper, and then where the boot loader reads.
const KERNEL: &str = r#"
dpkg-divert --quiet --local --rename --divert /usr/sbin/update-initramfs.without-taproot --add /usr/sbin/update-initramfs
ln -s /usr/lib/taproot/update-initramfs /usr/sbin/update-initramfs
# Which the newer kernel does not have.
systemctl --quiet mask zfs-load-module.service
mkdir -p /etc/taproot $base/boot
echo on >/etc/taproot/hooks.enabled
printf 'compress = "zstd:1"\ncompress-modules = "zstd:1"\nrescue = "none"\nmicrocode = false\n' >/etc/taproot/initramfs.toml
dpkg -i /usr/share/kit/kernel.deb >/run/dpkg 2>&1 && say KERNEL configured
sed 's/^/@@DPKG /' /run/dpkg
update-initramfs -u 2>&1 | sed 's/^/@@UPDATE /'
say IMAGES $(cd /boot && ls | grep initr)
say MODULES $(modprobe --show-depends ext4 >/dev/null && echo there) $(ls /lib/modules | wc -l)
cp -a /boot/. $base/boot/
rm /boot/*${kernel#linux-image-}
echo "$base/boot /boot none bind 0 0" >>/etc/fstab
systemctl daemon-reload
mount /boot
taproot hooks add ${kernel#linux-image-} 2>&1 | sed 's/^/@@ADDED /'
"#;

/// The next session.
const MORE: &str = r"
rm -r /srv/deep/deeper
rm /srv/pipe
echo file >/srv/deep/deeper
echo again >/etc/skel/again
rm -r /etc/pam.moved
mkdir /etc/debian_version
chmod 600 /srv/deep/again
";

/// Boots, runs the script after the report, and gives what it said.
fn session(name: &str, system: &System, disk: &Disk, words: &str, script: &str) -> Said {
    let machine = vm(&format!("commit-{name}"), system, &format!("root=LABEL={LABEL} {words}")).unwrap();
    goes(machine, system, disk, script)
}

fn goes(machine: Vm, system: &System, disk: &Disk, script: &str) -> Said {
    let kernel = format!("kernel=linux-image-{}\n", newer::release(system, 1).unwrap());
    let script = format!("{TOOLS}{UPGRADE}{kernel}{script}\nsystemctl --no-block poweroff\n");
    let mut vm = machine.disk(disk.clone()).file("opt/taproot/script", script.as_bytes()).start().unwrap();
    let report = vm.report(200).unwrap();
    assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
    let said = vm.script(300).unwrap();
    vm.wait_exit(60).unwrap();
    Said(said)
}

/// What a script said.
struct Said(String);

impl Said {
    #[track_caller]
    fn has(&self, line: &str) {
        assert!(self.0.lines().any(|found| found.trim() == format!("@@{line}")), "no {line}:\n{}", self.0);
    }

    #[track_caller]
    fn tells(&self, text: &str) {
        let told = self.0.lines().any(|line| line.starts_with("@@") && line.contains(text));
        assert!(told, "no {text}:\n{}", self.0);
    }
}

scenarios_on_newest! {
    /// Asked for, sealed, built and proven in the background, tried, confirmed, cleaned; a second time before the first is through; then
    /// both become one. Debian's packages are upgraded in each upper; a newer kernel comes, and boots what was sealed.
    fn commit_and_merge(system) {
        let scratch = Scratch::new().unwrap();
        let disk = layers::commit_disk(system, &scratch).unwrap();
        let newer = newer::release(system, 1).unwrap();
        let first = format!(
            "upgrade 1\n{KERNEL}{CHANGES}taproot layer commit site 2>&1 | sed 's/^/@@ASKED /'\nlist first\ncp /etc/machine-id $base/id\n"
        );
        let said = session("asks", system, &disk, "taproot.layers=tools:base", &first);
        said.has("CLEAN 1 2 1");
        // dpkg is content, what runs keeps its modules, and nobody is left to believe that the new kernel boots.
        said.has("KERNEL configured");
        said.tells(&format!("KERNEL {newer} DOES NOT REACH THE BOOT LOADER: /boot lies in the upper"));
        said.tells(&format!("now kernel {}, whose modules stay", system.kernel));
        said.tells("UPDATE taproot: NO IMAGE WAS MADE: /boot lies in the upper");
        said.has("IMAGES");
        said.has("MODULES there 2");
        said.tells(&format!("ADDED taproot: /boot/initrd.img-{newer}: "));
        said.tells("noted: the next boot seals the upper");
        said.tells("write taproot.layers there");

        let [kernel, image] = ["vmlinuz", "initrd.img"].map(|name| {
            let to = scratch.path().join(name);
            layers::file_of(&disk, &format!("/boot/{name}-{newer}"), &to).unwrap();
            to
        });
        let words = format!("root=LABEL={LABEL} taproot.layers taproot-test.report ignore_loglevel");
        let machine = Vm::new("commit-sealed", system, &image).kernel(&kernel).append(&words);
        let script = format!(
            "say RUNS $(uname -r)\nsame first\nworked\nupgrade 2\n{MORE}\
             taproot layer commit second 2>&1 | sed 's/^/@@ASKED /'\nlist second\n"
        );
        let said = goes(machine, system, &disk, &script);
        said.has(&format!("RUNS {newer}"));
        said.has("SAME first yes");
        said.has("WORK success");
        said.tells("commit site    ready, of #1");
        said.has("CLEAN 2 2 1");

        let said = session("tried", system, &disk, "taproot.layers", "same second\ngood\nworked\n");
        said.has("SAME second yes");
        said.has("CONFIRM active");
        said.tells("commit second  ready, of #2");

        let script = "good\nworked\ntaproot layer merge 2 both 2>&1 | sed 's/^/@@ASKED /'\nworked\n\
            ls $base/.layers/uppers | sed 's/^/@@LEFT /'\n";
        let said = session("second", system, &disk, "taproot.layers", script);
        said.has("CONFIRM active");
        said.tells("noted: the image is built now");
        said.tells("merge both     ready, of second.");
        let left: Vec<&str> = said.0.lines().filter(|line| line.starts_with("@@LEFT")).map(str::trim).collect();
        assert_eq!(left, ["@@LEFT 3"], "what was sealed is gone:\n{}", said.0);

        let script =
            "good\nworked\nsame second\nclean 2\nsay ID $(cmp /etc/machine-id $base/id && echo kept)\n";
        let said = session("merged", system, &disk, "taproot.layers", script);
        said.has("SAME second yes");
        said.has("CONFIRM active");
        said.has("CLEAN 2 2 1");
        said.has("ID kept");
        said.tells("running on     both : tools : base");
        said.tells("waits for      nothing");
    }
}
