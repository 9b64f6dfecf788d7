package job

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// object is one type of JSON object on the wire: the one table from which it is
// decoded, checked, encoded and described. T is the Go struct it becomes.
type object[T any] struct {
	fields  []field[T]
	choices []choice
	needs   []need
	schema  []string // more keywords of its schema, `"name":value`

	// lenient ignores members that are not in the table: what a newer pushfleet
	// wrote must be readable.
	lenient bool

	index map[string]int
	names []string
}

// field is one member of an object.
type field[T any] struct {
	name, doc string
	required  bool
	schema    string // members of the value's schema

	set    func(t *T) bool // there is something to encode
	encode func(dst []byte, t *T) []byte
	decode func(d *strictjson.Decoder, t *T)  // with all that check does
	check  func(c *strictjson.Problems, t *T) // for structs that Go code made; nil: nothing can be wrong, or nobody asks
	aps    func([]byte, *T) []byte            // as APNs wants it; nil: as encode does
	key    []byte                             // `"name":`
	apsKey []byte                             // `"na-me":`
}

// choice says how many members of a group an object may have: one at most, or
// exactly one.
type choice struct {
	names    []string
	required bool
	mask     uint64
}

// need says that one member makes sense only with another.
type need struct {
	name, other    string
	mask, otherBit uint64
}

func atMostOne(names ...string) choice  { return choice{names: names} }
func exactlyOne(names ...string) choice { return choice{names: names, required: true} }

func newObject[T any](o object[T], fields ...field[T]) *object[T] {
	if len(fields) > 64 {
		panic("job: more fields than bits")
	}
	o.fields, o.names = fields, nil
	o.choices, o.needs = slices.Clone(o.choices), slices.Clone(o.needs)
	o.index = make(map[string]int, len(fields))
	for i := range fields {
		f := &fields[i]
		f.key = []byte(`"` + f.name + `":`)
		f.apsKey = []byte(`"` + strings.ReplaceAll(f.name, "_", "-") + `":`)
		o.index[f.name] = i
		o.names = append(o.names, f.name)
	}
	for i := range o.choices {
		o.choices[i].mask = o.mask(o.choices[i].names...)
	}
	for i := range o.needs {
		n := &o.needs[i]
		n.mask, n.otherBit = o.mask(n.name), o.mask(n.other)
	}
	return &o
}

// mask returns the bits of the named fields. A name that is not in the table
// panics: it is a mistake in our own tables.
func (o *object[T]) mask(names ...string) (m uint64) {
	for _, name := range names {
		i, ok := o.index[name]
		if !ok {
			panic("job: no field " + name)
		}
		m |= 1 << i
	}
	return m
}

// present returns the bits of the fields that are set.
func (o *object[T]) present(t *T) (m uint64) {
	for i := range o.fields {
		if o.fields[i].set(t) {
			m |= 1 << i
		}
	}
	return m
}

// lowest returns the field of the lowest bit of a mask that has one.
func (o *object[T]) lowest(m uint64) *field[T] { return &o.fields[bits.TrailingZeros64(m)] }

// decode reads an object into t.
func (o *object[T]) decode(d *strictjson.Decoder, t *T) {
	if !d.Open('{', "an object") {
		return
	}
	var seen uint64
	for !d.Closed('}') {
		name, ok := d.Value()
		if !ok {
			return
		}
		i, known := o.index[string(strictjson.Unquoted(name))]
		switch {
		case !known && o.lenient:
			d.Value()
		case !known:
			strictjson.Unknown(d, strictjson.Unquoted(name), o.names)
			d.Value()
		default:
			f := &o.fields[i]
			d.Enter(f.name)
			if seen&(1<<i) != 0 {
				d.Add("is given twice")
				d.Value()
			} else {
				seen |= 1 << i
				f.decode(d, t)
			}
			d.Leave()
		}
	}
	if !d.Broken() {
		o.complete(&d.Problems, seen)
	}
}

// check checks what decode would, on a struct that Go code made.
func (o *object[T]) check(c *strictjson.Problems, t *T) {
	present := o.present(t)
	for i := range o.fields {
		if f := &o.fields[i]; present&(1<<i) != 0 && f.check != nil {
			c.Enter(f.name)
			f.check(c, t)
			c.Leave()
		}
	}
	o.complete(c, present)
}

