#!/bin/busybox sh
# Process 1 of the guest: mounts what a host has, loads the modules, runs /command, says how that ended, powers off.
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=vt100 LANG=C.UTF-8
. /machine
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for dir in /dev/shm /tmp /run; do mount -t tmpfs tmpfs $dir; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug
[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
ln -sf /proc/self/fd /dev/fd
while read -r module; do insmod "$module" || echo "vm: cannot load $module"; done < /modules/order
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
done
hostname "$GUEST_HOSTNAME"
ifconfig lo 127.0.0.1 up
ulimit -n 65536
cd /root
echo
echo "$MARKER_UP"
sh /command < /dev/null
status=$?
sync
echo
echo "$MARKER_EXIT $status"
poweroff -f
