package store

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store/privatepg/pgtest"
)

// BenchmarkIntake stores events of 2 kB on a database with fsync, each about a target of its own: the event, the run, its
// incident and its job. Compare it with pgbench in the same window.
func BenchmarkIntake(b *testing.B) {
	cluster := pgtest.Start(b)
	if err := migrations.Up(b.Context(), cluster.DSN()); err != nil {
		b.Fatal(err)
	}
	s, err := Open(b.Context(), testOptions(b, cluster.DSN(), "one/1"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	payload := []byte(`{"pad":"` + strings.Repeat("drydock ", 250) + `"}`)
	for _, handlers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("handlers=%d", handlers), func(b *testing.B) {
			var n atomic.Int64
			b.SetParallelism(max(1, handlers/2)) // times GOMAXPROCS
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					id := fmt.Sprintf("%d-%d-%d", handlers, b.N, n.Add(1))
					a := triggered(id, "P"+id, target("c", id))
					a.Payload = payload
					if r, err := s.Intake(b.Context(), a); err != nil || r.Outcome != playbook.EventStarted {
						b.Errorf("intake: %+v, %v", r, err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
