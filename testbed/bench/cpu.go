package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// spending is processor time so far.
type spending struct {
	here     time.Duration // this process and its children that have ended, as pgbench has
	database time.Duration // a Postgres server with all its backends
}

// cpuSpent reads it. It is zero where there is no Linux /proc to tell.
func cpuSpent(postmaster int) spending {
	var s spending
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err != nil {
			return spending{}
		}
		s.here += time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	// A backend that ends while we look moves into the postmaster's account of its children: look again.
	for range 10 {
		before, ok := readCPU(postmaster)
		if !ok {
			return spending{}
		}
		backends := time.Duration(0)
		stats, _ := filepath.Glob("/proc/[0-9]*/stat") // an error means a malformed pattern
		for _, path := range stats {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				continue
			}
			if p, ok := readCPU(pid); ok && p.parent == postmaster {
				backends += p.own
			}
		}
		if after, ok := readCPU(postmaster); ok && after.children == before.children {
			s.database = after.own + after.children + backends
			return s
		}
	}
	return spending{}
}

// spent notes what a window's work has cost.
func (w *window) spent(before, after spending) {
	if before == (spending{}) || after == (spending{}) {
		return
	}
	w.Database = (after.database - before.database) / time.Duration(w.Done)
	w.CPU = (after.here-before.here)/time.Duration(w.Done) + w.Database
}

// processCPU is one process's line in /proc.
type processCPU struct {
	parent        int
	own, children time.Duration // children that have ended and were waited for
}

// perTick is a clock tick of /proc: Linux shows 100 a second on every platform that Go knows.
const perTick = 10 * time.Millisecond

func readCPU(pid int) (processCPU, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processCPU{}, false // it has ended
	}
	return parseCPU(text)
}

// parseCPU reads proc(5)'s stat: behind the name in brackets, which may hold anything, the parent is the 2nd field, and
// the times are the 12th to 15th.
func parseCPU(text []byte) (processCPU, bool) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return processCPU{}, false
	}
	var numbers [5]int
	for i, at := range []int{1, 11, 12, 13, 14} {
		n, err := strconv.Atoi(string(fields[at]))
		if err != nil {
			return processCPU{}, false
		}
		numbers[i] = n
	}
	return processCPU{parent: numbers[0], own: time.Duration(numbers[1]+numbers[2]) * perTick,
		children: time.Duration(numbers[3]+numbers[4]) * perTick}, true
}
