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
mount -t debugfs debugfs /sys/kernel/debug
[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
ln -sf /proc/self/fd /dev/fd
while read -r module; do insmod "$module" || echo "vm: cannot load $module"; done < /modules/order
mount -t ext4 /dev/vda /var/tmp || echo "vm: there is no disk"
case $CGROUP_LAYOUT in
v2 | root-only)
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        [ "$CGROUP_LAYOUT $controller" = "root-only memory" ] ||
            echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
    done
    ;;
v1 | hybrid)
    mount -t tmpfs cgroup /sys/fs/cgroup
    # Name, hierarchy, number of cgroups, enabled.
    while read -r controller _ _ enabled; do
        [ "$enabled" = 1 ] || continue
        mkdir "/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" ||
            { echo "vm: this kernel has no $controller on v1"; rmdir "/sys/fs/cgroup/$controller"; }
    done < /proc/cgroups
    # As systemd does; the only way since 5.11.
    echo 1 > /sys/fs/cgroup/memory/memory.use_hierarchy
    [ "$CGROUP_LAYOUT" = v1 ] || { mkdir /sys/fs/cgroup/unified; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified; }
    ;;
esac
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
