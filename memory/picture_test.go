package memory

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

// drawn is what a picture holds.
type drawn struct {
	width, height float64
	rects         []rect
	text          string // all of it, a line each
}

type rect struct {
	x, y, w, h float64
	class      string
}

// bar is the only bar of a class below the strip.
func (d drawn) bar(t *testing.T, class string) rect {
	t.Helper()
	var found []rect
	for _, r := range d.rects {
		if r.y > 100 && strings.HasPrefix(r.class, "bar "+class) {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d bars of %s", len(found), class)
	}
	return found[0]
}

// picture draws a sample and reads the drawing as XML.
func picture(t *testing.T, title string, s Sample) drawn {
	t.Helper()
	var b bytes.Buffer
	if err := Picture(&b, title, s); err != nil {
		t.Fatal(err)
	}
	var d drawn
	dec := xml.NewDecoder(&b)
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.CharData:
			d.text += string(e) + "\n"
		case xml.StartElement:
			number := func(name string) float64 {
				for _, a := range e.Attr {
					if a.Name.Local == name {
						v, err := strconv.ParseFloat(a.Value, 64)
						if err != nil {
							t.Fatalf("%s %s=%q", e.Name.Local, name, a.Value)
						}
						return v
					}
				}
				return 0
			}
			switch e.Name.Local {
			case "svg":
				d.width, d.height = number("width"), number("height")
			case "rect":
				r := rect{x: number("x"), y: number("y"), w: number("width"), h: number("height")}
				for _, a := range e.Attr {
					if a.Name.Local == "class" {
						r.class = a.Value
					}
				}
				d.rects = append(d.rects, r)
			case "title", "style", "text":
			default:
				t.Errorf("element %s", e.Name.Local)
			}
		}
	}
	for _, r := range d.rects {
		if r.x < 0 || r.y < 0 || r.w < 0 || r.h < 0 || r.x+r.w > d.width+0.2 || r.y+r.h > d.height+0.2 {
			t.Errorf("%+v lies outside of %v x %v", r, d.width, d.height)
		}
	}
	return d
}

func TestPicture(t *testing.T) {
	s := newSample()
	s.Time, s.RSS = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC), 100<<20
	s.Classes = map[Class]int64{HeapLive: 40 << 20, HeapGarbage: 10 << 20, HeapUnused: 5 << 20, HeapFree: 5 << 20, Stacks: 4 << 20,
		Metadata: 6 << 20, OffHeap: -10 << 20, File: 40 << 20, Shared: 0}
	s.Kernel = map[Class]int64{SocketBuffers: 20 << 20, Sockets: 39000, PageTables: 300 << 10}
	s.Counts[Connections] = 10
	s.WorkingSet, s.Limit, s.Detail[detailUnexplained] = 900<<20, 1000<<20, 780<<20
	s.cohort(Cohort{"3", "1.3", "2.0.1"}, 10, 20<<20)
	s.zombies("tls", Cohort{"3", "1.3", "2.0.1"}, 3)

	d := picture(t, "a gateway", s)
	live := d.bar(t, "heap-live").w
	for class, share := range map[string]float64{"heap-garbage": 0.25, "stacks": 0.1, "off-heap": 0.25, "file": 1, "socket-buffers": 0.5} {
		if got := d.bar(t, class).w / live; got < share-0.01 || got > share+0.01 {
			t.Errorf("the bar of %s is %.2f as long as that of the live heap, want %.2f", class, got, share)
		}
	}
	if r := d.bar(t, "off-heap"); !strings.Contains(r.class, "below") {
		t.Errorf("less than nothing looks like something: %+v", r)
	}
	for _, want := range []string{"a gateway", "resident set (RSS)\n", "100.0 MB\n", "60.0 MB\n", "70.0 MB\n", "-10.0 MB\n", "90 % of the limit of 1000.0 MB\n", "780.0 MB\n",
		"profile 3, TLS 1.3, OCPP 2.0.1\n", "10, 20.0 MB in socket buffers\n", "10 connections", "3 held after their end"} {
		if !strings.Contains(d.text, want) {
			t.Errorf("no %q in\n%s", want, d.text)
		}
	}
	strip := 0.0
	for _, r := range d.rects {
		if r.y < 100 && strings.HasPrefix(r.class, "bar") {
			strip += r.w
		}
	}
	if strip < 959 || strip > 961 {
		t.Errorf("the classes fill %.0f of 960", strip)
	}
}

// TestPictureOf draws processes of which less is known, and hostile names.
func TestPictureOf(t *testing.T) {
	many := newSample()
	many.RSS, many.Classes[Anonymous] = 10<<20, 10<<20
	many.Cohorts = make(map[string]int64)
	for i := range 100 {
		many.Cohorts[fmt.Sprint("port ", i)] = int64(i)
	}
	node := newSample()
	node.RSS = 90 << 20
	node.Classes = map[Class]int64{HeapUsed: 30 << 20, HeapUnused: 10 << 20, External: 5 << 20, OffHeap: 45 << 20}
	undivided := newSample()
	undivided.RSS = 10 << 20
	for _, tt := range []struct {
		name   string
		sample Sample
		want   []string
		never  string
	}{
		{"nothing", Sample{}, nil, "resident set"},
		{"no division", undivided, []string{"not divided\n", "10.0 MB\n"}, "kernel"},
		{"Node.js", node, []string{"heap used\n", "external\n", "off heap\n", "45.0 MB\n"}, "not divided"},
		{"many ports", many, []string{"port 99\n", "others\n"}, "port 12\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := picture(t, `</title><script>alert("1")</script>&`, tt.sample)
			for _, want := range tt.want {
				if !strings.Contains(d.text, want) {
					t.Errorf("no %q in\n%s", want, d.text)
				}
			}
			if strings.Contains(d.text, tt.never) {
				t.Errorf("%q in\n%s", tt.never, d.text)
			}
		})
	}
	var b bytes.Buffer
	r, err := NewAccount().Read()
	if err != nil {
		t.Fatal(err)
	}
	if err := Picture(&b, "this process", r.Sample()); err != nil || b.Len() > 64<<10 {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
}
