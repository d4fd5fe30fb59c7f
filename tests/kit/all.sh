#!/usr/bin/env bash
# The whole kit: host packages, the Debian trees, their pools. Every step is stamped: what is there is not made again,
# and a run that was cut off goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
mkdir -p "$KIT_CACHE"/{log,run,images}
: >"$KIT_CACHE/log/again"
"$here/host.sh"
"$here/plain.sh"
"$here/busybox.sh"
"$here/tree.sh" debian12-zfs2.3
# The next tree is mostly downloads and one compiler; the pools of the first are made meanwhile.
"$here/pools.sh" debian12-zfs2.3 &
pools=$!
tree=0
"$here/tree.sh" debian12-zfs2.1 || tree=1
wait "$pools" || die "debian12-zfs2.3: the pools could not be made"
[ "$tree" = 0 ] || die "debian12-zfs2.1: the tree could not be made"
"$here/pools.sh" debian12-zfs2.1
say "kit ready in $KIT_CACHE"
