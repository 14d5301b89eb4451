#!/bin/bash
# What every script of a guest begins with.
set -euo pipefail
exec 2>&1

# host WORDS...: asks the test for something; prints what it answers, fails if it failed.
host() {
  local answer
  exec 9<>"/dev/tcp/$GUEST_HOST/$HOST_PORT"
  printf '%s\n' "$*" >&9
  answer=$(cat <&9)
  exec 9>&-
  case $answer in
    "ok"*) answer=${answer#ok}; if [ -n "$answer" ]; then printf '%s\n' "${answer#?}"; fi ;;
    *) printf 'host %s: %s\n' "$*" "$answer"; return 1 ;;
  esac
}

# until_true SECONDS COMMAND...: waits for COMMAND to succeed.
until_true() {
  local tries=$(($1 * 10))
  shift
  until "$@"; do
    ((tries-- > 0)) || { echo "in vain: $*"; return 1; }
    sleep 0.1
  done
}

# md_idle md127: true when no sync of the array runs or waits to. (mdadm --wait takes seconds.)
md_idle() { [ "$(cat "/sys/block/$1/md/sync_action")" = idle ]; }

# md_check md127: counts mismatches; prints the kernel's number, in sectors.
md_check() {
  until_true 120 md_idle "$1"
  echo check >"/sys/block/$1/md/sync_action"
  until_true 120 md_idle "$1"
  cat "/sys/block/$1/md/mismatch_cnt"
}

# digest FILE [BYTES]
digest() {
  if [ $# -eq 2 ]; then
    head -c "$2" "$1" | sha256sum | cut -d ' ' -f 1
  else
    sha256sum <"$1" | cut -d ' ' -f 1
  fi
}
