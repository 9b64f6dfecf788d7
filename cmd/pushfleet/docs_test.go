package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/overview"
)

// block is what stands between two fences in a page.
type block struct {
	page     string
	line     int // of its first line
	language string
	text     string
}

func (b *block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// blocks reads the blocks of pages.
func blocks(t *testing.T, pages ...string) (list []block) {
	t.Helper()
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join("..", "..", page))
		if err != nil {
			t.Fatal(err)
		}
		open := false
		for i, line := range strings.Split(string(text), "\n") {
			language, fence := strings.CutPrefix(line, "```")
			switch {
			case fence && !open:
				list = append(list, block{page: page, line: i + 2, language: language})
				open = true
			case fence:
				open = false
			case open:
				list[len(list)-1].text += line + "\n"
			}
		}
	}
	if len(list) == 0 {
		t.Fatal("the pages have no blocks")
	}
	return list
}

// cut is a device token or a key that a page does not write out.
var cut = regexp.MustCompile(`[0-9a-f]{4,}…`)

// whole writes them out.
func whole(text string) []byte {
	return []byte(cut.ReplaceAllStringFunc(text, func(s string) string {
		return strings.Repeat(strings.TrimSuffix(s, "…"), 64)[:64]
	}))
}

// The JSON in the pages is what the parsers take.
func TestDocsJSON(t *testing.T) {
	t.Parallel()
	checked := make(map[string]int)
	for _, b := range blocks(t, "docs/campaigns.md", "docs/jobs.md", "docs/api.md", "docs/webhooks.md") {
		if b.language != "json" {
			continue
		}
		kind, err := checkJSON(b.text)
		if err != nil {
			t.Errorf("%s: %s: %v", &b, kind, err)
		}
		checked[kind]++
	}
	for kind, least := range map[string]int{"campaign": 1, "part of a campaign": 3, "job": 1, "outcomes": 1, "webhook": 1, "device change": 1} {
		if checked[kind] < least {
			t.Errorf("got %d examples of %s, want %d: the pages have changed", checked[kind], kind, least)
		}
	}
}

// checkJSON tells what an example is by its members, and parses it.
func checkJSON(text string) (kind string, err error) {
	data := whole(text)
	if !strings.HasPrefix(text, "{") {
		return "part of a campaign", checkPart(data)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return "an object", err
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return members[name] != nil })
	}
	switch {
	case has("audience", "recipients"):
		return "campaign", checkCampaign(data)
	case has("jobs"):
		_, err = job.ParseOutcomes(data)
		return "outcomes", err
	case has("events"):
		_, err = job.ParseWebhook(data)
		return "webhook", err
	case has("action"):
		_, err = feedback.ParseDeviceChange(data)
		return "device change", err
	case has("to"):
		_, err = job.Parse(data)
		return "job", err
	}
	return "an object", errors.New("nobody knows what it is an example of")
}

func checkCampaign(data []byte) error {
	c, err := campaign.Parse(data)
	if err != nil {
		return err
	}
	_, err = c.Compile(campaign.Options{Start: time.Now()})
	return err
}

// checkPart checks members of a campaign, with others that make it whole.
func checkPart(part []byte) error {
	text := "{" + string(part) + "}"
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		return err
	}
	for name, value := range map[string]string{"id": `"x"`, "notification": `{"title":"t"}`, "audience": `{"all":true}`} {
		if members[name] == nil && (name != "audience" || members["recipients"] == nil) {
			members[name] = json.RawMessage(value)
		}
	}
	data, err := json.Marshal(members)
	if err != nil {
		return err
	}
	return checkCampaign(data)
}

// curl is a request in a page, and what is answered after an empty line.
var (
	curl    = regexp.MustCompile(`(?s)^curl -X (\w+) (\S+).*?-d '(.*?)'\n(?:\n(\{.*))?$`)
	curlGet = regexp.MustCompile(`(?s)^curl -X (GET) (\S+)()[^\n]*(?:\\\n[^\n]*)*\n\n(\{.*)$`)
)

// What is sent to the API in its page is what it takes, and what it answers.
func TestDocsRequests(t *testing.T) {
	t.Parallel()
	requests := 0
	for _, b := range blocks(t, "docs/api.md") {
		data := whole(b.text)
		if strings.HasPrefix(b.text, "{") {
			if err := strict(data, new(api.Problem)); err != nil {
				t.Errorf("%s: problem: %v", &b, err)
			}
			continue
		}
		if !strings.HasPrefix(b.text, "curl ") {
			continue
		}
		m := curl.FindStringSubmatch(string(data))
		if m == nil {
			m = curlGet.FindStringSubmatch(string(data))
		}
		if m == nil {
			t.Errorf("%s: it is not curl -X METHOD URL … -d 'BODY', nor curl -X GET URL … with an answer", &b)
			continue
		}
		requests++
		method, url, body, answer := m[1], m[2], []byte(m[3]), []byte(m[4])
		var err error
		var into any = new(map[string]any)
		switch {
		case method == "PUT" && strings.Contains(url, "/devices/"):
			err, into = checkRegistration(body), new(api.Registered)
		case method == "POST" && strings.HasSuffix(url, "/campaigns"):
			err, into = checkCampaign(body), new(api.CreatedCampaign)
		case method == "POST" && strings.HasSuffix(url, "/notifications"):
			_, err = job.Parse(body)
			into = new(api.HandedIn)
		case method == "POST" && strings.HasSuffix(url, "/dead-letters/redrive"):
			err, into = strict(body, new(api.DeadLetterChoice)), new(api.DeadLetterResult)
		case method == "GET" && strings.HasSuffix(url, "/v1/fleet"):
			into = new(overview.Fleet)
		case method == "GET" && strings.Contains(url, "/notifications/"):
			into = new(api.Notification)
		case !json.Valid(body):
			err = errors.New("is not JSON")
		}
		if err != nil {
			t.Errorf("%s: body: %v", &b, err)
		}
		if len(answer) == 0 {
			continue
		}
		if err := strict(answer, into); err != nil {
			t.Errorf("%s: answer: %v", &b, err)
		}
	}
	if requests < 4 {
		t.Errorf("got %d requests, want those to register, to send and ask, and to create a campaign", requests)
	}
}

