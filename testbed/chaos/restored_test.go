package chaos

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/pagerduty"
)

// soon bounds each wait of the test.
const soon = time.Minute

// spareNode belongs to no target.
const spareNode = "spare-1"

// installation is a Drydock with a database, a proxy and a service of its own, on the carrier of the first one.
type installation struct {
	*replica
	api  *apiServer
	db   *postgres
	self string // the PagerDuty service that it pages
}

// TestRestoredDatabase lets two Drydocks come to a carrier on which the first one is in the middle of a drain: one on a copy of
// its database, made a moment earlier, which takes the run for its own; and a stranger with an empty database. Neither may
// change anything there, nor put back what the first one has marked, until an admin confirms one of them. Then that one puts back
// what its database owes, and the first one finds itself behind.
func TestRestoredDatabase(t *testing.T) {
	n := newNight(t, options{seed: drawn(t), replicas: 1, carriers: 1, mode: playbook.ModeAct, deadline: 8 * time.Minute})
	ctx, first, c := t.Context(), n.replicas[0], n.carriers[0]
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// The target that is always reapplied: after the cordon at least an eviction, a delete and a create follow.
	broken, other := c.targets[1], c.targets[0]
	must(n.cluster.AddNodes(ctx, n.cluster.NewNode(spareNode)))
	for _, target := range c.targets {
		_, err := target.fill(ctx)
		must(err)
	}
	incident := n.alert(t, serviceID, broken)
	must(n.eventually(ctx, "the first one's cordon", func() error {
		if len(n.watch.marks()) == 0 {
			return errors.New("no node is marked")
		}
		return nil
	}))

	// The copy is made while nobody writes.
	first.kill()
	copied, err := n.copyDatabase(ctx, "past")
	must(err)
	_, err = n.copyDatabase(ctx, "") // nothing to copy: an empty one
	must(err)
	must(first.start())
	must(n.eventually(ctx, "the first one to go on after the copy", func() error {
		count, err := n.counted(ctx, c)
		if err == nil && count <= copied {
			err = fmt.Errorf("the carrier's Lease counts %d, the copy knows %d", count, copied)
		}
		return err
	}))
	must(first.freeze())
	changed := c.api.count()

	// The true ledger may have cordoned what a copy can not know of.
	must(n.markAs(ctx, broken.fullNode(), spareNode, "a-run-after-the-copy"))
	marks := n.watch.marks()
	if marks[broken.fullNode()] == "" {
		t.Fatal("the node that is drained bears no mark any more")
	}

	restored, err := n.install(ctx, "restored", "past", serviceID, nil)
	must(err)
	const strangers = "PSTRANGER"
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	stranger, err := n.install(ctx, "stranger", "empty", strangers, key)
	must(err)
	strangersIncident := n.alert(t, strangers, other)

	// Their runs stop, and they page once their janitors have searched the carrier for marks.
	for i, want := range map[*installation]struct{ incident, why string }{
		restored: {incident, "the database is behind the carrier"},
		stranger: {strangersIncident, "another installation of Drydock"},
	} {
		must(n.eventually(ctx, i.name+" to stop", func() error { return i.db.stopped(ctx, want.incident, want.why) }))
		must(n.eventually(ctx, i.name+" to page", func() error {
			if title := n.pagedBy(i.self); !strings.Contains(title, want.why) {
				return fmt.Errorf("people were paged: %q", title)
			}
			return nil
		}))
		if made := i.api.count(); made != 0 {
			t.Errorf("%s made %d changes before an admin confirmed: %v", i.name, made, i.api.list())
		}
	}
	if diff := cmp.Diff(marks, n.watch.marks()); diff != "" {
		t.Errorf("the marks of the carrier (-before, +after): %s", diff)
	}

	must(n.confirm(ctx, restored, c))
	must(n.eventually(ctx, "the restored one to put back what it owes", func() error {
		node, err := broken.client.CoreV1().Nodes().Get(ctx, broken.fullNode(), metav1.GetOptions{})
		if err == nil && (node.Spec.Unschedulable || node.Annotations[kube.CordonOwner] != "") {
			err = fmt.Errorf("it is unschedulable (%v) and bears the mark %q", node.Spec.Unschedulable, node.Annotations[kube.CordonOwner])
		}
		return err
	}))
	if made := stranger.api.count(); made != 0 {
		t.Errorf("the stranger made %d changes, and was never confirmed: %v", made, stranger.api.list())
	}

	must(first.thaw())
	must(n.eventually(ctx, "the first one to find itself behind", func() error {
		return n.postgres.stopped(ctx, incident, "the database is behind the carrier")
	}))
	// One call may have been under way when it was frozen, behind its own look at the Lease (docs/adr/0009). Without the fence an
	// eviction, a delete and a create would follow.
	if made := c.api.count(); made > changed+1 {
		t.Errorf("the first one made %d changes after the other was confirmed: %v", made-changed, c.api.list()[changed:])
	}
	n.report(t)
}

