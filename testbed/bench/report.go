package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// results are what a run measured. Durations are in nanoseconds.
type results struct {
	Go       string         `json:"go"`
	Platform string         `json:"platform"`
	CPUs     int            `json:"cpus"`
	Load     string         `json:"load_average_before,omitempty"`
	Raw      map[string]any `json:"raw"` // by measurement
	rows     []row
}

// row is a line of the table: Drydock's figure, that of the limit which was measured in turns with it, Drydock divided by
// the limit, and what we want that to be.
type row struct{ what, drydock, limit, ratio, goal string }

// writeTable writes the table.
func (r results) writeTable(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s, %d CPUs, load %s before; %s\n\n", r.Platform, r.CPUs, r.Load, r.Go)
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "WHAT\tDRYDOCK\tLIMIT, MEASURED IN TURNS WITH IT\tRATIO\tGOAL")
	for _, line := range r.rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", line.what, line.drydock, line.limit, line.ratio, line.goal)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	_, err = fmt.Fprint(w, `
Ratios are Drydock / limit. Decide and its bare pass, which reads the same fields of the same nodes and pods once: times,
less is better, and 1.00 per node is linear. Intake: rates, more is better. Processor time: of client, Drydock and Postgres
together, per webhook or transaction; less is better, and a busy machine changes it least. Drydock verifies, parses, logs
and answers over HTTP, and writes one row more (the run's incident) than pgbench, which writes event, run and job in one
statement. A page of the history is 50 runs with their incidents, the primary key one run: times, of which the slower of first pages
and pages at any depth makes the ratio; blocks are of 8 kB, read by a page, wherever they were.
`)
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

func ratio[T float64 | time.Duration](drydock, limit T) string {
	return fmt.Sprintf("%.2f", float64(drydock)/float64(limit))
}

// middle takes the median of each figure.
func middle(windows []window) window {
	var rates []float64
	var p50s, p99s, cpus, databases []time.Duration
	m := window{}
	for _, w := range windows {
		rates, p50s, p99s = append(rates, w.Rate), append(p50s, w.P50), append(p99s, w.P99)
		cpus, databases = append(cpus, w.CPU), append(databases, w.Database)
		m.Done += w.Done
	}
	m.Rate, m.P50, m.P99 = median(rates), median(p50s), median(p99s)
	m.CPU, m.Database = median(cpus), median(databases)
	return m
}

func (t timing) String() string {
	if t.Calls == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %s, p99 %s", short(t.P50), short(t.P99))
}

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
