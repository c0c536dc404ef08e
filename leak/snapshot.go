package leak

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Bounds of a V8 heap snapshot. A larger one is refused.
const (
	maxSnapshot = 8 << 30    // bytes of the file
	maxNodes    = 16_000_000 // objects; each takes 16 bytes while it is read
	maxKinds    = 1_000_000  // kinds of objects (constructor and type)
	maxDepth    = 16         // of JSON that is skipped
	maxFields   = 32         // numbers per object
)

// snapshotObject is one object of a V8 heap.
type snapshotObject struct {
	id   uint64 // stays the same in all snapshots of one process
	kind uint32
	size uint32 // bytes, without what it refers to; larger ones count as 4 GB
}

// snapshot is what is kept of a V8 heap snapshot.
type snapshot struct {
	objects []snapshotObject
	kinds   []string // "type name"
}

// diffSnapshots compares kinds of objects. With three snapshots Kept is the
// exact set algebra of Chrome's three-snapshot technique.
func diffSnapshots(readers []*bufio.Reader) (Difference, error) {
	d := Difference{Kind: "v8", Unit: "bytes", Totals: make([]int64, len(readers))}
	rows := make(map[string]*Grown)
	var born []uint64 // objects of the first and then those that came until the second
	for i, r := range readers {
		s, err := readSnapshot(r)
		if err != nil {
			return d, fmt.Errorf("heap snapshot %d: %w", i+1, err)
		}
		row := make([]*Grown, len(s.kinds))
		for k, name := range s.kinds {
			if row[k] = rows[name]; row[k] == nil {
				row[k] = &Grown{Name: name, Values: make([]int64, len(readers))}
				rows[name] = row[k]
			}
		}
		for _, o := range s.objects {
			row[o.kind].Values[i] += int64(o.size)
			d.Totals[i] += int64(o.size)
		}
		if len(readers) < 3 {
			continue
		}
		switch i {
		case 0:
			born = ids(s.objects)
		case 1:
			first := born
			born = slices.DeleteFunc(ids(s.objects), func(id uint64) bool {
				_, ok := slices.BinarySearch(first, id)
				return ok
			})
		case 2:
			for _, o := range s.objects {
				if _, ok := slices.BinarySearch(born, o.id); ok {
					row[o.kind].Kept += int64(o.size)
				}
			}
		}
	}
	for _, g := range rows {
		d.Rows = append(d.Rows, *g)
	}
	return d, nil
}

func ids(objects []snapshotObject) []uint64 {
	list := make([]uint64, len(objects))
	for i, o := range objects {
		list[i] = o.id
	}
	slices.Sort(list)
	return list
}

// layout is how the numbers of an object are arranged.
type layout struct {
	fields                     int
	kind, name, id, size       int
	types                      []string
	haveKind, haveName, haveID bool
}

// readSnapshot reads a V8 heap snapshot: nodes before strings, as V8 writes it.
func readSnapshot(r *bufio.Reader) (snapshot, error) {
	j := &jsonReader{r: r}
	var s snapshot
	var l *layout
	type kindKey struct{ kind, name uint64 }
	kinds := make(map[kindKey]uint32)
	var keys []kindKey
	names := make(map[uint64]string) // of those strings that name something
	seen := make(map[string]bool)
	if err := j.expect('{'); err != nil {
		return s, err
	}
	err := j.object(func(member string) error {
		seen[member] = true
		switch member {
		case "snapshot":
			var err error
			l, err = j.layout()
			return err
		case "nodes":
			if l == nil {
				return j.fail("nodes before their description")
			}
			if err := j.expect('['); err != nil {
				return err
			}
			var node [maxFields]uint64
			at := 0
			return j.array(func() error {
				v, err := j.number()
				if err != nil {
					return err
				}
				node[at] = v
				if at++; at < l.fields {
					return nil
				}
				at = 0
				if len(s.objects) == maxNodes {
					return j.fail(fmt.Sprintf("more than %d objects", maxNodes))
				}
				key := kindKey{node[l.kind], node[l.name]}
				k, ok := kinds[key]
				if !ok {
					// Strings, and code, are as many kinds as there are of them: their type is enough.
					if typeName(l, key.kind) != "object" && typeName(l, key.kind) != "native" {
						key.name = 0
						k, ok = kinds[key]
					}
				}
				if !ok {
					if len(keys) == maxKinds {
						return j.fail(fmt.Sprintf("more than %d kinds of objects", maxKinds))
					}
					k = uint32(len(keys))
					kinds[key], keys = k, append(keys, key)
					names[key.name] = ""
				}
				s.objects = append(s.objects, snapshotObject{node[l.id], k, uint32(min(node[l.size], 1<<32-1))})
				return nil
			})
		case "strings":
			if err := j.expect('['); err != nil {
				return err
			}
			i := uint64(0)
			return j.array(func() error {
				limit := 0
				if _, ok := names[i]; ok {
					limit = maxName
				}
				text, err := j.text(limit)
				if limit > 0 {
					names[i] = text
				}
				i++
				return err
			})
		}
		return j.skip(0)
	})
	if err != nil {
		return s, err
	}
	if !seen["nodes"] || !seen["strings"] {
		return s, errors.New("not a V8 heap snapshot: no nodes or no strings")
	}
	for _, key := range keys {
		t := typeName(l, key.kind)
		name := t
		if t == "object" || t == "native" {
			name = cmp.Or(names[key.name], "(anonymous)")
			if t == "native" {
				name = "native " + name
			}
		}
		s.kinds = append(s.kinds, name)
	}
	return s, nil
}

func typeName(l *layout, kind uint64) string {
	if kind < uint64(len(l.types)) {
		return l.types[kind]
	}
	return "type " + strconv.FormatUint(kind, 10)
}

// layout reads the member snapshot.
func (j *jsonReader) layout() (*layout, error) {
	var l layout
	size := false
	if err := j.expect('{'); err != nil {
		return nil, err
	}
	err := j.object(func(member string) error {
		if member != "meta" {
			return j.skip(1)
		}
		if err := j.expect('{'); err != nil {
			return err
		}
		return j.object(func(member string) error {
			switch member {
			case "node_fields":
				if err := j.expect('['); err != nil {
					return err
				}
				return j.array(func() error {
					if l.fields == maxFields {
						return j.fail("too many fields of a node")
					}
					name, err := j.text(64)
					switch name {
					case "type":
						l.kind, l.haveKind = l.fields, true
					case "name":
						l.name, l.haveName = l.fields, true
					case "id":
						l.id, l.haveID = l.fields, true
					case "self_size":
						l.size, size = l.fields, true
					}
					l.fields++
					return err
				})
			case "node_types":
				if err := j.expect('['); err != nil {
					return err
				}
				first := true
				return j.array(func() error {
					if !first {
						return j.skip(2)
					}
					first = false
					if err := j.expect('['); err != nil {
						return err
					}
					return j.array(func() error {
						name, err := j.text(64)
						if len(l.types) == maxFields {
							return j.fail("too many types of nodes")
						}
						l.types = append(l.types, name)
						return err
					})
				})
			}
			return j.skip(2)
		})
	})
	if err == nil && (!l.haveKind || !l.haveName || !l.haveID || !size) {
		err = j.fail("nodes without type, name, id or self_size")
	}
	return &l, err
}
