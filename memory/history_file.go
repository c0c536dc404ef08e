package memory

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// The file of a History: a header that names the columns, then the records of
// both rings at fixed places. A record is its number from 1, two times in
// milliseconds, the columns and a checksum, all little-endian: one that was torn
// by a crash of the machine is left out.

const headerSize = 1024

func header() []byte {
	names := []string{}
	for _, c := range columns() {
		names = append(names, c.name)
	}
	h := make([]byte, headerSize)
	copy(h, "holdfast memory history 1\n"+strings.Join(names, " ")+"\n")
	return h
}

func recordSize() int { return 8 + 8 + 8 + 8*len(columns()) + 4 }

// readHeader reports whether f is a history of this version.
func readHeader(f *os.File) (bool, error) {
	got := make([]byte, headerSize)
	_, err := f.ReadAt(got, 0)
	if err == io.EOF {
		return false, nil
	}
	return err == nil && bytes.Equal(got, header()), err
}

func writeHeader(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(header(), 0)
	return err
}

// ring holds the last size points.
type ring struct {
	size   int
	at     int64   // of its first record in the file
	number uint64  // of the last point: its record is at place (number-1) % size
	points []Point // oldest first
}

// add returns the record of p and its place in the file.
func (r *ring) add(p Point) (at int64, record []byte) {
	if len(r.points) == r.size {
		copy(r.points, r.points[1:])
		r.points = r.points[:r.size-1]
	}
	r.points = append(r.points, p)
	r.number++
	record = binary.LittleEndian.AppendUint64(nil, r.number)
	record = binary.LittleEndian.AppendUint64(record, uint64(p.Time.UnixMilli()))
	record = binary.LittleEndian.AppendUint64(record, uint64(p.Started.UnixMilli()))
	for _, c := range columns() {
		record = binary.LittleEndian.AppendUint64(record, uint64(*c.of(&p)))
	}
	record = binary.LittleEndian.AppendUint32(record, crc32.ChecksumIEEE(record))
	return r.at + int64((r.number-1)%uint64(r.size))*int64(len(record)), record
}

// load reads the records of f in the order of their numbers; those that are not
// whole are left out.
func (r *ring) load(f *os.File) error {
	data := make([]byte, r.size*recordSize())
	n, err := f.ReadAt(data, r.at)
	if err != nil && err != io.EOF {
		return err
	}
	type numbered struct {
		number uint64
		point  Point
	}
	var list []numbered
	for record := range slices.Chunk(data[:n], recordSize()) {
		if number, p, ok := parseRecord(record); ok {
			list = append(list, numbered{number, p})
		}
	}
	slices.SortFunc(list, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	for _, p := range list {
		r.points = append(r.points, p.point)
		r.number = p.number
	}
	return nil
}

func parseRecord(record []byte) (number uint64, p Point, ok bool) {
	if len(record) != recordSize() {
		return 0, Point{}, false
	}
	body, sum := record[:len(record)-4], record[len(record)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return 0, Point{}, false
	}
	next := func() int64 {
		v := binary.LittleEndian.Uint64(body)
		body = body[8:]
		return int64(v)
	}
	number = uint64(next())
	p.Time, p.Started = time.UnixMilli(next()).UTC(), time.UnixMilli(next()).UTC()
	for _, c := range columns() {
		*c.of(&p) = next()
	}
	return number, p, true
}

func (r *ring) last() (Point, bool) {
	if len(r.points) == 0 {
		return Point{}, false
	}
	return r.points[len(r.points)-1], true
}

// gone counts the points that were there once: they are numbered from 1.
func (r *ring) gone() uint64 { return r.number - uint64(len(r.points)) }

// since lists the points since a time, oldest first; never nil.
func (r *ring) since(t time.Time) []Point {
	list := make([]Point, 0, len(r.points))
	for _, p := range r.points {
		if !p.Time.Before(t) {
			list = append(list, p)
		}
	}
	return list
}
