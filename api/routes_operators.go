package api

import (
	"net/http"
	"reflect"

	"github.com/pushfleet/pushfleet/explain"
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
	if a.cfg.DeadLetters != nil {
		list = append(list, a.deadLetterRoutes()...)
	}
	if a.cfg.Explainer != nil {
		list = append(list, a.explainRoute())
	}
	if a.cfg.KeyStore != nil {
		list = append(list, a.keyRoutes()...)
	}
	return list
}

// keyRoutes is the list of routes of API keys.
func (a *API) keyRoutes() []route {
	const all = "/v1/keys"
	const key = `"id":"6vqz3hkx2mmb7c4y","name":"shop backend","scopes":["send","devices"],"apps":["shop"],"all_apps":false,"created_at":"2026-11-24T09:00:00Z"`
	admin := []Scope{ScopeAdmin}
	return []route{
		{
			method: http.MethodGet, path: all, id: "listKeys",
			summary: "All API keys",
			detail:  "Also revoked ones; never the keys themselves.",
			scopes:  admin, appless: true, allApps: true, handle: a.getKeys,
			out: reflect.TypeFor[APIKeyList](), status: http.StatusOK,
			outExample: `{"keys":[{` + key + `}]}`,
		},
		{
			method: http.MethodPost, path: all, id: "createKey", audit: "key.create",
			summary: "Make an API key",
			detail:  "The answer has the key, once: only a hash of it is kept. A repetition makes another one.",
			scopes:  admin, appless: true, allApps: true, body: maxSingle, handle: a.postKey,
			in: reflect.TypeFor[KeyRequest](), out: reflect.TypeFor[CreatedKey](), status: http.StatusCreated,
			inExample:  `{"name":"shop backend","scopes":["send","devices"],"apps":["shop"]}`,
			outExample: `{` + key + `,"key":"pf_6vqz3hkx2mmb7c4y_…"}`,
			fails:      []int{422},
		},
		{
			method: http.MethodDelete, path: all + "/{id}", id: "revokeKey", audit: "key.revoke", pathID: "The API key's id.",
			summary: "Revoke an API key, for good",
			detail:  "It is refused everywhere within 5 seconds. Revoking it again changes nothing.",
			scopes:  admin, appless: true, allApps: true, handle: a.deleteKey,
			status: http.StatusNoContent, fails: []int{422},
		},
	}
}

