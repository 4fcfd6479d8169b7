// Package arch holds the house's rules as a test: who may import whom, what the pure core must not touch, and that every
// package introduces itself.
//
// The rules are a table in rules.go, one row a room, and the test reads the source as it stands; nothing is generated and
// nothing is loaded but import clauses and syntax trees. A new room needs a row; a forbidden import fails with the row's reason.
// The package has no other use and is imported by nobody.
package arch
