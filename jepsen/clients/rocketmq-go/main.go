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
	"strconv"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

const (
	await     = 2 * time.Second
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
	return made, made.Start()
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

// nothing polls each of the topic's queues once more: the client takes them in turn.
func nothing(ctx context.Context, consumer rocketmq.SimpleConsumer, what string) error {
	for range 3 {
		if got, err := poll(ctx, consumer); err != nil || len(got) > 0 {
			return errors.Join(err, fmt.Errorf("%s: %d messages", what, len(got)))
		}
	}
	return nil
}

func sendAndReceive(ctx context.Context) (string, error) {
	consumer, sender, stop, err := pair("go-simple", mixed, "*")
	if err != nil {
		return "", err
	}
	defer stop()
	made := func(n int) *rocketmq.Message {
		m := message(mixed, fmt.Sprint("body-", n), "a")
		m.SetKeys(fmt.Sprint("key-", n), "all")
		m.AddProperty("number", strconv.Itoa(n))
		return m
	}
	ids, failures := map[string]bool{}, []error{}
	var lock sync.Mutex
	note := func(id string, err error) {
		lock.Lock()
		defer lock.Unlock()
		ids[id] = true
		failures = append(failures, err)
	}
	for n := range 20 {
		note(send(ctx, sender, made(n)))
	}
	var sent sync.WaitGroup
	for n := 20; n < 40; n++ {
		sent.Add(1)
		sender.SendAsync(ctx, made(n), func(_ context.Context, receipts []*rocketmq.SendReceipt, err error) {
			defer sent.Done()
			if err != nil {
				note("", err)
			} else {
				note(receipts[0].MessageID, nil)
			}
		})
	}
	sent.Wait()
	if err := errors.Join(failures...); err != nil || len(ids) != 40 {
		return "", errors.Join(err, fmt.Errorf("%d message ids", len(ids)))
	}
	got, err := receive(ctx, consumer, 40, 20*time.Second)
	if err != nil {
		return "", err
	}
	for _, view := range got {
		number, tag := strings.TrimPrefix(string(view.GetBody()), "body-"), view.GetTag()
		if !ids[view.GetMessageId()] || !slices.Equal(view.GetKeys(), []string{"key-" + number, "all"}) ||
			tag == nil || *tag != "a" || view.GetProperties()["number"] != number || view.GetDeliveryAttempt() != 1 {
			return "", fmt.Errorf("not as it was sent: %+v", view)
		}
		delete(ids, view.GetMessageId())
	}
	return "40 messages sent, received and settled", nothing(ctx, consumer, "settled messages came again")
}

func tagFilter(ctx context.Context) (string, error) {
	consumer, sender, stop, err := pair("go-filter", mixed, "red || blue")
	if err != nil {
		return "", err
	}
	defer stop()
	for _, tag := range []string{"red", "green", "blue", "green", "red"} {
		if _, err := send(ctx, sender, message(mixed, tag, tag)); err != nil {
			return "", err
		}
	}
	got, err := receive(ctx, consumer, 3, 20*time.Second)
	for _, view := range got {
		if string(view.GetBody()) == "green" {
			return "", errors.New("a message with a tag that was not subscribed to")
		}
	}
	return "", err
}

func redelivery(ctx context.Context) (string, error) {
	consumer, sender, stop, err := pair("go-again", mixed, "again")
	if err != nil {
		return "", err
	}
	defer stop()
	id, err := send(ctx, sender, message(mixed, "not settled at first", "again"))
	if err != nil {
		return "", err
	}
	var first []*rocketmq.MessageView
	for deadline := time.Now().Add(20 * time.Second); len(first) == 0; {
		if first, err = poll(ctx, consumer); err != nil || time.Now().After(deadline) {
			return "", errors.Join(err, errors.New("the message did not come"))
		}
	}
	if err := consumer.ChangeInvisibleDuration(first[0], time.Second); err != nil {
		return "", err
	}
	again, err := receive(ctx, consumer, 1, 10*time.Second)
	if err != nil {
		return "", err
	}
	if again[0].GetMessageId() != id || first[0].GetDeliveryAttempt() != 1 || again[0].GetDeliveryAttempt() != 2 {
		return "", fmt.Errorf("attempt %d, then %d", first[0].GetDeliveryAttempt(), again[0].GetDeliveryAttempt())
	}
	return "as attempt 2", nothing(ctx, consumer, "settled, and came again")
}

func fifo(ctx context.Context) (string, error) {
	consumer, sender, stop, err := pair("go-fifo", one, "*")
	if err != nil {
		return "", err
	}
	defer stop()
	groups := []string{"x", "y", "z"}
	for n := range 10 {
		for _, group := range groups {
			m := message(one, strconv.Itoa(n), "")
			m.SetMessageGroup(group)
			if _, err := send(ctx, sender, m); err != nil {
				return "", err
			}
		}
	}
	got, err := receive(ctx, consumer, 30, 30*time.Second)
	if err != nil {
		return "", err
	}
	order := map[string]string{}
	for _, view := range got {
		order[*view.GetMessageGroup()] += string(view.GetBody())
	}
	for _, group := range groups {
		if order[group] != "0123456789" {
			return "", fmt.Errorf("group %s: %s", group, order[group])
		}
	}
	return "3 groups of 10 in order", nil
}

func delay(ctx context.Context) (string, error) {
	consumer, sender, stop, err := pair("go-delay", mixed, "later")
	if err != nil {
		return "", err
	}
	defer stop()
	due := time.Now().Add(3 * time.Second)
	m := message(mixed, "due", "later")
	m.SetDelayTimestamp(due)
	if _, err := send(ctx, sender, m); err != nil {
		return "", err
	}
	if _, err := receive(ctx, consumer, 1, 20*time.Second); err != nil {
		return "", err
	}
	// The client polls the topic's queues one after the other: it may look at the right one last.
	late := time.Since(due)
	if late < 0 || late > 3*await {
		return "", fmt.Errorf("%d ms after its time", late.Milliseconds())
	}
	return fmt.Sprintf("%d ms after its time, with this client's own polling", late.Milliseconds()), nil
}

func main() {
	if given := os.Getenv("CLIENT"); given != "" {
		name = given
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: rocketmq-go HOST:PORT,...")
		os.Exit(2)
	}
	mixed, one = name+"-mixed", name+"-fifo"
	endpoints = strings.ReplaceAll(os.Args[1], ",", ";")
	// The client logs to a file under the root directory unless told otherwise, or to stdout, where results go.
	for key, value := range map[string]string{rocketmq.CLIENT_LOG_ROOT: "/dev", rocketmq.CLIENT_LOG_FILENAME: "stderr", rocketmq.CLIENT_LOG_LEVEL: "error"} {
		os.Setenv(key, value)
	}
	rocketmq.ResetLogger()
	code := 0
	check := func(what string, action func(context.Context) (string, error)) {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		detail, err := action(ctx)
		result := "PASS"
		if err != nil {
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
	os.Exit(code)
}
