package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-clients/golang/v5"
)

// errSkip says that a check needs what is not there.
var errSkip = errors.New("no way to kill a node was given")

func kill(node int) error {
	command := exec.Command("sh", "-c", os.Getenv("KILL"), "kill", strconv.Itoa(node))
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("node %d not killed: %w: %s", node, err, out)
	}
	return nil
}

// numbered is what one message group was sent and what came of it.
type numbered struct {
	lock    sync.Mutex
	sent    int            // acknowledged: 0 to sent-1
	came    int            // first deliveries: 0 to came-1
	settled map[int64]bool // offsets whose acknowledgement succeeded
}

// sendUntil sends 0, 1, 2 ... of a group, each again until it is stored, until `stop` is closed.
func (n *numbered) sendUntil(stop <-chan struct{}, sender rocketmq.Producer, group string) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		m := message(one, strconv.Itoa(n.sent), "kill")
		m.SetMessageGroup(group)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := send(ctx, sender, m)
		cancel()
		if err == nil {
			n.lock.Lock()
			n.sent++
			n.lock.Unlock()
		}
	}
}

// take settles a delivery, unless it should not have come now.
func (n *numbered) take(ctx context.Context, consumer rocketmq.SimpleConsumer, view *rocketmq.MessageView) error {
	number, err := strconv.Atoi(string(view.GetBody()))
	if err != nil {
		return err
	}
	n.lock.Lock()
	defer n.lock.Unlock()
	switch {
	case n.settled[view.GetOffset()]:
		return fmt.Errorf("number %d of group %s came again after it was settled", number, *view.GetMessageGroup())
	case number > n.came:
		return fmt.Errorf("number %d of group %s came before number %d", number, *view.GetMessageGroup(), n.came)
	case number == n.came:
		n.came++
	}
	if consumer.Ack(ctx, view) == nil {
		n.settled[view.GetOffset()] = true
	}
	return nil
}

// leaderKill has every node killed in turn while three message groups are produced and consumed.
func leaderKill(ctx context.Context) (string, error) {
	if os.Getenv("KILL") == "" {
		return "", errSkip
	}
	consumer, sender, stop, err := pair("go-kill", one, "kill")
	if err != nil {
		return "", err
	}
	defer stop()
	groups := map[string]*numbered{}
	ended, producers := make(chan struct{}), sync.WaitGroup{}
	for _, group := range []string{"r", "s", "t"} {
		groups[group] = &numbered{settled: map[int64]bool{}}
		producers.Go(func() { groups[group].sendUntil(ended, sender, group) })
	}
	killed := make(chan error, 1)
	go func() {
		var failed error
		for node := 1; node <= 3 && failed == nil; node++ {
			time.Sleep(6 * time.Second)
			failed = kill(node)
		}
		time.Sleep(3 * time.Second)
		close(ended)
		producers.Wait()
		killed <- failed
	}()
	complete := false
	for ctx.Err() == nil {
		select {
		case err := <-killed:
			if err != nil {
				return "", err
			}
			complete = true
		default:
		}
		// Errors are expected: a node is gone.
		views, _ := poll(ctx, consumer)
		for _, view := range views {
			group := groups[*view.GetMessageGroup()]
			if group == nil {
				return "", fmt.Errorf("message group %s", *view.GetMessageGroup())
			}
			if err := group.take(ctx, consumer, view); err != nil {
				return "", err
			}
		}
		var sent, came int
		for _, group := range groups {
			group.lock.Lock()
			sent, came = sent+group.sent, came+group.came
			group.lock.Unlock()
		}
		if complete && came >= sent {
			return fmt.Sprint(sent, " messages in order through three kills"), nil
		}
	}
	return "", errors.New("not everything came in time: " + state(groups))
}

func state(groups map[string]*numbered) string {
	var words []string
	for name, group := range groups {
		words = append(words, fmt.Sprintf("%s %d of %d", name, group.came, group.sent))
	}
	return strings.Join(words, ", ")
}

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
