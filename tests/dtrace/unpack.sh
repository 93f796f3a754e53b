#!/bin/sh
# Unpack DTrace 2 for Linux beside the system, for the tests of the D scripts: no Debian release has it, sid does.
#
# usage: unpack.sh FOLDER       afterwards FOLDER/dtrace is the command; nothing outside FOLDER is touched. Needs apt.
set -eu
folder=$(mkdir -p "$1" && cd "$1" && pwd)
state=$folder/apt
rm -rf "$folder/root" "$state"
mkdir -p "$folder/root" "$state/lists/partial" "$state/cache/archives/partial"
: > "$state/status"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(sed -nE 's/^(URIs:|deb) *(\[[^]]*\] *)?(https?:[^ ]*\/debian)\/?( .*)?$/\3/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
echo "deb [signed-by=$keys] ${mirror:-http://deb.debian.org/debian} sid main" > "$state/sources.list"
cat > "$state/apt.conf" <<END
Dir::State "$state";
Dir::State::status "$state/status";
Dir::Cache "$state/cache";
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "-";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
END
export APT_CONFIG="$state/apt.conf"
apt-get update -qq
# An empty status file: apt resolves the whole set, C library included, which runs beside the system's.
apt-get install -qq -y --download-only --no-install-recommends dtrace >/dev/null
for package in "$state"/cache/archives/*.deb; do dpkg -x "$package" "$folder/root"; done
rm -rf "$state"

# This library reads a kernel variable that kernels without CONFIG_BLOCK's type information do not tell the type of.
find "$folder/root" -name io.d -exec sed -i 's/((struct blk_major_name \*\*)&vmlinux`major_names)/((struct blk_major_name **)0)/' {} +

arch=$(uname -m)
cat > "$folder/dtrace" <<END
#!/bin/sh
# debugfs in a mount namespace of its own: DTrace asks for it, and the machine's mounts stay as they are.
root="$folder/root"
for at in "\$root/usr/lib64" "\$root/usr/lib/$arch-linux-gnu" "\$root/lib64"; do
    [ -x "\$at"/ld-linux-*.so.? ] && loader=\$(echo "\$at"/ld-linux-*.so.?) && break
done
lib="\$root/usr/lib/$arch-linux-gnu"
exec unshare -m sh -c 'mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug; exec "\$@"' sh \\
    "\$loader" --library-path "\$lib" "\$root/usr/sbin/dtrace" -xsyslibdir="\$lib/dtrace" "\$@"
END
chmod +x "$folder/dtrace"
"$folder/dtrace" -V
