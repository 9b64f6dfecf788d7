package api

import (
	"net/http"
	"reflect"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/overview"
)

// route is one line of the list of routes.
type route struct {
	method, path string
	id           string // of the operation, for generated clients
	summary      string
	detail       string

	scopes  []Scope // one of them, or admin, is needed; none: anybody may
	audit   string  // what the audit log calls it; empty: it does not tell of it
	appless bool    // the path names no app: it is for those of the key
	allApps bool    // only for keys for all apps
	gorush  bool    // requests that bring no key have that of the door for gorush, if it has one
	body    int64   // the most bytes of a body; 0: it has none
	handle  func(c *call) (status int, body any, p *Problem)

	query  []parameter // of the URL, after the path
	header []parameter
	pathID string // what {id} of the path is

	// For the OpenAPI document: types of the body and of the answer with status, and
	// others that the document is to have.
	in, out reflect.Type
	also    []reflect.Type
	status  int
	media   string // of the answer; empty: JSON
	// fail puts problems into another form, which the type fault describes; nil: problem
	// documents.
	fail  func(*Problem) any
	fault reflect.Type
	// Examples of them, as JSON; empty: none.
	inExample, outExample string
	fails                 []int // statuses of problems, beside those that every route has
}

// parameter is one of a URL's query, or a header. None is needed.
type parameter struct {
	name, about string
	of          reflect.Type
	enum        []string
}

// maxSingle is the most bytes of the body of one device. choice: its tags and
// attributes at their limits are some 50 KB.
const maxSingle = 64 << 10

// routes is the list of routes.
func (a *API) routes() []route {
	const device = "/v1/apps/{app}/devices/{token}"
	write := []Scope{ScopeDevices}
	read := []Scope{ScopeDevices, ScopeRead}
	list := []route{
		{
			method: http.MethodPut, path: device, id: "registerDevice",
			summary: "Register a device token, or register it again",
			detail: "To be called at every launch of the app: it refreshes the registration, takes the device token out of " +
				"quarantine and back from removal, and replaces what the body says: the whole of it counts, so a user " +
				"that is left out is detached. Repeating it does no harm.",
			scopes: write, body: maxSingle, handle: a.putDevice,
			in: reflect.TypeFor[Registration](), out: reflect.TypeFor[Registered](), status: http.StatusOK,
			fails: []int{409, 422},
		},
		{
			method: http.MethodGet, path: device, id: "getDevice",
			summary: "What is known of a device token",
			detail:  "Also of one that is quarantined or removed, with the reason and since when.",
			scopes:  read, handle: a.getDevice,
			out: reflect.TypeFor[Device](), status: http.StatusOK,
			fails: []int{422},
		},
		{
			method: http.MethodDelete, path: device, id: "removeDevice",
			summary: "Remove a device token",
			detail: "Nothing is sent to it until it is registered again. It is remembered as removed for 30 days. " +
				"Removing it again changes nothing.",
			scopes: write, handle: a.deleteDevice,
			status: http.StatusNoContent,
			fails:  []int{422},
		},
		{
			method: http.MethodPost, path: "/v1/apps/{app}/devices", id: "registerDevices",
			summary: "Register up to 1000 devices",
			detail: "Each as PUT does. What is wrong with one concerns that one alone: look at the results, which are in " +
				"the order of the devices.",
			scopes: write, body: a.cfg.MaxBatchBytes, handle: a.postDevices,
			in: reflect.TypeFor[Batch](), out: reflect.TypeFor[BatchResult](), status: http.StatusOK,
			fails: []int{422},
		},
		{
			method: http.MethodGet, path: "/v1/apps/{app}/users/{user}/devices", id: "listUserDevices",
			summary: "The devices of a user",
			detail:  "Quarantined ones are among them, removed ones are not. A user that nobody knows has none.",
			scopes:  read, handle: a.getUserDevices,
			out: reflect.TypeFor[Devices](), status: http.StatusOK,
			fails: []int{422},
		},
		{
			method: http.MethodGet, path: "/openapi.json", id: "getOpenAPI",
			summary: "This document", detail: "OpenAPI 3.1.",
			handle: a.getOpenAPI, status: http.StatusOK,
		},
	}
	if a.cfg.Queue != nil {
		list = append(list, a.notificationRoutes()...)
	}
	if a.cfg.Overview != nil {
		list = append(list, a.overviewRoutes()...)
	}
	if a.cfg.Gorush != nil {
		list = append(list, a.gorushRoutes()...)
	}
	if a.cfg.Campaigns != nil {
		list = append(list, a.campaignRoutes()...)
	}
	return append(list, a.operatorRoutes()...)
}

