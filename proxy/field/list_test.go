package field

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// pair is a field in the naive model of a List.
type pair struct {
	name, value string
	sensitive   bool
}

// model is a List beside a slice of pairs that does the same.
type model struct {
	rt   *rapid.T
	list List
	want []pair
}

func names() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{":status", "a", "b", "ab", "content-type", "x-" + string(bytes.Repeat([]byte("y"), 100))})
}

func values() *rapid.Generator[string] {
	return rapid.OneOf(rapid.Just(""), rapid.StringN(0, 8, 16), rapid.StringN(0, 200, 400))
}

func (m *model) index(name string) int {
	return slices.IndexFunc(m.want, func(p pair) bool { return p.name == name })
}

func (m *model) set(name, value string) {
	i := m.index(name)
	if i < 0 {
		m.want = append(m.want, pair{name: name, value: value})
		return
	}
	m.want[i].value = value
	kept := m.want[:i+1]
	for _, p := range m.want[i+1:] {
		if p.name != name {
			kept = append(kept, p)
		}
	}
	m.want = kept
}

func (m *model) del(name string) int {
	before := len(m.want)
	m.want = slices.DeleteFunc(m.want, func(p pair) bool { return p.name == name })
	return before - len(m.want)
}

// slot returns a slot of the list that is not deleted, and its place in want.
func (m *model) slot() (slot, place int, ok bool) {
	if len(m.want) == 0 {
		return 0, 0, false
	}
	place = rapid.IntRange(0, len(m.want)-1).Draw(m.rt, "place")
	for left := place; ; slot++ {
		if m.list.Name(slot) == nil {
			continue
		}
		if left == 0 {
			return slot, place, true
		}
		left--
	}
}

// pairs returns a List's fields, deleted ones left out.
func pairs(l *List) (got []pair) {
	for i := range l.Len() {
		if name := l.Name(i); name != nil {
			got = append(got, pair{string(name), string(l.Value(i)), l.Sensitive(i)})
		}
	}
	return got
}

func (m *model) check() {
	if got := pairs(&m.list); !slices.Equal(got, m.want) {
		m.rt.Fatalf("the list holds %+v, want %+v", got, m.want)
	}
	size := 0
	for _, p := range m.want {
		size += len(p.name) + len(p.value) + Overhead
	}
	if got := m.list.Size(); got != size {
		m.rt.Fatalf("size %d, want %d", got, size)
	}
	name := names().Draw(m.rt, "name")
	count := 0
	for _, p := range m.want {
		if p.name == name {
			count++
		}
	}
	i := m.index(name)
	got := m.list.Get(name)
	if m.list.Count(name) != count || m.list.Has(name) != (count > 0) || (got != nil) != (i >= 0) || i >= 0 && string(got) != m.want[i].value {
		m.rt.Fatalf("%s: %d of them, first %q; want %d", name, m.list.Count(name), got, count)
	}
}

func TestListAgreesWithAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{rt: rt}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { m.check() },
			"add": func(*rapid.T) {
				n, v := names().Draw(rt, "name"), values().Draw(rt, "value")
				m.list.Add(n, v)
				m.want = append(m.want, pair{name: n, value: v})
			},
			"add bytes": func(*rapid.T) {
				n, v := []byte(names().Draw(rt, "name")), []byte(values().Draw(rt, "value"))
				m.list.AddBytes(n, v)
				m.want = append(m.want, pair{name: string(n), value: string(v)})
				clear(n) // it has its own copy
				clear(v)
			},
			"add value": func(*rapid.T) {
				n, v := names().Draw(rt, "name"), []byte(values().Draw(rt, "value"))
				m.list.AddValue(n, v)
				m.want = append(m.want, pair{name: n, value: string(v)})
				clear(v)
			},
			"set value": func(*rapid.T) {
				n, v := names().Draw(rt, "name"), []byte(values().Draw(rt, "value"))
				m.list.SetValue(n, v)
				m.set(n, string(v))
				clear(v)
			},
			"set to what it holds": func(*rapid.T) {
				i, place, ok := m.slot()
				if !ok {
					return
				}
				n, v := names().Draw(rt, "name"), m.want[place].value
				m.list.SetValue(n, m.list.Value(i))
				m.set(n, v)
			},
			"add what it holds": func(*rapid.T) {
				i, place, ok := m.slot()
				if !ok {
					return
				}
				m.list.AddBytes(m.list.Name(i), m.list.Value(i))
				m.want = append(m.want, pair{name: m.want[place].name, value: m.want[place].value})
			},
			"add int": func(*rapid.T) {
				n, v := names().Draw(rt, "name"), rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, -1, math.MinInt64, math.MaxInt64})).Draw(rt, "n")
				m.list.AddInt(n, v)
				m.want = append(m.want, pair{name: n, value: strconv.FormatInt(v, 10)})
			},
			"set": func(*rapid.T) {
				n, v := names().Draw(rt, "name"), values().Draw(rt, "value")
				m.list.Set(n, v)
				m.set(n, v)
			},
			"del": func(*rapid.T) {
				n := names().Draw(rt, "name")
				if got, want := m.list.Del(n), m.del(n); got != want {
					rt.Fatalf("deleted %d, want %d", got, want)
				}
			},
			"del at": func(*rapid.T) {
				if i, place, ok := m.slot(); ok {
					m.list.DelAt(i)
					m.want = slices.Delete(m.want, place, place+1)
				}
			},
			"sensitive": func(*rapid.T) {
				if i, place, ok := m.slot(); ok {
					m.list.SetSensitive(i)
					m.want[place].sensitive = true
				}
			},
			"copy": func(*rapid.T) { // and go on with the copy; what happens to the original is nothing to it
				var other List
				other.Add("old", "gone")
				other.CopyFrom(&m.list)
				m.list.Reset()
				m.list.Add("x", "overwrites the arena from its start")
				m.list.Del("x")
				m.list = other
			},
			"copy itself": func(*rapid.T) { m.list.CopyFrom(&m.list) },
			"reset": func(*rapid.T) {
				m.list.Reset()
				m.want = m.want[:0]
			},
		})
	})
}

