package shard

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// chore is a Job with what it does and whether it is done.
type chore struct {
	Job
	work func()
	done chan struct{}
}

func newChore(s *Shard, work func()) *chore {
	c := &chore{work: work, done: make(chan struct{})}
	c.Task, c.Shard, c.Done.To = c, s, c
	return c
}

func (c *chore) Work()         { c.work() }
func (c *chore) Receive(*Mail) { close(c.done) }

func TestWorkersAnswerOnTheShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		w := NewWorkers(2, 4)
		defer w.Close()
		answer := 0
		c := newChore(h.Shard, func() { answer = 42 })
		if !w.Submit(&c.Job) {
			t.Fatal("an empty queue refused a job")
		}
		<-c.done
		if answer != 42 || c.Panic != nil {
			t.Errorf("answer %d, panic %v", answer, c.Panic)
		}
	})
}

func TestWorkersOutliveAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		w := NewWorkers(1, 1)
		defer w.Close()
		boom := errors.New("boom")
		c := newChore(h.Shard, func() { panic(boom) })
		w.Submit(&c.Job)
		<-c.done
		if c.Panic != any(boom) {
			t.Fatalf("panic %v, want %v", c.Panic, boom)
		}
		// The same worker, and the same job used again, without the old panic.
		c.work, c.done = func() {}, make(chan struct{})
		if !w.Submit(&c.Job) {
			t.Fatal("refused")
		}
		<-c.done
		if c.Panic != nil {
			t.Errorf("panic %v of the job's last use", c.Panic)
		}
	})
}

func TestWorkersRefuseWhenTheQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		w := NewWorkers(1, 2)
		release := make(chan struct{})
		var jobs []*chore
		for i := range 3 { // one at work, two waiting
			c := newChore(h.Shard, func() { <-release })
			if !w.Submit(&c.Job) {
				t.Fatalf("job %d refused", i)
			}
			jobs = append(jobs, c)
			synctest.Wait()
		}
		late := newChore(h.Shard, func() { t.Error("a refused job ran") })
		if w.Submit(&late.Job) {
			t.Fatal("a full queue took a job")
		}
		close(release)
		w.Close() // waits for what was queued
		for _, c := range jobs {
			<-c.done
		}
		time.Sleep(time.Hour)
		select {
		case <-late.done:
			t.Error("a refused job was answered")
		default:
		}
	})
}
