package job_test

import (
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// compactOf builds a compact job from its parts.
func compactOf(header string, count uint64, tokens ...string) []byte {
	b := []byte{0xF5, 1}
	b = binary.AppendUvarint(b, uint64(len(header)))
	b = append(b, header...)
	b = binary.AppendUvarint(b, count)
	for _, t := range tokens {
		b = binary.AppendUvarint(b, uint64(len(t)))
		b = append(b, t...)
	}
	return b
}

const header = `{"notification":{"body":"x"}}`

func TestCompactOfOtherRecipients(t *testing.T) {
	t.Parallel()
	j := everyField()
	asJSON, asCompact := must2(j.AppendJSON(nil)), must2(job.AppendCompact(nil, j))
	if string(asJSON) != string(asCompact) {
		t.Errorf("users: got %q, want JSON", asCompact)
	}
}

func TestCompactIsSmall(t *testing.T) {
	t.Parallel()
	j := sampleJob(1000)
	asJSON, asCompact := must2(j.AppendJSON(nil)), must2(job.AppendCompact(nil, j))
	if len(asCompact)*100 > len(asJSON)*51 {
		t.Errorf("got %d bytes, want about half of the %d of JSON", len(asCompact), len(asJSON))
	}
}

func TestParseRefusesBadCompact(t *testing.T) {
	t.Parallel()
	whole := must2(job.AppendCompact(nil, sampleJob(3)))
	for _, tt := range []struct {
		name string
		data []byte
		want []string
	}{
		{"mark only", whole[:1], []string{"compact job: is truncated: no version"}},
		{"another version", []byte{0xF5, 2, 0}, []string{"compact job: version 2 is not known, only 1 is"}},
		{"no header length", whole[:2], []string{"compact job: is truncated: no length of the header"}},
		{"header length cut", []byte{0xF5, 1, 0x80}, []string{"compact job: is truncated: no length of the header"}},
		{"header length endless", append([]byte{0xF5, 1}, strings.Repeat("\xff", 11)...), []string{"compact job: the length of the header does not fit in 64 bits"}},
		{"header length with needless bytes", []byte{0xF5, 1, 0x82, 0x00, '{', '}', 1, 1, 'x'}, []string{"compact job: the length of the header has needless bytes"}},
		{"header beyond the end", []byte{0xF5, 1, 5, '{', '}'}, []string{"compact job: is truncated: a header of 5 bytes, 2 are left"}},
		{"header length huge", append(binary.AppendUvarint([]byte{0xF5, 1}, 1<<63), '{'), []string{"compact job: is truncated: a header of 9223372036854775808 bytes, 1 are left"}},
		{"no count", compactOf(header, 0)[:len(compactOf(header, 0))-1], []string{"compact job: is truncated: no number of device tokens"}},
		{"no tokens", compactOf(header, 0), []string{"compact job: has 0 device tokens, must have 1 to 1000"}},
		{"too many tokens", compactOf(header, 1001, strings.Split(strings.Repeat("x", 1001), "")...), []string{"compact job: has 1001 device tokens, must have 1 to 1000"}},
		{"count without tokens", compactOf(header, 1000), []string{"compact job: is truncated: 1000 device tokens in 0 bytes"}},
		{"token cut", compactOf(header, 2, "ab", "cd")[:len(compactOf(header, 2, "ab", "cd"))-1], []string{"compact job: is truncated: a device token of 2 bytes, 1 are left"}},
		{"a token less", compactOf(header, 2, "abc"), []string{"compact job: is truncated: no length of a device token"}},
		{"a token more", compactOf(header, 1, "ab", "cd"), []string{"compact job: 3 bytes follow the last device token"}},
		{"bad tokens", compactOf(header, 3, "", "ab", strings.Repeat("x", 257)), []string{"to.tokens[0]: device token is empty", "to.tokens[2]: device token is longer than 256 bytes"}},
		{"recipients in the header", compactOf(`{"to":{"users":["u"]},"notification":{"body":"x"}}`, 1, "ab"), []string{"to: unknown field"}},
		{"all at once", compactOf(`{"id":1,"notification":{}}`, 2, "", "ab", "c"), []string{
			"to.tokens[0]: device token is empty", "id: must be a string, got a number", "push_type: is required: it cannot be told from the content", "compact job: 2 bytes follow the last device token",
		}},
		{"header is empty", compactOf(``, 1, "ab"), []string{"is empty"}},
		{"header with garbage", compactOf(header+"x", 1, "ab"), []string{"not valid JSON: something follows the object at line 1, column 30"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j, err := job.Parse(tt.data)
			if got := problemsOf(t, err); j != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got a job: %t, problems\n     %q\nwant %q", j != nil, got, tt.want)
			}
		})
	}
	for i := range whole {
		if _, err := job.Parse(whole[:i]); err == nil {
			t.Fatalf("the first %d of %d bytes: got no error", i, len(whole))
		}
	}
}

// TestParseCompactAllocatesNoMoreThanItReads gives large counts and lengths.
func TestParseCompactAllocatesNoMoreThanItReads(t *testing.T) {
	const rounds = 1000
	data := compactOf(header, 1000, strings.Repeat("x", 900))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		if _, err := job.Parse(data); err == nil {
			t.Fatal("got no error")
		}
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / rounds; got > 20_000 {
		t.Errorf("got %d bytes allocated, want at most 20000 for %d bytes of input", got, len(data))
	}
}

func TestParseCompactTakesAnyTokenLength(t *testing.T) {
	t.Parallel()
	j := must2(job.Parse(compactOf(header, 3, "x", strings.Repeat("y", 80), strings.Repeat("z", 256))))
	want := []device.Token{device.TokenFromRaw("x"), device.TokenFromRaw(strings.Repeat("y", 80)), device.TokenFromRaw(strings.Repeat("z", 256))}
	if !slices.Equal(j.To.Tokens, want) {
		t.Errorf("got %v, want %v", j.To.Tokens, want)
	}
}