// notificationRoutes is the list of routes of notifications.
func (a *API) notificationRoutes() []route {
	const all = "/v1/apps/{app}/notifications"
	lane := laneParameter()
	const exampleJob = `{"id":"order-4711-shipped","to":{"users":["ada"]},"notification":{"title":"Shipped","body":"Order 4711 is on its way"},"ttl":"4h"}`
	const exampleStored = `{"id":"order-4711-shipped","sequence":17,"duplicate":false,"status_url":"/v1/apps/shop/notifications/order-4711-shipped?sequence=17"}`
	return []route{
		{
			method: http.MethodPost, path: all, id: "sendNotification",
			summary: "Hand in a job",
			detail: "It is in the queue once this is answered, and will not be lost. With an id, its own or that of the header, it may be " +
				"repeated: it is sent once. Without one it is named after its place in the queue, and a repetition is another job.",
			scopes: []Scope{ScopeSend}, body: maxJob, handle: a.postNotification,
			query:  []parameter{lane},
			header: []parameter{{name: headerIdempotencyKey, about: "The job's id, where the body has none.", of: reflect.TypeFor[string]()}},
			in:     reflect.TypeFor[Job](), out: reflect.TypeFor[HandedIn](), status: http.StatusAccepted,
			inExample: exampleJob, outExample: exampleStored,
			fails: []int{422},
		},
		{
			method: http.MethodPost, path: all + "/batch", id: "sendNotifications",
			summary: "Hand in up to 1000 jobs",
			detail: "Each as above. What is wrong with one concerns that one alone: look at the results, which are in the order of the jobs. " +
				"They are all of one lane.",
			scopes: []Scope{ScopeSend}, body: a.cfg.MaxBatchBytes, handle: a.postNotifications,
			query: []parameter{lane},
			in:    reflect.TypeFor[JobBatch](), out: reflect.TypeFor[JobBatchResult](), status: http.StatusOK,
			inExample: `{"jobs":[` + exampleJob + `,{"id":"order-4712-shipped","to":{"users":["grace"]}}]}`,
			outExample: `{"stored":1,"failed":1,"results":[{"status":202,"job":` + exampleStored + `},` +
				`{"status":422,"code":"invalid","detail":"jobs[1]: must have exactly one of notification, payload","errors":[{"path":"jobs[1]","message":"must have exactly one of notification, payload"}]}]}`,
			fails: []int{422},
		},
		{
			method: http.MethodGet, path: all + "/{id}", id: "getNotification",
			summary: "What became of a job",
			detail: "Each recipient's result, from some milliseconds after it was settled, for a day (redis.keep_jobs). " +
				"A job that no worker has had is found by its place.",
			scopes: []Scope{ScopeRead}, handle: a.getNotification, pathID: "The job's id.",
			query: []parameter{lane, {name: "sequence", about: "The job's place in the queue, as it was answered when it was handed in.", of: reflect.TypeFor[uint64]()}},
			out:   reflect.TypeFor[Notification](), status: http.StatusOK,
			outExample: `{"id":"order-4711-shipped","lane":"transactional","sequence":17,"state":"done","queued_at":"2026-11-24T09:00:00.101Z",` +
				`"counts":{"accepted":1,"rejected":1},"recipients":[` +
				`{"token":"8f3a55d1c7e04b22","result":"accepted","status":200,"apns_id":"183466cf-da8f-87e8-9afa-ccfa5cbdb537","attempts":1,"sent_at":"2026-11-24T09:00:00.104Z","settled_at":"2026-11-24T09:00:00.131Z"},` +
				`{"token":"77c0aa12d0e91f34","result":"rejected","reason":"Unregistered","status":410,"apns_id":"5d1f0f6e-0a41-8c59-b1f4-6b0c8f8a2f11","attempts":1,"sent_at":"2026-11-24T09:00:00.104Z","settled_at":"2026-11-24T09:00:00.131Z","dead_since":"2026-11-20T17:12:09Z"}],` +
				`"latency":{"queued_ms":2,"waiting_ms":1,"apns_ms":27}}`,
			fails: []int{422},
		},
	}
}

