# What the guest does with arrays of ours. Findings are lines "@NAME WORDS"; a test reads them.
MD=/dev/md127
SYS=/sys/block/md127/md

say() { echo "@$*"; }

# one_case NUMBER COMMAND...: whatever becomes of it, the next case finds no array and no messages.
one_case() {
  local status
  say case "$1"
  shift
  dmesg -C
  set +e
  (set -e; "$@")
  status=$?
  set -e
  say status "$status"
  dmesg | grep -iE 'md|raid|bitmap|array' | sed 's/^/@kernel /' || true
  mdadm --stop "$MD" >/dev/null 2>&1 || true
}

# Sectors read and written since the boot, of each of DEVICES in turn.
transferred() { for d in "$@"; do awk '{ print $3, $7 }' "/sys/block/${d#/dev/}/stat"; done | xargs; }

# What the kernel, or mdadm, counts in the bitmap. DEVICE is a member.
bitmap_counts() {
  if [ -e "$SYS/llbitmap/bits" ]; then
    say bits "$(tr '\n' ' ' <"$SYS/llbitmap/bits")"
  elif [ "$(cat "$SYS/bitmap/location" 2>/dev/null || echo none)" != none ]; then
    say bits "$(mdadm -X "$1" | sed -n 's/ *Bitmap : //p')"
  else
    say bits none
  fi
}

# assemble LEVEL DEVICES...
assemble() {
  if [ -e "$SYS" ]; then echo "an array is here already"; return 1; fi
  # Nothing is synced before it is asked for. A module, or built in.
  modprobe md-mod 2>/dev/null || true
  echo 1 >/sys/module/md_mod/parameters/start_ro
  mdadm --assemble "$MD" --run "$@"
  say size "$(blockdev --getsize64 "$MD")"
  say array "$(cat "$SYS/array_state" "$SYS/level" "$SYS/layout" "$SYS/chunk_size" | xargs)"
  if is_redundant; then
    say degraded "$(cat "$SYS/degraded")"
    say action "$(cat "$SYS/sync_action") $(cat "$SYS/resync_start")"
  fi
  bitmap_counts "$1"
}

is_redundant() { [ -e "$SYS/sync_action" ]; }

# Anything that waits for the first write goes on now.
sync_now() {
  mdadm --readwrite "$MD" 2>/dev/null || true
  # The thread of the array starts it.
  sleep 0.3
  until_true 300 md_idle md127
}

check() { if is_redundant; then say mismatches "$(md_check md127)"; fi; }

# write_more OFFSET:LENGTH...: pieces of /host/more one after another; both in blocks of 4 KiB.
write_more() {
  local at=0 piece
  for piece in "$@"; do
    dd if=/host/more of="$MD" bs=4k skip="$at" seek="${piece%:*}" count="${piece#*:}" \
      conv=notrunc,fsync status=none
    at=$((at + ${piece#*:}))
  done
}

# Parity of what was never written is made behind the first write there.
nothing_marked() { ! grep -qE '(need sync|syncing) [1-9]' "$SYS/llbitmap/bits" 2>/dev/null; }

stop() {
  until_true 120 nothing_marked
  if is_redundant; then until_true 120 md_idle md127; fi
  bitmap_counts "$1" | sed 's/^@bits/@bits_at_stop/'
  mdadm --stop "$MD"
  say stopped
}

# clean MORE DEVICES...
clean() {
  local more=$1
  shift
  assemble "$@"
  say digest "$(digest "$MD")"
  check
  write_more $more
  stop "$1"
}

# killed MORE DEVICES...
killed() {
  local more=$1
  shift
  say before "$(transferred "$@")"
  assemble "$@"
  sync_now
  say after "$(transferred "$@")"
  say action_after "$(cat "$SYS/sync_action") $(cat "$SYS/resync_start")"
  say digest "$(digest "$MD")"
  check
  write_more $more
  stop "$1"
}

# degraded MORE DEVICES...: the second was failed by us. Then the first is swapped.
degraded() {
  local more=$1 first=$2 second=$3
  shift
  assemble "$@"
  say digest "$(digest "$MD")"
  bitmap_counts "$first"
  mdadm --readwrite "$MD" 2>/dev/null || true
  say before "$(transferred "$second")"
  if mdadm "$MD" --re-add "$second"; then
    say rejoined re-add
  else
    mdadm --zero-superblock "$second"
    mdadm "$MD" --add "$second"
    say rejoined add
  fi
  sleep 0.3
  until_true 300 md_idle md127
  say after "$(transferred "$second")"
  say degraded_after "$(cat "$SYS/degraded")"
  check
  mdadm "$MD" --fail "$first" --remove "$first"
  blockdev --flushbufs "$MD"
  say digest_of_rejoined "$(digest "$MD")"
  head -c "$(blockdev --getsize64 "$first")" /dev/zero | tr '\0' '\245' >"$first"
  mdadm "$MD" --add "$first"
  sleep 0.3
  until_true 300 md_idle md127
  say degraded_at_stop "$(cat "$SYS/degraded")"
  check
  blockdev --flushbufs "$MD"
  say digest_of_rebuilt "$(digest "$MD")"
  write_more $more
  sync
  until_true 120 nothing_marked
  say bits_before_last_check "$(tr '\n' ' ' <"$SYS/llbitmap/bits" 2>/dev/null || true)"
  say mismatches_at_stop "$(md_check md127)"
  stop "$second"
}