// stopped reports an error unless the incident's one run says why it changes nothing.
func (p *postgres) stopped(ctx context.Context, incident, why string) error {
	runs, err := p.runsOf(ctx, incident)
	if err == nil && (len(runs) != 1 || !strings.Contains(runs[0].Why, why)) {
		err = fmt.Errorf("its runs are %+v", runs)
	}
	return err
}

func (n *night) eventually(ctx context.Context, what string, check func() error) error {
	return await.Until(within(ctx, soon), what, func(context.Context) error { return check() })
}

// alert raises a target's alert and returns its incident.
func (n *night) alert(t *testing.T, service string, target *target) string {
	t.Helper()
	in, err := n.pager.Trigger(service, pagerduty.Alert{Key: target.DaemonSet, Summary: target.title(""), Details: map[string]any{"carrier": target.Carrier}})
	if err != nil {
		t.Fatal(err)
	}
	return in.ID
}

// copyDatabase makes a database of that name from the replicas', or an empty one when it has none, and returns how many changes
// of the carrier it knows.
func (n *night) copyDatabase(ctx context.Context, name string) (known int64, err error) {
	config := n.postgres.pool.Config().ConnConfig.Copy()
	source := config.Database
	statement := "CREATE DATABASE empty"
	if name != "" {
		statement = fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, pgx.Identifier{source}.Sanitize())
		if err := n.postgres.pool.QueryRow(ctx, `SELECT coalesce(max(number), 0) FROM carrier_counts`).Scan(&known); err != nil {
			return 0, fmt.Errorf("read the count of changes: %w", err)
		}
		n.postgres.pool.Reset() // a database that somebody is connected to can not be copied
	}
	config.Database = "template1"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return 0, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// The connections of the process that was killed take a moment to end.
	return known, n.eventually(ctx, "the copy of the database", func() error {
		_, err := conn.Exec(ctx, statement)
		return err
	})
}

// counted is the number of changes that the carrier's Lease counts.
func (n *night) counted(ctx context.Context, c *carrier) (int64, error) {
	lease, err := n.cluster.Client().CoordinationV1().Leases(playbook.LeaseNamespace).Get(ctx, playbook.LeaseName, metav1.GetOptions{})
	if err != nil {
		return 0, fmt.Errorf("read the carrier's Lease: %w", err)
	}
	var counts map[string]playbook.Count
	if err := json.Unmarshal([]byte(lease.Annotations[kube.Counts]), &counts); err != nil {
		return 0, fmt.Errorf("read the carrier's Lease: %w", err)
	}
	return counts[c.Name].Number, nil
}

// markAs cordons a node as the installation has cordoned another one, for a run of that name.
func (n *night) markAs(ctx context.Context, like, node, run string) error {
	nodes := n.cluster.Client().CoreV1().Nodes()
	from, err := nodes.Get(ctx, like, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read node %s: %w", like, err)
	}
	var mark playbook.Mark
	if err := json.Unmarshal([]byte(from.Annotations[kube.CordonOwner]), &mark); err != nil {
		return fmt.Errorf("read the mark of node %s: %w", like, err)
	}
	mark.Run = run
	text, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{kube.CordonOwner: string(text)}},
		"spec": map[string]any{"unschedulable": true}})
	if err != nil {
		return err
	}
	if _, err := nodes.Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("mark node %s: %w", node, err)
	}
	return n.eventually(ctx, "the mark to be seen", func() error {
		if n.watch.marks()[node] != run {
			return fmt.Errorf("node %s is not seen marked", node)
		}
		return nil
	})
}

