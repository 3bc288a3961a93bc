package main

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A kill is what a check is called, and which nodes it kills.
type victims func(ctx context.Context, client *kgo.Client, topic string) ([]int32, error)

// kills yields the checks in the order they run in.
var kills iter.Seq2[string, victims] = func(yield func(string, victims) bool) {
	_ = yield("leader-kill", func(ctx context.Context, client *kgo.Client, topic string) ([]int32, error) {
		node, err := leader(ctx, client, topic, 0)
		return []int32{node}, err
	}) && yield("controller-kill", func(ctx context.Context, client *kgo.Client, _ string) ([]int32, error) {
		// Weir names the leader of its metadata group; Apache Kafka any of its brokers.
		metadata, err := kadm.NewClient(client).BrokerMetadata(ctx)
		return []int32{metadata.Controller}, err
	}) && yield("all-kill", func(ctx context.Context, client *kgo.Client, _ string) ([]int32, error) {
		metadata, err := kadm.NewClient(client).BrokerMetadata(ctx)
		return metadata.Brokers.NodeIDs(), err
	})
}

// acks counts what has been acknowledged, and the longest time in which nothing of a partition was.
type acks struct {
	mutex    sync.Mutex
	count    int
	last     [partitions]time.Time
	gap      time.Duration
	failures []error
}

func (a *acks) add(record *kgo.Record, err error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if err != nil {
		a.failures = append(a.failures, err)
		return
	}
	last := &a.last[record.Partition]
	if !last.IsZero() {
		a.gap = max(a.gap, time.Since(*last))
	}
	a.count, *last = a.count+1, time.Now()
}

func (a *acks) soFar() int {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.count
}

// checkKill sends numbered records to every partition of a new topic in turn, idempotent as franz-go is by default,
// kills nodes amid them, and reads all back: each once, and those of a partition in order.
func checkKill(ctx context.Context, topic string, choose victims) (string, error) {
	const count = 3000
	if err := newTopic(ctx, topic, partitions); err != nil {
		return "", err
	}
	// What an earlier kill left behind is over, so that this one is survivable.
	if err := whole(topic); err != nil {
		return "", err
	}
	client, err := connect(kgo.ProducerLinger(5 * time.Millisecond))
	if err != nil {
		return "", err
	}
	defer client.Close()
	var (
		acked  acks
		killed []int32
	)
	for i := range count + partitions {
		if i == count {
			// The last records come alone, so that one which is there twice cannot hide behind the end.
			if err := client.Flush(ctx); err != nil {
				return "", err
			}
		}
		client.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: fmt.Append(nil, i)}, acked.add)
		time.Sleep(1500 * time.Microsecond)
		if i == count/3 {
			if err := until(ctx, "acks before the kill", func() bool { return acked.soFar() > 0 }); err != nil {
				return "", err
			}
			if killed, err = choose(ctx, client, topic); err != nil {
				return "", err
			}
			if err := kill(killed); err != nil {
				return "", err
			}
		}
	}
	if err := client.Flush(ctx); err != nil {
		return "", err
	}
	if len(acked.failures) > 0 {
		return "", fmt.Errorf("%d of %d records failed, the first: %w", len(acked.failures), count, acked.failures[0])
	}
	for partition := range partitions {
		if err := readSequence(ctx, topic, int32(partition), count+partitions); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("node %s killed, %d records once and in order, longest gap between a partition's acks %d ms", list(killed), acked.count, acked.gap.Milliseconds()), nil
}

func kill(nodes []int32) error {
	arguments := []string{"-c", os.Getenv("KILL"), "kill"}
	for _, node := range nodes {
		arguments = append(arguments, fmt.Sprint(node))
	}
	if out, err := exec.Command("sh", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("kill of node %s: %w %s", list(nodes), err, out)
	}
	return nil
}

func list(nodes []int32) string {
	text := ""
	for i, node := range nodes {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprint(node)
	}
	return text
}

// readSequence wants every number below count that belongs to the partition, once and in order.
func readSequence(ctx context.Context, topic string, partition int32, count int) error {
	want := count / partitions
	found, err := readRecords(ctx, topic, partition, want, func(*kgo.Record) bool { return true })
	if err != nil {
		return err
	}
	seen, twice, inversions, previous := map[int]bool{}, 0, 0, -1
	for _, r := range found {
		value, err := strconv.Atoi(string(r.Value))
		if err != nil || value%partitions != int(partition) || value >= count {
			return fmt.Errorf("partition %d holds %q", partition, r.Value)
		}
		if seen[value] {
			twice++
		} else if value < previous {
			inversions++
		}
		seen[value], previous = true, value
	}
	if len(seen) != want || twice > 0 || inversions > 0 {
		return fmt.Errorf("partition %d: %d lost, %d duplicates, %d inversions in %d records", partition, want-len(seen), twice, inversions, len(found))
	}
	return nil
}
