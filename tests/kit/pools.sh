#!/usr/bin/env bash
# Makes the pool sets of one kit system, with its own stock zpool and zfs; each set in its own run of the helper VM.
#   pools.sh debian13-zfs2.4              all sets (pools/*.sh) but those made on demand
#   pools.sh debian13-zfs2.4 base debian  these
# pools/lib says what a set is made of; a line "# on-demand: WHO" in a set keeps it out of "all sets".
# Result in $KIT_CACHE/pools/NAME/SET: DISK.img (raw, sparse), log, console.log, stamp.
# Tests put copy-on-write overlays over the disks. Only what changed is made again; several runs at a time do not disturb
# each other.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

name=${1:?usage: pools.sh KIT-SYSTEM [SET...]}
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=TAPROOT_KIT,KIT_START,XDG_CACHE_HOME,TAPROOT_ACCEL,TAPROOT_GUEST_INIT "$0" "$@"
shift
# tests/run.sh sums it up.
again=$KIT_CACHE/log/again
tree=$KIT_CACHE/trees/$name
dir=$KIT_CACHE/pools/$name
guest_init=${TAPROOT_GUEST_INIT:-$here/../../out/guest-init}
[ -x "$guest_init" ] || die "$guest_init is missing; run: make guest-init"
"$here/helper.sh" "$name"
. "$tree/facts"

# What the first comment lines of a set say under a keyword, repeated lines joined.
header() { # SET KEYWORD
    sed -n -e '/^#/!q' -e "s/^# $2: *//p" "$here/pools/$1.sh" | paste -sd' '
}

