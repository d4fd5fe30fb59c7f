#!/usr/bin/env bash
# Packs a kernel package of another release from the one that is installed in a Debian tree, for tests of what follows an upgrade:
#   kernel-package.sh TREE RELEASE NEW_RELEASE DEB [VMLINUZ [MODULES]]
# Its control file, maintainer scripts and kernel are Debian's own, with the release written over; of the modules those of a few
# drivers are in it, and those named (in one argument), so that it is small. Both releases have the same length, because modules
# have them inside. The kernel itself still calls itself by the first, unless it is another file (kernel-release.sh writes one).
set -euo pipefail

tree=$1 old=$2 new=$3 deb=$4 kernel=${5:-$1/boot/vmlinuz-$2} more=${6-}
[ ${#old} = ${#new} ] || { echo "$old and $new: expected releases of one length" >&2; exit 1; }
info=$tree/var/lib/dpkg/info/linux-image-$old
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
renamed() { LC_ALL=C sed "s/${old//./\\.}/$new/g" "$@"; }

mkdir -p "$work/DEBIAN" "$work/boot" "$work/lib/modules/$new"
for script in preinst postinst prerm postrm; do
    renamed "$info.$script" >"$work/DEBIAN/$script"
    chmod 755 "$work/DEBIAN/$script"
done
# The paragraph of the installed package, without what dpkg adds to it.
awk -v package="linux-image-$old" '$1 == "Package:" { on = $2 == package } on && NF && $1 != "Status:"' "$tree/var/lib/dpkg/status" |
    renamed >"$work/DEBIAN/control"
cp "$kernel" "$work/boot/vmlinuz-$new"
cp "$tree/boot/config-$old" "$work/boot/config-$new"
cp "$tree/lib/modules/$old"/modules.{builtin,builtin.modinfo,order} "$work/lib/modules/$new/"
for dir in drivers/virtio drivers/nvme fs/autofs fs/configfs fs/ext4 fs/jbd2 fs/fat fs/nls; do
    [ -d "$tree/lib/modules/$old/kernel/$dir" ] || continue
    mkdir -p "$work/lib/modules/$new/kernel/$dir"
    cp -r "$tree/lib/modules/$old/kernel/$dir/." "$work/lib/modules/$new/kernel/$dir/"
done
for file in "$tree/lib/modules/$old/kernel"/{drivers/block/virtio_blk,drivers/firmware/qemu_fw_cfg,fs/binfmt_misc}.ko*; do
    [ ! -e "$file" ] || install -D -m 644 "$file" "$work/lib/modules/$new/${file#"$tree/lib/modules/$old/"}"
done
# A root made of layers needs these, and they what modules.dep says; ext4 asks for its checksum by name.
for name in virtio_pci virtio_blk ext4 crc32c_generic crc32c-intel loop overlay squashfs erofs dm-verity $more; do
    for file in $(awk -v name="/$name.ko" 'index($1, name) { gsub(":", ""); print }' "$tree/lib/modules/$old/modules.dep"); do
        install -D -m 644 "$tree/lib/modules/$old/$file" "$work/lib/modules/$new/$file"
    done
done
find "$work/lib" -name '*.ko.xz' -exec xz -d {} +
find "$work/lib" -name '*.ko.zst' -exec zstd -q -d --rm {} +
find "$work/lib" -name '*.ko' -exec env LC_ALL=C sed -i "s/${old//./\\.}/$new/g" {} +
# Signed is what was there before; without a signature a kernel takes them too.
find "$work/lib" -name '*.ko' -exec strip --strip-debug {} +
dpkg-deb --root-owner-group -Znone -b "$work" "$deb" >/dev/null