// overviewRoutes is the list of routes that tell what the fleet does.
func (a *API) overviewRoutes() []route {
	query := []parameter{{name: "app", about: "Only of this app. Default: of all that the API key is for.", of: reflect.TypeFor[string]()}}
	return []route{
		{
			method: http.MethodGet, path: "/v1/fleet", id: "getFleet",
			summary: "What the fleet does now",
			detail: "Its workers, what waits, how fast it sends, devices and fuses, of the apps that the API key is for. Without JetStream " +
				"or Redis it tells what it knows, and in unknown what it does not. The first request in a while takes some two seconds.",
			scopes: []Scope{ScopeRead}, appless: true, handle: a.getFleet, query: query,
			out: reflect.TypeFor[overview.Fleet](), status: http.StatusOK, outExample: exampleFleet,
		},
		{
			method: http.MethodGet, path: "/v1/events", id: "followEvents",
			summary: "Follow what the fleet does",
			detail: "Server-sent events, until the caller ends it, the API key is revoked or the process stops: then begin again. " +
				"Every second an event fleet with what GET /v1/fleet answers; and an event campaigns with those of an app that have changed " +
				"(schema CampaignEvent), of each app all at first. A comment comes where there is nothing else for ten seconds. Who reads too " +
				"slowly misses events fleet, and is dropped after ten seconds without reading.",
			scopes: []Scope{ScopeRead}, appless: true, handle: a.getEvents, query: query,
			out: reflect.TypeFor[string](), also: []reflect.Type{reflect.TypeFor[CampaignEvent]()}, status: http.StatusOK, media: contentTypeEvents,
		},
	}
}

// exampleFleet is an answer to GET /v1/fleet.
const exampleFleet = `{"at":"2026-11-24T09:00:00.101Z","workers":[{"name":"worker-1","version":"1.0.0","since":"2026-11-24T08:00:00Z","seen_at":"2026-11-24T08:59:59.6Z",` +
	`"in_flight":120,"apps":{"shop":{"connections":2,"connections_wanted":2,"in_flight":120,"accepted":123456,"rejected":12,"failed":3,"per_second":4100.5,"p50_ms":31,"p99_ms":88}}}],` +
	`"apps":{"shop":{"bundle_id":"com.example.shop","environment":"production",` +
	`"backlog":{"transactional":{"notifications":0,"messages":0,"oldest_ms":0,"enqueue_to_accept_p50_ms":33,"enqueue_to_accept_p99_ms":92},"bulk":{"notifications":120500,"messages":121,"oldest_ms":31500}},` +
	`"per_second":4100.5,"p50_ms":31,"p99_ms":88,"devices":{"active":1000000,"quarantined":12,"removed":3100},"removed_by_reason":{"Unregistered":3000,"replaced":100},` +
	`"fuses":[{"environment":"production","tripped":false}]}}}`

// gorushRoutes is the list of routes that are gorush's.
func (a *API) gorushRoutes() []route {
	fault := reflect.TypeFor[GorushError]()
	return []route{
		{
			method: http.MethodPost, path: "/api/push", id: "gorushPush",
			summary: "Hand in notifications as gorush takes them",
			detail: "What is wrong with one notification or device token concerns that alone, and is told in logs; if there is " +
				"nothing else, the answer is 400. They are in the queue once this is answered.",
			scopes: []Scope{ScopeSend}, appless: true, gorush: true, body: a.cfg.MaxBatchBytes, handle: a.postPush,
			query: []parameter{
				laneParameter(),
				{name: "app", about: "The app, where the topic does not tell.", of: reflect.TypeFor[string]()},
			},
			in: reflect.TypeFor[GorushPush](), out: reflect.TypeFor[GorushReply](), status: http.StatusOK, fail: gorushError, fault: fault,
			inExample:  `{"notifications":[{"tokens":["8f3a55d1c7e04b22"],"platform":1,"message":"Hello World iOS!"}]}`,
			outExample: `{"success":"ok","counts":1,"logs":[]}`,
		},
		{
			method: http.MethodGet, path: "/api/stat/app", id: "gorushStatus",
			summary: "Counts as gorush tells them",
			detail:  "Of the apps that the API key is for, since they have any.",
			scopes:  []Scope{ScopeSend, ScopeRead}, appless: true, gorush: true, handle: a.getStatApp,
			out: reflect.TypeFor[GorushStatus](), status: http.StatusOK, fail: gorushError, fault: fault,
		},
	}
}

