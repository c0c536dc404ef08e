package api

import (
	"context"

	"holdfast/store"
)

// Paging are the query parameters of a list.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"The most items to return"`
	Cursor string `query:"cursor" maxLength:"4096" doc:"next_cursor of the page before; absent: from the start"`
}

func (p Paging) page() store.Page { return store.Page{Limit: p.Limit, After: p.Cursor} }

// Page is one page of a list. One that has fewer items than were asked for need
// not be the last.
type Page[T any] struct {
	Items      []T    `json:"items" nullable:"false"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Pass it as cursor for the next page; absent on the last one"`
}

// output is an answer with a body.
type output[T any] struct{ Body T }

func answer[T any](v T, err error) (*output[T], error) {
	if err != nil {
		return nil, err
	}
	return &output[T]{v}, nil
}

// paged answers with a list of the record.
func paged[T any](l store.List[T], err error) (*output[Page[T]], error) {
	if l.Items == nil {
		l.Items = []T{}
	}
	return answer(Page[T]{Items: l.Items, NextCursor: l.Next}, err)
}

// whole answers with a list that is bounded by itself.
func whole[T any](items []T, err error) (*output[Page[T]], error) {
	return paged(store.List[T]{Items: items}, err)
}

// maxFetches is how many pages are read for one of ours.
const maxFetches = 20

// collect fills a page from a source whose pages may be shorter, keeping the
// items that keep wants.
func collect[T any](ctx context.Context, p store.Page, fetch func(context.Context, store.Page) (store.List[T], error), keep func([]T) ([]T, error)) (store.List[T], error) {
	out := store.List[T]{Items: []T{}}
	for range maxFetches {
		l, err := fetch(ctx, store.Page{Limit: p.Limit - len(out.Items), After: p.After})
		if err != nil {
			return out, err
		}
		items := l.Items
		if keep != nil {
			if items, err = keep(items); err != nil {
				return out, err
			}
		}
		out.Items = append(out.Items, items...)
		out.Next, p.After = l.Next, l.Next
		if l.Next == "" || len(out.Items) >= p.Limit {
			break
		}
	}
	return out, nil
}

type noInput struct{}

// callerKey is where a request's context keeps its Caller.
type callerKey struct{}

func callerOf(ctx context.Context) Caller {
	caller, _ := ctx.Value(callerKey{}).(Caller) // guard puts it there
	return caller
}

// by returns who sent the request, for the audit record.
func by(ctx context.Context) string { return callerOf(ctx).Name }
