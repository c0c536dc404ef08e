package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// holdfast is a running Holdfast: every role in one process and, if asked for,
// a gateway process of its own.
type holdfast struct {
	all     *process
	gateway *process // nil: the gateway in all is used
	stopped bool

	bin        string
	nats       string // address, if gateways are processes of their own
	api, token string
	stations   string // address of the mutual-TLS port
	admin      string // address of the process that serves it
	ca         string // file

	credentials string // file with which a gateway joins the bus
}

// holdfastConfig says how to start it.
type holdfastConfig struct {
	bin      string
	data     string // directory, made if missing
	database string // PostgreSQL URL; empty: SQLite
	apart    bool   // stations connect to a gateway process of its own
}

const readyTime = 60 * time.Second

// startHoldfast starts the product and waits until it is ready.
func startHoldfast(cfg holdfastConfig) (h *holdfast, err error) {
	if _, err := os.Stat(cfg.bin); err != nil {
		return nil, fmt.Errorf("%w (make build builds it)", err)
	}
	ports, err := freePorts(8)
	if err != nil {
		return nil, err
	}
	h = &holdfast{bin: cfg.bin, nats: ports[4], api: "http://" + ports[0], stations: ports[1], admin: ports[3], ca: filepath.Join(cfg.data, "ca.crt"),
		credentials: filepath.Join(cfg.data, "nats-credentials", "gateway.creds")}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.stop())
		}
	}()
	args := []string{"all", "--data", cfg.data, "--log-level", "warn", "--accept-unknown-tokens",
		"--listen-api", ports[0], "--listen-mtls", ports[1], "--listen-tls", ports[2], "--listen-admin", ports[3]}
	if cfg.database != "" {
		args = append(args, "--database", cfg.database)
	}
	if cfg.apart {
		args = append(args, "--listen-nats", ports[4], "--gateway-id", "unused")
	}
	if h.all, err = startProcess("holdfast all", cfg.bin, args...); err != nil {
		return h, err
	}
	if err := waitReady(h.all, ports[3]); err != nil {
		return h, err
	}
	token, err := os.ReadFile(filepath.Join(cfg.data, "token"))
	if err != nil {
		return h, err
	}
	h.token = strings.TrimSpace(string(token))
	if !cfg.apart {
		return h, nil
	}
	h.stations, h.admin = ports[5], ports[7]
	h.gateway, err = h.startGateway("bench", h.admin, nil, mutualTLS(h.stations)...)
	return h, err
}

// mutualTLS are a gateway's flags for stations of profile 3 alone, which check its
// name.
func mutualTLS(address string) []string {
	host, _, _ := net.SplitHostPort(address)
	return []string{"--profiles", "3", "--listen-mtls", address, "--server-names", host + ",localhost"}
}

// startGateway starts a gateway process on the bus of h and waits until it is
// ready. Env is added to its environment.
func (h *holdfast) startGateway(id, admin string, env []string, args ...string) (*process, error) {
	args = append([]string{"gateway", "--nats", "nats://" + h.nats, "--nats-credentials", h.credentials, "--gateway-id", id, "--log-level", "warn", "--listen-admin", admin}, args...)
	p, err := startAs("holdfast gateway "+id, nil, env, h.bin, args...)
	if err != nil {
		return nil, err
	}
	if err := waitReady(p, admin); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (h *holdfast) stop() error {
	var err error
	for _, p := range []*process{h.gateway, h.all} {
		if p != nil && !h.stopped {
			err = errors.Join(err, p.stop())
		}
	}
	h.stopped = true
	return err
}

// holds is the process id of who holds the stations' connections.
func (h *holdfast) holds() int {
	if h.gateway != nil {
		return h.gateway.pid
	}
	return h.all.pid
}

// account is the resident set by class, as the process itself divides it.
func (h *holdfast) account() (map[string]int64, error) {
	answer, err := http.Get("http://" + h.admin + "/debug/memory")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var report struct{ Classes map[string]int64 }
	err = json.NewDecoder(answer.Body).Decode(&report)
	return report.Classes, err
}

// refusals is what the metrics and the log say of stations that could not connect.
func (h *holdfast) refusals() string {
	answer, err := http.Get("http://" + h.admin + "/metrics")
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	var out strings.Builder
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		for _, name := range []string{"rejections", "upgrades", "closes", "handshakes", "sheds", "bad_requests"} {
			if strings.HasPrefix(lines.Text(), "holdfast_") && strings.Contains(lines.Text(), name+"_total") {
				fmt.Fprintln(&out, lines.Text())
			}
		}
	}
	holder := h.all
	if h.gateway != nil {
		holder = h.gateway
	}
	return out.String() + holder.log.String()
}

