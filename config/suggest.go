package config

import "strings"

// suggest returns the one of names that was most likely meant by word, or "".
func suggest(word string, names []string) string {
	if len(word) > 100 {
		return ""
	}
	// Two slips in a long word, one in a short one; beyond that a guess misleads.
	best, limit := "", 1+len(word)/5
	word = plain(word)
	for _, name := range names {
		if d := distance(word, plain(name)); d <= limit {
			best, limit = name, d-1
		}
	}
	return best
}

// plain drops what differs between the spellings bundleId, bundle-id, bundle_id.
func plain(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// distance counts the bytes to insert, drop, replace or swap with their
// neighbour to get from a to b.
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