// complete checks which fields there are.
func (o *object[T]) complete(c *strictjson.Problems, present uint64) {
	for i := range o.fields {
		if o.fields[i].required && present&(1<<i) == 0 {
			c.AddAt(o.fields[i].name, "is required")
		}
	}
	for _, ch := range o.choices {
		n := bits.OnesCount64(present & ch.mask)
		switch {
		case n == 0 && ch.required:
			c.Add("must have exactly one of %s", strings.Join(ch.names, ", "))
		case n > 1 && ch.required:
			c.Add("must have exactly one of %s, got %d of them", strings.Join(ch.names, ", "), n)
		case n > 1:
			c.Add("must not have more than one of %s", strings.Join(ch.names, ", "))
		}
	}
	for _, n := range o.needs {
		if present&n.mask != 0 && present&n.otherBit == 0 {
			c.AddAt(n.name, "needs %s", n.other)
		}
	}
}

// encode appends t as JSON, members in the order of the table.
func (o *object[T]) encode(dst []byte, t *T) []byte {
	dst = append(dst, '{')
	start := len(dst)
	for i := range o.fields {
		f := &o.fields[i]
		if !f.set(t) {
			continue
		}
		dst = f.encode(append(comma(dst, start), f.key...), t)
	}
	return append(dst, '}')
}

// without returns the table less one field.
func (o *object[T]) without(name string) *object[T] {
	less := *o
	var fields []field[T]
	for _, f := range o.fields {
		if f.name != name {
			fields = append(fields, f)
		}
	}
	return newObject(less, fields...)
}

// describe returns the members of the object's JSON Schema.
func (o *object[T]) describe() string {
	members := []string{`"type":"object"`}
	var properties, required []string
	for _, f := range o.fields {
		p := `"` + f.name + `":{"description":` + quote(f.doc)
		if f.schema != "" {
			p += "," + f.schema
		}
		properties = append(properties, p+"}")
		if f.required {
			required = append(required, f.name)
		}
	}
	members = append(members, `"properties":{`+strings.Join(properties, ",")+`}`)
	if !o.lenient {
		members = append(members, `"additionalProperties":false`)
	}
	if len(required) > 0 {
		members = append(members, `"required":`+quoteAll(required))
	}
	return strings.Join(append(members, o.describeRules()...), ",")
}

// describeRules returns the members that say what lies between the fields.
func (o *object[T]) describeRules() (members []string) {
	var dependent []string
	for _, f := range o.fields {
		var others []string
		for _, n := range o.needs {
			if n.name == f.name {
				others = append(others, n.other)
			}
		}
		if len(others) > 0 {
			dependent = append(dependent, `"`+f.name+`":`+quoteAll(others))
		}
	}
	if len(dependent) > 0 {
		members = append(members, `"dependentRequired":{`+strings.Join(dependent, ",")+`}`)
	}
	var all []string
	for _, c := range o.choices {
		var each []string
		for _, name := range c.names {
			each = append(each, `{"required":["`+name+`"]}`)
		}
		if c.required {
			all = append(all, `{"oneOf":[`+strings.Join(each, ",")+`]}`)
		} else {
			all = append(all, `{"not":{"required":`+quoteAll(c.names)+`}}`)
		}
	}
	all = append(all, o.schema...)
	if len(all) > 0 {
		members = append(members, `"allOf":[`+strings.Join(all, ",")+`]`)
	}
	return members
}

// access reads and writes one field of T.
type access[T, V any] struct {
	get func(t *T) (v V, set bool)
	put func(t *T, v V)
}

// plain is a field whose zero value means absent.
func plain[T any, V comparable](at func(*T) *V) access[T, V] {
	return access[T, V]{
		get: func(t *T) (V, bool) {
			var zero V
			v := *at(t)
			return v, v != zero
		},
		put: func(t *T, v V) { *at(t) = v },
	}
}

// optional is a field that is absent where it is nil.
func optional[T, V any](at func(*T) **V) access[T, V] {
	return access[T, V]{
		get: func(t *T) (v V, set bool) {
			if p := *at(t); p != nil {
				return *p, true
			}
			return v, false
		},
		put: func(t *T, v V) { *at(t) = &v },
	}
}

// textLimits is what a string must be, beside not empty.
type textLimits struct {
	max     int      // bytes; 0: no limit of its own
	line    bool     // fit for a header: printable, no space at its ends
	enum    []string // one of these
	refuse  func(string) string
	schema  string // more keywords
	anySize bool   // may be empty
}

