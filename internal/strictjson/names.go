package strictjson

import "strings"

// Shown returns a name from the input if it can be printed: a short word that
// cannot be a device token or a text.
func Shown(name []byte) (string, bool) {
	if len(name) == 0 || len(name) > 40 {
		return "", false
	}
	digits := 0
	for _, c := range name {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			digits++
		case c >= 'g' && c <= 'z', c >= 'G' && c <= 'Z', c == '_', c == '-':
		default:
			return "", false
		}
	}
	if digits >= 12 {
		return "", false
	}
	return string(name), true
}

// Nearest returns the name that was probably meant, or "".
func Nearest(name string, known []string) string {
	plain := strings.NewReplacer("_", "", "-", "")
	given := strings.ToLower(plain.Replace(name))
	for _, k := range known {
		if plain.Replace(k) == given {
			return k
		}
	}
	for _, k := range known {
		if len(k) > 3 && distance(strings.ToLower(name), k) <= 2 {
			return k
		}
	}
	return ""
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
