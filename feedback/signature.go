package feedback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
)

// The headers of the Standard Webhooks specification, in its spelling.
const (
	headerWebhookID        = "webhook-id"
	headerWebhookTimestamp = "webhook-timestamp"
	headerWebhookSignature = "webhook-signature"
)

// secretPrefix begins a secret in text form (Standard Webhooks).
const secretPrefix = "whsec_"

// What the bytes of a secret may be (Standard Webhooks: 24 to 64).
const (
	leastSecretBytes = 24
	mostSecretBytes  = 64
)

// ParseSecrets reads one or more signing secrets, separated by white space: whsec_ and
// the base64 of 24 to 64 random bytes each. An error does not repeat them.
func ParseSecrets(text string) ([][]byte, error) {
	var secrets [][]byte
	for one := range strings.FieldsSeq(text) {
		encoded, ok := strings.CutPrefix(one, secretPrefix)
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(raw) < leastSecretBytes || len(raw) > mostSecretBytes {
			return nil, errors.New("must be whsec_ and the base64 of 24 to 64 random bytes; several are separated by white space")
		}
		secrets = append(secrets, raw)
	}
	if len(secrets) == 0 {
		return nil, errors.New("must not be empty")
	}
	return secrets, nil
}

// sign returns the header webhook-signature: a signature for each secret.
func sign(secrets [][]byte, id string, at time.Time, body []byte) string {
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + unixSeconds(at) + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}

func unixSeconds(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

// postID returns the id of a POST. It is made from the body, whose events have ids that
// are made from their place in OUTCOMES: so it is the same whenever the same is told,
// and another one for anything else. A batch that is made up anew after a crash may
// begin where another one did and hold more; an id made from its beginning alone would
// have the receiver drop the rest.
func postID(body []byte) string {
	sum := sha256.Sum256(body)
	return "out_" + hex.EncodeToString(sum[:16])
}
