// Package device holds what pushfleet knows about one app on one device: its
// device token, the registration that an app hands in, and the packed record
// that the token set keeps of it.
//
// The package is pure: it reads no clock, opens no socket and logs nothing.
package device
