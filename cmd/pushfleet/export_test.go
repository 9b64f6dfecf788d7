package main

import (
	"time"

	"github.com/pushfleet/pushfleet/apns"
)

// JudgeClock returns the state and the text of what the doctor says of another clock.
func JudgeClock(theirs, ours time.Time) (state, found string) {
	f := judgeClock("clock", theirs, ours)
	return f.State, f.Found
}

// JudgeAnswer returns what the doctor says of an answer to its notification, of Apple
// or of a stand-in, in an environment that the app uses or one that it may not.
func JudgeAnswer(r apns.Response, standIn, spare bool) (state, found, remedy string) {
	f := (&probe{name: "apns", standIn: standIn, spare: spare}).judge(r)
	return f.State, f.Found, f.Remedy
}

// Patiently is what a worker starts with.
var Patiently = patiently
