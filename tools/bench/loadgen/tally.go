package main

import (
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type result struct {
	Workload   string  `json:"workload"`
	Operations int64   `json:"operations"`
	Errors     int64   `json:"errors"`
	FirstError string  `json:"firstError,omitempty"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"perSecond"`
	P50Ms      float64 `json:"p50Ms"`
	P99Ms      float64 `json:"p99Ms"`
	// Puts acknowledged in a second where operations are something else: watch-rate.
	PutsPerSecond float64 `json:"putsPerSecond,omitempty"`
	CPUSeconds    float64 `json:"cpuSeconds"`
}

// tally counts what is finished between start and stop. Each worker has a shard of its own.
type tally struct {
	counting   atomic.Bool
	mu         sync.Mutex
	shards     []*shard
	failures   atomic.Int64
	firstError atomic.Value
	puts       atomic.Int64
	startedAt  time.Time
	cpu        float64
}

type shard struct {
	t          *tally
	mu         sync.Mutex
	operations int64
	latencies  []float64
}

func newTally() *tally { return &tally{} }

func (t *tally) shard() *shard {
	s := &shard{t: t}
	t.mu.Lock()
	t.shards = append(t.shards, s)
	t.mu.Unlock()
	return s
}

func (t *tally) failed(err error) {
	if t.counting.Load() {
		t.failures.Add(1)
		t.firstError.CompareAndSwap(nil, err.Error())
	}
}

// done counts operations, with one latency for all of them (none if it is negative).
func (s *shard) done(operations int64, took time.Duration) {
	if !s.t.counting.Load() {
		return
	}
	s.mu.Lock()
	s.operations += operations
	if took >= 0 {
		s.latencies = append(s.latencies, float64(took.Microseconds())/1000)
	}
	s.mu.Unlock()
}

func (t *tally) start() {
	t.startedAt = time.Now()
	t.cpu = cpuSeconds()
	t.counting.Store(true)
}

func (t *tally) stop() result {
	t.counting.Store(false)
	took := time.Since(t.startedAt).Seconds()
	r := result{Workload: *workload, Errors: t.failures.Load(), Seconds: took, CPUSeconds: cpuSeconds() - t.cpu}
	var all []float64
	t.mu.Lock()
	for _, s := range t.shards {
		s.mu.Lock()
		r.Operations += s.operations
		all = append(all, s.latencies...)
		s.mu.Unlock()
	}
	t.mu.Unlock()
	sort.Float64s(all)
	r.PerSecond = float64(r.Operations) / took
	r.PutsPerSecond = float64(t.puts.Load()) / took
	if e := t.firstError.Load(); e != nil {
		r.FirstError = e.(string)
	}
	if len(all) > 0 {
		r.P50Ms = all[len(all)/2]
		r.P99Ms = all[len(all)*99/100]
	}
	return r
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
}
