#!/bin/sh
# Stands for a function: it is given the event on standard input, its attributes as CE_… variables, and what the rule file passes.
mkdir -p thumbnails
cat > "thumbnails/$1.event.json"
echo "thumbnail of $1 made for task $POINTSMAN_TASK, attempt $POINTSMAN_ATTEMPT"
