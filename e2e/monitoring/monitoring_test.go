// Package monitoring_test runs the alerts and dashboards of deploy/ on a real
// Prometheus that scrapes a real process.
package monitoring_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"holdfast/e2e"
)

const (
	rules      = "../../deploy/prometheus/holdfast.rules.yaml"
	ruleCases  = "../../deploy/prometheus/holdfast.test.yaml"
	dashboards = "../../deploy/grafana/*.json"
)

func TestMain(m *testing.M) {
	code := m.Run()
	e2e.Clean()
	os.Exit(code)
}

// absent are the metrics that a healthy process without a memory limit does not
// have, or has as 0 where a query wants more: docs/leaks.md has their names.
var absent = []string{
	"holdfast_leak_growth_bytes_per_day", "holdfast_leak_growth_count_per_day", "holdfast_leak_bytes_per_reconnect",
	"holdfast_leak_seconds_to_limit", "holdfast_leak_extra_pods_per_week", "holdfast_leak_fleet", "holdfast_memory_limit_bytes > 0",
}

// need skips without a program; CI has all.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: .ci/run installs it", program)
		}
		t.Skipf("no %s", program)
	}
}

// query is one that a dashboard or a rule asks.
type query struct {
	where, expr string
	labels      []string // that its legend shows
	alert       bool     // it returns what is wrong: usually nothing
}

var placeholder = regexp.MustCompile(`\{\{ *(\w+) *\}\}`)

// dashboardQueries reads the dashboards and checks what Grafana would trip over.
func dashboardQueries(t *testing.T) []query {
	t.Helper()
	files, err := filepath.Glob(dashboards)
	if err != nil || len(files) == 0 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	var list []query
	uids := make(map[string]bool)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			UID, Title string
			Templating struct {
				List []struct {
					Name, Type string
					Definition string
				}
			}
			Annotations struct {
				List []struct{ Name, Expr string }
			}
			Panels []struct {
				ID          int
				Type, Title string
				GridPos     struct{ X, Y, W, H int }
				Targets     []struct{ RefID, Expr, LegendFormat string }
			}
		}
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if d.UID == "" || uids[d.UID] || d.Title == "" {
			t.Errorf("%s: uid %q, title %q", file, d.UID, d.Title)
		}
		uids[d.UID] = true
		name := filepath.Base(file)
		for _, a := range d.Annotations.List {
			list = append(list, query{where: name + ": " + a.Name, expr: a.Expr, alert: true})
		}
		for _, v := range d.Templating.List {
			if m := regexp.MustCompile(`^label_values\((.*), *(\w+)\)$`).FindStringSubmatch(v.Definition); m != nil {
				list = append(list, query{where: name + ": variable " + v.Name, expr: m[1], labels: []string{m[2]}})
			} else if v.Type == "query" {
				t.Errorf("%s: variable %s asks %q", name, v.Name, v.Definition)
			}
		}
		ids, taken := make(map[int]bool), make(map[[2]int]string)
		for _, p := range d.Panels {
			where := name + ": " + p.Title
			if p.Title == "" || ids[p.ID] {
				t.Errorf("%s: id %d, title %q", name, p.ID, p.Title)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other, ok := taken[[2]int{x, y}]; ok || x >= 24 {
						t.Fatalf("%s lies on %q or beyond the edge", where, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s asks nothing", where)
			}
			for _, q := range p.Targets {
				var labels []string
				for _, m := range placeholder.FindAllStringSubmatch(q.LegendFormat, -1) {
					labels = append(labels, m[1])
				}
				list = append(list, query{where: where, expr: q.Expr, labels: labels})
			}
		}
	}
	return list
}

func ruleQueries(t *testing.T) (list []query, alerts []string) {
	t.Helper()
	data, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Groups []struct {
			Rules []struct {
				Record, Alert, Expr string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			list = append(list, query{where: r.Record + r.Alert, expr: r.Expr, alert: r.Alert != ""})
			if r.Alert == "" {
				continue
			}
			alerts = append(alerts, r.Alert)
			if s := r.Labels["severity"]; s != "page" && s != "ticket" || r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
				t.Errorf("%s says neither how urgent it is nor what to do: %v %v", r.Alert, r.Labels, r.Annotations)
			}
		}
	}
	return list, alerts
}

// TestRules runs the cases beside the rules; every alert fires in one of them.
func TestRules(t *testing.T) {
	need(t, "promtool")
	for _, args := range [][]string{{"check", "rules", rules}, {"test", "rules", ruleCases}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	cases, err := os.ReadFile(ruleCases)
	if err != nil {
		t.Fatal(err)
	}
	_, alerts := ruleQueries(t)
	for _, alert := range alerts {
		if !strings.Contains(string(cases), fmt.Sprintf(`alertname="%s"`, alert)) {
			t.Errorf("no case in which %s fires", alert)
		}
	}
}

// prometheus is a real one that scrapes n.
type prometheus struct{ url string }

func scrape(t *testing.T, n *e2e.Node) prometheus {
	t.Helper()
	need(t, "prometheus")
	dir := t.TempDir()
	rulesFile, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n"+
		"scrape_configs:\n  - job_name: holdfast\n    static_configs: [{targets: [%q]}]\n", rulesFile, strings.TrimPrefix(n.Admin, "http://"))
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + e2e.FreePort(t)
	e2e.Start(t, "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	return prometheus{"http://" + address}
}

// get asks the API.
func (p prometheus) get(path string, values url.Values, out any) error {
	r, err := http.Get(p.url + path + "?" + values.Encode())
	if err != nil {
		return err
	}
	defer r.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: out}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", r.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", r.Status, answer.Error)
	}
	return nil
}

