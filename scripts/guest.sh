#!/usr/bin/env bash
#
# guest.sh - run a script as root inside a REAL Linux kernel, in software emulation.
#
# The guest is a Debian kernel booted by qemu-system-x86_64 under TCG: no KVM, no
# root and nothing installed on the host are needed.  Everything comes from the
# Debian archive through an apt configuration private to the cache folder.
#
#   guest.sh build            download the packages, build kernel + initramfs + root image
#                             (idempotent: does nothing where the result is up to date)
#   guest.sh run [OPTION]... SCRIPT [ARG]...
#                             boot, run SCRIPT inside, exit with SCRIPT's exit status
#   guest.sh info             print the versions the cache holds
#
# Options of run:
#   --disk FILE      give the guest FILE (raw bytes) as a virtio disk; repeatable.
#                    The first is /dev/vda (and /dev/disk0), the second /dev/vdb ...
#   --ro-disk FILE   the same, read-only
#   --file FILE      copy FILE into the guest as /host/<basename>; repeatable
#   --env NAME=VALUE set a variable for SCRIPT; repeatable
#   --timeout SEC    hard limit for the whole run (default 300)
#   --mem MIB        guest memory (default 512)
#   --smp N          guest CPUs (default 1: steadier on a small host)
#   --append STR     more kernel command line
#   --pidfile FILE   qemu's process id (kill -9 it = power cut)
#   --klog FILE      keep the kernel console log there
#   --qmp SOCKET     a QMP control socket (hot unplug, throttling, reset ...)
#   --qemu ARG       one more qemu argument, verbatim; repeatable
#   -v               stream the kernel console to stderr while it runs
#
# Exit status of run: SCRIPT's own; 124 the time limit was hit; 125 the guest
# ended without a status (kernel panic, power cut, qemu killed), or it could not be
# started; 2 bad usage.  SCRIPT's stdout and stderr arrive on stdout.
#
# Inside the guest:
#   $GUEST_HOST      the host's 127.0.0.1 (10.0.2.2), every port of it; no other route is set
#   /dev/vda ...     the disks, also /dev/disk0 ... (a read-only root disk comes after them)
#   modules          all of the kernel's; nbd is loaded, the rest (md, raid, xfs) comes on demand
#   powercut [N]     helper: report status N (default 0) and drop the power on the spot:
#                    no sync, no unmount, no md superblock update
#   /                a throw-away overlay: nothing written there outlives the guest
#
# Environment:
#   (What decides about the image must be the same for build and run.)
#   GUEST_CACHE          cache folder (default ${XDG_CACHE_HOME:-~/.cache}/linux-guest)
#   GUEST_SUITE          Debian suite of the guest's user land (default bookworm)
#   GUEST_PACKAGES       what the user land holds (default below; dependencies are added)
#   GUEST_KERNEL_SUITE   suite of the kernel (default $GUEST_SUITE), such as bookworm-backports
#   GUEST_KERNEL_FLAVOUR cloud-amd64 (default) or amd64
#   GUEST_KERNEL_VERSION a full version such as 6.1.0-52 in place of the suite's current one
#   GUEST_KERNEL_SOURCE  a package such as linux-source-7.2 of $GUEST_KERNEL_SUITE: compile an own
#                        small kernel from it instead (once, some minutes; wants gcc make flex bison
#                        bc xz-utils libelf-dev).  Boots faster, and has what Debian leaves out
#                        (CONFIG_MD_LLBITMAP, DM_DUST).  GUEST_JOBS: compile jobs
#   GUEST_EXTRA_MODULES  a folder of *.ko that replace (or join) the kernel's own
#   GUEST_MIRROR         default: the Debian archive the host's own apt uses
#   GUEST_SECURITY_MIRROR  likewise
#   GUEST_QEMU           qemu-system-x86_64 to use; without it the one in PATH, else one
#                        unpacked into the cache from $GUEST_QEMU_SUITE (default: the host's)
#   GUEST_CPU            qemu CPU model (default max,-cx16: under QEMU 7.2's TCG Linux 6.12 crashes
#                        behind cmpxchg16b in most boots; without that feature it does not use it)
#   GUEST_SMP, GUEST_TIMEOUT   defaults of --smp and --timeout
#   GUEST_DISK_CACHE     qemu cache mode of --disk (default unsafe: writes reach the host's
#                        page cache at once, guest flushes cost nothing; survives kill -9 of qemu,
#                        not a crash of the host)
#
# Host packages needed, all in a stock Debian 12: apt dpkg tar e2fsprogs util-linux coreutils
# findutils mawk debian-archive-keyring.  Only x86-64 hosts.

set -euo pipefail
export LC_ALL=C

