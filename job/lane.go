package job

import "fmt"

// Lane is a queue class: it decides who goes first, never what APNs does with a
// notification (that is priority).
type Lane uint8

// The lanes. Transactional never waits for bulk.
const (
	Transactional Lane = iota
	Bulk
)

// Lanes returns all lanes, the most urgent first.
func Lanes() []Lane { return []Lane{Transactional, Bulk} }

// String returns the lane's name in subjects and metrics.
func (l Lane) String() string {
	if l == Transactional {
		return "transactional"
	}
	return "bulk"
}

// ParseLane reads what [Lane.String] writes.
func ParseLane(s string) (Lane, error) {
	switch s {
	case "transactional":
		return Transactional, nil
	case "bulk":
		return Bulk, nil
	default:
		return 0, fmt.Errorf("unknown lane %q: must be transactional or bulk", s)
	}
}