// install starts another Drydock on the carriers, with a database of that name and a service of its own. Without a backup key
// it has the first one's: then it is the same installation.
func (n *night) install(ctx context.Context, name, database, service string, key []byte) (*installation, error) {
	i := &installation{self: "PSELF" + strings.ToUpper(name)[:4]}
	var err error
	if i.replica, err = n.newReplica(name); err != nil {
		return nil, err
	}
	self, err := n.pager.AddService(pagerduty.Service{ID: i.self, Name: name + " itself", PolicyID: defaultPolicy})
	if err != nil {
		return nil, fmt.Errorf("add service: %w", err)
	}
	dsn, err := url.Parse(n.postgres.dsn())
	if err != nil {
		return nil, fmt.Errorf("name database %s: %w", database, err)
	}
	dsn.Path = "/" + database
	pool, err := pgxpool.New(ctx, dsn.String())
	if err != nil {
		return nil, fmt.Errorf("connect to database %s: %w", database, err)
	}
	n.atStop(func() error { pool.Close(); return nil })
	i.db = &postgres{pool: pool}
	i.env = append(slices.Clone(n.env), "PAGERDUTY_SELF_KEY="+self.RoutingKey, "DATABASE_URL="+dsn.String())
	if key != nil {
		i.env = append(i.env, "BACKUP_KEY="+base64.StdEncoding.EncodeToString(key))
	}
	if service != serviceID {
		if _, err := n.pager.AddService(pagerduty.Service{ID: service, Name: name, PolicyID: defaultPolicy}); err != nil {
			return nil, fmt.Errorf("add service: %w", err)
		}
		hook, err := n.pager.Subscribe(pagerduty.Subscription{URL: i.url() + "/webhooks/pagerduty", Events: pagerduty.EventTypes(),
			FilterType: "service_reference", FilterID: service})
		if err != nil {
			return nil, fmt.Errorf("subscribe: %w", err)
		}
		i.env = append(i.env, "PAGERDUTY_WEBHOOK_SECRET="+hook.Secret)
	}
	if i.api, err = newAPIServer(n.ctx, n.cluster.RESTConfig(), n.seed); err != nil {
		return nil, err
	}
	mine := &carrier{Name: n.carriers[0].Name, Kubeconfig: filepath.Join(i.dir, "carrier.kubeconfig"), api: i.api}
	if err := i.api.kubeconfig(mine.Kubeconfig); err != nil {
		return nil, err
	}
	if err := n.configure(i.replica, i.url(), service, []*carrier{mine}); err != nil {
		return nil, err
	}
	i.binary = n.binary
	if err := i.start(); err != nil {
		return nil, err
	}
	n.atStop(i.stop)
	return i, i.awaitReady(ctx)
}

// confirm is an admin's word, by the command that the page names.
func (n *night) confirm(ctx context.Context, i *installation, c *carrier) error {
	token, err := os.ReadFile(filepath.Join(i.dir, "data", "token"))
	if err != nil {
		return fmt.Errorf("read the admin's token: %w", err)
	}
	cmd := exec.CommandContext(ctx, n.binary, "carriers", "confirm", c.Name, "--reason", "restored from a backup", "--server", i.url())
	cmd.Dir, cmd.Env = i.dir, append(slices.Clone(i.env), "DRYDOCK_TOKEN="+strings.TrimSpace(string(token)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("drydock carriers confirm: %w\n%s", err, out)
	}
	return nil
}

// pagedBy is what people were paged about by a service, empty for nothing.
func (n *night) pagedBy(service string) string {
	for _, in := range n.pager.Incidents() {
		if in.ServiceID == service {
			return in.Title
		}
	}
	return ""
}

// marks are the nodes that bear a mark now, and the run that it names.
func (w *watch) marks() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.marked)
}

// count is how many changes passed.
func (s *apiServer) count() int { return len(s.list()) }

// list is what the changes were that passed.
func (s *apiServer) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]string, len(s.changes))
	for i, r := range s.changes {
		all[i] = fmt.Sprintf("%s %s (%d)", r.method, r.path, r.status)
	}
	return all
}
