// Package roster reads and writes files of devices: pushfleet's own, as lines of
// JSON or as CSV, and what Amazon SNS, Amazon Pinpoint and OneSignal export.
//
//	file ──> Reader ──> Line: a device, or why it is skipped, or what is wrong
//	device ──> Writer ──> file
//
// A Reader needs little memory, whatever the file. What is wrong with one line
// concerns that line alone, and no error holds a device token.
//
// docs/import.md says which columns of each are read.
package roster
