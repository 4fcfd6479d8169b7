#!/usr/bin/env bash
# Apache Kafka's console-producer and console-consumer: produce and consume as ../doc.go says. KAFKA runs a tool by name.
set -euo pipefail
verb=$1 bootstrap=$2 topic=$3
pad=$(printf 'x%.0s' {1..64})
case $verb in
produce)
  from=$4 count=$5 codec=$6
  awk -v from="$from" -v n="$count" -v pad="$pad" 'BEGIN { for (i = from; i < from + n; i++) printf "n:%d|k%d|%d:%s\n", i, i % 97, i, pad }' |
    "$KAFKA" console-producer --bootstrap-server "$bootstrap" --topic "$topic" --compression-codec "$codec" \
      --reader-property parse.key=true --reader-property parse.headers=true --reader-property headers.delimiter='|' --reader-property key.separator='|' \
      --command-property enable.idempotence="$([[ ${7:-} == idempotent ]] && echo true || echo false)" --command-property acks=all >/dev/null
  echo "acked $count" ;;
consume)
  group=$4 count=$5
  "$KAFKA" console-consumer --bootstrap-server "$bootstrap" --topic "$topic" --group "$group" --max-messages "$count" --timeout-ms 60000 \
    --formatter-property print.key=true --command-property auto.offset.reset=earliest 2>/dev/null |
    awk '{ split($2, v, ":"); if ($1 != "k" (v[1] % 97)) { print "record " v[1] " came as key " $1 > "/dev/stderr"; exit 1 } print v[1] }' ;;
esac
