#!/usr/bin/env bash
# kcat: produce and consume as ../doc.go says.
set -euo pipefail
verb=$1 bootstrap=$2 topic=$3
pad=$(printf 'x%.0s' {1..64})
case $verb in
produce)
  from=$4 count=$5 codec=$6
  awk -v from="$from" -v n="$count" -v pad="$pad" 'BEGIN { for (i = from; i < from + n; i++) printf "k%d|%d:%s\n", i % 97, i, pad }' |
    kcat -P -b "$bootstrap" -t "$topic" -K '|' -z "$codec" -H n=kcat -X acks=all -X linger.ms=5 ${7:+-X enable.idempotence=true} -X message.timeout.ms=120000
  echo "acked $count" ;;
consume)
  group=$4 count=$5
  # The balanced consumer commits what it passed on when it ends.
  timeout 90 kcat -b "$bootstrap" -G "$group" -c "$count" -f '%k %s\n' -X auto.offset.reset=earliest -X session.timeout.ms=10000 -q "$topic" |
    awk '{ split($2, v, ":"); if ($1 != "k" (v[1] % 97)) { print "record " v[1] " came as key " $1 > "/dev/stderr"; exit 1 } print v[1] }' ;;
esac
