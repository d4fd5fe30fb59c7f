# Two pools for the benchmark with the same small root: `empty`, and `large` with 10 000 more filesystems of every kind that
# is not mounted at boot (containers, users' homes, another boot environment) and a snapshot of each. The root keeps the list
# that ZED writes for the booted system. Making them takes about twelve minutes without KVM.
# disks: empty0=256M large0=8G
# systems: debian13-zfs2.4
# memory: 3072
# on-demand: bench

make_pool empty $id-empty0-part1
small_root empty
zpool export empty

# 10 000 runs of `zfs create` would take half an hour without KVM. This makes the same ioctl (ZFS_IOC_CREATE,
# include/sys/fs/zfs.h), from many processes at once, so that they share transaction groups.
# Standard input: a line for each, NAME PROPERTY=VALUE...; a value is a number or a string.
cat >/run/create <<'PERL'
use strict;
my @lines = <STDIN>;
my $workers = 32;
sub pair { # name, type, elements, value -> a pair of a native nvlist (lib nvpair, nvpair_alloc_system.c)
    my ($name, $type, $count, $value) = @_;
    my $at = 16 + length($name) + 1;
    $name .= "\0" x (1 + -$at % 8);
    $value .= "\0" x (-length($value) % 8);
    return pack("l<s<s<l<l<", 16 + length($name) + length($value), length($_[0]) + 1, 0, $count, $type) . $name . $value;
}
for my $worker (0 .. $workers - 1) {
    next if fork;
    open(my $zfs, "+<", "/dev/zfs") or die "/dev/zfs: $!";
    for (my $i = $worker; $i < @lines; $i += $workers) {
        my ($name, @properties) = split ' ', $lines[$i];
        my $inner = "";
        for (@properties) {
            my ($key, $value) = split /=/, $_, 2;
            $inner .= $value =~ /^\d+$/ ? pair($key, 8, 1, pack("Q<", $value)) : pair($key, 9, 1, "$value\0");
        }
        my $src = pack("C4l<L<", 0, 1, 0, 0, 0, 1) . pair("type", 5, 1, pack("l<", 2))
            . pair("props", 19, 1, pack("l<L<Q<L<l<", 0, 1, 0, 0, 0)) . $inner . pack("l<", 0) . pack("l<", 0);
        my $reply = "\0" x 65536;
        my $cmd = $name . "\0" x (16384 - length $name);
        substr($cmd, 4096, 16) = pack("J", unpack("J", pack("P", $src))) . pack("Q<", length $src);
        substr($cmd, 4112, 16) = pack("J", unpack("J", pack("P", $reply))) . pack("Q<", length $reply);
        ioctl($zfs, 0x5a17, $cmd) or die "creating $name: $!";
    }
    exit 0;
}
my $failed = 0;
while (wait() > 0) { $failed ||= $? }
exit($failed ? 1 : 0);
PERL

make_pool large $id-large0-part1
small_root large
before=$SECONDS
zfs create -o mountpoint=legacy large/docker
zfs create -o mountpoint=/home -o canmount=off large/home
zfs create -o mountpoint=none large/vm
zfs create -o mountpoint=/ -o canmount=noauto large/ROOT/other
{
    for n in {0001..5020}; do echo "large/docker/$n"; done
    for n in {0001..3900}; do echo "large/home/user$n canmount=2"; done
    for n in {001..100}; do echo "large/ROOT/other/part$n mountpoint=/srv/part$n"; done
    for n in {01..20}; do echo "large/vm/host$n"; done
} >/run/first
for host in {01..20}; do for n in {01..48}; do echo "large/vm/host$host/disk$n"; done; done >/run/second
perl /run/create </run/first
perl /run/create </run/second
echo "created in $((SECONDS - before)) s"
zfs snapshot -r large@daily
echo "with a snapshot each in $((SECONDS - before)) s"

# As zfs-list-cacher of ZED writes it, the columns that say what is mounted.
mkdir -p /mnt/etc/zfs/zfs-list.cache
{
    printf 'large\tnone\ton\nlarge/ROOT\tnone\ton\nlarge/ROOT/default\t/\tnoauto\nlarge/ROOT/other\t/\tnoauto\n'
    printf 'large/data\t/data\ton\nlarge/docker\tlegacy\ton\nlarge/home\t/home\toff\nlarge/legacy\tlegacy\ton\n'
    sed -n -e 's|^\(large/docker/.*\)|\1\tlegacy\ton|p' -e 's|^large/\(home/[^ ]*\).*|large/\1\t/\1\tnoauto|p' \
        -e 's|^\(large/ROOT/[^ ]*\) mountpoint=\(.*\)|\1\t\2\ton|p' -e 's|^\(large/vm.*\)|\1\tnone\ton|p' /run/first /run/second
} >/mnt/etc/zfs/zfs-list.cache/large
[ "$(wc -l </mnt/etc/zfs/zfs-list.cache/large)" -gt 10000 ]
zpool list large
zpool export large
echo "exported after $((SECONDS - before)) s"
