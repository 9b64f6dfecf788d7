package api

import (
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pushfleet/pushfleet/device"
)

const keyScheme = "apiKey"

// document makes the OpenAPI 3.1 document from the list of routes and the Go
// types that they name.
func document(routes []route, version string) ([]byte, error) {
	reg := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	problem := reg.Schema(reflect.TypeFor[Problem](), true, "")
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "pushfleet", Version: version,
			Description: "Every mistake is answered with a problem document (RFC 9457) that lists everything that is wrong. " +
				"Members that are not known are refused. All requests may be repeated.",
			License: &huma.License{Name: "Apache 2.0", Identifier: "Apache-2.0"},
		},
		Components: &huma.Components{
			Schemas: reg,
			SecuritySchemes: map[string]*huma.SecurityScheme{keyScheme: {
				Type: "http", Scheme: "bearer", Description: "An API key, pf_<id>_<secret>, made by `pushfleet key create`.",
			}},
		},
		Paths:    make(map[string]*huma.PathItem),
		Servers:  []*huma.Server{{URL: "/", Description: "Where this document was read."}},
		Security: []map[string][]string{{keyScheme: {}}},
	}
	for i := range routes {
		doc.AddOperation(operation(&routes[i], reg, problem))
	}
	// The only list of words that is kept elsewhere.
	for _, name := range []string{"Registration", "BatchRegistration"} {
		if s := reg.Map()[name]; s != nil {
			for _, kind := range device.KindNames() {
				s.Properties["kind"].Enum = append(s.Properties["kind"].Enum, kind)
			}
		}
	}
	return json.MarshalIndent(doc, "", "  ")
}

func operation(rt *route, reg huma.Registry, problem *huma.Schema) *huma.Operation {
	op := &huma.Operation{
		OperationID: rt.id, Method: rt.method, Path: rt.path, Summary: rt.summary, Description: rt.detail,
		Responses: make(map[string]*huma.Response),
	}
	requestID := map[string]*huma.Param{headerRequestID: {
		Description: "Names the request in the logs: the caller's own, or a new one.", Schema: &huma.Schema{Type: huma.TypeString},
	}}
	ok := &huma.Response{Description: http.StatusText(rt.status), Headers: requestID}
	switch {
	case rt.out != nil:
		ok.Content = map[string]*huma.MediaType{cmp.Or(rt.media, contentType): {Schema: reg.Schema(rt.out, true, ""), Example: example(rt.outExample)}}
	case rt.status == http.StatusOK:
		ok.Content = map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: huma.TypeObject}}}
	}
	op.Responses[strconv.Itoa(rt.status)] = ok
	for _, t := range rt.also {
		reg.Schema(t, true, "")
	}
	op.Parameters = pathParameters(rt)
	op.Parameters = append(op.Parameters, parameters("query", rt.query, reg)...)
	op.Parameters = append(op.Parameters, parameters("header", rt.header, reg)...)

	fails := slices.Clone(rt.fails)
	if rt.body > 0 {
		op.RequestBody = &huma.RequestBody{
			Required: rt.method != http.MethodPut, // a device may have nothing but its token
			Content:  map[string]*huma.MediaType{contentType: {Schema: reg.Schema(rt.in, true, ""), Example: example(rt.inExample)}},
		}
		fails = append(fails, 400, 413, 415)
	}
	if len(rt.scopes) > 0 {
		op.Description += " Needs the scope " + orScopes(rt.scopes) + "."
		if rt.allApps {
			op.Description += " The API key must be for all apps."
		}
		fails = append(fails, 401, 403, 404, 429, 500, 503)
	} else {
		op.Security = []map[string][]string{{}}
	}
	failing := map[string]*huma.MediaType{contentTypeProblem: {Schema: problem}}
	if rt.fault != nil {
		failing = map[string]*huma.MediaType{contentType: {Schema: reg.Schema(rt.fault, true, "")}}
	}
	for _, status := range fails {
		res := &huma.Response{Description: http.StatusText(status), Headers: requestID, Content: failing}
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			res.Headers = map[string]*huma.Param{
				headerRequestID: requestID[headerRequestID],
				"Retry-After":   {Description: "Seconds.", Schema: &huma.Schema{Type: huma.TypeInteger}},
			}
		}
		op.Responses[strconv.Itoa(status)] = res
	}
	return op
}

// example is one of a body; nil if there is none.
func example(text string) any {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// parameters are those that stand somewhere else than in the path.
func parameters(in string, list []parameter, reg huma.Registry) []*huma.Param {
	var params []*huma.Param
	for _, q := range list {
		s := reg.Schema(q.of, true, "")
		for _, word := range q.enum {
			s.Enum = append(s.Enum, word)
		}
		params = append(params, &huma.Param{Name: q.name, In: in, Description: q.about, Schema: s})
	}
	return params
}

// pathParameters are those in the braces of a path.
func pathParameters(rt *route) []*huma.Param {
	about := map[string]string{
		"app":   "Name of the app, as configured.",
		"token": "The device token, in hexadecimal.",
		"user":  "Your id of the user.",
		"id":    cmp.Or(rt.pathID, "The campaign's id."),

		"sequence":    "The dead letter's number.",
		"environment": "The APNs environment: production or sandbox.",
	}
	var params []*huma.Param
	for part := range strings.SplitSeq(rt.path, "/") {
		name, ok := strings.CutPrefix(part, "{")
		if !ok {
			continue
		}
		name = strings.TrimSuffix(name, "}")
		s := &huma.Schema{Type: huma.TypeString}
		switch name {
		case "sequence":
			s.Type = huma.TypeInteger
		case "token":
			s.Pattern = "^([0-9a-fA-F]{2}){1,256}$"
		}
		params = append(params, &huma.Param{Name: name, In: "path", Required: true, Description: about[name], Schema: s})
	}
	return params
}
