package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// Bytes of a record of `burst`.
	burstBytes = 100
	// Records by which the client meets all leaders before the first is timed.
	burstFirst = 300
)

// burst sends `count` records in one second, those of a millisecond at a time, over all partitions, and
// prints how long after it was due each was acknowledged.
func burst(topic string, count int) error {
	client, err := connect(kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.MaxBufferedRecords(count+burstFirst))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := context.Background()
	var (
		mutex  sync.Mutex
		failed error
		took   = make([]float64, 0, count)
	)
	value := make([]byte, burstBytes)
	send := func(due time.Time, counts bool) {
		client.Produce(ctx, &kgo.Record{Topic: topic, Value: value}, func(_ *kgo.Record, err error) {
			late := float64(time.Since(due)) / 1e6
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				failed = err
			} else if counts {
				took = append(took, late)
			}
		})
	}
	for range burstFirst {
		send(time.Now(), false)
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	began := time.Now()
	for sent := 0; sent < count; time.Sleep(time.Millisecond) {
		for sent < count && float64(sent) < time.Since(began).Seconds()*float64(count) {
			send(began.Add(time.Duration(sent)*time.Second/time.Duration(count)), true)
			sent++
		}
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	slices.Sort(took)
	rank := func(share float64) float64 { return took[min(int(float64(count)*share), count-1)] }
	fmt.Printf("burst of %d in one second, ms p50=%.2f p99=%.2f p99.9=%.2f max=%.2f\n", count, rank(.5), rank(.99), rank(.999), took[count-1])
	return nil
}