func (l textLimits) check(c *strictjson.Problems, s string) bool {
	switch {
	case s == "" && !l.anySize && l.enum == nil:
		c.Add("must not be empty: leave it out instead")
	case !utf8.ValidString(s):
		c.Add("is not valid UTF-8")
	case l.max > 0 && len(s) > l.max:
		c.Add("is %d bytes long, at most %d are allowed", len(s), l.max)
	case l.line && !strictjson.IsLine(s):
		c.Add("must be printable characters, without a space at either end")
	case l.enum != nil && !slices.Contains(l.enum, s):
		got := ""
		if name, ok := strictjson.Shown([]byte(s)); ok {
			got = ", got " + name
		}
		c.Add("must be %s%s", orList(l.enum), got)
	default:
		if l.refuse != nil {
			if problem := l.refuse(s); problem != "" {
				c.Add("%s", problem)
				return false
			}
		}
		return true
	}
	return false
}

func (l textLimits) describe() string {
	s := `"type":"string"`
	if l.enum != nil {
		return s + `,"enum":` + quoteAll(l.enum)
	}
	if !l.anySize {
		s += `,"minLength":1`
	}
	if l.max > 0 {
		s += `,"maxLength":` + itoa(l.max)
	}
	if l.line {
		s += `,"pattern":"^[^\\x00-\\x1f\\x7f]*$"`
	}
	if l.schema != "" {
		s += "," + l.schema
	}
	return s
}

func orList(list []string) string { return "one of " + strings.Join(list, ", ") }

// text is a string.
func text[T any, S ~string](name, doc string, l textLimits, a access[T, S]) field[T] {
	return field[T]{
		name: name, doc: doc, schema: l.describe(),
		set: func(t *T) bool { _, ok := a.get(t); return ok },
		encode: func(dst []byte, t *T) []byte {
			s, _ := a.get(t)
			return appendString(dst, string(s))
		},
		decode: func(d *strictjson.Decoder, t *T) {
			if s, ok := d.Text(); ok && l.check(&d.Problems, s) {
				a.put(t, S(s))
			}
		},
		check: func(c *strictjson.Problems, t *T) { s, _ := a.get(t); l.check(c, string(s)) },
	}
}

// texts is a list of strings. Where they name recipients, all but the first of
// equal ones are dropped.
func texts[T any](name, doc string, maxItems int, recipients bool, l textLimits, at func(*T) *[]string) field[T] {
	return field[T]{
		name: name, doc: doc,
		schema: listSchema(maxItems, l.describe()),
		set:    func(t *T) bool { return len(*at(t)) > 0 },
		encode: func(dst []byte, t *T) []byte { return appendStrings(dst, *at(t)) },
		decode: func(d *strictjson.Decoder, t *T) {
			var items []string
			decodeList(d, maxItems, func() {
				if s, ok := d.Text(); ok && l.check(&d.Problems, s) {
					items = append(items, s)
				}
			})
			if recipients {
				items = unique(items, func(s string) string { return s })
			}
			*at(t) = items
		},
		check: func(c *strictjson.Problems, t *T) {
			checkList(c, maxItems, *at(t), func(s string) { l.check(c, s) })
		},
	}
}

// deviceTokens is a list of device tokens in hexadecimal. maxItems 0: no limit,
// and none needed.
func deviceTokens[T any](name, doc string, maxItems int, recipients bool, at func(*T) *[]device.Token) field[T] {
	return field[T]{
		name: name, doc: doc,
		schema: listSchema(maxItems, tokenSchema()),
		set:    func(t *T) bool { return len(*at(t)) > 0 },
		encode: func(dst []byte, t *T) []byte {
			dst = append(dst, '[')
			for i, tok := range *at(t) {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(tok.AppendHex(append(dst, '"')), '"')
			}
			return append(dst, ']')
		},
		decode: func(d *strictjson.Decoder, t *T) {
			// All tokens of a list share one string.
			var raw strings.Builder
			var ends []int32
			decodeList(d, maxItems, func() {
				v, ok := d.ValueOf('"', "a string")
				if !ok {
					return
				}
				if ends == nil {
					// The rest of the list bounds what is to come: hex is twice as long. (A message
					// of outcomes has many short lists: what follows them must not count.)
					rest := d.Until(']')/2 + len(v)/2
					raw.Grow(min(rest, MaxRecipients*device.MaxTokenBytes))
					ends = make([]int32, 0, min(1+2*rest/max(len(v), 1), MaxRecipients))
				}
				var buf [device.MaxTokenBytes]byte
				n, err := decodeToken(buf[:], strictjson.Unquoted(v))
				if err != nil {
					d.Add("%s", err)
					return
				}
				raw.Write(buf[:n])
				ends = append(ends, int32(raw.Len()))
			})
			if len(ends) == 0 {
				return
			}
			items := cutTokens(raw.String(), ends)
			if recipients {
				items = unique(items, device.Token.Raw)
			}
			*at(t) = items
		},
		check: func(c *strictjson.Problems, t *T) {
			checkList(c, maxItems, *at(t), func(tok device.Token) { checkToken(c, tok) })
		},
	}
}

