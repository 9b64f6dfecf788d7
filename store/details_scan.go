package store

import (
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Details are read by the million, for each device of a campaign's audience, which
// encoding/json takes several microseconds for. What follows reads exactly what
// packDetails writes, as encoding/json would, in a tenth of that; of anything else it
// says so.

// The members of details in the order in which they are written.
const (
	userMember = iota
	installMember
	localeMember
	timezoneMember
	versionMember
	tagsMember
	attributesMember
	members
)

var memberNames = [members]string{
	`"user":`, `"install_id":`, `"locale":`, `"timezone":`, `"app_version":`, `"tags":`, `"attributes":`,
}

// scanDetails reads the JSON of details into det, whose strings share the bytes of
// text. Tags are appended to *tags, and det's are cut from it. It reports false for
// text that it does not know, with something in det.
func scanDetails(text string, det *details, tags *[]string) bool {
	s := scanner{text: text}
	if !s.skip('{') {
		return false
	}
	for next := 0; ; {
		m := next
		for m < members && !strings.HasPrefix(s.text[s.at:], memberNames[m]) {
			m++
		}
		if m == members {
			return false
		}
		s.at += len(memberNames[m])
		next = m + 1
		var ok bool
		switch m {
		case userMember:
			det.User, ok = s.str()
		case installMember:
			det.InstallID, ok = s.str()
		case localeMember:
			det.Locale, ok = s.str()
		case timezoneMember:
			det.Timezone, ok = s.str()
		case versionMember:
			det.AppVersion, ok = s.str()
		case tagsMember:
			det.Tags, ok = s.list(tags)
		case attributesMember:
			det.Attributes, ok = s.object()
		}
		switch {
		case !ok:
			return false
		case s.skip('}'):
			return s.at == len(s.text)
		case !s.skip(','):
			return false
		}
	}
}

// scanner reads JSON without white space.
type scanner struct {
	text string
	at   int
}

// skip goes past c, if it is next.
func (s *scanner) skip(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// str reads a string.
func (s *scanner) str() (string, bool) {
	if !s.skip('"') {
		return "", false
	}
	from, all := s.at, byte(0)
	for i := from; i < len(s.text); i++ {
		c := s.text[i]
		switch {
		case c == '"':
			s.at = i + 1
			str := s.text[from:i]
			return str, all < utf8.RuneSelf || utf8.ValidString(str)
		case c == '\\':
			return s.escaped(from, i)
		case c < ' ':
			return "", false
		}
		all |= c
	}
	return "", false
}

// escaped reads a string with a backslash at i, the first one.
func (s *scanner) escaped(from, i int) (string, bool) {
	for ; i < len(s.text); i++ {
		switch s.text[i] {
		case '\\':
			i++
		case '"':
			s.at = i + 1
			// It refuses what encoding/json puts a replacement character for.
			str, err := jsontext.AppendUnquote(nil, s.text[from-1:s.at])
			return string(str), err == nil
		}
	}
	return "", false
}

// list reads a list of strings that is not empty.
func (s *scanner) list(memory *[]string) ([]string, bool) {
	if !s.skip('[') {
		return nil, false
	}
	first := len(*memory)
	for {
		str, ok := s.str()
		if !ok {
			return nil, false
		}
		*memory = append(*memory, str)
		switch {
		case s.skip(']'):
			return (*memory)[first:len(*memory):len(*memory)], true
		case !s.skip(','):
			return nil, false
		}
	}
}

// object reads an object of strings that is not empty.
func (s *scanner) object() (map[string]string, bool) {
	if !s.skip('{') {
		return nil, false
	}
	object := make(map[string]string)
	for {
		name, ok := s.str()
		if !ok || !s.skip(':') {
			return nil, false
		}
		value, ok := s.str()
		if !ok {
			return nil, false
		}
		object[name] = value
		switch {
		case s.skip('}'):
			return object, true
		case !s.skip(','):
			return nil, false
		}
	}
}