// deadLetterRoutes is the list of routes of dead letters.
func (a *API) deadLetterRoutes() []route {
	const all = "/v1/apps/{app}/dead-letters"
	const letter = `"sequence":17,"app":"shop","reason":"PayloadTooLarge","subject":"push.jobs.shop.bulk","root":"order-4711-shipped","recipients":1,"attempts":1,"deliveries":1,` +
		`"first":"2026-11-24T09:00:00.101Z","last":"2026-11-24T09:00:00.131Z","bytes":71,"redrive_id":"redrive-1f0c9a7d52e3b864"`
	const counted = `"recipients":2,"stays":0,"again":0,"reasons":[{"reason":"PayloadTooLarge","letters":2,"recipients":2}],"refusals":[],"notes":[],"next":18,"through":240}`
	const bounded = " A request does a part, within some seconds: while the answer has next, give it as after, with through, to go on. After a 503 repeat the request."
	texts := reflect.TypeFor[string]()
	in, out := reflect.TypeFor[DeadLetterChoice](), reflect.TypeFor[DeadLetterResult]()
	return []route{
		{
			method: http.MethodGet, path: all, id: "listDeadLetters",
			summary: "What was given up",
			detail:  "The oldest first, without headers and bodies.",
			scopes:  []Scope{ScopeRead}, handle: a.getDeadLetters,
			query: []parameter{
				{name: "reason", about: "Only those with this in their reason, in any case.", of: texts},
				{name: "campaign", about: "Only those of this campaign.", of: texts},
				{name: "job", about: "Only those of this job.", of: texts},
				{name: "newer_than", about: "Only those given up since, such as 12h or 30d.", of: texts},
				{name: "older_than", about: "Only those given up longer ago.", of: texts},
				{name: "limit", about: "How many at most, up to 1000. Default 100.", of: reflect.TypeFor[int]()},
				{name: "after", about: "Only those with a greater number: next of the page before.", of: reflect.TypeFor[uint64]()},
			},
			out: reflect.TypeFor[DeadLetterList](), status: http.StatusOK,
			outExample: `{"dead_letters":[{` + letter + `}],"next":17}`,
			fails:      []int{422},
		},
		{
			method: http.MethodGet, path: all + "/{sequence}", id: "getDeadLetter",
			summary: "A whole dead letter, with its headers and its body",
			detail:  "What may be a device token is shortened to six digits, unless full is true.",
			scopes:  []Scope{ScopeRead}, handle: a.getDeadLetter,
			query: []parameter{{name: "full", about: "Show device tokens in full.", of: reflect.TypeFor[bool]()}},
			out:   reflect.TypeFor[DeadLetter](), status: http.StatusOK,
			outExample: `{` + letter + `,"headers":{"Push-Reason":["PayloadTooLarge"]},"body":"{\"to\":{\"users\":[\"ada\"]}}"}`,
			fails:      []int{422},
		},
		{
			method: http.MethodPost, path: all + "/redrive", id: "redriveDeadLetters", audit: "dead-letter.redrive",
			summary: "Send dead letters once more",
			detail: "Each is published to where it came from, and deleted once that is stored; however often it is redriven, it is sent once, within a day. " +
				"Mend the cause first: what is still at fault comes back." + bounded,
			scopes: []Scope{ScopeAdmin}, body: maxSingle, handle: a.redriveDeadLetters,
			in: in, out: out, status: http.StatusOK,
			inExample: `{"reason":"PayloadTooLarge","limit":2}`, outExample: `{"dry_run":false,"letters":2,` + counted,
			fails: []int{422},
		},
		{
			method: http.MethodPost, path: all + "/purge", id: "purgeDeadLetters", audit: "dead-letter.purge",
			summary: "Delete dead letters, for good",
			detail:  "Nothing brings them back: ask for a dry run first." + bounded,
			scopes:  []Scope{ScopeAdmin}, body: maxSingle, handle: a.purgeDeadLetters,
			in: in, out: out, status: http.StatusOK,
			inExample: `{"reason":"PayloadTooLarge","limit":2,"dry_run":true}`, outExample: `{"dry_run":true,"letters":2,` + counted,
			fails: []int{422},
		},
	}
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

// explainRoute is the route of explanations.
func (a *API) explainRoute() route {
	texts := reflect.TypeFor[string]()
	return route{
		method: http.MethodGet, path: "/v1/apps/{app}/explain", id: "explain",
		summary: "What became of a device in a campaign or in a job, and why",
		detail: "Of a device token, an installation or each device of a user. It goes by the devices as they are registered now, and by " +
			"OUTCOMES, which keeps a week. A search ends after some seconds: then the answer has searched_until, to ask again since then.",
		scopes: []Scope{ScopeRead}, handle: a.getExplanation,
		query: []parameter{
			{name: "job", about: "Id of the job. This, or campaign.", of: texts},
			{name: "campaign", about: "Id of the campaign.", of: texts},
			{name: "user", about: "Each device of this user. This, or install, or token.", of: texts},
			{name: "install", about: "The device of this installation of the app.", of: texts},
			{name: "token", about: "The device token, in hexadecimal.", of: texts},
			laneParameter(),
			{name: "since", about: "How far back to search, such as 48h or 7d. Default 24h for a job, and all for a campaign.", of: texts},
		},
		out: reflect.TypeFor[explain.Explanation](), status: http.StatusOK,
		outExample: `{"app":"shop","job":"order-4711-shipped","lane":"transactional","state":"complete","text":"job order-4711-shipped (transactional): complete, with 1 recipients",` +
			`"devices":[{"token":"8f3a55…","user":"ada","verdict":"rejected","text":"rejected by APNs 2026-11-24 09:00:00 +0000 UTC, sent by worker w1: Unregistered (410)",` +
			`"outcomes":[{"at":"2026-11-24T09:00:00.131Z","worker":"w1","attempt":1,"result":"rejected","reason":"Unregistered","status":410}]}]}`,
		fails: []int{409, 422},
	}
}
