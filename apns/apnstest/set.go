package apnstest

import "sync"

// pairSet is a set of 64-bit hashes, compact and safe for concurrent use: 10
// million of them take at most 256 MB. It is cut into shards, so that growing
// holds up nobody for long.
type pairSet struct {
	mu     sync.Mutex
	shards [256]pairShard
	sum    uint64 // of what addAll looked at: it has no meaning
}

type pairShard struct {
	slot []uint64 // open addressing, linear probing; 0 is free
	used int
}

// add puts h into the set and reports whether it was there before.
func (s *pairSet) add(h uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shards[h>>56].add(h)
}

// addAll adds many; was[i] is set if hashes[i] was there before. The set is
// larger than any cache: first all of the memory is asked for, then it is used.
func (s *pairSet) addAll(hashes []uint64, was []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := uint64(0)
	for _, h := range hashes {
		if slot := s.shards[h>>56].slot; len(slot) > 0 {
			sum += slot[h&uint64(len(slot)-1)]
		}
	}
	s.sum += sum // or the compiler leaves the loop out
	for i, h := range hashes {
		was[i] = s.shards[h>>56].add(h)
	}
}

// remove takes h out of the set.
func (s *pairSet) remove(h uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shards[h>>56].remove(h)
}

func (s *pairSet) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shards = [256]pairShard{}
}

func (sh *pairShard) add(h uint64) bool {
	if h == 0 {
		h = 1 // 0 marks a free slot
	}
	if sh.used >= len(sh.slot)/4*3 {
		sh.grow()
	}
	mask := uint64(len(sh.slot) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch sh.slot[i] {
		case h:
			return true
		case 0:
			sh.slot[i] = h
			sh.used++
			return false
		}
	}
}

func (sh *pairShard) remove(h uint64) {
	if h == 0 {
		h = 1
	}
	if len(sh.slot) == 0 {
		return
	}
	mask := uint64(len(sh.slot) - 1)
	i := h & mask
	for sh.slot[i] != h {
		if sh.slot[i] == 0 {
			return
		}
		i = (i + 1) & mask
	}
	// What follows in the same run moves up, so that no probe stops early.
	for j := (i + 1) & mask; sh.slot[j] != 0; j = (j + 1) & mask {
		home := sh.slot[j] & mask
		if (j-home)&mask >= (j-i)&mask {
			sh.slot[i] = sh.slot[j]
			i = j
		}
	}
	sh.slot[i] = 0
	sh.used--
}

func (sh *pairShard) grow() {
	old := sh.slot
	sh.slot = make([]uint64, max(64, 2*len(old)))
	mask := uint64(len(sh.slot) - 1)
	for _, h := range old {
		if h == 0 {
			continue
		}
		i := h & mask
		for sh.slot[i] != 0 {
			i = (i + 1) & mask
		}
		sh.slot[i] = h
	}
}
