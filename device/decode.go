package device

import (
	"strings"

	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// RegistrationMembers are the members of a registration as JSON, with the device
// token or without: over HTTP, on push.devices, and in files of devices. Reading
// checks all that [Registration.Validate] does, but that the environment is said,
// and that the time zone is one that z knows.
func RegistrationMembers(z *Zones, withToken bool) strictjson.Object[Registration] {
	word := func(at func(*Registration) *string) func(*strictjson.Decoder, *Registration) {
		return func(d *strictjson.Decoder, r *Registration) { *at(r), _ = strictjson.ReadText(d, MaxWordBytes) }
	}
	members := strictjson.Object[Registration]{
		{Name: "user", Read: func(d *strictjson.Decoder, r *Registration) {
			r.User, _ = strictjson.ReadText(d, MaxIDBytes)
		}},
		{Name: "install_id", Read: func(d *strictjson.Decoder, r *Registration) {
			r.InstallID, _ = strictjson.ReadText(d, MaxIDBytes)
		}},
		{Name: "previous_token", Read: func(d *strictjson.Decoder, r *Registration) {
			r.PreviousToken = readToken(d)
		}},
		{Name: "environment", Read: func(d *strictjson.Decoder, r *Registration) {
			s, ok := d.Text()
			if !ok {
				return
			}
			var err error
			if r.Environment, err = ParseEnvironment(s); err != nil || s == "" {
				d.Add("must be production or sandbox")
			}
		}},
		{Name: "kind", Read: func(d *strictjson.Decoder, r *Registration) {
			s, ok := d.Text()
			if !ok {
				return
			}
			var err error
			if r.Kind, err = ParseKind(s); err != nil || s == "" {
				d.Add("must be one of %s", strings.Join(KindNames(), ", "))
			}
		}},
		{Name: "locale", Read: word(func(r *Registration) *string { return &r.Locale })},
		{Name: "timezone", Read: func(d *strictjson.Decoder, r *Registration) {
			s, ok := strictjson.ReadText(d, MaxWordBytes)
			if ok && s != "" && !z.Known(s) {
				d.Add("must be a time zone of the IANA database, such as Europe/Vienna")
			}
			r.Timezone = s
		}},
		{Name: "app_version", Read: word(func(r *Registration) *string { return &r.AppVersion })},
		{Name: "tags", Read: readTags},
		{Name: "attributes", Read: readAttributes},
	}
	if withToken {
		token := strictjson.Member[Registration]{Name: "token", Required: true, Read: func(d *strictjson.Decoder, r *Registration) {
			r.Token = readToken(d)
		}}
		members = append(strictjson.Object[Registration]{token}, members...)
	}
	return members
}

// readToken reads a device token. What is wrong with it is said without it.
func readToken(d *strictjson.Decoder) Token {
	s, ok := d.Text()
	if !ok {
		return Token{}
	}
	t, err := ParseToken(s)
	if err != nil {
		d.Add("%v", err)
	}
	return t
}

func readTags(d *strictjson.Decoder, r *Registration) {
	n, ok := strictjson.ReadList(d, MaxTags, func() {
		tag, ok := strictjson.ReadText(d, MaxTagBytes)
		if ok && tag == "" {
			d.Add("must not be empty")
		}
		r.Tags = append(r.Tags, tag)
	})
	if ok && n > MaxTags {
		d.Add("must be at most %d, got %d", MaxTags, n)
	}
}

func readAttributes(d *strictjson.Decoder, r *Registration) {
	if !d.Open('{', "an object") {
		return
	}
	n := 0
	for ; !d.Closed('}'); n++ {
		v, ok := d.Value()
		if !ok {
			return
		}
		if n >= MaxAttributes {
			d.Value() // counted, not looked at
			continue
		}
		name := strictjson.Unquote(v)
		shown, ok := strictjson.Shown([]byte(name))
		if !ok {
			shown = "*" // it may be anything
		}
		d.Enter(shown)
		value, ok := strictjson.ReadText(d, MaxAttributeBytes)
		_, twice := r.Attributes[name]
		switch {
		case !ok:
		case name == "":
			d.Add("must not have an empty name")
		case len(name) > MaxTagBytes:
			d.Add("its name must be at most %d bytes, got %d", MaxTagBytes, len(name))
		case twice:
			d.Add("is given twice")
		}
		d.Leave()
		if r.Attributes == nil {
			r.Attributes = make(map[string]string)
		}
		r.Attributes[name] = value
	}
	if n > MaxAttributes {
		d.Add("must be at most %d, got %d", MaxAttributes, n)
	}
}
