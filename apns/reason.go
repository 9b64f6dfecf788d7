package apns

// Reason is APNs's own word for why it rejected a notification. Values that are
// not listed here occur; the status then tells the class.
type Reason string

// The documented reasons (Apple, Handling notification responses from APNs),
// with the status that each comes with.
const (
	BadCollapseID               Reason = "BadCollapseId"               // 400: collapse id over 64 bytes
	BadDeviceToken              Reason = "BadDeviceToken"              // 400: malformed, or valid in the other environment
	BadExpirationDate           Reason = "BadExpirationDate"           // 400: apns-expiration cannot be read
	BadMessageID                Reason = "BadMessageId"                // 400: apns-id is not a UUID
	BadPriority                 Reason = "BadPriority"                 // 400: not 10, 5 or 1, or not allowed for the push type
	BadTopic                    Reason = "BadTopic"                    // 400: topic malformed
	DeviceTokenNotForTopic      Reason = "DeviceTokenNotForTopic"      // 400: device token of another app or kind
	DuplicateHeaders            Reason = "DuplicateHeaders"            // 400: a header given twice
	IdleTimeout                 Reason = "IdleTimeout"                 // 400: idle too long; usually in GOAWAY
	InvalidPushType             Reason = "InvalidPushType"             // 400: unknown push type
	MissingDeviceToken          Reason = "MissingDeviceToken"          // 400: path without device token
	MissingTopic                Reason = "MissingTopic"                // 400: topic needed and absent
	PayloadEmpty                Reason = "PayloadEmpty"                // 400: no body
	TopicDisallowed             Reason = "TopicDisallowed"             // 400: the credential may not push to this topic
	BadCertificate              Reason = "BadCertificate"              // 403: certificate invalid
	BadCertificateEnvironment   Reason = "BadCertificateEnvironment"   // 403: certificate of the other environment
	ExpiredProviderToken        Reason = "ExpiredProviderToken"        // 403: provider token older than an hour
	Forbidden                   Reason = "Forbidden"                   // 403: not allowed, for instance key revoked
	InvalidProviderToken        Reason = "InvalidProviderToken"        // 403: provider token's signature, key or team is wrong
	MissingProviderToken        Reason = "MissingProviderToken"        // 403: neither certificate nor provider token
	UnrelatedKeyIDInToken       Reason = "UnrelatedKeyIdInToken"       // 403: another key than this connection's first
	BadEnvironmentKeyIDInToken  Reason = "BadEnvironmentKeyIdInToken"  // 403: key of the other environment, as documented
	BadEnvironmentKeyInToken    Reason = "BadEnvironmentKeyInToken"    // 403: the same as seen on the wire (observed: kylebrowning/APNSwift#229)
	BadPath                     Reason = "BadPath"                     // 404: path wrong
	MethodNotAllowed            Reason = "MethodNotAllowed"            // 405: not POST
	ExpiredToken                Reason = "ExpiredToken"                // 410: device token expired
	Unregistered                Reason = "Unregistered"                // 410: device token inactive for the topic
	PayloadTooLarge             Reason = "PayloadTooLarge"             // 413: payload over the limit
	TooManyProviderTokenUpdates Reason = "TooManyProviderTokenUpdates" // 429: provider token changed too often on this connection
	TooManyRequests             Reason = "TooManyRequests"             // 429: too many to this device token
	InternalServerError         Reason = "InternalServerError"         // 500: server fault
	ServiceUnavailable          Reason = "ServiceUnavailable"          // 503: server down
	Shutdown                    Reason = "Shutdown"                    // 503: this server is going away
)

// Reasons returns every documented reason, in the order of their status.
func Reasons() []Reason {
	return []Reason{
		BadCollapseID,
		BadDeviceToken,
		BadExpirationDate,
		BadMessageID,
		BadPriority,
		BadTopic,
		DeviceTokenNotForTopic,
		DuplicateHeaders,
		IdleTimeout,
		InvalidPushType,
		MissingDeviceToken,
		MissingTopic,
		PayloadEmpty,
		TopicDisallowed,
		BadCertificate,
		BadCertificateEnvironment,
		ExpiredProviderToken,
		Forbidden,
		InvalidProviderToken,
		MissingProviderToken,
		UnrelatedKeyIDInToken,
		BadEnvironmentKeyIDInToken,
		BadEnvironmentKeyInToken,
		BadPath,
		MethodNotAllowed,
		ExpiredToken,
		Unregistered,
		PayloadTooLarge,
		TooManyProviderTokenUpdates,
		TooManyRequests,
		InternalServerError,
		ServiceUnavailable,
		Shutdown,
	}
}

// Verdict is what a reason says about the device token that was sent to.
type Verdict uint8

// The verdicts.
const (
	Keep       Verdict = iota // nothing
	Dead                      // remove it, unless it was registered after APNs noticed
	Suspicious                // quarantine it: dead, or our environment or topic is wrong
)

// Verdict returns what the reason says about the device token.
func (r Reason) Verdict() Verdict {
	switch r {
	case Unregistered, ExpiredToken:
		return Dead
	case BadDeviceToken, DeviceTokenNotForTopic:
		// Both depend on our own choice of environment and topic, so that one wrong
		// flag makes every healthy token look like this (Apple DTS, forums/807380).
		return Suspicious
	default:
		return Keep
	}
}
