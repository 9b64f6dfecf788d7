// Package campaign holds what a campaign is: one message to one audience.
//
// [Parse] reads a [Campaign] as a producer writes it and says everything that is
// wrong with it. [Campaign.Compile] makes a [Plan] of it, which answers for one
// device after another: does it belong to the audience, is it sent to now, later or
// not at all, and what is the payload. [Status] is the campaign in the fleet: the
// definition with its state, and how far it has been divided into ranges.
//
// The package is pure: it reads no clock, opens no socket and logs nothing.
package campaign
