// Package explain says what became of a device in a campaign or in a job, and why.
//
//	question -> devices (store) -> progress (store) -> OUTCOMES (stream) -> verdict, with why
//
// It goes by the campaign's entry, by the devices as they are registered now, and by
// OUTCOMES, which keeps a week. Of a campaign to an audience it reads the one range that a
// device is in; a campaign to a file and the jobs of a lane are searched. It changes
// nothing, and shows a device token whole only to who gave it.
package explain
