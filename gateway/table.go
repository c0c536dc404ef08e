package gateway

// table is a map that gives memory back: a Go map keeps the room of its largest
// size, some 70 bytes for each station that ever was here at the same time.
// The zero table is empty.
type table[K comparable, V any] struct {
	m    map[K]V
	most int // entries since it was made
}

// leastShrunk is how many entries a table has had before it is worth shrinking.
const leastShrunk = 1024

func (t *table[K, V]) get(k K) V { return t.m[k] }

func (t *table[K, V]) set(k K, v V) {
	if t.m == nil {
		t.m = make(map[K]V)
	}
	t.m[k] = v
	t.most = max(t.most, len(t.m))
}

// delete copies what is left when that is less than a quarter of the most there
// has been: a step of the copy for every three deletions at most.
func (t *table[K, V]) delete(k K) {
	delete(t.m, k)
	left := len(t.m)
	if t.most < leastShrunk || left >= t.most/4 {
		return
	}
	m := make(map[K]V, left)
	for k, v := range t.m {
		m[k] = v
	}
	t.m, t.most = m, left
}