// laneParameter is the lane in a URL's query.
func laneParameter() parameter {
	return parameter{
		name: "lane", about: "The queue class. Default transactional.", of: reflect.TypeFor[string](), enum: []string{job.Transactional.String(), job.Bulk.String()},
	}
}

// campaignRoutes is the list of routes of campaigns.
func (a *API) campaignRoutes() []route {
	const all = "/v1/apps/{app}/campaigns"
	const one = all + "/{id}"
	write := []Scope{ScopeCampaigns}
	read := []Scope{ScopeCampaigns, ScopeRead}
	summary := reflect.TypeFor[CampaignSummary]()
	return []route{
		{
			method: http.MethodPost, path: all, id: "createCampaign", audit: "campaign.create",
			summary: "Create a campaign",
			detail: "It is sent from its start_at on, or at once. The same definition again changes nothing: the answer is the " +
				"campaign that there is. Another one under an id that is used is refused.",
			scopes: write, body: campaign.MaxBytes, handle: a.postCampaign,
			in: reflect.TypeFor[CampaignDefinition](), out: reflect.TypeFor[CreatedCampaign](), status: http.StatusOK,
			fails: []int{409, 422, 507},
		},
		{
			method: http.MethodGet, path: all, id: "listCampaigns",
			summary: "The campaigns of an app",
			detail:  "The newest first, without definitions and counts.",
			scopes:  read, handle: a.getCampaigns,
			query: []parameter{
				{name: "limit", about: "How many at most, up to 1000. Default 100.", of: reflect.TypeFor[int]()},
				{name: "state", about: "Only those in this state.", of: reflect.TypeFor[string](), enum: campaignStates()},
			},
			out: reflect.TypeFor[CampaignList](), status: http.StatusOK,
			fails: []int{422},
		},
		{
			method: http.MethodGet, path: one, id: "getCampaign",
			summary: "A campaign, with its counts",
			detail:  "The counts are exact, and change while it runs. How fast it goes is measured between requests to the same process.",
			scopes:  read, handle: a.getCampaign,
			out: reflect.TypeFor[Campaign](), status: http.StatusOK,
		},
		{
			method: http.MethodPatch, path: one, id: "paceCampaign", audit: "campaign.pace",
			summary: "Change a campaign's rate",
			detail:  "Also while it runs.",
			scopes:  write, body: maxSingle, handle: a.patchCampaign,
			in: reflect.TypeFor[CampaignChange](), out: summary, status: http.StatusOK,
			fails: []int{409, 422},
		},
		{
			method: http.MethodPost, path: one + "/pause", id: "pauseCampaign", audit: "campaign.pause",
			summary: "Pause a campaign",
			detail:  "Within two seconds nothing of it is sent any more, until it is resumed. Pausing it again changes nothing.",
			scopes:  write, handle: a.pauseCampaign,
			out: summary, status: http.StatusOK, fails: []int{409},
		},
		{
			method: http.MethodPost, path: one + "/resume", id: "resumeCampaign", audit: "campaign.resume",
			summary: "Resume a paused campaign",
			detail:  "It goes on with exactly the rest. Resuming one that is not paused changes nothing.",
			scopes:  write, handle: a.resumeCampaign,
			out: summary, status: http.StatusOK, fails: []int{409},
		},
		{
			method: http.MethodPost, path: one + "/cancel", id: "cancelCampaign", audit: "campaign.cancel",
			summary: "Cancel a campaign",
			detail:  "For ever: within two seconds nothing of it is sent any more. Cancelling it again changes nothing.",
			scopes:  write, handle: a.cancelCampaign,
			out: summary, status: http.StatusOK, fails: []int{409},
		},
		{
			method: http.MethodDelete, path: one, id: "deleteCampaign", audit: "campaign.delete",
			summary: "Delete a campaign that has ended",
			detail: "One that is closed: it cannot be looked up any more. Campaigns go by themselves 30 days after their end. " +
				"The id stays used for 90 days.",
			scopes: write, handle: a.deleteCampaign,
			status: http.StatusNoContent, fails: []int{409},
		},
	}
}
