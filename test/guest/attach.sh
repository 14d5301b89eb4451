# What the tests run in the guest: devices nbdN, file systems on them at /mnt/nbdN, and loads.
# /host/blob is 8 MiB that the test's seed decides; whatever is written comes from there.

detached() { [ ! -e "/sys/block/$1/pid" ]; }

# attach DEVICE PORT EXPORT [OPTION]...
attach() {
  local device=$1 port=$2 name=$3
  shift 3
  until_true 20 detached "$device"
  nbd-client -N "$name" "$@" "$GUEST_HOST" "$port" "/dev/$device"
}

detach() {
  nbd-client -d "/dev/$1"
  until_true 20 detached "$1"
}

# queue DEVICE: what the kernel learned, as JSON.
queue() {
  local at=/sys/block/$1 name words="\"size\": $(($(cat "/sys/block/$1/size") * 512))"
  for name in logical_block_size discard_max_bytes fua; do
    words+=", \"$name\": $(cat "$at/queue/$name")"
  done
  echo "{$words, \"ro\": $(cat "$at/ro"), \"write_cache\": \"$(cat "$at/queue/write_cache")\"}"
}

# format ext4|xfs DEVICE
format() {
  case $1 in
    ext4) mkfs.ext4 -qF "/dev/$2" ;;
    xfs) mkfs.xfs -qf "/dev/$2" ;;
  esac
}

attached_mount() { mkdir -p "/mnt/$1" && mount "/dev/$1" "/mnt/$1"; }

# replayed DEVICE: the last mount found a journal to replay.
replayed() { dmesg | grep "($1): " | grep -qE 'recovery complete|Ending recovery'; }

# sound ext4|xfs DEVICE: of one that is not mounted; changes nothing.
sound() {
  case $1 in
    ext4) e2fsck -fn "/dev/$2" ;;
    xfs) xfs_repair -n "/dev/$2" ;;
  esac
}

# slice FILE FROM BYTES AT [CONV]: bytes of the blob from its block FROM into the file's block AT.
slice() {
  dd if=/host/blob of="$1" bs=4k skip="$2" count="$3" iflag=count_bytes seek="$4" \
    conv="notrunc${5:+,$5}" status=none
}

# tree DIR SEED: files of many sizes in folders, some behind holes; the same for the same seed.
tree() {
  local i
  RANDOM=$2
  mkdir -p "$1"/{0..3}/{0..3}
  for i in {1..24}; do
    slice "$1/$((RANDOM % 4))/$((RANDOM % 4))/$i" $((RANDOM % 1900)) $((RANDOM * 8)) $((RANDOM % 3 * 16))
  done
  ln -s 0/1 "$1/link"
}

# same_tree DIR SEED
same_tree() {
  local wanted=/run/tree-$2
  [ -d "$wanted" ] || tree "$wanted" "$2"
  diff -r --no-dereference "$wanted" "$1"
}

# churn DIR COPY SEED: changes files until /run/stop is there, and does the same to a copy.
churn() {
  local file from count at conv
  RANDOM=$3
  mkdir -p "$1" "$2" || return 1
  until [ -e /run/stop ]; do
    file=$((RANDOM % 24)) from=$((RANDOM % 1900)) count=$((1 + RANDOM * 8)) at=$((RANDOM % 64))
    if ((RANDOM % 8 == 0)); then
      rm -f "$1/$file" "$2/$file" || return 1
      continue
    fi
    conv=; ((RANDOM % 4)) || conv=fsync
    slice "$1/$file" $from $count $at $conv || return 1
    slice "$2/$file" $from $count $at || return 1
  done
}

# records FILE NAME: appends the blob, block by block, until /run/stop is there. The host hears of
# a record only after its fsync has returned.
records() {
  local written
  : >"$1" && sync "$1" "${1%/*}" || return 1
  for ((written = 0; written < 2048; written++)); do
    [ ! -e /run/stop ] || return 0
    slice "$1" $written 4096 $written fsync || return 1
    host record "$2" $((written + 1)) || return 1
  done
}

# background NAME COMMAND...: its exit status appears in /run/NAME.ended.
background() {
  local name=$1
  shift
  rm -f "/run/$name.ended" /run/stop
  { "$@" >"/run/$name.log" 2>&1 && echo 0 || echo $?; } >"/run/$name.status" &&
    mv "/run/$name.status" "/run/$name.ended" &
}

# ended NAME: waits for it, prints its exit status.
ended() {
  until_true 120 test -e "/run/$1.ended"
  cat "/run/$1.ended"
}

# stopped NAME: tells it to stop first.
stopped() {
  touch /run/stop
  ended "$1"
}
