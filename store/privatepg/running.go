package privatepg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// What Running may find instead of a server.
var (
	ErrNoCluster  = errors.New("there is no cluster")
	ErrNotRunning = errors.New("the private Postgres is not running")
)

// Running is the URL of the server that another process runs in a data
// directory, for a second program that only wants to read. Its errors wrap
// ErrNoCluster or ErrNotRunning where they apply. The server ends with its
// owner, whoever else is connected.
func Running(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find private Postgres: %w", err)
	}
	c := cluster{dir: filepath.Join(dir, "pg")}
	if _, err := os.Stat(filepath.Join(c.dir, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("find private Postgres in %s: %w", dir, ErrNoCluster)
	}
	// Line 5 of the pid file is the socket's directory, line 8 the state. The file of a server that was killed stays: the
	// socket tells.
	text, err := os.ReadFile(c.pidFile())
	lines := strings.Split(string(text), "\n")
	if err != nil || len(lines) < 8 || strings.TrimSpace(lines[7]) != "ready" {
		return "", fmt.Errorf("find private Postgres in %s: %w", dir, ErrNotRunning)
	}
	socket := strings.TrimSpace(lines[4])
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", filepath.Join(socket, ".s.PGSQL.5432"))
	if err != nil {
		return "", fmt.Errorf("find private Postgres in %s: %w: %w", dir, ErrNotRunning, err)
	}
	_ = conn.Close()
	return dsn(socket), nil
}

// dsn is the URL of the server whose socket is in a directory.
func dsn(socket string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.User(Role), Path: "/postgres",
		RawQuery: url.Values{"host": {socket}, "sslmode": {"disable"}}.Encode(),
	}).String()
}
