#!/usr/bin/env bash
# Starts PostgreSQL and three nodes of one bus on this machine, until Ctrl-C. Send events to any of them, kill one (its number is printed) with
# kill -9, and see the others take over. PostgreSQL's programs are looked for on PATH and where Debian has them.
set -euo pipefail
cd "$(dirname "$0")"
pointsman=${POINTSMAN:-pointsman}
command -v "$pointsman" >/dev/null || { echo "pointsman is not on PATH: name it by POINTSMAN=../../target/debug/pointsman" >&2; exit 1; }
pointsman=$(realpath "$(command -v "$pointsman")")
PATH="$PATH:$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)"
command -v initdb >/dev/null || { echo "PostgreSQL is not there: apt-get install postgresql" >&2; exit 1; }
folder=$(mktemp -d)
as=()
if [ "$(id -u)" -eq 0 ]; then # PostgreSQL does not run as root
  chmod 755 "$folder"
  as=(setpriv --reuid postgres --regid postgres --clear-groups)
fi
mkdir "$folder/database"
[ ${#as[@]} -eq 0 ] || chown postgres "$folder/database"
trap 'trap - EXIT; kill $(jobs -p) 2>/dev/null; wait; rm -rf "$folder"' EXIT
(cd / && ${as[@]+"${as[@]}"} initdb -D "$folder/database" --auth=trust --username=postgres --no-instructions >"$folder/database.log")
(cd / && exec ${as[@]+"${as[@]}"} postgres -D "$folder/database" -p 5499 -c listen_addresses=127.0.0.1 -c unix_socket_directories= >>"$folder/database.log" 2>&1) &
export DATABASE_URL=postgres://postgres@127.0.0.1:5499/postgres
for node in 1 2 3; do
  mkdir "$folder/node-$node"
  cp pointsman.yaml "$folder/node-$node/"
  LISTEN=127.0.0.1:808$node ADMIN=127.0.0.1:818$node NODE=node-$node "$pointsman" run "$folder/node-$node" &
  echo "node-$node is process $!, listens on 127.0.0.1:808$node; pointsman nodes --admin http://127.0.0.1:818$node says who does what"
done
wait
