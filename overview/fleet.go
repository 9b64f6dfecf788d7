package overview

import "time"

// Fleet is what a fleet does at a moment.
type Fleet struct {
	_ struct{} `additionalProperties:"true"`

	At      time.Time           `json:"at" doc:"The moment."`
	Workers []FleetWorker       `json:"workers" nullable:"false" doc:"The workers that are alive, by name."`
	Apps    map[string]FleetApp `json:"apps" doc:"By the app's name."`
	Unknown []string            `json:"unknown,omitempty" nullable:"false" doc:"What cannot be told now, and why: JetStream or Redis do not answer. The rest is as told."`
}

// FleetWorker is one worker.
type FleetWorker struct {
	_ struct{} `additionalProperties:"true"`

	Name     string                    `json:"name" doc:"As configured, or the host's."`
	Version  string                    `json:"version" doc:"Of pushfleet."`
	Since    *time.Time                `json:"since,omitempty" doc:"When it was started."`
	SeenAt   *time.Time                `json:"seen_at,omitempty" doc:"When it was heard last. Absent: not yet."`
	InFlight int                       `json:"in_flight" doc:"Notifications that wait for APNs's answer."`
	Problem  string                    `json:"problem,omitempty" doc:"Why it sends nothing at all, or is not heard. What it told last does not count for the apps then."`
	Apps     map[string]FleetWorkerApp `json:"apps" doc:"By the app's name."`
}

// FleetWorkerApp is what one worker does for one app.
type FleetWorkerApp struct {
	_ struct{} `additionalProperties:"true"`

	Connections int      `json:"connections" doc:"To APNs that take notifications."`
	Wanted      int      `json:"connections_wanted" doc:"That there are to be. 0: nothing was sent yet."`
	InFlight    int      `json:"in_flight" doc:"Notifications that wait for APNs's answer."`
	Accepted    int64    `json:"accepted" doc:"Since the worker was started."`
	Rejected    int64    `json:"rejected" doc:"The same."`
	Failed      int64    `json:"failed" doc:"The same: without an answer, or APNs failed."`
	PerSecond   float64  `json:"per_second" doc:"Settled by APNs or given up, over the last 5 seconds."`
	P50         *float64 `json:"p50_ms,omitempty" doc:"Half of APNs's answers of the last 5 seconds took no longer. Absent: there were none."`
	P99         *float64 `json:"p99_ms,omitempty" doc:"99 in 100 of them took no longer."`
	Held        string   `json:"retry_or_held,omitempty" doc:"Why something is not sent, if so: reasons, with a semicolon between them."`
}

// FleetApp is what the fleet does for one app.
type FleetApp struct {
	_ struct{} `additionalProperties:"true"`

	BundleID        string               `json:"bundle_id,omitempty" doc:"As configured."`
	Environment     string               `json:"environment,omitempty" doc:"production or sandbox: of registrations that do not say."`
	Backlog         map[string]FleetLane `json:"backlog,omitempty" doc:"What waits, by lane. Absent: it is not known."`
	PerSecond       float64              `json:"per_second" doc:"Settled by APNs or given up, over the last 5 seconds, by all workers."`
	P50             *float64             `json:"p50_ms,omitempty" doc:"Half of APNs's answers of the last 5 seconds took no longer, over all workers."`
	P99             *float64             `json:"p99_ms,omitempty" doc:"99 in 100 of them took no longer."`
	Devices         *FleetDevices        `json:"devices,omitempty" doc:"Absent: they are not counted yet, or cannot be."`
	RemovedByReason map[string]int64     `json:"removed_by_reason,omitempty" doc:"Device tokens that are remembered as removed, for 30 days, by reason."`
	Fuses           []FleetFuse          `json:"fuses" nullable:"false" doc:"Those that have tripped before, and that of the app's environment."`
}

// FleetLane is what waits in a lane.
type FleetLane struct {
	_ struct{} `additionalProperties:"true"`

	Notifications int64    `json:"notifications" doc:"About how many: messages times what messages of late were for. Those of running campaigns too."`
	Messages      int64    `json:"messages" doc:"Jobs, and ranges of running campaigns, that are not settled: those that wait for their time or their next try too."`
	OldestMS      int64    `json:"oldest_ms" doc:"Milliseconds since the oldest of the jobs was stored. 0: there is none."`
	AcceptP50     *float64 `json:"enqueue_to_accept_p50_ms,omitempty" doc:"Half of what was accepted in the last 5 seconds took no longer from being stored in the queue. For a campaign, from its range being stored."`
	AcceptP99     *float64 `json:"enqueue_to_accept_p99_ms,omitempty" doc:"99 in 100 of them took no longer."`
}

// FleetDevices is how many device tokens an app has.
type FleetDevices struct {
	_ struct{} `additionalProperties:"true"`

	Active      int64 `json:"active" doc:"That are sent to."`
	Quarantined int64 `json:"quarantined" doc:"That APNs called wrong, and that are not sent to."`
	Removed     int64 `json:"removed" doc:"That are remembered as removed, for 30 days."`
	Estimated   bool  `json:"estimated,omitempty" doc:"Estimated from a sample of some 50,000; else counted."`
}

// FleetFuse is the fuse of an app and environment.
type FleetFuse struct {
	_ struct{} `additionalProperties:"true"`

	Environment string     `json:"environment" doc:"production or sandbox."`
	Tripped     bool       `json:"tripped" doc:"While it is nothing is sent there."`
	TrippedAt   *time.Time `json:"tripped_at,omitempty" doc:"When it tripped last."`
	TrippedBy   string     `json:"tripped_by,omitempty" doc:"The worker that saw it."`
	Rejected    int        `json:"rejected,omitempty" doc:"Of sent: why it tripped."`
	Sent        int        `json:"sent,omitempty" doc:"In the time before it tripped."`
	Undone      bool       `json:"undone,omitempty" doc:"What was removed because of it is put back."`
	ResetAt     *time.Time `json:"reset_at,omitempty" doc:"When it was reset last."`
	ResetBy     string     `json:"reset_by,omitempty" doc:"By whom."`
}
