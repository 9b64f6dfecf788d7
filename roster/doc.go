// Package roster reads and writes files of devices: pushfleet's own, as lines of
// JSON or as CSV, and what Amazon SNS, Amazon Pinpoint and OneSignal export. And it
// reads files of the recipients of a campaign.
//
//	file ──> Reader ──> Line: a device, or why it is skipped, or what is wrong
//	device ──> Writer ──> file
//
//	file ──> Recipients ──> Recipient of a campaign, or what is wrong
//
// A Reader needs little memory, whatever the file. What is wrong with one line
// concerns that line alone, and no error holds a device token.
//
// docs/import.md says which columns of each are read.
package roster
