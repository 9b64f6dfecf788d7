package api

import (
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"
)

// GorushPush is the body of POST /api/push: gorush's.
type GorushPush json.RawMessage

// Schema implements [huma.SchemaProvider] with the table that bodies are read by.
func (*GorushPush) Schema(huma.Registry) *huma.Schema {
	var s huma.Schema
	if err := json.Unmarshal([]byte("{"+gorushRequestSchema()+"}"), &s.Extensions); err != nil {
		panic("api: the schema of gorush's requests is not JSON: " + err.Error())
	}
	return &s
}

// GorushReply is gorush's answer to POST /api/push.
type GorushReply struct {
	_ struct{} `additionalProperties:"true"`

	Success string      `json:"success" enum:"ok" doc:"Always ok."`
	Counts  int         `json:"counts" doc:"How many device tokens are in the queue."`
	Logs    []GorushLog `json:"logs" nullable:"false" doc:"What is not, and why, at most 1000."`
}

// GorushLog is one notification to one device token that was refused.
type GorushLog struct {
	_ struct{} `additionalProperties:"true"`

	ID       string `json:"notif_id,omitempty" doc:"The notification's."`
	Type     string `json:"type" enum:"failed-push" doc:"Always failed-push."`
	Platform string `json:"platform" doc:"ios, android or huawei; empty for others."`
	Token    string `json:"token" doc:"The first six characters of the device token; empty where it is none."`
	Message  string `json:"message" doc:"The notification's, at most 256 bytes of it."`
	Error    string `json:"error" doc:"What is wrong."`
}

// GorushError is gorush's answer to a request that was not carried out.
type GorushError struct {
	_ struct{} `additionalProperties:"true"`

	Code    int    `json:"code" doc:"The HTTP status."`
	Message string `json:"message" doc:"What is wrong."`
}

// GorushStatus is gorush's answer to GET /api/stat/app, of the apps that the API key
// is for.
type GorushStatus struct {
	_ struct{} `additionalProperties:"true"`

	Version    string       `json:"version" doc:"pushfleet's."`
	QueueMax   uint64       `json:"queue_max" doc:"About how many jobs the queue can hold, of the size of those in it."`
	QueueUsage uint64       `json:"queue_usage" doc:"How many jobs wait in the queue."`
	TotalCount int64        `json:"total_count" doc:"Device tokens that this process has taken by POST /api/push since it started."`
	IOS        GorushCounts `json:"ios" doc:"What became of all notifications, campaigns' too, since the living workers started; up to ten seconds old."`
	Android    GorushCounts `json:"android" doc:"Always 0."`
	Huawei     GorushCounts `json:"huawei" doc:"Always 0."`
}

// GorushCounts are those of one platform.
type GorushCounts struct {
	_ struct{} `additionalProperties:"true"`

	PushSuccess int64 `json:"push_success" doc:"Accepted by APNs."`
	PushError   int64 `json:"push_error" doc:"Rejected by APNs, or given up."`
}
