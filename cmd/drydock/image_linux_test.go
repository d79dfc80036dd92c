package main

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// nonroot is the user of distroless' nonroot images.
const nonroot = 65532

// TestImage lays out what deploy/Dockerfile puts into the image, in a folder that becomes the program's root, and runs it there as the
// image's user, with the configuration and the secrets of docker-compose.yml: it migrates, serves, is ready, ends at a SIGTERM, and
// has written nowhere but in /data. So it needs no shell, no certificate and no right of root. The binary is make build's, which links
// the C library where there is one; that the image's needs none is checked by make release.
func TestImage(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	dockerfile := strings.ReplaceAll(string(raw), "\\\n", " ")
	stages := strings.Split(dockerfile, "\nFROM ")
	last := stages[len(stages)-1]
	for _, want := range []string{"gcr.io/distroless/static-debian12:nonroot\n", "\nUSER nonroot:nonroot\n", "\nENTRYPOINT [\"/usr/bin/drydock\"]\n",
		"COPY --from=build /out/drydock /usr/bin/drydock\n", "ENV DRYDOCK_CONFIG=/etc/drydock/drydock.yaml\n"} {
		if !strings.Contains(last, want) {
			t.Errorf("the image's stage has no %q", want)
		}
	}
	build := regexp.MustCompile(`RUN CGO_ENABLED=0 go build (.*?) +-ldflags`).FindStringSubmatch(dockerfile)
	if build == nil {
		t.Fatal("no build of a static binary was found in the Dockerfile")
	}
	root := t.TempDir()
	for _, dir := range []string{"usr/bin", "etc/drydock", "run/secrets", "data", "carriers", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Without -trimpath, which would compile every dependency once more.
	flags := slices.DeleteFunc(strings.Fields(build[1]), func(flag string) bool { return flag == "-trimpath" })
	binary := filepath.Join(root, "usr/bin/drydock")
	compile := exec.CommandContext(t.Context(), "go", append(append([]string{"build"}, flags...), "-o", binary, ".")...)
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	copyLibraries(t, root, binary)
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	var compose struct {
		Configs map[string]struct{ Content string }
	}
	raw, err = os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, &compose); err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("${PAGERDUTY_FROM}", "drydock@example.com", "0.0.0.0:8080", "127.0.0.1:0",
		"pagerduty:\n", "pagerduty:\n  api_url: http://127.0.0.1:1\n").Replace(compose.Configs["drydock"].Content)
	put("etc/drydock/drydock.yaml", config)
	put("run/secrets/backup_key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
	put("run/secrets/pagerduty_token", "token\n")
	put("run/secrets/pagerduty_webhook_secret", hookSecret+"\n")
	put("run/secrets/token_sha256", strings.Repeat("0", 64)+"\n")
	put("carriers/prod-dal10-carrier3.yaml", deadCarrier)
	attr := &syscall.SysProcAttr{Chroot: root}
	if os.Geteuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: nonroot, Gid: nonroot}
		if err := os.Chown(filepath.Join(root, "data"), nonroot, nonroot); err != nil {
			t.Fatal(err)
		}
		open(t, root)
	} else {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: nonroot, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: nonroot, HostID: os.Getegid(), Size: 1}}
	}
	before := files(t, root)

	env := []string{"DRYDOCK_CONFIG=/etc/drydock/drydock.yaml", "DATABASE_URL=" + overTCP(t, pgtest.New(t, nil))}
	start := func(args ...string) (*exec.Cmd, *buffer) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "/usr/bin/drydock", args...)
		out := &buffer{}
		cmd.Env, cmd.Dir, cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = env, "/", attr, out, out
		if err := cmd.Start(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return cmd, out
	}
	for _, args := range [][]string{{"version"}, {"config", "check"}, {"parse", nodeExporterTitle}, {"migrate", "up"}} {
		cmd, out := start(args...)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	cmd, out := start("serve", "--no-migrate", "--log-format", "json")
	var base string
	eventually(t, "the server is ready", func() bool {
		if m := regexp.MustCompile(`drydock is ready: dashboard (http://[^/\s]+)`).FindStringSubmatch(out.String()); m != nil {
			base = m[1]
		}
		return base != "" && status(t, base+"/readyz") == http.StatusOK
	})
	if code := status(t, base+"/api/v1/runs"); code != http.StatusUnauthorized {
		t.Errorf("the API answers %d to anybody", code)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, out)
	}
	after := files(t, root)
	if !slices.Equal(before, after) {
		t.Errorf("files outside of /data were %v, and are %v", before, after)
	}
}

// copyLibraries puts what a binary is linked with at the same place below root.
func copyLibraries(t *testing.T, root, binary string) {
	t.Helper()
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	interpreter := f.Section(".interp")
	if interpreter == nil {
		return // it is linked with nothing
	}
	name, err := interpreter.Data()
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{strings.TrimRight(string(name), "\x00")}
	for _, library := range libraries {
		for _, pattern := range []string{"/lib64/", "/usr/lib64/", "/lib/*-linux-gnu*/", "/usr/lib/*-linux-gnu*/", "/lib/"} {
			if at, _ := filepath.Glob(pattern + library); len(at) > 0 {
				wanted = append(wanted, at[0])
				break
			}
		}
	}
	for _, from := range wanted {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, from)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o555); err != nil {
			t.Fatal(err)
		}
	}
}

// open lets the image's user into the folder, which tests make for their own user alone.
func open(t *testing.T, root string) {
	t.Helper()
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// files lists what is outside of /data and /tmp, with sizes.
func files(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err == nil && info.IsDir() && (rel == "data" || rel == "tmp") {
			return filepath.SkipDir
		}
		list = append(list, fmt.Sprint(rel, " ", info.Mode(), " ", info.ModTime()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func status(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// overTCP makes a database that listens on a socket's file reachable over TCP, as in a container's network.
func overTCP(t *testing.T, dsn string) string {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgNetworkAddress(config)
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				var dialer net.Dialer
				out, err := dialer.DialContext(context.WithoutCancel(t.Context()), network, address)
				if err != nil {
					return
				}
				defer out.Close()
				go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", config.User, l.Addr(), config.Database)
}

func pgNetworkAddress(c *pgx.ConnConfig) (network, address string) {
	if strings.HasPrefix(c.Host, "/") {
		return "unix", fmt.Sprintf("%s/.s.PGSQL.%d", c.Host, c.Port)
	}
	return "tcp", net.JoinHostPort(c.Host, fmt.Sprint(c.Port))
}
