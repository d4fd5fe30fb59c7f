#!/usr/bin/env bash
# Makes the test pools of one kit system, with its own stock zpool and zfs, in one run of the helper VM.
#   pools.sh debian12-zfs2.3
# Result in $KIT_CACHE/pools/NAME: DISK.img (raw, sparse), log, stamp. Tests put copy-on-write overlays over the disks.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

name=${1:?usage: pools.sh KIT-SYSTEM}
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=TAPROOT_KIT,KIT_START,XDG_CACHE_HOME,TAPROOT_ACCEL,TAPROOT_GUEST_INIT "$0" "$@"
tree=$KIT_CACHE/trees/$name
dir=$KIT_CACHE/pools/$name
guest_init=${TAPROOT_GUEST_INIT:-$here/../../out/guest-init}
[ -x "$guest_init" ] || die "$guest_init is missing; run: make guest-init"
"$here/helper.sh" "$name"
stamp=$(cat "$here/pools.sh" "$here/helper/pools" "$here/../src/bin/guest-init.rs" "$tree/stamp" | sha256sum | cut -c1-16)
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ]; then
    say "$name: pools ready (cached)"
    exit 0
fi
. "$tree/facts"

new=$dir.new
rm -rf "$new"
mkdir -p "$new" "$KIT_CACHE/log"
drives=()
add_disk() { # SERIAL SIZE
    truncate -s "$2" "$new/$1.img"
    sgdisk --clear --new=1:2048:0 --typecode=1:BF01 "$new/$1.img" >/dev/null
    drives+=(-drive "if=none,id=$1,format=raw,discard=unmap,detect-zeroes=unmap,cache=unsafe,file=$new/$1.img" -device "virtio-blk-pci,drive=$1,serial=$1")
}
add_disk tank0 3G
for disk in mirror0 mirror1 raidz0 raidz1 raidz2 stripe0 stripe1 nobootfs0 noinit0; do
    add_disk "$disk" 256M
done

accel=$("$here/accel.sh")
limit=1800
[ "$accel" = kvm ] && limit=300
logged "$KIT_CACHE/log/$name.pools.log" "$name: making the pools in a VM (about 3 minutes without KVM)" \
    timeout "$limit" qemu-system-x86_64 -accel "$accel" -m 1536 -smp 2 -nodefaults -display none -no-reboot \
    -kernel "$tree/root/boot/vmlinuz-$KERNEL" -initrd "$tree/helper.cpio" -append "console=ttyS0 panic=-1 quiet" \
    -serial "file:$new/console.log" -serial "file:$new/log" \
    -drive "if=none,id=system,format=raw,readonly=on,file=$tree/system.squashfs" -device virtio-blk-pci,drive=system,serial=kit-system \
    -fw_cfg "name=opt/taproot/script,file=$here/helper/pools" -fw_cfg "name=opt/taproot/files/guest-init,file=$guest_init" \
    "${drives[@]}"
if ! grep -q '^@@SCRIPT-EXIT 0' "$new/log"; then
    tail -n 20 "$new/console.log" "$new/log" >&2
    die "$name: the pool script failed in the helper VM; logs in $new"
fi
sync -f "$new"
echo "$stamp" >"$new/stamp"
rm -rf "$dir"
mv "$new" "$dir"
say "$name: pools ready, $(du -sh "$dir" | cut -f1)"
