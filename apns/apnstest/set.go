package apnstest

import "sync"

// pairSet is a set of 64-bit hashes, compact and safe for concurrent use: 10
// million of them take at most 256 MB. It is cut into shards, so that growing
// holds up nobody for long.
type pairSet struct {
	shards [256]pairShard
}

type pairShard struct {
	mu   sync.Mutex
	slot []uint64 // open addressing, linear probing; 0 is free
	used int
}

// add puts h into the set and reports whether it was there before.
func (s *pairSet) add(h uint64) bool {
	if h == 0 {
		h = 1 // 0 marks a free slot
	}
	sh := &s.shards[h>>56]
	sh.mu.Lock()
	defer sh.mu.Unlock()
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

// remove takes h out of the set.
func (s *pairSet) remove(h uint64) {
	if h == 0 {
		h = 1
	}
	sh := &s.shards[h>>56]
	sh.mu.Lock()
	defer sh.mu.Unlock()
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

func (s *pairSet) reset() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.slot, sh.used = nil, 0
		sh.mu.Unlock()
	}
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
