package producer

// mostSeen is how many recipients a [seen] remembers: 64 MiB at most.
//
// choice: nearly every file is shorter, and a longer one must not need more memory.
const mostSeen = 6 << 20

// seen remembers the hashes of recipients, the first of them where there are more than
// it has room for. Two of ten million different ones are taken for the same once in
// 400,000 files. The zero value is ready.
type seen struct {
	most  int      // zero: mostSeen
	slots []uint64 // a power of two of them, at most three quarters full; 0: free
	n     int
}

// again reports whether a hash was there before, and remembers it.
func (s *seen) again(h uint64) bool {
	if h == 0 { // stands for a free slot
		h = 1
	}
	most := s.most
	if most == 0 {
		most = mostSeen
	}
	if s.n < most && 4*(s.n+1) > 3*len(s.slots) {
		s.grow()
	}
	i := s.slot(h)
	if s.slots[i] == h {
		return true
	}
	if s.n < most {
		s.slots[i] = h
		s.n++
	}
	return false
}

// slot returns where a hash is, or would be.
func (s *seen) slot(h uint64) int {
	i := int(h) & (len(s.slots) - 1)
	for s.slots[i] != 0 && s.slots[i] != h {
		i = (i + 1) & (len(s.slots) - 1)
	}
	return i
}

func (s *seen) grow() {
	old := s.slots
	s.slots = make([]uint64, max(1024, 2*len(old)))
	for _, h := range old {
		if h != 0 {
			s.slots[s.slot(h)] = h
		}
	}
}
