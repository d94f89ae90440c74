package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	leaseTTL = 600
	// Of watch-rate: who puts, on connections of their own.
	writers     = 100
	writerConns = 10
	// Of watch-rate: every so many responses one delay is noted.
	delaySample = 16
)

// keepalives opens one stream for each lease, and renews on each as fast as it is answered.
func keepalives(pool []*clientv3.Client) (func(*tally), error) {
	streams := make([]pb.Lease_LeaseKeepAliveClient, *clients)
	ids := make([]int64, *clients)
	for i := range streams {
		conn := pool[i%len(pool)].ActiveConnection()
		lease, err := pool[i%len(pool)].Grant(context.Background(), leaseTTL)
		if err != nil {
			return nil, err
		}
		ids[i] = int64(lease.ID)
		if streams[i], err = pb.NewLeaseClient(conn).LeaseKeepAlive(context.Background()); err != nil {
			return nil, err
		}
	}
	return func(t *tally) {
		for i := range streams {
			go renew(t, streams[i], ids[i])
		}
	}, nil
}

func renew(t *tally, stream pb.Lease_LeaseKeepAliveClient, id int64) {
	s := t.shard()
	for {
		before := time.Now()
		err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id})
		var r *pb.LeaseKeepAliveResponse
		if err == nil {
			r, err = stream.Recv()
		}
		if err == nil && r.TTL <= 0 {
			err = fmt.Errorf("lease %x was not renewed", id)
		}
		if err != nil {
			t.failed(err)
			return
		}
		s.done(1, time.Since(before))
	}
}

// watchers opens one stream on each connection, with its share of the watchers, and waits until all are created.
// The generated client is used, not the one that gives each watcher a channel: 10,000 of those would measure it.
func watchers(pool []*clientv3.Client, n int, key, end string) ([]pb.Watch_WatchClient, error) {
	streams := make([]pb.Watch_WatchClient, min(n, len(pool)))
	for i := range streams {
		stream, err := pb.NewWatchClient(pool[i].ActiveConnection()).Watch(context.Background())
		if err != nil {
			return nil, err
		}
		streams[i] = stream
		request := &pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end)}
		create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}}
		for w := i; w < n; w += len(streams) {
			if err := stream.Send(create); err != nil {
				return nil, err
			}
		}
		for w := i; w < n; w += len(streams) {
			if r, err := stream.Recv(); err != nil {
				return nil, err
			} else if !r.Created || r.Canceled {
				return nil, fmt.Errorf("a watch was not created: %v", r)
			}
		}
	}
	return streams, nil
}

// watchOne puts once, waits until every watcher has it, and puts again. A latency is from the put to the last.
func watchOne(pool []*clientv3.Client, value []byte) (func(*tally), error) {
	streams, err := watchers(pool, *clients, key(0), "")
	if err != nil {
		return nil, err
	}
	var seen atomic.Int64
	all := make(chan struct{}, 1)
	receive := func(t *tally, stream pb.Watch_WatchClient) {
		for {
			r, err := stream.Recv()
			if err != nil {
				t.failed(err)
				return
			}
			if seen.Add(int64(len(r.Events))) == int64(*clients) {
				all <- struct{}{}
			}
		}
	}
	return func(t *tally) {
		for _, stream := range streams {
			go receive(t, stream)
		}
		go func() {
			s := t.shard()
			for {
				before := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), *timeout)
				_, err := pool[0].Put(ctx, key(0), string(value))
				cancel()
				if err != nil {
					t.failed(err)
					time.Sleep(pauseAfterError)
					continue
				}
				select {
				case <-all:
					s.done(1, time.Since(before))
				case <-time.After(*timeout):
					t.failed(fmt.Errorf("after %v only %d of %d watchers have the event", *timeout, seen.Load(), *clients))
					return
				}
				seen.Store(0)
			}
		}()
	}, nil
}

// watchRate has every watcher see every put. An operation is an event delivered; its latency runs from before the put.
func watchRate(pool []*clientv3.Client, value []byte) (func(*tally), error) {
	streams, err := watchers(pool, *clients, key(0), rangeEnd)
	if err != nil {
		return nil, err
	}
	putters, err := dial(writerConns)
	if err != nil {
		return nil, err
	}
	return func(t *tally) {
		for _, stream := range streams {
			go receiveAll(t, stream)
		}
		for w := 0; w < writers; w++ {
			go putStamped(t, putters[w%len(putters)], append([]byte(nil), value...), rand.New(rand.NewSource(int64(w))))
		}
	}, nil
}

func receiveAll(t *tally, stream pb.Watch_WatchClient) {
	s := t.shard()
	for n := 0; ; n++ {
		r, err := stream.Recv()
		if err != nil {
			t.failed(err)
			return
		}
		if len(r.Events) == 0 {
			continue
		}
		took := time.Duration(-1)
		if n%delaySample == 0 {
			sent := int64(binary.BigEndian.Uint64(r.Events[0].Kv.Value))
			took = time.Duration(time.Now().UnixNano() - sent)
		}
		s.done(int64(len(r.Events)), took)
	}
}

func putStamped(t *tally, c *clientv3.Client, value []byte, random *rand.Rand) {
	for {
		binary.BigEndian.PutUint64(value, uint64(time.Now().UnixNano()))
		ctx, cancel := context.WithTimeout(context.Background(), *timeout)
		_, err := c.Put(ctx, key(random.Intn(*keySpace)), string(value))
		cancel()
		if err != nil {
			t.failed(err)
			time.Sleep(pauseAfterError)
		} else if t.counting.Load() {
			t.puts.Add(1)
		}
	}
}