// TestSlicesEndWhereTheyEnd: appending to what Name or Value returned must not
// write into the next field.
func TestSlicesEndWhereTheyEnd(t *testing.T) {
	var l List
	l.Add("a", "1")
	l.Add("b", "2")
	_ = append(l.Name(0), "xxxx"...)
	_ = append(l.Value(0), "yyyy"...)
	if got := pairs(&l); !slices.Equal(got, []pair{{"a", "1", false}, {"b", "2", false}}) {
		t.Errorf("the list holds %+v", got)
	}
}

func TestEmptyIsNotAbsent(t *testing.T) {
	var l List
	if l.Get("a") != nil || l.Index("a") != -1 || l.Len() != 0 || l.Size() != 0 {
		t.Error("the zero value is not empty")
	}
	l.Add("a", "")
	if l.Get("a") == nil {
		t.Error("a field without a value is taken for absent")
	}
	l.Del("a")
	if l.Get("a") != nil || l.Name(0) != nil || l.Len() != 1 {
		t.Error("a deleted field is still there")
	}
}

func TestIndexFromFindsAll(t *testing.T) {
	var l List
	for _, n := range []string{"a", "b", "a", "a"} {
		l.Add(n, "")
	}
	l.DelAt(2)
	var found []int
	for i := l.Index("a"); i >= 0; i = l.IndexFrom("a", i+1) {
		found = append(found, i)
	}
	if !slices.Equal(found, []int{0, 3}) {
		t.Errorf("found at %v, want [0 3]", found)
	}
	if i := l.IndexFrom("a", 4); i != -1 {
		t.Errorf("found at %d, past the end", i)
	}
}

// TestListAllocatesNothing: a list that has grown once costs nothing more.
func TestListAllocatesNothing(t *testing.T) {
	var l, c List
	value := []byte("value")
	if n := testing.AllocsPerRun(100, func() {
		l.Reset()
		for range 20 {
			l.Add("content-type", "text/plain")
			l.AddBytes(value, value)
		}
		l.AddInt("content-length", 12345)
		l.Set("content-length", "6")
		l.Del("content-type")
		c.CopyFrom(&l)
	}); n != 0 {
		t.Errorf("%v allocations a message, want none", n)
	}
}

// TestBytesCountsMemory holds the size of a span that Bytes assumes.
func TestBytesCountsMemory(t *testing.T) {
	var l List
	l.Add("a", "b")
	if want := cap(l.arena) + cap(l.spans)*int(reflect.TypeFor[Span]().Size()); l.Bytes() != want {
		t.Errorf("%d bytes, want %d", l.Bytes(), want)
	}
}

func BenchmarkGet(b *testing.B) {
	b.ReportAllocs()
	var l List
	for i := range 15 {
		l.Add("x-header-"+strconv.Itoa(i), "value")
	}
	l.Add("content-length", "10")
	for b.Loop() {
		l.Get("content-length")
	}
}
