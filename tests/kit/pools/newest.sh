# Pool pnewest: every feature that this OpenZFS has, and what 2.1 does not know of them in use as far as can be had: a raidz1
# that was expanded by a disk, larger gang headers and directories, long names, cloned, rewritten and deduplicated blocks.
# systems: debian13-zfs2.4
# disks: newest0=192M newest1=192M newest2=192M newest3=192M

parameters=/sys/module/zfs/parameters
make_pool -O checksum=blake3 pnewest raidz1 $id-newest0-part1 $id-newest1-part1 $id-newest2-part1
zpool attach -w pnewest raidz1-0 $id-newest3-part1
echo 1048576 >$parameters/zap_micro_max_size
small_root pnewest default -o longname=on -o recordsize=1M data -o dedup=on
mkdir /mnt/etc/large
(cd /mnt/etc/large && seq 4000 | xargs touch)
touch "/mnt/etc/$(printf 'x%.0s' {1..300})"
head -c 2M /dev/urandom >/mnt/home/original
head -c 1M /dev/urandom >/mnt/data/once
zpool sync pnewest
cp --reflink=always /mnt/home/original /mnt/home/clone
zfs rewrite -P /mnt/home/original
zpool sync pnewest
echo 16384 >$parameters/metaslab_force_ganging
echo 100 >$parameters/metaslab_force_ganging_pct
head -c 1M /dev/urandom >/mnt/home/ganged
zpool sync pnewest
head -c 1M /dev/urandom >>/mnt/home/ganged
zpool sync pnewest
zpool get -H -o property,value all pnewest | grep feature@ | tee /run/features
! grep disabled /run/features
for feature in raidz_expansion blake3 large_microzap longname block_cloning fast_dedup physical_rewrite dynamic_gang_header; do
    grep -x "feature@$feature[[:blank:]]*active" /run/features
done
zpool export pnewest
# Made on a slow machine, one of many such pools could not be read any more. That is no matter of ours; the tests are to have one that can.
zpool import -f -N -o readonly=on -o cachefile=none -d /dev/disk/by-id pnewest || { tail -n 100 /proc/spl/kstat/zfs/dbgmsg; exit 1; }
zpool export pnewest
