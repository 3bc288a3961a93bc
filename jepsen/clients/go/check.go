package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const partitions = 3

var codecs = []struct {
	name  string
	codec kgo.CompressionCodec
}{{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()}, {"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()}}

// check runs every check; its result is the exit code.
func check() int {
	name, code := os.Getenv("CLIENT"), 0
	if name == "" {
		name = "franz-go"
	}
	topic := fmt.Sprintf("franz-go-%x", rand.Uint32())
	run := func(what string, action func(context.Context) (string, error)) {
		ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
		defer cancel()
		detail, err := action(ctx)
		result := "PASS"
		if err != nil {
			result, detail, code = "FAIL", strings.ReplaceAll(err.Error(), "\n", " "), 1
		}
		fmt.Println(name, what, result, detail)
	}
	run("create-topic", func(ctx context.Context) (string, error) { return createTopic(ctx, topic) })
	for i, c := range codecs {
		run("codec-"+c.name, func(ctx context.Context) (string, error) { return checkCodec(ctx, topic, i) })
	}
	run("group-rebalance", func(ctx context.Context) (string, error) { return checkGroup(ctx, topic) })
	if delayed := os.Getenv("DELAYED"); delayed == "" {
		fmt.Println(name, "delayed SKIP needs a cluster that `run` starts")
	} else {
		run("delayed", func(ctx context.Context) (string, error) { return checkDelayed(ctx, delayed) })
	}
	if os.Getenv("KILL") == "" {
		for what := range kills {
			fmt.Println(name, what, "SKIP no kill command")
		}
	} else {
		for what, victims := range kills {
			run(what, func(ctx context.Context) (string, error) { return checkKill(ctx, topic+"-"+what, victims) })
		}
	}
	return code
}

func createTopic(ctx context.Context, topic string) (string, error) {
	return fmt.Sprint(partitions, " partitions, 3 replicas"), newTopic(ctx, topic, partitions)
}

func leader(ctx context.Context, client *kgo.Client, topic string, partition int32) (int32, error) {
	metadata, err := kadm.NewClient(client).Metadata(ctx, topic)
	if err != nil {
		return 0, err
	}
	if p, ok := metadata.Topics[topic].Partitions[partition]; ok && p.Leader > 0 {
		return p.Leader, nil
	}
	return 0, fmt.Errorf("partition %d of %s has no leader", partition, topic)
}

// readRecords returns the first `count` records of a partition that `want` accepts.
func readRecords(ctx context.Context, topic string, partition int32, count int, want func(*kgo.Record) bool) ([]*kgo.Record, error) {
	client, err := connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var found []*kgo.Record
	for len(found) < count {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read %d of %d records: %w", len(found), count, ctx.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if want(r) {
				found = append(found, r)
			}
		})
	}
	return found, nil
}

// checkCodec also proves that the batch is stored as it was compressed: the consumer sees the codec.
func checkCodec(ctx context.Context, topic string, index int) (string, error) {
	codec := codecs[index]
	client, err := connect(kgo.ProducerBatchCompression(codec.codec))
	if err != nil {
		return "", err
	}
	defer client.Close()
	body := func(i int) string { return strings.Repeat(fmt.Sprint(codec.name, " value ", i, " "), 5) }
	var records []*kgo.Record
	for i := range 200 {
		records = append(records, &kgo.Record{Topic: topic, Key: fmt.Append(nil, "key-", i), Value: []byte(body(i)),
			Headers: []kgo.RecordHeader{{Key: "codec", Value: []byte(codec.name)}}})
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return "", err
	}
	found, err := readRecords(ctx, topic, 0, len(records), func(r *kgo.Record) bool { return len(r.Headers) == 1 && string(r.Headers[0].Value) == codec.name })
	if err != nil {
		return "", err
	}
	for i, r := range found {
		if string(r.Value) != body(i) || string(r.Key) != fmt.Sprint("key-", i) {
			return "", fmt.Errorf("record %d differs", i)
		}
		if r.Attrs.CompressionType() != uint8(index) {
			return "", fmt.Errorf("batch has codec %d, sent was %d", r.Attrs.CompressionType(), index)
		}
	}
	return "200 records with keys, headers and the codec kept", nil
}

// member is one consumer of a group; it tells what it owns now and collects what it reads.
type member struct {
	client *kgo.Client
	mutex  sync.Mutex
	owns   map[int32]bool
	seen   map[[2]int64]bool
}

func join(ctx context.Context, topic, group string) (*member, error) {
	m := &member{owns: map[int32]bool{}, seen: map[[2]int64]bool{}}
	change := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.mutex.Lock()
			defer m.mutex.Unlock()
			for _, p := range changed[topic] {
				if owned {
					m.owns[p] = true
				} else {
					delete(m.owns, p)
				}
			}
		}
	}
	var err error
	m.client, err = connect(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond), kgo.AutoCommitMarks(),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)))
	if err != nil {
		return nil, err
	}
	go func() {
		for ctx.Err() == nil {
			fetches := m.client.PollFetches(ctx)
			if fetches.IsClientClosed() {
				return
			}
			m.mutex.Lock()
			fetches.EachRecord(func(r *kgo.Record) { m.seen[[2]int64{int64(r.Partition), r.Offset}] = true })
			m.mutex.Unlock()
			m.client.MarkCommitRecords(fetches.Records()...)
		}
	}()
	return m, nil
}

func (m *member) counts() (owned, seen int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.owns), len(m.seen)
}

func until(ctx context.Context, what string, condition func() bool) error {
	for !condition() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func checkGroup(ctx context.Context, topic string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	group := topic + "-group"
	first, err := join(ctx, topic, group)
	if err != nil {
		return "", err
	}
	defer first.client.Close()
	owned := func(m *member) int { n, _ := m.counts(); return n }
	if err := until(ctx, "the first member owns everything", func() bool { return owned(first) == partitions }); err != nil {
		return "", err
	}
	second, err := join(ctx, topic, group)
	if err != nil {
		return "", err
	}
	err = until(ctx, "two members share", func() bool {
		a, b := owned(first), owned(second)
		return a > 0 && b > 0 && a+b == partitions
	})
	second.client.Close()
	if err != nil {
		return "", err
	}
	if err := until(ctx, "the first member takes over", func() bool { return owned(first) == partitions }); err != nil {
		return "", err
	}
	total := len(codecs) * 200
	if err := until(ctx, "all records", func() bool { _, n := first.counts(); return n == total }); err != nil {
		return "", err
	}
	if err := first.client.CommitMarkedOffsets(ctx); err != nil {
		return "", err
	}
	offsets, err := kadm.NewClient(first.client).FetchOffsets(ctx, group)
	if err != nil {
		return "", err
	}
	ends, err := kadm.NewClient(first.client).ListEndOffsets(ctx, topic)
	if err != nil {
		return "", err
	}
	last := map[int32]int64{} // offsets need not be dense: control records take some and are never shown
	for at := range first.seen {
		last[int32(at[0])] = max(last[int32(at[0])], at[1])
	}
	for partition, record := range last {
		committed, _ := offsets.Lookup(topic, partition)
		end, _ := ends.Lookup(topic, partition)
		if committed.At <= record || committed.At > end.Offset {
			return "", fmt.Errorf("partition %d: committed %d, last record %d, end %d", partition, committed.At, record, end.Offset)
		}
	}
	return fmt.Sprintf("joined, left, %d records read and committed", total), nil
}
