package worker

import "github.com/pushfleet/pushfleet/apns"

// HasRule reports whether the policy has a row for a reason of its own.
func HasRule(p *Policy, r apns.Reason) bool {
	_, ok := p.rules[r]
	return ok
}
