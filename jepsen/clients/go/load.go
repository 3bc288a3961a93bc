package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// fate is one line of `load`: when a record was sent, when its fate was known, and where it lies.
type fate struct {
	Value  uint64 `json:"value"`
	Sent   int64  `json:"sent_ns"`
	Time   int64  `json:"t_ns"`
	Offset *int64 `json:"offset,omitempty"`
	Error  string `json:"error,omitempty"`
}

// load sends numbered values to partition 0 at `rate` per second, process << 32 | 1, 2, 3 ...
func load(topic string, length time.Duration, rate float64, process uint64) error {
	client, err := connect(kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer client.Close()
	out := json.NewEncoder(os.Stdout) // only promises write, and they run one at a time
	began := time.Now()
	for counter := uint64(0); time.Since(began) < length; time.Sleep(time.Millisecond) {
		for float64(counter) < time.Since(began).Seconds()*rate {
			counter++
			value, sent := process<<32|counter, now()
			client.Produce(context.Background(), &kgo.Record{Topic: topic, Value: strconv.AppendUint(nil, value, 10)}, func(r *kgo.Record, err error) {
				line := fate{Value: value, Sent: sent, Time: now()}
				if err != nil {
					line.Error = err.Error()
				} else {
					line.Offset = &r.Offset
				}
				_ = out.Encode(line) // a closed pipe means that the driver is gone, and so are we soon
			})
		}
	}
	return client.Flush(context.Background())
}

// history writes operations as weir-checkers reads them, one JSON object a line.
type history struct {
	mutex sync.Mutex
	out   *bufio.Writer
	index uint64
}

// A send is [key, value, offset or nil], a read [key, offset, value].
type (
	send [3]any
	read [3]any
)

func (h *history) write(process int, kind, f string, value any) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	line, err := json.Marshal(map[string]any{"index": h.index, "process": process, "type": kind, "f": f, "value": value, "t_ns": now()})
	if err != nil {
		panic(err)
	}
	h.index++
	h.out.Write(line)
	h.out.WriteByte('\n')
	h.out.Flush()
}

// soak writes to every partition until the time is up, then reads until it has seen all of it.
// One writer and one reader a partition; a writer's operation is a burst of numbered values.
func soak(topic string, partitions int, length time.Duration) error {
	h := &history{out: bufio.NewWriter(os.Stdout)}
	deadline := time.Now().Add(length)
	var writers, readers sync.WaitGroup
	failures := make(chan error, 2*partitions)
	highest := make([]int64, partitions) // last acknowledged offset, written by its writer, read when all are done
	stop := make(chan struct{})
	for p := range partitions {
		highest[p] = -1
		writers.Add(1)
		go func() {
			defer writers.Done()
			failures <- write(h, topic, int32(p), deadline, &highest[p])
		}()
		readers.Add(1)
		go func() {
			defer readers.Done()
			failures <- follow(h, topic, int32(p), partitions+p, stop, &highest[p])
		}()
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	for range 2 * partitions {
		if err := <-failures; err != nil {
			return err
		}
	}
	return nil
}

// write sends a burst of 5 each 20 ms until the deadline; the value is process << 32 | counter, unique for ever.
// An operation that failed may have happened: it is `info`, and the writer goes on as a new process.
func write(h *history, topic string, partition int32, deadline time.Time, highest *int64) error {
	client, err := connect()
	if err != nil {
		return err
	}
	defer func() { client.Close() }()
	process, counter := int(partition), uint64(0)
	for ; time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var sends []send
		var records []*kgo.Record
		for range 5 {
			value := uint64(process)<<32 | counter
			counter++
			sends = append(sends, send{partition, value, nil})
			records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: strconv.AppendUint(nil, value, 10)})
		}
		h.write(process, "invoke", "send", sends)
		results := client.ProduceSync(context.Background(), records...)
		for i, r := range records { // results come in the order of their ends, records stay as they were sent
			if failed(results, r) == nil {
				sends[i][2] = r.Offset
				*highest = max(*highest, r.Offset)
			}
		}
		if err := results.FirstErr(); err != nil {
			fmt.Fprintln(os.Stderr, "partition", partition, "send:", err)
			h.write(process, "info", "send", sends)
			process += 1000
			client.Close() // a new producer id: what was in flight can no longer arrive out of turn
			if client, err = connect(); err != nil {
				return err
			}
			continue
		}
		h.write(process, "ok", "send", sends)
	}
	return nil
}

func failed(results kgo.ProduceResults, record *kgo.Record) error {
	for _, result := range results {
		if result.Record == record {
			return result.Err
		}
	}
	return fmt.Errorf("no result")
}

// follow reads one partition from its start, all the time, and ends when `stop` is closed and it has
// read up to `highest` and found nothing more for a second; it gives up a minute after `stop`.
func follow(h *history, topic string, partition int32, process int, stop chan struct{}, highest *int64) error {
	client, err := connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return err
	}
	defer client.Close()
	h.write(process, "invoke", "assign", []int32{partition})
	h.write(process, "ok", "assign", []int32{partition})
	last, stopped := int64(-1), time.Time{}
	for {
		h.write(process, "invoke", "poll", []read{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		polled := []read{}
		var bad error
		fetches.EachRecord(func(r *kgo.Record) {
			value, err := strconv.ParseUint(string(r.Value), 10, 64)
			if err != nil {
				bad = err
			}
			polled = append(polled, read{partition, r.Offset, value})
			last = r.Offset
		})
		if bad != nil {
			return bad
		}
		h.write(process, "ok", "poll", polled)
		select {
		case <-stop:
			if stopped.IsZero() {
				stopped = time.Now()
			}
			// Reading `highest` is safe here: the writers were waited for before `stop` was closed.
			if len(polled) == 0 && last >= *highest || time.Since(stopped) > time.Minute {
				return nil
			}
		default:
		}
	}
}
