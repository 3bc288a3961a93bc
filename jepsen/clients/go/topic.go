package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// newTopic creates a topic with 3 replicas and waits until every partition has a leader.
func newTopic(ctx context.Context, topic string, partitions int32) error {
	client, err := connect()
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 3, nil, topic); err != nil {
		return err
	}
	for partition := int32(0); partition < partitions; {
		if _, err := leader(ctx, client, topic, partition); err == nil {
			partition++
			continue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no leader of partition %d: %w", partition, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func create(topic string, partitions int32) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return newTopic(ctx, topic, partitions)
}

// whole waits until one more kill is survivable, and shows what it costs and not what the last one left behind.
// Every broker must say so: one that has just started may still tell what it knew before it was killed.
func whole(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := connect()
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		err := isWhole(ctx, client, topic)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not whole after a minute: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// isWhole asks every broker, each for itself, and says what is missing.
func isWhole(ctx context.Context, client *kgo.Client, topic string) error {
	brokers, err := kadm.NewClient(client).ListBrokers(ctx)
	if err != nil {
		return err
	}
	for _, broker := range brokers.NodeIDs() {
		request := kmsg.NewPtrMetadataRequest()
		asked := kmsg.NewMetadataRequestTopic()
		asked.Topic = kmsg.StringPtr(topic)
		request.Topics = append(request.Topics, asked)
		metadata, err := request.RequestWith(ctx, client.Broker(int(broker)))
		if err != nil {
			return fmt.Errorf("broker %d: %w", broker, err)
		}
		if len(metadata.Topics) != 1 || len(metadata.Topics[0].Partitions) == 0 {
			return fmt.Errorf("broker %d knows no partitions of %s", broker, topic)
		}
		missing := 0
		for _, p := range metadata.Topics[0].Partitions {
			if p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("broker %d: %d partitions are not whole", broker, missing)
		}
	}
	return nil
}

func printLeader(topic string, partition int32) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client, err := connect()
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		node, err := leader(ctx, client, topic, partition)
		if err == nil {
			fmt.Println(node)
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// printAll prints what lies before the partition's end as it is now.
func printAll(topic string, partition int32) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// A new leader begins with a control record, which may be the last of all.
	client, err := connect(kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	end, ok := ends.Lookup(topic, partition)
	if !ok || end.Err != nil {
		return fmt.Errorf("end offset: %v", end.Err)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("read up to %d of %d: %w", next, end.Offset, ctx.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				fmt.Fprintf(out, "%d %s\n", r.Offset, r.Value)
			}
			next = r.Offset + 1
		})
	}
	return nil
}
