#!/bin/sh
# Run a command in the tree of `make directml` or `make intel-gpu`, in namespaces of its own.
#
#     enter.sh FOLDER [--change] [--read HOST:INSIDE]... [--write HOST:INSIDE]... -- COMMAND...
#
# FOLDER is .directml or .intel-gpu; its tree/ becomes the root. What the command writes there goes
# to memory and is gone with it (--change: it goes into the tree). There is no network, and no
# device of this machine. Every process and every mount lives in the namespaces, and the kernel ends
# them with this process, however it dies.
#
# Root needs nothing more; others need user namespaces.
set -eu

if [ "$1" != --inside ]; then
    user=
    [ "$(id -u)" = 0 ] || user="--user --map-root-user"
    # setpriv: this process dies with its parent; --kill-child: the command dies with unshare.
    # shellcheck disable=SC2086
    exec setpriv --pdeathsig KILL unshare $user --mount --propagation private --pid --fork \
        --kill-child=KILL --net --ipc --uts sh "$0" --inside "$@"
fi
shift
folder=$(cd "$1" && pwd) change=
shift
if [ "$1" = --change ]; then change=yes; shift; fi

# Two of these at once mount on the same folder, each in its own namespace.
mount -t tmpfs -o mode=0755 phiforge "$folder/run"
root=$folder/run/root
mkdir "$root" "$folder/run/upper" "$folder/run/work"
if [ -n "$change" ]; then
    mount --bind "$folder/tree" "$root"
else
    layers=lowerdir=$folder/tree,upperdir=$folder/run/upper,workdir=$folder/run/work
    # A user namespace may not write trusted.* attributes (kernel: overlayfs.rst, userxattr).
    [ "$(readlink /proc/self/ns/user)" = "$(readlink /proc/1/ns/user)" ] || layers=$layers,userxattr
    mount -t overlay -o "$layers" overlay "$root"
fi
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys" # wine counts the processors there
mount -t tmpfs -o mode=0755 phiforge "$root/dev"
for device in null zero full random urandom; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 phiforge "$root/tmp"

while [ "$1" != -- ]; do
    outside=${2%:*} inside=$root${2##*:}
    mkdir -p "$inside"
    mount --bind "$outside" "$inside"
    [ "$1" = --write ] || mount -o remount,bind,ro "$inside"
    shift 2
done
shift
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 chroot "$root" "$@"
