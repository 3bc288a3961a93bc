// Apache RocketMQ's own Go client against a cluster: `rocketmq-go HOST:PORT,...` (see ../README.md).
//
// What this client cannot do, and is not checked: it has no push consumer (no push-retry; `redelivery` takes its
// place, and fifo reads with a simple consumer), and it cannot recall (`delay` is delay-recall without that).
// It always encrypts, there is no option against it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

const (
	queues    = 3 // of each topic
	await     = time.Second
	invisible = 15 * time.Second
)

var (
	name       = "rocketmq-go"
	endpoints  string
	mixed, one string // the topics: of every type of message, and of ordered ones alone
)

func config(group string) *rocketmq.Config {
	return &rocketmq.Config{Endpoint: endpoints, ConsumerGroup: group, Credentials: &credentials.SessionCredentials{}}
}

func producer(topic string, options ...rocketmq.ProducerOption) (rocketmq.Producer, error) {
	made, err := rocketmq.NewProducer(config(""), append(options, rocketmq.WithTopics(topic))...)
	if err != nil {
		return nil, err
	}
	return made, made.Start()
}

func simple(group, topic, expression string) (rocketmq.SimpleConsumer, error) {
	made, err := rocketmq.NewSimpleConsumer(config(group), rocketmq.WithAwaitDuration(await),
		rocketmq.WithSubscriptionExpressions(map[string]*rocketmq.FilterExpression{topic: rocketmq.NewFilterExpression(expression)}))
	if err != nil {
		return nil, err
	}
	if err := made.Start(); err != nil {
		return nil, err
	}
	// Start does not wait until the group is there, and a new group misses what was sent before; a receive makes it.
	return made, nothing(context.Background(), made, "a new group found messages")
}

// pair is what most checks need: a consumer and a producer of one topic, and how to stop both.
func pair(group, topic, expression string) (rocketmq.SimpleConsumer, rocketmq.Producer, func(), error) {
	consumer, err := simple(group, topic, expression)
	if err != nil {
		return nil, nil, nil, err
	}
	sender, err := producer(topic)
	if err != nil {
		return nil, nil, nil, errors.Join(err, consumer.GracefulStop())
	}
	return consumer, sender, func() { _, _ = sender.GracefulStop(), consumer.GracefulStop() }, nil
}

func message(topic, body, tag string) *rocketmq.Message {
	made := &rocketmq.Message{Topic: topic, Body: []byte(body)}
	if tag != "" {
		made.SetTag(tag)
	}
	return made
}

func send(ctx context.Context, sender rocketmq.Producer, made *rocketmq.Message) (string, error) {
	receipts, err := sender.Send(ctx, made)
	if err != nil {
		return "", err
	}
	return receipts[0].MessageID, nil
}

// poll is one receive; that there was nothing, which this client calls an error, is an empty result.
func poll(ctx context.Context, consumer rocketmq.SimpleConsumer) ([]*rocketmq.MessageView, error) {
	got, err := consumer.Receive(ctx, 32, invisible)
	var status *rocketmq.ErrRpcStatus
	if errors.As(err, &status) && status.GetCode() == int32(v2.Code_MESSAGE_NOT_FOUND) {
		return nil, nil
	}
	return got, err
}

// receive takes `count` messages and settles each; fewer or more are an error.
func receive(ctx context.Context, consumer rocketmq.SimpleConsumer, count int, limit time.Duration) ([]*rocketmq.MessageView, error) {
	var got []*rocketmq.MessageView
	for deadline := time.Now().Add(limit); len(got) < count && time.Now().Before(deadline); {
		views, err := poll(ctx, consumer)
		if err != nil {
			return nil, err
		}
		for _, view := range views {
			if err := consumer.Ack(ctx, view); err != nil {
				return nil, err
			}
			got = append(got, view)
		}
	}
	if len(got) != count {
		return nil, fmt.Errorf("%d of %d messages", len(got), count)
	}
	return got, nil
}

// nothing polls all queues of the consumer's topic at once, and fails if there is a message.
func nothing(ctx context.Context, consumer rocketmq.SimpleConsumer, what string) error {
	// The client takes the queues in turn, but the first receive of all decides where the turn begins, and must be
	// alone. It is cancelled before it asks anything.
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, _ = consumer.Receive(cancelled, 1, invisible)
	failures := make([]error, queues)
	var polls sync.WaitGroup
	for n := range queues {
		polls.Go(func() {
			got, err := poll(ctx, consumer)
			if len(got) > 0 {
				err = errors.Join(err, fmt.Errorf("%s: %d", what, len(got)))
			}
			failures[n] = err
		})
	}
	polls.Wait()
	return errors.Join(failures...)
}

func main() {
	if given := os.Getenv("CLIENT"); given != "" {
		name = given
	}
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: rocketmq-go [prepare] HOST:PORT,...")
		os.Exit(2)
	}
	mixed, one = name+"-mixed", name+"-fifo"
	endpoints = strings.ReplaceAll(os.Args[len(os.Args)-1], ",", ";")
	// The client logs to a file under the root directory unless told otherwise, or to stdout, where results go.
	for key, value := range map[string]string{rocketmq.CLIENT_LOG_ROOT: "/dev", rocketmq.CLIENT_LOG_FILENAME: "stderr", rocketmq.CLIENT_LOG_LEVEL: "error"} {
		os.Setenv(key, value)
	}
	rocketmq.ResetLogger()
	if os.Args[1] == "prepare" {
		fmt.Fprintln(os.Stderr, prepareAndHang())
		os.Exit(1)
	}
	code := 0
	check := func(what string, action func(context.Context) (string, error)) {
		ctx, cancel := context.WithTimeout(context.Background(), 150*time.Second)
		defer cancel()
		if only := os.Getenv("CHECKS"); only != "" && !slices.Contains(strings.Fields(only), what) {
			return
		}
		detail, err := action(ctx)
		result := "PASS"
		if errors.Is(err, errSkip) {
			result, detail = "SKIP", err.Error()
		} else if err != nil {
			result, detail, code = "FAIL", strings.ReplaceAll(err.Error(), "\n", " "), 1
		}
		fmt.Println(name, what, result, detail)
	}
	check("send-receive", sendAndReceive)
	check("tag-filter", tagFilter)
	check("redelivery", redelivery)
	check("fifo", fifo)
	check("delay", delay)
	check("transaction", transaction)
	check("producer-kill", producerKill)
	check("leader-kill", leaderKill)
	os.Exit(code)
}