// cutTokens returns the tokens that end at ends in all.
func cutTokens(all string, ends []int32) []device.Token {
	items, start := make([]device.Token, len(ends)), int32(0)
	for i, end := range ends {
		items[i] = device.TokenFromRaw(all[start:end])
		start = end
	}
	return items
}

// deviceToken is one device token in hexadecimal.
func deviceToken[T any](name, doc string, at func(*T) *device.Token) field[T] {
	return field[T]{
		name: name, doc: doc, schema: tokenSchema(),
		set: func(t *T) bool { return !at(t).IsZero() },
		encode: func(dst []byte, t *T) []byte {
			return append(at(t).AppendHex(append(dst, '"')), '"')
		},
		decode: func(d *strictjson.Decoder, t *T) {
			v, ok := d.ValueOf('"', "a string")
			if !ok {
				return
			}
			var buf [device.MaxTokenBytes]byte
			n, err := decodeToken(buf[:], strictjson.Unquoted(v))
			if err != nil {
				d.Add("%s", err)
				return
			}
			*at(t) = device.TokenFromRaw(string(buf[:n]))
		},
	}
}

// decodeToken is device.ParseToken without its allocations.
func decodeToken(dst, src []byte) (int, error) {
	if len(src) == 0 || len(src) > 2*len(dst) {
		_, err := device.ParseToken(string(src))
		return 0, err
	}
	n, err := hex.Decode(dst, src)
	if err != nil {
		_, err = device.ParseToken(string(src))
	}
	return n, err
}

func checkToken(c *strictjson.Problems, tok device.Token) {
	switch {
	case tok.IsZero():
		c.Add("%s", device.ErrTokenEmpty)
	case tok.Len() > device.MaxTokenBytes:
		c.Add("%s", device.ErrTokenTooLong)
	}
}

func tokenSchema() string {
	return `"type":"string","maxLength":` + itoa(2*device.MaxTokenBytes) + `,"pattern":"^([0-9a-fA-F]{2})+$"`
}

func listSchema(maxItems int, item string) string {
	s := `"type":"array","items":{` + item + `}`
	if maxItems > 0 {
		s += `,"minItems":1,"maxItems":` + itoa(maxItems)
	}
	return s
}

// decodeList reads an array, item by item. Items beyond maxItems are only counted.
func decodeList(d *strictjson.Decoder, maxItems int, item func()) {
	if n, ok := strictjson.ReadList(d, maxItems, item); ok && maxItems > 0 && (n == 0 || n > maxItems) {
		d.Add("must have 1 to %d items, got %d", maxItems, n)
	}
}

func checkList[E any](c *strictjson.Problems, maxItems int, items []E, check func(E)) {
	for i, item := range items {
		if maxItems > 0 && i >= maxItems {
			c.Add("must have 1 to %d items, got %d", maxItems, len(items))
			return
		}
		c.EnterIndex(i)
		check(item)
		c.Leave()
	}
}

// integer is a whole number from low to high.
func integer[T any, N int | int64 | uint32 | uint64](name, doc string, low, high int64, hint string, a access[T, N]) field[T] {
	check := func(c *strictjson.Problems, n int64) bool {
		if n >= low && n <= high {
			return true
		}
		c.Add("must be a whole number from %d to %d%s", low, high, hint)
		return false
	}
	return field[T]{
		name: name, doc: doc,
		schema: `"type":"integer","minimum":` + strconv.FormatInt(low, 10) + `,"maximum":` + strconv.FormatInt(high, 10),
		set:    func(t *T) bool { _, ok := a.get(t); return ok },
		encode: func(dst []byte, t *T) []byte {
			n, _ := a.get(t)
			return appendInteger(dst, n)
		},
		decode: func(d *strictjson.Decoder, t *T) {
			v, ok := d.ValueOf('0', "a whole number")
			if !ok {
				return
			}
			if n, ok := wholeNumber(v); !ok {
				check(&d.Problems, high+1)
			} else if check(&d.Problems, n) {
				a.put(t, N(n))
			}
		},
		check: func(c *strictjson.Problems, t *T) { n, _ := a.get(t); check(c, int64(n)) },
	}
}

