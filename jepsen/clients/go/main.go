// franz-go against any Kafka-protocol cluster.
//
//	franz-go check BOOTSTRAP                                   result lines as in ../README.md
//	franz-go create BOOTSTRAP TOPIC PARTITIONS                 3 replicas; returns when every partition has a leader
//	franz-go whole BOOTSTRAP TOPIC                             returns when every broker knows of a leader of every partition and all replicas in sync
//	franz-go leader BOOTSTRAP TOPIC PARTITION                  prints its node id
//	franz-go read BOOTSTRAP TOPIC PARTITION                    prints `offset value` of all there is
//	franz-go load BOOTSTRAP TOPIC SECONDS RATE PROCESS         the producer of `weir-soak failover`
//	franz-go burst BOOTSTRAP TOPIC COUNT                       as many in one second, and their latencies (`jepsen/bench/queues paced`)
//	franz-go soak BOOTSTRAP TOPIC PARTITIONS SECONDS           load and readers of `weir-soak soak`, history on stdout
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

var bootstrap []string

// now is CLOCK_MONOTONIC in nanoseconds: every process of one machine reads the same clock.
func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

// connect makes a client with short waits, so that a failover shows the broker's time and not a backoff.
func connect(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap...),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(60 * time.Second),
		kgo.RetryTimeout(30 * time.Second),
	}, options...)...)
}

func number(i int) float64 {
	n, err := strconv.ParseFloat(os.Args[i], 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return n
}

func main() {
	want := map[string]int{"check": 3, "create": 5, "whole": 4, "leader": 5, "read": 5, "load": 7, "burst": 5, "soak": 6}
	if len(os.Args) < 2 || want[os.Args[1]] != len(os.Args) {
		fmt.Fprintln(os.Stderr, "usage: see the top of main.go")
		os.Exit(2)
	}
	bootstrap = strings.Split(os.Args[2], ",")
	var err error
	switch os.Args[1] {
	case "check":
		os.Exit(check())
	case "create":
		err = create(os.Args[3], int32(number(4)))
	case "whole":
		err = whole(os.Args[3])
	case "leader":
		err = printLeader(os.Args[3], int32(number(4)))
	case "read":
		err = printAll(os.Args[3], int32(number(4)))
	case "load":
		err = load(os.Args[3], time.Duration(number(4)*float64(time.Second)), number(5), uint64(number(6)))
	case "burst":
		err = burst(os.Args[3], int(number(4)))
	case "soak":
		err = soak(os.Args[3], int(number(4)), time.Duration(number(5)*float64(time.Second)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
