// Interop runs the official Go client against the endpoints given and prints a line for each check. The first
// difference ends it with status 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.uber.org/zap"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func want(got, wanted any) {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		panic(fmt.Sprintf("got %v, want %v", got, wanted))
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: strings.Split(os.Args[1], ","), DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
	})
	must(err)
	defer c.Close()
	checks := []struct {
		name string
		run  func(context.Context, *clientv3.Client)
	}{
		{"kv", kv}, {"txn", txn}, {"large answer", large}, {"watch", watch}, {"watch of a compacted revision", compacted},
		{"lease", lease}, {"mutex", mutex}, {"election", election}, {"stm", stm}, {"endpoints", naming},
		{"auto-sync", autoSync}, {"cluster and maintenance", cluster}, {"auth", auth},
	}
	for _, check := range checks {
		func() {
			defer func() {
				if problem := recover(); problem != nil {
					fmt.Printf("not ok %s: %v\n", check.name, problem)
					os.Exit(1)
				}
			}()
			check.run(ctx, c)
			fmt.Println("ok", check.name)
		}()
	}
}

func kv(ctx context.Context, c *clientv3.Client) {
	for i := 0; i < 20; i++ {
		_, err := c.Put(ctx, fmt.Sprintf("go/kv/%02d", i), fmt.Sprint(i))
		must(err)
	}
	r, err := c.Get(ctx, "go/kv/", clientv3.WithPrefix(), clientv3.WithLimit(5),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	must(err)
	want(len(r.Kvs), 5)
	want(r.Count, 20)
	want(r.More, true)
	want(string(r.Kvs[0].Key), "go/kv/19")
	old, err := c.Put(ctx, "go/kv/00", "new", clientv3.WithPrevKV())
	must(err)
	want(string(old.PrevKv.Value), "0")
	past, err := c.Get(ctx, "go/kv/00", clientv3.WithRev(old.Header.Revision-1))
	must(err)
	want(string(past.Kvs[0].Value), "0")
	d, err := c.Delete(ctx, "go/kv/1", clientv3.WithPrefix(), clientv3.WithPrevKV())
	must(err)
	want(d.Deleted, 10)
	want(len(d.PrevKvs), 10)
	_, err = c.Put(ctx, "", "x")
	want(errors.Is(err, rpctypes.ErrEmptyKey), true)
	_, err = c.Get(ctx, "go/kv/", clientv3.WithRev(1<<40))
	want(errors.Is(err, rpctypes.ErrFutureRev), true)
}

func txn(ctx context.Context, c *clientv3.Client) {
	missing := clientv3.Compare(clientv3.CreateRevision("go/txn"), "=", 0)
	for _, first := range []bool{true, false} {
		r, err := c.Txn(ctx).If(missing).Then(clientv3.OpPut("go/txn", "1"), clientv3.OpTxn(nil,
			[]clientv3.Op{clientv3.OpPut("go/txn2", "2")}, nil)).Else(clientv3.OpGet("go/txn")).Commit()
		must(err)
		want(r.Succeeded, first)
		if !first {
			want(string(r.Responses[0].GetResponseRange().Kvs[0].Value), "1")
		}
	}
	_, err := c.Txn(ctx).Then(clientv3.OpPut("go/a", ""), clientv3.OpPut("go/a", "")).Commit()
	want(errors.Is(err, rpctypes.ErrDuplicateKey), true)
}

// An answer over many windows, during which this client sends pings to learn its bandwidth.
func large(ctx context.Context, c *clientv3.Client) {
	value := strings.Repeat("x", 1<<20)
	for i := 0; i < 12; i++ {
		_, err := c.Put(ctx, fmt.Sprint("go/large/", i), value)
		must(err)
	}
	for i := 0; i < 3; i++ {
		r, err := c.Get(ctx, "go/large/", clientv3.WithPrefix())
		must(err)
		want(len(r.Kvs), 12)
	}
}

func watch(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first, err := c.Put(ctx, "go/watch/0", "0")
	must(err)
	events := c.Watch(ctx, "go/watch/", clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision), clientv3.WithPrevKV())
	for i := 1; i < 10; i++ {
		_, err := c.Put(ctx, "go/watch/0", fmt.Sprint(i))
		must(err)
	}
	_, err = c.Delete(ctx, "go/watch/0")
	must(err)
	seen := 0
	for r := range events {
		must(r.Err())
		for _, e := range r.Events {
			if seen == 10 {
				want(e.Type, clientv3.EventTypeDelete)
			} else {
				want(string(e.Kv.Value), fmt.Sprint(seen))
			}
			if seen > 0 {
				want(string(e.PrevKv.Value), fmt.Sprint(seen-1))
			}
			seen++
		}
		if seen == 11 {
			break
		}
	}
	must(c.RequestProgress(ctx))
	progress := <-events
	want(progress.IsProgressNotify(), true)
}

