#!/bin/sh
# The system whose power fails: each boot of it is a session, named by the program that it is handed over to (init=/t/NAME). On the
# second serial line it says what it is about to write, and what is durable. Its commands are busybox's.
export PATH=/bin
session=${0##*/}
exec >/dev/ttyS1 2>&1 </dev/null
# What was said is out before this returns: busybox sets a terminal with TCSADRAIN.
out() { stty -F /dev/ttyS1 -opost; }
out
say() { echo "@@$*"; }
sum() { sha256sum | cut -d ' ' -f 1; }
# put FILE BYTES TEXT: a file, durable.
put() {
    say WRITE "$1"
    out
    part=/run/part-${1##*/}
    yes "$3" | head -c "$2" >"$part"
    dd if="$part" of="$1" conv=fsync bs=64k 2>/dev/null && say HAS "$1" "$(sum <"$part")"
}
gone() {
    say WRITE "$1"
    out
    rm "$1" && sync && say HAS "$1" -
}
status() {
    say STATUS "$(taproot layer status --json | tr -d '\n')"
    ls -A /run/taproot/base | sed 's/^/@@BESIDE /'
}
list() {
    say LIST
    for file in /srv/* /etc/machine-id; do
        say FILE "$file" "$(sum <"$file")"
    done
    say LISTED
}
# Somebody goes on writing, whatever layers are made of.
live() {
    number=0
    while [ ! -e /run/enough ]; do
        number=$((number + 1))
        put /srv/live-$((number % 3)) 5000 "$session-$number-$(cat /proc/uptime)"
        sleep 0.3
    done
}
list
live &
writer=$!
case $session in
commit)
    gone /srv/old
    say ASKED "$(taproot layer commit two 2>&1 | tr '\n' ' ')"
    sleep 1
    ;;
merge)
    say ASKED "$(taproot layer merge 2 both 2>&1 | tr '\n' ' ')"
    taproot layer work --quiet
    ;;
unconfirmed)
    taproot layer work --quiet
    ;;
go-on)
    taproot layer work --quiet
    taproot layer confirm
    taproot layer work --quiet
    ;;
esac
>/run/enough
wait $writer
status
sync
say DONE
out
poweroff -f
