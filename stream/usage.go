package stream

import (
	"context"
	"fmt"
)

// Usage is what a stream holds of what it may.
type Usage struct {
	Stream   string
	Messages uint64
	Bytes    uint64
	MaxBytes int64 // reserved; -1: as much as there is
}

// Usage tells how full the streams of jobs, outcomes, device changes and dead letters
// are.
func (s *Streams) Usage(ctx context.Context) ([]Usage, error) {
	var list []Usage
	for _, name := range []string{Jobs, Outcomes, Devices, Dead} {
		st, err := s.js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("ask for stream %s: %w", name, err)
		}
		info := st.CachedInfo() // of that moment
		list = append(list, Usage{Stream: name, Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes})
	}
	return list, nil
}