CACHE=${GUEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/linux-guest}
SUITE=${GUEST_SUITE:-bookworm}
KSUITE=${GUEST_KERNEL_SUITE:-$SUITE}
FLAVOUR=${GUEST_KERNEL_FLAVOUR:-cloud-amd64}
KVERSION=${GUEST_KERNEL_VERSION:-}
# The host's own Debian archive, as its apt knows it.
site() { apt-get indextargets --format '$(SITE)' "Origin: Debian" 2>/dev/null | grep "$1" | sort -u | head -n 1; }
MIRROR=${GUEST_MIRROR:-$(site '/debian/*$')}
SECURITY=${GUEST_SECURITY_MIRROR:-$(site 'security')}
SECURITY=${SECURITY:-${MIRROR%/debian}/debian-security}
KEYRING=${GUEST_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
EXTRA_MODULES=${GUEST_EXTRA_MODULES:-}
KSOURCE=${GUEST_KERNEL_SOURCE:-}
PACKAGES=${GUEST_PACKAGES:-bash coreutils grep sed mawk gawk findutils util-linux mount kmod procps \
  e2fsprogs xfsprogs nbd-client mdadm dmsetup fio diffutils}
# Bump when what build makes changes meaning.
FORMAT=6

# Modules the initramfs needs to reach the root image, the network and the report channel ...
BOOT_MODULES="virtio_pci virtio_blk virtio_console virtio_net ext4 crc32c_generic crc32c_intel overlay"
# ... and those loaded once the root image is mounted.  (Each costs a signature check, 20 to
# 100 ms here; md, raid and file systems load themselves on first use.)
LOAD_MODULES="nbd"

say() { printf 'guest: %s\n' "$*" >&2; }
die() { say "$2"; exit "$1"; }

# The host's program if it is there, else (sbin often is not in PATH) from sbin.
PATH=$PATH:/usr/sbin:/sbin

# ---------------------------------------------------------------- Debian archive

# apt_conf SUITE: makes a private apt configuration, prints its path.
apt_conf() {
  local suite=$1 d=$CACHE/apt/$1 base
  mkdir -p "$d/lists/partial" "$d/cache/archives/partial"
  : >"$d/status"                      # "nothing is installed": dependency closures are complete
  {
    base=${suite%-backports}
    local opt="[arch=amd64 signed-by=$KEYRING]"
    printf 'deb %s %s %s main\n' "$opt" "$MIRROR" "$base"
    case $base in
      sid|unstable|experimental) ;;
      *) printf 'deb %s %s %s-updates main\n' "$opt" "$MIRROR" "$base"
         printf 'deb %s %s %s-security main\n' "$opt" "$SECURITY" "$base" ;;
    esac
    if [[ $suite != "$base" ]]; then printf 'deb %s %s %s main\n' "$opt" "$MIRROR" "$suite"; fi
  } >"$d/sources.list"
  # The host's own /etc/apt/apt.conf* still applies (proxies); its sources and pins do not.
  cat >"$d/apt.conf" <<EOF
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
Dir::State "$d";
Dir::State::lists "$d/lists";
Dir::State::status "$d/status";
Dir::Cache "$d/cache";
Dir::Etc::sourcelist "$d/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
DPkg::Pre-Install-Pkgs "";
EOF
  # Backports are pinned low; elsewhere the newest of suite, -updates and -security wins.
  if [[ $suite != "$base" ]]; then printf 'APT::Default-Release "%s";\n' "$suite" >>"$d/apt.conf"; fi
  printf '%s\n' "$d/apt.conf"
}

apt_update() {
  local conf; conf=$(apt_conf "$1")
  local stamp=$CACHE/apt/$1/updated
  # Once per day is enough, and lets a built cache work offline.
  if [[ -n $(find "$stamp" -mmin -1440 2>/dev/null) ]]; then return; fi
  say "reading the package lists of $1"
  APT_CONFIG=$conf apt-get -qq update >&2
  touch "$stamp"
}

