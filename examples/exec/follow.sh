#!/bin/sh
# Prints each line of a file as it grows, and behind each how many there have been, so that it goes on from there after a restart.
number=${POINTSMAN_CURSOR:-0}
tail -n "+$((number + 1))" -F "$1" | while IFS= read -r line; do
  number=$((number + 1))
  printf '%s\n{"pointsman_cursor": %s}\n' "$line" "$number"
done