// strict reads JSON of which every member must be known.
func strict(data []byte, into any) error {
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func checkRegistration(body []byte) error {
	d := strictjson.New(body)
	var zones device.Zones
	var r device.Registration
	device.RegistrationMembers(&zones, false).Read(d, &r)
	d.End()
	if list, _ := d.List(); len(list) > 0 {
		return errors.New(list[0].String())
	}
	return nil
}

// The commands in the pages, and in the help of the commands, exist, and so do their
// flags.
func TestDocsCommands(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for i := range pages {
		pages[i] = filepath.Join("docs", filepath.Base(pages[i]))
	}
	n := 0
	check := func(where, line string) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "pushfleet ") || strings.Contains(line, "[--") { // a synopsis
			return
		}
		n++
		if err := checkCommand(line); err != nil {
			t.Errorf("%s: %s: %v", where, line, err)
		}
	}
	for _, b := range blocks(t, append(pages, "README.md")...) {
		for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", " ")) {
			check(b.String(), line)
		}
	}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for line := range strings.Lines(strings.ReplaceAll(cmd.Example, "\\\n", " ")) {
			check("help of "+cmd.CommandPath(), line)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	if n < 50 {
		t.Errorf("got %d commands, want all of the pages and of the help", n)
	}
}

// words are those of a command line, as far as our pages quote.
var words = regexp.MustCompile(`"[^"]*"|'[^']*'|[^\s"']+`)

func checkCommand(line string) error {
	line, _, _ = strings.Cut(line, " #")
	line, _, _ = strings.Cut(line, " > ")
	line, _, _ = strings.Cut(line, " | ")
	line, _, _ = strings.Cut(line, " || ")
	var args []string
	for _, word := range words.FindAllString(line, -1)[1:] {
		args = append(args, strings.Trim(word, `"'`))
	}
	cmd, rest, err := newRoot().Find(args)
	if err != nil {
		return err
	}
	if !cmd.Runnable() {
		return errors.New("it is a group of commands")
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	return cmd.ValidateRequiredFlags()
}

// What is wrong with an example is found.
func TestDocsMistakes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"id":"x","audience":{"all":true}}`, `"audience": {"tags": {"some": ["a"]}}`, `{"to":{"tokens":["8f3a…"]}}`, `{"action":"regster","token":"8f3a…"}`,
		`{"v":1,"jobs":[{}]}`, `{"colour":"red"}`, `{"id":`,
	} {
		if kind, err := checkJSON(text); err == nil {
			t.Errorf("%s: got no error, as %s", text, kind)
		}
	}
	for _, line := range []string{
		"pushfleet campaign creat -f x", "pushfleet campaign", "pushfleet campaign create --fil x", "pushfleet campaign show", "pushfleet explain --campaign x", "pushfleet version now",
	} {
		if err := checkCommand(line); err == nil {
			t.Errorf("%s: got no error", line)
		}
	}
	if err := checkRegistration([]byte(`{"usr":"ada"}`)); err == nil {
		t.Error("registration: got no error")
	}
}

// link is one of a page to another file of the repository.
var link = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)\s]*)?\)`)

// Links between pages lead somewhere, and the README names every page.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			to := filepath.Join(filepath.Dir(page), m[1])
			target, err := os.Stat(to)
			if err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
				continue
			}
			if m[2] != "" && !target.IsDir() && !hasHeading(t, to, m[2][1:]) {
				t.Errorf("%s: link to %s%s: it has no such heading", page, m[1], m[2])
			}
			if filepath.Base(page) == "README.md" {
				named[to] = true
			}
		}
	}
	for _, page := range pages {
		if !named[page] {
			t.Errorf("README.md does not name %s", page)
		}
	}
}

// hasHeading reports whether a page has a heading with an anchor, as GitHub makes them.
func hasHeading(t *testing.T, page, anchor string) bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if heading := strings.TrimLeft(line, "#"); heading != line {
			name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			if strings.ReplaceAll(name, " ", "-") == anchor {
				return true
			}
		}
	}
	return false
}
