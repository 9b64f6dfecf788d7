package stream

import (
	"crypto/tls"
	"errors"
	"io/fs"

	"github.com/nats-io/nats.go"
)

// permanent are errors of a first connection, and of [Open], that stay until somebody
// changes something.
var permanent = []error{
	ErrTooOld, ErrLimited, ErrForeign, errURL,
	nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
	nats.ErrSecureConnWanted, fs.ErrNotExist, fs.ErrPermission,
}

// Permanent reports whether waiting does not mend an error of [Connect] or [Open]. All
// others may be those of servers that start, or elect a leader: JetStream without one
// looks like none at all.
func Permanent(err error) bool {
	for _, p := range permanent {
		if errors.Is(err, p) {
			return true
		}
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	return untrusted
}
