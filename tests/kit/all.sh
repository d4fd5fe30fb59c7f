#!/usr/bin/env bash
# The whole kit: host packages, the Debian trees, their pools. Every step is stamped: what is there is not made again,
# and a run that was cut off goes on where it stopped.
#   all.sh [KIT-SYSTEM...]      further systems too, which are made on demand
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
mkdir -p "$KIT_CACHE"/{log,run,images}
: >"$KIT_CACHE/log/again"
"$here/host.sh"
"$here/plain.sh"
"$here/busybox.sh"
# The default system first, then the other end, then what was asked for.
set -- debian13-zfs2.4 debian12-zfs2.1 "$@"
pools='' made=''
for name; do
    # A tree is mostly downloads and one compiler; the pools of the one before are made meanwhile.
    tree=0
    "$here/tree.sh" "$name" || tree=1
    [ -z "$pools" ] || wait "$pools" || die "$made: the pools could not be made"
    [ "$tree" = 0 ] || die "$name: the tree could not be made"
    "$here/container.sh" "$name"
    "$here/pools.sh" "$name" &
    pools=$! made=$name
done
wait "$pools" || die "$made: the pools could not be made"
say "kit ready in $KIT_CACHE"
