package store

import (
	"strconv"
	"strings"
)

// where collects the conditions of a query that is put together. Its statements
// have ? for placeholders, which become $1, $2, …
type where struct {
	conditions []string
	args       []any
}

func (w *where) add(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

// sql returns the WHERE clause, if there is one, and tail with its args.
func (w *where) sql(tail string, args ...any) string {
	w.args = append(w.args, args...)
	text := tail
	if len(w.conditions) > 0 {
		text = " WHERE " + strings.Join(w.conditions, " AND ") + tail
	}
	var b strings.Builder
	n := 0
	for _, r := range text {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}
