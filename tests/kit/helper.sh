#!/usr/bin/env bash
# Makes trees/NAME/helper.cpio: the initramfs of the helper VM (busybox, the few modules it needs, helper/init).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

name=${1:?usage: helper.sh KIT-SYSTEM}
dir=$KIT_CACHE/trees/$name
[ -e "$dir/facts" ] || die "$name: no tree; run tree.sh $name first"
# Pool sets are made by several runs at a time.
exec 9>"$dir/helper.lock"
flock 9
stamp=$(cat "$here/helper.sh" "$here/helper/init" "$dir/facts" | sha256sum | cut -c1-16)
[ "$(cat "$dir/helper.stamp" 2>/dev/null)" != "$stamp" ] || exit 0
. "$dir/facts"

work=$(mktemp -d "$dir/helper.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{bin,modules,etc}
cp "$dir/root/usr/bin/busybox" "$work/bin/busybox"
cp "$dir/root/etc/hostid" "$work/etc/hostid"
cp "$here/helper/init" "$work/init"
# modprobe knows the order; the modules are unpacked here, so that busybox' insmod need not.
for module in virtio_pci virtio_blk squashfs overlay qemu_fw_cfg zfs; do
    chroot "$dir/root" modprobe -S "$KERNEL" --show-depends --ignore-install "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
    base=$(basename "$file")
    base=${base%%.ko*}.ko
    case $file in
        *.xz) xz -dc "$dir/root/$file" >"$work/modules/$base" ;;
        *.zst) zstd -qdc "$dir/root/$file" >"$work/modules/$base" ;;
        *) cp "$dir/root/$file" "$work/modules/$base" ;;
    esac
    echo "$base"
done >"$work/modules/order"
(cd "$work" && find . -mindepth 1 | sort | cpio --quiet -o -H newc -R 0:0) >"$dir/helper.cpio.new"
mv "$dir/helper.cpio.new" "$dir/helper.cpio"
echo "$stamp" >"$dir/helper.stamp"
say "$name: helper initramfs ready"
