package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const delayedRecords = 200

// sendDelayed sends numbers, every second of which asks to come a second or two later.
func sendDelayed(ctx context.Context, client *kgo.Client, topic string, from, to int) error {
	var records []*kgo.Record
	for i := from; i < to; i++ {
		record := &kgo.Record{Topic: topic, Value: strconv.AppendInt(nil, int64(i), 10)}
		if i%2 == 1 {
			record.Headers = []kgo.RecordHeader{{Key: "weir.deliver.after", Value: strconv.AppendInt(nil, int64(1000+5*i), 10)}}
		}
		records = append(records, record)
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}

// expectNumbers polls until the first `to - from` records came, which must be these numbers in order, and no more with them.
func expectNumbers(ctx context.Context, client *kgo.Client, from, to int) error {
	for next := from; next < to; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("read up to %d of %d: %w", next, to, ctx.Err())
		}
		if errors := fetches.Errors(); len(errors) > 0 {
			return errors[0].Err
		}
		for _, r := range fetches.Records() {
			if string(r.Value) != strconv.Itoa(next) || next == to {
				return fmt.Errorf("at offset %d: %s, expected %d of %d", r.Offset, r.Value, next, to)
			}
			next++
		}
	}
	return nil
}

// checkDelayed: copies of delayed records, which are control records for queues, are passed over at the end of the log.
func checkDelayed(ctx context.Context, topic string) (string, error) {
	plain, err := connect(kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return "", err
	}
	defer plain.Close()
	packed, err := connect(kgo.ProducerBatchCompression(kgo.GzipCompression()))
	if err != nil {
		return "", err
	}
	defer packed.Close()
	if err := sendDelayed(ctx, plain, topic, 0, delayedRecords/2); err != nil {
		return "", err
	}
	if err := sendDelayed(ctx, packed, topic, delayedRecords/2, delayedRecords); err != nil {
		return "", err
	}
	released := exec.CommandContext(ctx, "sh", "-c", os.Getenv("RELEASED"), "released", topic, strconv.Itoa(delayedRecords/2))
	released.Stderr = os.Stderr
	if err := released.Run(); err != nil {
		return "", err
	}
	ends, err := kadm.NewClient(plain).ListEndOffsets(ctx, topic)
	if err != nil {
		return "", err
	}
	end, _ := ends.Lookup(topic, 0)
	if end.Offset <= delayedRecords {
		return "", fmt.Errorf("the log ends at %d: no copy is in it", end.Offset)
	}
	start := kgo.NewOffset().AtStart()
	member := []kgo.Opt{kgo.ConsumerGroup(topic + "-group"), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(start), kgo.DisableAutoCommit()}
	direct := kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: start}})
	var readers []*kgo.Client
	for _, options := range [][]kgo.Opt{
		{direct, kgo.FetchIsolationLevel(kgo.ReadUncommitted())}, {direct, kgo.FetchIsolationLevel(kgo.ReadCommitted())}, member,
	} {
		reader, err := connect(options...)
		if err != nil {
			return "", err
		}
		defer reader.Close()
		if err := expectNumbers(ctx, reader, 0, delayedRecords); err != nil {
			return "", err
		}
		readers = append(readers, reader)
	}
	if err := readers[2].CommitUncommittedOffsets(ctx); err != nil {
		return "", err
	}
	readers[2].Close()
	// The next that any of them sees is what is sent now: they are past the copies.
	if err := sendDelayed(ctx, plain, topic, delayedRecords, delayedRecords+1); err != nil {
		return "", err
	}
	if readers[2], err = connect(member...); err != nil {
		return "", err
	}
	defer readers[2].Close()
	for _, reader := range readers {
		if err := expectNumbers(ctx, reader, delayedRecords, delayedRecords+1); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d records read of a log that ends at %d, uncommitted, committed and by a group, and one sent after", delayedRecords, end.Offset), nil
}
