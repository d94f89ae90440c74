// Loadgen drives an etcd API with the official Go client and prints one JSON line of what it saw.
// The same binary, with the same arguments, loads etcd and Quoin in turns: see ../main.ts.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

type result struct {
	Workload   string  `json:"workload"`
	Operations int     `json:"operations"`
	Errors     int64   `json:"errors"`
	FirstError string  `json:"firstError,omitempty"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"perSecond"`
	P50Ms      float64 `json:"p50Ms"`
	P99Ms      float64 `json:"p99Ms"`
	CPUSeconds float64 `json:"cpuSeconds"`
}

var (
	endpoints = flag.String("endpoints", "127.0.0.1:2379", "comma-separated client addresses")
	workload  = flag.String("workload", "put", "fill (put every key once), put, get (linearizable), get-serializable, range (1,000 keys), txn (compare and put)")
	conns     = flag.Int("conns", 1, "connections")
	clients   = flag.Int("clients", 1, "concurrent clients, spread over the connections")
	seconds   = flag.Float64("seconds", 5, "how long to run")
	keySpace  = flag.Int("keys", 10000, "distinct keys")
	keySize   = flag.Int("key-size", 8, "bytes, at least 8")
	valueSize = flag.Int("value-size", 256, "bytes")
	timeout   = flag.Duration("timeout", 10*time.Second, "for one request")
)

func key(n int) string {
	b := make([]byte, *keySize)
	binary.BigEndian.PutUint64(b, uint64(n))
	return string(b)
}

func main() {
	flag.Parse()
	if *keySize < 8 || *conns < 1 || *clients < 1 {
		fmt.Fprintln(os.Stderr, "loadgen: --key-size is at least 8, --conns and --clients at least 1")
		os.Exit(2)
	}
	eps := strings.Split(*endpoints, ",")
	pool := make([]*clientv3.Client, *conns)
	for i := range pool {
		// One endpoint for each connection in turn, as the official benchmark tool does it.
		c, err := clientv3.New(clientv3.Config{
			Endpoints:   []string{eps[i%len(eps)]},
			DialTimeout: 10 * time.Second,
			Logger:      zap.NewNop(),
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "loadgen:", err)
			os.Exit(1)
		}
		defer c.Close()
		pool[i] = c
	}
	value := make([]byte, *valueSize)
	rand.Read(value)
	if *workload == "fill" {
		if err := fillKeys(pool, string(value)); err != nil {
			fmt.Fprintln(os.Stderr, "loadgen: fill:", err)
			os.Exit(1)
		}
		json.NewEncoder(os.Stdout).Encode(result{Workload: *workload, Operations: *keySpace})
		return
	}
	json.NewEncoder(os.Stdout).Encode(run(pool, string(value)))
}

func fillKeys(pool []*clientv3.Client, value string) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Value
	for w := 0; w < 64; w++ {
		wg.Add(1)
		go func(c *clientv3.Client) {
			defer wg.Done()
			for n := int(next.Add(1)) - 1; n < *keySpace; n = int(next.Add(1)) - 1 {
				if _, err := c.Put(context.Background(), key(n), value); err != nil {
					failed.Store(err)
					return
				}
			}
		}(pool[w%len(pool)])
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return err.(error)
	}
	return nil
}

func operation(value string) func(context.Context, *clientv3.Client, int) error {
	switch *workload {
	case "put":
		return func(ctx context.Context, c *clientv3.Client, n int) error {
			_, err := c.Put(ctx, key(n), value)
			return err
		}
	case "get":
		return func(ctx context.Context, c *clientv3.Client, n int) error {
			_, err := c.Get(ctx, key(n))
			return err
		}
	case "get-serializable":
		return func(ctx context.Context, c *clientv3.Client, n int) error {
			_, err := c.Get(ctx, key(n), clientv3.WithSerializable())
			return err
		}
	case "range":
		return func(ctx context.Context, c *clientv3.Client, n int) error {
			_, err := c.Get(ctx, key(n / 2), clientv3.WithRange("\x00"+"\xff"), clientv3.WithLimit(1000))
			return err
		}
	case "txn":
		return func(ctx context.Context, c *clientv3.Client, n int) error {
			k := key(n)
			got, err := c.Get(ctx, k)
			if err != nil {
				return err
			}
			var revision int64
			if len(got.Kvs) > 0 {
				revision = got.Kvs[0].ModRevision
			}
			_, err = c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k), "=", revision)).
				Then(clientv3.OpPut(k, value)).Else(clientv3.OpGet(k)).Commit()
			return err
		}
	}
	fmt.Fprintln(os.Stderr, "loadgen: unknown workload", *workload)
	os.Exit(2)
	return nil
}

func run(pool []*clientv3.Client, value string) result {
	op := operation(value)
	latencies := make([][]float64, *clients)
	var failures atomic.Int64
	var firstError atomic.Value
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(time.Duration(*seconds * float64(time.Second)))
	for i := 0; i < *clients; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			random := rand.New(rand.NewSource(int64(i)))
			c := pool[i%len(pool)]
			for {
				before := time.Now()
				if !before.Before(end) {
					return
				}
				ctx, cancel := context.WithTimeout(context.Background(), *timeout)
				err := op(ctx, c, random.Intn(*keySpace))
				cancel()
				if err != nil {
					failures.Add(1)
					firstError.CompareAndSwap(nil, err.Error())
					continue
				}
				latencies[i] = append(latencies[i], float64(time.Since(before).Microseconds())/1000)
			}
		}(i)
	}
	wg.Wait()
	took := time.Since(start).Seconds()
	var all []float64
	for _, l := range latencies {
		all = append(all, l...)
	}
	sort.Float64s(all)
	r := result{Workload: *workload, Operations: len(all), Errors: failures.Load(), Seconds: took, PerSecond: float64(len(all)) / took}
	if e := firstError.Load(); e != nil {
		r.FirstError = e.(string)
	}
	if len(all) > 0 {
		r.P50Ms = all[len(all)/2]
		r.P99Ms = all[len(all)*99/100]
	}
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		r.CPUSeconds = float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
	}
	return r
}
