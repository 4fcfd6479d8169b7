// Package pair is what the judges have in common: Apache Kafka as a Java process that is asked line by line, what they report where the
// two sides differ, and how a run that ends there is shortened. What the lines say is the judges' own.
package pair
