#!/usr/bin/env bash
# Makes streams, as `nats stream add` would: https://docs.nats.io/reference/reference-protocols/nats_api_reference
set -euo pipefail

make() { # the stream, its subjects
  local body="{\"name\":\"$1\",\"subjects\":[\"$2\"]}"
  exec 3<>/dev/tcp/127.0.0.1/"${NATS_PORT:-4222}"
  printf 'CONNECT {"verbose":false}\r\nSUB answer 1\r\nPUB $JS.API.STREAM.CREATE.%s answer %d\r\n%s\r\n' "$1" ${#body} "$body" >&3
  while read -r line <&3; do
    case $line in
      PING*) printf 'PONG\r\n' >&3 ;;
      *'"error"'*) echo "$line" >&2; exit 1 ;;
      '{"type"'*) break ;;
    esac
  done
  exec 3>&-
  echo "the stream $1 keeps $2"
}

# Pairs of a stream and its subjects; those of this example where none are given.
[ $# -gt 0 ] || set -- TELEMETRY 'telemetry.>' ALERTS 'alerts.>'
while [ $# -gt 0 ]; do
  make "$1" "$2"
  shift 2
done