// counts reads what a gateway counted: TLS handshakes by result, connections
// reset before TLS ("sheds"), stations refused ("rejections"), stations that it
// holds ("connections").
func counts(admin string) (map[string]int, error) {
	answer, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	n := make(map[string]int)
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), "} ")
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		name, labels, _ := strings.Cut(series, "{")
		switch name {
		case "holdfast_tls_handshakes_total":
			for _, result := range []string{"full", "resumed"} {
				if strings.Contains(labels, `result="`+result+`"`) {
					n[result] += int(v)
				}
			}
		case "holdfast_ws_sheds_total":
			n["sheds"] += int(v)
		case "holdfast_rejections_total":
			n["rejections"] += int(v)
		case "holdfast_connections":
			n["connections"] += int(v)
		}
	}
	return n, lines.Err()
}

// freePorts returns addresses that were free a moment ago, on a loopback
// address of their own, where nobody's outgoing connection takes them.
func freePorts(n int) (list []string, err error) {
	host := net.IPv4(127, byte(1+rand.IntN(254)), byte(rand.IntN(256)), byte(1+rand.IntN(254))).String()
	for range n {
		l, err := net.Listen("tcp", host+":0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		list = append(list, l.Addr().String())
	}
	return list, nil
}

// waitReady polls /readyz.
func waitReady(p *process, admin string) error {
	why := "no answer"
	for deadline := time.Now().Add(readyTime); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		select {
		case err := <-p.done:
			p.done <- err
			return fmt.Errorf("%s ended: %w\n%s", p.name, err, p.log)
		default:
		}
		answer, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			continue
		}
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return nil
		}
		why = string(text)
	}
	return fmt.Errorf("%s is not ready after %v: %s\n%s", p.name, readyTime, why, p.log)
}

// register adds n stations of a security profile over the operator API.
func (h *holdfast) register(n, profile int, prefix string) ([]credential, error) {
	const atOnce = 8
	list := make([]credential, n)
	next := make(chan int)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				var err error
				if list[i], err = h.registerOne(ctx, fmt.Sprintf("%s-%05d", prefix, i), profile); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return list, context.Cause(ctx)
}

func (h *holdfast) registerOne(ctx context.Context, id string, profile int) (credential, error) {
	body, err := json.Marshal(map[string]any{"id": id, "profile": profile})
	if err != nil {
		return credential{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.api+"/api/v1/stations", bytes.NewReader(body))
	if err != nil {
		return credential{}, err
	}
	r.Header.Set("Authorization", "Bearer "+h.token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return credential{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return credential{}, err
	}
	if answer.StatusCode != http.StatusCreated {
		return credential{}, fmt.Errorf("register station %s: %s: %.300s", id, answer.Status, text)
	}
	var added struct {
		Password    string
		Certificate struct{ Chain, Key string }
	}
	if err := json.Unmarshal(text, &added); err != nil {
		return credential{}, err
	}
	c := credential{Station: id, Password: added.Password}
	if profile < 3 {
		return c, nil
	}
	for rest := []byte(added.Certificate.Chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c.Chain = append(c.Chain, block.Bytes)
	}
	key, _ := pem.Decode([]byte(added.Certificate.Key))
	if key == nil || len(c.Chain) == 0 {
		return credential{}, fmt.Errorf("register station %s: no certificate in the answer", id)
	}
	c.Key = key.Bytes
	return c, nil
}
