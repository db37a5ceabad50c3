#!/bin/sh
# Prints how full the disk is, as a CloudEvent. Its id is that of the firing, so that a second attempt is no second report.
used=$(df -P . | awk 'NR == 2 { sub("%", "", $5); print $5 }')
cat <<EVENT
{"specversion": "1.0", "type": "disk.usage", "source": "/report", "id": "$CE_ID", "datacontenttype": "application/json", "data": {"used": $used}}
EVENT
