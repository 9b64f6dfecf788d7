package api

import (
	"maps"
	"net/http"
	"slices"

	"github.com/pushfleet/pushfleet/store"
)

// OwnApp is an app that an API key is for.
type OwnApp struct {
	_ struct{} `additionalProperties:"true"`

	Name        string   `json:"name" doc:"The app, as configured." example:"shop"`
	BundleID    string   `json:"bundle_id,omitempty" doc:"Its bundle id."`
	Environment string   `json:"environment" enum:"production,sandbox" doc:"The APNs environment of registrations and device tokens that do not say."`
	Scopes      []string `json:"scopes" nullable:"false" doc:"What the API key may do there. admin means all."`
}

// OwnApps is the apps that an API key is for.
type OwnApps struct {
	_ struct{} `additionalProperties:"true"`

	Apps    []OwnApp `json:"apps" nullable:"false" doc:"By name."`
	AllApps bool     `json:"all_apps" doc:"The API key is for all apps, also those that are configured later."`
}

func (a *API) getApps(c *call) (int, any, *Problem) {
	out := OwnApps{Apps: []OwnApp{}, AllApps: c.key.AllApps}
	for _, name := range slices.Sorted(maps.Keys(c.live.Apps)) {
		if app := c.live.Apps[name]; c.mine(name) {
			out.Apps = append(out.Apps, OwnApp{Name: name, BundleID: app.BundleID, Environment: app.Environment.String(), Scopes: scopesOf(c.key)})
		}
	}
	return http.StatusOK, out, nil
}

func scopesOf(k *store.APIKey) []string { return slices.Concat([]string{}, k.Scopes) }
