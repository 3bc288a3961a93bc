package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-clients/golang/v5"
)

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
	began := time.Now()
	again, err := receive(ctx, consumer, 1, 30*time.Second)
	if err != nil {
		return "", err
	}
	if again[0].GetMessageId() != id || first[0].GetDeliveryAttempt() != 1 || again[0].GetDeliveryAttempt() != 2 {
		return "", fmt.Errorf("attempt %d, then %d", first[0].GetDeliveryAttempt(), again[0].GetDeliveryAttempt())
	}
	after := time.Since(began).Round(time.Second)
	return fmt.Sprint("as attempt 2, ", after, " after it was let go for 1s"), nothing(ctx, consumer, "settled, and came again")
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
	var got []*rocketmq.MessageView
	var asked time.Time
	for end := due.Add(40 * time.Second); len(got) == 0 && time.Now().Before(end); {
		asked = time.Now()
		if got, err = poll(ctx, consumer); err != nil {
			return "", err
		}
	}
	// What the broker answers for: the client polls the queues in turn, and may ask the right one last.
	early, late := time.Until(due), time.Since(due)
	if asked.After(due) {
		late = time.Since(asked)
	}
	if len(got) != 1 || early > 0 || late > time.Second {
		return "", fmt.Errorf("%d messages, %s early, %s late", len(got), early, late)
	}
	if err := consumer.Ack(ctx, got[0]); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d ms after it was due and its queue asked", late.Milliseconds()), nil
}
