package apnstest

import "strings"

// pushTypes are the values of apns-push-type with what each appends to the
// bundle id (Apple, Sending notification requests to APNs).
var pushTypes = map[string]string{
	"alert":        "",
	"background":   "",
	"complication": ".complication",
	"controls":     ".push-type.controls",
	"fileprovider": ".pushkit.fileprovider",
	"liveactivity": ".push-type.liveactivity",
	"location":     ".location-query",
	"mdm":          "",
	"pushtotalk":   ".voip-ptt",
	"voip":         ".voip",
	"widgets":      ".push-type.widgets",
}

// suffixes are the endings of topics that are no bundle ids, from pushTypes.
var suffixes = []string{
	".complication", ".push-type.controls", ".pushkit.fileprovider", ".push-type.liveactivity",
	".location-query", ".voip-ptt", ".voip", ".push-type.widgets",
}

// topicUse is a pair of apns-topic and apns-push-type with what is known of it.
type topicUse struct {
	topic, pushType string
	bundle          string // the topic without its suffix
	wellFormed      bool   // and the suffix is the push type's
}

// judgeTopic looks at a pair once; connections remember the result. bundles are
// the bundle ids that are known to be some, so that one which happens to end
// like a suffix is not cut.
func judgeTopic(topic, pushType string, bundles map[string]bool) *topicUse {
	u := &topicUse{topic: topic, pushType: pushType, bundle: topic}
	if !isTopic(topic) {
		return u
	}
	suffix := ""
	if !bundles[topic] {
		for _, s := range suffixes {
			if strings.HasSuffix(topic, s) && len(topic) > len(s) {
				suffix = s
				u.bundle = strings.TrimSuffix(topic, s)
				break
			}
		}
	}
	u.wellFormed = pushType == "" || suffix == pushTypes[pushType]
	return u
}

// isTopic reports whether s can be a topic at all: a bundle id's characters
// (Apple, CFBundleIdentifier), and a length that keeps garbage out.
func isTopic(s string) bool {
	if s == "" || len(s) > 255 || s[0] == '.' || s[len(s)-1] == '.' {
		return false
	}
	for i := range len(s) {
		ch := s[i]
		if (ch < 'a' || ch > 'z') && (ch < 'A' || ch > 'Z') && (ch < '0' || ch > '9') && ch != '.' && ch != '-' {
			return false
		}
	}
	return true
}
