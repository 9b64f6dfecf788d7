package api

import (
	"net/http"
	"reflect"
)

// operatorRoutes is the list of routes for those who run the fleet.
func (a *API) operatorRoutes() []route {
	list := []route{{
		method: http.MethodGet, path: "/v1/apps", id: "listApps",
		summary: "The apps that the API key is for",
		detail:  "And what it may do there: every API key may ask.",
		scopes:  []Scope{ScopeSend, ScopeDevices, ScopeCampaigns, ScopeRead}, appless: true, handle: a.getApps,
		out: reflect.TypeFor[OwnApps](), status: http.StatusOK,
		outExample: `{"apps":[{"name":"shop","bundle_id":"com.example.shop","environment":"production","scopes":["read","campaigns"]}],"all_apps":false}`,
	}}
	if a.cfg.Fuses != nil {
		list = append(list, a.fuseRoutes()...)
	}
	return list
}

// fuseRoutes is the list of routes of fuses.
func (a *API) fuseRoutes() []route {
	const all = "/v1/apps/{app}/fuses"
	const tripped = `"app":"shop","environment":"production","tripped":true,"tripped_at":"2026-11-24T09:00:00.101Z","tripped_by":"worker-1","rejected":260,"sent":300,"undone":true`
	const reset = `"app":"shop","environment":"production","tripped":false,"tripped_at":"2026-11-24T09:00:00.101Z","tripped_by":"worker-1","rejected":260,"sent":300,"undone":true,` +
		`"reset_at":"2026-11-24T09:12:00.4Z","reset_by":"API key 6vqz3hkx2mmb7c4y","reset":true`
	return []route{
		{
			method: http.MethodGet, path: all, id: "listFuses",
			summary: "The fuses of an app",
			detail:  "A fuse trips when many device tokens that worked are rejected as if they were wrong: then nothing is sent there until it is reset.",
			scopes:  []Scope{ScopeRead}, handle: a.getFuses,
			out: reflect.TypeFor[FuseList](), status: http.StatusOK,
			outExample: `{"fuses":[{` + tripped + `}]}`,
		},
		{
			method: http.MethodPost, path: all + "/{environment}/reset", id: "resetFuse", audit: "fuse.reset",
			summary: "Reset a fuse: send again",
			detail: "Once its cause is mended. What was rejected meanwhile is sent; if the cause is still there, it trips again, and nothing is lost. " +
				"Resetting one that is not tripped changes nothing.",
			scopes: []Scope{ScopeAdmin}, handle: a.resetFuse,
			out: reflect.TypeFor[ResetFuse](), status: http.StatusOK,
			outExample: `{` + reset + `}`,
			fails:      []int{422},
		},
	}
}