all=()
for file in "$here"/pools/*.sh; do
    all+=("$(basename "$file" .sh)")
done
# A serial names one disk, whatever set it is in.
twice=$(for set in "${all[@]}"; do header "$set" disks; done | tr ' ' '\n' | sed -n 's/=.*//p' | sort | uniq -d | paste -sd' ')
[ -z "$twice" ] || die "pools/*.sh: several sets have disks of the serial(s) $twice"
if [ $# -eq 0 ]; then
    for set in "${all[@]}"; do
        [ -n "$(header "$set" on-demand)" ] || set -- "$@" "$set"
    done
fi
for set; do
    [ -e "$here/pools/$set.sh" ] || die "no pool set '$set'; expected one of: ${all[*]}"
done

# What QEMU's multi-threaded emulation sometimes does to a kernel; tests/src/vm/stream.rs says more.
readonly LOST_TIMER='Possible timer handling issue on cpu'
emulator_fault() { [ -e "$new/crashed" ] || grep -qe 'Oops: int3' -e "$LOST_TIMER" "$new/console.log"; }
filled() { grep -qs '^@@SCRIPT-EXIT 0' "$new/log"; }

# Runs a VM. Ends it early when a processor of it has no timer any more; that, and a crash of QEMU, are for emulator_fault.
watched() { # COMMAND...
    local pid status=0
    "$@" &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        [ "$(grep -c "$LOST_TIMER" "$new/console.log")" -lt 2 ] || kill "$pid" 2>/dev/null || true
    done
    wait "$pid" || status=$?
    [ "$status" -lt 128 ] || touch "$new/crashed"
    emulator_fault || return "$status"
}

# One partition on a disk of a set, or as many as its line "# parts: SERIAL=COUNT" says, all of one size.
partition() { # SET SERIAL
    local image=$new/$2.img count size=0 number words=()
    count=$(header "$1" parts | tr ' ' '\n' | sed -n "s/^$2=//p")
    [ -z "$count" ] || size=+$(($(stat -c %s "$image") / 1048576 / count - 1))M
    for number in $(seq "${count:-1}"); do
        words+=("--new=$number:0:$size" "--typecode=$number:BF01")
    done
    sgdisk --clear "${words[@]}" "$image" >/dev/null
}

# Makes the disks of a set in $new and runs its script with them.
fill_set() { # SET
    local set=$1 pair serial hostid hostname memory words limit accel drives=()
    rm -rf "$new"
    mkdir "$new"
    for pair in $(header "$set" disks); do
        serial=${pair%%=*}
        [[ $pair == ?*=?* && ${#serial} -le 20 ]] || die "pools/$set.sh: expected '# disks: SERIAL=SIZE ...', serials of at most 20 characters, found '$pair'"
        truncate -s "${pair#*=}" "$new/$serial.img"
        partition "$set" "$serial"
        drives+=(-drive "if=none,id=$serial,format=raw,discard=unmap,detect-zeroes=unmap,cache=unsafe,file=$new/$serial.img"
            -device "virtio-blk-pci,drive=$serial,serial=$serial")
    done
    [ ${#drives[@]} -gt 0 ] || die "pools/$set.sh: no line '# disks: SERIAL=SIZE ...' at its beginning"
    cat "$here/pools/lib" "$here/pools/$set.sh" >"$new/script"
    hostid=$(header "$set" hostid) hostname=$(header "$set" hostname) memory=$(header "$set" memory)
    words="console=ttyS0 no_timer_check panic=-1 quiet${hostid:+ helper.hostid=$hostid}${hostname:+ helper.hostname=$hostname}"

    accel=$("$here/accel.sh")
    limit=1800
    [ "$accel" = kvm ] && limit=300
    : >"$new/console.log"
    logged "$KIT_CACHE/log/$name.pools.$set.log" "$name: making the pool set $set in a VM" \
        watched timeout "$limit" qemu-system-x86_64 -accel "$accel" -m "${memory:-1536}" -smp 2 -nodefaults -display none -no-reboot \
        -kernel "$tree/root/boot/vmlinuz-$KERNEL" -initrd "$tree/helper.cpio" -append "$words" \
        -serial "file:$new/console.log" -serial "file:$new/log" \
        -drive "if=none,id=system,format=raw,readonly=on,file=$tree/system.squashfs" -device virtio-blk-pci,drive=system,serial=kit-system \
        -fw_cfg "name=opt/taproot/script,file=$new/script" -fw_cfg "name=opt/taproot/files/guest-init,file=$guest_init" \
        "${drives[@]}"
}

make_set() { # SET
    local set=$1 script=$here/pools/$1.sh systems stamp new lock
    systems=$(header "$set" systems)
    if [ -n "$systems" ] && [[ " $systems " != *" $name "* ]]; then
        say "$name: pool set $set is not for this system"
        return
    fi
    stamp=$(cat "$here/pools/lib" "$script" "$here/helper.sh" "$here/helper/init" "$here/../src/bin/guest-init.rs" "$tree/stamp" |
        sha256sum | cut -c1-16)
    exec {lock}>"$dir/.$set.lock"
    if ! flock -n "$lock"; then
        say "$name: waiting for another run that makes the pool set $set"
        flock "$lock"
    fi
    if [ "$(cat "$dir/$set/stamp" 2>/dev/null)" = "$stamp" ]; then
        say "$name: pool set $set ready (cached)"
        exec {lock}>&-
        return
    fi

    new=$dir/.$set.new
    fill_set "$set"
    # Only emulation has such faults; how often they happen is counted with those of the tests.
    if ! filled && emulator_fault && [ "$("$here/accel.sh")" != kvm ]; then
        say "$name: pool set $set: QEMU's processor failed the guest's kernel; once more"
        echo "kit, $name, pool set $set: emulator fault; its console is $KIT_CACHE/log/$name.pools.$set.first-run.log" >>"$again"
        cp "$new/console.log" "$KIT_CACHE/log/$name.pools.$set.first-run.log"
        fill_set "$set"
    fi
    if ! filled; then
        tail -n 20 "$new/console.log" "$new/log" >&2
        die "$name: the pool set $set failed in the helper VM; logs in $new"
    fi
    sync -f "$new"
    echo "$stamp" >"$new/stamp"
    rm -rf "${dir:?}/$set"
    mv "$new" "$dir/$set"
    exec {lock}>&-
    say "$name: pool set $set ready, $(du -sh "$dir/$set" | cut -f1)"
}

mkdir -p "$dir" "$KIT_CACHE/log"
# From before there were sets: every disk lay here.
rm -f "$dir"/*.img "$dir"/{stamp,log,console.log}
# Two at a time: a set's VM mostly waits for one transaction group after the other.
failed=0
for set; do
    [ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n || failed=1
    make_set "$set" &
done
while [ -n "$(jobs -p)" ]; do
    wait -n || failed=1
done
[ "$failed" = 0 ] || die "$name: not all pool sets could be made; the messages above say why"
