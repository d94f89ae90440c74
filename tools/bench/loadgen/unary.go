package main

import (
	"context"
	"fmt"
	"math/rand"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const pauseAfterError = 10 * time.Millisecond

type operation func(ctx context.Context, c *clientv3.Client, n int, random *rand.Rand) error

// workloadByName makes what starts the load and leaves it running.
func workloadByName(name string, pool []*clientv3.Client, value []byte) (func(*tally), error) {
	switch name {
	case "keepalive":
		return keepalives(pool)
	case "watch-one":
		return watchOne(pool, value)
	case "watch-rate":
		return watchRate(pool, value)
	}
	op := unary(name, string(value))
	if op == nil {
		return nil, fmt.Errorf("unknown workload %s", name)
	}
	return func(t *tally) {
		for i := 0; i < *clients; i++ {
			go work(t, op, pool[i%len(pool)], rand.New(rand.NewSource(int64(i))))
		}
	}, nil
}

// work is one client: it asks, waits for the answer, asks again.
func work(t *tally, op operation, c *clientv3.Client, random *rand.Rand) {
	s := t.shard()
	for {
		before := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), *timeout)
		err := op(ctx, c, random.Intn(*keySpace), random)
		cancel()
		if err != nil {
			t.failed(err)
			time.Sleep(pauseAfterError)
		} else {
			s.done(1, time.Since(before))
		}
	}
}

func unary(name, value string) operation {
	put := func(ctx context.Context, c *clientv3.Client, n int, _ *rand.Rand) error {
		_, err := c.Put(ctx, key(n), value)
		return err
	}
	get := func(options ...clientv3.OpOption) operation {
		return func(ctx context.Context, c *clientv3.Client, n int, _ *rand.Rand) error {
			_, err := c.Get(ctx, key(n), options...)
			return err
		}
	}
	switch name {
	case "put":
		return put
	case "get":
		return get()
	case "get-serializable":
		return get(clientv3.WithSerializable())
	case "range":
		return func(ctx context.Context, c *clientv3.Client, n int, _ *rand.Rand) error {
			return rangeOf(ctx, c, key(n/2), min(1000, *keySpace-n/2), clientv3.WithLimit(1000))
		}
	case "range-all":
		return func(ctx context.Context, c *clientv3.Client, _ int, _ *rand.Rand) error {
			return rangeOf(ctx, c, key(0), *keySpace)
		}
	case "mixed":
		read := get()
		return func(ctx context.Context, c *clientv3.Client, n int, random *rand.Rand) error {
			if random.Intn(10) == 0 {
				return put(ctx, c, n, random)
			}
			return read(ctx, c, n, random)
		}
	case "txn":
		return compareAndPut(value)
	}
	return nil
}

// rangeOf fails on an answer that is not whole: a fast wrong answer is worth nothing.
func rangeOf(ctx context.Context, c *clientv3.Client, from string, want int, options ...clientv3.OpOption) error {
	r, err := c.Get(ctx, from, append(options, clientv3.WithRange(rangeEnd))...)
	if err == nil && len(r.Kvs) != want {
		return fmt.Errorf("a range of %d keys, not %d", len(r.Kvs), want)
	}
	return err
}

// compareAndPut is how Kubernetes updates an object: it knows the revision it has read, puts if that still is the
// latest, and takes the present object from the same answer if not.
func compareAndPut(value string) operation {
	known := make([]atomic.Int64, *keySpace)
	return func(ctx context.Context, c *clientv3.Client, n int, _ *rand.Rand) error {
		k := key(n)
		r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k), "=", known[n].Load())).
			Then(clientv3.OpPut(k, value)).Else(clientv3.OpGet(k)).Commit()
		if err != nil {
			return err
		}
		if r.Succeeded {
			known[n].Store(r.Header.Revision)
		} else if kvs := r.Responses[0].GetResponseRange().Kvs; len(kvs) == 1 {
			known[n].Store(kvs[0].ModRevision)
		}
		return nil
	}
}
