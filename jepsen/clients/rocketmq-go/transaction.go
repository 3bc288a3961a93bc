package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-clients/golang/v5"
)

// asked is a transaction checker that remembers what it was asked about and always answers the same.
type asked struct {
	lock   sync.Mutex
	bodies []string
	answer rocketmq.TransactionResolution
}

// asked of any of this process's producers, those that were stopped included: whether one that
// was is still asked is the client's affair.
var askedHere asked

func (a *asked) remember(body string) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.bodies = append(a.bodies, body)
}

func (a *asked) option() rocketmq.ProducerOption {
	return rocketmq.WithTransactionChecker(&rocketmq.TransactionChecker{Check: func(view *rocketmq.MessageView) rocketmq.TransactionResolution {
		a.remember(string(view.GetBody()))
		askedHere.remember(string(view.GetBody()))
		return a.answer
	}})
}

// halves sends three half messages by a producer of its own, which ends all but the last and is then gone.
func halves(ctx context.Context) error {
	first, err := producer(mixed, (&asked{answer: rocketmq.UNKNOWN}).option())
	if err != nil {
		return err
	}
	ends := map[string]func(rocketmq.Transaction) error{
		"committed":   rocketmq.Transaction.Commit,
		"rolled back": rocketmq.Transaction.RollBack,
		"forgotten":   func(rocketmq.Transaction) error { return nil },
	}
	for _, body := range []string{"committed", "rolled back", "forgotten"} {
		open := first.BeginTransaction()
		_, err := first.SendWithTransaction(ctx, message(mixed, body, "half"), open)
		if err := errors.Join(err, ends[body](open)); err != nil {
			return errors.Join(err, first.GracefulStop())
		}
	}
	return first.GracefulStop()
}

func transaction(ctx context.Context) (string, error) {
	consumer, err := simple("go-half", mixed, "half")
	if err != nil {
		return "", err
	}
	defer consumer.GracefulStop()
	if err := halves(ctx); err != nil {
		return "", err
	}
	answers := asked{answer: rocketmq.COMMIT}
	second, err := producer(mixed, answers.option())
	if err != nil {
		return "", err
	}
	defer second.GracefulStop()
	got, err := receive(ctx, consumer, 2, 45*time.Second)
	if err != nil {
		return "", err
	}
	bodies := []string{string(got[0].GetBody()), string(got[1].GetBody())}
	slices.Sort(bodies)
	answers.lock.Lock()
	defer answers.lock.Unlock()
	if !slices.Equal(bodies, []string{"committed", "forgotten"}) || !slices.Equal(answers.bodies, []string{"forgotten"}) {
		return "", fmt.Errorf("came: %v, asked about: %v", bodies, answers.bodies)
	}
	return "commit, rollback, and a check-back answered by another producer", nil
}
