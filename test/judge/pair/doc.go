// Package pair is what the judges have in common: Apache Kafka as a Java process that is asked line by line; runs of steps, each of a seed;
// what is reported where the two sides differ, and how a run that ends there is shortened; the differences that are kept on purpose, and
// how often. What the lines say is the judges' own.
package pair
