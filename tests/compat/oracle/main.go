// The oracle of the comparison tests: etcd itself, of the version in go.mod, as one binary that takes etcd's flags.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
