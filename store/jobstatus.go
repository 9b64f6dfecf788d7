package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// JobStatus is what Redis knows of a job, for who asks what became of it.
type JobStatus struct {
	Progress
	// Message is the place in JOBS of the message that has the job's id; 0: none was
	// delivered to a worker yet.
	Message uint64
	// Outcomes are the places in OUTCOMES where recipients of the job were settled, the
	// oldest first. They are all, but for a job that was told in more than some ninety
	// messages.
	Outcomes []uint64

	whole uint64            // the outcome that settled all at once; 0: none did
	by    map[uint64]uint64 // recipient's hash -> the outcome that settled it
}

// SettledBy returns the place of the outcome that counts for a recipient; 0: none
// does, it is open. known is false where that was forgotten, an hour after the job was
// complete: whatever an outcome says of the recipient may then count.
func (s *JobStatus) SettledBy(hash uint64) (sequence uint64, known bool) {
	if sequence, ok := s.by[hash]; ok {
		return sequence, true
	}
	if s.whole != 0 {
		return s.whole, true
	}
	return 0, !s.Complete || len(s.by) > 0
}

// JobStatus reads what is known of a job, no range. Of one that nobody knows it returns
// the zero value.
func (s *Store) JobStatus(ctx context.Context, k JobKey) (JobStatus, error) {
	pipe := s.client.Pipeline()
	of := progressKeys(k)
	state, settled, held := pipe.HGetAll(ctx, of[0]), pipe.HGetAll(ctx, of[1]), pipe.SMembers(ctx, of[2])
	guard := pipe.Get(ctx, guardKey(&Claim{App: k.App, Lane: k.Lane, ID: k.ID}))
	if err := s.exec(ctx, pipe); err != nil {
		return JobStatus{}, fmt.Errorf("read status of job %s: %w", k, err)
	}
	st, err := parseJobStatus(state.Val(), settled.Val(), held.Val(), guard.Val())
	if err != nil {
		return JobStatus{}, fmt.Errorf("read status of job %s: %w", k, err)
	}
	return st, nil
}

func parseJobStatus(state, settled map[string]string, held []string, guard string) (st JobStatus, err error) {
	if st.Progress, err = parseProgress(state, settled, held); err != nil {
		return st, err
	}
	if guard != "" {
		if st.Message, err = strconv.ParseUint(guard, 10, 64); err != nil {
			return st, errors.New("the guard is not a number")
		}
	}
	for field, text := range state {
		n, isPlace := strings.CutPrefix(field, "o:")
		if field == "by" {
			n, isPlace = text, true
		}
		if !isPlace {
			continue
		}
		sequence, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return st, fmt.Errorf("field %s is not a place", field)
		}
		if field == "by" {
			st.whole = sequence
		}
		st.Outcomes = append(st.Outcomes, sequence)
	}
	slices.Sort(st.Outcomes)
	for hash, value := range settled {
		sequence, err := strconv.ParseUint(value, 10, 64)
		if err != nil || len(hash) != 8 {
			continue // marked, or waiting
		}
		if st.by == nil {
			st.by = make(map[uint64]uint64)
		}
		st.by[binary.BigEndian.Uint64([]byte(hash))] = sequence
	}
	return st, nil
}
