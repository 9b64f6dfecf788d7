package stream

// CheckVersion is the check of a server's version, for tests of versions that
// cannot be run here.
var CheckVersion = checkVersion
