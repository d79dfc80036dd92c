package main

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
)

// results are the raw figures of a run. Durations are in nanoseconds.
type results struct {
	Go       string         `json:"go"`
	Platform string         `json:"platform"`
	CPUs     int            `json:"cpus"`
	Load     string         `json:"load_average_before,omitempty"`
	Postgres postgresFacts  `json:"postgres"`
	Decide   []decideResult `json:"decide"`
	Intake   []intakeResult `json:"intake"`
}

// row is a line of the table.
type row struct{ what, drydock, limit, ratio string }

// print writes the table.
func (r results) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s, %d CPUs, load %s before; %s; PostgreSQL %s, fsync on, %s to sync a page\n\n",
		r.Platform, r.CPUs, r.Load, r.Go, r.Postgres.Version, short(r.Postgres.Sync))
	if err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "WHAT\tDRYDOCK\tLIMIT, MEASURED IN TURNS WITH IT\tRATIO")
	for _, line := range append(r.decideRows(), r.intakeRows()...) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", line.what, line.drydock, line.limit, line.ratio)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	_, err = fmt.Fprint(w, `
Ratios are Drydock / limit. Decide and its bare pass, which reads the same fields of the same nodes and pods once: times,
less is better, and 1.00 per node is linear. Intake: rates, more is better. Processor time: of client, Drydock and Postgres
together, per webhook or transaction; less is better, and a busy machine changes it least. Drydock verifies, parses, logs
and answers over HTTP, and writes one row more (the run's incident) than pgbench, which writes event, run and job in one
statement.
`)
	if err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	return nil
}

func (r results) decideRows() []row {
	var rows []row
	for _, d := range r.Decide {
		rows = append(rows, row{
			what:    fmt.Sprintf("Decide, %d nodes, one full", d.Nodes),
			drydock: fmt.Sprintf("%v, %d allocations, %d kB", d.Decide, d.Allocations, d.Bytes/1000),
			limit:   fmt.Sprintf("bare pass: %v", d.Bare),
			ratio:   ratio(d.Decide.P50, d.Bare.P50),
		})
	}
	if len(r.Decide) < 2 {
		return rows
	}
	small, large := r.Decide[0], r.Decide[len(r.Decide)-1]
	perNode := func(d decideResult) float64 { return float64(d.Decide.P50) / float64(d.Nodes) }
	return append(rows, row{
		what:    fmt.Sprintf("Decide, per node, %d nodes", large.Nodes),
		drydock: fmt.Sprintf("%.0f ns", perNode(large)),
		limit:   fmt.Sprintf("at %d nodes: %.0f ns", small.Nodes, perNode(small)),
		ratio:   ratio(perNode(large), perNode(small)),
	})
}

func (r results) intakeRows() []row {
	var rates, costs []row
	for _, i := range r.Intake {
		ours, theirs := middle(i.Drydock), middle(i.Pgbench)
		connections := ", connections: " + strconv.Itoa(i.Connections)
		rates = append(rates, row{
			what:    "Webhook intake" + connections,
			drydock: ours.String(),
			limit:   "pgbench: " + theirs.String(),
			ratio:   ratio(ours.Rate, theirs.Rate),
		})
		if ours.CPU > 0 && theirs.CPU > 0 {
			costs = append(costs, row{
				what:    "Processor time each" + connections,
				drydock: short(ours.CPU),
				limit:   "pgbench: " + short(theirs.CPU),
				ratio:   ratio(ours.CPU, theirs.CPU),
			})
		}
	}
	return append(rates, costs...)
}

func ratio[T float64 | time.Duration](drydock, limit T) string {
	return fmt.Sprintf("%.2f", float64(drydock)/float64(limit))
}

// middle takes the median of each figure.
func middle(windows []window) window {
	var rates []float64
	var p50s, p99s, cpus []time.Duration
	m := window{}
	for _, w := range windows {
		rates, p50s, p99s = append(rates, w.Rate), append(p50s, w.P50), append(p99s, w.P99)
		cpus = append(cpus, w.CPU)
		m.Done += w.Done
	}
	m.Rate, m.P50, m.P99, m.CPU = median(rates), median(p50s), median(p99s), median(cpus)
	return m
}

func (t timing) String() string { return fmt.Sprintf("p50 %s, p99 %s", short(t.P50), short(t.P99)) }

func (w window) String() string {
	return fmt.Sprintf("%6.0f/s, p50 %s, p99 %s", w.Rate, short(w.P50), short(w.P99))
}

// short is a duration with three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(d.Nanoseconds())/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d.Microseconds())/1e3)
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}
