//! Containers: a clone of the running root is booted by systemd-nspawn beside it, and is a machine of its own until it is removed. What was
//! made of a directory is written as an archive.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use taproot_tests::scenario::vm;
use taproot_tests::vm::Scratch;
use taproot_tests::{account, installed, kit, scenarios_on_newest};

const SCRIPT: &str = r#"set -e
say() { echo "@@$*"; }
fails() { if "$@"; then echo "expected it to fail: $*"; exit 1; fi; }
tar -xf /dev/disk/by-id/virtio-payload -C /
zfs snapshot tank/ROOT/be1@installed
dpkg -i --force-depends /usr/share/systemd-container.deb >/run/dpkg.log 2>&1
taproot machine create web --from tank/ROOT/be1@installed
fails taproot machine create web --from tank/ROOT/be1@installed
say EMPTY $(wc -c </var/lib/machines/web/etc/machine-id)

systemd-run --quiet --unit=web systemd-nspawn --boot --machine=web
until systemctl -M web is-active --quiet multi-user.target; do
    systemctl is-active --quiet web || { journalctl -u web -o cat; exit 1; }
    sleep 1
done
inside() { systemd-run -M web --quiet --wait --pipe "$@"; }
say NAME $(inside cat /etc/hostname)
say MACHINE $(inside cat /etc/machine-id) $(cat /etc/machine-id)
say ROOT $(inside findmnt -no SOURCE /)
say POOL $(inside cat /proc/mounts | sed -n 's/^[^ ]* \([^ ]*\) zfs .*/\1/p' | sort -u)
say INIT $(inside cat /proc/1/comm)
inside systemctl list-units --failed --plain --no-legend | sed 's/^/@@FAILED /'
taproot machine list | sed 's/^/@@LIST /'
fails taproot machine remove web --yes
fails taproot machine export web /srv/web.tar
machinectl poweroff web
while systemctl is-active --quiet web; do sleep 1; done

mkdir -p /srv/mini/usr/lib /srv/mini/etc
cp /usr/lib/os-release /srv/mini/usr/lib/os-release
taproot machine create mini --from /srv/mini
taproot machine export mini /srv/mini.tar.zst
say EXPORTED $(tar -tf /srv/mini.tar.zst | grep -c -e '^./usr/lib/os-release$' -e '^./etc/hostname$')
taproot machine list | sed 's/^/@@LIST /'
for name in web mini; do taproot machine remove $name --yes; done
say LEFT $(ls -A /var/lib/machines) $(zfs list -H -o name -r tank/machines)
zfs destroy tank/ROOT/be1@installed
systemctl --no-block poweroff
"#;

scenarios_on_newest! {
    fn a_clone_of_the_running_root_is_a_machine_of_its_own(system) {
        let scratch = Scratch::new().unwrap();
        let package = kit::cache().unwrap().join("container").join(format!("{}.deb", system.name));
        if !package.exists() {
            account::skipped("no systemd-container of the kit system's version is there; make kit looks for it");
            return;
        }
        let payload = installed::payload_with(&scratch, &[(package, "usr/share/systemd-container.deb")]).unwrap();
        let tank = scratch.overlay(system, "tank0").unwrap();
        let vm = vm("machine", system, "root=ZFS=tank/ROOT/be1 taproot-test.report").unwrap().memory(2048);
        let mut vm = vm.disks([tank, payload]).file("opt/taproot/script", SCRIPT.as_bytes()).start().unwrap();
        vm.report(90).unwrap();
        let said = vm.script(300).unwrap();
        vm.wait_exit(60).unwrap();
        let tagged = |tag: &str| -> Vec<Vec<&str>> {
            let lines = said.lines().filter_map(|line| line.strip_prefix("@@")?.strip_prefix(tag));
            lines.map(|line| line.split_whitespace().collect()).collect()
        };
        let expected = [
            ("EMPTY", &["0"][..]),
            ("NAME", &["web"]),
            ("ROOT", &["tank/machines/web"]),
            // The second is what systemd-nspawn shows of the host.
            ("POOL", &["/", "/run/host/os-release"]),
            ("INIT", &["systemd"]),
            ("EXPORTED", &["2"]),
            ("LEFT", &["tank/machines"]),
        ];
        for (tag, words) in expected {
            assert_eq!(tagged(tag), [words], "{tag}: {said}");
        }
        let ids = tagged("MACHINE").concat();
        assert!(matches!(ids.as_slice(), [new, old] if new.len() == 32 && new != old), "{ids:?}");
        // The container has no /dev/zfs.
        let failed = tagged("FAILED").concat();
        let units: Vec<&&str> = failed.iter().filter(|word| word.ends_with(".service")).collect();
        assert!(units.iter().all(|unit| unit.starts_with("zfs-")), "{failed:?}");
        let rows = [
            &["web", "running", "tank/machines/web", "tank/ROOT/be1@installed"],
            &["web", "-", "tank/machines/web", "tank/ROOT/be1@installed"],
            &["mini", "-", "directory", "/srv/mini"],
        ];
        for row in rows {
            assert!(tagged("LIST").iter().any(|found| found == row), "no {row:?}: {said}");
        }
    }
}
