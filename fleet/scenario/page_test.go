package scenario

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// keysOf are the YAML keys of a struct; those of an anonymous struct in it stand
// behind a dot.
func keysOf(t reflect.Type) (keys []string) {
	for i := range t.NumField() {
		field := t.Field(i)
		key := field.Tag.Get("yaml")
		if key == "" {
			continue
		}
		if inner := field.Type; inner.Kind() == reflect.Struct && inner.Name() == "" {
			for _, k := range keysOf(inner) {
				keys = append(keys, key+"."+k)
			}
			continue
		}
		keys = append(keys, key)
	}
	return keys
}

// TestPage: docs/fleet.md has every key of the schema, in the order of the code,
// and no other; its examples are scenarios; it lists what comes with the program.
func TestPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	row := regexp.MustCompile("(?m)^\\| `([a-z._-]+)` \\|")
	rows := func(title string) (keys []string) {
		_, section, ok := strings.Cut(page, "\n"+title+"\n")
		if !ok {
			t.Errorf("no section %q", title)
		}
		section, _, _ = strings.Cut(section, "\n#")
		for _, m := range row.FindAllStringSubmatch(section, -1) {
			keys = append(keys, m[1])
		}
		return keys
	}
	for _, object := range []any{Scenario{}, Cohort{}, TLS{}, Behaviour{}, Phase{}, Presence{}, Churn{}, Storm{}, Duplicates{}, Command{}} {
		kind := reflect.TypeOf(object)
		if got, want := rows("### "+kind.Name()), keysOf(kind); !slices.Equal(got, want) {
			t.Errorf("%s: the page has %v, the code %v", kind.Name(), got, want)
		}
	}
	if got := rows("## Shipped scenarios"); !slices.Equal(slices.Sorted(slices.Values(got)), Shipped()) {
		t.Errorf("shipped: the page has %v", got)
	}
	examples := strings.Split(page, "```yaml\n")[1:]
	if len(examples) == 0 {
		t.Error("no example")
	}
	for _, e := range examples {
		text, _, _ := strings.Cut(e, "```")
		s := parse(t, text)
		if len(s.Phases) == 0 {
			t.Errorf("%s", text)
		}
	}
}
