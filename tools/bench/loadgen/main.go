// Loadgen drives an etcd API with the official Go client and prints two JSON lines: one when the clock starts, one
// with what it saw until the clock stopped. The same binary, with the same arguments, loads etcd and Quoin in turns:
// see ../main.ts.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

var (
	endpoints = flag.String("endpoints", "127.0.0.1:2379", "comma-separated client addresses")
	workload  = flag.String("workload", "put", "put, get (linearizable), get-serializable, range (1,000 keys), range-all, "+
		"txn (compare and put), mixed (1 put : 9 gets), keepalive, watch-one, watch-rate")
	conns     = flag.Int("conns", 1, "connections")
	clients   = flag.Int("clients", 1, "concurrent clients, streams or watchers, spread over the connections")
	warmup    = flag.Float64("warmup", 0, "seconds of load before the clock starts")
	seconds   = flag.Float64("seconds", 5, "how long to measure")
	fill      = flag.Bool("fill", false, "put every key once before")
	keySpace  = flag.Int("keys", 10000, "distinct keys")
	keySize   = flag.Int("key-size", 8, "bytes, at least 8")
	valueSize = flag.Int("value-size", 256, "bytes, at least 8")
	cacert    = flag.String("cacert", "", "CA of the servers, PEM; given, connections use TLS")
	cert      = flag.String("cert", "", "certificate of this client, PEM")
	certKey   = flag.String("key", "", "its key, PEM")
	timeout   = flag.Duration("timeout", 10*time.Second, "for one request")
)

func main() {
	flag.Parse()
	if *keySize < 8 || *valueSize < 8 || *conns < 1 || *clients < 1 {
		fmt.Fprintln(os.Stderr, "loadgen: --key-size and --value-size are at least 8, --conns and --clients at least 1")
		os.Exit(2)
	}
	if err := drive(); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

func drive() error {
	pool, err := dial(*conns)
	if err != nil {
		return err
	}
	value := make([]byte, *valueSize)
	rand.Read(value)
	if *fill {
		if err := fillKeys(pool, string(value)); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	load, err := workloadByName(*workload, pool, value)
	if err != nil {
		return err
	}
	t := newTally()
	load(t)
	time.Sleep(time.Duration(*warmup * float64(time.Second)))
	t.start()
	fmt.Println(`{"started":true}`)
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	// What still runs is not counted and ends with the process.
	return json.NewEncoder(os.Stdout).Encode(t.stop())
}

// One endpoint for each connection in turn, as the official benchmark tool does it.
func dial(n int) ([]*clientv3.Client, error) {
	eps := strings.Split(*endpoints, ",")
	secure, err := tlsConfig()
	if err != nil {
		return nil, err
	}
	pool := make([]*clientv3.Client, n)
	for i := range pool {
		c, err := clientv3.New(clientv3.Config{
			Endpoints:   []string{eps[i%len(eps)]},
			DialTimeout: 10 * time.Second,
			TLS:         secure,
			Logger:      zap.NewNop(),
		})
		if err != nil {
			return nil, err
		}
		pool[i] = c
	}
	return pool, nil
}

// Nil without a CA: plain text.
func tlsConfig() (*tls.Config, error) {
	if *cacert == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(*cacert)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", *cacert)
	}
	config := &tls.Config{RootCAs: roots}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *certKey)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func key(n int) string {
	b := make([]byte, *keySize)
	binary.BigEndian.PutUint64(b, uint64(n))
	return string(b)
}

// rangeEnd is above every key.
const rangeEnd = "\x00\xff"

func fillKeys(pool []*clientv3.Client, value string) error {
	const writers = 64
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Value
	for w := 0; w < writers; w++ {
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
