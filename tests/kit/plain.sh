#!/usr/bin/env bash
# Makes roots that are no datasets: a small root with the static test init in a file system of each type, made on this machine.
#   plain.sh
# Result in $KIT_CACHE/plain: TYPE.img (the whole disk), TYPE-gpt.img (the same in the first partition of a GPT), split.img (an
# ext4 root whose /usr, with the init, is on usr.img), stamp. Tests put copy-on-write overlays over them, and know the
# labels and UUIDs below (tests/src/plain.rs).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

guest_init=${TAPROOT_GUEST_INIT:-$here/../../out/guest-init}
[ -x "$guest_init" ] || die "$guest_init is missing; run: make guest-init"
dir=$KIT_CACHE/plain
mkdir -p "$KIT_CACHE/log"
exec 9>"$KIT_CACHE/plain.lock"
flock 9
stamp=$(cat "$here/plain.sh" "$here/../src/bin/guest-init.rs" | sha256sum | cut -c1-16)
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ]; then
    say "plain roots ready (cached)"
    exit 0
fi
new=$KIT_CACHE/.plain.new
rm -rf "$new"
mkdir -p "$new"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# mkfs.xfs wants a file of ASCII names: no fancy paths in it.
install -m 755 "$guest_init" "$work/guest-init"

uuid() { printf 'b1a1b1a1-0000-4000-8000-0000000000%s' "$1"; } # NUMBER
partuuid() { printf 'b1a1b1a1-1111-4000-8000-0000000000%s' "$1"; }

# What the small root holds; its host name tells which one was booted.
root_tree() { # DIRECTORY HOSTNAME
    mkdir -p "$1"/{dev,proc,sys,run,tmp,etc,home,sbin,mnt,usr/lib}
    install -m 755 "$guest_init" "$1/sbin/init"
    echo "$2" >"$1/etc/hostname"
    printf '\x78\x56\x34\x12' >"$1/etc/hostid"
    : >"$1/etc/fstab"
    echo 'NAME="plain root"' >"$1/usr/lib/os-release"
}

# The same as a prototype file of mkfs.xfs (mkfs.xfs(8)).
xfs_prototype() { # TREE
    local tree=$1
    printf '/dev/null\n0 0\nd--755 0 0\n'
    for name in dev proc sys run tmp home mnt; do printf '%s d--755 0 0\n$\n' $name; done
    printf 'sbin d--755 0 0\ninit ---755 0 0 %s\n$\n' "$work/guest-init"
    printf 'etc d--755 0 0\n'
    for file in hostname hostid fstab; do printf '%s ---644 0 0 %s\n' $file "$tree/etc/$file"; done
    printf '$\nusr d--755 0 0\nlib d--755 0 0\nos-release ---644 0 0 %s\n$\n$\n$\n' "$tree/usr/lib/os-release"
}

make_ext4() { mkfs.ext4 -q -U "$(uuid 01)" -L PEXT4 -d "$1" "$2" 48M; }
make_xfs() {
    truncate -s 320M "$2"
    xfs_prototype "$1" >"$work/prototype"
    mkfs.xfs -q -m "uuid=$(uuid 02)" -L PXFS -p "$work/prototype" "$2"
}
make_btrfs() { truncate -s 128M "$2" && mkfs.btrfs -q -U "$(uuid 03)" -L PBTRFS --rootdir "$1" "$2"; }
make_f2fs() {
    truncate -s 96M "$2"
    mkfs.f2fs -q -U "$(uuid 04)" -l PF2FS "$2"
    # Its exit status is the number of files, on some versions.
    sload.f2fs -f "$1" "$2" || [ -n "$(dump.f2fs -d 1 "$2" 2>/dev/null)" ]
}
make_vfat() {
    truncate -s 48M "$2"
    mkfs.vfat -i B1A10005 -n PVFAT "$2" >/dev/null
    mcopy -s -i "$2" "$1"/* ::
}
make_squashfs() { mksquashfs "$1" "$2" -noappend -quiet -no-progress -all-root; }
make_erofs() { mkfs.erofs --quiet --all-root -U "$(uuid 07)" "$2" "$1"; }
make_iso9660() {
    xorriso -as mkisofs -quiet -R -V PISO9660 --modification-date=2026010203040500 -o "$2" "$1"
}

# The file system in partition 1 of a disk of its own.
in_partition() { # TYPE NUMBER
    local image=$new/$1.img disk=$new/$1-gpt.img bytes
    bytes=$(stat -c %s "$image")
    truncate -s $((bytes + (3 << 20))) "$disk"
    sgdisk --clear --new="1:2048:$((2047 + (bytes + 511) / 512))" --change-name="1:plain-$1" \
        --partition-guid="1:$(partuuid "$2")" "$disk" >/dev/null
    dd if="$image" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
}

number=0
for type in ext4 xfs btrfs f2fs vfat squashfs erofs iso9660; do
    number=$((number + 1))
    root_tree "$work/$type" "$type"
    log=$KIT_CACHE/log/plain.$type.log
    "make_$type" "$work/$type" "$new/$type.img" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "plain root $type: the file system could not be made; $log"
    }
    # A whole number of sectors, whatever the tool made.
    truncate -s %4096 "$new/$type.img"
    in_partition "$type" "0$number"
done

# A root without the init: that is on /usr.
root_tree "$work/split" split
mkdir -p "$work/usr/sbin"
mv "$work/split/sbin/init" "$work/usr/sbin/init"
rm -r "$work/split/sbin"
ln -s usr/sbin "$work/split/sbin"
echo "LABEL=PUSR /usr ext4 defaults,nodev 0 2" >"$work/split/etc/fstab"
mkfs.ext4 -q -L PSPLIT -d "$work/split" "$new/split.img" 32M >/dev/null
mkfs.ext4 -q -L PUSR -d "$work/usr" "$new/usr.img" 32M >/dev/null

echo "$stamp" >"$new/stamp"
rm -rf "$dir"
mv "$new" "$dir"
say "plain roots ready, $(du -sh "$dir" | cut -f1)"
