package authority

// recent is a map of bounded size that forgets what was not asked for lately:
// at least the last max keys are there, at most twice as many. Its owner locks.
type recent[K comparable, V any] struct {
	max      int
	cur, old map[K]V
}

func newRecent[K comparable, V any](max int) recent[K, V] {
	return recent[K, V]{max: max, cur: make(map[K]V)}
}

func (r *recent[K, V]) get(k K) (V, bool) {
	if v, ok := r.cur[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	if ok {
		r.put(k, v)
	}
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	if _, ok := r.cur[k]; !ok && len(r.cur) >= r.max {
		r.cur, r.old = make(map[K]V), r.cur
	}
	delete(r.old, k)
	r.cur[k] = v
}

func (r *recent[K, V]) delete(k K) {
	delete(r.cur, k)
	delete(r.old, k)
}

func (r *recent[K, V]) len() int { return len(r.cur) + len(r.old) }
