package api

import (
	"cmp"
	"strings"

	"go.uber.org/zap"
)

// maxAudited bounds what of a URL is logged as an object.
const maxAudited = 128

// audit leaves a line about a request that changes, or would have changed, what an
// operator answers for. Of who has no API key there is nothing to say.
func (a *API) audit(rt *route, c *call, status int, p *Problem) {
	if rt.audit == "" || c.key == nil || c.unaudited {
		return
	}
	result, app := "done", c.appName
	if p != nil {
		result = p.Code
	}
	if _, known := c.live.Apps[app]; !known {
		app = ""
	}
	object := cmp.Or(c.object, c.r.PathValue("id"))
	if rt.allApps && strings.HasPrefix(object, keyPrefix) { // somebody gave a whole key for its id
		object, _, _ = strings.Cut(strings.TrimPrefix(object, keyPrefix), "_")
	}
	a.cfg.Audit.Info(rt.audit, append([]zap.Field{
		zap.String("who", "API key "+c.key.ID), zap.String("app", app), zap.String("object", object[:min(len(object), maxAudited)]),
		zap.String("result", result), zap.Int("status", status), zap.String("request_id", c.id),
	}, c.details...)...)
}
