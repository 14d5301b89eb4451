#!/usr/bin/env bash
# Installs the programs that the interoperability tests and the benchmarks run against the server,
# from Debian and from npm, and only those that are missing. Says what it did.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(libnbd-bin python3-libnbd qemu-utils nbdkit fio mdadm openssl systemd)
# A package of its own: nothing of it is a dependency of the project.
npm_peers=test/interop/npm-peers

install_from_debian() {
  local package status missing=() as_root=()
  for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
  done

  if [ ${#missing[@]} -eq 0 ]; then
    echo "install-peers: all present: ${packages[*]}"
    return
  fi

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
}

install_from_npm() {
  # npm keeps a copy of the lock file it installed from, and writes it last.
  local installed=$npm_peers/node_modules/.package-lock.json
  if [ -e "$installed" ] && [ ! "$npm_peers/package-lock.json" -nt "$installed" ]; then
    echo "install-peers: present: $npm_peers/node_modules"
    return
  fi
  echo "install-peers: installing $npm_peers/node_modules"
  npm ci --prefix "$npm_peers" --ignore-scripts --no-audit --no-fund
}

install_from_debian
install_from_npm
