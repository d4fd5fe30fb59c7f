#!/usr/bin/env bash
# Prints the QEMU accelerator that works here: "kvm" or "tcg,thread=multi". /dev/kvm alone proves nothing (nested and
# filtered KVMs create VMs and then fail), so a kernel is started once under KVM per boot of this machine.
# TAPROOT_ACCEL=kvm|tcg overrides.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
tcg=tcg,thread=multi
case ${TAPROOT_ACCEL:-} in
    kvm) echo kvm; exit 0 ;;
    tcg) echo $tcg; exit 0 ;;
    "") ;;
    *) die "TAPROOT_ACCEL=$TAPROOT_ACCEL: expected kvm or tcg" ;;
esac
mkdir -p "$KIT_CACHE"
verdict=$KIT_CACHE/accel
boot=$(cat /proc/sys/kernel/random/boot_id)
if read -r seen accel 2>/dev/null <"$verdict" && [ "$seen" = "$boot" ]; then
    echo "$accel"
    exit 0
fi
accel=$tcg
if [ -w /dev/kvm ]; then
    kernel=$(ls "$KIT_CACHE"/trees/*/root/boot/vmlinuz-* 2>/dev/null | head -n 1) || true
    [ -n "$kernel" ] || die "no kit kernel to probe KVM with; run tree.sh first"
    # Without a root the kernel panics and QEMU leaves: getting that far is all that is asked.
    out=$(timeout 15 qemu-system-x86_64 -accel kvm -m 256 -nodefaults -display none -no-reboot -serial stdio \
        -kernel "$kernel" -append "console=ttyS0 panic=-1" </dev/null 2>/dev/null || true)
    case $out in *"Kernel panic"*) accel=kvm ;; esac
    [ "$accel" = kvm ] || say "/dev/kvm is there but runs no kernel; using TCG (slower)"
fi
echo "$boot $accel" >"$verdict.new"
mv "$verdict.new" "$verdict"
echo "$accel"
