#!/usr/bin/env bash
# Installs the programs that the interoperability tests and the benchmarks run against the server,
# from Debian, and only those that are missing. Says what it did.
set -euo pipefail

packages=(libnbd-bin python3-libnbd qemu-utils nbdkit fio mdadm openssl systemd)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
  echo "install-peers: all present: ${packages[*]}"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "install-peers: needs root (or sudo) to install: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi

echo "install-peers: installing ${missing[*]}"
"${as_root[@]}" apt-get update --quiet --quiet
# No recommends: mdadm would bring a mail server, which nothing here needs.
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install --quiet --quiet --yes --no-install-recommends "${missing[@]}"
echo "install-peers: installed ${missing[*]}"
