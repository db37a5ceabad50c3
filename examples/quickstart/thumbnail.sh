#!/bin/sh
# Stands for a function: it is given the event on standard input, its attributes as CE_… variables, and what the rule file passes.
set -eu
mkdir -p "$(dirname "thumbnails/$1")" # a key may have folders in it
cat > "thumbnails/$1.event.json"
echo "thumbnail of $1 made for task $POINTSMAN_TASK, attempt $POINTSMAN_ATTEMPT"
