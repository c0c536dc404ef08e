package storetest_test

import (
	"database/sql"
	"testing"

	"holdfast/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestPostgres(t *testing.T) {
	a, b := storetest.Postgres(t), storetest.Postgres(t)
	if a == b {
		t.Errorf("two databases with the URL %s", a)
	}
	db := open(t, a)
	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on"} {
		var got string
		if err := db.QueryRow(`SHOW ` + setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %s", setting, got, err, want)
		}
	}
}

// What was acknowledged before a crash is there afterwards.
func TestServerKill(t *testing.T) {
	s := storetest.NewServer(t)
	db := open(t, s.Database(t))
	if _, err := db.Exec(`CREATE TABLE kept AS SELECT 42 AS n`); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := db.Ping(); err == nil {
		t.Error("the killed server answers")
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRow(`SELECT n FROM kept`).Scan(&n); err != nil || n != 42 {
		t.Errorf("read %d (%v) after the crash, want 42", n, err)
	}
}

func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