func compacted(ctx context.Context, c *clientv3.Client) {
	r, err := c.Put(ctx, "go/compact", "1")
	must(err)
	_, err = c.Put(ctx, "go/compact", "2")
	must(err)
	_, err = c.Compact(ctx, r.Header.Revision+1, clientv3.WithCompactPhysical())
	must(err)
	answer := <-c.Watch(ctx, "go/compact", clientv3.WithRev(r.Header.Revision))
	want(answer.CompactRevision, r.Header.Revision+1)
	want(errors.Is(answer.Err(), rpctypes.ErrCompacted), true)
	_, err = c.Get(ctx, "go/compact", clientv3.WithRev(r.Header.Revision))
	want(errors.Is(err, rpctypes.ErrCompacted), true)
}

func lease(ctx context.Context, c *clientv3.Client) {
	l, err := c.Grant(ctx, 60)
	must(err)
	_, err = c.Put(ctx, "go/lease", "x", clientv3.WithLease(l.ID))
	must(err)
	alive, err := c.KeepAlive(ctx, l.ID)
	must(err)
	want((<-alive).TTL, 60)
	ttl, err := c.TimeToLive(ctx, l.ID, clientv3.WithAttachedKeys())
	must(err)
	want(ttl.GrantedTTL, 60)
	want(string(ttl.Keys[0]), "go/lease")
	_, err = c.Revoke(ctx, l.ID)
	must(err)
	gone, err := c.Get(ctx, "go/lease")
	must(err)
	want(gone.Count, 0)
	_, err = c.KeepAliveOnce(ctx, l.ID)
	want(errors.Is(err, rpctypes.ErrLeaseNotFound), true)
	for range alive {
	}
}

func session(c *clientv3.Client) *concurrency.Session {
	s, err := concurrency.NewSession(c, concurrency.WithTTL(20))
	must(err)
	return s
}

func mutex(ctx context.Context, c *clientv3.Client) {
	inside, count := 0, 0
	var wg sync.WaitGroup
	for i := 0; i < 4; i++ {
		wg.Add(1)
		s := session(c)
		go func() {
			defer wg.Done()
			defer s.Close()
			m := concurrency.NewMutex(s, "go/mutex")
			for n := 0; n < 5; n++ {
				must(m.Lock(ctx))
				inside++
				if inside != 1 {
					panic("two hold the mutex")
				}
				count++
				inside--
				must(m.Unlock(ctx))
			}
		}()
	}
	wg.Wait()
	want(count, 20)
	a, b := session(c), session(c)
	defer b.Close()
	must(concurrency.NewMutex(a, "go/try").Lock(ctx))
	want(concurrency.NewMutex(b, "go/try").TryLock(ctx), concurrency.ErrLocked)
	must(a.Close())
	must(concurrency.NewMutex(b, "go/try").TryLock(ctx))
}

func election(ctx context.Context, c *clientv3.Client) {
	a, b := session(c), session(c)
	defer b.Close()
	first, second := concurrency.NewElection(a, "go/election"), concurrency.NewElection(b, "go/election")
	must(first.Campaign(ctx, "a"))
	seen := second.Observe(ctx)
	want(string((<-seen).Kvs[0].Value), "a")
	won := make(chan error, 1)
	go func() { won <- second.Campaign(ctx, "b") }()
	must(first.Proclaim(ctx, "a2"))
	want(string((<-seen).Kvs[0].Value), "a2")
	must(a.Close())
	must(<-won)
	leader, err := second.Leader(ctx)
	must(err)
	want(string(leader.Kvs[0].Value), "b")
	must(second.Resign(ctx))
	_, err = second.Leader(ctx)
	want(err, concurrency.ErrElectionNoLeader)
}

