package api

import (
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

// What is said over HTTP. The OpenAPI document is made from these types; answers
// may gain members, so their schemas allow others.

// MaxBatch is how many devices one request registers at the most.
const MaxBatch = 1000

// Registration is the body of PUT /v1/apps/{app}/devices/{token}.
type Registration struct {
	User          string            `json:"user,omitempty" maxLength:"256" doc:"Your id of the user, at most 256 bytes. Left out: the device has none, as after a logout." example:"ada"`
	InstallID     string            `json:"install_id,omitempty" maxLength:"256" doc:"Your id of this installation of the app, at most 256 bytes. Another device token of the same kind and install is replaced by this one."`
	PreviousToken string            `json:"previous_token,omitempty" maxLength:"512" pattern:"^([0-9a-fA-F]{2})+$" doc:"The device token that this one replaces, in hexadecimal."`
	Environment   string            `json:"environment,omitempty" enum:"production,sandbox" doc:"The APNs environment of the device token. Left out: the app's."`
	Kind          string            `json:"kind,omitempty" doc:"What the device token is for. Left out: alert."`
	Locale        string            `json:"locale,omitempty" maxLength:"64" doc:"BCP 47." example:"de-AT"`
	Timezone      string            `json:"timezone,omitempty" maxLength:"64" doc:"A time zone of the IANA database." example:"Europe/Vienna"`
	AppVersion    string            `json:"app_version,omitempty" maxLength:"64" doc:"Version of the app." example:"4.2.0"`
	Tags          []string          `json:"tags,omitempty" nullable:"false" maxItems:"100" doc:"At most 100, each of 1 to 128 bytes."`
	Attributes    map[string]string `json:"attributes,omitempty" doc:"At most 64: names of 1 to 128 bytes, texts of at most 512."`
}

// BatchRegistration is one device of a [Batch].
type BatchRegistration struct {
	Token string `json:"token" minLength:"2" maxLength:"512" pattern:"^([0-9a-fA-F]{2})+$" doc:"The device token, in hexadecimal."`
	Registration
}

// Batch is the body of POST /v1/apps/{app}/devices.
type Batch struct {
	Devices []BatchRegistration `json:"devices" nullable:"false" minItems:"1" maxItems:"1000" doc:"The devices. Those that concern the same device token or install take effect in this order."`
}

// Registered is what became of a registration.
type Registered struct {
	_ struct{} `additionalProperties:"true"`

	Generation   uint32    `json:"generation" doc:"Counts the registrations of this device token."`
	RegisteredAt time.Time `json:"registered_at" doc:"When, by the token set's clock."`
	Created      bool      `json:"created" doc:"The device token was not known before, or was removed."`
	Replaced     int       `json:"replaced" doc:"How many older device tokens were removed in favour of this one by this request."`
	Superseded   bool      `json:"superseded,omitempty" doc:"This device token was removed at once: another one of the same install was registered at the same moment."`
}

func registered(r store.Registered) Registered {
	return Registered{
		Generation: r.Generation, RegisteredAt: time.UnixMilli(r.RegisteredAt).UTC(),
		Created: r.New, Replaced: r.Replaced, Superseded: r.Superseded,
	}
}

// BatchResult is what became of a [Batch].
type BatchResult struct {
	_ struct{} `additionalProperties:"true"`

	Registered int          `json:"registered" doc:"How many devices were registered."`
	Failed     int          `json:"failed" doc:"How many were not."`
	Results    []ItemResult `json:"results" nullable:"false" doc:"One for each device, in their order."`
}

// ItemResult is what became of one device of a [Batch].
type ItemResult struct {
	_ struct{} `additionalProperties:"true"`

	Status int         `json:"status" doc:"As if it had been a request of its own: 200, 409 (too many devices), 422 (invalid), 500, or 503 (repeat it later)."`
	Device *Registered `json:"device,omitempty" doc:"With status 200."`
	Code   string      `json:"code,omitempty" doc:"With other statuses: as in a problem document."`
	Detail string      `json:"detail,omitempty" doc:"With other statuses: what went wrong, for people."`
	Errors []Fault     `json:"errors,omitempty" nullable:"false" doc:"Everything that is wrong with it, at most 10."`
}

// Device is a device as the token set knows it.
type Device device.Description

func deviceOf(d device.Device) Device { return Device(device.Describe(d)) }

// Devices is a list of devices.
type Devices struct {
	_ struct{} `additionalProperties:"true"`

	Devices []Device `json:"devices" nullable:"false" doc:"The devices, in no order."`
}
