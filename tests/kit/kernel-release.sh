#!/usr/bin/env bash
# Writes another release over the one that is in the kernel of a Debian tree, so that `uname -r` says it too (needs root):
#   kernel-release.sh TREE RELEASE NEW_RELEASE OUT
# Both have the same length. The compressed part must fit where it was, because its place is linked into the code that unpacks
# it: so it is packed as Debian did, by the release's own zstd.
set -euo pipefail
tree=$1 old=$2 new=$3 out=$4
kernel=$tree/boot/vmlinuz-$old
die() { echo "$kernel: $*" >&2; exit 1; }
[ ${#old} = ${#new} ] || die "$old and $new: expected releases of one length"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
renamed() { LC_ALL=C sed "s/${old//./\\.}/$new/g" "$@"; }
number() { od -An -j "$1" -N "$2" -tu"$2" "$kernel" | tr -d ' '; }
part() { tail -c "+$(($1 + 1))" "$kernel" | head -c "$2" || [ $? = 141 ]; } # OFFSET LENGTH

# The boot protocol's header: sectors of the setup code, and where the compressed part is, counted from their end.
setup=$((($(number 0x1f1 1) + 1) * 512))
start=$((setup + $(number 0x248 4)))
# Its last four bytes are the unpacked size.
length=$(($(number 0x24c 4) - 4))
case $(part "$start" 4 | od -An -tx1 | tr -d ' ') in
    28b52ffd) unpack='zstd -qdc' pack='zstd -q --ultra -22 --no-check -c' ;;
    fd377a58) unpack='xz -dc' pack='xz -c --check=crc32 --x86 --lzma2=preset=9e,dict=128MiB,nice=273' ;;
    *) die "expected a kernel packed with zstd or xz" ;;
esac
part "$start" "$length" | $unpack | renamed >"$work/vmlinux"
[ "$(grep -ac "Linux version $new " "$work/vmlinux")" -gt 0 ] || die "the release $old is not in it"
chroot "$tree" $pack <"$work/vmlinux" >"$work/packed"
packed=$(stat -c %s "$work/packed")
[ "$packed" -le "$length" ] || die "packed anew it has $packed bytes, and there is room for $length"
truncate -s "$length" "$work/packed"
{
    head -c "$setup" "$kernel" | renamed
    part "$setup" $((start - setup))
    cat "$work/packed"
    tail -c "+$((start + length + 1))" "$kernel"
} >"$work/out"
[ "$(stat -c %s "$work/out")" = "$(stat -c %s "$kernel")" ] || die "the size of the kernel has changed"
mv "$work/out" "$out"