// ask returns the labels of what a query finds now.
func (p prometheus) ask(expr string) ([]map[string]string, error) {
	var data struct {
		Result []struct{ Metric map[string]string }
	}
	if err := p.get("/api/v1/query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, err
	}
	list := make([]map[string]string, len(data.Result))
	for i, r := range data.Result {
		list[i] = r.Metric
	}
	return list, nil
}

var (
	variables  = strings.NewReplacer("$__rate_interval", "10s", "$job", ".*", "$instance", ".*")
	metricName = regexp.MustCompile(`\b(?:holdfast|process|go)_[a-z0-9_]+|holdfast:[a-z_:]+`)
)

// TestQueries asks every query of the dashboards and rules, and finds all that
// they are about in what a running process says.
func TestQueries(t *testing.T) {
	list := dashboardQueries(t)
	fromRules, _ := ruleQueries(t)
	list = append(list, fromRules...)

	n := e2e.All(t, "--demo", "12")
	p := scrape(t, n)
	n.Await("demo stations", 60*time.Second, func() bool { return n.Metric("holdfast_connections") >= 12 })
	n.Await("CALLs", 60*time.Second, func() bool { return n.Metric("holdfast_calls_total") > 0 })

	// One station is refused, another one is sent away.
	r, err := http.NewRequest("GET", strings.Replace(n.Plain, "ws://", "http://", 1)+"/nobody", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("nobody", "password-of-nobody")
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "ocpp1.6"} {
		r.Header.Set(k, v)
	}
	if answer, err := http.DefaultClient.Do(r); err != nil {
		t.Fatal(err)
	} else if answer.Body.Close(); answer.StatusCode != http.StatusNotFound {
		t.Fatalf("a station that nobody registered: %s", answer.Status)
	}
	var stations struct{ Items []struct{ ID string } }
	if n.Do("GET", "/api/v1/stations", nil, &stations); len(stations.Items) == 0 {
		t.Fatal("no stations")
	}
	if status := n.Do("POST", "/api/v1/stations/"+url.PathEscape(stations.Items[0].ID)+"/block", map[string]string{"reason": "test"}, nil); status >= 300 {
		t.Fatalf("block: %d", status)
	}
	n.Await("the blocked station is gone", 30*time.Second, func() bool { return n.Metric("holdfast_closes_total") > 0 })

	// Rates want two scrapes of each series.
	e2e.Await(t, "Prometheus has scraped", 60*time.Second, func() bool {
		found, err := p.ask(`count_over_time(holdfast_closes_total[1m]) >= 3 and on () count_over_time(holdfast_rejections_total[1m]) >= 3 and on () holdfast:connections and on () holdfast_census_zombies`)
		return err == nil && len(found) > 0
	})
	var known []string
	if err := p.get("/api/v1/label/__name__/values", nil, &known); err != nil {
		t.Fatal(err)
	}
	leaks, err := os.ReadFile("../../docs/leaks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range list {
		found, err := p.ask(variables.Replace(q.expr))
		if err != nil {
			t.Errorf("%s: %s: %v", q.where, q.expr, err)
			continue
		}
		for _, name := range metricName.FindAllString(q.expr, -1) {
			documented := slices.Contains(absent, name) && strings.Contains(string(leaks), "`"+name+"`")
			if !slices.Contains(known, name) && !documented && name != "holdfast:memory_utilisation:ratio" {
				t.Errorf("%s: no metric %s", q.where, name)
			}
		}
		plain := variables.Replace(strings.ReplaceAll(q.expr, `{job=~"$job", instance=~"$instance"}`, ""))
		excused := slices.ContainsFunc(absent, func(a string) bool { return strings.Contains(plain, a) })
		if len(found) == 0 && !q.alert && !excused {
			t.Errorf("%s finds nothing: %s", q.where, q.expr)
		}
		for _, labels := range found {
			for _, label := range q.labels {
				if _, ok := labels[label]; !ok {
					t.Errorf("%s: its legend wants %s, there is %v", q.where, label, labels)
				}
			}
		}
	}

	// The rules are in force: nothing is wrong with this process but what the
	// test did, which is not enough for an alert.
	if firing, err := p.ask(`ALERTS{alertstate="firing"}`); err != nil || len(firing) > 0 {
		t.Errorf("alerts %v, %v", firing, err)
	}
	var groups struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := p.get("/api/v1/rules", nil, &groups); err != nil || len(groups.Groups) == 0 {
		t.Fatalf("rules: %v, %v", groups, err)
	}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" && r.Health != "unknown" {
				t.Errorf("%s: %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
}