func stm(ctx context.Context, c *clientv3.Client) {
	_, err := c.Put(ctx, "go/stm", "0")
	must(err)
	var wg sync.WaitGroup
	for i := 0; i < 4; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; n < 5; n++ {
				_, err := concurrency.NewSTM(c, func(s concurrency.STM) error {
					var value int
					fmt.Sscan(s.Get("go/stm"), &value)
					s.Put("go/stm", fmt.Sprint(value+1))
					return nil
				}, concurrency.WithAbortContext(ctx))
				must(err)
			}
		}()
	}
	wg.Wait()
	r, err := c.Get(ctx, "go/stm")
	must(err)
	want(string(r.Kvs[0].Value), "20")
}

func naming(ctx context.Context, c *clientv3.Client) {
	m, err := endpoints.NewManager(c, "go/service")
	must(err)
	must(m.AddEndpoint(ctx, "go/service/a", endpoints.Endpoint{Addr: "1.2.3.4:5"}))
	// It reads serializably, so it may be behind for a moment.
	for {
		all, err := m.List(ctx)
		must(err)
		if len(all) == 1 {
			want(all["go/service/a"].Addr, "1.2.3.4:5")
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func autoSync(ctx context.Context, c *clientv3.Client) {
	one, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints()[:1], DialTimeout: 5 * time.Second, AutoSyncInterval: 50 * time.Millisecond, Logger: zap.NewNop(),
	})
	must(err)
	defer one.Close()
	for len(one.Endpoints()) < len(c.Endpoints()) {
		must(ctx.Err())
		time.Sleep(20 * time.Millisecond)
	}
	_, err = one.Put(ctx, "go/sync", "x")
	must(err)
}

func cluster(ctx context.Context, c *clientv3.Client) {
	members, err := c.MemberList(ctx)
	must(err)
	want(len(members.Members), 3)
	s, err := c.Status(ctx, c.Endpoints()[0])
	must(err)
	want(s.Leader != 0, true)
	h, err := c.HashKV(ctx, c.Endpoints()[0], 0)
	must(err)
	want(h.Hash != 0, true)
	alarms, err := c.AlarmList(ctx)
	must(err)
	want(len(alarms.Alarms), 0)
	stream, err := c.Snapshot(ctx)
	must(err)
	head := make([]byte, 512)
	_, err = stream.Read(head)
	must(err)
	must(stream.Close())
}

// Last: it turns authentication on and off again.
func auth(ctx context.Context, c *clientv3.Client) {
	_, err := c.UserAdd(ctx, "root", "secret")
	must(err)
	_, err = c.UserGrantRole(ctx, "root", "root")
	must(err)
	_, err = c.RoleAdd(ctx, "go")
	must(err)
	_, err = c.RoleGrantPermission(ctx, "go", "go/", clientv3.GetPrefixRangeEnd("go/"), clientv3.PermissionType(clientv3.PermReadWrite))
	must(err)
	_, err = c.UserAdd(ctx, "gopher", "burrow")
	must(err)
	_, err = c.UserGrantRole(ctx, "gopher", "go")
	must(err)
	_, err = c.AuthEnable(ctx)
	must(err)
	as := func(name, password string) (*clientv3.Client, error) {
		return clientv3.New(clientv3.Config{
			Endpoints: c.Endpoints(), DialTimeout: 5 * time.Second, Username: name, Password: password, Logger: zap.NewNop(),
		})
	}
	root, err := as("root", "secret")
	must(err)
	defer root.Close()
	defer func() {
		_, err := root.AuthDisable(ctx)
		must(err)
	}()
	_, err = c.Get(ctx, "go/auth")
	want(errors.Is(err, rpctypes.ErrUserEmpty), true)
	_, err = as("gopher", "wrong")
	want(errors.Is(err, rpctypes.ErrAuthFailed), true)
	gopher, err := as("gopher", "burrow")
	must(err)
	defer gopher.Close()
	for i := 0; i < 10; i++ {
		_, err = gopher.Put(ctx, "go/auth", "x")
		must(err)
	}
	_, err = gopher.Put(ctx, "other", "x")
	want(errors.Is(err, rpctypes.ErrPermissionDenied), true)
}
