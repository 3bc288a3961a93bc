package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	rocketmq "github.com/apache/rocketmq-clients/golang/v5"
)

// prepareAndHang is what the killed producer does: one half message, and no word on it.
func prepareAndHang() error {
	first, err := producer(mixed, (&asked{answer: rocketmq.UNKNOWN}).option())
	if err != nil {
		return err
	}
	open := first.BeginTransaction()
	if _, err := first.SendWithTransaction(context.Background(), message(mixed, "orphaned", "orphan"), open); err != nil {
		return err
	}
	fmt.Println("prepared")
	select {}
}

// producerKill has the process of a transaction's producer killed, and another of the topic's producers asked.
func producerKill(ctx context.Context) (string, error) {
	consumer, err := simple("go-orphan", mixed, "orphan")
	if err != nil {
		return "", err
	}
	defer consumer.GracefulStop()
	first := exec.CommandContext(ctx, os.Args[0], "prepare", os.Args[len(os.Args)-1])
	out, err := first.StdoutPipe()
	if err = errors.Join(err, first.Start()); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	killed := first.Process.Kill()
	_ = first.Wait()
	if err = errors.Join(err, killed); err != nil || line != "prepared\n" {
		return "", errors.Join(err, fmt.Errorf("the first producer said %q", line))
	}
	second, err := producer(mixed, (&asked{answer: rocketmq.COMMIT}).option())
	if err != nil {
		return "", err
	}
	defer second.GracefulStop()
	if _, err := receive(ctx, consumer, 1, 45*time.Second); err != nil {
		return "", err
	}
	askedHere.lock.Lock()
	defer askedHere.lock.Unlock()
	if !slices.Contains(askedHere.bodies, "orphaned") {
		return "", fmt.Errorf("asked about %v", askedHere.bodies)
	}
	return "kill -9 of the producer, and the check-back answered by another", nil
}
