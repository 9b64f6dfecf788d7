package roster_test

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/roster"
)

// recipients reads a whole file of recipients.
func recipients(t *testing.T, src io.Reader, variables ...string) (list []roster.Recipient) {
	t.Helper()
	r, err := roster.NewRecipients(src, variables)
	if err != nil {
		t.Fatalf("NewRecipients: %v", err)
	}
	for {
		var line roster.Recipient
		err := r.Next(&line)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		list = append(list, line)
	}
}

// A file says the same as CSV and as lines of JSON.
func TestRecipients(t *testing.T) {
	t.Parallel()
	want := []campaign.Recipient{
		{Token: hexOf("a"), Variables: map[string]string{"name": "Ada", "order": "4711, \"gift\""}},
		{User: "u-1 ", Variables: map[string]string{"name": "Zoë"}},
		{User: "u-2"},
	}
	for name, text := range map[string]string{
		"csv":            "user,order,token,name\n,\"4711, \"\"gift\"\"\", " + hexOf("A") + " ,Ada\nu-1 ,,,Zoë\n\nu-2,,,",
		"csv of windows": "\xef\xbb\xbfname,order,token,user\r\nAda,\"4711, \"\"gift\"\"\"," + hexOf("a") + ",\r\nZoë,,,u-1 \r\n,,,u-2\r\n",
		"ndjson": `{"token":"<` + hexOf("a") + `>","variables":{"name":"Ada","order":"4711, \"gift\""}}` + "\n" +
			`{"variables":{"name":"Zo\u00eb","order":""},"user":"u-1 "}` + "\n\n" + `{"user":"u-2","variables":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []campaign.Recipient
			for _, line := range recipients(t, strings.NewReader(text), "name", "order") {
				if line.Err != nil {
					t.Errorf("line %d: %v", line.Number, line.Err)
				}
				got = append(got, line.Recipient)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// What is wrong with a line is said with its number, and the rest is read.
func TestRecipientsTellBadLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 40_000)
	for name, file := range map[string]struct {
		text string
		want []string
	}{
		"csv": {
			"token,user,name\n" + hexOf("a") + ",,Ada\nxyz,,\n" + hexOf("a") + ",ada,\n,,Ada\n,ada\n,\"a\nb\",x\n,\xff,\n,ada,\"x\n," + strings.Repeat("u", 257) + ",\n,u," + long + "\n",
			[]string{
				"2: ", "3: token: device token has an odd number of hex digits", "4: has both token and user", "5: has neither token nor user",
				"6: has 2 fields where the header has 3", "7: ", "9: is not UTF-8", "10: has a quote that is not closed",
				"11: user: is 257 bytes long, at most 256 are allowed", "12: variables: are 40000 bytes long together, at most 32768 are allowed",
			},
		},
		"ndjson": {
			`{"user":"ada","variables":{"name":"Ada"}}` + "\n" + `{"user":"ada","variables":{"z":"1","nick":"Ada"}}` + "\n" +
				`{"user":"ada","name":"Ada"}` + "\n" + `{"user":"ada","variables":{"name":7}}` + "\n" + `{"user":` + "\n" + `{"token":"abcd"}` + "\n",
			[]string{
				"1: ", "2: variables: nick is no variable of the campaign", "3: name: is no known member",
				"4: variables.name: is not what belongs there", "5: is not JSON, from byte 8 on", "6: token: device token has fewer than 32 bytes: it may be cut off",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, line := range recipients(t, strings.NewReader(file.text), "name") {
				text := ""
				if line.Err != nil {
					text = line.Err.Error()
				}
				if empty := reflect.DeepEqual(line.Recipient, campaign.Recipient{}); empty != (line.Err != nil) {
					t.Errorf("line %d: got recipient %+v with error %v", line.Number, line.Recipient, line.Err)
				}
				got = append(got, fmt.Sprintf("%d: %s", line.Number, text))
			}
			if !reflect.DeepEqual(got, file.want) {
				t.Errorf("got  %q\nwant %q", got, file.want)
			}
		})
	}
}

func TestRecipientsNeedAHeader(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                           "the file is empty",
		"name\nAda\n":                "needs a header with the column token, or user",
		"user\nada\n":                `the variable "name" of the campaign has no column`,
		"user,name,order\nada,A,1\n": `column "order" is no variable of the campaign`,
		"user,name,user\n":           `names column "user" twice`,
		"[{}]":                       "one JSON array",
		"\xff\xfeu\x00":              "UTF-16",
		"user,\"name\n":              "quote",
	} {
		_, err := roster.NewRecipients(strings.NewReader(text), []string{"name"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", text, err, want)
		}
	}
}

func FuzzRecipients(f *testing.F) {
	f.Add("token,user,name\n" + hexOf("a") + ",,Ada\n,ada,\"x\n\"\"y\"\n\"")
	f.Add(`{"user":"ada","variables":{"name":"Ada"}}` + "\n{")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := roster.NewRecipients(strings.NewReader(text), []string{"name"})
		if err != nil {
			return
		}
		last := int64(0)
		for range strings.Count(text, "\n") + 2 {
			var line roster.Recipient
			if err := r.Next(&line); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatalf("got %v, want %v", err, io.EOF)
				}
				return
			}
			if line.Number <= last {
				t.Fatalf("line %d after line %d", line.Number, last)
			}
			last = line.Number
			if one := (line.Token == "") != (line.User == ""); one != (line.Err == nil) {
				t.Fatalf("line %d: got %+v with error %v", line.Number, line.Recipient, line.Err)
			}
		}
		t.Fatal("got more recipients than lines")
	})
}