func appendInteger[N int | int64 | uint32 | uint64](dst []byte, n N) []byte {
	if n > 0 {
		return strconv.AppendUint(dst, uint64(n), 10)
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

// wholeNumber reads a JSON number that is whole, however it is written: 1, 1.0, 1e0.
func wholeNumber(v []byte) (int64, bool) {
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n, n < math.MaxInt64
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// oneOfIntegers is one of a few whole numbers.
func oneOfIntegers[T any](name, doc string, values []int, a access[T, int]) field[T] {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = itoa(v)
	}
	check := func(c *strictjson.Problems, n int) bool {
		if slices.Contains(values, n) {
			return true
		}
		c.Add("must be %s, got %d", orList(list), n)
		return false
	}
	return field[T]{
		name: name, doc: doc, schema: `"enum":[` + strings.Join(list, ",") + `]`,
		set:    func(t *T) bool { _, ok := a.get(t); return ok },
		encode: func(dst []byte, t *T) []byte { n, _ := a.get(t); return appendInteger(dst, n) },
		decode: func(d *strictjson.Decoder, t *T) {
			v, ok := d.ValueOf('0', "a whole number")
			if !ok {
				return
			}
			n, ok := wholeNumber(v)
			if !ok || n != int64(int32(n)) {
				d.Add("must be %s", orList(list))
			} else if check(&d.Problems, int(n)) {
				a.put(t, int(n))
			}
		},
		check: func(c *strictjson.Problems, t *T) { n, _ := a.get(t); check(c, n) },
	}
}

// number is any number from low to high.
func number[T any](name, doc string, low, high float64, a access[T, float64]) field[T] {
	check := func(c *strictjson.Problems, f float64) bool {
		switch {
		case math.IsNaN(f) || math.IsInf(f, 0):
			c.Add("must be a finite number")
		case f < low || f > high:
			c.Add("must be from %g to %g", low, high)
		default:
			return true
		}
		return false
	}
	schema := `"type":"number"`
	if !math.IsInf(low, 0) {
		schema += `,"minimum":` + strconv.FormatFloat(low, 'g', -1, 64) + `,"maximum":` + strconv.FormatFloat(high, 'g', -1, 64)
	}
	return field[T]{
		name: name, doc: doc, schema: schema,
		set:    func(t *T) bool { _, ok := a.get(t); return ok },
		encode: func(dst []byte, t *T) []byte { f, _ := a.get(t); return jsontext.AppendFloat(dst, f, 64) },
		decode: func(d *strictjson.Decoder, t *T) {
			v, ok := d.ValueOf('0', "a number")
			if !ok {
				return
			}
			// Out of range gives an infinity, which check refuses.
			if f, _ := strconv.ParseFloat(string(v), 64); check(&d.Problems, f) {
				a.put(t, f)
			}
		},
		check: func(c *strictjson.Problems, t *T) { f, _ := a.get(t); check(c, f) },
	}
}

// flag is a boolean; 1 and 0, as Apple writes them, are taken too.
func flag[T any](name, doc string, at func(*T) *bool) field[T] {
	return field[T]{
		name: name, doc: doc, schema: `"enum":[true,false,1,0]`,
		set:    func(t *T) bool { return *at(t) },
		encode: func(dst []byte, _ *T) []byte { return append(dst, "true"...) },
		decode: func(d *strictjson.Decoder, t *T) {
			v, ok := d.Value()
			if !ok {
				return
			}
			switch v.Kind() {
			case 't':
				*at(t) = true
			case 'f':
				*at(t) = false
			case '0':
				if n, ok := wholeNumber(v); ok && (n == 0 || n == 1) {
					*at(t) = n == 1
					return
				}
				d.Add("must be true or false")
			default:
				d.WrongKind("true or false", v.Kind())
			}
		},
	}
}

// asOne makes a flag go to APNs as the number 1.
func asOne[T any](f field[T]) field[T] {
	f.aps = func(dst []byte, _ *T) []byte { return append(dst, '1') }
	return f
}

func required[T any](f field[T]) field[T] {
	f.required = true
	return f
}

// rawObject is an object that is passed on as it is, less white space. It must
// not have the member without, if that is not empty.
func rawObject[T any](name, doc, without string, at func(*T) *json.RawMessage) field[T] {
	// Said outright: generated clients take an object of which nothing is said for empty.
	schema := `"type":"object","additionalProperties":true`
	if without != "" {
		schema += `,"properties":{"` + without + `":false}`
	}
	check := func(c *strictjson.Problems, raw []byte) (compacted []byte, ok bool) {
		compacted, problem := compactObject(raw)
		if problem != "" {
			c.Add("%s", problem)
			return nil, false
		}
		ok = true
		if without != "" {
			members(compacted, func(name, _ []byte) {
				if string(strictjson.Unquoted(name)) == without {
					c.Add("must not have the member %s: its content belongs into notification", without)
					ok = false
				}
			})
		}
		return compacted, ok
	}
	return field[T]{
		name: name, doc: doc, schema: schema,
		set: func(t *T) bool { return len(*at(t)) > 0 },
		encode: func(dst []byte, t *T) []byte {
			compacted, problem := compactObject(*at(t))
			if problem != "" {
				return append(dst, "null"...) // Job.raws comes first and says so
			}
			return append(dst, compacted...)
		},
		decode: func(d *strictjson.Decoder, t *T) {
			v, ok := d.ValueOf('{', "an object")
			if !ok {
				return
			}
			if compacted, ok := check(&d.Problems, v); ok {
				*at(t) = compacted
			}
		},
		check: func(c *strictjson.Problems, t *T) { check(c, *at(t)) },
	}
}

// instant is a time as RFC 3339.
func instant[T any](name, doc string, at func(*T) *time.Time) field[T] {
	return field[T]{
		name: name, doc: doc, schema: `"type":"string","format":"date-time"`,
		set:    func(t *T) bool { return !at(t).IsZero() },
		encode: func(dst []byte, t *T) []byte { return strictjson.AppendTime(dst, *at(t)) },
		decode: func(d *strictjson.Decoder, t *T) {
			if parsed, ok := strictjson.ReadTime(d); ok && strictjson.CheckTime(&d.Problems, parsed) {
				*at(t) = parsed
			}
		},
		check: func(c *strictjson.Problems, t *T) { strictjson.CheckTime(c, *at(t)) },
	}
}

// nested is an object in an object.
func nested[T, U any](name, doc string, o *object[U], at func(*T) *U) field[T] {
	return field[T]{
		name: name, doc: doc, schema: o.describe(),
		set:    func(*T) bool { return true },
		encode: func(dst []byte, t *T) []byte { return o.encode(dst, at(t)) },
		decode: func(d *strictjson.Decoder, t *T) { o.decode(d, at(t)) },
		check:  func(c *strictjson.Problems, t *T) { o.check(c, at(t)) },
	}
}

// nestedOptional is an object in an object that may be absent.
func nestedOptional[T, U any](name, doc string, o *object[U], at func(*T) **U) field[T] {
	return field[T]{
		name: name, doc: doc, schema: o.describe(),
		set:    func(t *T) bool { return *at(t) != nil },
		encode: func(dst []byte, t *T) []byte { return o.encode(dst, *at(t)) },
		decode: func(d *strictjson.Decoder, t *T) {
			u := new(U)
			o.decode(d, u)
			*at(t) = u
		},
		check: func(c *strictjson.Problems, t *T) { o.check(c, *at(t)) },
	}
}

// list is a list of objects.
func list[T, U any](name, doc string, o *object[U], at func(*T) *[]U) field[T] {
	return field[T]{
		name: name, doc: doc, schema: listSchema(0, o.describe()),
		set: func(t *T) bool { return len(*at(t)) > 0 },
		encode: func(dst []byte, t *T) []byte {
			dst = append(dst, '[')
			for i := range *at(t) {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = o.encode(dst, &(*at(t))[i])
			}
			return append(dst, ']')
		},
		decode: func(d *strictjson.Decoder, t *T) {
			decodeList(d, 0, func() {
				*at(t) = append(*at(t), *new(U))
				o.decode(d, &(*at(t))[len(*at(t))-1])
			})
		},
	}
}

func appendString(dst []byte, s string) []byte { return strictjson.AppendText(dst, s) }

func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	return append(dst, ']')
}

func quote(s string) string { return string(appendString(nil, s)) }

func quoteAll(list []string) string { return string(appendStrings(nil, list)) }

func itoa(n int) string { return strconv.Itoa(n) }
