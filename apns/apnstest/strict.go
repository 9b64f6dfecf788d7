package apnstest

import "encoding/json"

// strictPayload reports whether a body is a JSON object whose aps, if it is
// there, has the documented keys with values of the documented types (Apple,
// Generating a remote notification). Keys that are not listed may be anything.
func strictPayload(body []byte) bool {
	var top map[string]json.RawMessage
	if json.Unmarshal(body, &top) != nil || top == nil {
		return false
	}
	raw, ok := top["aps"]
	if !ok {
		return true
	}
	var aps map[string]any
	if json.Unmarshal(raw, &aps) != nil || aps == nil {
		return false
	}
	for key, v := range aps {
		_, isString := v.(string)
		_, isNumber := v.(float64)
		_, isObject := v.(map[string]any)
		_, isBool := v.(bool)
		good := true
		switch key {
		case "alert", "sound":
			good = isString || isObject
		case "badge", "content-available", "mutable-content", "relevance-score", "timestamp",
			"stale-date", "dismissal-date", "input-push-token":
			good = isNumber
		case "thread-id", "category", "target-content-id", "interruption-level", "filter-criteria",
			"event", "attributes-type", "input-push-channel":
			good = isString
		case "content-state", "attributes":
			good = isObject
		case "content-changed":
			good = isBool
		}
		if !good {
			return false
		}
	}
	return true
}
