package shard

import (
	"sync"
)

// Task is work too long for an event loop (over about 20 µs).
type Task interface {
	// Work runs on a worker's goroutine. It must not touch what a shard owns
	// except the task's own input and result.
	Work()
}

// Job is a Task and where its completion is mailed. It is part of what it works
// for; it must not be submitted again before its mail was received.
type Job struct {
	Task  Task
	Done  Mail
	Shard *Shard
	Panic any // what Work panicked with, nil otherwise; read it when Done arrives
}

// Workers is a bounded pool of goroutines.
type Workers struct {
	jobs chan *Job
	wg   sync.WaitGroup
}

// NewWorkers starts n workers with room for queue waiting jobs.
func NewWorkers(n, queue int) *Workers {
	w := &Workers{jobs: make(chan *Job, queue)}
	for range n {
		w.wg.Go(func() {
			for j := range w.jobs {
				j.run()
				j.Shard.Post(&j.Done)
			}
		})
	}
	return w
}

func (j *Job) run() {
	defer func() { j.Panic = recover() }()
	j.Task.Work()
}

// Submit queues j and reports false, with nothing queued, when the queue is full.
func (w *Workers) Submit(j *Job) bool {
	select {
	case w.jobs <- j:
		return true
	default:
		return false
	}
}

// Close waits for the queued jobs and ends the workers. No Submit may follow.
func (w *Workers) Close() {
	close(w.jobs)
	w.wg.Wait()
}