# deb_get SUITE PACKAGE...: downloads exactly these packages; their .deb files become DEBS.
deb_get() {
  local suite=$1 conf list f want=(); shift
  conf=$(apt_conf "$suite")
  mkdir -p "$CACHE/debs"
  # Each line: 'URI' FILE SIZE HASH; the file's name holds the version.  From an empty folder,
  # since apt leaves out what the current one already has.
  mkdir -p "$CACHE/apt/$suite/empty"
  list=$(cd "$CACHE/apt/$suite/empty" && APT_CONFIG=$conf apt-get -qq download --print-uris "$@" | awk '{print $2}')
  DEBS=()
  for f in $list; do
    DEBS+=("$CACHE/debs/$f")
    if [[ ! -e $CACHE/debs/$f ]]; then want+=("${f%%_*}"); fi
  done
  (( ${#DEBS[@]} == $# )) || die 125 "$suite: apt found ${#DEBS[@]} of the $# packages: $*"
  if (( ${#want[@]} )); then
    say "downloading ${#want[@]} packages of $suite"
    (cd "$CACHE/debs" && APT_CONFIG=$conf apt-get -qq download "${want[@]}" >&2)
  fi
}

# closure SUITE STATUS PACKAGE...: the packages and all they depend on, less what STATUS
# (a dpkg status file) says is installed.
closure() {
  local suite=$1 status=$2; shift 2
  APT_CONFIG=$(apt_conf "$suite") apt-get -o Dir::State::status="$status" \
    -s --no-install-recommends -o APT::Get::Show-Versions=false install "$@" |
    awk '$1=="Inst"{print $2}'
}

# unpack DIR DEB...: without running any maintainer script.
unpack() {
  local dir=$1 deb; shift
  mkdir -p "$dir"
  for deb; do
    # --keep-directory-symlink: bookworm's packages still ship /bin, /lib ... as folders.
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir" --keep-directory-symlink --no-same-owner \
      --delay-directory-restore --exclude='./usr/share/doc' --exclude='./usr/share/man' \
      --exclude='./usr/share/locale' --exclude='./usr/share/info' --exclude='./usr/share/lintian'
  done
}

# ---------------------------------------------------------------- build

# in_root ROOT PROGRAM ARG...: runs a program of an unpacked tree with that tree's own libraries.
in_root() {
  local root=$1 prog=$2; shift 2
  "$root/lib64/ld-linux-x86-64.so.2" \
    --library-path "$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu" "$root$prog" "$@"
}

build_qemu() {
  if [[ -n ${GUEST_QEMU:-} ]] || command -v qemu-system-x86_64 >/dev/null; then return; fi
  local suite=${GUEST_QEMU_SUITE:-$(. /etc/os-release; printf '%s' "${VERSION_CODENAME:-bookworm}")}
  local out=$CACHE/qemu-$suite
  if [[ -e $out/.done ]]; then return; fi
  apt_update "$suite"
  say "unpacking qemu of $suite into the cache"
  rm -rf "$out"
  # Only the libraries the host lacks.
  local pkgs; mapfile -t pkgs < <(closure "$suite" /var/lib/dpkg/status qemu-system-x86)
  (( ${#pkgs[@]} )) || die 125 "apt resolved nothing for qemu-system-x86 in $suite"
  deb_get "$suite" "${pkgs[@]}"
  unpack "$out" "${DEBS[@]}"
  touch "$out/.done"
}

# kernel_config: the settings of an own kernel over the kernel's tinyconfig.  Small and without
# modules: it compiles in minutes and boots in under a second.
kernel_config() {
  local on off val o
  on="
64BIT SMP HZ_100 NO_HZ_IDLE HIGH_RES_TIMERS SYSVIPC POSIX_MQUEUE BLK_DEV_INITRD RD_GZIP MULTIUSER EXPERT
PRINTK BUG KALLSYMS FUTEX EPOLL SIGNALFD TIMERFD EVENTFD SHMEM AIO IO_URING ADVISE_SYSCALLS MEMBARRIER RSEQ
POSIX_TIMERS FHANDLE ELF_CORE BINFMT_ELF BINFMT_SCRIPT COREDUMP ACPI PCI PCI_MSI PVH HYPERVISOR_GUEST PARAVIRT
TTY SERIAL_8250 SERIAL_8250_CONSOLE UNIX98_PTYS MAGIC_SYSRQ DEVTMPFS DEBUG_FS PROC_FS PROC_SYSCTL SYSFS TMPFS
TMPFS_POSIX_ACL CONFIGFS_FS FILE_LOCKING INOTIFY_USER NET PACKET UNIX INET NETDEVICES NET_CORE BLOCK BLK_DEV
BLK_DEV_LOOP BLK_DEV_NBD BLK_DEV_UBLK BLK_DEV_INTEGRITY BLK_DEV_ZONED BLK_WBT PARTITION_ADVANCED
MSDOS_PARTITION EFI_PARTITION MQ_IOSCHED_DEADLINE VIRTIO_MENU VIRTIO_PCI VIRTIO_BLK VIRTIO_NET VIRTIO_CONSOLE
HW_RANDOM HW_RANDOM_VIRTIO MD BLK_DEV_MD MD_BITMAP MD_BITMAP_FILE MD_LLBITMAP MD_RAID0 MD_RAID1 MD_RAID10
MD_RAID456 BLK_DEV_DM DM_SNAPSHOT DM_THIN_PROVISIONING DM_DELAY DM_DUST DM_FLAKEY DM_LOG_WRITES DM_RAID
EXT4_FS XFS_FS XFS_ONLINE_SCRUB BTRFS_FS OVERLAY_FS FUSE_FS CRYPTO NLS CC_OPTIMIZE_FOR_PERFORMANCE
DETECT_HUNG_TASK SLUB KERNEL_GZIP PRINTK_TIME IKCONFIG IKCONFIG_PROC"
  off="
CPU_MITIGATIONS MODULES RAID6_PQ_BENCHMARK WIRELESS WLAN USB_SUPPORT SOUND DRM HID INPUT VT DEBUG_INFO
ETHERNET SLUB_TINY IPV6 MODULE_SIG"
  val="LOCALVERSION=\"-guest\" NR_CPUS=8"
  for o in $on; do printf 'CONFIG_%s=y\n' "$o"; done
  for o in $off; do printf '# CONFIG_%s is not set\n' "$o"; done
  for o in $val; do printf 'CONFIG_%s\n' "$o"; done
}

# build_kernel: compiles the kernel of the package GUEST_KERNEL_SOURCE; sets KDIR to its folder.
build_kernel() {
  local t missing=()
  for t in gcc make flex bison bc xz; do command -v "$t" >/dev/null || missing+=("$t"); done
  printf '#include <libelf.h>\n' | gcc -E -x c - >/dev/null 2>&1 || missing+=(libelf-dev)
  deb_get "$KSUITE" "$KSOURCE"
  local deb=${DEBS[0]} key
  key=$(printf '%s\n' "${deb##*/}" "$(kernel_config)" | sha256sum | cut -c1-12)
  KDIR=$CACHE/kernel-${KSOURCE#linux-source-}-$key
  if [[ -e $KDIR/.done ]]; then return; fi
  (( ! ${#missing[@]} )) || die 125 "to compile a kernel, install: ${missing[*]}"
  local t0=$SECONDS tmp=$KDIR.tmp
  rm -rf "$tmp"; mkdir -p "$tmp/src" "$tmp/out"
  say "compiling the kernel of ${deb##*/}: some minutes"
  dpkg-deb --fsys-tarfile "$deb" | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
    tar -xJ -C "$tmp/src" --strip-components=1
  kernel_config >"$tmp/fragment"
  local mk=(nice -n 15 make -s -C "$tmp/src" "O=$tmp/out" -j "${GUEST_JOBS:-$(nproc)}")
  {
    "${mk[@]}" tinyconfig
    (cd "$tmp/out" && "$tmp/src/scripts/kconfig/merge_config.sh" -O "$tmp/out" -m "$tmp/out/.config" "$tmp/fragment")
    "${mk[@]}" olddefconfig
    "${mk[@]}" bzImage
  } >"$tmp/log" 2>&1 || { tail -n 30 "$tmp/log" >&2; die 125 "the kernel does not compile; whole log: $tmp/log"; }
  # A setting that this version does not know, or that something else forbids, is worth a word.
  local lost; lost=$(grep -vxFf "$tmp/out/.config" "$tmp/fragment" | grep '=' | tr '\n' ' ' || true)
  if [[ -n $lost ]]; then say "not taken by this kernel: $lost"; fi
  mkdir -p "$tmp/keep"
  cp "$tmp/out/arch/x86/boot/bzImage" "$tmp/keep/vmlinuz"
  cp "$tmp/out/.config" "$tmp/keep/config"
  make -s -C "$tmp/src" "O=$tmp/out" kernelrelease 2>/dev/null | tail -n1 >"$tmp/keep/release"
  touch "$tmp/keep/.done"
  rm -rf "$KDIR"; mv "$tmp/keep" "$KDIR"; rm -rf "$tmp"
  say "compiled in $((SECONDS - t0)) s"
}

# Sets QEMU to the command and QEMU_ENV to its environment.
find_qemu() {
  QEMU_ENV=()
  QEMU=()
  if [[ -n ${GUEST_QEMU:-} ]]; then QEMU=("$GUEST_QEMU"); return; fi
  if command -v qemu-system-x86_64 >/dev/null; then QEMU=(qemu-system-x86_64); return; fi
  local suite=${GUEST_QEMU_SUITE:-$(. /etc/os-release; printf '%s' "${VERSION_CODENAME:-bookworm}")}
  local q=$CACHE/qemu-$suite
  [[ -e $q/.done ]] || die 125 "no qemu: run '$0 build' first"
  QEMU_ENV=("LD_LIBRARY_PATH=$q/usr/lib/x86_64-linux-gnu:$q/lib/x86_64-linux-gnu"
            "QEMU_MODULE_DIR=$q/usr/lib/x86_64-linux-gnu/qemu")
  QEMU=("$q/usr/bin/qemu-system-x86_64" -L "$q/usr/share/qemu" -L "$q/usr/share/seabios")
}

# The name of what build makes: every input that matters is in it.
image_dir() {
  local key
  key=$(printf '%s\n' "$FORMAT" "$SUITE" "$KSUITE" "$FLAVOUR" "$KVERSION" "$MIRROR" "$PACKAGES" \
        "$EXTRA_MODULES" "$BOOT_MODULES" "$LOAD_MODULES" "$KSOURCE" \
        "$(if [[ -n $KSOURCE ]]; then kernel_config; fi)" "$(initramfs_init; guest_init; guest_powercut)" | sha256sum | cut -c1-12)
  printf '%s/image-%s-%s' "$CACHE" "$KSUITE" "$key"
}

build() {
  local out; out=$(image_dir)
  mkdir -p "$CACHE"
  # What is there is not looked for behind the lock: another kernel may be compiling.
  if [[ -e $out/.done ]] && (find_qemu) 2>/dev/null; then say "up to date: $out"; return; fi
  exec 9>"$CACHE/.lock"
  flock 9                                     # two builds at once: the second waits, then has nothing to do
  build_qemu
  if [[ -e $out/.done ]]; then say "up to date: $out"; return; fi
  local t0=$SECONDS
  local tmp=$out.tmp
  rm -rf "$tmp"; mkdir -p "$tmp"

  # --- user land: the closure of PACKAGES, unpacked
  apt_update "$SUITE"
  local pkgs root=$tmp/root
  # shellcheck disable=SC2086
  mapfile -t pkgs < <(closure "$SUITE" "$CACHE/apt/$SUITE/status" $PACKAGES busybox-static libc6)
  (( ${#pkgs[@]} )) || die 125 "apt resolved nothing for: $PACKAGES"
  say "user land: ${#pkgs[@]} packages of $SUITE"
  deb_get "$SUITE" "${pkgs[@]}"
  mkdir -p "$root"/{usr/{bin,sbin,lib,lib64,lib32,libx32},etc,proc,sys,dev,run,tmp,mnt,root,host,var/lib/mdadm,var/log}
  local l; for l in bin sbin lib lib64 lib32 libx32; do ln -s "usr/$l" "$root/$l"; done
  unpack "$root" "${DEBS[@]}"
  local busybox=$root/bin/busybox
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
  printf 'root:x:0:\ndisk:x:6:\nnogroup:x:65534:\n' >"$root/etc/group"
  printf '127.0.0.1 localhost\n10.0.2.2 host\n' >"$root/etc/hosts"
  printf 'guest\n' >"$root/etc/hostname"
  ln -sf /proc/mounts "$root/etc/mtab"
  # What maintainer scripts would have made: awk; and busybox for all that is not there (ip, vi, nc ...).
  if [[ ! -e $root/usr/bin/awk ]]; then
    if [[ -e $root/usr/bin/gawk ]]; then ln -s gawk "$root/usr/bin/awk"; else ln -s mawk "$root/usr/bin/awk"; fi
  fi
  mkdir -p "$root/usr/lib/busybox"
  local a; for a in $("$busybox" --list); do ln -s /bin/busybox "$root/usr/lib/busybox/$a"; done
  guest_init >"$root/guest-init"; chmod 755 "$root/guest-init"
  guest_powercut >"$root/usr/bin/powercut"; chmod 755 "$root/usr/bin/powercut"

  # --- kernel
  apt_update "$KSUITE"
  local conf v kpkgs=() k p kernel moddir='' ver config m
  if [[ -n $KSOURCE ]]; then
    build_kernel
    kpkgs=("$KSOURCE")
    ver=$(cat "$KDIR/release")
    cp "$KDIR/vmlinuz" "$KDIR/config" "$tmp/"
  else
    conf=$(apt_conf "$KSUITE")
    v=$KVERSION-$FLAVOUR
    if [[ -z $KVERSION ]]; then
      # The suite's meta package names the current version.
      v=$(APT_CONFIG=$conf apt-cache show --no-all-versions "linux-image-$FLAVOUR" |
          awk '!d && match($0, /linux-image-[0-9][^ ,]*/) { print substr($0, RSTART+12, RLENGTH-12); d=1 }')
      [[ -n $v ]] || die 125 "no kernel linux-image-$FLAVOUR in $KSUITE"
    fi
    # Since Linux 6.17 or so the image is split over several packages.
    for k in linux-image linux-binary linux-modules linux-base; do
      p=$(APT_CONFIG=$conf apt-cache policy "$k-$v" | awk '$1=="Candidate:" && $2!="(none)"{print "y"}')
      if [[ $p = y ]]; then kpkgs+=("$k-$v"); fi
    done
    (( ${#kpkgs[@]} )) || die 125 "no kernel linux-image-$v in $KSUITE"
    say "kernel: $v of $KSUITE"
    deb_get "$KSUITE" "${kpkgs[@]}"
    unpack "$tmp/kernel" "${DEBS[@]}"
    kernel=$(find "$tmp/kernel" -type f \( -name 'vmlinuz' -o -name 'vmlinuz-*' \) -print -quit)
    [[ -n $kernel ]] || die 125 "no kernel image in ${kpkgs[*]}"
    moddir=$(find "$tmp/kernel" -type d -path '*/lib/modules/*' -print -quit)
    ver=${moddir##*/}
    cp "$kernel" "$tmp/vmlinuz"
    config=$(find "$tmp/kernel" -type f \( -name 'config' -o -name 'config-*' \) -size +1k -print -quit)
    if [[ -n $config ]]; then cp "$config" "$tmp/config"; fi
    mkdir -p "$root/lib/modules"
    rm -rf "$root/lib/modules/$ver"
    mv "$moddir" "$root/lib/modules/$ver"
    rm -f "$root/lib/modules/$ver"/vmlinuz
    rm -rf "$tmp/kernel"
    moddir=$root/lib/modules/$ver
    # Plain modules: every modprobe reads those.
    find "$moddir" -name '*.ko.xz' -print0 | xargs -0 -r -n 64 "$busybox" unxz
    if [[ -n $EXTRA_MODULES ]]; then
      mkdir -p "$moddir/updates"
      for m in "$EXTRA_MODULES"/*.ko; do cp "$m" "$moddir/updates/"; done
    fi
    ln -sf ../bin/kmod "$root/usr/sbin/depmod"  # the package's link is absolute: it would lead to the host's
    in_root "$root" /usr/sbin/depmod -b "$root" "$ver"
  fi

  # --- initramfs: busybox and the modules that reach the root image, in load order
  local ird=$tmp/initramfs path dep loads=()
  mkdir -p "$ird"/{bin,dev,proc,sys,ro,rw,new,mod,host}
  cp "$busybox" "$ird/bin/busybox"
  for m in ${moddir:+$BOOT_MODULES}; do
    # modules.dep: "path: its dependencies", the deepest last.
    path=$(awk -F: -v want="$(printf %s "$m" | tr - _)" '
      { n=$1; sub(/.*\//,"",n); sub(/\.ko$/,"",n); gsub(/-/,"_",n); if (n==want) { print $1 $2; exit } }' \
      "$moddir/modules.dep")
    # shellcheck disable=SC2086
    for dep in $(printf '%s\n' $path | tac); do
      if [[ ! -e $ird/mod/${dep##*/} ]]; then cp "$moddir/$dep" "$ird/mod/"; loads+=("${dep##*/}"); fi
    done
  done
  printf '%s\n' ${loads[@]+"${loads[@]}"} >"$ird/mod/order"
  initramfs_init >"$ird/init"; chmod 755 "$ird/init"
  (cd "$ird" && find . | sort | "$busybox" cpio -o -H newc 2>/dev/null) >"$tmp/initramfs.cpio"

  # --- root image: ext4 made from the folder, no mount and no root needed
  local mib; mib=$(( $(du -sm --apparent-size "$root" | cut -f1) * 115 / 100 + 64 ))
  truncate -s "${mib}M" "$tmp/root.img"
  mke2fs -q -F -t ext4 -O '^has_journal,^metadata_csum,^resize_inode' -m 0 -N 65536 -L guestroot \
    -E root_owner=0:0 -d "$root" "$tmp/root.img"
  cp "$busybox" "$tmp/busybox"                # run makes its own small cpio with it
  {
    printf 'kernel %s (%s)\nuser land of %s:\n' "$ver" "$KSUITE" "$SUITE"
    printf '%s\n' "${kpkgs[@]}" "${pkgs[@]}"
  } >"$tmp/manifest"
  rm -rf "$root" "$ird"
  touch "$tmp/.done"
  rm -rf "$out"; mv "$tmp" "$out"
  say "built in $((SECONDS - t0)) s: $out"
}

# ---------------------------------------------------------------- what runs inside

initramfs_init() {
  cat <<'EOF'
#!/bin/busybox sh
# First process: reach the root image, lay a writable overlay over it, go there.
/bin/busybox mkdir -p /bin /sbin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for m in $(cat /mod/order); do insmod "/mod/$m" || echo "initramfs: insmod $m failed"; done
# The disks carry serial numbers; the root image's is "guestroot".
n=0; rootdev=
while [ -z "$rootdev" ] && [ $n -lt 200 ]; do
  for s in /sys/block/vd*/serial; do
    [ -e "$s" ] || continue
    if [ "$(cat "$s")" = guestroot ]; then d=${s%/serial}; rootdev=/dev/${d##*/}; fi
  done
  [ -n "$rootdev" ] || { usleep 50000; n=$((n+1)); }
done
mount -t ext4 -o ro "$rootdev" /ro || { echo "initramfs: no root image"; poweroff -f; }
mount -t tmpfs -o size=75% tmpfs /rw
mkdir /rw/up /rw/work
mount -t overlay -o lowerdir=/ro,upperdir=/rw/up,workdir=/rw/work overlay /new || poweroff -f
cp -a /host /new/
mount -o move /dev /new/dev
umount /proc /sys
exec switch_root /new /guest-init
EOF
}

guest_init() {
  cat <<EOF
#!/bin/busybox sh
LOAD_MODULES="nbd"
EOF
  cat <<'EOF'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/busybox
export HOME=/root TERM=dumb LC_ALL=C MDADM_NO_UDEV=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
hostname guest
# SysRq all on: "powercut" needs it.
echo 1 >/proc/sys/kernel/sysrq
# The report channels: virtio ports "out" (SCRIPT's output) and "status".
for p in /sys/class/virtio-ports/*; do
  case $(cat "$p/name" 2>/dev/null) in
    out) ln -sf "/dev/${p##*/}" /dev/guest-out ;;
    status) ln -sf "/dev/${p##*/}" /dev/guest-status ;;
  esac
done
# Stable names of the disks.
for s in /sys/block/vd*/serial; do
  [ -e "$s" ] || continue
  d=${s%/serial}; n=$(cat "$s")
  case $n in disk*) ln -sf "${d##*/}" "/dev/$n" ;; esac
done
ip link set lo up
for i in /sys/class/net/*; do
  i=${i##*/}
  [ "$i" = lo ] && continue
  ip addr add 10.0.2.15/24 dev "$i" && ip link set "$i" up
  break
done
for m in $LOAD_MODULES; do [ -d "/sys/module/$m" ] || modprobe "$m" || echo "guest-init: no module $m" >/dev/kmsg; done
export GUEST_HOST=10.0.2.2
set -a; [ -e /host/.env ] && . /host/.env; set +a
cd /root
[ -e /host/.args ] && eval "set -- $(cat /host/.args)"
chmod 755 /host/.script
/host/.script "$@" </dev/null >/dev/guest-out 2>&1
rc=$?
echo "$rc" >/dev/guest-status
# No sync and no unmount here: SCRIPT owns that.  (The kernel still marks md arrays clean.)
poweroff -n -f
EOF
}

guest_powercut() {
  cat <<'EOF'
#!/bin/busybox sh
# powercut [STATUS]: the power goes now.
echo "${1:-0}" >/dev/guest-status
echo b >/proc/sysrq-trigger
sleep 60
EOF
}

# ---------------------------------------------------------------- run

run() {
  local disks=() files=() envs=() extra=() timeout=${GUEST_TIMEOUT:-300} mem=512 smp=${GUEST_SMP:-1} append='' \
        pidfile='' klog='' qmp='' verbose=0
  while (($#)); do
    case $1 in
      --disk|--ro-disk|--file|--env|--timeout|--mem|--smp|--append|--pidfile|--klog|--qmp|--qemu)
        [[ $# -ge 2 ]] || die 2 "$1 wants a value" ;;&
      --disk) disks+=("rw:$2"); shift 2 ;;
      --ro-disk) disks+=("ro:$2"); shift 2 ;;
      --file) files+=("$2"); shift 2 ;;
      --env) envs+=("$2"); shift 2 ;;
      --timeout) timeout=$2; shift 2 ;;
      --mem) mem=$2; shift 2 ;;
      --smp) smp=$2; shift 2 ;;
      --append) append=$2; shift 2 ;;
      --pidfile) pidfile=$2; shift 2 ;;
      --klog) klog=$2; shift 2 ;;
      --qmp) qmp=$2; shift 2 ;;
      --qemu) extra+=("$2"); shift 2 ;;
      -v) verbose=1; shift ;;
      --) shift; break ;;
      -*) die 2 "unknown option $1" ;;
      *) break ;;
    esac
  done
  [[ $# -ge 1 ]] || die 2 "run: no SCRIPT"
  local script=$1; shift
  [[ -f $script ]] || die 2 "no such script: $script"
  local img; img=$(image_dir)
  [[ -e $img/.done ]] || die 125 "nothing built for these settings: run '$0 build' first"
  find_qemu

  # Everything of this run lies in one folder that goes with it.
  RUN=$(mktemp -d "${TMPDIR:-/tmp}/guest.XXXXXX")
  QPID='' TPID=''
  trap cleanup EXIT
  trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM

  # SCRIPT, its arguments, variables and files ride in a second cpio behind the initramfs.
  local h=$RUN/cpio/host f e i=0
  mkdir -p "$h"
  cp "$script" "$h/.script"
  : >"$h/.args"; if (($#)); then printf '%q ' "$@" >"$h/.args"; fi
  : >"$h/.env"
  for e in ${envs[@]+"${envs[@]}"}; do printf '%s=%q\n' "${e%%=*}" "${e#*=}" >>"$h/.env"; done
  for f in ${files[@]+"${files[@]}"}; do cp "$f" "$h/"; done
  { cat "$img/initramfs.cpio"; (cd "$RUN/cpio" && find . | "$img/busybox" cpio -o -H newc 2>/dev/null); } >"$RUN/initrd"

  local args=(
    -nodefaults -no-user-config -display none -no-reboot
    -machine pc,accel=tcg,usb=off,vmport=off,hpet=off -cpu "${GUEST_CPU:-max,-cx16}" -smp "$smp" -m "$mem"
    -kernel "$img/vmlinuz" -initrd "$RUN/initrd"
    -append "console=ttyS0 panic=-1 oops=panic mitigations=off nokaslr random.trust_cpu=on no_timer_check tsc=reliable loglevel=6 $append"
    -chardev "file,id=klog,path=$RUN/klog" -serial chardev:klog
    # Files, not a pipe: a slow reader can never make the guest lose output at power-off.
    # ioeventfd=off: a write has arrived before the guest executes its next instruction.
    -device virtio-serial-pci,ioeventfd=off
    -chardev "file,id=out,path=$RUN/out" -device virtserialport,chardev=out,name=out
    -chardev "file,id=status,path=$RUN/status" -device virtserialport,chardev=status,name=status
    -netdev user,id=n0,ipv6=off -device virtio-net-pci,netdev=n0,romfile=
    # The last PCI slot: probed after the --disk ones, which so begin at vda.
    -drive "if=none,id=root,file=${img//,/,,}/root.img,format=raw,readonly=on"
    -device virtio-blk-pci,drive=root,serial=guestroot,addr=0x1f
  )
  for e in ${disks[@]+"${disks[@]}"}; do
    f=${e#*:}
    [[ -e $f ]] || die 2 "no such disk file: $f"
    local ro=off; if [[ $e = ro:* ]]; then ro=on; fi
    args+=(-drive "if=none,id=disk$i,file=${f//,/,,},format=raw,readonly=$ro,cache=${GUEST_DISK_CACHE:-unsafe},discard=unmap"
           -device "virtio-blk-pci,drive=disk$i,serial=disk$i")
    i=$((i + 1))
  done
  if [[ -n $qmp ]]; then args+=(-qmp "unix:${qmp//,/,,},server=on,wait=off"); fi
  args+=(-pidfile "$RUN/pid" ${extra[@]+"${extra[@]}"})

  # setpriv --pdeathsig: qemu dies with its parent, however that one dies.
  : >"$RUN/out"; : >"$RUN/status"; : >"$RUN/klog"
  local t0=$SECONDS
  setpriv --pdeathsig TERM timeout --signal=KILL "$timeout" \
    setpriv --pdeathsig KILL env ${QEMU_ENV[@]+"${QEMU_ENV[@]}"} "${QEMU[@]}" "${args[@]}" \
    </dev/null >"$RUN/qemu.log" 2>&1 &
  QPID=$!
  setpriv --pdeathsig TERM tail -n +1 -s 0.05 -f --pid="$QPID" "$RUN/out" 2>/dev/null &
  TPID=$!
  local vpid=''
  if ((verbose)); then setpriv --pdeathsig TERM tail -n +1 -s 0.05 -f --pid="$QPID" "$RUN/klog" >&2 & vpid=$!; fi
  if [[ -n $pidfile ]]; then
    local n
    for ((n = 0; n < 100; n++)); do
      if [[ -s $RUN/pid ]] || ! kill -0 "$QPID" 2>/dev/null; then break; fi
      sleep 0.05
    done
    if [[ -s $RUN/pid ]]; then cp "$RUN/pid" "$pidfile"; fi
  fi
  local qrc=0; wait "$QPID" 2>/dev/null || qrc=$?
  QPID=''
  wait "$TPID" || true; TPID=''
  if [[ -n $vpid ]]; then wait "$vpid" || true; fi
  if [[ -n $klog ]]; then cp "$RUN/klog" "$klog"; fi

  local status=''; read -r status <"$RUN/status" || true
  if [[ $status =~ ^[0-9]+$ ]]; then return "$status"; fi
  if [[ $qrc = 137 || $qrc = 124 ]] && (( SECONDS - t0 >= ${timeout%.*} )); then
    say "time limit of $timeout s hit; the end of the kernel log:"
    tail -n 20 "$RUN/klog" >&2
    return 124
  fi
  say "the guest ended without a status (qemu: $qrc); the end of the kernel log:"
  cat "$RUN/qemu.log" >&2
  tail -n 40 "$RUN/klog" >&2
  return 125
}

cleanup() {
  local rc=$?
  trap '' HUP INT TERM
  # TERM to timeout(1), which hands it on to qemu; KILL to qemu itself to be sure.
  if [[ -n ${QPID:-} ]]; then
    kill -TERM "$QPID" 2>/dev/null || true
    wait "$QPID" 2>/dev/null || true
  fi
  if [[ -n ${TPID:-} ]]; then kill "$TPID" 2>/dev/null || true; fi
  rm -rf "${RUN:?}"
  exit "$rc"
}

case ${1:-} in
  build) shift; build "$@" ;;
  run) shift; run "$@" ;;
  info) cat "$(image_dir)/manifest" ;;
  *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
