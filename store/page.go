package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
)

// maxPage is the most rows of one page.
const maxPage = 1000

// Page chooses a part of a list. The zero value is its first 100 items.
type Page struct {
	// Limit is the most items to return; zero means 100, at most 1,000.
	Limit int
	// After is the Next of the List before; empty means from the start.
	After string
}

// List is one page of a list.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Cursor of the next page; absent on the last one"`
}

// ErrBadCursor: a Page.After that no List has given.
var ErrBadCursor = errors.New("cursor is not one that a list has given")

func (p Page) limit() int {
	if p.Limit <= 0 {
		return 100
	}
	return min(p.Limit, maxPage)
}

// cursor encodes the key of the last row of a page.
func cursor(key ...any) string {
	data, _ := json.Marshal(key) // strings and numbers always encode
	return base64.RawURLEncoding.EncodeToString(data)
}

// key decodes After into dst, which keeps its values if After is empty: the
// values that stand before the first row.
func (p Page) key(dst ...any) error {
	if p.After == "" {
		return nil
	}
	data, err := base64.RawURLEncoding.DecodeString(p.After)
	if err != nil {
		return ErrBadCursor
	}
	var parts []json.RawMessage
	if json.Unmarshal(data, &parts) != nil || len(parts) != len(dst) {
		return ErrBadCursor
	}
	for i, part := range parts {
		if json.Unmarshal(part, dst[i]) != nil {
			return ErrBadCursor
		}
	}
	return nil
}

// list runs a query of limit+1 rows and makes a page of what scan returns; key
// is the cursor key of an item.
func list[T any](ctx context.Context, d *db, p Page, query string, args []any, scan func(*sql.Rows) (T, error), key func(T) []any) (List[T], error) {
	l := List[T]{Items: []T{}}
	rows, err := d.read.QueryContext(ctx, query, args...)
	if err != nil {
		return l, err
	}
	defer rows.Close()
	for rows.Next() {
		if len(l.Items) == p.limit() {
			l.Next = cursor(key(l.Items[len(l.Items)-1])...)
			break
		}
		item, err := scan(rows)
		if err != nil {
			return l, err
		}
		l.Items = append(l.Items, item)
	}
	return l, rows.Err()
}
