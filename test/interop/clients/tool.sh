#!/usr/bin/env bash
# One of Apache Kafka's own command line tools by name: tool.sh topics --list ...
set -euo pipefail
home=${INTEROP_HOME:-$HOME/.cache/moldau-interop}
declare -A class=(
  [topics]=TopicCommand [broker-api-versions]=BrokerApiVersionsCommand [client-compatibility]=ClientCompatibilityTest
  [console-consumer]=consumer.ConsoleConsumer [console-producer]=ConsoleProducer [consumer-groups]=consumer.group.ConsumerGroupCommand
  [dump-log]=DumpLogSegments [get-offsets]=GetOffsetShell [log-compaction-tester]=LogCompactionTester [transactional-message-copier]=TransactionalMessageCopier [transactions]=TransactionsCommand [verifiable-consumer]=VerifiableConsumer [verifiable-producer]=VerifiableProducer
)
name=$1; shift
exec java -Xmx256M -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.level=error -cp "$home/tools/*" "org.apache.kafka.tools.${class[$name]}" "$@"
